//! The collector: condemn, wait, verdict, sweep. `docs/concurrency.md` has the rules and why they hold.

mod condemn;
mod live;
mod mark;
mod merge;
mod repack;
mod survey;
mod sweep;
mod verdict;
mod waiting;

use std::time::Duration;

use backstay_core::{Context, Error, RestorePointId, Result};
use serde::Serialize;

use condemn::Condemned;
pub(super) use repack::{Copied, CopyWriter, put_segments};

use super::{
    Repository,
    chain::Chain,
    mutation::{self, Mutation},
    state::State,
    view::may_be_stale,
};

/// How often a prune starts over because somebody else was faster.
const ATTEMPTS: usize = 16;

/// How to prune.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PruneOptions {
    /// How much of all packs may be dead, in per cent, before live frames are copied out of some.
    pub max_unused_percent: u8,
    /// Copy at most this many bytes of live frames.
    pub max_repack_bytes: Option<u64>,
    /// A session without progress for this long is ended.
    pub stale_after: Duration,
    /// Only find out what would be done.
    pub dry_run: bool,
}

impl Default for PruneOptions {
    /// At most 10 per cent dead, no bound on copies, a day of patience.
    fn default() -> Self {
        Self {
            max_unused_percent: 10,
            max_repack_bytes: None,
            stale_after: Duration::from_secs(24 * 3600),
            dry_run: false,
        }
    }
}

impl PruneOptions {
    /// Sets [`Self::max_unused_percent`].
    #[must_use]
    pub const fn max_unused_percent(mut self, percent: u8) -> Self {
        self.max_unused_percent = percent;
        self
    }

    /// Sets [`Self::max_repack_bytes`].
    #[must_use]
    pub const fn max_repack_bytes(mut self, bytes: Option<u64>) -> Self {
        self.max_repack_bytes = bytes;
        self
    }

    /// Sets [`Self::stale_after`].
    #[must_use]
    pub const fn stale_after(mut self, stale_after: Duration) -> Self {
        self.stale_after = stale_after;
        self
    }

    /// Sets [`Self::dry_run`].
    #[must_use]
    pub const fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }
}

/// A session that a generation waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WaitingSession {
    /// Which.
    pub id: RestorePointId,
    /// Whose point it writes.
    pub workload: Option<String>,
    /// Checkpoints that it has put.
    pub checkpoints: u64,
}

/// What a prune found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PruneReport {
    /// Bytes of all packs before.
    pub pack_bytes: u64,
    /// Bytes of these that restore points need.
    pub live_bytes: u64,
    /// Packs with nothing that is needed.
    pub unused_packs: u64,
    /// Bytes of those.
    pub unused_bytes: u64,
    /// Packs that no session vouches for: the rest of what was interrupted.
    pub unknown_packs: u64,
    /// Bytes of those.
    pub unknown_bytes: u64,
    /// Packs out of which live frames are copied.
    pub repacked_packs: u64,
    /// Bytes of those packs.
    pub repacked_bytes: u64,
    /// Bytes of the frames copied.
    pub copied_bytes: u64,
    /// Packs condemned by this run; they go now or, when sessions are waited for, with a later run.
    pub condemned_packs: u64,
    /// Packs that a verdict has let go of again because something needs them.
    pub released_packs: u64,
    /// Packs deleted.
    pub deleted_packs: u64,
    /// Bytes of all objects deleted.
    pub reclaimed_bytes: u64,
    /// Objects that the store keeps for now because they are locked.
    pub locked_objects: u64,
    /// Points whose records went.
    pub removed_points: u64,
    /// Index segments that were merged into fewer.
    pub merged_segments: u64,
    /// Sessions that were ended because they made no progress.
    pub fenced_sessions: Vec<RestorePointId>,
    /// Sessions that the open generation waits for.
    pub waiting_for: Vec<WaitingSession>,
}

impl Repository {
    /// Deletes what no restore point needs, as far as that is safe now.
    ///
    /// Backups and restores go on meanwhile. What a running session may still use is condemned and goes with a later run.
    /// `PermissionDenied` for a key that may not; `Integrity`, with nothing deleted, when something that must be known
    /// cannot be read.
    pub async fn prune(&self, options: &PruneOptions, ctx: &Context) -> Result<PruneReport> {
        if !self.capability().may_collect() {
            return Err(Error::permission_denied(format!(
                "A {} key cannot prune; open the repository with a keeper's or the owner's",
                self.capability().name()
            )));
        }
        if options.max_unused_percent > 100 {
            return Err(Error::invalid_input("At most 100 per cent can be unused"));
        }
        let mut report = PruneReport::default();
        let task = ctx.task("prune", None);
        let ctx = &ctx.clone().within(&task);
        for _ in 0..ATTEMPTS {
            ctx.check()?;
            let leftovers = self.leftovers().await?;
            let state = self.state().await?;
            let head = state.chain.head;
            match self.prune_once(state, leftovers, options, &mut report, ctx).await {
                Ok(true) => return Ok(report),
                Ok(false) => {}
                // Another collector has taken away what this one was looking at.
                Err(error) if may_be_stale(&error) && Chain::moved_past(self.objects(), head).await? => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::conflict("Others change the repository faster than it can be pruned; try again").retryable())
    }

    /// One step after the other until something is in the way. `false`: begin again.
    async fn prune_once(
        &self,
        state: State,
        leftovers: sweep::Leftovers,
        options: &PruneOptions,
        report: &mut PruneReport,
        ctx: &Context,
    ) -> Result<bool> {
        if let Some((session, error)) = state.unreadable.first() {
            let error = Error::new(error.kind(), error.message().to_owned());
            return Err(error
                .with_context("session", session)
                .with_context("next", "run `check`; nothing was deleted"));
        }
        if !options.dry_run {
            self.sweep(&state, leftovers, report, ctx).await?;
        }
        let open = state.chain.folded.open.is_some() || state.chain.keys_unsettled();
        if open && !mutation::is(Mutation::TwoGenerations) {
            if options.dry_run {
                self.waiting(&state, options, report, ctx).await?;
                return Ok(true);
            }
            // When that is done, there may be more to go.
            return Ok(!self.finish_generation(state, None, options, report, ctx).await?);
        }
        match self.condemn(state, options, report, ctx).await? {
            Condemned::Nothing => Ok(true),
            Condemned::Overtaken => Ok(false),
            Condemned::Opened(mark) => {
                let state = self.state().await?;
                self.finish_generation(state, Some(mark), options, report, ctx).await?;
                Ok(true)
            }
        }
    }
}
