//! Objects in a map.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use backstay_core::{BackendCapabilities, Error, ObjectKey, ObjectMeta, PutMode, Result, StorageBackend};
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};

use super::local::check_object_range;

type Objects = BTreeMap<ObjectKey, Bytes>;

/// A backend in memory, for tests and demos. Dropping it drops what it holds.
#[derive(Debug, Default)]
pub struct MemoryBackend(Mutex<Objects>);

impl MemoryBackend {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Another backend that holds the same objects now: what a crash at this moment would leave.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self(Mutex::new(self.objects().clone()))
    }

    /// Every key, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.objects().keys().cloned().collect()
    }

    /// Bytes in all objects together.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.objects().values().map(|body| body.len() as u64).sum()
    }

    /// Changes an object behind everybody's back, as rot or an attacker would.
    ///
    /// [`backstay_core::ErrorKind::NotFound`] when there is no such object.
    pub fn tamper(&self, key: &ObjectKey, change: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let mut objects = self.objects();
        let body = objects.get_mut(key).ok_or_else(|| absent(key))?;
        let mut changed = body.to_vec();
        change(&mut changed);
        *body = changed.into();
        Ok(())
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, key: &ObjectKey) -> Result<Bytes> {
        self.objects().get(key).cloned().ok_or_else(|| absent(key))
    }
}

fn absent(key: &ObjectKey) -> Error {
    Error::not_found("No such object").with_context("key", key).with_context("at", "memory:")
}

#[async_trait]
impl StorageBackend for MemoryBackend {
    fn location(&self) -> String {
        "memory:".into()
    }

    fn capabilities(&self) -> BackendCapabilities {
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
        self.find(key)
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        let body = self.find(key)?;
        check_object_range(key, &range, body.len() as u64)?;
        // The range lies inside a buffer in memory, so both ends fit a usize.
        Ok(body.slice(range.start as usize..range.end as usize))
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let size = self.find(key)?.len() as u64;
        Ok(ObjectMeta { key: key.clone(), size })
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.objects().remove(key);
        Ok(())
    }

    fn list(&self, folder: Option<&ObjectKey>) -> BoxStream<'_, Result<ObjectMeta>> {
        let folder = folder.map(|folder| format!("{folder}/")).unwrap_or_default();
        let found: Vec<_> = self
            .objects()
            .iter()
            .filter(|(key, _)| key.as_str().starts_with(&folder))
            .map(|(key, body)| Ok(ObjectMeta { key: key.clone(), size: body.len() as u64 }))
            .collect();
        futures::stream::iter(found).boxed()
    }
}
