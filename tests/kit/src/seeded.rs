//! Randomness and time that are the same at every run.

use std::{
    ops::Range,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
};

use backstay_core::{Clock, RandomSource, Result, Timestamp};

/// A random source that a seed decides. Secrets made of it are none: for tests alone.
///
/// The numbers are those of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug)]
pub struct SeededRandom(AtomicU64);

impl SeededRandom {
    /// Starts at this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, 0 for 0. The slight bias of the remainder does not matter to tests.
    pub fn below(&self, end: u64) -> u64 {
        self.next().checked_rem(end).unwrap_or(0)
    }

    /// A range within `0..size`, possibly empty, at most `longest` long.
    pub fn range(&self, size: u64, longest: u64) -> Range<u64> {
        let start = self.below(size + 1);
        let len = self.below(longest.min(size - start) + 1);
        start..start + len
    }
}

impl RandomSource for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<()> {
        for part in buffer.chunks_mut(8) {
            part.copy_from_slice(&self.next().to_le_bytes()[..part.len()]);
        }
        Ok(())
    }
}

/// So many bytes that a seed decides and nothing compresses.
#[must_use]
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    // Invariant: a seeded source never fails.
    SeededRandom::new(seed).fill(&mut bytes).expect("a seeded source gives bytes");
    bytes
}

/// A clock that goes on by a step whenever it is read, and else stands until it is set.
#[derive(Debug)]
pub struct ManualClock {
    nanos: AtomicI64,
    step: i64,
}

impl ManualClock {
    /// Stands at `start`.
    #[must_use]
    pub const fn new(start: Timestamp) -> Self {
        Self { nanos: AtomicI64::new(start.as_nanos()), step: 0 }
    }

    /// Goes on by so many nanoseconds after each reading.
    #[must_use]
    pub const fn stepping(mut self, nanos: i64) -> Self {
        self.step = nanos;
        self
    }

    /// Goes on by so many seconds, back when negative.
    pub fn advance(&self, seconds: i64) {
        self.nanos.fetch_add(seconds * 1_000_000_000, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.nanos.fetch_add(self.step, Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_everything() {
        assert_eq!(noise(7, 100), noise(7, 100));
        assert_ne!(noise(7, 100), noise(8, 100));
        // The first number of SplitMix64 from seed 0, as published with its reference code.
        assert_eq!(SeededRandom::new(0).next(), 0xe220_a839_7b1d_cdaf);
        let random = SeededRandom::new(1);
        for _ in 0..1000 {
            let range = random.range(100, 10);
            assert!(range.start <= range.end && range.end <= 100 && range.end - range.start <= 10);
        }
    }

    #[test]
    fn a_manual_clock_goes_where_it_is_sent() {
        let clock = ManualClock::new(Timestamp::from_nanos(5)).stepping(2);
        assert_eq!(clock.now().as_nanos(), 5);
        clock.advance(1);
        assert_eq!(clock.now().as_nanos(), 1_000_000_007);
    }
}
