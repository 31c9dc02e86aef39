//! The collector on its own: what it deletes, what it keeps, what it waits for.

#![allow(clippy::unwrap_used, reason = "a test speaks by panicking")]

mod common;

use std::time::Duration;

use backstay_core::{Context, RestorePoint};
use backstay_storage::repository::{CheckDepth, PointDetails, PruneOptions, PruneReport, Repository, SessionOptions};
use common::*;

async fn prune(repository: &Repository) -> PruneReport {
    repository.prune(&PruneOptions::default(), &Context::default()).await.unwrap()
}

async fn forget(repository: &Repository, point: &RestorePoint) {
    repository.forget(&[point.id], &Context::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_needs_goes_and_the_rest_restores() {
    let (memory, repository) = memory_repository().await;
    let first = dense(6 * MIB, 1);
    let mut second = first.clone();
    second.write(2 * MIB, &vec![7; MIB as usize]);
    let gone = back_up_disk(&repository, "web", &dense(8 * MIB, 9)).await.unwrap();
    let one = back_up_disk(&repository, "db", &first).await.unwrap();
    let two = back_up_disk(&repository, "db", &second).await.unwrap();
    let before = memory.total_bytes();

    // Nothing is forgotten: nothing that matters goes.
    let report = prune(&repository).await;
    assert_eq!((report.deleted_packs, report.repacked_packs), (0, 0), "{report:?}");
    forget(&repository, &gone).await;
    let report = prune(&repository).await;
    assert!(report.deleted_packs > 0 && report.waiting_for.is_empty(), "{report:?}");
    assert!(memory.total_bytes() < before - 7 * MIB, "{} of {before} bytes left", memory.total_bytes());
    for (point, disk) in [(&one, &first), (&two, &second)] {
        assert!(restore(&repository, point).await.unwrap() == *disk);
    }
    assert_clean(&check_all(&repository).await.unwrap(), "after a prune");
    assert_eq!(repository.points().await.unwrap().len(), 2);

    // A third time there is nothing to do, and nothing is put.
    let objects = memory.keys();
    let report = prune(&repository).await;
    assert_eq!(report.deleted_packs + report.condemned_packs, 0, "{report:?}");
    assert_eq!(memory.keys(), objects);

    // Incrementals go on from what was folded.
    let mut third = second.clone();
    third.write(0, b"changed");
    let three = back_up_disk(&repository, "db", &third).await.unwrap();
    assert!(three.stored_bytes < MIB, "{} bytes are stored again", three.stored_bytes);
    assert_eq!(three.sequence, 3);
    assert!(restore(&repository, &three).await.unwrap() == third);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_a_tenth_is_dead_after_one_prune() {
    let (memory, repository) = memory_repository().await;
    let full = dense(12 * MIB, 3);
    let all = back_up_disk(&repository, "web", &full).await.unwrap();
    // The second point keeps an eighth of the chunks, spread over all packs.
    let mut part = Sparse::new(12 * MIB);
    for at in 0..12 {
        part.write(at * MIB, &full.read(at * MIB..at * MIB + MIB / 4));
    }
    let kept = back_up_disk(&repository, "part", &part).await.unwrap();
    forget(&repository, &all).await;
    let report = prune(&repository).await;
    assert!(report.repacked_packs > 0 && report.copied_bytes > 0, "{report:?}");
    assert!(restore(&repository, &kept).await.unwrap() == part);
    assert_clean(&check_all(&repository).await.unwrap(), "after repacking");
    let plan = repository.prune(&PruneOptions::default().dry_run(true), &Context::default()).await.unwrap();
    assert_eq!((plan.repacked_packs, plan.unused_packs, plan.unknown_packs), (0, 0, 0), "{plan:?}");
    assert!(memory.total_bytes() < 5 * MIB, "{}", memory.total_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_backup_is_waited_for_and_keeps_what_it_uses() {
    let (_memory, repository) = memory_repository().await;
    let ctx = Context::default();
    let disk = dense(4 * MIB, 1);
    let parent = back_up_disk(&repository, "web", &disk).await.unwrap();
    let mut session = repository.begin(workload("web"), SessionOptions::default(), &ctx).await.unwrap();
    forget(&repository, &parent).await;
    let report = prune(&repository).await;
    assert_eq!((report.deleted_packs, report.waiting_for.len()), (0, 1), "{report:?}");
    session.write_disk(&disk_id("vda"), Source::new(disk.clone()).shared(), &no_sample()).await.unwrap();
    let point = session.commit(PointDetails::default()).await.unwrap();
    assert!(point.stored_bytes < MIB, "it used what was condemned: {}", point.stored_bytes);
    let report = prune(&repository).await;
    assert!(report.waiting_for.is_empty() && report.released_packs > 0, "{report:?}");
    assert!(restore(&repository, &point).await.unwrap() == disk);
    assert_clean(&repository.check(CheckDepth::Read(100), &ctx).await.unwrap(), "after the verdict");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_without_progress_is_fenced_and_cannot_commit() {
    let (_memory, repository) = memory_repository().await;
    let ctx = Context::default();
    let disk = dense(2 * MIB, 1);
    let parent = back_up_disk(&repository, "web", &disk).await.unwrap();
    let mut session = repository.begin(workload("web"), SessionOptions::default(), &ctx).await.unwrap();
    session.write_disk(&disk_id("vda"), Source::new(disk.clone()).shared(), &no_sample()).await.unwrap();
    forget(&repository, &parent).await;
    assert_eq!(prune(&repository).await.waiting_for.len(), 1);
    let impatient = PruneOptions::default().stale_after(Duration::from_nanos(1));
    let report = repository.prune(&impatient, &ctx).await.unwrap();
    assert_eq!(report.fenced_sessions.len(), 1, "{report:?}");
    assert!(report.deleted_packs > 0, "{report:?}");
    let error = session.commit(PointDetails::default()).await.unwrap_err();
    assert_eq!(error.kind(), backstay_core::ErrorKind::Conflict, "{error}");
    assert!(repository.points().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_backup_is_taken_up_and_puts_nothing_twice() {
    let (memory, repository) = memory_repository().await;
    let ctx = Context::default();
    let disk = dense(40 * MIB, 1);
    let options = || SessionOptions::default().checkpoints(4 * MIB, Duration::from_secs(3600)).resume(true);
    let mut session = repository.begin(workload("web"), options(), &ctx).await.unwrap();
    session.write_disk(&disk_id("vda"), Source::new(disk.clone()).shared(), &no_sample()).await.unwrap();
    let id = session.id();
    drop(session);
    let stored = memory.total_bytes();
    let mut session = repository.begin(workload("web"), options(), &ctx).await.unwrap();
    assert_eq!(session.id(), id);
    session.write_disk(&disk_id("vda"), Source::new(disk.clone()).shared(), &no_sample()).await.unwrap();
    let point = session.commit(PointDetails::default()).await.unwrap();
    assert!(memory.total_bytes() < stored + 10 * MIB, "{stored} and then {}", memory.total_bytes());
    assert!(restore(&repository, &point).await.unwrap() == disk);
    assert_clean(&check_all(&repository).await.unwrap(), "after taking up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_that_is_held_open_outlives_being_forgotten_and_pruned() {
    let (_memory, repository) = memory_repository().await;
    let ctx = Context::default();
    let disk = dense(4 * MIB, 1);
    let point = back_up_disk(&repository, "web", &disk).await.unwrap();
    let held = repository.read_session(&[point.id], &ctx).await.unwrap().unwrap();
    let stored = stored_disk(&repository, &point).await.unwrap();
    forget(&repository, &point).await;
    for _ in 0..3 {
        let report = prune(&repository).await;
        assert_eq!((report.deleted_packs, report.waiting_for.len()), (0, 0), "a reader holds nobody up: {report:?}");
        back_up_disk(&repository, "db", &dense(MIB, 7)).await.unwrap();
    }
    let again = restored(&stored, backstay_core::WriteOrder::Any).await.unwrap();
    assert!(again.disk == disk);
    let gone = repository.read_session(&[point.id], &ctx).await.err().unwrap();
    assert_eq!(gone.kind(), backstay_core::ErrorKind::NotFound, "a forgotten point is held by nobody new");
    held.close().await;
    let mut deleted = 0;
    for _ in 0..2 {
        deleted += prune(&repository).await.deleted_packs;
    }
    assert!(deleted > 0);
    let error = restored(&stored, backstay_core::WriteOrder::Any).await.err().unwrap();
    assert_eq!(error.kind(), backstay_core::ErrorKind::Conflict, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_disk_is_read_on_after_its_packs_were_rewritten() {
    let (_memory, repository) = memory_repository().await;
    let full = dense(12 * MIB, 3);
    let all = back_up_disk(&repository, "web", &full).await.unwrap();
    let mut part = Sparse::new(12 * MIB);
    for at in 0..12 {
        part.write(at * MIB, &full.read(at * MIB..at * MIB + MIB / 4));
    }
    let kept = back_up_disk(&repository, "part", &part).await.unwrap();
    let stored = stored_disk(&repository, &kept).await.unwrap();
    forget(&repository, &all).await;
    assert!(prune(&repository).await.repacked_packs > 0);
    assert!(restored(&stored, backstay_core::WriteOrder::Any).await.unwrap().disk == part);
}
