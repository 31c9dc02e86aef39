//! A repository on a store that is slow to answer, behind the layers that a program puts before it.

#![allow(clippy::unwrap_used)]

mod common;

use std::{path::Path, sync::Arc};

use backstay_core::{Context, ErrorKind, ObjectKey, StorageBackend};
use backstay_storage::{
    CacheOptions, Fault, FaultBackend, MemoryBackend, MetricsBackend, Operation, ReadCacheBackend, Repository,
    RetryBackend, RetryOptions, Rule, ThrottleBackend, ThrottleOptions,
};
use common::{MIB, assert_clean, back_up_disk, check_all, dense, open, quick_options, restore};

struct Stack {
    store: Arc<FaultBackend>,
    top: Arc<MetricsBackend>,
}

fn stack(store: Arc<FaultBackend>, folder: &Path) -> Stack {
    let options = RetryOptions::default().first_pause(std::time::Duration::from_millis(1));
    let throttled = ThrottleBackend::new(store.clone(), &ThrottleOptions::default().requests(4));
    let patient = RetryBackend::new(Arc::new(throttled), options);
    let cache = ReadCacheBackend::new(Arc::new(patient), folder, CacheOptions::default()).unwrap();
    Stack { store, top: Arc::new(MetricsBackend::new(Arc::new(cache))) }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_and_a_restore_outlive_lost_replies_and_a_store_that_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let Stack { store, top } = stack(Arc::new(FaultBackend::new(Arc::new(MemoryBackend::new()))), folder.path());
    let made = Repository::init(top, quick_options().recovery(false), &Context::default()).await.unwrap();
    // Every kind of object has its reply lost once, and every operation is away for a while.
    for folder in ["sessions", "packs", "meta", "index", "points"] {
        store
            .inject(Rule::new(Fault::LoseReply(ErrorKind::Unavailable)).on(Operation::Put).below(key(folder)).times(1));
    }
    for operation in [Operation::Get, Operation::GetRange, Operation::Head, Operation::List, Operation::Put] {
        store.inject(Rule::new(Fault::Fail(ErrorKind::Unavailable)).on(operation).skip(1).times(3));
    }
    let disk = dense(8 * MIB, 1);
    let point = back_up_disk(&made.repository, "web", &disk).await.unwrap();
    store.inject(Rule::new(Fault::Fail(ErrorKind::Unavailable)).on(Operation::GetRange).skip(2).times(3));
    assert!(restore(&made.repository, &point).await.unwrap() == disk);
    store.revive();
    assert_clean(&check_all(&open(store).await.unwrap()).await.unwrap(), "after a store that was away");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_restore_reads_its_content_from_the_cache_and_its_liveness_from_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(FaultBackend::new(Arc::new(MemoryBackend::new())));
    let made = Repository::init(store.clone(), quick_options().recovery(false), &Context::default()).await.unwrap();
    let disk = dense(8 * MIB, 2);
    let point = back_up_disk(&made.repository, "web", &disk).await.unwrap();
    let mut first = 0;
    for round in 0..2 {
        store.reset_counts();
        store.record_calls();
        let Stack { top, .. } = stack(store.clone(), folder.path());
        assert!(restore(&open(top).await.unwrap(), &point).await.unwrap() == disk);
        let ranges: Vec<_> = store.calls().into_iter().filter(|call| call.operation == Operation::GetRange).collect();
        // Which of the reads of a pack brings its directory along depends on who is first.
        assert!(if round == 0 { !ranges.is_empty() } else { ranges.len() < first }, "{ranges:?}");
        first = ranges.len();
        let live = store
            .calls()
            .iter()
            .filter(|call| call.key.as_ref().is_some_and(|key| key.as_str().starts_with("points")))
            .count();
        assert!(live > 0, "the point is asked for each time");
    }
    // Somebody else removed the point: no cache brings it back.
    let outcome = key(&format!("sessions/{}/outcome", point.id));
    store.delete(&outcome).await.unwrap();
    let Stack { top, .. } = stack(store, folder.path());
    let repository = open(top.clone()).await.unwrap();
    assert!(repository.points().await.unwrap().is_empty());
    assert!(top.metrics().list.calls > 0);
}
