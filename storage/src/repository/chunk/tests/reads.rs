//! How much a splice reads.

use std::ops::Range;
use std::slice::from_ref;

use super::splice::{Reads, splice};
use super::*;

/// Splices a whole segment of random bytes after a change to all blocks of `dirty`.
fn reads(dirty: &[Range<u32>]) -> Reads {
    let old = sample(SEGMENT_BYTES as usize);
    let mut new = old.clone();
    for block in dirty.iter().cloned().flatten() {
        new[block as usize * BLOCK_BYTES] ^= 1 + block as u8 % 200;
    }
    splice(DiskChunker::Aligned, &keys(), &old, &new, dirty)
}

#[test]
fn nothing_dirty_reads_nothing() {
    assert_eq!(reads(&[]).count, 0);
}

#[test]
fn all_dirty_is_one_read() {
    let reads = reads(from_ref(&(0..4096)));
    assert_eq!((reads.count, reads.blocks), (1, SEGMENT_BLOCKS));
}

#[test]
fn scattered_changes_read_about_three_chunks_each_beyond_themselves() {
    let mut random = Random(3);
    for length in [1, 2, 16, 100] {
        let (mut count, mut extra, mut ranges) = (0, 0, 0);
        for _ in 0..12 {
            // Far enough apart not to share reads.
            let dirty: Vec<_> = (0..10_u32)
                .map(|nth| nth * 400 + 50 + random.below(200) as u32)
                .map(|start| start..start + length)
                .collect();
            let reads = reads(&dirty);
            let needed: usize = dirty.iter().map(Range::len).sum();
            ranges += dirty.len();
            count += reads.count;
            extra += reads.blocks - needed;
        }
        let (chunks, count) = (extra as f64 / ranges as f64 / 16.0, count as f64 / ranges as f64);
        println!("ranges of {length} blocks: {chunks:.2} chunks beyond, {count:.2} reads");
        assert!(chunks < 3.5 && count < 1.6, "ranges of {length} blocks: {chunks} chunks beyond, {count} reads");
    }
}

#[test]
fn neighbouring_changes_share_a_read() {
    assert_eq!(reads(&[1000..1001, 1030..1031, 1060..1061]).count, 1);
}

#[test]
fn a_write_into_a_hole_reads_only_what_was_written() {
    let old = vec![0; SEGMENT_BYTES as usize];
    let mut new = old.clone();
    new[2000 * BLOCK_BYTES..2004 * BLOCK_BYTES].fill(7);
    let reads = splice(DiskChunker::Aligned, &keys(), &old, &new, from_ref(&(2000..2004)));
    assert_eq!((reads.count, reads.blocks), (1, 4));
    let reads = splice(DiskChunker::Aligned, &keys(), &new, &old, from_ref(&(2000..2004)));
    assert_eq!((reads.count, reads.blocks), (1, 4));
}

#[test]
fn a_grown_disk_reads_what_grew_and_the_last_few_entries() {
    let data = sample(SEGMENT_BYTES as usize);
    let reads = splice(DiskChunker::Aligned, &keys(), &data[..3000 * BLOCK_BYTES + 17], &data, &[]);
    assert!((1096..1096 + 60).contains(&reads.blocks) && reads.count == 1, "{} blocks", reads.blocks);
}

/// Content that never leads back to an old cut: all blocks equal but one. The segment itself is the bound then.
#[test]
fn the_worst_case_reads_every_block_at_most_once() {
    let old = vec![1; SEGMENT_BYTES as usize];
    let mut new = old.clone();
    new[3 * BLOCK_BYTES..200 * BLOCK_BYTES].fill(2);
    let reads = splice(DiskChunker::Aligned, &keys(), &old, &new, from_ref(&(3..200)));
    assert!(reads.blocks <= SEGMENT_BLOCKS);
}
