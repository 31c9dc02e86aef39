//! Taking up an interrupted session: same id, same head, nothing put twice that a checkpoint names.

use backstay_core::{Context, Error, ErrorKind, ObjectKey, RestorePointId, Result, Workload};

use super::{
    checkpoint::Resumed,
    session::{OpenedSession, settle_aborted},
};
use crate::repository::{
    Repository,
    crypto::ObjectType,
    format::{
        point::PointRecord,
        session::{Commit, Outcome, Purpose, SessionCheckpoint, SessionOpen, SessionOutcome},
    },
    ids::SignerId,
    state::{SessionParts, State, point_key, session_key},
};

/// A session that can be taken up.
struct Candidate {
    id: RestorePointId,
    open: SessionOpen,
    parts: SessionParts,
}

impl Repository {
    /// The newest interrupted session of this writer and workload; `None` when there is none worth it.
    pub(super) async fn take_up(&self, workload: &Workload, ctx: &Context) -> Result<Option<OpenedSession>> {
        let own = self.objects().keyring().bundle().signer();
        let own = own.ok_or_else(|| Error::internal("A session without a signer"))?;
        loop {
            ctx.check()?;
            let state = self.state().await?;
            let Some(found) = self.interrupted(&state, workload, &own).await? else { return Ok(None) };
            let (id, generation) = (found.id, found.open.generation);
            let checkpoints = self.checkpoints_of(&found.id, &found.parts, &own).await?;
            let Some(point) = self.point_of(&id, &own).await? else {
                let Some(checkpoint) = checkpoints.last().cloned() else {
                    settle_aborted(self, &id, generation, ctx).await;
                    continue;
                };
                let before = Resumed { checkpoint, next: found.parts.next_checkpoint() };
                return Ok(Some(OpenedSession { id, generation, state, before: Some(before) }));
            };
            // It was interrupted between its point and its outcome. With the list of all that it has put, it is done.
            match checkpoints.into_iter().find(|checkpoint| checkpoint.point == Some(point)) {
                Some(complete) => self.complete(&id, generation, complete, ctx).await?,
                None => settle_aborted(self, &id, generation, ctx).await,
            }
        }
    }

    async fn interrupted(&self, state: &State, workload: &Workload, own: &SignerId) -> Result<Option<Candidate>> {
        let mut newest: Option<Candidate> = None;
        for (id, parts) in state.unsettled().filter(|(_, parts)| parts.checkpoints > 0) {
            let open = match self.session_open(id).await {
                Ok((open, signer)) if signer == *own => open,
                Err(error) if error.kind() != ErrorKind::NotFound && error.kind() != ErrorKind::Integrity => {
                    return Err(error);
                }
                _ => continue,
            };
            let fits = open.purpose == Purpose::Write
                && open.workload.as_deref() == Some(workload.id.as_str())
                && open.generation >= state.chain.folded.floor;
            if fits && newest.as_ref().is_none_or(|newest| newest.open.time < open.time) {
                newest = Some(Candidate { id: *id, open, parts: parts.clone() });
            }
        }
        Ok(newest)
    }

    /// The opening of a session and who signed it.
    pub(in crate::repository) async fn session_open(&self, id: &RestorePointId) -> Result<(SessionOpen, SignerId)> {
        let key = session_key(id, "open")?;
        let record = self.objects().get_record::<SessionOpen>(&key, ObjectType::SessionOpen).await?;
        if record.body.session != *id.as_bytes() {
            return Err(Error::integrity("The opening of a session names another one").with_context("object", key));
        }
        Ok((record.body, record.signer))
    }

    /// What its checkpoints say, oldest first; those that cannot be read are left out, since each stands for itself.
    async fn checkpoints_of(
        &self,
        id: &RestorePointId,
        parts: &SessionParts,
        own: &SignerId,
    ) -> Result<Vec<SessionCheckpoint>> {
        let mut numbered: Vec<(u64, &ObjectKey)> = parts.checkpoint_keys().collect();
        numbered.sort_unstable();
        let mut checkpoints = Vec::new();
        for (_, key) in numbered {
            match self.objects().get_record::<SessionCheckpoint>(key, ObjectType::SessionCheckpoint).await {
                Ok(record) if record.signer == *own && record.body.session == *id.as_bytes() => {
                    checkpoints.push(record.body);
                }
                Err(error) if !matches!(error.kind(), ErrorKind::Integrity | ErrorKind::NotFound) => return Err(error),
                _ => {}
            }
        }
        Ok(checkpoints)
    }

    /// The hash of the point that the session has put, if it has.
    async fn point_of(
        &self,
        id: &RestorePointId,
        own: &SignerId,
    ) -> Result<Option<crate::repository::ids::ObjectHash>> {
        match self.objects().get_record::<PointRecord>(&point_key(id)?, ObjectType::Point).await {
            Ok(record) if record.signer == *own => Ok(Some(record.hash)),
            Ok(_) => Err(Error::integrity("A restore point was put by somebody else under this session's name")),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn complete(
        &self,
        id: &RestorePointId,
        generation: u64,
        checkpoint: SessionCheckpoint,
        ctx: &Context,
    ) -> Result<()> {
        let SessionCheckpoint { packs, segments, meta_packs, point, .. } = checkpoint;
        let commit = Commit { point, packs, segments, meta_packs, origin: None };
        let (session, token, outcome) = (*id.as_bytes(), ctx.random()?, Outcome::Commit(commit));
        let outcome = SessionOutcome { session, token, outcome, generation };
        let key = session_key(id, "outcome")?;
        match self.objects().put_record(&key, ObjectType::SessionOutcome, &outcome, ctx).await {
            Ok(_) => {
                let task = ctx.task("resume", None);
                task.warn(format!(
                    "The interrupted backup {id} was complete: it has been committed, and another one begins"
                ));
                Ok(())
            }
            // It was settled meanwhile.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            Err(error) => Err(error),
        }
    }
}
