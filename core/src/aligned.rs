//! Buffers that direct I/O (`O_DIRECT`) accepts. Pure memory: whoever does the I/O copies through them.

use std::sync::{Mutex, PoisonError};

/// What addresses, offsets and lengths of direct I/O are multiples of. The sector size is smaller on every disk we met.
pub const ALIGNMENT: usize = 4096;

/// Bytes that are copied and written in one go.
pub const STAGING_BYTES: usize = 1 << 20;

/// How many idle buffers are kept.
const KEPT: usize = 4;

/// A buffer of [`STAGING_BYTES`] that begins at a multiple of [`ALIGNMENT`]: an aligned part of a larger vector.
#[derive(Debug)]
pub struct Staging {
    bytes: Vec<u8>,
    start: usize,
}

impl Staging {
    fn new() -> Self {
        let bytes = vec![0; STAGING_BYTES + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        Self { bytes, start }
    }

    /// Its [`STAGING_BYTES`] bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + STAGING_BYTES]
    }
}

/// Buffers for reuse: fresh ones would be page faults for every pack.
#[derive(Debug, Default)]
pub struct AlignedPool(Mutex<Vec<Staging>>);

impl AlignedPool {
    /// A buffer; what it holds is whatever its last user left.
    #[must_use]
    pub fn take(&self) -> Staging {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(Staging::new)
    }

    /// Keeps a buffer for the next.
    pub fn give_back(&self, staging: Staging) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(staging);
        }
    }
}
