//! Builds the map of a new point from the map of its parent and the leaves that changed, in rising order.

use std::sync::Arc;

use backstay_core::{Error, Result};

use super::{FANOUT, Inner, MapCursor, NodeSink, encode_inner, levels_of, segments_of};
use crate::repository::ids::NodeId;

/// A map in the making. Only nodes above changed leaves are written; everything else is the parent's.
///
/// When the size differs from the parent's, the segment that holds the smaller of the two ends must be among those set: the
/// nodes above it are where the old tree and the new one part.
pub struct MapUpdate {
    parent: Option<MapCursor>,
    size: u64,
    sink: Arc<dyn NodeSink>,
    /// The open node of each inner level: its place and its children so far.
    open: Vec<Option<(u64, Vec<Option<NodeId>>)>>,
    next: u64,
    root: Option<NodeId>,
    touched: bool,
}

impl MapUpdate {
    /// A map for a disk of `size` bytes. Without a parent every segment that is not set is a hole.
    #[must_use]
    pub fn new(parent: Option<MapCursor>, size: u64, sink: Arc<dyn NodeSink>) -> Self {
        let open = vec![None; usize::from(levels_of(size))];
        Self { parent, size, sink, open, next: 0, root: None, touched: false }
    }

    /// Sets the leaf of a segment; `None` for a hole. Segments must come in rising order.
    pub async fn set(&mut self, segment: u64, leaf: Option<NodeId>) -> Result<()> {
        if segment < self.next || segment >= segments_of(self.size) {
            return Err(Error::internal("Leaves of a map were set out of order"));
        }
        self.next = segment + 1;
        self.touched = true;
        if self.open.is_empty() {
            self.root = leaf;
            return Ok(());
        }
        self.close_until(segment).await?;
        self.open_for(segment).await?;
        if let Some((_, children)) = &mut self.open[0] {
            children[(segment % FANOUT as u64) as usize] = leaf;
        }
        Ok(())
    }

    /// Opens the nodes above a segment, starting from the parent's.
    async fn open_for(&mut self, segment: u64) -> Result<()> {
        for slot in (0..self.open.len()).rev() {
            let level = slot as u8 + 1;
            let place = segment / (FANOUT as u64).pow(u32::from(level));
            if self.open[slot].is_none() {
                self.open[slot] = Some((place, self.parent_children(level, place).await?));
            }
        }
        Ok(())
    }

    /// The parent's children of a node, as far as they lie on the disk as it is now.
    async fn parent_children(&mut self, level: u8, place: u64) -> Result<Vec<Option<NodeId>>> {
        let mut children = vec![None; FANOUT];
        let Some(parent) = &mut self.parent else { return Ok(children) };
        let below = (FANOUT as u64).pow(u32::from(level) - 1);
        for (at, child) in children.iter_mut().enumerate() {
            let first = (place * FANOUT as u64 + at as u64) * below;
            if first >= segments_of(self.size) {
                break;
            }
            *child = lifted(parent, level - 1, place * FANOUT as u64 + at as u64).await?;
        }
        Ok(children)
    }

    /// Finishes every open node that does not lie above `segment`.
    async fn close_until(&mut self, segment: u64) -> Result<()> {
        for slot in 0..self.open.len() {
            let place = segment / (FANOUT as u64).pow(slot as u32 + 1);
            if self.open[slot].as_ref().is_some_and(|(open, _)| *open != place) {
                self.close(slot).await?;
            }
        }
        Ok(())
    }

    async fn close(&mut self, slot: usize) -> Result<()> {
        let Some((place, children)) = self.open[slot].take() else { return Ok(()) };
        let id = if children.iter().all(Option::is_none) {
            None
        } else {
            let inner = Inner { level: slot as u8 + 1, children };
            Some(self.sink.put_node(encode_inner(&inner)).await?)
        };
        match self.open.get_mut(slot + 1) {
            Some(Some((_, above))) => above[(place % FANOUT as u64) as usize] = id,
            _ => self.root = id,
        }
        Ok(())
    }

    /// Finishes the map and gives its root.
    pub async fn finish(mut self) -> Result<Option<NodeId>> {
        if segments_of(self.size) == 0 {
            return Ok(None);
        }
        if !self.touched {
            let top = levels_of(self.size);
            return match &mut self.parent {
                Some(parent) if parent.size() == self.size => parent.node_id(top, 0).await,
                Some(_) => Err(Error::internal("A disk changed its size and no segment of its map was set")),
                None => Ok(None),
            };
        }
        for slot in 0..self.open.len() {
            self.close(slot).await?;
        }
        Ok(self.root)
    }
}

/// The parent's node at a place that may lie above the parent's root, as it does when the disk has grown a level.
async fn lifted(parent: &mut MapCursor, level: u8, place: u64) -> Result<Option<NodeId>> {
    let top = levels_of(parent.size());
    if level > top {
        // The root of a lower tree is inside this node; `MapUpdate` opens it on its way down because growth touches the old end.
        return Ok(None);
    }
    parent.node_id(level, place).await
}
