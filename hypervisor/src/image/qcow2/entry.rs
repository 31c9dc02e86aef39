//! What one entry of an L2 table says.

use backstay_core::{Error, Result};

use super::header::Header;

const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
const STANDARD_RESERVED: u64 = 0x3f00_0000_0000_01fe;
const L1_RESERVED: u64 = 0x7f00_0000_0000_01ff;
const ZERO_FLAG: u64 = 1;
const COMPRESSED_FLAG: u64 = 1 << 62;
const COPIED_FLAG: u64 = 1 << 63;
/// Subclusters of a cluster when there are any.
pub(crate) const SUBCLUSTERS: u32 = 32;

/// Where the bytes of a run of guest bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mapping {
    /// In the backing file, if there is one.
    Unallocated,
    /// Nowhere: they read as zero.
    Zero,
    /// In the data file from this offset on.
    Data(u64),
    /// In a compressed cluster: at most `len` bytes from `host` on.
    Compressed { host: u64, len: u32 },
}

/// How L2 entries of one image are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryFormat {
    cluster_bits: u32,
    extended: bool,
    zero_flag: bool,
    external_data: bool,
}

fn damaged(what: &str, entry: u64) -> Error {
    Error::integrity(format!("Damaged qcow2 table: {what}; see qemu-img check"))
        .with_context("entry", format!("{entry:#018x}"))
}

/// The offset that an L1 or refcount table entry holds; 0 for none.
pub(crate) fn table_offset(entry: u64, header: &Header, what: &str) -> Result<u64> {
    let offset = entry & OFFSET_MASK;
    if entry & L1_RESERVED != 0 || !offset.is_multiple_of(header.cluster_size()) {
        return Err(damaged(&format!("{what} with reserved bits set or not at a cluster"), entry));
    }
    Ok(offset)
}

impl EntryFormat {
    pub(crate) const fn new(header: &Header) -> Self {
        Self {
            cluster_bits: header.cluster_bits,
            extended: header.extended_l2,
            zero_flag: header.version >= 3 && !header.extended_l2,
            external_data: header.has_data_file,
        }
    }

    /// `u64`s in an entry.
    pub(crate) const fn words(&self) -> usize {
        if self.extended { 2 } else { 1 }
    }

    /// log2 of the bytes that are mapped as one: a cluster or a subcluster.
    pub(crate) const fn unit_bits(&self) -> u32 {
        if self.extended { self.cluster_bits - SUBCLUSTERS.trailing_zeros() } else { self.cluster_bits }
    }

    /// The mapping of one unit of a table that [`Self::check`] has accepted.
    pub(crate) fn unit(&self, table: &[u64], unit: usize) -> Mapping {
        if !self.extended {
            let entry = table.get(unit).copied().unwrap_or(0);
            return match self.cluster(entry) {
                Mapping::Data(_) | Mapping::Unallocated if self.zero_flag && entry & ZERO_FLAG != 0 => Mapping::Zero,
                mapping => mapping,
            };
        }
        let (cluster, sub) = (unit / SUBCLUSTERS as usize, unit as u32 % SUBCLUSTERS);
        let entry = table.get(2 * cluster).copied().unwrap_or(0);
        let bits = table.get(2 * cluster + 1).copied().unwrap_or(0);
        match self.cluster(entry) {
            Mapping::Compressed { host, len } => Mapping::Compressed { host, len },
            _ if bits >> (32 + sub) & 1 == 1 => Mapping::Zero,
            Mapping::Data(host) if bits >> sub & 1 == 1 => Mapping::Data(host + (u64::from(sub) << self.unit_bits())),
            _ => Mapping::Unallocated,
        }
    }

    /// The mapping of a whole cluster, without zero flags and subclusters.
    pub(crate) fn cluster(&self, entry: u64) -> Mapping {
        if entry & COMPRESSED_FLAG != 0 {
            let offset_bits = 62 - (self.cluster_bits - 8);
            let host = entry & ((1 << offset_bits) - 1);
            let more_sectors = (entry & (COMPRESSED_FLAG - 1)) >> offset_bits;
            // At most 2^13 + 1 sectors, so it fits.
            let len = (more_sectors + 1) * 512 - (host & 511);
            return Mapping::Compressed { host, len: len as u32 };
        }
        match entry & OFFSET_MASK {
            // In an external data file the first cluster is a place like any other.
            0 if self.external_data && entry & COPIED_FLAG != 0 => Mapping::Data(0),
            0 => Mapping::Unallocated,
            host => Mapping::Data(host),
        }
    }

    /// Checks the bits of one entry, not where they point to.
    pub(crate) fn check(&self, entry: u64, subclusters: u64) -> Result<Mapping> {
        let mapping = self.cluster(entry);
        if let Mapping::Compressed { .. } = mapping {
            if self.external_data || subclusters != 0 {
                return Err(damaged("a compressed cluster where there can be none", entry));
            }
            return Ok(mapping);
        }
        if entry & STANDARD_RESERVED != 0 || (entry & ZERO_FLAG != 0 && !self.zero_flag) {
            return Err(damaged("a cluster with reserved bits set", entry));
        }
        if let Mapping::Data(host) = mapping
            && !host.is_multiple_of(1 << self.cluster_bits)
        {
            return Err(damaged("a cluster that begins between two clusters", entry));
        }
        let (allocated, zero) = (subclusters as u32, (subclusters >> 32) as u32);
        if allocated & zero != 0 || (allocated != 0 && mapping == Mapping::Unallocated) {
            return Err(damaged("subclusters that contradict themselves", subclusters));
        }
        Ok(mapping)
    }
}
