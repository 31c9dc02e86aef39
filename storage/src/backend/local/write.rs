//! Writing object files: temporary, synced, moved.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Once,
    sync::atomic::{AtomicBool, Ordering},
};

use backstay_core::{
    Error, ErrorKind, PutMode, Result,
    aligned::{ALIGNMENT, AlignedPool, STAGING_BYTES},
};
use rustix::{
    fs::{CWD, OFlags, RenameFlags},
    io::Errno,
};

use super::{
    folders::{self, Folders},
    temporary::{self, Temporary},
};

/// Bodies from this size on bypass the page cache (`O_DIRECT`).
///
/// Forty packs of 32 MiB, two at once, ext4 on a virtio disk, two busy cores, each synced, median of eight runs:
///
/// | how | MB/s |
/// |---|---|
/// | buffered, `fdatasync` at the end | 420 |
/// | buffered, write-back started early (`POSIX_FADV_DONTNEED` each MiB) | 600, from 260 to 870 |
/// | buffered, `fdatasync` each 4 MiB | 410 |
/// | direct in steps of 1 MiB | 1270 |
/// | direct in steps of 4 MiB, or preallocated | 1230, 1200 |
///
/// The price: the first read after it comes from the disk (0.7 to 2.5 GB/s there) and not from memory (5 GB/s).
/// [`super::LocalBackend::bypass_page_cache`] chooses.
const DIRECT_FROM: usize = 1 << 20;

pub(super) struct Writer {
    temporary: PathBuf,
    pool: AlignedPool,
    /// Whether to try direct I/O: until the file system refuses it, unless the caller does not want it.
    direct: AtomicBool,
    cleaned: Once,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("temporary", &self.temporary).finish_non_exhaustive()
    }
}

impl Writer {
    pub(super) fn new(root: PathBuf) -> Self {
        let temporary = root.join(temporary::FOLDER);
        Self { temporary, pool: AlignedPool::default(), direct: AtomicBool::new(true), cleaned: Once::new() }
    }

    pub(super) fn bypass_page_cache(&self, bypass: bool) {
        self.direct.store(bypass, Ordering::Relaxed);
    }

    pub(super) fn put(&self, folders: &Folders, path: &Path, body: &[u8], mode: PutMode) -> Result<()> {
        // Saves writing a pack for nothing; the move decides.
        if mode == PutMode::Create && path.symlink_metadata().is_ok() {
            return Err(exists());
        }
        self.try_put(folders, path, body, mode).map_err(|error| match error.kind() {
            // A put looks for nothing, so that "not found" would mislead: a folder vanished under our hands.
            ErrorKind::NotFound => {
                folders.forget();
                Error::unavailable("A folder of the repository vanished while an object was written; run it again")
                    .with_source(error)
                    .retryable()
            }
            _ => error,
        })
    }

    fn try_put(&self, folders: &Folders, path: &Path, body: &[u8], mode: PutMode) -> Result<()> {
        // Invariant: a key has at least one segment, so that its path has a parent: the root or a folder below it.
        let folder = path.parent().ok_or_else(|| Error::internal("An object has no folder"))?;
        folders.ensure(folder)?;
        folders.ensure(&self.temporary)?;
        let temporary = Temporary::create(&self.temporary, folders.mode() & 0o666)?;
        self.clean_once(&temporary);
        self.write(&temporary.file, body).map_err(|error| Error::io(error, "Write an object"))?;
        publish(&temporary, path, mode)?;
        folders::sync(folder).map_err(|error| Error::io(error, "Sync the folder of an object"))
    }

    fn clean_once(&self, just_made: &Temporary) {
        self.cleaned.call_once(|| {
            if let Ok(now) = just_made.file.metadata().and_then(|meta| meta.modified()) {
                temporary::clean(&self.temporary, now);
            }
        });
    }

    /// Writes the body and makes it durable.
    fn write(&self, mut file: &File, body: &[u8]) -> io::Result<()> {
        if body.len() >= DIRECT_FROM && self.direct.load(Ordering::Relaxed) {
            match self.write_direct(file, body) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    // The file system does not know it (or wants another alignment): never try again.
                    self.direct.store(false, Ordering::Relaxed);
                    buffered(file)?;
                    file.set_len(0)?;
                }
                outcome => return outcome,
            }
        }
        file.write_all(body)?;
        file.sync_data()
    }

    fn write_direct(&self, file: &File, body: &[u8]) -> io::Result<()> {
        rustix::fs::fcntl_setfl(file, OFlags::DIRECT)?;
        let (aligned, tail) = body.split_at(body.len() - body.len() % ALIGNMENT);
        let mut staging = self.pool.take();
        let outcome = aligned.chunks(STAGING_BYTES).zip((0u64..).step_by(STAGING_BYTES)).try_for_each(|(part, at)| {
            let staged = &mut staging.bytes()[..part.len()];
            staged.copy_from_slice(part);
            file.write_all_at(staged, at)
        });
        self.pool.give_back(staging);
        outcome?;
        if !tail.is_empty() {
            buffered(file)?;
            file.write_all_at(tail, aligned.len() as u64)?;
        }
        file.sync_data()
    }
}

fn buffered(file: &File) -> io::Result<()> {
    Ok(rustix::fs::fcntl_setfl(file, OFlags::empty())?)
}

/// Moves the temporary file to its place.
fn publish(temporary: &Temporary, path: &Path, mode: PutMode) -> Result<()> {
    if mode == PutMode::Replace {
        return fs::rename(&temporary.path, path).map_err(|error| Error::io(error, "Move an object to its place"));
    }
    match rustix::fs::renameat_with(CWD, &temporary.path, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(exists()),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link(temporary, path),
        Err(error) => Err(Error::io(error.into(), "Move an object to its place")),
    }
}

fn link(temporary: &Temporary, path: &Path) -> Result<()> {
    let Err(error) = fs::hard_link(&temporary.path, path) else { return Ok(()) };
    match Errno::from_io_error(&error) {
        // A network file system may answer the second try of a call whose first answer was lost: the link is ours then.
        Some(Errno::EXIST) if temporary.file.metadata().is_ok_and(|meta| meta.nlink() > 1) => Ok(()),
        Some(Errno::EXIST) => Err(exists()),
        Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {
            let what = "This file system can neither rename without replacing nor make hard links, one of which a \
                        repository needs; use another file system";
            Err(Error::unsupported(what).with_source(error))
        }
        _ => Err(Error::io(error, "Move an object to its place")),
    }
}

fn exists() -> Error {
    Error::already_exists("The object is there already")
}

/// Not synced: an object that comes back after a power cut is deleted again by whoever wanted it gone.
pub(super) fn delete(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
        // A folder is no object.
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => Ok(()),
        outcome => outcome.map_err(|error| Error::io(error, "Delete an object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The way of file systems that cannot rename without replacing.
    #[test]
    fn a_hard_link_publishes_once_and_knows_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("object");
        let first = Temporary::create(folder.path(), 0o600).unwrap();
        link(&first, &path).unwrap();
        // The reply to the first try was lost.
        link(&first, &path).unwrap();
        let second = Temporary::create(folder.path(), 0o600).unwrap();
        assert_eq!(link(&second, &path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        drop((first, second));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
