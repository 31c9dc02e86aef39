//! Is what came back what was there?

use std::{path::Path, sync::Arc};

use backstay::{Context, DiskSource, Error, ExtentKind, ImageFormat, ImageGate, Result, Tracking, compare, open_image};

const WINDOW: u64 = 1 << 20;

/// Compares a restored raw image with its source byte by byte, and then the hashes of both, which share no code with that.
/// Gives the hash.
pub async fn same(source: &Arc<dyn DiskSource>, restored: &Path, ctx: &Context) -> Result<String> {
    let restored = open_image(restored, ImageFormat::Raw, &ImageGate::none(), &Tracking::default(), ctx).await?;
    let compared = compare(&**source, &restored, ctx).await?;
    if let Some(at) = compared.first_difference {
        return Err(
            Error::integrity("The restored disk differs from the one that was backed up").with_context("offset", at)
        );
    }
    let (before, after) = tokio::try_join!(hash(&**source, ctx), hash(&restored, ctx))?;
    if before != after || source.size() != restored.size() {
        return Err(Error::integrity("The restored disk has another hash than the one that was backed up")
            .with_context("before", before)
            .with_context("after", after));
    }
    Ok(before.to_hex()[..16].to_owned())
}

/// BLAKE3 over every MiB that is not zero, each with its place: the same however the zeroes are stored, and a hole of a TiB
/// costs nothing.
async fn hash(disk: &dyn DiskSource, ctx: &Context) -> Result<blake3::Hash> {
    let task = ctx.task("hash", Some(disk.size()));
    let (mut hasher, mut buffer) = (blake3::Hasher::new(), Vec::new());
    let mut at = 0;
    while at < disk.size() {
        ctx.check()?;
        let Some(data) = next_data(disk, at).await? else { break };
        let start = data.max(at) / WINDOW * WINDOW;
        let end = (start + WINDOW).min(disk.size());
        buffer = disk.read(start..end, buffer).await?;
        let job = move || {
            if buffer.iter().any(|byte| *byte != 0) {
                hasher.update(&start.to_le_bytes());
                hasher.update(&buffer);
            }
            Ok((hasher, buffer))
        };
        (hasher, buffer) = ctx.cpu(job).await?;
        task.advance(end - at);
        at = end;
    }
    hasher.update(&disk.size().to_le_bytes());
    Ok(hasher.finalize())
}

/// The first byte from `at` on that is not known to be zero.
async fn next_data(disk: &dyn DiskSource, mut at: u64) -> Result<Option<u64>> {
    while at < disk.size() {
        for extent in disk.extents(at..disk.size()).await? {
            if extent.kind == ExtentKind::Data {
                return Ok(Some(extent.range.start));
            }
            at = extent.range.end;
        }
    }
    Ok(None)
}

/// Bytes of a disk that are no holes.
pub async fn data_bytes(disk: &dyn DiskSource, ctx: &Context) -> Result<u64> {
    let (mut at, mut data) = (0, 0);
    while at < disk.size() {
        ctx.check()?;
        for extent in disk.extents(at..disk.size()).await? {
            at = extent.range.end;
            if extent.kind == ExtentKind::Data {
                data += extent.range.end - extent.range.start;
            }
        }
    }
    Ok(data)
}
