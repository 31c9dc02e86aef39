//! Which points there are to copy, and which are there already: told by provenance, never by time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use backstay_core::{Error, RestorePoint, RestorePointId, Result};

use super::{Base, Replication, Source};
use crate::repository::{
    Repository,
    format::point::{AttachmentEntry, DiskEntry, PointRecord, StreamEntry},
    ids::SignerId,
    points::{PointSelector, StoredPoint},
};

/// What becomes of a point of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointState {
    /// It is to be copied.
    Missing,
    /// The target has it already, as this point.
    Present(RestorePointId),
    /// It is itself a copy of this point of the target.
    Returned(RestorePointId),
}

/// A point of the source.
#[derive(Clone, Debug)]
pub struct PlannedPoint {
    /// The point, as the source has it.
    pub point: RestorePoint,
    /// Whether the target has it.
    pub state: PointState,
    pub(super) stored: StoredPoint,
}

impl Repository {
    /// Finds out what copying the restore points of `source` into this repository takes. Writes nothing. No selectors: all points.
    ///
    /// `PermissionDenied` when the source's key reads no content or this repository's key writes nothing.
    pub async fn plan_replication(&self, source: &Self, selectors: &[PointSelector]) -> Result<Replication> {
        check_keys(source, self)?;
        let here = self.state().await?;
        // A damaged point of the target is no copy of anything; the sessions that copy say that it is damaged.
        let (here, _) = self.readable_points(&here).await?;
        let state = source.state().await?;
        let (all, damaged) = source.readable_points(&state).await?;
        let (wanted, damaged) = match selectors {
            [] => (None, damaged),
            // Whoever names points does not want to hear of others.
            selectors => {
                let mut wanted = BTreeSet::new();
                for selector in selectors {
                    wanted.insert(source.select(&state, selector).await?.id());
                }
                (Some(wanted), Vec::new())
            }
        };
        let known = Known::new(self, source, &here)?;
        let (mut points, mut bases, mut doubts) = (Vec::new(), BTreeMap::new(), Vec::new());
        for stored in all {
            let found = known.find(&stored, &mut doubts);
            if let PointState::Present(copy) | PointState::Returned(copy) = found
                && known.own(&copy)
            {
                bases.insert(stored.id(), Base { stored: stored.clone(), copy });
            }
            if wanted.as_ref().is_none_or(|wanted| wanted.contains(&stored.id())) {
                points.push(PlannedPoint { point: stored.describe()?, state: found, stored });
            }
        }
        let source = Source::read(source, &state).await?;
        Ok(Replication { target: self.clone(), source, points, damaged, doubts, bases })
    }
}

fn check_keys(source: &Repository, target: &Repository) -> Result<()> {
    let (reads, writes) = (source.capability(), target.capability());
    if !reads.may_read() {
        return Err(Error::permission_denied(format!(
            "A {} key cannot read content; open the source with a reader's or the owner's",
            reads.name()
        ))
        .with_context("source", source.location()));
    }
    if !writes.may_write() {
        return Err(Error::permission_denied(format!(
            "A {} key cannot store restore points; open the target with a writer's or the owner's",
            writes.name()
        ))
        .with_context("target", target.location()));
    }
    Ok(())
}

/// What the target has, to be found by what it was copied from.
struct Known<'a> {
    source: [u8; 16],
    target: [u8; 16],
    signer: SignerId,
    by_id: HashMap<[u8; 16], &'a StoredPoint>,
    copies: HashMap<[u8; 16], Vec<&'a StoredPoint>>,
}

impl<'a> Known<'a> {
    fn new(target: &Repository, source: &Repository, points: &'a [StoredPoint]) -> Result<Self> {
        let signer = target.objects().keyring().bundle().signer();
        let signer = signer.ok_or_else(|| Error::internal("A key that may write signs nothing"))?;
        let source = source.config().repository;
        let mut copies: HashMap<_, Vec<_>> = HashMap::new();
        for point in points {
            // What another writer calls a copy is its word alone: it would keep a point from being copied for good.
            if let Some(from) = point.record.provenance.as_ref().filter(|_| point.origin == signer)
                && from.repository == source
            {
                copies.entry(from.point).or_default().push(point);
            }
        }
        let by_id = points.iter().map(|point| (point.record.session, point)).collect();
        Ok(Self { source, target: target.config().repository, signer, by_id, copies })
    }

    fn own(&self, point: &RestorePointId) -> bool {
        self.by_id.get(point.as_bytes()).is_some_and(|point| point.origin == self.signer)
    }

    fn find(&self, stored: &StoredPoint, doubts: &mut Vec<String>) -> PointState {
        // A clone of the same store has the very same object.
        if let Some(same) = self.by_id.get(&stored.record.session).filter(|_| self.source == self.target)
            && same.hash == stored.hash
        {
            return PointState::Present(same.id());
        }
        if let Some(from) = stored.record.provenance.as_ref().filter(|from| from.repository == self.target)
            && let Some(here) = self.by_id.get(&from.point)
            && here.hash == from.hash
            && alike(&here.record, &stored.record)
        {
            return PointState::Returned(here.id());
        }
        for copy in self.copies.get(&stored.record.session).into_iter().flatten() {
            let of = copy.record.provenance.as_ref().map(|from| from.hash);
            if of == Some(stored.hash) && alike(&copy.record, &stored.record) {
                return PointState::Present(copy.id());
            }
            doubts.push(format!(
                "Point {} of the target says that it is a copy of {} and is not like it: it is not believed",
                copy.id().short(),
                stored.id().short()
            ));
        }
        PointState::Missing
    }
}

/// Whether two points say the same of the workload, its disks and its streams.
fn alike(left: &PointRecord, right: &PointRecord) -> bool {
    let disk = |disk: &DiskEntry| (disk.id.clone(), disk.size);
    let stream = |stream: &StreamEntry| (stream.name.clone(), stream.size);
    let attachment = |it: &AttachmentEntry| (stream(&it.stream), it.media_type.clone());
    left.workload == right.workload
        && left.kind == right.kind
        && left.platform == right.platform
        && left.time == right.time
        && left.consistency == right.consistency
        && left.labels == right.labels
        && left.disks.iter().map(disk).eq(right.disks.iter().map(disk))
        && left.streams.iter().map(stream).eq(right.streams.iter().map(stream))
        && left.attachments.iter().map(attachment).eq(right.attachments.iter().map(attachment))
}
