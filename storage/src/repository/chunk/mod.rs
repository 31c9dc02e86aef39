//! Where the bytes of disks and streams are cut into chunks, and what a chunk is called.
//!
//! Disks are cut at multiples of 4 KiB by the content of whole blocks ([`cut_segment`]), so that an incremental backup
//! can cut again around its changes alone ([`Splice`]). Streams are cut byte-wise ([`StreamCutter`]).

mod disk;
mod keys;
mod lanes;
mod past;
mod rule;
mod splice;
mod stream;
#[cfg(test)]
mod tests;

pub use disk::{cut_segment, entries_blocks};
pub use keys::{IdKeys, is_zero};
pub use splice::{Splice, Spliced};
pub use stream::StreamCutter;

use super::ids::ChunkId;

/// Bytes of a block, the unit in which disks are cut, hashed and tracked.
pub const BLOCK_BYTES: usize = 4096;
/// Bytes of a disk that one leaf of its map describes. Every multiple of it is a cut.
pub const SEGMENT_BYTES: u64 = 16 << 20;
/// Blocks in a whole segment.
pub const SEGMENT_BLOCKS: usize = 4096;

/// One piece of a segment. Entries stand in order and without gaps, so their places follow from their lengths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Entry {
    /// Blocks of zeros only.
    Hole {
        /// Its length in blocks.
        blocks: u32,
    },
    /// Content that is stored under its id.
    Chunk {
        /// Its length in blocks; the last block of a disk may be partial.
        blocks: u32,
        /// What it is stored as.
        id: ChunkId,
    },
}

impl Entry {
    /// Its length in blocks.
    #[must_use]
    pub const fn blocks(&self) -> u32 {
        match *self {
            Self::Hole { blocks } | Self::Chunk { blocks, .. } => blocks,
        }
    }

    /// What it is stored as; `None` for a hole.
    #[must_use]
    pub const fn id(&self) -> Option<ChunkId> {
        match *self {
            Self::Hole { .. } => None,
            Self::Chunk { id, .. } => Some(id),
        }
    }
}

/// How a disk is cut. Recorded per disk map, since entries of one kind cannot be spliced with the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DiskChunker {
    /// After the block with the smallest keyed hash in a window of 32–96 KiB (see [`cut_segment`]).
    #[default]
    Aligned,
    /// Every so many blocks, counted from the start of the segment.
    Fixed {
        /// Blocks of a chunk, 1 to [`SEGMENT_BLOCKS`].
        blocks: u32,
    },
}

impl DiskChunker {
    /// The name in a disk map: `aligned-1`, or `fixed:<bytes>`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Aligned => "aligned-1".to_owned(),
            Self::Fixed { blocks } => format!("fixed:{}", u64::from(*blocks) * BLOCK_BYTES as u64),
        }
    }

    /// The reverse of [`name`](Self::name); `None` for anything that it does not write, such as a size that is not a
    /// multiple of 4 KiB or over 16 MiB.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if name == "aligned-1" {
            return Some(Self::Aligned);
        }
        let bytes: u64 = name.strip_prefix("fixed:")?.parse().ok()?;
        let blocks = u32::try_from(bytes / BLOCK_BYTES as u64).ok()?;
        let chunker = Self::Fixed { blocks };
        ((1..=SEGMENT_BLOCKS as u32).contains(&blocks) && chunker.name() == name).then_some(chunker)
    }
}
