//! Where an image's own tables lie: inside the file, each in a place of its own.

use backstay_core::{Error, Result};

use super::{
    super::file::{ReadAt, read_exact},
    be::u64s,
    bitmap,
    entry::table_offset,
    header::Header,
    snapshots,
};

/// More than the largest tables that QEMU reads need: L1, L2 and refcount tables at their bounds.
const MAX_CLUSTERS: u64 = 8 << 20;

/// The numbers of all clusters that hold metadata of the active disk, in rising order.
#[derive(Debug)]
pub(crate) struct Metadata {
    clusters: Vec<u64>,
    cluster_bits: u32,
}

struct Collector {
    clusters: Vec<u64>,
    cluster_bits: u32,
    file_len: u64,
}

impl Metadata {
    /// Collects and checks them. `l1` holds the offsets of all L2 tables, 0 for none.
    pub(crate) fn collect(file: &dyn ReadAt, header: &Header, l1: &[u64]) -> Result<Self> {
        let mut all = Collector { clusters: vec![0], cluster_bits: header.cluster_bits, file_len: file.len() };
        all.add(header.l1_offset, u64::from(header.l1_size) * 8, "L1 table")?;
        all.add(header.refcount_table_offset, header.refcount_table_bytes, "refcount table")?;
        // At most 8 MiB, as the header was checked.
        let len = header.refcount_table_bytes as usize;
        for entry in u64s(&read_exact(file, header.refcount_table_offset, len, "refcount table")?) {
            match table_offset(entry, header, "a refcount block")? {
                0 => {}
                block => all.add(block, header.cluster_size(), "refcount block")?,
            }
        }
        for table in l1.iter().filter(|table| **table != 0) {
            all.add(*table, header.cluster_size(), "L2 table")?;
        }
        for (offset, len) in snapshots::regions(file, header)? {
            all.add(offset, len, "table of an internal snapshot")?;
        }
        for (offset, len) in bitmap::regions(file, header)? {
            all.add(offset, len, "bitmap")?;
        }
        all.clusters.sort_unstable();
        if let Some(pair) = all.clusters.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Error::integrity(
                "Damaged qcow2 image: two tables lie in the same cluster; see qemu-img check",
            )
            .with_context("offset", pair[0] << header.cluster_bits));
        }
        all.clusters.shrink_to_fit();
        Ok(Self { clusters: all.clusters, cluster_bits: header.cluster_bits })
    }

    /// Bytes of memory it takes.
    pub(crate) fn memory(&self) -> usize {
        self.clusters.len() * 8
    }

    /// Whether any of `len` bytes from `offset` on lies in a cluster of metadata.
    pub(crate) fn overlaps(&self, offset: u64, len: u64) -> bool {
        let first = offset >> self.cluster_bits;
        let last = offset.saturating_add(len.saturating_sub(1)) >> self.cluster_bits;
        let at = self.clusters.partition_point(|cluster| *cluster < first);
        self.clusters.get(at).is_some_and(|cluster| *cluster <= last)
    }
}

impl Collector {
    fn add(&mut self, offset: u64, len: u64, what: &str) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        // QEMU allocates whole clusters but leaves the end of the last one unwritten.
        let last = offset.saturating_add(len - 1) >> self.cluster_bits;
        if last << self.cluster_bits >= self.file_len {
            return Err(Error::integrity(format!(
                "Damaged qcow2 image: a {what} lies past the end of the file, which is truncated; see qemu-img check"
            ))
            .with_context("offset", offset)
            .with_context("file_size", self.file_len));
        }
        if (last - (offset >> self.cluster_bits)) + self.clusters.len() as u64 > MAX_CLUSTERS {
            return Err(Error::integrity("Damaged qcow2 image: its tables are too large; see qemu-img check"));
        }
        self.clusters.extend(offset >> self.cluster_bits..=last);
        Ok(())
    }
}
