//! `config`: what anybody must know before opening the repository. Plaintext, signed by the owner, pinned by every slot.

use minicbor::{Decode, Encode};

use crate::repository::ids::SignerId;

/// Marks a configuration.
pub const MAGIC: &str = "backstay repository";

/// The signed body of `config`.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Config {
    /// [`MAGIC`].
    #[n(0)]
    pub magic: String,
    /// [`crate::repository::crypto::FORMAT_VERSION`].
    #[n(1)]
    pub version: u16,
    /// Random; names the repository.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub repository: [u8; 16],
    /// Cipher suites in use.
    #[n(3)]
    pub suites: Vec<u8>,
    /// Features that a reader must know.
    #[n(4)]
    pub reader_features: Vec<String>,
    /// Features that a writer must know.
    #[n(5)]
    pub writer_features: Vec<String>,
    /// Features that a collector must know.
    #[n(6)]
    pub collector_features: Vec<String>,
    /// How disks are cut unless a map says otherwise.
    #[n(7)]
    pub disk_chunker: String,
    /// How streams are cut unless a map says otherwise.
    #[n(8)]
    pub stream_chunker: String,
    /// The size at which a pack is closed, in bytes.
    #[n(9)]
    pub pack_bytes: u32,
    /// Who signs slots, rosters and this.
    #[n(10)]
    pub owner: SignerId,
    /// When it was made, in nanoseconds since 1970.
    #[n(11)]
    pub created: i64,
    /// What the backend held when probed at `init`: put-if-absent under a race.
    #[n(12)]
    pub create_if_absent: bool,
    /// What the backend held when probed at `init`: a list shows every finished put.
    #[n(13)]
    pub strong_listing: bool,
    /// Only one process at a time may write: the operator asked for that because the store may break what several need.
    #[cbor(n(14), default)]
    pub single_writer: bool,
}

/// FastCDC 2020, normalisation 1, 16 to 256 KiB around 64, gear table keyed by the repository.
pub const STREAM_CHUNKER: &str = "fastcdc-1:16384/65536/262144";
