//! Persistent dirty bitmaps: which parts of the disk were written since somebody started to count.
//!
//! Source: the sections on bitmaps of `docs/interop/qcow2.rst` of QEMU. Bit *n*, counted from the least significant one of
//! the first byte, stands for `granularity` bytes of the disk from `n * granularity` on.

use backstay_core::{Error, ErrorKind, RangeSet, Result};
use serde::{Deserialize, Serialize};

use super::{
    super::file::{ReadAt, read_exact, read_padded},
    be::{u16_at, u32_at, u64_at, u64s},
    header::Header,
};

/// A directory larger than this is not read; QEMU's own ones have about a hundred bytes for each bitmap.
const MAX_DIRECTORY_BYTES: u64 = 4 << 20;
/// QEMU's own bound on the number of bitmaps.
const MAX_BITMAPS: u32 = 65535;
/// A bitmap larger than this is not read: 4 TiB at a granularity of 1 KiB.
const MAX_BITMAP_BYTES: u64 = 512 << 20;
/// Sets of more ranges than this are not kept; reading the whole disk is about as fast.
const MAX_RANGES: usize = 1 << 20;
/// More places than this are not looked at when an image is opened.
const MAX_REGIONS: u64 = 1 << 20;
const ENTRY: usize = 24;
const IN_USE: u32 = 1;
const AUTO: u32 = 2;
const EXTRA_DATA_COMPATIBLE: u32 = 4;
const KNOWN_FLAGS: u32 = IN_USE | AUTO | EXTRA_DATA_COMPATIBLE;
const TABLE_OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const TABLE_ALL_ONES: u64 = 1;

/// A persistent dirty bitmap of a qcow2 image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BitmapInfo {
    /// Its name.
    pub name: String,
    /// Bytes of the disk that one bit stands for.
    pub granularity: u64,
    /// Whether QEMU sets its bits when the disk is written.
    pub enabled: bool,
    /// Whether its bits in the file can be relied on. Not while a QEMU uses the image (what that QEMU knows is not in the
    /// file yet), nor after one crashed.
    pub consistent: bool,
}

/// A bitmap and where its bits are.
#[derive(Clone, Debug)]
pub(crate) struct Bitmap {
    pub info: BitmapInfo,
    granularity_bits: u32,
    table_offset: u64,
    table_entries: u32,
}

fn damaged(what: &str) -> Error {
    Error::integrity(format!("Damaged qcow2 bitmaps: {what}; remove the bitmap with qemu-img bitmap --remove"))
}

/// Reads the bitmap directory.
pub(crate) fn list(file: &dyn ReadAt, header: &Header) -> Result<Vec<Bitmap>> {
    let Some(extension) = header.bitmaps else { return Ok(Vec::new()) };
    if extension.count > MAX_BITMAPS || extension.directory_bytes > MAX_DIRECTORY_BYTES {
        return Err(damaged("the directory is too large"));
    }
    // At most 4 MiB.
    let mut directory = vec![0; extension.directory_bytes as usize];
    // The padding of its last entry may lie past the end of the file; what else is lost makes a bitmap that nobody finds.
    read_padded(file, extension.directory_offset, &mut directory)?;
    let mut found = Vec::new();
    let mut rest = directory.as_slice();
    for _ in 0..extension.count {
        let (names, extra) = (usize::from(u16_at(rest, 18)), u32_at(rest, 20) as usize);
        let len = extra.saturating_add(ENTRY + names);
        let name = rest.get(len.saturating_sub(names)..len).ok_or_else(|| damaged("the directory ends too early"))?;
        found.push(Bitmap::parse(rest, name, extra > 0)?);
        rest = rest.get(len.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(found)
}

/// Offset and length of the directory, of each bitmap's table and of the clusters that tables name, so that an image that
/// lost some of them is noticed.
pub(crate) fn regions(file: &dyn ReadAt, header: &Header) -> Result<Vec<(u64, u64)>> {
    let Some(extension) = header.bitmaps else { return Ok(Vec::new()) };
    let mut found = vec![(extension.directory_offset, extension.directory_bytes)];
    let all = match list(file, header) {
        // Bitmaps that nobody can use are no obstacle to reading the disk.
        Err(error) if error.kind() == ErrorKind::Unsupported => Vec::new(),
        other => other?,
    };
    for bitmap in all {
        let len = u64::from(bitmap.table_entries) * 8;
        found.push((bitmap.table_offset, len));
        if found.len() as u64 + len / 8 <= MAX_REGIONS {
            let table = read_exact(file, bitmap.table_offset, len as usize, "bitmap table")?;
            let offsets = u64s(&table).into_iter().map(|entry| entry & TABLE_OFFSET);
            found.extend(offsets.filter(|offset| *offset != 0).map(|offset| (offset, header.cluster_size())));
        }
    }
    Ok(found)
}

impl Bitmap {
    fn parse(entry: &[u8], name: &[u8], has_extra: bool) -> Result<Self> {
        let (flags, kind, granularity_bits) = (u32_at(entry, 12), entry[16], u32::from(entry[17]));
        if kind != 1
            || flags & !KNOWN_FLAGS != 0
            || granularity_bits > 31
            || (has_extra && flags & EXTRA_DATA_COMPATIBLE == 0)
        {
            return Err(Error::new(ErrorKind::Unsupported, "The image has a bitmap of an unknown type"));
        }
        let info = BitmapInfo {
            name: String::from_utf8_lossy(name).into_owned(),
            granularity: 1 << granularity_bits,
            enabled: flags & AUTO != 0,
            consistent: flags & IN_USE == 0,
        };
        Ok(Self { info, granularity_bits, table_offset: u64_at(entry, 0), table_entries: u32_at(entry, 8) })
    }

    /// The bytes of the disk whose bits are set, cut to the disk; `None` when they are in too many pieces to keep.
    pub(crate) fn load(&self, file: &dyn ReadAt, header: &Header) -> Result<Option<RangeSet>> {
        let bytes = header.size.div_ceil(self.info.granularity).div_ceil(8);
        if bytes > MAX_BITMAP_BYTES {
            return Ok(None);
        }
        if bytes.div_ceil(header.cluster_size()) != u64::from(self.table_entries) {
            return Err(damaged("a table that does not fit the disk"));
        }
        // At most 2^20 entries, as there are at most 2^29 bytes in clusters of at least 2^9.
        let table = read_exact(file, self.table_offset, self.table_entries as usize * 8, "bitmap table")?;
        let cluster = header.cluster_size();
        let mut set = Setter { set: RangeSet::new(), shift: self.granularity_bits, size: header.size };
        let mut bits = Vec::new();
        for (number, entry) in u64s(&table).into_iter().enumerate() {
            let first = number as u64 * cluster * 8;
            match entry & TABLE_OFFSET {
                _ if entry & !(TABLE_OFFSET | TABLE_ALL_ONES) != 0 => return Err(damaged("reserved bits in a table")),
                0 if entry & TABLE_ALL_ONES != 0 => set.insert(first, cluster * 8),
                0 => {}
                offset if entry & TABLE_ALL_ONES != 0 || !offset.is_multiple_of(cluster) || offset >= file.len() => {
                    return Err(damaged("a part of a bitmap lies past the end of the file or not at a cluster"));
                }
                offset => {
                    bits.resize(cluster as usize, 0);
                    read_padded(file, offset, &mut bits)?;
                    set.insert_bits(first, &bits);
                }
            }
            if set.set.ranges().len() > MAX_RANGES {
                return Ok(None);
            }
        }
        Ok(Some(set.set))
    }
}

struct Setter {
    set: RangeSet,
    shift: u32,
    size: u64,
}

impl Setter {
    fn insert(&mut self, first: u64, count: u64) {
        // Fewer than 2^32 bits of at most 2^31 bytes each, so nothing overflows.
        let end = ((first + count) << self.shift).min(self.size);
        self.set.insert((first << self.shift).min(end)..end);
    }

    fn insert_bits(&mut self, first: u64, bits: &[u8]) {
        for (number, word) in bits.as_chunks::<8>().0.iter().enumerate() {
            let mut word = u64::from_le_bytes(*word);
            let mut at = first + number as u64 * 64;
            while word != 0 {
                let zeroes = word.trailing_zeros();
                let ones = (word >> zeroes).trailing_ones();
                self.insert(at + u64::from(zeroes), u64::from(ones));
                at += u64::from(zeroes + ones);
                word = word.checked_shr(zeroes + ones).unwrap_or(0);
            }
        }
    }
}
