//! The last 48 bytes of a segment, in clear: where the footer is and which key opens it.

use std::ops::Range;

use backstay_core::{Error, Result};

use super::{cursor::Cursor, damaged};

const MAGIC: [u8; 8] = *b"BKSTINDX";
const VERSION: u32 = 1;

/// Most bytes of a sealed footer: a full filter and the most packs take 12 MiB.
const MAX_FOOTER: u32 = 16 << 20;

/// The trailer of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Key epoch: which structure key seals the segment.
    pub epoch: u32,
    /// Random bytes that the sealed parts are bound to.
    pub salt: [u8; 16],
    /// The sealed footer: these bytes of the object.
    pub footer: Range<u64>,
    version: u32,
    reserved: u32,
}

impl Trailer {
    /// Its size in bytes.
    pub const SIZE: usize = 48;

    pub(super) fn new(epoch: u32, salt: [u8; 16], footer: Range<u64>) -> Self {
        Self { epoch, salt, footer, version: VERSION, reserved: 0 }
    }

    /// From the last 48 bytes of a segment. `Integrity` when they are no trailer, `Unsupported` for another version of it.
    pub fn decode(last: &[u8]) -> Result<Self> {
        let trailer = Self::parse(last)?;
        trailer.check()?;
        Ok(trailer)
    }

    /// The fields that hold in every version, as far as the id needs them: a flipped bit in the version is damage, and
    /// shows as such because the id is verified between this and [`Self::check`].
    pub(super) fn parse(last: &[u8]) -> Result<Self> {
        let mut cursor = Cursor(last);
        if cursor.array()? != MAGIC {
            return Err(damaged("An object is not an index segment: the magic number is another"));
        }
        let (version, epoch) = (cursor.u32()?, cursor.u32()?);
        let (start, length, reserved) = (cursor.u64()?, cursor.u32()?, cursor.u32()?);
        let salt = cursor.array()?;
        cursor.end()?;
        let end = start.checked_add(u64::from(length)).ok_or_else(|| damaged("An index footer lies past all bytes"))?;
        if length == 0 || length > MAX_FOOTER {
            return Err(damaged("An index footer has an impossible length"));
        }
        Ok(Self { epoch, salt, footer: start..end, version, reserved })
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.version != VERSION {
            return Err(Error::unsupported("This version of Backstay does not know the format of an index segment")
                .with_context("version", self.version));
        }
        if self.reserved != 0 { Err(damaged("An index trailer has reserved bits set")) } else { Ok(()) }
    }

    pub(super) fn encode(&self) -> Result<[u8; Self::SIZE]> {
        let length = u32::try_from(self.footer.end - self.footer.start).ok().filter(|length| *length <= MAX_FOOTER);
        let length = length.ok_or_else(|| Error::internal("An index footer grew past its limit"))?;
        let mut out = [0; Self::SIZE];
        out[..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&self.version.to_le_bytes());
        out[12..16].copy_from_slice(&self.epoch.to_le_bytes());
        out[16..24].copy_from_slice(&self.footer.start.to_le_bytes());
        out[24..28].copy_from_slice(&length.to_le_bytes());
        out[28..32].copy_from_slice(&self.reserved.to_le_bytes());
        out[32..].copy_from_slice(&self.salt);
        Ok(out)
    }
}
