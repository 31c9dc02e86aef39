//! The header of a qcow2 image and its extensions.
//!
//! Source: `docs/interop/qcow2.rst` of QEMU. All integers are big-endian.

use backstay_core::{Error, ErrorKind, Result};

use super::{
    super::file::{ReadAt, read_exact},
    be::{u32_at, u64_at},
    extensions::{BitmapsExtension, Extensions},
};

/// The first four bytes of every qcow2 image.
pub(crate) const MAGIC: [u8; 4] = *b"QFI\xfb";
/// QEMU's own bound on the L1 table: 32 MiB.
const MAX_L1_BYTES: u64 = 32 << 20;
/// QEMU's own bound on the refcount table: 8 MiB.
const MAX_REFCOUNT_TABLE_BYTES: u64 = 8 << 20;
/// QEMU's own bound on the number of internal snapshots.
const MAX_SNAPSHOTS: u32 = 65536;
/// QEMU's own bound on the name of a backing file.
const MAX_BACKING_NAME: u32 = 1023;
const V2_LENGTH: usize = 72;
const V3_LENGTH: usize = 104;

pub(crate) const INCOMPATIBLE_DIRTY: u64 = 1 << 0;
pub(crate) const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
pub(crate) const INCOMPATIBLE_DATA_FILE: u64 = 1 << 2;
pub(crate) const INCOMPATIBLE_COMPRESSION: u64 = 1 << 3;
pub(crate) const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;
pub(crate) const AUTOCLEAR_BITMAPS: u64 = 1 << 0;
const KNOWN_INCOMPATIBLE: u64 = INCOMPATIBLE_DIRTY
    | INCOMPATIBLE_CORRUPT
    | INCOMPATIBLE_DATA_FILE
    | INCOMPATIBLE_COMPRESSION
    | INCOMPATIBLE_EXTENDED_L2;

/// How compressed clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Raw deflate.
    Zlib,
    /// One zstd frame for each cluster.
    Zstd,
}

/// What the header says, checked for sense but not against the tables.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub version: u32,
    pub cluster_bits: u32,
    pub size: u64,
    pub l1_size: u32,
    pub l1_offset: u64,
    pub refcount_table_offset: u64,
    pub refcount_table_bytes: u64,
    pub snapshots: u32,
    pub snapshots_offset: u64,
    pub compression: Compression,
    pub extended_l2: bool,
    pub has_data_file: bool,
    /// Name of the backing file as it stands in the image: untrusted bytes.
    pub backing: Option<Vec<u8>>,
    /// Format of the backing file as it stands in the image.
    pub backing_format: Option<Vec<u8>>,
    /// Name of the external data file as it stands in the image: untrusted bytes.
    pub data_file: Option<Vec<u8>>,
    /// Where the bitmaps are, unless something that knows no bitmaps wrote to the image since.
    pub bitmaps: Option<BitmapsExtension>,
    /// Whether something that knows no bitmaps wrote to an image that has some.
    pub bitmaps_void: bool,
}

fn bad(what: impl Into<String>) -> Error {
    Error::integrity(format!("Damaged qcow2 header: {}", what.into()))
}

impl Header {
    /// Reads and checks the header of an image.
    pub(crate) fn read(file: &dyn ReadAt) -> Result<Self> {
        let mut bytes = vec![0; 112];
        let got = file.read_at(0, &mut bytes)?;
        if got < 8 || bytes[..4] != MAGIC {
            return Err(Error::invalid_input("Not a qcow2 image; a raw one is opened with --format raw"));
        }
        let version = u32_at(&bytes, 4);
        if version != 2 && version != 3 {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("qcow2 version {version} is not known here; convert it with qemu-img"),
            ));
        }
        if got < V2_LENGTH || (version == 3 && got < V3_LENGTH) {
            return Err(bad("the file ends inside it"));
        }
        let cluster_bits = u32_at(&bytes, 20);
        if !(9..=21).contains(&cluster_bits) {
            return Err(bad(format!("clusters of 2^{cluster_bits} bytes; 2^9 to 2^21 are possible")));
        }
        let header_length = if version == 2 { V2_LENGTH } else { u32_at(&bytes, 100) as usize };
        if version == 3 && (header_length < V3_LENGTH || !header_length.is_multiple_of(8)) {
            return Err(bad(format!("a length of {header_length} bytes")));
        }
        // Header, extensions and the backing file's name all lie in the first cluster.
        let first = read_exact(file, 0, (1usize << cluster_bits).min(usize_of(file.len())), "first cluster")?;
        if header_length > first.len() {
            return Err(bad("longer than its cluster"));
        }
        Self::parse(&first, version, cluster_bits, header_length)
    }

    fn parse(first: &[u8], version: u32, cluster_bits: u32, header_length: usize) -> Result<Self> {
        let v3 = version == 3;
        let incompatible = if v3 { u64_at(first, 72) } else { 0 };
        let autoclear = if v3 { u64_at(first, 88) } else { 0 };
        let (backing_offset, backing_len) = (u64_at(first, 8), u32_at(first, 16));
        let extensions = Extensions::parse(first, header_length, backing_offset)?;
        check_features(incompatible, u32_at(first, 32), &extensions)?;
        let backing = backing_name(first, backing_offset, backing_len)?;
        let has = |bit: u64| incompatible & bit != 0;
        let kind = if has(INCOMPATIBLE_COMPRESSION) && header_length > V3_LENGTH { first[104] } else { 0 };
        let header = Self {
            version,
            cluster_bits,
            size: u64_at(first, 24),
            l1_size: u32_at(first, 36),
            l1_offset: u64_at(first, 40),
            refcount_table_offset: u64_at(first, 48),
            refcount_table_bytes: u64::from(u32_at(first, 56)) << cluster_bits,
            snapshots: u32_at(first, 60),
            snapshots_offset: u64_at(first, 64),
            compression: compression(kind)?,
            extended_l2: has(INCOMPATIBLE_EXTENDED_L2),
            has_data_file: has(INCOMPATIBLE_DATA_FILE),
            backing,
            backing_format: extensions.backing_format,
            data_file: extensions.data_file,
            bitmaps_void: extensions.bitmaps.is_some() && autoclear & AUTOCLEAR_BITMAPS == 0,
            bitmaps: extensions.bitmaps.filter(|_| autoclear & AUTOCLEAR_BITMAPS != 0),
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<()> {
        let aligned = |offset: u64| offset.is_multiple_of(self.cluster_size()) && offset >> 56 == 0;
        if self.extended_l2 && self.cluster_bits < 14 {
            return Err(bad("subclusters need clusters of at least 16 KiB"));
        }
        if self.size >> 56 != 0 {
            return Err(bad(format!("a disk of {} bytes", self.size)));
        }
        if u64::from(self.l1_size) * 8 > MAX_L1_BYTES {
            return Err(bad(format!("an L1 table of {} entries", self.l1_size)));
        }
        if self.l1_needed() > u64::from(self.l1_size) {
            return Err(bad(format!(
                "an L1 table of {} entries for a disk that needs {}",
                self.l1_size,
                self.l1_needed()
            )));
        }
        if !aligned(self.l1_offset) || !aligned(self.refcount_table_offset) || !aligned(self.snapshots_offset) {
            return Err(bad("a table that does not begin at a cluster"));
        }
        if self.refcount_table_bytes > MAX_REFCOUNT_TABLE_BYTES || self.refcount_table_bytes == 0 {
            return Err(bad(format!("a refcount table of {} bytes", self.refcount_table_bytes)));
        }
        if self.snapshots > MAX_SNAPSHOTS {
            return Err(bad(format!("{} internal snapshots", self.snapshots)));
        }
        Ok(())
    }

    pub(crate) const fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// log2 of the number of entries of an L2 table.
    pub(crate) const fn l2_bits(&self) -> u32 {
        self.cluster_bits - if self.extended_l2 { 4 } else { 3 }
    }

    /// log2 of the number of guest bytes that one L1 entry stands for.
    pub(crate) const fn l1_shift(&self) -> u32 {
        self.cluster_bits + self.l2_bits()
    }

    /// L1 entries that a disk of this size needs.
    pub(crate) const fn l1_needed(&self) -> u64 {
        self.size.div_ceil(1 << self.l1_shift())
    }
}

fn usize_of(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn compression(kind: u8) -> Result<Compression> {
    match kind {
        0 => Ok(Compression::Zlib),
        1 => Ok(Compression::Zstd),
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            format!("qcow2 compression type {kind} is not known here; convert the image with qemu-img"),
        )),
    }
}

fn check_features(incompatible: u64, crypt_method: u32, extensions: &Extensions) -> Result<()> {
    let unsupported = |text: String| Err(Error::new(ErrorKind::Unsupported, text));
    let encryption = match crypt_method {
        0 => None,
        1 => Some("AES (the old qcow2 encryption)".to_owned()),
        2 => Some("LUKS".to_owned()),
        other => Some(format!("method {other}")),
    };
    if let Some(method) = encryption {
        return unsupported(format!(
            "The image is encrypted with {method}, which is not supported; decrypt it with qemu-img convert first"
        ));
    }
    let unknown = incompatible & !KNOWN_INCOMPATIBLE;
    if unknown != 0 {
        let names: Vec<_> =
            (0..64).filter(|bit| unknown >> bit & 1 == 1).map(|bit| extensions.incompatible_name(bit)).collect();
        return unsupported(format!("The image uses qcow2 features that are not known here: {}", names.join(", ")));
    }
    if incompatible & INCOMPATIBLE_CORRUPT != 0 {
        return Err(Error::integrity(
            "The image is marked corrupt; stop the guest, keep a copy, and repair it with qemu-img check -r all",
        ));
    }
    Ok(())
}

fn backing_name(first: &[u8], offset: u64, len: u32) -> Result<Option<Vec<u8>>> {
    if offset == 0 || len == 0 {
        return Ok(None);
    }
    if len > MAX_BACKING_NAME {
        return Err(bad(format!("a backing file name of {len} bytes")));
    }
    let range = usize_of(offset)..usize_of(offset.saturating_add(u64::from(len)));
    let name = first.get(range).ok_or_else(|| bad("the backing file name lies outside the first cluster"))?;
    Ok(Some(name.to_vec()))
}
