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
};

/// Bytes of nodes that are kept: some 500 leaves.
const KEPT_BYTES: usize = 8 << 20;

/// The map nodes that an index knows.
pub struct StoredNodes {
    repository: Repository,
    index: Arc<Index>,
    kept: BoundedCache<NodeId, Bytes>,
}

impl StoredNodes {
    pub fn new(repository: Repository, index: Arc<Index>) -> Self {
        Self { repository, index, kept: BoundedCache::new(KEPT_BYTES) }
    }

    /// From whichever copy is whole.
    async fn read(&self, id: &NodeId) -> Result<Bytes> {
        let lost = || Error::integrity("A node of a disk map is in no index segment");
        let at = self.index.find(Section::Meta, id.as_bytes()).await?.ok_or_else(lost)?;
        let mut first = match self.read_at(id, at).await {
            Err(error) if another_may_do(&error) => error,
            read => return read,
        };
        for copy in self.index.find_all(Section::Meta, id.as_bytes()).await?.into_iter().filter(|copy| *copy != at) {
            match self.read_at(id, copy).await {
                Err(error) if another_may_do(&error) => first = first.with_context("also tried", copy.pack),
                read => return read,
            }
        }
        Err(first)
    }

    async fn read_at(&self, id: &NodeId, at: Location) -> Result<Bytes> {
        let packs = self.repository.packs();
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
        let keyring = self.repository.objects().keyring();
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
