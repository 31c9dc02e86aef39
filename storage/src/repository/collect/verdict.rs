//! Closing a generation: what goes, and what is settled.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use backstay_core::{Context, Error, ErrorKind, RestorePointId, Result};

use super::{PruneOptions, PruneReport, mark::Mark, survey::Segments};
use crate::repository::{
    Repository,
    check::Listing,
    format::{
        chain::{BaseSegment, Change, FoldedState, SessionName, SettledSession},
        point::PointRecord,
    },
    ids::{PackId, SegmentId, SignerId},
    index::{Location, Section},
    mutation::{self, Mutation},
    state::State,
};

/// How often the verdict is tried again because the chain moved.
const ATTEMPTS: usize = 16;

/// What a verdict says, and what follows from it.
struct Verdict {
    folded: FoldedState,
    dead_packs: Vec<PackId>,
    dead_segments: Vec<SegmentId>,
    removed: Vec<RestorePointId>,
    released: u64,
    merged: u64,
}

impl Repository {
    /// Waits, marks again, puts the verdict and deletes. `false`: sessions are waited for. `mark` is what was needed when this very
    /// run opened the generation.
    pub(super) async fn finish_generation(
        &self,
        mut state: State,
        mut mark: Option<Mark>,
        options: &PruneOptions,
        report: &mut PruneReport,
        ctx: &Context,
    ) -> Result<bool> {
        let number = state.opened_by();
        for _ in 0..ATTEMPTS {
            ctx.check()?;
            if state.opened_by() != number || !is_open(&state) {
                // Somebody else has finished it.
                return Ok(true);
            }
            let waiting = self.waiting(&state, options, report, ctx).await?;
            if !mutation::is(Mutation::SweepEarly) {
                if waiting.sessions > 0 {
                    return Ok(false);
                }
                if waiting.fenced > 0 {
                    state = self.state().await?;
                    continue;
                }
            }
            let mark_again = match mark.take() {
                Some(mark) => mark,
                None => {
                    let segments = Segments::open(self, &state).await?;
                    self.mark_live(&state, &segments, ctx).await?
                }
            };
            let listing = self.list_packs().await?;
            let (verdict, marked) = self.judge(&state, number, &waiting.held, &listing, mark_again, ctx).await?;
            if mutation::is(Mutation::NoVerdict) {
                self.delete_packs(&verdict.dead_packs, &listing, report, ctx).await?;
            }
            let put = state.chain.append(self.objects(), Change::Verdict(number), Some(&verdict.folded), ctx).await?;
            if !put {
                mark = Some(marked);
                state = self.state().await?;
                continue;
            }
            report.released_packs += verdict.released;
            report.merged_segments += verdict.merged;
            self.delete_packs(&verdict.dead_packs, &listing, report, ctx).await?;
            self.delete_segments(verdict.dead_segments, report, ctx).await?;
            self.delete_points(&verdict.removed, report, ctx).await?;
            let leftovers = self.leftovers().await?;
            let after = self.state().await?;
            self.sweep(&after, leftovers, report, ctx).await?;
            return Ok(true);
        }
        Err(Error::conflict("Others change the repository faster than a generation can be closed; try again")
            .retryable())
    }

    /// Marks again and decides.
    async fn judge(
        &self,
        state: &State,
        number: u64,
        held: &[RestorePointId],
        listing: &Listing,
        mut mark: Mark,
        ctx: &Context,
    ) -> Result<(Verdict, Mark)> {
        let segments = Segments::open(self, state).await?;
        let old = &state.chain.folded;
        let known: BTreeSet<_> = old.open.iter().flat_map(|open| &open.committed).map(|name| name.0).collect();
        // Points that the first mark did not know count, whether or not they were forgotten since.
        let settling: BTreeMap<_, _> = state.news.iter().filter(|(_, news)| news.generation < number).collect();
        let unknown = settling.keys().filter(|id| state.committed.contains_key(**id) && !known.contains(id.as_bytes()));
        let mut points: BTreeSet<RestorePointId> = unknown.map(|id| **id).collect();
        if mutation::is(Mutation::MarkLiveOnly) {
            points.retain(|id| !state.forgotten.contains(id));
        }
        points.extend(state.points().map(|(id, _)| *id));
        points.extend(held.iter().filter(|id| state.committed.contains_key(*id)));
        let points: Vec<_> = points.into_iter().collect();
        self.mark_points(&points, state, &segments, &mut mark, ctx).await?;

        let condemned: HashSet<PackId> = old.open.iter().flat_map(|open| &open.packs).copied().collect();
        let kept = needed(&condemned, &segments, &mark, state, listing, ctx).await?;
        let mut dead: Vec<_> = condemned.iter().filter(|pack| !kept.contains(*pack)).copied().collect();
        dead.sort_unstable();

        // Sessions that begin while this generation is open stay where they are.
        let settled_segments = Segments(
            segments
                .0
                .iter()
                .filter(|(base, _)| {
                    old.base_segments.contains(base)
                        || settling.values().any(|news| news.commit.segments.contains(&base.id))
                })
                .cloned()
                .collect(),
        );
        let mut all_dead = state.dead_packs();
        all_dead.extend(&dead);
        let mut merged = self.merge(&settled_segments, &all_dead, ctx).await?;
        // A repair may have given up a pack that only a session names which is not settled yet.
        let settled_names: HashSet<SegmentId> = settled_segments.0.iter().map(|(base, _)| base.id).collect();
        let newer = segments.0.iter().filter(|(base, _)| !settled_names.contains(&base.id));
        let newer: BTreeSet<_> = newer.flat_map(|(_, segment)| segment.packs()).map(|pack| pack.id()).collect();
        merged.dead.extend(newer.into_iter().filter(|pack| state.dead_packs().contains(pack)));
        merged.dead.sort_unstable();
        merged.dead.dedup();
        let (settled, removed) = self.settle(state, &settling, held).await?;
        let named: BTreeSet<_> = settled.iter().map(|settled| settled.summary.previous).collect();
        let hashes = removed.iter().filter_map(|id| state.committed.get(id)).map(|committed| committed.point);
        let mut gone: Vec<_> = old.gone.iter().copied().chain(hashes).filter(|hash| named.contains(hash)).collect();
        gone.sort_unstable();
        let listed: BTreeSet<_> = settled.iter().map(|settled| settled.session).collect();
        let folded = FoldedState {
            floor: number,
            forgotten: state
                .forgotten
                .iter()
                .filter(|id| listed.contains(id.as_bytes()))
                .map(|id| SessionName(*id.as_bytes()))
                .collect(),
            settled,
            base_segments: merged.base,
            dead_packs: merged.dead,
            replaced_segments: merged.replaced.clone(),
            open: None,
            gone,
            // Of commits that are settled now the base stands for what they name.
            skipped_segments: {
                let newer = state.news.values().filter(|news| news.generation >= number);
                let newer: BTreeSet<_> = newer.flat_map(|news| &news.commit.segments).collect();
                old.skipped_segments.iter().copied().filter(|id| newer.contains(id)).collect()
            },
            unvouched: old.unvouched,
            // One verdict longer than needed, so that the sweep after this one still knows whose objects these are.
            void: old.void.iter().copied().filter(|void| void.number >= old.floor).collect(),
        };
        let named: HashSet<SegmentId> = folded.base_segments.iter().map(|base| base.id).collect();
        let newer = state.news.values().filter(|news| news.generation >= number);
        let newer: HashSet<SegmentId> = newer.flat_map(|news| &news.commit.segments).copied().collect();
        let unnamed = |id: &SegmentId| !named.contains(id) && !newer.contains(id) && !merged.replaced.contains(id);
        let condemned_segments = old.open.iter().flat_map(|open| &open.segments);
        let dead_segments: Vec<_> =
            old.replaced_segments.iter().chain(condemned_segments).filter(|id| unnamed(id)).copied().collect();
        let verdict = Verdict {
            folded,
            released: (condemned.len() - dead.len()) as u64,
            merged: merged.replaced.len() as u64,
            dead_packs: dead,
            dead_segments,
            removed,
        };
        Ok((verdict, mark))
    }

    /// The sessions that the new floor settles, and the points that are gone for good: those that the mark knew both committed and
    /// forgotten.
    async fn settle(
        &self,
        state: &State,
        settling: &BTreeMap<&RestorePointId, &crate::repository::state::NewCommit>,
        held: &[RestorePointId],
    ) -> Result<(Vec<SettledSession>, Vec<RestorePointId>)> {
        let old = &state.chain.folded;
        let open = old.open.as_ref();
        let known = |id: &RestorePointId| {
            let name = SessionName(*id.as_bytes());
            old.settled.iter().any(|settled| settled.session == name.0)
                || open.is_some_and(|open| open.committed.contains(&name))
        };
        let seen: BTreeSet<_> = open.iter().flat_map(|open| &open.forgotten).map(|name| name.0).collect();
        let gone = |id: &RestorePointId| seen.contains(id.as_bytes()) && known(id) && !held.contains(id);
        let (mut settled, mut removed) = (Vec::new(), Vec::new());
        for session in &old.settled {
            let id = RestorePointId::from_bytes(session.session);
            if gone(&id) {
                removed.push(id);
            } else {
                settled.push(session.clone());
            }
        }
        for id in settling.keys() {
            let Some(committed) = state.committed.get(*id) else { continue };
            if gone(id) {
                removed.push(**id);
                continue;
            }
            let stored = match self.stored_point(id, committed).await {
                // Its record was damaged after this generation was opened, and a repair has taken it out.
                Err(error) if error.kind() == ErrorKind::Integrity && state.forgotten.contains(id) => {
                    removed.push(**id);
                    continue;
                }
                stored => stored?,
            };
            settled.push(SettledSession {
                session: *id.as_bytes(),
                point: committed.point,
                origin: committed.origin,
                summary: summary_of(stored.record),
            });
        }
        Ok((settled, removed))
    }
}

fn is_open(state: &State) -> bool {
    state.chain.folded.open.is_some() || state.chain.keys_unsettled()
}

/// What lists show of a point. Tokens are large and of use only to the next backup, which reads the point itself.
fn summary_of(mut point: PointRecord) -> PointRecord {
    point.disks.iter_mut().for_each(|disk| disk.token = None);
    point
}

/// The condemned packs with something that is needed and that no other pack of the same origin holds. Of another origin's copy nobody
/// knows whether it is one.
async fn needed(
    condemned: &HashSet<PackId>,
    segments: &Segments,
    mark: &Mark,
    state: &State,
    listing: &Listing,
    ctx: &Context,
) -> Result<HashSet<PackId>> {
    type Frame = ([u8; 32], PackId);
    let mut wanted: BTreeMap<SignerId, [Vec<Frame>; 2]> = BTreeMap::new();
    for (BaseSegment { origin, .. }, segment) in &segments.0 {
        ctx.check()?;
        if !segment.packs().iter().any(|pack| condemned.contains(&pack.id())) {
            continue;
        }
        for section in Section::ALL {
            let slot = &mut wanted.entry(*origin).or_default()[usize::from(section == Section::Data)];
            let collect = |id: &[u8; 32], at: Location| {
                if condemned.contains(&at.pack) && mark.needs(section, id) {
                    slot.push((*id, at.pack));
                }
                Ok(())
            };
            segment.scan(section, collect).await?;
        }
    }
    let mut without = state.dead_packs();
    without.extend(condemned);
    let mut kept = HashSet::new();
    for (origin, sections) in wanted {
        let elsewhere = segments.index(Some(origin), without.clone());
        for (section, frames) in [Section::Meta, Section::Data].into_iter().zip(sections) {
            let ids: Vec<_> = frames.iter().map(|(id, _)| *id).collect();
            let found = elsewhere.find_many(section, &ids).await?;
            for ((_, pack), found) in frames.iter().zip(found) {
                // A copy that the index names and the store has lost is none.
                if !found.is_some_and(|at| listing.contains_key(&at.pack)) {
                    kept.insert(*pack);
                }
            }
        }
    }
    Ok(kept)
}
