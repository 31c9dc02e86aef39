//! Who may do what: capabilities, the keys that each of them is, and the slots that hold them.

mod credential;
mod keyring;
mod recipient;
mod share;
mod slot;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use credential::{Credential, SecretKey};
pub use keyring::{EpochKeys, KeyBundle, Keyring};
pub use recipient::RecipientKey;
pub use share::{EpochShare, MAX_SHARE_BYTES};
pub use slot::{MAX_SLOT_BYTES, Pinned, Slot, SlotKind};

/// 32 secret bytes, wiped when dropped.
pub type Secret = Zeroizing<[u8; 32]>;

/// What a key file may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cbor(index_only)]
pub enum Capability {
    /// Everything, and change who may do what.
    #[n(1)]
    Owner,
    /// Back up and deduplicate; read no chunk.
    #[n(2)]
    Writer,
    /// Read; commit nothing.
    #[n(3)]
    Reader,
    /// Prune, repack and scrub; see no content.
    #[n(4)]
    Keeper,
}

impl Capability {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Writer => "writer",
            Self::Reader => "reader",
            Self::Keeper => "keeper",
        }
    }

    /// Whether it may write restore points.
    #[must_use]
    pub const fn may_write(self) -> bool {
        matches!(self, Self::Owner | Self::Writer)
    }

    /// Whether it may condemn and delete what nothing needs.
    #[must_use]
    pub const fn may_collect(self) -> bool {
        matches!(self, Self::Owner | Self::Keeper)
    }

    /// Whether it may forget restore points, and put them on hold.
    #[must_use]
    pub const fn may_forget(self) -> bool {
        !matches!(self, Self::Reader)
    }

    /// Whether it may read content.
    #[must_use]
    pub const fn may_read(self) -> bool {
        matches!(self, Self::Owner | Self::Reader)
    }
}
