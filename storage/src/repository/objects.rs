//! Objects of a repository: put once, sealed, signed.

use std::sync::Arc;

use backstay_core::{Context, Error, ErrorKind, ObjectKey, PutMode, Result, ResultExt, Retry, StorageBackend};
use bytes::Bytes;

use super::{
    crypto::{ObjectType, envelope, sign},
    format,
    ids::{ObjectHash, SignerId},
    keys::Keyring,
    rotated,
};

/// The largest record object that is read, in bytes: a point with several change tokens.
pub const MAX_RECORD_BYTES: u64 = 256 << 20;

/// How often a put that may have been lost is tried.
const PUT_ATTEMPTS: u32 = 4;

/// A backend with the keys to what lies in it. Cheap to clone.
#[derive(Clone)]
pub struct Objects {
    backend: Arc<dyn StorageBackend>,
    keyring: Arc<Keyring>,
}

/// A record that was opened, with who signed it and the hash of its object.
#[derive(Clone, Debug)]
pub struct Record<T> {
    /// What it says.
    pub body: T,
    /// Who signed it. Whether they may is for the caller to say.
    pub signer: SignerId,
    /// The hash of the object.
    pub hash: ObjectHash,
}

/// Whose key signs a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedBy {
    /// That of whoever writes it.
    Own,
    /// The owner's, which everybody pins: who may do what.
    Owner,
}

/// The hash that other records commit to an object with.
#[must_use]
pub fn object_hash(object: &[u8]) -> ObjectHash {
    ObjectHash(*blake3::hash(object).as_bytes())
}

impl Objects {
    /// Joins a backend and keys.
    #[must_use]
    pub const fn new(backend: Arc<dyn StorageBackend>, keyring: Arc<Keyring>) -> Self {
        Self { backend, keyring }
    }

    /// The same keys on another backend: a mirror.
    #[must_use]
    pub fn on(&self, backend: Arc<dyn StorageBackend>) -> Self {
        Self { backend, keyring: Arc::clone(&self.keyring) }
    }

    /// The backend.
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn StorageBackend> {
        &self.backend
    }

    /// The keys.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Puts an object that must not be there yet. A reply that was lost is resolved by comparing the whole body.
    pub async fn put_new(&self, key: &ObjectKey, body: Bytes, ctx: &Context) -> Result<()> {
        put_new(&*self.backend, key, body, ctx).await
    }

    /// Encodes, signs, seals and puts a record; gives the hash of its object.
    pub async fn put_record<T: minicbor::Encode<()>>(
        &self,
        key: &ObjectKey,
        kind: ObjectType,
        record: &T,
        ctx: &Context,
    ) -> Result<ObjectHash> {
        let object = self.seal_record(key, kind, record, SignedBy::Own, ctx)?;
        let hash = object_hash(&object);
        self.put_new(key, object.into(), ctx).await?;
        Ok(hash)
    }

    /// Encodes, signs and seals a record.
    pub fn seal_record<T: minicbor::Encode<()>>(
        &self,
        key: &ObjectKey,
        kind: ObjectType,
        record: &T,
        signed_by: SignedBy,
        ctx: &Context,
    ) -> Result<Vec<u8>> {
        let signer = match signed_by {
            SignedBy::Own => self.keyring.bundle().signing_key()?,
            SignedBy::Owner => self.keyring.bundle().owner_signing_key()?,
        };
        let epoch = self.keyring.current_epoch()?;
        let domain = self.keyring.domain(epoch.epoch);
        let signed = sign::sign(&signer, kind, &domain, key, format::encode(record)?);
        envelope::seal(&epoch.structure, &domain, kind, key.as_str().as_bytes(), &format::encode(&signed)?, ctx)
    }

    /// Gets, opens and verifies a record.
    pub async fn get_record<T: for<'b> minicbor::Decode<'b, ()>>(
        &self,
        key: &ObjectKey,
        kind: ObjectType,
    ) -> Result<Record<T>> {
        let object = self.backend.get(key).await?;
        match (self.open_record(key, kind, &object), envelope::epoch_of(kind, &object)) {
            (Err(error), Ok(epoch)) if self.keyring.epoch(epoch).is_err() => Err(rotated::explain(self, error).await),
            (record, _) => record,
        }
    }

    /// Opens and verifies a record.
    pub fn open_record<T: for<'b> minicbor::Decode<'b, ()>>(
        &self,
        key: &ObjectKey,
        kind: ObjectType,
        object: &[u8],
    ) -> Result<Record<T>> {
        let open = || {
            if object.len() as u64 > MAX_RECORD_BYTES {
                return Err(Error::integrity("A record is far too large"));
            }
            let epoch = envelope::epoch_of(kind, object)?;
            let keys = self.keyring.epoch(epoch)?;
            let domain = self.keyring.domain(epoch);
            let plain = envelope::open(&keys.structure, &domain, kind, key.as_str().as_bytes(), object)?;
            let signed: sign::Signed = format::decode(&plain, "signed record")?;
            signed.verify(kind, &domain, key)?;
            let body = format::decode(&signed.body, "record")?;
            Ok(Record { body, signer: signed.signer, hash: object_hash(object) })
        };
        open().context("object", key)
    }
}

/// See [`Objects::put_new`]; for objects that are written before there is a keyring.
pub async fn put_new(backend: &dyn StorageBackend, key: &ObjectKey, body: Bytes, ctx: &Context) -> Result<()> {
    let mut attempt = 1;
    loop {
        let mut error = match backend.put(key, body.clone(), PutMode::Create).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let unsure = matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::Unavailable)
            || (error.kind() == ErrorKind::Conflict && error.retry() == Retry::Backoff);
        if !unsure {
            return Err(error).context("object", key);
        }
        // The put may have happened although its reply said otherwise or never came.
        match backend.get(key).await {
            Ok(there) if there == body => return Ok(()),
            Ok(_) => {
                return Err(
                    Error::conflict("Another object is already there under the same name").with_context("object", key)
                );
            }
            // Something is there and nobody can say whose: that is no certain failure.
            Err(read) if error.kind() == ErrorKind::AlreadyExists && read.kind() != ErrorKind::NotFound => error = read,
            Err(_) => {}
        }
        if error.retry() != Retry::Backoff || attempt == PUT_ATTEMPTS {
            return Err(error).context("object", key);
        }
        ctx.or_cancelled(async {
            tokio::time::sleep(std::time::Duration::from_millis(50 << (2 * attempt))).await;
            Ok(())
        })
        .await?;
        attempt += 1;
    }
}
