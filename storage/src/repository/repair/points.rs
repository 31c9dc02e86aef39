//! Points whose records are damaged or missing.

use std::collections::HashSet;

use backstay_core::{Context, Error, ErrorKind, RestorePointId, Result};
use serde::Serialize;

use super::RepairOptions;
use crate::repository::{
    Repository,
    format::chain::{SessionName, VoidSession},
    hold::Says,
    state::State,
};

/// What became of the points.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PointRepair {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Points that cannot be read.
    pub points: Vec<BadPoint>,
    /// Packs of sessions whose outcome is lost, and of no other: they serve restores, and no backup builds on them.
    pub unknown_packs: u64,
}

/// A point that cannot be read, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BadPoint {
    /// Its id.
    pub point: RestorePointId,
    /// What is wrong.
    pub damage: String,
    /// Whether the outcome of its session is damaged, rather than the point itself.
    pub outcome: bool,
    /// The hash of the record that its session committed, if that is known.
    pub hash: Option<String>,
    /// Whose it is, if that is known.
    pub workload: Option<String>,
    /// The moment that it holds, in nanoseconds since 1970, if that is known.
    pub time: Option<i64>,
    /// Its disks: id and size, if they are known.
    pub disks: Vec<(String, u64)>,
    /// Why it stays where it is: it is on hold.
    pub held: Option<String>,
    /// Whether it was taken out of the lists.
    pub removed: bool,
}

impl Repository {
    pub(super) async fn repair_points_in(
        &self,
        state: State,
        options: &RepairOptions,
        ctx: &Context,
    ) -> Result<Option<PointRepair>> {
        let mut report = PointRepair { dry_run: options.dry_run, ..PointRepair::default() };
        for (session, error) in &state.unreadable {
            report.points.push(self.known_of(&state, session, error, true).await?);
        }
        for (id, committed) in state.points() {
            ctx.check()?;
            match self.stored_point(id, committed).await {
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Unsupported) => {
                    report.points.push(self.known_of(&state, id, &error, false).await?);
                }
                Err(error) => return Err(error),
            }
        }
        if !state.unreadable.is_empty() && !self.void_sessions(&state, options, &mut report, ctx).await? {
            return Ok(None);
        }
        if options.dry_run {
            return Ok(Some(report));
        }
        for bad in &mut report.points {
            if bad.outcome {
                bad.removed = true;
            } else if bad.held.is_none() {
                let newest = self.newest_hold(&state.chain, &bad.point).await?;
                self.forget_one(&state, &bad.point, newest, ctx).await?;
                bad.removed = true;
            }
        }
        Ok(Some(report))
    }

    /// What is known of a point although its record cannot be read.
    async fn known_of(&self, state: &State, id: &RestorePointId, error: &Error, outcome: bool) -> Result<BadPoint> {
        let committed = state.committed.get(id);
        let mut record = committed.and_then(|committed| committed.summary.clone());
        if outcome {
            // Nobody knows whether it was committed, but what it would have said may be there.
            let key = crate::repository::state::point_key(id)?;
            let read = self.objects().get_record(&key, crate::repository::crypto::ObjectType::Point).await;
            record = match read {
                Ok(read) => Some(read.body),
                Err(error)
                    if matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Unsupported | ErrorKind::NotFound) =>
                {
                    None
                }
                Err(error) => return Err(error),
            };
        }
        let held = match self.newest_hold(&state.chain, id).await?.map(|newest| newest.says) {
            Some(Says::Held(hold)) => Some(hold.reason),
            Some(Says::Unreadable(error)) => {
                Some(format!("its newest hold record cannot be read: {}", error.message()))
            }
            Some(Says::Released | Says::Going) => None,
            None => record.as_ref().and_then(|record| record.labels.get(backstay_core::HOLD_LABEL).cloned()),
        };
        Ok(BadPoint {
            point: *id,
            damage: error.message().to_owned(),
            outcome,
            hash: committed.map(|committed| committed.point.to_hex()),
            workload: record.as_ref().map(|record| record.workload.clone()),
            time: record.as_ref().map(|record| record.time),
            disks: record.iter().flat_map(|record| &record.disks).map(|disk| (disk.id.clone(), disk.size)).collect(),
            // A session that nobody knows to be a point cannot be on hold: what it put stays for others all the same.
            held: held.filter(|_| !outcome),
            removed: false,
        })
    }

    /// Declares sessions void whose outcome nobody can read. Other points may use what they have put: it stays, of nobody.
    async fn void_sessions(
        &self,
        state: &State,
        options: &RepairOptions,
        report: &mut PointRepair,
        ctx: &Context,
    ) -> Result<bool> {
        let listing = self.list_packs().await?;
        let mut named = HashSet::new();
        for base in state.segments() {
            ctx.check()?;
            let segment = self.segment(&base.id).await.map_err(|error| match error.kind() {
                ErrorKind::Integrity | ErrorKind::Unsupported => error.with_context("next", "run `repair index` first"),
                _ => error,
            })?;
            named.extend(segment.packs().iter().map(|pack| pack.id()));
        }
        let (segments, packs) = self.index_nameless(state, &listing, &named, !options.dry_run, ctx).await?;
        report.unknown_packs = packs;
        if options.dry_run {
            return Ok(true);
        }
        let mut folded = state.chain.folded.clone();
        let number = state.chain.head + 1;
        let void = state.unreadable.iter().map(|(id, _)| VoidSession { session: SessionName(*id.as_bytes()), number });
        folded.void.extend(void);
        if packs > 0 {
            folded.unvouched = number;
        }
        folded.base_segments.extend(segments);
        self.put_repair(state, &folded, ctx).await
    }
}
