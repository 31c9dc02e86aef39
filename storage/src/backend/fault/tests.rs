use backstay_core::ErrorKind;

use super::*;
use crate::backend::MemoryBackend;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

fn layered() -> (Arc<MemoryBackend>, FaultBackend) {
    let memory = Arc::new(MemoryBackend::new());
    (Arc::clone(&memory), FaultBackend::new(memory))
}

#[tokio::test]
async fn a_fault_strikes_the_calls_that_its_rule_picks_and_no_others() {
    let (memory, backend) = layered();
    backend
        .inject(Rule::new(Fault::Fail(ErrorKind::Unavailable)).on(Operation::Put).below(key("packs")).skip(1).times(2));
    for (number, works) in [true, false, false, true].into_iter().enumerate() {
        backend.put(&key("packs2"), "other".into(), PutMode::Replace).await.unwrap();
        let put = backend.put(&key(&format!("packs/{number}")), "1".into(), PutMode::Create).await;
        assert_eq!(put.is_ok(), works, "{number}");
    }
    assert_eq!(memory.keys().len(), 3);
}

#[tokio::test]
async fn a_lost_reply_means_done_and_not_told() {
    let (memory, backend) = layered();
    backend.inject(Rule::new(Fault::LoseReply(ErrorKind::AlreadyExists)));
    let error = backend.put(&key("a"), "1".into(), PutMode::Create).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(memory.get(&key("a")).await.unwrap(), "1");
}

#[tokio::test]
async fn a_crash_before_a_put_leaves_nothing_and_one_after_it_the_object() {
    for (fault, left) in [(Fault::CrashBefore, 1), (Fault::CrashAfter, 2)] {
        let (memory, backend) = layered();
        backend.inject(Rule::new(fault).on(Operation::Put).skip(1));
        backend.put(&key("a"), "1".into(), PutMode::Create).await.unwrap();
        assert!(backend.put(&key("b"), "1".into(), PutMode::Create).await.is_err());
        assert!(backend.crashed());
        assert!(backend.put(&key("c"), "1".into(), PutMode::Create).await.is_err());
        assert!(backend.list(None).try_next().await.is_err());
        assert_eq!(memory.keys().len(), left);
        backend.revive();
        assert!(backend.put(&key("c"), "1".into(), PutMode::Create).await.is_ok());
    }
}

#[tokio::test]
async fn reads_come_back_damaged_or_late() {
    let (_, backend) = layered();
    backend.put(&key("a"), Bytes::from_static(&[0, 0, 0]), PutMode::Create).await.unwrap();
    backend.inject(Rule::new(Fault::FlipBit(17)));
    assert_eq!(backend.get(&key("a")).await.unwrap()[..], [0, 0, 2]);
    backend.inject(Rule::new(Fault::Truncate(1)));
    assert_eq!(backend.get_range(&key("a"), 1..3).await.unwrap()[..], [0]);
    backend.inject(Rule::new(Fault::Truncate(0)));
    assert!(backend.list(None).try_next().await.unwrap().is_none());
    let started = std::time::Instant::now();
    backend.inject(Rule::new(Fault::Delay(std::time::Duration::from_millis(30))));
    assert_eq!(backend.get(&key("a")).await.unwrap()[..], [0, 0, 0]);
    assert!(started.elapsed().as_millis() >= 30);
}

#[tokio::test]
async fn every_call_is_counted_and_remembered_when_asked() {
    let (_, backend) = layered();
    backend.put(&key("a"), "12".into(), PutMode::Create).await.unwrap();
    backend.record_calls();
    backend.get(&key("a")).await.unwrap();
    backend.get_range(&key("a"), 1..2).await.unwrap();
    backend.head(&key("a")).await.unwrap();
    backend.delete(&key("a")).await.unwrap();
    backend.list(Some(&key("b"))).try_next().await.unwrap();
    let ones = Counts { puts: 1, gets: 1, range_gets: 1, heads: 1, deletes: 1, lists: 1, bytes_put: 2, bytes_got: 3 };
    assert_eq!(backend.counts(), ones);
    let calls = backend.calls();
    assert_eq!(calls.len(), 5);
    assert_eq!(calls[4], Call { operation: Operation::List, key: Some(key("b")) });
    backend.reset_counts();
    assert_eq!(backend.counts(), Counts::default());
}
