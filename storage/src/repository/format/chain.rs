//! `chain/<n>`: the hash-chained, signed records of key changes and of the collector, and what they fold.

use minicbor::{Decode, Encode};

use super::point::PointRecord;
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
    /// What everything up to it comes to; none when nothing was folded yet.
    #[n(4)]
    pub folded: Option<FoldedName>,
    /// The newest record before it that says who may do what; `None` in those themselves.
    #[n(5)]
    pub keys: Option<KeysName>,
}

/// What a record of the chain says.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Change {
    /// Who may do what from here on, and with which keys.
    #[n(0)]
    Keys(#[n(0)] KeysRecord),
    /// Opens a generation: what may go stands in the folded state.
    #[n(1)]
    Condemn,
    /// Closes the generation that this record opened: what goes stands in the folded state.
    #[n(2)]
    Verdict(#[n(0)] u64),
    /// Something was damaged or lost, and the folded state says what takes its place. Comes at any time, also between a *condemn* and
    /// its *verdict*.
    #[n(3)]
    Repair,
}

/// Where a folded state lies, `folded/<number>-<id>`, and the hash of that object. Apart from the record, so that it can be removed
/// when it is superseded, which a record never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct FoldedName {
    /// The record that it was made for. One for a record that is there already and names another can never be named again.
    #[n(0)]
    pub number: u64,
    /// Random.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub id: [u8; 16],
    /// Hash of the object.
    #[n(2)]
    pub hash: ObjectHash,
}

impl FoldedName {
    /// The last part of its key.
    #[must_use]
    pub fn object_name(&self) -> String {
        format!("{}-{}", self.number, hex::encode(self.id))
    }
}

/// Names a *keys* record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeysName {
    /// Its number.
    #[n(0)]
    pub number: u64,
    /// Hash of the object.
    #[n(1)]
    pub hash: ObjectHash,
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
    /// Everybody who ever stood in a roster and no longer does: their points stay theirs.
    #[n(2)]
    pub former: Vec<RosterEntry>,
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
    /// What it signs with. What that is worth the capability says.
    #[n(3)]
    pub signer: Option<SignerId>,
    /// Among the former ones, the record that took it off: of what it signed, sessions that saw an older head count.
    #[n(4)]
    pub until: Option<u64>,
}

/// `folded/<id>`: what a record of the chain carries on from everything before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct FoldedState {
    /// Sessions that saw a head before this record are settled: committed if listed, else void.
    #[n(0)]
    pub floor: u64,
    /// The committed ones below the floor that have a point.
    #[n(1)]
    pub settled: Vec<SettledSession>,
    /// Those of them with a tombstone.
    #[n(2)]
    pub forgotten: Vec<SessionName>,
    /// Segments that stand for all sessions below the floor.
    #[n(3)]
    pub base_segments: Vec<BaseSegment>,
    /// Dead packs that a base segment still names.
    #[n(4)]
    pub dead_packs: Vec<PackId>,
    /// Segments that base segments have replaced; they go with the next verdict.
    #[n(5)]
    pub replaced_segments: Vec<SegmentId>,
    /// The generation that was opened and not closed yet.
    #[n(6)]
    pub open: Option<OpenGeneration>,
    /// Hashes of removed points that a settled one names as the one before it: so that a point which vanished otherwise shows.
    #[n(7)]
    pub gone: Vec<ObjectHash>,
    /// Segments that a commit names and that a repair has replaced: nobody looks at them.
    #[cbor(n(8), default)]
    pub skipped_segments: Vec<SegmentId>,
    /// Sessions whose outcome nobody can read: whatever it says, they are void.
    #[cbor(n(9), default)]
    pub void: Vec<VoidSession>,
    /// The newest repair that has indexed packs which nobody vouches for: points of sessions that saw an older head may lean on them, and
    /// are nobody's parent.
    #[cbor(n(10), default)]
    pub unvouched: u64,
}

/// A session that a repair has declared void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(map)]
pub struct VoidSession {
    /// Which.
    #[n(0)]
    pub session: SessionName,
    /// The record that said so: once the floor is past it, the session is void by that.
    #[n(1)]
    pub number: u64,
}

/// A generation between its opening and its verdict.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct OpenGeneration {
    /// The record that opened it.
    #[n(0)]
    pub number: u64,
    /// Packs that may go.
    #[n(1)]
    pub packs: Vec<PackId>,
    /// Segments that may go.
    #[n(2)]
    pub segments: Vec<SegmentId>,
    /// Sessions that the mark knew committed.
    #[n(3)]
    pub committed: Vec<SessionName>,
    /// Points that the mark knew forgotten.
    #[n(4)]
    pub forgotten: Vec<SessionName>,
}

/// The id of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct SessionName(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; 16]);

/// The origin of packs that no known commit vouches for: they serve restores, and no writer builds on them.
pub const NOBODY: SignerId = SignerId([0; 32]);

/// An index segment and whose packs it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(map)]
pub struct BaseSegment {
    /// The segment.
    #[n(0)]
    pub id: SegmentId,
    /// Whose frames lie in its packs.
    #[n(1)]
    pub origin: SignerId,
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
    /// Who signed it.
    #[n(2)]
    pub origin: SignerId,
    /// What its point says, without change tokens: for lists, that need not read every point.
    #[n(3)]
    pub summary: PointRecord,
}
