//! `sessions/<id>/…`: how a write begins and ends. A point exists when the outcome of its session is `Commit` and names it.

use minicbor::{Decode, Encode};

use crate::repository::ids::{ObjectHash, PackId, SegmentId};

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
    /// Hash of the object `points/<session>`.
    #[n(0)]
    pub point: ObjectHash,
    /// Every data pack that the session put.
    #[n(1)]
    pub packs: Vec<PackId>,
    /// Every index segment that the session put.
    #[n(2)]
    pub segments: Vec<SegmentId>,
    /// Every pack of map nodes that the session put.
    #[n(3)]
    pub meta_packs: Vec<PackId>,
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
