//! What restore points need: every node of their maps, every chunk that these name.

use std::{collections::HashSet, sync::Arc};

use backstay_core::{Context, Error, Result, ResultExt, Task};
use bytes::Bytes;
use futures::{StreamExt, stream};

use super::live::LiveSet;
use crate::repository::{
    Repository,
    chunk::Entry,
    format::point::PointRecord,
    ids::{ChunkId, NodeId},
    index::{Index, Section},
    map::{Node, NodeSource, decode_node},
    nodes::{NodeRun, StoredNodes, node_runs, open_node},
};

/// Nodes that are looked up and read together: bounds the memory for their places.
const BATCH_NODES: usize = 64 << 10;
/// Most bytes of a pack that one request asks for.
const RUN_BYTES: u64 = 32 << 20;
/// Bytes that are read and thrown away rather than made a request of their own.
const GAP_BYTES: u64 = 1 << 20;
/// Requests at once, each with up to [`RUN_BYTES`] in memory.
const RUNS_AT_ONCE: usize = 2;

/// What is needed.
pub struct Mark {
    /// Map nodes.
    pub nodes: HashSet<NodeId>,
    /// Chunks.
    pub chunks: LiveSet,
}

impl Mark {
    /// Nothing yet, with room for so many chunks.
    pub fn new(expected_chunks: u64, ctx: &Context) -> Result<Self> {
        Ok(Self { nodes: HashSet::new(), chunks: LiveSet::new(expected_chunks, ctx)? })
    }

    /// Whether a record of the index names something that is needed.
    pub fn needs(&self, section: Section, id: &[u8; 32]) -> bool {
        match section {
            Section::Meta => self.nodes.contains(&NodeId(*id)),
            Section::Data => self.chunks.may_hold(&ChunkId(*id)),
        }
    }

    /// Takes a node's content into account; gives the nodes below it.
    fn take(&mut self, plain: &[u8]) -> Result<Vec<NodeId>> {
        Ok(match decode_node(plain)? {
            Node::Leaf(entries) => {
                entries.iter().filter_map(Entry::id).for_each(|id| self.chunks.insert(&id));
                Vec::new()
            }
            Node::StreamLeaf(chunks) => {
                chunks.iter().for_each(|chunk| self.chunks.insert(&chunk.id));
                Vec::new()
            }
            Node::Inner(inner) => inner.children.into_iter().flatten().collect(),
            Node::StreamInner(_, children) => children.into_iter().map(|child| child.id).collect(),
        })
    }
}

/// The roots of all maps of a point.
pub fn roots(point: &PointRecord) -> impl Iterator<Item = NodeId> + '_ {
    let attachments = point.attachments.iter().map(|attachment| attachment.stream.root);
    let streams = point.streams.iter().map(|stream| stream.root);
    point.disks.iter().map(|disk| disk.root).chain(streams).chain(attachments).flatten()
}

/// Reads maps level by level, each in the order in which it lies in packs.
pub struct Marker {
    repository: Repository,
    index: Arc<Index>,
    nodes: StoredNodes,
    /// Nodes that a repair has found to be lost: what lies below them nobody can reach.
    lost: HashSet<NodeId>,
    ctx: Context,
}

impl Marker {
    pub fn new(repository: &Repository, index: Arc<Index>, lost: HashSet<NodeId>, ctx: &Context) -> Self {
        let nodes = StoredNodes::of_index(repository, Arc::clone(&index));
        Self { repository: repository.clone(), index, nodes, lost, ctx: ctx.clone() }
    }

    /// Marks what lies below these roots. A node that cannot be read is an error: whoever does not know what it names must not
    /// delete anything.
    pub async fn mark(&self, roots: impl IntoIterator<Item = NodeId>, mark: &mut Mark, task: &Task) -> Result<()> {
        let mut level: Vec<_> = roots.into_iter().filter(|id| mark.nodes.insert(*id)).collect();
        while !level.is_empty() {
            let mut below = Vec::new();
            for batch in level.chunks(BATCH_NODES) {
                self.ctx.check()?;
                let runs = self.plan(batch).await?;
                let reads = runs.into_iter().map(|run| self.read(run));
                let mut reads = stream::iter(reads).buffer_unordered(RUNS_AT_ONCE);
                while let Some(nodes) = self.ctx.or_cancelled(async { reads.next().await.transpose() }).await? {
                    task.advance(nodes.len() as u64);
                    for (id, plain) in nodes {
                        let children = mark.take(&plain).context("node", id)?;
                        below.extend(children.into_iter().filter(|id| mark.nodes.insert(*id)));
                    }
                }
            }
            level = below;
        }
        Ok(())
    }

    async fn plan(&self, ids: &[NodeId]) -> Result<Vec<NodeRun>> {
        let wanted: Vec<_> = ids.iter().map(|id| id.0).collect();
        let found = self.index.find_many(Section::Meta, &wanted).await?;
        let mut placed = Vec::with_capacity(ids.len());
        for (id, at) in ids.iter().zip(found) {
            let lost = || {
                Error::integrity("A node of a live disk map is in no index segment: run `check`; nothing was deleted")
                    .with_context("node", id)
            };
            match at {
                None if self.lost.contains(id) => {}
                at => placed.push((*id, at.ok_or_else(lost)?)),
            }
        }
        Ok(node_runs(placed, RUN_BYTES, GAP_BYTES))
    }

    async fn read(&self, run: NodeRun) -> Result<Vec<(NodeId, Bytes)>> {
        let read = run.fetch(&self.repository, GAP_BYTES).await;
        let mut nodes = Vec::with_capacity(run.nodes.len());
        for (id, at) in run.nodes {
            let opened = match &read {
                Ok((opened, bytes)) => open_node(&self.repository, opened, bytes, run.bytes.start, &id, at).ok(),
                Err(_) => None,
            };
            // Another copy may be whole; if none is, this says what is wrong.
            let plain = match opened {
                Some(plain) => plain,
                None => self.nodes.node(&id).await?,
            };
            nodes.push((id, plain));
        }
        Ok(nodes)
    }
}
