//! Walks a disk map from segment to segment, keeping the nodes on the way.

use std::{collections::HashSet, sync::Arc};

use backstay_core::{Error, Result};

use super::{FANOUT, Inner, Node, NodeSource, decode_leaf, decode_node, levels_of, segments_of};
use crate::repository::{
    chunk::{BLOCK_BYTES, Entry, SEGMENT_BYTES},
    ids::NodeId,
};

/// Finds the leaf of any segment. Neighbouring segments share the nodes above them, so going in order reads each once.
pub struct MapCursor {
    source: Arc<dyn NodeSource>,
    size: u64,
    root: Option<NodeId>,
    /// The inner node last used at each level above the leaves, with its place on that level.
    path: Vec<Option<(u64, Option<Inner>)>>,
    /// Nodes that are taken for holes because they are lost.
    without: Arc<HashSet<NodeId>>,
}

impl MapCursor {
    /// A cursor over the map of a disk of `size` bytes.
    #[must_use]
    pub fn new(source: Arc<dyn NodeSource>, size: u64, root: Option<NodeId>) -> Self {
        let path = vec![None; usize::from(levels_of(size))];
        Self { source, size, root, path, without: Arc::default() }
    }

    /// Takes these nodes for holes.
    #[must_use]
    pub fn without(mut self, nodes: Arc<HashSet<NodeId>>) -> Self {
        self.without = nodes;
        self
    }

    /// The disk's size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The node at `place` on `level` (0 for leaves); none when it is all hole or past the end.
    pub async fn node_id(&mut self, level: u8, place: u64) -> Result<Option<NodeId>> {
        let top = levels_of(self.size);
        if level > top || place_at(place, level, top) > 0 {
            return Ok(None);
        }
        let there = |id: &NodeId| !self.without.contains(id);
        if level == top {
            return Ok(self.root.filter(there));
        }
        let mut at = top;
        let mut id = self.root.filter(there);
        // Go down from the root; what the last call went through is still in the path.
        while at > level {
            let span = place_at(place, level, at);
            let slot = usize::from(at) - 1;
            if self.path[slot].as_ref().is_none_or(|(here, _)| *here != span) {
                let inner = match id {
                    Some(id) => Some(self.inner(&id, at).await?),
                    None => None,
                };
                self.path[slot] = Some((span, inner));
            }
            let child = usize::try_from(place_at(place, level, at - 1) % FANOUT as u64).unwrap_or(0);
            id = self.path[slot].as_ref().and_then(|(_, inner)| inner.as_ref()).and_then(|inner| inner.children[child]);
            id = id.filter(|id| !self.without.contains(id));
            at -= 1;
        }
        Ok(id)
    }

    async fn inner(&self, id: &NodeId, level: u8) -> Result<Inner> {
        match decode_node(&self.source.node(id).await?)? {
            Node::Inner(inner) if inner.level == level => Ok(inner),
            _ => Err(Error::integrity("A node of a disk map stands where another belongs").with_context("node", id)),
        }
    }

    /// Bytes of a segment; less than 16 MiB for the last.
    #[must_use]
    pub fn segment_bytes(&self, segment: u64) -> u64 {
        self.size.saturating_sub(segment * SEGMENT_BYTES).min(SEGMENT_BYTES)
    }

    /// The entries of a segment: one hole when it has no leaf, nothing past the end.
    pub async fn leaf(&mut self, segment: u64) -> Result<Vec<Entry>> {
        let blocks = self.segment_bytes(segment).div_ceil(BLOCK_BYTES as u64) as u32;
        if blocks == 0 {
            return Ok(Vec::new());
        }
        match self.node_id(0, segment).await? {
            Some(id) => decode_leaf(&self.source.node(&id).await?, blocks),
            None => Ok(vec![Entry::Hole { blocks }]),
        }
    }

    /// The first segment at or after `from` that has a leaf; whole subtrees of holes are skipped without a read.
    pub async fn next_leaf(&mut self, from: u64) -> Result<Option<(u64, NodeId)>> {
        let (mut segment, end, top) = (from, segments_of(self.size), levels_of(self.size));
        while segment < end {
            let mut skipped = false;
            for level in (0..=top).rev() {
                let place = place_at(segment, 0, level);
                match self.node_id(level, place).await? {
                    Some(id) if level == 0 => return Ok(Some((segment, id))),
                    Some(_) => {}
                    None => {
                        segment = (place + 1) * (FANOUT as u64).pow(u32::from(level));
                        skipped = true;
                        break;
                    }
                }
            }
            debug_assert!(skipped, "a node on level 0 returns");
        }
        Ok(None)
    }
}

/// The place on `level` of what lies at `place` on `below`.
fn place_at(place: u64, below: u8, level: u8) -> u64 {
    (below..level).fold(place, |place, _| place / FANOUT as u64)
}
