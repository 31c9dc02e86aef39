//! A write session: opened before anything is stored, settled by its outcome.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use backstay_core::{
    ChangeBase, ChangeToken, Context, DiskId, Error, ErrorKind, ObjectKey, RangeSet, RestorePoint, RestorePointId,
    Result, Timestamp, Workload, WorkloadId,
};

use futures::TryStreamExt;

use super::{
    checkpoint::{Checkpoints, Resumed},
    store::{ChunkStore, Origin},
};
use crate::repository::{
    Repository,
    chain::Chain,
    compress::Compression,
    crypto::{ObjectType, hpke},
    format::{
        chain::SessionName,
        point::{AttachmentEntry, DiskEntry, ProvenanceEntry, StreamEntry},
        session::{Outcome, Purpose, SessionOpen, SessionOutcome},
    },
    ids::{ObjectHash, PackId},
    keys::Secret,
    map::MapCursor,
    mutation::{self, Mutation},
    nodes::StoredNodes,
    points::StoredPoint,
    state::{State, session_key},
    view::may_be_stale,
};

/// How often a session starts over because the chain moved while it was opening.
const OPEN_ATTEMPTS: usize = 32;

/// How to write a restore point.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionOptions {
    /// How hard to compress.
    pub compression: Compression,
    /// What to write on the point.
    pub labels: BTreeMap<String, String>,
    /// Look at no earlier point: read everything.
    pub full: bool,
    /// The moment whose bytes are written; now when `None`.
    pub time: Option<Timestamp>,
    /// Take up the newest interrupted session of this writer and workload, if there is one: what it had put at its last checkpoint
    /// is not put again. Only when nobody works on it any more; of two that do, one fails at its end.
    pub resume: bool,
    /// Put a checkpoint after this many bytes of packs.
    pub checkpoint_bytes: u64,
    /// And after this time, whether anything was put or not: a collector takes a session without new checkpoints for dead.
    pub checkpoint_every: Duration,
    /// What only a copy of a restore point says.
    pub(in crate::repository) copy: Option<CopyOf>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            compression: Compression::default(),
            labels: BTreeMap::new(),
            full: false,
            time: None,
            resume: false,
            checkpoint_bytes: 1 << 30,
            checkpoint_every: Duration::from_secs(180),
            copy: None,
        }
    }
}

impl SessionOptions {
    /// Sets [`Self::compression`].
    #[must_use]
    pub const fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets [`Self::labels`].
    #[must_use]
    pub fn labels(mut self, labels: BTreeMap<String, String>) -> Self {
        self.labels = labels;
        self
    }

    /// Sets [`Self::full`].
    #[must_use]
    pub const fn full(mut self, full: bool) -> Self {
        self.full = full;
        self
    }

    /// Sets [`Self::time`].
    #[must_use]
    pub const fn time(mut self, time: Timestamp) -> Self {
        self.time = Some(time);
        self
    }

    /// Sets [`Self::resume`].
    #[must_use]
    pub const fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Sets [`Self::checkpoint_bytes`] and [`Self::checkpoint_every`].
    #[must_use]
    pub const fn checkpoints(mut self, bytes: u64, every: Duration) -> Self {
        self.checkpoint_bytes = bytes;
        self.checkpoint_every = every;
        self
    }
}

/// What a session that copies a restore point is told beside the options.
#[derive(Clone, Debug)]
pub(in crate::repository) struct CopyOf {
    /// The point that is copied.
    pub provenance: ProvenanceEntry,
    /// The point to count changes from, if any: one that is known to be a copy.
    pub parent: Option<RestorePointId>,
}

/// A restore point in the making. Nothing of it exists for any reader until [`Self::commit`] has returned.
///
/// Dropping it leaves unfinished objects behind that no reader looks at; [`Self::abort`] also says so in the repository.
pub struct WriteSession {
    pub(super) repository: Repository,
    pub(super) id: RestorePointId,
    pub(super) generation: u64,
    pub(super) workload: Workload,
    pub(super) options: SessionOptions,
    pub(super) time: Timestamp,
    /// The point that changes are counted from.
    pub(super) parent: Option<StoredPoint>,
    /// What is known to be lost of its disks: read anew, whatever the source says.
    pub(super) lost: BTreeMap<String, LostOfDisk>,
    pub(super) sequence: u64,
    pub(super) previous: ObjectHash,
    /// See [`crate::repository::format::point::PointRecord::rank`].
    pub(super) rank: u64,
    pub(super) nodes: Arc<StoredNodes>,
    pub(super) store: Arc<ChunkStore>,
    pub(super) checkpoints: Arc<Checkpoints>,
    pub(super) disks: Vec<DiskEntry>,
    pub(super) streams: Vec<StreamEntry>,
    pub(super) attachments: Vec<AttachmentEntry>,
    /// A write began and did not end well: some of its chunks may be counted as stored and are not.
    pub(super) broken: bool,
    pub(super) ctx: Context,
}

/// A session whose `open` is there, and what exists since.
pub struct OpenedSession {
    /// Its id.
    pub id: RestorePointId,
    /// The head that it saw.
    pub generation: u64,
    /// What exists.
    pub state: State,
    /// What an earlier run of it had put.
    pub before: Option<Resumed>,
}

impl Repository {
    /// Opens a session that will write a restore point of `workload`, or takes an interrupted one up again when the options say so.
    pub async fn begin(&self, workload: Workload, options: SessionOptions, ctx: &Context) -> Result<WriteSession> {
        if !self.capability().may_write() {
            return Err(Error::permission_denied(format!(
                "A {} key cannot back up; open the repository with a writer's or the owner's",
                self.capability().name()
            )));
        }
        ctx.check()?;
        let opened = match options.resume {
            true => self.take_up(&workload, ctx).await?,
            false => None,
        };
        let opened = match opened {
            Some(opened) => opened,
            None => self.open_session(Purpose::Write, Some(&workload.id), &[], ctx).await?,
        };
        let (id, generation, resumed) = (opened.id, opened.generation, opened.before.is_some());
        let session = self.session_after_open(opened, workload, options, ctx).await;
        // What was interrupted before can be taken up once more.
        if session.is_err() && !resumed {
            settle_aborted(self, &id, generation, ctx).await;
        }
        session
    }

    /// Puts `open` between two reads of the head that agree.
    pub(in crate::repository) async fn open_session(
        &self,
        purpose: Purpose,
        workload: Option<&WorkloadId>,
        holds: &[RestorePointId],
        ctx: &Context,
    ) -> Result<OpenedSession> {
        let remembered = if mutation::is(Mutation::EarlyParent) { Some(self.state().await?) } else { None };
        for _ in 0..OPEN_ATTEMPTS {
            ctx.check()?;
            let early = if mutation::is(Mutation::NoSecondHead) { Some(self.state().await?) } else { None };
            let chain = match &early {
                Some(state) => state.chain.clone(),
                None => self.chain().await?,
            };
            let generation = chain.head;
            let id = RestorePointId::from_bytes(ctx.random()?);
            let open = SessionOpen {
                session: *id.as_bytes(),
                generation,
                time: ctx.now().as_nanos(),
                purpose,
                workload: workload.map(WorkloadId::to_string),
                holds: holds.iter().map(|point| SessionName(*point.as_bytes())).collect(),
            };
            self.objects().put_record(&session_key(&id, "open")?, ObjectType::SessionOpen, &open, ctx).await?;
            let state = match early {
                Some(state) => Some(state),
                None => State::after_open(chain, self.objects()).await?,
            };
            if let Some(mut state) = state {
                if state.cut_back {
                    settle_aborted(self, &id, generation, ctx).await;
                    // It may have forgotten that keys were rotated: whoever was removed could read what is written now.
                    return Err(Error::integrity(
                        "The repository's chain was cut back: nothing is written until somebody has looked at it; run `check`",
                    ));
                }
                if let Some(before) = &remembered {
                    state.committed.clone_from(&before.committed);
                    state.forgotten.clone_from(&before.forgotten);
                }
                return Ok(OpenedSession { id, generation, state, before: None });
            }
            settle_aborted(self, &id, generation, ctx).await;
        }
        Err(Error::conflict("The repository's chain moved on and on while the session was starting; try again")
            .retryable())
    }

    async fn session_after_open(
        &self,
        opened: OpenedSession,
        workload: Workload,
        options: SessionOptions,
        ctx: &Context,
    ) -> Result<WriteSession> {
        let OpenedSession { id, generation, state, before } = opened;
        let keyring = self.objects().keyring();
        let signer = keyring.bundle().signing_key()?.verifying_key().to_bytes();
        let signer = crate::repository::ids::SignerId(signer);
        let (points, damaged) = self.readable_points(&state).await?;
        if !damaged.is_empty() {
            // A damaged point of whatever workload must not end all backups; it is no parent, and somebody has to look.
            let task = ctx.task("begin", None);
            damaged.iter().for_each(|error| task.warn(format!("A restore point cannot be read, run `check`: {error}")));
        }
        let rank = 1 + points.iter().filter_map(|point| point.record.rank).max().unwrap_or(0);
        let mut of_workload: Vec<_> =
            points.into_iter().filter(|point| point.record.workload == workload.id.as_str()).collect();
        of_workload.sort_by_key(|point| (point.record.sequence, point.record.time, point.record.session));
        let last = of_workload.last();
        let (sequence, previous) =
            last.map_or((1, ObjectHash([0; 32])), |last| (last.record.sequence.saturating_add(1), last.hash));
        // Another writer's point is no parent: nobody vouches for its chunks yet.
        // Nor is one that may lean on packs which a repair could index but nobody vouches for.
        let unvouched = state.chain.folded.unvouched;
        let fits = |point: &&StoredPoint| point.origin == signer && point.record.generation >= unvouched;
        let own = || of_workload.iter().rev().filter(|point| !options.full && fits(point));
        let parent = match &options.copy {
            Some(copy) => own().find(|point| copy.parent == Some(point.id())),
            // A copy has no change token, so one that came in between must not end the increments of backups made here.
            None => own().find(|point| point.record.provenance.is_none()).or_else(|| own().next()),
        };
        let parent = match parent.and_then(|point| Some((point, state.committed.get(&point.id())?))) {
            // A summary has no change tokens.
            Some((point, committed)) if committed.summary.is_some() => {
                Some(self.stored_point(&point.id(), committed).await?)
            }
            Some((point, _)) => Some(point.clone()),
            None => None,
        };

        let (parent, lost) = self.lost_of_parent(&state, parent, ctx).await?;

        // What a parent needs is readable although it may be condemned: its own commit made sure that it stays.
        let readable = self.index(&state, |origin| *origin == signer).await?;
        let index = Arc::new(readable.also_without(state.unusable_packs()));
        let readable = Arc::new(readable);
        let epoch = keyring.current_epoch()?;
        let data_key = Secret::new(ctx.random()?);
        let aad = keyring.domain(epoch.epoch).aad(ObjectType::SessionKey, id.as_bytes());
        let sealed_key = hpke::seal(&epoch.data_public, &aad, &*data_key, ctx)?;
        let origin = Origin { session: *id.as_bytes(), signer, data_key, sealed_key };
        // A full backup heals what was lost: it trusts no pack that is not there.
        let present = if options.full { Some(self.packs_there().await?) } else { None };
        let store = ChunkStore::new(self.clone(), origin, index, present, options.compression, ctx.clone())?;
        let checkpoints = Checkpoints::new(id, &options, before.as_ref(), ctx);
        if let Some(before) = before {
            store.take_up(before.checkpoint).await?;
        }
        Ok(WriteSession {
            repository: self.clone(),
            id,
            generation,
            workload,
            time: options.time.unwrap_or_else(|| ctx.now()),
            options,
            parent,
            lost,
            sequence,
            previous,
            rank,
            nodes: Arc::new(StoredNodes::of_index(self, readable)),
            store: Arc::new(store),
            checkpoints: Arc::new(checkpoints),
            disks: Vec::new(),
            streams: Vec::new(),
            attachments: Vec::new(),
            broken: false,
            ctx: ctx.clone(),
        })
    }
}

/// What is lost of a disk of the parent.
#[derive(Clone, Debug, Default)]
pub(super) struct LostOfDisk {
    /// These bytes.
    pub ranges: RangeSet,
    /// A node above the leaves: the parent's map cannot be followed.
    pub map: bool,
}

impl Repository {
    /// What is lost of a parent's disks. A parent of which nobody can say is none.
    async fn lost_of_parent(
        &self,
        state: &State,
        parent: Option<StoredPoint>,
        ctx: &Context,
    ) -> Result<(Option<StoredPoint>, BTreeMap<String, LostOfDisk>)> {
        let Some(point) = parent else { return Ok((None, BTreeMap::new())) };
        let known = self.lost_of(&state.chain, &point.id()).await?;
        match known.map(|known| known.record).transpose() {
            Ok(record) => {
                let disks = record.into_iter().flat_map(|record| record.disks);
                let lost =
                    disks.map(|part| (part.name.clone(), LostOfDisk { ranges: part.set(), map: part.map })).collect();
                Ok((Some(point), lost))
            }
            Err(error) => {
                ctx.task("begin", None)
                    .warn(format!("What is lost of the parent cannot be read, so all is read: {error}"));
                Ok((None, BTreeMap::new()))
            }
        }
    }

    async fn packs_there(&self) -> Result<HashSet<PackId>> {
        let mut there = HashSet::new();
        for folder in ["packs", "meta"] {
            let folder = ObjectKey::new(folder)?;
            let mut objects = self.backend().list(Some(&folder));
            while let Some(meta) = objects.try_next().await? {
                there.extend(PackId::from_hex(meta.key.name()));
            }
        }
        Ok(there)
    }
}

impl WriteSession {
    /// The id that the point will have.
    #[must_use]
    pub const fn id(&self) -> RestorePointId {
        self.id
    }

    /// The point that changes are counted from.
    pub fn parent(&self) -> Result<Option<RestorePoint>> {
        self.parent.as_ref().map(StoredPoint::describe).transpose()
    }

    /// What a disk's changes are counted from; none when the parent does not have the disk.
    #[must_use]
    pub fn change_base(&self, disk: &DiskId) -> Option<ChangeBase> {
        let (point, entry) = self.parent_disk(disk)?;
        let token = entry.token.as_ref().and_then(|token| ChangeToken::new(token.to_vec()).ok());
        Some(ChangeBase { point, size: entry.size, token })
    }

    /// Marks the session as broken until [`Self::wrote`]; so a write that fails, or whose future is dropped, leaves it broken.
    pub(super) fn writing(&mut self) -> Result<()> {
        if self.broken {
            return Err(Error::conflict(
                "An earlier write of this session failed, so nothing can come of it; begin another one",
            ));
        }
        self.broken = true;
        Ok(())
    }

    pub(super) const fn wrote(&mut self) {
        self.broken = false;
    }

    /// What seems damage may come of the session's end: a collector that has fenced it takes away what only this session would have
    /// kept.
    pub(super) async fn explain(&self, error: Error) -> Error {
        match may_be_stale(&error) && self.was_ended().await {
            true => Error::conflict("The backup was ended by a collector because it seemed dead: run it again")
                .with_source(error),
            false => error,
        }
    }

    /// Whether there is an outcome, or the chain has settled the session without one. `false` also when that cannot be seen.
    async fn was_ended(&self) -> bool {
        let Ok(key) = session_key(&self.id, "outcome") else { return false };
        if self.repository.backend().head(&key).await.is_ok() {
            return true;
        }
        let chain = Chain::load(self.repository.objects(), &self.repository.config().owner).await;
        chain.is_ok_and(|chain| self.generation < chain.folded.floor)
    }

    /// Puts a checkpoint when one is due.
    pub(super) async fn checkpoint(&self) -> Result<()> {
        self.checkpoints.when_due(&self.store, self.repository.objects(), &self.ctx).await
    }

    pub(super) fn parent_disk(&self, disk: &DiskId) -> Option<(RestorePointId, &DiskEntry)> {
        let parent = self.parent.as_ref()?;
        let entry = parent.record.disks.iter().find(|entry| entry.id == disk.as_str())?;
        // Where a part of the map is lost that nobody can go through, the disk is read as if it were new.
        let cut = self.lost.get(disk.as_str()).is_some_and(|lost| lost.map);
        (!cut).then(|| (parent.id(), entry))
    }

    /// Whether something of the parent's disk that is lost lies in these bytes.
    pub(super) fn is_lost(&self, disk: &DiskId, bytes: &std::ops::Range<u64>) -> bool {
        self.lost.get(disk.as_str()).is_some_and(|lost| lost.ranges.intersects(bytes))
    }

    pub(super) fn parent_map(&self, entry: &DiskEntry) -> MapCursor {
        MapCursor::new(Arc::clone(&self.nodes) as _, entry.size, entry.root)
    }

    /// Gives up because of `error`. When that was an interruption (cancelled, the store away) and there are checkpoints, the session stays
    /// open so that it can be taken up again, which the error then says; else it is settled as [`Self::abort`] does.
    pub async fn give_up(self, error: Error) -> Error {
        let interrupted = matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Unavailable);
        if interrupted && self.checkpoints.any().await {
            return error
                .with_context("next", "what was stored so far is kept: run the backup again and let it resume");
        }
        self.abort().await;
        error
    }

    /// Gives up: says in the repository that nothing will come of this session.
    pub async fn abort(self) {
        settle_aborted(&self.repository, &self.id, self.generation, &self.ctx).await;
    }
}

/// Settles a session as aborted. If that fails too the session stays unsettled, which no reader takes for a point.
pub(in crate::repository) async fn settle_aborted(
    repository: &Repository,
    id: &RestorePointId,
    generation: u64,
    ctx: &Context,
) {
    let settle = async {
        let (token, outcome) = (ctx.random()?, Outcome::Aborted);
        let outcome = SessionOutcome { session: *id.as_bytes(), token, outcome, generation };
        let key = session_key(id, "outcome")?;
        repository.objects().put_record(&key, ObjectType::SessionOutcome, &outcome, ctx).await
    };
    if let Err(error) = settle.await {
        ctx.task("give up", None).warn(format!("The session could not be settled as aborted: {error}"));
    }
}
