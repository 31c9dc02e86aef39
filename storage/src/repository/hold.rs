//! Holds: restore points that nobody may forget until the hold is lifted.
//!
//! A point's records below `holds/` are numbered and put if absent, so that of a `hold` and a `forget` at the same time one is
//! told about the other.

use std::collections::{BTreeMap, BTreeSet};

use backstay_core::{
    Context, Error, ErrorKind, HOLD_LABEL, ObjectKey, RestorePoint, RestorePointId, Result, Retry, Timestamp,
};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::{
    Repository,
    chain::Chain,
    crypto::ObjectType,
    format::hold::{HoldRecord, Standing},
    points::StoredPoint,
    state::{SMALL_READS, State},
};

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

/// The newest record of a point.
#[derive(Debug)]
pub(super) struct Newest {
    pub number: u64,
    pub says: Says,
}

/// What it says.
#[derive(Debug)]
pub(super) enum Says {
    Held(Hold),
    Released,
    Going,
    /// Nobody knows, so the point stays.
    Unreadable(Error),
}

/// The newest records of points; points without records are not in it.
pub(super) type Newests = BTreeMap<RestorePointId, Newest>;

impl Newest {
    fn hold(&self) -> Option<Hold> {
        match &self.says {
            Says::Held(hold) => Some(hold.clone()),
            Says::Released | Says::Going => None,
            Says::Unreadable(error) => Some(Hold {
                reason: format!("its newest hold record cannot be read: {}", error.message()),
                since: None,
            }),
        }
    }
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
        let chain = Chain::load(self.objects(), &self.config().owner).await?;
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

    /// The newest record of one point.
    pub(super) async fn newest_hold(&self, chain: &Chain, point: &RestorePointId) -> Result<Option<Newest>> {
        let folder = ObjectKey::new(format!("holds/{point}"))?;
        let mut newest = self.newest_holds_in(&folder, chain, |id| id == point).await?;
        Ok(newest.remove(point))
    }

    /// The newest records of the points that `wanted` picks.
    pub(super) async fn newest_holds(
        &self,
        chain: &Chain,
        wanted: impl Fn(&RestorePointId) -> bool,
    ) -> Result<Newests> {
        self.newest_holds_in(&ObjectKey::new("holds")?, chain, wanted).await
    }

    async fn newest_holds_in(
        &self,
        folder: &ObjectKey,
        chain: &Chain,
        wanted: impl Fn(&RestorePointId) -> bool,
    ) -> Result<Newests> {
        let mut numbers: BTreeMap<RestorePointId, u64> = BTreeMap::new();
        let mut listing = self.backend().list(Some(folder));
        while let Some(meta) = listing.try_next().await? {
            if let Some((point, number)) = parse_hold_key(&meta.key).filter(|(point, _)| wanted(point)) {
                let newest = numbers.entry(point).or_default();
                *newest = number.max(*newest);
            }
        }
        drop(listing);
        let reads: Vec<_> = numbers
            .into_iter()
            .map(|(point, number)| async move { Ok((point, self.read_hold(chain, &point, number).await?)) })
            .collect();
        stream::iter(reads).buffer_unordered(SMALL_READS).try_collect().await
    }

    async fn read_hold(&self, chain: &Chain, point: &RestorePointId, number: u64) -> Result<Newest> {
        let key = hold_key(point, number)?;
        let says = match self.objects().get_record::<HoldRecord>(&key, ObjectType::Hold).await {
            Ok(record) => {
                let genuine = record.body.session == *point.as_bytes() && record.body.number == number;
                // The newest roster decides: what somebody who was taken off it says keeps a point and never lets one go.
                let may = chain
                    .roster
                    .iter()
                    .any(|entry| entry.signer == Some(record.signer) && entry.capability.may_forget());
                match record.body.standing {
                    _ if !genuine || !may => Says::Unreadable(
                        Error::integrity("A hold record is not signed by anybody who may forget restore points")
                            .with_context("object", key),
                    ),
                    Standing::Held(reason) => {
                        Says::Held(Hold { reason, since: Some(Timestamp::from_nanos(record.body.time)) })
                    }
                    Standing::Released => Says::Released,
                    Standing::Going => Says::Going,
                }
            }
            // Listed and not there is not absent: only what is known to be released may go.
            Err(error) if is_damage(&error) || error.kind() == ErrorKind::NotFound => Says::Unreadable(error),
            Err(error) => return Err(error),
        };
        Ok(Newest { number, says })
    }

    /// Puts the record after `newest`; false when somebody else has put one there.
    pub(super) async fn append_hold(
        &self,
        point: &RestorePointId,
        newest: Option<&Newest>,
        standing: Standing,
        ctx: &Context,
    ) -> Result<bool> {
        let number = newest.map_or(0, |newest| newest.number).checked_add(1);
        let number = number.ok_or_else(|| {
            Error::integrity("The newest hold record of the restore point has an absurd number: remove that object")
                .with_context("point", point)
        })?;
        let record = HoldRecord { session: *point.as_bytes(), number, time: ctx.now().as_nanos(), standing };
        let put = self.objects().put_record(&hold_key(point, number)?, ObjectType::Hold, &record, ctx).await;
        match put {
            Ok(_) => Ok(true),
            Err(error) if is_taken(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The hold that a point was made with.
    pub(super) async fn label_hold(&self, state: &State, point: &RestorePointId) -> Result<Option<Hold>> {
        let committed = state.committed.get(point).ok_or_else(|| unknown(point))?;
        let stored = self.stored_point(point, committed).await?;
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

/// Whether an object is there and says nothing that counts. Also one of a version that nobody knows: a flipped bit looks like that.
pub(super) fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Unsupported)
}

/// Whether a put met another object of its name. A hiccup of the store is a `Conflict` to be tried again and has been.
pub(super) fn is_taken(error: &Error) -> bool {
    let never = error.retry() == Retry::Never;
    matches!(error.kind(), ErrorKind::Conflict | ErrorKind::AlreadyExists) && never
}

/// The same error once more, without its source.
pub(super) fn again(error: &Error) -> Error {
    let copy = Error::new(error.kind(), error.message().to_owned());
    error.context().iter().fold(copy, |copy, (key, value)| copy.with_context(key, value))
}

fn hold_key(point: &RestorePointId, number: u64) -> Result<ObjectKey> {
    ObjectKey::new(format!("holds/{point}/{number}"))
}

/// Names that no writer makes are not holds: `007` beside `7` would hide it.
fn parse_hold_key(key: &ObjectKey) -> Option<(RestorePointId, u64)> {
    let (point, number) = key.as_str().strip_prefix("holds/")?.split_once('/')?;
    let (point, number) = (point.parse().ok()?, number.parse().ok()?);
    (hold_key(&point, number).ok()? == *key).then_some((point, number))
}
