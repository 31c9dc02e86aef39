//! Files that are read at positions: regular files, block devices, and byte slices for tests and fuzzing.

use std::{
    fmt,
    fs::File,
    ops::Range,
    os::unix::fs::{FileExt, FileTypeExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use backstay_core::{Error, ExtentKind, Result, ResultExt};
use rustix::{
    fs::{Advice, Mode, OFlags, SeekFrom},
    io::Errno,
};

use super::identity::FileIdentity;

/// Something of a fixed length that is read at positions. All calls block; callers run them in blocking jobs.
pub(crate) trait ReadAt: fmt::Debug + Send + Sync + 'static {
    /// Its length in bytes when it was opened.
    fn len(&self) -> u64;

    /// Fills `buffer` from `offset` on and says how much of it; less than all of it only at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize>;

    /// What lies at `range.start` and where that ends, at most at `range.end`. Never called with an empty range.
    fn run_at(&self, range: Range<u64>) -> Result<(ExtentKind, u64)> {
        Ok((ExtentKind::Data, range.end))
    }

    /// Whether [`Self::run_at`] knows holes.
    fn knows_holes(&self) -> bool {
        false
    }
}

/// Fills all of `buffer`; what lies past the end of the file reads as zero.
pub(crate) fn read_padded(file: &dyn ReadAt, offset: u64, buffer: &mut [u8]) -> Result<()> {
    let got = file.read_at(offset, buffer)?;
    buffer[got..].fill(0);
    Ok(())
}

/// Reads exactly `len` bytes of metadata. The caller has bounded `len`.
pub(crate) fn read_exact(file: &dyn ReadAt, offset: u64, len: usize, what: &str) -> Result<Vec<u8>> {
    let inside = offset.checked_add(len as u64).is_some_and(|end| end <= file.len());
    if !inside {
        return Err(Error::integrity(format!("The {what} ends past the end of the file; the image is truncated"))
            .with_context("offset", offset)
            .with_context("bytes", len)
            .with_context("file_size", file.len()));
    }
    let mut bytes = vec![0; len];
    if file.read_at(offset, &mut bytes)? != len {
        return Err(Error::conflict(format!("The file got shorter while its {what} was read; stop what writes to it")));
    }
    Ok(bytes)
}

impl ReadAt for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.as_slice().len());
        let count = buffer.len().min(self.as_slice().len() - from);
        buffer[..count].copy_from_slice(&self[from..from + count]);
        Ok(count)
    }
}

/// A regular file or a block device, open for reading.
pub(crate) struct DiskFile {
    file: File,
    path: PathBuf,
    len: u64,
    identity: FileIdentity,
    /// The last answer of [`ReadAt::run_at`], so that many questions about one long run cost one system call.
    last_run: Mutex<(ExtentKind, Range<u64>)>,
}

impl fmt::Debug for DiskFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskFile({})", self.path.display())
    }
}

impl DiskFile {
    /// Opens what the caller named; symbolic links are followed.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| Error::io(error.into(), "Open disk image"))
            .context("path", path.display())?;
        Self::from_file(File::from(file), path)
    }

    /// Takes over an open file. Anything but a regular file or a block device is refused.
    pub(crate) fn from_file(file: File, path: &Path) -> Result<Self> {
        let failed = |error| Error::io(error, "Look at disk image").with_context("path", path.display());
        let meta = file.metadata().map_err(failed)?;
        let kind = meta.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(Error::invalid_input("Not a regular file or a block device; name the disk image itself")
                .with_context("path", path.display()));
        }
        let len = match kind.is_file() {
            true => meta.len(),
            false => rustix::fs::seek(&file, SeekFrom::End(0)).map_err(|error| failed(error.into()))?,
        };
        // Only a hint, so a file system that knows no advice is fine.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
        let identity = FileIdentity::of(&meta);
        Ok(Self { file, path: path.to_owned(), len, identity, last_run: Mutex::new((ExtentKind::Data, 0..0)) })
    }

    /// The file as it was when it was opened.
    pub(crate) const fn identity(&self) -> &FileIdentity {
        &self.identity
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its content may have changed since it was opened.
    pub(crate) fn has_changed(&self) -> Result<bool> {
        let meta = self.file.metadata().map_err(|error| Error::io(error, "Look at disk image again"))?;
        Ok(!self.identity.has_content_of(&FileIdentity::of(&meta)))
    }

    /// What lies at `start` and where that ends. Where holes cannot be asked for, all of it is data: slower, never wrong.
    fn ask_run(&self, start: u64) -> (ExtentKind, u64) {
        match self.seek(SeekFrom::Data(start)) {
            Ok(data) if data > start => (ExtentKind::Zero, data),
            Ok(_) => (ExtentKind::Data, self.seek(SeekFrom::Hole(start)).unwrap_or(self.len)),
            Err(Errno::NXIO) if start < self.len => (ExtentKind::Zero, self.len),
            Err(_) => (ExtentKind::Data, self.len),
        }
    }

    fn seek(&self, to: SeekFrom) -> rustix::io::Result<u64> {
        rustix::fs::seek(&self.file, to)
    }
}

impl ReadAt for DiskFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Error::io(error, "Read disk image")
                        .with_context("path", self.path.display())
                        .with_context("offset", offset));
                }
            }
        }
        Ok(done)
    }

    fn run_at(&self, range: Range<u64>) -> Result<(ExtentKind, u64)> {
        let mut last = self.last_run.lock().unwrap_or_else(PoisonError::into_inner);
        if !last.1.contains(&range.start) {
            *last = match self.ask_run(range.start) {
                (kind, end) if end > range.start => (kind, range.start..end),
                // Only while the file changes.
                _ => (ExtentKind::Data, range.clone()),
            };
        }
        Ok((last.0, last.1.end.min(range.end)))
    }

    fn knows_holes(&self) -> bool {
        self.identity.is_telling()
    }
}
