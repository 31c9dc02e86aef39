//! The backends for Azure and for Google Cloud Storage against servers that speak their protocols.
//!
//! The servers are had by the scripts in `tests/testbed`. Without them the tests say `skipped: …` and pass, unless
//! `BACKSTAY_REQUIRE_SERVERS=1`.

#![cfg(all(feature = "azure", feature = "gcs"))]
#![allow(clippy::unwrap_used)]

mod azure;
mod gcs;
#[path = "../common/lossy.rs"]
mod lossy;
#[path = "../common/server.rs"]
mod server;

use std::sync::Arc;

use backstay_core::{BackendCapabilities, Context, ErrorKind, ObjectKey, PutMode, StorageBackend};
use backstay_storage::backend::{RetryBackend, RetryOptions, probe};
use backstay_testkit::{backend::conformance, noise};
use futures::TryStreamExt;

use self::lossy::LossyLine;

/// The promises are probed and held, and the suite passes.
async fn holds_every_promise(fresh: impl Fn() -> Arc<dyn StorageBackend>) {
    let found = probe(&*fresh(), &Context::default()).await.unwrap();
    assert_eq!(found, BackendCapabilities::new(true, true));
    conformance(async || fresh()).await;
}

/// No object of a folder is missed or told twice when some of its neighbours have names that come close.
async fn listings_stay_in_their_folder(backend: &dyn StorageBackend) {
    let key = |name: &str| ObjectKey::new(name).unwrap();
    let names = ["index/a", "index/b-1", "index/b_2", "index/c.d/e", "index-1", "index.x/a", "indey/a"];
    for name in names {
        backend.put(&key(name), "x".into(), PutMode::Create).await.unwrap();
    }
    let found: Vec<_> =
        backend.list(Some(&key("index"))).map_ok(|meta| meta.key.to_string()).try_collect().await.unwrap();
    assert_eq!(found, names[..4]);
}

/// Through a line that loses replies, with and without the layer that tries again.
async fn lost_replies_lose_nothing(backend: Arc<dyn StorageBackend>, line: &LossyLine) {
    let (key, body) = (ObjectKey::new("packs/1").unwrap(), noise(1, 2 << 20));
    let patient = RetryBackend::new(backend, RetryOptions::default());
    line.lose_replies(1);
    let outcome = patient.put(&key, body.clone().into(), PutMode::Create).await;
    assert_eq!(line.left(), 0, "a reply was lost");
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::AlreadyExists, "its own object, or that of another: who knows");
    assert!(patient.get(&key).await.unwrap() == body);
    line.lose_replies(4);
    assert_eq!(patient.head(&key).await.unwrap().size, body.len() as u64);
    assert_eq!(line.left(), 0);
}
