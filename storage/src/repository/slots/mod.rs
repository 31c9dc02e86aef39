//! Changing who may do what: the key slots of a repository and the epochs of its keys. Owners alone.
//!
//! Every change is one record of the chain, put if absent: of two at once one wins and the other starts over. What is put before it
//! (a slot, shares in an epoch) says nothing without it.

mod add;
mod list;
mod rotate;

use backstay_core::{Error, Result};
use secrecy::SecretString;
use serde::Serialize;

use super::{
    Repository,
    crypto::kdf::KdfParameters,
    ids::SignerId,
    keys::{Capability, RecipientKey, SecretKey},
};

/// How often a change starts over because the chain moved.
const ATTEMPTS: usize = 32;

/// A way into the repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KeySlot {
    /// Its id: 32 hex digits.
    pub id: String,
    /// What opens it: `passphrase`, `key-file`, `recovery` or `recipient`; `missing` or `damaged` when its object is.
    pub kind: &'static str,
    /// What it may do.
    pub capability: Capability,
    /// What the operator calls it.
    pub label: String,
    /// The public key that it signs with, in 64 hex digits. All owners share one.
    pub signer: Option<String>,
    /// Whether it is the one that this repository was opened with.
    pub opened: bool,
}

/// A way in that is to be made.
#[derive(Debug)]
#[non_exhaustive]
pub struct NewKey {
    /// What opens it.
    pub kind: NewKeyKind,
    /// What it may do.
    pub capability: Capability,
    /// What the operator calls it. Stands in clear in the store; at most 255 bytes.
    pub label: String,
    /// What a guess at a passphrase costs.
    pub kdf: KdfParameters,
}

/// What opens a new slot.
pub enum NewKeyKind {
    /// A passphrase.
    Passphrase(SecretString),
    /// A key file.
    KeyFile(SecretKey),
    /// The key whose public half this is. Whoever has it must be told the owner's public key to open the slot.
    Recipient(RecipientKey),
    /// A recovery key, which is drawn and given back once.
    Recovery,
}

impl std::fmt::Debug for NewKeyKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase(…)",
            Self::KeyFile(_) => "KeyFile(…)",
            Self::Recipient(_) => "Recipient",
            Self::Recovery => "Recovery",
        })
    }
}

impl NewKey {
    /// A way in with this capability, without a label.
    #[must_use]
    pub fn new(kind: NewKeyKind, capability: Capability) -> Self {
        Self { kind, capability, label: String::new(), kdf: KdfParameters::default() }
    }

    /// Sets [`Self::label`].
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Sets [`Self::kdf`].
    #[must_use]
    pub const fn kdf(mut self, kdf: KdfParameters) -> Self {
        self.kdf = kdf;
        self
    }
}

/// A way in that was made.
#[derive(Debug)]
#[non_exhaustive]
pub struct AddedKey {
    /// It.
    pub slot: KeySlot,
    /// The recovery key, if one was drawn. This is the only time that it is seen.
    pub recovery_key: Option<SecretString>,
}

/// What a change of epochs came to.
#[derive(Debug)]
#[non_exhaustive]
pub struct Rotation {
    /// The repository with the keys of the new epoch. The one that was asked knows the old ones alone.
    pub repository: Repository,
    /// The new epoch.
    pub epoch: u32,
    /// The slot that was removed.
    pub removed: Option<KeySlot>,
}

impl Repository {
    /// The public key of the owner, in 64 hex digits: what slots for recipients are opened against.
    #[must_use]
    pub fn owner(&self) -> String {
        self.config().owner.to_hex()
    }

    fn must_be_owner(&self, what: &str) -> Result<()> {
        match self.capability() {
            Capability::Owner => Ok(()),
            other => Err(Error::permission_denied(format!(
                "A {} key cannot {what}; open the repository with an owner's key",
                other.name()
            ))),
        }
    }

    /// The same repository with the keys of today.
    async fn current(&self) -> Result<Self> {
        match self.chain().await {
            Ok(_) => Ok(self.clone()),
            Err(error) if error.kind() == backstay_core::ErrorKind::Conflict && self.shared.way_in.is_some() => {
                self.reopen().await
            }
            Err(error) => Err(error),
        }
    }
}

fn signer_text(signer: Option<SignerId>) -> Option<String> {
    signer.map(SignerId::to_hex)
}

fn too_many() -> Error {
    Error::conflict("Others change the repository faster than its keys can be changed; try again").retryable()
}
