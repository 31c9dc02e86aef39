//! What exists: the chain, the sessions that committed, the tombstones.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use backstay_core::{Error, ErrorKind, ObjectKey, RestorePointId, Result};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    chain::Chain,
    crypto::ObjectType,
    format::{
        chain::BaseSegment,
        point::PointRecord,
        session::{Commit, Outcome, SessionOpen, SessionOutcome, Tombstone},
    },
    ids::{ObjectHash, PackId, SignerId},
    keys::Capability,
    objects::{Objects, Record},
};

/// Requests at once while small objects are read.
pub const SMALL_READS: usize = 16;

/// How often the state is read again because the chain moved meanwhile.
const LOAD_ATTEMPTS: usize = 32;

/// A point that was committed.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The hash of its object.
    pub point: ObjectHash,
    /// Whose it is.
    pub origin: SignerId,
    /// What it says, when the folded state has it.
    pub summary: Option<PointRecord>,
}

/// A commit that no folded state has taken up yet.
#[derive(Clone, Debug)]
pub struct NewCommit {
    /// What it vouches for.
    pub commit: Commit,
    /// Whose frames its packs hold.
    pub origin: SignerId,
    /// The head that its session saw.
    pub generation: u64,
}

/// The objects of one session.
#[derive(Clone, Debug, Default)]
pub struct SessionParts {
    /// It was opened.
    pub open: bool,
    /// It has an outcome.
    pub outcome: bool,
    /// How many checkpoints it has.
    pub checkpoints: u64,
    /// All of them.
    pub keys: Vec<ObjectKey>,
}

impl SessionParts {
    /// Its checkpoints, with their numbers.
    pub fn checkpoint_keys(&self) -> impl Iterator<Item = (u64, &ObjectKey)> {
        let number = |key: &ObjectKey| key.name().strip_prefix("checkpoint-").and_then(|number| number.parse().ok());
        self.keys.iter().filter_map(move |key| Some((number(key)?, key)))
    }

    /// The number after the last one.
    pub fn next_checkpoint(&self) -> u64 {
        self.checkpoint_keys().map(|(number, _)| number.saturating_add(1)).max().unwrap_or(0)
    }
}

/// What exists at one moment.
pub struct State {
    /// The chain.
    pub chain: Chain,
    /// Points that were committed, forgotten ones among them.
    pub committed: BTreeMap<RestorePointId, Committed>,
    /// The commits that are newer than the floor, repacks among them.
    pub news: BTreeMap<RestorePointId, NewCommit>,
    /// Points with a tombstone.
    pub forgotten: BTreeSet<RestorePointId>,
    /// Every session with an object.
    pub sessions: BTreeMap<RestorePointId, SessionParts>,
    /// The head that each session with an outcome saw.
    pub settled: BTreeMap<RestorePointId, u64>,
    /// Outcomes that could not be read; whoever must know everything fails on them.
    pub unreadable: Vec<(RestorePointId, Error)>,
    /// Among these is one that saw a record of the chain which is not there any more.
    pub cut_back: bool,
}

/// The object name of a part of a session.
pub fn session_key(session: &RestorePointId, part: &str) -> Result<ObjectKey> {
    ObjectKey::new(format!("sessions/{session}/{part}"))
}

/// The object name of a point.
pub fn point_key(point: &RestorePointId) -> Result<ObjectKey> {
    ObjectKey::new(format!("points/{point}"))
}

/// The object name of a tombstone.
pub fn tombstone_key(point: &RestorePointId) -> Result<ObjectKey> {
    ObjectKey::new(format!("forgotten/{point}"))
}

impl State {
    /// Reads what exists now. All of it belongs to one head: what a collector removes after its verdict, nobody misses here.
    pub async fn load(objects: &Objects, owner: &SignerId) -> Result<Self> {
        for _ in 0..LOAD_ATTEMPTS {
            let chain = Chain::load(objects, owner).await?;
            let head = chain.head;
            let state = Self::of(chain, objects).await;
            if !Chain::moved_past(objects, head).await? {
                return state;
            }
        }
        Err(Error::conflict("The repository's chain moves faster than the repository can be read; try again")
            .retryable())
    }

    /// What exists beside the chain whose head a session has seen, once its `open` is there. `None`: the chain has moved meanwhile.
    pub async fn after_open(chain: Chain, objects: &Objects) -> Result<Option<Self>> {
        let head = chain.head;
        // The second look at the head comes before anything is read that a parent depends on; the third makes all of it belong
        // to one head.
        if Chain::moved_past(objects, head).await? {
            return Ok(None);
        }
        let state = Self::of(chain, objects).await;
        if Chain::moved_past(objects, head).await? { Ok(None) } else { state.map(Some) }
    }

    async fn of(chain: Chain, objects: &Objects) -> Result<Self> {
        let committed = |settled: &super::format::chain::SettledSession| {
            let committed =
                Committed { point: settled.point, origin: settled.origin, summary: Some(settled.summary.clone()) };
            (RestorePointId::from_bytes(settled.session), committed)
        };
        let mut state = Self {
            committed: chain.folded.settled.iter().map(committed).collect(),
            forgotten: chain.folded.forgotten.iter().map(|name| RestorePointId::from_bytes(name.0)).collect(),
            chain,
            news: BTreeMap::new(),
            sessions: BTreeMap::new(),
            settled: BTreeMap::new(),
            unreadable: Vec::new(),
            cut_back: false,
        };
        state.list_sessions(objects).await?;
        state.load_outcomes(objects).await?;
        state.load_tombstones(objects).await?;
        Ok(state)
    }

    async fn list_sessions(&mut self, objects: &Objects) -> Result<()> {
        let folder = ObjectKey::new("sessions")?;
        let mut listing = objects.backend().list(Some(&folder));
        while let Some(meta) = listing.try_next().await? {
            let Some((session, part)) = parse_session_key(&meta.key) else { continue };
            let parts = self.sessions.entry(session).or_default();
            match part {
                "outcome" => parts.outcome = true,
                "open" => parts.open = true,
                part if part.starts_with("checkpoint-") => parts.checkpoints += 1,
                _ => {}
            }
            parts.keys.push(meta.key);
        }
        Ok(())
    }

    async fn load_outcomes(&mut self, objects: &Objects) -> Result<()> {
        let chain = &self.chain.clone();
        let with_outcome: Vec<_> =
            self.sessions.iter().filter(|(_, parts)| parts.outcome).map(|(session, _)| *session).collect();
        let outcomes = stream::iter(with_outcome).map(|session| async move {
            let key = session_key(&session, "outcome")?;
            let outcome = objects.get_record::<SessionOutcome>(&key, ObjectType::SessionOutcome).await;
            let own = match &outcome {
                Ok(record) if chain.is_reader(&record.signer) => {
                    ended_its_own(objects, &session, &record.signer).await?
                }
                _ => true,
            };
            Ok::<_, Error>((session, own, outcome))
        });
        let mut outcomes = outcomes.buffer_unordered(SMALL_READS);
        while let Some((session, own, outcome)) = outcomes.try_next().await? {
            // A repair has decided, and nothing that somebody puts in its place counts.
            if let Some(void) = self.chain.folded.void.iter().find(|void| void.session.0 == *session.as_bytes()) {
                self.settled.insert(session, void.number.saturating_sub(1));
                continue;
            }
            match outcome {
                Ok(record) => self.settle(session, record, own),
                // Also one of a version that nobody knows: a flipped bit looks like that.
                Err(error) if matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Unsupported) => {
                    self.unreadable.push((session, error));
                }
                // A collector that sweeps after its verdict was faster: this state's chain tells what became of the session.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        drop(outcomes);
        self.unreadable.sort_by_key(|(session, _)| *session);
        Ok(())
    }

    /// `own`: it was put by who opened the session, as far as that matters.
    fn settle(&mut self, session: RestorePointId, record: Record<SessionOutcome>, own: bool) {
        let Record { body: outcome, signer, .. } = record;
        // Settled long ago: the folded state says how, whatever somebody may have put since.
        if outcome.generation < self.chain.folded.floor {
            self.settled.insert(session, outcome.generation);
            return;
        }
        let may = |capability: Capability| match &outcome.outcome {
            // A repack names whose frames it has copied, which nobody but a collector may do; a backup has a point.
            Outcome::Commit(commit) if commit.point.is_none() => commit.origin.is_some() && capability.may_collect(),
            Outcome::Commit(commit) => commit.origin.is_none() && capability.may_write(),
            // Readers end sessions of their own, which hold points open, and no others.
            Outcome::Aborted => capability != Capability::Reader || own,
            // Collectors end what seems dead and nothing else.
            Outcome::Fenced => capability != Capability::Reader,
        };
        if outcome.generation > self.chain.head {
            let error = Error::integrity(
                "A session saw a record of the chain that is not there: the chain was cut back, and what it says is older \
                 than the repository",
            );
            self.unreadable.push((session, error.with_context("record", outcome.generation)));
            self.cut_back = true;
            return;
        }
        if outcome.session != *session.as_bytes() || !self.chain.may_end(&signer, outcome.generation, may) {
            let error = Error::integrity("The outcome of a session is not signed by anybody who may end it like that");
            self.unreadable.push((session, error.with_context("session", session)));
            return;
        }
        self.settled.insert(session, outcome.generation);
        if let Outcome::Commit(commit) = outcome.outcome {
            if let Some(point) = commit.point {
                self.committed.insert(session, Committed { point, origin: signer, summary: None });
            }
            let origin = commit.origin.unwrap_or(signer);
            self.news.insert(session, NewCommit { commit, origin, generation: outcome.generation });
        }
    }

    async fn load_tombstones(&mut self, objects: &Objects) -> Result<()> {
        let folder = ObjectKey::new("forgotten")?;
        let mut keys: Vec<_> = objects.backend().list(Some(&folder)).map_ok(|meta| meta.key).try_collect().await?;
        keys.retain(|key| key.name().parse().is_ok_and(|point: RestorePointId| !self.forgotten.contains(&point)));
        let reads = stream::iter(keys).map(|key| async move {
            match objects.get_record::<Tombstone>(&key, ObjectType::Forgotten).await {
                Ok(tombstone) => Ok(Some((tombstone, key))),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error),
            }
        });
        let tombstones: Vec<_> = reads
            .buffer_unordered(SMALL_READS)
            .try_filter_map(|tombstone| async move { Ok::<_, Error>(tombstone) })
            .try_collect()
            .await?;
        for (tombstone, key) in tombstones {
            // A tombstone that is not one must not make a point vanish: it blocks until somebody has looked at it.
            let point = RestorePointId::from_bytes(tombstone.body.session);
            // Of somebody who was taken off the roster it counts until the sessions from before that are settled.
            let unsettled = self.chain.folded.floor;
            if key.name() != point.to_string()
                || !self.chain.may_end(&tombstone.signer, unsettled, Capability::may_forget)
            {
                return Err(Error::integrity("A tombstone is not signed by anybody who may forget restore points")
                    .with_context("object", key));
            }
            self.forgotten.insert(point);
        }
        Ok(())
    }

    /// The points that exist.
    pub fn points(&self) -> impl Iterator<Item = (&RestorePointId, &Committed)> {
        self.committed.iter().filter(|(point, _)| !self.forgotten.contains(point))
    }

    /// The number of the record that opened the generation which is not closed yet. Sessions that saw an
    /// older head have to be settled before its verdict.
    pub fn opened_by(&self) -> u64 {
        match &self.chain.folded.open {
            Some(open) => open.number,
            None => self.chain.keys.number,
        }
    }

    /// Sessions that neither committed nor gave up, and that are not settled by the chain either.
    pub fn unsettled(&self) -> impl Iterator<Item = (&RestorePointId, &SessionParts)> {
        self.sessions.iter().filter(|(_, parts)| parts.open && !parts.outcome)
    }

    /// The segments that name what is there, oldest first, and whose packs they name.
    pub fn segments(&self) -> Vec<BaseSegment> {
        let folded = &self.chain.folded;
        let mut segments = folded.base_segments.clone();
        for news in self.news.values() {
            let named = news.commit.segments.iter().filter(|id| !folded.skipped_segments.contains(id));
            segments.extend(named.map(|id| BaseSegment { id: *id, origin: news.origin }));
        }
        segments
    }

    /// Packs that are gone or going, whatever a segment says.
    pub fn dead_packs(&self) -> HashSet<PackId> {
        self.chain.folded.dead_packs.iter().copied().collect()
    }

    /// Packs that a new session must not use: dead ones and condemned ones.
    pub fn unusable_packs(&self) -> HashSet<PackId> {
        let mut packs = self.dead_packs();
        if !super::mutation::is(super::mutation::Mutation::ReuseCondemned) {
            packs.extend(self.chain.folded.open.iter().flat_map(|open| &open.packs));
        }
        packs
    }
}

/// Whether this signer has opened the session.
async fn ended_its_own(objects: &Objects, session: &RestorePointId, signer: &SignerId) -> Result<bool> {
    match objects.get_record::<SessionOpen>(&session_key(session, "open")?, ObjectType::SessionOpen).await {
        Ok(open) => Ok(open.signer == *signer && open.body.session == *session.as_bytes()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Integrity) => Ok(false),
        Err(error) => Err(error),
    }
}

fn parse_session_key(key: &ObjectKey) -> Option<(RestorePointId, &str)> {
    let (session, part) = key.as_str().strip_prefix("sessions/")?.split_once('/')?;
    Some((session.parse().ok()?, part))
}
