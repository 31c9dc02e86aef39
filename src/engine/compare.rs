//! Are two disks the same, byte for byte?

use std::ops::Range;

use backstay_core::{Context, DiskSource, Extent, ExtentKind, Result};

/// Bytes that are compared at once.
const WINDOW_BYTES: u64 = 4 << 20;

/// What a comparison found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompareReport {
    /// Bytes that were compared; holes in both disks count.
    pub bytes: u64,
    /// Where the first difference lies; none when the disks are the same. A longer disk differs unless its rest is zero.
    pub first_difference: Option<u64>,
}

/// Compares two disks. What both call a hole is not read.
pub async fn compare(left: &dyn DiskSource, right: &dyn DiskSource, ctx: &Context) -> Result<CompareReport> {
    let size = left.size().max(right.size());
    let task = ctx.task("compare", Some(size));
    let mut walks = (Walk::new(left), Walk::new(right));
    let mut buffers = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < size {
        ctx.check()?;
        let (a, b) = (walks.0.at(at).await?, walks.1.at(at).await?);
        let mut end = a.range.end.min(b.range.end).min(size);
        if a.kind != ExtentKind::Zero || b.kind != ExtentKind::Zero {
            end = end.min(at + WINDOW_BYTES);
            buffers.0 = fill(left, &a, at..end, buffers.0).await?;
            buffers.1 = fill(right, &b, at..end, buffers.1).await?;
            if buffers.0 != buffers.1 {
                let same = buffers.0.iter().zip(&buffers.1).take_while(|(a, b)| a == b).count();
                return Ok(CompareReport { bytes: at, first_difference: Some(at + same as u64) });
            }
        }
        task.advance(end - at);
        at = end;
    }
    Ok(CompareReport { bytes: size, first_difference: None })
}

/// The bytes of `range`, which lies inside one extent; zeroes without a read where it is a hole.
async fn fill(source: &dyn DiskSource, extent: &Extent, range: Range<u64>, mut buffer: Vec<u8>) -> Result<Vec<u8>> {
    if extent.kind == ExtentKind::Data {
        return source.read(range, buffer).await;
    }
    buffer.clear();
    buffer.resize((range.end - range.start) as usize, 0);
    Ok(buffer)
}

/// Goes through the extents of a disk; what lies past its end is a hole without one.
struct Walk<'a> {
    source: &'a dyn DiskSource,
    ahead: std::collections::VecDeque<Extent>,
}

impl<'a> Walk<'a> {
    fn new(source: &'a dyn DiskSource) -> Self {
        Self { source, ahead: Default::default() }
    }

    async fn at(&mut self, at: u64) -> Result<Extent> {
        while self.ahead.front().is_some_and(|extent| extent.range.end <= at) {
            self.ahead.pop_front();
        }
        if self.ahead.is_empty() && at < self.source.size() {
            self.ahead.extend(self.source.extents(at..self.source.size()).await?);
        }
        Ok(self.ahead.front().cloned().unwrap_or_else(|| Extent::zero(at..u64::MAX)))
    }
}
