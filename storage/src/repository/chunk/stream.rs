//! Cutting streams (dumps, attachments, files), where content can move by single bytes.

use fastcdc::v2020::cut_gear;
use zeroize::Zeroizing;

use super::IdKeys;

/// The least bytes of a chunk, but for the last.
pub const STREAM_MIN: usize = 16 << 10;
/// The size around which chunks gather.
pub const STREAM_MEAN: usize = 64 << 10;
/// The most bytes of a chunk.
pub const STREAM_MAX: usize = 256 << 10;

/// The masks before and after the mean, of the algorithm for a mean of 64 KiB and normalisation level 1. Written out so
/// that no release of the crate can change them.
const MASK_SMALL: u64 = 0x0000_d907_0353_7000;
const MASK_LARGE: u64 = 0x0000_d90f_0353_0000;

/// Bytes held back at most: what is cut moves to the front only when this is full.
const BUFFER: usize = 4 * STREAM_MAX;

/// Cuts a stream with FastCDC (Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based
/// Storage Systems", 2020) into chunks of 16 to 256 KiB that gather around 64. Where it cuts depends on the bytes of the
/// stream and the key only, never on how they were pushed.
///
/// The table *G* of 256 gear values, each 8 bytes and little-endian, is the output of keyed BLAKE3 (as an XOF) over
/// `backstay stream gear 1` with the cut key. From the last cut, the hash starts as 0 before byte 16,384; each byte *b*
/// from there makes it 2 × hash + *G*\[*b*\] modulo 2⁶⁴, and if no bit of the mask is set in it then, the chunk ends before
/// that byte. The mask is `0xd90703537000` up to byte 65,535 and `0xd90f03530000` after it. A chunk has 256 KiB at most,
/// and the stream's last byte is not looked at when an odd number of bytes is left up to there.
///
/// Holds at most 1 MiB of the stream.
pub struct StreamCutter {
    gear: Zeroizing<Vec<u64>>,
    gear_shifted: Zeroizing<Vec<u64>>,
    buffer: Vec<u8>,
    /// Where in `buffer` the next chunk starts.
    start: usize,
}

impl StreamCutter {
    /// Starts a stream.
    #[must_use]
    pub fn new(keys: &IdKeys) -> Self {
        let mut bytes = Zeroizing::new([0; 256 * 8]);
        blake3::Hasher::new_keyed(keys.cut_key()).update(b"backstay stream gear 1").finalize_xof().fill(&mut *bytes);
        let gear: Zeroizing<Vec<u64>> =
            Zeroizing::new(bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect());
        let gear_shifted = Zeroizing::new(gear.iter().map(|value| value << 1).collect());
        Self { gear, gear_shifted, buffer: Vec::new(), start: 0 }
    }

    /// Takes the next bytes and gives every chunk that they complete to `emit`.
    pub fn push(&mut self, mut data: &[u8], emit: &mut impl FnMut(&[u8])) {
        while !data.is_empty() {
            let (now, later) = data.split_at(data.len().min(BUFFER - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            data = later;
            // With less in hand than the longest chunk, what follows could move the cut.
            while self.buffer.len() - self.start >= STREAM_MAX {
                self.emit(emit);
            }
            if self.buffer.len() == BUFFER {
                self.buffer.drain(..self.start);
                self.start = 0;
            }
        }
    }

    /// Ends the stream and gives what is left to `emit`. An empty stream has no chunks.
    pub fn finish(mut self, emit: &mut impl FnMut(&[u8])) {
        while self.start < self.buffer.len() {
            self.emit(emit);
        }
    }

    fn emit(&mut self, emit: &mut impl FnMut(&[u8])) {
        let rest = &self.buffer[self.start..];
        let (_, bytes) = cut_gear(
            rest,
            STREAM_MIN,
            STREAM_MEAN,
            STREAM_MAX,
            MASK_SMALL,
            MASK_LARGE,
            MASK_SMALL << 1,
            MASK_LARGE << 1,
            &self.gear,
            &self.gear_shifted,
        );
        emit(&rest[..bytes]);
        self.start += bytes;
    }
}
