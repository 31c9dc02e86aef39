//! Everything readable is a [`DiskSource`], everything writable a [`DiskSink`].

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Error, Extent, RangeSet, RestorePointId, Result};

/// The most extents that [`DiskSource::extents`] gives in one answer.
pub const MAX_EXTENTS: usize = 4096;

/// An opaque mark in a disk's change history, made by a source and understood by sources of the same sort alone.
///
/// It is stored with the restore point and handed back at the next backup. At most [`ChangeToken::MAX_BYTES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeToken(Bytes);

impl ChangeToken {
    /// The largest token that a restore point holds: 16 MiB.
    pub const MAX_BYTES: usize = 16 << 20;

    /// Checks the size.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self> {
        let bytes = bytes.into();
        if bytes.len() > Self::MAX_BYTES {
            return Err(Error::invalid_input(format!("A change token of {} bytes is too large", bytes.len())));
        }
        Ok(Self(bytes))
    }

    /// What the source put in.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

/// The restore point that changes are counted from.
#[derive(Clone, Debug)]
pub struct ChangeBase {
    /// The parent point.
    pub point: RestorePointId,
    /// The disk's size then, in bytes.
    pub size: u64,
    /// What the source said of itself then.
    pub token: Option<ChangeToken>,
}

/// Blocks that differ from an earlier point, or why nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangedBlocks {
    /// Every byte outside these ranges is as it was, below the smaller of the two sizes.
    Exact(RangeSet),
    /// The source vouches for the whole disk without looking at it; no sample of it is read.
    Untouched,
    /// The whole disk has to be read and compared. The reason goes into the report.
    Unknown {
        /// Why, for people.
        reason: String,
    },
}

impl ChangedBlocks {
    /// [`Self::Unknown`] for this reason.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::Unknown { reason: reason.into() }
    }
}

/// A disk that can be read. It must not change while it is read: a capture, a file nobody writes, a stored disk.
#[async_trait]
pub trait DiskSource: Send + Sync + 'static {
    /// Bytes of the disk; any number, also one that is no multiple of a sector.
    fn size(&self) -> u64;

    /// What lies in `range`, from its start on: ordered, gap-free, not overlapping, at least one extent unless the range
    /// is empty.
    ///
    /// The answer may end before the range does (never after it), so that one call stays cheap: at most
    /// [`MAX_EXTENTS`]. The caller asks again from where it ended. A source that does not know says data.
    async fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>>;

    /// Reads `range`, all of it, into `buffer` and gives it back with exactly that length.
    ///
    /// What the buffer held is lost; handing in the last one again saves an allocation. A range past the end of the disk is
    /// [`crate::ErrorKind::InvalidInput`]. Dropping the future is safe.
    async fn read(&self, range: Range<u64>, buffer: Vec<u8>) -> Result<Vec<u8>>;

    /// What changed since an earlier point. Never a guess: anything that does not match exactly is `Unknown`.
    async fn changed_since(&self, _base: &ChangeBase) -> Result<ChangedBlocks> {
        Ok(ChangedBlocks::unknown("this source does not track changes"))
    }

    /// Asked when everything has been read: fails with [`crate::ErrorKind::Conflict`] when the source knows that it changed
    /// meanwhile, so that what was read is of no single moment.
    async fn verify_unchanged(&self) -> Result<()> {
        Ok(())
    }

    /// The mark to store with the point that is made of this source, for the `changed_since` of its successor.
    async fn change_token(&self) -> Result<Option<ChangeToken>> {
        Ok(None)
    }
}

/// In which order a sink takes bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteOrder {
    /// Any offset at any time, from several tasks at once.
    #[default]
    Any,
    /// Rising offsets, one call at a time: a pipe, a sequentially written format.
    Ascending,
}

/// A disk that can be written. What is neither written nor zeroed reads as zero after `commit`.
#[async_trait]
pub trait DiskSink: Send + Sync + 'static {
    /// Bytes of the disk.
    fn size(&self) -> u64;

    /// In which order it takes bytes.
    fn order(&self) -> WriteOrder {
        WriteOrder::Any
    }

    /// Writes `data` at `offset`. No two calls may overlap.
    async fn write(&self, offset: u64, data: Bytes) -> Result<()>;

    /// Makes `range` read as zero, as a hole where the target knows holes.
    async fn zero(&self, range: Range<u64>) -> Result<()>;

    /// Durable when it returns. Dropping a sink without it leaves nothing that looks finished.
    async fn commit(self: Box<Self>) -> Result<()>;
}

/// Checks that `range` lies inside a disk of `size` bytes.
pub fn check_range(range: &Range<u64>, size: u64) -> Result<()> {
    if range.start <= range.end && range.end <= size {
        return Ok(());
    }
    Err(Error::invalid_input("The range lies outside the disk")
        .with_context("range", format!("{}..{}", range.start, range.end))
        .with_context("size", size))
}
