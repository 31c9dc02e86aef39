//! One more way in.

use backstay_core::{Context, Error, ErrorKind, ObjectKey, Result};
use secrecy::ExposeSecret;

use super::{ATTEMPTS, AddedKey, KeySlot, NewKey, NewKeyKind, signer_text, too_many};
use crate::repository::{
    Repository,
    chain::Chain,
    crypto::hpke,
    format::{
        chain::{Change, KeysRecord, RosterEntry},
        config::Config,
    },
    ids::ObjectHash,
    keys::{Credential, KeyBundle, Pinned, SecretKey, Slot, SlotKind},
    objects::object_hash,
};

/// The longest label, in bytes.
const MAX_LABEL_BYTES: usize = 255;
/// The most slots: an opener looks at no more.
const MAX_SLOTS: usize = 200;

/// What opens a slot that is about to be made.
enum Lock {
    Secret(Credential),
    Public([u8; 32]),
}

impl Repository {
    /// Makes one more way into the repository, with the keys of its capability.
    ///
    /// `PermissionDenied` for anybody but an owner; `AlreadyExists` when what opens it opens another slot; `Conflict` when keys
    /// were rotated since the repository was opened and it cannot be opened again by itself.
    pub async fn add_key(&self, new: NewKey, ctx: &Context) -> Result<AddedKey> {
        self.must_be_owner("add keys")?;
        check_label(&new.label)?;
        let mut recovery_key = None;
        let (mut kind, lock) = match new.kind {
            NewKeyKind::Passphrase(passphrase) => {
                new.kdf.check()?;
                if SecretKey::parse(passphrase.expose_secret()).is_ok() {
                    return Err(Error::invalid_input("A Backstay key cannot be a passphrase; choose another one"));
                }
                let kind = SlotKind::Passphrase { kdf: new.kdf, salt: ctx.random()? };
                (kind, Lock::Secret(Credential::Passphrase(passphrase)))
            }
            NewKeyKind::KeyFile(key) => (SlotKind::KeyFile, Lock::Secret(Credential::Key(key))),
            NewKeyKind::Recipient(key) => (SlotKind::Recipient, Lock::Public(key.0)),
            NewKeyKind::Recovery => {
                let key = SecretKey::generate(ctx)?;
                recovery_key = Some(key.to_text());
                (SlotKind::Recovery, Lock::Secret(Credential::Key(key)))
            }
        };
        self.must_be_new(&lock, ctx).await?;
        for _ in 0..ATTEMPTS {
            ctx.check()?;
            // With the keys of every epoch so far: what is put into the slot is all that it has until the next one.
            let repository = self.current().await?;
            let chain = repository.chain().await?;
            if chain.roster.len() >= MAX_SLOTS {
                return Err(Error::invalid_input("The repository has as many keys as it can: remove one first"));
            }
            if let SlotKind::Passphrase { salt, .. } = &mut kind {
                *salt = ctx.random()?;
            }
            let share = repository.objects().keyring().bundle().restrict(new.capability, ctx)?;
            let slot = repository.make_slot(kind.clone(), &new.label, &lock, share.clone(), ctx).await?;
            let entry = RosterEntry {
                slot: slot.id,
                capability: new.capability,
                recipient: slot.recipient,
                signer: share.signer(),
                until: None,
            };
            let key = Slot::key(&slot.id)?;
            let object = slot.to_object(repository.objects().keyring().bundle())?;
            repository.objects().put_new(&key, object.into(), ctx).await?;
            let record = keys_record(&chain, chain.epoch, |roster| roster.push(entry));
            if chain.append(repository.objects(), Change::Keys(record), None, ctx).await? {
                let slot = KeySlot {
                    id: hex::encode(slot.id),
                    kind: slot.kind.name(),
                    capability: new.capability,
                    label: new.label,
                    signer: signer_text(share.signer()),
                    opened: false,
                };
                return Ok(AddedKey { slot, recovery_key });
            }
            // Nobody will ever name it.
            repository.delete_quietly(&key, ctx).await;
        }
        Err(too_many())
    }

    async fn make_slot(
        &self,
        kind: SlotKind,
        label: &str,
        lock: &Lock,
        share: KeyBundle,
        ctx: &Context,
    ) -> Result<Slot> {
        let Config { repository, owner, .. } = *self.config();
        let pinned = Pinned { repository, config: self.config_hash().await?, owner };
        let (label, job) = (label.to_owned(), ctx.clone());
        let lock = match lock {
            Lock::Public(recipient) => Lock::Public(*recipient),
            Lock::Secret(credential) => Lock::Secret(credential.clone()),
        };
        ctx.cpu(move || match lock {
            Lock::Public(recipient) => Slot::sealed_to(recipient, kind, &label, &share, &pinned, &job),
            Lock::Secret(credential) => {
                let secret =
                    kind.secret(&credential)?.ok_or_else(|| Error::internal("A slot does not fit its credential"))?;
                Slot::create(kind, &label, &secret, &share, &pinned, &job)
            }
        })
        .await
    }

    /// The hash of `config` that slots pin. It is never written again, so that what is there now must be what was opened.
    async fn config_hash(&self) -> Result<ObjectHash> {
        let object = self.backend().get(&ObjectKey::new("config")?).await?;
        let hash = object_hash(&object);
        let roster = self.chain().await?.roster;
        for entry in &roster {
            match self.slot(&entry.slot).await {
                Ok(slot) if slot.config == hash => return Ok(hash),
                Ok(_) => break,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Integrity) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::integrity("The repository's `config` is not the one that its key slots were made for"))
    }

    /// Of two slots that one secret opens, chance would say which is opened.
    async fn must_be_new(&self, lock: &Lock, ctx: &Context) -> Result<()> {
        let chain = self.chain().await?;
        for entry in &chain.roster {
            ctx.check()?;
            let recipient = match lock {
                Lock::Public(recipient) => Some(*recipient),
                Lock::Secret(Credential::Key(key)) => Some(key.recipient()?.0),
                Lock::Secret(credential) => {
                    let (slot, credential) = (self.slot(&entry.slot).await, credential.clone());
                    let Ok(slot) = slot else { continue };
                    let secret = ctx.cpu(move || slot.kind.secret(&credential)).await?;
                    secret.map(|secret| hpke::key_pair(&secret)).transpose()?.map(|(_, public)| public)
                }
            };
            if recipient == Some(entry.recipient) {
                return Err(Error::already_exists(
                    "This opens the repository already; use another one, or remove that first",
                )
                .with_context("slot", hex::encode(entry.slot))
                .with_context("capability", entry.capability.name()));
            }
        }
        Ok(())
    }

    /// Removes what says nothing any more. A store that keeps it does no harm.
    pub(super) async fn delete_quietly(&self, key: &ObjectKey, ctx: &Context) {
        if let Err(error) = self.backend().delete(key).await
            && error.kind() != ErrorKind::NotFound
        {
            ctx.task("remove what is left of a key", None).warn(format!("{key} stays in the store: {error}"));
        }
    }
}

/// What the chain says now, with another roster.
pub(super) fn keys_record(chain: &Chain, epoch: u32, change: impl FnOnce(&mut Vec<RosterEntry>)) -> KeysRecord {
    let mut roster = chain.roster.clone();
    change(&mut roster);
    KeysRecord {
        epoch,
        roster,
        former: chain.former.clone(),
        // A build that knew of any would not have come here.
        reader_features: Vec::new(),
        writer_features: Vec::new(),
        collector_features: chain.collector_features.clone(),
    }
}

fn check_label(label: &str) -> Result<()> {
    if label.len() > MAX_LABEL_BYTES || label.chars().any(char::is_control) {
        return Err(Error::invalid_input("A label is one line of at most 255 bytes"));
    }
    Ok(())
}
