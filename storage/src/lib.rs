//! Bytes at rest: the chunked, deduplicated, encrypted [`Repository`], the backends it lies on, and the catalog of what is in it.
//!
//! A backup and a restore in ten lines:
//!
//! ```
//! use std::sync::Arc;
//! use backstay_core::{Context, DiskId, Workload, WorkloadId, DiskSource};
//! use backstay_storage::{MemoryBackend, Repository, repository::{Credential, DiskOptions, InitOptions, PointDetails, SessionOptions}};
//! # use backstay_testkit::MemoryDisk;
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! # let source: Arc<dyn DiskSource> = Arc::new(MemoryDisk::new(vec![7; 100_000]));
//! let ctx = Context::default();
//! let backend = Arc::new(MemoryBackend::default());
//! Repository::init(backend.clone(), InitOptions::passphrase("correct horse"), &ctx).await?;
//! let repository = Repository::open(backend, Credential::passphrase("correct horse"), &ctx).await?;
//!
//! let workload = Workload { id: WorkloadId::new("web-01")?, kind: "vm".into(), platform: Default::default() };
//! let mut session = repository.begin(workload, SessionOptions::default(), &ctx).await?;
//! session.write_disk(&DiskId::new("vda")?, source, &DiskOptions::default()).await?;
//! let point = session.commit(PointDetails::default()).await?;
//!
//! let disk = repository.disk(&point.id.to_string().parse()?, &DiskId::new("vda")?, &ctx).await?;
//! assert_eq!(disk.read(0..100_000, Vec::new()).await?, vec![7; 100_000]);
//! # Ok::<_, backstay_core::Error>(()) }).unwrap();
//! ```

pub mod backend;
pub mod catalog;
pub mod repository;

pub use backend::*;
pub use catalog::MemoryCatalog;
pub use repository::Repository;
