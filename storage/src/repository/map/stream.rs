//! The map of a stream: its chunks in order, in leaves of up to 1,024, under inner nodes of up to 512.

use std::sync::Arc;

use backstay_core::{Error, Result};

use super::{
    FANOUT, Node, NodeSink, NodeSource, StreamChild, StreamChunk, decode_node,
    node::{encode_stream_inner, encode_stream_leaf},
};
use crate::repository::ids::NodeId;

const LEAF_CHUNKS: usize = 1024;
/// A tree of this many levels holds more bytes than a `u64` counts.
const MAX_LEVELS: u8 = 8;

/// Collects the chunks of a stream.
pub struct StreamMapBuilder {
    sink: Arc<dyn NodeSink>,
    leaf: Vec<StreamChunk>,
    levels: Vec<Vec<StreamChild>>,
    bytes: u64,
}

impl StreamMapBuilder {
    /// An empty stream.
    #[must_use]
    pub fn new(sink: Arc<dyn NodeSink>) -> Self {
        Self { sink, leaf: Vec::new(), levels: Vec::new(), bytes: 0 }
    }

    /// Adds the next chunk.
    pub async fn push(&mut self, chunk: StreamChunk) -> Result<()> {
        self.bytes += u64::from(chunk.bytes);
        self.leaf.push(chunk);
        if self.leaf.len() == LEAF_CHUNKS {
            self.close_leaf().await?;
        }
        Ok(())
    }

    async fn close_leaf(&mut self) -> Result<()> {
        let leaf = std::mem::take(&mut self.leaf);
        let bytes = leaf.iter().map(|chunk| u64::from(chunk.bytes)).sum();
        let id = self.sink.put_node(encode_stream_leaf(&leaf)).await?;
        self.add(0, StreamChild { bytes, id }).await
    }

    async fn add(&mut self, mut level: usize, mut child: StreamChild) -> Result<()> {
        loop {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(child);
            if self.levels[level].len() < FANOUT {
                return Ok(());
            }
            let full = std::mem::take(&mut self.levels[level]);
            child = self.inner(level, &full).await?;
            level += 1;
        }
    }

    async fn inner(&self, level: usize, children: &[StreamChild]) -> Result<StreamChild> {
        let id = self.sink.put_node(encode_stream_inner(level as u8 + 1, children)).await?;
        Ok(StreamChild { bytes: children.iter().map(|child| child.bytes).sum(), id })
    }

    /// The root (none for an empty stream) and the bytes of the stream.
    pub async fn finish(mut self) -> Result<(Option<NodeId>, u64)> {
        if !self.leaf.is_empty() {
            self.close_leaf().await?;
        }
        let mut level = 0;
        while level < self.levels.len() {
            let children = std::mem::take(&mut self.levels[level]);
            let above_empty = self.levels[level + 1..].iter().all(Vec::is_empty);
            match children.as_slice() {
                [] => {}
                [only] if above_empty => return Ok((Some(only.id), self.bytes)),
                several => {
                    let child = self.inner(level, several).await?;
                    if self.levels.len() == level + 1 {
                        self.levels.push(Vec::new());
                    }
                    self.levels[level + 1].push(child);
                }
            }
            level += 1;
        }
        Ok((None, self.bytes))
    }
}

/// Walks the map of a stream, leaf by leaf. Every node must hold exactly the bytes that its parent says, and some: a forged
/// map gives no more steps than bytes.
pub struct StreamWalk {
    /// Node, its greatest level, its bytes.
    ahead: Vec<(NodeId, u8, u64)>,
}

impl StreamWalk {
    /// From the beginning of the stream of `size` bytes with this root.
    #[must_use]
    pub fn new(root: Option<NodeId>, size: u64) -> Self {
        Self { ahead: root.map(|id| (id, MAX_LEVELS, size)).into_iter().collect() }
    }

    /// The chunks of the next leaf; none at the end.
    pub async fn next(&mut self, source: &dyn NodeSource) -> Result<Option<Vec<StreamChunk>>> {
        while let Some((id, below, size)) = self.ahead.pop() {
            match decode_node(&source.node(&id).await?)? {
                Node::StreamLeaf(chunks) if total(chunks.iter().map(|chunk| u64::from(chunk.bytes))) == Some(size) => {
                    return Ok(Some(chunks));
                }
                // Levels fall on the way down, so that no forged map makes a loop.
                Node::StreamInner(level, children)
                    if level < below && total(children.iter().map(|child| child.bytes)) == Some(size) =>
                {
                    self.ahead.extend(children.iter().rev().map(|child| (child.id, level, child.bytes)));
                }
                _ => {
                    return Err(Error::integrity("The map of a stream does not make sense").with_context("node", id));
                }
            }
        }
        Ok(None)
    }
}

/// The sum, unless there is nothing to add, something empty, or too much.
fn total(mut bytes: impl Iterator<Item = u64>) -> Option<u64> {
    bytes.try_fold(0_u64, |sum, bytes| (bytes > 0).then(|| sum.checked_add(bytes)).flatten()).filter(|sum| *sum > 0)
}
