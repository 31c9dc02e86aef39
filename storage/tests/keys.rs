//! Keys of a repository: who can do what with which of them, and what each stops giving when it is removed.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use backstay_core::{Context, ErrorKind, ObjectKey, StorageBackend};
use backstay_storage::{
    MemoryBackend, Repository,
    repository::{Capability, Credential, NewKey, NewKeyKind, SecretKey, SessionOptions},
};
use common::*;
use secrecy::{ExposeSecret, SecretString};

fn ctx() -> Context {
    Context::default()
}

fn kind_of<T>(result: backstay_core::Result<T>) -> ErrorKind {
    result.err().unwrap().kind()
}

/// A new key file with this capability: its secret and the id of its slot.
async fn add(repository: &Repository, capability: Capability) -> (SecretKey, String) {
    let key = SecretKey::generate(&ctx()).unwrap();
    let new = NewKey::new(NewKeyKind::KeyFile(key.clone()), capability).label(capability.name());
    (key, repository.add_key(new, &ctx()).await.unwrap().slot.id)
}

async fn open_with(memory: &Arc<MemoryBackend>, key: &SecretKey) -> backstay_core::Result<Repository> {
    Repository::open(memory.clone(), Credential::Key(key.clone()), &ctx()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sort_of_key_opens_the_repository_before_and_after_a_rotation() {
    let (memory, _) = memory_repository().await;
    let owner = open(memory.clone()).await.unwrap();
    let disk = dense(MIB, 1);
    back_up_disk(&owner, "web", &disk).await.unwrap();
    let passphrase = NewKey::new(NewKeyKind::Passphrase(SecretString::from("second".to_owned())), Capability::Reader);
    owner.add_key(passphrase.label("desk").kdf(QUICK_KDF), &ctx()).await.unwrap();
    let recovery = owner.add_key(NewKey::new(NewKeyKind::Recovery, Capability::Owner), &ctx()).await.unwrap();
    let recovery = recovery.recovery_key.unwrap();
    let far = SecretKey::generate(&ctx()).unwrap();
    let public = far.recipient().unwrap().to_string().parse().unwrap();
    owner.add_key(NewKey::new(NewKeyKind::Recipient(public), Capability::Writer), &ctx()).await.unwrap();
    let (keeper, _) = add(&owner, Capability::Keeper).await;

    let keys = owner.keys().await.unwrap();
    let kinds: Vec<_> = keys.iter().map(|key| (key.kind, key.capability, key.opened)).collect();
    assert_eq!(
        kinds,
        [
            ("passphrase", Capability::Owner, true),
            ("passphrase", Capability::Reader, false),
            ("recovery", Capability::Owner, false),
            ("recipient", Capability::Writer, false),
            ("key-file", Capability::Keeper, false),
        ]
    );
    assert_eq!(keys[1].label, "desk");
    assert!(keys.iter().all(|key| key.signer.is_some()), "readers sign, too: {keys:?}");

    let pinned = config_owner(&owner);
    let ways = || {
        [
            (Credential::passphrase("second"), Capability::Reader),
            (Credential::passphrase(recovery.expose_secret()), Capability::Owner),
            (Credential::Recipient { key: far.clone(), owner: pinned }, Capability::Writer),
            (Credential::Key(keeper.clone()), Capability::Keeper),
            (Credential::passphrase(PASSPHRASE), Capability::Owner),
        ]
    };
    let rotated = owner.rotate(&ctx()).await.unwrap();
    assert!(rotated.epoch > 0 && rotated.removed.is_none());
    let point = back_up_disk(&rotated.repository, "web", &disk).await.unwrap();
    for (credential, capability) in ways() {
        let repository = Repository::open(memory.clone(), credential, &ctx()).await.unwrap();
        assert_eq!(repository.capability(), capability);
        assert_eq!(repository.points().await.unwrap().len(), 2, "{capability:?}");
        if matches!(capability, Capability::Owner | Capability::Reader) {
            assert!(restore(&repository, &point).await.unwrap() == disk);
        }
        if capability == Capability::Writer {
            back_up_disk(&repository, "far", &disk).await.unwrap();
            // The map says of what was written a moment ago, and nothing of its content.
        }
        if capability != Capability::Owner {
            assert_eq!(kind_of(repository.keys().await), ErrorKind::PermissionDenied);
            assert_eq!(kind_of(repository.rotate(&ctx()).await), ErrorKind::PermissionDenied);
            assert_eq!(kind_of(repository.remove_key("0000", &ctx()).await), ErrorKind::PermissionDenied);
            let new = NewKey::new(NewKeyKind::Recovery, Capability::Reader);
            assert_eq!(kind_of(repository.add_key(new, &ctx()).await), ErrorKind::PermissionDenied);
        }
        // The writer has made a third point.
        let third = repository.points().await.unwrap().into_iter().find(|point| point.workload.id.as_str() == "far");
        if let Some(third) = third {
            open(memory.clone()).await.unwrap().forget(&[third.id], &ctx()).await.unwrap();
        }
    }
    assert_clean(&check_all(&open(memory).await.unwrap()).await.unwrap(), "after a rotation");
}

fn config_owner(repository: &Repository) -> backstay_storage::repository::ids::SignerId {
    backstay_storage::repository::ids::SignerId::from_hex(&repository.owner()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_key_opens_nothing_any_more_and_others_go_on() {
    let (memory, repository) = memory_repository().await;
    let (writer, slot) = add(&repository, Capability::Writer).await;
    let running = open_with(&memory, &writer).await.unwrap();
    let disk = dense(4 * MIB, 1);
    back_up_disk(&running, "web", &disk).await.unwrap();

    let removal = repository.remove_key(&slot[..6], &ctx()).await.unwrap();
    assert_eq!(removal.removed.unwrap().id, slot);
    assert_eq!(kind_of(open_with(&memory, &writer).await), ErrorKind::PermissionDenied);
    assert_eq!(kind_of(back_up_disk(&running, "web", &disk).await), ErrorKind::Conflict);
    let error = running.points().await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("open the repository again"), "{error}");
    assert_eq!(kind_of(running.reopen().await), ErrorKind::PermissionDenied);
    assert_eq!(kind_of(repository.points().await), ErrorKind::Conflict);

    // Dedup goes on across the epochs.
    let owner = open(memory.clone()).await.unwrap();
    assert_eq!(owner.points().await.unwrap().len(), 1);
    let first = back_up_disk(&owner, "own", &disk).await.unwrap();
    let again = owner.rotate(&ctx()).await.unwrap().repository;
    let second = back_up_disk(&again, "own", &disk).await.unwrap();
    assert!(first.stored_bytes > 4 * MIB && second.stored_bytes < MIB / 2, "{}", second.stored_bytes);
    assert!(restore(&again, &second).await.unwrap() == disk);
    // A second run of a removal finds it done.
    assert!(again.remove_key(&slot, &ctx()).await.unwrap().removed.is_none());
    assert!(memory.keys().iter().all(|key| !key.as_str().contains(&slot)), "its slot is gone");
    assert_clean(&check_all(&again).await.unwrap(), "after removals");
}
