//! Places that keep objects, and layers around them.
//!
//! | | what it is |
//! |---|---|
//! | [`LocalBackend`] | a folder on this machine or on a network file system |
//! | [`MemoryBackend`] | a map, for tests and demos |
//! | `S3Backend` (feature `s3`) | a bucket of S3 |
//! | `AzureBackend` (feature `azure`) | a container of Azure Blob Storage |
//! | `GcsBackend` (feature `gcs`) | a bucket of Google Cloud Storage |
//! | `SftpBackend` (feature `sftp`) | a folder of an SSH server |
//! | [`RetryBackend`] | a layer that is patient with a store that is away |
//! | [`ThrottleBackend`] | a layer that limits bytes a second and requests at once |
//! | [`ReadCacheBackend`] | a layer that keeps on this machine what was read and cannot change |
//! | [`MetricsBackend`] | a layer that counts calls, bytes, errors and time |
//! | [`MirrorBackend`] | a layer that keeps a second store as a copy |
//! | [`FaultBackend`] | a layer that counts calls and fails on command |
//!
//! What a server claims is not what it does: [`probe()`] finds out.

#[cfg(feature = "azure")]
mod azure;
#[cfg(any(feature = "s3", feature = "azure", feature = "gcs"))]
mod bucket;
mod fault;
#[cfg(feature = "gcs")]
mod gcs;
mod jobs;
mod layers;
mod local;
mod memory;
mod mirror;
mod probe;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "sftp")]
pub mod sftp;

#[cfg(feature = "azure")]
pub use azure::{AzureBackend, AzureKey, AzureOptions};
pub use fault::{Call, Counts, Fault, FaultBackend, Operation, Rule};
#[cfg(feature = "gcs")]
pub use gcs::{GcsBackend, GcsKey, GcsOptions};
pub(crate) use layers::Wanted;
pub use layers::{
    CacheOptions, CacheStats, Histogram, MetricsBackend, OperationMetrics, ReadCacheBackend, RetryBackend,
    RetryOptions, StoreMetrics, ThrottleBackend, ThrottleOptions,
};
pub use local::LocalBackend;
pub use memory::MemoryBackend;
pub(crate) use mirror::Class;
pub use mirror::{CatchUpPlan, CatchUpReport, MirrorBackend, MirrorPolicy, MirrorStatus};
pub use probe::probe;
#[cfg(feature = "s3")]
pub use s3::{S3Backend, S3Options};
#[cfg(feature = "sftp")]
pub use sftp::{SftpBackend, SftpOptions, SftpPlace};

#[cfg(test)]
mod tests;
