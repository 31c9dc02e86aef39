//! Which ways in there are.

use backstay_core::{ErrorKind, Result};
use futures::{StreamExt, TryStreamExt, stream};

use super::{KeySlot, signer_text};
use crate::repository::{
    Repository,
    chain::Chain,
    format::chain::RosterEntry,
    keys::{MAX_SLOT_BYTES, Slot},
    state::SMALL_READS,
};

impl Repository {
    /// The ways in, in the order in which they were added. `PermissionDenied` for anybody but an owner.
    pub async fn keys(&self) -> Result<Vec<KeySlot>> {
        self.must_be_owner("list keys")?;
        let chain = self.chain().await?;
        self.slots_of(&chain).await
    }

    pub(super) async fn slots_of(&self, chain: &Chain) -> Result<Vec<KeySlot>> {
        stream::iter(chain.roster.clone())
            .map(|entry| async move { self.describe(&entry).await })
            .buffered(SMALL_READS)
            .try_collect()
            .await
    }

    /// What the roster and the slot say. A slot that is damaged is listed all the same, so that it can be removed.
    pub(super) async fn describe(&self, entry: &RosterEntry) -> Result<KeySlot> {
        let (kind, label) = match self.slot(&entry.slot).await {
            Ok(slot) => (slot.kind.name(), slot.label),
            Err(error) if error.kind() == ErrorKind::NotFound => ("missing", String::new()),
            Err(error) if matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Unsupported) => {
                ("damaged", String::new())
            }
            Err(error) => return Err(error),
        };
        Ok(KeySlot {
            id: hex::encode(entry.slot),
            kind,
            capability: entry.capability,
            label,
            signer: signer_text(entry.signer),
            opened: self.shared.way_in.as_ref().is_some_and(|way_in| way_in.slot == entry.slot),
        })
    }

    /// A slot that the owner has signed.
    pub(super) async fn slot(&self, id: &[u8; 16]) -> Result<Slot> {
        let key = Slot::key(id)?;
        let damaged = || backstay_core::Error::integrity("A key slot is damaged").with_context("object", &key);
        if self.backend().head(&key).await?.size > MAX_SLOT_BYTES as u64 {
            return Err(damaged());
        }
        let slot = Slot::from_object(&key, &self.backend().get(&key).await?)?;
        let ours = slot.owner == self.config().owner && slot.repository == self.config().repository;
        if ours { Ok(slot) } else { Err(damaged()) }
    }
}
