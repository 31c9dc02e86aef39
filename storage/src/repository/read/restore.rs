//! A stored disk into a sink: in pack order, on all cores; holes are never written.

use std::{collections::VecDeque, future::poll_fn, ops::Range, task::Poll};

use backstay_core::{Context, DiskSink, DiskSource, Error, Result, Task, WriteOrder};
use futures::{
    FutureExt, StreamExt, TryStreamExt,
    stream::{FuturesOrdered, FuturesUnordered},
};

use super::{StoredDisk, Wanted, disk::placed, fetch::Run};
use crate::repository::{
    chunk::{BLOCK_BYTES, Entry, SEGMENT_BYTES},
    ids::NodeId,
    map::{MapCursor, NodeSource, decode_leaf},
};

/// Segments that are planned together: more means fewer requests after many incrementals, and more memory.
const PLANNED_SEGMENTS: usize = 16;
/// While there are fewer planned runs than so many for each that is fetched, the next segments are planned.
const PLANNED_AHEAD: usize = 4;
/// Segments that are unpacked at once for a sink that must be written in order.
const ORDERED_SEGMENTS: usize = 4;

/// What comes next.
struct Plan {
    runs: Vec<Run>,
    /// Where planning goes on.
    next: u64,
    cursor: MapCursor,
}

/// What a restore waits for.
enum Next {
    Planned(Option<Plan>),
    Brought,
    End,
}

impl StoredDisk {
    /// Writes `range` of the disk into the sink, whose first byte is that of the range. Does not commit the sink.
    pub async fn restore_to(&self, sink: &dyn DiskSink, range: Range<u64>, ctx: &Context) -> Result<()> {
        backstay_core::disk::check_range(&range, self.size())?;
        self.must_be_whole(&range)?;
        if sink.size() < range.end - range.start {
            return Err(Error::invalid_input("The target is smaller than what is to be restored")
                .with_context("target_bytes", sink.size())
                .with_context("needed_bytes", range.end - range.start));
        }
        let task = ctx.task("restore", Some(range.end - range.start));
        match sink.order() {
            WriteOrder::Any => self.restore_any(sink, &range, &task, ctx).await,
            WriteOrder::Ascending => self.restore_ascending(sink, &range, &task, ctx).await,
        }
    }

    /// Each run is fetched, unpacked and written by a future of its own, so that the store, the cores and the target are busy at
    /// the same time; what comes next is planned meanwhile, so that the store never waits for a plan.
    async fn restore_any(&self, sink: &dyn DiskSink, range: &Range<u64>, task: &Task, ctx: &Context) -> Result<()> {
        let at_once = ctx.limits().downloads.max(1);
        let first = range.start / SEGMENT_BYTES;
        let mut planning = Some(self.plan_from(self.map(), first, range).boxed());
        let mut planned: VecDeque<Run> = VecDeque::new();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < at_once
                && let Some(run) = planned.pop_front()
            {
                running.push(self.bring(run, sink, range, task, ctx));
            }
            let next = poll_fn(|cx| {
                if planned.len() < PLANNED_AHEAD * at_once
                    && let Some(plan) = &mut planning
                    && let Poll::Ready(plan) = plan.poll_unpin(cx)
                {
                    return Poll::Ready(plan.map(Next::Planned));
                }
                match running.poll_next_unpin(cx) {
                    Poll::Ready(Some(brought)) => Poll::Ready(brought.map(|()| Next::Brought)),
                    Poll::Ready(None) if planning.is_none() => Poll::Ready(Ok(Next::End)),
                    _ => Poll::Pending,
                }
            });
            match ctx.or_cancelled(next).await? {
                Next::Planned(Some(Plan { cursor, next, runs })) => {
                    planned.extend(runs);
                    planning = Some(self.plan_from(cursor, next, range).boxed());
                }
                Next::Planned(None) => planning = None,
                Next::Brought => {}
                Next::End => break,
            }
        }
        // What nobody wrote reads as zero: a sink promises that.
        task.advance((range.end - range.start).saturating_sub(task.done()));
        Ok(())
    }

    /// The runs of the next segments with data; none when there are no more.
    async fn plan_from(&self, mut cursor: MapCursor, from: u64, range: &Range<u64>) -> Result<Option<Plan>> {
        let (mut leaves, mut next) = (Vec::new(), from);
        while leaves.len() < PLANNED_SEGMENTS
            && let Some(leaf) = next_in(&mut cursor, next, range).await?
        {
            next = leaf.0 + 1;
            leaves.push(leaf);
        }
        if leaves.is_empty() {
            return Ok(None);
        }
        self.nodes.prefetch(&leaves.iter().map(|(_, id)| *id).collect::<Vec<_>>()).await;
        let mut wanted = Vec::new();
        for (segment, id) in leaves {
            wanted.extend(self.wanted(segment, &id, range).await?);
        }
        Ok(Some(Plan { cursor, next, runs: self.chunks.plan(wanted).await? }))
    }

    async fn bring(&self, run: Run, sink: &dyn DiskSink, range: &Range<u64>, task: &Task, ctx: &Context) -> Result<()> {
        for piece in self.chunks.fetch(run, ctx).await? {
            task.advance(piece.bytes.len() as u64);
            write_clipped(sink, range, piece.at, piece.bytes).await?;
        }
        Ok(())
    }

    async fn restore_ascending(
        &self,
        sink: &dyn DiskSink,
        range: &Range<u64>,
        task: &Task,
        ctx: &Context,
    ) -> Result<()> {
        let mut cursor = self.map();
        let mut running = FuturesOrdered::new();
        let mut segment = range.start / SEGMENT_BYTES;
        let mut done = range.start;
        loop {
            while running.len() < ORDERED_SEGMENTS {
                let Some(next) = next_in(&mut cursor, segment, range).await? else { break };
                running.push_back(self.unpacked(next, range, ctx));
                segment = next.0 + 1;
            }
            let Some(mut pieces) = ctx.or_cancelled(running.try_next()).await? else { break };
            pieces.sort_by_key(|(at, _)| *at);
            for (at, bytes) in pieces {
                let (from, to) = (at.max(range.start), (at + bytes.len() as u64).min(range.end));
                if from > done {
                    sink.zero(done - range.start..from - range.start).await?;
                }
                write_clipped(sink, range, at, bytes).await?;
                task.advance(to - done);
                done = to;
            }
        }
        if done < range.end {
            sink.zero(done - range.start..range.end - range.start).await?;
            task.advance(range.end - done);
        }
        Ok(())
    }

    async fn unpacked(
        &self,
        (segment, leaf): (u64, NodeId),
        range: &Range<u64>,
        ctx: &Context,
    ) -> Result<Vec<(u64, bytes::Bytes)>> {
        let wanted = self.wanted(segment, &leaf, range).await?;
        let pieces = self.chunks.read(wanted, ctx).await?;
        pieces
            .try_fold(Vec::new(), |mut all, batch| async move {
                all.extend(batch.into_iter().map(|piece| (piece.at, piece.bytes)));
                Ok(all)
            })
            .await
    }

    /// The chunks of a segment that touch the range.
    async fn wanted(&self, segment: u64, leaf: &NodeId, range: &Range<u64>) -> Result<Vec<Wanted>> {
        let bytes = self.size().saturating_sub(segment * SEGMENT_BYTES).min(SEGMENT_BYTES);
        let leaf = decode_leaf(&self.nodes.node(leaf).await?, bytes.div_ceil(BLOCK_BYTES as u64) as u32)?;
        let touching =
            placed(&leaf, segment, self.size()).filter(|(bytes, _)| bytes.start < range.end && bytes.end > range.start);
        let wanted = |(bytes, entry): (Range<u64>, Entry)| {
            entry.id().filter(|_| !self.is_zeroed(&bytes)).map(|id| Wanted {
                id,
                plain: (bytes.end - bytes.start) as u32,
                at: bytes.start,
            })
        };
        Ok(touching.filter_map(wanted).collect())
    }
}

/// The next segment with data that the range touches, and its leaf.
async fn next_in(cursor: &mut MapCursor, from: u64, range: &Range<u64>) -> Result<Option<(u64, NodeId)>> {
    let next = cursor.next_leaf(from).await?;
    Ok(next.filter(|(segment, _)| segment * SEGMENT_BYTES < range.end))
}

/// Writes the part of a piece that lies in the range.
async fn write_clipped(sink: &dyn DiskSink, range: &Range<u64>, at: u64, bytes: bytes::Bytes) -> Result<()> {
    let (from, to) = (at.max(range.start), (at + bytes.len() as u64).min(range.end));
    if from >= to {
        return Ok(());
    }
    sink.write(from - range.start, bytes.slice((from - at) as usize..(to - at) as usize)).await
}
