//! Reading while collectors work: what a state names may be gone by the time it is looked at, because it was moved or because it was
//! forgotten. Then the state is read anew; only what the newest state still names and is not there is damage.

use std::sync::{Arc, PoisonError, RwLock};

use backstay_core::{Error, ErrorKind, RestorePointId, Result};

use super::{Repository, chain::Chain, index::Index, state::State};

/// How often something is tried again because the repository changed under it.
const ATTEMPTS: u32 = 8;

/// Counts tries of something that reads a state and what it names.
#[derive(Default)]
pub struct Tries(u32);

impl Tries {
    /// `Ok`: the state is older than the repository, so try again with a new one. Else the error is what it seems.
    pub async fn again(&mut self, repository: &Repository, state_head: u64, error: Error) -> Result<()> {
        self.0 += 1;
        if self.0 < ATTEMPTS && may_be_stale(&error) && Chain::moved_past(repository.objects(), state_head).await? {
            return Ok(());
        }
        Err(error)
    }
}

/// Whether this could come of looking at what a collector has taken away.
pub fn may_be_stale(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Integrity | ErrorKind::NotFound)
}

/// An index, as of some head.
#[derive(Clone)]
pub struct Seen {
    head: u64,
    /// It.
    pub index: Arc<Index>,
}

/// The index as those see it who read a point for a long time.
pub struct View {
    repository: Repository,
    /// The point that is read; `None` for those whose session keeps what they see in its place.
    point: Option<RestorePointId>,
    seen: RwLock<Seen>,
}

impl View {
    /// Of a point, as of this state.
    pub async fn of_point(repository: &Repository, state: &State, point: RestorePointId) -> Result<Arc<Self>> {
        let index = Arc::new(repository.index(state, |_| true).await?);
        let seen = RwLock::new(Seen { head: state.chain.head, index });
        Ok(Arc::new(Self { repository: repository.clone(), point: Some(point), seen }))
    }

    /// Of a point, with an index that was read for several, as of this head.
    pub fn of_index(repository: &Repository, head: u64, index: Arc<Index>, point: RestorePointId) -> Arc<Self> {
        Arc::new(Self { repository: repository.clone(), point: Some(point), seen: RwLock::new(Seen { head, index }) })
    }

    /// That stays as it is.
    pub fn fixed(repository: &Repository, index: Arc<Index>) -> Arc<Self> {
        Arc::new(Self { repository: repository.clone(), point: None, seen: RwLock::new(Seen { head: 0, index }) })
    }

    /// The repository.
    pub const fn repository(&self) -> &Repository {
        &self.repository
    }

    /// What is known now.
    pub fn seen(&self) -> Seen {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// After `error` came of looking at what was `seen`: something newer, if there is. `Conflict`: the point was forgotten.
    pub async fn newer(&self, seen: &Seen, error: Error) -> Result<Seen> {
        let Some(point) = self.point.filter(|_| may_be_stale(&error)) else { return Err(error) };
        let now = self.seen();
        if now.head > seen.head {
            return Ok(now);
        }
        let mut tries = Tries::default();
        loop {
            let state = self.repository.state().await?;
            if state.points().all(|(id, _)| *id != point) {
                return Err(Error::conflict("The restore point was forgotten while it was read").with_source(error));
            }
            if state.chain.head <= seen.head {
                return Err(error);
            }
            match self.repository.index(&state, |_| true).await {
                Ok(index) => {
                    let newer = Seen { head: state.chain.head, index: Arc::new(index) };
                    *self.seen.write().unwrap_or_else(PoisonError::into_inner) = newer.clone();
                    return Ok(newer);
                }
                Err(error) => tries.again(&self.repository, state.chain.head, error).await?,
            }
        }
    }
}
