//! Holds: restore points that nobody may forget until the hold is lifted.
//!
//! A point's records below `holds/` are numbered and put if absent, so that of a `hold` and a `forget` at the same time one is
//! told about the other.

mod log;

use std::collections::{BTreeMap, BTreeSet};

use backstay_core::{Context, Error, HOLD_LABEL, RestorePoint, RestorePointId, Result, Timestamp};
use futures::{StreamExt, stream};
use serde::Serialize;

use super::{
    Repository,
    format::hold::Standing,
    points::StoredPoint,
    state::{SMALL_READS, State},
};
pub use log::{Newest, Newests, Says, is_damage, is_taken};

/// The longest reason of a hold, in bytes.
const MAX_REASON_BYTES: usize = 1024;

/// How often somebody else may get in between before a record is given up.
pub(super) const APPEND_ATTEMPTS: usize = 16;

/// Why a point stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Hold {
    /// What whoever set it wrote; may be empty.
    pub reason: String,
    /// When it was set; `None` for a hold that the point was made with.
    pub since: Option<Timestamp>,
}

/// Every restore point as far as it can be read, and which are on hold.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Inventory {
    /// The points that can be read, oldest first; those of one moment by id.
    pub points: Vec<RestorePoint>,
    /// Those that cannot, and why. They are no reason to forget others, and no reason to keep others.
    pub damaged: Vec<(RestorePointId, Error)>,
    /// The holds on points that can be read.
    pub holds: BTreeMap<RestorePointId, Hold>,
}

impl Hold {
    /// The hold that a point's own labels set.
    #[must_use]
    pub fn of_label(point: &RestorePoint) -> Option<Self> {
        point.hold_label().map(|reason| Self { reason: reason.to_owned(), since: None })
    }
}

impl Repository {
    /// Puts a point on hold: neither rules nor `forget` remove it until [`Self::release`]. False when it was on hold for this
    /// reason already.
    ///
    /// A reason has up to 1,024 bytes without control characters and may be empty. `NotFound`: no such point. `Conflict`: it is
    /// being forgotten. `PermissionDenied`: a reader's key.
    pub async fn hold(&self, point: &RestorePointId, reason: &str, ctx: &Context) -> Result<bool> {
        if reason.len() > MAX_REASON_BYTES || reason.chars().any(char::is_control) {
            return Err(Error::invalid_input("The reason of a hold has up to 1024 bytes and no control characters"));
        }
        let state = self.state_to_forget_in().await?;
        must_exist(&state, point)?;
        for _ in 0..APPEND_ATTEMPTS {
            ctx.check()?;
            let newest = self.newest_hold(&state.chain, point).await?;
            match newest.as_ref().map(|newest| &newest.says) {
                Some(Says::Held(hold)) if hold.reason == reason => return Ok(false),
                Some(Says::Going) => {
                    return Err(Error::conflict(
                        "The restore point is being forgotten, or that was begun: it cannot be put on hold any more",
                    )
                    .with_context("point", point));
                }
                _ => {}
            }
            if self.append_hold(point, newest.as_ref(), Standing::Held(reason.to_owned()), ctx).await? {
                return Ok(true);
            }
        }
        Err(busy(point))
    }

    /// Lifts the hold of a point, whether it was set later or the point was made with it. False when it was not on hold.
    ///
    /// `NotFound`: no such point. `PermissionDenied`: a reader's key.
    pub async fn release(&self, point: &RestorePointId, ctx: &Context) -> Result<bool> {
        let state = self.state_to_forget_in().await?;
        must_exist(&state, point)?;
        for _ in 0..APPEND_ATTEMPTS {
            ctx.check()?;
            let newest = self.newest_hold(&state.chain, point).await?;
            let held = match &newest {
                Some(newest) => newest.hold().is_some(),
                // A point that cannot be read counts as held, so that it can be released and then forgotten.
                None => !matches!(self.label_hold(&state, point).await, Ok(None)),
            };
            if !held {
                return Ok(false);
            }
            if self.append_hold(point, newest.as_ref(), Standing::Released, ctx).await? {
                return Ok(true);
            }
        }
        Err(busy(point))
    }

    /// Which of these points are on hold now. One whose newest record cannot be read counts as held.
    pub async fn holds(&self, points: &[RestorePoint]) -> Result<BTreeMap<RestorePointId, Hold>> {
        let chain = self.chain().await?;
        let wanted: BTreeSet<_> = points.iter().map(|point| point.id).collect();
        let newest = self.newest_holds(&chain, |id| wanted.contains(id)).await?;
        Ok(holds_among(points, &newest))
    }

    /// Every point as far as it can be read, and which are on hold: what retention decides upon.
    ///
    /// A damaged point is in a list of its own and no error. `Integrity` when it is not even known which points there are: a
    /// damaged chain or tombstone.
    pub async fn inventory(&self) -> Result<Inventory> {
        let state = self.state().await?;
        let unreadable = state.unreadable.iter().map(|(id, error)| (*id, again(error)));
        let mut inventory = Inventory { damaged: unreadable.collect(), ..Inventory::default() };
        // Each is read as it is stored, although the chain describes some: a point that is lost must not count as one that is kept.
        let reads: Vec<_> =
            state.points().map(|(id, committed)| async { (*id, self.stored_point(id, committed).await) }).collect();
        let mut reads = stream::iter(reads).buffer_unordered(SMALL_READS);
        while let Some((id, read)) = reads.next().await {
            match read.and_then(|point: StoredPoint| point.describe()) {
                Ok(point) => inventory.points.push(point),
                Err(error) if is_damage(&error) => inventory.damaged.push((id, error)),
                Err(error) => return Err(error),
            }
        }
        drop(reads);
        inventory.points.sort_by_key(|point| (point.time, point.sequence, point.id));
        inventory.damaged.sort_by_key(|(id, _)| *id);
        let newest = self.newest_holds(&state.chain, |id| state.committed.contains_key(id)).await?;
        inventory.holds = holds_among(&inventory.points, &newest);
        Ok(inventory)
    }

    /// What exists, for whoever may change it; the permission is looked at before anything else.
    pub(super) async fn state_to_forget_in(&self) -> Result<State> {
        if !self.capability().may_forget() {
            let error =
                "A reader key cannot forget restore points or put them on hold; open the repository with another key";
            return Err(Error::permission_denied(error));
        }
        self.state().await
    }

    /// The hold that a point was made with.
    pub(super) async fn label_hold(&self, state: &State, point: &RestorePointId) -> Result<Option<Hold>> {
        let committed = state.committed.get(point).ok_or_else(|| unknown(point))?;
        let stored = self.summary(point, committed).await?;
        Ok(stored.record.labels.get(HOLD_LABEL).map(|reason| Hold { reason: reason.clone(), since: None }))
    }
}

/// A point's newest record counts; without one, its label.
fn holds_among(points: &[RestorePoint], newest: &Newests) -> BTreeMap<RestorePointId, Hold> {
    let hold = |point: &RestorePoint| match newest.get(&point.id) {
        Some(newest) => newest.hold(),
        None => Hold::of_label(point),
    };
    points.iter().filter_map(|point| Some((point.id, hold(point)?))).collect()
}

fn must_exist(state: &State, point: &RestorePointId) -> Result<()> {
    if state.forgotten.contains(point) {
        return Err(Error::not_found("The restore point has been forgotten").with_context("point", point));
    }
    if state.committed.contains_key(point) { Ok(()) } else { Err(unknown(point)) }
}

pub(super) fn unknown(point: &RestorePointId) -> Error {
    Error::not_found("No such restore point: `points` lists what there is").with_context("point", point)
}

pub(super) fn busy(point: &RestorePointId) -> Error {
    Error::conflict("Others keep changing the hold of the restore point; run it again").with_context("point", point)
}

/// The same error once more, without its source.
pub(super) fn again(error: &Error) -> Error {
    let copy = Error::new(error.kind(), error.message().to_owned());
    error.context().iter().fold(copy, |copy, (key, value)| copy.with_context(key, value))
}
