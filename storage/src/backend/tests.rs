//! The suite that every backend passes.

use std::sync::{Arc, Mutex};

use backstay_core::StorageBackend;
use backstay_testkit::backend::conformance;

use super::{FaultBackend, LocalBackend, MemoryBackend};

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_backend_passes_also_below_a_layer() {
    conformance(async || Arc::new(MemoryBackend::new()) as Arc<dyn StorageBackend>).await;
    conformance(async || Arc::new(FaultBackend::new(Arc::new(MemoryBackend::new()))) as Arc<dyn StorageBackend>).await;
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
