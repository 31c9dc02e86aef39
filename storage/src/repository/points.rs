//! Restore points: listing them and finding the one that is meant.

use std::{collections::HashMap, str::FromStr, sync::Arc};

use async_trait::async_trait;
use backstay_core::{
    AttachmentRecord, Consistency, DiskId, DiskRecord, Error, ErrorKind, ObjectKey, Provenance, ReadMethod,
    RestorePoint, RestorePointId, Result, ResultExt, StreamRecord, Timestamp, Workload, WorkloadId,
};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    Repository,
    crypto::ObjectType,
    format::point::PointRecord,
    ids::{ObjectHash, SegmentId, SignerId},
    index::{Index, SealedSegment, Segment, SegmentBytes, Trailer},
    state::{Committed, SMALL_READS, State, point_key},
    view::Tries,
};

/// Memory for pages of the index that are read again soon.
const INDEX_CACHE_BYTES: usize = 16 << 20;

/// So many segments are asked for their sizes one by one; a list costs as much as a dozen such questions.
const MANY_SEGMENTS: usize = 8;

/// A point as it is stored, with the hash of its object.
#[derive(Clone, Debug)]
pub struct StoredPoint {
    pub record: PointRecord,
    pub hash: ObjectHash,
    pub origin: SignerId,
}

impl StoredPoint {
    pub const fn id(&self) -> RestorePointId {
        RestorePointId::from_bytes(self.record.session)
    }

    /// What points are sorted by: oldest first, those of one moment by number and id.
    pub const fn age(&self) -> (i64, u64, [u8; 16]) {
        (self.record.time, self.record.sequence, self.record.session)
    }

    /// As everybody else sees it.
    pub fn describe(&self) -> Result<RestorePoint> {
        let record = &self.record;
        let method = |number| match number {
            0 => Ok(ReadMethod::Full),
            1 => Ok(ReadMethod::Changed),
            2 => Ok(ReadMethod::Compared),
            3 => Ok(ReadMethod::Untouched),
            _ => Err(Error::unsupported("A restore point was read in a way that this build does not know")),
        };
        let disk = |disk: &super::format::point::DiskEntry| {
            Ok(DiskRecord {
                id: DiskId::new(&disk.id)?,
                size: disk.size,
                method: method(disk.method)?,
                reason: disk.reason.clone(),
                read_bytes: disk.read_bytes,
            })
        };
        let parent = record.parent.as_ref().and_then(|id| <[u8; 16]>::try_from(id.as_slice()).ok());
        let attachment = |attachment: &super::format::point::AttachmentEntry| AttachmentRecord {
            name: attachment.stream.name.clone(),
            media_type: attachment.media_type.clone(),
            size: attachment.stream.size,
        };
        Ok(RestorePoint {
            id: self.id(),
            workload: Workload {
                id: WorkloadId::new(&record.workload)?,
                kind: record.kind.clone(),
                platform: record.platform.clone(),
            },
            time: Timestamp::from_nanos(record.time),
            sequence: record.sequence,
            parent: parent.map(RestorePointId::from_bytes),
            consistency: match record.consistency {
                1 => Consistency::Filesystem,
                2 => Consistency::Application,
                _ => Consistency::Crash,
            },
            labels: record.labels.clone(),
            disks: record.disks.iter().map(disk).collect::<Result<_>>()?,
            streams: record.streams.iter().map(|s| StreamRecord { name: s.name.clone(), size: s.size }).collect(),
            attachments: record.attachments.iter().map(attachment).collect(),
            read_bytes: record.read_bytes,
            stored_bytes: record.stored_bytes,
            provenance: record.provenance.as_ref().map(|from| Provenance {
                repository: hex::encode(from.repository),
                point: RestorePointId::from_bytes(from.point),
            }),
        })
    }
}

/// Which point is meant: an id or the beginning of one, `latest`, `WORKLOAD@latest`, `WORKLOAD@2026-11-20T10:00`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PointSelector {
    /// The one whose id begins with these hex digits.
    Id(String),
    /// The newest of all, or of a workload.
    Latest(Option<WorkloadId>),
    /// The newest of a workload that is not newer than this.
    At(WorkloadId, Timestamp),
}

impl FromStr for PointSelector {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if let Some((workload, when)) = text.rsplit_once('@') {
            let workload = WorkloadId::new(workload)?;
            return match when {
                "latest" => Ok(Self::Latest(Some(workload))),
                when => Ok(Self::At(workload, parse_moment(when)?)),
            };
        }
        match text {
            "latest" => Ok(Self::Latest(None)),
            id if (4..=32).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Ok(Self::Id(id.to_ascii_lowercase()))
            }
            _ => Err(Error::invalid_input(
                "A point is the first 4 to 32 hex digits of its id, `latest`, WORKLOAD@latest or WORKLOAD@2026-11-20T10:00",
            )
            .with_context("point", text)),
        }
    }
}

/// RFC 3339, or a prefix of it in UTC down to the day; what is left out counts to the end of the span that is named.
fn parse_moment(text: &str) -> Result<Timestamp> {
    let complete = match text.len() {
        10 => format!("{text}T23:59:59.999999999Z"),
        13 => format!("{text}:59:59.999999999Z"),
        16 => format!("{text}:59.999999999Z"),
        19 => format!("{text}.999999999Z"),
        17 if text.ends_with('Z') => format!("{}:59.999999999Z", &text[..16]),
        _ => text.to_owned(),
    };
    complete
        .parse()
        .map_err(|_: Error| Error::invalid_input("Not a time like 2026-11-20T10:00").with_context("time", text))
}

impl Repository {
    /// Every restore point, oldest first; those of one moment by id.
    pub async fn points(&self) -> Result<Vec<RestorePoint>> {
        let mut tries = Tries::default();
        let points = loop {
            let state = self.state().await?;
            match self.stored_points(&state).await {
                Ok(points) => break points,
                Err(error) => tries.again(self, state.chain.head, error).await?,
            }
        };
        points.iter().map(StoredPoint::describe).collect()
    }

    /// The point that a selector means.
    pub async fn point(&self, selector: &PointSelector) -> Result<RestorePoint> {
        let mut tries = Tries::default();
        loop {
            let state = self.state().await?;
            match self.select(&state, selector).await {
                Ok(point) => return point.describe(),
                Err(error) => tries.again(self, state.chain.head, error).await?,
            }
        }
    }

    /// The record of a point as it is stored: what tests compare.
    #[doc(hidden)]
    pub async fn point_record(&self, selector: &PointSelector) -> Result<PointRecord> {
        let state = self.state().await?;
        Ok(self.select(&state, selector).await?.record)
    }

    pub(super) async fn select(&self, state: &State, selector: &PointSelector) -> Result<StoredPoint> {
        if let PointSelector::Id(prefix) = selector {
            let matching: Vec<_> = state.points().filter(|(id, _)| id.to_string().starts_with(prefix)).collect();
            return match matching.as_slice() {
                [(id, committed)] => self.stored_point(id, committed).await,
                [] => Err(not_found(state).with_context("point", prefix)),
                several => Err(Error::invalid_input("Several restore points begin like this: give more digits")
                    .with_context("point", prefix)
                    .with_context("count", several.len())),
            };
        }
        let fits = |point: &&StoredPoint| match selector {
            PointSelector::Latest(workload) => workload.as_ref().is_none_or(|it| it.as_str() == point.record.workload),
            PointSelector::At(workload, time) => {
                workload.as_str() == point.record.workload && point.record.time <= time.as_nanos()
            }
            PointSelector::Id(_) => false,
        };
        let points = self.stored_points(state).await?;
        let found = points.iter().rfind(fits).ok_or_else(|| not_found(state))?.id();
        let committed = state.committed.get(&found).ok_or_else(|| not_found(state))?;
        self.stored_point(&found, committed).await
    }

    /// Every point that exists, oldest first, without change tokens where the folded state describes it. One that cannot be read is
    /// an error: nobody may take it for absent.
    pub(super) async fn stored_points(&self, state: &State) -> Result<Vec<StoredPoint>> {
        if let Some((session, error)) = state.unreadable.first() {
            let error = Error::new(error.kind(), error.message().to_owned());
            return Err(error.with_context("session", session).with_context("next", "run `check`"));
        }
        // Collected first: with a closure over references in it, the compiler would not believe that this future is `Send`.
        let reads: Vec<_> = state.points().map(|(id, committed)| self.summary(id, committed)).collect();
        let mut points: Vec<_> = stream::iter(reads).buffer_unordered(SMALL_READS).try_collect().await?;
        points.sort_by_key(StoredPoint::age);
        Ok(points)
    }

    /// The points that can be read, oldest first, and what is wrong with the others.
    pub(super) async fn readable_points(&self, state: &State) -> Result<(Vec<StoredPoint>, Vec<Error>)> {
        let mut damaged: Vec<_> = state
            .unreadable
            .iter()
            .map(|(session, error)| {
                Error::new(error.kind(), error.message().to_owned()).with_context("session", session)
            })
            .collect();
        let reads: Vec<_> = state.points().map(|(id, committed)| self.summary(id, committed)).collect();
        let mut reads = stream::iter(reads).buffer_unordered(SMALL_READS);
        let mut points = Vec::new();
        while let Some(read) = reads.next().await {
            match read {
                Ok(point) => points.push(point),
                Err(error) if error.kind() == ErrorKind::Integrity => damaged.push(error),
                Err(error) => return Err(error),
            }
        }
        drop(reads);
        points.sort_by_key(StoredPoint::age);
        Ok((points, damaged))
    }

    /// The point as the folded state describes it, or else as it is stored.
    pub(super) async fn summary(&self, id: &RestorePointId, committed: &Committed) -> Result<StoredPoint> {
        match &committed.summary {
            Some(record) => Ok(StoredPoint { record: record.clone(), hash: committed.point, origin: committed.origin }),
            None => self.stored_point(id, committed).await,
        }
    }

    pub(super) async fn stored_point(&self, id: &RestorePointId, committed: &Committed) -> Result<StoredPoint> {
        let key = point_key(id)?;
        let record = self.objects().get_record::<PointRecord>(&key, ObjectType::Point).await;
        let record = record.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                Error::integrity("A restore point that was committed is missing").with_context("object", &key)
            }
            _ => error,
        })?;
        let genuine = record.hash == committed.point
            && record.signer == committed.origin
            && record.body.session == *id.as_bytes();
        if !genuine {
            return Err(Error::integrity("A restore point is not the one that its session committed")
                .with_context("object", key));
        }
        Ok(StoredPoint { record: record.body, hash: record.hash, origin: record.signer })
    }

    /// The index over the packs of those origins that `wanted` picks, dead ones left out.
    pub(super) async fn index(&self, state: &State, wanted: impl Fn(&SignerId) -> bool) -> Result<Index> {
        let segments = state.segments();
        let wanted: Vec<_> = segments.iter().filter(|segment| wanted(&segment.origin)).map(|base| base.id).collect();
        let mut index = Index::new(INDEX_CACHE_BYTES).without(state.dead_packs());
        self.segments(&wanted).await?.into_iter().for_each(|segment| index.push(segment));
        Ok(index)
    }

    /// Opens index segments, in this order. Their sizes come from a list when they are many: one request for a thousand.
    pub(super) async fn segments(&self, ids: &[SegmentId]) -> Result<Vec<Arc<Segment>>> {
        let sizes = if ids.len() > MANY_SEGMENTS { self.segment_sizes().await? } else { HashMap::new() };
        let opens: Vec<_> = ids
            .iter()
            .map(|id| {
                let size = sizes.get(id).copied();
                async move {
                    match size {
                        Some(size) => self.segment_of(id, size).await.map(Arc::new),
                        // A list may lag behind.
                        None => self.segment(id).await.map(Arc::new),
                    }
                }
            })
            .collect();
        stream::iter(opens).buffered(SMALL_READS).try_collect().await
    }

    async fn segment_sizes(&self) -> Result<HashMap<SegmentId, u64>> {
        let folder = ObjectKey::new("index")?;
        let listed = self.backend().list(Some(&folder));
        let sizes = listed
            .try_filter_map(|meta| async move { Ok(SegmentId::from_hex(meta.key.name()).map(|id| (id, meta.size))) });
        sizes.try_collect().await
    }

    /// Opens one index segment.
    pub(super) async fn segment(&self, id: &SegmentId) -> Result<Segment> {
        let key = super::write::segment_key(id)?;
        let size = self.backend().head(&key).await.map_err(lost_segment).context("object", &key)?.size;
        self.segment_of(id, size).await
    }

    /// Opens an index segment of this size.
    async fn segment_of(&self, id: &SegmentId, size: u64) -> Result<Segment> {
        let key = super::write::segment_key(id)?;
        let bytes = Arc::new(StoredSegment { repository: self.clone(), key: key.clone(), len: size });
        self.open_segment(id, bytes).await.map_err(lost_segment).context("object", key)
    }

    /// An index segment that was put just now: nothing of it has to be read back to open it.
    pub(super) async fn own_segment(&self, sealed: &SealedSegment) -> Result<Segment> {
        let key = super::write::segment_key(&sealed.id)?;
        let len = sealed.bytes.len() as u64;
        let opened = self.open_segment(&sealed.id, Arc::new(AtHand(sealed.bytes.clone()))).await?;
        Ok(opened.reading(Arc::new(StoredSegment { repository: self.clone(), key, len })))
    }

    async fn open_segment(&self, id: &SegmentId, bytes: Arc<dyn SegmentBytes>) -> Result<Segment> {
        let keyring = self.objects().keyring();
        let cipher = |trailer: &Trailer| {
            let unknown = |_| Error::integrity("An index segment names an unknown key epoch: it is damaged");
            super::write::SegmentCipher::of(keyring, trailer.epoch, trailer.salt).map_err(unknown)
        };
        Segment::open(*id, bytes, &cipher).await
    }
}

fn lost_segment(error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::integrity("An index segment is missing: run `check`"),
        ErrorKind::InvalidInput => Error::integrity("An index segment is cut off: run `check`").with_source(error),
        _ => error,
    }
}

fn not_found(state: &State) -> Error {
    match state.points().count() {
        0 => Error::not_found("The repository has no restore points yet: make one with `backup`"),
        _ => Error::not_found("No such restore point: `points` lists what there is"),
    }
}

struct StoredSegment {
    repository: Repository,
    key: ObjectKey,
    len: u64,
}

#[async_trait]
impl SegmentBytes for StoredSegment {
    async fn read(&self, range: std::ops::Range<u64>) -> Result<Bytes> {
        self.repository.backend().get_range(&self.key, range).await
    }

    fn len(&self) -> u64 {
        self.len
    }
}

/// A segment object that is in memory.
struct AtHand(Bytes);

#[async_trait]
impl SegmentBytes for AtHand {
    async fn read(&self, range: std::ops::Range<u64>) -> Result<Bytes> {
        Ok(self.0.slice(range.start as usize..range.end as usize))
    }

    fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read_as_the_manual_says() {
        let web = || WorkloadId::new("web@01").unwrap();
        assert_eq!("latest".parse::<PointSelector>().unwrap(), PointSelector::Latest(None));
        assert_eq!("web@01@latest".parse::<PointSelector>().unwrap(), PointSelector::Latest(Some(web())));
        assert_eq!("AB12".parse::<PointSelector>().unwrap(), PointSelector::Id("ab12".into()));
        let at = |text: &str| match text.parse::<PointSelector>().unwrap() {
            PointSelector::At(_, time) => time.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(at("web@2026-11-20T10:00"), "2026-11-20T10:00:59.999999999Z");
        assert_eq!(at("web@2026-11-20"), "2026-11-20T23:59:59.999999999Z");
        assert_eq!(at("web@2026-11-20T10:00:00+01:00"), "2026-11-20T09:00:00.000000000Z");
        for bad in ["", "abc", "xyz1", "web@", "web@soon", "@latest"] {
            assert!(bad.parse::<PointSelector>().is_err(), "{bad}");
        }
    }
}
