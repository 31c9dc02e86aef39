//! The store as an actor sees it: every operation waits at a gate of the [`World`].

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use backstay_core::{BackendCapabilities, Error, ObjectKey, ObjectMeta, PutMode, Result, StorageBackend};
use backstay_storage::Operation;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::BoxStream};

use crate::{
    call::{Call, Reply},
    world::{Lie, World},
};

/// One handle for each incarnation of an actor.
pub struct SimStore {
    world: Arc<World>,
    actor: usize,
}

impl SimStore {
    pub const fn new(world: Arc<World>, actor: usize) -> Self {
        Self { world, actor }
    }

    async fn call(&self, call: Call) -> Result<Reply> {
        match self.world.ask(self.actor, call).await {
            Reply::Failed(failure) => Err(failure.into()),
            reply => Ok(reply),
        }
    }

    async fn body(&self, call: Call) -> Result<Bytes> {
        match self.call(call).await? {
            Reply::Body(body) => Ok(body),
            other => Err(unfitting(&other)),
        }
    }

    async fn listing(&self, folder: Option<ObjectKey>) -> Result<Vec<ObjectMeta>> {
        match self.call(Call::new(Operation::List, folder.as_ref())).await? {
            Reply::Listing(entries) => Ok(entries),
            other => Err(unfitting(&other)),
        }
    }
}

fn unfitting(reply: &Reply) -> Error {
    Error::internal(format!("The simulated store gave a reply that fits no such call: {reply}"))
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStore")
    }
}

#[async_trait]
impl StorageBackend for SimStore {
    fn location(&self) -> String {
        "simulation:".into()
    }

    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities::new(true, self.world.settings.lie != Some(Lie::StaleListings))
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<()> {
        self.call(Call { body, mode, ..Call::new(Operation::Put, Some(key)) }).await.map(drop)
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        self.body(Call::new(Operation::Get, Some(key))).await
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        self.body(Call { range, ..Call::new(Operation::GetRange, Some(key)) }).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        match self.call(Call::new(Operation::Head, Some(key))).await? {
            Reply::Meta(meta) => Ok(meta),
            other => Err(unfitting(&other)),
        }
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.call(Call::new(Operation::Delete, Some(key))).await.map(drop)
    }

    fn list(&self, folder: Option<&ObjectKey>) -> BoxStream<'_, Result<ObjectMeta>> {
        let folder = folder.cloned();
        let entries = async move {
            let entries = self.listing(folder).await?;
            Ok::<_, Error>(futures::stream::iter(entries.into_iter().map(Ok)))
        };
        futures::stream::once(entries).try_flatten().boxed()
    }
}
