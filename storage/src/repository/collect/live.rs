//! The chunks that something needs, in little memory.

use backstay_core::{Context, Result};

use crate::repository::ids::ChunkId;

/// Bits for each expected chunk: of a thousand dead packs some ten look as if a chunk of theirs were needed.
const BITS_PER_CHUNK: u64 = 24;
/// Bits of one block, which lies in one line of a processor's cache.
const BLOCK_BITS: u64 = 512;
const WORDS: usize = (BLOCK_BITS / 64) as usize;
/// Bits set for a chunk.
const PROBES: u32 = 12;
/// For a repository of a few chunks.
const LEAST_BLOCKS: u64 = 1024;

/// A set that never misses what was put into it and seldom claims what was not: a blocked Bloom filter. What it claims wrongly is kept
/// by one generation and, since each draws a seed of its own, not by the next.
pub struct LiveSet {
    blocks: Vec<[u64; WORDS]>,
    seed: u64,
}

impl LiveSet {
    /// Room for so many chunks.
    pub fn new(expected: u64, ctx: &Context) -> Result<Self> {
        let blocks = (expected.saturating_mul(BITS_PER_CHUNK) / BLOCK_BITS).max(LEAST_BLOCKS);
        Ok(Self { blocks: vec![[0; WORDS]; blocks as usize], seed: u64::from_le_bytes(ctx.random()?) })
    }

    /// Adds a chunk.
    pub fn insert(&mut self, id: &ChunkId) {
        let (block, bits) = self.place(id);
        for bit in bits {
            self.blocks[block][(bit / 64) as usize] |= 1 << (bit % 64);
        }
    }

    /// `false`: it was not added.
    pub fn may_hold(&self, id: &ChunkId) -> bool {
        let (block, mut bits) = self.place(id);
        bits.all(|bit| self.blocks[block][(bit / 64) as usize] & 1 << (bit % 64) != 0)
    }

    fn place(&self, id: &ChunkId) -> (usize, impl Iterator<Item = u64> + use<>) {
        // Ids are keyed hashes: their bytes are as good as random, and the seed makes every generation see them differently.
        let part = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&id.0[at..at + 8]);
            mix(u64::from_le_bytes(bytes) ^ self.seed.rotate_left(at as u32))
        };
        let block = (u128::from(part(0)) * self.blocks.len() as u128) >> 64;
        let (first, second) = (part(8), part(16));
        let bits = (0..PROBES).map(move |probe| {
            let half = if probe < PROBES / 2 { first } else { second };
            half >> (9 * (probe % (PROBES / 2))) & (BLOCK_BITS - 1)
        });
        (block as usize, bits)
    }
}

/// The finisher of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
const fn mix(mut value: u64) -> u64 {
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> ChunkId {
        ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }

    #[test]
    fn nothing_that_was_added_is_missed_and_little_else_is_claimed() {
        let mut live = LiveSet::new(100_000, &Context::default()).unwrap();
        (0..100_000).for_each(|number| live.insert(&id(number)));
        assert!((0..100_000).all(|number| live.may_hold(&id(number))));
        let wrong = (100_000..600_000).filter(|number| live.may_hold(&id(*number))).count();
        assert!(wrong < 200, "{wrong} of 500,000 claimed wrongly");
        assert!(live.blocks.len() * 64 <= 400_000);
    }

    #[test]
    fn another_generation_is_wrong_about_other_chunks() {
        let sets: Vec<_> = (0..2)
            .map(|_| {
                let mut live = LiveSet::new(1, &Context::default()).unwrap();
                (0..60_000).for_each(|number| live.insert(&id(number)));
                live
            })
            .collect();
        let wrong = |live: &LiveSet, number: &u64| live.may_hold(&id(*number));
        let claimed: Vec<_> = (1_000_000..1_100_000).filter(|number| wrong(&sets[0], number)).collect();
        let still = claimed.iter().filter(|number| wrong(&sets[1], number)).count();
        assert!(!claimed.is_empty() && still < claimed.len(), "{still} of {}", claimed.len());
    }
}
