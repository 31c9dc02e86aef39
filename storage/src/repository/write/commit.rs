//! The end of a write: index, point, outcome, in this order.

use backstay_core::{Consistency, Context, Error, ErrorKind, PutMode, RestorePoint, RestorePointId, Result, Retry};

use super::{WriteSession, store::Written};
use crate::repository::{
    chain::Chain,
    crypto::ObjectType,
    format::{
        point::PointRecord,
        session::{Commit, Outcome, SessionOutcome},
    },
    mutation::{self, Mutation},
    objects::{Objects, SignedBy, object_hash},
    points::StoredPoint,
    state::{point_key, session_key},
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
        let prepared = match self.prepare(&details).await {
            Err(error) => Err(self.explain(error).await),
            prepared => prepared,
        };
        let put = match prepared {
            Ok((point, outcome)) => {
                // From here on nobody can say that it failed without looking: it is not settled as aborted.
                return self.settle(point, outcome).await;
            }
            Err(error) => error,
        };
        let another = put.kind() == ErrorKind::Conflict && put.retry() == Retry::Never;
        if another && !self.broken {
            // Somebody else works on this session, as a clone of this machine would. The outcome is theirs to put.
            return Err(Error::conflict("Another run of this backup has put its restore point: this one ends here")
                .with_source(put));
        }
        self.abort().await;
        Err(put)
    }

    /// Everything but the outcome.
    /// A failure that says who put the point: another incarnation of this session may be about to commit, so it is not settled here.
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
        let key = point_key(&self.id)?;
        let object = objects.seal_record(&key, ObjectType::Point, &record, SignedBy::Own, &self.ctx)?;
        let hash = object_hash(&object);
        self.checkpoints.last(&written, hash, objects, &self.ctx).await?;
        let put = objects.put_new(&key, object.into(), &self.ctx).await;
        if !mutation::is(Mutation::OneToken) {
            put?;
        }
        self.ctx.check()?;
        let Written { packs, meta_packs, segments } = written;
        let commit = Commit { point: Some(hash), packs, segments, meta_packs, origin: None };
        let token = if mutation::is(Mutation::OneToken) { *self.id.as_bytes() } else { self.ctx.random()? };
        let outcome = SessionOutcome {
            session: *self.id.as_bytes(),
            token,
            outcome: Outcome::Commit(commit),
            generation: self.generation,
        };
        let origin =
            objects.keyring().bundle().signer().ok_or_else(|| Error::internal("A session without a signer"))?;
        Ok((StoredPoint { record, hash, origin }, outcome))
    }

    /// Puts the outcome and looks whether it counts.
    async fn settle(self, point: StoredPoint, outcome: SessionOutcome) -> Result<RestorePoint> {
        let objects = self.repository.objects();
        let unsure = |error: Error| match error.kind() {
            ErrorKind::Unavailable => Error::unavailable(
                "The store went away at the very end: the restore point may exist or not; look with `points`",
            )
            .with_source(error),
            _ => error,
        };
        let mut put = put_outcome(objects, &self.id, &outcome, &self.ctx).await;
        if put.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable) {
            put = self.resolve(&outcome, put).await;
        }
        put.map_err(|error| match error.kind() {
            ErrorKind::Conflict if error.retry() == Retry::Never => Error::conflict(
                "The backup was ended by a collector because it seemed dead, or by another run of it: run it again",
            ),
            _ => unsure(error),
        })?;
        if Chain::moved_past(objects, self.generation).await.map_err(unsure)? {
            // A collector may have settled the session without its commit; whoever cannot read that must not claim success.
            let chain = Chain::load(objects, &self.repository.config().owner).await.map_err(unsure)?;
            let known = chain.folded.settled.iter().any(|settled| settled.session == *self.id.as_bytes());
            if self.generation < chain.folded.floor && !known {
                return Err(Error::conflict(
                    "The backup took so long that it was given up before it was committed: run it again",
                ));
            }
        }
        point.describe()
    }

    /// After a put of which nobody knows whether it happened: puts `Aborted` in its place, so that one of the two is there, and
    /// looks which.
    async fn resolve(&self, ours: &SessionOutcome, put: Result<()>) -> Result<()> {
        let objects = self.repository.objects();
        let key = session_key(&self.id, "outcome")?;
        let aborted = SessionOutcome {
            session: *self.id.as_bytes(),
            token: self.ctx.random()?,
            outcome: Outcome::Aborted,
            generation: self.generation,
        };
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
            provenance: self.options.copy.as_ref().map(|copy| copy.provenance.clone()),
            rank: Some(self.rank),
        })
    }
}

/// Puts an outcome. Of several for one session exactly one wins, whoever puts them; `Conflict` for the others.
pub(in crate::repository) async fn put_outcome(
    objects: &Objects,
    id: &RestorePointId,
    outcome: &SessionOutcome,
    ctx: &Context,
) -> Result<()> {
    let key = session_key(id, "outcome")?;
    if mutation::is(Mutation::OverwriteOutcome) {
        let object = objects.seal_record(&key, ObjectType::SessionOutcome, outcome, SignedBy::Own, ctx)?;
        return objects.backend().put(&key, object.into(), PutMode::Replace).await;
    }
    let put = objects.put_record(&key, ObjectType::SessionOutcome, outcome, ctx).await.map(drop);
    if mutation::is(Mutation::OneToken) && put.is_err() {
        let there = objects.get_record::<SessionOutcome>(&key, ObjectType::SessionOutcome).await?;
        return if there.body.token == outcome.token { Ok(()) } else { put };
    }
    put
}
