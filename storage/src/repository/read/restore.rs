//! A stored disk into a sink: in pack order, on all cores; holes are never written.

use std::{collections::VecDeque, ops::Range};

use backstay_core::{Context, DiskSink, DiskSource, Error, Result, Task, WriteOrder};
use futures::{
    TryStreamExt,
    stream::{FuturesOrdered, FuturesUnordered},
};

use super::{StoredDisk, Wanted, disk::placed, fetch::Run};
use crate::repository::{
    chunk::{Entry, SEGMENT_BYTES},
    map::MapCursor,
};

/// Segments that are planned together: more means fewer requests after many incrementals, and more memory.
const PLANNED_SEGMENTS: usize = 8;
/// Segments that are unpacked at once for a sink that must be written in order.
const ORDERED_SEGMENTS: usize = 4;

impl StoredDisk {
    /// Writes `range` of the disk into the sink, whose first byte is that of the range. Does not commit the sink.
    pub async fn restore_to(&self, sink: &dyn DiskSink, range: Range<u64>, ctx: &Context) -> Result<()> {
        backstay_core::disk::check_range(&range, self.size())?;
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
    /// the same time.
    async fn restore_any(&self, sink: &dyn DiskSink, range: &Range<u64>, task: &Task, ctx: &Context) -> Result<()> {
        let mut cursor = self.map();
        let mut segment = range.start / SEGMENT_BYTES;
        let mut planned = VecDeque::new();
        let mut running = FuturesUnordered::new();
        let at_once = ctx.limits().downloads.max(1);
        loop {
            while running.len() < at_once {
                if planned.is_empty() {
                    let Some((next, runs)) = self.plan_from(&mut cursor, segment, range).await? else { break };
                    segment = next;
                    planned.extend(runs);
                    continue;
                }
                let Some(run) = planned.pop_front() else { break };
                running.push(self.bring(run, sink, range, task, ctx));
            }
            if ctx.or_cancelled(running.try_next()).await?.is_none() {
                break;
            }
        }
        // What nobody wrote reads as zero: a sink promises that.
        task.advance((range.end - range.start).saturating_sub(task.done()));
        Ok(())
    }

    /// The runs of the next segments with data, and the segment to go on from.
    async fn plan_from(
        &self,
        cursor: &mut MapCursor,
        from: u64,
        range: &Range<u64>,
    ) -> Result<Option<(u64, Vec<Run>)>> {
        let (mut wanted, mut segment, mut planned) = (Vec::new(), from, 0);
        while planned < PLANNED_SEGMENTS {
            let Some(next) = next_in(cursor, segment, range).await? else { break };
            wanted.extend(self.wanted(cursor, next, range).await?);
            (segment, planned) = (next + 1, planned + 1);
        }
        if planned == 0 {
            return Ok(None);
        }
        Ok(Some((segment, self.chunks.plan(wanted).await?)))
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
                let wanted = self.wanted(&mut cursor, next, range).await?;
                running.push_back(self.unpacked(wanted, ctx));
                segment = next + 1;
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

    async fn unpacked(&self, wanted: Vec<Wanted>, ctx: &Context) -> Result<Vec<(u64, bytes::Bytes)>> {
        let pieces = self.chunks.read(wanted, ctx).await?;
        pieces
            .try_fold(Vec::new(), |mut all, batch| async move {
                all.extend(batch.into_iter().map(|piece| (piece.at, piece.bytes)));
                Ok(all)
            })
            .await
    }

    /// The chunks of a segment that touch the range.
    async fn wanted(&self, cursor: &mut MapCursor, segment: u64, range: &Range<u64>) -> Result<Vec<Wanted>> {
        let leaf = cursor.leaf(segment).await?;
        let touching =
            placed(&leaf, segment, self.size()).filter(|(bytes, _)| bytes.start < range.end && bytes.end > range.start);
        let wanted = |(bytes, entry): (Range<u64>, Entry)| {
            entry.id().map(|id| Wanted { id, plain: (bytes.end - bytes.start) as u32, at: bytes.start })
        };
        Ok(touching.filter_map(wanted).collect())
    }
}

/// The next segment with data that the range touches.
async fn next_in(cursor: &mut MapCursor, from: u64, range: &Range<u64>) -> Result<Option<u64>> {
    let next = cursor.next_leaf(from).await?.map(|(segment, _)| segment);
    Ok(next.filter(|segment| segment * SEGMENT_BYTES < range.end))
}

/// Writes the part of a piece that lies in the range.
async fn write_clipped(sink: &dyn DiskSink, range: &Range<u64>, at: u64, bytes: bytes::Bytes) -> Result<()> {
    let (from, to) = (at.max(range.start), (at + bytes.len() as u64).min(range.end));
    if from >= to {
        return Ok(());
    }
    sink.write(from - range.start, bytes.slice((from - at) as usize..(to - at) as usize)).await
}
