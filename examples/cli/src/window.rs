//! A part of a disk as a disk of its own.

use std::ops::Range;

use async_trait::async_trait;
use backstay::{DiskSource, Extent, Result, core::disk::check_range};

/// The bytes `range` of a disk.
pub struct Window<S> {
    inner: S,
    range: Range<u64>,
}

impl<S: DiskSource> Window<S> {
    /// A range that the disk has.
    pub fn new(inner: S, range: Range<u64>) -> Result<Self> {
        check_range(&range, inner.size())?;
        Ok(Self { inner, range })
    }

    fn inside(&self, range: &Range<u64>) -> Result<Range<u64>> {
        check_range(range, self.size())?;
        Ok(range.start + self.range.start..range.end + self.range.start)
    }
}

#[async_trait]
impl<S: DiskSource> DiskSource for Window<S> {
    fn size(&self) -> u64 {
        self.range.end - self.range.start
    }

    async fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>> {
        let mut extents = self.inner.extents(self.inside(&range)?).await?;
        for extent in &mut extents {
            extent.range = extent.range.start - self.range.start..extent.range.end - self.range.start;
        }
        Ok(extents)
    }

    async fn read(&self, range: Range<u64>, buffer: Vec<u8>) -> Result<Vec<u8>> {
        self.inner.read(self.inside(&range)?, buffer).await
    }
}
