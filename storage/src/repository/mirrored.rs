//! What a mirror needs somebody with keys for: the order in which points came to be, and what the chain has settled.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use backstay_core::{Context, Error, ErrorKind, ObjectKey, RestorePointId, Result, StorageBackend};
use futures::TryStreamExt;

use super::{
    Repository,
    crypto::ObjectType,
    format::session::{SessionOpen, SessionOutcome},
    ids::{PackId, SegmentId},
    objects::Objects,
    state::{State, session_key},
};
use crate::backend::{CatchUpPlan, CatchUpReport, MirrorBackend};

impl Repository {
    /// Brings a mirror up to date: [`MirrorBackend::catch_up`] with what this repository knows. It must lie on the mirror's primary.
    ///
    /// `Conflict` when the mirror is of another repository.
    pub async fn catch_up(&self, mirror: &MirrorBackend, ctx: &Context) -> Result<CatchUpReport> {
        let config = ObjectKey::new("config")?;
        if mirror.primary().get(&config).await? != self.backend().get(&config).await? {
            return Err(
                Error::conflict("The mirror's primary is another repository").with_context("at", mirror.location())
            );
        }
        let outcomes = self.outcomes_in_order().await?;
        let dead = self.dead_on(mirror).await?;
        mirror.catch_up(&CatchUpPlan::default().outcomes(outcomes).dead(dead), ctx).await
    }

    /// Every outcome that can be read, those first that others build on: what makes no point seen, forgotten points, then points by
    /// rank.
    async fn outcomes_in_order(&self) -> Result<Vec<ObjectKey>> {
        // Before the state is read: an outcome that is in this listing and commits no point then commits none.
        let folder = ObjectKey::new("sessions")?;
        let listed: BTreeSet<_> = self.backend().list(Some(&folder)).map_ok(|meta| meta.key).try_collect().await?;
        let state = self.state().await?;
        let (points, _) = self.readable_points(&state).await?;
        let ranks: HashMap<_, _> =
            points.iter().map(|point| (point.id(), (point.record.rank.unwrap_or(0), point.record.time))).collect();
        let mut commits = Vec::new();
        for session in state.committed.keys() {
            // A point that nobody can read is as good as forgotten; others may use what its session stored.
            let rank = ranks.get(session).copied().unwrap_or((0, i64::MIN));
            commits.push((rank, session_key(session, "outcome")?));
        }
        commits.sort();
        let mut known: BTreeSet<_> = commits.iter().map(|(_, key)| key.clone()).collect();
        for (session, _) in &state.unreadable {
            known.insert(session_key(session, "outcome")?);
        }
        let settled = listed.into_iter().filter(|key| key.name() == "outcome" && !known.contains(key));
        Ok(settled.chain(commits.into_iter().map(|(_, key)| key)).collect())
    }

    /// What only the mirror has and this repository's state needs no more. Nothing as soon as anything looks as if it were the primary
    /// that has lost something.
    async fn dead_on(&self, mirror: &MirrorBackend) -> Result<BTreeSet<ObjectKey>> {
        let here: BTreeSet<_> = mirror.primary().list(None).map_ok(|meta| meta.key).try_collect().await?;
        let there = mirror.mirror().list(None).map_ok(|meta| meta.key);
        let mut extra: Vec<ObjectKey> = there.try_collect().await?;
        extra.retain(|key| !here.contains(key));
        if extra.is_empty() {
            return Ok(BTreeSet::new());
        }
        let state = self.state().await?;
        let mut sessions: BTreeMap<RestorePointId, Vec<ObjectKey>> = BTreeMap::new();
        for key in &extra {
            match key.as_str().split('/').collect::<Vec<_>>().as_slice() {
                ["chain" | "config", ..] => return Ok(BTreeSet::new()),
                ["sessions", session, _] => {
                    if let Ok(session) = session.parse() {
                        sessions.entry(session).or_default().push(key.clone());
                    }
                }
                _ => {}
            }
        }
        let on_mirror = self.objects().on(std::sync::Arc::clone(mirror.mirror()));
        for session in sessions.keys() {
            if !is_over(&on_mirror, session, state.chain.folded.floor).await? {
                return Ok(BTreeSet::new());
            }
        }
        if !state.unreadable.is_empty() {
            return Ok(BTreeSet::new());
        }
        let needed = self.needed(&state).await?;
        Ok(extra.into_iter().filter(|key| needed.lets_go(key, &state)).collect())
    }

    async fn needed(&self, state: &State) -> Result<Needed> {
        let folded = &state.chain.folded;
        let mut needed = Needed { packs: HashSet::new(), segments: HashSet::new() };
        let dead = state.dead_packs();
        for base in state.segments() {
            let segment = self.segment(&base.id).await?;
            needed.packs.extend(segment.packs().iter().map(|pack| pack.id()).filter(|pack| !dead.contains(pack)));
            needed.segments.insert(base.id);
        }
        needed.segments.extend(&folded.replaced_segments);
        needed.segments.extend(folded.open.iter().flat_map(|open| &open.segments));
        Ok(needed)
    }
}

/// What a state uses.
struct Needed {
    packs: HashSet<PackId>,
    segments: HashSet<SegmentId>,
}

impl Needed {
    /// Whether an object that the primary does not have is needed by nothing.
    fn lets_go(&self, key: &ObjectKey, state: &State) -> bool {
        let settled = |name: &str| {
            name.parse()
                .is_ok_and(|id: RestorePointId| !state.committed.contains_key(&id) && !state.sessions.contains_key(&id))
        };
        match key.as_str().split_once('/').map(|(folder, _)| folder) {
            Some("packs" | "meta") => PackId::from_hex(key.name()).is_some_and(|id| !self.packs.contains(&id)),
            Some("index") => SegmentId::from_hex(key.name()).is_some_and(|id| !self.segments.contains(&id)),
            Some("points" | "forgotten") => settled(key.name()),
            Some("holds") => key.as_str().split('/').nth(1).is_some_and(settled),
            // Each of them is over, or nothing is let go.
            Some("sessions") => true,
            Some("folded") => {
                let current = state.chain.folded_name.map(|name| name.object_name());
                let number = key.name().split_once('-').and_then(|(number, _)| number.parse::<u64>().ok());
                number.is_some_and(|number| number <= state.chain.head) && Some(key.name()) != current.as_deref()
            }
            _ => false,
        }
    }
}

/// Whether the chain has settled a session that only the mirror has, by what the mirror says of it.
async fn is_over(objects: &Objects, session: &RestorePointId, floor: u64) -> Result<bool> {
    let outcome = session_key(session, "outcome")?;
    let generation = match objects.get_record::<SessionOutcome>(&outcome, ObjectType::SessionOutcome).await {
        Ok(record) => record.body.generation,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let open = session_key(session, "open")?;
            match objects.get_record::<SessionOpen>(&open, ObjectType::SessionOpen).await {
                Ok(record) => record.body.generation,
                Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
                Err(_) => return Ok(false),
            }
        }
        Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
        Err(_) => return Ok(false),
    };
    Ok(generation < floor)
}
