//! `checks/<number>-<id>`: which packs were read to the last byte, and in which order.

use backstay_core::{Error, Result};
use minicbor::{Decode, Encode, bytes::ByteVec};

use crate::repository::ids::PackId;

/// Bytes of a pack's id that are kept: enough to tell the packs of a repository apart.
const PREFIX_BYTES: usize = 8;
/// A prefix and a round.
const ENTRY_BYTES: usize = PREFIX_BYTES + 4;

/// What a check has read.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CheckRecord {
    /// When, in nanoseconds since 1970. For people: rounds tell what came before what.
    #[n(0)]
    pub time: i64,
    /// For each pack that was whole `the first 8 bytes of its id ‖ round u32`.
    #[n(1)]
    pub read: ByteVec,
}

/// The beginning of a pack's id.
pub type Prefix = [u8; PREFIX_BYTES];

/// What stands for a pack in a record.
pub fn prefix(pack: &PackId) -> Prefix {
    let mut prefix = [0; PREFIX_BYTES];
    prefix.copy_from_slice(&pack.0[..PREFIX_BYTES]);
    prefix
}

impl CheckRecord {
    /// Of packs with the round in which each was read.
    pub fn new(time: i64, read: impl IntoIterator<Item = (Prefix, u32)>) -> Self {
        let mut bytes = Vec::new();
        for (prefix, round) in read {
            bytes.extend_from_slice(&prefix);
            bytes.extend_from_slice(&round.to_le_bytes());
        }
        Self { time, read: bytes.into() }
    }

    /// Packs and rounds.
    pub fn entries(&self) -> Result<impl Iterator<Item = (Prefix, u32)> + '_> {
        let (entries, rest) = self.read.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() {
            return Err(Error::integrity("A record of what was read is cut off"));
        }
        Ok(entries.iter().map(|entry| {
            let (mut prefix, mut round) = ([0; PREFIX_BYTES], [0; 4]);
            prefix.copy_from_slice(&entry[..PREFIX_BYTES]);
            round.copy_from_slice(&entry[PREFIX_BYTES..]);
            (prefix, u32::from_le_bytes(round))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_half_of_one_is_refused() {
        let record = CheckRecord::new(5, [([1; 8], 7), ([2; 8], u32::MAX)]);
        assert_eq!(record.entries().unwrap().collect::<Vec<_>>(), [([1; 8], 7), ([2; 8], u32::MAX)]);
        let cut = CheckRecord { time: 0, read: record.read[..13].to_vec().into() };
        assert!(cut.entries().is_err());
    }
}
