//! A binary fuse filter over the ids of a section: 9 bits a record, wrong for one absent id in 256.
//!
//! Graf and Lemire, "Binary Fuse Filters: Fast and Smaller Than Xor Filters" (2022), as `xorf` builds it. The key of an id is
//! its first 8 bytes as a little-endian number.

use backstay_core::Result;
use xorf::{BinaryFuse8, Descriptor, Filter as _};

use super::{cursor::Cursor, damaged};

/// Below this a section is one short page, and a filter would be mostly empty.
const FEWEST: usize = 32;

/// Longest segment of a filter that its construction ever takes.
const LONGEST: u32 = 1 << 18;

pub(super) struct Filter(BinaryFuse8);

impl Filter {
    /// Of sorted ids; `None` when there are too few, or when construction found none: then every look-up opens a page.
    pub fn build<'a>(ids: impl ExactSizeIterator<Item = &'a [u8; 32]>) -> Option<Self> {
        if ids.len() < FEWEST {
            return None;
        }
        let mut keys = Vec::with_capacity(ids.len());
        keys.extend(ids.map(key));
        keys.dedup();
        if keys.len() < FEWEST {
            return None;
        }
        BinaryFuse8::try_from_iterator(keys.iter().copied()).ok().map(Self)
    }

    pub fn may_hold(&self, id: &[u8; 32]) -> bool {
        self.0.contains(&key(id))
    }

    /// Bytes of fingerprints, in memory and in the footer.
    pub fn len(&self) -> usize {
        self.0.fingerprints.len()
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        let descriptor = &self.0.descriptor;
        out.extend(descriptor.seed.to_le_bytes());
        out.extend(descriptor.segment_length.to_le_bytes());
        out.extend((descriptor.segment_count_length / descriptor.segment_length).to_le_bytes());
        out.extend(&self.0.fingerprints);
    }

    /// Of `length` fingerprints. Whatever comes back can be asked without going out of bounds: the three places of a key
    /// lie in neighbouring segments, and all segments are there.
    pub fn decode(cursor: &mut Cursor<'_>, length: u32) -> Result<Self> {
        let (seed, segment_length, segments) = (cursor.u64()?, cursor.u32()?, cursor.u32()?);
        let all = (u64::from(segments) + 2) * u64::from(segment_length);
        let sound = segment_length.is_power_of_two() && segment_length <= LONGEST && segments > 0;
        if !sound || all != u64::from(length) {
            return Err(damaged("The filter of an index segment contradicts itself"));
        }
        let fingerprints = cursor.bytes(length as usize)?.into();
        let descriptor = Descriptor {
            seed,
            segment_length,
            segment_length_mask: segment_length - 1,
            segment_count_length: segments * segment_length,
        };
        Ok(Self(BinaryFuse8 { descriptor, fingerprints }))
    }
}

fn key(id: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *id;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}
