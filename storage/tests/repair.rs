//! Real damage, real repair: what is whole comes back byte for byte, what is lost is named, and the next backup heals it.

// A set of one range is what is meant, not the numbers in it.
#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

mod common;

use std::{collections::BTreeMap, sync::Arc};

use backstay_core::{
    ChangedBlocks, Context, DiskSource, ErrorKind, ObjectKey, RangeSet, RestorePoint, StorageBackend, WriteOrder,
};
use backstay_storage::{
    MemoryBackend,
    backend::{Fault, FaultBackend, Operation, Rule},
    repository::{
        CheckDepth, PackRepair, PruneOptions, RepairOptions, Repository, ScrubOptions, SessionOptions, scrub,
    },
};
use common::*;

fn ctx() -> Context {
    Context::default()
}

fn keys(memory: &MemoryBackend, folder: &str) -> Vec<ObjectKey> {
    memory.keys().into_iter().filter(|key| key.as_str().starts_with(folder)).collect()
}

fn key_size(memory: &MemoryBackend, key: &ObjectKey) -> u64 {
    let mut size = 0;
    memory.fork().tamper(key, |bytes| size = bytes.len() as u64).unwrap();
    size
}

fn repair() -> RepairOptions {
    RepairOptions::default()
}

/// One disk of 20 MiB as two points with an eighth changed, in packs of a MiB.
async fn scene() -> (Arc<MemoryBackend>, Repository, Vec<(RestorePoint, Sparse)>) {
    let (memory, repository) = memory_repository().await;
    let mut disk = dense(20 * MIB, 1);
    let mut points = Vec::new();
    for step in 0..2_u64 {
        disk.write(step * 5 * MIB, &vec![step as u8 + 1; 100_000]);
        let source = Source::new(disk.clone()).with_token(&format!("web {step}")).shared();
        let made = back_up(&repository, "web", source, &no_sample(), SessionOptions::default(), &ctx()).await.unwrap();
        points.push((made.0, disk.clone()));
    }
    (memory, repository, points)
}

async fn all_restore(repository: &Repository, points: &[(RestorePoint, Sparse)]) {
    for (point, disk) in points {
        assert!(restore(repository, point).await.unwrap() == *disk, "{} restores other bytes", point.id);
    }
}

fn lost_of(report: &PackRepair, point: &RestorePoint) -> RangeSet {
    let disks = report.lost.iter().filter(|lost| lost.point == point.id).flat_map(|lost| &lost.disks);
    disks.flat_map(|disk| &disk.ranges).map(|(offset, bytes)| *offset..offset + bytes).collect()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Damage {
    Flip,
    Truncate,
    Delete,
    Directory,
}

async fn damage(memory: &MemoryBackend, key: &ObjectKey, how: Damage) {
    match how {
        Damage::Flip => memory
            .tamper(key, |bytes| {
                let middle = bytes.len().min(400_000) / 2;
                bytes[middle] ^= 1;
            })
            .unwrap(),
        Damage::Truncate => memory.tamper(key, |bytes| bytes.truncate(bytes.len() / 2)).unwrap(),
        Damage::Delete => memory.delete(key).await.unwrap(),
        Damage::Directory => memory.tamper(key, |bytes| *bytes.last_mut().unwrap() ^= 1).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_pack_is_given_up_and_an_incremental_by_bitmap_heals_what_was_lost() {
    for how in [Damage::Flip, Damage::Truncate, Damage::Delete, Damage::Directory] {
        let (memory, repository, mut points) = scene().await;
        // One of the many of the first session, so that neighbours know its key.
        let mut packs = keys(&memory, "packs/").into_iter();
        let pack = packs.find(|key| key_size(&memory, key) > MIB / 2).unwrap();
        damage(&memory, &pack, how).await;
        let objects = memory.keys();
        let plan = repository.repair_packs(&repair().dry_run(true), &ctx()).await.unwrap();
        assert_eq!(memory.keys(), objects, "{how:?}: a dry run puts something");
        let done = repository.repair_packs(&repair(), &ctx()).await.unwrap();
        assert_eq!(plan.damaged, done.damaged);
        assert_eq!(plan.lost, done.lost);
        let [bad] = done.damaged.as_slice() else { panic!("{how:?}: {:?}", done.damaged) };
        assert_eq!(bad.pack, pack.name());
        match how {
            Damage::Flip => assert_eq!(bad.whole + 1, bad.frames, "one bit is one chunk"),
            Damage::Truncate => assert!(bad.whole > 0 && bad.whole < bad.frames, "{bad:?}"),
            Damage::Delete => assert_eq!(bad.whole, 0),
            // Every frame is whole, and the neighbours know the key.
            Damage::Directory => assert_eq!(bad.whole, bad.frames),
        }
        if how == Damage::Directory {
            assert!(done.lost.is_empty(), "{:?}", done.lost);
            all_restore(&repository, &points).await;
            assert_clean(&check_all(&repository).await.unwrap(), "after saving everything");
            continue;
        }

        // Nothing is restored quietly; with zeros everything else is as it was.
        let mut heal = RangeSet::new();
        for (point, disk) in &points {
            let lost = lost_of(&done, point);
            if lost.is_empty() {
                assert!(restore(&repository, point).await.unwrap() == *disk);
                continue;
            }
            let error = restore(&repository, point).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Integrity);
            let first = &lost.ranges()[0];
            assert!(error.to_string().contains(&format!("{}..{}", first.start, first.end)), "{error}");
            let stored = stored_disk(&repository, point).await.unwrap();
            assert_eq!(*stored.lost(), lost);
            let stored = stored.lost_as_zeros();
            let mut expected = disk.clone();
            lost.ranges().iter().for_each(|range| expected.zero(range.clone()));
            for order in [WriteOrder::Any, WriteOrder::Ascending] {
                assert!(restored(&stored, order).await.unwrap().disk == expected, "{how:?} {order:?}");
            }
            assert!(stored.read(0..disk_size(disk), Vec::new()).await.unwrap() == expected.read(0..disk_size(disk)));
            heal = lost;
        }
        assert!(!heal.is_empty(), "{how:?}: the newest point leans on the pack");
        assert!(!check_all(&repository).await.unwrap().is_clean(), "what is lost is a finding");

        // The bitmap names one block elsewhere; the lost ranges are read all the same.
        let mut next = points[1].1.clone();
        next.write(19 * MIB, b"one block");
        let dirty = ChangedBlocks::Exact(RangeSet::from_iter([19 * MIB..19 * MIB + 4096]));
        let source = Source::new(next.clone()).since("web 1", dirty).shared();
        let (healed, report) =
            back_up(&repository, "web", source, &no_sample(), SessionOptions::default(), &ctx()).await.unwrap();
        assert_eq!(report.method, backstay_core::ReadMethod::Changed, "{how:?}");
        points.push((healed, next));
        // Their chunks came back, and with them the old points.
        let again = repository.repair_packs(&repair(), &ctx()).await.unwrap();
        assert!(again.damaged.is_empty() && again.lost.is_empty(), "{how:?}: {again:?}");
        all_restore(&repository, &points).await;
        repository.prune(&PruneOptions::default(), &ctx()).await.unwrap();
        all_restore(&repository, &points).await;
        assert_clean(&check_all(&repository).await.unwrap(), "after healing");
    }
}

fn disk_size(disk: &Sparse) -> u64 {
    Source::new(disk.clone()).size()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_map_is_healed_by_reading_what_it_stood_for() {
    let (memory, repository) = memory_repository().await;
    // A map of two levels.
    let mut disk = Sparse::new(3 * SEGMENT);
    fill(&mut disk, 0..3 * SEGMENT, 5);
    let source = || Source::new(disk.clone()).with_token("web 0");
    let options = SessionOptions::default;
    let (point, _) = back_up(&repository, "web", source().shared(), &no_sample(), options(), &ctx()).await.unwrap();
    for key in keys(&memory, "meta/") {
        memory.delete(&key).await.unwrap();
    }
    let done = repository.repair_packs(&repair(), &ctx()).await.unwrap();
    assert_eq!(lost_of(&done, &point).bytes(), 3 * SEGMENT);
    let zeros = stored_disk(&repository, &point).await.unwrap().lost_as_zeros();
    assert!(restored(&zeros, WriteOrder::Any).await.unwrap().disk == Sparse::new(3 * SEGMENT));
    // Points with lost nodes do not keep others from being collected.
    repository.prune(&PruneOptions::default(), &ctx()).await.unwrap();
    let clean = source().since("web 0", ChangedBlocks::Exact(RangeSet::new())).shared();
    let (healed, report) = back_up(&repository, "web", clean, &no_sample(), options(), &ctx()).await.unwrap();
    assert_eq!(report.method, backstay_core::ReadMethod::Full);
    for point in [&point, &healed] {
        assert!(restore(&repository, point).await.unwrap() == disk);
    }
    assert!(repository.repair_packs(&repair(), &ctx()).await.unwrap().lost.is_empty());
    assert_clean(&check_all(&repository).await.unwrap(), "after healing");
}

#[tokio::test(flavor = "multi_thread")]
async fn index_segments_are_written_anew_before_and_after_they_were_settled() {
    for settled in [false, true] {
        for how in ["delete", "footer", "page"] {
            let (memory, repository, points) = scene().await;
            if settled {
                // Something to collect, so that a verdict folds the sessions.
                let gone = back_up_disk(&repository, "old", &dense(2 * MIB, 9)).await.unwrap();
                repository.forget(&[gone.id], &ctx()).await.unwrap();
                repository.prune(&PruneOptions::default(), &ctx()).await.unwrap();
            }
            for key in keys(&memory, "index/") {
                match how {
                    "delete" => memory.delete(&key).await.unwrap(),
                    "footer" => memory.tamper(&key, |bytes| *bytes.last_mut().unwrap() ^= 1).unwrap(),
                    _ => memory.tamper(&key, |bytes| bytes[50] ^= 1).unwrap(),
                }
            }
            let at = format!("{how}, settled {settled}");
            assert!(restore(&repository, &points[0].0).await.is_err());
            let objects = memory.keys();
            let plan = repository.repair_index(&repair().dry_run(true), &ctx()).await.unwrap();
            assert_eq!(memory.keys(), objects);
            let done = repository.repair_index(&repair(), &ctx()).await.unwrap();
            assert!(!done.bad_segments.is_empty() && done.unreadable_packs.is_empty(), "{at}: {done:?}");
            assert_eq!((plan.known_packs, plan.unknown_packs), (done.known_packs, done.unknown_packs));
            // Of a settled segment that is gone altogether nobody knows whose packs it named.
            let unknown = settled && how != "page";
            assert_eq!((done.known_packs == 0, done.unknown_packs > 0), (unknown, unknown), "{at}: {done:?}");
            all_restore(&repository, &points).await;
            assert_clean(&check_all(&repository).await.unwrap(), &at);
            // Packs of nobody serve restores and never dedup.
            let again = back_up_disk(&repository, "copy", &points[1].1).await.unwrap();
            assert_eq!(again.stored_bytes > 19 * MIB, unknown, "{at}: {} bytes stored", again.stored_bytes);
            repository.prune(&PruneOptions::default(), &ctx()).await.unwrap();
            all_restore(&repository, &points).await;
            assert!(restore(&repository, &again).await.unwrap() == points[1].1);
            let (next, report) = {
                let source = Source::new(points[1].1.clone()).shared();
                back_up(&repository, "web", source, &no_sample(), SessionOptions::default(), &ctx()).await.unwrap()
            };
            let full = report.method == backstay_core::ReadMethod::Full;
            assert_eq!(full, unknown, "{at}: {report:?}");
            assert!(next.stored_bytes < MIB && restore(&repository, &next).await.unwrap() == points[1].1, "{at}");
            assert_clean(&check_all(&repository).await.unwrap(), &at);
            assert!(repository.repair_index(&repair(), &ctx()).await.unwrap().bad_segments.is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_point_is_taken_out_and_the_others_stay_whole() {
    for what in ["points", "outcome"] {
        let (memory, repository, points) = scene().await;
        let key = match what {
            "points" => format!("points/{}", points[0].0.id),
            _ => format!("sessions/{}/outcome", points[0].0.id),
        };
        memory.tamper(&ObjectKey::new(key).unwrap(), |bytes| *bytes.last_mut().unwrap() ^= 1).unwrap();
        assert_eq!(repository.points().await.unwrap_err().kind(), ErrorKind::Integrity);
        let objects = memory.keys();
        let plan = repository.repair_points(&repair().dry_run(true), &ctx()).await.unwrap();
        assert_eq!((plan.points.len(), plan.points[0].removed), (1, false), "{plan:?}");
        assert_eq!(memory.keys(), objects);
        let done = repository.repair_points(&repair(), &ctx()).await.unwrap();
        assert!(done.points[0].removed && done.points[0].point == points[0].0.id, "{done:?}");
        let left: Vec<_> = repository.points().await.unwrap().iter().map(|point| point.id).collect();
        assert_eq!(left, [points[1].0.id]);
        // It was cut against the first point's chunks.
        all_restore(&repository, &points[1..]).await;
        for _ in 0..3 {
            repository.prune(&PruneOptions::default(), &ctx()).await.unwrap();
        }
        all_restore(&repository, &points[1..]).await;
        assert!(repository.repair_points(&repair(), &ctx()).await.unwrap().points.is_empty());
        let next = back_up_disk(&repository, "web", &points[1].1).await.unwrap();
        assert!(restore(&repository, &next).await.unwrap() == points[1].1);
        let findings = check_all(&repository).await.unwrap().findings;
        let gap = |text: String| text.contains("vanished");
        assert!(findings.iter().all(|finding| gap(finding.error.to_string())), "{what}: {findings:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_checks_of_five_per_cent_read_every_pack_once() {
    let (memory, _, _) = scene().await;
    let fault = Arc::new(FaultBackend::new(memory.clone()));
    fault.record_calls();
    let packs = keys(&memory, "packs/").len() + keys(&memory, "meta/").len();
    for _ in 0..20 {
        let repository = open(fault.clone()).await.unwrap();
        let report = repository.check(CheckDepth::Read(5), &ctx()).await.unwrap();
        assert_clean(&report, "nothing is damaged");
        assert!(report.remembered);
    }
    let mut read: BTreeMap<String, usize> = BTreeMap::new();
    for call in fault.calls().iter().filter(|call| call.operation == Operation::Get) {
        let key = call.key.as_ref().map(ToString::to_string).unwrap_or_default();
        if key.starts_with("packs/") || key.starts_with("meta/") {
            *read.entry(key).or_default() += 1;
        }
    }
    assert_eq!(read.len(), packs, "some packs were never read");
    let rounds = 20 * (packs * 5).div_ceil(100);
    assert!(read.values().all(|times| *times <= rounds.div_ceil(packs)), "{read:?}");
    let records = keys(&memory, "checks/").len();
    assert!(records <= 18, "{records} records");
    assert_clean(&check_all(&open(memory).await.unwrap()).await.unwrap(), "with the memory of checks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_may_not_put_reads_at_random_and_says_so() {
    let (memory, _, _) = scene().await;
    let fault = Arc::new(FaultBackend::new(memory.clone()));
    let denied = Rule::new(Fault::Fail(ErrorKind::PermissionDenied)).on(Operation::Put).times(u64::MAX);
    fault.inject(denied);
    let recorder = Arc::new(backstay_core::Recorder::default());
    let heard = ctx().with_events(recorder.clone());
    let report = open(fault).await.unwrap().check(CheckDepth::Read(30), &heard).await.unwrap();
    assert_clean(&report, "nothing is damaged");
    assert!(!report.remembered && report.packs_read > 3, "{report:?}");
    assert!(recorder.warnings().iter().any(|warning| warning.contains("at random")), "{:?}", recorder.warnings());
    assert!(keys(&memory, "checks/").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_found_again_and_again_and_bytes_bound_a_check() {
    let (memory, repository, _) = scene().await;
    for key in keys(&memory, "packs/") {
        memory.tamper(&key, |bytes| bytes[7] ^= 1).unwrap();
    }
    for _ in 0..3 {
        let depth = CheckDepth::ReadUpTo { percent: 100, bytes: 3 * MIB };
        let report = repository.check(depth, &ctx()).await.unwrap();
        assert!(report.bytes_read <= 4 * MIB && report.packs_read >= 1, "{report:?}");
    }
    let all = check_all(&repository).await.unwrap();
    assert!(all.findings.len() >= keys(&memory, "packs/").len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_needs_no_key_and_finds_every_flipped_byte() {
    let (memory, _, _) = scene().await;
    let backend: Arc<dyn StorageBackend> = memory.clone();
    let clean = scrub(&backend, &ScrubOptions::default(), &ctx()).await.unwrap();
    assert!(clean.is_clean(), "{:?}", clean.findings);
    assert_eq!(clean.packs, clean.packs_read);
    for folder in ["packs/", "meta/", "index/"] {
        let memory = Arc::new(memory.fork());
        let backend: Arc<dyn StorageBackend> = memory.clone();
        for (number, key) in keys(&memory, folder).iter().enumerate() {
            memory
                .tamper(key, |bytes| {
                    let at = (number * 7919 + 13) % bytes.len();
                    bytes[at] ^= 0x20;
                })
                .unwrap();
        }
        let report = scrub(&backend, &ScrubOptions::default(), &ctx()).await.unwrap();
        assert_eq!(report.findings.len(), keys(&memory, folder).len(), "{folder}: {:?}", report.findings);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hiccup_is_no_damage_for_scrub_check_or_repair() {
    let (memory, _, _) = scene().await;
    for operation in [Operation::Get, Operation::GetRange, Operation::Head, Operation::List] {
        for skip in (0..60).step_by(7) {
            let fault = Arc::new(FaultBackend::new(Arc::new(memory.fork())));
            let Ok(repository) = open(fault.clone()).await else { continue };
            fault.inject(Rule::new(Fault::Fail(ErrorKind::Unavailable)).on(operation).skip(skip));
            match repository.repair_packs(&repair(), &ctx()).await {
                Ok(report) => assert!(report.damaged.is_empty() && report.lost.is_empty(), "{report:?}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
            }
            fault.revive();
            fault.inject(Rule::new(Fault::Fail(ErrorKind::Unavailable)).on(operation).skip(skip));
            match repository.repair_index(&repair(), &ctx()).await {
                Ok(report) => assert!(report.bad_segments.is_empty(), "{report:?}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
            }
            fault.revive();
            fault.inject(Rule::new(Fault::Fail(ErrorKind::Unavailable)).on(operation).skip(skip));
            match repository.repair_points(&repair(), &ctx()).await {
                Ok(report) => assert!(report.points.is_empty(), "{report:?}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
            }
            fault.revive();
            fault.inject(Rule::new(Fault::Fail(ErrorKind::Unavailable)).on(operation).skip(skip));
            let backend: Arc<dyn StorageBackend> = fault.clone();
            match scrub(&backend, &ScrubOptions::default(), &ctx()).await {
                Ok(report) => assert!(report.is_clean(), "{:?}", report.findings),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}"),
            }
            // A byte that flips on the way is read again.
            fault.revive();
            fault.inject(Rule::new(Fault::FlipBit(8 << 10)).on(Operation::Get).skip(skip));
            let report = scrub(&backend, &ScrubOptions::default(), &ctx()).await.unwrap();
            assert!(report.is_clean(), "{:?}", report.findings);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_put_of_a_repair_is_made_good_by_the_next_run() {
    let (memory, _, points) = scene().await;
    let pack = keys(&memory, "packs/")[3].clone();
    damage(&memory, &pack, Damage::Flip).await;
    let segment = keys(&memory, "index/")[0].clone();
    memory.tamper(&segment, |bytes| *bytes.last_mut().unwrap() ^= 1).unwrap();
    let mut crashes = 0;
    for put in 0..64 {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let memory = Arc::new(memory.fork());
            let layer = Arc::new(FaultBackend::new(memory.clone()));
            let repository = open(layer.clone()).await.unwrap();
            layer.inject(Rule::new(fault).on(Operation::Put).skip(put));
            let run = async {
                repository.repair_index(&repair(), &ctx()).await?;
                repository.repair_packs(&repair(), &ctx()).await
            };
            crashes += usize::from(run.await.is_err());
            layer.revive();
            let repository = open(memory.clone()).await.unwrap();
            repository.repair_index(&repair(), &ctx()).await.unwrap();
            let report = repository.repair_packs(&repair(), &ctx()).await.unwrap();
            for (point, disk) in &points {
                let lost = lost_of(&report, point);
                let mut expected = disk.clone();
                lost.ranges().iter().for_each(|range| expected.zero(range.clone()));
                let stored = stored_disk(&repository, point).await.unwrap();
                assert_eq!(*stored.lost(), lost, "put {put}");
                assert!(
                    restored(&stored.lost_as_zeros(), WriteOrder::Any).await.unwrap().disk == expected,
                    "put {put}"
                );
            }
            // What the dead run has left goes.
            repository.prune(&PruneOptions::default(), &ctx()).await.unwrap();
            let dry = repository.prune(&PruneOptions::default().dry_run(true), &ctx()).await.unwrap();
            assert_eq!(dry.unknown_packs, 0, "put {put}: {dry:?}");
        }
        if crashes < 2 * (put as usize + 1) {
            break;
        }
    }
    assert!(crashes >= 8, "{crashes} crashes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_and_a_prune_at_the_same_time_as_a_repair_lose_nothing() {
    let (memory, repository, points) = scene().await;
    // A session that has seen the head before the repair, and an open generation.
    let mut session = repository.begin(workload("web"), SessionOptions::default(), &ctx()).await.unwrap();
    let gone = back_up_disk(&repository, "old", &dense(2 * MIB, 9)).await.unwrap();
    repository.forget(&[gone.id], &ctx()).await.unwrap();
    let waiting = repository.prune(&PruneOptions::default(), &ctx()).await.unwrap();
    assert_eq!(waiting.waiting_for.len(), 1);
    let pack = keys(&memory, "packs/")[2].clone();
    damage(&memory, &pack, Damage::Directory).await;
    let done = repository.repair_packs(&repair(), &ctx()).await.unwrap();
    assert_eq!((done.damaged.len(), done.lost.len()), (1, 0), "{done:?}");
    session.write_disk(&disk_id("vda"), Source::new(points[1].1.clone()).shared(), &no_sample()).await.unwrap();
    let point = session.commit(Default::default()).await.unwrap();
    for _ in 0..2 {
        repository.prune(&PruneOptions::default(), &ctx()).await.unwrap();
    }
    assert!(!memory.keys().contains(&pack), "what was given up goes");
    all_restore(&repository, &points).await;
    assert!(restore(&repository, &point).await.unwrap() == points[1].1);
    assert_clean(&check_all(&repository).await.unwrap(), "after all of them");
}
