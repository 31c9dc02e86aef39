//! Reading object files.

use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use backstay_core::{Error, ObjectKey, Result};
use bytes::Bytes;
use rustix::fs::OFlags;

use super::check_object_range;

/// Opens an object and tells its size. A folder is no object; a symbolic link is refused, since a backend never makes
/// one and following it would read what lies outside the root.
fn open(path: &Path) -> Result<(File, u64)> {
    // NONBLOCK: a named pipe in the place of an object must not make us wait for a writer.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::options().read(true).custom_flags(flags.bits() as i32).open(path).map_err(opening)?;
    let meta = file.metadata().map_err(|error| Error::io(error, "Look at an object"))?;
    if meta.is_dir() {
        return Err(Error::not_found("No such object: its name is that of a folder"));
    }
    if !meta.is_file() {
        return Err(foreign());
    }
    Ok((file, meta.len()))
}

fn opening(error: io::Error) -> Error {
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::LOOP) => foreign(),
        // Part of the key is an object, so nothing lies below it.
        Some(rustix::io::Errno::NOTDIR) => Error::not_found("No such object").with_source(error),
        _ => Error::io(error, "Open an object"),
    }
}

fn foreign() -> Error {
    Error::new(
        backstay_core::ErrorKind::Integrity,
        "A link, pipe or device lies where an object should be; put the file itself there",
    )
}

fn allocate(size: u64) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    // A file of absurd size must be an error, not the end of the process.
    usize::try_from(size).ok().and_then(|size| body.try_reserve_exact(size).ok()).ok_or_else(|| {
        Error::unavailable("There is not enough memory for the object; read it in ranges").with_context("size", size)
    })?;
    Ok(body)
}

pub(super) fn whole(path: &Path) -> Result<Bytes> {
    let (file, size) = open(path)?;
    let mut body = allocate(size)?;
    // Not one byte more than the size, so that a file that grows meanwhile cannot grow the buffer.
    (&file).take(size).read_to_end(&mut body).map_err(|error| Error::io(error, "Read an object"))?;
    if body.len() as u64 != size {
        return Err(Error::unavailable("The object became shorter while it was read; read it again").retryable());
    }
    Ok(body.into())
}

pub(super) fn range(path: &Path, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
    let (file, size) = open(path)?;
    check_object_range(key, &range, size)?;
    let len = range.end - range.start;
    let mut body = allocate(len)?;
    body.resize(len as usize, 0);
    file.read_exact_at(&mut body, range.start).map_err(|error| Error::io(error, "Read part of an object"))?;
    Ok(body.into())
}

pub(super) fn size(path: &Path) -> Result<u64> {
    open(path).map(|(_, size)| size)
}
