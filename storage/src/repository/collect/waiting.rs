//! Sessions that a generation has to wait for, and those that nobody needs to wait for any more.

use backstay_core::{Context, Error, ErrorKind, RestorePointId, Result, Retry};

use super::{PruneOptions, PruneReport, WaitingSession};
use crate::repository::{
    Repository,
    crypto::ObjectType,
    format::session::{Outcome, Purpose, SessionOpen, SessionOutcome, SessionSeen},
    ids::SignerId,
    state::{SessionParts, State, session_key},
    write::put_outcome,
};

/// What is left to wait for, and what readers hold.
#[derive(Default)]
pub struct Waiting {
    /// Sessions without an outcome that saw a head before the generation.
    pub sessions: usize,
    /// Some were ended just now: the state has to be read again.
    pub fenced: usize,
    /// Points that readers hold open.
    pub held: Vec<RestorePointId>,
}

impl Repository {
    /// The sessions that saw a head before the open generation and have no outcome. Those without progress are fenced.
    pub(super) async fn waiting(
        &self,
        state: &State,
        options: &PruneOptions,
        report: &mut PruneReport,
        ctx: &Context,
    ) -> Result<Waiting> {
        let number = state.opened_by();
        let mut waiting = Waiting::default();
        report.waiting_for.clear();
        for (id, parts) in state.unsettled() {
            ctx.check()?;
            let Some((open, signer)) = self.opened(id).await? else { continue };
            // A reader ends itself or is fenced, whatever the floor: what it holds stays until then.
            let reads = open.purpose == Purpose::Read;
            if !reads && (open.generation >= number || open.generation < state.chain.folded.floor) {
                continue;
            }
            // Nobody who left the roster and is settled can commit any more.
            let hopeless = !state.chain.may_end(&signer, open.generation, |_| true);
            if !options.dry_run && (hopeless || self.is_stale(id, parts, options, ctx).await?) {
                if self.fence(id, &open, ctx).await? {
                    report.fenced_sessions.push(*id);
                }
                waiting.fenced += 1;
                continue;
            }
            if reads {
                waiting.held.extend(open.holds.iter().map(|name| RestorePointId::from_bytes(name.0)));
                continue;
            }
            waiting.sessions += 1;
            let checkpoints = parts.checkpoints;
            report.waiting_for.push(WaitingSession { id: *id, workload: open.workload, checkpoints });
        }
        Ok(waiting)
    }

    /// The opening of a session; `None` when it went meanwhile.
    async fn opened(&self, id: &RestorePointId) -> Result<Option<(SessionOpen, SignerId)>> {
        match self.session_open(id).await {
            Ok(open) => Ok(Some(open)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == ErrorKind::Integrity => Err(error.with_context(
                "next",
                "nobody knows what this session may use, so nothing is deleted; remove the object if it is no session",
            )),
            Err(error) => Err(error),
        }
    }

    /// Whether this collector has seen the session exactly that far before, long enough ago. Else it writes down that it sees it now.
    async fn is_stale(
        &self,
        id: &RestorePointId,
        parts: &SessionParts,
        options: &PruneOptions,
        ctx: &Context,
    ) -> Result<bool> {
        if options.stale_after.is_zero() {
            return Ok(true);
        }
        let own = self.objects().keyring().bundle().signer();
        let own = own.ok_or_else(|| Error::internal("A collector without a signer"))?;
        let part = format!("seen-{}-{}", &own.to_hex()[..16], parts.checkpoints);
        let key = session_key(id, &part)?;
        if parts.keys.contains(&key) {
            let seen = self.objects().get_record::<SessionSeen>(&key, ObjectType::SessionSeen).await;
            return match seen {
                Ok(seen) if seen.signer == own => {
                    let waited = i128::from(ctx.now().as_nanos()) - i128::from(seen.body.time);
                    Ok(waited >= options.stale_after.as_nanos() as i128)
                }
                // Whatever it is, it says nothing: wait.
                Ok(_) => Ok(false),
                Err(error) if matches!(error.kind(), ErrorKind::Integrity | ErrorKind::NotFound) => Ok(false),
                Err(error) => Err(error),
            };
        }
        let (session, checkpoints) = (*id.as_bytes(), parts.checkpoints);
        let seen = SessionSeen { session, checkpoints, time: ctx.now().as_nanos() };
        match self.objects().put_record(&key, ObjectType::SessionSeen, &seen, ctx).await {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::Conflict && error.retry() == Retry::Never => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Ends a session; `false` when it has ended itself meanwhile.
    async fn fence(&self, id: &RestorePointId, open: &SessionOpen, ctx: &Context) -> Result<bool> {
        let outcome = SessionOutcome {
            session: *id.as_bytes(),
            token: ctx.random()?,
            outcome: Outcome::Fenced,
            generation: open.generation,
        };
        match put_outcome(self.objects(), id, &outcome, ctx).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict && error.retry() == Retry::Never => Ok(false),
            Err(error) => Err(error),
        }
    }
}
