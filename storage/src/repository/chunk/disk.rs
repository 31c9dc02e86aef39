//! Cutting a whole segment of a disk.

use super::rule::{Blocks, Cut};
use super::{BLOCK_BYTES, DiskChunker, Entry, IdKeys, SEGMENT_BYTES};

/// Cuts `data`, all the bytes of one segment: 16 MiB, or less for the last one of a disk. A partial last block counts as
/// padded with zeros for where the cuts are, but a chunk's id covers its real length.
///
/// With [`DiskChunker::Aligned`], from each cut *p* in blocks: at least 16 zero blocks at *p* are a hole up to the first
/// other block. Else *h* is the nearest of *p* + 24, the segment's end and the next place where at least 16 zero blocks
/// start, and the chunk ends at *h* if that is at most 8 blocks away, or else after the block with the smallest hash
/// (compared as bytes, the first of equals) among those that give the chunk 8 to *h* − *p* blocks. So chunks have 32 to
/// 96 KiB, 65 in the mean, and every cut depends on at most 40 blocks. Zeros are counted within the segment only. This is
/// local-minimum chunking (Bjørner, Blass, Gurevich: "Content-dependent chunking for differential compression, the
/// local maximum approach", 2010) with a window that starts at the last cut, over keyed hashes of whole blocks.
///
/// With [`DiskChunker::Fixed`], the segment is a row of cells; cells of zeros only make holes, any other is a chunk.
///
/// # Panics
/// If `data` is longer than a segment.
#[must_use]
pub fn cut_segment(chunker: DiskChunker, keys: &IdKeys, data: &[u8]) -> Vec<Entry> {
    assert!(data.len() as u64 <= SEGMENT_BYTES, "a segment of {} bytes", data.len());
    let mut blocks = Blocks::unknown(data.len().div_ceil(BLOCK_BYTES));
    blocks.read(keys, 0, data);
    let mut entries = Vec::new();
    let mut at = 0;
    // All blocks are known, so no cut misses one.
    while at < blocks.len()
        && let Ok(cut) = blocks.cut(chunker, at)
    {
        let (entry, end) = entry(keys, &blocks, data.len() as u64, at, cut);
        entries.push(entry);
        at = end;
    }
    entries
}

/// The entry of the piece from `start` to `cut`, and its end, in a segment of `plain_bytes`.
pub(super) fn entry(keys: &IdKeys, blocks: &Blocks, plain_bytes: u64, start: usize, cut: Cut) -> (Entry, usize) {
    match cut {
        Cut::Hole(end) => (Entry::Hole { blocks: (end - start) as u32 }, end),
        Cut::Chunk(end) => {
            let bytes = byte_at(end, plain_bytes) - byte_at(start, plain_bytes);
            let id = keys.chunk_id_of(bytes as u32, blocks.hashes(start, end));
            (Entry::Chunk { blocks: (end - start) as u32, id }, end)
        }
    }
}

/// Where a block starts in a segment of `plain_bytes`, or the segment's end.
pub(super) fn byte_at(block: usize, plain_bytes: u64) -> u64 {
    plain_bytes.min((block * BLOCK_BYTES) as u64)
}

/// How many blocks `entries` span.
#[must_use]
pub fn entries_blocks(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| u64::from(entry.blocks())).sum()
}
