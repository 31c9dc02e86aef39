//! Every step of a backup and of a restore by itself, and all of them together. `cargo bench --bench repository -- --quick`.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::HashMap,
    hint::black_box,
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use backstay::{
    Context, DiskId, DiskSource, Error, MemoryBackend, RangeSet, Repository, RestorePointId, Result, Workload,
    WorkloadId, WriteOrder,
    core::ChangeToken,
    repository::{
        Compression, Credential, DiskOptions, InitOptions, NewSlot, PointDetails, PointSelector, SecretKey,
        SessionOptions,
        chunk::{DiskChunker, IdKeys, cut_segment},
        crypto::{ObjectType, frame},
        fuzzing::{compress, decompress},
        ids::{NodeId, PackId, SignerId},
        index::{Index, PackKind, PageCipher, Section, Segment, SegmentBuilder, SegmentBytes},
        map::{MapCursor, MapUpdate, NodeSink, NodeSource},
        pack::{KeyEntry, PackBuilder},
    },
};
use backstay_testkit::{MemoryDisk, MemorySink, SeededRandom, noise};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use support::{Cipher, DOMAIN, ctx, id, mixed, runtime, text};

const CHUNK: usize = 64 << 10;
const SEGMENT: usize = 16 << 20;

fn cut(criterion: &mut Criterion) {
    let keys = IdKeys::new([1; 32], [2; 32]);
    let mut group = criterion.benchmark_group("cut 16 MiB");
    group.throughput(Throughput::Bytes(SEGMENT as u64));
    for (name, data) in [("noise", noise(1, SEGMENT)), ("text", text(SEGMENT)), ("zeroes", vec![0; SEGMENT])] {
        group.bench_function(name, |bench| bench.iter(|| cut_segment(DiskChunker::Aligned, &keys, black_box(&data))));
    }
    group.finish();
}

const fn chunk(codec: frame::Codec, payload: &[u8]) -> frame::Content<'_> {
    frame::Content { kind: ObjectType::Chunk, id: &[4; 32], codec, payload }
}

fn seal(criterion: &mut Criterion) {
    let (ctx, mut scratch, mut out) = (Context::default(), Vec::new(), Vec::new());
    let mut group = criterion.benchmark_group("compress and seal 64 KiB");
    group.throughput(Throughput::Bytes(CHUNK as u64));
    for (name, data) in [("noise", noise(1, CHUNK)), ("text", text(CHUNK))] {
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let codec = compress(black_box(&data), Compression::default(), &mut scratch).unwrap();
                let payload = if codec == frame::Codec::Raw { &data } else { &scratch };
                out.clear();
                frame::seal(&[3; 32], &DOMAIN, chunk(codec, payload), &mut out, &ctx).unwrap();
            });
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("open and unpack 64 KiB");
    group.throughput(Throughput::Bytes(CHUNK as u64));
    for (name, data) in [("noise", noise(1, CHUNK)), ("text", text(CHUNK))] {
        let codec = compress(&data, Compression::default(), &mut scratch).unwrap();
        let payload = if codec == frame::Codec::Raw { &data } else { &scratch };
        let mut sealed = Vec::new();
        frame::seal(&[3; 32], &DOMAIN, chunk(codec, payload), &mut sealed, &ctx).unwrap();
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let mut sealed = sealed.clone();
                let (codec, payload) =
                    frame::open(&[3; 32], &DOMAIN, ObjectType::Chunk, &[4; 32], &mut sealed).unwrap();
                decompress(codec, payload, CHUNK as u32).unwrap()
            });
        });
    }
    group.finish();
}

fn pack(criterion: &mut Criterion) {
    const PACK: usize = 32 << 20;
    let ctx = Context::default();
    let frames = noise(1, PACK - (1 << 20));
    let key = KeyEntry { epoch: 0, session: [1; 16], origin: SignerId([2; 32]), sealed_key: None };
    let mut group = criterion.benchmark_group("pack");
    group.throughput(Throughput::Bytes(PACK as u64));
    group.bench_function("finish 32 MiB", |bench| {
        let filled = || {
            let mut builder = PackBuilder::new(PackKind::Data, key.clone(), ctx.buffers().take(PACK + (1 << 20)));
            let ids = (0..frames.len() / 20_000).map(|number| (id(number as u64), CHUNK as u32, 20_000));
            builder.push(&frames, ids);
            builder
        };
        bench.iter_batched(filled, |builder| builder.finish(&[3; 32], &DOMAIN, &ctx).unwrap(), BatchSize::PerIteration);
    });
    group.finish();
}

/// A segment in memory.
struct Held(Bytes);

#[async_trait]
impl SegmentBytes for Held {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        Ok(self.0.slice(range.start as usize..range.end as usize))
    }

    fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

fn index(criterion: &mut Criterion) {
    const RECORDS: u64 = 1 << 20;
    let cipher: Arc<dyn PageCipher> = Arc::new(Cipher([5; 32]));
    let mut builder = SegmentBuilder::new();
    for pack in 0..RECORDS / 1024 {
        let number = builder.add_pack(PackId(id(1 << 40 | pack)), 32 << 20, PackKind::Data);
        (0..1024)
            .for_each(|at| builder.add(Section::Data, id(pack << 10 | at), number, at as u32 * 20_000, 20_000, 65_536));
    }
    let made = builder.finish(0, &mut || Ok(([6; 16], Arc::clone(&cipher)))).unwrap().remove(0);
    let runtime = runtime();
    let open = || {
        let bytes = Arc::new(Held(made.bytes.clone()));
        runtime.block_on(Segment::open(made.id, bytes, &|_| Ok(Arc::clone(&cipher)))).unwrap()
    };
    let indexed = |cache| {
        let mut index = Index::new(cache);
        index.push(Arc::new(open()));
        index
    };
    let mut group = criterion.benchmark_group("index of 1 Mi records");
    group.bench_function("open", |bench| bench.iter(open));
    let random = SeededRandom::new(1);
    let (cold, warm) = (indexed(0), indexed(16 << 20));
    let mut find = |name: &str, index: &Index, of: &dyn Fn() -> u64| {
        group.bench_function(name, |bench| {
            bench.iter(|| runtime.block_on(index.find(Section::Data, &id(of()))).unwrap());
        });
    };
    find("found, page not in memory", &cold, &|| random.below(RECORDS));
    find("found, page in memory", &warm, &|| random.below(64));
    find("absent", &warm, &|| RECORDS + random.below(1 << 30));
    group.bench_function("1,024 in one go, all found", |bench| {
        let ids: Vec<_> = (0..1024).map(|_| id(random.below(RECORDS))).collect();
        bench.iter(|| runtime.block_on(cold.find_many(Section::Data, &ids)).unwrap());
    });
    group.finish();
}

/// Map nodes in memory.
#[derive(Default)]
struct Nodes(Mutex<HashMap<[u8; 32], Bytes>>);

#[async_trait]
impl NodeSource for Nodes {
    async fn node(&self, id: &NodeId) -> Result<Bytes> {
        self.0.lock().unwrap().get(&id.0).cloned().ok_or_else(|| Error::integrity("There is no such node"))
    }
}

#[async_trait]
impl NodeSink for Nodes {
    async fn put_node(&self, node: Vec<u8>) -> Result<NodeId> {
        let id = NodeId(*blake3::hash(&node).as_bytes());
        self.0.lock().unwrap().insert(id.0, node.into());
        Ok(id)
    }
}

fn map(criterion: &mut Criterion) {
    const SIZE: u64 = 10 << 40;
    const SEGMENTS: u64 = SIZE / SEGMENT as u64;
    let (nodes, runtime) = (Arc::new(Nodes::default()), runtime());
    let update = |parent: Option<MapCursor>, leaves: &[u64], salt: u64| {
        let mut map = MapUpdate::new(parent, SIZE, Arc::clone(&nodes) as _);
        runtime.block_on(async {
            for leaf in leaves {
                map.set(*leaf, Some(NodeId(id(leaf ^ salt)))).await?;
            }
            map.finish().await
        })
    };
    let all: Vec<_> = (0..SEGMENTS).collect();
    let root = update(None, &all, 1 << 40).unwrap();
    let random = SeededRandom::new(1);
    let mut touched: Vec<_> = (0..1000).map(|_| random.below(SEGMENTS)).collect();
    touched.sort_unstable();
    touched.dedup();
    let mut group = criterion.benchmark_group("map of 10 TiB");
    group.bench_function("1,000 leaves touched", |bench| {
        bench.iter(|| {
            let parent = MapCursor::new(Arc::clone(&nodes) as _, SIZE, root);
            update(Some(parent), &touched, 2 << 40).unwrap()
        });
    });
    group.finish();
}

const DISK: usize = 256 << 20;

fn token(number: u8) -> ChangeToken {
    ChangeToken::new(vec![number]).unwrap()
}

/// A repository that a key opens, so that nothing waits for Argon2id.
async fn repository() -> Repository {
    let (ctx, backend) = (ctx(), Arc::new(MemoryBackend::default()));
    let key = SecretKey::generate(&ctx).unwrap();
    let options = InitOptions::slots(vec![NewSlot::KeyFile(key.clone())]).recovery(false);
    Repository::init(backend.clone(), options, &ctx).await.unwrap();
    Repository::open(backend, Credential::Key(key), &Context::default()).await.unwrap()
}

async fn back_up(repository: &Repository, disk: Arc<dyn DiskSource>) -> RestorePointId {
    let workload = Workload { id: WorkloadId::new("web").unwrap(), kind: "vm".into(), platform: Default::default() };
    let mut session = repository.begin(workload, SessionOptions::default(), &Context::default()).await.unwrap();
    session.write_disk(&DiskId::new("vda").unwrap(), disk, &DiskOptions::default()).await.unwrap();
    session.commit(PointDetails::default()).await.unwrap().id
}

fn end_to_end(criterion: &mut Criterion) {
    let runtime = runtime();
    let content = mixed(DISK);
    let first: Arc<dyn DiskSource> = Arc::new(MemoryDisk::new(content.clone()).with_token(token(1)));
    let random = SeededRandom::new(3);
    let dirty: RangeSet =
        (0..160).map(|_| random.below(DISK as u64 / 16384) * 16384).map(|at| at..at + 16384).collect();
    let mut changed = content;
    for range in dirty.ranges() {
        let bytes = noise(range.start, (range.end - range.start) as usize);
        changed[range.start as usize..range.end as usize].copy_from_slice(&bytes);
    }
    let second = MemoryDisk::new(changed).with_token(token(1)).changed_since_token(token(1), dirty);
    let second: Arc<dyn DiskSource> = Arc::new(second);

    let mut group = criterion.benchmark_group("256 MiB, in memory");
    group.sample_size(10).measurement_time(Duration::from_secs(10)).throughput(Throughput::Bytes(DISK as u64));
    group.bench_function("full backup", |bench| {
        let empty = || runtime.block_on(repository());
        let full = |repository| runtime.block_on(back_up(&repository, Arc::clone(&first)));
        bench.iter_batched(empty, full, BatchSize::PerIteration);
    });
    group.bench_function("incremental backup, 1 % dirty", |bench| {
        let after_full = || {
            runtime.block_on(async {
                let repository = repository().await;
                back_up(&repository, Arc::clone(&first)).await;
                repository
            })
        };
        let incremental = |repository| runtime.block_on(back_up(&repository, Arc::clone(&second)));
        bench.iter_batched(after_full, incremental, BatchSize::PerIteration);
    });
    group.bench_function("restore", |bench| {
        let ctx = Context::default();
        let (repository, point) = runtime.block_on(async {
            let repository = repository().await;
            let point = back_up(&repository, Arc::clone(&first)).await;
            (repository, PointSelector::Id(point.to_string()))
        });
        bench.iter(|| {
            runtime.block_on(async {
                let disk = repository.disk(&point, &DiskId::new("vda").unwrap(), &ctx).await.unwrap();
                let (sink, _result) = MemorySink::new(disk.size(), WriteOrder::Any);
                disk.restore_to(&sink, 0..disk.size(), &ctx).await.unwrap();
            });
        });
    });
    group.finish();
}

criterion_group!(benches, cut, seal, pack, index, map, end_to_end);
criterion_main!(benches);
