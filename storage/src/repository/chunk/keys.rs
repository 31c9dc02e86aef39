//! The keys under which blocks are compared and chunks are named.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::BLOCK_BYTES;
use super::lanes::{Block, BlockHash, hash_blocks};
use crate::repository::ids::ChunkId;

/// The two keys that all epochs of a repository share, so that the same content is cut and named the same for ever.
///
/// Both uses are keyed BLAKE3 (its paper, section 2.3), a PRF over the whole input: who does not hold the keys learns
/// nothing of the content from where it is cut or what it is called.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct IdKeys {
    cut: [u8; 32],
    id: [u8; 32],
    zero: BlockHash,
}

impl IdKeys {
    /// `cut` keys the hashes of blocks, by which disks are cut, and the table by which streams are; `id` keys the ids.
    #[must_use]
    pub fn new(cut: [u8; 32], id: [u8; 32]) -> Self {
        Self { cut, id, zero: *blake3::keyed_hash(&cut, &[0; BLOCK_BYTES]).as_bytes() }
    }

    /// BLAKE3 of `block` keyed with the cut key. A block shorter than 4,096 bytes is padded with zeros first.
    ///
    /// # Panics
    /// If it is longer.
    #[must_use]
    pub fn block_hash(&self, block: &[u8]) -> [u8; 32] {
        match <&Block>::try_from(block) {
            Ok(whole) => *blake3::keyed_hash(&self.cut, whole).as_bytes(),
            Err(_) => *blake3::keyed_hash(&self.cut, &padded(block)).as_bytes(),
        }
    }

    /// The id of a chunk: [`chunk_id_of`](Self::chunk_id_of) its length and the hashes of its blocks, counted from its
    /// own start.
    ///
    /// # Panics
    /// If it has 4 GiB or more.
    #[must_use]
    pub fn chunk_id(&self, data: &[u8]) -> ChunkId {
        let mut hashes = vec![[0; 32]; data.len().div_ceil(BLOCK_BYTES)];
        self.block_hashes(data, &mut hashes);
        assert!(u32::try_from(data.len()).is_ok(), "a chunk of {} bytes", data.len());
        self.chunk_id_of(data.len() as u32, &hashes)
    }

    /// BLAKE3 keyed with the id key over the chunk's length in bytes, as four little-endian bytes, and the hashes of
    /// its blocks in order. The length tells a last block that ends early from one that ends in zeros.
    #[must_use]
    pub fn chunk_id_of(&self, plain_bytes: u32, hashes: &[[u8; 32]]) -> ChunkId {
        let mut hasher = blake3::Hasher::new_keyed(&self.id);
        hasher.update(&plain_bytes.to_le_bytes()).update(hashes.as_flattened());
        ChunkId(*hasher.finalize().as_bytes())
    }

    /// The hash of each block of `data` to the same place in `hashes`, and whether it is all zero, which is found out
    /// without hashing.
    pub(super) fn block_hashes(&self, data: &[u8], hashes: &mut [BlockHash]) -> Vec<bool> {
        let (whole, partial) = data.as_chunks::<BLOCK_BYTES>();
        let padded = (!partial.is_empty()).then(|| padded(partial));
        let zeros: Vec<bool> = whole.iter().chain(&padded).map(|block| is_zero(block)).collect();
        let blocks: Vec<&Block> =
            whole.iter().chain(&padded).zip(&zeros).filter(|(_, zero)| !**zero).map(|(block, _)| block).collect();
        if blocks.len() == zeros.len() {
            hash_blocks(&self.cut, &blocks, hashes);
            return zeros;
        }
        let mut found = vec![[0; 32]; blocks.len()];
        hash_blocks(&self.cut, &blocks, &mut found);
        let mut found = found.into_iter();
        for (hash, zero) in hashes.iter_mut().zip(&zeros) {
            *hash = if *zero { self.zero } else { found.next().unwrap_or(self.zero) };
        }
        zeros
    }

    pub(super) const fn zero_hash(&self) -> &BlockHash {
        &self.zero
    }

    /// The key of the cuts.
    pub(super) const fn cut_key(&self) -> &[u8; 32] {
        &self.cut
    }
}

impl fmt::Debug for IdKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdKeys(..)")
    }
}

fn padded(partial: &[u8]) -> Block {
    let mut block = [0; BLOCK_BYTES];
    block[..partial.len()].copy_from_slice(partial);
    block
}

/// Whether all bytes are zero. Stops at the first 256 that are not.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    const STEP: usize = 256;
    let (steps, rest) = bytes.as_chunks::<STEP>();
    steps.iter().all(|step| {
        // No early exit within a step, so that it becomes a few wide ORs.
        step.as_chunks::<8>().0.iter().fold(0, |all, word| all | u64::from_ne_bytes(*word)) == 0
    }) && rest.iter().all(|byte| *byte == 0)
}
