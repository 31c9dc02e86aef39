//! Buffers that direct I/O accepts.

use std::sync::{Mutex, PoisonError};

/// What addresses, offsets and lengths of direct I/O are multiples of. The sector size is smaller on every disk we met.
pub(super) const ALIGNMENT: usize = 4096;

/// Bytes that are copied and written in one go.
pub(super) const STAGING_BYTES: usize = 1 << 20;

/// How many idle buffers are kept.
const KEPT: usize = 4;

/// A buffer of [`STAGING_BYTES`] that begins at a multiple of [`ALIGNMENT`]: an aligned part of a larger vector.
pub(super) struct Staging {
    bytes: Vec<u8>,
    start: usize,
}

impl Staging {
    fn new() -> Self {
        let bytes = vec![0; STAGING_BYTES + ALIGNMENT];
        let start = bytes.as_ptr().align_offset(ALIGNMENT);
        Self { bytes, start }
    }

    pub(super) fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + STAGING_BYTES]
    }
}

/// Buffers for reuse: fresh ones would be page faults for every pack.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<Staging>>);

impl Pool {
    pub(super) fn take(&self) -> Staging {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(Staging::new)
    }

    pub(super) fn give_back(&self, staging: Staging) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT {
            kept.push(staging);
        }
    }
}
