//! Capture → repository → commit → let go.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use backstay_core::{
    Capture, CaptureOptions, CaptureOutcome, Context, DiskId, Error, Quiesce, RestorePoint, Result, StreamSource,
    Workload, WorkloadId,
};
use backstay_storage::repository::{Compression, DiskOptions, DiskReport, PointDetails, SessionOptions, WriteSession};

use super::Engine;

/// What to back up, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BackupRequest {
    /// The workload.
    pub workload: WorkloadId,
    /// Look at no earlier point: read everything.
    pub full: bool,
    /// Whether to freeze file systems.
    pub quiesce: Quiesce,
    /// Disks to leave out.
    pub exclude: Vec<DiskId>,
    /// What to write on the point.
    pub labels: BTreeMap<String, String>,
    /// How hard to compress.
    pub compression: Compression,
    /// How disks are written.
    pub disk: DiskOptions,
    /// Take up what was interrupted: see [`SessionOptions::resume`].
    pub resume: bool,
}

impl BackupRequest {
    /// An incremental backup when there is something to count changes from.
    #[must_use]
    pub fn new(workload: WorkloadId) -> Self {
        Self {
            workload,
            full: false,
            quiesce: Quiesce::default(),
            exclude: Vec::new(),
            labels: BTreeMap::new(),
            compression: Compression::default(),
            disk: DiskOptions::default(),
            resume: false,
        }
    }

    /// Sets [`Self::full`].
    #[must_use]
    pub const fn full(mut self, full: bool) -> Self {
        self.full = full;
        self
    }

    /// Sets [`Self::quiesce`].
    #[must_use]
    pub const fn quiesce(mut self, quiesce: Quiesce) -> Self {
        self.quiesce = quiesce;
        self
    }

    /// Sets [`Self::exclude`].
    #[must_use]
    pub fn exclude(mut self, disks: Vec<DiskId>) -> Self {
        self.exclude = disks;
        self
    }

    /// Sets [`Self::labels`].
    #[must_use]
    pub fn labels(mut self, labels: BTreeMap<String, String>) -> Self {
        self.labels = labels;
        self
    }

    /// Sets [`Self::compression`].
    #[must_use]
    pub const fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets [`Self::disk`].
    #[must_use]
    pub const fn disk(mut self, disk: DiskOptions) -> Self {
        self.disk = disk;
        self
    }

    /// Sets [`Self::resume`].
    #[must_use]
    pub const fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }
}

/// Streams to back up as a workload of their own: a dump on standard input, an archive.
#[non_exhaustive]
pub struct StreamRequest {
    /// What they are of.
    pub workload: Workload,
    /// The streams.
    pub streams: Vec<StreamSource>,
    /// What to write on the point.
    pub labels: BTreeMap<String, String>,
    /// How hard to compress.
    pub compression: Compression,
    /// Take up what was interrupted: see [`SessionOptions::resume`].
    pub resume: bool,
}

impl StreamRequest {
    /// These streams of this workload.
    #[must_use]
    pub fn new(workload: Workload, streams: Vec<StreamSource>) -> Self {
        Self { workload, streams, labels: BTreeMap::new(), compression: Compression::default(), resume: false }
    }

    /// Sets [`Self::labels`].
    #[must_use]
    pub fn labels(mut self, labels: BTreeMap<String, String>) -> Self {
        self.labels = labels;
        self
    }

    /// Sets [`Self::compression`].
    #[must_use]
    pub const fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets [`Self::resume`].
    #[must_use]
    pub const fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }
}

/// What became of a backup.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BackupReport {
    /// The new restore point.
    pub point: RestorePoint,
    /// What became of each disk.
    pub disks: Vec<DiskReport>,
    /// How long it took.
    pub elapsed: Duration,
    /// What went wrong after the point was safe; the point exists all the same.
    pub warnings: Vec<String>,
}

impl Engine {
    /// Backs a workload up. When this returns the restore point is durable.
    pub async fn backup(&self, request: &BackupRequest, ctx: &Context) -> Result<BackupReport> {
        let started = Instant::now();
        let hypervisor = self.hypervisor.as_ref().ok_or_else(|| {
            Error::invalid_input(
                "The engine has no hypervisor to take workloads from; give it one with `Engine::hypervisor`",
            )
        })?;
        let task = ctx.task(&format!("back up {}", request.workload), None);
        let ctx = &ctx.clone().within(&task);
        let options = CaptureOptions::default().quiesce(request.quiesce).exclude(request.exclude.clone());
        let mut capture = hypervisor.capture(&request.workload, &options, ctx).await?;
        let stored = self.store(&mut *capture, request, ctx).await;
        let outcome = if stored.is_ok() { CaptureOutcome::Stored } else { CaptureOutcome::Abandoned };
        let released = capture.finish(outcome).await;
        let (point, disks) = stored?;
        let mut report = BackupReport { point, disks, elapsed: started.elapsed(), warnings: Vec::new() };
        if let Err(error) = released {
            report.warn(&task, format!("The backup is safe, but its capture could not be let go: {error}"));
        }
        self.record(&mut report, &task).await;
        report.elapsed = started.elapsed();
        Ok(report)
    }

    /// Backs streams up as one restore point.
    pub async fn backup_streams(&self, request: StreamRequest, ctx: &Context) -> Result<BackupReport> {
        let started = Instant::now();
        let task = ctx.task(&format!("back up {}", request.workload.id), None);
        let ctx = &ctx.clone().within(&task);
        let options =
            SessionOptions::default().labels(request.labels).compression(request.compression).resume(request.resume);
        let mut session = self.repository.begin(request.workload, options, ctx).await?;
        for stream in request.streams {
            if let Err(error) = session.write_stream(&stream.name, stream.bytes).await {
                return Err(session.give_up(error).await);
            }
        }
        let point = session.commit(PointDetails::default()).await?;
        let mut report = BackupReport { point, disks: Vec::new(), elapsed: started.elapsed(), warnings: Vec::new() };
        self.record(&mut report, &task).await;
        Ok(report)
    }

    async fn store(
        &self,
        capture: &mut dyn Capture,
        request: &BackupRequest,
        ctx: &Context,
    ) -> Result<(RestorePoint, Vec<DiskReport>)> {
        let options = SessionOptions::default()
            .labels(request.labels.clone())
            .compression(request.compression)
            .full(request.full)
            .resume(request.resume);
        let workload = capture.spec().workload.clone();
        let mut session = self.repository.begin(workload, options, ctx).await?;
        match fill(&mut session, capture, request).await {
            Ok(disks) => {
                let details = PointDetails::default().consistency(capture.consistency());
                Ok((session.commit(details).await?, disks))
            }
            Err(error) => Err(session.give_up(error).await),
        }
    }

    /// A catalog can be rebuilt, so its failure does not fail a backup that is safe.
    async fn record(&self, report: &mut BackupReport, task: &backstay_core::Task) {
        let Some(catalog) = &self.catalog else { return };
        if let Err(error) = catalog.record(&report.point).await {
            report.warn(task, format!("The backup is safe, but the catalog did not take it: {error}"));
        }
    }
}

impl BackupReport {
    fn warn(&mut self, task: &backstay_core::Task, message: String) {
        task.warn(&message);
        self.warnings.push(message);
    }
}

async fn fill(
    session: &mut WriteSession,
    capture: &mut dyn Capture,
    request: &BackupRequest,
) -> Result<Vec<DiskReport>> {
    let mut reports = Vec::new();
    for disk in capture.spec().disks.clone() {
        let source = capture.disk(&disk.id).await?;
        reports.push(session.write_disk(&disk.id, source, &request.disk).await?);
    }
    for stream in capture.streams().await? {
        session.write_stream(&stream.name, stream.bytes).await?;
    }
    for attachment in capture.attachments().await? {
        session.attach(&attachment.name, &attachment.media_type, attachment.bytes).await?;
    }
    Ok(reports)
}
