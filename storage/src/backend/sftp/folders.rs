//! Folders that are there, and stay there after a power cut where the server can be told so.

use std::{
    collections::HashSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
};

use backstay_core::{Error, ErrorKind, Result};
use futures::future::BoxFuture;
use russh_sftp::protocol::{FileAttributes, StatusCode};

use super::{SftpPlace, connection::Connection, error, mode, transfer::Open};

const UNTRIED: u8 = 0;
const WORKS: u8 = 1;
const REFUSED: u8 = 2;

/// The folders of a repository.
#[derive(Debug)]
pub(super) struct Folders {
    place: SftpPlace,
    /// Folders that are there and whose entry in their parent this process has synced.
    known: Mutex<HashSet<String>>,
    /// Permission bits of the root.
    mode: AtomicU32,
    syncs: AtomicU8,
}

impl Folders {
    pub(super) fn new(place: SftpPlace) -> Self {
        Self { place, known: Mutex::default(), mode: AtomicU32::new(0o700), syncs: AtomicU8::new(UNTRIED) }
    }

    /// The permission bits of the root, once [`Self::ensure`] has seen it.
    pub(super) fn mode(&self) -> u32 {
        self.mode.load(Ordering::Relaxed)
    }

    /// Makes `folder` (the root or one below it) and whatever is missing above it, and makes them durable.
    pub(super) fn ensure<'f>(&'f self, connection: &'f Connection, folder: &'f str) -> BoxFuture<'f, Result<()>> {
        Box::pin(async move {
            if self.known.lock().unwrap_or_else(PoisonError::into_inner).contains(folder) {
                return Ok(());
            }
            let is_root = folder == self.place.path;
            let below_root = !is_root && folder.len() > self.place.path.len();
            if below_root {
                self.ensure(connection, self.parent(folder)).await?;
            }
            let found = match look(connection, folder).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    if !below_root && !self.parent(folder).is_empty() {
                        self.ensure(connection, self.parent(folder)).await?;
                    }
                    self.make(connection, folder).await?;
                    look(connection, folder).await?
                }
                outcome => outcome?,
            };
            if mode::sort(&found) == mode::Sort::Other || mode::sort(&found) == mode::Sort::File {
                let what = "Something that is no folder lies where a folder of the repository should be";
                return Err(Error::invalid_input(what).with_context("folder", folder));
            }
            if is_root {
                self.mode.store(mode::bits(&found), Ordering::Relaxed);
            }
            // Above the root are not our folders.
            if below_root {
                self.sync(connection, self.parent(folder)).await?;
            }
            self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned());
            Ok(())
        })
    }

    /// Forgets what it knows: somebody removed a folder, or the server is another one.
    pub(super) fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Makes the entries of a folder durable, where that can be. SFTP has no request for it; OpenSSH lets a folder be opened like a file
    /// and synced. A server that does not at the first try is not asked again.
    pub(super) async fn sync(&self, connection: &Connection, folder: &str) -> Result<()> {
        if !connection.features.fsync || self.syncs.load(Ordering::Relaxed) == REFUSED {
            return Ok(());
        }
        let synced = sync(connection, folder).await;
        match synced {
            Ok(()) => self.syncs.store(WORKS, Ordering::Relaxed),
            Err(_) if !connection.is_lost() && self.syncs.load(Ordering::Relaxed) == UNTRIED => {
                self.syncs.store(REFUSED, Ordering::Relaxed);
            }
            Err(error) => return Err(error.with_context("folder", folder)),
        }
        Ok(())
    }

    async fn make(&self, connection: &Connection, folder: &str) -> Result<()> {
        let attributes = FileAttributes { permissions: Some(self.mode()), ..FileAttributes::empty() };
        match connection.sftp.mkdir(folder, attributes).await {
            // Somebody else may have made it: who asked looks.
            Ok(_) => Ok(()),
            Err(error) if error::says(&error, StatusCode::Failure) => Ok(()),
            Err(error) => Err(connection.failed(error, "Make a folder").with_context("folder", folder)),
        }
    }

    /// Of the root's first folder in the home folder: nothing, which is there.
    fn parent<'p>(&self, folder: &'p str) -> &'p str {
        match folder.rsplit_once('/') {
            Some(("", _)) => "/",
            Some((parent, _)) => parent,
            None => "",
        }
    }
}

/// Where `""` means the folder in which the login begins.
pub(super) fn shown(folder: &str) -> &str {
    if folder.is_empty() { "." } else { folder }
}

async fn look(connection: &Connection, folder: &str) -> Result<FileAttributes> {
    let found = connection.sftp.stat(shown(folder)).await;
    Ok(found.map_err(|error| connection.failed(error, "Look at a folder").with_context("folder", folder))?.attrs)
}

async fn sync(connection: &Connection, folder: &str) -> Result<()> {
    let open = Open::to_read(connection, shown(folder), "Open a folder to sync it").await?;
    let synced = open.sync("Sync a folder").await;
    open.close().await?;
    synced
}
