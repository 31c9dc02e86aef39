//! Where workloads live: what there is, a frozen view of it, and the way back.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::{Context, DiskId, DiskSink, DiskSource, Result, Workload, WorkloadId};

/// A disk as the platform describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskInfo {
    /// Its id within the workload.
    pub id: DiskId,
    /// Its size in bytes.
    pub size: u64,
    /// What the adapter wants to say of it: bus, format, path.
    #[serde(default)]
    pub platform: BTreeMap<String, String>,
}

/// A workload as the platform describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadSpec {
    /// What it is.
    pub workload: Workload,
    /// Its disks, in the platform's order.
    pub disks: Vec<DiskInfo>,
}

/// How consistent a capture is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// As after a power cut.
    #[default]
    Crash,
    /// File systems were frozen.
    Filesystem,
    /// Applications took part.
    Application,
}

/// Whether file systems are frozen for the capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quiesce {
    /// If it works; the report says whether it did.
    #[default]
    Try,
    /// Or there is no backup.
    Require,
    /// Not at all.
    Never,
}

/// What an adapter can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HypervisorCapabilities {
    /// Its disks can say what changed.
    pub changed_blocks: bool,
    /// It can freeze file systems.
    pub quiesce: bool,
    /// It can capture what runs.
    pub live: bool,
    /// It can restore.
    pub restore: bool,
    /// It can run a guest straight from a repository.
    pub instant_restore: bool,
}

/// What a capture should be like.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CaptureOptions {
    /// Whether to freeze.
    pub quiesce: Quiesce,
    /// Disks to leave out.
    pub exclude: Vec<DiskId>,
}

impl CaptureOptions {
    /// Sets [`Self::quiesce`].
    #[must_use]
    pub fn quiesce(mut self, quiesce: Quiesce) -> Self {
        self.quiesce = quiesce;
        self
    }

    /// Sets [`Self::exclude`].
    #[must_use]
    pub fn exclude(mut self, disks: Vec<DiskId>) -> Self {
        self.exclude = disks;
        self
    }
}

/// What became of a capture or of a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureOutcome {
    /// All of it is safe: keep what the next incremental starts from.
    Stored,
    /// It came to nothing: undo everything.
    Abandoned,
}

/// A byte stream that is part of a workload: a database dump, an archive.
pub struct StreamSource {
    /// Its name within the workload.
    pub name: String,
    /// Its bytes, in pieces of any size.
    pub bytes: BoxStream<'static, Result<Bytes>>,
}

/// Something small that belongs to a workload: its definition, its NVRAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its name within the workload: `domain.xml`.
    pub name: String,
    /// What it is, as a media type.
    pub media_type: String,
    /// Its bytes, at most 16 MiB.
    pub bytes: Bytes,
}

/// A platform that has workloads.
#[async_trait]
pub trait Hypervisor: fmt::Debug + Send + Sync + 'static {
    /// Its name, for people: `qemu:///system`.
    fn name(&self) -> &str;

    /// What it can do.
    fn capabilities(&self) -> HypervisorCapabilities;

    /// Every workload there is now, in a stable order.
    async fn workloads(&self, ctx: &Context) -> Result<Vec<WorkloadSpec>>;

    /// One workload. [`crate::ErrorKind::NotFound`] when there is none of that name.
    async fn workload(&self, id: &WorkloadId, ctx: &Context) -> Result<WorkloadSpec>;

    /// Freezes one moment of all the workload's disks.
    async fn capture(&self, id: &WorkloadId, options: &CaptureOptions, ctx: &Context) -> Result<Box<dyn Capture>>;

    /// Makes room for a workload that comes back. [`crate::ErrorKind::Unsupported`] where [`HypervisorCapabilities::restore`]
    /// is false.
    async fn restore(&self, options: &RestoreOptions, ctx: &Context) -> Result<Box<dyn RestoreTarget>>;
}

/// A frozen, consistent view of one workload. Dropping it abandons it as well as a drop can; `finish` tells for sure.
#[async_trait]
pub trait Capture: Send + Sync + 'static {
    /// What is captured; the disks are those that [`Self::disk`] gives.
    fn spec(&self) -> &WorkloadSpec;

    /// How consistent it is.
    fn consistency(&self) -> Consistency;

    /// One frozen disk. Its change token names this moment.
    async fn disk(&self, id: &DiskId) -> Result<Arc<dyn DiskSource>>;

    /// The streams, each of which can be read once.
    async fn streams(&mut self) -> Result<Vec<StreamSource>> {
        Ok(Vec::new())
    }

    /// The attachments.
    async fn attachments(&self) -> Result<Vec<Attachment>> {
        Ok(Vec::new())
    }

    /// Lets go. After `Stored` the change tokens are good for the next capture; after `Abandoned` those of the last one
    /// still are.
    async fn finish(self: Box<Self>, outcome: CaptureOutcome) -> Result<()>;
}

/// How a workload comes back.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// What was stored.
    pub spec: WorkloadSpec,
    /// The attachments that were stored with it.
    pub attachments: Vec<Attachment>,
    /// The name to come back under; its own when `None`.
    pub name: Option<WorkloadId>,
    /// Whether what is there may be replaced.
    pub overwrite: bool,
}

impl RestoreOptions {
    /// Under its own name, replacing nothing.
    #[must_use]
    pub const fn new(spec: WorkloadSpec) -> Self {
        Self { spec, attachments: Vec::new(), name: None, overwrite: false }
    }

    /// Sets [`Self::name`].
    #[must_use]
    pub fn name(mut self, name: WorkloadId) -> Self {
        self.name = Some(name);
        self
    }

    /// Sets [`Self::overwrite`].
    #[must_use]
    pub const fn overwrite(mut self, overwrite: bool) -> Self {
        self.overwrite = overwrite;
        self
    }
}

/// A workload that is being restored. Dropping it leaves nothing that looks finished.
#[async_trait]
pub trait RestoreTarget: Send + Sync + 'static {
    /// The sink of one disk; each is asked for once and committed before `finish`.
    async fn disk(&self, id: &DiskId) -> Result<Box<dyn DiskSink>>;

    /// Makes the workload appear, or undoes everything.
    async fn finish(self: Box<Self>, outcome: CaptureOutcome) -> Result<WorkloadId>;
}
