//! A few ranges that a source calls unchanged are read all the same: change tracking is trusted, not believed.

use std::{ops::Range, sync::Arc};

use backstay_core::{DiskId, RangeSet, Result};

use super::{WriteSession, disk::DiskJob};
use crate::repository::{
    chunk::{BLOCK_BYTES, Entry, SEGMENT_BYTES, is_zero},
    map::segments_of,
};

/// Bytes of a hole that are read as one sample.
const HOLE_SAMPLE_BYTES: u64 = 64 << 10;

impl WriteSession {
    /// Reads up to `count` random ranges outside `dirty` and gives the first that is not what the parent has.
    pub(super) async fn sample_mismatch(
        &self,
        disk: &DiskId,
        job: &Arc<DiskJob>,
        dirty: &RangeSet,
        count: usize,
    ) -> Result<Option<Range<u64>>> {
        let Some((_, entry)) = self.parent_disk(disk) else { return Ok(None) };
        let segments = segments_of(entry.size.min(job.source.size()));
        let mut cursor = self.parent_map(entry);
        for turn in 0..count.min(4096) {
            if segments == 0 {
                break;
            }
            self.ctx.check()?;
            let [high, low]: [[u8; 8]; 2] = [self.ctx.random()?, self.ctx.random()?];
            let start = u64::from_le_bytes(high) % segments;
            // Every other time where data was: on a sparse disk nearly every random segment is a hole. The other times anywhere, as
            // what a tracker misses first is a write into what was never written before.
            let segment = match cursor.next_leaf(start).await? {
                Some((segment, _)) if turn % 2 == 0 => segment,
                _ => start,
            };
            if segment >= segments {
                continue;
            }
            // Read anyway; its leaf may be lost.
            if dirty.covers(&(segment * SEGMENT_BYTES..((segment + 1) * SEGMENT_BYTES).min(job.source.size()))) {
                continue;
            }
            let leaf = cursor.leaf(segment).await?;
            let Some((range, expected)) = pick(&leaf, segment, entry.size, u64::from_le_bytes(low)) else { continue };
            if range.end > job.source.size() || dirty.intersects(&range) {
                continue;
            }
            let read = job.read(range.clone(), Vec::new()).await?;
            let same = match expected {
                Entry::Hole { .. } => is_zero(&read),
                Entry::Chunk { id, .. } => self.store.ids().chunk_id(&read) == id,
            };
            if !same {
                return Ok(Some(range));
            }
        }
        Ok(None)
    }
}

/// One entry of a leaf and the bytes of the disk that it stands for.
fn pick(leaf: &[Entry], segment: u64, size: u64, random: u64) -> Option<(Range<u64>, Entry)> {
    let which = usize::try_from(random % leaf.len().max(1) as u64).ok()?;
    let before: u64 = leaf.iter().take(which).map(|entry| u64::from(entry.blocks())).sum();
    let entry = *leaf.get(which)?;
    let start = segment * SEGMENT_BYTES + before * BLOCK_BYTES as u64;
    let end = (start + u64::from(entry.blocks()) * BLOCK_BYTES as u64).min(size);
    let end = if matches!(entry, Entry::Hole { .. }) { end.min(start + HOLE_SAMPLE_BYTES) } else { end };
    (start < end).then_some((start..end, entry))
}
