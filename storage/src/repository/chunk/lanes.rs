//! Keyed BLAKE3 of many 4 KiB blocks at once.
//!
//! A block has only four of BLAKE3's 1 KiB chunks, which leaves most of a vector unit idle: AVX-512 hashes 16 at a time.
//! Here the first KiB of up to 16 blocks go together, then the second, and so on up the tree (BLAKE3 paper, section 2),
//! which is three times as fast on such a machine. The result is the same as [`blake3::keyed_hash`] of each block.
//!
//! The function for it, `blake3::platform::Platform::hash_many`, is public but undocumented, and upstream may change it
//! (a documented one is asked for in BLAKE3#478). So the first use in a process compares it with the documented one
//! and falls back to that for good if they differ.

use std::sync::LazyLock;

use blake3::IncrementCounter;
use blake3::platform::Platform;

use super::BLOCK_BYTES;

/// One block of a disk, whole or zero-padded.
pub(super) type Block = [u8; BLOCK_BYTES];
/// The hash of a block.
pub(super) type BlockHash = [u8; 32];

/// Blocks hashed together: the widest vector that BLAKE3 has code for.
const LANES: usize = 16;
const KIB: usize = 1024;
const KIBS: usize = BLOCK_BYTES / KIB;

// The domain flags of the BLAKE3 paper, table 3.
const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 1 << 1;
const PARENT: u8 = 1 << 2;
const ROOT: u8 = 1 << 3;
const KEYED_HASH: u8 = 1 << 4;

/// Whether the fast way gives what the documented one does; tried once per process over every number of lanes.
static TRUSTED: LazyLock<bool> = LazyLock::new(|| {
    let key = [0x5a; 32];
    let blocks: Vec<Block> =
        (0..LANES + LANES - 1).map(|i| std::array::from_fn(|j| (i * 31 + j * 7 + (j >> 8)) as u8)).collect();
    let blocks: Vec<&Block> = blocks.iter().collect();
    let (mut fast, mut slow) = (vec![[0; 32]; blocks.len()], vec![[0; 32]; blocks.len()]);
    hash_lanes(&key, &blocks, &mut fast);
    hash_each(&key, &blocks, &mut slow);
    fast == slow
});

/// Writes the keyed BLAKE3 hash of each of `blocks` to the same place in `out`, which is as long.
pub(super) fn hash_blocks(key: &[u8; 32], blocks: &[&Block], out: &mut [BlockHash]) {
    if *TRUSTED { hash_lanes(key, blocks, out) } else { hash_each(key, blocks, out) }
}

fn hash_each(key: &[u8; 32], blocks: &[&Block], out: &mut [BlockHash]) {
    for (block, hash) in blocks.iter().zip(out) {
        *hash = *blake3::keyed_hash(key, *block).as_bytes();
    }
}

pub(super) fn hash_lanes(key: &[u8; 32], blocks: &[&Block], out: &mut [BlockHash]) {
    let platform = Platform::detect();
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(key.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    for (blocks, out) in blocks.chunks(LANES).zip(out.chunks_mut(LANES)) {
        hash_group(platform, &words, blocks, out);
    }
}

/// At most [`LANES`] blocks: four chunks each, then two parents, then the root.
fn hash_group(platform: Platform, key: &[u32; 8], blocks: &[&Block], out: &mut [BlockHash]) {
    let count = blocks.len();
    let mut leaves = [[0; 32]; KIBS * LANES];
    for kib in 0..KIBS {
        let mut inputs = [&[0; KIB]; LANES];
        for (input, block) in inputs.iter_mut().zip(blocks) {
            *input = &block.as_chunks::<KIB>().0[kib];
        }
        let mut hashes = [0; 32 * LANES];
        let flags = (KEYED_HASH, CHUNK_START, CHUNK_END);
        let same = IncrementCounter::No;
        platform.hash_many(&inputs[..count], key, kib as u64, same, flags.0, flags.1, flags.2, &mut hashes);
        for (lane, hash) in hashes.as_chunks().0[..count].iter().enumerate() {
            leaves[lane * KIBS + kib] = *hash;
        }
    }
    let mut parents = [[0; 32]; 2 * LANES];
    hash_pairs::<{ 2 * LANES }>(platform, key, &leaves[..KIBS * count], KEYED_HASH | PARENT, &mut parents);
    hash_pairs::<LANES>(platform, key, &parents[..2 * count], KEYED_HASH | PARENT | ROOT, out);
}

/// The parent of each pair of `hashes`, at most `N` of them.
fn hash_pairs<const N: usize>(p: Platform, key: &[u32; 8], hashes: &[BlockHash], flags: u8, out: &mut [BlockHash]) {
    let pairs = hashes.as_flattened().as_chunks::<64>().0;
    let mut inputs = [&[0; 64]; N];
    for (input, pair) in inputs.iter_mut().zip(pairs) {
        *input = pair;
    }
    p.hash_many(&inputs[..pairs.len()], key, 0, IncrementCounter::No, flags, 0, 0, out.as_flattened_mut());
}
