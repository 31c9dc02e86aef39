//! Copying what is needed out of packs that are mostly dead. Frames are copied sealed as they are: a keeper sees no content.

use std::collections::{BTreeMap, HashMap, HashSet};

use backstay_core::{Context, Error, ErrorKind, Result, ResultExt, Task};

use super::{
    PruneOptions, PruneReport,
    mark::Mark,
    survey::{PackUse, Segments},
};
use crate::repository::{
    Repository,
    format::session::{Commit, Outcome, Purpose, SessionOutcome},
    ids::{PackId, SegmentId, SignerId},
    index::{Location, PackKind, Section, SegmentBuilder},
    pack::{Directory, FrameRecord, MAX_PACK_BYTES, PackBuilder, pack_key},
    state::State,
    write::{OpenedSession, SegmentCipher, put_outcome, segment_key, settle_aborted},
};

/// Frames that one session copies at most: bounds its memory, and what an interruption costs.
const SESSION_FRAMES: u64 = 512 << 10;

/// The packs that are worth it: the most dead first, until little enough is dead.
pub fn choose(state: &State, packs: &HashMap<PackId, PackUse>, options: &PruneOptions) -> Vec<PackId> {
    let dead = state.dead_packs();
    let mut used: Vec<_> = packs.iter().filter(|(id, pack)| pack.live_frames > 0 && !dead.contains(*id)).collect();
    let mut total: u64 = used.iter().map(|(_, pack)| pack.frame_bytes).sum();
    let mut left: u64 = used.iter().map(|(_, pack)| pack.dead_bytes()).sum();
    // By share of dead bytes, compared without fractions.
    used.sort_by(|(a_id, a), (b_id, b)| {
        let (a_share, b_share) = (
            u128::from(a.dead_bytes()) * u128::from(b.frame_bytes),
            u128::from(b.dead_bytes()) * u128::from(a.frame_bytes),
        );
        b_share.cmp(&a_share).then(a_id.cmp(b_id))
    });
    let (mut chosen, mut copies) = (Vec::new(), 0);
    for (id, pack) in used {
        copies += pack.live_bytes;
        let enough = u128::from(left) * 100 <= u128::from(total) * u128::from(options.max_unused_percent);
        if enough || pack.dead_bytes() == 0 || options.max_repack_bytes.is_some_and(|most| copies > most) {
            break;
        }
        left -= pack.dead_bytes();
        total -= pack.dead_bytes();
        chosen.push(*id);
    }
    chosen
}

/// What one session copies.
struct Batch<'a> {
    origin: SignerId,
    packs: Vec<(PackId, &'a PackUse)>,
}

impl Repository {
    /// Copies live frames of the chosen packs; gives those packs of which every live frame now lies somewhere else. `None`: the chain
    /// moved, so the choice is stale.
    #[expect(clippy::too_many_arguments, reason = "one step of one operation, called in one place")]
    pub(super) async fn repack(
        &self,
        state: &State,
        chosen: &[PackId],
        segments: &Segments,
        packs: &HashMap<PackId, PackUse>,
        mark: &Mark,
        report: &mut PruneReport,
        ctx: &Context,
    ) -> Result<Option<HashSet<PackId>>> {
        let live: u64 = chosen.iter().filter_map(|id| packs.get(id)).map(|pack| pack.live_bytes).sum();
        let task = ctx.task("repack", Some(live));
        let mut without = state.unusable_packs();
        without.extend(chosen);
        let mut done = HashSet::new();
        for batch in batches(chosen, packs) {
            ctx.check()?;
            let OpenedSession { id, generation, state: seen, .. } =
                self.open_session(Purpose::Repack, None, &[], ctx).await?;
            if seen.chain.head != state.chain.head {
                settle_aborted(self, &id, generation, ctx).await;
                return Ok(None);
            }
            let copied = self.copy_batch(&batch, segments, mark, &without, &task, ctx).await;
            let Copied { packs: new, meta_packs, segments: named, bytes, complete } = match copied {
                Ok(copied) => copied,
                Err(error) => {
                    settle_aborted(self, &id, generation, ctx).await;
                    return Err(error);
                }
            };
            let commit = Commit { point: None, packs: new, segments: named, meta_packs, origin: Some(batch.origin) };
            let (session, token) = (*id.as_bytes(), ctx.random()?);
            let outcome = SessionOutcome { session, token, outcome: Outcome::Commit(commit), generation };
            match put_outcome(self.objects(), &id, &outcome, ctx).await {
                Ok(()) => {}
                // Another collector has ended this session: what it copied is not there for anybody.
                Err(error) if error.kind() == ErrorKind::Conflict => return Ok(None),
                Err(error) => return Err(error),
            }
            report.copied_bytes += bytes;
            done.extend(complete);
        }
        Ok(Some(done))
    }

    async fn copy_batch(
        &self,
        batch: &Batch<'_>,
        segments: &Segments,
        mark: &Mark,
        without: &HashSet<PackId>,
        task: &Task,
        ctx: &Context,
    ) -> Result<Copied> {
        let wanted: HashSet<PackId> = batch.packs.iter().map(|(id, _)| *id).collect();
        let frames = live_frames(batch.origin, &wanted, segments, mark, ctx).await?;
        let elsewhere = segments.index(Some(batch.origin), without.clone());
        let mut copied = Copied::default();
        let mut writer = CopyWriter::new(self, ctx)?;
        let mut taken = HashSet::new();
        for (id, pack) in &batch.packs {
            ctx.check()?;
            let Some(frames) = frames.get(id) else { continue };
            let section = section_of(pack.kind);
            let ids: Vec<_> = frames.iter().map(|(id, _)| *id).collect();
            let known = elsewhere.find_many(section, &ids).await?;
            let missing: Vec<_> = frames
                .iter()
                .zip(known)
                .filter(|((id, _), known)| known.is_none() && taken.insert(*id))
                .map(|(frame, _)| *frame)
                .collect();
            match writer.copy(pack.kind, id, &missing).await {
                Ok(()) => {
                    copied.complete.insert(*id);
                }
                // What is damaged stays where it is: `check` and `repair` have to see it.
                Err(error) if error.kind() == ErrorKind::Integrity => {
                    missing.iter().for_each(|(id, _)| {
                        taken.remove(id);
                    });
                    task.warn(format!("A pack is damaged and was not repacked, run `check`: {error}"));
                }
                Err(error) => return Err(error),
            }
            copied.bytes += missing.iter().map(|(_, at)| u64::from(at.stored)).sum::<u64>();
            task.advance(pack.live_bytes);
        }
        writer.finish(&mut copied).await?;
        Ok(copied)
    }
}

fn batches<'a>(chosen: &[PackId], packs: &'a HashMap<PackId, PackUse>) -> Vec<Batch<'a>> {
    let mut by_origin: BTreeMap<SignerId, Vec<(PackId, &PackUse)>> = BTreeMap::new();
    for (id, pack) in chosen.iter().filter_map(|id| Some((id, packs.get(id)?))) {
        by_origin.entry(pack.origin).or_default().push((*id, pack));
    }
    let mut batches: Vec<Batch<'_>> = Vec::new();
    for (origin, packs) in by_origin {
        let mut frames = SESSION_FRAMES;
        for (id, pack) in packs {
            if frames + pack.live_frames > SESSION_FRAMES {
                batches.push(Batch { origin, packs: Vec::new() });
                frames = 0;
            }
            frames += pack.live_frames;
            if let Some(batch) = batches.last_mut() {
                batch.packs.push((id, pack));
            }
        }
    }
    batches
}

const fn section_of(kind: PackKind) -> Section {
    match kind {
        PackKind::Data => Section::Data,
        PackKind::Meta => Section::Meta,
    }
}

type Frames = HashMap<PackId, Vec<([u8; 32], Location)>>;

async fn live_frames(
    origin: SignerId,
    wanted: &HashSet<PackId>,
    segments: &Segments,
    mark: &Mark,
    ctx: &Context,
) -> Result<Frames> {
    let mut frames = Frames::new();
    for (_, segment) in segments.0.iter().filter(|(base, _)| base.origin == origin) {
        ctx.check()?;
        if !segment.packs().iter().any(|pack| wanted.contains(&pack.id())) {
            continue;
        }
        for section in Section::ALL {
            let collect = |id: &[u8; 32], at: Location| {
                if wanted.contains(&at.pack) && mark.needs(section, id) {
                    frames.entry(at.pack).or_default().push((*id, at));
                }
                Ok(())
            };
            segment.scan(section, collect).await?;
        }
    }
    frames.values_mut().for_each(|frames| frames.sort_unstable_by_key(|(_, at)| at.offset));
    Ok(frames)
}

/// What was copied.
#[derive(Default)]
pub(in crate::repository) struct Copied {
    packs: Vec<PackId>,
    meta_packs: Vec<PackId>,
    /// Segments that name the copies.
    pub segments: Vec<SegmentId>,
    bytes: u64,
    complete: HashSet<PackId>,
}

/// Puts copies into packs of their own.
pub(in crate::repository) struct CopyWriter<'a> {
    repository: &'a Repository,
    ctx: &'a Context,
    filling: [Option<PackBuilder>; 2],
    records: SegmentBuilder,
    put: Vec<(PackKind, PackId)>,
}

impl<'a> CopyWriter<'a> {
    /// Into packs of a repository.
    pub fn new(repository: &'a Repository, ctx: &'a Context) -> Result<Self> {
        Ok(Self { repository, ctx, filling: [None, None], records: SegmentBuilder::new(), put: Vec::new() })
    }

    /// Copies frames out of a pack, all of which was read and found to be what its id says.
    async fn copy(&mut self, kind: PackKind, id: &PackId, frames: &[([u8; 32], Location)]) -> Result<()> {
        if frames.is_empty() {
            return Ok(());
        }
        let key = pack_key(kind, id)?;
        let size =
            self.repository.backend().head(&key).await.map_err(crate::repository::packs::missing_is_damage)?.size;
        if size > MAX_PACK_BYTES {
            return Err(Error::integrity("A pack has an impossible size").with_context("object", key));
        }
        let bytes = self.repository.backend().get(&key).await.map_err(crate::repository::packs::missing_is_damage)?;
        if blake3::hash(&bytes).as_bytes() != id.as_bytes() {
            return Err(
                Error::integrity("A pack is damaged: its bytes are not what its id says").with_context("object", key)
            );
        }
        let directory = self.repository.packs().directory_of(kind, &bytes).context("object", &key)?;
        let by_offset: HashMap<u32, &FrameRecord> = directory.with_offsets().collect();
        for (frame, at) in frames {
            let known = by_offset.get(&at.offset).filter(|known| known.id == *frame && known.stored == at.stored);
            let known = known.ok_or_else(|| {
                Error::integrity("The index names a frame that its pack does not have").with_context("object", &key)
            })?;
            let sealed = &bytes[at.offset as usize..(at.offset + at.stored) as usize];
            self.push(kind, sealed, known, &directory).await?;
        }
        Ok(())
    }

    /// Copies a frame; `directory` has its key.
    pub async fn push(
        &mut self,
        kind: PackKind,
        sealed: &[u8],
        frame: &FrameRecord,
        directory: &Directory,
    ) -> Result<()> {
        let key = directory.keys.get(usize::from(frame.key));
        let key =
            key.ok_or_else(|| Error::integrity("A frame of a pack names a key that its directory does not have"))?;
        let slot = &mut self.filling[kind as usize - 1];
        let builder = slot.get_or_insert_with(|| PackBuilder::of_copies(kind, self.ctx.buffers().take(1 << 20)));
        builder.push_copy(sealed, frame, key)?;
        if builder.len() >= self.repository.config().pack_bytes as usize {
            self.close(kind).await?;
        }
        Ok(())
    }

    async fn close(&mut self, kind: PackKind) -> Result<()> {
        let Some(builder) = self.filling[kind as usize - 1].take() else { return Ok(()) };
        let (repository, ctx) = (self.repository.clone(), self.ctx.clone());
        let pack = self
            .ctx
            .cpu(move || {
                let keyring = repository.objects().keyring();
                let epoch = keyring.current_epoch()?;
                builder.finish(&epoch.structure, &keyring.domain(epoch.epoch), &ctx)
            })
            .await?;
        let number = self.records.add_pack(pack.id, pack.bytes.len() as u64, kind);
        for (offset, frame) in pack.directory.with_offsets() {
            self.records.add(section_of(kind), frame.id, number, offset, frame.stored, frame.plain);
        }
        self.repository.objects().put_new(&pack_key(kind, &pack.id)?, pack.bytes, self.ctx).await?;
        self.put.push((kind, pack.id));
        Ok(())
    }

    /// Puts what is left, and the segments.
    pub async fn finish(mut self, copied: &mut Copied) -> Result<()> {
        self.close(PackKind::Data).await?;
        self.close(PackKind::Meta).await?;
        for (kind, id) in &self.put {
            match kind {
                PackKind::Data => copied.packs.push(*id),
                PackKind::Meta => copied.meta_packs.push(*id),
            }
        }
        copied.segments = put_segments(self.repository, self.records, self.ctx).await?;
        Ok(())
    }
}

/// Seals what was collected and puts it.
pub(in crate::repository) async fn put_segments(
    repository: &Repository,
    records: SegmentBuilder,
    ctx: &Context,
) -> Result<Vec<SegmentId>> {
    let (owner, job) = (repository.clone(), ctx.clone());
    let seal = move || {
        let keyring = owner.objects().keyring();
        let epoch = keyring.current_epoch()?.epoch;
        records.finish(epoch, &mut || {
            let salt = job.random()?;
            Ok((salt, SegmentCipher::of(keyring, epoch, salt)?))
        })
    };
    let mut ids = Vec::new();
    for segment in ctx.cpu(seal).await? {
        repository.objects().put_new(&segment_key(&segment.id)?, segment.bytes, ctx).await?;
        ids.push(segment.id);
    }
    Ok(ids)
}
