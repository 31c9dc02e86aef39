//! Finding restore points without asking every repository. Always rebuildable from the repositories.

use std::{fmt, ops::Range};

use async_trait::async_trait;

use crate::{RestorePoint, RestorePointId, Result, Timestamp, WorkloadId};

/// Which points to find. The empty query finds all.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PointQuery {
    /// Of this workload.
    pub workload: Option<WorkloadId>,
    /// Taken in this span.
    pub taken: Option<Range<Timestamp>>,
    /// No more than this many.
    pub limit: Option<usize>,
}

impl PointQuery {
    /// Sets [`Self::workload`].
    #[must_use]
    pub fn workload(mut self, workload: WorkloadId) -> Self {
        self.workload = Some(workload);
        self
    }

    /// Sets [`Self::taken`].
    #[must_use]
    pub const fn taken(mut self, taken: Range<Timestamp>) -> Self {
        self.taken = Some(taken);
        self
    }

    /// Sets [`Self::limit`].
    #[must_use]
    pub const fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// An index of restore points.
#[async_trait]
pub trait Catalog: fmt::Debug + Send + Sync + 'static {
    /// Adds a point; the same point again changes nothing, another one under the same id is a
    /// [`crate::ErrorKind::Conflict`].
    async fn record(&self, point: &RestorePoint) -> Result<()>;

    /// Removes a point; fine when it is not there.
    async fn forget(&self, point: &RestorePointId) -> Result<()>;

    /// One point.
    async fn get(&self, point: &RestorePointId) -> Result<RestorePoint>;

    /// The points that match, newest first; those of one moment by rising id.
    async fn find(&self, query: &PointQuery) -> Result<Vec<RestorePoint>>;
}
