//! The only module that knows ciphers. One file per primitive, so that a suite can be added beside this one.

pub mod aead;
pub mod envelope;
pub mod frame;
pub mod hpke;
pub mod kdf;
pub mod sign;

/// XChaCha20-Poly1305, BLAKE3, Ed25519, HPKE (X25519, HKDF-SHA256, ChaCha20-Poly1305), Argon2id.
pub const SUITE: u8 = 1;

/// Version of the whole on-disk format.
pub const FORMAT_VERSION: u16 = 1;

/// What an object or a frame is. Part of every authenticated context, so that none can stand in for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ObjectType {
    /// A sealed chunk.
    Chunk = 1,
    /// A sealed node of a disk map or a stream map.
    Node = 2,
    /// The directory of a pack.
    Directory = 3,
    /// A page of an index segment.
    IndexPage = 4,
    /// The footer of an index segment.
    IndexFooter = 5,
    /// A restore point.
    Point = 6,
    /// The opening of a session.
    SessionOpen = 7,
    /// The progress of a session.
    SessionCheckpoint = 8,
    /// The end of a session.
    SessionOutcome = 9,
    /// A record of the chain.
    Chain = 10,
    /// The tombstone of a point.
    Forgotten = 11,
    /// Packs that a reader vouches for.
    Verified = 12,
    /// What was read when.
    CheckRecord = 13,
    /// Ranges known to be lost.
    Lost = 14,
    /// The payload of a key slot.
    Slot = 15,
    /// The configuration.
    Config = 16,
    /// The data key of a session, sealed to the data key of its epoch.
    SessionKey = 17,
    /// What a record of the chain carries on.
    Folded = 18,
    /// When a collector saw a session.
    SessionSeen = 19,
    /// Whether a point must stay.
    Hold = 20,
    /// A slot's share of the keys of an epoch.
    EpochShare = 21,
}

/// What every authenticated context begins with: which repository, which epoch, what sort of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    /// The repository.
    pub repository: [u8; 16],
    /// The key epoch.
    pub epoch: u32,
}

impl Domain {
    /// Associated data: `"backstay" | suite | version LE | repository | epoch LE | type | id`.
    #[must_use]
    pub fn aad(&self, kind: ObjectType, id: &[u8]) -> Vec<u8> {
        let mut aad = Vec::with_capacity(32 + id.len());
        aad.extend_from_slice(b"backstay");
        aad.push(SUITE);
        aad.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        aad.extend_from_slice(&self.repository);
        aad.extend_from_slice(&self.epoch.to_le_bytes());
        aad.push(kind as u8);
        aad.extend_from_slice(id);
        aad
    }
}

/// The subkey of `key` for one purpose: BLAKE3 `derive_key` with a context of its own.
#[must_use]
pub fn subkey(key: &[u8; 32], purpose: &str) -> zeroize::Zeroizing<[u8; 32]> {
    zeroize::Zeroizing::new(blake3::derive_key(&format!("backstay 2026-11-20 v1 {purpose}"), key))
}
