//! Disk maps: radix trees over 16 MiB segments, content-addressed and path-copied. An all-hole subtree is no node at all.
//!
//! A stream's map is a tree of the same kind over its list of chunks.

mod cursor;
mod node;
mod stream;
mod update;

pub use cursor::MapCursor;
pub use node::{FANOUT, Inner, Node, StreamChild, StreamChunk, decode_leaf, decode_node, encode_inner, encode_leaf};
pub use stream::{StreamMapBuilder, StreamWalk};
pub use update::MapUpdate;

use async_trait::async_trait;
use backstay_core::Result;

use super::{chunk::SEGMENT_BYTES, ids::NodeId};

/// Where nodes come from.
#[async_trait]
pub trait NodeSource: Send + Sync {
    /// The encoding of a node, authenticated.
    async fn node(&self, id: &NodeId) -> Result<bytes::Bytes>;
}

/// Where new nodes go.
#[async_trait]
pub trait NodeSink: Send + Sync {
    /// Keeps a node and names it. The same node twice is kept once.
    async fn put_node(&self, node: Vec<u8>) -> Result<NodeId>;
}

/// How many segments a disk of this size has.
#[must_use]
pub const fn segments_of(size: u64) -> u64 {
    size.div_ceil(SEGMENT_BYTES)
}

/// The level of the root: 0 for a disk of one segment, where the root is a leaf.
#[must_use]
pub const fn levels_of(size: u64) -> u8 {
    let (mut span, mut level) = (1_u64, 0);
    while span < segments_of(size) {
        span = span.saturating_mul(FANOUT as u64);
        level += 1;
    }
    level
}
