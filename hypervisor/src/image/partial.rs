//! A file that gets its name only when it is whole.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    os::unix::{ffi::OsStrExt, fs::FileTypeExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use backstay_core::{Context, Error, Result};
use rustix::{
    fs::{CWD, Gid, Mode, OFlags, RenameFlags, Uid},
    io::Errno,
};

/// How file names end that are not whole yet. What is left of one after a crash can be deleted.
pub const PARTIAL_ENDING: &str = ".bs-partial";

/// Where a sink's bytes go until it is committed.
#[derive(Debug)]
pub(crate) enum Target {
    /// A sibling of the file to be, renamed when whole.
    File(PartialFile),
    /// A block device, written in place.
    Device(Arc<File>),
}

/// A temporary sibling of the file to be. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct PartialFile {
    file: Arc<File>,
    partial: PathBuf,
    target: PathBuf,
    overwrite: bool,
    published: bool,
}

impl Target {
    /// Prepares `path`. What is there is replaced only if `overwrite`. Blocks.
    pub(crate) fn create(path: &Path, overwrite: bool, ctx: &Context) -> Result<Self> {
        let failed = |error| Error::io(error, "Look at the target").with_context("path", path.display());
        let there = match path.symlink_metadata() {
            Ok(_) => true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(failed(error)),
        };
        if there && !overwrite {
            return Err(Error::already_exists(
                "The target is there already; choose another one or allow to overwrite it (--overwrite)",
            )
            .with_context("path", path.display()));
        }
        // A link to a file means the file. One that leads nowhere is replaced itself.
        let real = if there { path.canonicalize().unwrap_or_else(|_| path.to_owned()) } else { path.to_owned() };
        match real.metadata() {
            Ok(meta) if meta.file_type().is_block_device() => open_device(&real).map(Self::Device),
            Ok(meta) if !meta.is_file() => {
                Err(Error::invalid_input("The target is neither a regular file nor a block device")
                    .with_context("path", path.display()))
            }
            _ => PartialFile::create(&real, overwrite, ctx).map(Self::File),
        }
    }

    pub(crate) fn file(&self) -> &Arc<File> {
        match self {
            Self::File(partial) => &partial.file,
            Self::Device(device) => device,
        }
    }

    /// Makes the name durable; the bytes are already. Blocks.
    pub(crate) fn publish(self) -> Result<()> {
        match self {
            Self::File(partial) => partial.publish(),
            Self::Device(_) => Ok(()),
        }
    }

    /// Makes the bytes durable, not yet the name. Blocks.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file().sync_all().map_err(|error| Error::io(error, "Flush the restored disk"))
    }
}

fn open_device(path: &Path) -> Result<Arc<File>> {
    // EXCL makes the kernel refuse a device that is mounted or part of something.
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::EXCL;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(device) => Ok(Arc::new(File::from(device))),
        Err(Errno::BUSY) => {
            Err(Error::conflict("The block device is in use; unmount it first").with_context("path", path.display()))
        }
        Err(error) => Err(Error::io(error.into(), "Open block device").with_context("path", path.display())),
    }
}

impl PartialFile {
    fn create(target: &Path, overwrite: bool, ctx: &Context) -> Result<Self> {
        let name = target.file_name().ok_or_else(|| {
            Error::invalid_input("The target is a directory; name a file in it").with_context("path", target.display())
        })?;
        let random = u64::from_le_bytes(ctx.random()?);
        let partial = target.with_file_name(partial_name(name, random));
        // What a guest's disk holds is its owner's business until they say otherwise.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::open(&partial, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| Error::io(error.into(), "Create file").with_context("path", partial.display()))?;
        if overwrite {
            like_the_old(&file, target);
        }
        Ok(Self { file: Arc::new(File::from(file)), partial, target: target.to_owned(), overwrite, published: false })
    }

    /// Gives the file its name, durably. Its bytes are durable already.
    pub(crate) fn publish(mut self) -> Result<()> {
        let flags = if self.overwrite { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        let renamed = match rustix::fs::renameat_with(CWD, &self.partial, CWD, &self.target, flags) {
            // A file system without this kind of rename: a hard link refuses to replace as well.
            Err(Errno::INVAL | Errno::NOSYS) if !self.overwrite => {
                rustix::fs::link(&self.partial, &self.target).and_then(|()| rustix::fs::unlink(&self.partial))
            }
            other => other,
        };
        renamed.map_err(|error| {
            Error::io(error.into(), "Give the restored disk its name").with_context("path", self.target.display())
        })?;
        self.published = true;
        let parent = self.target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| Error::io(error, "Flush the directory").with_context("path", parent.display()))
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.published {
            // Nothing can be done about a failure here; the name tells what the file is.
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

/// Owner and mode of the file that is replaced, as far as we may: a guest's next start needs them.
fn like_the_old(file: &impl std::os::fd::AsFd, target: &Path) {
    let Ok(old) = rustix::fs::stat(target) else { return };
    // The owner first: changing it takes away special bits of the mode. Whoever may not leaves the file to themselves.
    let owned = rustix::fs::fchown(file, Some(Uid::from_raw(old.st_uid)), Some(Gid::from_raw(old.st_gid)));
    if owned.is_ok() {
        let _kept_private = rustix::fs::fchmod(file, Mode::from_raw_mode(old.st_mode & 0o777));
    }
}

fn partial_name(name: &OsStr, random: u64) -> OsString {
    let ending = format!(".{random:016x}{PARTIAL_ENDING}");
    let kept = name.len().min(254 - ending.len());
    let mut partial = OsString::from(".");
    partial.push(OsStr::from_bytes(&name.as_bytes()[..kept]));
    partial.push(ending);
    partial
}
