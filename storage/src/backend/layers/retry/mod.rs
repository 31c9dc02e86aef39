//! Patience with a store that is away for a while.

mod budget;
mod listing;
mod options;

use std::{fmt, future::Future, ops::Range, sync::Arc};

use async_trait::async_trait;
use backstay_core::{
    BackendCapabilities, Error, ErrorKind, ObjectKey, ObjectMeta, OsRandom, PutMode, RandomSource, Result, Retry,
    StorageBackend,
};
use bytes::Bytes;
use futures::stream::BoxStream;

use self::budget::Budget;
pub use self::options::RetryOptions;

/// Tries calls again that failed because the store was away or asked for patience.
///
/// **What is tried again.** Whatever fails with [`ErrorKind::Unavailable`] or says that a pause helps ([`Retry::Backoff`]). Nothing
/// else: what is absent, forbidden or damaged stays so. Reading twice, deleting twice and putting the same body twice are as good as once.
///
/// **How long.** Pauses double, each with full jitter, up to [`RetryOptions::longest_pause`]. One call is tried at most
/// [`RetryOptions::attempts`] times. Two more limits are shared by all calls of this backend and of its clones, so that the waiting for a dead
/// store does not multiply by the calls that need it:
///
/// - after [`RetryOptions::patience`] without a single answer no call waits any more: each is tried once and fails, until one succeeds
///   (a store that has never answered gets [`RetryOptions::first_contact`]);
/// - of [`RetryOptions::retries`] each retry takes one and each success gives one back, so that a store that is falling over is not
///   pushed.
///
/// Every answer counts as a sign of life, "there is no such object" too.
///
/// **Creates are ambiguous.** When the reply to a [`PutMode::Create`] is lost, the object may be there, and trying again then meets it.
/// This layer cannot tell the caller's own object from that of somebody who won a race with the same bytes, so it passes the second
/// answer on: [`ErrorKind::AlreadyExists`] although the put may have gone through. It never makes a success out of it. The caller
/// compares what is there with its body, as a repository does with everything that it puts.
///
/// **Listings** go on where they broke off: they are started again and what was given already is left out. That works for a store that lists in
/// the order of names and whose objects before the break are the same as before; otherwise the error is passed on.
///
/// Pauses are those of tokio's clock and jitter is drawn from [`RetryBackend::with_random`], so that a simulation with paused time and a
/// seed runs the same way each time. Needs a tokio runtime with its timer on. Dropping a call's future ends its pauses.
#[derive(Clone)]
pub struct RetryBackend {
    inner: Arc<dyn StorageBackend>,
    budget: Arc<Budget>,
}

impl RetryBackend {
    /// Is patient with this store.
    #[must_use]
    pub fn new(inner: Arc<dyn StorageBackend>, options: RetryOptions) -> Self {
        Self { inner, budget: Arc::new(Budget::new(options, Arc::new(OsRandom))) }
    }

    /// Draws jitter from here. What was spent so far is forgotten.
    #[must_use]
    pub fn with_random(self, random: Arc<dyn RandomSource>) -> Self {
        let budget = Arc::new(Budget::new(self.budget.options().clone(), random));
        Self { budget, ..self }
    }

    /// How many retries there were.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.budget.retries()
    }

    async fn patiently<T, F: Future<Output = Result<T>> + Send>(
        &self,
        mut call: impl FnMut() -> F + Send,
    ) -> Result<T> {
        let mut failures = 0;
        loop {
            let error = match call().await {
                Ok(value) => {
                    self.budget.answered();
                    return Ok(value);
                }
                Err(error) if !worth_it(&error) => {
                    self.budget.answered();
                    return Err(error);
                }
                Err(error) => error,
            };
            failures += 1;
            let Some(pause) = self.budget.pause_after(failures)? else { return Err(tried(error, failures)) };
            tokio::time::sleep(pause).await;
        }
    }
}

fn worth_it(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable || error.retry() == Retry::Backoff
}

fn tried(error: Error, times: u32) -> Error {
    if times > 1 { error.with_context("tried", format!("{times} times")) } else { error }
}

impl fmt::Debug for RetryBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBackend").field("inner", &self.inner).finish_non_exhaustive()
    }
}

#[async_trait]
impl StorageBackend for RetryBackend {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> BackendCapabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<()> {
        self.patiently(|| self.inner.put(key, body.clone(), mode)).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        self.patiently(|| self.inner.get(key)).await
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        self.patiently(|| self.inner.get_range(key, range.clone())).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.patiently(|| self.inner.head(key)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.patiently(|| self.inner.delete(key)).await
    }

    fn list(&self, folder: Option<&ObjectKey>) -> BoxStream<'_, Result<ObjectMeta>> {
        listing::patient(&*self.inner, &self.budget, folder.cloned())
    }
}

#[cfg(test)]
mod tests;
