//! Leaving room on the line and on the server for others.

mod line;

use std::{fmt, num::NonZeroU64, ops::Range, sync::Arc};

use async_trait::async_trait;
use backstay_core::{BackendCapabilities, Error, ObjectKey, ObjectMeta, PutMode, Result, StorageBackend};
use bytes::Bytes;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit};

use self::line::Line;

/// Entries of a listing that are taken at once: as many as servers give in one answer.
const ENTRIES: usize = 1000;

/// How much a [`ThrottleBackend`] lets through. Nothing is limited unless it is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ThrottleOptions {
    /// Bytes a second that are put.
    pub upload: Option<NonZeroU64>,
    /// Bytes a second that are got.
    pub download: Option<NonZeroU64>,
    /// Requests at once. 0 means any number.
    pub requests: usize,
}

impl ThrottleOptions {
    /// Sets [`Self::upload`].
    #[must_use]
    pub const fn upload(mut self, bytes_per_second: Option<NonZeroU64>) -> Self {
        self.upload = bytes_per_second;
        self
    }

    /// Sets [`Self::download`].
    #[must_use]
    pub const fn download(mut self, bytes_per_second: Option<NonZeroU64>) -> Self {
        self.download = bytes_per_second;
        self
    }

    /// Sets [`Self::requests`].
    #[must_use]
    pub const fn requests(mut self, requests: usize) -> Self {
        self.requests = requests;
        self
    }

    /// Whether anything is limited.
    #[must_use]
    pub const fn limits_anything(&self) -> bool {
        self.upload.is_some() || self.download.is_some() || self.requests > 0
    }
}

/// Limits bytes a second in each direction, and requests at once.
///
/// Bodies are counted whole: one goes out as fast as the line is, and the next one waits until its time is paid for. Over a minute the
/// limit holds; over a second it does not. Who waits longest goes first, and who gives up pays nothing. What a `get` brings is
/// paid for when its size is known, by those who come after it. Headers, listings and the overhead of the network are not counted.
///
/// A listing counts as a request only while it waits for its next entries, so that whoever reads one object for each entry does not wait
/// for itself. Clones share the limits. Needs a tokio runtime with its timer on.
#[derive(Clone)]
pub struct ThrottleBackend {
    inner: Arc<dyn StorageBackend>,
    shared: Arc<Shared>,
}

struct Shared {
    upload: Option<Line>,
    download: Option<Line>,
    requests: Option<Semaphore>,
}

impl ThrottleBackend {
    /// Limits what goes to this store and comes from it.
    #[must_use]
    pub fn new(inner: Arc<dyn StorageBackend>, options: &ThrottleOptions) -> Self {
        let permits = options.requests.min(Semaphore::MAX_PERMITS);
        let shared = Shared {
            upload: options.upload.map(Line::new),
            download: options.download.map(Line::new),
            requests: (permits > 0).then(|| Semaphore::new(permits)),
        };
        Self { inner, shared: Arc::new(shared) }
    }
}

impl Shared {
    async fn request(&self) -> Result<Option<SemaphorePermit<'_>>> {
        let Some(requests) = &self.requests else { return Ok(None) };
        let permit = requests.acquire().await;
        permit.map(Some).map_err(|_| Error::internal("The limit on requests was closed; please report this"))
    }
}

/// Waits for its turn and pays for bytes whose number is known.
async fn pay(line: Option<&Line>, bytes: u64) {
    if let Some(line) = line {
        line.pay(bytes).await;
    }
}

impl fmt::Debug for ThrottleBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThrottleBackend").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[async_trait]
impl StorageBackend for ThrottleBackend {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> BackendCapabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<()> {
        // The turn first: who waits for the line must not keep others from what needs no line.
        pay(self.shared.upload.as_ref(), body.len() as u64).await;
        let _permit = self.shared.request().await?;
        self.inner.put(key, body, mode).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        pay(self.shared.download.as_ref(), 0).await;
        let _permit = self.shared.request().await?;
        let body = self.inner.get(key).await?;
        if let Some(line) = &self.shared.download {
            line.owe(body.len() as u64);
        }
        Ok(body)
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        pay(self.shared.download.as_ref(), 0).await;
        let _permit = self.shared.request().await?;
        let body = self.inner.get_range(key, range).await?;
        if let Some(line) = &self.shared.download {
            line.owe(body.len() as u64);
        }
        Ok(body)
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let _permit = self.shared.request().await?;
        self.inner.head(key).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let _permit = self.shared.request().await?;
        self.inner.delete(key).await
    }

    fn list(&self, folder: Option<&ObjectKey>) -> BoxStream<'_, Result<ObjectMeta>> {
        let listing = self.inner.list(folder).ready_chunks(ENTRIES);
        let chunks = stream::unfold(listing, move |mut listing| async move {
            let entries = match self.shared.request().await {
                Ok(_permit) => listing.next().await?,
                Err(error) => vec![Err(error)],
            };
            Some((stream::iter(entries), listing))
        });
        chunks.flatten().boxed()
    }
}

#[cfg(test)]
mod tests;
