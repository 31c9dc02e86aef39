//! What tells one state of a file from another without reading it.

use std::{
    fs::Metadata,
    os::unix::fs::{FileTypeExt, MetadataExt},
};

use backstay_core::Timestamp;
use minicbor::{Decode, Encode};

/// A file that was modified less than this before it was looked at may be modified again without a new time stamp: the
/// kernel's clock for files goes in ticks of at most 10 ms.
const RACY_NANOS: i64 = 100_000_000;
/// The same for file systems that keep whole seconds (or two of them) or milliseconds.
const RACY_NANOS_COARSE: i64 = 2_100_000_000;

/// One state of one file.
///
/// The time of the last status change is kept beside that of the last write: a program can set the second back, not the
/// first.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct FileIdentity {
    #[n(0)]
    device: u64,
    #[n(1)]
    inode: u64,
    #[n(2)]
    size: u64,
    #[n(3)]
    modified_ns: i64,
    #[n(4)]
    changed_ns: i64,
    /// Writes to a block device leave no time stamp, so its identity says nothing of its content.
    #[n(5)]
    is_device: bool,
}

impl FileIdentity {
    pub(crate) fn of(meta: &Metadata) -> Self {
        let nanos = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        let is_device = meta.file_type().is_block_device();
        Self {
            device: if is_device { meta.rdev() } else { meta.dev() },
            inode: if is_device { 0 } else { meta.ino() },
            size: meta.len(),
            modified_ns: nanos(meta.mtime(), meta.mtime_nsec()),
            changed_ns: nanos(meta.ctime(), meta.ctime_nsec()),
            is_device,
        }
    }

    /// Whether it is the same file, whatever its state.
    pub(crate) const fn is_same_file(&self, other: &Self) -> bool {
        self.device == other.device && self.inode == other.inode && self.is_device == other.is_device
    }

    /// Whether it is the same file with, as far as size and time of the last write tell, the same content.
    pub(crate) const fn has_content_of(&self, other: &Self) -> bool {
        self.is_same_file(other) && self.size == other.size && self.modified_ns == other.modified_ns
    }

    /// Whether time stamps say anything of this file's content.
    pub(crate) const fn is_telling(&self) -> bool {
        !self.is_device
    }

    /// Whether the file changed so shortly before `now` that a later change could carry the same time stamp.
    pub(crate) fn is_racy(&self, now: Timestamp) -> bool {
        let coarse = self.modified_ns % 1_000_000 == 0;
        let window = if coarse { RACY_NANOS_COARSE } else { RACY_NANOS };
        self.modified_ns.max(self.changed_ns) > now.as_nanos().saturating_sub(window)
    }

    /// Its device and inode, as the kernel lists them.
    pub(crate) const fn place(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}
