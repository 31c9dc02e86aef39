//! The table of internal snapshots. Their content is not read; a damaged table is noticed.

use backstay_core::{Error, Result};

use super::{
    super::file::{ReadAt, read_exact},
    be::{u16_at, u32_at, u64_at},
    header::Header,
};

/// The fixed part of an entry.
const ENTRY: usize = 40;
/// QEMU's own bound on the L1 table of a snapshot: 32 MiB.
const MAX_L1_ENTRIES: u32 = 4 << 20;

/// QEMU's own bound on the snapshot table: 64 MiB.
const MAX_TABLE: u64 = 64 << 20;

/// Offset and length of the snapshot table and of the first cluster of each snapshot's L1 table.
pub(crate) fn regions(file: &dyn ReadAt, header: &Header) -> Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    let start = header.snapshots_offset;
    let mut at = start;
    for number in 0..header.snapshots {
        let fixed = read_exact(file, at, ENTRY, "snapshot table")?;
        let (l1_offset, l1_entries) = (u64_at(&fixed, 0), u32_at(&fixed, 8));
        let l1_end = l1_offset.saturating_add(u64::from(l1_entries) * 8);
        if l1_entries > MAX_L1_ENTRIES || !l1_offset.is_multiple_of(header.cluster_size()) || l1_end > file.len() {
            return Err(Error::integrity(
                "Damaged qcow2 image: an internal snapshot whose L1 table cannot be; see qemu-img check",
            )
            .with_context("snapshot", number));
        }
        if l1_entries > 0 {
            found.push((l1_offset, 1));
        }
        let names = u64::from(u16_at(&fixed, 12)) + u64::from(u16_at(&fixed, 14));
        let len = (ENTRY as u64 + u64::from(u32_at(&fixed, 36)) + names).next_multiple_of(8);
        at = at.saturating_add(len);
        if at - start > MAX_TABLE {
            return Err(Error::integrity("Damaged qcow2 image: the snapshot table is too large; see qemu-img check"));
        }
    }
    if at > start {
        found.push((start, at - start));
    }
    Ok(found)
}
