//! Reading restore points: a stored disk is a [`backstay_core::DiskSource`] like any other.

mod disk;
mod fetch;
mod restore;
mod session;
mod stream;

pub use disk::StoredDisk;
pub use session::ReadSession;
pub use stream::StoredStream;

pub(super) use fetch::{ChunkReader, Wanted, another_may_do};

/// The largest chunk that is unpacked: that of a `fixed` chunker which cuts at every segment.
pub(super) const MAX_CHUNK_BYTES: u32 = 16 << 20;
