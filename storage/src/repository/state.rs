//! What exists: the chain, the sessions that committed, the tombstones.

use std::collections::{BTreeMap, BTreeSet};

use backstay_core::{Error, ErrorKind, ObjectKey, RestorePointId, Result};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    crypto::ObjectType,
    format::{
        chain::{ChainRecord, Change, FoldedState, RosterEntry},
        session::{Commit, Outcome, SessionOutcome, Tombstone},
    },
    ids::{ObjectHash, SignerId},
    keys::Capability,
    objects::Objects,
};

/// Requests at once while small objects are read.
pub const SMALL_READS: usize = 16;

/// The chain as far as it was followed.
pub struct Chain {
    /// The number of the newest record.
    pub head: u64,
    /// Who may do what.
    pub roster: Vec<RosterEntry>,
    /// The epoch that sessions write in.
    pub epoch: u32,
    /// Everybody who ever was on a roster: what they committed while they were stays committed.
    ever: Vec<RosterEntry>,
}

/// The object name of a record of the chain.
pub fn chain_key(number: u64) -> Result<ObjectKey> {
    ObjectKey::new(format!("chain/{number}"))
}

impl Chain {
    /// Follows the chain from its first record, checking every link and signature.
    pub async fn load(objects: &Objects, owner: &SignerId) -> Result<Self> {
        let mut chain = Self { head: 0, roster: Vec::new(), epoch: 0, ever: Vec::new() };
        let mut previous = ObjectHash([0; 32]);
        for number in 0.. {
            let record = match objects.get_record::<ChainRecord>(&chain_key(number)?, ObjectType::Chain).await {
                Ok(record) => record,
                Err(error) if error.kind() == ErrorKind::NotFound && number > 0 => break,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(Error::integrity("The repository has lost the first record of its chain"));
                }
                Err(error) => return Err(error),
            };
            if record.body.number != number || record.body.previous != previous {
                return Err(Error::integrity(
                    "The repository's chain is broken: a record does not follow the one before",
                )
                .with_context("record", number));
            }
            match record.body.change {
                Change::Keys(keys) if record.signer == *owner && record.body.state == FoldedState::default() => {
                    if let Some(feature) = keys.reader_features.iter().chain(&keys.writer_features).next() {
                        let error = Error::unsupported(
                            "The repository uses a feature that this build does not know: use a newer Backstay",
                        );
                        return Err(error.with_context("feature", feature));
                    }
                    chain.ever.extend(keys.roster.iter().cloned());
                    (chain.roster, chain.epoch) = (keys.roster, keys.epoch);
                }
                Change::Keys(_) if record.signer == *owner => {
                    return Err(Error::unsupported("The repository has been collected by a newer Backstay: use that"));
                }
                Change::Keys(_) => {
                    return Err(Error::integrity("A record of the chain changes keys and is not signed by the owner")
                        .with_context("record", number));
                }
                _ => return Err(Error::unsupported("The repository has been collected by a newer Backstay: use that")),
            }
            (chain.head, previous) = (number, record.hash);
        }
        Ok(chain)
    }

    /// Whether the chain has grown past `head`.
    pub async fn moved_past(objects: &Objects, head: u64) -> Result<bool> {
        match objects.backend().head(&chain_key(head + 1)?).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether this signer is or was authorised for something.
    fn ever_may(&self, signer: &SignerId, may: impl Fn(Capability) -> bool) -> bool {
        self.ever.iter().any(|entry| entry.signer == Some(*signer) && may(entry.capability))
    }
}

/// A session that committed.
#[derive(Clone, Debug)]
pub struct Committed {
    /// What it vouches for.
    pub commit: Commit,
    /// Whose it is.
    pub origin: SignerId,
}

/// What exists at one moment.
pub struct State {
    /// The chain.
    pub chain: Chain,
    /// Sessions whose outcome is a commit, forgotten ones among them.
    pub committed: BTreeMap<RestorePointId, Committed>,
    /// Points with a tombstone.
    pub forgotten: BTreeSet<RestorePointId>,
    /// Sessions without an outcome.
    pub unsettled: BTreeSet<RestorePointId>,
    /// Outcomes that could not be read; whoever must know everything fails on them.
    pub unreadable: Vec<(RestorePointId, Error)>,
}

/// The object name of a part of a session.
pub fn session_key(session: &RestorePointId, part: &str) -> Result<ObjectKey> {
    ObjectKey::new(format!("sessions/{session}/{part}"))
}

/// The object name of a point.
pub fn point_key(point: &RestorePointId) -> Result<ObjectKey> {
    ObjectKey::new(format!("points/{point}"))
}

impl State {
    /// Reads what exists now.
    pub async fn load(objects: &Objects, owner: &SignerId) -> Result<Self> {
        let chain = Chain::load(objects, owner).await?;
        let mut state = Self {
            chain,
            committed: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            unreadable: Vec::new(),
        };
        let mut settled = Vec::new();
        let folder = ObjectKey::new("sessions")?;
        let mut listing = objects.backend().list(Some(&folder));
        while let Some(meta) = listing.try_next().await? {
            let Some((session, part)) = parse_session_key(&meta.key) else { continue };
            match part {
                "outcome" => settled.push(session),
                "open" => drop(state.unsettled.insert(session)),
                _ => {}
            }
        }
        let outcomes = stream::iter(settled).map(|session| async move {
            let key = session_key(&session, "outcome")?;
            Ok::<_, Error>((session, objects.get_record::<SessionOutcome>(&key, ObjectType::SessionOutcome).await))
        });
        let mut outcomes = outcomes.buffer_unordered(SMALL_READS);
        while let Some((session, outcome)) = outcomes.try_next().await? {
            state.unsettled.remove(&session);
            match outcome {
                Ok(record) => state.settle(session, record.body, record.signer),
                // Also one of a version that nobody knows: a flipped bit looks like that.
                Err(error) if matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Unsupported) => {
                    state.unreadable.push((session, error));
                }
                Err(error) => return Err(error),
            }
        }
        drop(outcomes);
        state.unreadable.sort_by_key(|(session, _)| *session);
        state.load_tombstones(objects).await?;
        Ok(state)
    }

    fn settle(&mut self, session: RestorePointId, outcome: SessionOutcome, signer: SignerId) {
        // Collectors end what seems dead and nothing else.
        let may = |capability: Capability| match outcome.outcome {
            Outcome::Commit(_) => capability.may_write(),
            Outcome::Aborted | Outcome::Fenced => capability != Capability::Reader,
        };
        if outcome.session != *session.as_bytes() || !self.chain.ever_may(&signer, may) {
            let error = Error::integrity("The outcome of a session is not signed by one of the repository's writers");
            self.unreadable.push((session, error.with_context("session", session)));
            return;
        }
        if let Outcome::Commit(commit) = outcome.outcome {
            self.committed.insert(session, Committed { commit, origin: signer });
        }
    }

    async fn load_tombstones(&mut self, objects: &Objects) -> Result<()> {
        let folder = ObjectKey::new("forgotten")?;
        let mut listing = objects.backend().list(Some(&folder));
        let mut keys = Vec::new();
        while let Some(meta) = listing.try_next().await? {
            keys.push(meta.key);
        }
        drop(listing);
        for key in keys {
            // A tombstone that is not one must not make a point vanish: it blocks until somebody has looked at it.
            let tombstone = objects.get_record::<Tombstone>(&key, ObjectType::Forgotten).await?;
            let point = RestorePointId::from_bytes(tombstone.body.session);
            let may = |capability| capability != Capability::Reader;
            if key.name() != point.to_string() || !self.chain.ever_may(&tombstone.signer, may) {
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
}

fn parse_session_key(key: &ObjectKey) -> Option<(RestorePointId, &str)> {
    let (session, part) = key.as_str().strip_prefix("sessions/")?.split_once('/')?;
    Some((session.parse().ok()?, part))
}
