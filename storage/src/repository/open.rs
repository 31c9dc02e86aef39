//! Opening a repository: slot, config, chain.

use std::{collections::HashSet, sync::Arc};

use backstay_core::{Context, Error, ErrorKind, ObjectKey, Result, ResultExt, StorageBackend};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    Repository,
    chain::Chain,
    crypto::{Domain, FORMAT_VERSION, ObjectType, SUITE, hpke, sign},
    format::{
        self,
        chain::{KeysRecord, RosterEntry},
        config::{Config, MAGIC},
    },
    ids::{ObjectHash, SignerId},
    keys::{Credential, EpochKeys, EpochShare, KeyBundle, Keyring, MAX_SHARE_BYTES, Slot, SlotKind},
    objects::{Objects, object_hash},
    state::SMALL_READS,
};

/// How often opening starts over because keys change meanwhile.
const ATTEMPTS: usize = 8;
/// More epochs than anybody has; a hostile store could show millions.
const MAX_SHARES: usize = 16 << 10;

/// More slots than anybody has; a hostile store could show millions.
const MAX_SLOTS: usize = 256;
/// How many passphrase slots are tried: each costs an Argon2id run.
const MAX_PASSPHRASE_SLOTS: usize = 16;

/// What a repository was opened with, for the keys of epochs that come later.
#[derive(Clone)]
pub struct WayIn {
    /// The slot.
    pub slot: [u8; 16],
    /// Opens its shares.
    private: hpke::PrivateKey,
}

impl Repository {
    /// Opens a repository.
    ///
    /// `NotFound`: there is none at this place. `PermissionDenied`: the credential opens no slot, or one that was removed.
    /// `Integrity`: what it opens was tampered with. `Unsupported`: the repository needs a newer Backstay.
    pub async fn open(backend: Arc<dyn StorageBackend>, credential: Credential, ctx: &Context) -> Result<Self> {
        let (config, config_hash) = config_of(&*backend).await?;
        if let Credential::Recipient { owner, .. } = &credential
            && *owner != config.owner
        {
            return Err(Error::integrity(
                "The repository belongs to another owner than the key was made for: it was replaced, or is the wrong one",
            )
            .with_context("owner", config.owner));
        }
        // A `key add` that was interrupted leaves a slot that no roster names, and another one may be open to the same credential.
        let (mut passed_over, mut refused) = (HashSet::new(), None);
        while passed_over.len() < MAX_SLOTS {
            let opened = open_slot(&*backend, &config, config_hash, &credential, &passed_over, ctx).await;
            let (slot, bundle, private) = match opened {
                Ok(opened) => opened,
                Err(error) => return Err(refused.unwrap_or(error)),
            };
            let way_in = WayIn { slot: slot.id, private };
            match Self::join(Arc::clone(&backend), config.clone(), bundle, way_in).await {
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    passed_over.insert(slot.id);
                    refused.get_or_insert(error);
                }
                joined => return joined,
            }
        }
        Err(refused.unwrap_or_else(|| Error::permission_denied("This key opens no slot that counts")))
    }

    /// Opens it once more with the same key, for instance after `Conflict` because keys were rotated.
    ///
    /// `PermissionDenied`: the key was removed meanwhile. `Conflict` for a repository that was just made: open that by its key.
    pub async fn reopen(&self) -> Result<Self> {
        let way_in = self.shared.way_in.clone().ok_or_else(|| {
            Error::conflict(
                "The repository was not opened with a key slot, so that it cannot be opened again by itself",
            )
        })?;
        let bundle = self.objects().keyring().bundle().clone();
        Self::join(Arc::clone(self.backend()), self.config().clone(), bundle, way_in).await
    }

    /// Adds the keys of later epochs and reads the chain.
    async fn join(backend: Arc<dyn StorageBackend>, config: Config, bundle: KeyBundle, way_in: WayIn) -> Result<Self> {
        let mut missing = None;
        for _ in 0..ATTEMPTS {
            // Shares are put before the record that starts their epoch, so a chain that is read later finds them here.
            let shares = Shares::load(&*backend, &config, &way_in).await?;
            let mut bundle = bundle.clone();
            shares.keys.iter().for_each(|share| bundle.add_epoch(share.keys.clone()));
            let keyring = Keyring::new(config.repository, bundle.clone(), 0);
            let objects = Objects::new(Arc::clone(&backend), Arc::new(keyring));
            let now = Authorised::load(&objects, &config.owner).await?;
            now.must_list(&way_in.slot)?;
            if bundle.epochs.iter().all(|keys| keys.epoch != now.epoch) {
                // Put just now, or lost.
                missing = Some((now.epoch, shares.damaged));
                continue;
            }
            // The keys of this slot were changed by a newer record than the chain knows: it is, or the chain was cut back.
            if let Some(newer) = shares.newer_record(&objects, &config.owner, now.number).await? {
                objects.keyring().saw_keys(newer);
                Chain::load(&objects, &config.owner).await?;
                continue;
            }
            let keyring = Keyring::new(config.repository, bundle, now.epoch);
            keyring.saw_keys(now.number);
            return Ok(Self::new(Objects::new(backend, Arc::new(keyring)), config, Some(way_in)));
        }
        match missing {
            None => Err(Error::conflict("Keys change faster than the repository can be opened; try again").retryable()),
            Some((_, Some(damaged))) => Err(damaged),
            Some((epoch, None)) => Err(Error::integrity(
                "This key's share in the repository's newest epoch is missing; open the repository with another key",
            )
            .with_context("object", EpochShare::key(&way_in.slot, epoch)?)),
        }
    }

    /// Opens a repository with keys that are at hand already and not with those of a slot.
    #[doc(hidden)]
    pub async fn open_with_bundle(backend: Arc<dyn StorageBackend>, bundle: KeyBundle) -> Result<Self> {
        let (config, _) = config_of(&*backend).await?;
        let objects = Objects::new(Arc::clone(&backend), Arc::new(Keyring::new(config.repository, bundle.clone(), 0)));
        let chain = Chain::load(&objects, &config.owner).await?;
        let objects = Objects::new(backend, Arc::new(Keyring::new(config.repository, bundle, chain.epoch)));
        Ok(Self::new(objects, config, None))
    }
}

/// Who may do what now, as far as this slot can see it.
struct Authorised {
    roster: Vec<RosterEntry>,
    former: Vec<RosterEntry>,
    epoch: u32,
    number: u64,
}

impl Authorised {
    async fn load(objects: &Objects, owner: &SignerId) -> Result<Self> {
        match Chain::load(objects, owner).await {
            Ok(Chain { roster, former, epoch, keys, .. }) => Ok(Self { roster, former, epoch, number: keys.number }),
            // The newest record is of an epoch without a share here. The one that started it says whether there ought to be one.
            Err(error) if error.kind() == ErrorKind::Conflict => match Chain::unknown_epoch(objects, owner).await? {
                Some((number, KeysRecord { roster, former, epoch, .. })) => Ok(Self { roster, former, epoch, number }),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    fn must_list(&self, slot: &[u8; 16]) -> Result<()> {
        let lists = |entries: &[RosterEntry]| entries.iter().any(|entry| entry.slot == *slot);
        match (lists(&self.roster), lists(&self.former)) {
            (true, _) => Ok(()),
            (false, true) => Err(Error::permission_denied("This key was removed from the repository; use another one")),
            (false, false) => Err(Error::permission_denied(
                "This key is not on the repository's roster: it was removed, or the `key add` that made it was interrupted. \
                 Use another key, or add one",
            )),
        }
    }
}

/// A slot's keys of one later epoch.
struct Share {
    keys: EpochKeys,
    /// The record that it was made for.
    record: u64,
}

/// A slot's keys of later epochs.
struct Shares {
    keys: Vec<Share>,
    /// One could not be read. Only what is sealed in its epoch cannot be read either.
    damaged: Option<Error>,
}

impl Shares {
    async fn load(backend: &dyn StorageBackend, config: &Config, way_in: &WayIn) -> Result<Self> {
        let folder = EpochShare::folder(&way_in.slot)?;
        let listed = backend.list(Some(&folder)).take(MAX_SHARES).map_ok(|meta| (meta.key, meta.size));
        let listed: Vec<_> = listed.try_collect().await?;
        let mut reads = stream::iter(listed)
            .map(|(key, size)| async move {
                if size > MAX_SHARE_BYTES as u64 {
                    return Err(Error::integrity("A share in an epoch is far too large").with_context("object", key));
                }
                let object = backend.get(&key).await?;
                let share = EpochShare::from_object(&key, &object, &config.owner, config.repository)?;
                let keys = share.open(&way_in.private, config.repository).context("object", &key)?;
                Ok(Share { keys, record: share.record })
            })
            .buffer_unordered(SMALL_READS);
        let mut shares = Self { keys: Vec::new(), damaged: None };
        while let Some(share) = reads.next().await {
            match share {
                Ok(share) => shares.keys.push(share),
                Err(error)
                    if matches!(error.kind(), ErrorKind::Integrity | ErrorKind::NotFound | ErrorKind::Unsupported) =>
                {
                    shares.damaged = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        drop(reads);
        shares.keys.sort_by_key(|share| share.keys.epoch);
        Ok(shares)
    }

    /// The newest record after `known` that a share was made for and that did start its epoch.
    async fn newer_record(&self, objects: &Objects, owner: &SignerId, known: u64) -> Result<Option<u64>> {
        let mut newer: Vec<_> = self.keys.iter().filter(|share| share.record > known).collect();
        newer.sort_by_key(|share| std::cmp::Reverse(share.record));
        for share in newer {
            if Chain::started(objects, owner, share.record, share.keys.epoch).await?.is_some() {
                return Ok(Some(share.record));
            }
        }
        Ok(None)
    }
}

/// The configuration and the hash of its object.
async fn config_of(backend: &dyn StorageBackend) -> Result<(Config, ObjectHash)> {
    let key = ObjectKey::new("config")?;
    let object = backend.get(&key).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::not_found("There is no Backstay repository here; make one with `init`")
            .with_context("repository", backend.location()),
        _ => error,
    })?;
    Ok((read_config(&key, &object)?, object_hash(&object)))
}

fn read_config(key: &ObjectKey, object: &[u8]) -> Result<Config> {
    let read = || {
        let signed: sign::Signed = format::decode(object, "config")?;
        let config: Config = format::decode(&signed.body, "config")?;
        if config.magic != MAGIC {
            return Err(Error::integrity("This is not the configuration of a Backstay repository"));
        }
        if config.version != FORMAT_VERSION || config.suites.iter().any(|suite| *suite != SUITE) {
            return Err(Error::unsupported(format!(
                "The repository has format version {}; this build knows version {FORMAT_VERSION}: use a newer Backstay",
                config.version
            )));
        }
        let unknown = config.reader_features.iter().chain(&config.writer_features).next();
        if let Some(feature) = unknown {
            return Err(Error::unsupported(format!(
                "The repository uses the feature {feature:?}: use a newer Backstay"
            )));
        }
        if signed.signer != config.owner {
            return Err(Error::integrity("The configuration is not signed by the repository's owner"));
        }
        signed.verify(ObjectType::Config, &Domain { repository: config.repository, epoch: 0 }, key)?;
        Ok(config)
    };
    read().context("object", key)
}

/// Finds the slot that a credential opens.
async fn open_slot(
    backend: &dyn StorageBackend,
    config: &Config,
    config_hash: ObjectHash,
    credential: &Credential,
    passed_over: &HashSet<[u8; 16]>,
    ctx: &Context,
) -> Result<(Slot, KeyBundle, hpke::PrivateKey)> {
    let mut keys: Vec<_> = backend.list(Some(&ObjectKey::new("keys")?)).map_ok(|meta| meta.key).try_collect().await?;
    keys.sort();
    keys.truncate(MAX_SLOTS);
    let (mut damaged, mut foreign, mut own, mut tried, mut unproven) = (None, 0, 0, 0, false);
    for key in keys {
        let slot = match backend.get(&key).await.and_then(|object| Slot::from_object(&key, &object)) {
            Ok(slot) => slot,
            // One damaged slot must not keep the others from opening.
            Err(error)
                if matches!(error.kind(), ErrorKind::Integrity | ErrorKind::NotFound | ErrorKind::Unsupported) =>
            {
                damaged = Some(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        // Of another repository: the rest of an `init` that was interrupted or lost a race, which may have the same passphrase.
        if slot.repository != config.repository || slot.config != config_hash || slot.owner != config.owner {
            foreign += 1;
            continue;
        }
        own += 1;
        if passed_over.contains(&slot.id) {
            continue;
        }
        if matches!((&slot.kind, credential), (SlotKind::Passphrase { .. }, Credential::Passphrase(_))) {
            tried += 1;
        }
        if tried > MAX_PASSPHRASE_SLOTS {
            break;
        }
        if slot.kind == SlotKind::Recipient
            && let Credential::Key(key) = credential
        {
            unproven |= key.recipient()?.0 == slot.recipient;
            continue;
        }
        let credential = credential.clone();
        let opened = ctx.cpu(move || {
            let Some(secret) = slot.kind.secret(&credential)? else { return Ok(None) };
            let Some(bundle) = slot.open(&secret)? else { return Ok(None) };
            Ok(Some((slot, bundle, hpke::key_pair(&secret)?.0)))
        });
        match opened.await {
            Ok(Some(opened)) => return Ok(opened),
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Integrity => damaged = Some(error.with_context("object", key)),
            Err(error) => return Err(error),
        }
    }
    Err(damaged.unwrap_or_else(|| match credential {
        _ if own == 0 && foreign > 0 => Error::integrity(
            "The repository's `config` is not the one that its key slots were made for: it was damaged or replaced",
        ),
        Credential::Key(_) if unproven => Error::permission_denied(
            "This key opens a slot that nothing proves who made: write the owner's public key, as `key list` shows it to an owner, \
             into the key file as a second line, `owner HEX`",
        ),
        Credential::Passphrase(_) => {
            Error::permission_denied("Wrong passphrase: it opens no key slot of this repository")
        }
        Credential::Key(_) | Credential::Recipient { .. } => Error::permission_denied("Wrong key: it opens no key slot of this repository"),
    }))
}
