//! Packs: many sealed frames in one object, `frames | padding | sealed directory | trailer`.
//!
//! The directory is sealed and the object padded to 64 KiB with bytes that look like ciphertext, so that no chunk's size
//! shows. The id is the hash of all bytes: whoever holds no key can still tell a damaged pack.

mod builder;
mod directory;
mod packer;

pub use builder::{FinishedPack, PackBuilder, SealedBatch};
pub use directory::{Directory, FrameRecord, KeyEntry, TRAILER_BYTES, Trailer};
pub use packer::{PackedFrame, Packer, StoredPack};

use backstay_core::{ObjectKey, Result};

use super::{ids::PackId, index::PackKind};

/// Packs are a multiple of this, in bytes.
pub const PAD_BYTES: usize = 64 << 10;
/// The largest pack that is read, in bytes.
pub const MAX_PACK_BYTES: u64 = 256 << 20;

/// The object name of a pack.
pub fn pack_key(kind: PackKind, id: &PackId) -> Result<ObjectKey> {
    let folder = match kind {
        PackKind::Data => "packs",
        PackKind::Meta => "meta",
    };
    let hex = id.to_hex();
    ObjectKey::new(format!("{folder}/{}/{hex}", &hex[..2]))
}
