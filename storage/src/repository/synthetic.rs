//! Repositories of any size in little space: maps, index, points and the chain are real, packs of chunks are only named.
//!
//! What a repository of 100 million chunks costs to open, to look things up in and to plan a prune of can be measured on them;
//! restored they cannot be.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use backstay_core::{Context, Error, Result};
use bytes::Bytes;

use super::{
    Repository,
    chain::Chain,
    chunk::Entry,
    compress::Compression,
    crypto::{ObjectType, hpke},
    format::{
        chain::{BaseSegment, Change, FoldedState, SettledSession},
        point::{DiskEntry, PointRecord},
    },
    ids::{ChunkId, NodeId, ObjectHash, PackId},
    index::{Index, PackKind, Section},
    keys::Secret,
    map::{MapCursor, MapUpdate, NodeSink, NodeSource, encode_leaf},
    pack::{PackedFrame, StoredPack},
    state::point_key,
    write::{ChunkStore, Origin, Written},
};

/// Chunks of a full segment: each of 64 KiB.
const CHUNKS_OF_SEGMENT: u64 = 256;
const SEGMENT_BYTES: u64 = 16 << 20;
const CHUNK_BYTES: u32 = 64 << 10;
/// What a chunk takes in its pack.
const STORED_BYTES: u32 = 60_000;
const CHUNKS_OF_PACK: usize = 512;
/// Of all chunks of a workload so many in a hundred come with its first point.
const FIRST_PERCENT: u64 = 80;
/// New chunks of a segment that a later point touches.
const NEW_OF_SEGMENT: u64 = 64;

/// How large.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Chunks in all; about.
    pub chunks: u64,
    /// Restore points.
    pub points: u64,
    /// Points of each workload: a first one and incrementals.
    pub points_of_workload: u64,
    /// Workloads made at once.
    pub at_once: u64,
}

impl Shape {
    const fn workloads(&self) -> u64 {
        self.points.div_ceil(self.points_of_workload)
    }
}

/// The id of a chunk of a workload, as even as a hash.
#[must_use]
pub fn chunk_id(workload: u64, number: u64) -> ChunkId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&workload.to_le_bytes());
    bytes[8..].copy_from_slice(&number.to_le_bytes());
    ChunkId(*blake3::hash(&bytes).as_bytes())
}

/// How many of these chunks the index knows.
pub async fn look_up(repository: &Repository, ids: &[ChunkId]) -> Result<usize> {
    let state = repository.state().await?;
    let index = repository.index(&state, |_| true).await?;
    let mut found = 0;
    for ids in ids.chunks(4096) {
        let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
        found += index.find_many(Section::Data, &ids).await?.into_iter().flatten().count();
    }
    Ok(found)
}

/// Fills a new repository and closes a generation over it. Gives how many chunks it has.
pub async fn fill(repository: &Repository, shape: Shape, ctx: &Context) -> Result<u64> {
    let mut makers = Vec::new();
    let lanes = shape.at_once.clamp(1, shape.workloads());
    for lane in 0..lanes {
        let maker = Maker::new(repository, shape, ctx)?;
        makers.push(tokio::spawn(async move { maker.run((lane..shape.workloads()).step_by(lanes as usize)).await }));
    }
    let mut folded = FoldedState { floor: 1, ..FoldedState::default() };
    let mut chunks = 0;
    for maker in makers {
        let made = maker.await.map_err(|error| Error::internal("A maker was lost").with_source(error))??;
        let origin = repository.objects().keyring().bundle().signing_key()?.verifying_key().to_bytes();
        let origin = super::ids::SignerId(origin);
        folded.base_segments.extend(made.written.segments.into_iter().map(|id| BaseSegment { id, origin }));
        folded.settled.extend(made.settled);
        chunks += made.chunks;
    }
    let chain = Chain::load(repository.objects(), &repository.config().owner).await?;
    chain.append(repository.objects(), Change::Verdict(chain.head), Some(&folded), ctx).await?;
    Ok(chunks)
}

/// What a maker has made.
struct Made {
    settled: Vec<SettledSession>,
    written: Written,
    chunks: u64,
}

/// Makes workloads one after the other.
struct Maker {
    repository: Repository,
    nodes: Arc<Remembered>,
    shape: Shape,
    ctx: Context,
    settled: Vec<SettledSession>,
    chunks: u64,
}

impl Maker {
    fn new(repository: &Repository, shape: Shape, ctx: &Context) -> Result<Self> {
        let keyring = repository.objects().keyring();
        let epoch = keyring.current_epoch()?;
        let (session, data_key) = (ctx.random()?, Secret::new(ctx.random()?));
        let aad = keyring.domain(epoch.epoch).aad(ObjectType::SessionKey, &session);
        let sealed_key = hpke::seal(&epoch.data_public, &aad, &*data_key, ctx)?;
        let signer = super::ids::SignerId(keyring.bundle().signing_key()?.verifying_key().to_bytes());
        let origin = Origin { session, signer, data_key, sealed_key };
        let (nothing, compression) = (Arc::new(Index::new(0)), Compression::default());
        let store = ChunkStore::new(repository.clone(), origin, nothing, None, compression, ctx.clone())?;
        let nodes = Arc::new(Remembered { store, inner: Mutex::default() });
        let (repository, ctx) = (repository.clone(), ctx.clone());
        Ok(Self { repository, nodes, shape, ctx, settled: Vec::new(), chunks: 0 })
    }

    async fn run(mut self, workloads: impl Iterator<Item = u64>) -> Result<Made> {
        for workload in workloads {
            self.workload(workload).await?;
        }
        let written = self.nodes.store.finish().await?;
        Ok(Made { settled: self.settled, written, chunks: self.chunks })
    }

    async fn workload(&mut self, workload: u64) -> Result<()> {
        let points = self.shape.points_of_workload.min(self.shape.points);
        let chunks = self.shape.chunks / self.shape.workloads();
        let first = chunks * if points > 1 { FIRST_PERCENT } else { 100 } / 100;
        let segments = first.div_ceil(CHUNKS_OF_SEGMENT).max(2);
        let later = if points > 1 { (chunks - first.min(chunks)) / (points - 1) } else { 0 };
        let touched = later.div_ceil(NEW_OF_SEGMENT).clamp(1, segments);
        let mut maps: Vec<Vec<u64>> = Vec::new();
        let (mut next, mut parent) = (0, None);
        let mut previous = ObjectHash([0; 32]);
        for sequence in 1..=points {
            let begin = next;
            let source =
                parent.map(|root| MapCursor::new(Arc::clone(&self.nodes) as _, segments * SEGMENT_BYTES, root));
            let mut map = MapUpdate::new(source, segments * SEGMENT_BYTES, Arc::clone(&self.nodes) as _);
            if sequence == 1 {
                for segment in 0..segments {
                    let numbers: Vec<_> = (next..next + CHUNKS_OF_SEGMENT).collect();
                    next += CHUNKS_OF_SEGMENT;
                    map.set(segment, Some(self.leaf(workload, &numbers).await?)).await?;
                    maps.push(numbers);
                }
            } else {
                // Spread over the disk, and elsewhere for each point.
                let (step, shift) = (segments / touched, sequence % (segments / touched));
                for segment in (0..touched).map(|at| at * step + shift) {
                    let numbers = &mut maps[segment as usize];
                    for at in 0..NEW_OF_SEGMENT.min(later) {
                        numbers[((at * 4 + sequence) % CHUNKS_OF_SEGMENT) as usize] = next;
                        next += 1;
                    }
                    let numbers = numbers.clone();
                    map.set(segment, Some(self.leaf(workload, &numbers).await?)).await?;
                }
            }
            let root = map.finish().await?;
            self.name_packs(workload, begin..next).await?;
            self.nodes.store.close_meta().await?;
            previous = self.point(workload, sequence, segments * SEGMENT_BYTES, root, previous).await?;
            parent = Some(root);
        }
        self.chunks += next;
        self.nodes.inner.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    async fn leaf(&self, workload: u64, numbers: &[u64]) -> Result<NodeId> {
        let blocks = CHUNK_BYTES / 4096;
        let entry = |number: &u64| Entry::Chunk { blocks, id: chunk_id(workload, *number) };
        let entries: Vec<_> = numbers.iter().map(entry).collect();
        self.nodes.store.put_node(encode_leaf(&entries)).await
    }

    async fn name_packs(&self, workload: u64, numbers: std::ops::Range<u64>) -> Result<()> {
        let numbers: Vec<_> = numbers.collect();
        for numbers in numbers.chunks(CHUNKS_OF_PACK) {
            let frame = |(at, number): (usize, &u64)| PackedFrame {
                id: chunk_id(workload, *number).0,
                offset: at as u32 * STORED_BYTES,
                stored: STORED_BYTES,
                plain: CHUNK_BYTES,
            };
            let frames = numbers.iter().enumerate().map(frame).collect();
            let pack = StoredPack { id: PackId(self.ctx.random()?), kind: PackKind::Data, size: 32 << 20, frames };
            self.nodes.store.name_pack(pack).await?;
        }
        Ok(())
    }

    async fn point(
        &mut self,
        workload: u64,
        sequence: u64,
        size: u64,
        root: Option<NodeId>,
        previous: ObjectHash,
    ) -> Result<ObjectHash> {
        let session: [u8; 16] = self.ctx.random()?;
        let disk = DiskEntry {
            id: "vda".into(),
            size,
            root,
            chunker: self.repository.config().disk_chunker.clone(),
            token: None,
            method: u8::from(sequence > 1),
            reason: None,
            read_bytes: 0,
        };
        let mut record = PointRecord {
            session,
            generation: 0,
            workload: format!("workload-{workload:05}"),
            kind: "vm".into(),
            platform: BTreeMap::new(),
            sequence,
            previous,
            parent: None,
            time: (sequence as i64) << 40,
            consistency: 0,
            labels: BTreeMap::new(),
            disks: vec![disk],
            streams: Vec::new(),
            attachments: Vec::new(),
            read_bytes: 0,
            stored_bytes: 0,
            mark: [0; 16],
            provenance: None,
            rank: Some(sequence),
        };
        record.disks[0].token = Some(TOKEN.to_vec().into());
        let key = point_key(&backstay_core::RestorePointId::from_bytes(session))?;
        let point = self.repository.objects().put_record(&key, ObjectType::Point, &record, &self.ctx).await?;
        record.disks[0].token = None;
        let origin = super::ids::SignerId(
            self.repository.objects().keyring().bundle().signing_key()?.verifying_key().to_bytes(),
        );
        self.settled.push(SettledSession { session, point, origin, summary: record });
        Ok(point)
    }
}

/// The change token of every disk.
pub const TOKEN: &[u8] = b"synthetic";

/// Puts nodes and knows the inner ones again: the next map is made from them.
struct Remembered {
    store: ChunkStore,
    inner: Mutex<HashMap<NodeId, Bytes>>,
}

#[async_trait]
impl NodeSink for Remembered {
    async fn put_node(&self, node: Vec<u8>) -> Result<NodeId> {
        let bytes = Bytes::from(node.clone());
        let id = self.store.put_node(node).await?;
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).insert(id, bytes);
        Ok(id)
    }
}

#[async_trait]
impl NodeSource for Remembered {
    async fn node(&self, id: &NodeId) -> Result<Bytes> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.get(id).cloned().ok_or_else(|| Error::internal("A node was not remembered"))
    }
}
