//! The keys that a slot holds and the ring they hang on while a repository is open.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use backstay_core::{Error, Result};
use ed25519_dalek::SigningKey;
use minicbor::{Decode, Encode};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Capability, Secret};
use crate::repository::{
    chunk::IdKeys,
    crypto::{self, Domain, hpke},
    ids::{NodeId, SignerId},
};

/// The keys of one epoch, as far as a capability has them.
#[derive(Clone, Encode, Decode, Zeroize, ZeroizeOnDrop)]
#[cbor(map)]
pub struct EpochKeys {
    /// Which epoch.
    #[n(0)]
    pub epoch: u32,
    /// Seals maps, indexes and records.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub structure: [u8; 32],
    /// Session keys are sealed to this.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub data_public: [u8; 32],
    /// Opens session keys; owners and readers have it.
    #[n(3)]
    data_private: Option<Bytes32>,
}

/// 32 bytes inside a secret record.
#[derive(Clone, Encode, Decode, Zeroize, ZeroizeOnDrop)]
#[cbor(transparent)]
struct Bytes32(#[cbor(n(0), with = "minicbor::bytes")] [u8; 32]);

impl EpochKeys {
    /// Fresh random keys for an epoch.
    pub fn generate(epoch: u32, ctx: &backstay_core::Context) -> Result<Self> {
        let (private, data_public) = hpke::key_pair(&Zeroizing::new(ctx.random()?))?;
        Ok(Self { epoch, structure: ctx.random()?, data_public, data_private: Some(Bytes32(*private)) })
    }

    /// What opens session keys.
    #[must_use]
    pub fn data_private(&self) -> Option<hpke::PrivateKey> {
        self.data_private.as_ref().map(|key| Zeroizing::new(key.0))
    }

    /// The share of a capability.
    #[must_use]
    pub fn restrict(&self, capability: Capability) -> Self {
        let mut keys = self.clone();
        if !capability.may_read() {
            keys.data_private = None;
        }
        keys
    }
}

/// What a slot holds: the keys of one capability.
#[derive(Clone, Encode, Decode, Zeroize, ZeroizeOnDrop)]
#[cbor(map)]
pub struct KeyBundle {
    /// What these keys can do.
    #[n(0)]
    #[zeroize(skip)]
    pub capability: Capability,
    /// Keys the block hashes; everybody but keepers has it.
    #[n(1)]
    cut: Option<Bytes32>,
    /// Keys the chunk ids; everybody but keepers has it.
    #[n(2)]
    id: Option<Bytes32>,
    /// Keys the node ids.
    #[n(3)]
    node: Option<Bytes32>,
    /// Own Ed25519 seed.
    #[n(4)]
    signing: Option<Bytes32>,
    /// The owner's Ed25519 seed; owners have it.
    #[n(5)]
    owner_signing: Option<Bytes32>,
    /// Every epoch so far.
    #[n(6)]
    pub epochs: Vec<EpochKeys>,
}

impl KeyBundle {
    /// The keys of a new repository.
    pub fn generate(ctx: &backstay_core::Context) -> Result<Self> {
        let fresh = || Ok::<_, Error>(Some(Bytes32(ctx.random()?)));
        Ok(Self {
            capability: Capability::Owner,
            cut: fresh()?,
            id: fresh()?,
            node: fresh()?,
            signing: fresh()?,
            owner_signing: fresh()?,
            epochs: vec![EpochKeys::generate(0, ctx)?],
        })
    }

    /// The share of another capability, with a signing key of its own. Readers have one too: the roster says what it is worth.
    pub fn restrict(&self, capability: Capability, ctx: &backstay_core::Context) -> Result<Self> {
        let mut share = self.clone();
        share.capability = capability;
        share.epochs = self.epochs.iter().map(|epoch| epoch.restrict(capability)).collect();
        if capability == Capability::Owner {
            return Ok(share);
        }
        share.owner_signing = None;
        share.signing = Some(Bytes32(ctx.random()?));
        if capability == Capability::Keeper {
            (share.cut, share.id, share.node) = (None, None, None);
        }
        Ok(share)
    }

    /// Adds the keys of another epoch; what is known of it already stays.
    pub fn add_epoch(&mut self, keys: EpochKeys) {
        if self.epochs.iter().all(|known| known.epoch != keys.epoch) {
            self.epochs.push(keys);
        }
    }

    /// The key that records are signed with.
    pub fn signing_key(&self) -> Result<SigningKey> {
        let seed = self.signing.as_ref().ok_or_else(|| lacks(self.capability, "sign anything"))?;
        Ok(SigningKey::from_bytes(&seed.0))
    }

    /// Who signs with these keys.
    #[must_use]
    pub fn signer(&self) -> Option<SignerId> {
        self.signing_key().ok().map(|key| SignerId(key.verifying_key().to_bytes()))
    }

    /// The key that config, slots and rosters are signed with.
    pub fn owner_signing_key(&self) -> Result<SigningKey> {
        let seed = self.owner_signing.as_ref().ok_or_else(|| lacks(self.capability, "change who may do what"))?;
        Ok(SigningKey::from_bytes(&seed.0))
    }
}

fn lacks(capability: Capability, what: &str) -> Error {
    Error::permission_denied(format!("A {} key cannot {what}; open the repository with another key", capability.name()))
}

/// The keys of an open repository.
pub struct Keyring {
    repository: [u8; 16],
    bundle: KeyBundle,
    ids: Option<IdKeys>,
    current: u32,
    newest_keys: AtomicU64,
}

impl Keyring {
    /// Hangs a bundle on the ring; `current` is the epoch that sessions write in.
    #[must_use]
    pub fn new(repository: [u8; 16], bundle: KeyBundle, current: u32) -> Self {
        let ids = bundle.cut.as_ref().zip(bundle.id.as_ref()).map(|(cut, id)| IdKeys::new(cut.0, id.0));
        Self { repository, bundle, ids, current, newest_keys: AtomicU64::new(0) }
    }

    /// The newest *keys* record of the chain that was ever seen with this ring.
    #[must_use]
    pub fn newest_keys(&self) -> u64 {
        self.newest_keys.load(SeqCst)
    }

    /// Remembers that this *keys* record is there, so that a chain that has forgotten it is noticed.
    pub fn saw_keys(&self, number: u64) {
        self.newest_keys.fetch_max(number, SeqCst);
    }

    /// What the keys can do.
    #[must_use]
    pub const fn capability(&self) -> Capability {
        self.bundle.capability
    }

    /// The bundle.
    #[must_use]
    pub const fn bundle(&self) -> &KeyBundle {
        &self.bundle
    }

    /// The repository.
    #[must_use]
    pub const fn repository(&self) -> &[u8; 16] {
        &self.repository
    }

    /// The number of the epoch that sessions write in.
    #[must_use]
    pub const fn current_number(&self) -> u32 {
        self.current
    }

    /// The keys of the epoch that sessions write in.
    pub fn current_epoch(&self) -> Result<&EpochKeys> {
        self.epoch(self.current)
    }

    /// The keys of an epoch.
    pub fn epoch(&self, epoch: u32) -> Result<&EpochKeys> {
        self.bundle.epochs.iter().find(|keys| keys.epoch == epoch).ok_or_else(|| {
            Error::integrity("An object names a key epoch that the repository does not have: its header is damaged")
                .with_context("epoch", epoch)
        })
    }

    /// What ids of chunks are made with.
    pub fn ids(&self) -> Result<&IdKeys> {
        self.ids.as_ref().ok_or_else(|| lacks(self.bundle.capability, "see or make chunks"))
    }

    /// The id of a map node.
    pub fn node_id(&self, node: &[u8]) -> Result<NodeId> {
        let key = self.bundle.node.as_ref().ok_or_else(|| lacks(self.bundle.capability, "make maps"))?;
        Ok(NodeId(*blake3::keyed_hash(&key.0, node).as_bytes()))
    }

    /// The authenticated context of an epoch.
    #[must_use]
    pub const fn domain(&self, epoch: u32) -> Domain {
        Domain { repository: self.repository, epoch }
    }

    /// The key that map nodes of an epoch are sealed with.
    pub fn node_key(&self, epoch: u32) -> Result<Secret> {
        Ok(crypto::envelope::key_for(&self.epoch(epoch)?.structure, crypto::ObjectType::Node))
    }

    /// Opens a session's data key.
    pub fn open_session_key(&self, epoch: u32, session: &[u8; 16], sealed: &[u8]) -> Result<Secret> {
        let private = self.epoch(epoch)?.data_private().ok_or_else(|| lacks(self.bundle.capability, "read content"))?;
        let aad = self.domain(epoch).aad(crypto::ObjectType::SessionKey, session);
        let opened = hpke::open(&private, &aad, sealed)?;
        let key = opened.and_then(|bytes| bytes.as_slice().try_into().ok());
        key.map(Zeroizing::new)
            .ok_or_else(|| Error::integrity("The data key of a session does not open: its pack is damaged"))
    }
}
