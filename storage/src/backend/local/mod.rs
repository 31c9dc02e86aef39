//! Objects as files below a folder.

mod folders;
mod read;
mod temporary;
mod walk;
mod write;

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use backstay_core::{
    BackendCapabilities, Error, ObjectKey, ObjectMeta, PutMode, Result, ResultExt, Spawner, StorageBackend,
    TokioSpawner,
};
use bytes::Bytes;
use futures::stream::BoxStream;

use self::{folders::Folders, write::Writer};
use super::jobs::Jobs;

/// Objects as files below a folder: `packs/0a/0a1b` is the file of that path.
///
/// **Durable and all or nothing.** A body is written to a temporary file below `~tmp` (a name that no object key can
/// have), synced, moved to its place in one step, and the folder is synced, as are folders that were new. After a power
/// cut an object is there whole or not at all. [`PutMode::Create`] is atomic among threads, processes and, where the file
/// system is shared, machines: it is a rename that refuses to replace, or a hard link where the file system knows no
/// such rename (NFS). Where there is neither, a put fails with [`backstay_core::ErrorKind::Unsupported`]: every other way
/// either replaces what is there or can leave half an object after a crash.
///
/// **Leftovers.** A writer that died leaves a file in `~tmp`. It never looks like an object, and the first put of a later
/// backend removes it: see [`Self::with_spawner`] for where that runs and `temporary.rs` for why it is safe.
///
/// **Modes.** A root that is made gets mode 0700. Files and folders get the bits of the root less the umask, so that
/// widening the root's mode shares what is written from then on.
///
/// The root may be missing: it is made by the first put, and until then nothing is found.
#[derive(Clone, Debug)]
pub struct LocalBackend {
    inner: Arc<Inner>,
    jobs: Jobs,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    folders: Folders,
    writer: Writer,
}

impl LocalBackend {
    /// Objects below `root`; touches nothing yet. File work runs on the blocking threads of the caller's tokio runtime.
    pub fn new(root: impl AsRef<Path>) -> Result<Self> {
        let root = std::path::absolute(root.as_ref())
            .map_err(|error| Error::io(error, "Resolve the folder of a repository"))
            .context("path", root.as_ref().display())?;
        let inner = Inner { folders: Folders::new(root.clone()), writer: Writer::new(root.clone()), root };
        Ok(Self { inner: Arc::new(inner), jobs: Jobs(Arc::new(TokioSpawner)) })
    }

    /// Runs file work here instead.
    #[must_use]
    pub fn with_spawner(mut self, spawner: Arc<dyn Spawner>) -> Self {
        self.jobs = Jobs(spawner);
        self
    }

    /// Whether objects of 1 MiB and more go to the disk directly, as they do unless told otherwise: some three times faster to
    /// put, but the first read after it comes from the disk. `false` suits a store that is read at once after it was written.
    #[must_use]
    pub fn bypass_page_cache(self, bypass: bool) -> Self {
        self.inner.writer.bypass_page_cache(bypass);
        self
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    async fn run<T: Send + 'static>(
        &self,
        key: &ObjectKey,
        job: impl FnOnce(&Inner, &Path) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        let path = inner.root.join(key.as_str());
        let shown = path.display().to_string();
        self.jobs.run(move || job(&inner, &path)).await.context("path", shown)
    }
}

/// Checks that `range` lies inside an object of `size` bytes.
pub(super) fn check_object_range(key: &ObjectKey, range: &Range<u64>, size: u64) -> Result<()> {
    if range.start <= range.end && range.end <= size {
        return Ok(());
    }
    Err(Error::invalid_input("The range lies outside the object")
        .with_context("key", key)
        .with_context("range", format!("{}..{}", range.start, range.end))
        .with_context("size", size))
}

#[async_trait]
impl StorageBackend for LocalBackend {
    fn location(&self) -> String {
        self.inner.root.display().to_string()
    }

    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities::new(true, true)
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<()> {
        self.run(key, move |inner, path| inner.writer.put(&inner.folders, path, &body, mode)).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        self.run(key, |_, path| read::whole(path)).await
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        let name = key.clone();
        self.run(key, move |_, path| read::range(path, &name, range)).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let size = self.run(key, |_, path| read::size(path)).await?;
        Ok(ObjectMeta { key: key.clone(), size })
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.run(key, |_, path| write::delete(path)).await
    }

    fn list(&self, folder: Option<&ObjectKey>) -> BoxStream<'_, Result<ObjectMeta>> {
        walk::list(self.jobs.clone(), self.inner.root.clone(), folder.cloned())
    }
}

#[cfg(test)]
mod tests;
