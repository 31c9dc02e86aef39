//! What operations cost at a store: requests and bytes, never time. `docs/operations.md` has the sums for a TiB.

#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/link.rs"]
mod link;

use std::{sync::Arc, time::Duration};

use backstay_core::{ChangedBlocks, Context, DiskSource, RangeSet, RestorePoint, WriteOrder};
use backstay_storage::{
    Call, Counts, FaultBackend, MemoryBackend, Operation, Repository,
    repository::{Credential, InitOptions, PruneOptions, PruneReport, SessionOptions},
};
use common::*;
use link::{AtOnce, Link};

/// Data of the first backup.
const DATA: u64 = 160 * MIB;
/// Bytes of a pack.
const PACK: u64 = 32 * MIB;

/// Requests of one operation, and of which objects.
struct Cost {
    counts: Counts,
    calls: Vec<Call>,
}

impl Cost {
    /// Those of a sort that change nothing.
    fn reads(&self) -> u64 {
        self.counts.gets + self.counts.range_gets + self.counts.heads
    }

    fn of(&self, operation: Operation, folder: &str) -> usize {
        let here = |call: &&Call| call.key.as_ref().is_some_and(|key| key.as_str().starts_with(folder));
        self.calls.iter().filter(|call| call.operation == operation).filter(here).count()
    }

    #[track_caller]
    fn assert(&self, what: &str, puts: u64, reads: u64, lists: u64, deletes: u64) {
        let counts = self.counts;
        println!("{what}: {counts:?}");
        let within = counts.puts <= puts && self.reads() <= reads && counts.lists <= lists && counts.deletes <= deletes;
        assert!(within, "{what} costs {counts:?}: {:#?}", self.calls.iter().map(text).collect::<Vec<_>>());
    }
}

fn text(call: &Call) -> String {
    format!("{:?} {}", call.operation, call.key.as_ref().map_or("", |key| key.as_str()))
}

struct Store {
    memory: Arc<MemoryBackend>,
    faults: Arc<FaultBackend>,
}

impl Store {
    /// A repository of packs as they are by default.
    async fn new() -> Self {
        let memory = Arc::new(MemoryBackend::new());
        let options = InitOptions::passphrase(PASSPHRASE).kdf(QUICK_KDF).recovery(false);
        Repository::init(memory.clone(), options, &Context::default()).await.unwrap();
        let faults = Arc::new(FaultBackend::new(memory.clone()));
        faults.record_calls();
        Self { memory, faults }
    }

    async fn open(&self) -> Repository {
        Repository::open(self.faults.clone(), Credential::passphrase(PASSPHRASE), &Context::default()).await.unwrap()
    }

    /// Of what was done since the last time.
    fn cost(&self) -> Cost {
        let cost = Cost { counts: self.faults.counts(), calls: self.faults.calls() };
        self.faults.reset_counts();
        cost
    }

    /// A backup as a command makes it: opened, written, committed.
    async fn back_up(&self, source: Source) -> (RestorePoint, Cost) {
        let repository = self.open().await;
        let options = SessionOptions::default();
        let source: Arc<dyn DiskSource> = source.shared();
        let made = back_up(&repository, "web", source, &no_sample(), options, &Context::default()).await.unwrap();
        (made.0, self.cost())
    }

    async fn prune(&self) -> (PruneReport, Cost) {
        let repository = self.open().await;
        let report = repository.prune(&PruneOptions::default(), &Context::default()).await.unwrap();
        (report, self.cost())
    }
}

fn exact(ranges: &[std::ops::Range<u64>]) -> ChangedBlocks {
    ChangedBlocks::Exact(ranges.iter().cloned().collect::<RangeSet>())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_grow_with_data_and_their_constant_parts_are_small() {
    let store = Store::new().await;
    let mut disk = dense(DATA, 1);

    drop(store.open().await);
    store.cost().assert("open", 0, 4, 3, 0);

    let (first, cost) = store.back_up(Source::new(disk.clone()).with_token("1")).await;
    // open, checkpoint, point, outcome; a segment of the index, a pack of map nodes, the last pack.
    cost.assert("a first backup", DATA / PACK + 7, 10, 6, 0);
    assert_eq!(cost.of(Operation::Get, "packs") + cost.of(Operation::GetRange, "packs"), 0);

    let (_, cost) = store.back_up(Source::new(disk.clone()).with_token("2").since("1", exact(&[]))).await;
    cost.assert("an empty incremental", 4, 14, 7, 0);

    let dirty: Vec<_> = (0..8).map(|at| at * SEGMENT + 4096..at * SEGMENT + 8192).collect();
    dirty.iter().for_each(|range| disk.write(range.start, &backstay_testkit::noise(range.start, 4096)));
    let (small, cost) = store.back_up(Source::new(disk.clone()).with_token("3").since("2", exact(&dirty))).await;
    // Two packs and a segment more, and the leaves of eight segments are read.
    cost.assert("a small incremental", 7, 28, 7, 0);
    assert_eq!(cost.counts.deletes, 0);

    let repository = store.open().await;
    assert_eq!(repository.points().await.unwrap().len(), 3);
    // An outcome and a point for each that is newer than the last generation.
    store.cost().assert("points", 0, 14, 6, 0);

    let repository = store.open().await;
    assert!(restore(&repository, &first).await.unwrap() == dense(DATA, 1));
    let packs = DATA / PACK + 1;
    let cost = store.cost();
    cost.assert("a restore", 0, DATA / MIB + 3 * packs + 30, 7, 0);
    assert!(cost.counts.bytes_got < DATA + DATA / 32, "{:?}", cost.counts);

    let (report, cost) = store.prune().await;
    assert_eq!(report.deleted_packs, 0);
    cost.assert("a prune that settles three sessions", 4, 60, 30, 7);
    let (_, cost) = store.prune().await;
    cost.assert("a prune with nothing to do", 0, 32, 17, 0);
    let repository = store.open().await;
    repository.forget(&[first.id], &Context::default()).await.unwrap();
    store.cost();
    let (_, cost) = store.prune().await;
    cost.assert("a prune after forgetting", 4, 75, 34, 16);

    // What a generation has settled costs nothing any more.
    let repository = store.open().await;
    assert_eq!(repository.points().await.unwrap().len(), 2);
    store.cost().assert("points after a prune", 0, 12, 7, 0);
    assert!(restore(&store.open().await, &small).await.unwrap() == disk);
    assert!(store.memory.total_bytes() < DATA + DATA / 16);
}

fn far(memory: &Arc<MemoryBackend>, bytes_per_second: u64) -> (Arc<Link>, Context) {
    let link = Arc::new(Link::new(memory.clone(), Duration::from_millis(50), bytes_per_second));
    (link, Context::default().with_spawner(Arc::new(AtOnce)))
}

#[tokio::test(start_paused = true)]
async fn several_packs_go_up_at_a_time() {
    let store = Store::new().await;
    let (link, ctx) = far(&store.memory, 125_000_000);
    let credential = Credential::passphrase(PASSPHRASE);
    let repository = Repository::open(link.clone(), credential, &ctx).await.unwrap();
    let source = Source::new(dense(128 * MIB, 2)).shared();
    back_up(&repository, "web", source, &no_sample(), SessionOptions::default(), &ctx).await.unwrap();
    assert!(link.puts.most() >= 2, "{} packs at once", link.puts.most());
}

#[tokio::test(start_paused = true)]
async fn a_restore_over_a_slow_line_uses_nearly_all_of_it() {
    const BYTES_PER_SECOND: u64 = 125_000_000;
    let size = 256 * MIB;
    let store = Store::new().await;
    let disk = dense(size, 3);
    let near = store.open().await;
    let point = back_up_disk(&near, "web", &disk).await.unwrap();
    for order in [WriteOrder::Any, WriteOrder::Ascending] {
        let (link, ctx) = far(&store.memory, BYTES_PER_SECOND);
        let credential = Credential::passphrase(PASSPHRASE);
        let repository = Repository::open(link.clone(), credential, &ctx).await.unwrap();
        let stored = repository.disk(&selector(&point), &disk_id("vda"), &ctx).await.unwrap();
        let sink = Sink::new(size, order);
        let started = tokio::time::Instant::now();
        stored.restore_to(&sink, 0..size, &ctx).await.unwrap();
        let took = started.elapsed();
        let least = Duration::from_nanos(size * 1_000_000_000 / BYTES_PER_SECOND);
        println!("{order:?}: {took:?} of simulated time, {least:?} at least, {} requests at once", link.reads.most());
        assert!(sink.given().disk == disk);
        assert!(link.reads.most() >= 16, "{order:?}: {} requests at once", link.reads.most());
        assert!(took.mul_f64(0.8) <= least, "{order:?}: {took:?} where the line needs {least:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stored_disk_is_copied_from_a_slow_store_without_standing_still() {
    let (memory, near) = memory_repository().await;
    let disk = dense(48 * MIB, 4);
    let point = back_up_disk(&near, "web", &disk).await.unwrap();
    let (link, ctx) = far(&memory, 125_000_000);
    let far_away = Repository::open(link, Credential::passphrase(PASSPHRASE), &ctx).await.unwrap();
    let source = far_away.disk(&selector(&point), &disk_id("vda"), &ctx).await.unwrap();
    let (_, target) = memory_repository().await;
    let options = no_sample();
    let copy = back_up(&target, "web", Arc::new(source), &options, SessionOptions::default(), &ctx);
    let copied = tokio::time::timeout(Duration::from_secs(3600), copy).await.expect("it stands still").unwrap();
    assert!(restore(&target, &copied.0).await.unwrap() == disk);
}
