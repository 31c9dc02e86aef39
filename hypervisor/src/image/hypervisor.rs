//! Disk images as a [`Hypervisor`]: workloads that are files, for guests that do not run.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use backstay_core::{
    Capture, CaptureOptions, CaptureOutcome, Consistency, Context, DiskId, DiskInfo, DiskSource, Error, ErrorKind,
    Hypervisor, HypervisorCapabilities, Quiesce, RestoreOptions, RestoreTarget, Result, ResultExt, Workload,
    WorkloadId, WorkloadSpec,
};

use super::{
    format::ImageFormat,
    gate::ImageGate,
    restore::ImagesRestore,
    source::{ImageSource, open_image},
    tracking::Tracking,
};

/// One disk of an [`ImageWorkload`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImageDisk {
    /// Its id within the workload.
    pub id: DiskId,
    /// Where the image is.
    pub path: PathBuf,
    /// Its format.
    pub format: ImageFormat,
    /// Which backing and data files may be followed.
    pub gate: ImageGate,
    /// How it tells what changed.
    pub tracking: Tracking,
}

impl ImageDisk {
    /// An image that stands alone and is not tracked.
    pub fn new(id: DiskId, path: impl Into<PathBuf>, format: ImageFormat) -> Self {
        Self { id, path: path.into(), format, gate: ImageGate::none(), tracking: Tracking::default() }
    }

    /// Sets [`Self::gate`].
    #[must_use]
    pub fn gate(mut self, gate: ImageGate) -> Self {
        self.gate = gate;
        self
    }

    /// Sets [`Self::tracking`].
    #[must_use]
    pub fn tracking(mut self, tracking: Tracking) -> Self {
        self.tracking = tracking;
        self
    }
}

/// A workload made of disk images.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImageWorkload {
    /// Its name.
    pub id: WorkloadId,
    /// What sort it is: `vm`, `image`.
    pub kind: String,
    /// Its disks, in their order.
    pub disks: Vec<ImageDisk>,
}

impl ImageWorkload {
    /// A workload of these disks.
    pub fn new(id: WorkloadId, kind: impl Into<String>, disks: Vec<ImageDisk>) -> Self {
        Self { id, kind: kind.into(), disks }
    }
}

/// Workloads that are disk images, named by the caller. Nothing is frozen: the guests must not run, and a capture whose files
/// change while they are read fails with [`ErrorKind::Conflict`] at the next read or when its change token is asked for.
#[derive(Debug, Default)]
pub struct ImagesHypervisor {
    workloads: Vec<ImageWorkload>,
    restore: Option<(PathBuf, ImageFormat)>,
}

impl ImagesHypervisor {
    /// These workloads; nothing can be restored.
    #[must_use]
    pub const fn new(workloads: Vec<ImageWorkload>) -> Self {
        Self { workloads, restore: None }
    }

    /// Restores into files `DISK_ID.raw` or `DISK_ID.qcow2` in `directory`, which has to be there.
    #[must_use]
    pub fn restoring_to(mut self, directory: impl Into<PathBuf>, format: ImageFormat) -> Self {
        self.restore = Some((directory.into(), format));
        self
    }

    async fn open(&self, id: &WorkloadId, exclude: &[DiskId], ctx: &Context) -> Result<ImagesCapture> {
        let found = self.workloads.iter().find(|workload| &workload.id == id);
        let found = found.ok_or_else(|| Error::not_found(format!("There is no workload {:?}", id.as_str())))?;
        let mut capture = ImagesCapture {
            spec: WorkloadSpec {
                workload: Workload { id: id.clone(), kind: found.kind.clone(), platform: BTreeMap::new() },
                disks: Vec::new(),
            },
            sources: Vec::new(),
        };
        for disk in found.disks.iter().filter(|disk| !exclude.contains(&disk.id)) {
            let source =
                open_image(&disk.path, disk.format, &disk.gate, &disk.tracking, ctx).await.context("disk", &disk.id)?;
            let platform = BTreeMap::from([
                ("format".to_owned(), disk.format.name().to_owned()),
                ("path".to_owned(), disk.path.display().to_string()),
            ]);
            capture.spec.disks.push(DiskInfo { id: disk.id.clone(), size: source.size(), platform });
            capture.sources.push(Arc::new(source));
        }
        Ok(capture)
    }
}

#[async_trait]
impl Hypervisor for ImagesHypervisor {
    fn name(&self) -> &str {
        "disk images"
    }

    fn capabilities(&self) -> HypervisorCapabilities {
        let mut capabilities = HypervisorCapabilities::default();
        capabilities.changed_blocks = true;
        capabilities.restore = self.restore.is_some();
        capabilities
    }

    async fn workloads(&self, ctx: &Context) -> Result<Vec<WorkloadSpec>> {
        let mut specs = Vec::new();
        for workload in &self.workloads {
            specs.push(self.open(&workload.id, &[], ctx).await?.spec);
        }
        Ok(specs)
    }

    async fn workload(&self, id: &WorkloadId, ctx: &Context) -> Result<WorkloadSpec> {
        Ok(self.open(id, &[], ctx).await?.spec)
    }

    async fn capture(&self, id: &WorkloadId, options: &CaptureOptions, ctx: &Context) -> Result<Box<dyn Capture>> {
        if options.quiesce == Quiesce::Require {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "File systems in disk images cannot be frozen; stop the guest, or back it up through its hypervisor",
            ));
        }
        Ok(Box::new(self.open(id, &options.exclude, ctx).await?))
    }

    async fn restore(&self, options: &RestoreOptions, ctx: &Context) -> Result<Box<dyn RestoreTarget>> {
        let (directory, format) = self
            .restore
            .clone()
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, "No directory to restore disk images to was given"))?;
        Ok(Box::new(ImagesRestore::new(directory, format, options.clone(), ctx)?))
    }
}

/// Open images. They are not frozen, but they tell when they change.
#[derive(Debug)]
struct ImagesCapture {
    spec: WorkloadSpec,
    sources: Vec<Arc<ImageSource>>,
}

#[async_trait]
impl Capture for ImagesCapture {
    fn spec(&self) -> &WorkloadSpec {
        &self.spec
    }

    fn consistency(&self) -> Consistency {
        Consistency::Crash
    }

    async fn disk(&self, id: &DiskId) -> Result<Arc<dyn DiskSource>> {
        let at = self.spec.disks.iter().position(|disk| &disk.id == id);
        let at = at.ok_or_else(|| Error::not_found(format!("The capture has no disk {:?}", id.as_str())))?;
        Ok(Arc::clone(&self.sources[at]) as Arc<dyn DiskSource>)
    }

    async fn finish(self: Box<Self>, _outcome: CaptureOutcome) -> Result<()> {
        // A change after the last read does no harm, and one before it has failed that read.
        Ok(())
    }
}
