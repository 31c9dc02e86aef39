//! What a splice is told of a segment: its entries as it was, and what has changed since.

use std::ops::Range;

use super::{Entry, SEGMENT_BLOCKS};

/// Behind everything that any entry of a segment depends on.
const FAR: usize = 2 * SEGMENT_BLOCKS;

/// An entry of the segment as it was, and its place in blocks.
pub(super) struct Old {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) entry: Entry,
}

impl Old {
    pub(super) const fn is_hole(&self) -> bool {
        matches!(self.entry, Entry::Hole { .. })
    }
}

/// `entries` with their places.
pub(super) fn placed(entries: &[Entry]) -> Vec<Old> {
    let mut at = 0;
    let place = |entry: &Entry| {
        let start = at;
        at += entry.blocks() as usize;
        Old { start, end: at, entry: *entry }
    };
    entries.iter().map(place).collect()
}

/// The blocks that may have changed: sorted ranges with a gap between each two.
pub(super) struct Dirty(Vec<Range<usize>>);

impl Dirty {
    /// `ranges` and everything from block `from` on.
    pub(super) fn new(ranges: &[Range<u32>], from: Option<usize>) -> Self {
        let clipped = |range: &Range<u32>| FAR.min(range.start as usize)..FAR.min(range.end as usize);
        let mut all: Vec<_> = ranges.iter().map(clipped).chain(from.map(|from| from..FAR)).collect();
        all.retain(|range| !range.is_empty());
        all.sort_unstable_by_key(|range| range.start);
        all.dedup_by(|next, last| {
            let joins = next.start <= last.end;
            if joins {
                last.end = last.end.max(next.end);
            }
            joins
        });
        Self(all)
    }

    /// Those that share a block with `start..end`.
    pub(super) fn overlapping(&self, start: usize, end: usize) -> &[Range<usize>] {
        let first = self.0.partition_point(|range| range.end <= start);
        let count = self.0[first..].partition_point(|range| range.start < end);
        &self.0[first..first + count]
    }
}
