//! What was read before and cannot have changed, from this machine's own disk.

mod entry;
mod folder;
mod options;

use std::{
    fmt,
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use backstay_core::{
    BackendCapabilities, ObjectKey, ObjectMeta, PutMode, Result, Spawner, StorageBackend, TokioSpawner,
};
use bytes::Bytes;
use futures::stream::BoxStream;

pub(crate) use self::entry::Wanted;
use self::folder::{Folder, Found};
pub use self::options::CacheOptions;
use super::super::jobs::Jobs;

/// What a [`ReadCacheBackend`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct CacheStats {
    /// Reads that needed no store.
    pub hits: u64,
    /// Bytes of those.
    pub hit_bytes: u64,
    /// Reads that went to the store, of objects that may be kept.
    pub misses: u64,
    /// Files of the cache that were not what was written. They are deleted and read from the store again.
    pub damaged: u64,
    /// Times that the cache's own folder could not be read or written. The reads themselves succeeded.
    pub failures: u64,
}

/// Keeps ranges and whole objects that were read in a folder of this machine, up to a size.
///
/// Only objects that never change are kept: those below [`CacheOptions::folders`], which are the packs and index segments of a repository.
/// Everything that says what exists and who may do what (`chain/`, `sessions/`, `points/`, `forgotten/`, `holds/`, `keys/`, `config`), every
/// `head`, every listing and every "not found" comes from the store each time.
///
/// A range is found again when exactly the same one is read. Nothing is kept of what is put. When the folder is full, what was not
/// used for longest goes first.
///
/// **Trust.** Files are what the store has anyway, sealed by the repository; their names are hashes. Each has a checksum of all
/// it holds and of the name of the object: one that is torn by a power cut, cut short or flipped by the disk is thrown away and read from the
/// store. The checksum has no key, so the folder (mode 0700) must belong to whoever runs the backup; a forger gets no further than bytes that
/// the repository refuses. What the store itself gave damaged is kept like anything else: after a repair of the store delete the folder.
/// And **a check that is to read the store must not run through a cache**.
///
/// **Sharing.** Several processes and several repositories may use one folder at the same time; each may make it larger than its limit by a tenth.
/// Deleting the folder is fine at any time.
#[derive(Clone)]
pub struct ReadCacheBackend {
    inner: Arc<dyn StorageBackend>,
    shared: Arc<Shared>,
}

struct Shared {
    location: String,
    options: CacheOptions,
    folder: Arc<Folder>,
    jobs: Jobs,
    stats: Stats,
}

#[derive(Default)]
struct Stats {
    hits: AtomicU64,
    hit_bytes: AtomicU64,
    misses: AtomicU64,
    damaged: AtomicU64,
    failures: AtomicU64,
}

impl ReadCacheBackend {
    /// Keeps what is read from this store below `backstay-cache-1` in this folder, which is made when it is not there. Other files there
    /// are left alone.
    ///
    /// [`backstay_core::ErrorKind::InvalidInput`] when the options would keep what must always come from the store; else the errors of
    /// making the folder and of looking into it.
    pub fn new(inner: Arc<dyn StorageBackend>, folder: impl AsRef<Path>, options: CacheOptions) -> Result<Self> {
        options.check()?;
        let folder = Arc::new(Folder::open(folder.as_ref(), options.max_bytes)?);
        let jobs = Jobs(Arc::new(TokioSpawner));
        let shared = Shared { location: inner.location(), options, folder, jobs, stats: Stats::default() };
        Ok(Self { inner, shared: Arc::new(shared) })
    }

    /// Does its file work here. What was counted so far is forgotten.
    #[must_use]
    pub fn with_spawner(self, spawner: Arc<dyn Spawner>) -> Self {
        let shared = Shared {
            location: self.shared.location.clone(),
            options: self.shared.options.clone(),
            folder: Arc::clone(&self.shared.folder),
            jobs: Jobs(spawner),
            stats: Stats::default(),
        };
        Self { inner: self.inner, shared: Arc::new(shared) }
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> CacheStats {
        let stats = &self.shared.stats;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            hits: read(&stats.hits),
            hit_bytes: read(&stats.hit_bytes),
            misses: read(&stats.misses),
            damaged: read(&stats.damaged),
            failures: read(&stats.failures),
        }
    }

    /// From the folder, or else from the store and into the folder.
    async fn read(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes> {
        if !self.shared.options.keeps(key) {
            return self.ask(key, range).await;
        }
        let wanted = Wanted { location: self.shared.location.clone(), key: key.clone(), range: range.clone() };
        if let Some(body) = self.shared.find(wanted.clone()).await {
            return Ok(body);
        }
        let body = self.ask(key, range).await?;
        if body.len() as u64 <= self.shared.folder.largest() {
            self.shared.keep(wanted, body.clone()).await;
        }
        Ok(body)
    }

    async fn ask(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes> {
        match range {
            Some(range) => self.inner.get_range(key, range).await,
            None => self.inner.get(key).await,
        }
    }

    /// What is replaced or deleted by this very process is forgotten.
    async fn forget(&self, key: &ObjectKey) {
        if self.shared.options.keeps(key) {
            let (folder, location, key) = (Arc::clone(&self.shared.folder), self.shared.location.clone(), key.clone());
            let outcome = self.shared.jobs.run(move || folder.forget(&location, &key)).await;
            self.shared.note(&outcome);
        }
    }
}

impl Shared {
    async fn find(&self, wanted: Wanted) -> Option<Bytes> {
        let folder = Arc::clone(&self.folder);
        let found = self.jobs.run(move || folder.find(&wanted)).await;
        self.note(&found);
        let body = match found.unwrap_or(Found::Nothing) {
            Found::Body(body) => Some(body),
            Found::Nothing => None,
            Found::Damaged => {
                self.stats.damaged.fetch_add(1, Ordering::Relaxed);
                None
            }
        };
        match &body {
            Some(body) => {
                self.stats.hits.fetch_add(1, Ordering::Relaxed);
                self.stats.hit_bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
            }
            None => {
                self.stats.misses.fetch_add(1, Ordering::Relaxed);
            }
        }
        body
    }

    async fn keep(&self, wanted: Wanted, body: Bytes) {
        let folder = Arc::clone(&self.folder);
        let outcome = self.jobs.run(move || folder.keep(&wanted, &body)).await;
        self.note(&outcome);
    }

    /// A cache that does not work costs time, and must not cost a restore: its errors are counted and go no further.
    fn note<T>(&self, outcome: &Result<T>) {
        if outcome.is_err() {
            self.stats.failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for ReadCacheBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadCacheBackend")
            .field("inner", &self.inner)
            .field("folder", &self.shared.folder)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl StorageBackend for ReadCacheBackend {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> BackendCapabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<()> {
        let outcome = self.inner.put(key, body, mode).await;
        // Also when it failed: an error may mean that the object is there all the same.
        self.forget(key).await;
        outcome
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        self.read(key, None).await
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        self.read(key, Some(range)).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.inner.head(key).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let outcome = self.inner.delete(key).await;
        self.forget(key).await;
        outcome
    }

    fn list(&self, folder: Option<&ObjectKey>) -> BoxStream<'_, Result<ObjectMeta>> {
        self.inner.list(folder)
    }
}

#[cfg(test)]
mod tests;
