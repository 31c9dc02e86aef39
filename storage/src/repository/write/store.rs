//! Where a session's chunks and nodes go: known ones nowhere, new ones into packs, their places into index segments.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use backstay_core::{Context, ObjectKey, Result};
use bytes::Bytes;

use super::cipher::SegmentCipher;
use crate::repository::{
    Repository,
    chunk::IdKeys,
    compress::{Compression, compress},
    crypto::{Domain, ObjectType, frame},
    format::session::SessionCheckpoint,
    ids::{ChunkId, NodeId, PackId, SegmentId, SignerId},
    index::{Index, PackKind, Section, Segment, SegmentBuilder},
    keys::Secret,
    map::NodeSink,
    pack::{KeyEntry, Packer, SealedBatch, StoredPack},
};

/// Records that wait for a segment of their own: some 12 MiB of them.
const FLUSH_RECORDS: usize = 256 << 10;

/// Memory for pages of what this session has stored.
const OWN_CACHE_BYTES: usize = 4 << 20;

/// Bytes of content that are sealed as one job: enough to be worth a thread, little enough to hold several of.
const SEAL_BYTES: usize = 4 << 20;

/// The object name of an index segment.
pub fn segment_key(id: &SegmentId) -> Result<ObjectKey> {
    ObjectKey::new(format!("index/{}", id.to_hex()))
}

/// A chunk that must be stored: its id and its bytes.
pub type NewChunk = (ChunkId, Bytes);

/// Takes what one session writes.
pub struct ChunkStore {
    repository: Repository,
    ids: IdKeys,
    data_key: Arc<Secret>,
    node_key: Secret,
    domain: Domain,
    compression: Compression,
    data: Packer,
    meta: Packer,
    /// What committed sessions that this writer may trust have stored.
    before: Arc<Index>,
    /// The packs that are really there; asked for only when everything is written anew.
    present: Option<HashSet<PackId>>,
    /// What this session has stored and indexed.
    own: Mutex<Arc<Index>>,
    /// Chunks and nodes that this session has stored or is storing, and that are in no segment yet.
    claimed: Mutex<HashSet<[u8; 32]>>,
    pending: Mutex<Pending>,
    written: Mutex<Written>,
    stored_bytes: AtomicU64,
    ctx: Context,
}

#[derive(Default)]
struct Pending {
    packs: Vec<StoredPack>,
    records: usize,
}

/// What a session has put.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// Its data packs.
    pub packs: Vec<PackId>,
    /// Its packs of map nodes.
    pub meta_packs: Vec<PackId>,
    /// Its segments.
    pub segments: Vec<SegmentId>,
}

/// Who writes, and with which keys.
pub struct Origin {
    pub session: [u8; 16],
    pub signer: SignerId,
    pub data_key: Secret,
    pub sealed_key: Vec<u8>,
}

impl ChunkStore {
    pub fn new(
        repository: Repository,
        origin: Origin,
        before: Arc<Index>,
        present: Option<HashSet<PackId>>,
        compression: Compression,
        ctx: Context,
    ) -> Result<Self> {
        let objects = repository.objects();
        let keyring = objects.keyring();
        let epoch = keyring.current_epoch()?;
        let domain = keyring.domain(epoch.epoch);
        let structure = Secret::new(epoch.structure);
        let nominal = repository.config().pack_bytes as usize;
        let packer = |kind, sealed_key: Option<Vec<u8>>| {
            let key = KeyEntry {
                epoch: epoch.epoch,
                session: origin.session,
                origin: origin.signer,
                sealed_key: sealed_key.map(Into::into),
            };
            Packer::new(kind, key, structure.clone(), domain, objects.clone(), nominal, ctx.clone())
        };
        let (data, meta) = (packer(PackKind::Data, Some(origin.sealed_key)), packer(PackKind::Meta, None));
        Ok(Self {
            ids: keyring.ids()?.clone(),
            data_key: Arc::new(origin.data_key),
            node_key: keyring.node_key(epoch.epoch)?,
            domain,
            compression,
            data,
            meta,
            before,
            present,
            own: Mutex::new(Arc::new(Index::new(OWN_CACHE_BYTES))),
            claimed: Mutex::default(),
            pending: Mutex::default(),
            written: Mutex::default(),
            stored_bytes: AtomicU64::new(0),
            repository,
            ctx,
        })
    }

    /// The keys that chunk ids are made with.
    pub const fn ids(&self) -> &IdKeys {
        &self.ids
    }

    /// Bytes of packs and segments put so far.
    pub fn stored_bytes(&self) -> u64 {
        self.stored_bytes.load(Ordering::Relaxed)
    }

    /// Stores those of the chunks that nobody has stored yet.
    pub async fn store(&self, chunks: Vec<NewChunk>) -> Result<()> {
        let chunks = self.claim(Section::Data, chunks).await?;
        if chunks.is_empty() {
            return Ok(());
        }
        let mut rest = chunks.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut some, mut bytes) = (Vec::new(), 0);
            while let Some(chunk) = rest.next_if(|(_, plain)| bytes == 0 || bytes + plain.len() <= SEAL_BYTES) {
                bytes += chunk.1.len();
                some.push(chunk);
            }
            let (key, domain, compression, ctx) =
                (Arc::clone(&self.data_key), self.domain, self.compression, self.ctx.clone());
            let batch = self.ctx.cpu(move || seal_chunks(&key, &domain, compression, &some, &ctx)).await?;
            let stored = self.data.append(batch).await?;
            self.note(stored).await?;
        }
        Ok(())
    }

    /// Picks what must be stored and makes sure that nobody else of this session does it too.
    async fn claim(&self, section: Section, mut chunks: Vec<NewChunk>) -> Result<Vec<NewChunk>> {
        {
            let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
            chunks.retain(|(id, _)| claimed.insert(id.0));
        }
        if chunks.is_empty() {
            return Ok(chunks);
        }
        let ids: Vec<_> = chunks.iter().map(|(id, _)| id.0).collect();
        let mut known = self.before.find_many(section, &ids).await?;
        if let Some(present) = &self.present {
            known.iter_mut().for_each(|known| *known = known.take().filter(|at| present.contains(&at.pack)));
        }
        // No lock is held while a page is read: whoever waits for it may be what keeps this from going on.
        let own = Arc::clone(&self.own.lock().unwrap_or_else(PoisonError::into_inner));
        if own.segments().next().is_some() {
            for (known, own) in known.iter_mut().zip(own.find_many(section, &ids).await?) {
                *known = known.take().or(own);
            }
        }
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = known.into_iter();
        chunks.retain(|(id, _)| {
            let found = known.next().flatten().is_some();
            if found {
                claimed.remove(&id.0);
            }
            !found
        });
        Ok(chunks)
    }

    /// Takes note of packs that are safe, and writes a segment when enough have come together.
    async fn note(&self, stored: Vec<StoredPack>) -> Result<()> {
        let due = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            for pack in stored {
                self.stored_bytes.fetch_add(pack.size, Ordering::Relaxed);
                pending.records += pack.frames.len();
                pending.packs.push(pack);
            }
            if pending.records < FLUSH_RECORDS {
                return Ok(());
            }
            std::mem::take(&mut *pending)
        };
        self.flush(due.packs).await
    }

    async fn flush(&self, packs: Vec<StoredPack>) -> Result<()> {
        if packs.is_empty() {
            return Ok(());
        }
        let named: Vec<_> = packs.iter().map(|pack| (pack.kind, pack.id)).collect();
        let (repository, ctx) = (self.repository.clone(), self.ctx.clone());
        let built = self.ctx.cpu(move || {
            let mut builder = SegmentBuilder::new();
            let mut ids = HashSet::new();
            for pack in &packs {
                let number = builder.add_pack(pack.id, pack.size, pack.kind);
                let section = match pack.kind {
                    PackKind::Data => Section::Data,
                    PackKind::Meta => Section::Meta,
                };
                for frame in &pack.frames {
                    builder.add(section, frame.id, number, frame.offset, frame.stored, frame.plain);
                    ids.insert(frame.id);
                }
            }
            let keyring = repository.objects().keyring();
            let epoch = keyring.current_epoch()?.epoch;
            let segments = builder.finish(epoch, &mut || {
                let salt = ctx.random()?;
                Ok((salt, SegmentCipher::of(keyring, epoch, salt)?))
            })?;
            Ok((segments, ids))
        });
        let (segments, ids) = built.await?;
        for segment in segments {
            self.stored_bytes.fetch_add(segment.bytes.len() as u64, Ordering::Relaxed);
            self.repository.objects().put_new(&segment_key(&segment.id)?, segment.bytes.clone(), &self.ctx).await?;
            let opened = Arc::new(self.repository.own_segment(&segment).await?);
            self.push_own([opened]);
            self.written.lock().unwrap_or_else(PoisonError::into_inner).segments.push(segment.id);
        }
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        for (kind, id) in named {
            match kind {
                PackKind::Data => written.packs.push(id),
                PackKind::Meta => written.meta_packs.push(id),
            }
        }
        drop(written);
        // From here on the segment answers for them.
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.retain(|id| !ids.contains(id));
        Ok(())
    }

    /// From here on look-ups find what these segments name; those that have begun go on without.
    fn push_own(&self, segments: impl IntoIterator<Item = Arc<Segment>>) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let mut with = own.also_without(HashSet::new());
        segments.into_iter().for_each(|segment| with.push(segment));
        *own = Arc::new(with);
    }

    /// Indexes all packs that are safe by now, and gives what is safe and indexed: what a checkpoint may name.
    pub async fn indexed(&self) -> Result<Written> {
        let due = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        self.flush(due.packs).await?;
        Ok(self.written.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Takes over what an earlier run of the session has put.
    pub async fn take_up(&self, before: SessionCheckpoint) -> Result<()> {
        self.push_own(self.repository.segments(&before.segments).await?);
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        *written = Written { packs: before.packs, meta_packs: before.meta_packs, segments: before.segments };
        Ok(())
    }

    /// Closes the last packs and segments; what it gives is all that the session has put.
    pub async fn finish(&self) -> Result<Written> {
        for packer in [&self.data, &self.meta] {
            let stored = packer.finish().await?;
            self.note(stored).await?;
        }
        self.indexed().await
    }
}

#[cfg(feature = "synthetic")]
impl ChunkStore {
    /// Takes note of a pack that nobody puts.
    pub async fn name_pack(&self, pack: StoredPack) -> Result<()> {
        self.note(vec![pack]).await
    }

    /// Closes the pack of map nodes, as the end of a session does.
    pub async fn close_meta(&self) -> Result<()> {
        let stored = self.meta.finish().await?;
        self.note(stored).await
    }
}

#[async_trait]
impl NodeSink for ChunkStore {
    async fn put_node(&self, node: Vec<u8>) -> Result<NodeId> {
        let id = self.repository.objects().keyring().node_id(&node)?;
        let new = self.claim(Section::Meta, vec![(ChunkId(id.0), node.into())]).await?;
        if let Some((_, node)) = new.first() {
            let mut batch = SealedBatch { bytes: self.ctx.buffers().take(node.len()), frames: Vec::new() };
            batch.bytes.clear();
            let codec = frame::Codec::Raw;
            let content = frame::Content { kind: ObjectType::Node, id: &id.0, codec, payload: node };
            frame::seal(&self.node_key, &self.domain, content, &mut batch.bytes, &self.ctx)?;
            batch.frames.push((id.0, node.len() as u32, batch.bytes.len() as u32));
            let stored = self.meta.append(batch).await?;
            self.note(stored).await?;
        }
        Ok(id)
    }
}

fn seal_chunks(
    key: &Secret,
    domain: &Domain,
    compression: Compression,
    chunks: &[NewChunk],
    ctx: &Context,
) -> Result<SealedBatch> {
    let plain: usize = chunks.iter().map(|(_, plain)| plain.len()).sum();
    // Room for chunks that do not shrink: a buffer that has to grow is copied and its old pages are wasted.
    let room = plain + chunks.len() * frame::OVERHEAD_BYTES;
    let mut batch = SealedBatch { bytes: ctx.buffers().take(room), frames: Vec::with_capacity(chunks.len()) };
    batch.bytes.clear();
    let mut scratch = Vec::new();
    for (id, plain) in chunks {
        ctx.check()?;
        let codec = compress(plain, compression, &mut scratch)?;
        let payload = if codec == frame::Codec::Raw { plain } else { scratch.as_slice() };
        let before = batch.bytes.len();
        let content = frame::Content { kind: ObjectType::Chunk, id: &id.0, codec, payload };
        frame::seal(key, domain, content, &mut batch.bytes, ctx)?;
        batch.frames.push((id.0, plain.len() as u32, (batch.bytes.len() - before) as u32));
    }
    Ok(batch)
}
