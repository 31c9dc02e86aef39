//! Forgetting restore points: signed tombstones. Content stays until a collector finds that nothing needs it.

use std::collections::BTreeSet;

use backstay_core::{Context, Error, ErrorKind, RestorePointId, Result};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    PointSelector, Repository,
    crypto::ObjectType,
    format::{hold::Standing, session::Tombstone},
    hold::{APPEND_ATTEMPTS, Newest, Newests, Says, again, busy, is_damage, is_taken, unknown},
    state::{SMALL_READS, State, tombstone_key},
};

/// What became of points that were to be forgotten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForgetReport {
    /// Forgotten now, in the order in which they were named.
    pub forgotten: Vec<RestorePointId>,
    /// Those that had been forgotten before, or were by somebody else meanwhile. Once a collector has removed every trace of a point
    /// it is unknown instead.
    pub already: Vec<RestorePointId>,
}

impl Repository {
    /// Forgets points, in any order: other points do not need them. From here on they are not listed, restored or built upon;
    /// space comes back when a collector finds that nothing needs their chunks.
    ///
    /// Everything is looked at before anything is put. When it fails later, some are forgotten, and a second run does the rest.
    ///
    /// `NotFound`: no such point. `Conflict`: one is on hold. `Integrity`: of one it cannot be told whether it is on hold.
    /// `PermissionDenied`: a reader's key.
    pub async fn forget(&self, points: &[RestorePointId], ctx: &Context) -> Result<ForgetReport> {
        let (state, mut newest, would) = self.look_before_forget(points).await?;
        let mut report = ForgetReport { already: would.already, ..ForgetReport::default() };
        let puts: Vec<_> = would
            .forgotten
            .into_iter()
            .map(|id| {
                let (state, newest) = (&state, newest.remove(&id));
                async move { Ok::<_, Error>((id, self.forget_one(state, &id, newest, ctx).await?)) }
            })
            .collect();
        let mut puts = stream::iter(puts).buffered(SMALL_READS);
        while let Some((id, by_us)) = puts.try_next().await? {
            if by_us { report.forgotten.push(id) } else { report.already.push(id) }
        }
        drop(puts);
        Ok(report)
    }

    /// What [`Self::forget`] would do or refuse now; puts nothing.
    pub async fn plan_forget(&self, points: &[RestorePointId]) -> Result<ForgetReport> {
        Ok(self.look_before_forget(points).await?.2)
    }

    async fn look_before_forget(&self, points: &[RestorePointId]) -> Result<(State, Newests, ForgetReport)> {
        let state = self.state_to_forget_in().await?;
        let mut named = BTreeSet::new();
        let (already, forgotten): (Vec<RestorePointId>, Vec<_>) =
            points.iter().copied().filter(|id| named.insert(*id)).partition(|id| state.forgotten.contains(id));
        let newest = self.newest_holds(&state.chain, |id| named.contains(id)).await?;
        self.must_be_free(&state, &newest, &forgotten).await?;
        Ok((state, newest, ForgetReport { forgotten, already }))
    }

    /// The ids that selectors mean, in their order. No point that is named by its id is read, so that a damaged one can be named;
    /// and one that has been forgotten can, unless the same digits begin one that has not.
    pub async fn point_ids(&self, selectors: &[PointSelector]) -> Result<Vec<RestorePointId>> {
        let state = self.state().await?;
        let mut ids = Vec::new();
        for selector in selectors {
            ids.push(match selector {
                PointSelector::Id(prefix) => id_of(&state, prefix)?,
                _ => self.select(&state, selector).await?.id(),
            });
        }
        Ok(ids)
    }

    /// Fails unless every point is there and known not to be on hold.
    async fn must_be_free(&self, state: &State, newest: &Newests, points: &[RestorePointId]) -> Result<()> {
        let looks: Vec<_> = points
            .iter()
            .map(|id| async move {
                if let Some((_, error)) = state.unreadable.iter().find(|(session, _)| session == id) {
                    return Err(again(error).with_context("next", "run `check`"));
                }
                if !state.committed.contains_key(id) {
                    return Err(unknown(id));
                }
                match newest.get(id) {
                    Some(newest) => must_let_go(id, &newest.says),
                    None => match self.label_hold(state, id).await {
                        Ok(None) => Ok(()),
                        Ok(Some(hold)) => Err(held(id, &hold.reason)),
                        Err(error) if is_damage(&error) => Err(unsure(id, &error)),
                        Err(error) => Err(error),
                    },
                }
            })
            .collect();
        stream::iter(looks).buffer_unordered(SMALL_READS).try_collect().await
    }

    /// Whether it was us who forgot it.
    pub(super) async fn forget_one(
        &self,
        state: &State,
        id: &RestorePointId,
        mut newest: Option<Newest>,
        ctx: &Context,
    ) -> Result<bool> {
        let mut attempts = 0;
        while !matches!(newest, Some(Newest { says: Says::Going, .. })) {
            ctx.check()?;
            if self.append_hold(id, newest.as_ref(), Standing::Going, ctx).await? {
                break;
            }
            // Somebody has put a record there since we looked: it may be a hold.
            newest = self.newest_hold(&state.chain, id).await?;
            if let Some(newest) = &newest {
                must_let_go(id, &newest.says)?;
            }
            attempts += 1;
            if attempts == APPEND_ATTEMPTS {
                return Err(busy(id));
            }
        }
        // Not cancelled here: between the two puts the point is there and cannot be held any more.
        let key = tombstone_key(id)?;
        let tombstone = Tombstone { session: *id.as_bytes(), time: ctx.now().as_nanos() };
        match self.objects().put_record(&key, ObjectType::Forgotten, &tombstone, ctx).await {
            Ok(_) => Ok(true),
            // Looked at with everything else, so that a false tombstone is told and not believed.
            Err(error) if is_taken(&error) && self.state().await?.forgotten.contains(id) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn id_of(state: &State, prefix: &str) -> Result<RestorePointId> {
    let known = |live: bool| {
        let unreadable = state.unreadable.iter().map(|(id, _)| id);
        let all = state.committed.keys().chain(unreadable).chain(&state.forgotten);
        let fits = all.filter(|id| state.forgotten.contains(*id) != live && id.to_string().starts_with(prefix));
        fits.copied().collect::<BTreeSet<_>>()
    };
    let mut matching = known(true);
    if matching.is_empty() {
        matching = known(false);
    }
    let several = matching.len() > 1;
    match matching.pop_first() {
        Some(id) if !several => Ok(id),
        None => {
            Err(Error::not_found("No such restore point: `points` lists what there is").with_context("point", prefix))
        }
        Some(_) => Err(Error::invalid_input("Several restore points begin like this: give more digits")
            .with_context("point", prefix)),
    }
}

fn must_let_go(id: &RestorePointId, says: &Says) -> Result<()> {
    match says {
        Says::Released | Says::Going => Ok(()),
        Says::Held(hold) => Err(held(id, &hold.reason)),
        Says::Unreadable(error) => Err(unsure(id, error)),
    }
}

fn held(id: &RestorePointId, reason: &str) -> Error {
    let error =
        Error::conflict("The restore point is on hold; if it may go, lift the hold with `release` and forget it then")
            .with_context("point", id);
    if reason.is_empty() { error } else { error.with_context("hold", reason) }
}

fn unsure(id: &RestorePointId, error: &Error) -> Error {
    Error::new(
        ErrorKind::Integrity,
        "It cannot be read whether the restore point is on hold; if it may go all the same, `release` it and forget it then",
    )
    .with_context("point", id)
    .with_context("damage", error.message())
}
