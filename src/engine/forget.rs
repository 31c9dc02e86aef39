//! Forgetting restore points by rules: a plan that says why, then the deed.

use std::collections::{BTreeMap, BTreeSet};

use backstay_core::{Context, Error, RestorePoint, RestorePointId, Result, Retention, WorkloadId};
use backstay_scheduler::{Candidate, Decision, Zone, plan_retention};
use backstay_storage::repository::{ForgetReport, Inventory};

use super::Engine;

/// Which rules, and what they apply to.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ForgetRequest {
    /// The rules; none keep everything.
    pub retention: Retention,
    /// Whose hours, days, weeks, months and years.
    pub zone: Zone,
    /// Only points of these workloads; all when empty.
    pub workloads: Vec<WorkloadId>,
    /// Only points that carry all of these labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is fine when no point of a workload stays.
    pub allow_none: bool,
}

impl ForgetRequest {
    /// These rules for all points.
    #[must_use]
    pub fn new(retention: Retention) -> Self {
        Self { retention, ..Self::default() }
    }

    /// Sets [`Self::zone`].
    #[must_use]
    pub fn zone(mut self, zone: Zone) -> Self {
        self.zone = zone;
        self
    }

    /// Sets [`Self::workloads`].
    #[must_use]
    pub fn workloads(mut self, workloads: Vec<WorkloadId>) -> Self {
        self.workloads = workloads;
        self
    }

    /// Sets [`Self::labels`].
    #[must_use]
    pub fn labels(mut self, labels: BTreeMap<String, String>) -> Self {
        self.labels = labels;
        self
    }

    /// Sets [`Self::allow_none`].
    #[must_use]
    pub const fn allow_none(mut self, allow_none: bool) -> Self {
        self.allow_none = allow_none;
        self
    }

    fn selects(&self, point: &RestorePoint) -> bool {
        let workload = self.workloads.is_empty() || self.workloads.contains(&point.workload.id);
        workload && self.labels.iter().all(|(key, value)| point.labels.get(key) == Some(value))
    }
}

/// What rules would do.
#[derive(Debug)]
#[non_exhaustive]
pub struct ForgetPlan {
    /// What becomes of each selected point and why, by workload, newest first.
    pub decisions: Vec<Decision>,
    /// Points that cannot be read. No rule counts or removes them, and that they are left out makes no other point go.
    pub damaged: Vec<(RestorePointId, Error)>,
}

impl ForgetPlan {
    /// The points to forget: what [`Engine::forget`] takes.
    #[must_use]
    pub fn to_forget(&self) -> Vec<RestorePointId> {
        self.decisions.iter().filter(|point| !point.keep()).map(|point| point.id).collect()
    }
}

impl Engine {
    /// Decides which points rules keep; changes nothing.
    ///
    /// Points on hold are kept. `InvalidInput` when no point of a workload would stay and that was not allowed.
    pub async fn plan_forget(&self, request: &ForgetRequest) -> Result<ForgetPlan> {
        let inventory = self.repository.inventory().await?;
        let candidate = |point: &RestorePoint| {
            let mut candidate = Candidate::from(point);
            candidate.hold = inventory.holds.get(&point.id).map(|hold| hold.reason.clone());
            candidate
        };
        let selected = inventory.points.iter().filter(|point| request.selects(point));
        let candidates: Vec<_> = selected.map(candidate).collect();
        let decisions = plan_retention(&candidates, &request.retention, &request.zone)?;
        if !request.allow_none {
            something_must_stay(&inventory, &decisions)?;
        }
        Ok(ForgetPlan { decisions, damaged: inventory.damaged })
    }

    /// Forgets points, in the repository and then in the catalog.
    ///
    /// A catalog can be rebuilt: that it did not take it is a warning. See [`backstay_storage::Repository::forget`] for the errors.
    pub async fn forget(&self, points: &[RestorePointId], ctx: &Context) -> Result<ForgetReport> {
        let task = ctx.task("forget restore points", None);
        let report = self.repository.forget(points, &ctx.clone().within(&task)).await?;
        if let Some(catalog) = &self.catalog {
            for point in report.forgotten.iter().chain(&report.already) {
                if let Err(error) = catalog.forget(point).await {
                    task.warn(format!(
                        "The restore point {point} is forgotten, but the catalog did not take it: {error}"
                    ));
                }
            }
        }
        Ok(report)
    }
}

fn something_must_stay(inventory: &Inventory, decisions: &[Decision]) -> Result<()> {
    let going: BTreeSet<_> = decisions.iter().filter(|point| !point.keep()).map(|point| point.id).collect();
    let staying = inventory.points.iter().filter(|point| !going.contains(&point.id));
    let staying: BTreeSet<_> = staying.map(|point| &point.workload.id).collect();
    match decisions.iter().find(|point| !staying.contains(&point.workload)) {
        None => Ok(()),
        Some(point) => Err(Error::invalid_input(
            "These rules would forget every restore point of a workload: give more generous ones, or allow it with `allow-none` if that is meant",
        )
        .with_context("workload", &point.workload)),
    }
}
