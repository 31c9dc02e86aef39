//! What a store is asked for and how it does.

mod counters;
mod snapshot;

use std::{fmt, future::Future, ops::Range, sync::Arc};

use async_trait::async_trait;
use backstay_core::{BackendCapabilities, ObjectKey, ObjectMeta, PutMode, Result, StorageBackend};
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};

use self::counters::{Counter, Counters};
pub use self::snapshot::{Histogram, OperationMetrics, StoreMetrics};

/// Counts calls, bytes, errors and how long calls take.
///
/// Outside of the other layers it tells what is asked for; inside, next to the store, what the store does. It costs some
/// atomic additions for each call and some kilobytes in all. Keys are not looked at. Clones count together.
///
/// ```
/// # use std::sync::Arc;
/// # use backstay_core::{ObjectKey, PutMode, StorageBackend};
/// use backstay_storage::backend::{MemoryBackend, MetricsBackend};
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let backend = MetricsBackend::new(Arc::new(MemoryBackend::new()));
/// backend.put(&ObjectKey::new("a").unwrap(), "hello".into(), PutMode::Create).await.unwrap();
/// let so_far = backend.metrics();
/// assert_eq!((so_far.put.calls, so_far.put.bytes), (1, 5));
/// # }
/// ```
#[derive(Clone)]
pub struct MetricsBackend {
    inner: Arc<dyn StorageBackend>,
    counters: Arc<Counters>,
}

impl MetricsBackend {
    /// Starts at nothing.
    #[must_use]
    pub fn new(inner: Arc<dyn StorageBackend>) -> Self {
        Self { inner, counters: Arc::default() }
    }

    /// What was counted so far. Calls that run now may be counted in part.
    #[must_use]
    pub fn metrics(&self) -> StoreMetrics {
        self.counters.snapshot()
    }
}

async fn counted<T>(
    counter: &Counter,
    call: impl Future<Output = Result<T>> + Send,
    bytes: impl Fn(&T) -> u64,
) -> Result<T> {
    let mut running = counter.start();
    let outcome = running.wait(call).await;
    running.end(outcome.as_ref().map(bytes));
    outcome
}

impl fmt::Debug for MetricsBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsBackend").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[async_trait]
impl StorageBackend for MetricsBackend {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> BackendCapabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<()> {
        let bytes = body.len() as u64;
        counted(&self.counters.put, self.inner.put(key, body, mode), |()| bytes).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        counted(&self.counters.get, self.inner.get(key), |body| body.len() as u64).await
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        counted(&self.counters.get_range, self.inner.get_range(key, range), |body| body.len() as u64).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        counted(&self.counters.head, self.inner.head(key), |_| 0).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        counted(&self.counters.delete, self.inner.delete(key), |()| 0).await
    }

    /// A listing is one call, which takes as long as the store is waited for. One that is dropped before its end is abandoned.
    fn list(&self, folder: Option<&ObjectKey>) -> BoxStream<'_, Result<ObjectMeta>> {
        let state = (self.inner.list(folder), Some(self.counters.list.start()));
        let entries = futures::stream::unfold(state, |(mut listing, running)| async move {
            let mut running = running?;
            match running.wait(listing.next()).await {
                Some(Ok(meta)) => Some((Ok(meta), (listing, Some(running)))),
                Some(Err(error)) => {
                    running.end(Err(&error));
                    Some((Err(error), (listing, None)))
                }
                None => {
                    running.end(Ok(0));
                    None
                }
            }
        });
        entries.boxed()
    }
}

#[cfg(test)]
mod tests;
