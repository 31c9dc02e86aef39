//! Records by those who may not write them, and old ones put back: they count for nothing, are named, and delete nothing.

use std::{sync::Arc, time::Duration};

use backstay_core::{ErrorKind, ObjectKey, PutMode, RestorePoint, StorageBackend};
use backstay_storage::{
    MemoryBackend, Repository,
    repository::{
        Capability, PointDetails, PruneOptions, SessionOptions,
        crypto::ObjectType,
        format::{
            chain::{ChainRecord, Change, KeysName},
            session::{Commit, Outcome, Tombstone},
        },
        ids::ObjectHash,
    },
};

use crate::{common::*, kit::*};

struct Scene {
    memory: Arc<MemoryBackend>,
    owner: Repository,
    reader: Holder,
    writer: Holder,
    keeper: Holder,
    disk: Sparse,
    point: RestorePoint,
    /// Forgotten, and not collected.
    gone: RestorePoint,
}

async fn scene() -> Scene {
    let (memory, _) = memory_repository().await;
    let owner = open(memory.clone()).await.unwrap();
    let reader = holder(&memory, &owner, Capability::Reader).await;
    let writer = holder(&memory, &owner, Capability::Writer).await;
    let keeper = holder(&memory, &owner, Capability::Keeper).await;
    let disk = dense(2 * MIB, 1);
    let point = back_up_disk(&writer.open(&memory).await.unwrap(), "web", &disk).await.unwrap();
    let gone = back_up_disk(&owner, "old", &dense(2 * MIB, 9)).await.unwrap();
    owner.forget(&[gone.id], &ctx()).await.unwrap();
    Scene { memory, owner, reader, writer, keeper, disk, point, gone }
}

/// Nothing is deleted while this is there, a prune and a check say so, and without it all is as it was.
async fn blocks(scene: &Scene, memory: &Arc<MemoryBackend>, forged: &ObjectKey, what: &str) {
    let before = content(memory);
    let owner = open(memory.clone()).await;
    match &owner {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Integrity, "{what}: {error}"),
        Ok(owner) => {
            let options = PruneOptions::default().stale_after(Duration::ZERO);
            let pruned = owner.prune(&options, &ctx()).await.unwrap_err();
            assert_eq!(pruned.kind(), ErrorKind::Integrity, "{what}: {pruned}");
            match check_all(owner).await {
                Err(error) => assert_eq!(error.kind(), ErrorKind::Integrity, "{what}: {error}"),
                Ok(report) => assert!(!report.is_clean(), "{what}"),
            }
            if let Ok(points) = owner.points().await {
                assert!(points.iter().all(|point| point.id == scene.point.id), "{what}: {points:?}");
            }
        }
    }
    assert_eq!(content(memory), before, "{what}");
    memory.delete(forged).await.unwrap();
    let owner = open(memory.clone()).await.unwrap();
    assert_eq!(owner.points().await.unwrap().len(), 1, "{what}");
    assert!(restore(&owner, &scene.point).await.unwrap() == scene.disk, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_with_the_stores_credentials_and_a_patched_client_commits_forgets_fences_and_prunes_nothing() {
    let scene = scene().await;
    let fork = || Arc::new(scene.memory.fork());
    // By the rules.
    let reader = scene.reader.open(&scene.memory).await.unwrap();
    assert_eq!(kind_of(back_up_disk(&reader, "x", &scene.disk).await), ErrorKind::PermissionDenied);
    assert_eq!(kind_of(reader.forget(&[scene.point.id], &ctx()).await), ErrorKind::PermissionDenied);
    assert_eq!(kind_of(reader.prune(&PruneOptions::default(), &ctx()).await), ErrorKind::PermissionDenied);
    assert_eq!(kind_of(reader.hold(&scene.point.id, "", &ctx()).await), ErrorKind::PermissionDenied);

    // A commit.
    let memory = fork();
    let before = memory.keys();
    let patched = scene.reader.patched(&memory, Capability::Writer).await;
    let _believes_so = back_up_disk(&patched, "web", &dense(MIB, 5)).await;
    let forged = memory.keys().into_iter().find(|key| !before.contains(key) && key.name() == "outcome").unwrap();
    let owner = open(memory.clone()).await.unwrap();
    assert_eq!(kind_of(owner.points().await), ErrorKind::Integrity);
    blocks(&scene, &memory, &forged, "a reader's commit").await;

    // A tombstone.
    let memory = fork();
    let patched = scene.reader.patched(&memory, Capability::Keeper).await;
    patched.forget(&[scene.point.id], &ctx()).await.unwrap();
    assert_eq!(kind_of(open(memory.clone()).await.unwrap().points().await), ErrorKind::Integrity);
    let forged = key(format!("forgotten/{}", scene.point.id));
    // Whoever may put it may put "going", too, which keeps a point at worst.
    blocks(&scene, &memory, &forged, "a reader's tombstone").await;

    // A fence, and an abort, of a backup that runs.
    for outcome in [Outcome::Fenced, Outcome::Aborted] {
        let memory = fork();
        let writer = scene.writer.open(&memory).await.unwrap();
        let mut session = writer.begin(workload("db"), SessionOptions::default(), &ctx()).await.unwrap();
        session.write_disk(&disk_id("vda"), Source::new(scene.disk.clone()).shared(), &no_sample()).await.unwrap();
        let id = session.id();
        let what = format!("a reader's {outcome:?}");
        forge_outcome(&memory, &scene.owner, &scene.reader.bundle, &id, outcome, 3).await;
        blocks(&scene, &memory, &key(format!("sessions/{id}/outcome")), &what).await;
        session.commit(PointDetails::default()).await.unwrap();
        assert_eq!(open(memory).await.unwrap().points().await.unwrap().len(), 2, "{what}");
    }

    // A record of the chain that lets everything go.
    let memory = fork();
    let patched = scene.reader.patched(&memory, Capability::Keeper).await;
    let before = content(&memory);
    assert_eq!(kind_of(patched.prune(&PruneOptions::default(), &ctx()).await), ErrorKind::Integrity);
    assert_eq!(content(&memory), before, "its own client has stopped, too");
    blocks(&scene, &memory, &key("chain/4"), "a reader's condemn").await;
    // Nor can it change the roster: that takes the owner's signature.
    let mut bundle = scene.reader.bundle.clone();
    bundle.capability = Capability::Owner;
    let patched = Repository::open_with_bundle(fork(), bundle).await.unwrap();
    assert_eq!(kind_of(patched.rotate(&ctx()).await), ErrorKind::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_writers_kept_key_commits_nothing_after_the_settling_and_before_it_only_what_saw_an_older_head() {
    let scene = scene().await;
    // A session that began before the removal may finish after it.
    let running = scene.writer.open(&scene.memory).await.unwrap();
    let mut session = running.begin(workload("db"), SessionOptions::default(), &ctx()).await.unwrap();
    session.write_disk(&disk_id("vda"), Source::new(scene.disk.clone()).shared(), &no_sample()).await.unwrap();
    let owner = scene.owner.remove_key(&scene.writer.slot, &ctx()).await.unwrap().repository;
    // Another change of the roster does not give it more time.
    owner
        .add_key(
            backstay_storage::repository::NewKey::new(
                backstay_storage::repository::NewKeyKind::Recovery,
                Capability::Reader,
            ),
            &ctx(),
        )
        .await
        .unwrap();
    let id = session.id();
    let _late_or_not = session.commit(PointDetails::default()).await;
    assert!(owner.points().await.unwrap().iter().any(|point| point.id == id), "a backup that ran is not lost");

    // What saw the removal, or says that it saw what came after it, does not count.
    let commit = |memory: Arc<MemoryBackend>, generation| {
        let (scene, owner) = (&scene, &owner);
        async move {
            let session = backstay_core::RestorePointId::from_bytes([9; 16]);
            let name = key(format!("points/{}", scene.point.id));
            let point = ObjectHash(*blake3::hash(&memory.get(&name).await.unwrap()).as_bytes());
            let commit =
                Commit { point: Some(point), packs: vec![], segments: vec![], meta_packs: vec![], origin: None };
            forge_outcome(&memory, owner, &scene.writer.bundle, &session, Outcome::Commit(commit), generation).await;
            key(format!("sessions/{session}/outcome"))
        }
    };
    for generation in [4, 5, 6, 99] {
        let memory = Arc::new(scene.memory.fork());
        let forged = commit(memory.clone(), generation).await;
        let opened = open(memory.clone()).await.unwrap();
        assert_eq!(kind_of(opened.points().await), ErrorKind::Integrity, "generation {generation}");
        let before = content(&memory);
        assert_eq!(kind_of(opened.prune(&PruneOptions::default(), &ctx()).await), ErrorKind::Integrity);
        assert_eq!(content(&memory), before);
        memory.delete(&forged).await.unwrap();
        assert_eq!(opened.points().await.unwrap().len(), 2);
    }
    // The settling: from here on a claim to be old is worth nothing either.
    owner.prune(&PruneOptions::default(), &ctx()).await.unwrap();
    assert_eq!(owner.points().await.unwrap().len(), 2);
    for generation in [0, 3] {
        let memory = Arc::new(scene.memory.fork());
        commit(memory.clone(), generation).await;
        let opened = open(memory.clone()).await.unwrap();
        assert_eq!(opened.points().await.unwrap().len(), 2, "generation {generation}");
        opened.prune(&PruneOptions::default(), &ctx()).await.unwrap();
        assert!(restore(&opened, &scene.point).await.unwrap() == scene.disk);
        assert_clean(&check_all(&opened).await.unwrap(), "the void outcome is swept");
    }
    // A tombstone counts for nothing after it.
    let memory = Arc::new(scene.memory.fork());
    let name = key(format!("forgotten/{}", scene.point.id));
    let tombstone = Tombstone { session: *scene.point.id.as_bytes(), time: 0 };
    forge(&memory, &owner, &scene.writer.bundle, ObjectType::Forgotten, &name, &tombstone).await;
    let opened = open(memory.clone()).await.unwrap();
    let error = opened.points().await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::Integrity && error.context().iter().any(|(_, it)| *it == name.as_str()),
        "{error:?}"
    );
    memory.delete(&name).await.unwrap();
    assert_eq!(opened.points().await.unwrap().len(), 2);
    // Its client sees that it was removed, and a patched one that its epoch is over.
    assert_eq!(kind_of(scene.writer.open(&scene.memory).await), ErrorKind::PermissionDenied);
    let patched = Repository::open_with_bundle(scene.memory.clone(), scene.writer.bundle.clone()).await;
    assert_eq!(kind_of(patched), ErrorKind::Conflict);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_keeper_cannot_bring_an_older_roster_back() {
    let scene = scene().await;
    let before = scene.memory.get(&key("chain/3")).await.unwrap();
    let running = open(scene.memory.clone()).await.unwrap();
    let owner = scene.owner.remove_key(&scene.keeper.slot, &ctx()).await.unwrap().repository;
    let reopened = running.reopen().await.unwrap();
    // It signs records after its removal, and names the roster on which it stood: one, and several in a row.
    for forged in [vec![5], vec![5, 6]] {
        let memory = Arc::new(scene.memory.fork());
        for number in &forged {
            let record = ChainRecord {
                number: *number,
                previous: ObjectHash([1; 32]),
                time: 0,
                change: Change::Condemn,
                folded: None,
                keys: Some(KeysName { number: 3, hash: ObjectHash(*blake3::hash(&before).as_bytes()) }),
            };
            let name = key(format!("chain/{number}"));
            forge(&memory, &owner, &scene.keeper.bundle, ObjectType::Chain, &name, &record).await;
        }
        let error = open(memory.clone()).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Integrity && error.to_string().contains("cut back or forged"), "{error}");
        assert_eq!(kind_of(scene.reader.open(&memory).await), ErrorKind::Integrity);
        assert_eq!(kind_of(scene.keeper.open(&memory).await), ErrorKind::PermissionDenied, "its slot is gone");
        // The newest is in the way until somebody has looked; then everything is as before.
        for number in &forged {
            memory.delete(&key(format!("chain/{number}"))).await.unwrap();
        }
        assert!(restore(&open(memory).await.unwrap(), &scene.point).await.unwrap() == scene.disk);
    }
    // A process that has seen the newer roster notices without any share.
    let record = ChainRecord {
        number: 5,
        previous: ObjectHash([1; 32]),
        time: 0,
        change: Change::Condemn,
        folded: None,
        keys: Some(KeysName { number: 3, hash: ObjectHash(*blake3::hash(&before).as_bytes()) }),
    };
    forge(&scene.memory, &owner, &scene.keeper.bundle, ObjectType::Chain, &key("chain/5"), &record).await;
    assert_eq!(kind_of(reopened.points().await), ErrorKind::Integrity);
    assert_eq!(kind_of(reopened.prune(&PruneOptions::default(), &ctx()).await), ErrorKind::Integrity);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_was_cut_back_is_noticed_and_nothing_is_written_or_deleted_on_it() {
    let scene = scene().await;
    let owner = scene.owner.remove_key(&scene.writer.slot, &ctx()).await.unwrap().repository;
    back_up_disk(&owner, "web", &scene.disk).await.unwrap();
    scene.memory.delete(&key("chain/4")).await.unwrap();
    let before = content(&scene.memory);
    let opened = open(scene.memory.clone()).await.unwrap();
    assert_eq!(kind_of(opened.points().await), ErrorKind::Integrity);
    assert_eq!(kind_of(back_up_disk(&opened, "web", &scene.disk).await), ErrorKind::Integrity);
    assert_eq!(kind_of(opened.prune(&PruneOptions::default(), &ctx()).await), ErrorKind::Integrity);
    assert!(check_all(&opened).await.unwrap().findings.iter().any(|it| it.error.to_string().contains("cut back")));
    assert_eq!(content(&scene.memory), before);
    // Who was removed is on the roster again, in this state; but the slot went with the removal.
    assert_eq!(kind_of(scene.writer.open(&scene.memory).await), ErrorKind::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_and_is_put_back_under_its_name_does_not_count_again() {
    let scene = scene().await;
    let mut old = Vec::new();
    for name in scene.memory.keys() {
        if name.as_str().contains(&scene.gone.id.to_string()) && !name.as_str().starts_with("forgotten/") {
            old.push((name.clone(), scene.memory.get(&name).await.unwrap()));
        }
    }
    assert!(old.len() >= 3, "open, outcome and point: {old:?}");
    for _ in 0..2 {
        scene.owner.prune(&PruneOptions::default(), &ctx()).await.unwrap();
    }
    let owner = scene.owner.rotate(&ctx()).await.unwrap().repository;
    owner.prune(&PruneOptions::default(), &ctx()).await.unwrap();
    for (name, _) in &old {
        assert!(!scene.memory.keys().contains(name), "{name}");
    }
    for (name, bytes) in &old {
        scene.memory.put(name, bytes.clone(), PutMode::Create).await.unwrap();
    }
    assert_eq!(owner.points().await.unwrap().len(), 1);
    assert_clean(&check_all(&owner).await.unwrap(), "with what was put back");
    owner.prune(&PruneOptions::default(), &ctx()).await.unwrap();
    assert!(old.iter().all(|(name, _)| !scene.memory.keys().contains(name)), "it is swept again");
    assert!(restore(&owner, &scene.point).await.unwrap() == scene.disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn points_fences_and_records_that_were_swapped_are_named_and_delete_nothing() {
    let scene = scene().await;
    let second = back_up_disk(&scene.owner, "db", &dense(MIB, 4)).await.unwrap();
    let outcome = |point: &RestorePoint| key(format!("sessions/{}/outcome", point.id));
    let at = |point: &RestorePoint| key(format!("points/{}", point.id));
    let pairs = [
        (at(&scene.point), at(&second)),
        (outcome(&scene.point), outcome(&second)),
        (key("chain/3"), key("chain/2")),
        (key(format!("forgotten/{}", scene.gone.id)), at(&second)),
    ];
    for (here, there) in pairs {
        let memory = Arc::new(scene.memory.fork());
        let before = content(&memory);
        memory.put(&here, memory.get(&there).await.unwrap(), PutMode::Replace).await.unwrap();
        let error = match open(memory.clone()).await {
            Err(error) => error,
            Ok(owner) => {
                if let Ok(report) = check_all(&owner).await {
                    assert!(!report.is_clean(), "{here}");
                }
                owner.prune(&PruneOptions::default(), &ctx()).await.unwrap_err()
            }
        };
        assert_eq!(error.kind(), ErrorKind::Integrity, "{here}: {error}");
        let told = format!("{error:?}");
        let id = here.as_str().split('/').nth(1).unwrap();
        assert!(told.contains(id), "{here} is not named: {told}");
        assert_eq!(content(&memory), before, "{here}");
    }
}
