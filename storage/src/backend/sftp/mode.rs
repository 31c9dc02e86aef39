//! What a server says of a file.

use russh_sftp::protocol::FileAttributes;

const SORT: u32 = 0o170_000;

/// What lies under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    File,
    Folder,
    /// A link, a pipe, a device.
    Other,
    /// Servers need not say.
    Untold,
}

pub(super) fn sort(attributes: &FileAttributes) -> Sort {
    match attributes.permissions.map(|mode| mode & SORT) {
        Some(0o100_000) => Sort::File,
        Some(0o040_000) => Sort::Folder,
        Some(0) | None => Sort::Untold,
        Some(_) => Sort::Other,
    }
}

/// The permission bits; those of a private folder when they are not told.
pub(super) fn bits(attributes: &FileAttributes) -> u32 {
    attributes.permissions.map_or(0o700, |mode| mode & 0o777)
}
