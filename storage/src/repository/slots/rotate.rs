//! New keys, and ways in that end.

use std::collections::BTreeSet;

use backstay_core::{Context, Error, ErrorKind, ObjectKey, Result, Retry};
use futures::{StreamExt, TryStreamExt, stream};

use super::{ATTEMPTS, KeySlot, Rotation, add::keys_record, too_many};
use crate::repository::{
    Repository,
    chain::Chain,
    format::chain::{Change, RosterEntry},
    keys::{Capability, EpochKeys, EpochShare, Keyring, Slot},
    objects::Objects,
    state::SMALL_READS,
};

impl Repository {
    /// Draws fresh keys for what is written from now on. Content that is stored is not sealed anew, and goes on deduplicating.
    ///
    /// Other processes get a retryable `Conflict` and open the repository again; backups that run may finish. The next `prune`
    /// settles what they leave.
    pub async fn rotate(&self, ctx: &Context) -> Result<Rotation> {
        self.must_be_owner("rotate keys")?;
        self.new_epoch(None, ctx).await
    }

    /// Takes a way in, named by its id or the first four or more digits of it, off the roster and draws fresh keys: with it nothing
    /// opens that is written from now on. What it could read before, whoever has it may have copied.
    ///
    /// `NotFound`: there is no such slot; `InvalidInput`: it is the last owner, or the one that this repository was opened with.
    pub async fn remove_key(&self, slot: &str, ctx: &Context) -> Result<Rotation> {
        self.must_be_owner("remove keys")?;
        self.new_epoch(Some(slot), ctx).await
    }

    async fn new_epoch(&self, leaving: Option<&str>, ctx: &Context) -> Result<Rotation> {
        for _ in 0..ATTEMPTS {
            ctx.check()?;
            let repository = self.current().await?;
            let chain = repository.chain().await?;
            let leaving = match leaving {
                None => None,
                Some(slot) => match repository.leaving(&chain, slot).await? {
                    Leaving::Now(entry) => Some(entry),
                    // An earlier run got that far.
                    Leaving::Gone => {
                        repository.tidy(&chain.former, ctx).await?;
                        return Ok(Rotation { epoch: chain.epoch, repository, removed: None });
                    }
                },
            };
            if let Some(rotation) = repository.start_epoch(&chain, leaving, ctx).await? {
                return Ok(rotation);
            }
        }
        Err(too_many())
    }

    /// `None`: somebody else was faster.
    async fn start_epoch(
        &self,
        chain: &Chain,
        leaving: Option<RosterEntry>,
        ctx: &Context,
    ) -> Result<Option<Rotation>> {
        let record_number = chain.head + 1;
        let mut record = keys_record(chain, self.next_epoch(chain, ctx)?, |roster| {
            roster.retain(|entry| leaving.as_ref().is_none_or(|leaving| leaving.slot != entry.slot));
        });
        let keys = EpochKeys::generate(record.epoch, ctx)?;
        if !self.put_shares(&record.roster, &keys, record_number, ctx).await? {
            return Ok(None);
        }
        let removed = match leaving {
            None => None,
            Some(mut entry) => {
                let slot = self.describe(&entry).await?;
                entry.until = Some(record_number);
                record.former.push(entry);
                Some(slot)
            }
        };
        let (epoch, former) = (record.epoch, record.former.clone());
        if !chain.append(self.objects(), Change::Keys(record), None, ctx).await? {
            return Ok(None);
        }
        let mut bundle = self.objects().keyring().bundle().clone();
        bundle.add_epoch(keys);
        let keyring = Keyring::new(self.config().repository, bundle, epoch);
        keyring.saw_keys(record_number);
        let objects = Objects::new(std::sync::Arc::clone(self.backend()), std::sync::Arc::new(keyring));
        let repository = Self::new(objects, self.config().clone(), self.shared.way_in.clone());
        // The change is made; what is left over is only in the way.
        if let Err(error) = repository.tidy(&former, ctx).await {
            ctx.task("remove what is left of keys", None).warn(format!("Removed keys stay in the store: {error}"));
        }
        Ok(Some(Rotation { repository, epoch, removed }))
    }

    /// A number that no other owner takes at the same time for other keys.
    fn next_epoch(&self, chain: &Chain, ctx: &Context) -> Result<u32> {
        let bundle = self.objects().keyring().bundle();
        loop {
            let jump = u32::from(u16::from_le_bytes(ctx.random()?)) + 1;
            let number = chain.epoch.checked_add(jump).ok_or_else(|| {
                Error::unsupported("The repository's keys were rotated as often as they can be: make a new repository")
            })?;
            if bundle.epochs.iter().all(|keys| keys.epoch != number) {
                return Ok(number);
            }
        }
    }

    /// `false`: somebody else has taken the number.
    async fn put_shares(&self, roster: &[RosterEntry], keys: &EpochKeys, record: u64, ctx: &Context) -> Result<bool> {
        let repository = self.config().repository;
        // The recovery slot and a key file of one person are different slots; the test kit lists one several times.
        let mut seen = BTreeSet::new();
        let slots: Vec<_> = roster.iter().filter(|entry| seen.insert(entry.slot)).cloned().collect();
        let puts = stream::iter(slots).map(|entry| async move {
            ctx.check()?;
            let share = EpochShare::create(&entry, keys, record, repository, ctx)?;
            let object = share.to_object(self.objects().keyring().bundle(), repository)?;
            self.objects().put_new(&EpochShare::key(&entry.slot, keys.epoch)?, object.into(), ctx).await
        });
        match puts.buffer_unordered(SMALL_READS).try_collect::<Vec<()>>().await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict && error.retry() == Retry::Never => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn leaving(&self, chain: &Chain, slot: &str) -> Result<Leaving> {
        let slot = slot.to_ascii_lowercase();
        if slot.len() < 4 || !slot.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(Error::invalid_input(
                "A key is named by the first four or more digits of its id; see `key list`",
            ));
        }
        let of = |entries: &[RosterEntry]| -> Vec<RosterEntry> {
            entries.iter().filter(|entry| hex::encode(entry.slot).starts_with(&slot)).cloned().collect()
        };
        let mut found = of(&chain.roster);
        let Some(entry) = found.pop() else {
            return match of(&chain.former).is_empty() {
                true => Err(Error::not_found("There is no such key; see `key list`").with_context("key", slot)),
                false => Ok(Leaving::Gone),
            };
        };
        if !found.is_empty() {
            return Err(
                Error::invalid_input("Several keys begin like this; give more digits").with_context("key", slot)
            );
        }
        let owners = chain.roster.iter().filter(|other| other.capability == Capability::Owner).count();
        if entry.capability == Capability::Owner && owners == 1 {
            return Err(Error::invalid_input(
                "This is the last owner's key: without it nobody could ever change keys again. Add another owner's key first",
            ));
        }
        if self.shared.way_in.as_ref().is_some_and(|way_in| way_in.slot == entry.slot) {
            return Err(Error::invalid_input(
                "The repository was opened with this very key: open it with another owner's key to remove this one",
            ));
        }
        Ok(Leaving::Now(entry))
    }

    /// Removes the slots and shares of those who were taken off the roster. They open nothing new; they cost openers their time.
    async fn tidy(&self, former: &[RosterEntry], ctx: &Context) -> Result<()> {
        for entry in former {
            ctx.check()?;
            let mut keys: Vec<ObjectKey> = self
                .backend()
                .list(Some(&EpochShare::folder(&entry.slot)?))
                .map_ok(|meta| meta.key)
                .try_collect()
                .await?;
            let slot = Slot::key(&entry.slot)?;
            match self.backend().head(&slot).await {
                Ok(_) => keys.push(slot),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            for key in keys {
                self.delete_quietly(&key, ctx).await;
            }
        }
        Ok(())
    }
}

/// What becomes of a slot that is to be removed.
enum Leaving {
    Now(RosterEntry),
    Gone,
}

impl KeySlot {
    /// Whether whoever has it goes on being able to sign as the owner, whatever is removed.
    #[must_use]
    pub fn knows_owner_key(&self) -> bool {
        self.capability == Capability::Owner
    }
}
