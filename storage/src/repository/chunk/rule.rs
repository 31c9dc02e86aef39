//! The rule by which a segment is cut, over blocks of which not all need to be known.

use super::lanes::BlockHash;
use super::{DiskChunker, IdKeys};

/// A chunk has at least so many blocks, unless a hole or the segment's end comes first.
const MIN: usize = 8;
/// A chunk has at most so many blocks.
pub(super) const MAX: usize = 24;
/// So many zero blocks in a row are a hole.
pub(super) const HOLE: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Unknown,
    Zero,
    Data,
}

/// What is known of the blocks of one segment.
pub(super) struct Blocks {
    state: Vec<State>,
    /// Of known blocks only.
    hashes: Vec<BlockHash>,
}

/// The end of the piece that starts at some cut, in blocks.
#[derive(Clone, Copy)]
pub(super) enum Cut {
    Hole(usize),
    Chunk(usize),
}

/// A block that must be known to go on.
pub(super) struct Missing(pub usize);

impl Blocks {
    pub(super) fn unknown(count: usize) -> Self {
        Self { state: vec![State::Unknown; count], hashes: vec![[0; 32]; count] }
    }

    pub(super) fn len(&self) -> usize {
        self.state.len()
    }

    pub(super) fn state(&self, block: usize) -> State {
        self.state[block]
    }

    pub(super) fn hashes(&self, start: usize, end: usize) -> &[BlockHash] {
        &self.hashes[start..end]
    }

    /// Takes note of the bytes from block `start` on.
    pub(super) fn read(&mut self, keys: &IdKeys, start: usize, data: &[u8]) {
        let zeros = keys.block_hashes(data, &mut self.hashes[start..]);
        for (state, zero) in self.state[start..].iter_mut().zip(zeros) {
            *state = if zero { State::Zero } else { State::Data };
        }
    }

    /// Takes note that a block is zero without having read it.
    pub(super) fn set_zero(&mut self, keys: &IdKeys, block: usize) {
        self.state[block] = State::Zero;
        self.hashes[block] = *keys.zero_hash();
    }

    /// Where the piece that starts at the cut `start` ends, which must be before the segment's end.
    pub(super) fn cut(&self, chunker: DiskChunker, start: usize) -> Result<Cut, Missing> {
        match chunker {
            DiskChunker::Aligned => self.cut_aligned(start),
            DiskChunker::Fixed { blocks } => self.cut_fixed(start, blocks.max(1) as usize),
        }
    }

    fn cut_aligned(&self, start: usize) -> Result<Cut, Missing> {
        let mut at = self.zeros_end(start, self.len())?;
        if at - start >= HOLE {
            return Ok(Cut::Hole(at));
        }
        let mut limit = self.len().min(start + MAX);
        while at < limit {
            let end = self.zeros_end(at, self.len().min(at + HOLE))?;
            if end - at == HOLE {
                limit = at;
            }
            at = end.max(at + 1);
        }
        if limit - start <= MIN {
            return Ok(Cut::Chunk(limit));
        }
        // The first of equals, as `min_by_key` has it.
        let end = (start + MIN..=limit).min_by_key(|end| &self.hashes[end - 1]);
        Ok(Cut::Chunk(end.unwrap_or(limit)))
    }

    /// A row of cells with zeros only is one hole; any other cell is a chunk.
    fn cut_fixed(&self, start: usize, cell: usize) -> Result<Cut, Missing> {
        let mut hole = start;
        while hole < self.len() {
            let end = self.len().min(hole + cell);
            if self.zeros_end(hole, end)? < end {
                break;
            }
            hole = end;
        }
        if hole > start {
            return Ok(Cut::Hole(hole));
        }
        let end = self.len().min(start + cell);
        match (start..end).find(|block| self.state[*block] == State::Unknown) {
            Some(block) => Err(Missing(block)),
            None => Ok(Cut::Chunk(end)),
        }
    }

    /// The first block from `start` on that is not zero, or `end`.
    fn zeros_end(&self, start: usize, end: usize) -> Result<usize, Missing> {
        for block in start..end {
            match self.state[block] {
                State::Zero => {}
                State::Data => return Ok(block),
                State::Unknown => return Err(Missing(block)),
            }
        }
        Ok(end)
    }
}
