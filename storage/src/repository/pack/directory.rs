//! What lies in a pack: which keys its frames use, and each frame in the order of its offset.

use backstay_core::{Error, Result};
use minicbor::{Decode, Encode, bytes::ByteVec};

use crate::repository::{format, ids::SignerId, index::PackKind};

const MAGIC: &[u8; 8] = b"BKSTPACK";
/// Bytes of the trailer.
pub const TRAILER_BYTES: usize = 32;
const RECORD_BYTES: usize = 42;

/// The last bytes of a pack: `magic 8 | version 2 LE | kind 1 | zero 1 | directory length 4 LE | salt 16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Chunks or map nodes.
    pub kind: PackKind,
    /// Length of the sealed directory, which ends where the trailer begins.
    pub directory_bytes: u32,
    /// Random; makes the pack's id one that was never there before, and binds the directory to this pack.
    pub salt: [u8; 16],
}

impl Trailer {
    /// The trailer's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&crate::repository::crypto::FORMAT_VERSION.to_le_bytes());
        bytes[10] = self.kind as u8;
        bytes[12..16].copy_from_slice(&self.directory_bytes.to_le_bytes());
        bytes[16..].copy_from_slice(&self.salt);
        bytes
    }

    /// Reads the end of a pack of `size` bytes.
    pub fn decode(end: &[u8], size: u64) -> Result<Self> {
        let damaged = || Error::integrity("A pack is damaged: its trailer is not one of Backstay's");
        let bytes = end.last_chunk::<TRAILER_BYTES>().ok_or_else(damaged)?;
        if &bytes[..8] != MAGIC {
            return Err(damaged());
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != crate::repository::crypto::FORMAT_VERSION {
            return Err(Error::unsupported(format!(
                "A pack has format version {version}, which this build does not know: use a newer Backstay"
            )));
        }
        let kind = match bytes[10] {
            1 => PackKind::Data,
            2 => PackKind::Meta,
            _ => return Err(damaged()),
        };
        let directory_bytes = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]);
        if bytes[11] != 0 || u64::from(directory_bytes) + TRAILER_BYTES as u64 > size {
            return Err(damaged());
        }
        let mut salt = [0; 16];
        salt.copy_from_slice(&bytes[16..]);
        Ok(Self { kind, directory_bytes, salt })
    }
}

/// Whose frames they are and what opens them.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeyEntry {
    /// The epoch the frames are sealed in.
    #[n(0)]
    pub epoch: u32,
    /// The session that sealed them.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub session: [u8; 16],
    /// The writer whose session it was.
    #[n(2)]
    pub origin: SignerId,
    /// The session's data key, sealed to the epoch's data key; none for map nodes, which use the structure key.
    #[n(3)]
    pub sealed_key: Option<ByteVec>,
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRecord {
    /// The chunk's or node's id.
    pub id: [u8; 32],
    /// Bytes of its content.
    pub plain: u32,
    /// Bytes of the frame.
    pub stored: u32,
    /// Which of [`Directory::keys`].
    pub key: u16,
}

/// The directory of a pack. Frames lie back to back from offset 0, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// The keys in use.
    pub keys: Vec<KeyEntry>,
    /// The frames.
    pub frames: Vec<FrameRecord>,
}

impl Directory {
    /// `keys length 4 LE | keys as CBOR | records of 42: id 32, plain 4 LE, stored 4 LE, key 2 LE`.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let keys = format::encode(&self.keys)?;
        let mut bytes = Vec::with_capacity(4 + keys.len() + self.frames.len() * RECORD_BYTES);
        bytes.extend_from_slice(&(keys.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&keys);
        for frame in &self.frames {
            bytes.extend_from_slice(&frame.id);
            bytes.extend_from_slice(&frame.plain.to_le_bytes());
            bytes.extend_from_slice(&frame.stored.to_le_bytes());
            bytes.extend_from_slice(&frame.key.to_le_bytes());
        }
        Ok(bytes)
    }

    /// Reads an opened directory; `room` is how many bytes of the pack frames can fill.
    pub fn decode(bytes: &[u8], room: u64) -> Result<Self> {
        let damaged = || Error::integrity("The directory of a pack does not make sense");
        let (len, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
        let (keys, records) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(damaged)?;
        let keys: Vec<KeyEntry> = format::decode(keys, "pack directory")?;
        if !records.len().is_multiple_of(RECORD_BYTES) {
            return Err(damaged());
        }
        let mut directory = Self { keys, frames: Vec::with_capacity(records.len() / RECORD_BYTES) };
        let mut end = 0_u64;
        for record in records.chunks_exact(RECORD_BYTES) {
            let number = |at: usize| u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
            let mut id = [0; 32];
            id.copy_from_slice(&record[..32]);
            let frame = FrameRecord {
                id,
                plain: number(32),
                stored: number(36),
                key: u16::from_le_bytes([record[40], record[41]]),
            };
            end += u64::from(frame.stored);
            if usize::from(frame.key) >= directory.keys.len() || end > room {
                return Err(damaged());
            }
            directory.frames.push(frame);
        }
        Ok(directory)
    }

    /// Each frame with its offset.
    pub fn with_offsets(&self) -> impl Iterator<Item = (u32, &FrameRecord)> {
        self.frames.iter().scan(0_u32, |offset, frame| {
            let at = *offset;
            *offset = offset.saturating_add(frame.stored);
            Some((at, frame))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Directory {
        let key =
            KeyEntry { epoch: 1, session: [2; 16], origin: SignerId([3; 32]), sealed_key: Some(vec![4; 80].into()) };
        let frame = |n: u8| FrameRecord { id: [n; 32], plain: 65536, stored: 1000 + u32::from(n), key: 0 };
        Directory { keys: vec![key], frames: (0..5).map(frame).collect() }
    }

    #[test]
    fn a_directory_comes_back_and_knows_its_offsets() {
        let directory = sample();
        assert_eq!(Directory::decode(&directory.encode().unwrap(), 10_000).unwrap(), directory);
        let offsets: Vec<_> = directory.with_offsets().map(|(at, _)| at).collect();
        assert_eq!(offsets, [0, 1000, 2001, 3003, 4006]);
    }

    #[test]
    fn a_directory_that_does_not_fit_its_pack_is_refused() {
        let bytes = sample().encode().unwrap();
        assert!(Directory::decode(&bytes, 5_000).is_err());
        for len in 0..bytes.len() {
            assert!(
                Directory::decode(&bytes[..len], 10_000).is_err() || (bytes.len() - len).is_multiple_of(RECORD_BYTES)
            );
        }
    }

    #[test]
    fn a_trailer_comes_back_and_damage_is_noticed() {
        let trailer = Trailer { kind: PackKind::Meta, directory_bytes: 77, salt: [5; 16] };
        let bytes = trailer.encode();
        assert_eq!(Trailer::decode(&bytes, 1000).unwrap(), trailer);
        assert!(Trailer::decode(&bytes, 100).is_err());
        for at in 0..12 {
            let mut damaged = bytes;
            damaged[at] ^= 0x40;
            assert!(Trailer::decode(&damaged, 1000).is_err(), "byte {at}");
        }
    }
}
