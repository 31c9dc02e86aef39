//! Whether a QEMU has an image open for writing.
//!
//! QEMU takes a lock on one byte of the image for each thing it does with it; byte 101 stands for writing. Asking for the
//! lock would need system calls without a safe wrapper, so the kernel's list of locks is read instead.

use super::identity::FileIdentity;

/// The byte that QEMU locks while it may write: 100 plus the number of the permission.
const WRITE_BYTE: u64 = 101;

/// Whether the kernel lists such a lock. Best effort: `false` also where there is no such list.
pub(crate) fn is_open_for_writing(file: &FileIdentity) -> bool {
    let (device, inode) = file.place();
    let place = format!("{:02x}:{:02x}:{inode}", rustix::fs::major(device), rustix::fs::minor(device));
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    locks.lines().any(|line| covers(line, &place))
}

/// A line is `1: OFDLCK ADVISORY READ -1 fe:00:12345 101 101`.
fn covers(line: &str, place: &str) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| *word != place).skip(1);
    let (Some(first), Some(last)) = (words.next(), words.next()) else { return false };
    let first = first.parse().unwrap_or(u64::MAX);
    let last = if last == "EOF" { u64::MAX } else { last.parse().unwrap_or(0) };
    // A lock of a whole file is somebody else's, such as flock's.
    first > 0 && first <= WRITE_BYTE && WRITE_BYTE <= last
}
