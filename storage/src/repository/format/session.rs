//! `sessions/<id>/…`: how a write begins and ends. A point exists when the outcome of its session is `Commit` and names it.

use minicbor::{Decode, Encode};

use super::chain::SessionName;
use crate::repository::ids::{ObjectHash, PackId, SegmentId, SignerId};

/// `sessions/<id>/open`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SessionOpen {
    /// The session.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub session: [u8; 16],
    /// The head of the chain that the writer saw.
    #[n(1)]
    pub generation: u64,
    /// When it began, in nanoseconds since 1970. For people.
    #[n(2)]
    pub time: i64,
    /// What it does.
    #[n(3)]
    pub purpose: Purpose,
    /// The workload whose point it writes.
    #[n(4)]
    pub workload: Option<String>,
    /// The points that it holds.
    #[n(5)]
    pub holds: Vec<SessionName>,
}

/// What a session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Purpose {
    /// Writes a restore point.
    #[n(0)]
    Write,
    /// Holds restore points open.
    #[n(1)]
    Read,
    /// Copies what lives out of packs that are mostly dead.
    #[n(2)]
    Repack,
}

/// `sessions/<id>/checkpoint-<n>`: what is safe so far.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SessionCheckpoint {
    /// The session.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub session: [u8; 16],
    /// Data packs put so far.
    #[n(1)]
    pub packs: Vec<PackId>,
    /// Index segments put so far.
    #[n(2)]
    pub segments: Vec<SegmentId>,
    /// Packs of map nodes put so far.
    #[n(3)]
    pub meta_packs: Vec<PackId>,
    /// The point that was about to be put: then the lists are all that its commit names.
    #[n(4)]
    pub point: Option<ObjectHash>,
}

/// `sessions/<id>/seen-<signer>-<progress>`: when a collector first saw a session that far, by its own clock.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SessionSeen {
    /// The session.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub session: [u8; 16],
    /// How many checkpoints it had.
    #[n(1)]
    pub checkpoints: u64,
    /// When, in nanoseconds since 1970, by the observer's clock.
    #[n(2)]
    pub time: i64,
}

/// `sessions/<id>/outcome`: put if absent, so that exactly one of commit, abort and fence wins.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SessionOutcome {
    /// The session.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub session: [u8; 16],
    /// Fresh for every put: after a lost reply the whole body tells whose it is.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub token: [u8; 16],
    /// How it ended.
    #[n(2)]
    pub outcome: Outcome,
    /// As in its `open`.
    #[n(3)]
    pub generation: u64,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// The point exists.
    #[n(0)]
    Commit(#[n(0)] Commit),
    /// The writer gave up.
    #[n(1)]
    Aborted,
    /// A collector ended a session that made no progress.
    #[n(2)]
    Fenced,
}

/// What a commit vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Commit {
    /// Hash of the object `points/<session>`; a repack has none.
    #[n(0)]
    pub point: Option<ObjectHash>,
    /// Every data pack that the session put.
    #[n(1)]
    pub packs: Vec<PackId>,
    /// Every index segment that the session put.
    #[n(2)]
    pub segments: Vec<SegmentId>,
    /// Every pack of map nodes that the session put.
    #[n(3)]
    pub meta_packs: Vec<PackId>,
    /// Whose frames a repack has copied; a writer's commit has none: they are its own.
    #[n(4)]
    pub origin: Option<SignerId>,
}

/// `forgotten/<session>`: from here on the point does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Tombstone {
    /// The session whose point it is.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub session: [u8; 16],
    /// When, in nanoseconds since 1970. For people.
    #[n(1)]
    pub time: i64,
}
