//! A storage backend of one's own: objects in a map. The conformance kit says whether it keeps what the trait promises.
//!
//! `cargo run --example custom_backend`

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use backstay::{BackendCapabilities, Error, ObjectKey, ObjectMeta, PutMode, Result, StorageBackend};
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};

#[derive(Debug, Default)]
struct Shelf(Mutex<BTreeMap<ObjectKey, Bytes>>);

impl Shelf {
    fn objects(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl StorageBackend for Shelf {
    fn location(&self) -> String {
        "shelf:".into()
    }

    fn capabilities(&self) -> BackendCapabilities {
        // Of several creates at once one wins, and a list shows every put before it.
        BackendCapabilities::new(true, true)
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<()> {
        let mut objects = self.objects();
        if mode == PutMode::Create && objects.contains_key(key) {
            return Err(Error::already_exists("The object is there already").with_context("key", key));
        }
        objects.insert(key.clone(), body);
        Ok(())
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        let found = self.objects().get(key).cloned();
        found.ok_or_else(|| Error::not_found("No such object").with_context("key", key))
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        let body = self.get(key).await?;
        if range.start > range.end || range.end > body.len() as u64 {
            return Err(Error::invalid_input("The range lies outside the object").with_context("key", key));
        }
        Ok(body.slice(range.start as usize..range.end as usize))
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        Ok(ObjectMeta { key: key.clone(), size: self.get(key).await?.len() as u64 })
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.objects().remove(key);
        Ok(())
    }

    fn list(&self, folder: Option<&ObjectKey>) -> BoxStream<'_, Result<ObjectMeta>> {
        let folder = folder.map(|folder| format!("{folder}/")).unwrap_or_default();
        let meta = |(key, body): (&ObjectKey, &Bytes)| ObjectMeta { key: key.clone(), size: body.len() as u64 };
        let found: Vec<_> = self.objects().iter().map(meta).filter(|it| it.key.as_str().starts_with(&folder)).collect();
        stream::iter(found).map(Ok).boxed()
    }
}

#[tokio::main]
async fn main() {
    backstay_testkit::backend::conformance(async || Arc::new(Shelf::default()) as Arc<dyn StorageBackend>).await;
    println!("The shelf keeps every promise of a storage backend: a repository can lie on it.");
}
