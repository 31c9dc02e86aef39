//! Where each chunk and each map node lies: immutable sorted segments, looked up page by page.
//!
//! A segment is one object: sealed pages of sorted records, a sealed footer, a trailer in clear. What stays in memory is a
//! filter (9 bits a record), four bytes a page and the names of the packs: at most 20 MB for 16,777,216 chunks. A
//! look-up that passes the filter reads and opens one page of 16 KiB, so nothing of the index has to lie on a disk in clear.
//!
//! ```text
//! object   = page 0 … page n-1, sealed footer, trailer (48 bytes)
//! page     = sealed records, hashes that lead from it to the root of the page tree (32 bytes × depth)
//! id       = BLAKE3(sealed footer, trailer); the footer holds the root, which pins every page
//! ```
//!
//! Why a tree and not a list of page hashes: 32 bytes a page in memory would force pages of 96 KiB, and opening one of them
//! for every chunk that is met again costs more than hashing the chunk.

mod builder;
mod cache;
mod cursor;
mod filter;
mod footer;
mod fuzz;
mod keyless;
mod lookup;
mod page;
mod scan;
mod segment;
mod trailer;
mod tree;
mod verify;

#[cfg(test)]
mod tests;

use std::ops::Range;

use async_trait::async_trait;
use backstay_core::{Error, Result};
use bytes::Bytes;

use super::ids::{PackId, SegmentId};

pub use builder::{SealedSegment, SegmentBuilder};
pub use footer::PackEntry;
#[doc(hidden)]
pub use fuzz::{fuzz_decode_footer, fuzz_decode_page, fuzz_decode_trailer};
pub use keyless::{Seen, verify_without_key};
pub use lookup::{Index, IndexStats};
pub use segment::Segment;
pub use trailer::Trailer;

/// Most records of one segment, both sections together.
pub const MAX_RECORDS: usize = 1 << 20;

/// Most packs that one segment names.
pub const MAX_PACKS: usize = 1 << 18;

/// Records of every page but the last of a section: 16,368 bytes.
pub const RECORDS_PER_PAGE: usize = 341;

/// The two kinds of things that are looked up. Each has pages and a filter of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Section {
    /// Nodes of disk maps.
    Meta,
    /// Chunks.
    Data,
}

impl Section {
    /// In the order in which they lie in a segment.
    pub(super) const ALL: [Self; 2] = [Self::Meta, Self::Data];

    const fn slot(self) -> usize {
        match self {
            Self::Meta => 0,
            Self::Data => 1,
        }
    }
}

/// What a pack holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PackKind {
    /// Chunks.
    Data = 1,
    /// Map nodes.
    Meta = 2,
}

/// Where a chunk or a node lies. Its frame ends within the pack; whether it is what its id says shows only when it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// The pack.
    pub pack: PackId,
    /// Size of the pack object in bytes, as the index says: what spares asking the store for it.
    pub pack_bytes: u64,
    /// First byte of the sealed frame in the pack object.
    pub offset: u32,
    /// Bytes of the sealed frame.
    pub stored: u32,
    /// Bytes of the content.
    pub plain: u32,
}

/// Which part of a segment is sealed. Bound to it, so that no part can stand in for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// A page, counted through both sections.
    Page(u32),
    /// The footer.
    Footer,
}

/// Seals and opens the parts of one segment, whose salt it was made with.
///
/// Two plaintexts of the same length must seal to the same length, at most [`MAX_OVERHEAD`] longer.
pub trait PageCipher: Send + Sync {
    /// Seals a part.
    fn seal(&self, what: Part, plain: &[u8]) -> Result<Vec<u8>>;

    /// Opens a part; [`backstay_core::ErrorKind::Integrity`] when it is not what [`PageCipher::seal`] gave for the same part.
    fn open(&self, what: Part, sealed: &[u8]) -> Result<Vec<u8>>;
}

/// Most bytes by which sealing may lengthen a part.
pub const MAX_OVERHEAD: usize = 1024;

/// Reads parts of one segment object.
#[async_trait]
pub trait SegmentBytes: Send + Sync {
    /// Bytes `range` of the object, all of them.
    async fn read(&self, range: Range<u64>) -> Result<Bytes>;

    /// Size of the object.
    fn len(&self) -> u64;

    /// Whether the object has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn damaged(what: &'static str) -> Error {
    Error::integrity(what)
}

/// Reads and insists on the length: a store that gives less has a hiccup, the object is not damaged for that.
async fn read_exact(bytes: &dyn SegmentBytes, range: Range<u64>) -> Result<Bytes> {
    let wanted = range.end - range.start;
    let got = bytes.read(range).await?;
    if got.len() as u64 == wanted {
        return Ok(got);
    }
    Err(Error::unavailable("The store gave another number of bytes of an index segment than asked for")
        .with_context("wanted", wanted)
        .with_context("got", got.len())
        .retryable())
}
