//! One disk into a session: what has to be read, reading it, and the map that comes of it.

use std::sync::Arc;

use backstay_core::{
    ChangeBase, ChangedBlocks, DiskId, DiskSource, Error, RangeSet, ReadMethod, Result, ResultExt, Task,
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesOrdered};

use super::{
    WriteSession,
    segments::{ExtentWalk, SegmentJob, SegmentResult},
};
use crate::repository::{
    chunk::{DiskChunker, SEGMENT_BYTES},
    format::point::DiskEntry,
    map::{MapCursor, MapUpdate, segments_of},
};

/// A segment shorter than the chunker's shortest hole is read whole: all zero it has no leaf, which a splice cannot tell.
const SHORT_BYTES: u64 = 16 * 4096;

/// How to write a disk.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DiskOptions {
    /// How many ranges that the source calls unchanged are read and compared all the same. One that differs makes the whole
    /// disk a compared one.
    pub sample: usize,
    /// How the disk is cut; as the repository says when `None`.
    pub chunker: Option<DiskChunker>,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self { sample: 8, chunker: None }
    }
}

impl DiskOptions {
    /// Sets [`Self::sample`].
    #[must_use]
    pub const fn sample(mut self, sample: usize) -> Self {
        self.sample = sample;
        self
    }

    /// Sets [`Self::chunker`].
    #[must_use]
    pub const fn chunker(mut self, chunker: DiskChunker) -> Self {
        self.chunker = Some(chunker);
        self
    }
}

/// What is read of a disk, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskChanges {
    /// All of it: there is no parent.
    Full,
    /// All of it, compared with the parent, for this reason.
    Compared(String),
    /// What changed.
    Changed(RangeSet),
    /// Nothing: the source vouches for it.
    Untouched,
}

impl DiskChanges {
    const fn method(&self) -> ReadMethod {
        match self {
            Self::Full => ReadMethod::Full,
            Self::Compared(_) => ReadMethod::Compared,
            Self::Changed(_) => ReadMethod::Changed,
            Self::Untouched => ReadMethod::Untouched,
        }
    }
}

/// What became of a disk.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DiskReport {
    /// Its id.
    pub disk: DiskId,
    /// How it was read.
    pub method: ReadMethod,
    /// Why it was read more than it could have been.
    pub reason: Option<String>,
    /// Bytes read from the source.
    pub read_bytes: u64,
}

/// What a disk's jobs share.
pub(super) struct DiskJob {
    pub source: Arc<dyn DiskSource>,
    pub chunker: DiskChunker,
    pub task: Task,
    pub read_bytes: std::sync::atomic::AtomicU64,
}

impl DiskJob {
    /// Reads a range of the source, counting it.
    pub async fn read(&self, range: std::ops::Range<u64>, buffer: Vec<u8>) -> Result<Vec<u8>> {
        let wanted = range.end - range.start;
        let read = self.source.read(range, buffer).await?;
        if read.len() as u64 != wanted {
            return Err(Error::internal("A disk source gave more or less than it was asked for"));
        }
        self.read_bytes.fetch_add(wanted, std::sync::atomic::Ordering::Relaxed);
        Ok(read)
    }
}

impl WriteSession {
    /// Stores a disk. What the source knows of its changes is used when it fits the parent exactly.
    pub async fn write_disk(
        &mut self,
        disk: &DiskId,
        source: Arc<dyn DiskSource>,
        options: &DiskOptions,
    ) -> Result<DiskReport> {
        if self.disks.iter().any(|entry| entry.id == disk.as_str()) {
            return Err(
                Error::invalid_input("The restore point has a disk of this id already").with_context("disk", disk)
            );
        }
        let chunker = match options.chunker {
            Some(chunker) => chunker,
            None => parse_chunker(&self.repository.config().disk_chunker)?,
        };
        self.writing()?;
        match self.store_disk(disk, source, chunker, options).await {
            Ok(report) => {
                self.wrote();
                Ok(report)
            }
            Err(error) => Err(self.explain(error).await),
        }
    }

    async fn store_disk(
        &mut self,
        disk: &DiskId,
        source: Arc<dyn DiskSource>,
        chunker: DiskChunker,
        options: &DiskOptions,
    ) -> Result<DiskReport> {
        // The token names the moment before anything is read: what is written later is found changed next time.
        let token = source.change_token().await.context("disk", disk)?;
        let job = Arc::new(DiskJob {
            task: self.ctx.task(disk.as_str(), Some(source.size())),
            source,
            chunker,
            read_bytes: 0.into(),
        });
        let mut changes = self.changes(disk, &job).await.context("disk", disk)?;
        if let DiskChanges::Changed(dirty) = &changes
            && let Some(at) = self.sample_mismatch(disk, &job, dirty, options.sample).await.context("disk", disk)?
        {
            let reason = format!(
                "the source calls bytes {}..{} unchanged and they differ from the parent: its change tracking is wrong",
                at.start, at.end
            );
            job.task.warn(format!("Disk {disk}: {reason}. The whole disk is read and compared."));
            changes = DiskChanges::Compared(reason);
        }
        let root = match &changes {
            DiskChanges::Full | DiskChanges::Compared(_) => self.read_all(disk, &job).await,
            DiskChanges::Changed(dirty) => self.read_changed(disk, &job, dirty).await,
            DiskChanges::Untouched => Ok(self.parent_disk(disk).and_then(|(_, entry)| entry.root)),
        };
        let root = root.context("disk", disk)?;
        job.source.verify_unchanged().await.context("disk", disk)?;
        let read_bytes = job.read_bytes.load(std::sync::atomic::Ordering::Relaxed);
        let reason = match &changes {
            DiskChanges::Compared(reason) => Some(reason.clone()),
            _ => None,
        };
        self.disks.push(DiskEntry {
            id: disk.to_string(),
            size: job.source.size(),
            root,
            chunker: chunker.name(),
            token: token.map(|token| token.as_bytes().to_vec().into()),
            method: match changes.method() {
                ReadMethod::Changed => 1,
                ReadMethod::Compared => 2,
                ReadMethod::Untouched => 3,
                _ => 0,
            },
            reason: reason.clone(),
            read_bytes,
        });
        Ok(DiskReport { disk: disk.clone(), method: changes.method(), reason, read_bytes })
    }

    /// What has to be read. Never a guess: whatever does not fit exactly is read and compared.
    async fn changes(&self, disk: &DiskId, job: &DiskJob) -> Result<DiskChanges> {
        let Some((_, entry)) = self.parent_disk(disk) else { return Ok(DiskChanges::Full) };
        if entry.chunker != job.chunker.name() {
            return Ok(DiskChanges::Compared(format!(
                "the parent was cut by {} and not by {}",
                entry.chunker,
                job.chunker.name()
            )));
        }
        let Some(base) = self.change_base(disk) else { return Ok(DiskChanges::Full) };
        let size = job.source.size();
        let lost = self.lost.get(disk.as_str()).map(|lost| &lost.ranges).filter(|lost| !lost.is_empty());
        if let Some(lost) = lost {
            job.task.warn(format!(
                "Disk {disk}: {} bytes of the earlier restore point are lost and are read again",
                lost.bytes()
            ));
        }
        match job.source.changed_since(&base).await? {
            ChangedBlocks::Unknown { reason } => Ok(DiskChanges::Compared(reason)),
            ChangedBlocks::Untouched if size == base.size => Ok(match lost {
                Some(lost) => DiskChanges::Changed(clip(lost, &base, size)),
                None => DiskChanges::Untouched,
            }),
            ChangedBlocks::Untouched => {
                Ok(DiskChanges::Compared("the disk is called untouched and has another size".into()))
            }
            ChangedBlocks::Exact(dirty) => {
                let lost = lost.into_iter().flat_map(|lost| lost.ranges().iter().cloned());
                let all: RangeSet = dirty.ranges().iter().cloned().chain(lost).collect();
                Ok(DiskChanges::Changed(clip(&all, &base, size)))
            }
        }
    }

    /// Everything is read; segments that are as the parent's cost no more than that.
    async fn read_all(&self, disk: &DiskId, job: &Arc<DiskJob>) -> Result<Option<crate::repository::ids::NodeId>> {
        let size = job.source.size();
        let parent = self.parent_disk(disk).map(|(_, entry)| self.parent_map(entry));
        let mut walk = ExtentWalk::new(Arc::clone(&job.source));
        let mut pipeline = Pipeline::new(self, disk, job);
        let mut cursor = parent;
        let mut segment = 0;
        while segment < segments_of(size) {
            let data = walk.segment(segment).await?;
            if data.is_empty() && cursor.is_none() {
                // Nothing there and nothing to compare with: on to where the next data begins.
                let next = walk.next_data().await?.map_or(segments_of(size), |at| at / SEGMENT_BYTES);
                let next = next.max(segment + 1);
                job.task.advance((next * SEGMENT_BYTES).min(size) - segment * SEGMENT_BYTES);
                segment = next;
                continue;
            }
            let bounds = segment * SEGMENT_BYTES..((segment + 1) * SEGMENT_BYTES).min(size);
            let old = match &mut cursor {
                // Not what the parent's leaf names: that may be what is lost.
                Some(_) if self.is_lost(disk, &bounds) => None,
                Some(cursor) => Some((cursor.node_id(0, segment).await?, cursor.leaf(segment).await?)),
                None => None,
            };
            pipeline.start(SegmentJob::whole(self, job, segment, data, old)).await?;
            segment += 1;
        }
        pipeline.finish().await
    }

    /// Only what changed is read.
    async fn read_changed(
        &self,
        disk: &DiskId,
        job: &Arc<DiskJob>,
        dirty: &RangeSet,
    ) -> Result<Option<crate::repository::ids::NodeId>> {
        let (size, count) = (job.source.size(), segments_of(job.source.size()));
        let Some((_, entry)) = self.parent_disk(disk) else { return Err(Error::internal("Changes without a parent")) };
        let (mut cursor, old_size) = (self.parent_map(entry), entry.size);
        let mut walk = ExtentWalk::new(Arc::clone(&job.source));
        let mut pipeline = Pipeline::new(self, disk, job);
        let mut from = 0;
        job.task.set_total(dirty.bytes());
        while let Some(at) = dirty.next_at_or_after(from * SEGMENT_BYTES).filter(|at| *at < size) {
            let segment = at / SEGMENT_BYTES;
            let bounds = segment * SEGMENT_BYTES..((segment + 1) * SEGMENT_BYTES).min(size);
            let ranges: Vec<_> = dirty.within(bounds.clone()).collect();
            let dirty_bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
            // Where most of a segment is dirty it is read in one piece, holes left out.
            let whole = segment * SEGMENT_BYTES >= old_size || dirty_bytes * 2 > bounds.end - bounds.start;
            let next = if self.is_lost(disk, &bounds) {
                // Every chunk of it is looked up, so that those which are lost are stored again.
                SegmentJob::whole(self, job, segment, walk.segment(segment).await?, None)
            } else if whole || bounds.end - bounds.start < SHORT_BYTES {
                let data = walk.segment(segment).await?;
                let old = Some((cursor.node_id(0, segment).await?, cursor.leaf(segment).await?));
                SegmentJob::whole(self, job, segment, data, old)
            } else {
                let old = (cursor.node_id(0, segment).await?, cursor.leaf(segment).await?);
                SegmentJob::splice(self, job, segment, ranges, old, cursor.segment_bytes(segment))
            };
            pipeline.start(next).await?;
            from = segment + 1;
        }
        // Where the disk was cut off, the nodes above its new end are the parent's no longer; nor is the leaf, when the cut went
        // through its segment.
        if size < old_size && count > 0 && from < count {
            let last = count - 1;
            let old = (cursor.node_id(0, last).await?, cursor.leaf(last).await?);
            pipeline
                .start(if size.is_multiple_of(SEGMENT_BYTES) {
                    SegmentJob::keep(last, old.0)
                } else if size % SEGMENT_BYTES < SHORT_BYTES {
                    SegmentJob::whole(self, job, last, walk.segment(last).await?, Some(old))
                } else {
                    SegmentJob::splice(self, job, last, Vec::new(), old, cursor.segment_bytes(last))
                })
                .await?;
        }
        pipeline.finish().await
    }
}

/// What lies past the smaller of two ends has changed, whatever the source says; so has a block that an end cuts in two.
fn clip(dirty: &RangeSet, base: &ChangeBase, size: u64) -> RangeSet {
    let mut clipped: RangeSet = dirty.within(0..size).collect();
    if size != base.size {
        clipped.insert(size.min(base.size) / 4096 * 4096..size);
    }
    clipped
}

fn parse_chunker(name: &str) -> Result<DiskChunker> {
    DiskChunker::parse(name).ok_or_else(|| {
        Error::unsupported("The repository cuts disks in a way that this build does not know")
            .with_context("chunker", name)
    })
}

/// Runs several segments at once and takes their leaves in order.
struct Pipeline<'a> {
    session: &'a WriteSession,
    job: &'a Arc<DiskJob>,
    map: MapUpdate,
    running: FuturesOrdered<BoxFuture<'static, Result<SegmentResult>>>,
    windows: usize,
}

impl<'a> Pipeline<'a> {
    fn new(session: &'a WriteSession, disk: &DiskId, job: &'a Arc<DiskJob>) -> Self {
        let parent: Option<MapCursor> = session.parent_disk(disk).map(|(_, entry)| session.parent_map(entry));
        let map = MapUpdate::new(parent, job.source.size(), Arc::clone(&session.store) as _);
        let windows = session.ctx.limits().effective_windows().max(1);
        Self { session, job, map, running: FuturesOrdered::new(), windows }
    }

    async fn start(&mut self, segment: SegmentJob) -> Result<()> {
        self.session.ctx.check()?;
        while self.running.len() >= self.windows {
            self.take().await?;
        }
        self.running.push_back(segment.run().boxed());
        Ok(())
    }

    async fn take(&mut self) -> Result<()> {
        let next = self.session.ctx.or_cancelled(self.running.next().map(Option::transpose)).await?;
        if let Some(done) = next {
            self.map.set(done.segment, done.leaf).await?;
            self.job.task.advance(done.progress);
        }
        self.session.checkpoint().await
    }

    async fn finish(mut self) -> Result<Option<crate::repository::ids::NodeId>> {
        while !self.running.is_empty() {
            self.take().await?;
        }
        self.map.finish().await
    }
}
