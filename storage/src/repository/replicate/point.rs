//! One restore point into another repository.

use std::sync::Arc;

use backstay_core::{
    Consistency, Context, DiskId, Error, ErrorKind, RestorePoint, RestorePointId, Result, ResultExt, Timestamp,
};

use super::{
    Base, Replication, SUPPOSED, Source,
    disk::{Changes, CopySource},
};
use crate::repository::{
    Compression, DiskOptions, DiskReport, PointDetails, SessionOptions, StoredStream, WriteSession,
    diff::changed,
    format::point::{DiskEntry, PointRecord, ProvenanceEntry, StreamEntry},
    map::MapCursor,
    nodes::StoredNodes,
    points::StoredPoint,
    read::{ChunkReader, StoredDisk},
    write::CopyOf,
};

/// How to copy points.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CopyOptions {
    /// How hard to compress.
    pub compression: Compression,
    /// How many ranges of a disk that the maps call unchanged are read and compared all the same.
    pub sample: usize,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self { compression: Compression::default(), sample: 2 }
    }
}

impl CopyOptions {
    /// Sets [`Self::compression`].
    #[must_use]
    pub const fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets [`Self::sample`].
    #[must_use]
    pub const fn sample(mut self, sample: usize) -> Self {
        self.sample = sample;
        self
    }
}

/// A point that was copied.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CopiedPoint {
    /// As the target has it now.
    pub point: RestorePoint,
    /// The point of the source that only the difference to was read.
    pub base: Option<RestorePointId>,
    /// What became of each disk.
    pub disks: Vec<DiskReport>,
}

impl Replication {
    /// The point of the source that a copy of this one would count changes from, when it is made next.
    #[must_use]
    pub fn base_of(&self, number: usize) -> Option<RestorePointId> {
        self.points.get(number).and_then(|planned| self.base(&planned.stored)).map(|base| base.stored.id())
    }

    /// For a dry run: takes a point for copied, so that the next ones are told to build on it. Do not copy afterwards.
    pub fn suppose(&mut self, number: usize) {
        if let Some(planned) = self.points.get(number) {
            let stored = planned.stored.clone();
            self.bases.insert(stored.id(), Base { stored, copy: SUPPOSED });
        }
    }

    /// Copies one of [`Self::points`], whatever its state. When this returns the copy is durable and later ones build on it.
    ///
    /// `Integrity` when the point cannot be read: others may be whole. `NotFound` when it was forgotten meanwhile.
    pub async fn copy(&mut self, number: usize, options: &CopyOptions, ctx: &Context) -> Result<CopiedPoint> {
        let stored = match self.points.get(number) {
            Some(planned) => planned.stored.clone(),
            None => return Err(Error::invalid_input("The plan has no such point").with_context("number", number)),
        };
        let copied = loop {
            match self.copy_stored(&stored, options, ctx).await.context("source_point", stored.id()) {
                // A collector may have moved what was to be read: what is lost is lost after another look, too.
                Err(error) if may_be_stale(&error) && self.look_again(&stored).await? => {}
                copied => break copied?,
            }
        };
        self.bases.insert(stored.id(), Base { stored, copy: copied.point.id });
        Ok(copied)
    }

    /// Reads the source's state anew if its chain has moved on; `false` when it has not.
    async fn look_again(&mut self, stored: &StoredPoint) -> Result<bool> {
        let state = self.source.repository.state().await?;
        if state.chain.head == self.source.head {
            return Ok(false);
        }
        if !state.points().any(|(id, _)| *id == stored.id()) {
            return Err(Error::not_found("The restore point was forgotten while it was copied")
                .with_context("source_point", stored.id()));
        }
        self.source = Source::read(&self.source.repository, &state).await?;
        Ok(true)
    }

    async fn copy_stored(&self, stored: &StoredPoint, options: &CopyOptions, ctx: &Context) -> Result<CopiedPoint> {
        let record = &stored.record;
        let task = ctx.task(&format!("copy {} of {}", stored.id().short(), record.workload), None);
        let ctx = &ctx.clone().within(&task);
        let base = self.base(stored);
        let provenance = ProvenanceEntry {
            repository: self.source.repository.config().repository,
            point: record.session,
            hash: stored.hash,
        };
        let mut session = SessionOptions::default()
            .labels(record.labels.clone())
            .compression(options.compression)
            .time(Timestamp::from_nanos(record.time));
        session.copy = Some(CopyOf { provenance, parent: base.map(|base| base.copy) });
        let described = stored.describe()?;
        let mut session = self.target.begin(described.workload, session, ctx).await?;
        let view = self.source.view(stored.id());
        let (chunks, nodes) = (ChunkReader::new(Arc::clone(&view))?, Arc::new(StoredNodes::new(view)));
        let copy = PointCopy { chunks, nodes, record, base, options, ctx };
        match copy.fill(&mut session).await {
            Ok(disks) => {
                let details = PointDetails::default().consistency(consistency(record)?);
                let point = session.commit(details).await?;
                Ok(CopiedPoint { point, base: base.map(|base| base.stored.id()), disks })
            }
            Err(error) => {
                session.abort().await;
                Err(error)
            }
        }
    }

    /// The nearest point of the same workload that has a copy: the one before, if possible.
    fn base(&self, stored: &StoredPoint) -> Option<&Base> {
        let same = self.bases.values().filter(|base| base.stored.record.workload == stored.record.workload);
        let order = |point: &StoredPoint| (point.record.sequence, point.record.time, point.record.session);
        let (before, after): (Vec<_>, Vec<_>) = same.partition(|base| order(&base.stored) <= order(stored));
        let before = before.into_iter().max_by_key(|base| order(&base.stored));
        before.or_else(|| after.into_iter().min_by_key(|base| order(&base.stored)))
    }
}

/// What comes of reading a point that somebody forgot or moved.
fn may_be_stale(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Conflict)
}

/// One that a later version knows must not become another one on the way.
fn consistency(record: &PointRecord) -> Result<Consistency> {
    match record.consistency {
        0 => Ok(Consistency::Crash),
        1 => Ok(Consistency::Filesystem),
        2 => Ok(Consistency::Application),
        _ => Err(Error::unsupported("The restore point has a consistency that this build does not know")),
    }
}

struct PointCopy<'a> {
    chunks: ChunkReader,
    nodes: Arc<StoredNodes>,
    record: &'a PointRecord,
    base: Option<&'a Base>,
    options: &'a CopyOptions,
    ctx: &'a Context,
}

impl PointCopy<'_> {
    async fn fill(&self, session: &mut WriteSession) -> Result<Vec<DiskReport>> {
        // The parent is gone when the target forgot it meanwhile: then everything is read.
        let parent = session.parent()?.map(|parent| parent.id);
        let base = self.base.filter(|base| parent == Some(base.copy));
        let mut reports = Vec::new();
        for entry in &self.record.disks {
            let changes = match base {
                Some(base) => self.changes(base, entry).await.context("disk", &entry.id)?,
                None => None,
            };
            let disk = StoredDisk::new(entry.clone(), self.chunks.clone(), Arc::clone(&self.nodes), self.ctx);
            let options = DiskOptions::default().sample(self.options.sample);
            let source = Arc::new(CopySource { disk, changes });
            reports.push(session.write_disk(&DiskId::new(&entry.id)?, source, &options).await?);
        }
        let before = base.map(|base| &base.stored.record);
        for entry in &self.record.streams {
            let same = before.is_some_and(|before| before.streams.iter().any(|old| unchanged(old, entry)));
            if !same || !session.keep_stream(&entry.name, entry.size) {
                session.write_stream(&entry.name, self.stream(entry).bytes(self.ctx)).await?;
            }
        }
        for entry in &self.record.attachments {
            let (name, stream) = (&entry.stream.name, &entry.stream);
            let same = before.is_some_and(|before| {
                before
                    .attachments
                    .iter()
                    .any(|old| unchanged(&old.stream, stream) && old.media_type == entry.media_type)
            });
            if !same || !session.keep_attachment(name, stream.size) {
                let bytes = self.stream(stream).read_small(self.ctx).await?;
                session.attach(name, &entry.media_type, bytes).await?;
            }
        }
        Ok(reports)
    }

    fn stream(&self, entry: &StreamEntry) -> StoredStream {
        StoredStream::new(entry.clone(), self.chunks.clone(), Arc::clone(&self.nodes))
    }

    /// What differs between the base's disk and this one, when their maps can tell.
    async fn changes(&self, base: &Base, entry: &DiskEntry) -> Result<Option<Changes>> {
        let old = base.stored.record.disks.iter().find(|old| old.id == entry.id && old.chunker == entry.chunker);
        let Some(old) = old else { return Ok(None) };
        let cursor = |disk: &DiskEntry| MapCursor::new(Arc::clone(&self.nodes) as _, disk.size, disk.root);
        match changed(cursor(old), cursor(entry), self.ctx).await {
            Ok(ranges) => Ok(Some(Changes { parent: base.copy, size: old.size, ranges })),
            // The older point is damaged; this one may be whole, and is read without it.
            Err(error) if error.kind() == ErrorKind::Integrity => {
                let task = self.ctx.task("compare maps", None);
                task.warn(format!("Disk {} is read as a whole: its maps cannot be compared: {error}", entry.id));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn unchanged(old: &StreamEntry, new: &StreamEntry) -> bool {
    old.name == new.name && old.size == new.size && old.root == new.root && old.chunker == new.chunker
}
