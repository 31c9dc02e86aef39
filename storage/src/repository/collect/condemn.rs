//! Opening a generation: what may go.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use backstay_core::{Context, Error, ObjectKey, RestorePointId, Result};
use futures::TryStreamExt;

use super::{
    PruneOptions, PruneReport,
    mark::{Mark, Marker, roots},
    survey::{PackUse, Segments, survey},
};
use crate::repository::{
    Repository,
    check::Listing,
    format::chain::{Change, OpenGeneration, SessionName},
    ids::{PackId, SegmentId},
    mutation::{self, Mutation},
    state::State,
};

/// What came of it.
pub enum Condemned {
    /// There is nothing to do.
    Nothing,
    /// Somebody else was faster.
    Overtaken,
    /// A generation is open, and this was needed when it was opened.
    Opened(Mark),
}

/// What may go.
#[derive(Default)]
pub struct Plan {
    pub packs: Vec<PackId>,
    pub segments: Vec<SegmentId>,
}

impl Repository {
    /// Marks, surveys, copies what is worth it, and puts the `condemn`.
    pub(super) async fn condemn(
        &self,
        mut state: State,
        options: &PruneOptions,
        report: &mut PruneReport,
        ctx: &Context,
    ) -> Result<Condemned> {
        // What the mark knows. Whatever is committed or forgotten from here on, the second mark has to look at.
        let name = |id: &RestorePointId| SessionName(*id.as_bytes());
        let committed = state.news.keys().map(name).collect();
        let forgotten = state.forgotten.iter().filter(|id| state.committed.contains_key(id)).map(name).collect();
        let mut segments = Segments::open(self, &state).await?;
        let mark = self.mark_live(&state, &segments, ctx).await?;
        let mut listing = self.list_packs().await?;
        let mut packs = survey(&segments, &mark, ctx).await?;
        self.measure(&state, &packs, &listing, report);
        let chosen = super::repack::choose(&state, &packs, options);
        report.repacked_packs = chosen.len() as u64;
        report.repacked_bytes = chosen.iter().filter_map(|id| packs.get(id)).map(|pack| pack.size).sum();
        if options.dry_run {
            report.copied_bytes = chosen.iter().filter_map(|id| packs.get(id)).map(|pack| pack.live_bytes).sum();
            return Ok(Condemned::Nothing);
        }
        let mut copied = HashSet::new();
        if !chosen.is_empty() {
            let repacked = self.repack(&state, &chosen, &segments, &packs, &mark, report, ctx).await?;
            let Some(done) = repacked else { return Ok(Condemned::Overtaken) };
            copied = done;
            let again = self.state().await?;
            if again.chain.head != state.chain.head {
                return Ok(Condemned::Overtaken);
            }
            state = again;
            segments = Segments::open(self, &state).await?;
            listing = self.list_packs().await?;
            packs = survey(&segments, &mark, ctx).await?;
        }
        let plan = self.plan(&state, &packs, &listing, &copied).await?;
        let to_settle = state.settled.values().any(|generation| *generation >= state.chain.folded.floor);
        if plan.packs.is_empty() && plan.segments.is_empty() && !to_settle && !self.has_forgotten(&state) {
            return Ok(Condemned::Nothing);
        }
        let number = state.chain.head + 1;
        let mut folded = state.chain.folded.clone();
        report.condemned_packs = plan.packs.len() as u64;
        let number = match &folded.open {
            Some(open) if mutation::is(Mutation::TwoGenerations) => open.number,
            _ => number,
        };
        folded.open = Some(OpenGeneration { number, packs: plan.packs, segments: plan.segments, committed, forgotten });
        match state.chain.append(self.objects(), Change::Condemn, Some(&folded), ctx).await? {
            true => Ok(Condemned::Opened(mark)),
            false => Ok(Condemned::Overtaken),
        }
    }

    /// What live points need.
    pub(super) async fn mark_live(&self, state: &State, segments: &Segments, ctx: &Context) -> Result<Mark> {
        let mut mark = Mark::new(segments.chunks(), ctx)?;
        let points: Vec<_> = state.points().map(|(id, _)| *id).collect();
        self.mark_points(&points, state, segments, &mut mark, ctx).await?;
        Ok(mark)
    }

    /// Adds what these points need.
    pub(super) async fn mark_points(
        &self,
        points: &[RestorePointId],
        state: &State,
        segments: &Segments,
        mark: &mut Mark,
        ctx: &Context,
    ) -> Result<()> {
        let task = ctx.task("mark", None);
        let index = Arc::new(segments.index(None, state.dead_packs()));
        let marker = Marker::new(self, index, self.lost_nodes(state).await?, ctx);
        let mut level = Vec::new();
        for id in points {
            let committed = state.committed.get(id);
            let committed = committed.ok_or_else(|| Error::internal("A point that nobody committed is marked"))?;
            level.extend(roots(&self.summary(id, committed).await?.record));
        }
        marker.mark(level, mark, &task).await
    }

    fn has_forgotten(&self, state: &State) -> bool {
        state
            .chain
            .folded
            .settled
            .iter()
            .any(|settled| state.forgotten.contains(&RestorePointId::from_bytes(settled.session)))
    }

    fn measure(&self, state: &State, packs: &HashMap<PackId, PackUse>, listing: &Listing, report: &mut PruneReport) {
        let dead = state.dead_packs();
        report.pack_bytes = listing.values().map(|(_, size)| size).sum();
        let there = || packs.iter().filter(|(id, _)| listing.contains_key(*id) && !dead.contains(*id));
        report.live_bytes = there().map(|(_, pack)| pack.live_bytes).sum();
        let unused: Vec<_> = there().filter(|(_, pack)| pack.live_frames == 0).collect();
        report.unused_packs = unused.len() as u64;
        report.unused_bytes = unused.iter().map(|(_, pack)| pack.size).sum();
        let unknown: Vec<_> = listing.iter().filter(|(id, _)| !packs.contains_key(*id)).collect();
        report.unknown_packs = unknown.len() as u64;
        report.unknown_bytes = unknown.iter().map(|(_, (_, size))| size).sum();
    }

    /// Packs that nothing needs, those whose live frames were copied, and packs and segments that nobody names.
    async fn plan(
        &self,
        state: &State,
        packs: &HashMap<PackId, PackUse>,
        listing: &Listing,
        copied: &HashSet<PackId>,
    ) -> Result<Plan> {
        let dead = state.dead_packs();
        let mut plan = Plan::default();
        let unused = packs.iter().filter(|(id, pack)| pack.live_frames == 0 || copied.contains(*id));
        plan.packs.extend(unused.map(|(id, _)| *id).filter(|id| !dead.contains(id)));
        plan.packs.extend(listing.keys().filter(|id| !packs.contains_key(*id) && !dead.contains(*id)));
        plan.packs.sort_unstable();
        let folded = &state.chain.folded;
        let mut named: HashSet<_> = state.segments().into_iter().map(|base| base.id).collect();
        named.extend(&folded.replaced_segments);
        let folder = ObjectKey::new("index")?;
        let mut objects = self.backend().list(Some(&folder));
        while let Some(meta) = objects.try_next().await? {
            plan.segments.extend(SegmentId::from_hex(meta.key.name()).filter(|id| !named.contains(id)));
        }
        drop(objects);
        plan.segments.sort_unstable();
        Ok(plan)
    }
}
