//! The end of a write: index, point, outcome, in this order.

use backstay_core::{Consistency, Error, ErrorKind, RestorePoint, Result};

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
        let committed = self.try_commit(details).await;
        match committed {
            Ok(point) => Ok(point),
            // After a reply that was lost for good the outcome may be there: settling as aborted would only fail.
            Err(error) => {
                self.abort().await;
                Err(error)
            }
        }
    }

    async fn try_commit(&self, details: PointDetails) -> Result<RestorePoint> {
        let objects = self.repository.objects();
        let written = self.store.finish().await?;
        self.ctx.check()?;
        let record = self.record(&details)?;
        let point = objects.put_record(&point_key(&self.id)?, ObjectType::Point, &record, &self.ctx).await?;
        self.ctx.check()?;
        let commit = Commit { point, packs: written.packs, segments: written.segments, meta_packs: written.meta_packs };
        let outcome = SessionOutcome {
            session: *self.id.as_bytes(),
            token: self.ctx.random()?,
            outcome: Outcome::Commit(commit),
        };
        let key = session_key(&self.id, "outcome")?;
        let put = objects.put_record(&key, ObjectType::SessionOutcome, &outcome, &self.ctx).await;
        put.map_err(|error| match error.kind() {
            ErrorKind::Conflict => {
                Error::conflict("The backup was ended by a collector because it seemed dead: run it again")
            }
            _ => error,
        })?;
        if Chain::moved_past(objects, self.generation).await? {
            // A collector may have declared the session void in between; whoever cannot read that record must not claim success.
            Chain::load(objects, &self.repository.config().owner).await?;
        }
        let origin =
            objects.keyring().bundle().signer().ok_or_else(|| Error::internal("A session without a signer"))?;
        StoredPoint { record, hash: point, origin }.describe()
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
