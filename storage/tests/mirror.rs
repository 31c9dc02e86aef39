//! A second store that is a repository at any moment, perhaps with fewer points.

#![allow(clippy::unwrap_used)]

mod common;

use std::{collections::BTreeMap, sync::Arc};

use backstay_core::{
    Context, ErrorKind, ObjectKey, PutMode, Recorder, RestorePointId, Result, StorageBackend, Timestamp,
};
use backstay_storage::{
    MemoryBackend, Repository,
    backend::{CatchUpPlan, Fault, FaultBackend, MirrorBackend, MirrorPolicy, Operation, Rule},
    repository::{PruneOptions, SessionOptions},
};
use backstay_testkit::noise;
use common::{
    MIB, Source, Sparse, assert_clean, back_up, back_up_disk, check_all, dense, memory_repository, no_sample, open,
    quick_options, restore,
};

use MirrorPolicy::{BestEffort, Required};

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

/// Every call that is picked fails.
fn away() -> Rule {
    Rule::new(Fault::Fail(ErrorKind::Unavailable)).always()
}

/// Two stores that break on command, and what every point holds, by time.
struct Stores {
    primary: Arc<MemoryBackend>,
    mirror: Arc<MemoryBackend>,
    primary_faults: Arc<FaultBackend>,
    mirror_faults: Arc<FaultBackend>,
}

impl Stores {
    fn over(primary: MemoryBackend, mirror: MemoryBackend) -> Self {
        let (primary, mirror) = (Arc::new(primary), Arc::new(mirror));
        let (primary_faults, mirror_faults) =
            (Arc::new(FaultBackend::new(primary.clone())), Arc::new(FaultBackend::new(mirror.clone())));
        Self { primary, mirror, primary_faults, mirror_faults }
    }

    /// Both with one point, `web` of [`disk`] 0.
    async fn with_a_point() -> Self {
        let (primary, repository) = memory_repository().await;
        run(&repository, 0).await.unwrap();
        Self::over(primary.fork(), primary.fork())
    }

    fn fork(&self) -> Self {
        Self::over(self.primary.fork(), self.mirror.fork())
    }

    async fn join(&self, policy: MirrorPolicy, ctx: &Context) -> Result<Arc<MirrorBackend>> {
        let (primary, mirror) = (self.primary_faults.clone(), self.mirror_faults.clone());
        Ok(Arc::new(MirrorBackend::open(primary, mirror, policy, ctx).await?))
    }

    fn revive(&self) {
        self.primary_faults.revive();
        self.mirror_faults.revive();
    }

    /// The mirror by itself: opens, is whole, and restores every point that it shows. Gives how many those are.
    async fn mirror_is_whole(&self, why: &str) -> usize {
        is_whole(&self.mirror, why).await
    }

    async fn is_level(&self) {
        assert_eq!(self.primary.keys(), self.mirror.keys());
        assert_eq!(self.primary.total_bytes(), self.mirror.total_bytes());
    }
}

async fn is_whole(store: &Arc<MemoryBackend>, why: &str) -> usize {
    let repository = open(Arc::new(store.fork())).await.unwrap_or_else(|error| panic!("{why}: {error}"));
    assert_clean(&check_all(&repository).await.unwrap(), why);
    let points = repository.points().await.unwrap();
    for point in &points {
        let content = disk(point.time.as_nanos() as u64);
        assert!(restore(&repository, point).await.unwrap() == content, "{why}: {point:?}");
    }
    points.len()
}

/// What point number `step` holds: each has something of those before it, under whatever name.
fn disk(step: u64) -> Sparse {
    let mut disk = dense(2 * MIB, 1);
    for step in 1..=step {
        disk.write((step % 8) * 200_000, &noise(step, 150_000));
    }
    disk
}

/// Makes point number `step`. Workloads take turns, so that points use chunks of other workloads.
async fn run(repository: &Repository, step: u64) -> Result<()> {
    let name = ["web", "db", "mail"][step as usize % 3];
    // As the clocks of several machines may be: later ones are earlier.
    let options = SessionOptions::default().time(Timestamp::from_nanos(step as i64));
    let source = Source::new(disk(step)).shared();
    back_up(repository, name, source, &no_sample(), options, &Context::default()).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_put_is_on_both_and_either_is_a_repository() {
    for policy in [Required, BestEffort] {
        let stores = Stores::over(MemoryBackend::new(), MemoryBackend::new());
        let backend = stores.join(policy, &Context::default()).await.unwrap();
        Repository::init(backend.clone(), quick_options(), &Context::default()).await.unwrap();
        let repository = open(backend.clone()).await.unwrap();
        for step in 0..4 {
            run(&repository, step).await.unwrap();
        }
        stores.is_level().await;
        assert_eq!(stores.mirror_is_whole("mirror").await, 4);
        assert_eq!(backend.status(), Default::default());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_put_of_either_store_the_mirror_is_whole_and_catches_up() {
    let start = Stores::with_a_point().await;
    for policy in [Required, BestEffort] {
        for on_mirror in [false, true] {
            let mut crashes = 0;
            for put in 0.. {
                let at = format!("{policy:?}, mirror {on_mirror}, put {put}");
                let stores = start.fork();
                let fault = if put % 2 == 0 { Fault::CrashBefore } else { Fault::CrashAfter };
                let faults = if on_mirror { &stores.mirror_faults } else { &stores.primary_faults };
                let backend = stores.join(policy, &Context::default()).await.unwrap();
                faults.inject(Rule::new(fault).on(Operation::Put).skip(put / 2));
                let repository = open(backend.clone()).await.unwrap();
                let mut outcomes = Vec::new();
                for step in 1..3 {
                    outcomes.push(run(&repository, step).await.is_ok());
                }
                if !faults.crashed() {
                    assert_eq!(outcomes, [true, true]);
                    break;
                }
                crashes += 1;
                let shown = stores.mirror_is_whole(&at).await;
                let done = outcomes.iter().filter(|done| **done).count();
                match policy {
                    // What was reported is on both; one more may be there without anybody having heard of it.
                    Required => assert!((1 + done..=2 + done).contains(&shown), "{at}: {shown} {outcomes:?}"),
                    BestEffort if on_mirror => assert_eq!(outcomes, [true, true], "{at}"),
                    BestEffort => {}
                }
                // The next process.
                stores.revive();
                let backend = stores.join(policy, &Context::default()).await.unwrap();
                let repository = open(backend.clone()).await.unwrap();
                let report = repository.catch_up(&backend, &Context::default()).await.unwrap();
                assert!(report.complete, "{at}: {report:?}");
                stores.is_level().await;
                run(&repository, 7).await.unwrap();
                stores.is_level().await;
                stores.mirror_is_whole(&at).await;
            }
            assert!(crashes > 20, "{crashes}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_was_away_catches_up_in_an_order_in_which_it_is_always_whole() {
    let stores = Stores::with_a_point().await;
    let recorder = Arc::new(Recorder::default());
    let ctx = Context::default().with_events(recorder.clone());
    stores.mirror_faults.inject(away().on(Operation::Put));
    let backend = stores.join(BestEffort, &ctx).await.unwrap();
    let repository = open(backend.clone()).await.unwrap();
    for step in 1..9 {
        run(&repository, step).await.unwrap();
    }
    assert_eq!(recorder.warnings().len(), 1, "{:?}", recorder.warnings());
    let status = backend.status();
    assert!(status.behind.is_some() && status.missed_objects > 30 && status.missed_bytes > MIB, "{status:?}");
    assert_eq!(stores.mirror_is_whole("while it is away").await, 1);
    // Without keys nobody knows the order of eight outcomes: none comes.
    stores.revive();
    let backend = stores.join(BestEffort, &ctx).await.unwrap();
    let report = backend.catch_up(&CatchUpPlan::default(), &ctx).await.unwrap();
    assert_eq!((report.left.len(), report.complete), (8, false));
    assert_eq!(stores.mirror_is_whole("without a plan").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_put_of_catching_up_the_mirror_shows_one_point_after_the_other() {
    let stores = Stores::with_a_point().await;
    let repository = open(stores.primary.clone()).await.unwrap();
    for step in 1..9 {
        run(&repository, step).await.unwrap();
    }
    let ctx = Context::default();
    let mut seen = BTreeMap::new();
    for put in 0.. {
        let start = stores.fork();
        let backend = start.join(BestEffort, &ctx).await.unwrap();
        assert_eq!(start.mirror_is_whole("before").await, 1);
        let fault = if put % 2 == 0 { Fault::CrashBefore } else { Fault::CrashAfter };
        start.mirror_faults.inject(Rule::new(fault).on(Operation::Put).skip(put / 2));
        let caught = repository.catch_up(&backend, &ctx).await;
        *seen.entry(start.mirror_is_whole(&format!("put {put}")).await).or_insert(0) += 1;
        if !start.mirror_faults.crashed() {
            assert!(caught.unwrap().complete);
            start.is_level().await;
            break;
        }
    }
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>(), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_mirror_shows_nothing_before_it_is_whole() {
    let (primary, repository) = memory_repository().await;
    for step in 0..4 {
        run(&repository, step).await.unwrap();
    }
    let ctx = Context::default();
    for put in 0.. {
        let stores = Stores::over(primary.fork(), MemoryBackend::new());
        stores.mirror_faults.inject(Rule::new(Fault::CrashAfter).on(Operation::Put).skip(put));
        // Small enough to be brought when it is joined.
        let joined = stores.join(BestEffort, &ctx).await;
        if !stores.mirror_faults.crashed() {
            assert_eq!(joined.unwrap().status().behind, None);
            stores.is_level().await;
            break;
        }
        let opened = open(Arc::new(stores.mirror.fork())).await;
        match opened {
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
            Ok(_) => assert_eq!(stores.mirror_is_whole("with its last object").await, 4),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn required_means_that_nothing_is_reported_as_stored_that_the_mirror_lacks() {
    let stores = Stores::with_a_point().await;
    let ctx = Context::default();
    let backend = stores.join(Required, &ctx).await.unwrap();
    let repository = open(backend.clone()).await.unwrap();
    // At the outcome alone, when everything else is there.
    let outcome = away().on(Operation::Put).below(key("sessions")).skip(1);
    stores.mirror_faults.inject(outcome);
    let failed = run(&repository, 1).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Unavailable, "{failed}");
    assert_eq!(stores.mirror_is_whole("before it is back").await, 1);
    let refused = run(&repository, 2).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    // It pays what it owes as soon as it can.
    stores.revive();
    run(&repository, 3).await.unwrap();
    stores.is_level().await;
    stores.mirror_is_whole("when it is back").await;
    // Away from the start it cannot be joined.
    stores.mirror_faults.inject(away());
    assert_eq!(stores.join(Required, &ctx).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(stores.join(BestEffort, &ctx).await.unwrap().status().behind.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_that_is_behind_does_not_leave_a_hole_under_a_point() {
    let stores = Stores::with_a_point().await;
    let ctx = Context::default();
    // One process cannot reach the mirror, the other can. The second builds on what the first stored.
    let unreachable = Arc::new(FaultBackend::new(stores.mirror.clone()));
    unreachable.inject(away());
    let first = MirrorBackend::open(stores.primary.clone(), unreachable, BestEffort, &ctx).await.unwrap();
    let first = open(Arc::new(first)).await.unwrap();
    let backend = stores.join(BestEffort, &ctx).await.unwrap();
    let second = open(backend.clone()).await.unwrap();
    run(&first, 1).await.unwrap();
    run(&second, 2).await.unwrap();
    // One foreign point was fetched on the way.
    assert_eq!(stores.mirror_is_whole("one of another").await, 3);
    stores.is_level().await;
    run(&first, 3).await.unwrap();
    run(&first, 4).await.unwrap();
    run(&second, 5).await.unwrap();
    // Two have an order that only somebody with keys knows: the mirror stays where it is.
    assert!(backend.status().behind.is_some());
    assert_eq!(stores.mirror_is_whole("two of another").await, 3);
    assert!(second.catch_up(&backend, &ctx).await.unwrap().complete);
    assert_eq!(stores.mirror_is_whole("caught up").await, 6);
    run(&second, 6).await.unwrap();
    stores.is_level().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_that_the_primary_lost_or_cannot_give_are_read_from_the_mirror() {
    let stores = Stores::with_a_point().await;
    let recorder = Arc::new(Recorder::default());
    let ctx = Context::default().with_events(recorder.clone());
    let backend = stores.join(BestEffort, &ctx).await.unwrap();
    let content: Vec<_> = stores
        .primary
        .keys()
        .into_iter()
        .filter(|key| ["packs/", "meta/", "index/"].iter().any(|folder| key.as_str().starts_with(folder)))
        .collect();
    for gone in &content {
        stores.primary.delete(gone).await.unwrap();
    }
    let repository = open(backend.clone()).await.unwrap();
    let point = repository.points().await.unwrap().remove(0);
    assert!(restore(&repository, &point).await.unwrap() == disk(0));
    assert!(backend.status().fallback_reads > 2);
    assert_eq!(recorder.warnings().len(), 1, "{:?}", recorder.warnings());
    // The listing is the primary's, so a check finds out; and the mirror keeps what the primary has lost.
    assert!(!check_all(&repository).await.unwrap().is_clean());
    let report = repository.catch_up(&backend, &ctx).await.unwrap();
    assert_eq!(report.extra, content);
    assert_eq!(stores.mirror_is_whole("the mirror").await, 1);
    // What neither gives is not there; what cannot be asked is not lost.
    assert_eq!(backend.get(&key("packs/aa/none")).await.unwrap_err().kind(), ErrorKind::NotFound);
    stores.mirror_faults.inject(away());
    assert_eq!(backend.get(&content[0]).await.unwrap_err().kind(), ErrorKind::Unavailable);
    // Only the primary knows what exists.
    assert_eq!(backend.get(&key("points/none")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_come_late_and_only_for_what_the_plan_calls_dead() {
    let stores = Stores::with_a_point().await;
    let ctx = Context::default();
    let backend = stores.join(Required, &ctx).await.unwrap();
    for name in ["packs/zz/dead", "packs/zz/lost", "packs/zz/alive"] {
        backend.put(&key(name), "x".into(), PutMode::Create).await.unwrap();
    }
    for name in ["packs/zz/dead", "packs/zz/lost"] {
        backend.delete(&key(name)).await.unwrap();
    }
    assert_eq!(backend.status().deferred_deletes, 2);
    assert!(stores.mirror.get(&key("packs/zz/dead")).await.is_ok());
    let dead = CatchUpPlan::default().dead([key("packs/zz/dead"), key("packs/zz/alive")].into());
    let report = backend.catch_up(&dead, &ctx).await.unwrap();
    assert_eq!((report.deleted_objects, report.extra), (1, vec![key("packs/zz/lost")]));
    let there: Vec<_> = stores.mirror.keys().into_iter().filter(|key| key.as_str().starts_with("packs/zz/")).collect();
    assert_eq!(there, [key("packs/zz/alive"), key("packs/zz/lost")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_of_something_else_is_refused_and_one_that_differs_is_not_written_over() {
    let stores = Stores::with_a_point().await;
    let ctx = Context::default();
    let (other, _) = memory_repository().await;
    let strangers = Stores::over(stores.primary.fork(), other.fork());
    for policy in [Required, BestEffort] {
        assert_eq!(strangers.join(policy, &ctx).await.unwrap_err().kind(), ErrorKind::Conflict);
    }
    let only_there = Stores::over(MemoryBackend::new(), other.fork());
    assert_eq!(only_there.join(BestEffort, &ctx).await.unwrap_err().kind(), ErrorKind::Conflict);

    let pack = stores.primary.keys().into_iter().find(|key| key.as_str().starts_with("packs/")).unwrap();
    stores.mirror.tamper(&pack, |body| body.truncate(10)).unwrap();
    let backend = stores.join(BestEffort, &ctx).await.unwrap();
    assert!(backend.status().behind.is_some());
    let repository = open(backend.clone()).await.unwrap();
    let report = repository.catch_up(&backend, &ctx).await.unwrap();
    assert_eq!((report.different, report.complete), (vec![pack.clone()], false));
    assert_eq!(stores.mirror.get(&pack).await.unwrap().len(), 10);
    // A damaged pack of the primary does not become the mirror's.
    let stores = Stores::with_a_point().await;
    stores.mirror.delete(&pack).await.unwrap();
    let pack = stores.primary.keys().into_iter().find(|key| key.as_str().starts_with("packs/")).unwrap();
    stores.mirror.delete(&pack).await.unwrap();
    stores.primary.tamper(&pack, |body| body[5] ^= 1).unwrap();
    let backend = stores.join(BestEffort, &ctx).await.unwrap();
    let report = backend.catch_up(&CatchUpPlan::default(), &ctx).await.unwrap();
    assert_eq!(report.damaged, std::slice::from_ref(&pack));
    assert_eq!(stores.mirror.get(&pack).await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// Forgets every other point and collects, until there is nothing more to do.
async fn collect(repository: &Repository) {
    let ctx = Context::default();
    let points = repository.points().await.unwrap();
    let ids: Vec<_> = points.iter().step_by(2).map(|point| point.id).collect();
    repository.forget(&ids, &ctx).await.unwrap();
    for _ in 0..3 {
        repository.prune(&PruneOptions::default().max_unused_percent(0), &ctx).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_collector_deletes_stays_on_the_mirror_until_it_catches_up() {
    for policy in [Required, BestEffort] {
        let stores = Stores::with_a_point().await;
        let ctx = Context::default();
        let backend = stores.join(policy, &ctx).await.unwrap();
        let repository = open(backend.clone()).await.unwrap();
        for step in 1..7 {
            run(&repository, step).await.unwrap();
        }
        collect(&repository).await;
        assert!(backend.status().deferred_deletes > 10, "{:?}", backend.status());
        assert!(stores.mirror.total_bytes() > stores.primary.total_bytes());
        assert_eq!(stores.mirror_is_whole("before it catches up").await, 3);
        let report = repository.catch_up(&backend, &ctx).await.unwrap();
        assert!(report.complete && report.deleted_objects > 10 && report.extra.is_empty(), "{report:?}");
        stores.is_level().await;
        assert_eq!(stores.mirror_is_whole("after").await, 3);
        run(&repository, 8).await.unwrap();
        stores.is_level().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_missed_a_collection_is_whole_at_any_moment_of_catching_up() {
    let stores = Stores::with_a_point().await;
    let repository = open(stores.primary.clone()).await.unwrap();
    for step in 1..5 {
        run(&repository, step).await.unwrap();
    }
    let ctx = Context::default();
    let backend = stores.join(BestEffort, &ctx).await.unwrap();
    assert!(repository.catch_up(&backend, &ctx).await.unwrap().complete);
    for step in 5..8 {
        run(&repository, step).await.unwrap();
    }
    collect(&repository).await;
    run(&repository, 8).await.unwrap();
    for call in 0.. {
        let start = stores.fork();
        let backend = start.join(BestEffort, &ctx).await.unwrap();
        let operation = if call % 2 == 0 { Operation::Put } else { Operation::Delete };
        start.mirror_faults.inject(Rule::new(Fault::CrashAfter).on(operation).skip(call / 2));
        let repository = open(start.primary.clone()).await.unwrap();
        let caught = repository.catch_up(&backend, &ctx).await;
        start.mirror_is_whole(&format!("call {call}")).await;
        if !start.mirror_faults.crashed() && call > 60 {
            assert!(caught.unwrap().complete);
            start.is_level().await;
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_lost_something_takes_nothing_from_its_mirror() {
    let stores = Stores::with_a_point().await;
    let ctx = Context::default();
    let backend = stores.join(BestEffort, &ctx).await.unwrap();
    let repository = open(backend.clone()).await.unwrap();
    for step in 1..5 {
        run(&repository, step).await.unwrap();
    }
    collect(&repository).await;
    run(&repository, 6).await.unwrap();
    assert!(repository.catch_up(&backend, &ctx).await.unwrap().complete);
    // The last point with all that it put; or the end of the chain; or packs that are in use.
    for lost in ["sessions/", "chain/", "packs/", "index/"] {
        let stores = stores.fork();
        let keys = stores.primary.keys();
        let gone: Vec<_> = match lost {
            "sessions/" => keys
                .iter()
                .filter(|key| ["sessions/", "points/"].iter().any(|folder| key.as_str().starts_with(folder)))
                .collect(),
            "chain/" => keys.iter().filter(|key| key.as_str().starts_with(lost)).max().into_iter().collect(),
            _ => keys.iter().filter(|key| key.as_str().starts_with(lost)).collect(),
        };
        assert!(!gone.is_empty());
        for key in &gone {
            stores.primary.delete(key).await.unwrap();
        }
        let backend = stores.join(BestEffort, &ctx).await.unwrap();
        let before = stores.mirror.keys();
        if let Ok(repository) = open(stores.primary.clone()).await {
            // Where even the state cannot be read any more it fails, and deletes as little.
            if let Ok(report) = repository.catch_up(&backend, &ctx).await {
                assert_eq!(report.extra.len(), gone.len(), "{lost}");
            }
        }
        assert_eq!(stores.mirror.keys(), before, "{lost}");
        stores.mirror_is_whole(lost).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_has_a_higher_rank_than_all_that_it_may_build_on() {
    let (_, repository) = memory_repository().await;
    let mut ranks = Vec::new();
    for (step, name) in ["web", "db", "web"].into_iter().enumerate() {
        let point = back_up_disk(&repository, name, &disk(step as u64)).await.unwrap();
        let id: RestorePointId = point.id;
        let record = repository.point_record(&id.to_string().parse().unwrap()).await.unwrap();
        ranks.push(record.rank);
    }
    assert_eq!(ranks, [Some(1), Some(2), Some(3)]);
}
