//! `points/<session>`: a restore point as it is stored.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode, bytes::ByteVec};

use crate::repository::ids::{NodeId, ObjectHash};

/// The signed body of a point.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PointRecord {
    /// The session that wrote it; also its id.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub session: [u8; 16],
    /// The head of the chain that the writer saw.
    #[n(1)]
    pub generation: u64,
    /// The workload's stable name.
    #[n(2)]
    pub workload: String,
    /// What sort of workload.
    #[n(3)]
    pub kind: String,
    /// What the adapter remembers of it.
    #[n(4)]
    pub platform: BTreeMap<String, String>,
    /// Number among the points of the workload, from 1.
    #[n(5)]
    pub sequence: u64,
    /// Hash of the object of the workload's point before this one; zeroes for the first.
    #[n(6)]
    pub previous: ObjectHash,
    /// The point that changes were counted from.
    #[n(7)]
    pub parent: Option<ByteVec>,
    /// The moment whose bytes it holds, in nanoseconds since 1970.
    #[n(8)]
    pub time: i64,
    /// 0 crash, 1 filesystem, 2 application.
    #[n(9)]
    pub consistency: u8,
    /// What the operator wrote on it.
    #[n(10)]
    pub labels: BTreeMap<String, String>,
    /// Disks.
    #[n(11)]
    pub disks: Vec<DiskEntry>,
    /// Streams.
    #[n(12)]
    pub streams: Vec<StreamEntry>,
    /// Attachments.
    #[n(13)]
    pub attachments: Vec<AttachmentEntry>,
    /// Bytes read from the sources.
    #[n(14)]
    pub read_bytes: u64,
    /// Bytes of packs that this session put.
    #[n(15)]
    pub stored_bytes: u64,
    /// Random bytes named per point: the identity of a bitmap that Backstay makes for it.
    #[cbor(n(16), with = "minicbor::bytes")]
    pub mark: [u8; 16],
    /// Where it was copied from.
    #[n(17)]
    pub provenance: Option<ProvenanceEntry>,
    /// One more than the highest of the points that the session saw when it began: what this point uses was stored by sessions
    /// of lower ranks, or by such whose points are forgotten.
    #[n(18)]
    pub rank: Option<u64>,
}

/// Of which point in which repository a point is a copy.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ProvenanceEntry {
    /// The repository.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub repository: [u8; 16],
    /// The point there.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub point: [u8; 16],
    /// The hash of that point's object.
    #[n(2)]
    pub hash: ObjectHash,
}

/// A disk of a point.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct DiskEntry {
    /// Its id within the workload.
    #[n(0)]
    pub id: String,
    /// Its size in bytes.
    #[n(1)]
    pub size: u64,
    /// The root of its map; none when all of it is a hole.
    #[n(2)]
    pub root: Option<NodeId>,
    /// How it was cut.
    #[n(3)]
    pub chunker: String,
    /// What the source said of itself.
    #[n(4)]
    pub token: Option<ByteVec>,
    /// 0 full, 1 changed, 2 compared, 3 untouched.
    #[n(5)]
    pub method: u8,
    /// Why it was read more than it could have been.
    #[n(6)]
    pub reason: Option<String>,
    /// Bytes read from the source.
    #[n(7)]
    pub read_bytes: u64,
}

/// A stream of a point.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct StreamEntry {
    /// Its name within the workload.
    #[n(0)]
    pub name: String,
    /// Its size in bytes.
    #[n(1)]
    pub size: u64,
    /// The root of its map; none when it is empty.
    #[n(2)]
    pub root: Option<NodeId>,
    /// How it was cut.
    #[n(3)]
    pub chunker: String,
}

/// An attachment of a point: stored as a stream.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct AttachmentEntry {
    /// The stream.
    #[n(0)]
    pub stream: StreamEntry,
    /// What it is, as a media type.
    #[n(1)]
    pub media_type: String,
}
