//! Which other files an image may refer to: the caller's choice, never the image's.

use std::{
    ffi::OsStr,
    fs::File,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use backstay_core::{Error, ErrorKind, Result};
use rustix::{
    fs::{Mode, OFlags, ResolveFlags},
    io::Errno,
};

use super::file::DiskFile;

/// The gate that every backing file and external data file has to pass.
///
/// An image names these files itself, and whoever could write to the image (a guest, a tenant who uploaded it) could have
/// it name any file of the host. By default nothing may be followed.
#[derive(Clone, Debug, Default)]
pub struct ImageGate {
    /// Each with whether what lies deeper is allowed too.
    directories: Vec<(PathBuf, bool)>,
    probe: bool,
}

impl ImageGate {
    /// Nothing may be followed: an image has to stand alone.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Files that lie in this directory or below it, after all symbolic links are resolved.
    pub fn directory(directory: impl Into<PathBuf>) -> Self {
        Self::none().and_directory(directory)
    }

    /// Files in the directory that the image itself is in, symbolic links to the image resolved, and not deeper. Blocks.
    pub fn beside(image: &Path) -> Result<Self> {
        let real = image.canonicalize();
        let real = real.map_err(|error| Error::io(error, "Find disk image").with_context("path", image.display()))?;
        Ok(Self::none().and_files_of(real.parent().unwrap_or(Path::new("/"))))
    }

    /// Also files in this directory or below it.
    #[must_use]
    pub fn and_directory(self, directory: impl Into<PathBuf>) -> Self {
        self.and(directory.into(), true)
    }

    /// Also files in this directory, but not below it.
    #[must_use]
    pub fn and_files_of(self, directory: impl Into<PathBuf>) -> Self {
        self.and(directory.into(), false)
    }

    fn and(mut self, directory: PathBuf, deep: bool) -> Self {
        // The parent of a bare file name is the empty path.
        let directory = if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory };
        self.directories.push((directory, deep));
        self
    }

    /// Whether the format of a backing file that the image does not tell is found by [`super::probe_format`]. Images without
    /// it are refused otherwise: what is taken for raw may be qcow2 and the other way round.
    #[must_use]
    pub const fn probe_backing(mut self, probe: bool) -> Self {
        self.probe = probe;
        self
    }

    pub(crate) const fn probes(&self) -> bool {
        self.probe
    }

    /// Opens the file that the image at `image` calls `name`, if it may be followed. A relative name starts from the
    /// image's directory.
    pub(crate) fn open(&self, image: &Path, name: &[u8], what: &str) -> Result<DiskFile> {
        let shown = String::from_utf8_lossy(name).into_owned();
        let about =
            |error: Error| error.with_context("image", image.display()).with_context("names", shown.escape_debug());
        if let Some(text) = refused_name(name) {
            return Err(about(Error::new(ErrorKind::Unsupported, format!("The {what} {text}"))));
        }
        let path = image.parent().unwrap_or(Path::new(".")).join(OsStr::from_bytes(name));
        if self.directories.is_empty() {
            return Err(about(not_allowed(what)));
        }
        let real = path.canonicalize().map_err(|error| about(Error::io(error, &format!("Find the {what}"))))?;
        for (directory, deep) in &self.directories {
            let Ok(directory) = directory.canonicalize() else { continue };
            if let Ok(rest) = real.strip_prefix(&directory)
                && (*deep || rest.components().count() == 1)
            {
                return open_beneath(&directory, rest)
                    .map_err(|error| Error::io(error.into(), &format!("Open the {what}")))
                    .and_then(|file| DiskFile::from_file(file, &path))
                    .map_err(about);
            }
        }
        Err(about(not_allowed(what)))
    }
}

fn not_allowed(what: &str) -> Error {
    Error::permission_denied(format!(
        "The image needs a {what} that it may not refer to; if you trust the image, allow its directory (--allow-backing DIR, \
         ImageGate::directory)"
    ))
}

/// Opens without following any link, as someone may put one there after the path was resolved.
fn open_beneath(directory: &Path, rest: &Path) -> rustix::io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let anchor = rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened = match rustix::fs::openat2(&anchor, rest, flags, Mode::empty(), resolve) {
        // Kernels before 5.6, and sandboxes that do not know the call.
        Err(Errno::NOSYS | Errno::PERM) => rustix::fs::openat(&anchor, rest, flags | OFlags::NOFOLLOW, Mode::empty()),
        other => other,
    };
    opened.map(File::from)
}

/// Why a name cannot be followed at all.
fn refused_name(name: &[u8]) -> Option<String> {
    if name.is_empty() || name.contains(&0) {
        return Some("has no usable name".into());
    }
    // As QEMU has it: a colon before the first slash ends a protocol.
    let head = name.split(|byte| *byte == b'/').next().unwrap_or_default();
    let colon = head.iter().position(|byte| *byte == b':')?;
    let protocol = String::from_utf8_lossy(&head[..colon]).escape_debug().to_string();
    Some(format!(
        "is named through {protocol:?}, and only plain file names are followed; give it one with qemu-img rebase -u"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(gate: &ImageGate, image: &Path, name: &str) -> Option<ErrorKind> {
        gate.open(image, name.as_bytes(), "backing file").err().map(|error| error.kind())
    }

    #[test]
    fn only_files_in_allowed_directories_are_followed_links_resolved() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["in", "in/deep", "out"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        for file in ["in/a", "in/deep/b", "out/c"] {
            std::fs::write(at(file), b"x").unwrap();
        }
        std::os::unix::fs::symlink(at("out/c"), at("in/link_out")).unwrap();
        std::os::unix::fs::symlink(at("in/a"), at("out/link_in")).unwrap();
        let (image, gate) = (at("in/image"), ImageGate::directory(at("in")));
        for fine in ["a", "deep/b", "./deep/../a", "../out/link_in", at("in/a").to_str().unwrap()] {
            assert_eq!(kind(&gate, &image, fine), None, "{fine}");
        }
        for outside in ["../out/c", "link_out", "/etc/passwd"] {
            assert_eq!(kind(&gate, &image, outside), Some(ErrorKind::PermissionDenied), "{outside}");
        }
        assert_eq!(kind(&gate, &image, "missing"), Some(ErrorKind::NotFound));
        assert_eq!(kind(&ImageGate::none(), &image, "a"), Some(ErrorKind::PermissionDenied));
        for protocol in ["json:{\"driver\":\"raw\"}", "nbd://host/x", "nbd:host:1", "file:a", "fat:/"] {
            assert_eq!(kind(&gate, &image, protocol), Some(ErrorKind::Unsupported), "{protocol}");
        }
        assert_eq!(kind(&gate, &image, "deep"), Some(ErrorKind::InvalidInput));
        // A link to an image stands for where the image is.
        let beside = ImageGate::beside(&at("out/link_in")).unwrap();
        assert_eq!(kind(&beside, &image, "a"), None);
        assert_eq!(kind(&beside, &image, "../out/c"), Some(ErrorKind::PermissionDenied));
    }

    #[test]
    fn a_fifo_is_refused_and_does_not_hang() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let gate = ImageGate::directory(dir.path());
        assert_eq!(kind(&gate, &dir.path().join("image"), "fifo"), Some(ErrorKind::InvalidInput));
        assert_eq!(DiskFile::open(&fifo).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
