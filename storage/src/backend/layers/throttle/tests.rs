//! Tokio's clock stands still and jumps to whatever is waited for next, so that time is exact here.

use std::time::Duration;

use backstay_testkit::noise;
use tokio::time::Instant;

use super::*;
use crate::backend::{Fault, FaultBackend, MemoryBackend, Operation, Rule};

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

fn rate(bytes_per_second: u64) -> Option<NonZeroU64> {
    NonZeroU64::new(bytes_per_second)
}

async fn put(backend: &dyn StorageBackend, name: &str, bytes: usize) {
    backend.put(&key(name), noise(1, bytes).into(), PutMode::Create).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn ten_bodies_take_the_time_of_the_nine_before_the_last() {
    let backend = ThrottleBackend::new(Arc::new(MemoryBackend::new()), &ThrottleOptions::default().upload(rate(1000)));
    let start = Instant::now();
    let puts = (0..10).map(|number| {
        let backend = backend.clone();
        async move { put(&backend, &format!("a/{number}"), 500).await }
    });
    futures::future::join_all(puts).await;
    // A timer of tokio's has a millisecond to spare.
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(4500) && took < Duration::from_millis(4520), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_got_is_paid_for_by_who_comes_next_and_the_directions_do_not_wait_for_each_other() {
    let store: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new());
    put(&*store, "a", 10_000).await;
    let backend = ThrottleBackend::new(store, &ThrottleOptions::default().download(rate(1000)));
    let start = Instant::now();
    backend.get(&key("a")).await.unwrap();
    put(&backend, "b", 1_000_000).await;
    backend.head(&key("b")).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    backend.get_range(&key("a"), 0..2000).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 10);
    backend.get_range(&key("a"), 0..1).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 12);
}

#[tokio::test(start_paused = true)]
async fn an_idle_hour_is_no_credit_and_who_gives_up_pays_nothing() {
    let backend = ThrottleBackend::new(Arc::new(MemoryBackend::new()), &ThrottleOptions::default().upload(rate(1000)));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let start = Instant::now();
    put(&backend, "a", 2000).await;
    let given_up = tokio::time::timeout(Duration::from_secs(1), put(&backend, "b", 1_000_000)).await;
    assert!(given_up.is_err());
    put(&backend, "c", 1).await;
    assert_eq!(start.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_more_requests_than_allowed_run_at_once() {
    let faults = Arc::new(FaultBackend::new(Arc::new(MemoryBackend::new())));
    faults.inject(Rule::new(Fault::Delay(Duration::from_secs(1))).on(Operation::Put).always());
    let backend = ThrottleBackend::new(faults, &ThrottleOptions::default().requests(3));
    let start = Instant::now();
    let puts = (0..9).map(|number| {
        let backend = backend.clone();
        async move { put(&backend, &format!("a/{number}"), 1).await }
    });
    futures::future::join_all(puts).await;
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn who_reads_an_object_for_each_entry_of_a_listing_does_not_wait_for_itself() {
    let store: Arc<dyn StorageBackend> = Arc::new(MemoryBackend::new());
    for number in 0..5 {
        put(&*store, &format!("a/{number}"), 1).await;
    }
    let backend = ThrottleBackend::new(store, &ThrottleOptions::default().requests(1));
    let mut listing = backend.list(None);
    let mut got = 0;
    while let Some(meta) = listing.next().await {
        backend.get(&meta.unwrap().key).await.unwrap();
        got += 1;
    }
    assert_eq!(got, 5);
}

#[tokio::test(start_paused = true)]
async fn the_largest_body_at_the_smallest_rate_does_not_overflow() {
    let line = Line::new(NonZeroU64::MIN);
    line.owe(u64::MAX);
    line.owe(u64::MAX);
    assert!(tokio::time::timeout(Duration::from_secs(1), line.pay(1)).await.is_err());
}
