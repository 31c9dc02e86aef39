use std::time::Duration;

use backstay_core::ErrorKind;

use super::*;
use crate::backend::{Fault, FaultBackend, MemoryBackend, Operation, Rule};

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

fn store() -> (Arc<FaultBackend>, MetricsBackend) {
    let faults = Arc::new(FaultBackend::new(Arc::new(MemoryBackend::new())));
    (Arc::clone(&faults), MetricsBackend::new(faults))
}

#[tokio::test(start_paused = true)]
async fn calls_bytes_and_errors_are_counted_by_operation() {
    let (_, backend) = store();
    backend.put(&key("a"), "hello".into(), PutMode::Create).await.unwrap();
    backend.put(&key("a"), "hello".into(), PutMode::Create).await.unwrap_err();
    backend.get(&key("a")).await.unwrap();
    backend.get_range(&key("a"), 1..3).await.unwrap();
    backend.get(&key("b")).await.unwrap_err();
    backend.head(&key("a")).await.unwrap();
    assert_eq!(backend.list(None).count().await, 1);
    backend.delete(&key("a")).await.unwrap();
    let seen = backend.clone().metrics();
    assert_eq!((seen.put.calls, seen.put.bytes), (2, 5), "a put that failed moved nothing that counts");
    assert_eq!(seen.put.errors, [("AlreadyExists".to_owned(), 1)].into());
    assert_eq!((seen.get.calls, seen.get.bytes), (2, 5));
    assert_eq!(seen.get.errors, [(ErrorKind::NotFound.name().to_owned(), 1)].into());
    assert_eq!((seen.get_range.calls, seen.get_range.bytes), (1, 2));
    assert_eq!((seen.head.calls, seen.list.calls, seen.delete.calls), (1, 1, 1));
    assert_eq!(seen.list.abandoned, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_counts_in_the_bucket_of_the_time_that_it_took() {
    let (faults, backend) = store();
    faults.inject(Rule::new(Fault::Delay(Duration::from_millis(10))).on(Operation::Head).skip(9));
    for _ in 0..10 {
        backend.head(&key("a")).await.unwrap_err();
    }
    let latency = backend.metrics().head.latency;
    assert_eq!(latency.count(), 10);
    assert_eq!(latency.quantile(0.9), Some(Duration::from_micros(1)));
    let slowest = latency.quantile(1.0).unwrap();
    assert!(slowest >= Duration::from_millis(10) && slowest < Duration::from_millis(32), "{slowest:?}");
    assert!(latency.sum_micros >= 10_000);
    assert_eq!(Histogram::default().quantile(0.5), None);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_wait_for_the_end_is_counted_apart() {
    let (faults, backend) = store();
    backend.put(&key("a"), "1".into(), PutMode::Create).await.unwrap();
    faults.inject(Rule::new(Fault::Delay(Duration::from_secs(10))).on(Operation::Get));
    assert!(tokio::time::timeout(Duration::from_secs(1), backend.get(&key("a"))).await.is_err());
    assert!(backend.list(None).next().await.is_some());
    let seen = backend.metrics();
    assert_eq!((seen.get.calls, seen.get.abandoned, seen.get.latency.count()), (1, 1, 0));
    assert_eq!((seen.list.calls, seen.list.abandoned), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_fails_is_an_error_and_has_an_end() {
    let (faults, backend) = store();
    faults.inject(Rule::new(Fault::Fail(ErrorKind::Unavailable)).on(Operation::List));
    let entries: Vec<_> = backend.list(None).collect().await;
    assert!(matches!(&entries[..], [Err(_)]));
    assert_eq!(backend.metrics().list.errors, [("Unavailable".to_owned(), 1)].into());
}
