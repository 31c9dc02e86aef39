//! Objects in a bucket, whoever runs it: what S3, Azure and Google Cloud Storage have in common.
//!
//! A put is a single request with its length, never an upload of parts: several servers ignore `If-None-Match` when such an upload
//! is completed. Nothing here uses a range that counts from the end (Azure has none) nor a listing that begins at a name (not every
//! server gets it right).

mod declare;
mod error;
pub(in crate::backend) mod options;

use std::{fmt, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use backstay_core::{BackendCapabilities, Error, ErrorKind, ObjectKey, ObjectMeta, PutMode, Result, StorageBackend};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{ObjectStore, ObjectStoreExt, PutOptions, path::Path};

pub(in crate::backend) use self::declare::bucket_backend;
use self::error::{contended, locked, translate};
use super::local::check_object_range;

/// How often a create is tried that met another one in flight.
const TRIES: u32 = 6;

/// A place in a bucket.
#[derive(Clone)]
pub(super) struct Bucket {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) prefix: Option<ObjectKey>,
    pub(super) location: String,
    pub(super) capabilities: BackendCapabilities,
}

impl Bucket {
    /// Promises what all three clouds do.
    pub(super) fn new(store: impl ObjectStore, prefix: Option<ObjectKey>, location: String) -> Self {
        Self { store: Arc::new(store), prefix, location, capabilities: BackendCapabilities::new(true, true) }
    }

    fn path(&self, key: &ObjectKey) -> Path {
        // The alphabet of keys is a part of the one that paths need no escapes for.
        match &self.prefix {
            Some(prefix) => Path::from(format!("{prefix}/{key}")),
            None => Path::from(key.as_str()),
        }
    }

    fn about(&self, key: &ObjectKey, tried: &str, error: object_store::Error) -> Error {
        translate(error, tried).with_context("key", key).with_context("at", &self.location)
    }

    /// Nothing for what is not ours: objects whose names cannot be keys.
    fn key(&self, path: &Path) -> Option<ObjectKey> {
        let name = match &self.prefix {
            Some(prefix) => path.as_ref().strip_prefix(prefix.as_str())?.strip_prefix('/')?,
            None => path.as_ref(),
        };
        ObjectKey::new(name).ok()
    }
}

/// By hand, because the client would print its endpoint as it was given.
impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.location)
    }
}

#[async_trait]
impl StorageBackend for Bucket {
    fn location(&self) -> String {
        self.location.clone()
    }

    fn capabilities(&self) -> BackendCapabilities {
        self.capabilities
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<()> {
        let path = self.path(key);
        let options = || match mode {
            PutMode::Create => PutOptions::from(object_store::PutMode::Create),
            PutMode::Replace => PutOptions::default(),
        };
        let mut pause = Duration::from_millis(50);
        for _ in 0..TRIES {
            match self.store.put_opts(&path, body.clone().into(), options()).await {
                Ok(_) => return Ok(()),
                Err(error) if contended(&error) => tokio::time::sleep(pause).await,
                Err(error) => return Err(self.about(key, "Put an object", error)),
            }
            pause *= 2;
        }
        let what = "Other writers were putting the same object each time this one tried; try again later";
        Err(Error::conflict(what).retryable().with_context("key", key).with_context("at", &self.location))
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        let answer = self.store.get(&self.path(key)).await.map_err(|error| self.about(key, "Get an object", error))?;
        answer.bytes().await.map_err(|error| self.about(key, "Read an object", error))
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        let wanted = range.end.saturating_sub(range.start);
        if wanted > 0 {
            match self.store.get_range(&self.path(key), range.clone()).await {
                Ok(body) if body.len() as u64 == wanted => return Ok(body),
                // Too little: the range ends past the end of the object, which the size below tells for sure.
                Ok(_) => {}
                Err(error) => {
                    let error = self.about(key, "Get part of an object", error);
                    if !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::InvalidInput) {
                        return Err(error);
                    }
                    // The protocol has a status for a range that begins past the end, but not every server uses it.
                    return match self.head(key).await {
                        Ok(meta) => Err(check_object_range(key, &range, meta.size).err().unwrap_or(error)),
                        Err(_) => Err(error),
                    };
                }
            }
        }
        // HTTP has no way to ask for an empty range.
        check_object_range(key, &range, self.head(key).await?.size)?;
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        Err(Error::unavailable("The server gave less than it was asked for; read again")
            .retryable()
            .with_context("key", key)
            .with_context("at", &self.location))
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let meta =
            self.store.head(&self.path(key)).await.map_err(|error| self.about(key, "Look at an object", error))?;
        Ok(ObjectMeta { key: key.clone(), size: meta.size })
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        match self.store.delete(&self.path(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) if locked(&error) => {
                let what = "The store keeps this object by a lock or a policy; delete it again when its time is over";
                Err(Error::conflict(what)
                    .with_context("key", key)
                    .with_context("at", &self.location)
                    .with_source(error))
            }
            Err(error) => Err(self.about(key, "Delete an object", error)),
        }
    }

    fn list(&self, folder: Option<&ObjectKey>) -> BoxStream<'_, Result<ObjectMeta>> {
        let prefix = match folder {
            Some(folder) => Some(self.path(folder)),
            None => self.prefix.as_ref().map(|prefix| Path::from(prefix.as_str())),
        };
        self.store
            .list(prefix.as_ref())
            .map_err(|error| translate(error, "List objects").with_context("at", &self.location))
            .try_filter_map(move |meta| async move {
                Ok(self.key(&meta.location).map(|key| ObjectMeta { key, size: meta.size }))
            })
            .boxed()
    }
}

#[cfg(test)]
mod tests;
