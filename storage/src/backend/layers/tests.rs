//! Every layer, and all of them together, passes what a backend passes.

use std::sync::{Arc, Mutex};

use backstay_core::StorageBackend;
use backstay_testkit::backend::conformance;

use super::*;
use crate::backend::{LocalBackend, MemoryBackend};

type Backend = Arc<dyn StorageBackend>;

/// Around a store in memory and around one in a folder. The second folder is the layer's own.
async fn passes(layer: impl Fn(Backend, &std::path::Path) -> Backend) {
    let folders = Mutex::new(Vec::new());
    let fresh = |local: bool| {
        let folder = tempfile::tempdir().unwrap();
        let store: Backend = match local {
            true => Arc::new(LocalBackend::new(folder.path().join("store")).unwrap()),
            false => Arc::new(MemoryBackend::new()),
        };
        let backend = layer(store, &folder.path().join("own"));
        folders.lock().unwrap().push(folder);
        backend
    };
    conformance(async || fresh(false)).await;
    conformance(async || fresh(true)).await;
}

fn cache(store: Backend, folder: &std::path::Path) -> Backend {
    // All that the suite puts, so that replacing and deleting are seen through the cache.
    let names = ["a", "deep", "folder", "many", "other", "pack", "packs", "race", "A", "tmp", "x", "y", "never"];
    Arc::new(ReadCacheBackend::new(store, folder, CacheOptions::default().folders(names)).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_passes() {
    passes(|store, _| Arc::new(RetryBackend::new(store, RetryOptions::default()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn throttle_passes() {
    let options =
        ThrottleOptions::default().requests(3).upload(u64::MAX.try_into().ok()).download(u64::MAX.try_into().ok());
    passes(|store, _| Arc::new(ThrottleBackend::new(store, &options))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_passes() {
    passes(|store, _| Arc::new(MetricsBackend::new(store))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_cache_passes() {
    passes(cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_them_together_pass() {
    passes(|store, folder| {
        let throttled = Arc::new(ThrottleBackend::new(store, &ThrottleOptions::default().requests(3)));
        let patient = Arc::new(RetryBackend::new(throttled, RetryOptions::default()));
        Arc::new(MetricsBackend::new(cache(patient, folder)))
    })
    .await;
}
