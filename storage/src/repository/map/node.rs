//! The bytes of a node. All numbers are little-endian.
//!
//! - leaf: `1 | count 2 | count × entry`; entry: `header 2`, bit 15 set for a hole, the other bits blocks of 4 KiB; a chunk's
//!   header is followed by its id (32)
//! - inner: `2 | level 1 | bitmap 64 | ids 32 × set bits`: bit *n* of the bitmap (bit n%8 of byte n/8) is child *n*
//! - stream leaf: `3 | count 2 | count × (length 4, chunk id 32)`
//! - stream inner: `4 | level 1 | count 2 | count × (bytes below 8, node id 32)`

use backstay_core::{Error, Result};

use crate::repository::{
    chunk::{Entry, SEGMENT_BLOCKS},
    ids::{ChunkId, NodeId},
};

/// Children of an inner node.
pub const FANOUT: usize = 512;
const HOLE: u16 = 1 << 15;

/// An inner node of a disk map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inner {
    /// 1 above leaves, 2 above that …
    pub level: u8,
    /// Always [`FANOUT`] of them.
    pub children: Vec<Option<NodeId>>,
}

/// A chunk of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamChunk {
    /// Bytes.
    pub bytes: u32,
    /// Its id.
    pub id: ChunkId,
}

/// A child of a stream's inner node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamChild {
    /// Bytes of the stream below it.
    pub bytes: u64,
    /// Its id.
    pub id: NodeId,
}

/// Any node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// The chunks of one segment.
    Leaf(Vec<Entry>),
    /// Up to 512 subtrees.
    Inner(Inner),
    /// Chunks of a stream.
    StreamLeaf(Vec<StreamChunk>),
    /// Subtrees of a stream.
    StreamInner(u8, Vec<StreamChild>),
}

/// Encodes the entries of one segment.
#[must_use]
pub fn encode_leaf(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(3 + entries.len() * 34);
    bytes.push(1);
    bytes.extend_from_slice(&(entries.len() as u16).to_le_bytes());
    for entry in entries {
        match entry {
            Entry::Hole { blocks } => bytes.extend_from_slice(&(*blocks as u16 | HOLE).to_le_bytes()),
            Entry::Chunk { blocks, id } => {
                bytes.extend_from_slice(&(*blocks as u16).to_le_bytes());
                bytes.extend_from_slice(id.as_bytes());
            }
        }
    }
    bytes
}

/// Encodes an inner node of a disk map.
#[must_use]
pub fn encode_inner(inner: &Inner) -> Vec<u8> {
    let mut bitmap = [0_u8; FANOUT / 8];
    let set = inner.children.iter().enumerate().filter(|(_, child)| child.is_some());
    set.for_each(|(at, _)| bitmap[at / 8] |= 1 << (at % 8));
    let mut bytes = vec![2, inner.level];
    bytes.extend_from_slice(&bitmap);
    inner.children.iter().flatten().for_each(|id| bytes.extend_from_slice(id.as_bytes()));
    bytes
}

pub(super) fn encode_stream_leaf(chunks: &[StreamChunk]) -> Vec<u8> {
    let mut bytes = vec![3];
    bytes.extend_from_slice(&(chunks.len() as u16).to_le_bytes());
    for chunk in chunks {
        bytes.extend_from_slice(&chunk.bytes.to_le_bytes());
        bytes.extend_from_slice(chunk.id.as_bytes());
    }
    bytes
}

pub(super) fn encode_stream_inner(level: u8, children: &[StreamChild]) -> Vec<u8> {
    let mut bytes = vec![4, level];
    bytes.extend_from_slice(&(children.len() as u16).to_le_bytes());
    for child in children {
        bytes.extend_from_slice(&child.bytes.to_le_bytes());
        bytes.extend_from_slice(child.id.as_bytes());
    }
    bytes
}

fn damaged() -> Error {
    Error::integrity("A node of a disk map does not make sense")
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or_else(damaged)?;
        self.0 = rest;
        Ok(*head)
    }

    fn end(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(damaged()) }
    }
}

/// Decodes any node. It was authenticated before, so nonsense is damage or a writer's mistake.
pub fn decode_node(bytes: &[u8]) -> Result<Node> {
    let mut reader = Reader(bytes);
    let [kind] = reader.take()?;
    let node = match kind {
        1 => Node::Leaf(leaf_entries(&mut reader)?),
        2 => Node::Inner(inner_children(&mut reader)?),
        3 => {
            let count = u16::from_le_bytes(reader.take()?);
            let chunk = |_| Ok(StreamChunk { bytes: u32::from_le_bytes(reader.take()?), id: ChunkId(reader.take()?) });
            Node::StreamLeaf((0..count).map(chunk).collect::<Result<_>>()?)
        }
        4 => {
            let [level] = reader.take()?;
            let count = u16::from_le_bytes(reader.take()?);
            let child = |_| Ok(StreamChild { bytes: u64::from_le_bytes(reader.take()?), id: NodeId(reader.take()?) });
            Node::StreamInner(level, (0..count).map(child).collect::<Result<_>>()?)
        }
        other => return Err(Error::unsupported(format!("A map has a node of kind {other}: use a newer Backstay"))),
    };
    reader.end()?;
    Ok(node)
}

fn leaf_entries(reader: &mut Reader<'_>) -> Result<Vec<Entry>> {
    let count = u16::from_le_bytes(reader.take()?);
    let mut entries = Vec::with_capacity(usize::from(count).min(SEGMENT_BLOCKS));
    let mut total = 0;
    for _ in 0..count {
        let header = u16::from_le_bytes(reader.take()?);
        let blocks = u32::from(header & !HOLE);
        total += blocks as usize;
        if blocks == 0 || total > SEGMENT_BLOCKS {
            return Err(damaged());
        }
        entries.push(match header & HOLE {
            0 => Entry::Chunk { blocks, id: ChunkId(reader.take()?) },
            _ => Entry::Hole { blocks },
        });
    }
    Ok(entries)
}

fn inner_children(reader: &mut Reader<'_>) -> Result<Inner> {
    let [level] = reader.take()?;
    let bitmap: [u8; FANOUT / 8] = reader.take()?;
    let mut children = Vec::with_capacity(FANOUT);
    for at in 0..FANOUT {
        children.push(if bitmap[at / 8] >> (at % 8) & 1 == 1 { Some(NodeId(reader.take()?)) } else { None });
    }
    if level == 0 || children.iter().all(Option::is_none) {
        return Err(damaged());
    }
    Ok(Inner { level, children })
}

/// Decodes a leaf that must cover exactly `blocks` blocks.
pub fn decode_leaf(bytes: &[u8], blocks: u32) -> Result<Vec<Entry>> {
    match decode_node(bytes)? {
        Node::Leaf(entries) if entries.iter().map(Entry::blocks).sum::<u32>() == blocks => Ok(entries),
        _ => Err(damaged()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nodes_of_every_kind_come_back() {
        let leaf = vec![
            Entry::Hole { blocks: 4000 },
            Entry::Chunk { blocks: 24, id: ChunkId([7; 32]) },
            Entry::Hole { blocks: 72 },
        ];
        assert_eq!(decode_leaf(&encode_leaf(&leaf), 4096).unwrap(), leaf);
        assert!(decode_leaf(&encode_leaf(&leaf), 4095).is_err());
        let mut children = vec![None; FANOUT];
        (children[0], children[511]) = (Some(NodeId([1; 32])), Some(NodeId([2; 32])));
        let inner = Inner { level: 1, children };
        assert_eq!(decode_node(&encode_inner(&inner)).unwrap(), Node::Inner(inner));
        let chunks = vec![StreamChunk { bytes: 9, id: ChunkId([3; 32]) }];
        assert_eq!(decode_node(&encode_stream_leaf(&chunks)).unwrap(), Node::StreamLeaf(chunks));
        let below = vec![StreamChild { bytes: 9, id: NodeId([3; 32]) }];
        assert_eq!(decode_node(&encode_stream_inner(2, &below)).unwrap(), Node::StreamInner(2, below));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_and_what_decodes_encodes_the_same(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..6) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() { *first = kind; }
            match decode_node(&bytes) {
                Ok(Node::Leaf(entries)) => prop_assert_eq!(encode_leaf(&entries), bytes),
                Ok(Node::Inner(inner)) => prop_assert_eq!(encode_inner(&inner), bytes),
                Ok(Node::StreamLeaf(chunks)) => prop_assert_eq!(encode_stream_leaf(&chunks), bytes),
                Ok(Node::StreamInner(level, children)) => prop_assert_eq!(encode_stream_inner(level, &children), bytes),
                Err(_) => {}
            }
        }
    }
}
