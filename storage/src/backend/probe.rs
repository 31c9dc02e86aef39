//! Finding out what a store really does.

use backstay_core::{BackendCapabilities, Context, ErrorKind, ObjectKey, PutMode, Result, ResultExt, StorageBackend};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream::FuturesUnordered};

/// Creates that race for one key.
const RACERS: usize = 16;

/// The promises that held when they were tried. Call it when a repository is made: a store that ignores `If-None-Match` lets
/// two writers overwrite each other silently.
///
/// Puts a few objects of some bytes below `probe/` and deletes them again. A promise that held in one race may break
/// in another; one that did not hold is certainly not kept. Errors are those of the store: no access, no bucket.
pub async fn probe(backend: &dyn StorageBackend, ctx: &Context) -> Result<BackendCapabilities> {
    let folder = ObjectKey::new(format!("probe/{}", hex::encode(ctx.random::<16>()?)))?;
    let found = try_promises(backend, &folder, ctx).await;
    let cleaned = clean(backend, &folder).await;
    let found = found?;
    cleaned.context("at", backend.location())?;
    Ok(found)
}

async fn try_promises(backend: &dyn StorageBackend, folder: &ObjectKey, ctx: &Context) -> Result<BackendCapabilities> {
    let at = backend.location();
    let refused = ctx.or_cancelled(second_create_is_refused(backend, folder)).await.context("at", &at)?;
    let raced = refused && ctx.or_cancelled(one_of_many_wins(backend, folder)).await.context("at", &at)?;
    let listed = ctx.or_cancelled(list_shows_puts(backend, folder)).await.context("at", &at)?;
    Ok(BackendCapabilities::new(raced, listed))
}

async fn second_create_is_refused(backend: &dyn StorageBackend, folder: &ObjectKey) -> Result<bool> {
    let key = ObjectKey::new(format!("{folder}/twice"))?;
    create(backend, &key, "first").await?;
    let second = create(backend, &key, "second").await?;
    Ok(!second && backend.get(&key).await? == "first")
}

async fn one_of_many_wins(backend: &dyn StorageBackend, folder: &ObjectKey) -> Result<bool> {
    let key = ObjectKey::new(format!("{folder}/race"))?;
    let racer = |number: usize| {
        let key = &key;
        async move { Ok(create(backend, key, format!("racer {number}")).await?.then_some(number)) }
    };
    let racers: FuturesUnordered<_> = (0..RACERS).map(racer).collect();
    let winners: Vec<usize> = racers.try_filter_map(|winner| async move { Ok(winner) }).try_collect().await?;
    let body = backend.get(&key).await?;
    Ok(matches!(winners[..], [winner] if body == format!("racer {winner}")))
}

async fn list_shows_puts(backend: &dyn StorageBackend, folder: &ObjectKey) -> Result<bool> {
    for number in 0..4 {
        let key = ObjectKey::new(format!("{folder}/list/{number}"))?;
        create(backend, &key, "listed").await?;
        if !backend.list(Some(folder)).any(|meta| async { meta.is_ok_and(|meta| meta.key == key) }).await {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the create went through; that it was refused is no error here.
async fn create(backend: &dyn StorageBackend, key: &ObjectKey, body: impl Into<Bytes>) -> Result<bool> {
    match backend.put(key, body.into(), PutMode::Create).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// By name, since a list may not show everything.
async fn clean(backend: &dyn StorageBackend, folder: &ObjectKey) -> Result<()> {
    for name in ["twice", "race", "list/0", "list/1", "list/2", "list/3"] {
        backend.delete(&ObjectKey::new(format!("{folder}/{name}"))?).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
