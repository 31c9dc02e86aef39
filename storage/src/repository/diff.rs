//! What differs between two restore points, told from their maps alone: no chunk is read.

use std::{ops::Range, sync::Arc};

use backstay_core::{Context, DiskId, Error, RangeSet, Result};

use super::{
    Repository,
    chunk::{BLOCK_BYTES, Entry, SEGMENT_BYTES},
    map::{MapCursor, segments_of},
    nodes::StoredNodes,
    points::PointSelector,
    state::State,
    view::Tries,
};

/// What differs on one disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiffReport {
    /// Its id.
    pub disk: DiskId,
    /// Its size in the first point; none when it is not there.
    pub from_size: Option<u64>,
    /// Its size in the second point; none when it is not there.
    pub to_size: Option<u64>,
    /// Ranges of chunks that differ, in bytes; a chunk differs as a whole.
    pub changed: RangeSet,
}

impl Repository {
    /// The ranges that differ between two points, disk by disk.
    pub async fn diff(&self, from: &PointSelector, to: &PointSelector, ctx: &Context) -> Result<Vec<DiffReport>> {
        let mut tries = Tries::default();
        loop {
            let state = self.state().await?;
            match self.diff_in(&state, from, to, ctx).await {
                Err(error) => tries.again(self, state.chain.head, error).await?,
                reports => return reports,
            }
        }
    }

    async fn diff_in(
        &self,
        state: &State,
        from: &PointSelector,
        to: &PointSelector,
        ctx: &Context,
    ) -> Result<Vec<DiffReport>> {
        let (from, to) = (self.select(state, from).await?, self.select(state, to).await?);
        let index = Arc::new(self.index(state, |_| true).await?);
        let nodes = Arc::new(StoredNodes::of_index(self, index));
        let mut ids: Vec<_> = from.record.disks.iter().chain(&to.record.disks).map(|disk| disk.id.clone()).collect();
        ids.sort();
        ids.dedup();
        let mut reports = Vec::new();
        for id in ids {
            let find =
                |point: &super::points::StoredPoint| point.record.disks.iter().find(|disk| disk.id == id).cloned();
            let (old, new) = (find(&from), find(&to));
            let changed = match (&old, &new) {
                (Some(old), Some(new)) if old.chunker != new.chunker => {
                    return Err(Error::unsupported(
                        "The two points cut the disk in different ways; their maps cannot be compared",
                    )
                    .with_context("disk", &id));
                }
                (Some(old), Some(new)) => {
                    let cursor = |disk: &super::format::point::DiskEntry| {
                        MapCursor::new(Arc::clone(&nodes) as _, disk.size, disk.root)
                    };
                    changed(cursor(old), cursor(new), ctx).await?
                }
                (Some(only), None) | (None, Some(only)) => std::iter::once(0..only.size).collect(),
                (None, None) => RangeSet::new(),
            };
            let sizes = (old.map(|disk| disk.size), new.map(|disk| disk.size));
            reports.push(DiffReport { disk: DiskId::new(&id)?, from_size: sizes.0, to_size: sizes.1, changed });
        }
        Ok(reports)
    }
}

pub(super) async fn changed(mut old: MapCursor, mut new: MapCursor, ctx: &Context) -> Result<RangeSet> {
    let mut changed = RangeSet::new();
    let common = old.size().min(new.size());
    let mut segment = 0;
    while segment < segments_of(common) {
        ctx.check()?;
        // On to the next segment that either of them has; where both are holes nothing differs.
        let next = [old.next_leaf(segment).await?, new.next_leaf(segment).await?];
        let Some(next) = next.iter().flatten().map(|(at, _)| *at).min() else { break };
        segment = next;
        let whole = (segment + 1) * SEGMENT_BYTES <= common;
        if !whole || old.node_id(0, segment).await? != new.node_id(0, segment).await? {
            let leaves = (old.leaf(segment).await?, new.leaf(segment).await?);
            differing(&leaves.0, &leaves.1, segment, &mut changed, common);
        }
        segment += 1;
    }
    changed.insert(common..old.size().max(new.size()));
    Ok(changed)
}

/// Adds the entries of `new` that `old` does not have at the same place.
fn differing(old: &[Entry], new: &[Entry], segment: u64, changed: &mut RangeSet, common: u64) {
    let old: std::collections::HashSet<_> = spans(old).collect();
    for (blocks, entry) in spans(new) {
        if !old.contains(&(blocks.clone(), entry)) {
            let at = |block: u32| (segment * SEGMENT_BYTES + u64::from(block) * BLOCK_BYTES as u64).min(common);
            changed.insert(at(blocks.start)..at(blocks.end));
        }
    }
}

fn spans(entries: &[Entry]) -> impl Iterator<Item = (Range<u32>, Entry)> {
    let mut at = 0;
    entries.iter().map(move |entry| {
        let start = at;
        at += entry.blocks();
        (start..at, *entry)
    })
}
