//! Temporary files: how a body waits until it is whole.
//!
//! They lie in `~tmp` below the root, so that they are on the file system of the objects and a move is one step. `~` is not
//! in the alphabet of object keys: no key leads there.
//!
//! A writer holds a lock (`flock`) on its file, which the kernel lets go when the writer dies. So a file is a leftover when
//! its lock is free and it was not written for [`GRACE`] (the time between making and locking it), or, where the file
//! system knows no locks, when it was not written for [`GRACE_WITHOUT_LOCKS`]. Ages are counted by the file system's own clock:
//! from the time of a file that was made just now. And if all of that is wrong, a living writer's move fails, its put
//! returns an error, and nothing is lost: the name is one that only it would ever move.

use std::{
    fs::{self, DirEntry, File},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use backstay_core::{Error, OsRandom, RandomSource, Result};
use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
};

pub(super) const FOLDER: &str = "~tmp";
const GRACE: Duration = Duration::from_secs(60);
const GRACE_WITHOUT_LOCKS: Duration = Duration::from_secs(24 * 3600);

/// A file of our own in the temporary folder, removed when dropped.
pub(super) struct Temporary {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Temporary {
    /// Makes one; `folder` is there.
    pub(super) fn create(folder: &Path, mode: u32) -> Result<Self> {
        // Random, because two processes in two containers may have one number.
        let mut name = [0; 8];
        OsRandom.fill(&mut name)?;
        let path = folder.join(format!("{}-{}", std::process::id(), hex::encode(name)));
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .custom_flags((OFlags::NOFOLLOW | OFlags::CLOEXEC).bits() as i32)
            .open(&path)
            .map_err(|error| Error::io(error, "Make a temporary file"))?;
        // Where locks are not known the long grace protects the file.
        let _best_effort = flock(&file, FlockOperation::NonBlockingLockExclusive);
        Ok(Self { file, path })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a move there is nothing here any more; after a failure a later process cleans.
        let _gone = fs::remove_file(&self.path);
    }
}

/// Removes what dead writers left. `now` is the time of a file that was written just now. Failures leave it for later.
pub(super) fn clean(folder: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if is_leftover(&entry, now).unwrap_or(false) {
            let _for_later = fs::remove_file(entry.path());
        }
    }
}

fn is_leftover(entry: &DirEntry, now: SystemTime) -> io::Result<bool> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::options().read(true).custom_flags(flags.bits() as i32).open(entry.path())?;
    let meta = file.metadata()?;
    let age = now.duration_since(meta.modified()?).unwrap_or_default();
    if !meta.is_file() || age < GRACE {
        return Ok(false);
    }
    Ok(match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => true,
        Err(Errno::WOULDBLOCK) => false,
        Err(_) => age >= GRACE_WITHOUT_LOCKS,
    })
}
