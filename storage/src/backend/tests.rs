//! The suite that every backend passes.

use std::sync::{Arc, Mutex};

use backstay_core::{Context, StorageBackend};
use backstay_testkit::backend::conformance;

use super::{FaultBackend, LocalBackend, MemoryBackend, MirrorBackend, MirrorPolicy};

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_backend_passes_also_below_a_layer() {
    conformance(async || Arc::new(MemoryBackend::new()) as Arc<dyn StorageBackend>).await;
    conformance(async || Arc::new(FaultBackend::new(Arc::new(MemoryBackend::new()))) as Arc<dyn StorageBackend>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirrored_backend_passes_and_its_mirror_has_the_same() {
    for policy in [MirrorPolicy::Required, MirrorPolicy::BestEffort] {
        let made = Mutex::new(Vec::new());
        conformance(async || {
            let (primary, mirror) = (Arc::new(MemoryBackend::new()), Arc::new(MemoryBackend::new()));
            made.lock().unwrap().push((Arc::clone(&primary), Arc::clone(&mirror)));
            let backend = MirrorBackend::open(primary, mirror, policy, &Context::default()).await.unwrap();
            Arc::new(backend) as Arc<dyn StorageBackend>
        })
        .await;
        for (primary, mirror) in made.into_inner().unwrap() {
            assert_eq!((primary.keys(), primary.total_bytes()), (mirror.keys(), mirror.total_bytes()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_local_backend_passes() {
    let folders = Mutex::new(Vec::new());
    conformance(async || {
        let folder = tempfile::tempdir().unwrap();
        let backend = LocalBackend::new(folder.path().join("root")).unwrap();
        folders.lock().unwrap().push(folder);
        Arc::new(backend) as Arc<dyn StorageBackend>
    })
    .await;
}
