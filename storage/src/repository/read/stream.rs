//! A stream or an attachment of a restore point.

use std::sync::Arc;

use backstay_core::{Context, Error, Result};
use bytes::Bytes;
use futures::TryStreamExt;

use super::{ChunkReader, Wanted};
use crate::repository::{
    Repository, format::point::StreamEntry, map::stream_chunks, nodes::StoredNodes, points::PointSelector,
};

/// A stream of a restore point, to be read from its beginning.
pub struct StoredStream {
    entry: StreamEntry,
    chunks: ChunkReader,
    nodes: StoredNodes,
}

impl Repository {
    /// Opens a stream of a restore point.
    pub async fn stream(&self, point: &PointSelector, name: &str) -> Result<StoredStream> {
        self.open_stream(point, |record| record.streams.iter().find(|entry| entry.name == name).cloned(), name).await
    }

    /// The bytes of an attachment of a restore point.
    pub async fn attachment(&self, point: &PointSelector, name: &str, ctx: &Context) -> Result<Bytes> {
        let find = |record: &crate::repository::format::point::PointRecord| {
            record.attachments.iter().map(|attachment| &attachment.stream).find(|entry| entry.name == name).cloned()
        };
        let stream = self.open_stream(point, find, name).await?;
        if stream.size() > 16 << 20 {
            return Err(Error::integrity("An attachment is far too large").with_context("attachment", name));
        }
        let mut bytes = Vec::with_capacity(stream.size() as usize);
        stream
            .read_all(ctx, async |piece| {
                bytes.extend_from_slice(&piece);
                Ok(())
            })
            .await?;
        Ok(bytes.into())
    }

    async fn open_stream(
        &self,
        point: &PointSelector,
        find: impl Fn(&crate::repository::format::point::PointRecord) -> Option<StreamEntry>,
        name: &str,
    ) -> Result<StoredStream> {
        let state = self.state().await?;
        let stored = self.select(&state, point).await?;
        let entry = find(&stored.record).ok_or_else(|| {
            Error::not_found("The restore point has no such stream or attachment").with_context("name", name)
        })?;
        let index = Arc::new(self.index(&state, |_| true).await?);
        let chunks = ChunkReader::new(self.clone(), Arc::clone(&index))?;
        Ok(StoredStream { entry, chunks, nodes: StoredNodes::new(self.clone(), index) })
    }
}

impl StoredStream {
    /// Its size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.entry.size
    }

    /// Hands its bytes over in order, some 64 MiB of memory at most whatever its size.
    pub async fn read_all(&self, ctx: &Context, mut each: impl AsyncFnMut(Bytes) -> Result<()>) -> Result<()> {
        let task = ctx.task(&self.entry.name, Some(self.entry.size));
        let mut at = 0;
        stream_chunks(&self.nodes, self.entry.root, async |_, chunks| {
            // A leaf may stand for 256 MiB: a part of it at a time.
            for part in chunks.chunks(256) {
                let mut wanted = Vec::with_capacity(part.len());
                for chunk in part {
                    wanted.push(Wanted { id: chunk.id, plain: chunk.bytes, at });
                    at += u64::from(chunk.bytes);
                }
                let pieces: Vec<_> = self.chunks.read(wanted, ctx).await?.try_collect().await?;
                let mut pieces: Vec<_> = pieces.into_iter().flatten().collect();
                pieces.sort_by_key(|piece| piece.at);
                for piece in pieces {
                    ctx.check()?;
                    task.advance(piece.bytes.len() as u64);
                    each(piece.bytes).await?;
                }
            }
            Ok(())
        })
        .await?;
        if at != self.entry.size {
            return Err(Error::integrity("A stream is not as long as its restore point says")
                .with_context("stream", &self.entry.name));
        }
        Ok(())
    }
}
