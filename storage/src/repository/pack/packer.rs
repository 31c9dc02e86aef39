//! Takes frames from many tasks, fills packs and puts several at once while reading goes on.

use std::sync::{Mutex, PoisonError};

use backstay_core::{Context, Error, Result};
use tokio::{sync::Mutex as AsyncMutex, task::JoinSet};

use super::{FinishedPack, KeyEntry, PackBuilder, SealedBatch, pack_key};
use crate::repository::{crypto::Domain, ids::PackId, index::PackKind, objects::Objects};

/// What is known of a pack once it is safe in the store.
pub struct PackedFrame {
    /// The chunk's or node's id.
    pub id: [u8; 32],
    /// Where its frame begins.
    pub offset: u32,
    /// Bytes of the frame.
    pub stored: u32,
    /// Bytes of the content.
    pub plain: u32,
}

/// Fills packs of one sort for one session.
pub struct Packer {
    kind: PackKind,
    key: KeyEntry,
    structure_key: zeroize::Zeroizing<[u8; 32]>,
    domain: Domain,
    objects: Objects,
    nominal: usize,
    current: Mutex<Option<PackBuilder>>,
    uploads: AsyncMutex<JoinSet<Result<StoredPack>>>,
    ctx: Context,
}

/// A pack that is safe in the store.
pub struct StoredPack {
    /// Its id.
    pub id: PackId,
    /// Its sort.
    pub kind: PackKind,
    /// Its size in bytes.
    pub size: u64,
    /// Its frames.
    pub frames: Vec<PackedFrame>,
}

impl Packer {
    /// A packer that closes packs at `nominal` bytes.
    #[must_use]
    pub fn new(
        kind: PackKind,
        key: KeyEntry,
        structure_key: zeroize::Zeroizing<[u8; 32]>,
        domain: Domain,
        objects: Objects,
        nominal: usize,
        ctx: Context,
    ) -> Self {
        Self {
            kind,
            key,
            structure_key,
            domain,
            objects,
            nominal,
            current: Mutex::new(None),
            uploads: AsyncMutex::new(JoinSet::new()),
            ctx,
        }
    }

    /// Adds frames. Gives the packs that became safe meanwhile; waits while too many are on their way.
    pub async fn append(&self, batch: SealedBatch) -> Result<Vec<StoredPack>> {
        let mut full = Vec::new();
        {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            let mut at = 0;
            for (id, plain, stored) in batch.frames {
                let end = at + stored as usize;
                let builder = current.get_or_insert_with(|| {
                    // Small incrementals fill a few per cent of a pack: a large buffer is for those that need it.
                    let buffer = self.ctx.buffers().take(first_room(self.nominal, batch.bytes.len()));
                    PackBuilder::new(self.kind, self.key.clone(), buffer)
                });
                builder.push(&batch.bytes[at..end], [(id, plain, stored)]);
                at = end;
                if builder.len() >= self.nominal {
                    full.extend(current.take());
                }
            }
        }
        let mut stored = Vec::new();
        for builder in full {
            self.upload(builder, &mut stored).await?;
        }
        Ok(stored)
    }

    async fn upload(&self, builder: PackBuilder, stored: &mut Vec<StoredPack>) -> Result<()> {
        let mut uploads = self.uploads.lock().await;
        while uploads.len() >= self.ctx.limits().uploads.max(1) {
            if let Some(done) = self.ctx.or_cancelled(async { Ok(uploads.join_next().await) }).await? {
                stored.push(joined(done)?);
            }
        }
        while let Some(done) = uploads.try_join_next() {
            stored.push(joined(done)?);
        }
        let (key, domain) = (self.structure_key.clone(), self.domain);
        let (ctx, objects) = (self.ctx.clone(), self.objects.clone());
        uploads.spawn(async move {
            let seal = ctx.clone();
            let pack = ctx.cpu(move || builder.finish(&key, &domain, &seal)).await?;
            put(&objects, pack, &ctx).await
        });
        Ok(())
    }

    /// Closes the last pack and waits until all are safe.
    pub async fn finish(&self) -> Result<Vec<StoredPack>> {
        let last = self.current.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut stored = Vec::new();
        if let Some(builder) = last {
            self.upload(builder, &mut stored).await?;
        }
        let mut uploads = self.uploads.lock().await;
        while let Some(done) = self.ctx.or_cancelled(async { Ok(uploads.join_next().await) }).await? {
            stored.push(joined(done)?);
        }
        Ok(stored)
    }
}

/// Room to begin a pack with: for all of it when the first frames come in bulk.
const fn first_room(nominal: usize, batch: usize) -> usize {
    if batch > nominal / 16 { nominal + (2 << 20) } else { 1 << 20 }
}

fn joined(done: Result<Result<StoredPack>, tokio::task::JoinError>) -> Result<StoredPack> {
    done.unwrap_or_else(|error| Err(Error::internal("An upload was lost").with_source(error)))
}

async fn put(objects: &Objects, pack: FinishedPack, ctx: &Context) -> Result<StoredPack> {
    let size = pack.bytes.len() as u64;
    objects.put_new(&pack_key(pack.kind, &pack.id)?, pack.bytes, ctx).await?;
    let frame = |(offset, frame): (u32, &super::FrameRecord)| PackedFrame {
        id: frame.id,
        offset,
        stored: frame.stored,
        plain: frame.plain,
    };
    let frames = pack.directory.with_offsets().map(frame).collect();
    Ok(StoredPack { id: pack.id, kind: pack.kind, size, frames })
}
