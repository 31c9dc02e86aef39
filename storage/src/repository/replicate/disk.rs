//! A stored disk that knows what differs from a point that was copied before.

use std::ops::Range;

use async_trait::async_trait;
use backstay_core::{ChangeBase, ChangedBlocks, DiskSource, Extent, RangeSet, RestorePointId, Result};

use crate::repository::read::StoredDisk;

/// A stored disk as the source of a copy. It has no change token: that of the original names a moment in a history which goes on
/// beside the other repository, and whoever backs up into this one must compare once instead of guessing.
pub struct CopySource {
    pub disk: StoredDisk,
    pub changes: Option<Changes>,
}

/// What differs from a disk of the target's parent.
pub struct Changes {
    /// The parent in the target.
    pub parent: RestorePointId,
    /// The disk's size there, in bytes.
    pub size: u64,
    /// What differs.
    pub ranges: RangeSet,
}

#[async_trait]
impl DiskSource for CopySource {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    async fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>> {
        self.disk.extents(range).await
    }

    async fn read(&self, range: Range<u64>, buffer: Vec<u8>) -> Result<Vec<u8>> {
        self.disk.read(range, buffer).await
    }

    async fn changed_since(&self, base: &ChangeBase) -> Result<ChangedBlocks> {
        Ok(match &self.changes {
            Some(changes) if changes.parent == base.point && changes.size == base.size => {
                ChangedBlocks::Exact(changes.ranges.clone())
            }
            _ => ChangedBlocks::unknown("the source cannot compare its maps of the two points"),
        })
    }
}
