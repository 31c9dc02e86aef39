//! Tests of the cuts against a plain model, of splicing against cutting anew, and golden vectors.

mod golden;
mod model;
mod names;
mod reads;
mod splice;
mod stream;

use super::*;

/// Keys that are not secret: `cut` is 0, 1, 2 … 31 and `id` 32, 33 … 63.
fn keys() -> IdKeys {
    IdKeys::new(std::array::from_fn(|i| i as u8), std::array::from_fn(|i| i as u8 + 32))
}

/// Keys under which zero blocks have a small hash, so that cuts gather after the short runs of them.
fn zeros_first() -> IdKeys {
    IdKeys::new([254; 32], [0; 32])
}

/// The sample of the golden values: the XOF output of BLAKE3 over `backstay sample`.
fn sample(bytes: usize) -> Vec<u8> {
    let mut data = vec![0; bytes];
    blake3::Hasher::new().update(b"backstay sample").finalize_xof().fill(&mut data);
    data
}

/// A small fast generator (xorshift64*, Vigna 2014) for the many cases that need no shrinking.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound
    }
}
