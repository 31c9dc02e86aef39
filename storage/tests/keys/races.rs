//! Several owners at once, and owners that die.

use std::sync::Arc;

use backstay_core::{ErrorKind, StorageBackend};
use backstay_storage::{
    Repository,
    backend::{Fault, FaultBackend, Operation, Rule},
    repository::{Capability, Credential, NewKey, NewKeyKind, SecretKey},
};

use crate::{common::*, kit::*};

#[tokio::test(flavor = "multi_thread")]
async fn of_many_changes_at_once_every_one_is_made() {
    let (memory, _) = memory_repository().await;
    let mut tasks = tokio::task::JoinSet::new();
    let mut secrets = Vec::new();
    for number in 0..8 {
        let memory = memory.clone();
        let secret = SecretKey::generate(&ctx()).unwrap();
        secrets.push((number, secret.clone()));
        tasks.spawn(async move {
            // Whoever opened before another one's rotation is told to open again.
            loop {
                let owner = open(memory.clone()).await.unwrap();
                let done = if number % 2 == 0 {
                    owner.rotate(&ctx()).await.map(drop)
                } else {
                    let new = NewKey::new(NewKeyKind::KeyFile(secret.clone()), Capability::Reader);
                    owner.add_key(new, &ctx()).await.map(drop)
                };
                match done {
                    Err(error) if error.kind() == ErrorKind::Conflict => {}
                    done => break done.unwrap(),
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let owner = open(memory.clone()).await.unwrap();
    assert_eq!(owner.keys().await.unwrap().len(), 5);
    let disk = dense(MIB, 1);
    let point = back_up_disk(&owner, "web", &disk).await.unwrap();
    for (number, secret) in secrets {
        let opened = Repository::open(memory.clone(), Credential::Key(secret), &ctx()).await;
        match number % 2 {
            0 => assert_eq!(kind_of(opened), ErrorKind::PermissionDenied),
            _ => assert!(restore(&opened.unwrap(), &point).await.unwrap() == disk),
        }
    }
    assert_clean(&check_all(&owner).await.unwrap(), "after a race");
}

/// What is changed, by an owner on a store that fails.
async fn change(
    what: usize,
    backend: Arc<dyn StorageBackend>,
    secret: &SecretKey,
    slot: &str,
) -> backstay_core::Result<()> {
    let owner = open(backend).await?;
    match what {
        0 => owner.rotate(&ctx()).await.map(drop),
        1 => owner.remove_key(slot, &ctx()).await.map(drop),
        _ => {
            owner.add_key(NewKey::new(NewKeyKind::KeyFile(secret.clone()), Capability::Reader), &ctx()).await.map(drop)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_dies_at_any_put_leaves_a_repository_that_works_and_a_second_run_finishes() {
    let (memory, owner) = memory_repository().await;
    let writer = holder(&memory, &owner, Capability::Writer).await;
    let reader = holder(&memory, &owner, Capability::Reader).await;
    let disk = dense(MIB, 1);
    let point = back_up_disk(&writer.open(&memory).await.unwrap(), "web", &disk).await.unwrap();
    let start = memory.fork();
    for what in 0..3 {
        let secret = SecretKey::generate(&ctx()).unwrap();
        let mut died = 0;
        'all: for put in 0.. {
            for crash in [Fault::CrashBefore, Fault::CrashAfter] {
                let at = format!("change {what}, {crash:?}, put {put}");
                let memory = Arc::new(start.fork());
                let faulty = Arc::new(FaultBackend::new(memory.clone()));
                faulty.inject(Rule::new(crash).on(Operation::Put).skip(put));
                let outcome = change(what, faulty.clone(), &secret, &writer.slot).await;
                if !faulty.crashed() {
                    outcome.unwrap();
                    break 'all;
                }
                died += 1;
                assert_eq!(kind_of(outcome), ErrorKind::Unavailable, "{at}");
                // Whatever it got to, everybody who was not to be removed goes on.
                let owner = open(memory.clone()).await.unwrap();
                assert!(restore(&reader.open(&memory).await.unwrap(), &point).await.unwrap() == disk, "{at}");
                back_up_disk(&owner, "own", &disk).await.unwrap();
                assert_clean(&check_all(&owner).await.unwrap(), &at);
                let again = change(what, memory.clone(), &secret, &writer.slot).await;
                assert!(again.is_ok() || what == 2 && kind_of(again) == ErrorKind::AlreadyExists, "{at}");
                match what {
                    0 => assert!(writer.open(&memory).await.is_ok()),
                    1 => assert_eq!(kind_of(writer.open(&memory).await), ErrorKind::PermissionDenied, "{at}"),
                    _ => {
                        let opened = Repository::open(memory.clone(), Credential::Key(secret.clone()), &ctx()).await;
                        assert!(restore(&opened.unwrap(), &point).await.unwrap() == disk, "{at}");
                    }
                }
                assert_clean(&check_all(&open(memory).await.unwrap()).await.unwrap(), &at);
            }
        }
        assert!(died >= 4, "{what}: {died}");
    }
}
