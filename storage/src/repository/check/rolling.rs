//! What was read when: so that checks which read a share each come to everything, whoever runs them.
//!
//! The memory is small signed records below `checks/`. They decide which packs are read first and nothing else, so that one which is
//! lost, damaged or made up costs a pack that is read again early, or late.

use std::collections::HashMap;

use backstay_core::{Context, Error, ErrorKind, ObjectKey, Result, Task};
use futures::{StreamExt, TryStreamExt, stream};

use super::{CheckReport, Listing};
use crate::repository::{
    Repository,
    crypto::ObjectType,
    format::checks::{CheckRecord, Prefix, prefix},
    ids::PackId,
    index::PackKind,
    state::{SMALL_READS, State},
};

/// Records that may come together before they are merged into one.
const MANY_RECORDS: usize = 16;
/// Packs that are read between two records: what a check that is cut off has done in vain at most.
const PACKS_A_RECORD: usize = 1024;

/// A pack to be read.
pub(super) type Pack = (PackId, PackKind, u64);

/// What earlier checks have read.
pub(super) struct Memory {
    /// When each pack was read last.
    rounds: HashMap<Prefix, u32>,
    /// The round of this check.
    round: u32,
    /// The records there are.
    keys: Vec<ObjectKey>,
    /// Whether one of them cannot be read.
    damaged: bool,
    /// Whether this check can add to it; `None` when nobody knows yet.
    pub writable: Option<bool>,
}

impl Repository {
    /// Reads what earlier checks have written down.
    pub(super) async fn check_memory(&self, state: &State, report: &mut CheckReport) -> Result<Memory> {
        let folder = ObjectKey::new("checks")?;
        let keys: Vec<_> = self.backend().list(Some(&folder)).map_ok(|meta| meta.key).try_collect().await?;
        let writable = if self.objects().keyring().bundle().signer().is_none() { Some(false) } else { None };
        let mut memory = Memory { rounds: HashMap::new(), round: 1, keys: keys.clone(), damaged: false, writable };
        let reads: Vec<_> = keys
            .into_iter()
            .map(|key| async move {
                let read = self.objects().get_record::<CheckRecord>(&key, ObjectType::CheckRecord).await;
                let read = read.and_then(|record| match state.chain.may_end(&record.signer, 0, |_| true) {
                    true => Ok(record.body.entries()?.collect::<Vec<_>>()),
                    false => Err(Error::integrity("A record of what was read is not signed by anybody on the roster")),
                });
                read.map_err(|error| error.with_context("object", &key))
            })
            .collect();
        let mut reads = stream::iter(reads).buffer_unordered(SMALL_READS);
        while let Some(read) = reads.next().await {
            match read {
                Ok(entries) => entries.into_iter().for_each(|(pack, round)| {
                    let last = memory.rounds.entry(pack).or_default();
                    *last = round.max(*last);
                    memory.round = memory.round.max(round.saturating_add(1));
                }),
                // Another check has merged it meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    report.note::<()>(Err(error))?;
                    memory.damaged = true;
                }
            }
        }
        drop(reads);
        Ok(memory)
    }

    /// Writes down what was read; `false` when this key or store does not let it.
    async fn remember(&self, memory: &mut Memory, read: &[Pack], task: &Task, ctx: &Context) -> Result<bool> {
        let entries: Vec<_> = read.iter().map(|(id, ..)| (prefix(id), memory.round)).collect();
        if !entries.is_empty() && memory.writable != Some(false) {
            let put = self.put_check_record(memory.round, entries.iter().copied(), ctx).await;
            memory.writable = Some(put.is_ok());
            match put {
                Ok(key) => memory.keys.push(key),
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
        if memory.writable == Some(false) {
            task.warn("What this check reads cannot be written down here, so that it reads packs at random");
            return Ok(false);
        }
        memory.rounds.extend(entries);
        Ok(true)
    }

    async fn put_check_record(
        &self,
        round: u32,
        read: impl IntoIterator<Item = (Prefix, u32)>,
        ctx: &Context,
    ) -> Result<ObjectKey> {
        let id: [u8; 16] = ctx.random()?;
        let key = ObjectKey::new(format!("checks/{round}-{}", hex::encode(id)))?;
        let record = CheckRecord::new(ctx.now().as_nanos(), read);
        self.objects().put_record(&key, ObjectType::CheckRecord, &record, ctx).await?;
        Ok(key)
    }

    /// Puts one record in the place of many, without packs that are gone.
    async fn merge_checks(&self, memory: Memory, listing: &Listing, task: &Task, ctx: &Context) -> Result<()> {
        let many = memory.keys.len() > MANY_RECORDS || memory.damaged;
        if !many || !self.capability().may_collect() {
            return Ok(());
        }
        let there: std::collections::HashSet<_> = listing.keys().map(prefix).collect();
        let mut rounds: Vec<_> = memory.rounds.into_iter().filter(|(pack, _)| there.contains(pack)).collect();
        rounds.sort_unstable();
        self.put_check_record(memory.round, rounds, ctx).await?;
        for key in &memory.keys {
            ctx.check()?;
            match self.backend().delete(key).await {
                Ok(()) => {}
                // Locked, or kept by a store that lets nobody delete: it does no harm.
                Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::PermissionDenied) => {
                    task.warn(format!("An old record of what was read could not be removed: {error}"));
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads those packs that were not read for the longest time, up to a share and a number of bytes.
    pub(super) async fn read_rolling(
        &self,
        state: &State,
        listing: &Listing,
        share: &super::Share,
        report: &mut CheckReport,
        ctx: &Context,
    ) -> Result<()> {
        let mut memory = self.check_memory(state, report).await?;
        let mut packs = self.shuffled(listing, ctx)?;
        let all = share.percent == 100 && share.bytes.is_none();
        if !all && memory.writable.is_none() {
            // Those of one round stay shuffled.
            packs.sort_by_key(|(id, ..)| memory.rounds.get(&prefix(id)).copied().unwrap_or(0));
        }
        let count = (packs.len() * usize::from(share.percent)).div_ceil(100);
        let task =
            ctx.task("read packs", Some(bounded(&packs, count, share.bytes).iter().map(|(_, _, size)| size).sum()));
        if all || memory.writable == Some(false) {
            if !all {
                self.remember(&mut memory, &[], &task, ctx).await?;
            }
            self.read_some(bounded(&packs, count, share.bytes), &task, report, ctx).await?;
            return if all { self.merge_checks(memory, listing, &task, ctx).await } else { Ok(()) };
        }
        let chosen = bounded(&packs, count, share.bytes).len();
        let (mut done, mut step) = (0, 1);
        while done < chosen {
            let part = &packs[done..(done + step).min(chosen)];
            let whole = self.read_some(part, &task, report, ctx).await?;
            done += part.len();
            // The first record is that of one pack: when it is refused, the rest is read at random.
            if !self.remember(&mut memory, &whole, &task, ctx).await? && memory.writable == Some(false) {
                let mut rest = self.shuffled(listing, ctx)?;
                rest.retain(|pack| !packs[..done].contains(pack));
                rest.truncate(chosen - done);
                let bytes = share.bytes.map(|bytes| bytes.saturating_sub(report.bytes_read));
                self.read_some(bounded(&rest, rest.len(), bytes), &task, report, ctx).await?;
                report.remembered = false;
                return Ok(());
            }
            step = PACKS_A_RECORD;
        }
        report.remembered = true;
        self.merge_checks(memory, listing, &task, ctx).await
    }

    fn shuffled(&self, listing: &Listing, ctx: &Context) -> Result<Vec<Pack>> {
        let mut packs: Vec<_> = listing.iter().map(|(id, (kind, size))| (*id, *kind, *size)).collect();
        let seed: [u8; 32] = ctx.random()?;
        packs.sort_by_cached_key(|(id, ..)| *blake3::keyed_hash(&seed, id.as_bytes()).as_bytes());
        Ok(packs)
    }
}

/// As many as the share says, and no more bytes than are asked for; one at least.
fn bounded(packs: &[Pack], count: usize, bytes: Option<u64>) -> &[Pack] {
    let mut left = bytes.unwrap_or(u64::MAX);
    let fits = packs.iter().take(count).take_while(|(_, _, size)| {
        let fits = *size <= left;
        left = left.saturating_sub(*size);
        fits
    });
    &packs[..fits.count().max(1).min(packs.len())]
}
