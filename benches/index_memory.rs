//! How much memory the index of a TiB takes: 16 Mi chunks in 16 segments on a local store, opened as a repository opens them.
//!
//! Exits with a failure above 20 MB of anonymous memory, the bounded cache of pages left out. `cargo bench --bench index_memory`.

#![allow(clippy::unwrap_used)]

mod support;

use std::{hint::black_box, ops::Range, process::ExitCode, sync::Arc, time::Instant};

use async_trait::async_trait;
use backstay::{
    LocalBackend, ObjectKey, ObjectMeta, PutMode, Result, StorageBackend,
    repository::{
        ids::{PackId, SegmentId},
        index::{Index, PackKind, PageCipher, Section, Segment, SegmentBuilder, SegmentBytes},
    },
};
use backstay_testkit::SeededRandom;
use bytes::Bytes;

use support::{Cipher, id};

const SEGMENTS: u64 = 16;
/// A TiB of chunks of 64 KiB, as a whole.
const RECORDS: u64 = 1 << 20;
const RECORDS_OF_A_PACK: u64 = 1024;
const LIMIT: u64 = 20_000_000;
const CACHE: usize = 16 << 20;
const LOOK_UPS: u32 = 20_000;

/// A segment as an object of a store.
struct Stored {
    backend: Arc<LocalBackend>,
    key: ObjectKey,
    len: u64,
}

#[async_trait]
impl SegmentBytes for Stored {
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        self.backend.get_range(&self.key, range).await
    }

    fn len(&self) -> u64 {
        self.len
    }
}

fn main() -> ExitCode {
    // A process that was started anew has no memory that building left behind.
    match std::env::var_os("BACKSTAY_BENCH_INDEX") {
        None => {
            let folder = tempfile::tempdir().unwrap();
            let started = Instant::now();
            support::runtime().block_on(build(folder.path()));
            println!("built {} records in {:.1} s", SEGMENTS * RECORDS, started.elapsed().as_secs_f64());
            let own = std::env::current_exe().unwrap();
            let mut child = std::process::Command::new(own);
            child.env("BACKSTAY_BENCH_INDEX", folder.path());
            // What glibc keeps for each thread differs from run to run by a MB; with one arena the figure is the index's own.
            child.env("MALLOC_ARENA_MAX", "1");
            let status = child.status().unwrap();
            if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Some(folder) => support::runtime().block_on(measure(folder.as_ref())),
    }
}

async fn build(folder: &std::path::Path) {
    let backend = LocalBackend::new(folder).unwrap();
    for segment in 0..SEGMENTS {
        let mut builder = SegmentBuilder::new();
        for pack in 0..RECORDS / RECORDS_OF_A_PACK {
            let first = segment * RECORDS + pack * RECORDS_OF_A_PACK;
            let number = builder.add_pack(PackId(id(1 << 40 | first)), 32 << 20, PackKind::Data);
            for at in 0..RECORDS_OF_A_PACK {
                builder.add(Section::Data, id(first + at), number, at as u32 * 20_000, 20_000, 65_536);
            }
        }
        let cipher: Arc<dyn PageCipher> = Arc::new(Cipher([5; 32]));
        for made in builder.finish(0, &mut || Ok(([6; 16], Arc::clone(&cipher)))).unwrap() {
            let key = ObjectKey::new(format!("index/{}", made.id)).unwrap();
            backend.put(&key, made.bytes, PutMode::Create).await.unwrap();
        }
    }
}

async fn measure(folder: &std::path::Path) -> ExitCode {
    use futures::TryStreamExt;
    let backend = Arc::new(LocalBackend::new(folder).unwrap());
    let listed: Vec<_> = backend.list(None).try_collect().await.unwrap();
    let cold = anonymous();
    // Threads, and buffers that the allocator keeps for the next footer, are there before the index and stay after it.
    for meta in &listed[..2] {
        drop(open(&backend, meta).await);
    }
    let before = anonymous();
    let started = Instant::now();
    let mut index = Index::new(CACHE);
    for meta in &listed {
        index.push(Arc::new(open(&backend, meta).await));
    }
    let opened = started.elapsed();
    let after = anonymous();
    let stats = index.stats();
    assert_eq!(stats.records, SEGMENTS * RECORDS);
    println!("opened {} segments in {:.0} ms", stats.segments, opened.as_secs_f64() * 1e3);
    println!("memory that the index says it keeps:  {:>6.2} MB", stats.memory_bytes as f64 / 1e6);
    println!("anonymous memory of the bare process: {:>6.2} MB", mb(cold));
    println!("  with a segment opened and dropped:  {:>6.2} MB", mb(before));
    println!("  with all segments open:             {:>6.2} MB", mb(after));

    let random = SeededRandom::new(1);
    look_up(&index, "found, page read and opened", |_| random.below(SEGMENTS * RECORDS)).await;
    look_up(&index, "found, page in memory", |number| u64::from(number % 256)).await;
    look_up(&index, "absent", |number| SEGMENTS * RECORDS + u64::from(number)).await;
    let stats = index.stats();
    let cached = stats.cache_bytes as u64;
    let used = anonymous();
    println!("  after the look-ups:                 {:>6.2} MB, {:.2} MB of it cached pages", mb(used), mb(cached));

    // The cache has taken up by now what opening the footers had left behind.
    let grown = used.saturating_sub(before + cached).max(stats.memory_bytes as u64);
    let verdict = if grown <= LIMIT { "within" } else { "ABOVE" };
    println!("the index of a TiB takes {:.2} MB, {verdict} {:.0} MB", mb(grown), mb(LIMIT));
    if grown <= LIMIT { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn open(backend: &Arc<LocalBackend>, meta: &ObjectMeta) -> Segment {
    let id = SegmentId::from_hex(meta.key.name()).unwrap();
    let bytes = Arc::new(Stored { backend: Arc::clone(backend), key: meta.key.clone(), len: meta.size });
    let cipher = |_: &_| Ok(Arc::new(Cipher([5; 32])) as Arc<dyn PageCipher>);
    Segment::open(id, bytes, &cipher).await.unwrap()
}

async fn look_up(index: &Index, name: &str, of: impl Fn(u32) -> u64) {
    let started = Instant::now();
    for number in 0..LOOK_UPS {
        black_box(index.find(Section::Data, &id(of(number))).await.unwrap());
    }
    println!("look-up, {name:<28} {:>8.2} µs", started.elapsed().as_secs_f64() * 1e6 / f64::from(LOOK_UPS));
}

/// Anonymous memory of this process, in bytes; 0 where the system does not tell.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or(0) << 10
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
