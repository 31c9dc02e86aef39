//! Restore points of another repository into this one. (A [`super::copy`] is of one disk into any sink.)

use std::time::{Duration, Instant};

use backstay_core::{Context, Error, ErrorKind, RestorePoint, RestorePointId, Result, Task, WorkloadId};
use backstay_storage::{
    Repository,
    repository::{CopyOptions, PointSelector, PointState, Replication},
};

use super::Engine;

/// Which points to replicate, and how.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ReplicateRequest {
    /// These points; all when empty.
    pub points: Vec<PointSelector>,
    /// Only those of this workload.
    pub workload: Option<WorkloadId>,
    /// Leave out what comes before the newest point of its workload that was copied: a copy that was forgotten in the target does not
    /// come back.
    pub newer_only: bool,
    /// How each is copied.
    pub options: CopyOptions,
    /// Only say what would be done.
    pub dry_run: bool,
}

impl ReplicateRequest {
    /// Sets [`Self::points`].
    #[must_use]
    pub fn points(mut self, points: Vec<PointSelector>) -> Self {
        self.points = points;
        self
    }

    /// Sets [`Self::workload`].
    #[must_use]
    pub fn workload(mut self, workload: WorkloadId) -> Self {
        self.workload = Some(workload);
        self
    }

    /// Sets [`Self::newer_only`].
    #[must_use]
    pub const fn newer_only(mut self, newer_only: bool) -> Self {
        self.newer_only = newer_only;
        self
    }

    /// Sets [`Self::options`].
    #[must_use]
    pub const fn options(mut self, options: CopyOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets [`Self::dry_run`].
    #[must_use]
    pub const fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }
}

/// What became of one point.
#[derive(Debug)]
#[non_exhaustive]
pub struct ReplicatedPoint {
    /// The point of the source.
    pub source: RestorePoint,
    /// Whether the target had it before.
    pub state: PointState,
    /// It was not copied because a newer one was before: see [`ReplicateRequest::newer_only`].
    pub left_out: bool,
    /// The point that only the difference to was read: a point of the source that has been copied.
    pub base: Option<RestorePointId>,
    /// The new point of the target; none in a dry run and where nothing was to be done.
    pub copy: Option<RestorePoint>,
    /// Why it could not be copied.
    pub error: Option<Error>,
}

/// What became of a replication.
#[derive(Debug)]
#[non_exhaustive]
pub struct ReplicateReport {
    /// The points that were asked for, oldest first.
    pub points: Vec<ReplicatedPoint>,
    /// Points of the source that nobody can read.
    pub damaged: Vec<Error>,
    /// How long it took.
    pub elapsed: Duration,
    /// What went wrong beside the points.
    pub warnings: Vec<String>,
}

impl ReplicateReport {
    /// Everything that kept a point from being copied.
    pub fn errors(&self) -> impl Iterator<Item = &Error> {
        self.damaged.iter().chain(self.points.iter().filter_map(|point| point.error.as_ref()))
    }
}

impl Engine {
    /// Copies restore points of `source` into this engine's repository, oldest first, each as a session of its own: whatever ends it,
    /// what was finished is there, and the next call goes on after it. Which points are there is told by their provenance.
    ///
    /// A damaged point is reported and does not keep others from being copied. `Err` when nothing more can be done: a store that
    /// is away, a key that may not, a cancelled context.
    pub async fn replicate(
        &self,
        source: &Repository,
        request: &ReplicateRequest,
        ctx: &Context,
    ) -> Result<ReplicateReport> {
        let started = Instant::now();
        let task = ctx.task("replicate", None);
        let ctx = &ctx.clone().within(&task);
        let mut plan = ctx.or_cancelled(self.repository.plan_replication(source, &request.points)).await?;
        let mut report =
            ReplicateReport { points: Vec::new(), damaged: Vec::new(), elapsed: Duration::ZERO, warnings: Vec::new() };
        plan.doubts().iter().for_each(|doubt| report.warn(&task, doubt.clone()));
        report.damaged.extend(plan.damaged().iter().map(same_error));
        for number in 0..plan.points().len() {
            let planned = &plan.points()[number];
            if request.workload.as_ref().is_some_and(|wanted| *wanted != planned.point.workload.id) {
                continue;
            }
            let mut point = ReplicatedPoint {
                source: planned.point.clone(),
                state: planned.state,
                left_out: request.newer_only && is_older(&plan, &planned.point),
                base: None,
                copy: None,
                error: None,
            };
            if point.state == PointState::Missing && !point.left_out {
                self.bring(&mut plan, number, request, &mut point, ctx).await?;
            }
            if let Some(copy) = &point.copy {
                self.tell_catalog(copy, &mut report, &task).await;
            }
            report.points.push(point);
        }
        report.elapsed = started.elapsed();
        Ok(report)
    }

    async fn bring(
        &self,
        plan: &mut Replication,
        number: usize,
        request: &ReplicateRequest,
        point: &mut ReplicatedPoint,
        ctx: &Context,
    ) -> Result<()> {
        if request.dry_run {
            point.base = plan.base_of(number);
            plan.suppose(number);
            return Ok(());
        }
        match plan.copy(number, &request.options, ctx).await {
            Ok(copied) => {
                point.base = copied.base;
                point.copy = Some(copied.point);
                Ok(())
            }
            // Of this point alone; anything else would befall every other, too.
            Err(error) if is_of_one_point(&error) => {
                point.error = Some(error);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn tell_catalog(&self, point: &RestorePoint, report: &mut ReplicateReport, task: &Task) {
        let Some(catalog) = &self.catalog else { return };
        if let Err(error) = catalog.record(point).await {
            report.warn(task, format!("The copy is safe, but the catalog did not take it: {error}"));
        }
    }
}

impl ReplicateReport {
    fn warn(&mut self, task: &Task, message: String) {
        task.warn(&message);
        self.warnings.push(message);
    }
}

fn is_older(plan: &Replication, point: &RestorePoint) -> bool {
    plan.newest_copied(&point.workload.id).is_some_and(|newest| point.sequence < newest)
}

/// A point that is damaged, that only a newer build knows, or that was forgotten while it was copied.
fn is_of_one_point(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Unsupported | ErrorKind::NotFound)
}

/// Errors cannot be cloned; what they say can.
fn same_error(error: &Error) -> Error {
    let same = Error::new(error.kind(), error.message().to_owned());
    error.context().iter().fold(same, |same, (key, value)| same.with_context(key, value))
}
