//! Forgetting restore points, and holding them.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use backstay_core::{Context, ErrorKind, ObjectKey, RestorePoint, RestorePointId, Result, StorageBackend};
use backstay_storage::{
    Fault, FaultBackend, MemoryBackend, Operation, Repository, Rule,
    repository::{Capability, ForgetReport, PruneOptions, SessionOptions, keys::KeyBundle},
};
use common::{
    MIB, Source, Sparse, admit, assert_clean, back_up, back_up_disk, check_all, dense, memory_repository, no_sample,
    open, owner_bundle, restore,
};

fn kind_of<T>(result: Result<T>) -> ErrorKind {
    result.err().unwrap().kind()
}

/// Three points of one workload, each counted from the one before, and what they hold.
async fn three(repository: &Repository) -> Vec<(RestorePoint, Sparse)> {
    let mut disk = dense(3 * MIB, 1);
    let mut points = Vec::new();
    for step in 0..3 {
        disk.write(step * MIB, b"another day");
        points.push((back_up_disk(repository, "web", &disk).await.unwrap(), disk.clone()));
    }
    points
}

fn ids(points: &[(RestorePoint, Sparse)]) -> Vec<RestorePointId> {
    points.iter().map(|(point, _)| point.id).collect()
}

async fn one_with_label(repository: &Repository, key: &str, value: &str) -> RestorePoint {
    let session = SessionOptions::default().labels([(key.to_owned(), value.to_owned())].into());
    let source = Source::new(dense(MIB, 7)).shared();
    back_up(repository, "held", source, &no_sample(), session, &Context::default()).await.unwrap().0
}

async fn share(memory: &MemoryBackend, capability: Capability) -> KeyBundle {
    owner_bundle(memory).await.1.restrict(capability, &Context::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn points_are_forgotten_in_any_order_and_the_others_still_restore() {
    let (memory, repository) = memory_repository().await;
    let points = three(&repository).await;
    let ctx = Context::default();
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let memory = Arc::new(memory.fork());
        let repository = open(memory).await.unwrap();
        let mut left = points.clone();
        for at in order {
            let id = points[at].0.id;
            let report = repository.forget(&[id], &ctx).await.unwrap();
            assert_eq!((report.forgotten, report.already), (vec![id], vec![]));
            left.retain(|(point, _)| point.id != id);
            let listed: Vec<_> = repository.points().await.unwrap().iter().map(|point| point.id).collect();
            assert_eq!(listed, ids(&left), "{order:?} after {at}");
            for (point, disk) in &left {
                assert!(restore(&repository, point).await.unwrap() == *disk, "{order:?} after {at}");
            }
            assert_clean(&check_all(&repository).await.unwrap(), "after a forget");
            assert_eq!(kind_of(restore(&repository, &points[at].0).await), ErrorKind::NotFound);
        }
        // And the next backup begins anew.
        let (point, disk) = &points[1];
        let again = back_up_disk(&repository, "web", disk).await.unwrap();
        assert!(again.id != point.id && restore(&repository, &again).await.unwrap() == *disk);
        assert_clean(&check_all(&repository).await.unwrap(), "after the next backup");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_forgotten_already_is_told_and_what_is_unknown_is_not_found_before_anything_is_put() {
    let (memory, repository) = memory_repository().await;
    let points = ids(&three(&repository).await);
    let ctx = Context::default();
    let report = repository.forget(&[points[2], points[0], points[2]], &ctx).await.unwrap();
    assert_eq!((report.forgotten, report.already), (vec![points[2], points[0]], vec![]));
    let before = memory.keys();
    let unknown = RestorePointId::from_bytes([9; 16]);
    assert_eq!(kind_of(repository.forget(&[points[1], unknown], &ctx).await), ErrorKind::NotFound);
    assert_eq!(memory.keys(), before, "nothing is put when one of them is unknown");
    let report = repository.forget(&[points[0], points[1]], &ctx).await.unwrap();
    assert_eq!((report.forgotten, report.already), (vec![points[1]], vec![points[0]]));
    assert_eq!(repository.forget(&[], &ctx).await.unwrap(), ForgetReport::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_put_forgets_some_and_a_second_run_finishes() {
    let (memory, repository) = memory_repository().await;
    let points = ids(&three(&repository).await);
    let ctx = Context::default();
    for crash in [Fault::CrashBefore, Fault::CrashAfter] {
        for put in 0..6 {
            let at = format!("put {put}, {crash:?}");
            let fault = Arc::new(FaultBackend::new(Arc::new(memory.fork())));
            let repository = open(fault.clone()).await.unwrap();
            fault.inject(Rule::new(crash.clone()).on(Operation::Put).skip(put));
            repository.forget(&points, &ctx).await.unwrap_err();
            fault.revive();
            assert_clean(&check_all(&repository).await.unwrap(), &at);
            let report = repository.forget(&points, &ctx).await.unwrap();
            assert_eq!(report.forgotten.len() + report.already.len(), 3, "{at}");
            assert!(repository.points().await.unwrap().is_empty(), "{at}");
            assert_clean(&check_all(&repository).await.unwrap(), &at);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_may_not_forget_or_hold_and_a_keeper_may() {
    let (memory, owner) = memory_repository().await;
    let points = ids(&three(&owner).await);
    let ctx = Context::default();
    let reader = share(&memory, Capability::Reader).await;
    let reader = Repository::open_with_bundle(memory.clone(), reader).await.unwrap();
    let before = memory.keys();
    assert_eq!(kind_of(reader.forget(&points, &ctx).await), ErrorKind::PermissionDenied);
    assert_eq!(kind_of(reader.hold(&points[0], "", &ctx).await), ErrorKind::PermissionDenied);
    assert_eq!(kind_of(reader.release(&points[0], &ctx).await), ErrorKind::PermissionDenied);
    assert_eq!(memory.keys(), before);

    for capability in [Capability::Keeper, Capability::Writer] {
        let memory = Arc::new(memory.fork());
        let bundle = share(&memory, capability).await;
        admit(&memory, &bundle).await;
        let repository = Repository::open_with_bundle(memory.clone(), bundle).await.unwrap();
        repository.hold(&points[0], "court", &ctx).await.unwrap();
        repository.forget(&points[1..2], &ctx).await.unwrap();
        let owner = open(memory).await.unwrap();
        assert_eq!(owner.points().await.unwrap().len(), 2, "the owner believes a {}", capability.name());
        assert_eq!(kind_of(owner.forget(&points[..1], &ctx).await), ErrorKind::Conflict);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_keeps_a_point_until_it_is_lifted() {
    let (_, repository) = memory_repository().await;
    let points = three(&repository).await;
    let ids = ids(&points);
    let ctx = Context::default();
    assert!(!repository.release(&ids[0], &ctx).await.unwrap(), "nothing to lift");
    assert!(repository.hold(&ids[0], "court case 7", &ctx).await.unwrap());
    assert!(!repository.hold(&ids[0], "court case 7", &ctx).await.unwrap(), "it is on hold already");
    let listed = repository.points().await.unwrap();
    let holds = repository.holds(&listed).await.unwrap();
    assert_eq!(holds.len(), 1);
    assert_eq!(holds[&ids[0]].reason, "court case 7");
    assert!(holds[&ids[0]].since.is_some());
    assert_eq!(repository.inventory().await.unwrap().holds, holds);

    let error = repository.forget(&ids, &ctx).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("release") && error.to_string().contains("court case 7"), "{error}");
    assert_eq!(repository.points().await.unwrap().len(), 3, "nothing goes when one of them is held");

    assert!(repository.hold(&ids[0], "another reason", &ctx).await.unwrap());
    assert_eq!(repository.holds(&listed).await.unwrap()[&ids[0]].reason, "another reason");
    assert!(repository.release(&ids[0], &ctx).await.unwrap());
    assert!(repository.holds(&listed).await.unwrap().is_empty());
    assert!(repository.hold(&ids[0], "", &ctx).await.unwrap());
    assert!(repository.release(&ids[0], &ctx).await.unwrap());
    repository.forget(&ids, &ctx).await.unwrap();
    assert_eq!(kind_of(repository.hold(&ids[0], "", &ctx).await), ErrorKind::NotFound);
    assert_eq!(kind_of(repository.hold(&RestorePointId::from_bytes([1; 16]), "", &ctx).await), ErrorKind::NotFound);
    for bad in ["a\nb".to_owned(), "x".repeat(1025)] {
        assert_eq!(kind_of(repository.hold(&ids[0], &bad, &ctx).await), ErrorKind::InvalidInput);
    }
    assert_clean(&check_all(&repository).await.unwrap(), "after holds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_holds_from_the_beginning_and_can_be_released() {
    let (_, repository) = memory_repository().await;
    let ctx = Context::default();
    let point = one_with_label(&repository, "hold", "before the upgrade").await;
    let other = one_with_label(&repository, "holder", "x").await;
    let holds = repository.holds(&[point.clone(), other.clone()]).await.unwrap();
    assert_eq!(holds.len(), 1);
    assert_eq!((holds[&point.id].reason.as_str(), holds[&point.id].since), ("before the upgrade", None));
    assert_eq!(kind_of(repository.forget(&[point.id], &ctx).await), ErrorKind::Conflict);
    assert!(repository.release(&point.id, &ctx).await.unwrap());
    assert!(repository.holds(std::slice::from_ref(&point)).await.unwrap().is_empty());
    repository.forget(&[point.id, other.id], &ctx).await.unwrap();
    assert!(repository.points().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hold_and_a_forget_at_the_same_time_exactly_one_wins() {
    for _ in 0..40 {
        let (_, repository) = memory_repository().await;
        let ctx = Context::default();
        let point = back_up_disk(&repository, "web", &Sparse::new(4096)).await.unwrap();
        let (hold, forget) = {
            let (holder, forgetter, id, ctx) = (repository.clone(), repository.clone(), point.id, ctx.clone());
            let job = ctx.clone();
            let hold = tokio::spawn(async move { holder.hold(&id, "now", &job).await });
            let forget = tokio::spawn(async move { forgetter.forget(&[id], &ctx).await });
            (hold.await.unwrap(), forget.await.unwrap())
        };
        assert_ne!(hold.is_ok(), forget.is_ok(), "{hold:?} {forget:?}");
        assert_eq!(repository.points().await.unwrap().len(), usize::from(hold.is_ok()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_forget_that_was_cut_off_a_hold_is_promised_or_refused() {
    let (memory, repository) = memory_repository().await;
    let ids = ids(&three(&repository).await);
    let ctx = Context::default();
    // Before its first put: nothing has begun, and a hold holds.
    let fault = Arc::new(FaultBackend::new(memory.clone()));
    let forgetter = open(fault.clone()).await.unwrap();
    fault.inject(Rule::new(Fault::Fail(ErrorKind::PermissionDenied)).on(Operation::Put).times(1));
    forgetter.forget(&ids[..1], &ctx).await.unwrap_err();
    repository.hold(&ids[0], "", &ctx).await.unwrap();
    assert_eq!(kind_of(forgetter.forget(&ids[..1], &ctx).await), ErrorKind::Conflict);
    // Between its two puts: the point is there still, and nobody can be promised that it stays.
    fault.inject(Rule::new(Fault::Fail(ErrorKind::PermissionDenied)).on(Operation::Put).skip(1).times(1));
    forgetter.forget(&ids[1..2], &ctx).await.unwrap_err();
    assert_eq!(kind_of(repository.hold(&ids[1], "", &ctx).await), ErrorKind::Conflict);
    assert_eq!(repository.points().await.unwrap().len(), 3);
    assert_eq!(repository.forget(&ids[1..2], &ctx).await.unwrap().forgotten, ids[1..2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_record_that_cannot_be_read_keeps_its_point_until_a_newer_one_lets_it_go() {
    let (memory, repository) = memory_repository().await;
    let points = three(&repository).await;
    let ids = ids(&points);
    let ctx = Context::default();
    repository.hold(&ids[0], "", &ctx).await.unwrap();
    repository.release(&ids[0], &ctx).await.unwrap();
    let newest = ObjectKey::new(format!("holds/{}/2", ids[0])).unwrap();
    memory.tamper(&newest, |bytes| *bytes.last_mut().unwrap() ^= 1).unwrap();
    assert!(repository.inventory().await.unwrap().holds.contains_key(&ids[0]));
    assert_eq!(kind_of(repository.forget(&ids[..1], &ctx).await), ErrorKind::Integrity);
    assert_eq!(repository.forget(&ids[1..2], &ctx).await.unwrap().forgotten, ids[1..2], "others go all the same");
    let report = check_all(&repository).await.unwrap();
    assert!(report.findings.iter().any(|finding| finding.error.to_string().contains(newest.as_str())), "{report:?}");
    assert!(repository.release(&ids[0], &ctx).await.unwrap());
    repository.forget(&ids[..1], &ctx).await.unwrap();

    // One by somebody whom the owner does not know holds and does not let go.
    let stranger = share(&memory, Capability::Keeper).await;
    let stranger = Repository::open_with_bundle(memory.clone(), stranger).await.unwrap();
    repository.hold(&ids[2], "", &ctx).await.unwrap();
    stranger.release(&ids[2], &ctx).await.unwrap();
    assert_eq!(kind_of(repository.forget(&ids[2..], &ctx).await), ErrorKind::Integrity);
    // Names that nobody writes say nothing.
    for name in ["007", "x", "2/3", "-1"] {
        let junk = ObjectKey::new(format!("holds/{}/{name}", ids[2])).unwrap();
        memory.put(&junk, "junk".into(), backstay_core::PutMode::Create).await.unwrap();
    }
    assert!(repository.release(&ids[2], &ctx).await.unwrap());
    repository.forget(&ids[2..], &ctx).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_point_is_listed_apart_and_others_can_be_forgotten() {
    let (memory, repository) = memory_repository().await;
    let ids = ids(&three(&repository).await);
    let ctx = Context::default();
    // One of them looks as if a newer version had made it.
    for (at, damaged) in [(1, ids[0]), (6, ids[1])] {
        let key = ObjectKey::new(format!("points/{damaged}")).unwrap();
        memory.tamper(&key, |bytes| bytes[at] ^= 1).unwrap();
    }
    assert!(repository.points().await.is_err());
    let inventory = repository.inventory().await.unwrap();
    assert_eq!(inventory.points.iter().map(|point| point.id).collect::<Vec<_>>(), ids[2..]);
    let mut damaged: Vec<_> = inventory.damaged.iter().map(|(id, _)| *id).collect();
    damaged.sort();
    let mut expected = ids[..2].to_vec();
    expected.sort();
    assert_eq!(damaged, expected);
    let selectors: Vec<_> = ids.iter().map(|id| id.to_string()[..12].parse().unwrap()).collect();
    assert_eq!(repository.point_ids(&selectors).await.unwrap(), ids, "a damaged point can be named");
    assert_eq!(repository.forget(&ids[2..], &ctx).await.unwrap().forgotten, ids[2..]);
    // Its label may hold it: somebody has to say that it may go.
    let error = repository.forget(&ids[..1], &ctx).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Integrity && error.message().contains("release"), "{error}");
    assert!(repository.release(&ids[0], &ctx).await.unwrap());
    assert_eq!(repository.forget(&ids[..1], &ctx).await.unwrap().forgotten, ids[..1]);
    assert_eq!(repository.point_ids(&selectors[..1]).await.unwrap(), ids[..1], "a forgotten point can be named");
    // An outcome that cannot be read: nobody knows whether there is a point.
    let outcome = ObjectKey::new(format!("sessions/{}/outcome", ids[1])).unwrap();
    memory.tamper(&outcome, |bytes| *bytes.last_mut().unwrap() ^= 1).unwrap();
    assert_eq!(kind_of(repository.forget(&ids[1..2], &ctx).await), ErrorKind::Integrity);
    assert_eq!(repository.inventory().await.unwrap().damaged[0].0, ids[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_forgotten_is_collected_with_its_holds_and_the_rest_keeps_its_own() {
    let (memory, repository) = memory_repository().await;
    let points = three(&repository).await;
    let ids = ids(&points);
    let ctx = Context::default();
    repository.hold(&ids[0], "stays", &ctx).await.unwrap();
    repository.hold(&ids[1], "goes", &ctx).await.unwrap();
    repository.release(&ids[1], &ctx).await.unwrap();
    repository.forget(&ids[1..2], &ctx).await.unwrap();
    for _ in 0..3 {
        repository.prune(&PruneOptions::default(), &ctx).await.unwrap();
    }
    let holds: Vec<_> = memory.keys().into_iter().filter(|key| key.as_str().starts_with("holds/")).collect();
    assert_eq!(holds, [ObjectKey::new(format!("holds/{}/1", ids[0])).unwrap()]);
    assert!(memory.keys().iter().all(|key| !key.as_str().contains(&ids[1].to_string())));
    assert_eq!(kind_of(repository.forget(&ids[..1], &ctx).await), ErrorKind::Conflict);
    assert_eq!(kind_of(repository.forget(&ids[1..2], &ctx).await), ErrorKind::NotFound);
    for (point, disk) in [&points[0], &points[2]] {
        assert!(restore(&repository, point).await.unwrap() == *disk);
    }
    assert_clean(&check_all(&repository).await.unwrap(), "after a collection");
    // The chain describes what it has settled; a point that is lost all the same counts for no rule.
    memory.delete(&ObjectKey::new(format!("points/{}", ids[2])).unwrap()).await.unwrap();
    let inventory = repository.inventory().await.unwrap();
    assert_eq!(inventory.points.iter().map(|point| point.id).collect::<Vec<_>>(), ids[..1]);
    assert_eq!(inventory.damaged[0].0, ids[2]);
    assert_eq!(repository.forget(&ids[2..], &ctx).await.unwrap().forgotten, ids[2..]);
}
