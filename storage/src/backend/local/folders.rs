//! Folders that are there and stay there after a power cut.

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use backstay_core::{Error, Result, ResultExt};
use rustix::fs::OFlags;

/// The folders below a root.
#[derive(Debug)]
pub(super) struct Folders {
    root: PathBuf,
    /// Folders whose entry in their parent this process has synced. One that another process made a moment ago may not
    /// be durable yet, so that merely finding a folder is not enough.
    durable: Mutex<HashSet<PathBuf>>,
}

impl Folders {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, durable: Mutex::default() }
    }

    /// Makes `folder` (the root or one below it) and whatever is missing above it, and makes them durable.
    pub(super) fn ensure(&self, folder: &Path) -> Result<()> {
        if self.durable.lock().unwrap_or_else(PoisonError::into_inner).contains(folder) {
            return Ok(());
        }
        let below_root = folder != self.root && folder.starts_with(&self.root);
        if let Some(parent) = folder.parent() {
            // Above the root only what is missing is ours to make durable.
            if below_root || !parent.exists() {
                self.ensure(parent)?;
            }
            self.make(folder)?;
            match sync(parent) {
                // The parent of the root is not ours: it may be a folder that we can pass through but not read.
                Err(error) if !below_root && error.kind() == io::ErrorKind::PermissionDenied => {}
                outcome => {
                    outcome.map_err(|error| Error::io(error, "Sync a folder")).context("folder", parent.display())?
                }
            }
        }
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned());
        Ok(())
    }

    /// Forgets what it knows of folders: somebody removed one.
    pub(super) fn forget(&self) {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn make(&self, folder: &Path) -> Result<()> {
        let mut builder = DirBuilder::new();
        builder.mode(self.mode());
        match builder.create(folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            outcome => outcome.map_err(|error| Error::io(error, "Make a folder")).context("folder", folder.display()),
        }
    }

    /// The permission bits of the root; those of a private one while there is none.
    pub(super) fn mode(&self) -> u32 {
        fs::metadata(&self.root).map_or(0o700, |root| root.mode() & 0o777)
    }
}

/// Makes the entries of a folder durable.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::options().read(true).custom_flags(OFlags::DIRECTORY.bits() as i32).open(folder)?.sync_all()
}
