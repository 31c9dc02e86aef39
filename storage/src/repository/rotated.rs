//! Telling a repository whose keys were rotated since it was opened from one that is damaged: the chain says which.

use backstay_core::{Error, Result};

use super::{
    chain::{Chain, chain_key, find_head},
    crypto::{ObjectType, envelope},
    format::chain::{ChainRecord, Change},
    objects::{Objects, Record},
};

/// How many records are looked at on the way back to the one that started an unknown epoch.
const MAX_STEPS: u64 = 4096;

/// What to do when keys were rotated.
fn error() -> Error {
    Error::conflict("The repository's keys were rotated: open the repository again").retryable()
}

/// Nobody writes with keys of an epoch that is over: whoever was removed could read it.
pub fn must_be_current(objects: &Objects, chain: &Chain) -> Result<()> {
    match objects.keyring().current_number() == chain.epoch {
        true => Ok(()),
        false => Err(error()),
    }
}

/// Why an object names an epoch without keys here: `Conflict` when the chain has started one, else `damaged`.
pub async fn explain(objects: &Objects, damaged: Error) -> Error {
    match unknown_epoch(objects).await {
        Ok(Some(_)) => error().with_source(damaged),
        Ok(None) => damaged,
        Err(error) => error,
    }
}

/// The record that started an epoch whose keys are not here. It is sealed in the epoch before it, so that everybody can tell.
/// Who has signed it is for the caller to look at.
pub async fn unknown_epoch(objects: &Objects) -> Result<Option<Record<ChainRecord>>> {
    let head = find_head(&**objects.backend()).await?;
    for number in (head.saturating_sub(MAX_STEPS)..=head).rev() {
        let key = chain_key(number)?;
        let object = objects.backend().get(&key).await?;
        let known =
            envelope::epoch_of(ObjectType::Chain, &object).is_ok_and(|epoch| objects.keyring().epoch(epoch).is_ok());
        if !known {
            continue;
        }
        let Ok(record) = objects.open_record::<ChainRecord>(&key, ObjectType::Chain, &object) else { return Ok(None) };
        let starts = matches!(&record.body.change, Change::Keys(keys) if objects.keyring().epoch(keys.epoch).is_err());
        return Ok(starts.then_some(record));
    }
    Ok(None)
}
