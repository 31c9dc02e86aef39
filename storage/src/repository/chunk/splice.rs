//! Cutting a segment again around its changes, with the same result as cutting all of it.

use std::ops::Range;

use bytes::Bytes;

use super::disk::{byte_at, entry};
use super::past::{Dirty, Old, placed};
use super::rule::{Blocks, HOLE, MAX, Missing, State};
use super::{BLOCK_BYTES, DiskChunker, Entry, IdKeys, SEGMENT_BYTES, entries_blocks};

/// A read goes on to the next dirty range if no more than so many blocks lie between what both need.
const MERGE: usize = 32;
/// A read asks for at least so many blocks if it can: less is as slow.
const READ: usize = 16;

/// Cuts one segment again after a change, reading only around what changed.
///
/// The result is what [`cut_segment`](super::cut_segment) gives for the segment as it is now, whatever the changes,
/// as long as the old entries are what it gave for the segment as it was, with the same chunker and keys, and all that
/// differs is in dirty ranges or past the smaller of the old and the new end. A cut depends on no block before it, so an old entry stays if it starts at a cut
/// and nothing that it depends on is dirty: the 24 blocks from its start, and up to 16 more if a run of zeros goes on
/// over the end of those, but nothing past the first 16 zero blocks of a hole that follows it; of a hole, itself and
/// the block after it.
///
/// Reads are made for a range and what it is likely to need, mostly one per range or group of near ones. They go two and
/// a half chunks beyond one dirty block, three beyond a longer range, where cutting again every entry that starts within
/// 40 blocks before it would read four. No block is read twice, and there is no better bound than the segment for the
/// worst case: content of equal blocks never leads back to an old cut.
///
/// What is read is held until the chunks made of it are dropped, since these are slices of it.
///
/// ```text
/// while let Some(blocks) = splice.next_read() {
///     splice.supply(blocks.clone(), read(blocks));
/// }
/// ```
pub struct Splice {
    keys: IdKeys,
    chunker: DiskChunker,
    old: Vec<Old>,
    dirty: Dirty,
    plain_bytes: u64,
    blocks: Blocks,
    reads: Vec<(Range<usize>, Bytes)>,
    asked: Option<Range<usize>>,
    /// Where `new` ends, in blocks.
    at: usize,
    /// The first old entry that does not start before `at`.
    next_old: usize,
    new: Vec<(Entry, bool)>,
}

/// One entry of the segment as it is now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spliced {
    /// The entry.
    pub entry: Entry,
    /// Whether it was taken over from the old entries without reading all of it. If not, it may still be equal to one.
    pub kept: bool,
    /// The bytes of a chunk that was read, of its real length; `None` if kept, and for holes.
    pub bytes: Option<Bytes>,
}

impl Splice {
    /// Starts over the entries `old` of a segment that had `old_bytes` and now has `plain_bytes`, both at most 16 MiB.
    /// `dirty` are the block ranges within the segment that may have changed, in any order; whatever lies from the
    /// smaller of the two ends on is taken as dirty too. Old entries that do not add up to `old_bytes` are not used at
    /// all.
    ///
    /// # Panics
    /// If `plain_bytes` is more than 16 MiB.
    #[must_use]
    pub fn new(
        chunker: DiskChunker,
        keys: &IdKeys,
        old: &[Entry],
        old_bytes: u64,
        plain_bytes: u64,
        dirty: &[Range<u32>],
    ) -> Self {
        assert!(plain_bytes <= SEGMENT_BYTES, "a segment of {plain_bytes} bytes");
        let mut blocks = Blocks::unknown(plain_bytes.div_ceil(BLOCK_BYTES as u64) as usize);
        let sound =
            old.iter().all(|entry| entry.blocks() > 0) && entries_blocks(old) == old_bytes.div_ceil(BLOCK_BYTES as u64);
        let old = if sound { placed(old) } else { Vec::new() };
        let resized = if !sound {
            Some(0)
        } else if old_bytes != plain_bytes {
            Some((old_bytes.min(plain_bytes) / BLOCK_BYTES as u64) as usize)
        } else {
            None
        };
        let dirty = Dirty::new(dirty, resized);
        for hole in old.iter().filter(|old| old.is_hole()) {
            let mut clean = hole.start;
            for dirty in dirty.overlapping(hole.start, hole.end) {
                (clean..dirty.start.min(blocks.len())).for_each(|block| blocks.set_zero(keys, block));
                clean = dirty.end;
            }
            (clean..hole.end.min(blocks.len())).for_each(|block| blocks.set_zero(keys, block));
        }
        Self {
            keys: keys.clone(),
            chunker,
            old,
            dirty,
            plain_bytes,
            blocks,
            reads: Vec::new(),
            asked: None,
            at: 0,
            next_old: 0,
            new: Vec::new(),
        }
    }

    /// Goes on as far as it can, and says which blocks it must read to go on from there; `None` when done.
    pub fn next_read(&mut self) -> Option<Range<u32>> {
        if self.asked.is_none() {
            while self.at < self.blocks.len() {
                if let Err(missing) = self.step() {
                    self.asked = Some(missing);
                    break;
                }
            }
        }
        self.asked.as_ref().map(|asked| asked.start as u32..asked.end as u32)
    }

    /// Gives the bytes of the blocks asked for. The last block of the segment may be partial.
    ///
    /// # Panics
    /// If `blocks` is not what [`next_read`](Self::next_read) last asked for, or `data` is not as long.
    pub fn supply(&mut self, blocks: Range<u32>, data: impl Into<Bytes>) {
        let data = data.into();
        let range = blocks.start as usize..blocks.end as usize;
        assert_eq!(self.asked.take().as_ref(), Some(&range), "supplied what was not asked for");
        let bytes = byte_at(range.end, self.plain_bytes) - byte_at(range.start, self.plain_bytes);
        assert_eq!(data.len() as u64, bytes, "the length of blocks {range:?}");
        self.blocks.read(&self.keys, range.start, &data);
        self.reads.push((range, data));
    }

    /// All entries of the segment as it is now.
    ///
    /// # Panics
    /// If [`next_read`](Self::next_read) has not said `None`.
    #[must_use]
    pub fn finish(mut self) -> Vec<Spliced> {
        assert!(self.at >= self.blocks.len(), "a splice that still has to read");
        self.reads.sort_unstable_by_key(|(range, _)| range.start);
        let mut at = 0;
        let mut spliced = Vec::with_capacity(self.new.len());
        for (entry, kept) in &self.new {
            let end = at + entry.blocks() as usize;
            let bytes = (!kept && entry.id().is_some()).then(|| self.bytes(at, end));
            spliced.push(Spliced { entry: *entry, kept: *kept, bytes });
            at = end;
        }
        spliced
    }

    /// Adds the entry at `at`, or says what to read first.
    fn step(&mut self) -> Result<(), Range<usize>> {
        while self.old.get(self.next_old).is_some_and(|old| old.start < self.at) {
            self.next_old += 1;
        }
        if let Some(old) = self.old.get(self.next_old).filter(|old| old.start == self.at)
            && !self.touched(self.next_old).map_err(|Missing(block)| self.plan(block))?
        {
            self.new.push((old.entry, true));
            self.at = old.end;
            return Ok(());
        }
        let cut = self.blocks.cut(self.chunker, self.at).map_err(|Missing(block)| self.plan(block))?;
        let (entry, end) = entry(&self.keys, &self.blocks, self.plain_bytes, self.at, cut);
        self.new.push((entry, false));
        self.at = end;
        Ok(())
    }

    /// Whether anything dirty may change the old entry `index`, which starts at a cut.
    fn touched(&self, index: usize) -> Result<bool, Missing> {
        let old = &self.old[index];
        let reach = match (self.chunker, old.is_hole()) {
            (DiskChunker::Aligned, true) => old.end + 1,
            (DiskChunker::Aligned, false) => match self.old.get(index + 1) {
                Some(next) if next.is_hole() => (old.start + MAX + HOLE).min(old.end + HOLE),
                _ => old.start + MAX + HOLE,
            },
            (DiskChunker::Fixed { blocks }, true) => old.end + blocks as usize,
            (DiskChunker::Fixed { blocks }, false) => old.start + blocks as usize,
        };
        let Some(dirty) = self.dirty.overlapping(old.start, reach).first() else { return Ok(false) };
        let window = old.start + MAX;
        if self.chunker != DiskChunker::Aligned || old.is_hole() || dirty.start < window {
            return Ok(true);
        }
        // Only a hole that starts in the window could end it sooner: all from the window's last block up to the dirty
        // one would have to be zero, now as then, since they are clean.
        let between = window - 1..dirty.start;
        if between.clone().any(|block| self.blocks.state(block) == State::Data) {
            return Ok(false);
        }
        match between.rev().find(|block| self.blocks.state(*block) == State::Unknown) {
            Some(block) => Err(Missing(block)),
            None => Ok(true),
        }
    }

    /// What to read when `missing` must be known: all that the dirty ranges near it are likely to need.
    fn plan(&self, missing: usize) -> Range<usize> {
        let mut start = missing;
        if let Some(dirty) = self.dirty.overlapping(missing, missing + MAX).first() {
            // Asked before the next dirty range: those entries will be cut again that have it in their window.
            let first = self.old.partition_point(|old| old.start + MAX <= dirty.start);
            let cut = self.old.get(first).map_or(missing, |old| old.start);
            start = (cut.max(self.at)..missing).find(|block| self.unknown(*block)).unwrap_or(missing);
        }
        let mut end = (missing + 1).max(self.at.max(start) + MAX).max(start + READ);
        while let Some(dirty) = self.dirty.overlapping(start, end + MERGE).last()
            && dirty.end + MAX > end
        {
            end = dirty.end + MAX;
        }
        self.unknown_part(start, end.min(self.blocks.len()))
    }

    /// From `start`, which is unknown, up to a longer run of known blocks or `end`, without known blocks at the end.
    fn unknown_part(&self, start: usize, end: usize) -> Range<usize> {
        let mut last = start;
        for block in start..end {
            if self.unknown(block) {
                last = block;
            } else if block - last >= HOLE {
                break;
            }
        }
        start..last + 1
    }

    fn unknown(&self, block: usize) -> bool {
        self.blocks.state(block) == State::Unknown
    }

    /// The bytes of a chunk, of which each block was read or is known to be zero.
    fn bytes(&self, start: usize, end: usize) -> Bytes {
        let (from, to) = (byte_at(start, self.plain_bytes), byte_at(end, self.plain_bytes));
        let first = self.reads.partition_point(|(read, _)| read.end <= start);
        let reads = self.reads[first..].iter().take_while(|(read, _)| read.start < end);
        let mut gathered = Vec::new();
        for (read, data) in reads {
            let base = byte_at(read.start, self.plain_bytes);
            if read.start <= start && end <= read.end {
                return data.slice((from - base) as usize..(to - base) as usize);
            }
            gathered.resize((to - from) as usize, 0);
            let (lo, hi) = (from.max(base), to.min(base + data.len() as u64));
            gathered[(lo - from) as usize..(hi - from) as usize]
                .copy_from_slice(&data[(lo - base) as usize..(hi - base) as usize]);
        }
        gathered.resize((to - from) as usize, 0);
        gathered.into()
    }
}
