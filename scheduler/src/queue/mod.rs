//! Implementations of [`backstay_core::JobQueue`].

mod memory;

pub use memory::MemoryQueue;
