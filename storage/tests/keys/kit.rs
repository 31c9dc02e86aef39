//! Keys on their own, and what somebody does with them who keeps to no rule.

use std::sync::Arc;

use backstay_core::{Context, ErrorKind, ObjectKey, PutMode, RestorePointId, StorageBackend};
use backstay_storage::{
    MemoryBackend, Repository,
    repository::{
        Capability, Credential, NewKey, NewKeyKind, SecretKey,
        crypto::{Domain, ObjectType, envelope, hpke, sign, subkey},
        format::{
            self,
            session::{Outcome, SessionOutcome},
        },
        keys::{EpochKeys, EpochShare, KeyBundle},
    },
};

use crate::common::*;

pub fn ctx() -> Context {
    Context::default()
}

pub fn key(name: impl Into<String>) -> ObjectKey {
    ObjectKey::new(name.into()).unwrap()
}

#[track_caller]
pub fn kind_of<T>(result: backstay_core::Result<T>) -> ErrorKind {
    result.err().unwrap().kind()
}

/// Somebody's key and what it was given.
pub struct Holder {
    pub key: SecretKey,
    pub slot: String,
    pub bundle: KeyBundle,
}

/// A new key file with this capability.
pub async fn holder(memory: &MemoryBackend, owner: &Repository, capability: Capability) -> Holder {
    let secret = SecretKey::generate(&ctx()).unwrap();
    let new = NewKey::new(NewKeyKind::KeyFile(secret.clone()), capability).label(capability.name());
    let added = owner.add_key(new, &ctx()).await.unwrap();
    let credential = Credential::Key(secret.clone());
    let slots = slots(memory).await;
    let (_, slot) = slots.iter().find(|(key, _)| key.name() == added.slot.id).unwrap();
    let bundle = slot.open(&slot.kind.secret(&credential).unwrap().unwrap()).unwrap().unwrap();
    Holder { key: secret, slot: added.slot.id, bundle }
}

impl Holder {
    pub async fn open(&self, memory: &Arc<MemoryBackend>) -> backstay_core::Result<Repository> {
        Repository::open(memory.clone(), Credential::Key(self.key.clone()), &ctx()).await
    }

    /// A client that takes these keys for those of another capability, and asks no roster.
    pub async fn patched(&self, memory: &Arc<MemoryBackend>, capability: Capability) -> Repository {
        let mut bundle = self.bundle.clone();
        bundle.capability = capability;
        Repository::open_with_bundle(memory.clone(), bundle).await.unwrap()
    }

    /// Every 32 bytes in what the holder was given, what can be derived from the keys of epochs, and the slot's own secrets.
    pub fn all_keys(&self) -> Vec<[u8; 32]> {
        let encoded = format::encode(&self.bundle).unwrap();
        let mut keys: Vec<[u8; 32]> = encoded.windows(32).map(|window| window.try_into().unwrap()).collect();
        for epoch in &self.bundle.epochs {
            keys.extend((0..32).map(|kind| *subkey(&epoch.structure, &format!("structure object {kind}"))));
            keys.extend(["nonce", "pack padding", "slot mac"].map(|purpose| *subkey(&epoch.structure, purpose)));
        }
        let secret = *secret_of(&self.key);
        keys.extend([secret, *hpke::key_pair(&secret).unwrap().0, *subkey(&secret, "slot mac")]);
        keys
    }

    /// The private key that shares of later epochs are sealed to.
    pub fn private(&self) -> hpke::PrivateKey {
        hpke::key_pair(&secret_of(&self.key)).unwrap().0
    }

    /// Adds what the store holds for this slot.
    pub async fn with_shares(mut self, memory: &MemoryBackend, owner: &Repository) -> Self {
        let repository = owner.config().repository;
        for name in memory.keys().into_iter().filter(|name| name.as_str().contains(&self.slot)) {
            if !name.as_str().starts_with("epochs/") {
                continue;
            }
            let object = memory.get(&name).await.unwrap();
            let share = EpochShare::from_object(&name, &object, &owner.config().owner, repository).unwrap();
            let keys: EpochKeys = share.open(&self.private(), repository).unwrap();
            self.bundle.add_epoch(keys);
        }
        self
    }
}

fn secret_of(key: &SecretKey) -> backstay_storage::repository::keys::Secret {
    use backstay_storage::repository::keys::SlotKind;
    SlotKind::KeyFile.secret(&Credential::Key(key.clone())).unwrap().unwrap()
}

/// Signs with somebody's own key, seals in their newest epoch, and puts it, whatever is there.
pub async fn forge<T: minicbor::Encode<()>>(
    memory: &MemoryBackend,
    owner: &Repository,
    bundle: &KeyBundle,
    kind: ObjectType,
    name: &ObjectKey,
    record: &T,
) {
    let epoch = bundle.epochs.last().unwrap();
    let domain = Domain { repository: owner.config().repository, epoch: epoch.epoch };
    let body = format::encode(record).unwrap();
    let signed = sign::sign(&bundle.signing_key().unwrap(), kind, &domain, name, body);
    let plain = format::encode(&signed).unwrap();
    let object = envelope::seal(&epoch.structure, &domain, kind, name.as_str().as_bytes(), &plain, &ctx()).unwrap();
    memory.put(name, object.into(), PutMode::Replace).await.unwrap();
}

/// Ends a session in somebody's name.
pub async fn forge_outcome(
    memory: &MemoryBackend,
    owner: &Repository,
    bundle: &KeyBundle,
    session: &RestorePointId,
    outcome: Outcome,
    generation: u64,
) {
    let record = SessionOutcome { session: *session.as_bytes(), token: [7; 16], outcome, generation };
    let name = key(format!("sessions/{session}/outcome"));
    forge(memory, owner, bundle, ObjectType::SessionOutcome, &name, &record).await;
}

/// The names of packs and index segments: what a deletion would take.
pub fn content(memory: &MemoryBackend) -> Vec<ObjectKey> {
    let holds =
        |key: &ObjectKey| ["packs/", "meta/", "index/", "points/"].iter().any(|it| key.as_str().starts_with(it));
    memory.keys().into_iter().filter(holds).collect()
}
