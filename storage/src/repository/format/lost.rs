//! `lost/<point>/<n>`: what of a restore point cannot be read any more, as a repair has found.

use minicbor::{Decode, Encode};

use crate::repository::ids::{NodeId, PackId};

/// What is lost of a point. Of a point's records the one with the highest number counts.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LostRecord {
    /// The point.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub point: [u8; 16],
    /// Counts the point's records from 1.
    #[n(1)]
    pub number: u64,
    /// When it was found, in nanoseconds since 1970. For people.
    #[n(2)]
    pub time: i64,
    /// Disks of which something is lost.
    #[n(3)]
    pub disks: Vec<LostPart>,
    /// Streams and attachments of which something is lost.
    #[n(4)]
    pub streams: Vec<LostPart>,
    /// The packs that were given up for lost with it.
    #[n(5)]
    pub packs: Vec<PackId>,
}

/// What is lost of a disk or a stream.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LostPart {
    /// The disk's id or the stream's name.
    #[n(0)]
    pub name: String,
    /// The ranges, in rising order.
    #[n(1)]
    pub ranges: Vec<LostRange>,
    /// Nodes of its map that are lost; what lies below them is among the ranges.
    #[n(2)]
    pub nodes: Vec<NodeId>,
    /// Whether one of them lies above the leaves, so that nobody knows which chunks lie below it.
    #[n(3)]
    pub map: bool,
}

/// Bytes of a disk or a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct LostRange {
    /// Where they begin.
    #[n(0)]
    pub offset: u64,
    /// How many.
    #[n(1)]
    pub bytes: u64,
}
