//! A write session: opened before anything is stored, settled by its outcome.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use backstay_core::{
    ChangeBase, ChangeToken, Context, DiskId, Error, ObjectKey, RestorePoint, RestorePointId, Result, Timestamp,
    Workload,
};

use futures::TryStreamExt;

use super::store::{ChunkStore, Origin};
use crate::repository::{
    Repository,
    compress::Compression,
    crypto::{ObjectType, hpke},
    format::{
        point::{AttachmentEntry, DiskEntry, StreamEntry},
        session::{Outcome, Purpose, SessionOpen, SessionOutcome},
    },
    ids::{ObjectHash, PackId},
    keys::Secret,
    map::MapCursor,
    nodes::StoredNodes,
    points::StoredPoint,
    state::{Chain, State, session_key},
};

/// How often a session starts over because the chain moved while it was opening.
const OPEN_ATTEMPTS: usize = 32;

/// How to write a restore point.
#[derive(Clone, Debug, Default)]
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
    pub(super) sequence: u64,
    pub(super) previous: ObjectHash,
    pub(super) nodes: Arc<StoredNodes>,
    pub(super) store: Arc<ChunkStore>,
    pub(super) disks: Vec<DiskEntry>,
    pub(super) streams: Vec<StreamEntry>,
    pub(super) attachments: Vec<AttachmentEntry>,
    /// A write began and did not end well: some of its chunks may be counted as stored and are not.
    pub(super) broken: bool,
    pub(super) ctx: Context,
}

impl Repository {
    /// Opens a session that will write a restore point of `workload`.
    pub async fn begin(&self, workload: Workload, options: SessionOptions, ctx: &Context) -> Result<WriteSession> {
        if !self.capability().may_write() {
            return Err(Error::permission_denied(format!(
                "A {} key cannot back up; open the repository with a writer's or the owner's",
                self.capability().name()
            )));
        }
        ctx.check()?;
        let (id, state) = self.open_session(ctx).await?;
        let opened = self.session_after_open(id, state, workload, options, ctx).await;
        if opened.is_err() {
            settle_aborted(self, &id, ctx).await;
        }
        opened
    }

    /// Puts `open` between two reads of the head that agree.
    async fn open_session(&self, ctx: &Context) -> Result<(RestorePointId, State)> {
        for _ in 0..OPEN_ATTEMPTS {
            ctx.check()?;
            let head = Chain::load(self.objects(), &self.config().owner).await?.head;
            let id = RestorePointId::from_bytes(ctx.random()?);
            let open = SessionOpen {
                session: *id.as_bytes(),
                generation: head,
                time: ctx.now().as_nanos(),
                purpose: Purpose::Write,
            };
            self.objects().put_record(&session_key(&id, "open")?, ObjectType::SessionOpen, &open, ctx).await?;
            let state = self.state().await?;
            if state.chain.head == head {
                return Ok((id, state));
            }
            settle_aborted(self, &id, ctx).await;
        }
        Err(Error::conflict("The repository's chain moved on and on while the backup was starting; try again")
            .retryable())
    }

    async fn session_after_open(
        &self,
        id: RestorePointId,
        state: State,
        workload: Workload,
        options: SessionOptions,
        ctx: &Context,
    ) -> Result<WriteSession> {
        let keyring = self.objects().keyring();
        let signer = keyring.bundle().signing_key()?.verifying_key().to_bytes();
        let signer = crate::repository::ids::SignerId(signer);
        let (points, damaged) = self.readable_points(&state).await?;
        if !damaged.is_empty() {
            // A damaged point of whatever workload must not end all backups; it is no parent, and somebody has to look.
            let task = ctx.task("begin", None);
            damaged.iter().for_each(|error| task.warn(format!("A restore point cannot be read, run `check`: {error}")));
        }
        let mut of_workload: Vec<_> =
            points.into_iter().filter(|point| point.record.workload == workload.id.as_str()).collect();
        of_workload.sort_by_key(|point| (point.record.sequence, point.record.time, point.record.session));
        let last = of_workload.last();
        let (sequence, previous) =
            last.map_or((1, ObjectHash([0; 32])), |last| (last.record.sequence.saturating_add(1), last.hash));
        // Another writer's point is no parent: nobody vouches for its chunks yet.
        let parent = of_workload.iter().rfind(|point| point.origin == signer && !options.full).cloned();

        let index = Arc::new(self.index(&state, |session| session.origin == signer).await?);
        let epoch = keyring.current_epoch()?;
        let data_key = Secret::new(ctx.random()?);
        let aad = keyring.domain(epoch.epoch).aad(ObjectType::SessionKey, id.as_bytes());
        let sealed_key = hpke::seal(&epoch.data_public, &aad, &*data_key, ctx)?;
        let origin = Origin { session: *id.as_bytes(), signer, data_key, sealed_key };
        // A full backup heals what was lost: it trusts no pack that is not there.
        let present = if options.full { Some(self.packs_there().await?) } else { None };
        let store =
            ChunkStore::new(self.clone(), origin, Arc::clone(&index), present, options.compression, ctx.clone())?;
        Ok(WriteSession {
            repository: self.clone(),
            id,
            generation: state.chain.head,
            workload,
            time: options.time.unwrap_or_else(|| ctx.now()),
            options,
            parent,
            sequence,
            previous,
            nodes: Arc::new(StoredNodes::new(self.clone(), index)),
            store: Arc::new(store),
            disks: Vec::new(),
            streams: Vec::new(),
            attachments: Vec::new(),
            broken: false,
            ctx: ctx.clone(),
        })
    }
}

impl Repository {
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

    pub(super) fn parent_disk(&self, disk: &DiskId) -> Option<(RestorePointId, &DiskEntry)> {
        let parent = self.parent.as_ref()?;
        let entry = parent.record.disks.iter().find(|entry| entry.id == disk.as_str())?;
        Some((parent.id(), entry))
    }

    pub(super) fn parent_map(&self, entry: &DiskEntry) -> MapCursor {
        MapCursor::new(Arc::clone(&self.nodes) as _, entry.size, entry.root)
    }

    /// Gives up: says in the repository that nothing will come of this session.
    pub async fn abort(self) {
        settle_aborted(&self.repository, &self.id, &self.ctx).await;
    }
}

/// Settles a session as aborted. If that fails too the session stays unsettled, which no reader takes for a point.
async fn settle_aborted(repository: &Repository, id: &RestorePointId, ctx: &Context) {
    let settle = async {
        let outcome = SessionOutcome { session: *id.as_bytes(), token: ctx.random()?, outcome: Outcome::Aborted };
        let key = session_key(id, "outcome")?;
        repository.objects().put_record(&key, ObjectType::SessionOutcome, &outcome, ctx).await
    };
    if let Err(error) = settle.await {
        ctx.task("give up", None).warn(format!("The session could not be settled as aborted: {error}"));
    }
}
