//! Progress of a session, so that it can be taken up again and is not taken for dead.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use backstay_core::{Context, Error, ErrorKind, RestorePointId, Result, Retry, Timestamp};

use super::{
    session::SessionOptions,
    store::{ChunkStore, Written},
};
use crate::repository::{
    crypto::ObjectType, format::session::SessionCheckpoint, ids::ObjectHash, objects::Objects, state::session_key,
};

/// More checkpoints than any session comes to.
const MAX_NUMBER: u64 = 1 << 32;

/// The checkpoints of one session.
pub struct Checkpoints {
    id: RestorePointId,
    bytes: u64,
    every: Duration,
    /// Held while one is put: two at once would name the same things.
    progress: tokio::sync::Mutex<Progress>,
    last: Mutex<Last>,
}

struct Progress {
    next: u64,
}

#[derive(Clone, Copy)]
struct Last {
    time: Timestamp,
    bytes: u64,
}

impl Checkpoints {
    /// For a session, which may have some already.
    pub fn new(id: RestorePointId, options: &SessionOptions, before: Option<&Resumed>, ctx: &Context) -> Self {
        Self {
            id,
            bytes: options.checkpoint_bytes.max(1),
            every: options.checkpoint_every,
            progress: tokio::sync::Mutex::new(Progress { next: before.map_or(0, |before| before.next) }),
            last: Mutex::new(Last { time: ctx.now(), bytes: 0 }),
        }
    }

    /// Puts one when enough was stored or enough time went by since the last.
    pub async fn when_due(&self, store: &ChunkStore, objects: &Objects, ctx: &Context) -> Result<()> {
        let due = {
            let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = ctx.now().as_nanos().saturating_sub(last.time.as_nanos());
            store.stored_bytes() - last.bytes >= self.bytes || i128::from(waited) >= self.every.as_nanos() as i128
        };
        if !due {
            return Ok(());
        }
        // Somebody is at it already: reading need not wait for that.
        let Ok(mut progress) = self.progress.try_lock() else { return Ok(()) };
        let bytes = store.stored_bytes();
        let written = store.indexed().await?;
        self.put(&mut progress, &written, None, objects, ctx).await?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Last { time: ctx.now(), bytes };
        Ok(())
    }

    /// Whether there are some.
    pub async fn any(&self) -> bool {
        self.progress.lock().await.next > 0
    }

    /// Names the point that is about to be put, if there were checkpoints before: a short session is quicker done anew.
    pub async fn last(&self, written: &Written, point: ObjectHash, objects: &Objects, ctx: &Context) -> Result<()> {
        let mut progress = self.progress.lock().await;
        if progress.next == 0 {
            return Ok(());
        }
        self.put(&mut progress, written, Some(point), objects, ctx).await
    }

    async fn put(
        &self,
        progress: &mut Progress,
        written: &Written,
        point: Option<ObjectHash>,
        objects: &Objects,
        ctx: &Context,
    ) -> Result<()> {
        let checkpoint = SessionCheckpoint {
            session: *self.id.as_bytes(),
            packs: written.packs.clone(),
            segments: written.segments.clone(),
            meta_packs: written.meta_packs.clone(),
            point,
        };
        while progress.next < MAX_NUMBER {
            let key = session_key(&self.id, &format!("checkpoint-{}", progress.next))?;
            progress.next += 1;
            match objects.put_record(&key, ObjectType::SessionCheckpoint, &checkpoint, ctx).await {
                // Another incarnation of this session has put that number. The outcome decides between the two.
                Err(error) if error.kind() == ErrorKind::Conflict && error.retry() == Retry::Never => {}
                put => return put.map(drop),
            }
        }
        Err(Error::internal("A session has impossibly many checkpoints"))
    }
}

/// What an earlier run of a session had put.
pub struct Resumed {
    /// Its packs and segments.
    pub checkpoint: SessionCheckpoint,
    /// The number of the next checkpoint.
    pub next: u64,
}
