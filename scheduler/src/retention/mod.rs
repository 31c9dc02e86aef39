//! Which restore points to keep, and why.
//!
//! The rules are [`Retention`]'s. Hours, days, weeks, months and years are those of a clock on the wall in a [`Zone`]: a day
//! of 23 or 25 hours is one day, and the hour that comes twice in autumn is two.

mod period;
mod reason;
#[cfg(test)]
mod tests;
mod zone;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use backstay_core::{Error, RestorePoint, RestorePointId, Result, Retention, Timestamp, WorkloadId};

use self::period::{PERIODS, Period};
pub use self::{reason::Reason, zone::Zone};

/// A restore point as retention sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: RestorePointId,
    /// Of what: rules count for each workload by itself.
    pub workload: WorkloadId,
    /// The moment whose bytes it holds.
    pub time: Timestamp,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Why somebody said that it must stay, when somebody did; may be empty.
    pub hold: Option<String>,
}

impl From<&RestorePoint> for Candidate {
    /// On hold if its own label says so; of holds that were set or lifted later the repository knows.
    fn from(point: &RestorePoint) -> Self {
        Self {
            id: point.id,
            workload: point.workload.id.clone(),
            time: point.time,
            labels: point.labels.clone(),
            hold: point.hold_label().map(str::to_owned),
        }
    }
}

/// What becomes of one restore point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Which.
    pub id: RestorePointId,
    /// Of what.
    pub workload: WorkloadId,
    /// When.
    pub time: Timestamp,
    /// What keeps it; nothing for a point to remove.
    pub kept_by: Vec<Reason>,
}

impl Decision {
    /// Whether the point stays.
    #[must_use]
    pub const fn keep(&self) -> bool {
        !self.kept_by.is_empty()
    }
}

/// Decides about every point, ordered by workload and then newest first (points of one moment by rising id). The order
/// they come in and the time it is do not matter.
///
/// A point that is left out, because it cannot be read, never makes another one go: whatever is kept with it is kept without it.
///
/// [`backstay_core::ErrorKind::InvalidInput`] when a label of the rules is not `key=value`.
pub fn plan_retention(points: &[Candidate], rules: &Retention, zone: &Zone) -> Result<Vec<Decision>> {
    check(rules)?;
    let mut sorted: Vec<_> = points.iter().collect();
    sorted.sort_by(|a, b| (&a.workload, Reverse(a.time), a.id).cmp(&(&b.workload, Reverse(b.time), b.id)));
    let of_one_workload = sorted.chunk_by(|a, b| a.workload == b.workload);
    Ok(of_one_workload.flat_map(|points| Plan::new(rules, zone, points).decide()).collect())
}

fn check(rules: &Retention) -> Result<()> {
    match rules.labels.iter().find(|label| !label.contains('=')) {
        None => Ok(()),
        Some(label) => Err(Error::invalid_input("A label to keep is written key=value").with_context("label", label)),
    }
}

/// The points of one workload, newest first.
struct Plan<'a> {
    rules: &'a Retention,
    zone: &'a Zone,
    points: &'a [&'a Candidate],
    kept_by: Vec<Vec<Reason>>,
}

impl<'a> Plan<'a> {
    fn new(rules: &'a Retention, zone: &'a Zone, points: &'a [&'a Candidate]) -> Self {
        Self { rules, zone, points, kept_by: vec![Vec::new(); points.len()] }
    }

    fn decide(mut self) -> Vec<Decision> {
        self.keep_each(|_, point| point.hold.clone().map(|reason| Reason::Hold { reason }));
        if *self.rules == Retention::default() {
            self.keep_each(|_, _| Some(Reason::NoRules));
        }
        self.keep_last();
        for period in PERIODS {
            self.keep_newest_of_each(period);
        }
        self.keep_within();
        self.keep_labelled();
        let decided = self.points.iter().zip(self.kept_by);
        decided
            .map(|(point, kept_by)| Decision {
                id: point.id,
                workload: point.workload.clone(),
                time: point.time,
                kept_by,
            })
            .collect()
    }

    fn keep_each(&mut self, reason: impl Fn(usize, &Candidate) -> Option<Reason>) {
        for (at, (point, kept_by)) in self.points.iter().zip(&mut self.kept_by).enumerate() {
            kept_by.extend(reason(at, point));
        }
    }

    fn keep_last(&mut self) {
        let last = self.rules.last;
        self.keep_each(|at, _| (at < last as usize).then(|| Reason::Last { number: at as u32 + 1, of: last }));
    }

    fn keep_newest_of_each(&mut self, period: Period) {
        let of = period.count(self.rules);
        let mut seen = BTreeSet::new();
        for (point, kept_by) in self.points.iter().zip(&mut self.kept_by) {
            let name = period.name(point.time, self.zone);
            if seen.len() >= of as usize || !seen.insert(name.clone()) {
                continue;
            }
            kept_by.push(period.reason(seen.len() as u32, of, name));
        }
    }

    fn keep_within(&mut self) {
        let (Some(newest), within @ 1..) = (self.points.first(), self.rules.within_seconds) else { return };
        let span = i128::from(within) * 1_000_000_000;
        let newest = i128::from(newest.time.as_nanos());
        self.keep_each(|_, point| {
            let younger = newest - i128::from(point.time.as_nanos()) < span;
            younger.then_some(Reason::Within { seconds: within })
        });
    }

    fn keep_labelled(&mut self) {
        let labels = self.rules.labels.iter().filter_map(|label| Some((label, label.split_once('=')?)));
        let labels: Vec<_> = labels.collect();
        for (label, (key, value)) in labels {
            self.keep_each(|_, point| {
                let carries = point.labels.get(key).is_some_and(|own| own == value);
                carries.then(|| Reason::Label { label: label.clone() })
            });
        }
    }
}
