//! Making a repository: config, slots, `chain/0`.

use std::sync::Arc;

use backstay_core::{BackendCapabilities, Context, Error, ErrorKind, ObjectKey, Result, ResultExt, StorageBackend};
use secrecy::SecretString;

use super::{
    Repository,
    chunk::DiskChunker,
    crypto::{Domain, FORMAT_VERSION, ObjectType, SUITE, kdf::KdfParameters, sign},
    format::{
        self,
        chain::{ChainRecord, Change, KeysRecord, RosterEntry},
        config::{Config, MAGIC},
    },
    ids::{ObjectHash, SignerId},
    keys::{Credential, KeyBundle, Keyring, Pinned, SecretKey, Slot, SlotKind},
    objects::{Objects, SignedBy, object_hash, put_new},
};

/// One way in, for a new repository.
pub enum NewSlot {
    /// A passphrase.
    Passphrase(SecretString),
    /// A key file.
    KeyFile(SecretKey),
}

/// How to make a repository.
#[non_exhaustive]
pub struct InitOptions {
    /// The ways in. At least one.
    pub slots: Vec<NewSlot>,
    /// What a guess at a passphrase costs.
    pub kdf: KdfParameters,
    /// How disks are cut.
    pub disk_chunker: DiskChunker,
    /// The size at which a pack is closed, in bytes: 64 KiB to 128 MiB.
    pub pack_bytes: u32,
    /// Also make a recovery key.
    pub recovery: bool,
    /// Make the repository also on a store that does not keep what several at once need. Then only one process at a time may write
    /// to it, forget or prune, and nothing but its operator sees to that.
    pub single_writer: bool,
}

impl InitOptions {
    /// One passphrase, a recovery key, defaults for the rest.
    #[must_use]
    pub fn passphrase(passphrase: impl Into<String>) -> Self {
        Self::slots(vec![NewSlot::Passphrase(SecretString::from(passphrase.into()))])
    }

    /// These ways in, a recovery key, defaults for the rest.
    #[must_use]
    pub fn slots(slots: Vec<NewSlot>) -> Self {
        Self {
            slots,
            kdf: KdfParameters::default(),
            disk_chunker: DiskChunker::default(),
            pack_bytes: 32 << 20,
            recovery: true,
            single_writer: false,
        }
    }

    /// Sets [`Self::kdf`].
    #[must_use]
    pub const fn kdf(mut self, kdf: KdfParameters) -> Self {
        self.kdf = kdf;
        self
    }

    /// Sets [`Self::disk_chunker`].
    #[must_use]
    pub const fn disk_chunker(mut self, chunker: DiskChunker) -> Self {
        self.disk_chunker = chunker;
        self
    }

    /// Sets [`Self::pack_bytes`].
    #[must_use]
    pub const fn pack_bytes(mut self, bytes: u32) -> Self {
        self.pack_bytes = bytes;
        self
    }

    /// Sets [`Self::recovery`].
    #[must_use]
    pub const fn recovery(mut self, recovery: bool) -> Self {
        self.recovery = recovery;
        self
    }

    /// Sets [`Self::single_writer`].
    #[must_use]
    pub const fn single_writer(mut self, single_writer: bool) -> Self {
        self.single_writer = single_writer;
        self
    }
}

/// A repository that was just made.
#[derive(Debug)]
pub struct Initialized {
    /// The repository, open.
    pub repository: Repository,
    /// Opens it when everything else is forgotten. This is the only time that it is seen.
    pub recovery_key: Option<SecretString>,
}

impl Repository {
    /// Makes a repository on an empty place of a backend. `Unsupported` when the store, tried out, does not create atomically or its
    /// lists leave out finished puts, unless [`InitOptions::single_writer`] is set.
    pub async fn init(backend: Arc<dyn StorageBackend>, options: InitOptions, ctx: &Context) -> Result<Initialized> {
        if options.slots.is_empty() {
            return Err(Error::invalid_input("A repository needs a passphrase or a key file to be opened with"));
        }
        if !(64 << 10..=128 << 20).contains(&options.pack_bytes) {
            return Err(Error::invalid_input("Packs are closed at 64 KiB to 128 MiB")
                .with_context("pack_bytes", options.pack_bytes));
        }
        refuse_what_is_there(&*backend).await?;
        let held = crate::backend::probe(&*backend, ctx).await?;
        if !options.single_writer {
            refuse_what_breaks_promises(held).context("repository", backend.location())?;
        }
        let bundle = KeyBundle::generate(ctx)?;
        let owner = SignerId(bundle.owner_signing_key()?.verifying_key().to_bytes());
        let config = Config {
            magic: MAGIC.to_owned(),
            version: FORMAT_VERSION,
            repository: ctx.random()?,
            suites: vec![SUITE],
            reader_features: Vec::new(),
            writer_features: Vec::new(),
            collector_features: Vec::new(),
            disk_chunker: options.disk_chunker.name(),
            stream_chunker: super::format::config::STREAM_CHUNKER.to_owned(),
            pack_bytes: options.pack_bytes,
            owner,
            created: ctx.now().as_nanos(),
            create_if_absent: held.create_if_absent,
            strong_listing: held.strong_listing,
            single_writer: options.single_writer,
        };
        let config_key = ObjectKey::new("config")?;
        let signed = sign::sign(
            &bundle.owner_signing_key()?,
            ObjectType::Config,
            &Domain { repository: config.repository, epoch: 0 },
            &config_key,
            format::encode(&config)?,
        );
        let config_object = format::encode(&signed)?;
        let hash = object_hash(&config_object);

        let (slots, recovery_key) =
            make_slots(options, &bundle, Pinned { repository: config.repository, config: hash, owner }, ctx).await?;
        // The chain first: of two at once one wins here, and the other leaves no slots behind. The config last: without it there is no
        // repository.
        let objects = Objects::new(Arc::clone(&backend), Arc::new(Keyring::new(config.repository, bundle.clone(), 0)));
        let (key, record) = (ObjectKey::new("chain/0")?, first_record(&slots, &bundle, ctx));
        let object = objects.seal_record(&key, ObjectType::Chain, &record, SignedBy::Owner, ctx)?;
        objects.put_new(&key, object.into(), ctx).await?;
        for slot in &slots {
            objects.put_new(&Slot::key(&slot.id)?, slot.to_object(&bundle)?.into(), ctx).await?;
        }
        put_new(&*backend, &config_key, config_object.into(), ctx).await?;
        Ok(Initialized { repository: Self::new(objects, config, None), recovery_key })
    }
}

/// Rules that keep several at once from harming each other rest on these promises.
fn refuse_what_breaks_promises(held: BackendCapabilities) -> Result<()> {
    let broken = match (held.create_if_absent, held.strong_listing) {
        (true, true) => return Ok(()),
        (false, true) => "lets two processes create one object, so that one overwrites the other",
        (true, false) => "leaves finished objects out of its lists",
        (false, false) => "lets two processes create one object and leaves finished objects out of its lists",
    };
    Err(Error::unsupported(format!(
        "This store {broken}: with several writers, or one and a prune, backups would be lost. Use another store, or make the \
         repository for a single writer (`--single-writer`) and see to it that only one process at a time writes to it"
    )))
}

async fn refuse_what_is_there(backend: &dyn StorageBackend) -> Result<()> {
    for key in ["config", "chain/0"] {
        match backend.head(&ObjectKey::new(key)?).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(_) => {
                return Err(Error::already_exists(
                    "There is a Backstay repository already, or the rest of an interrupted init: \
                     use it, choose another place, or remove what is there",
                )
                .with_context("repository", backend.location()));
            }
        }
    }
    Ok(())
}

async fn make_slots(
    options: InitOptions,
    bundle: &KeyBundle,
    pinned: Pinned,
    ctx: &Context,
) -> Result<(Vec<Slot>, Option<SecretString>)> {
    let mut wanted = Vec::new();
    for slot in options.slots {
        wanted.push(match slot {
            NewSlot::Passphrase(passphrase) => {
                options.kdf.check()?;
                let kind = SlotKind::Passphrase { kdf: options.kdf, salt: ctx.random()? };
                (kind, "passphrase", Credential::Passphrase(passphrase))
            }
            NewSlot::KeyFile(key) => (SlotKind::KeyFile, "key file", Credential::Key(key)),
        });
    }
    let recovery = options.recovery.then(|| SecretKey::generate(ctx)).transpose()?;
    if let Some(key) = &recovery {
        wanted.push((SlotKind::Recovery, "recovery key", Credential::Key(key.clone())));
    }
    let mut slots = Vec::new();
    for (kind, label, credential) in wanted {
        let (bundle, job) = (bundle.clone(), ctx.clone());
        let slot = ctx.cpu(move || {
            let secret =
                kind.secret(&credential)?.ok_or_else(|| Error::internal("A slot does not fit its credential"))?;
            Slot::create(kind, label, &secret, &bundle, &pinned, &job)
        });
        slots.push(slot.await?);
    }
    Ok((slots, recovery.map(|key| key.to_text())))
}

fn first_record(slots: &[Slot], bundle: &KeyBundle, ctx: &Context) -> ChainRecord {
    let entry = |slot: &Slot| RosterEntry {
        slot: slot.id,
        capability: slot.capability,
        recipient: slot.recipient,
        signer: bundle.signer(),
        until: None,
    };
    ChainRecord {
        number: 0,
        previous: ObjectHash([0; 32]),
        time: ctx.now().as_nanos(),
        change: Change::Keys(KeysRecord {
            epoch: 0,
            roster: slots.iter().map(entry).collect(),
            former: Vec::new(),
            reader_features: Vec::new(),
            writer_features: Vec::new(),
            collector_features: Vec::new(),
        }),
        folded: None,
        keys: None,
    }
}
