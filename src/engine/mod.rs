//! One verb per file.

mod backup;
mod compare;
mod copy;
mod forget;
mod replicate;
mod restore;

use std::sync::Arc;

use backstay_core::{Catalog, Hypervisor};
use backstay_storage::Repository;

pub use backup::{BackupReport, BackupRequest, StreamRequest};
pub use compare::{CompareReport, compare};
pub use copy::copy;
pub use forget::{ForgetPlan, ForgetRequest};
pub use replicate::{ReplicateReport, ReplicateRequest, ReplicatedPoint};
pub use restore::{RestoreReport, RestoreRequest};

/// Joins a hypervisor, a repository and a catalog. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    repository: Repository,
    hypervisor: Option<Arc<dyn Hypervisor>>,
    catalog: Option<Arc<dyn Catalog>>,
}

impl Engine {
    /// An engine over a repository.
    #[must_use]
    pub const fn new(repository: Repository) -> Self {
        Self { repository, hypervisor: None, catalog: None }
    }

    /// Takes workloads from here and brings them back here.
    #[must_use]
    pub fn hypervisor(mut self, hypervisor: Arc<dyn Hypervisor>) -> Self {
        self.hypervisor = Some(hypervisor);
        self
    }

    /// Records every new restore point here.
    #[must_use]
    pub fn catalog(mut self, catalog: Arc<dyn Catalog>) -> Self {
        self.catalog = Some(catalog);
        self
    }

    /// The repository.
    #[must_use]
    pub const fn repository(&self) -> &Repository {
        &self.repository
    }
}
