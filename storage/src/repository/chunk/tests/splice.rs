//! Splicing gives what cutting anew gives, and reads little for it.

use std::ops::Range;
use std::slice::from_ref;

use proptest::prelude::*;

use super::model::{chunkers, content, tags};
use super::*;

/// What a splice asked for.
#[derive(Default)]
pub(super) struct Reads {
    pub(super) count: usize,
    pub(super) blocks: usize,
}

/// Splices `old` into `new` and checks everything that holds for every splice.
pub(super) fn splice(chunker: DiskChunker, keys: &IdKeys, old: &[u8], new: &[u8], dirty: &[Range<u32>]) -> Reads {
    let entries = cut_segment(chunker, keys, old);
    let mut splice = Splice::new(chunker, keys, &entries, old.len() as u64, new.len() as u64, dirty);
    let (mut reads, mut seen) = (Reads::default(), vec![false; SEGMENT_BLOCKS]);
    while let Some(range) = splice.next_read() {
        assert_eq!(splice.next_read(), Some(range.clone()), "asking twice is harmless");
        let bytes = range.start as usize * BLOCK_BYTES..new.len().min(range.end as usize * BLOCK_BYTES);
        reads.count += 1;
        reads.blocks += range.len();
        for block in range.clone() {
            assert!(!std::mem::replace(&mut seen[block as usize], true), "block {block} read twice");
        }
        splice.supply(range, new[bytes].to_vec());
    }
    let spliced = splice.finish();
    let mut at = 0;
    for piece in &spliced {
        let end = at + piece.entry.blocks() as usize;
        let wanted = !piece.kept && piece.entry.id().is_some();
        let real = &new[at * BLOCK_BYTES..new.len().min(end * BLOCK_BYTES)];
        assert_eq!(piece.bytes.as_deref(), wanted.then_some(real), "bytes of blocks {at}..{end}");
        at = end;
    }
    let result: Vec<_> = spliced.iter().map(|piece| piece.entry).collect();
    assert_eq!(result, cut_segment(chunker, keys, new));
    reads
}

/// Rewrites each range of `tags` in its own way; blocks behind the end are added, `cut_to` takes some away.
fn change(tags: &[u64], ranges: &[(usize, usize, u8)], random: &mut Random) -> (Vec<u64>, Vec<Range<u32>>) {
    let mut tags = tags.to_vec();
    let mut dirty = Vec::new();
    for (start, count, how) in ranges {
        let range = (*start).min(tags.len())..(start + count).min(tags.len());
        for tag in &mut tags[range.clone()] {
            match how % 5 {
                0 => *tag = 0,
                1 | 2 => *tag = random.next() | 1,
                3 => *tag = random.next() % 4,
                _ => {}
            }
        }
        dirty.push(range.start as u32..range.end as u32);
    }
    dirty.sort_by_key(|range| range.start);
    dirty.dedup_by(|next, last| {
        let joins = next.start <= last.end;
        last.end = if joins { last.end.max(next.end) } else { last.end };
        joins
    });
    (tags, dirty)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_splice_is_as_cutting_the_segment_anew(
        chunker in chunkers(),
        tags in tags(400),
        ranges in prop::collection::vec((0..400_usize, 0..50_usize, any::<u8>()), 0..6),
        resize in prop::option::of((0..450_usize, 1..=BLOCK_BYTES)),
        last in prop_oneof![Just(BLOCK_BYTES), 1..=BLOCK_BYTES],
        seed in 1..u64::MAX,
    ) {
        let old = content(&tags, last);
        let (mut changed, dirty) = change(&tags, &ranges, &mut Random(seed));
        let mut random = Random(seed);
        let (blocks, bytes) = resize.unwrap_or((tags.len(), last));
        changed.resize_with(blocks, || if random.below(3) == 0 { random.next() } else { 0 });
        let new = content(&changed, bytes);
        splice(chunker, &keys(), &old, &new, &dirty);
        splice(chunker, &zeros_first(), &old, &new, &dirty);
    }
}

/// Many small cases, each a few changes near the places where rules meet.
#[test]
fn twenty_thousand_random_changes_splice_as_cut_anew() {
    let mut random = Random(0x5eed);
    let both = [keys(), zeros_first()];
    for case in 0..20_000 {
        let count = 1 + random.below(120);
        let mut tags: Vec<u64> = (0..count).map(|_| random.next() | 1).collect();
        for _ in 0..random.below(5) {
            let (at, run) = (random.below(count), [1, 7, 15, 16, 17, 40][random.below(6)]);
            let value = if random.below(4) == 0 { 1 } else { 0 };
            tags[at..count.min(at + run)].fill(value);
        }
        let old_last = if random.below(2) == 0 { BLOCK_BYTES } else { 1 + random.below(BLOCK_BYTES) };
        let old = content(&tags, old_last);
        let ranges: Vec<_> = (0..random.below(4))
            .map(|_| (random.below(count), [1, 1, 2, 15, 16, 30][random.below(6)], random.next() as u8))
            .collect();
        let (mut changed, dirty) = change(&tags, &ranges, &mut random);
        let mut last = old_last;
        if random.below(4) == 0 {
            last = 1 + random.below(BLOCK_BYTES);
            let grown = 1 + random.below(count + 40);
            changed.resize_with(grown, || [0, 0, random.next()][random.below(3)]);
        }
        let chunker = match case % 5 {
            0 => DiskChunker::Fixed { blocks: 1 + random.below(20) as u32 },
            _ => DiskChunker::Aligned,
        };
        splice(chunker, &both[case / 5 % 2], &old, &content(&changed, last), &dirty);
    }
}

/// One block made zero, or not zero any more, at every place around runs that are just a hole or just not.
#[test]
fn every_single_change_around_a_run_of_zeros_splices_as_cut_anew() {
    let (keys, mut random) = (zeros_first(), Random(77));
    for run in [15, 16, 17] {
        for at in 0..50 {
            let mut tags: Vec<u64> = (0..90).map(|_| random.next() | 1).collect();
            tags[at..at + run].fill(0);
            let old = content(&tags, BLOCK_BYTES);
            let places = at.saturating_sub(2)..at + run + 2;
            for place in places {
                let mut new = old.clone();
                let other = if tags[place] == 0 { random.next() | 1 } else { 0 };
                new[place * BLOCK_BYTES..place * BLOCK_BYTES + 8].copy_from_slice(&other.to_le_bytes());
                let dirty = place as u32..place as u32 + 1;
                splice(DiskChunker::Aligned, &keys, &old, &new, from_ref(&dirty));
                splice(DiskChunker::Aligned, &keys, &new, &old, from_ref(&dirty));
            }
        }
    }
}

#[test]
fn old_entries_that_do_not_add_up_are_not_used() {
    let (keys, data) = (keys(), sample(50 * BLOCK_BYTES));
    let entries = cut_segment(DiskChunker::Aligned, &keys, &data);
    for old in [&entries[1..], &[Entry::Hole { blocks: 0 }], &[]] {
        let mut splice = Splice::new(DiskChunker::Aligned, &keys, old, data.len() as u64, data.len() as u64, &[]);
        assert_eq!(splice.next_read(), Some(0..50));
        splice.supply(0..50, data.clone());
        assert_eq!(splice.next_read(), None);
        assert_eq!(splice.finish().iter().map(|piece| piece.entry).collect::<Vec<_>>(), entries);
    }
}
