//! The records: `lost/<point>/<n>`, each put if absent after the one before.

use std::collections::{BTreeMap, HashSet};

use backstay_core::{Context, Error, ErrorKind, ObjectKey, RestorePointId, Result};
use futures::{StreamExt, TryStreamExt, stream};

use super::LostParts;
use crate::repository::{
    Repository,
    chain::Chain,
    crypto::ObjectType,
    format::lost::LostRecord,
    hold::{is_damage, is_taken},
    ids::{NodeId, PackId},
    keys::Capability,
    state::{SMALL_READS, State},
};

/// How often a record is tried under the next number.
const ATTEMPTS: usize = 16;

/// The newest record of a point.
pub struct Known {
    pub number: u64,
    /// An error: whatever is lost, this record does not say.
    pub record: Result<LostRecord>,
}

impl Repository {
    /// The newest record of a point, if there is any.
    pub async fn lost_of(&self, chain: &Chain, point: &RestorePointId) -> Result<Option<Known>> {
        let folder = ObjectKey::new(format!("lost/{point}"))?;
        Ok(self.lost_in(&folder, chain, |id| id == point).await?.remove(point))
    }

    /// The newest records of the points that exist.
    pub async fn lost_records(&self, state: &State) -> Result<BTreeMap<RestorePointId, Known>> {
        let live: HashSet<_> = state.points().map(|(id, _)| *id).collect();
        self.lost_in(&ObjectKey::new("lost")?, &state.chain, |id| live.contains(id)).await
    }

    /// The map nodes that are known to be lost.
    pub async fn lost_nodes(&self, state: &State) -> Result<HashSet<NodeId>> {
        let records = self.lost_records(state).await?.into_values().filter_map(|known| known.record.ok());
        let parts = records.flat_map(|record| record.disks.into_iter().chain(record.streams));
        Ok(parts.flat_map(|part| part.nodes).collect())
    }

    async fn lost_in(
        &self,
        folder: &ObjectKey,
        chain: &Chain,
        wanted: impl Fn(&RestorePointId) -> bool,
    ) -> Result<BTreeMap<RestorePointId, Known>> {
        let mut numbers: BTreeMap<RestorePointId, u64> = BTreeMap::new();
        let mut listing = self.backend().list(Some(folder));
        while let Some(meta) = listing.try_next().await? {
            if let Some((point, number)) = parse_lost_key(&meta.key).filter(|(point, _)| wanted(point)) {
                let newest = numbers.entry(point).or_default();
                *newest = number.max(*newest);
            }
        }
        drop(listing);
        let reads: Vec<_> = numbers
            .into_iter()
            .map(|(point, number)| async move {
                let record = match self.read_lost(chain, &point, number).await {
                    Err(error) if !is_damage(&error) && error.kind() != ErrorKind::NotFound => return Err(error),
                    record => record,
                };
                Ok((point, Known { number, record }))
            })
            .collect();
        stream::iter(reads).buffer_unordered(SMALL_READS).try_collect().await
    }

    async fn read_lost(&self, chain: &Chain, point: &RestorePointId, number: u64) -> Result<LostRecord> {
        let key = lost_key(point, number)?;
        let record = self.objects().get_record::<LostRecord>(&key, ObjectType::Lost).await?;
        let genuine = record.body.point == *point.as_bytes() && record.body.number == number;
        // Who was taken off the roster has said the truth once, as far as anybody knows.
        if !genuine || !chain.may_end(&record.signer, 0, Capability::may_collect) {
            let error = Error::integrity("A record of lost ranges is not signed by anybody who may repair");
            return Err(error.with_context("object", key));
        }
        Ok(record.body)
    }

    /// Writes down what is lost of a point.
    pub async fn put_lost(
        &self,
        point: &RestorePointId,
        newest: u64,
        parts: LostParts,
        packs: &[PackId],
        ctx: &Context,
    ) -> Result<()> {
        let mut record = LostRecord {
            point: *point.as_bytes(),
            number: newest,
            time: ctx.now().as_nanos(),
            disks: parts.disks,
            streams: parts.streams,
            packs: packs.to_vec(),
        };
        for _ in 0..ATTEMPTS {
            record.number = record.number.checked_add(1).ok_or_else(|| {
                Error::integrity("The newest record of lost ranges has an absurd number: remove that object")
                    .with_context("point", point)
            })?;
            match self.objects().put_record(&lost_key(point, record.number)?, ObjectType::Lost, &record, ctx).await {
                Ok(_) => return Ok(()),
                // Another repair was faster: what this one knows is as new.
                Err(error) if is_taken(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::conflict("Others repair the same repository; try again").retryable())
    }
}

fn lost_key(point: &RestorePointId, number: u64) -> Result<ObjectKey> {
    ObjectKey::new(format!("lost/{point}/{number}"))
}

fn parse_lost_key(key: &ObjectKey) -> Option<(RestorePointId, u64)> {
    let (point, number) = key.as_str().strip_prefix("lost/")?.split_once('/')?;
    let (point, number) = (point.parse().ok()?, number.parse().ok()?);
    (lost_key(&point, number).ok()? == *key).then_some((point, number))
}
