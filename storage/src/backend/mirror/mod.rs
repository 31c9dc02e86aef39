//! A store that is kept twice: one primary that decides, and a mirror that gets a copy of every object.
//!
//! Sessions, the chain and outcomes are decided by the primary alone, and every listing is its own. The mirror gets objects in an order
//! in which it is a repository at any moment, perhaps with fewer points: whatever an outcome needs is there before the outcome.

mod catch_up;
mod class;
mod policy;

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use backstay_core::{
    BackendCapabilities, Context, Error, ErrorKind, ObjectKey, ObjectMeta, PutMode, Result, ResultExt, Retry,
    StorageBackend,
};
use bytes::Bytes;
use futures::stream::BoxStream;

pub(crate) use self::class::Class;
pub use self::{
    catch_up::{CatchUpPlan, CatchUpReport},
    policy::{MirrorPolicy, MirrorStatus},
};

/// How often a put on the mirror is tried.
const ATTEMPTS: u32 = 2;

/// Passes every call on to a primary and copies what is put to a mirror.
///
/// Reads of packs and index segments that the primary has lost or cannot give come from the mirror. What a point may need is deleted on
/// the mirror by [`Self::catch_up`] alone.
///
/// ```
/// # use std::sync::Arc;
/// # use backstay_core::Context;
/// use backstay_storage::{MemoryBackend, MirrorBackend, MirrorPolicy, Repository};
/// # use backstay_storage::repository::{Credential, InitOptions};
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// # let (office, cellar) = (Arc::new(MemoryBackend::new()), Arc::new(MemoryBackend::new()));
/// # let ctx = Context::default();
/// let stores = Arc::new(MirrorBackend::open(office, cellar.clone(), MirrorPolicy::BestEffort, &ctx).await?);
/// # Repository::init(stores.clone(), InitOptions::passphrase("correct horse"), &ctx).await?;
/// let repository = Repository::open(stores.clone(), Credential::passphrase("correct horse"), &ctx).await?;
/// // … backups …
/// if stores.status().behind.is_some() {
///     repository.catch_up(&stores, &ctx).await?;
/// }
/// // The mirror is a repository by itself.
/// Repository::open(cellar, Credential::passphrase("correct horse"), &ctx).await?;
/// # Ok::<_, backstay_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct MirrorBackend {
    primary: Arc<dyn StorageBackend>,
    mirror: Arc<dyn StorageBackend>,
    policy: MirrorPolicy,
    state: Mutex<State>,
    /// One at a time pays what is owed.
    paying: tokio::sync::Mutex<()>,
    events: Events,
}

/// Where warnings go.
struct Events(Context);

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Events")
    }
}

#[derive(Debug, Default)]
struct State {
    /// Why the mirror gets nothing until somebody has caught up.
    behind: Option<String>,
    /// Objects that the primary has and the mirror failed to take, in order; with [`MirrorPolicy::Required`] alone.
    owed: Vec<ObjectKey>,
    /// Outcomes and records of the chain that the primary took from this process, in order, and the mirror did not yet.
    decided: Vec<ObjectKey>,
    status: MirrorStatus,
}

impl MirrorBackend {
    /// Joins two stores. Compares what they hold: a mirror that lacks little gets it now, one that lacks more gets nothing until
    /// [`Self::catch_up`].
    ///
    /// `Conflict` when the mirror holds another repository. A mirror that is away is an error with [`MirrorPolicy::Required`].
    pub async fn open(
        primary: Arc<dyn StorageBackend>,
        mirror: Arc<dyn StorageBackend>,
        policy: MirrorPolicy,
        ctx: &Context,
    ) -> Result<Self> {
        let backend = Self {
            primary,
            mirror,
            policy,
            state: Mutex::default(),
            paying: tokio::sync::Mutex::new(()),
            events: Events(ctx.clone()),
        };
        match backend.compare_at_start(ctx).await {
            Ok(()) => Ok(backend),
            Err(error) if error.kind() == ErrorKind::Unavailable && policy == MirrorPolicy::BestEffort => {
                // Was it the primary, the next call says so.
                backend.fall_behind(&error);
                Ok(backend)
            }
            Err(error) => Err(error),
        }
    }

    /// What the mirror lacks, as far as this process knows.
    #[must_use]
    pub fn status(&self) -> MirrorStatus {
        let state = self.state();
        let mut status = state.status.clone();
        status.behind.clone_from(&state.behind);
        status.missed_objects += state.owed.len() as u64;
        status
    }

    /// The store that decides.
    #[must_use]
    pub const fn primary(&self) -> &Arc<dyn StorageBackend> {
        &self.primary
    }

    /// The store that gets copies.
    #[must_use]
    pub const fn mirror(&self) -> &Arc<dyn StorageBackend> {
        &self.mirror
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn warn(&self, message: &str) {
        self.events.0.task("mirror", None).warn(message);
    }

    /// From here on the mirror gets nothing, so that nothing on it lacks what came before. Told once.
    fn fall_behind(&self, error: &Error) {
        let first = self.state().behind.replace(error.to_string()).is_none();
        if first {
            self.warn(&format!("The mirror does not get what is stored from now on; let it catch up: {error}"));
        }
    }

    /// With [`MirrorPolicy::Required`]: nothing new before the mirror has what it is owed.
    async fn before_change(&self) -> Result<()> {
        if self.policy != MirrorPolicy::Required {
            return Ok(());
        }
        if let Some(why) = &self.state().behind {
            return Err(Error::unavailable(
                "The mirror lacks objects of the primary and must have every one: let it catch up first",
            )
            .with_context("why", why));
        }
        self.pay().await
    }

    /// Brings the mirror what it failed to take.
    async fn pay(&self) -> Result<()> {
        if self.state().owed.is_empty() {
            return Ok(());
        }
        let _one = self.paying.lock().await;
        loop {
            let Some(key) = self.state().owed.first().cloned() else { return Ok(()) };
            match self.primary.get(&key).await {
                Ok(body) => self.give(&key, body, PutMode::Create).await?,
                // Deleted meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            self.state().owed.retain(|owed| *owed != key);
        }
    }

    /// After the primary has taken an object.
    async fn after_put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<()> {
        let bytes = body.len() as u64;
        let missed = |state: &mut State| {
            state.status.missed_objects += 1;
            state.status.missed_bytes += bytes;
        };
        if self.state().behind.is_some() {
            missed(&mut self.state());
            return Ok(());
        }
        let Err(error) = self.give(key, body, mode).await else { return Ok(()) };
        let error = error.with_context("mirror", self.mirror.location());
        match self.policy {
            MirrorPolicy::Required => {
                self.state().owed.push(key.clone());
                Err(error)
            }
            MirrorPolicy::BestEffort => {
                missed(&mut self.state());
                self.fall_behind(&error);
                Ok(())
            }
        }
    }

    /// Puts an object on the mirror, one that decides only when the mirror has all that came before it.
    async fn give(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<()> {
        if !Class::of(key).is_some_and(Class::decides) {
            return store(&*self.mirror, key, body, mode).await;
        }
        self.level_before(key).await?;
        store(&*self.mirror, key, body, mode).await?;
        self.state().decided.retain(|decided| decided != key);
        Ok(())
    }

    /// Whether a read that the primary failed may be asked of the mirror, and is to be counted.
    fn falls_back(&self, key: &ObjectKey, error: &Error) -> bool {
        Class::of(key) == Some(Class::Content) && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unavailable)
    }

    /// The mirror's answer in place of the primary's.
    fn fallen_back<T>(&self, key: &ObjectKey, first: Error, answer: Result<T>) -> Result<T> {
        match answer {
            Ok(answer) => {
                let reads = {
                    let mut state = self.state();
                    state.status.fallback_reads += 1;
                    state.status.fallback_reads
                };
                if reads == 1 {
                    self.warn(&format!("Reads of {key}, and perhaps of others, come from the mirror: {first}"));
                }
                Ok(answer)
            }
            // It is not known to be lost as long as one of the two cannot be asked.
            Err(error) if error.kind() == ErrorKind::Unavailable => Err(error.with_context("primary", first)),
            Err(error) if error.kind() == ErrorKind::InvalidInput => Err(error),
            Err(_) => Err(first),
        }
    }

    /// With [`MirrorPolicy::Required`] an object counts as there only when the mirror has it: whoever looks whether a put succeeded
    /// after all must not be told that it did.
    async fn before_read(&self, key: &ObjectKey) -> Result<()> {
        let owed = self.state().owed.contains(key);
        if owed { self.pay().await } else { Ok(()) }
    }
}

/// Puts an object on a mirror. One that is there already and is the same is fine; nothing is overwritten.
async fn store(mirror: &dyn StorageBackend, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<()> {
    let mut attempt = 1;
    loop {
        let error = match mirror.put(key, body.clone(), mode).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if error.kind() == ErrorKind::AlreadyExists {
            let same = match Class::of(key) {
                // Named by its hash.
                Some(Class::Content) => mirror.head(key).await?.size == body.len() as u64,
                _ => mirror.get(key).await? == body,
            };
            return if same { Ok(()) } else { Err(diverged(key)) };
        }
        if error.retry() != Retry::Backoff || attempt == ATTEMPTS {
            return Err(error).context("object", key);
        }
        attempt += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn diverged(key: &ObjectKey) -> Error {
    Error::conflict("The mirror holds another object under this name: it is damaged or no mirror of this repository")
        .with_context("object", key)
}

#[async_trait]
impl StorageBackend for MirrorBackend {
    fn location(&self) -> String {
        format!("{} (mirrored to {})", self.primary.location(), self.mirror.location())
    }

    fn capabilities(&self) -> BackendCapabilities {
        self.primary.capabilities()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<()> {
        if Class::of(key).is_none() {
            return self.primary.put(key, body, mode).await;
        }
        self.before_change().await?;
        self.primary.put(key, body.clone(), mode).await?;
        if Class::of(key).is_some_and(Class::decides) {
            let mut state = self.state();
            if state.behind.is_none() {
                state.decided.push(key.clone());
            }
        }
        self.after_put(key, body, mode).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        self.before_read(key).await?;
        match self.primary.get(key).await {
            Err(error) if self.falls_back(key, &error) => self.fallen_back(key, error, self.mirror.get(key).await),
            got => got,
        }
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        match self.primary.get_range(key, range.clone()).await {
            Err(error) if self.falls_back(key, &error) => {
                self.fallen_back(key, error, self.mirror.get_range(key, range).await)
            }
            got => got,
        }
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.before_read(key).await?;
        match self.primary.head(key).await {
            Err(error) if self.falls_back(key, &error) => self.fallen_back(key, error, self.mirror.head(key).await),
            got => got,
        }
    }

    /// What a point may still need stays on the mirror until [`Self::catch_up`]: the primary's chain may not be known there.
    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let Some(class) = Class::of(key) else { return self.primary.delete(key).await };
        self.before_change().await?;
        self.primary.delete(key).await?;
        if class.leaves_late(key) {
            self.state().status.deferred_deletes += 1;
            return Ok(());
        }
        if self.state().behind.is_some() {
            return Ok(());
        }
        match (self.mirror.delete(key).await, self.policy) {
            (Err(error), MirrorPolicy::BestEffort) => {
                self.fall_behind(&error);
                Ok(())
            }
            (outcome, _) => outcome,
        }
    }

    fn list(&self, folder: Option<&ObjectKey>) -> BoxStream<'_, Result<ObjectMeta>> {
        self.primary.list(folder)
    }
}
