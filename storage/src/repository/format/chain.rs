//! `chain/<n>`: the hash-chained, signed records of key changes and, later, of the collector.

use minicbor::{Decode, Encode, bytes::ByteVec};

use crate::repository::{
    ids::{ObjectHash, PackId, SegmentId, SignerId},
    keys::Capability,
};

/// One record of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ChainRecord {
    /// Its place: 0, 1, 2 …
    #[n(0)]
    pub number: u64,
    /// Hash of the object before it; zeroes for the first.
    #[n(1)]
    pub previous: ObjectHash,
    /// When it was made, in nanoseconds since 1970. For people; nothing depends on it.
    #[n(2)]
    pub time: i64,
    /// What it says.
    #[n(3)]
    pub change: Change,
    /// What is settled so far, so that nobody has to read older records.
    #[n(4)]
    pub state: FoldedState,
}

/// What a record of the chain says.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Change {
    /// Who may do what from here on, and with which keys.
    #[n(0)]
    Keys(#[n(0)] KeysRecord),
    /// Opens a generation: packs that may go.
    #[n(1)]
    Condemn(#[n(0)] CondemnRecord),
    /// Closes a generation: packs that go.
    #[n(2)]
    Verdict(#[n(0)] VerdictRecord),
    /// Names a new set of base segments.
    #[n(3)]
    Merge(#[n(0)] MergeRecord),
}

/// The epoch and the roster.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeysRecord {
    /// The epoch that sessions write in from here on.
    #[n(0)]
    pub epoch: u32,
    /// Who may do what.
    #[n(1)]
    pub roster: Vec<RosterEntry>,
    /// Keys of a new epoch, sealed to each slot that gets them. Empty when the epoch is the one before.
    #[n(2)]
    pub sealed: Vec<SealedEpoch>,
    /// Features in use that a reader must know, beyond those of the config, which never changes.
    #[n(3)]
    pub reader_features: Vec<String>,
    /// Features in use that a writer must know.
    #[n(4)]
    pub writer_features: Vec<String>,
    /// Features in use that a collector must know.
    #[n(5)]
    pub collector_features: Vec<String>,
}

/// One authorised slot.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RosterEntry {
    /// The slot.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub slot: [u8; 16],
    /// What it may do.
    #[n(1)]
    pub capability: Capability,
    /// Where new epochs are sealed to.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub recipient: [u8; 32],
    /// What it signs with; readers have none.
    #[n(3)]
    pub signer: Option<SignerId>,
}

/// The keys of an epoch for one slot.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SealedEpoch {
    /// The slot.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub slot: [u8; 16],
    /// HPKE box with the slot's share of [`crate::repository::keys::EpochKeys`].
    #[n(1)]
    pub sealed: ByteVec,
}

/// Packs that may go, and the sessions known committed when they were found.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CondemnRecord {
    /// The packs.
    #[n(0)]
    pub packs: Vec<PackId>,
    /// The sessions.
    #[n(1)]
    pub committed: Vec<ByteVec>,
}

/// Packs that go for ever.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct VerdictRecord {
    /// The `condemn` that this closes.
    #[n(0)]
    pub condemned_by: u64,
    /// The packs.
    #[n(1)]
    pub dead: Vec<PackId>,
}

/// A new set of base segments.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct MergeRecord {
    /// The segments that these replace.
    #[n(0)]
    pub replaced: Vec<SegmentId>,
    /// The new ones.
    #[n(1)]
    pub segments: Vec<SegmentId>,
}

/// What every record carries on from the ones before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct FoldedState {
    /// Sessions that opened before this record are settled: committed if listed, else void.
    #[n(0)]
    pub floor: u64,
    /// The committed ones below the floor, with the hash of their point.
    #[n(1)]
    pub settled: Vec<SettledSession>,
    /// Segments that stand for all sessions below the floor.
    #[n(2)]
    pub base_segments: Vec<SegmentId>,
    /// Dead packs that a base segment still names.
    #[n(3)]
    pub dead_packs: Vec<PackId>,
}

/// A session that is settled for ever.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SettledSession {
    /// The session.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub session: [u8; 16],
    /// Hash of its point object.
    #[n(1)]
    pub point: ObjectHash,
}
