//! The end of a write: index, point, outcome, in this order.

use backstay_core::{Consistency, Error, ErrorKind, RestorePoint, Result, Retry};

use super::WriteSession;
use crate::repository::{
    crypto::ObjectType,
    format::{
        point::PointRecord,
        session::{Commit, Outcome, SessionOutcome},
    },
    points::StoredPoint,
    state::{Chain, point_key, session_key},
};

/// What is known of a point only when everything has been read.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct PointDetails {
    /// How consistent the capture was.
    pub consistency: Consistency,
}

impl PointDetails {
    /// Sets [`Self::consistency`].
    #[must_use]
    pub const fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }
}

impl WriteSession {
    /// Makes the point exist. When this returns it is durable, and every reader sees it.
    pub async fn commit(self, details: PointDetails) -> Result<RestorePoint> {
        let put = match self.prepare(&details).await {
            Ok((point, outcome)) => {
                // From here on nobody can say that it failed without looking: it is not settled as aborted.
                return self.settle(point, outcome).await;
            }
            Err(error) => error,
        };
        self.abort().await;
        Err(put)
    }

    /// Everything but the outcome.
    async fn prepare(&self, details: &PointDetails) -> Result<(StoredPoint, SessionOutcome)> {
        if self.broken {
            return Err(Error::conflict(
                "A write of this session failed, so that it cannot be committed; begin another one",
            ));
        }
        let objects = self.repository.objects();
        let written = self.store.finish().await?;
        self.ctx.check()?;
        let record = self.record(details)?;
        let hash = objects.put_record(&point_key(&self.id)?, ObjectType::Point, &record, &self.ctx).await?;
        self.ctx.check()?;
        let commit =
            Commit { point: hash, packs: written.packs, segments: written.segments, meta_packs: written.meta_packs };
        let outcome = SessionOutcome {
            session: *self.id.as_bytes(),
            token: self.ctx.random()?,
            outcome: Outcome::Commit(commit),
        };
        let origin =
            objects.keyring().bundle().signer().ok_or_else(|| Error::internal("A session without a signer"))?;
        Ok((StoredPoint { record, hash, origin }, outcome))
    }

    /// Puts the outcome and looks whether it counts.
    async fn settle(self, point: StoredPoint, outcome: SessionOutcome) -> Result<RestorePoint> {
        let objects = self.repository.objects();
        let key = session_key(&self.id, "outcome")?;
        let unsure = |error: Error| match error.kind() {
            ErrorKind::Unavailable => Error::unavailable(
                "The store went away at the very end: the restore point may exist or not; look with `points`",
            )
            .with_source(error),
            _ => error,
        };
        let mut put = objects.put_record(&key, ObjectType::SessionOutcome, &outcome, &self.ctx).await.map(drop);
        if put.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable) {
            put = self.resolve(&outcome, put).await;
        }
        put.map_err(|error| match error.kind() {
            ErrorKind::Conflict if error.retry() == Retry::Never => {
                Error::conflict("The backup was ended by a collector because it seemed dead: run it again")
            }
            _ => unsure(error),
        })?;
        if Chain::moved_past(objects, self.generation).await.map_err(unsure)? {
            // A collector may have declared the session void in between; whoever cannot read that record must not claim success.
            Chain::load(objects, &self.repository.config().owner).await.map_err(unsure)?;
        }
        point.describe()
    }

    /// After a put of which nobody knows whether it happened: puts `Aborted` in its place, so that one of the two is there, and
    /// looks which.
    async fn resolve(&self, ours: &SessionOutcome, put: Result<()>) -> Result<()> {
        let objects = self.repository.objects();
        let key = session_key(&self.id, "outcome")?;
        let aborted =
            SessionOutcome { session: *self.id.as_bytes(), token: self.ctx.random()?, outcome: Outcome::Aborted };
        let gave_up = objects.put_record(&key, ObjectType::SessionOutcome, &aborted, &self.ctx).await;
        match objects.get_record::<SessionOutcome>(&key, ObjectType::SessionOutcome).await {
            Ok(there) if there.body == *ours => Ok(()),
            // It is certain now that nothing came of it: the first error says why.
            Ok(there) if there.body == aborted => put.map_err(|error| {
                Error::new(ErrorKind::Unavailable, "The backup could not be committed and was given up")
                    .with_source(error)
            }),
            _ => gave_up.and(put),
        }
    }

    fn record(&self, details: &PointDetails) -> Result<PointRecord> {
        Ok(PointRecord {
            session: *self.id.as_bytes(),
            generation: self.generation,
            workload: self.workload.id.to_string(),
            kind: self.workload.kind.clone(),
            platform: self.workload.platform.clone(),
            sequence: self.sequence,
            previous: self.previous,
            parent: self.parent.as_ref().map(|parent| parent.record.session.to_vec().into()),
            time: self.time.as_nanos(),
            consistency: match details.consistency {
                Consistency::Crash => 0,
                Consistency::Filesystem => 1,
                Consistency::Application => 2,
            },
            labels: self.options.labels.clone(),
            disks: self.disks.clone(),
            streams: self.streams.clone(),
            attachments: self.attachments.clone(),
            read_bytes: self.disks.iter().map(|disk| disk.read_bytes).sum::<u64>()
                + self.streams.iter().map(|stream| stream.size).sum::<u64>(),
            stored_bytes: self.store.stored_bytes(),
            mark: self.ctx.random()?,
        })
    }
}
