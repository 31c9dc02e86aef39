//! The repository that every run starts from: made once, forked for each.

use std::sync::Arc;

use backstay_core::{Context, ObjectKey, PutMode, Result, StorageBackend};
use backstay_storage::{
    MemoryBackend, Repository,
    repository::{
        Capability, Credential, InitOptions, NewSlot, SecretKey,
        crypto::{Domain, ObjectType, envelope, sign},
        format::{
            self,
            chain::{ChainRecord, Change, KeysRecord, RosterEntry},
        },
        ids::ObjectHash,
        keys::{KeyBundle, Slot},
    },
};

use crate::actor::quiet_context;

/// Who an actor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// May everything.
    Owner,
    /// One backup node, or several clones of it.
    WriterA,
    /// Another backup node.
    WriterB,
    /// Restores.
    Reader,
    /// Forgets and collects.
    Keeper,
}

/// A repository without points, and the keys to it.
pub struct Template {
    pub memory: MemoryBackend,
    pub repository: [u8; 16],
    bundles: [KeyBundle; 5],
}

impl Template {
    /// Makes it. Key derivation costs nothing: the slots are key files.
    pub async fn make() -> Result<Self> {
        let ctx = quiet_context(1);
        let memory = Arc::new(MemoryBackend::new());
        let secret = SecretKey::generate(&ctx)?;
        let options = InitOptions::slots(vec![NewSlot::KeyFile(secret.clone())]).recovery(false).pack_bytes(1 << 20);
        let made = Repository::init(memory.clone(), options, &ctx).await?;
        let (slot, owner) = open_slot(&memory, &secret).await?;
        let share = |capability| owner.restrict(capability, &ctx);
        let (a, b) = (share(Capability::Writer)?, share(Capability::Writer)?);
        let (reader, keeper) = (share(Capability::Reader)?, share(Capability::Keeper)?);
        let bundles = [owner, a, b, reader, keeper];
        let repository = made.repository.config().repository;
        authorise(&memory, repository, &slot, &bundles, &ctx).await?;
        Ok(Self { memory: memory.fork(), repository, bundles })
    }

    pub fn bundle(&self, key: Key) -> KeyBundle {
        self.bundles[key as usize].clone()
    }
}

async fn open_slot(memory: &MemoryBackend, secret: &SecretKey) -> Result<(Slot, KeyBundle)> {
    let keys = memory.keys();
    let key = keys.iter().find(|key| key.as_str().starts_with("keys/")).expect("a repository has a slot");
    let slot = Slot::from_object(key, &memory.get(key).await?)?;
    let secret = slot.kind.secret(&Credential::Key(secret.clone()))?.expect("the slot is a key file");
    let bundle = slot.open(&secret)?.expect("the secret is that of the slot");
    Ok((slot, bundle))
}

/// A record of the chain that puts every key on the roster, as the owner would write it. They share a slot: nobody opens it.
async fn authorise(
    memory: &MemoryBackend,
    repository: [u8; 16],
    slot: &Slot,
    bundles: &[KeyBundle],
    ctx: &Context,
) -> Result<()> {
    let first = memory.get(&ObjectKey::new("chain/0")?).await?;
    let entry = |bundle: &KeyBundle| RosterEntry {
        slot: slot.id,
        capability: bundle.capability,
        recipient: slot.recipient,
        signer: bundle.signer(),
        until: None,
    };
    let record = ChainRecord {
        number: 1,
        previous: ObjectHash(*blake3::hash(&first).as_bytes()),
        time: ctx.now().as_nanos(),
        change: Change::Keys(KeysRecord {
            epoch: 0,
            roster: bundles.iter().map(entry).collect(),
            former: Vec::new(),
            reader_features: Vec::new(),
            writer_features: Vec::new(),
            collector_features: Vec::new(),
        }),
        folded: None,
        keys: None,
    };
    let (domain, key) = (Domain { repository, epoch: 0 }, ObjectKey::new("chain/1")?);
    let owner = &bundles[Key::Owner as usize];
    let signed = sign::sign(&owner.owner_signing_key()?, ObjectType::Chain, &domain, &key, format::encode(&record)?);
    let plain = format::encode(&signed)?;
    let structure = &owner.epochs[0].structure;
    let object = envelope::seal(structure, &domain, ObjectType::Chain, key.as_str().as_bytes(), &plain, ctx)?;
    memory.put(&key, object.into(), PutMode::Create).await
}
