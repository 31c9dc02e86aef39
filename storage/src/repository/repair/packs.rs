//! Packs that are lost or damaged.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use backstay_core::{Context, Error, ErrorKind, RestorePointId, Result, Task};
use futures::{StreamExt, stream};
use serde::Serialize;

use super::{
    RepairOptions,
    salvage::{Named, Salvaged},
};
use crate::repository::{
    Repository,
    check::{Listing, verify_pack},
    collect::{Copied, CopyWriter},
    format::{chain::BaseSegment, point::PointRecord},
    ids::{PackId, SignerId},
    index::{Index, PackKind, Section, Segment},
    lost::{Finder, Lost, LostParts},
    pack::{Directory, pack_key},
    scrub::read_twice,
    state::State,
};

/// Packs in memory at once.
const PACKS_AT_ONCE: usize = 3;
/// Memory for pages of the index.
const INDEX_CACHE_BYTES: usize = 16 << 20;

/// What became of the packs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PackRepair {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Packs looked at.
    pub packs: u64,
    /// Those that are not whole: given up, with what is whole in them copied.
    pub damaged: Vec<DamagedPack>,
    /// Points of which something cannot be read any more.
    pub lost: Vec<LostOfPoint>,
}

/// A pack that is not whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DamagedPack {
    /// Its id, 64 hex digits.
    pub pack: String,
    /// What is wrong with it.
    pub damage: String,
    /// Chunks or nodes in it.
    pub frames: u64,
    /// Those that are whole and were copied.
    pub whole: u64,
    /// Those of which another pack has a whole copy.
    pub elsewhere: u64,
}

/// What is lost of a point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LostOfPoint {
    /// The point.
    pub point: RestorePointId,
    /// Whose it is.
    pub workload: String,
    /// Its disks.
    pub disks: Vec<Lost>,
    /// Its streams and attachments.
    pub streams: Vec<Lost>,
}

/// A pack that segments name.
#[derive(Clone, Copy)]
struct Place {
    kind: PackKind,
    origin: SignerId,
    /// The segment that names it: its packs are of the same session most likely.
    segment: usize,
}

struct Survey {
    segments: Vec<(BaseSegment, Arc<Segment>)>,
    packs: HashMap<PackId, Place>,
    listing: Listing,
}

impl Survey {
    fn index(&self, without: HashSet<PackId>) -> Index {
        let mut index = Index::new(INDEX_CACHE_BYTES).without(without);
        self.segments.iter().for_each(|(_, segment)| index.push(Arc::clone(segment)));
        index
    }

    /// Where each frame of these packs lies.
    async fn named(&self, packs: &HashSet<PackId>, ctx: &Context) -> Result<HashMap<PackId, Vec<Named>>> {
        let mut named: HashMap<PackId, Vec<Named>> = HashMap::new();
        for (_, segment) in &self.segments {
            ctx.check()?;
            if segment.packs().iter().any(|pack| packs.contains(&pack.id())) {
                for section in [Section::Meta, Section::Data] {
                    let collect = |id: &[u8; 32], at: crate::repository::index::Location| {
                        if packs.contains(&at.pack) {
                            named.entry(at.pack).or_default().push((*id, at));
                        }
                        Ok(())
                    };
                    segment.scan(section, collect).await?;
                }
            }
        }
        named.values_mut().for_each(|frames| {
            frames.sort_unstable_by_key(|(id, at)| (at.offset, *id));
            frames.dedup();
        });
        Ok(named)
    }
}

impl Repository {
    pub(super) async fn repair_packs_in(
        &self,
        state: State,
        options: &RepairOptions,
        ctx: &Context,
    ) -> Result<Option<PackRepair>> {
        if let Some((session, _)) = state.unreadable.first() {
            return Err(Error::integrity("The outcome of a session cannot be read: run `repair points` first")
                .with_context("session", session));
        }
        let survey = self.survey_packs(&state, ctx).await?;
        let mut report = PackRepair { dry_run: options.dry_run, ..PackRepair::default() };
        let bad = self.bad_packs(&state, &survey, options, &mut report, ctx).await?;
        let ids: HashSet<PackId> = bad.keys().copied().collect();
        let mut without = state.dead_packs();
        without.extend(&ids);
        without.extend(survey.packs.keys().filter(|id| !survey.listing.contains_key(*id)));
        let index = Arc::new(survey.index(without));
        let mut finder = Finder::new(self, Arc::clone(&index), ctx);
        let named = survey.named(&ids, ctx).await?;
        let mut writers: BTreeMap<SignerId, CopyWriter<'_>> = BTreeMap::new();
        let task = ctx.task("save", Some(bad.len() as u64));
        for (id, error) in &bad {
            let place = survey.packs[id];
            let frames = named.get(id).map(Vec::as_slice).unwrap_or_default();
            let neighbours = survey.segments[place.segment].1.packs().iter();
            let near: Vec<_> = neighbours
                .filter(|pack| pack.kind() == place.kind && !ids.contains(&pack.id()))
                .map(|pack| (pack.id(), pack.size()))
                .collect();
            let saved = self.salvage(place.kind, id, place.origin, frames, &near, ctx).await?;
            let mut damaged = DamagedPack {
                pack: id.to_hex(),
                damage: error.message().to_owned(),
                frames: frames.len() as u64,
                whole: saved.whole.len() as u64,
                elsewhere: 0,
            };
            let lost: HashSet<_> = saved.whole.iter().map(|whole| whole.frame.id).collect();
            let others: Vec<_> = frames.iter().map(|(id, _)| *id).filter(|id| !lost.contains(id)).collect();
            let section = if place.kind == PackKind::Data { Section::Data } else { Section::Meta };
            damaged.elsewhere = index.find_many(section, &others).await?.iter().flatten().count() as u64;
            for whole in &saved.whole {
                match &whole.node {
                    Some((id, plain)) => drop(finder.saved_nodes.insert(*id, plain.clone())),
                    None => drop(finder.saved_chunks.insert(whole.frame.id)),
                }
            }
            if !options.dry_run {
                let writer = match writers.entry(place.origin) {
                    std::collections::btree_map::Entry::Occupied(writer) => writer.into_mut(),
                    std::collections::btree_map::Entry::Vacant(free) => free.insert(CopyWriter::new(self, ctx)?),
                };
                copy(writer, place.kind, saved).await?;
            }
            report.damaged.push(damaged);
            task.advance(1);
        }
        drop(task);
        let lost = self.lost_points(&state, &mut finder, &mut report, ctx).await?;
        if options.dry_run {
            return Ok(Some(report));
        }
        if !ids.is_empty() {
            let mut folded = state.chain.folded.clone();
            for (origin, writer) in writers {
                let mut copied = Copied::default();
                writer.finish(&mut copied).await?;
                folded.base_segments.extend(copied.segments.into_iter().map(|id| BaseSegment { id, origin }));
            }
            folded.dead_packs.extend(&ids);
            folded.dead_packs.sort_unstable();
            folded.dead_packs.dedup();
            if !self.put_repair(&state, &folded, ctx).await? {
                return Ok(None);
            }
        }
        // After the record: what a crash keeps from being written down the next run finds again.
        let packs: Vec<_> = ids.into_iter().collect();
        for (point, number, parts) in lost {
            self.put_lost(&point, number, parts, &packs, ctx).await?;
        }
        Ok(Some(report))
    }

    async fn survey_packs(&self, state: &State, ctx: &Context) -> Result<Survey> {
        let mut survey = Survey { segments: Vec::new(), packs: HashMap::new(), listing: self.list_packs().await? };
        let dead = state.dead_packs();
        for base in state.segments() {
            ctx.check()?;
            let segment = self.segment(&base.id).await.map_err(|error| match error.kind() {
                ErrorKind::Integrity | ErrorKind::Unsupported => {
                    error.with_context("next", "run `repair index` first: it says what lies in which pack")
                }
                _ => error,
            })?;
            let number = survey.segments.len();
            for pack in segment.packs().iter().filter(|pack| !dead.contains(&pack.id())) {
                let place = Place { kind: pack.kind(), origin: base.origin, segment: number };
                survey.packs.entry(pack.id()).or_insert(place);
            }
            survey.segments.push((base, Arc::new(segment)));
        }
        Ok(survey)
    }

    /// The packs that are not there or not whole. What is read and seems damaged is read twice.
    async fn bad_packs(
        &self,
        state: &State,
        survey: &Survey,
        options: &RepairOptions,
        report: &mut PackRepair,
        ctx: &Context,
    ) -> Result<BTreeMap<PackId, Error>> {
        let mut packs: Vec<_> = survey.packs.keys().copied().collect();
        let mut bad = BTreeMap::new();
        if let Some(wanted) = &options.packs {
            let unknown = wanted.iter().find(|id| !survey.packs.contains_key(*id));
            if let Some(unknown) = unknown.filter(|id| !state.dead_packs().contains(*id)) {
                return Err(Error::not_found("No index segment names such a pack").with_context("pack", unknown));
            }
            packs.retain(|id| wanted.contains(id));
        }
        packs.sort_unstable();
        report.packs = packs.len() as u64;
        let bytes = packs.iter().filter_map(|id| survey.listing.get(id)).map(|(_, size)| size).sum();
        let task = ctx.task("read packs", Some(bytes));
        let reads: Vec<_> = packs
            .into_iter()
            .map(|id| {
                let (kind, size) = (survey.packs[&id].kind, survey.listing.get(&id).map_or(0, |(_, size)| *size));
                let task = &task;
                async move { (id, size, self.read_one(kind, id, task, ctx).await) }
            })
            .collect();
        let mut reads = stream::iter(reads).buffer_unordered(PACKS_AT_ONCE);
        while let Some((id, size, read)) = reads.next().await {
            task.advance(size);
            match read {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    bad.insert(id, Error::integrity("The pack is missing"));
                }
                Err(error) if matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Unsupported) => {
                    bad.insert(id, error);
                }
                Err(error) => return Err(error),
            }
        }
        drop(reads);
        Ok(bad)
    }

    async fn read_one(&self, kind: PackKind, id: PackId, task: &Task, ctx: &Context) -> Result<()> {
        ctx.check()?;
        let repository = self.clone();
        read_twice(self.backend(), &pack_key(kind, &id)?, task, ctx, move |bytes| {
            verify_pack(&repository, id, kind, bytes)
        })
        .await
    }

    /// What is lost of every point; gives what has to be written down because it is not what the newest record says.
    async fn lost_points(
        &self,
        state: &State,
        finder: &mut Finder<'_>,
        report: &mut PackRepair,
        ctx: &Context,
    ) -> Result<Vec<(RestorePointId, u64, LostParts)>> {
        let mut known = self.lost_records(state).await?;
        let task = ctx.task("look for what is lost", Some(state.points().count() as u64));
        let mut news = Vec::new();
        for (id, committed) in state.points() {
            ctx.check()?;
            let stored = self.summary(id, committed).await.map_err(|error| match error.kind() {
                ErrorKind::Integrity | ErrorKind::Unsupported => {
                    error.with_context("next", "run `repair points` first")
                }
                _ => error,
            })?;
            let parts = finder.of_point(&stored.record).await?;
            if !parts.is_empty() {
                report.lost.push(told(id, &stored.record, &parts));
            }
            let (number, before) = match known.remove(id) {
                None => (0, Some(LostParts::default())),
                Some(known) => {
                    let before =
                        known.record.ok().map(|record| LostParts { disks: record.disks, streams: record.streams });
                    (known.number, before)
                }
            };
            if before.as_ref() != Some(&parts) {
                news.push((*id, number, parts));
            }
            task.advance(1);
        }
        Ok(news)
    }
}

async fn copy(writer: &mut CopyWriter<'_>, kind: PackKind, saved: Salvaged) -> Result<()> {
    let keys = Directory { keys: saved.keys, frames: Vec::new() };
    for whole in &saved.whole {
        writer.push(kind, &whole.sealed, &whole.frame, &keys).await?;
    }
    Ok(())
}

fn told(id: &RestorePointId, point: &PointRecord, parts: &LostParts) -> LostOfPoint {
    LostOfPoint {
        point: *id,
        workload: point.workload.clone(),
        disks: parts.disks.iter().map(Lost::from).collect(),
        streams: parts.streams.iter().map(Lost::from).collect(),
    }
}
