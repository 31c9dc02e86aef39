//! A workload that comes back as disk images: all of them appear at the end, or none.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use backstay_core::{
    CaptureOutcome, Context, DiskId, DiskSink, Error, RestoreOptions, RestoreTarget, Result, ResultExt, WorkloadId,
    WriteOrder,
};
use bytes::Bytes;

use super::{format::ImageFormat, partial::Target, qcow2::Qcow2Sink, raw::RawSink, source::ContextBox};

/// Files that are whole but have no name yet.
type Sealed = Arc<Mutex<Vec<Target>>>;

#[derive(Debug)]
pub(crate) struct ImagesRestore {
    directory: PathBuf,
    format: ImageFormat,
    options: RestoreOptions,
    ctx: ContextBox,
    sealed: Sealed,
}

impl ImagesRestore {
    pub(crate) fn new(directory: PathBuf, format: ImageFormat, options: RestoreOptions, ctx: &Context) -> Result<Self> {
        for disk in &options.spec.disks {
            // The id becomes a file name and comes from a repository.
            if disk.id.as_str().contains('/') || disk.id.as_str().starts_with('.') {
                return Err(Error::invalid_input(
                    "The id of a disk cannot be the name of a file; restore it on its own",
                )
                .with_context("disk", &disk.id));
            }
        }
        Ok(Self { directory, format, options, ctx: ContextBox(ctx.clone()), sealed: Sealed::default() })
    }
}

#[async_trait]
impl RestoreTarget for ImagesRestore {
    async fn disk(&self, id: &DiskId) -> Result<Box<dyn DiskSink>> {
        let disk = self.options.spec.disks.iter().find(|disk| &disk.id == id);
        let disk = disk.ok_or_else(|| Error::not_found(format!("The workload has no disk {:?}", id.as_str())))?;
        let path = self.directory.join(format!("{id}.{}", self.format));
        let (overwrite, ctx) = (self.options.overwrite, &self.ctx.0);
        let sink = match self.format {
            ImageFormat::Raw => Sink::Raw(RawSink::create(path, disk.size, overwrite, ctx).await?),
            ImageFormat::Qcow2 => Sink::Qcow2(Qcow2Sink::create(path, disk.size, overwrite, ctx).await?),
        };
        Ok(Box::new(DeferredSink { sink, sealed: Arc::clone(&self.sealed) }))
    }

    async fn finish(self: Box<Self>, outcome: CaptureOutcome) -> Result<WorkloadId> {
        let id = self.options.name.clone().unwrap_or_else(|| self.options.spec.workload.id.clone());
        let sealed = std::mem::take(&mut *self.sealed.lock().unwrap_or_else(PoisonError::into_inner));
        if outcome == CaptureOutcome::Abandoned {
            // Dropping a target removes its file.
            self.ctx
                .0
                .blocking(move || {
                    drop(sealed);
                    Ok(())
                })
                .await?;
            return Ok(id);
        }
        if sealed.len() != self.options.spec.disks.len() {
            return Err(Error::conflict("Not every disk of the workload was restored, so that none is kept")
                .with_context("restored", sealed.len())
                .with_context("disks", self.options.spec.disks.len()));
        }
        self.ctx.0.blocking(move || sealed.into_iter().try_for_each(Target::publish)).await.context("workload", &id)?;
        Ok(id)
    }
}

#[derive(Debug)]
enum Sink {
    Raw(RawSink),
    Qcow2(Qcow2Sink),
}

/// A sink whose `commit` leaves giving the name to the restore that it is part of.
#[derive(Debug)]
struct DeferredSink {
    sink: Sink,
    sealed: Sealed,
}

impl DeferredSink {
    fn inner(&self) -> &dyn DiskSink {
        match &self.sink {
            Sink::Raw(sink) => sink,
            Sink::Qcow2(sink) => sink,
        }
    }
}

#[async_trait]
impl DiskSink for DeferredSink {
    fn size(&self) -> u64 {
        self.inner().size()
    }

    fn order(&self) -> WriteOrder {
        self.inner().order()
    }

    async fn write(&self, offset: u64, data: Bytes) -> Result<()> {
        self.inner().write(offset, data).await
    }

    async fn zero(&self, range: std::ops::Range<u64>) -> Result<()> {
        self.inner().zero(range).await
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        let target = match self.sink {
            Sink::Raw(sink) => sink.seal().await?,
            Sink::Qcow2(sink) => sink.seal().await?,
        };
        self.sealed.lock().unwrap_or_else(PoisonError::into_inner).push(target);
        Ok(())
    }
}
