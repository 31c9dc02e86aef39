//! What every [`StorageBackend`] does.

mod listing;
#[cfg(test)]
mod tests;

use std::{fmt::Debug, sync::Arc};

use backstay_core::{ErrorKind, ObjectKey, PutMode, Result, StorageBackend};
use bytes::Bytes;
use futures::future::join_all;

use crate::noise;

/// Runs every check, each on a fresh, empty backend (a new folder, a new prefix) that `fresh` makes. Panics where the backend
/// is wrong. Moves some 140 MiB; needs a multi-threaded runtime for its race to be one. A backend that does not claim
/// `create_if_absent` may have several winners in that race, but each object must still be one of theirs, whole.
pub async fn conformance(fresh: impl AsyncFn() -> Arc<dyn StorageBackend>) {
    what_is_put_comes_back(&*fresh().await).await;
    odd_keys_are_keys(&*fresh().await).await;
    what_is_not_there_is_not_found(&*fresh().await).await;
    create_keeps_and_replace_replaces(&*fresh().await).await;
    ranges_are_exact(&*fresh().await).await;
    deleting_is_idempotent(&*fresh().await).await;
    large_bodies_survive(&*fresh().await).await;
    one_of_many_creates_wins(fresh().await).await;
    listing::lists_are_complete_at_any_depth(&*fresh().await).await;
    listing::folders_are_not_string_prefixes(&*fresh().await).await;
    listing::many_objects_are_listed_once(&*fresh().await).await;
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).expect("the suite uses valid keys")
}

fn kind<T: Debug>(outcome: Result<T>, what: &str) -> ErrorKind {
    match outcome {
        Ok(value) => panic!("{what}: an error was due, not {:.100}", format!("{value:?}")),
        Err(error) => error.kind(),
    }
}

async fn put(backend: &dyn StorageBackend, name: &str, body: impl Into<Bytes>) {
    let outcome = backend.put(&key(name), body.into(), PutMode::Create).await;
    outcome.unwrap_or_else(|error| panic!("put {name}: {error}"));
}

async fn expect(backend: &dyn StorageBackend, name: &str, body: &[u8]) {
    let got = backend.get(&key(name)).await.unwrap_or_else(|error| panic!("get {name}: {error}"));
    assert!(got == body, "{name}: got {} bytes that are not the {} that were put", got.len(), body.len());
    let meta = backend.head(&key(name)).await.unwrap_or_else(|error| panic!("head {name}: {error}"));
    assert_eq!(meta.key, key(name), "head tells of another object");
    assert_eq!(meta.size, body.len() as u64, "head tells a wrong size of {name}");
}

async fn what_is_put_comes_back(backend: &dyn StorageBackend) {
    for (name, body) in [("small", &b"hello"[..]), ("empty", b""), ("deep/er/and/deep.er", b"x")] {
        put(backend, name, body.to_vec()).await;
        expect(backend, name, body).await;
    }
}

async fn odd_keys_are_keys(backend: &dyn StorageBackend) {
    // Keys may have 512 bytes, but there are servers that do not take so many; repositories use fewer than these.
    let long = ["segment-of-some-length"; 6].join("/");
    let names = [".hidden", "...", "-", "_", "A/a", "a/A", "UPPER.lower", "-rf", "a.tmp", "tmp/x", "con", &long];
    for name in names {
        put(backend, name, name.to_owned()).await;
    }
    for name in names {
        expect(backend, name, name.as_bytes()).await;
    }
}

async fn what_is_not_there_is_not_found(backend: &dyn StorageBackend) {
    put(backend, "folder/object", "x").await;
    // Some servers keep objects as files and stumble over names of folders: an error is due, of any kind.
    for name in ["folder", "folder/object/below"] {
        kind(backend.get(&key(name)).await, "get of a folder or below an object");
        kind(backend.head(&key(name)).await, "head of a folder or below an object");
    }
    for name in ["absent", "folder/absent", "no/such/folder"] {
        assert_eq!(kind(backend.get(&key(name)).await, "get of nothing"), ErrorKind::NotFound, "get {name}");
        assert_eq!(kind(backend.head(&key(name)).await, "head of nothing"), ErrorKind::NotFound, "head {name}");
        let range = backend.get_range(&key(name), 0..1).await;
        assert_eq!(kind(range, "get_range of nothing"), ErrorKind::NotFound, "get_range {name}");
    }
}

async fn create_keeps_and_replace_replaces(backend: &dyn StorageBackend) {
    put(backend, "a/object", "first").await;
    let again = backend.put(&key("a/object"), "second".into(), PutMode::Create).await;
    assert_eq!(kind(again, "a second create"), ErrorKind::AlreadyExists);
    expect(backend, "a/object", b"first").await;
    for body in ["a longer third", "4"] {
        backend.put(&key("a/object"), body.into(), PutMode::Replace).await.expect("replace");
        expect(backend, "a/object", body.as_bytes()).await;
    }
    backend.put(&key("fresh"), "5".into(), PutMode::Replace).await.expect("replace of nothing makes the object");
    expect(backend, "fresh", b"5").await;
}

async fn ranges_are_exact(backend: &dyn StorageBackend) {
    let body = noise(1, 10_001);
    put(backend, "object", body.clone()).await;
    put(backend, "empty", "").await;
    for range in [0..10_001, 0..1, 10_000..10_001, 4095..4097, 17..17, 10_001..10_001, 1..10_000] {
        let got = backend.get_range(&key("object"), range.clone()).await;
        let got = got.unwrap_or_else(|error| panic!("get_range {range:?}: {error}"));
        assert!(got == body[range.start as usize..range.end as usize], "get_range {range:?} gave other bytes");
    }
    assert!(backend.get_range(&key("empty"), 0..0).await.expect("the empty range of an empty object").is_empty());
    for range in [0..10_002, 10_000..10_002, 10_001..10_002, 50_000..50_001, 10_002..10_002] {
        let got = backend.get_range(&key("object"), range.clone()).await;
        assert_eq!(kind(got, "a range past the end"), ErrorKind::InvalidInput, "get_range {range:?}");
    }
    #[expect(clippy::reversed_empty_ranges, reason = "a caller's mistake, to be refused")]
    let backwards = backend.get_range(&key("object"), 2..1).await;
    assert_eq!(kind(backwards, "a backward range"), ErrorKind::InvalidInput);
    assert_eq!(kind(backend.get_range(&key("empty"), 0..1).await, "bytes of nothing"), ErrorKind::InvalidInput);
}

async fn deleting_is_idempotent(backend: &dyn StorageBackend) {
    put(backend, "folder/a", "1").await;
    put(backend, "folder/b", "2").await;
    for name in ["folder/a", "folder/a", "never/was"] {
        backend.delete(&key(name)).await.unwrap_or_else(|error| panic!("delete {name}: {error}"));
    }
    assert_eq!(kind(backend.get(&key("folder/a")).await, "get of the deleted"), ErrorKind::NotFound);
    expect(backend, "folder/b", b"2").await;
    put(backend, "folder/a", "again").await;
    expect(backend, "folder/a", b"again").await;
}

async fn large_bodies_survive(backend: &dyn StorageBackend) {
    let body = noise(2, (33 << 20) + 13);
    put(backend, "packs/large", body.clone()).await;
    expect(backend, "packs/large", &body).await;
    let middle =
        backend.get_range(&key("packs/large"), 20_000_003..20_100_003).await.expect("a range of a large object");
    assert!(middle == body[20_000_003..20_100_003], "a range of a large object gave other bytes");
}

async fn one_of_many_creates_wins(backend: Arc<dyn StorageBackend>) {
    let claims = backend.capabilities().create_if_absent;
    for round in 0..4 {
        let name = format!("race/{round}");
        let racers = (0..16).map(|number| {
            let (backend, key) = (Arc::clone(&backend), key(&name));
            // Bodies of different sizes, so that a mixture would show.
            let body = noise(number, 1000 * (number as usize + 1));
            tokio::spawn(async move { backend.put(&key, body.into(), PutMode::Create).await })
        });
        let outcomes: Vec<_> =
            join_all(racers).await.into_iter().map(|task| task.expect("a put does not panic")).collect();
        let winners: Vec<_> = (0..16u64).filter(|number| outcomes[*number as usize].is_ok()).collect();
        assert!(!winners.is_empty(), "of 16 creates at once one wins");
        assert!(!claims || winners.len() == 1, "of 16 creates at once exactly one wins, not {winners:?}");
        for loser in outcomes.into_iter().filter(Result::is_err) {
            assert_eq!(kind(loser, "a lost race"), ErrorKind::AlreadyExists);
        }
        let body = backend.get(&key(&name)).await.expect("get of what was raced for");
        let whole = winners.iter().any(|winner| body == noise(*winner, 1000 * (*winner as usize + 1)));
        assert!(whole, "what was raced for is the body of a winner, whole");
    }
}
