//! Opening a repository: slot, config, chain.

use std::sync::Arc;

use backstay_core::{Context, Error, ErrorKind, ObjectKey, Result, ResultExt, StorageBackend};
use futures::TryStreamExt;

use super::{
    Repository,
    chain::Chain,
    crypto::{Domain, FORMAT_VERSION, ObjectType, SUITE, sign},
    format::{
        self,
        config::{Config, MAGIC},
    },
    ids::ObjectHash,
    keys::{Credential, KeyBundle, Keyring, Slot, SlotKind},
    objects::{Objects, object_hash},
};

/// More slots than anybody has; a hostile store could show millions.
const MAX_SLOTS: usize = 256;
/// How many passphrase slots are tried: each costs an Argon2id run.
const MAX_PASSPHRASE_SLOTS: usize = 16;

impl Repository {
    /// Opens a repository.
    ///
    /// `NotFound`: there is none at this place. `PermissionDenied`: the credential opens no slot. `Integrity`: what it opens
    /// was tampered with. `Unsupported`: the repository needs a newer Backstay.
    pub async fn open(backend: Arc<dyn StorageBackend>, credential: Credential, ctx: &Context) -> Result<Self> {
        let config_key = ObjectKey::new("config")?;
        let object = backend.get(&config_key).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::not_found("There is no Backstay repository here; make one with `init`")
                .with_context("repository", backend.location()),
            _ => error,
        })?;
        let config = read_config(&config_key, &object)?;
        let (slot, bundle) = open_slot(&*backend, &config, object_hash(&object), &credential, ctx).await?;
        let objects = Objects::new(Arc::clone(&backend), Arc::new(Keyring::new(config.repository, bundle.clone(), 0)));
        let chain = Chain::load(&objects, &config.owner).await?;
        if !chain.roster.iter().any(|entry| entry.slot == slot.id) {
            return Err(Error::permission_denied("This key was removed from the repository"));
        }
        let objects = Objects::new(backend, Arc::new(Keyring::new(config.repository, bundle, chain.epoch)));
        Ok(Self::new(objects, config))
    }

    /// Opens a repository with keys that are at hand already and not with those of a slot.
    #[doc(hidden)]
    pub async fn open_with_bundle(backend: Arc<dyn StorageBackend>, bundle: KeyBundle) -> Result<Self> {
        let config_key = ObjectKey::new("config")?;
        let config = read_config(&config_key, &backend.get(&config_key).await?)?;
        let objects = Objects::new(Arc::clone(&backend), Arc::new(Keyring::new(config.repository, bundle.clone(), 0)));
        let chain = Chain::load(&objects, &config.owner).await?;
        let objects = Objects::new(backend, Arc::new(Keyring::new(config.repository, bundle, chain.epoch)));
        Ok(Self::new(objects, config))
    }
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

async fn open_slot(
    backend: &dyn StorageBackend,
    config: &Config,
    config_hash: ObjectHash,
    credential: &Credential,
    ctx: &Context,
) -> Result<(Slot, KeyBundle)> {
    let mut keys: Vec<_> = backend.list(Some(&ObjectKey::new("keys")?)).map_ok(|meta| meta.key).try_collect().await?;
    keys.sort();
    keys.truncate(MAX_SLOTS);
    let (mut damaged, mut foreign, mut own, mut tried) = (None, 0, 0, 0);
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
        if matches!((&slot.kind, credential), (SlotKind::Passphrase { .. }, Credential::Passphrase(_))) {
            tried += 1;
        }
        if tried > MAX_PASSPHRASE_SLOTS {
            break;
        }
        let credential = credential.clone();
        let opened = ctx.cpu(move || {
            let Some(secret) = slot.kind.secret(&credential)? else { return Ok(None) };
            Ok(slot.open(&secret)?.map(|bundle| (slot, bundle)))
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
        Credential::Passphrase(_) => {
            Error::permission_denied("Wrong passphrase: it opens no key slot of this repository")
        }
        Credential::Key(_) => Error::permission_denied("Wrong key: it opens no key slot of this repository"),
    }))
}
