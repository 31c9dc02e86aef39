//! Disks back into files, block devices and standard output.

use std::{ops::Range, path::Path};

use backstay::{
    CaptureOutcome, Context, DiskInfo, DiskRecord, DiskSink, Engine, Error, Hypervisor, ImageFormat, ImageGate,
    ImagesHypervisor, Qcow2Sink, RawSink, Repository, RestoreOptions, RestorePoint, RestoreReport, RestoreRequest,
    Result, ResultExt, Tracking, WorkloadSpec, compare, core::disk::check_range, open_image, repository::PointSelector,
};

use super::{
    restore::{LostBytes, Restore, Restored},
    stdio::StdoutSink,
};
use crate::{app::App, window::Window};

/// One disk, or a range of it.
pub async fn one(
    args: &Restore,
    repository: &Repository,
    point: &RestorePoint,
    disk: &DiskRecord,
    app: &App,
) -> Result<Restored> {
    let range = args.range.clone().unwrap_or(0..disk.size);
    check_range(&range, disk.size).context("disk", &disk.id)?;
    let zeros = args.lost == LostBytes::Zero;
    let request = RestoreRequest::new(selector(point), disk.id.clone()).range(range.clone()).lost_as_zeros(zeros);
    let format = format(args);
    let sink = sink(args, format, range.end - range.start, &app.ctx).await?;
    let done = Engine::new(repository.clone()).restore_disk(&request, sink, &app.ctx).await?;
    if args.verify {
        verify(args, repository, point, disk, &range, (&args.to, format), &app.ctx).await?;
    }
    let (name, path) = (disk.id.to_string(), args.to.display().to_string());
    Ok(Restored { name, path, bytes: done.bytes, zeroed: zeroed(&done) })
}

/// All disks into a directory: all of them appear at the end, or none.
pub async fn several(
    args: &Restore,
    repository: &Repository,
    point: &RestorePoint,
    disks: Vec<DiskRecord>,
    app: &App,
) -> Result<Vec<Restored>> {
    let format = args.format.unwrap_or(ImageFormat::Raw);
    let info = |disk: &DiskRecord| DiskInfo { id: disk.id.clone(), size: disk.size, platform: Default::default() };
    let spec = WorkloadSpec { workload: point.workload.clone(), disks: disks.iter().map(info).collect() };
    let folder = NewFolder::make(&args.to)?;
    let target = ImagesHypervisor::new(Vec::new()).restoring_to(&args.to, format);
    let target = target.restore(&RestoreOptions::new(spec).overwrite(args.overwrite), &app.ctx).await?;
    let mut restored = Vec::new();
    for disk in &disks {
        let zeros = args.lost == LostBytes::Zero;
        let request = RestoreRequest::new(selector(point), disk.id.clone()).lost_as_zeros(zeros);
        let sink = target.disk(&disk.id).await?;
        let engine = Engine::new(repository.clone());
        let done = engine.restore_disk(&request, sink, &app.ctx).await.context("disk", &disk.id)?;
        let path = args.to.join(format!("{}.{format}", disk.id));
        restored.push((path, disk, zeroed(&done)));
    }
    target.finish(CaptureOutcome::Stored).await?;
    folder.keep();
    if args.verify {
        for (path, disk, _) in &restored {
            verify(args, repository, point, disk, &(0..disk.size), (path, format), &app.ctx).await?;
        }
    }
    let describe = |(path, disk, zeroed): (std::path::PathBuf, &DiskRecord, _)| Restored {
        name: disk.id.to_string(),
        path: path.display().to_string(),
        bytes: disk.size,
        zeroed,
    };
    Ok(restored.into_iter().map(describe).collect())
}

fn zeroed(done: &RestoreReport) -> Vec<(u64, u64)> {
    done.lost.iter().map(|range| (range.start, range.end - range.start)).collect()
}

/// The point that was looked up, whatever `latest` means by now.
pub fn selector(point: &RestorePoint) -> PointSelector {
    PointSelector::Id(point.id.to_string())
}

fn format(args: &Restore) -> ImageFormat {
    let by_name =
        if args.to.extension().is_some_and(|ending| ending == "qcow2") { ImageFormat::Qcow2 } else { ImageFormat::Raw };
    args.format.unwrap_or(by_name)
}

async fn sink(args: &Restore, format: ImageFormat, size: u64, ctx: &Context) -> Result<Box<dyn DiskSink>> {
    if args.is_stdout() {
        return Ok(Box::new(StdoutSink::new(size, ctx)?));
    }
    Ok(match format {
        ImageFormat::Qcow2 => Box::new(Qcow2Sink::create(&args.to, size, args.overwrite, ctx).await?),
        _ => Box::new(RawSink::create(&args.to, size, args.overwrite, ctx).await?),
    })
}

/// Reads the target back. A block device may be larger than the disk, and an image is whole sectors.
async fn verify(
    args: &Restore,
    repository: &Repository,
    point: &RestorePoint,
    disk: &DiskRecord,
    range: &Range<u64>,
    (path, format): (&Path, ImageFormat),
    ctx: &Context,
) -> Result<()> {
    let stored = repository.disk(&selector(point), &disk.id, ctx).await?;
    let stored = if args.lost == LostBytes::Zero { stored.lost_as_zeros() } else { stored };
    let stored = Window::new(stored, range.clone())?;
    let written = open_image(path, format, &ImageGate::none(), &Tracking::default(), ctx).await?;
    let written = Window::new(written, 0..range.end - range.start)?;
    match compare(&stored, &written, ctx).await?.first_difference {
        None => Ok(()),
        Some(at) => Err(Error::integrity(
            "What was written is not what was read back: the target's disk is not to be trusted; restore to another one",
        )
        .with_context("path", path.display())
        .with_context("offset", at)),
    }
}

/// A directory that goes away again unless it is kept.
struct NewFolder<'a>(Option<&'a Path>);

impl<'a> NewFolder<'a> {
    fn make(path: &'a Path) -> Result<Self> {
        match std::fs::create_dir(path) {
            Ok(()) => Ok(Self(Some(path))),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => Ok(Self(None)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Error::invalid_input("The point has several disks: name a directory, or one disk with --disk")
                    .with_context("path", path.display()))
            }
            Err(error) => Err(Error::io(error, "Make the target's directory").with_context("path", path.display())),
        }
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for NewFolder<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            // Not when something lies in it.
            let _in_use = std::fs::remove_dir(path);
        }
    }
}
