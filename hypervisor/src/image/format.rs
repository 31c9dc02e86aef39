//! Which format an image has: said by the caller, or found by a rule that a guest cannot bend.

use std::{fmt, path::Path, str::FromStr};

use backstay_core::{Error, Result, ResultExt};
use serde::{Deserialize, Serialize};

use super::{file::DiskFile, file::ReadAt, qcow2::MAGIC};

/// The format of a disk image. Never guessed from content alone: see [`probe_format`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ImageFormat {
    /// The bytes of the file are the bytes of the disk.
    Raw,
    /// QEMU's format, versions 2 and 3.
    Qcow2,
}

impl ImageFormat {
    /// `raw` or `qcow2`, also the usual ending of the file name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

impl fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ImageFormat {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "raw" => Ok(Self::Raw),
            "qcow2" => Ok(Self::Qcow2),
            _ => Err(Error::invalid_input(format!("Not an image format: {name:?}; there are raw and qcow2"))),
        }
    }
}

/// Finds the format of an image, if name and content agree; otherwise the caller has to say it.
///
/// The guest owns every byte of a raw image. Were content alone to decide, it could write a qcow2 header to its disk that
/// names any file of the host as its backing file, and the next backup would hold that file. Hence:
///
/// - a name that ends in `.qcow2`, `.qcow`, `.qc2` or `.snap` *and* the qcow2 magic: qcow2;
/// - a name that ends in `.raw` or `.img` (or a block device) *without* the magic: raw;
/// - anything else: [`backstay_core::ErrorKind::InvalidInput`]; ask for `--format`.
///
/// Blocks while it reads four bytes.
pub fn probe_format(path: &Path) -> Result<ImageFormat> {
    let file = DiskFile::open(path)?;
    let mut first = [0; 4];
    let has_magic = file.read_at(0, &mut first).context("path", path.display())? == 4 && first == MAGIC;
    let name = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let is_raw = matches!(name.as_str(), "raw" | "img") || !file.identity().is_telling();
    match (name.as_str(), has_magic) {
        ("qcow2" | "qcow" | "qc2" | "snap", true) => Ok(ImageFormat::Qcow2),
        (_, false) if is_raw => Ok(ImageFormat::Raw),
        _ => Err(Error::invalid_input(
            "The format of the image is not certain from its name and its first bytes; say --format raw or --format qcow2",
        )
        .with_context("path", path.display())
        .with_context("begins_like", if has_magic { "qcow2" } else { "something else" })),
    }
}

#[cfg(test)]
mod tests {
    use backstay_core::ErrorKind;

    use super::*;

    #[test]
    fn a_format_is_found_only_where_name_and_content_agree() {
        let dir = tempfile::tempdir().unwrap();
        let probe = |name: &str, bytes: &[u8]| {
            std::fs::write(dir.path().join(name), bytes).unwrap();
            probe_format(&dir.path().join(name)).map_err(|error| error.kind())
        };
        let header = b"QFI\xfb\0\0\0\x03";
        assert_eq!(probe("disk.qcow2", header), Ok(ImageFormat::Qcow2));
        assert_eq!(probe("DISK.QCOW2", header), Ok(ImageFormat::Qcow2));
        assert_eq!(probe("disk.img", b"anything"), Ok(ImageFormat::Raw));
        assert_eq!(probe("disk.raw", b""), Ok(ImageFormat::Raw));
        // What a guest may have written to its raw disk, and what is no image of that name.
        for (name, bytes) in [
            ("disk.raw", header.as_slice()),
            ("disk.img", header),
            ("disk", header),
            ("disk", b"x"),
            ("disk.qcow2", b"x"),
        ] {
            assert_eq!(probe(name, bytes), Err(ErrorKind::InvalidInput), "{name}");
        }
        assert_eq!(probe_format(&dir.path().join("missing.raw")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!("qcow2".parse::<ImageFormat>().unwrap(), ImageFormat::Qcow2);
        assert!("vmdk".parse::<ImageFormat>().is_err());
    }
}
