//! The rule as a plain function over all hashes, written from the design alone, and cuts compared with it.

use proptest::prelude::*;

use super::*;

/// One tag per block: 0 is a zero block, equal tags are equal blocks. The last block gets `last` bytes.
pub(super) fn content(tags: &[u64], last: usize) -> Vec<u8> {
    let mut data = vec![0; tags.len() * BLOCK_BYTES];
    for (block, tag) in data.chunks_mut(BLOCK_BYTES).zip(tags) {
        block[..8].copy_from_slice(&tag.to_le_bytes());
    }
    data.truncate(data.len().saturating_sub(BLOCK_BYTES - last));
    data
}

fn run(zero: &[bool], at: usize) -> usize {
    zero[at..].iter().take_while(|zero| **zero).count()
}

fn aligned(hashes: &[[u8; 32]], zero: &[bool], start: usize) -> (usize, bool) {
    let zeros = run(zero, start);
    if zeros >= 16 {
        return (start + zeros, true);
    }
    let end = hashes.len().min(start + 24);
    let limit = (start..end).find(|at| run(zero, *at) >= 16).unwrap_or(end);
    if limit - start <= 8 {
        return (limit, false);
    }
    let mut best = start + 8;
    for end in start + 8..=limit {
        if hashes[end - 1] < hashes[best - 1] {
            best = end;
        }
    }
    (best, false)
}

fn fixed(cell: usize, zero: &[bool], start: usize) -> (usize, bool) {
    let count = zero.len();
    let mut end = start;
    while end < count && run(zero, end) >= cell.min(count - end) {
        end = count.min(end + cell);
    }
    if end > start { (end, true) } else { (count.min(start + cell), false) }
}

/// What `cut_segment` must give.
pub(super) fn model(chunker: DiskChunker, keys: &IdKeys, data: &[u8]) -> Vec<Entry> {
    let hashes: Vec<_> = data.chunks(BLOCK_BYTES).map(|block| keys.block_hash(block)).collect();
    let zero: Vec<_> = data.chunks(BLOCK_BYTES).map(|block| block.iter().all(|byte| *byte == 0)).collect();
    let mut entries = Vec::new();
    let mut start = 0;
    while start < hashes.len() {
        let (end, hole) = match chunker {
            DiskChunker::Aligned => aligned(&hashes, &zero, start),
            DiskChunker::Fixed { blocks } => fixed(blocks as usize, &zero, start),
        };
        let blocks = (end - start) as u32;
        let bytes = &data[start * BLOCK_BYTES..data.len().min(end * BLOCK_BYTES)];
        entries.push(if hole { Entry::Hole { blocks } } else { Entry::Chunk { blocks, id: keys.chunk_id(bytes) } });
        start = end;
    }
    entries
}

/// Rows of equal, different and zero blocks.
pub(super) fn tags(most: usize) -> impl Strategy<Value = Vec<u64>> {
    let zeros = prop_oneof![1..4_usize, 14..18_usize, 16..80_usize].prop_map(|count| vec![0; count]);
    let distinct = prop::collection::vec(1..u64::MAX, 1..60);
    let few = prop::collection::vec(1..5_u64, 1..40);
    prop::collection::vec(prop_oneof![2 => zeros, 3 => distinct, 1 => few], 0..8).prop_map(move |rows| {
        let mut tags = rows.concat();
        tags.truncate(most);
        tags
    })
}

pub(super) fn chunkers() -> impl Strategy<Value = DiskChunker> {
    prop_oneof![
        4 => Just(DiskChunker::Aligned),
        1 => (1..40_u32).prop_map(|blocks| DiskChunker::Fixed { blocks }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_segment_is_cut_by_the_rule_of_the_design(chunker in chunkers(), tags in tags(300), last in 1..=BLOCK_BYTES) {
        let data = content(&tags, last);
        prop_assert_eq!(cut_segment(chunker, &keys(), &data), model(chunker, &keys(), &data));
    }
}

#[test]
fn chunks_have_32_to_96_kib_and_65_in_the_mean() {
    let data = sample(SEGMENT_BYTES as usize);
    let entries = cut_segment(DiskChunker::Aligned, &keys(), &data);
    let (last, others) = entries.split_last().unwrap();
    assert!(others.iter().all(|entry| (8..=24).contains(&entry.blocks())) && last.blocks() <= 24);
    assert!((230..270).contains(&entries.len()), "{} chunks", entries.len());
    assert_eq!(entries_blocks(&entries), SEGMENT_BLOCKS as u64);
}

#[test]
fn fifteen_zero_blocks_are_content_and_sixteen_are_a_hole() {
    let hole = |zeros: usize| {
        let tags: Vec<u64> = (1..=10).chain(std::iter::repeat_n(0, zeros)).chain(11..=20).collect();
        let entries = cut_segment(DiskChunker::Aligned, &keys(), &content(&tags, BLOCK_BYTES));
        entries.iter().filter(|entry| entry.id().is_none()).map(Entry::blocks).collect::<Vec<_>>()
    };
    assert_eq!(hole(15), [0; 0]);
    assert_eq!(hole(16), [16]);
    assert_eq!(hole(17), [17]);
}

#[test]
fn a_partial_last_block_of_zeros_belongs_to_a_hole() {
    let data = content(&[0; 16], 1);
    assert_eq!(cut_segment(DiskChunker::Aligned, &keys(), &data), [Entry::Hole { blocks: 16 }]);
    assert_eq!(cut_segment(DiskChunker::Aligned, &keys(), &[]), []);
}
