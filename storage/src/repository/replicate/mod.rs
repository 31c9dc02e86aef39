//! Restore points of one repository into another: other keys, other chunk ids, another store, or a clone of the same.
//!
//! `plan.rs` says which points are there already, `point.rs` copies one, `disk.rs` is a stored disk that knows what differs from a
//! point that was copied before.

mod disk;
mod plan;
mod point;

use std::{collections::BTreeMap, sync::Arc};

use backstay_core::{Error, RestorePointId, Result, WorkloadId};

use super::{Repository, index::Index, points::StoredPoint, state::State, view::View};

pub use plan::{PlannedPoint, PointState};
pub use point::{CopiedPoint, CopyOptions};

/// Restore points of a source on their way into a target. Made by [`Repository::plan_replication`].
pub struct Replication {
    target: Repository,
    source: Source,
    points: Vec<PlannedPoint>,
    /// What of the source's points cannot even be listed.
    damaged: Vec<Error>,
    /// What in the target claims to be a copy and is not like what it claims to be of.
    doubts: Vec<String>,
    /// The points of the source that have a copy in the target which changes may be counted from.
    bases: BTreeMap<RestorePointId, Base>,
}

/// The source, as it was when the plan was made or when it was looked at last.
struct Source {
    repository: Repository,
    index: Arc<Index>,
    /// The head of the chain that it belongs to.
    head: u64,
}

impl Source {
    async fn read(repository: &Repository, state: &State) -> Result<Self> {
        let index = Arc::new(repository.index(state, |_| true).await?);
        Ok(Self { repository: repository.clone(), index, head: state.chain.head })
    }

    /// To read a point: what collectors move meanwhile is found where it lies then.
    fn view(&self, point: RestorePointId) -> Arc<View> {
        View::of_index(&self.repository, self.head, Arc::clone(&self.index), point)
    }
}

/// A point of the source with the point of the target that holds the same.
struct Base {
    stored: StoredPoint,
    copy: RestorePointId,
}

/// The id of a copy that nobody makes, in a dry run.
const SUPPOSED: RestorePointId = RestorePointId::from_bytes([0; 16]);

impl Replication {
    /// The points that were asked for, oldest first.
    #[must_use]
    pub fn points(&self) -> &[PlannedPoint] {
        &self.points
    }

    /// Points of the source that nobody can read, so that nobody knows whether they were asked for.
    #[must_use]
    pub fn damaged(&self) -> &[Error] {
        &self.damaged
    }

    /// The sequence number that the newest point of this workload that has a copy has in the source.
    #[must_use]
    pub fn newest_copied(&self, workload: &WorkloadId) -> Option<u64> {
        let records = self.bases.values().map(|base| &base.stored.record);
        records.filter(|record| record.workload == workload.as_str()).map(|record| record.sequence).max()
    }

    /// Points of the target that are not believed to be the copies that they say they are, in words.
    #[must_use]
    pub fn doubts(&self) -> &[String] {
        &self.doubts
    }
}
