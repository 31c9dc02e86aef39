//! Byte ranges of disks.

use std::ops::Range;

/// What an extent of a disk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExtentKind {
    /// Bytes that have to be read.
    Data,
    /// Bytes that read as zero and need not be read.
    Zero,
}

/// A byte range of a disk and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes from the start of the disk; never empty.
    pub range: Range<u64>,
    /// Data or zeroes.
    pub kind: ExtentKind,
}

impl Extent {
    /// An extent that has to be read.
    #[must_use]
    pub const fn data(range: Range<u64>) -> Self {
        Self { range, kind: ExtentKind::Data }
    }

    /// An extent that reads as zero.
    #[must_use]
    pub const fn zero(range: Range<u64>) -> Self {
        Self { range, kind: ExtentKind::Zero }
    }
}

/// A set of bytes, kept as ranges in rising order that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet(Vec<Range<u64>>);

impl RangeSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a range. Cheap when ranges come in rising order; an empty range adds nothing.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.start >= range.end {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.start <= range.start && range.start <= last.end => last.end = last.end.max(range.end),
            Some(last) if range.start < last.start => self.insert_inside(range),
            _ => self.0.push(range),
        }
    }

    fn insert_inside(&mut self, mut range: Range<u64>) {
        let from = self.0.partition_point(|old| old.end < range.start);
        let to = self.0.partition_point(|old| old.start <= range.end);
        if from < to {
            range.start = range.start.min(self.0[from].start);
            range.end = range.end.max(self.0[to - 1].end);
        }
        self.0.splice(from..to, [range]);
    }

    /// Whether any byte of `range` is in the set.
    #[must_use]
    pub fn intersects(&self, range: &Range<u64>) -> bool {
        let at = self.0.partition_point(|old| old.end <= range.start);
        range.start < range.end && self.0.get(at).is_some_and(|old| old.start < range.end)
    }

    /// Whether every byte of `range` is in the set.
    #[must_use]
    pub fn covers(&self, range: &Range<u64>) -> bool {
        let at = self.0.partition_point(|old| old.end <= range.start);
        range.start >= range.end || self.0.get(at).is_some_and(|old| old.start <= range.start && range.end <= old.end)
    }

    /// Whether every byte of `other` is in this set.
    #[must_use]
    pub fn is_superset(&self, other: &Self) -> bool {
        other.0.iter().all(|range| self.covers(range))
    }

    /// The ranges that lie in `window`, cut to it.
    pub fn within(&self, window: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let at = self.0.partition_point(|old| old.end <= window.start);
        self.0[at..]
            .iter()
            .take_while(move |old| old.start < window.end)
            .map(move |old| old.start.max(window.start)..old.end.min(window.end))
    }

    /// The first byte at or after `offset` that is in the set.
    #[must_use]
    pub fn next_at_or_after(&self, offset: u64) -> Option<u64> {
        let at = self.0.partition_point(|old| old.end <= offset);
        self.0.get(at).map(|old| old.start.max(offset))
    }

    /// The ranges, in rising order, neither touching nor overlapping.
    #[must_use]
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.0
    }

    /// How many bytes are in the set.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// Whether there is no byte in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Range<u64>> for RangeSet {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Self {
        let mut sorted: Vec<_> = ranges.into_iter().collect();
        sorted.sort_unstable_by_key(|range| range.start);
        let mut set = Self::new();
        sorted.into_iter().for_each(|range| set.insert(range));
        set
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_range_set_is_the_set_of_its_bytes(ranges in prop::collection::vec((0u64..200, 0u64..40), 0..20), probe in 0u64..240, len in 0u64..40) {
            let mut one_by_one = RangeSet::new();
            let mut bits = vec![false; 300];
            for (start, len) in &ranges {
                one_by_one.insert(*start..start + len);
                bits[*start as usize..(start + len) as usize].fill(true);
            }
            let collected: RangeSet = ranges.iter().map(|(start, len)| *start..start + len).collect();
            prop_assert_eq!(&one_by_one, &collected);
            prop_assert_eq!(one_by_one.bytes(), bits.iter().filter(|bit| **bit).count() as u64);
            prop_assert!(one_by_one.ranges().windows(2).all(|pair| pair[0].end < pair[1].start));
            let window = &bits[probe as usize..(probe + len) as usize];
            prop_assert_eq!(one_by_one.intersects(&(probe..probe + len)), window.contains(&true));
            prop_assert_eq!(one_by_one.covers(&(probe..probe + len)), !window.contains(&false));
            prop_assert_eq!(one_by_one.next_at_or_after(probe), (probe..300).find(|at| bits[*at as usize]));
            let inside: u64 = one_by_one.within(probe..probe + len).map(|range| range.end - range.start).sum();
            prop_assert_eq!(inside, window.iter().filter(|bit| **bit).count() as u64);
        }
    }
}
