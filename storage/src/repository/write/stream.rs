//! Streams and attachments: cut by keyed FastCDC, stored chunk by chunk.

use std::sync::Arc;

use backstay_core::{Error, Result};
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};

use super::WriteSession;
use crate::repository::{
    chunk::StreamCutter,
    format::{
        config::STREAM_CHUNKER,
        point::{AttachmentEntry, StreamEntry},
    },
    ids::ChunkId,
    map::{StreamChunk, StreamMapBuilder},
};

/// Bytes of chunks that are stored together.
const BATCH_BYTES: usize = 8 << 20;
/// The largest attachment.
const MAX_ATTACHMENT_BYTES: usize = 16 << 20;

/// What became of a stream.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StreamReport {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

impl WriteSession {
    /// Stores a stream to its end.
    pub async fn write_stream(&mut self, name: &str, bytes: BoxStream<'static, Result<Bytes>>) -> Result<StreamReport> {
        if self.streams.iter().any(|stream| stream.name == name) {
            return Err(Error::invalid_input("The restore point has a stream of this name already")
                .with_context("stream", name));
        }
        self.writing()?;
        let entry = match self.store_stream(name, bytes).await {
            Ok(entry) => entry,
            Err(error) => return Err(self.explain(error).await),
        };
        self.wrote();
        let report = StreamReport { name: entry.name.clone(), size: entry.size };
        self.streams.push(entry);
        Ok(report)
    }

    /// Stores something small beside the disks. At most 16 MiB.
    pub async fn attach(&mut self, name: &str, media_type: &str, bytes: Bytes) -> Result<()> {
        if bytes.len() > MAX_ATTACHMENT_BYTES {
            return Err(Error::invalid_input("An attachment has at most 16 MiB: store it as a stream")
                .with_context("attachment", name));
        }
        if self.attachments.iter().any(|attachment| attachment.stream.name == name) {
            return Err(Error::invalid_input("The restore point has an attachment of this name already")
                .with_context("attachment", name));
        }
        self.writing()?;
        let stream = match self.store_stream(name, futures::stream::iter([Ok(bytes)]).boxed()).await {
            Ok(stream) => stream,
            Err(error) => return Err(self.explain(error).await),
        };
        self.wrote();
        self.attachments.push(AttachmentEntry { stream, media_type: media_type.to_owned() });
        Ok(())
    }

    /// Takes a stream over from the parent as it is there. False when the parent does not have it in this size.
    pub(in crate::repository) fn keep_stream(&mut self, name: &str, size: u64) -> bool {
        let kept = self.parent.as_ref().and_then(|parent| {
            parent.record.streams.iter().find(|stream| stream.name == name && stream.size == size).cloned()
        });
        self.streams.extend(kept.clone());
        kept.is_some()
    }

    /// The same for an attachment.
    pub(in crate::repository) fn keep_attachment(&mut self, name: &str, size: u64) -> bool {
        let kept = self.parent.as_ref().and_then(|parent| {
            let same = |it: &&AttachmentEntry| it.stream.name == name && it.stream.size == size;
            parent.record.attachments.iter().find(same).cloned()
        });
        self.attachments.extend(kept.clone());
        kept.is_some()
    }

    async fn store_stream(&self, name: &str, mut bytes: BoxStream<'static, Result<Bytes>>) -> Result<StreamEntry> {
        let task = self.ctx.task(name, None);
        let mut map = StreamMapBuilder::new(Arc::clone(&self.store) as _);
        let mut cutter = StreamCutter::new(self.store.ids());
        let (mut waiting, mut held) = (Vec::new(), 0);
        while let Some(piece) = self.ctx.or_cancelled(async { bytes.next().await.transpose() }).await? {
            task.advance(piece.len() as u64);
            // What a source hands over in one piece may be large; the cutter sees it in bounded steps.
            for step in piece.chunks(BATCH_BYTES) {
                cutter.push(step, &mut |chunk| waiting.push(Bytes::copy_from_slice(chunk)));
                held += step.len();
                if held >= BATCH_BYTES {
                    self.store_chunks(std::mem::take(&mut waiting), &mut map).await?;
                    held = 0;
                }
            }
        }
        cutter.finish(&mut |chunk| waiting.push(Bytes::copy_from_slice(chunk)));
        self.store_chunks(waiting, &mut map).await?;
        let (root, size) = map.finish().await?;
        Ok(StreamEntry { name: name.to_owned(), size, root, chunker: STREAM_CHUNKER.to_owned() })
    }

    async fn store_chunks(&self, plain: Vec<Bytes>, map: &mut StreamMapBuilder) -> Result<()> {
        let keys = self.store.ids().clone();
        let chunks: Vec<(ChunkId, Bytes)> =
            self.ctx.cpu(move || Ok(plain.into_iter().map(|plain| (keys.chunk_id(&plain), plain)).collect())).await?;
        for (id, plain) in &chunks {
            map.push(StreamChunk { bytes: plain.len() as u32, id: *id }).await?;
        }
        self.store.store(chunks).await?;
        self.checkpoint().await
    }
}
