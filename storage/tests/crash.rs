//! Whatever dies and whenever: what was committed is there, what was not is not seen, and the next backup works.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use backstay_core::{
    BackendCapabilities, ChangedBlocks, Context, Error, ErrorKind, Limits, ObjectKey, ObjectMeta, PutMode, RangeSet,
    RestorePoint, Result, StorageBackend,
};
use backstay_storage::{
    MemoryBackend, Repository,
    backend::{Fault, FaultBackend, Operation, Rule},
    repository::{DiskOptions, PointDetails, SessionOptions},
};
use backstay_testkit::{SeededRandom, noise};
use bytes::Bytes;
use common::{
    MIB, Source, Sparse, assert_clean, back_up, back_up_disk, check_all, dense, disk_id, memory_repository, open,
    quick_options, restore, selector, workload,
};
use futures::stream::BoxStream;

/// A repository with a point, and a backup that is about to run.
struct Scene {
    memory: MemoryBackend,
    /// What every committed point holds, by workload and sequence.
    committed: BTreeMap<(String, u64), Sparse>,
    workload: &'static str,
    disk: Sparse,
    changes: Option<RangeSet>,
    full: bool,
}

impl Scene {
    fn source(&self) -> Source {
        let source = Source::new(self.disk.clone()).with_token("now");
        match &self.changes {
            Some(changes) => source.since("before", ChangedBlocks::Exact(changes.clone())),
            None => source,
        }
    }

    async fn run(&self, repository: &Repository, source: Source, ctx: &Context) -> Result<RestorePoint> {
        let session = SessionOptions::default().full(self.full);
        let options = DiskOptions::default().sample(2);
        Ok(back_up(repository, self.workload, source.shared(), &options, session, ctx).await?.0)
    }

    fn sequence(&self) -> u64 {
        1 + self.committed.keys().filter(|(workload, _)| workload == self.workload).count() as u64
    }
}

async fn scenes() -> Vec<Scene> {
    let old = dense(6 * MIB, 1);
    let (memory, repository) = memory_repository().await;
    let ctx = Context::default();
    let source = Source::new(old.clone()).with_token("before").shared();
    back_up(&repository, "web", source, &DiskOptions::default(), SessionOptions::default(), &ctx).await.unwrap();
    let committed = BTreeMap::from([(("web".to_owned(), 1), old.clone())]);
    let scene = |workload, disk, changes, full| Scene {
        memory: memory.fork(),
        committed: committed.clone(),
        workload,
        disk,
        changes,
        full,
    };
    let (mut new, mut changes) = (old.clone(), RangeSet::new());
    for at in [0, 2 * MIB + 5, 5 * MIB] {
        new.write(at, &noise(at, MIB as usize));
        changes.insert(at..(at + MIB).min(new.size()));
    }
    vec![
        scene("db", dense(16 * MIB + 12_345, 2), None, false),
        scene("web", new.clone(), Some(changes), false),
        scene("web", dense(9 * MIB, 3), None, false),
        scene("web", dense(12 * MIB, 4), None, true),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Class {
    Before,
    BetweenPointAndOutcome,
    After,
}

/// What is in the store says how far the backup came.
fn class_of(scene: &Scene, memory: &MemoryBackend) -> Class {
    let new: Vec<_> = {
        let old = scene.memory.keys();
        memory.keys().into_iter().filter(|key| !old.contains(key)).collect()
    };
    let has =
        |folder: &str, end: &str| new.iter().any(|key| key.as_str().starts_with(folder) && key.as_str().ends_with(end));
    match (has("sessions/", "/outcome"), has("points/", "")) {
        (_, false) => Class::Before,
        (false, true) => Class::BetweenPointAndOutcome,
        (true, true) => Class::After,
    }
}

/// Everything that must hold, however the backup ended.
async fn all_is_well(scene: &Scene, memory: Arc<MemoryBackend>, committed: bool, at: &str) {
    let repository = open(memory).await.unwrap();
    assert_clean(&check_all(&repository).await.unwrap(), at);
    let mut expected = scene.committed.clone();
    if committed {
        expected.insert((scene.workload.to_owned(), scene.sequence()), scene.disk.clone());
    }
    let points = repository.points().await.unwrap();
    assert_eq!(points.len(), expected.len(), "{at}: other points than were committed");
    for point in points {
        let disk = &expected[&(point.workload.id.to_string(), point.sequence)];
        assert!(restore(&repository, &point).await.unwrap() == *disk, "{at}: {point:?}");
    }
    let next = scene.run(&repository, scene.source(), &Context::default()).await.unwrap_or_else(|error| {
        panic!("{at}: the next backup failed: {error:?}");
    });
    assert_eq!(next.sequence, scene.sequence() + u64::from(committed), "{at}");
    assert!(restore(&repository, &next).await.unwrap() == scene.disk, "{at}: the next backup");
}

fn one_upload() -> Context {
    Context::default().with_limits(Limits::default().uploads(1))
}

async fn puts_of(scene: &Scene) -> u64 {
    let fault = Arc::new(FaultBackend::new(Arc::new(scene.memory.fork())));
    let repository = open(fault.clone()).await.unwrap();
    fault.reset_counts();
    scene.run(&repository, scene.source(), &one_upload()).await.unwrap();
    fault.counts().puts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_put_leaves_every_committed_point_and_nothing_else() {
    let mut seen: BTreeMap<Class, u64> = BTreeMap::new();
    for (number, scene) in scenes().await.iter().enumerate() {
        for put in 0..puts_of(scene).await {
            for crash in [Fault::CrashBefore, Fault::CrashAfter] {
                let at = format!("scene {number}, put {put}, {crash:?}");
                let memory = Arc::new(scene.memory.fork());
                let fault = Arc::new(FaultBackend::new(memory.clone()));
                let repository = open(fault.clone()).await.unwrap();
                fault.inject(Rule::new(crash).on(Operation::Put).skip(put));
                let outcome = scene.run(&repository, scene.source(), &one_upload()).await;
                assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable, "{at}");
                assert!(fault.crashed(), "{at}");
                let class = class_of(scene, &memory);
                *seen.entry(class).or_default() += 1;
                all_is_well(scene, memory, class == Class::After, &at).await;
            }
        }
    }
    println!("crashes: {seen:?}");
    assert!(seen.values().sum::<u64>() >= 100, "{seen:?}");
    assert!(seen[&Class::Before] * 2 >= seen.values().sum::<u64>(), "{seen:?}");
    assert!(seen[&Class::BetweenPointAndOutcome] >= 8 && seen[&Class::After] >= 4, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_is_lost_at_any_put_changes_nothing() {
    for (number, scene) in scenes().await.iter().enumerate().take(2) {
        for put in 0..puts_of(scene).await {
            // A client that tries again by itself meets its own object.
            for lost in [ErrorKind::Unavailable, ErrorKind::AlreadyExists] {
                let at = format!("scene {number}, put {put}, {lost:?}");
                let memory = Arc::new(scene.memory.fork());
                let fault = Arc::new(FaultBackend::new(memory.clone()));
                let repository = open(fault.clone()).await.unwrap();
                fault.inject(Rule::new(Fault::LoseReply(lost)).on(Operation::Put).skip(put));
                let point = scene.run(&repository, scene.source(), &one_upload()).await;
                let point = point.unwrap_or_else(|error| panic!("{at}: {error:?}"));
                assert!(restore(&repository, &point).await.unwrap() == scene.disk, "{at}");
                all_is_well(scene, memory, true, &at).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_at_any_call_is_unavailable_and_leaves_a_clean_repository() {
    let scenes = scenes().await;
    let scene = &scenes[1];
    let mut called = 0;
    for operation in [Operation::Put, Operation::Get, Operation::GetRange, Operation::Head, Operation::List] {
        for call in 0.. {
            let at = format!("{operation:?} {call}");
            let memory = Arc::new(scene.memory.fork());
            let fault = Arc::new(FaultBackend::new(memory.clone()));
            let repository = open(fault.clone()).await.unwrap();
            fault.inject(Rule::new(Fault::Fail(ErrorKind::Unavailable)).on(operation).skip(call));
            fault.reset_counts();
            let outcome = scene.run(&repository, scene.source(), &one_upload()).await;
            let counts = fault.counts();
            let calls = match operation {
                Operation::Put => counts.puts,
                Operation::Get => counts.gets,
                Operation::GetRange => counts.range_gets,
                Operation::Head => counts.heads,
                _ => counts.lists,
            };
            if calls <= call {
                assert!(outcome.is_ok(), "{at}: no fault was met");
                break;
            }
            called += 1;
            if let Err(error) = &outcome {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{at}: {error:?}");
            }
            let class = class_of(scene, &memory);
            // Who settles as aborted has an outcome too, so what was said must be what is there.
            let there = outcome.is_ok() || open(memory.clone()).await.unwrap().points().await.unwrap().len() > 1;
            assert!(!there || class == Class::After, "{at}");
            if call % 3 == 0 || there != outcome.is_ok() {
                all_is_well(scene, memory, there, &at).await;
            }
        }
    }
    assert!(called > 20, "{called} calls");
}

/// A store whose puts below a folder fail twice and ask to be tried again.
#[derive(Debug)]
struct Busy {
    inner: Arc<MemoryBackend>,
    folder: &'static str,
    left: AtomicU64,
}

#[async_trait]
impl StorageBackend for Busy {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> BackendCapabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<()> {
        let here = key.as_str().starts_with(self.folder);
        if here && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(Error::unavailable("Slow down").retryable());
        }
        self.inner.put(key, body, mode).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        self.inner.get_range(key, range).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.inner.head(key).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.inner.delete(key).await
    }

    fn list(&self, folder: Option<&ObjectKey>) -> BoxStream<'_, Result<ObjectMeta>> {
        self.inner.list(folder)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_store_is_asked_again() {
    let scenes = scenes().await;
    let folders = ["packs/", "meta/", "index/", "points/", "sessions/"];
    let runs = folders.map(|folder| {
        let scene = &scenes[1];
        async move {
            let memory = Arc::new(scene.memory.fork());
            let busy = Arc::new(Busy { inner: memory.clone(), folder, left: AtomicU64::new(1) });
            let repository = open(busy.clone()).await.unwrap();
            scene.run(&repository, scene.source(), &Context::default()).await.unwrap();
            assert_eq!(busy.left.load(Ordering::SeqCst), 0, "{folder}");
            all_is_well(scene, memory, true, folder).await;
        }
    });
    futures::future::join_all(runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_somebody_else_put_is_a_conflict_and_no_point() {
    let scenes = scenes().await;
    let scene = &scenes[0];
    let memory = Arc::new(scene.memory.fork());
    let repository = open(memory.clone()).await.unwrap();
    let ctx = Context::default();
    let mut fenced = repository.begin(workload("db"), SessionOptions::default(), &ctx).await.unwrap();
    fenced.write_disk(&disk_id("vda"), scene.source().shared(), &DiskOptions::default()).await.unwrap();
    // Another session's abort, taken for the fence of a collector: well signed, and not ours.
    let other = repository.begin(workload("db"), SessionOptions::default(), &ctx).await.unwrap();
    let other_key = ObjectKey::new(format!("sessions/{}/outcome", other.id())).unwrap();
    other.abort().await;
    let fence = memory.get(&other_key).await.unwrap();
    let key = ObjectKey::new(format!("sessions/{}/outcome", fenced.id())).unwrap();
    memory.put(&key, fence, PutMode::Create).await.unwrap();
    let error = fenced.commit(PointDetails::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    // It was forged here, so it is no outcome that anybody can read.
    assert_eq!(repository.points().await.unwrap_err().kind(), ErrorKind::Integrity);
    memory.delete(&key).await.unwrap();
    all_is_well(scene, memory, false, "fenced").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_error_of_the_disk_at_any_read_fails_the_backup_and_nothing_else() {
    for (number, scene) in scenes().await.iter().enumerate().take(3) {
        let memory = Arc::new(scene.memory.fork());
        let repository = open(memory.clone()).await.unwrap();
        for read in 0.. {
            let at = format!("scene {number}, read {read}");
            let outcome = scene.run(&repository, scene.source().fail_at(read), &Context::default()).await;
            let Err(error) = outcome else { break };
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{at}: {error:?}");
            assert!(error.to_string().contains("injected"), "{at}: {error:?}");
            let report = check_all(&repository).await.unwrap();
            assert_clean(&report, &at);
            assert_eq!(report.unsettled_sessions, 0, "{at}: given up and not settled");
            assert_eq!(repository.points().await.unwrap().len(), scene.committed.len(), "{at}");
            let fork = Arc::new(memory.fork());
            all_is_well(scene, fork, false, &at).await;
        }
    }
}

/// Cancels at one call of the store.
#[derive(Debug)]
struct Tripwire {
    inner: Arc<MemoryBackend>,
    calls: AtomicU64,
    at: u64,
    ctx: TripContext,
}

struct TripContext(Context);

impl std::fmt::Debug for TripContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TripContext")
    }
}

impl Tripwire {
    fn step(&self) {
        if self.calls.fetch_add(1, Ordering::SeqCst) == self.at {
            self.ctx.0.cancel().cancel();
        }
    }
}

#[async_trait]
impl StorageBackend for Tripwire {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> BackendCapabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<()> {
        self.step();
        self.inner.put(key, body, mode).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        self.step();
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        self.step();
        self.inner.get_range(key, range).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.step();
        self.inner.head(key).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.step();
        self.inner.delete(key).await
    }

    fn list(&self, folder: Option<&ObjectKey>) -> BoxStream<'_, Result<ObjectMeta>> {
        self.step();
        self.inner.list(folder)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_cancelled_at_any_moment_is_settled_and_leaves_a_clean_repository() {
    let (mut cancelled, mut finished) = (0, 0);
    for (number, scene) in scenes().await.iter().enumerate().take(2) {
        let seed = 77 + number as u64;
        let random = SeededRandom::new(seed);
        for round in 0..30 {
            let ctx = Context::default();
            let memory = Arc::new(scene.memory.fork());
            let at = random.below(60);
            let name = format!("seed {seed}, round {round}, call {at}");
            let trip = Tripwire {
                inner: memory.clone(),
                calls: AtomicU64::new(0),
                at: if round % 3 == 0 { u64::MAX } else { at },
                ctx: TripContext(ctx.clone()),
            };
            let repository = open(Arc::new(trip)).await.unwrap();
            let mut source = scene.source();
            if round % 3 == 0 {
                source = source.cancel_at(random.below(4), ctx.clone());
            }
            let outcome = scene.run(&repository, source, &ctx).await;
            match &outcome {
                Ok(_) => finished += 1,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Cancelled, "{name}: {error:?}");
                    cancelled += 1;
                }
            }
            let report = check_all(&open(memory.clone()).await.unwrap()).await.unwrap();
            assert_eq!(report.unsettled_sessions, 0, "{name}: a cancelled session is not settled");
            all_is_well(scene, memory, outcome.is_ok(), &name).await;
        }
    }
    assert!(cancelled >= 20 && finished >= 1, "{cancelled} cancelled, {finished} finished");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_was_cancelled_before_it_began_writes_nothing() {
    let (memory, repository) = memory_repository().await;
    let before = memory.keys();
    let ctx = Context::default();
    ctx.cancel().cancel();
    let begun = repository.begin(workload("web"), SessionOptions::default(), &ctx).await;
    assert_eq!(begun.err().unwrap().kind(), ErrorKind::Cancelled);
    assert_eq!(memory.keys(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_dropped_is_no_point_and_harms_nobody() {
    let scenes = scenes().await;
    let scene = &scenes[0];
    let memory = Arc::new(scene.memory.fork());
    let repository = open(memory.clone()).await.unwrap();
    let ctx = Context::default();
    let mut session = repository.begin(workload("db"), SessionOptions::default(), &ctx).await.unwrap();
    session.write_disk(&disk_id("vda"), scene.source().shared(), &DiskOptions::default()).await.unwrap();
    drop(session);
    let report = check_all(&repository).await.unwrap();
    assert_eq!(report.unsettled_sessions, 1);
    all_is_well(scene, memory, false, "dropped").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_at_once_with_the_same_content_both_commit_and_restore() {
    let memory = Arc::new(MemoryBackend::new());
    let ctx = Context::default();
    Repository::init(memory.clone(), quick_options(), &ctx).await.unwrap();
    let disk = dense(20 * MIB, 8);
    let writers = ["one", "two", "one"].map(|name| {
        let (memory, disk) = (memory.clone(), disk.clone());
        // Each is a process of its own.
        tokio::spawn(async move { back_up_disk(&open(memory).await.unwrap(), name, &disk).await.unwrap() })
    });
    let mut points = Vec::new();
    for writer in writers {
        points.push(writer.await.unwrap());
    }
    let repository = open(memory).await.unwrap();
    assert_eq!(repository.points().await.unwrap().len(), 3);
    for point in &points {
        assert!(restore(&repository, point).await.unwrap() == disk);
        repository.point(&selector(point)).await.unwrap();
    }
    assert_clean(&check_all(&repository).await.unwrap(), "two writers");
    // What comes after sees all of them.
    let stats = repository.stats().await.unwrap();
    let next = back_up_disk(&repository, "three", &disk).await.unwrap();
    assert_eq!(repository.stats().await.unwrap().data_packs, stats.data_packs);
    assert!(restore(&repository, &next).await.unwrap() == disk);
}
