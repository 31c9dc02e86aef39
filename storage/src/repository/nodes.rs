//! Reading map nodes.

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use backstay_core::{Error, Result, ResultExt};
use bytes::Bytes;
use futures::{StreamExt, stream};

use super::{
    Capability, Repository,
    cache::BoundedCache,
    crypto::{ObjectType, frame},
    ids::{NodeId, PackId},
    index::{Index, Location, PackKind, Section},
    map::NodeSource,
    packs::{OpenedPack, Opening},
    read::another_may_do,
    view::View,
};

/// Bytes of nodes that are kept: some 500 leaves.
const KEPT_BYTES: usize = 8 << 20;

/// Most bytes of a pack that one request asks for.
const RUN_BYTES: u64 = 1 << 20;
/// Bytes that are read and thrown away rather than made a request of their own.
const GAP_BYTES: u64 = 128 << 10;
/// Requests at once.
const READS_AT_ONCE: usize = 8;

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
        let range = u64::from(at.offset)..u64::from(at.offset) + u64::from(at.stored);
        let run = NodeRun { pack: at.pack, pack_bytes: at.pack_bytes, bytes: range, nodes: vec![(*id, at)] };
        let repository = self.view.repository();
        let (opened, bytes) = run.fetch(repository, GAP_BYTES).await?;
        open_node(repository, &opened, &bytes, run.bytes.start, id, at)
    }

    /// Reads nodes that lie close to one another together and keeps them for [`NodeSource::node`]. What cannot be read like this it
    /// leaves alone: who asks for the node tries every copy and hears what is wrong.
    pub async fn prefetch(&self, ids: &[NodeId]) {
        let missing: Vec<_> = ids.iter().filter(|id| self.kept.get(id).is_none()).copied().collect();
        if missing.len() < 2 {
            return;
        }
        let seen = self.view.seen();
        let wanted: Vec<_> = missing.iter().map(|id| id.0).collect();
        let Ok(found) = seen.index.find_many(Section::Meta, &wanted).await else { return };
        let placed = missing.into_iter().zip(found).filter_map(|(id, at)| Some((id, at?))).collect();
        let repository = self.view.repository();
        let reads = node_runs(placed, RUN_BYTES, GAP_BYTES).into_iter().map(|run| async move {
            let Ok((opened, bytes)) = run.fetch(repository, GAP_BYTES).await else { return };
            for (id, at) in &run.nodes {
                if let Ok(node) = open_node(repository, &opened, &bytes, run.bytes.start, id, *at) {
                    self.kept.put(*id, node.clone(), node.len());
                }
            }
        });
        stream::iter(reads).buffer_unordered(READS_AT_ONCE).collect::<()>().await;
    }
}

/// Nodes of one pack that lie close together.
pub struct NodeRun {
    /// The pack.
    pub pack: PackId,
    /// Its size in bytes.
    pub pack_bytes: u64,
    /// From the first to the last of the nodes.
    pub bytes: Range<u64>,
    /// Which, and where.
    pub nodes: Vec<(NodeId, Location)>,
}

impl NodeRun {
    /// Their bytes, and what opens them; see [`super::packs::Packs::fetch_opened`].
    pub async fn fetch(&self, repository: &Repository, slack: u64) -> Result<(Arc<OpenedPack>, Bytes)> {
        let (pack, opening) = ((&self.pack, self.pack_bytes), Opening::new());
        repository.packs().fetch_opened(PackKind::Meta, pack, self.bytes.clone(), slack, &opening).await
    }
}

/// Puts nodes in the order in which they lie, those together that one request of up to `most` bytes brings with gaps of at most `gap`.
pub fn node_runs(mut placed: Vec<(NodeId, Location)>, most: u64, gap: u64) -> Vec<NodeRun> {
    placed.sort_by_key(|(_, at)| (at.pack, at.offset));
    let mut runs: Vec<NodeRun> = Vec::new();
    for (id, at) in placed {
        let (start, end) = (u64::from(at.offset), u64::from(at.offset) + u64::from(at.stored));
        match runs.last_mut() {
            Some(run) if run.pack == at.pack && start <= run.bytes.end + gap && end <= run.bytes.start + most => {
                run.bytes.end = run.bytes.end.max(end);
                run.nodes.push((id, at));
            }
            _ => {
                let (pack, pack_bytes) = (at.pack, at.pack_bytes);
                runs.push(NodeRun { pack, pack_bytes, bytes: start..end, nodes: vec![(id, at)] });
            }
        }
    }
    runs
}

/// Opens a node that lies in `bytes`, whose first is byte `from` of the pack.
pub fn open_node(
    repository: &Repository,
    opened: &OpenedPack,
    bytes: &Bytes,
    from: u64,
    id: &NodeId,
    at: Location,
) -> Result<Bytes> {
    let cut_off = || Error::integrity("A pack is shorter than the index says: it was cut off");
    let start = u64::from(at.offset).checked_sub(from).ok_or_else(cut_off)? as usize;
    let mut sealed = bytes.get(start..start + at.stored as usize).ok_or_else(cut_off)?.to_vec();
    let key = opened.key_at(at.offset)?;
    let (codec, payload) =
        frame::open(&key.key, &key.domain, ObjectType::Node, id.as_bytes(), &mut sealed).context("pack", at.pack)?;
    if codec != frame::Codec::Raw {
        return Err(Error::unsupported("A map node is packed in a way that this build does not know"));
    }
    // Keepers cannot make ids; they rely on the frame's authentication, which covers the id.
    let keyring = repository.objects().keyring();
    if keyring.capability() != Capability::Keeper && keyring.node_id(payload)? != *id {
        return Err(Error::integrity("A node of a disk map is not what its id says").with_context("pack", at.pack));
    }
    Ok(Bytes::copy_from_slice(payload))
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
