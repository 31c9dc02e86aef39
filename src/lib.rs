//! Backstay: an embeddable backup engine for virtual machines.
//!
//! A guest's disk goes into an encrypted, deduplicated repository and comes back, on one screen:
//!
//! ```
//! use backstay::{
//!     BackupRequest, Context, DiskId, Engine, ImageDisk, ImageFormat, ImageWorkload, ImagesHypervisor, LocalBackend, RawSink,
//!     Repository, RestoreRequest, WorkloadId,
//!     repository::{Credential, InitOptions, PointSelector},
//! };
//! use std::sync::Arc;
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let dir = dir.path();
//! # std::fs::write(dir.join("web.raw"), vec![42; 1_000_000]).unwrap();
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! let ctx = Context::default();
//! let backend = Arc::new(LocalBackend::new(dir.join("repository"))?);
//! Repository::init(backend.clone(), InitOptions::passphrase("correct horse"), &ctx).await?;
//! let repository = Repository::open(backend, Credential::passphrase("correct horse"), &ctx).await?;
//!
//! let disk = ImageDisk::new(DiskId::new("vda")?, dir.join("web.raw"), ImageFormat::Raw);
//! let web = WorkloadId::new("web-01")?;
//! let images = ImagesHypervisor::new(vec![ImageWorkload::new(web.clone(), "vm", vec![disk])]);
//! let engine = Engine::new(repository).hypervisor(Arc::new(images));
//! let report = engine.backup(&BackupRequest::new(web), &ctx).await?;
//!
//! let point = PointSelector::Id(report.point.id.to_string());
//! let sink = RawSink::create(dir.join("restored.raw"), 1_000_000, false, &ctx).await?;
//! engine.restore_disk(&RestoreRequest::new(point, DiskId::new("vda")?), Box::new(sink), &ctx).await?;
//! # assert_eq!(std::fs::read(dir.join("web.raw")).unwrap(), std::fs::read(dir.join("restored.raw")).unwrap());
//! # Ok::<_, backstay::Error>(()) }).unwrap();
//! ```
//!
//! Where to go from here: [`Engine`] has a verb for everything that a user asks for, [`Repository`] is of use without it, and the
//! traits in [`core`] are what adapters for other platforms, stores and databases implement.

mod engine;
mod open;

pub use backstay_core as core;
pub use backstay_core::*;
pub use backstay_hypervisor as hypervisor;
pub use backstay_hypervisor::*;
pub use backstay_scheduler as scheduler;
pub use backstay_storage as storage;
pub use backstay_storage::{backend::*, catalog, repository, repository::Repository};

pub use engine::{
    BackupReport, BackupRequest, CompareReport, Engine, ForgetPlan, ForgetRequest, ReplicateReport, ReplicateRequest,
    ReplicatedPoint, RestoreReport, RestoreRequest, StreamRequest, compare, copy,
};
pub use open::{BackendOptions, open_backend};
