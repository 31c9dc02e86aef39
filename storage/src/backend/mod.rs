//! Places that keep objects, and layers around them.
//!
//! | | what it is |
//! |---|---|
//! | [`LocalBackend`] | a folder on this machine or on a network file system |
//! | [`MemoryBackend`] | a map, for tests and demos |
//! | `S3Backend` (feature `s3`) | a bucket |
//! | [`MirrorBackend`] | a layer that keeps a second store as a copy |
//! | [`FaultBackend`] | a layer that counts calls and fails on command |
//!
//! What a server claims is not what it does: [`probe()`] finds out.

mod fault;
mod jobs;
mod local;
mod memory;
mod mirror;
mod probe;
#[cfg(feature = "s3")]
mod s3;

pub use fault::{Call, Counts, Fault, FaultBackend, Operation, Rule};
pub use local::LocalBackend;
pub use memory::MemoryBackend;
pub(crate) use mirror::Class;
pub use mirror::{CatchUpPlan, CatchUpReport, MirrorBackend, MirrorPolicy, MirrorStatus};
pub use probe::probe;
#[cfg(feature = "s3")]
pub use s3::{S3Backend, S3Options};

#[cfg(test)]
mod tests;
