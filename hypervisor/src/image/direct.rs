//! Writing a restored disk past the page cache.
//!
//! A restore writes gigabytes that nobody reads soon and has to make them durable. Through the page cache each of them is
//! copied into fresh pages and written back later: on a virtual server whose memory was idle that ran at 0.5 GB/s, direct
//! writes at 1.9. Ranges that are not aligned, and file systems that refuse direct I/O, go the ordinary way.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::fs::FileExt},
    sync::atomic::{AtomicBool, Ordering},
};

use backstay_core::aligned::{ALIGNMENT, AlignedPool, STAGING_BYTES};
use rustix::fs::{Mode, OFlags};

/// Smaller writes are not worth a trip to the disk of their own.
const DIRECT_FROM: usize = 64 << 10;

/// A second way into a file that is open already.
#[derive(Debug)]
pub(super) struct DirectWriter {
    file: Option<File>,
    refused: AtomicBool,
    pool: AlignedPool,
}

impl DirectWriter {
    /// Opens the file again for direct writes; where that is refused all writes go the ordinary way.
    pub(super) fn new(file: &File) -> Self {
        let again = format!("/proc/self/fd/{}", file.as_raw_fd());
        let direct = rustix::fs::open(again, OFlags::WRONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty());
        Self { file: direct.ok().map(File::from), refused: AtomicBool::new(false), pool: AlignedPool::default() }
    }

    /// Writes all of `data` at `offset`: whole blocks directly, what is left at both ends through `file`.
    pub(super) fn write(&self, file: &File, data: &[u8], offset: u64) -> io::Result<()> {
        let Some(direct) = self.file.as_ref().filter(|_| !self.refused.load(Ordering::Relaxed)) else {
            return file.write_all_at(data, offset);
        };
        let head = (offset.next_multiple_of(ALIGNMENT as u64) - offset) as usize;
        if data.len() < head + DIRECT_FROM {
            return file.write_all_at(data, offset);
        }
        let (head, rest) = data.split_at(head);
        let (body, tail) = rest.split_at(rest.len() - rest.len() % ALIGNMENT);
        let body_at = offset + head.len() as u64;
        match self.write_aligned(direct, body, body_at) {
            // The file system does not know it, or wants another alignment: never try again.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.refused.store(true, Ordering::Relaxed);
                file.write_all_at(body, body_at)?;
            }
            outcome => outcome?,
        }
        file.write_all_at(head, offset)?;
        file.write_all_at(tail, body_at + body.len() as u64)
    }

    fn write_aligned(&self, direct: &File, body: &[u8], at: u64) -> io::Result<()> {
        let mut staging = self.pool.take();
        let steps = body.chunks(STAGING_BYTES).zip((at..).step_by(STAGING_BYTES));
        let written = steps.into_iter().try_for_each(|(part, at)| {
            let staged = &mut staging.bytes()[..part.len()];
            staged.copy_from_slice(part);
            direct.write_all_at(staged, at)
        });
        self.pool.give_back(staging);
        written
    }
}
