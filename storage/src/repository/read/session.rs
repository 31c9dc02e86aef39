//! Holding restore points open: a collector keeps what they need, even when they are forgotten meanwhile.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use backstay_core::{Context, Error, ErrorKind, RestorePointId, Result};

use crate::repository::{
    Repository,
    crypto::ObjectType,
    format::session::{Purpose, SessionCheckpoint},
    state::session_key,
    write::{OpenedSession, settle_aborted},
};

/// How often a read session shows that it is alive.
const RENEWED_EVERY: Duration = Duration::from_secs(300);

/// Points that are held open until [`Self::close`]. Dropping it leaves them held until a collector finds that nobody renews it.
pub struct ReadSession {
    repository: Repository,
    id: RestorePointId,
    generation: u64,
    renewals: AtomicU64,
    ctx: Context,
}

impl Repository {
    /// Holds points open. `None` when this key or its access to the store does not allow to say so: reading works all the same, as long
    /// as nobody forgets and prunes the points. `NotFound`: one of them is not there, or was just forgotten.
    pub async fn read_session(&self, points: &[RestorePointId], ctx: &Context) -> Result<Option<ReadSession>> {
        if self.objects().keyring().bundle().signer().is_none() {
            return Ok(None);
        }
        let opened = match self.open_session(Purpose::Read, None, points, ctx).await {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(None),
            opened => opened?,
        };
        let OpenedSession { id, generation, state, .. } = opened;
        // Only now: what is there after the session was opened stays.
        let missing = points.iter().find(|point| state.points().all(|(id, _)| id != *point));
        if let Some(point) = missing {
            settle_aborted(self, &id, generation, ctx).await;
            return Err(Error::not_found("There is no such restore point, or it was just forgotten")
                .with_context("point", point));
        }
        let renewals = AtomicU64::new(0);
        Ok(Some(ReadSession { repository: self.clone(), id, generation, renewals, ctx: ctx.clone() }))
    }
}

impl ReadSession {
    /// Runs `work` and keeps the session alive meanwhile.
    pub async fn during<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(RENEWED_EVERY, &mut work).await {
                Ok(done) => return done,
                Err(_) => self.renew().await,
            }
        }
    }

    /// Lets go of the points.
    pub async fn close(self) {
        settle_aborted(&self.repository, &self.id, self.generation, &self.ctx).await;
    }

    /// One that fails is made up for by the next: collectors have patience for hundreds.
    async fn renew(&self) {
        let number = self.renewals.fetch_add(1, Ordering::Relaxed);
        let renew = async {
            let checkpoint = SessionCheckpoint {
                session: *self.id.as_bytes(),
                packs: Vec::new(),
                segments: Vec::new(),
                meta_packs: Vec::new(),
                point: None,
            };
            let key = session_key(&self.id, &format!("checkpoint-{number}"))?;
            let objects = self.repository.objects();
            objects.put_record(&key, ObjectType::SessionCheckpoint, &checkpoint, &self.ctx).await
        };
        if let Err(error) = renew.await {
            self.ctx
                .task("hold open", None)
                .warn(format!("That the restore still runs could not be written down: {error}"));
        }
    }
}
