//! Index segments that are lost or damaged.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use backstay_core::{Context, Error, ErrorKind, Result};
use serde::Serialize;

use super::RepairOptions;
use crate::repository::{
    Repository,
    check::Listing,
    format::chain::{BaseSegment, NOBODY},
    ids::{PackId, SegmentId, SignerId},
    state::State,
};

/// What became of the index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct IndexRepair {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Segments that are lost or damaged.
    pub bad_segments: Vec<String>,
    /// Packs that count as before.
    pub known_packs: u64,
    /// Packs that no known commit vouches for: they serve restores, and no backup builds on them.
    pub unknown_packs: u64,
    /// Packs that are named and are not there or whose directory cannot be read: `repair packs` is next.
    pub unreadable_packs: Vec<String>,
    /// Segments written.
    pub segments: u64,
}

/// What is wrong, and what is known of it.
#[derive(Default)]
struct Damage {
    bad: Vec<BaseSegment>,
    /// Packs to be indexed, by whose they are.
    packs: BTreeMap<SignerId, BTreeSet<PackId>>,
    /// Whether there may be packs that nothing names any more.
    nameless: bool,
}

impl Repository {
    pub(super) async fn repair_index_in(
        &self,
        state: State,
        options: &RepairOptions,
        ctx: &Context,
    ) -> Result<Option<IndexRepair>> {
        let listing = self.list_packs().await?;
        let mut named = HashSet::new();
        let damage = self.bad_segments(&state, &mut named, ctx).await?;
        let mut report = IndexRepair { dry_run: options.dry_run, ..IndexRepair::default() };
        report.bad_segments = damage.bad.iter().map(|base| base.id.to_hex()).collect();
        if damage.bad.is_empty() {
            return Ok(Some(report));
        }
        let mut segments = Vec::new();
        for (origin, packs) in &damage.packs {
            let (there, gone): (Vec<PackId>, Vec<PackId>) = packs.iter().partition(|id| listing.contains_key(*id));
            report.unreadable_packs.extend(gone.into_iter().map(|id| id.to_hex()));
            report.known_packs += there.len() as u64;
            let packs: Vec<_> = there.into_iter().map(|id| (id, listing[&id].0, listing[&id].1)).collect();
            let (written, unreadable) = self.index_packs(&packs, *origin, !options.dry_run, ctx).await?;
            segments.extend(written);
            report.unreadable_packs.extend(unreadable.iter().map(|id| id.to_hex()));
        }
        if damage.nameless {
            let (written, packs) = self.index_nameless(&state, &listing, &named, !options.dry_run, ctx).await?;
            report.unknown_packs = packs;
            segments.extend(written);
        }
        report.segments = segments.len() as u64;
        if options.dry_run {
            return Ok(Some(report));
        }
        let bad: HashSet<SegmentId> = damage.bad.iter().map(|base| base.id).collect();
        let mut folded = state.chain.folded.clone();
        let (gone, kept) = folded.base_segments.into_iter().partition(|base| bad.contains(&base.id));
        let gone: Vec<BaseSegment> = gone;
        folded.base_segments = kept;
        if report.unknown_packs > 0 {
            folded.unvouched = state.chain.head + 1;
        }
        folded.base_segments.extend(segments);
        folded.replaced_segments.extend(gone.iter().map(|base| base.id));
        let of_commits = bad.iter().filter(|id| gone.iter().all(|base| base.id != **id));
        folded.skipped_segments.extend(of_commits);
        Ok(self.put_repair(&state, &folded, ctx).await?.then_some(report))
    }

    /// Packs that nothing names, as far as their directories can be read: segments of nobody.
    pub(super) async fn index_nameless(
        &self,
        state: &State,
        listing: &Listing,
        named: &HashSet<PackId>,
        put: bool,
        ctx: &Context,
    ) -> Result<(Vec<BaseSegment>, u64)> {
        let dead = state.dead_packs();
        let mut packs: Vec<_> = listing
            .iter()
            .filter(|(id, _)| !named.contains(*id) && !dead.contains(*id))
            .map(|(id, (kind, size))| (*id, *kind, *size))
            .collect();
        packs.sort_unstable_by_key(|(id, ..)| *id);
        // What cannot be read of these nobody misses: no commit names it.
        let (segments, unreadable) = self.index_packs(&packs, NOBODY, put, ctx).await?;
        Ok((segments, (packs.len() - unreadable.len()) as u64))
    }

    /// The segments that are not whole; `named` gets every pack that something else names.
    async fn bad_segments(&self, state: &State, named: &mut HashSet<PackId>, ctx: &Context) -> Result<Damage> {
        let mut damage = Damage::default();
        let dead = state.dead_packs();
        let base: HashSet<_> = state.chain.folded.base_segments.iter().map(|base| base.id).collect();
        for base_segment in state.segments() {
            ctx.check()?;
            let BaseSegment { id, origin } = base_segment;
            let opened = self.segment(&id).await;
            let whole = match &opened {
                Ok(segment) => segment.verify().await,
                Err(error) => Err(Error::new(error.kind(), error.message().to_owned())),
            };
            match whole {
                Ok(()) => {}
                Err(error) if is_damage(&error) => damage.bad.push(base_segment),
                Err(error) => return Err(error),
            }
            match opened {
                Ok(segment) => {
                    let packs = segment.packs().iter().map(|pack| pack.id()).filter(|id| !dead.contains(id));
                    let is_bad = damage.bad.last().is_some_and(|bad| bad.id == id);
                    // The footer is whole and says what the segment named.
                    match is_bad {
                        true => damage.packs.entry(origin).or_default().extend(packs),
                        false => named.extend(packs),
                    }
                }
                Err(_) => damage.nameless |= base.contains(&id),
            }
        }
        self.packs_of_commits(state, &mut damage);
        // What a whole segment names too needs no second record.
        damage.packs.values_mut().for_each(|packs| packs.retain(|id| !named.contains(id)));
        damage.packs.retain(|_, packs| !packs.is_empty());
        named.extend(damage.packs.values().flatten());
        Ok(damage)
    }

    /// A commit whose segment is bad names its packs.
    fn packs_of_commits(&self, state: &State, damage: &mut Damage) {
        let bad: HashSet<_> = damage.bad.iter().map(|base| base.id).collect();
        let dead = state.dead_packs();
        for news in state.news.values() {
            if news.commit.segments.iter().any(|id| bad.contains(id)) {
                let packs = news.commit.packs.iter().chain(&news.commit.meta_packs).filter(|id| !dead.contains(*id));
                damage.packs.entry(news.origin).or_default().extend(packs);
            }
        }
    }
}

fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Unsupported | ErrorKind::NotFound)
}
