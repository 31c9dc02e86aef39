//! Which bytes of a point cannot be read: from its maps and the index, without reading content.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use backstay_core::{Context, ErrorKind, RangeSet, Result, ResultExt};
use bytes::Bytes;

use crate::repository::{
    Repository,
    chunk::{BLOCK_BYTES, Entry, SEGMENT_BYTES},
    format::{
        lost::{LostPart, LostRange},
        point::PointRecord,
    },
    ids::NodeId,
    index::{Index, Section},
    map::{FANOUT, Node, NodeSource, StreamChunk, decode_node, levels_of},
    nodes::StoredNodes,
};

/// Levels that the map of a stream has at most.
const STREAM_LEVELS: u8 = 8;

/// What is lost of a point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LostParts {
    pub disks: Vec<LostPart>,
    pub streams: Vec<LostPart>,
}

impl LostParts {
    pub const fn is_empty(&self) -> bool {
        self.disks.is_empty() && self.streams.is_empty()
    }
}

/// Finds what no whole copy is known of.
pub struct Finder<'a> {
    nodes: StoredNodes,
    index: Arc<Index>,
    /// Nodes that are saved although the index does not say so yet.
    pub saved_nodes: HashMap<NodeId, Bytes>,
    /// The same of chunks.
    pub saved_chunks: HashSet<[u8; 32]>,
    /// Leaves with nothing lost below them, each looked at once.
    whole: HashSet<NodeId>,
    ctx: &'a Context,
}

/// A part in the making.
#[derive(Default)]
struct Found {
    ranges: RangeSet,
    nodes: Vec<NodeId>,
    map: bool,
}

impl Found {
    fn part(self, name: &str) -> Option<LostPart> {
        let ranges = self.ranges.ranges().iter();
        let ranges: Vec<_> =
            ranges.map(|range| LostRange { offset: range.start, bytes: range.end - range.start }).collect();
        let mut nodes = self.nodes;
        nodes.sort_unstable();
        (!ranges.is_empty()).then(|| LostPart { name: name.to_owned(), ranges, nodes, map: self.map })
    }
}

impl<'a> Finder<'a> {
    /// In the packs that this index finds something in.
    pub fn new(repository: &Repository, index: Arc<Index>, ctx: &'a Context) -> Self {
        let nodes = StoredNodes::of_index(repository, Arc::clone(&index));
        let (saved_nodes, saved_chunks, whole) = (HashMap::new(), HashSet::new(), HashSet::new());
        Self { nodes, index, saved_nodes, saved_chunks, whole, ctx }
    }

    /// Everything that is lost of a point.
    pub async fn of_point(&mut self, point: &PointRecord) -> Result<LostParts> {
        let mut parts = LostParts::default();
        for disk in &point.disks {
            let lost = self.disk(&disk.id, disk.root, disk.size, None).await.context("disk", &disk.id)?;
            parts.disks.extend(lost);
        }
        let attachments = point.attachments.iter().map(|attachment| &attachment.stream);
        for stream in point.streams.iter().chain(attachments) {
            parts
                .streams
                .extend(self.stream(&stream.name, stream.root, stream.size).await.context("stream", &stream.name)?);
        }
        Ok(parts)
    }

    /// What is lost of a disk, in the window if there is one.
    pub async fn disk(
        &mut self,
        name: &str,
        root: Option<NodeId>,
        size: u64,
        window: Option<&RangeSet>,
    ) -> Result<Option<LostPart>> {
        let mut found = Found::default();
        let mut ahead: Vec<_> = root.map(|root| (root, levels_of(size), 0_u64)).into_iter().collect();
        while let Some((id, level, place)) = ahead.pop() {
            self.ctx.check()?;
            let span = (FANOUT as u64).saturating_pow(u32::from(level)).saturating_mul(SEGMENT_BYTES);
            let start = place.saturating_mul(span);
            let bytes = start.min(size)..start.saturating_add(span).min(size);
            let outside = window.is_some_and(|window| !window.intersects(&bytes));
            if outside || (level == 0 && self.whole.contains(&id)) {
                continue;
            }
            match self.node(&id).await? {
                Some(Node::Leaf(entries)) if level == 0 => {
                    if self.leaf(&entries, bytes, &mut found.ranges).await? {
                        self.whole.insert(id);
                    }
                }
                Some(Node::Inner(inner)) if inner.level == level && level > 0 => {
                    let below = inner.children.into_iter().enumerate();
                    ahead.extend(
                        below.filter_map(|(at, child)| Some((child?, level - 1, place * FANOUT as u64 + at as u64))),
                    );
                }
                _ => {
                    found.nodes.push(id);
                    found.map |= level > 0;
                    found.ranges.insert(bytes);
                }
            }
        }
        Ok(found.part(name))
    }

    /// Whether all chunks of a leaf are there.
    async fn leaf(&self, entries: &[Entry], bytes: Range<u64>, lost: &mut RangeSet) -> Result<bool> {
        let mut at = bytes.start;
        let mut wanted = Vec::with_capacity(entries.len());
        for entry in entries {
            let end = (at + u64::from(entry.blocks()) * BLOCK_BYTES as u64).min(bytes.end);
            if let Some(id) = entry.id() {
                wanted.push((id.0, at..end));
            }
            at = end;
        }
        self.chunks(wanted, lost).await
    }

    async fn stream(&mut self, name: &str, root: Option<NodeId>, size: u64) -> Result<Option<LostPart>> {
        let mut found = Found::default();
        let mut ahead: Vec<_> = root.map(|root| (root, STREAM_LEVELS, 0_u64, size)).into_iter().collect();
        while let Some((id, below, start, bytes)) = ahead.pop() {
            self.ctx.check()?;
            let end = start.saturating_add(bytes).min(size);
            match self.node(&id).await? {
                Some(Node::StreamLeaf(chunks)) => {
                    self.stream_leaf(&chunks, start..end, &mut found.ranges).await?;
                }
                Some(Node::StreamInner(level, children)) if level < below => {
                    let mut at = start;
                    for child in children {
                        ahead.push((child.id, level, at, child.bytes));
                        at = at.saturating_add(child.bytes);
                    }
                }
                _ => {
                    found.nodes.push(id);
                    found.ranges.insert(start..end);
                }
            }
        }
        Ok(found.part(name))
    }

    async fn stream_leaf(&self, chunks: &[StreamChunk], bytes: Range<u64>, lost: &mut RangeSet) -> Result<bool> {
        let mut at = bytes.start;
        let mut wanted = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let end = at.saturating_add(u64::from(chunk.bytes)).min(bytes.end);
            wanted.push((chunk.id.0, at..end));
            at = end;
        }
        self.chunks(wanted, lost).await
    }

    async fn chunks(&self, mut wanted: Vec<([u8; 32], Range<u64>)>, lost: &mut RangeSet) -> Result<bool> {
        wanted.retain(|(id, _)| !self.saved_chunks.contains(id));
        let ids: Vec<_> = wanted.iter().map(|(id, _)| *id).collect();
        let mut whole = true;
        for ((_, range), found) in wanted.into_iter().zip(self.index.find_many(Section::Data, &ids).await?) {
            if found.is_none() {
                lost.insert(range);
                whole = false;
            }
        }
        Ok(whole)
    }

    /// `None`: no copy of the node is whole.
    async fn node(&self, id: &NodeId) -> Result<Option<Node>> {
        let read = match self.saved_nodes.get(id) {
            Some(saved) => Ok(saved.clone()),
            None => self.nodes.node(id).await,
        };
        match read.and_then(|bytes| decode_node(&bytes)) {
            Ok(node) => Ok(Some(node)),
            Err(error) if matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Unsupported) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
