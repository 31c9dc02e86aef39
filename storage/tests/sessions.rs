//! Sessions that go wrong, and full backups that put right what was lost.

mod common;

use std::sync::Arc;

use backstay_core::{Context, ErrorKind, ObjectKey, StorageBackend};
use backstay_storage::{
    Fault, FaultBackend, MemoryBackend, Operation, Repository, Rule,
    repository::{CheckDepth, PointDetails, SessionOptions},
};
use common::{
    MIB, Source, assert_clean, back_up_disk, check_all, dense, disk_id, memory_repository, no_sample, quick_options,
    restore, workload,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_session_commits_nothing_after_a_write_that_failed() {
    let ctx = Context::default();
    let faults = Arc::new(FaultBackend::new(Arc::new(MemoryBackend::new())));
    let made = Repository::init(faults.clone(), quick_options().recovery(false), &ctx).await.unwrap();
    let mut session = made.repository.begin(workload("web"), SessionOptions::default(), &ctx).await.unwrap();
    let packs = ObjectKey::new("packs").unwrap();
    faults.inject(Rule::new(Fault::Fail(ErrorKind::PermissionDenied)).on(Operation::Put).below(packs).times(1));
    let disk = Source::new(dense(8 * MIB, 1)).shared();
    session.write_disk(&disk_id("a"), disk.clone(), &no_sample()).await.unwrap_err();
    let again = session.write_disk(&disk_id("b"), disk, &no_sample()).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict);
    assert_eq!(session.commit(PointDetails::default()).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(made.repository.points().await.unwrap().is_empty());
    assert_clean(&check_all(&made.repository).await.unwrap(), "after a broken session");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_commits_nothing_after_a_write_that_was_dropped() {
    let ctx = Context::default();
    let (_, repository) = memory_repository().await;
    let mut session = repository.begin(workload("web"), SessionOptions::default(), &ctx).await.unwrap();
    let disk = Source::new(dense(8 * MIB, 2)).shared();
    {
        let (id, options) = (disk_id("a"), no_sample());
        let mut write = std::pin::pin!(session.write_disk(&id, disk, &options));
        // One poll: it has begun and is dropped here.
        assert!(futures::poll!(&mut write).is_pending());
    }
    assert_eq!(session.commit(PointDetails::default()).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_backup_heals_what_a_lost_pack_took_away() {
    let ctx = Context::default();
    let (backend, repository) = memory_repository().await;
    let disk = dense(8 * MIB, 3);
    back_up_disk(&repository, "web", &disk).await.unwrap();
    let lost = backend.keys().into_iter().find(|key| key.as_str().starts_with("packs/")).unwrap();
    backend.delete(&lost).await.unwrap();

    let options = SessionOptions::default().full(true);
    let mut session = repository.begin(workload("web"), options, &ctx).await.unwrap();
    session.write_disk(&disk_id("vda"), Source::new(disk.clone()).shared(), &no_sample()).await.unwrap();
    let healed = session.commit(PointDetails::default()).await.unwrap();
    assert!(restore(&repository, &healed).await.unwrap() == disk);
    // The check still tells of the pack, and of nothing that a point needs.
    let report = repository.check(CheckDepth::Structure, &ctx).await.unwrap();
    assert!(report.findings.iter().all(|finding| finding.error.to_string().contains("missing")));
}
