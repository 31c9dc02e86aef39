//! `holds/<session>/<n>`: whether a point must stay. Of a point's records the one with the highest number counts.

use minicbor::{Decode, Encode};

/// One record about a point.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct HoldRecord {
    /// The session whose point it is.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub session: [u8; 16],
    /// Its place among the point's records: 1, 2, 3 …
    #[n(1)]
    pub number: u64,
    /// When, in nanoseconds since 1970. For people.
    #[n(2)]
    pub time: i64,
    /// What it says.
    #[n(3)]
    pub standing: Standing,
}

/// What a record says about a point.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Standing {
    /// It stays, and why.
    #[n(0)]
    Held(#[n(0)] String),
    /// It may go.
    #[n(1)]
    Released,
    /// It goes: a tombstone follows. Since records are put if absent, a hold comes before this or not at all.
    #[n(2)]
    Going,
}
