use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use backstay_core::{Error, ObjectMeta};
use futures::stream::BoxStream;

use super::*;
use crate::backend::{Fault, FaultBackend, LocalBackend, MemoryBackend, Operation, Rule};

/// A store that, as some servers do, ignores that a put should create.
#[derive(Debug, Default)]
struct Careless(MemoryBackend);

#[async_trait]
impl StorageBackend for Careless {
    fn location(&self) -> String {
        "careless:".into()
    }
    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities::new(true, true)
    }
    async fn put(&self, key: &ObjectKey, body: Bytes, _mode: PutMode) -> Result<()> {
        self.0.put(key, body, PutMode::Replace).await
    }
    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        self.0.get(key).await
    }
    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        self.0.get_range(key, range).await
    }
    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.0.head(key).await
    }
    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.0.delete(key).await
    }
    fn list(&self, folder: Option<&ObjectKey>) -> BoxStream<'_, Result<ObjectMeta>> {
        self.0.list(folder)
    }
}

#[tokio::test]
async fn an_honest_store_passes_and_is_left_as_it_was() {
    let memory = MemoryBackend::new();
    let found = probe(&memory, &Context::default()).await.unwrap();
    assert_eq!(found, BackendCapabilities::new(true, true));
    assert!(memory.keys().is_empty());
    let folder = tempfile::tempdir().unwrap();
    let local = LocalBackend::new(folder.path()).unwrap();
    assert_eq!(probe(&local, &Context::default()).await.unwrap(), BackendCapabilities::new(true, true));
}

#[tokio::test]
async fn a_store_that_ignores_create_is_found_out_whatever_it_claims() {
    let careless = Careless::default();
    let found = probe(&careless, &Context::default()).await.unwrap();
    assert_eq!(found, BackendCapabilities::new(false, true));
    assert!(careless.0.keys().is_empty());
}

#[tokio::test]
async fn a_store_whose_list_lags_is_found_out() {
    let lagging = FaultBackend::new(Arc::new(MemoryBackend::new()));
    lagging.inject(Rule::new(Fault::Truncate(0)).on(Operation::List).always());
    let found = probe(&lagging, &Context::default()).await.unwrap();
    assert_eq!(found, BackendCapabilities::new(true, false));
}

#[tokio::test]
async fn a_store_that_fails_is_an_error_and_not_a_finding() {
    let broken = FaultBackend::new(Arc::new(MemoryBackend::new()));
    broken.inject(Rule::new(Fault::Fail(ErrorKind::PermissionDenied)).on(Operation::Put).skip(3));
    let error: Error = probe(&broken, &Context::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn a_store_that_breaks_a_promise_gets_a_repository_only_for_a_single_writer() {
    use crate::repository::{InitOptions, NewSlot, Repository, SecretKey};
    let ctx = Context::default();
    let lagging = FaultBackend::new(Arc::new(MemoryBackend::new()));
    lagging.inject(Rule::new(Fault::Truncate(0)).on(Operation::List).always());
    let stores: [(Arc<dyn StorageBackend>, &str); 2] =
        [(Arc::new(Careless::default()), "overwrites"), (Arc::new(lagging), "leaves finished objects out")];
    for (store, why) in stores {
        let options = || InitOptions::slots(vec![NewSlot::KeyFile(SecretKey::generate(&ctx).unwrap())]).recovery(false);
        let error = Repository::init(Arc::clone(&store), options(), &ctx).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains(why) && error.to_string().contains("--single-writer"), "{error}");
        // Nothing was left behind, so that another try is no second repository.
        let made = Repository::init(store, options().single_writer(true), &ctx).await.unwrap();
        assert!(made.repository.config().single_writer);
    }
}
