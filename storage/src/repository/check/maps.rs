//! Maps: every node is there, and every chunk that a leaf names is where the index says.

use std::{collections::HashSet, sync::Arc};

use backstay_core::{Context, Error, Result, ResultExt};

use super::{CheckReport, Listing};
use crate::repository::{
    Repository,
    chunk::{BLOCK_BYTES, Entry, SEGMENT_BYTES},
    ids::NodeId,
    index::{Index, Section},
    map::{Node, NodeSource, StreamWalk, decode_leaf, decode_node, levels_of, segments_of},
    nodes::StoredNodes,
    points::StoredPoint,
};

/// Nodes that were looked at already: 32 bytes for each 16 MiB of unique disk.
type Seen = HashSet<NodeId>;

impl Repository {
    pub(super) async fn check_maps(
        &self,
        points: &[StoredPoint],
        index: &Arc<Index>,
        listing: &Listing,
        report: &mut CheckReport,
        ctx: &Context,
    ) -> Result<()> {
        let nodes = StoredNodes::of_index(self, Arc::clone(index));
        let mut seen = Seen::new();
        let task = ctx.task("check maps", Some(points.len() as u64));
        for point in points {
            let id = point.id();
            for disk in &point.record.disks {
                let walk = Walk { nodes: &nodes, index, listing, size: disk.size, ctx };
                if let Some(root) = disk.root {
                    walk.disk(root, &mut seen, report).await.context("point", id).context("disk", &disk.id)?;
                }
            }
            let attachments = point.record.attachments.iter().map(|attachment| &attachment.stream);
            for stream in point.record.streams.iter().chain(attachments) {
                let walk = Walk { nodes: &nodes, index, listing, size: stream.size, ctx };
                let checked =
                    walk.stream(stream.root, report).await.context("point", id).context("stream", &stream.name);
                report.note(checked)?;
            }
            task.advance(1);
        }
        Ok(())
    }
}

struct Walk<'a> {
    nodes: &'a StoredNodes,
    index: &'a Index,
    listing: &'a Listing,
    size: u64,
    ctx: &'a Context,
}

impl Walk<'_> {
    async fn disk(&self, root: NodeId, seen: &mut Seen, report: &mut CheckReport) -> Result<()> {
        let mut ahead = vec![(root, levels_of(self.size), 0_u64)];
        while let Some((id, level, place)) = ahead.pop() {
            self.ctx.check()?;
            // The last leaf of a disk depends on its size, so it is looked at once for every disk.
            let last = level == 0 && place + 1 == segments_of(self.size);
            if !last && !seen.insert(id) {
                continue;
            }
            report.nodes += 1;
            let bytes = match report.note(self.nodes.node(&id).await)? {
                Some(bytes) => bytes,
                None => continue,
            };
            if level == 0 {
                let checked = self.leaf(&bytes, place, report).await;
                report.note(checked)?;
                continue;
            }
            match report.note(decode_node(&bytes).context("node", id))? {
                Some(Node::Inner(inner)) if inner.level == level => {
                    let children = inner.children.iter().enumerate();
                    ahead.extend(children.filter_map(|(at, child)| {
                        child.map(|child| (child, level - 1, place * inner.children.len() as u64 + at as u64))
                    }));
                }
                Some(_) => report.fault(
                    Error::integrity("A node of a disk map stands where another belongs").with_context("node", id),
                ),
                None => {}
            }
        }
        Ok(())
    }

    async fn leaf(&self, bytes: &[u8], segment: u64, report: &mut CheckReport) -> Result<()> {
        let plain = self.size.saturating_sub(segment * SEGMENT_BYTES).min(SEGMENT_BYTES);
        let entries = decode_leaf(bytes, plain.div_ceil(BLOCK_BYTES as u64) as u32)?;
        let mut at = 0;
        let mut wanted = Vec::with_capacity(entries.len());
        for entry in entries {
            let end = (at + u64::from(entry.blocks()) * BLOCK_BYTES as u64).min(plain);
            if let Entry::Chunk { id, .. } = entry {
                wanted.push((id.0, (end - at) as u32));
            }
            at = end;
        }
        self.chunks(&wanted, report).await.context("segment", segment)
    }

    async fn stream(&self, root: Option<NodeId>, report: &mut CheckReport) -> Result<()> {
        let (mut bytes, mut walk) = (0, StreamWalk::new(root, self.size));
        while let Some(chunks) = walk.next(self.nodes).await? {
            self.ctx.check()?;
            report.nodes += 1;
            bytes += chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum::<u64>();
            let wanted: Vec<_> = chunks.iter().map(|chunk| (chunk.id.0, chunk.bytes)).collect();
            self.chunks(&wanted, report).await?;
        }
        if bytes != self.size {
            return Err(Error::integrity("A stream is not as long as its restore point says"));
        }
        Ok(())
    }

    async fn chunks(&self, wanted: &[([u8; 32], u32)], report: &mut CheckReport) -> Result<()> {
        report.chunks += wanted.len() as u64;
        let ids: Vec<_> = wanted.iter().map(|(id, _)| *id).collect();
        for ((_, plain), found) in wanted.iter().zip(self.index.find_many(Section::Data, &ids).await?) {
            let found =
                found.ok_or_else(|| Error::integrity("A chunk that a restore point needs is in no index segment"))?;
            if found.plain != *plain {
                return Err(Error::integrity("The index and a map disagree about the size of a chunk")
                    .with_context("pack", found.pack));
            }
            if !self.listing.contains_key(&found.pack) {
                return Err(
                    Error::integrity("A pack that a restore point needs is missing").with_context("pack", found.pack)
                );
            }
        }
        Ok(())
    }
}
