//! Large buffers that are used again instead of being given back to the allocator and faulted in anew.
//!
//! A backup goes through hundreds of 16 MiB buffers a second on several threads. Allocated one by one they cost a page fault
//! for every 4 KiB, and the free ones stay scattered over the allocator's per-thread arenas: the same work took twice the
//! memory and a sixth more processor time.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;

/// Idle bytes that a pool keeps.
const KEPT_BYTES: usize = 64 << 20;
/// Smaller buffers are not worth a lock.
const MIN_BYTES: usize = 256 << 10;

/// Buffers come in powers of two and a sixteenth, so that one of 16 MiB has room for what sealing adds; any other size would
/// fit nobody else.
const fn class_of(capacity: usize) -> usize {
    let mut class = MIN_BYTES;
    while class + class / 16 < capacity {
        class *= 2;
    }
    class + class / 16
}

/// A pool of buffers. Cheap to clone; clones share it.
#[derive(Clone, Debug, Default)]
pub struct BufferPool(Arc<Mutex<Vec<Vec<u8>>>>);

impl BufferPool {
    /// A buffer with room for `capacity` bytes. Its length and content are whatever its last user left: the caller sets both.
    #[must_use]
    pub fn take(&self, capacity: usize) -> PooledBuffer {
        let class = class_of(capacity);
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = match idle.iter().rposition(|buffer| buffer.capacity() == class) {
            Some(at) => idle.remove(at),
            None => Vec::with_capacity(class),
        };
        drop(idle);
        PooledBuffer { bytes, pool: self.clone() }
    }

    /// Gives what is idle back to the allocator.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn give_back(&self, bytes: Vec<u8>) {
        if bytes.capacity() < MIN_BYTES || bytes.capacity() != class_of(bytes.capacity()) {
            return;
        }
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(bytes);
        let mut kept: usize = idle.iter().map(Vec::capacity).sum();
        // What was given back longest ago fits least.
        while kept > KEPT_BYTES {
            kept -= idle.remove(0).capacity();
        }
    }
}

/// A buffer of a [`BufferPool`], back in the pool when it is dropped.
#[derive(Debug)]
pub struct PooledBuffer {
    bytes: Vec<u8>,
    pool: BufferPool,
}

impl PooledBuffer {
    /// The bytes, shared without a copy; the buffer is back in the pool when the last of them is dropped.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }

    /// Takes the buffer out, for an interface that wants a `Vec`; [`Self::put_back`] brings it back.
    #[must_use]
    pub fn take_out(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Brings a buffer back that was taken out.
    pub fn put_back(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
    }
}

impl Deref for PooledBuffer {
    type Target = Vec<u8>;
    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for PooledBuffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_slice_is_gone() {
        let pool = BufferPool::default();
        let mut buffer = pool.take(1 << 20);
        buffer.resize(1 << 20, 7);
        let address = buffer.as_ptr();
        let bytes = buffer.into_bytes();
        let slice = bytes.slice(5..10);
        drop(bytes);
        assert_ne!(pool.take(1 << 20).as_ptr(), address);
        assert_eq!(*slice, [7; 5]);
        drop(slice);
        let again: Vec<_> = (0..2).map(|_| pool.take(1 << 20)).collect();
        assert!(again.iter().any(|buffer| buffer.as_ptr() == address));
    }

    #[test]
    fn a_pool_keeps_a_bounded_number_of_bytes() {
        let pool = BufferPool::default();
        let many: Vec<_> = (0..20).map(|_| pool.take(16 << 20)).collect();
        drop(many);
        let kept: usize = pool.0.lock().unwrap().iter().map(Vec::capacity).sum();
        assert!(kept <= KEPT_BYTES, "{kept}");
    }
}
