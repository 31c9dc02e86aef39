//! Reading map nodes.

use std::sync::Arc;

use async_trait::async_trait;
use backstay_core::{Error, Result, ResultExt};
use bytes::Bytes;

use super::{
    Repository,
    cache::BoundedCache,
    crypto::{ObjectType, frame},
    ids::NodeId,
    index::{Index, Location, PackKind, Section},
    map::NodeSource,
    read::another_may_do,
    view::View,
};

/// Bytes of nodes that are kept: some 500 leaves.
const KEPT_BYTES: usize = 8 << 20;

/// The map nodes that an index knows.
pub struct StoredNodes {
    view: Arc<View>,
    kept: BoundedCache<NodeId, Bytes>,
}

impl StoredNodes {
    /// As a view shows them.
    pub fn new(view: Arc<View>) -> Self {
        Self { view, kept: BoundedCache::new(KEPT_BYTES) }
    }

    /// As this index, and no newer one, shows them.
    pub fn of_index(repository: &Repository, index: Arc<Index>) -> Self {
        Self::new(View::fixed(repository, index))
    }

    async fn read(&self, id: &NodeId) -> Result<Bytes> {
        let mut seen = self.view.seen();
        loop {
            match self.read_in(&seen.index, id).await {
                Ok(node) => return Ok(node),
                Err(error) => seen = self.view.newer(&seen, error).await?,
            }
        }
    }

    /// From whichever copy is whole.
    async fn read_in(&self, index: &Index, id: &NodeId) -> Result<Bytes> {
        let lost = || Error::integrity("A node of a disk map is in no index segment");
        let at = index.find(Section::Meta, id.as_bytes()).await?.ok_or_else(lost)?;
        let mut first = match self.read_at(id, at).await {
            Err(error) if another_may_do(&error) => error,
            read => return read,
        };
        for copy in index.find_all(Section::Meta, id.as_bytes()).await?.into_iter().filter(|copy| *copy != at) {
            match self.read_at(id, copy).await {
                Err(error) if another_may_do(&error) => first = first.with_context("also tried", copy.pack),
                read => return read,
            }
        }
        Err(first)
    }

    async fn read_at(&self, id: &NodeId, at: Location) -> Result<Bytes> {
        let packs = self.view.repository().packs();
        let opened = packs.open(PackKind::Meta, &at.pack).await?;
        let range = u64::from(at.offset)..u64::from(at.offset) + u64::from(at.stored);
        let mut sealed = packs.fetch(PackKind::Meta, &at.pack, range).await?.to_vec();
        let key = opened.key_at(at.offset)?;
        let (codec, payload) = frame::open(&key.key, &key.domain, ObjectType::Node, id.as_bytes(), &mut sealed)
            .context("pack", at.pack)?;
        if codec != frame::Codec::Raw {
            return Err(Error::unsupported("A map node is packed in a way that this build does not know"));
        }
        // Keepers cannot make ids; they rely on the frame's authentication, which covers the id.
        let keyring = self.view.repository().objects().keyring();
        if keyring.capability() != super::Capability::Keeper && keyring.node_id(payload)? != *id {
            return Err(Error::integrity("A node of a disk map is not what its id says").with_context("pack", at.pack));
        }
        Ok(Bytes::copy_from_slice(payload))
    }
}

#[async_trait]
impl NodeSource for StoredNodes {
    async fn node(&self, id: &NodeId) -> Result<Bytes> {
        if let Some(node) = self.kept.get(id) {
            return Ok(node);
        }
        let node = self.read(id).await.context("node", id)?;
        self.kept.put(*id, node.clone(), node.len());
        Ok(node)
    }
}
