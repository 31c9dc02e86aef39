//! The repository: write-once objects on a storage backend; chunked, deduplicated, compressed, encrypted, signed.
//!
//! `docs/format.md` describes every byte. Reading order: [`Repository`], then `write/` (session, disk, commit), then `read/`.

pub mod chunk;
pub mod crypto;
pub mod format;
#[doc(hidden)]
pub mod fuzzing;
pub mod ids;
pub mod index;
pub mod keys;
pub mod map;
pub mod pack;

mod cache;
mod chain;
mod check;
mod collect;
mod compress;
mod diff;
mod forget;
mod hold;
mod init;
mod lost;
mod mirrored;
#[doc(hidden)]
pub mod mutation;
mod nodes;
mod objects;
mod open;
mod packs;
mod points;
mod read;
mod repair;
mod replicate;
mod rotated;
mod scrub;
mod slots;
mod state;
mod stats;
#[cfg(feature = "synthetic")]
#[doc(hidden)]
pub mod synthetic;
mod view;
mod write;

use std::sync::Arc;

use backstay_core::{Result, StorageBackend};

pub use check::{AgainstReport, CheckDepth, CheckReport, DifferentObject, Finding};
pub use collect::{PruneOptions, PruneReport, WaitingSession};
pub use compress::Compression;
pub use diff::DiffReport;
pub use forget::ForgetReport;
pub use hold::{Hold, Inventory};
pub use ids::PackId;
pub use init::{InitOptions, Initialized, NewSlot};
pub use keys::{Capability, Credential, RecipientKey, SecretKey};
pub use lost::Lost;
pub use points::PointSelector;
pub use read::{ReadSession, StoredDisk, StoredStream};
pub use repair::{BadPoint, DamagedPack, IndexRepair, LostOfPoint, PackRepair, PointRepair, RepairOptions};
pub use replicate::{CopiedPoint, CopyOptions, PlannedPoint, PointState, Replication};
pub use scrub::{ScrubOptions, ScrubReport, scrub};
pub use slots::{AddedKey, KeySlot, NewKey, NewKeyKind, Rotation};
pub use stats::RepositoryStats;
pub use write::{DiskChanges, DiskOptions, DiskReport, PointDetails, SessionOptions, StreamReport, WriteSession};

use format::config::Config;
use objects::Objects;

/// An open repository. Cheap to clone; clones share keys and caches.
#[derive(Clone)]
pub struct Repository {
    shared: Arc<Shared>,
}

struct Shared {
    objects: Objects,
    config: Config,
    packs: packs::Packs,
    way_in: Option<open::WayIn>,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository").field("at", &self.location()).finish_non_exhaustive()
    }
}

impl Repository {
    fn new(objects: Objects, config: Config, way_in: Option<open::WayIn>) -> Self {
        let packs = packs::Packs::new(objects.clone());
        Self { shared: Arc::new(Shared { objects, config, packs, way_in }) }
    }

    /// Where it lies, for people.
    #[must_use]
    pub fn location(&self) -> String {
        self.backend().location()
    }

    /// Its id: 32 hex digits.
    #[must_use]
    pub fn id(&self) -> String {
        hex::encode(self.shared.config.repository)
    }

    /// The backend it lies on.
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn StorageBackend> {
        self.shared.objects.backend()
    }

    /// What the key that it was opened with can do.
    #[must_use]
    pub fn capability(&self) -> Capability {
        self.shared.objects.keyring().capability()
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    fn objects(&self) -> &Objects {
        &self.shared.objects
    }

    fn packs(&self) -> &packs::Packs {
        &self.shared.packs
    }

    async fn state(&self) -> Result<state::State> {
        let state = state::State::load(self.objects(), &self.shared.config.owner).await?;
        rotated::must_be_current(self.objects(), &state.chain)?;
        Ok(state)
    }

    /// The chain; `Conflict` when keys were rotated since the repository was opened.
    async fn chain(&self) -> Result<chain::Chain> {
        let chain = chain::Chain::load(self.objects(), &self.shared.config.owner).await?;
        rotated::must_be_current(self.objects(), &chain)?;
        Ok(chain)
    }
}
