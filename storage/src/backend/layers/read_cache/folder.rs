//! The cache's files, and room for more of them.

use std::{
    fmt,
    fs::{self, DirBuilder, File, FileTimes},
    io::{ErrorKind as Io, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use backstay_core::{Error, ObjectKey, Result, ResultExt};
use bytes::Bytes;

use super::entry::{OVERHEAD, Wanted, object_folder};

/// The cache's own place in the folder that it was given, whose other files are none of its business. The number is that of the layout.
const OWN: &str = "backstay-cache-1";

/// What a file takes at least, and a multiple of it.
const DISK_BLOCK: u64 = 4096;

/// Files being written have names that begin so. Those of a process that died are swept like others.
const TEMPORARY: &str = "~";

pub(super) enum Found {
    Body(Bytes),
    Nothing,
    Damaged,
}

pub(super) struct Folder {
    path: PathBuf,
    max_bytes: u64,
    /// Of all files when they were last looked at, and what this process has added since.
    bytes: Mutex<u64>,
    temporary: AtomicU64,
}

impl fmt::Debug for Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.path)
    }
}

/// A file of the cache, as far as sweeping cares.
struct Kept {
    used: SystemTime,
    bytes: u64,
    path: PathBuf,
}

impl Folder {
    /// Looks at every file that is there.
    pub(super) fn open(given: &Path, max_bytes: u64) -> Result<Self> {
        let path = given.join(OWN);
        let tried = |error| Error::io(error, "Make the folder of the cache").with_context("folder", path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(tried)?;
        let folder = Self { path, max_bytes, bytes: Mutex::new(0), temporary: AtomicU64::new(0) };
        folder.sweep(0).context("folder", folder.path.display())?;
        Ok(folder)
    }

    /// The largest body that is kept.
    pub(super) const fn largest(&self) -> u64 {
        (self.max_bytes / 8).saturating_sub(OVERHEAD)
    }

    pub(super) fn find(&self, wanted: &Wanted) -> Result<Found> {
        let path = self.path.join(wanted.path());
        let file = match File::open(&path) {
            Err(error) if error.kind() == Io::NotFound => return Ok(Found::Nothing),
            opened => opened.map_err(|error| Error::io(error, "Open a file of the cache"))?,
        };
        let read = |error| Error::io(error, "Read a file of the cache");
        // Nothing larger was ever written; somebody else may have.
        let most = self.largest() + OVERHEAD;
        let size = file.metadata().map_err(read)?.len();
        if size > most {
            // Of a time when the cache was larger.
            remove(&path)?;
            return Ok(Found::Nothing);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        (&file).take(most).read_to_end(&mut bytes).map_err(read)?;
        match wanted.decode(bytes) {
            Some(body) => {
                // Used now. When that cannot be noted it goes sooner than it should, and no harm is done.
                let _unnoted = file.set_times(FileTimes::new().set_modified(SystemTime::now()));
                Ok(Found::Body(body))
            }
            None => {
                remove(&path)?;
                Ok(Found::Damaged)
            }
        }
    }

    /// No `fsync`: what a power cut tears is seen when it is read.
    pub(super) fn keep(&self, wanted: &Wanted, body: &[u8]) -> Result<()> {
        let path = self.path.join(wanted.path());
        self.make_room(on_disk(body.len() as u64 + OVERHEAD))?;
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = self.path.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
        let written = self.write(wanted, body, &temporary, &path);
        if written.is_err() {
            remove(&temporary)?;
        }
        written.map_err(|error| Error::io(error, "Write a file of the cache"))
    }

    fn write(&self, wanted: &Wanted, body: &[u8], temporary: &Path, path: &Path) -> std::io::Result<()> {
        let (head, sum) = wanted.seal(body);
        let mut file = File::create(temporary)?;
        for part in [&head[..], body, &sum] {
            file.write_all(part)?;
        }
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        fs::rename(temporary, path)
    }

    pub(super) fn forget(&self, location: &str, key: &ObjectKey) -> Result<()> {
        match fs::remove_dir_all(self.path.join(object_folder(location, key))) {
            Err(error) if error.kind() != Io::NotFound => Err(Error::io(error, "Delete files of the cache")),
            _ => Ok(()),
        }
    }

    /// Sweeps when this one would not fit. Other processes add as well, so what they did is learnt with each sweep.
    fn make_room(&self, bytes: u64) -> Result<()> {
        {
            let mut known = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
            *known += bytes;
            if *known <= self.max_bytes {
                return Ok(());
            }
        }
        self.sweep(bytes)
    }

    /// Deletes what was not used for longest until a tenth is free beside so many bytes that are about to come.
    fn sweep(&self, coming: u64) -> Result<()> {
        let mut known = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = Vec::new();
        collect(&self.path, 3, &mut kept).map_err(|error| Error::io(error, "Look into the folder of the cache"))?;
        let mut bytes: u64 = coming + kept.iter().map(|kept| kept.bytes).sum::<u64>();
        let wanted = self.max_bytes - self.max_bytes / 10;
        if bytes > wanted {
            kept.sort_by_key(|kept| kept.used);
            for old in kept {
                if bytes <= wanted {
                    break;
                }
                remove(&old.path)?;
                if let Some(object) = old.path.parent() {
                    // Goes with its last file. Until then it is not empty, which is no error.
                    let _not_empty = fs::remove_dir(object);
                }
                bytes -= old.bytes;
            }
        }
        *known = bytes;
        Ok(())
    }
}

/// Every file at most so many folders deep. What vanishes meanwhile was another process's to delete.
fn collect(folder: &Path, depth: u32, kept: &mut Vec<Kept>) -> std::io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == Io::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let meta = match entry.metadata() {
            Err(error) if error.kind() == Io::NotFound => continue,
            meta => meta?,
        };
        if meta.is_dir() && depth > 0 {
            collect(&entry.path(), depth - 1, kept)?;
        } else if meta.is_file() {
            let used = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            kept.push(Kept { used, bytes: on_disk(meta.len()), path: entry.path() });
        }
    }
    Ok(())
}

const fn on_disk(bytes: u64) -> u64 {
    bytes.div_ceil(DISK_BLOCK).saturating_mul(DISK_BLOCK)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != Io::NotFound => Err(Error::io(error, "Delete a file of the cache")),
        _ => Ok(()),
    }
}
