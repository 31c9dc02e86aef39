//! Where objects lie: a folder, a bucket, a server.

use std::{fmt, ops::Range};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::{ObjectKey, Result};

/// What is known of an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key.
    pub key: ObjectKey,
    /// Its size in bytes.
    pub size: u64,
}

/// What to do when the key is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Fail with [`crate::ErrorKind::AlreadyExists`] and leave what is there as it is. Of several at once exactly one wins.
    Create,
    /// Replace. A repository never does: this is for probes and for what lies outside repositories.
    Replace,
}

/// What a backend promises. Promises of servers are probed, not believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendCapabilities {
    /// [`PutMode::Create`] holds under a race.
    pub create_if_absent: bool,
    /// A list shows every put that returned before it began.
    pub strong_listing: bool,
}

impl BackendCapabilities {
    /// Sets both promises.
    #[must_use]
    pub const fn new(create_if_absent: bool, strong_listing: bool) -> Self {
        Self { create_if_absent, strong_listing }
    }
}

/// A store of objects that are written once. Errors: `NotFound` only when the store says so, `Unavailable` when it could
/// not be asked.
#[async_trait]
pub trait StorageBackend: fmt::Debug + Send + Sync + 'static {
    /// Where it is, for people; no secret in it.
    fn location(&self) -> String;

    /// What it promises.
    fn capabilities(&self) -> BackendCapabilities;

    /// All or nothing, and durable when it returns. An error may mean that the object is there all the same.
    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<()>;

    /// The whole object.
    async fn get(&self, key: &ObjectKey) -> Result<Bytes>;

    /// Bytes `range` of the object, all of them: a range past the end is [`crate::ErrorKind::InvalidInput`].
    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes>;

    /// Size of the object.
    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta>;

    /// Removes the object; fine when it is not there.
    async fn delete(&self, key: &ObjectKey) -> Result<()>;

    /// Every object whose key begins with `folder` and a slash (every object at all for `None`), at any depth, in any order.
    fn list(&self, folder: Option<&ObjectKey>) -> BoxStream<'_, Result<ObjectMeta>>;
}
