//! Deleting what a verdict has let go of. Says nothing new: whoever repeats it finds less to do.

use std::collections::HashSet;

use backstay_core::{Context, ErrorKind, ObjectKey, RestorePointId, Result};
use futures::{StreamExt, TryStreamExt, stream};

use super::PruneReport;
use crate::repository::{
    Repository,
    check::Listing,
    format::session::Purpose,
    ids::{PackId, SegmentId},
    pack::pack_key,
    state::{SMALL_READS, State, point_key, tombstone_key},
    write::segment_key,
};

/// Objects that may be left over, listed before the state was read: a session that put any of them was opened before, so a state
/// without it has settled it.
pub struct Leftovers(Vec<ObjectKey>);

impl Repository {
    /// Lists what may be left over. Then the state is read, then [`Self::sweep`].
    pub(super) async fn leftovers(&self) -> Result<Leftovers> {
        let mut keys = Vec::new();
        for folder in ["points", "forgotten", "holds", "lost", "folded"] {
            let folder = ObjectKey::new(folder)?;
            let mut objects = self.backend().list(Some(&folder));
            while let Some(meta) = objects.try_next().await? {
                keys.push(meta.key);
            }
        }
        Ok(Leftovers(keys))
    }

    /// Deletes what the chain has settled and somebody left lying: dead packs, settled sessions, forgotten points.
    pub(super) async fn sweep(
        &self,
        state: &State,
        leftovers: Leftovers,
        report: &mut PruneReport,
        ctx: &Context,
    ) -> Result<()> {
        let folded = &state.chain.folded;
        if !folded.dead_packs.is_empty() {
            let listing = self.list_packs().await?;
            self.delete_packs(&folded.dead_packs, &listing, report, ctx).await?;
        }
        let mut keys = Vec::new();
        let settled: HashSet<_> =
            folded.settled.iter().map(|settled| RestorePointId::from_bytes(settled.session)).collect();
        for (id, parts) in &state.sessions {
            if self.is_over(state, id).await? {
                keys.extend(parts.keys.iter().cloned());
            }
        }
        let over: HashSet<&str> = keys.iter().filter_map(|key: &ObjectKey| key.as_str().split('/').nth(1)).collect();
        // A point, tombstone or hold without a session that could still commit it, and without a place in the folded state.
        let gone = |id: &RestorePointId| {
            !settled.contains(id) && (!state.sessions.contains_key(id) || over.contains(id.to_string().as_str()))
        };
        let current = state.chain.folded_name.map(|name| name.object_name());
        let mut rest = leftovers.0;
        rest.retain(|key| match key.as_str().split_once('/') {
            // One for a record that is still to come may be about to be named.
            Some(("folded", name)) => {
                let number = name.split_once('-').and_then(|(number, _)| number.parse::<u64>().ok());
                number.is_some_and(|number| number <= state.chain.head) && Some(name) != current.as_deref()
            }
            Some(("holds" | "lost", name)) => {
                name.split_once('/').and_then(|(id, _)| id.parse().ok()).is_some_and(|id: RestorePointId| gone(&id))
            }
            Some((_, name)) => name.parse().is_ok_and(|id: RestorePointId| gone(&id)),
            None => false,
        });
        // Records of points before their sessions: without its session nobody would know that a point is to go.
        self.delete_all(rest, report, ctx).await?;
        self.delete_all(keys, report, ctx).await
    }

    /// Whether the chain has settled this session, whatever objects of it are still there.
    async fn is_over(&self, state: &State, id: &RestorePointId) -> Result<bool> {
        let floor = state.chain.folded.floor;
        if let Some(generation) = state.settled.get(id) {
            return Ok(*generation < floor);
        }
        match self.session_open(id).await {
            Ok((open, _)) => Ok(open.generation < floor && open.purpose != Purpose::Read),
            // A session begins with its `open`: this was put by somebody who slept while it was settled and removed.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
            Err(error) if error.kind() == ErrorKind::Integrity => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes packs that are there.
    pub(super) async fn delete_packs(
        &self,
        dead: &[PackId],
        listing: &Listing,
        report: &mut PruneReport,
        ctx: &Context,
    ) -> Result<()> {
        let task = ctx.task("delete packs", Some(dead.len() as u64));
        let there: Vec<_> = dead.iter().filter_map(|id| Some((*id, *listing.get(id)?))).collect();
        let deletes = there.into_iter().map(|(id, (kind, size))| async move {
            ctx.check()?;
            Ok::<_, backstay_core::Error>((self.delete_one(&pack_key(kind, &id)?).await?, size))
        });
        let mut deletes = stream::iter(deletes).buffer_unordered(SMALL_READS);
        while let Some((deleted, size)) = deletes.try_next().await? {
            task.advance(1);
            if deleted {
                report.deleted_packs += 1;
                report.reclaimed_bytes += size;
            } else {
                report.locked_objects += 1;
            }
        }
        Ok(())
    }

    /// Deletes index segments.
    pub(super) async fn delete_segments(
        &self,
        dead: impl IntoIterator<Item = SegmentId>,
        report: &mut PruneReport,
        ctx: &Context,
    ) -> Result<()> {
        let keys = dead.into_iter().map(|id| segment_key(&id)).collect::<Result<_>>()?;
        self.delete_all(keys, report, ctx).await
    }

    /// Deletes the records of points that the chain no longer has.
    pub(super) async fn delete_points(
        &self,
        points: &[RestorePointId],
        report: &mut PruneReport,
        ctx: &Context,
    ) -> Result<()> {
        // The tombstone last: a point without one would be back.
        for key in [point_key, tombstone_key] {
            let keys = points.iter().map(key).collect::<Result<_>>()?;
            self.delete_all(keys, report, ctx).await?;
        }
        report.removed_points += points.len() as u64;
        Ok(())
    }

    async fn delete_all(&self, keys: Vec<ObjectKey>, report: &mut PruneReport, ctx: &Context) -> Result<()> {
        let deletes = keys.into_iter().map(|key| async move {
            ctx.check()?;
            self.delete_one(&key).await
        });
        let mut deletes = stream::iter(deletes).buffer_unordered(SMALL_READS);
        while let Some(deleted) = deletes.try_next().await? {
            report.locked_objects += u64::from(!deleted);
        }
        Ok(())
    }

    /// `false`: the store keeps it for now.
    async fn delete_one(&self, key: &ObjectKey) -> Result<bool> {
        match self.backend().delete(key).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }
}
