//! Raw disks as sinks: sparse files and block devices.

use std::{
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use backstay_core::{Context, DiskSink, Error, RangeSet, Result, disk::check_range};
use bytes::Bytes;
use rustix::fs::{FallocateFlags, SeekFrom};

use super::{direct::DirectWriter, partial::Target, source::ContextBox};

/// Zeroes that are written where holes cannot be punched, in pieces of this size.
const ZEROES: usize = 1 << 20;

/// A raw disk in a sparse file or on a block device.
///
/// A file gets its name at `commit`; until then its bytes are in a sibling whose name ends in `.bs-partial`. A block device is
/// written in place, and what was not written is zeroed at `commit`.
#[derive(Debug)]
pub struct RawSink {
    target: Target,
    size: u64,
    ctx: ContextBox,
    /// A write failed, so that there is nothing to commit.
    failed: Arc<AtomicBool>,
    /// What a block device was given so far. Not used for files, which are all zero at first.
    covered: Mutex<RangeSet>,
    /// The way past the page cache.
    direct: Arc<DirectWriter>,
}

impl RawSink {
    /// Prepares a disk of `size` bytes at `path`. What is there, block devices included, is replaced only if `overwrite`.
    pub async fn create(path: impl Into<PathBuf>, size: u64, overwrite: bool, ctx: &Context) -> Result<Self> {
        let (path, inner) = (path.into(), ctx.clone());
        let target = ctx.blocking(move || prepare(path, size, overwrite, &inner)).await?;
        let failed = Arc::new(AtomicBool::new(false));
        let direct = Arc::new(DirectWriter::new(target.file()));
        Ok(Self { target, size, ctx: ContextBox(ctx.clone()), failed, covered: Mutex::default(), direct })
    }

    fn cover(&self, range: Range<u64>) {
        if let Target::Device(_) = self.target {
            self.covered.lock().unwrap_or_else(PoisonError::into_inner).insert(range);
        }
    }

    async fn blocking(&self, job: impl FnOnce(&File) -> Result<()> + Send + 'static) -> Result<()> {
        let (file, failed) = (Arc::clone(self.target.file()), Arc::clone(&self.failed));
        self.ctx
            .0
            .blocking(move || {
                let outcome = job(&file);
                failed.fetch_or(outcome.is_err(), Ordering::Relaxed);
                outcome
            })
            .await
    }

    /// Writes what is missing, makes it durable, and gives the target back without its name.
    pub(crate) async fn seal(self) -> Result<Target> {
        let Self { target, size, ctx, failed, covered, .. } = self;
        if failed.load(Ordering::Relaxed) {
            return Err(Error::conflict("A write to the restored disk failed, so it is not kept; restore it again"));
        }
        let covered = covered.into_inner().unwrap_or_else(PoisonError::into_inner);
        ctx.0
            .blocking(move || {
                if let Target::Device(device) = &target {
                    for gap in gaps(&covered, size) {
                        zero(device, gap)?;
                    }
                }
                target.sync()?;
                Ok(target)
            })
            .await
    }
}

fn prepare(path: PathBuf, size: u64, overwrite: bool, ctx: &Context) -> Result<Target> {
    let target = Target::create(&path, overwrite, ctx)?;
    let failed = |error: std::io::Error| Error::io(error, "Prepare the target").with_context("path", path.display());
    match &target {
        Target::File(_) => target.file().set_len(size).map_err(failed)?,
        Target::Device(device) => {
            let room = rustix::fs::seek(device, SeekFrom::End(0)).map_err(|error| failed(error.into()))?;
            if room < size {
                return Err(Error::invalid_input("The block device is smaller than the disk")
                    .with_context("path", path.display())
                    .with_context("device_bytes", room)
                    .with_context("disk_bytes", size));
            }
        }
    }
    Ok(target)
}

/// What of a disk of `size` bytes is not in the set.
fn gaps(covered: &RangeSet, size: u64) -> Vec<Range<u64>> {
    let mut gaps = Vec::new();
    let mut at = 0;
    for range in covered.ranges() {
        gaps.push(at..range.start);
        at = range.end;
    }
    gaps.push(at..size);
    gaps
}

/// Makes a range read as zero, as a hole if that is possible.
fn zero(file: &File, range: Range<u64>) -> Result<()> {
    if range.start >= range.end {
        return Ok(());
    }
    let len = range.end - range.start;
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let zeroed = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
    if rustix::fs::fallocate(file, hole, range.start, len).is_ok()
        || rustix::fs::fallocate(file, zeroed, range.start, len).is_ok()
    {
        return Ok(());
    }
    let zeroes = vec![0; ZEROES.min(usize::try_from(len).unwrap_or(ZEROES))];
    let mut at = range.start;
    while at < range.end {
        // Writing zeroes into holes would fill them.
        match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) if data >= range.end => break,
            Ok(data) => at = data.max(at),
            Err(rustix::io::Errno::NXIO) => break,
            Err(_) => {}
        }
        let count = zeroes.len().min(usize::try_from(range.end - at).unwrap_or(usize::MAX));
        file.write_all_at(&zeroes[..count], at).map_err(|error| Error::io(error, "Write zeroes"))?;
        at += count as u64;
    }
    Ok(())
}

#[async_trait]
impl DiskSink for RawSink {
    fn size(&self) -> u64 {
        self.size
    }

    async fn write(&self, offset: u64, data: Bytes) -> Result<()> {
        let range = offset..offset.saturating_add(data.len() as u64);
        check_range(&range, self.size)?;
        self.cover(range);
        let direct = Arc::clone(&self.direct);
        self.blocking(move |file| {
            direct
                .write(file, &data, offset)
                .map_err(|error| Error::io(error, "Write the restored disk").with_context("offset", offset))
        })
        .await
    }

    async fn zero(&self, range: Range<u64>) -> Result<()> {
        check_range(&range, self.size)?;
        self.cover(range.clone());
        self.blocking(move |file| zero(file, range)).await
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        let ctx = self.ctx.0.clone();
        let target = self.seal().await?;
        ctx.blocking(move || target.publish()).await
    }
}
