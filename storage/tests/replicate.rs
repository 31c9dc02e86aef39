//! Restore points in another repository: other keys, the same bytes, read and stored once.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use backstay_core::{
    ChangedBlocks, Consistency, Context, ErrorKind, ObjectKey, RangeSet, ReadMethod, Recorder, RestorePoint,
    StorageBackend, Timestamp, WriteOrder,
};
use backstay_storage::{
    MemoryBackend, Repository,
    backend::{Fault, FaultBackend, Operation, Rule},
    repository::{
        Capability, CopiedPoint, CopyOptions, PointDetails, PointSelector, PointState, PruneOptions, SessionOptions,
    },
};
use backstay_testkit::noise;
use bytes::Bytes;
use common::{
    MIB, SEGMENT, Source, Sparse, admit, assert_clean, back_up, back_up_disk, check_all, dense, disk_id, fill, filled,
    memory_repository, no_sample, open, owner_bundle, quick_options, restore, restored, selector, workload,
};
use futures::StreamExt;

/// Two repositories of their own keys; calls to the source are counted.
struct Pair {
    memory: Arc<MemoryBackend>,
    counted: Arc<FaultBackend>,
    source: Repository,
    there: Arc<MemoryBackend>,
    target: Repository,
}

impl Pair {
    async fn new() -> Self {
        let memory = Arc::new(MemoryBackend::new());
        let made = quick_options().recovery(false);
        Repository::init(memory.clone(), made, &Context::default()).await.unwrap();
        let counted = Arc::new(FaultBackend::new(memory.clone()));
        let source = open(counted.clone()).await.unwrap();
        let (there, target) = memory_repository().await;
        Self { memory, counted, source, there, target }
    }

    async fn states(&self) -> Vec<PointState> {
        let plan = self.target.plan_replication(&self.source, &[]).await.unwrap();
        assert!(plan.doubts().is_empty(), "{:?}", plan.doubts());
        plan.points().iter().map(|point| point.state).collect()
    }

    /// Copies what is missing, without samples; gives what became of it.
    async fn copy(&self) -> Vec<CopiedPoint> {
        copy(&self.source, &self.target).await
    }
}

async fn copy(source: &Repository, target: &Repository) -> Vec<CopiedPoint> {
    let mut plan = target.plan_replication(source, &[]).await.unwrap();
    let missing: Vec<_> =
        (0..plan.points().len()).filter(|at| plan.points()[*at].state == PointState::Missing).collect();
    let mut copied = Vec::new();
    for number in missing {
        copied.push(plan.copy(number, &CopyOptions::default().sample(0), &Context::default()).await.unwrap());
    }
    copied
}

/// The keys of a capability of a repository in memory.
async fn share(memory: &Arc<MemoryBackend>, capability: Capability) -> Repository {
    let bundle = owner_bundle(memory).await.1.restrict(capability, &Context::default()).unwrap();
    Repository::open_with_bundle(memory.clone(), bundle).await.unwrap()
}

/// A writer that the owner let in.
async fn a_writer(memory: &Arc<MemoryBackend>) -> Repository {
    let bundle = owner_bundle(memory).await.1.restrict(Capability::Writer, &Context::default()).unwrap();
    admit(memory, &bundle).await;
    Repository::open_with_bundle(memory.clone(), bundle).await.unwrap()
}

#[track_caller]
fn assert_same_words(copy: &RestorePoint, original: &RestorePoint) {
    assert_eq!(copy.workload, original.workload);
    assert_eq!((copy.time, copy.consistency, &copy.labels), (original.time, original.consistency, &original.labels));
    let disks = |point: &RestorePoint| point.disks.iter().map(|it| (it.id.clone(), it.size)).collect::<Vec<_>>();
    assert_eq!(disks(copy), disks(original));
    assert_eq!((&copy.streams, &copy.attachments), (&original.streams, &original.attachments));
    assert_eq!(copy.provenance.as_ref().unwrap().point, original.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_point_comes_out_as_it_was_whatever_became_of_its_disk() {
    let pair = Pair::new().await;
    let mut disk = filled(2 * SEGMENT + 7 * MIB + 777, 1);
    let mut originals = Vec::new();
    for step in 0..7_u64 {
        match step {
            0 => {}
            1 => fill(&mut disk, 3 * MIB + 5..9 * MIB, 2),
            2 => disk.resize(4 * SEGMENT + 12_345),
            3 => disk.write(3 * SEGMENT - 70_000, &noise(3, 200_000)),
            4 => disk.zero(MIB..SEGMENT + 3 * MIB),
            5 => disk.resize(SEGMENT + 4 * MIB + 99),
            _ => disk.resize(SEGMENT),
        }
        originals.push((back_up_disk(&pair.source, "web", &disk).await.unwrap(), disk.clone()));
    }
    originals.push((back_up_disk(&pair.source, "empty", &Sparse::new(0)).await.unwrap(), Sparse::new(0)));
    originals
        .push((back_up_disk(&pair.source, "hole", &Sparse::new(3 * SEGMENT)).await.unwrap(), Sparse::new(3 * SEGMENT)));
    let copied = pair.copy().await;
    assert_eq!(copied.len(), originals.len());
    for ((original, content), copied) in originals.iter().zip(&copied) {
        assert_same_words(&copied.point, original);
        assert_ne!(copied.point.id, original.id);
        assert!(restore(&pair.target, &copied.point).await.unwrap() == *content, "{original:?}");
    }
    for (number, copied) in copied.iter().enumerate().take(7).skip(1) {
        assert_eq!(copied.disks[0].method, ReadMethod::Changed, "step {number}");
        assert_eq!(copied.base, Some(originals[number - 1].0.id));
    }
    assert_clean(&check_all(&pair.target).await.unwrap(), "the target");
    assert!(pair.states().await.iter().all(|state| matches!(state, PointState::Present(_))));
    assert!(pair.copy().await.is_empty(), "nothing is copied twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_increment_reads_only_the_chunks_that_changed_and_stores_only_new_ones() {
    let pair = Pair::new().await;
    let mut disk = dense(64 * MIB, 1);
    back_up_disk(&pair.source, "web", &disk).await.unwrap();
    pair.copy().await;
    disk.write(33 * MIB, &noise(2, 300_000));
    back_up_disk(&pair.source, "web", &disk).await.unwrap();
    let (before, counts) = (pair.there.total_bytes(), {
        pair.counted.reset_counts();
        let copied = pair.copy().await;
        assert_eq!(copied[0].disks[0].method, ReadMethod::Changed);
        // The change and a few chunks around it.
        assert!((300_000..MIB).contains(&copied[0].disks[0].read_bytes), "{:?}", copied[0].disks);
        pair.counted.counts()
    });
    assert!(counts.bytes_got < 3 * MIB, "{counts:?}");
    assert!(counts.gets + counts.range_gets < 150, "{counts:?}");
    assert!(pair.there.total_bytes() - before < 2 * MIB);
    // The same content under another name is read, as nobody knows, and not stored again.
    back_up_disk(&pair.source, "clone", &disk).await.unwrap();
    let before = pair.there.total_bytes();
    let copied = pair.copy().await;
    assert_eq!(copied[0].disks[0].read_bytes, 64 * MIB);
    assert!(pair.there.total_bytes() - before < MIB);
    let copy = &copied[0].point;
    assert!(restore(&pair.target, copy).await.unwrap() == disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_attachments_go_along_and_are_not_read_again_when_they_are_the_same() {
    let pair = Pair::new().await;
    let ctx = Context::default();
    let dump = noise(1, 9 << 20);
    let mut originals = Vec::new();
    for round in 0..2_u8 {
        let options = SessionOptions::default()
            .labels([("why".to_owned(), format!("round {round}"))].into())
            .time(Timestamp::from_nanos(1_000 - i64::from(round)));
        let mut session = pair.source.begin(workload("db"), options, &ctx).await.unwrap();
        session.write_disk(&disk_id("vda"), Source::new(dense(MIB, 7)).shared(), &no_sample()).await.unwrap();
        for (name, bytes) in [("dump", dump.clone()), ("log", vec![round; 100_000]), ("nothing", Vec::new())] {
            session.write_stream(name, futures::stream::iter([Ok(Bytes::from(bytes))]).boxed()).await.unwrap();
        }
        session.attach("domain.xml", "text/xml", Bytes::from_static(b"<domain/>")).await.unwrap();
        session.attach("nvram", "application/octet-stream", vec![round; 5000].into()).await.unwrap();
        let details = PointDetails::default().consistency(Consistency::Application);
        originals.push(session.commit(details).await.unwrap());
    }
    pair.counted.reset_counts();
    let copied = pair.copy().await;
    assert!(pair.counted.counts().bytes_got < 13 << 20, "{:?}", pair.counted.counts());
    // The clock of the second ran backwards, so it counts as the older one and is copied first.
    for (copied, round) in copied.iter().zip([1_u8, 0]) {
        assert_same_words(&copied.point, &originals[usize::from(round)]);
        let point = selector(&copied.point);
        for (name, expected) in [("dump", dump.clone()), ("log", vec![round; 100_000]), ("nothing", Vec::new())] {
            let stream = pair.target.stream(&point, name).await.unwrap();
            let parts: Vec<_> = stream.bytes(&ctx).collect().await;
            assert_eq!(parts.into_iter().flat_map(Result::unwrap).collect::<Vec<_>>(), expected, "{name}");
        }
        assert_eq!(pair.target.attachment(&point, "domain.xml", &ctx).await.unwrap(), "<domain/>");
        assert_eq!(pair.target.attachment(&point, "nvram", &ctx).await.unwrap(), vec![round; 5000]);
    }
    assert_clean(&check_all(&pair.target).await.unwrap(), "the target");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_no_change_token_so_the_next_backup_beside_it_compares() {
    let pair = Pair::new().await;
    let ctx = Context::default();
    let disk = dense(4 * MIB, 1);
    let source = || Source::new(disk.clone()).with_token("now").since("now", ChangedBlocks::Exact(RangeSet::new()));
    let options = SessionOptions::default;
    let original = back_up(&pair.source, "web", source().shared(), &no_sample(), options(), &ctx).await.unwrap().0;
    let copied = &pair.copy().await[0].point;
    let record = pair.target.point_record(&selector(copied)).await.unwrap();
    assert_eq!(record.disks[0].token, None);
    let original = pair.source.point_record(&selector(&original)).await.unwrap();
    assert!(original.disks[0].token.is_some());
    assert_ne!(record.mark, original.mark);
    // A source that trusts its token would read nothing; what is on the disk is something else by now.
    let other = Source::new(dense(4 * MIB, 2)).with_token("later").since("now", ChangedBlocks::Exact(RangeSet::new()));
    let (point, report) = back_up(&pair.target, "web", other.shared(), &no_sample(), options(), &ctx).await.unwrap();
    assert_eq!(report.method, ReadMethod::Compared);
    assert!(restore(&pair.target, &point).await.unwrap() == dense(4 * MIB, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn points_go_back_into_a_clone_of_the_same_store_and_are_known_there() {
    let (memory, source) = memory_repository().await;
    let mut disk = dense(8 * MIB, 1);
    let first = back_up_disk(&source, "web", &disk).await.unwrap();
    let there = Arc::new(memory.fork());
    let clone = open(there.clone()).await.unwrap();
    disk.write(MIB, &noise(5, 100_000));
    let second = back_up_disk(&source, "web", &disk).await.unwrap();
    let copied = copy(&source, &clone).await;
    assert_eq!(copied.len(), 1);
    assert_eq!((copied[0].base, copied[0].disks[0].method), (Some(first.id), ReadMethod::Changed));
    assert!(restore(&clone, &copied[0].point).await.unwrap() == disk);
    // The copy is not brought back to where it came from, nor is a repository copied into itself.
    let back = source.plan_replication(&clone, &[]).await.unwrap();
    let states: Vec<_> = back.points().iter().map(|point| point.state).collect();
    assert_eq!(states, [PointState::Present(first.id), PointState::Returned(second.id)]);
    assert!(copy(&source, &source).await.is_empty());
    assert_clean(&check_all(&clone).await.unwrap(), "the clone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chosen_point_alone_is_copied_and_older_ones_may_follow() {
    let pair = Pair::new().await;
    let mut disks = vec![dense(20 * MIB, 1)];
    for step in 1..4_u64 {
        let mut disk = disks[disks.len() - 1].clone();
        disk.write(step * 5 * MIB, &noise(step, 50_000));
        disks.push(disk);
    }
    let mut points = Vec::new();
    for disk in &disks {
        points.push(back_up_disk(&pair.source, "web", disk).await.unwrap());
    }
    let latest: PointSelector = "web@latest".parse().unwrap();
    let mut plan = pair.target.plan_replication(&pair.source, &[latest]).await.unwrap();
    assert_eq!(plan.points().len(), 1);
    plan.copy(0, &CopyOptions::default(), &Context::default()).await.unwrap();
    let copied = pair.copy().await;
    let bases: Vec<_> = copied.iter().map(|copied| copied.base.unwrap()).collect();
    // The first has only a later one to be counted from.
    assert_eq!(bases, [points[3].id, points[0].id, points[1].id]);
    for (copied, disk) in copied.iter().zip(&disks) {
        assert!(copied.disks[0].read_bytes < 2 * MIB);
        assert!(restore(&pair.target, &copied.point).await.unwrap() == *disk);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_of_the_target_and_a_reader_of_the_source_are_enough_and_less_is_not() {
    let pair = Pair::new().await;
    let disk = dense(3 * MIB, 1);
    back_up_disk(&pair.source, "web", &disk).await.unwrap();
    let reader = share(&pair.memory, Capability::Reader).await;
    for (source, target) in [
        (share(&pair.memory, Capability::Writer).await, pair.target.clone()),
        (share(&pair.memory, Capability::Keeper).await, pair.target.clone()),
        (reader.clone(), share(&pair.there, Capability::Reader).await),
        (reader.clone(), share(&pair.there, Capability::Keeper).await),
    ] {
        let refused = target.plan_replication(&source, &[]).await.err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    }
    let writer = a_writer(&pair.there).await;
    assert_eq!(copy(&reader, &writer).await.len(), 1);
    let mut changed = disk.clone();
    changed.write(MIB, b"changed");
    back_up_disk(&pair.source, "web", &changed).await.unwrap();
    assert_eq!(copy(&reader, &writer).await[0].disks[0].method, ReadMethod::Changed);
    let copied = writer.points().await.unwrap();
    assert!(restore(&pair.target, &copied[0]).await.unwrap() == disk);
    assert!(restore(&pair.target, &copied[1]).await.unwrap() == changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_no_copy_is_neither_believed_nor_built_on() {
    let pair = Pair::new().await;
    let mut disk = dense(4 * MIB, 1);
    back_up_disk(&pair.source, "web", &disk).await.unwrap();
    // Of the same repository id, with the same session id, and of another content: what a clone that went another way has.
    let fork = Arc::new(pair.memory.fork());
    let other = open(fork).await.unwrap();
    disk.write(0, &noise(9, 100_000));
    back_up_disk(&other, "web", &disk).await.unwrap();
    copy(&other, &pair.target).await;
    // The second point of the fork has a number that the source gives to something else.
    let mut mine = dense(4 * MIB, 1);
    mine.write(2 * MIB, &noise(10, 100_000));
    back_up_disk(&pair.source, "web", &mine).await.unwrap();
    let copied = pair.copy().await;
    assert_eq!(copied.len(), 1);
    assert!(restore(&pair.target, &copied[0].point).await.unwrap() == mine);

    // What another writer calls a copy counts for nothing: it would keep the points from being copied.
    let (third, owner) = memory_repository().await;
    let writer = a_writer(&third).await;
    assert_eq!(copy(&pair.source, &writer).await.len(), 2);
    assert_eq!(copy(&pair.source, &owner).await.len(), 2);
    assert!(copy(&pair.source, &writer).await.is_empty());
    assert!(copy(&pair.source, &owner).await.is_empty());
    assert_clean(&check_all(&owner).await.unwrap(), "two copies by two writers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_point_does_not_keep_the_others_away_and_is_told() {
    let pair = Pair::new().await;
    let disks = [dense(2 * MIB, 1), dense(2 * MIB, 2), dense(2 * MIB, 3)];
    let mut points = Vec::new();
    let mut packs = Vec::new();
    for disk in &disks {
        let before: Vec<_> = pair.memory.keys();
        points.push(back_up_disk(&pair.source, "web", disk).await.unwrap());
        let new = pair.memory.keys().into_iter().filter(|key| !before.contains(key));
        packs.push(new.filter(|key| key.as_str().starts_with("packs/")).collect::<Vec<ObjectKey>>());
    }
    pair.memory.tamper(&packs[1][0], |body| body[300_000] ^= 1).unwrap();
    let fresh = open(pair.memory.clone()).await.unwrap();
    let ctx = Context::default();
    let mut plan = pair.target.plan_replication(&fresh, &[]).await.unwrap();
    let mut kinds = Vec::new();
    for number in 0..3 {
        let copied = plan.copy(number, &CopyOptions::default(), &ctx).await;
        kinds.push(copied.map(|copied| copied.base).map_err(|error| error.kind()));
    }
    assert_eq!(kinds, [Ok(None), Err(ErrorKind::Integrity), Ok(Some(points[0].id))]);
    let copies = pair.target.points().await.unwrap();
    assert_eq!(copies.len(), 2);
    for (copy, disk) in copies.iter().zip([&disks[0], &disks[2]]) {
        assert!(restore(&pair.target, copy).await.unwrap() == *disk);
    }
    assert_clean(&check_all(&pair.target).await.unwrap(), "the target");

    // One whose record is gone is told when the plan is made.
    let gone = ObjectKey::new(format!("points/{}", points[0].id)).unwrap();
    pair.memory.delete(&gone).await.unwrap();
    let plan = pair.target.plan_replication(&fresh, &[]).await.unwrap();
    assert_eq!((plan.points().len(), plan.damaged().len()), (2, 1));
    let named = pair.target.plan_replication(&fresh, &["latest".parse().unwrap()]).await;
    assert_eq!(named.err().unwrap().kind(), ErrorKind::Integrity, "nobody knows whether it is the latest");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_put_it_goes_on_and_what_was_finished_is_not_read_again() {
    let (memory, source) = memory_repository().await;
    let disks: Vec<_> = (0..3).map(|seed| filled(3 * MIB + 500, seed)).collect();
    for disk in &disks {
        back_up_disk(&source, "web", disk).await.unwrap();
    }
    drop(memory);
    let mut crashed_at = 0;
    for put in 0.. {
        let (there, _) = memory_repository().await;
        let mortal = Arc::new(FaultBackend::new(there.clone()));
        let fault = if put % 2 == 0 { Fault::CrashBefore } else { Fault::CrashAfter };
        mortal.inject(Rule::new(fault).on(Operation::Put).skip(put / 2));
        let target = open(mortal.clone()).await.unwrap();
        let mut plan = target.plan_replication(&source, &[]).await.unwrap();
        let mut done = 0;
        for number in 0..3 {
            match plan.copy(number, &CopyOptions::default(), &Context::default()).await {
                Ok(_) => done += 1,
                Err(_) => break,
            }
        }
        if !mortal.crashed() {
            assert_eq!(done, 3);
            break;
        }
        crashed_at += 1;
        mortal.revive();
        let target = open(there.clone()).await.unwrap();
        assert_clean(&check_all(&target).await.unwrap(), "after the crash");
        let there_now = target.points().await.unwrap().len();
        // The last outcome may have been put although nobody heard of it.
        assert!(there_now == done || there_now == done + 1);
        assert_eq!(copy(&source, &target).await.len(), 3 - there_now);
        let points = target.points().await.unwrap();
        assert_eq!(points.len(), 3);
        for (point, disk) in points.iter().zip(&disks) {
            assert!(restore(&target, point).await.unwrap() == *disk);
        }
    }
    assert!(crashed_at > 30, "{crashed_at}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_or_foreign_base_costs_reads_and_nothing_else() {
    let pair = Pair::new().await;
    let mut disk = dense(6 * MIB, 1);
    back_up_disk(&pair.source, "web", &disk).await.unwrap();
    pair.copy().await;
    // Somebody backs the same guest up here, too.
    let direct = back_up_disk(&pair.target, "web", &dense(6 * MIB, 99)).await.unwrap();
    disk.write(MIB, &noise(4, 5000));
    back_up_disk(&pair.source, "web", &disk).await.unwrap();
    let (recorder, stale) = (Arc::new(Recorder::default()), direct.id);
    let ctx = Context::default().with_events(recorder.clone());
    let mut plan = pair.target.plan_replication(&pair.source, &[]).await.unwrap();
    let copied = plan.copy(1, &CopyOptions::default(), &ctx).await.unwrap();
    assert_eq!(
        copied.disks[0].method,
        ReadMethod::Changed,
        "it counts from its own predecessor, not from what came between"
    );
    assert_ne!(copied.point.parent, Some(direct.id));
    assert!(restore(&pair.target, &copied.point).await.unwrap() == disk);
    assert!(recorder.warnings().is_empty(), "{:?}", recorder.warnings());
    let stored = common::stored_disk(&pair.target, &copied.point).await.unwrap();
    assert!(restored(&stored, WriteOrder::Ascending).await.unwrap().disk == disk);
    // Nor do copies stand between the backups that are made here.
    let next = back_up_disk(&pair.target, "web", &dense(6 * MIB, 98)).await.unwrap();
    assert_eq!((next.parent, next.sequence), (Some(stale), 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_collected_on_either_side_is_no_hindrance() {
    let pair = Pair::new().await;
    let ctx = Context::default();
    let mut disk = dense(6 * MIB, 1);
    let mut points = Vec::new();
    for step in 0..4_u64 {
        disk.write(step * MIB, &noise(step + 10, 200_000));
        points.push((back_up_disk(&pair.source, "web", &disk).await.unwrap(), disk.clone()));
    }
    let prune = async |repository: &Repository, forgotten: &RestorePoint| {
        repository.forget(&[forgotten.id], &ctx).await.unwrap();
        for _ in 0..3 {
            repository.prune(&PruneOptions::default().max_unused_percent(0), &ctx).await.unwrap();
        }
    };
    prune(&pair.source, &points[0].0).await;
    let first = pair.copy().await;
    assert_eq!(first.len(), 3);
    // The base of the next one is gone from the source, then the copy of it from the target.
    prune(&pair.target, &first[1].point).await;
    prune(&pair.source, &points[3].0).await;
    disk.write(5 * MIB, &noise(99, 100_000));
    points.push((back_up_disk(&pair.source, "web", &disk).await.unwrap(), disk.clone()));
    let again = pair.copy().await;
    // What was forgotten in the target is there again, as the source still has it.
    assert_eq!(
        again.iter().map(|copied| copied.base).collect::<Vec<_>>(),
        [Some(points[1].0.id), Some(points[2].0.id)]
    );
    for (copied, (_, disk)) in again.iter().zip([&points[2], &points[4]]) {
        assert!(restore(&pair.target, &copied.point).await.unwrap() == *disk);
    }
    assert_clean(&check_all(&pair.target).await.unwrap(), "the target");
    assert_clean(&check_all(&pair.source).await.unwrap(), "the source");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_of_the_source_in_the_middle_is_looked_through() {
    let pair = Pair::new().await;
    let ctx = Context::default();
    let mut disks = Vec::new();
    for step in 0..3_u64 {
        // Each has half of what the first one had, so that its packs are worth moving.
        let mut disk = dense(4 * MIB, 1);
        disk.write(0, &noise(step + 50, 2 * MIB as usize));
        disks.push((back_up_disk(&pair.source, "web", &disk).await.unwrap(), disk));
    }
    let mut plan = pair.target.plan_replication(&pair.source, &[]).await.unwrap();
    pair.source.forget(&[disks[0].0.id], &ctx).await.unwrap();
    let mut moved = 0;
    for _ in 0..3 {
        let report = pair.source.prune(&PruneOptions::default().max_unused_percent(0), &ctx).await.unwrap();
        moved += report.deleted_packs;
    }
    assert!(moved > 0);
    let gone = plan.copy(0, &CopyOptions::default(), &ctx).await;
    assert_eq!(gone.map(|_| ()).map_err(|error| error.kind()), Err(ErrorKind::NotFound));
    for (number, (_, disk)) in disks.iter().enumerate().skip(1) {
        let copied = plan.copy(number, &CopyOptions::default(), &ctx).await.unwrap();
        assert!(restore(&pair.target, &copied.point).await.unwrap() == *disk);
    }
}
