//! A stream or an attachment of a restore point.

use std::sync::Arc;

use backstay_core::{Context, Error, Result, Task};
use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};

use super::{ChunkReader, Wanted, fetch::Piece};
use crate::repository::{
    Repository,
    format::point::StreamEntry,
    map::{StreamChunk, StreamWalk},
    nodes::StoredNodes,
    points::PointSelector,
    state::State,
    view::{Tries, View},
};

/// Chunks of a stream in memory at once: 64 MiB at most.
const PART_CHUNKS: usize = 256;

/// A stream of a restore point, to be read from its beginning. Cheap to clone.
#[derive(Clone)]
pub struct StoredStream {
    entry: StreamEntry,
    chunks: ChunkReader,
    nodes: Arc<StoredNodes>,
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
        self.open_stream(point, find, name).await?.read_small(ctx).await
    }

    async fn open_stream(
        &self,
        point: &PointSelector,
        find: impl Fn(&crate::repository::format::point::PointRecord) -> Option<StreamEntry>,
        name: &str,
    ) -> Result<StoredStream> {
        let mut tries = Tries::default();
        loop {
            let state = self.state().await?;
            match self.stream_in(&state, point, &find, name).await {
                Err(error) => tries.again(self, state.chain.head, error).await?,
                opened => return opened,
            }
        }
    }

    async fn stream_in(
        &self,
        state: &State,
        point: &PointSelector,
        find: impl Fn(&crate::repository::format::point::PointRecord) -> Option<StreamEntry>,
        name: &str,
    ) -> Result<StoredStream> {
        let stored = self.select(state, point).await?;
        let entry = find(&stored.record).ok_or_else(|| {
            Error::not_found("The restore point has no such stream or attachment").with_context("name", name)
        })?;
        let view = View::of_point(self, state, stored.id()).await?;
        let chunks = ChunkReader::new(Arc::clone(&view))?;
        Ok(StoredStream::new(entry, chunks, Arc::new(StoredNodes::new(view))))
    }
}

impl StoredStream {
    pub(in crate::repository) const fn new(entry: StreamEntry, chunks: ChunkReader, nodes: Arc<StoredNodes>) -> Self {
        Self { entry, chunks, nodes }
    }

    /// Its size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.entry.size
    }

    /// All of an attachment.
    pub(in crate::repository) async fn read_small(&self, ctx: &Context) -> Result<Bytes> {
        if self.size() > 16 << 20 {
            return Err(Error::integrity("An attachment is far too large").with_context("attachment", &self.entry.name));
        }
        let mut bytes = Vec::with_capacity(self.size() as usize);
        let mut parts = self.parts(ctx);
        while let Some(pieces) = parts.next().await? {
            pieces.iter().for_each(|piece| bytes.extend_from_slice(&piece.bytes));
        }
        Ok(bytes.into())
    }

    /// Hands its bytes over in order, some 64 MiB of memory at most whatever its size.
    pub async fn read_all(&self, ctx: &Context, mut each: impl AsyncFnMut(Bytes) -> Result<()>) -> Result<()> {
        let mut parts = self.parts(ctx);
        while let Some(pieces) = parts.next().await? {
            for piece in pieces {
                ctx.check()?;
                each(piece.bytes).await?;
            }
        }
        Ok(())
    }

    /// Its bytes in order, as a source for another session; some 64 MiB of memory at most whatever its size.
    #[must_use]
    pub fn bytes(&self, ctx: &Context) -> BoxStream<'static, Result<Bytes>> {
        let parts = self.parts(ctx);
        let next = |mut parts: Parts| async move {
            Ok::<_, Error>(parts.next().await?.map(|pieces| (stream::iter(pieces).map(|piece| Ok(piece.bytes)), parts)))
        };
        stream::try_unfold(parts, next).try_flatten().boxed()
    }

    fn parts(&self, ctx: &Context) -> Parts {
        let task = ctx.task(&self.entry.name, Some(self.entry.size));
        Parts {
            stream: self.clone(),
            walk: StreamWalk::new(self.entry.root, self.entry.size),
            leaf: Vec::new().into_iter(),
            at: 0,
            task,
            ctx: ctx.clone(),
        }
    }
}

/// Reads a stream part by part.
struct Parts {
    stream: StoredStream,
    walk: StreamWalk,
    /// What is left of the last leaf, which may stand for 256 MiB.
    leaf: std::vec::IntoIter<StreamChunk>,
    at: u64,
    task: Task,
    ctx: Context,
}

impl Parts {
    /// The next bytes in order; none when the stream has come to its end as it must.
    async fn next(&mut self) -> Result<Option<Vec<Piece>>> {
        self.ctx.check()?;
        if self.leaf.len() == 0 {
            match self.walk.next(&*self.stream.nodes).await? {
                Some(chunks) => self.leaf = chunks.into_iter(),
                None if self.at == self.stream.entry.size => return Ok(None),
                None => {
                    return Err(Error::integrity("A stream is not as long as its restore point says")
                        .with_context("stream", &self.stream.entry.name));
                }
            }
        }
        let from = self.at;
        let mut wanted = Vec::with_capacity(PART_CHUNKS);
        for chunk in self.leaf.by_ref().take(PART_CHUNKS) {
            wanted.push(Wanted { id: chunk.id, plain: chunk.bytes, at: self.at });
            self.at += u64::from(chunk.bytes);
        }
        let pieces: Vec<_> = self.stream.chunks.read(wanted, &self.ctx).await?.try_collect().await?;
        let mut pieces: Vec<_> = pieces.into_iter().flatten().collect();
        pieces.sort_by_key(|piece| piece.at);
        self.task.advance(self.at - from);
        Ok(Some(pieces))
    }
}
