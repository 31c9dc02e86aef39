//! Keys of less than an owner, and rosters that list them.

use backstay_core::{Context, ObjectKey, PutMode, StorageBackend};
use backstay_storage::{
    MemoryBackend,
    repository::{
        Capability, Credential,
        crypto::{Domain, ObjectType, envelope, sign},
        format::{
            self,
            chain::{ChainRecord, Change, KeysRecord, RosterEntry},
        },
        ids::ObjectHash,
        keys::{KeyBundle, Keyring, Slot},
    },
};

use super::PASSPHRASE;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

/// Every slot of a repository.
pub async fn slots(memory: &MemoryBackend) -> Vec<(ObjectKey, Slot)> {
    let mut slots = Vec::new();
    for key in memory.keys().into_iter().filter(|key| key.as_str().starts_with("keys/")) {
        let slot = Slot::from_object(&key, &memory.get(&key).await.unwrap()).unwrap();
        slots.push((key, slot));
    }
    slots
}

/// The owner's keys, out of the passphrase slot.
pub async fn owner_bundle(memory: &MemoryBackend) -> (Slot, KeyBundle) {
    let credential = Credential::passphrase(PASSPHRASE);
    for (_, slot) in slots(memory).await {
        if let Some(secret) = slot.kind.secret(&credential).unwrap() {
            let bundle = slot.open(&secret).unwrap().unwrap();
            return (slot, bundle);
        }
    }
    panic!("no passphrase slot")
}

/// A second record of the chain that lets these keys in too.
pub async fn admit(memory: &MemoryBackend, share: &KeyBundle) {
    let (slot, bundle) = owner_bundle(memory).await;
    let first = memory.get(&key("chain/0")).await.unwrap();
    let entry =
        |capability, signer| RosterEntry { slot: slot.id, capability, recipient: slot.recipient, signer, until: None };
    let record = ChainRecord {
        number: 1,
        previous: ObjectHash(*blake3::hash(&first).as_bytes()),
        time: 0,
        change: Change::Keys(KeysRecord {
            epoch: 0,
            roster: vec![entry(Capability::Owner, bundle.signer()), entry(share.capability, share.signer())],
            former: Vec::new(),
            reader_features: Vec::new(),
            writer_features: Vec::new(),
            collector_features: Vec::new(),
        }),
        folded: None,
        keys: None,
    };
    let name = key("chain/1");
    let body = format::encode(&record).unwrap();
    let signer = bundle.owner_signing_key().unwrap();
    let domain = Domain { repository: slot.repository, epoch: 0 };
    let signed = sign::sign(&signer, ObjectType::Chain, &domain, &name, body);
    let keyring = Keyring::new(slot.repository, bundle.clone(), 0);
    let sealed = envelope::seal(
        &keyring.current_epoch().unwrap().structure,
        &keyring.domain(0),
        ObjectType::Chain,
        name.as_str().as_bytes(),
        &format::encode(&signed).unwrap(),
        &Context::default(),
    );
    memory.put(&name, sealed.unwrap().into(), PutMode::Create).await.unwrap();
}
