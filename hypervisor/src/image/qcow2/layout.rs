//! Where things lie in an image that is written from front to back, and the bytes of its tables.
//!
//! ```text
//! cluster 0       header
//! then            refcount table, with room for a disk without a hole
//! then            L1 table
//! then            data clusters in the order of the disk; each L2 table after the last of its data
//! then            refcount blocks
//! ```
//! Every cluster of the file is used exactly once, so that every refcount is one.

use backstay_core::{Error, Result};

use super::header::MAGIC;

/// log2 of the clusters that are written.
pub(crate) const CLUSTER_BITS: u32 = 16;
/// Bytes of a cluster.
pub(crate) const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Guest bytes that an L2 table stands for: 512 MiB.
pub(crate) const L2_SPAN: u64 = CLUSTER << (CLUSTER_BITS - 3);
/// Clusters that a refcount block of 16-bit counts stands for.
const REFCOUNTS: u64 = CLUSTER / 2;
/// QEMU reads L1 tables of at most 32 MiB: 2 PiB.
const MAX_SIZE: u64 = L2_SPAN * (32 << 20) / 8;
const SECTOR: u64 = 512;
const HEADER_LENGTH: u32 = 112;
/// The entry's cluster belongs to this table alone.
pub(crate) const COPIED: u64 = 1 << 63;

/// The fixed part of an image for a disk of some size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub size: u64,
    pub l1_entries: u64,
    pub refcount_table_clusters: u64,
}

impl Layout {
    pub(crate) fn new(size: u64) -> Result<Self> {
        if size > MAX_SIZE {
            return Err(Error::invalid_input(
                "The disk is larger than a qcow2 image can be (2 PiB); restore it as raw",
            ));
        }
        // QEMU counts whole sectors and would not show the rest of the last one.
        let size = size.next_multiple_of(SECTOR);
        let l1_entries = size.div_ceil(L2_SPAN);
        let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER);
        // As if every cluster of the disk were written; refcount blocks count themselves as well, hence one less each.
        let most = size.div_ceil(CLUSTER) + l1_entries + l1_clusters + 1;
        let blocks = most.div_ceil(REFCOUNTS - 2) + 1;
        Ok(Self { size, l1_entries, refcount_table_clusters: (blocks * 8).div_ceil(CLUSTER) })
    }

    /// The first cluster that is free for data.
    pub(crate) const fn first_free(&self) -> u64 {
        1 + self.refcount_table_clusters + (self.l1_entries * 8).div_ceil(CLUSTER)
    }

    pub(crate) const fn l1_offset(&self) -> u64 {
        (1 + self.refcount_table_clusters) * CLUSTER
    }

    /// Refcount blocks for an image that has `used` clusters without them.
    pub(crate) const fn refcount_blocks(used: u64) -> u64 {
        // Each block takes one of the clusters it counts.
        used.div_ceil(REFCOUNTS - 1)
    }

    /// One refcount block: a count of one for each of the `left` clusters from its first on, zero for those after.
    pub(crate) fn refcount_block(left: u64) -> Vec<u8> {
        let ones = left.min(REFCOUNTS) as usize;
        let mut block = [0, 1].repeat(ones);
        block.resize(CLUSTER as usize, 0);
        block
    }

    /// The header's cluster.
    pub(crate) fn header(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(CLUSTER as usize);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&3u32.to_be_bytes());
        bytes.extend_from_slice(&[0; 12]); // no backing file
        bytes.extend_from_slice(&CLUSTER_BITS.to_be_bytes());
        bytes.extend_from_slice(&self.size.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]); // no encryption
        bytes.extend_from_slice(&(self.l1_entries as u32).to_be_bytes());
        bytes.extend_from_slice(&self.l1_offset().to_be_bytes());
        bytes.extend_from_slice(&CLUSTER.to_be_bytes());
        bytes.extend_from_slice(&(self.refcount_table_clusters as u32).to_be_bytes());
        bytes.extend_from_slice(&[0; 12]); // no internal snapshots
        bytes.extend_from_slice(&[0; 24]); // no features
        bytes.extend_from_slice(&4u32.to_be_bytes()); // refcounts of 2^4 bits
        bytes.extend_from_slice(&HEADER_LENGTH.to_be_bytes());
        // Compression type, padding and the end of the header extensions: all zero.
        bytes.resize(CLUSTER as usize, 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refcount_table_has_room_for_a_disk_without_a_hole() {
        for size in [0, 1, CLUSTER, L2_SPAN - 1, L2_SPAN, 4 << 40, 16 << 40, 17 << 40, MAX_SIZE] {
            let layout = Layout::new(size).unwrap();
            let used = layout.first_free() + size.div_ceil(CLUSTER) + layout.l1_entries;
            let blocks = Layout::refcount_blocks(used);
            assert!(blocks * REFCOUNTS >= used + blocks, "{size}");
            assert!(blocks * 8 <= layout.refcount_table_clusters * CLUSTER, "{size}");
        }
        assert!(Layout::new(MAX_SIZE + 1).is_err());
    }
}
