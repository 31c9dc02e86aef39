//! A disk of a restore point, read like any other disk.

use std::{
    collections::HashSet,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use backstay_core::{
    Context, DiskId, DiskSource, Error, Extent, RangeSet, Result,
    disk::{MAX_EXTENTS, check_range},
};
use bytes::Bytes;
use futures::TryStreamExt;

use super::{ChunkReader, Wanted};
use crate::repository::{
    Repository,
    cache::BoundedCache,
    chunk::{BLOCK_BYTES, Entry, SEGMENT_BYTES},
    format::{lost::LostPart, point::DiskEntry},
    ids::{ChunkId, NodeId},
    lost::{Finder, describe},
    map::MapCursor,
    nodes::StoredNodes,
    points::{PointSelector, StoredPoint},
    state::State,
    view::{Tries, View},
};

/// Unpacked chunks that are kept for reads of parts of them.
const KEPT_BYTES: usize = 16 << 20;
/// A read of no more than this goes through the cache.
const SMALL_READ_BYTES: u64 = 1 << 20;

/// A disk of a restore point. Random reads go through a small cache; large ones straight to the packs.
pub struct StoredDisk {
    entry: DiskEntry,
    pub(super) chunks: ChunkReader,
    pub(super) nodes: Arc<StoredNodes>,
    /// Cursors that nobody uses now. None is held by a reader that waits for the store: readers that one task drives in turn would wait
    /// for each other without an end.
    cursors: Mutex<Vec<MapCursor>>,
    kept: BoundedCache<ChunkId, Bytes>,
    /// What cannot be read any more, as far as a repair has found it and nothing has brought it back.
    lost: RangeSet,
    /// Map nodes of it.
    lost_nodes: Arc<HashSet<NodeId>>,
    /// Whether it is read as zeros.
    as_zeros: bool,
    pub(super) ctx: Context,
}

impl Repository {
    /// Opens a disk of a restore point.
    pub async fn disk(&self, point: &PointSelector, disk: &DiskId, ctx: &Context) -> Result<StoredDisk> {
        let mut tries = Tries::default();
        loop {
            let state = self.state().await?;
            match self.disk_in(&state, point, disk, ctx).await {
                Err(error) => tries.again(self, state.chain.head, error).await?,
                opened => return opened,
            }
        }
    }

    async fn disk_in(&self, state: &State, point: &PointSelector, disk: &DiskId, ctx: &Context) -> Result<StoredDisk> {
        let stored = self.select(state, point).await?;
        let entry = stored.record.disks.iter().find(|entry| entry.id == disk.as_str());
        let entry = entry.cloned().ok_or_else(|| {
            let there: Vec<_> = stored.record.disks.iter().map(|entry| entry.id.as_str()).collect();
            Error::not_found("The restore point has no such disk")
                .with_context("disk", disk)
                .with_context("disks", there.join(", "))
        })?;
        let view = View::of_point(self, state, stored.id()).await?;
        let chunks = ChunkReader::new(Arc::clone(&view))?;
        let lost = self.lost_of_disk(state, &stored, &entry, &view, ctx).await?;
        let nodes = Arc::new(StoredNodes::new(view));
        let mut disk = StoredDisk::new(entry, chunks, nodes, ctx);
        if let Some(lost) = lost {
            disk.lost = lost.set();
            disk.lost_nodes = Arc::new(lost.nodes.into_iter().collect());
        }
        Ok(disk)
    }

    /// What a record says is lost, without what has come back since.
    async fn lost_of_disk(
        &self,
        state: &State,
        point: &StoredPoint,
        entry: &DiskEntry,
        view: &View,
        ctx: &Context,
    ) -> Result<Option<LostPart>> {
        // A record that cannot be read says nothing: then what is lost shows when it is read.
        let record = self.lost_of(&state.chain, &point.id()).await?.and_then(|known| known.record.ok());
        let part = record.into_iter().flat_map(|record| record.disks).find(|part| part.name == entry.id);
        let Some(part) = part else { return Ok(None) };
        let mut finder = Finder::new(self, view.seen().index, ctx);
        finder.disk(&entry.id, entry.root, entry.size, Some(&part.set())).await
    }
}

impl StoredDisk {
    pub(in crate::repository) fn new(
        entry: DiskEntry,
        chunks: ChunkReader,
        nodes: Arc<StoredNodes>,
        ctx: &Context,
    ) -> Self {
        let (lost, lost_nodes) = (RangeSet::new(), Arc::default());
        let (kept, cursors) = (BoundedCache::new(KEPT_BYTES), Mutex::default());
        Self { entry, chunks, nodes, cursors, kept, lost, lost_nodes, as_zeros: false, ctx: ctx.clone() }
    }

    /// The bytes that cannot be read any more, as far as a repair has found out. A restore of them is refused.
    #[must_use]
    pub const fn lost(&self) -> &RangeSet {
        &self.lost
    }

    /// Reads what is lost as zeros. Whoever asks for this must be told what they are missing: [`Self::lost`].
    #[must_use]
    pub fn lost_as_zeros(mut self) -> Self {
        self.as_zeros = true;
        self.cursors = Mutex::default();
        self
    }

    /// Fails when something in the range is lost and not to be read as zeros.
    pub(super) fn must_be_whole(&self, range: &Range<u64>) -> Result<()> {
        let lost: RangeSet = self.lost.within(range.clone()).collect();
        if self.as_zeros || lost.is_empty() {
            return Ok(());
        }
        Err(Error::integrity(
            "Parts of the disk are lost; take another restore point, or restore with zeros in their place",
        )
        .with_context("disk", &self.entry.id)
        .with_context("lost_bytes", lost.bytes())
        .with_context("lost", describe(&lost)))
    }

    /// Whether an entry at these bytes is to be read as zeros.
    pub(super) fn is_zeroed(&self, bytes: &Range<u64>) -> bool {
        self.as_zeros && self.lost.intersects(bytes)
    }

    /// A cursor of its own over the disk's map.
    pub(super) fn map(&self) -> MapCursor {
        let cursor = MapCursor::new(Arc::clone(&self.nodes) as _, self.entry.size, self.entry.root);
        if self.as_zeros { cursor.without(Arc::clone(&self.lost_nodes)) } else { cursor }
    }

    /// A cursor for a short walk; see [`Self::idle`].
    fn cursor(&self) -> MapCursor {
        let idle = self.cursors.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.unwrap_or_else(|| self.map())
    }

    /// Keeps a cursor, with the nodes that it knows, for the next walk.
    fn idle(&self, cursor: MapCursor) {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner).push(cursor);
    }

    /// Each entry of the leaves that `range` touches, with the bytes of the disk it stands for.
    async fn entries(&self, range: &Range<u64>) -> Result<Vec<(Range<u64>, Entry)>> {
        let mut entries = Vec::new();
        let mut cursor = self.cursor();
        for segment in range.start / SEGMENT_BYTES..range.end.div_ceil(SEGMENT_BYTES) {
            let leaf = cursor.leaf(segment).await?;
            entries.extend(placed(&leaf, segment, self.entry.size).map(|(bytes, entry)| match entry.id() {
                Some(_) if self.is_zeroed(&bytes) => (bytes, Entry::Hole { blocks: entry.blocks() }),
                _ => (bytes, entry),
            }));
        }
        self.idle(cursor);
        entries.retain(|(bytes, _)| bytes.start < range.end && bytes.end > range.start);
        Ok(entries)
    }

    async fn chunk(&self, id: ChunkId, bytes: &Range<u64>) -> Result<Bytes> {
        if let Some(plain) = self.kept.get(&id) {
            return Ok(plain);
        }
        let wanted = Wanted { id, plain: (bytes.end - bytes.start) as u32, at: bytes.start };
        let mut pieces = std::pin::pin!(self.chunks.read(vec![wanted], &self.ctx).await?);
        let lost = || Error::internal("A chunk was read and did not come");
        let mut plain = pieces.try_next().await?.ok_or_else(lost)?;
        let plain = plain.pop().ok_or_else(lost)?.bytes;
        self.kept.put(id, plain.clone(), plain.len());
        Ok(plain)
    }
}

/// The entries of a leaf with the bytes of the disk that each stands for.
pub(super) fn placed(leaf: &[Entry], segment: u64, size: u64) -> impl Iterator<Item = (Range<u64>, Entry)> {
    let mut at = segment * SEGMENT_BYTES;
    leaf.iter().map(move |entry| {
        let start = at;
        at = (at + u64::from(entry.blocks()) * BLOCK_BYTES as u64).min(size);
        (start..at, *entry)
    })
}

#[async_trait]
impl DiskSource for StoredDisk {
    fn size(&self) -> u64 {
        self.entry.size
    }

    async fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>> {
        check_range(&range, self.entry.size)?;
        let mut extents: Vec<Extent> = Vec::new();
        let mut at = range.start;
        let mut push = |bytes: Range<u64>, hole: bool| {
            let extent = if hole { Extent::zero(bytes) } else { Extent::data(bytes) };
            match extents.last_mut() {
                Some(last) if last.kind == extent.kind => last.range.end = extent.range.end,
                _ => extents.push(extent),
            }
            extents.len()
        };
        while at < range.end {
            // Whole subtrees of holes are one step.
            let mut cursor = self.cursor();
            let next = cursor.next_leaf(at / SEGMENT_BYTES).await?;
            self.idle(cursor);
            let leaf_start = next.map_or(range.end, |(segment, _)| segment * SEGMENT_BYTES).min(range.end);
            if leaf_start > at {
                push(at..leaf_start, true);
                at = leaf_start;
                continue;
            }
            let end = ((at / SEGMENT_BYTES + 1) * SEGMENT_BYTES).min(range.end);
            for (bytes, entry) in self.entries(&(at..end)).await? {
                let bytes = bytes.start.max(at)..bytes.end.min(end);
                if push(bytes.clone(), matches!(entry, Entry::Hole { .. })) > MAX_EXTENTS {
                    extents.pop();
                    return Ok(extents);
                }
            }
            at = end;
        }
        Ok(extents)
    }

    async fn read(&self, range: Range<u64>, mut buffer: Vec<u8>) -> Result<Vec<u8>> {
        check_range(&range, self.entry.size)?;
        let len = (range.end - range.start) as usize;
        buffer.clear();
        buffer.resize(len, 0);
        let entries = self.entries(&range).await?;
        let mut copy = |at: u64, plain: &[u8]| {
            let (from, to) = (at.max(range.start), (at + plain.len() as u64).min(range.end));
            if from < to {
                let target = (from - range.start) as usize..(to - range.start) as usize;
                buffer[target].copy_from_slice(&plain[(from - at) as usize..(to - at) as usize]);
            }
        };
        let wanted = entries.iter().filter_map(|(bytes, entry)| entry.id().map(|id| (bytes, id)));
        if len as u64 <= SMALL_READ_BYTES {
            for (bytes, id) in wanted {
                copy(bytes.start, &self.chunk(id, bytes).await?);
            }
            return Ok(buffer);
        }
        let wanted =
            wanted.map(|(bytes, id)| Wanted { id, plain: (bytes.end - bytes.start) as u32, at: bytes.start }).collect();
        let mut pieces = std::pin::pin!(self.chunks.read(wanted, &self.ctx).await?);
        while let Some(batch) = pieces.try_next().await? {
            batch.iter().for_each(|piece| copy(piece.at, &piece.bytes));
        }
        Ok(buffer)
    }
}
