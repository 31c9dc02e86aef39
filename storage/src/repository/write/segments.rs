//! One 16 MiB segment: read, cut, stored, named.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use backstay_core::{Context, DiskSource, Error, Extent, ExtentKind, Result};
use bytes::Bytes;

use super::{
    WriteSession,
    disk::DiskJob,
    store::{ChunkStore, NewChunk},
};
use crate::repository::{
    chunk::{BLOCK_BYTES, Entry, SEGMENT_BYTES, Splice, cut_segment, is_zero},
    ids::NodeId,
    map::{NodeSink, encode_leaf},
};

/// Bytes that are read at once where a segment has holes.
const STEP_BYTES: u64 = 2 << 20;

/// A segment's leaf as the parent has it: its id and its entries.
pub type OldLeaf = (Option<NodeId>, Vec<Entry>);

/// What is to be done with a segment.
pub struct SegmentJob {
    segment: u64,
    work: Work,
}

enum Work {
    /// The leaf is the parent's.
    Keep(Option<NodeId>),
    /// Read the data extents, cut everything.
    Whole { shared: Shared, data: Vec<Range<u64>>, old: Option<OldLeaf> },
    /// Read around the changes, keep the rest.
    Splice { shared: Shared, dirty: Vec<Range<u64>>, old: OldLeaf, old_bytes: u64 },
}

struct Shared {
    job: Arc<DiskJob>,
    store: Arc<ChunkStore>,
    ctx: Context,
}

/// What came of a segment.
pub struct SegmentResult {
    /// Which.
    pub segment: u64,
    /// Its leaf.
    pub leaf: Option<NodeId>,
    /// Bytes that count as done.
    pub progress: u64,
}

impl SegmentJob {
    /// Keeps the parent's leaf.
    pub const fn keep(segment: u64, leaf: Option<NodeId>) -> Self {
        Self { segment, work: Work::Keep(leaf) }
    }

    /// Reads the segment's data extents.
    pub fn whole(
        session: &WriteSession,
        job: &Arc<DiskJob>,
        segment: u64,
        data: Vec<Range<u64>>,
        old: Option<OldLeaf>,
    ) -> Self {
        Self { segment, work: Work::Whole { shared: Shared::new(session, job), data, old } }
    }

    /// Reads only around the dirty ranges (bytes of the disk). `old_bytes` is the segment's length in the parent.
    pub fn splice(
        session: &WriteSession,
        job: &Arc<DiskJob>,
        segment: u64,
        dirty: Vec<Range<u64>>,
        old: OldLeaf,
        old_bytes: u64,
    ) -> Self {
        Self { segment, work: Work::Splice { shared: Shared::new(session, job), dirty, old, old_bytes } }
    }

    /// Does it.
    pub async fn run(self) -> Result<SegmentResult> {
        match self.work {
            Work::Keep(leaf) => Ok(SegmentResult { segment: self.segment, leaf, progress: 0 }),
            Work::Whole { shared, data, old } => shared.whole(self.segment, data, old).await,
            Work::Splice { shared, dirty, old, old_bytes } => shared.splice(self.segment, dirty, old, old_bytes).await,
        }
    }
}

impl Shared {
    fn new(session: &WriteSession, job: &Arc<DiskJob>) -> Self {
        Self { job: Arc::clone(job), store: Arc::clone(&session.store), ctx: session.ctx.clone() }
    }

    fn bounds(&self, segment: u64) -> Range<u64> {
        segment * SEGMENT_BYTES..((segment + 1) * SEGMENT_BYTES).min(self.job.source.size())
    }

    async fn whole(self, segment: u64, data: Vec<Range<u64>>, old: Option<OldLeaf>) -> Result<SegmentResult> {
        let bounds = self.bounds(segment);
        let progress = bounds.end - bounds.start;
        if data.is_empty() {
            return Ok(SegmentResult { segment, leaf: None, progress });
        }
        let plain = self.read_extents(&bounds, &data).await?;
        // Zeroes are the same whether the source calls them a hole or data; the chunker knows no hole of less than 16 blocks.
        if is_zero(&plain) {
            return Ok(SegmentResult { segment, leaf: None, progress });
        }
        let (chunker, keys, cut) = (self.job.chunker, self.store.ids().clone(), plain.clone());
        let entries = self.ctx.cpu(move || Ok(cut_segment(chunker, &keys, &cut))).await?;
        if let Some((leaf, old)) = &old
            && *old == entries
        {
            return Ok(SegmentResult { segment, leaf: *leaf, progress });
        }
        let mut at = 0;
        let mut chunks = Vec::with_capacity(entries.len());
        for entry in &entries {
            let end = (at + entry.blocks() as usize * BLOCK_BYTES).min(plain.len());
            if let Some(id) = entry.id() {
                chunks.push((id, plain.slice(at..end)));
            }
            at = end;
        }
        drop(plain);
        let leaf = self.finish(&entries, chunks, old.as_ref()).await?;
        Ok(SegmentResult { segment, leaf, progress })
    }

    /// The segment's bytes, holes as zeroes that nobody had to read.
    async fn read_extents(&self, bounds: &Range<u64>, data: &[Range<u64>]) -> Result<Bytes> {
        let len = (bounds.end - bounds.start) as usize;
        let mut plain = self.ctx.buffers().take(len);
        if let [only] = data
            && only == bounds
        {
            let read = self.job.read(bounds.clone(), plain.take_out()).await?;
            plain.put_back(read);
            return Ok(plain.into_bytes());
        }
        plain.clear();
        plain.resize(len, 0);
        let mut scratch = self.ctx.buffers().take(STEP_BYTES as usize);
        for range in data {
            let mut from = range.start;
            while from < range.end {
                let to = range.end.min(from + STEP_BYTES);
                let read = self.job.read(from..to, scratch.take_out()).await?;
                let at = (from - bounds.start) as usize;
                plain[at..at + read.len()].copy_from_slice(&read);
                scratch.put_back(read);
                from = to;
            }
        }
        Ok(plain.into_bytes())
    }

    async fn splice(self, segment: u64, dirty: Vec<Range<u64>>, old: OldLeaf, old_bytes: u64) -> Result<SegmentResult> {
        let bounds = self.bounds(segment);
        let block = BLOCK_BYTES as u64;
        let blocks: Vec<Range<u32>> = dirty
            .iter()
            .map(|range| {
                ((range.start - bounds.start) / block) as u32..(range.end - bounds.start).div_ceil(block) as u32
            })
            .collect();
        let progress = dirty.iter().map(|range| range.end - range.start).sum();
        let plain_bytes = bounds.end - bounds.start;
        let mut splice = Splice::new(self.job.chunker, self.store.ids(), &old.1, old_bytes, plain_bytes, &blocks);
        loop {
            let (next, wanted) = self
                .ctx
                .cpu(move || {
                    let wanted = splice.next_read();
                    Ok((splice, wanted))
                })
                .await?;
            splice = next;
            let Some(wanted) = wanted else { break };
            let from = bounds.start + u64::from(wanted.start) * block;
            let to = (bounds.start + u64::from(wanted.end) * block).min(bounds.end);
            let mut buffer = self.ctx.buffers().take((to - from) as usize);
            let read = self.job.read(from..to, buffer.take_out()).await?;
            buffer.put_back(read);
            let read = buffer.into_bytes();
            splice = self
                .ctx
                .cpu(move || {
                    splice.supply(wanted, read);
                    Ok(splice)
                })
                .await?;
        }
        let spliced = self.ctx.cpu(move || Ok(splice.finish())).await?;
        let entries: Vec<_> = spliced.iter().map(|spliced| spliced.entry).collect();
        if entries == old.1 {
            return Ok(SegmentResult { segment, leaf: old.0, progress });
        }
        let mut chunks = Vec::new();
        for spliced in spliced {
            if let (false, Some(id)) = (spliced.kept, spliced.entry.id()) {
                let bytes = spliced.bytes.ok_or_else(|| Error::internal("A new chunk without its bytes"))?;
                chunks.push((id, bytes));
            }
        }
        let leaf = self.finish(&entries, chunks, Some(&old)).await?;
        Ok(SegmentResult { segment, leaf, progress })
    }

    /// Stores the chunks that the parent's leaf does not have, and the leaf.
    async fn finish(
        &self,
        entries: &[Entry],
        mut chunks: Vec<NewChunk>,
        old: Option<&OldLeaf>,
    ) -> Result<Option<NodeId>> {
        if let Some((_, old)) = old {
            let known: std::collections::HashSet<_> = old.iter().filter_map(Entry::id).collect();
            chunks.retain(|(id, _)| !known.contains(id));
        }
        if !chunks.is_empty() {
            self.store.store(chunks).await?;
        }
        if entries.iter().all(|entry| matches!(entry, Entry::Hole { .. })) {
            return Ok(None);
        }
        self.store.put_node(encode_leaf(entries)).await.map(Some)
    }
}

/// Finds the data extents of one segment after another, asking the source for many at a time.
pub struct ExtentWalk {
    source: Arc<dyn DiskSource>,
    /// Extents that were told and not used up, in order.
    ahead: VecDeque<Extent>,
    /// Where the told ones end.
    told: u64,
}

impl ExtentWalk {
    pub fn new(source: Arc<dyn DiskSource>) -> Self {
        Self { source, ahead: VecDeque::new(), told: 0 }
    }

    /// The data ranges of a segment. Segments must come in rising order.
    pub async fn segment(&mut self, segment: u64) -> Result<Vec<Range<u64>>> {
        let size = self.source.size();
        let bounds = segment * SEGMENT_BYTES..((segment + 1) * SEGMENT_BYTES).min(size);
        while self.ahead.front().is_some_and(|extent| extent.range.end <= bounds.start) {
            self.ahead.pop_front();
        }
        if self.told < bounds.start {
            self.ahead.clear();
            self.told = bounds.start;
        }
        while self.told < bounds.end {
            self.ask(size).await?;
        }
        let overlapping = self.ahead.iter().take_while(|extent| extent.range.start < bounds.end);
        let data = overlapping.filter(|extent| extent.kind == ExtentKind::Data && extent.range.end > bounds.start);
        Ok(data.map(|extent| extent.range.start.max(bounds.start)..extent.range.end.min(bounds.end)).collect())
    }

    /// Where the next data begins after what [`Self::segment`] was last asked for.
    pub async fn next_data(&mut self) -> Result<Option<u64>> {
        let size = self.source.size();
        loop {
            if let Some(extent) = self.ahead.iter().find(|extent| extent.kind == ExtentKind::Data) {
                return Ok(Some(extent.range.start));
            }
            if self.told >= size {
                return Ok(None);
            }
            // Only holes so far: they need not be kept.
            self.ahead.clear();
            self.ask(size).await?;
        }
    }

    async fn ask(&mut self, size: u64) -> Result<()> {
        let extents = self.source.extents(self.told..size).await?;
        for extent in extents {
            if extent.range.start != self.told || extent.range.end <= extent.range.start || extent.range.end > size {
                return Err(Error::internal("A disk source described extents that do not follow one another"));
            }
            self.told = extent.range.end;
            self.ahead.push_back(extent);
        }
        Ok(())
    }
}
