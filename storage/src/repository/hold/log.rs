//! The records of holds: `holds/<session>/<n>`, each put if absent after the one before.

use std::collections::BTreeMap;

use backstay_core::{Context, Error, ErrorKind, ObjectKey, RestorePointId, Result, Retry, Timestamp};
use futures::{StreamExt, TryStreamExt, stream};

use super::Hold;
use crate::repository::{
    Repository,
    chain::Chain,
    crypto::ObjectType,
    format::hold::{HoldRecord, Standing},
    state::SMALL_READS,
};

/// The newest record of a point.
#[derive(Debug)]
pub struct Newest {
    pub number: u64,
    pub says: Says,
}

/// What it says.
#[derive(Debug)]
pub enum Says {
    Held(Hold),
    Released,
    Going,
    /// Nobody knows, so the point stays.
    Unreadable(Error),
}

/// The newest records of points; points without records are not in it.
pub type Newests = BTreeMap<RestorePointId, Newest>;

impl Newest {
    pub fn hold(&self) -> Option<Hold> {
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

impl Repository {
    /// The newest record of one point.
    pub async fn newest_hold(&self, chain: &Chain, point: &RestorePointId) -> Result<Option<Newest>> {
        let folder = ObjectKey::new(format!("holds/{point}"))?;
        let mut newest = self.newest_holds_in(&folder, chain, |id| id == point).await?;
        Ok(newest.remove(point))
    }

    /// The newest records of the points that `wanted` picks.
    pub async fn newest_holds(&self, chain: &Chain, wanted: impl Fn(&RestorePointId) -> bool) -> Result<Newests> {
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
    pub async fn append_hold(
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
}

/// Whether an object is there and says nothing that counts. Also one of a version that nobody knows: a flipped bit looks like that.
pub fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Unsupported)
}

/// Whether a put met another object of its name. A hiccup of the store is a `Conflict` to be tried again and has been.
pub fn is_taken(error: &Error) -> bool {
    let never = error.retry() == Retry::Never;
    matches!(error.kind(), ErrorKind::Conflict | ErrorKind::AlreadyExists) && never
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
