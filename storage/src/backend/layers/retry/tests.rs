//! Tokio's clock stands still and jumps to whatever is waited for next, so that patience costs no time here.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use tokio::time::Instant;

use super::*;
use crate::backend::{Fault, FaultBackend, MemoryBackend, Operation, Rule};

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

/// A store that has answered before.
async fn known(options: RetryOptions) -> (Arc<FaultBackend>, RetryBackend) {
    let (faults, backend) = patient(options);
    backend.get(&key("a")).await.unwrap_err();
    faults.reset_counts();
    (faults, backend)
}

/// The same half of every pause.
struct Half;

impl RandomSource for Half {
    fn fill(&self, buffer: &mut [u8]) -> Result<()> {
        buffer.fill(0x80);
        Ok(())
    }
}

fn patient(options: RetryOptions) -> (Arc<FaultBackend>, RetryBackend) {
    let faults = Arc::new(FaultBackend::new(Arc::new(MemoryBackend::new())));
    let backend = RetryBackend::new(Arc::clone(&faults) as _, options).with_random(Arc::new(Half));
    (faults, backend)
}

fn away() -> Rule {
    Rule::new(Fault::Fail(ErrorKind::Unavailable))
}

#[tokio::test(start_paused = true)]
async fn every_operation_outlives_a_store_that_is_away_for_a_while() {
    let (faults, backend) = patient(RetryOptions::default());
    faults.inject(away().on(Operation::Put).times(3));
    faults.inject(away().on(Operation::Get).times(3));
    faults.inject(away().on(Operation::GetRange).times(3));
    faults.inject(away().on(Operation::Head).times(3));
    faults.inject(away().on(Operation::List).times(3));
    faults.inject(away().on(Operation::Delete).times(3));
    backend.put(&key("a"), "hello".into(), PutMode::Create).await.unwrap();
    assert_eq!(backend.get(&key("a")).await.unwrap(), "hello");
    assert_eq!(backend.get_range(&key("a"), 1..3).await.unwrap(), "el");
    assert_eq!(backend.head(&key("a")).await.unwrap().size, 5);
    assert_eq!(backend.list(None).try_collect::<Vec<_>>().await.unwrap().len(), 1);
    backend.delete(&key("a")).await.unwrap();
    assert_eq!(backend.retries(), 18);
}

#[tokio::test(start_paused = true)]
async fn what_a_pause_cannot_help_is_tried_once() {
    let (faults, backend) = patient(RetryOptions::default());
    let kinds = ErrorKind::ALL.into_iter().filter(|kind| *kind != ErrorKind::Unavailable);
    for kind in kinds {
        faults.inject(Rule::new(Fault::Fail(kind)).on(Operation::Get));
        assert_eq!(backend.get(&key("a")).await.unwrap_err().kind(), kind);
    }
    assert_eq!((backend.retries(), faults.counts().gets), (0, 9));
}

#[tokio::test(start_paused = true)]
async fn pauses_double_up_to_the_longest_and_the_attempts_are_counted() {
    let seconds = Duration::from_secs;
    let options = RetryOptions::default().attempts(6).first_pause(seconds(2)).longest_pause(seconds(10));
    let (faults, backend) = known(options).await;
    faults.inject(away().always());
    let start = Instant::now();
    let error = backend.get(&key("a")).await.unwrap_err();
    assert!(error.to_string().contains("tried=6 times"), "{error}");
    assert_eq!(faults.counts().gets, 6);
    // Half of 2, 4, 8, 10 and 10, and what a timer has to spare.
    let took = start.elapsed();
    assert!(took >= seconds(17) && took < seconds(18), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_waiting_for_a_dead_store_does_not_multiply_by_the_calls_that_need_it() {
    let (faults, backend) = known(RetryOptions::default()).await;
    faults.inject(away().always());
    let start = Instant::now();
    let calls = (0..16).map(|number| {
        let backend = backend.clone();
        async move { backend.get(&key(&format!("a/{number}"))).await.unwrap_err() }
    });
    futures::future::join_all(calls).await;
    let once = start.elapsed();
    assert!(once <= Duration::from_secs(180), "{once:?}");
    let so_far = faults.counts().gets;
    for number in 0..100 {
        backend.get(&key(&format!("a/{number}"))).await.unwrap_err();
    }
    assert_eq!(start.elapsed(), once, "nobody waits any more");
    assert_eq!(faults.counts().gets, so_far + 100, "but everybody tries");
    // It comes back, and patience with it.
    faults.revive();
    assert_eq!(backend.get(&key("a")).await.unwrap_err().kind(), ErrorKind::NotFound);
    faults.inject(away().times(5));
    assert_eq!(backend.get(&key("a")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answered_is_given_up_soon() {
    let (faults, backend) = patient(RetryOptions::default());
    faults.inject(away().always());
    let start = Instant::now();
    backend.get(&key("a")).await.unwrap_err();
    assert!(start.elapsed() <= Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(backend.retries() > 3);
}

#[tokio::test(start_paused = true)]
async fn a_silence_of_long_ago_says_nothing_of_now() {
    let (faults, backend) = patient(RetryOptions::default());
    faults.inject(away().always());
    backend.get(&key("a")).await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    faults.revive();
    faults.inject(away().times(3));
    assert_eq!(backend.get(&key("a")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_answers_hardly_any_call_is_not_pushed_further() {
    let (faults, backend) = patient(RetryOptions::default().retries(20));
    // Of all calls one in ten succeeds, so that there is never a silence.
    for number in 0..100 {
        faults.inject(away().on(Operation::Get).skip(number * 10).times(9));
        faults.revive();
    }
    faults.inject(away().on(Operation::Get).below(key("bad")).always());
    for number in 0..50 {
        backend.get(&key("bad")).await.unwrap_err();
        assert_eq!(backend.get(&key(&format!("good/{number}"))).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert_eq!(backend.retries(), 20 + 49, "those of the budget, and one for each answer");
}

#[tokio::test(start_paused = true)]
async fn a_create_that_meets_its_own_object_is_no_success_and_the_body_is_there_to_compare() {
    let (faults, backend) = patient(RetryOptions::default());
    faults.inject(Rule::new(Fault::LoseReply(ErrorKind::Unavailable)).on(Operation::Put));
    let outcome = backend.put(&key("a"), "mine".into(), PutMode::Create).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(backend.get(&key("a")).await.unwrap(), "mine");
}

/// A store whose first listings break after so many entries.
#[derive(Debug)]
struct Breaking {
    inner: MemoryBackend,
    after: std::sync::Mutex<Vec<usize>>,
    backwards: bool,
}

#[async_trait]
impl StorageBackend for Breaking {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> BackendCapabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<()> {
        self.inner.put(key, body, mode).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        self.inner.get_range(key, range).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.inner.head(key).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.inner.delete(key).await
    }

    fn list(&self, folder: Option<&ObjectKey>) -> BoxStream<'_, Result<ObjectMeta>> {
        let mut keys = self.inner.keys();
        if self.backwards {
            keys.reverse();
        }
        assert!(folder.is_none());
        let mut entries: Vec<_> = keys.into_iter().map(|key| Ok(ObjectMeta { key, size: 1 })).collect();
        if let Some(after) = self.after.lock().unwrap().pop() {
            entries.truncate(after);
            entries.push(Err(Error::unavailable("The line broke").retryable()));
        }
        futures::stream::iter(entries).boxed()
    }
}

async fn breaking(after: &[usize], backwards: bool) -> (Arc<Breaking>, RetryBackend) {
    let inner = MemoryBackend::new();
    for number in 10..30 {
        inner.put(&key(&format!("a/{number}")), "1".into(), PutMode::Create).await.unwrap();
    }
    let after = std::sync::Mutex::new(after.iter().rev().copied().collect());
    let store = Arc::new(Breaking { inner, after, backwards });
    (Arc::clone(&store), RetryBackend::new(store, RetryOptions::default()).with_random(Arc::new(Half)))
}

#[tokio::test(start_paused = true)]
async fn a_listing_goes_on_where_it_broke_off() {
    let (store, backend) = breaking(&[0, 7, 3, 7, 15, 20, 20], false).await;
    let found: Vec<_> = backend.list(None).map_ok(|meta| meta.key).try_collect().await.unwrap();
    assert_eq!(found, store.inner.keys());
    assert_eq!(backend.retries(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_listing_that_cannot_be_joined_without_a_gap_is_an_error() {
    // One that is not in order.
    let (_, backend) = breaking(&[7], true).await;
    assert!(backend.list(None).try_collect::<Vec<_>>().await.is_err());
    // One that is not in order and gave too little for that to show.
    let (_, backend) = breaking(&[1], true).await;
    assert!(backend.list(None).try_collect::<Vec<_>>().await.is_err());
    // One before whose break something came or went.
    for change in ["a/115", "a/12"] {
        let (store, backend) = breaking(&[7], false).await;
        let mut listing = backend.list(None);
        for _ in 0..7 {
            listing.next().await.unwrap().unwrap();
        }
        if store.inner.head(&key(change)).await.is_ok() {
            store.inner.delete(&key(change)).await.unwrap();
        } else {
            store.inner.put(&key(change), "1".into(), PutMode::Create).await.unwrap();
        }
        assert!(listing.next().await.unwrap().is_err());
        assert!(listing.next().await.is_none(), "nothing comes after an error");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_new_behind_the_break_is_listed() {
    let (store, backend) = breaking(&[7], false).await;
    let mut listing = backend.list(None);
    for _ in 0..7 {
        listing.next().await.unwrap().unwrap();
    }
    store.inner.put(&key("a/99"), "1".into(), PutMode::Create).await.unwrap();
    assert_eq!(listing.count().await, 14);
}
