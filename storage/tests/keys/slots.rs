//! Ways in: made, listed, used, removed.

use std::sync::Arc;

use backstay_core::ErrorKind;
use backstay_storage::{
    MemoryBackend, Repository,
    repository::{Capability, Credential, NewKey, NewKeyKind, SecretKey},
};
use secrecy::{ExposeSecret, SecretString};

use crate::{common::*, kit::*};

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

#[tokio::test(flavor = "multi_thread")]
async fn what_would_lock_everybody_out_is_refused_and_says_what_to_do() {
    let (memory, _) = memory_repository().await;
    let owner = open(memory.clone()).await.unwrap();
    let own = owner.keys().await.unwrap()[0].id.clone();
    let last = owner.remove_key(&own, &ctx()).await.unwrap_err();
    assert!(last.kind() == ErrorKind::InvalidInput && last.to_string().contains("last owner"), "{last}");
    let (second, slot) = add(&owner, Capability::Owner).await;
    let itself = owner.remove_key(&own, &ctx()).await.unwrap_err();
    assert!(itself.kind() == ErrorKind::InvalidInput && itself.to_string().contains("this very key"), "{itself}");
    assert_eq!(kind_of(owner.remove_key("ffff0000", &ctx()).await), ErrorKind::NotFound);
    assert_eq!(kind_of(owner.remove_key("zz", &ctx()).await), ErrorKind::InvalidInput);
    assert_eq!(kind_of(owner.remove_key("", &ctx()).await), ErrorKind::InvalidInput);
    // The same secret twice would leave it to chance what it may do.
    let again = NewKey::new(NewKeyKind::KeyFile(second.clone()), Capability::Reader);
    assert_eq!(kind_of(owner.add_key(again, &ctx()).await), ErrorKind::AlreadyExists);
    let again = NewKeyKind::Passphrase(SecretString::from(PASSPHRASE.to_owned()));
    let again = NewKey::new(again, Capability::Reader).kdf(QUICK_KDF);
    assert_eq!(kind_of(owner.add_key(again, &ctx()).await), ErrorKind::AlreadyExists);
    let again = NewKey::new(NewKeyKind::Recipient(second.recipient().unwrap()), Capability::Reader);
    assert_eq!(kind_of(owner.add_key(again, &ctx()).await), ErrorKind::AlreadyExists);
    let control = NewKey::new(NewKeyKind::Recovery, Capability::Reader).label("two\nlines");
    assert_eq!(kind_of(owner.add_key(control, &ctx()).await), ErrorKind::InvalidInput);
    // The other owner removes the first one, and is the last then.
    let other = open_with(&memory, &second).await.unwrap();
    let other = other.remove_key(&own, &ctx()).await.unwrap().repository;
    assert_eq!(kind_of(open(memory.clone()).await), ErrorKind::PermissionDenied);
    assert_eq!(kind_of(other.remove_key(&slot, &ctx()).await), ErrorKind::InvalidInput);
    assert_eq!(other.keys().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_for_a_public_key_opens_for_the_owner_who_is_known_alone() {
    let (memory, owner) = memory_repository().await;
    let key = SecretKey::generate(&ctx()).unwrap();
    let new = NewKey::new(NewKeyKind::Recipient(key.recipient().unwrap()), Capability::Writer);
    owner.add_key(new, &ctx()).await.unwrap();
    let unknown = open_with(&memory, &key).await.unwrap_err();
    assert!(unknown.kind() == ErrorKind::PermissionDenied && unknown.to_string().contains("owner HEX"), "{unknown}");
    // Somebody puts another repository in its place, with a slot for the same public key.
    let (other, others) = memory_repository().await;
    let new = NewKey::new(NewKeyKind::Recipient(key.recipient().unwrap()), Capability::Writer);
    others.add_key(new, &ctx()).await.unwrap();
    let credential = || Credential::Recipient { key: key.clone(), owner: config_owner(&owner) };
    assert!(Repository::open(memory, credential(), &ctx()).await.is_ok());
    assert_eq!(kind_of(Repository::open(other, credential(), &ctx()).await), ErrorKind::Integrity);
}
