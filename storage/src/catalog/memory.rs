//! Restore points in a map.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use backstay_core::{Catalog, Error, PointQuery, RestorePoint, RestorePointId, Result};

type Points = BTreeMap<RestorePointId, RestorePoint>;

/// A catalog in memory, for tests and for programs that fill it from a repository at every start.
#[derive(Debug, Default)]
pub struct MemoryCatalog(Mutex<Points>);

impl MemoryCatalog {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn points(&self) -> MutexGuard<'_, Points> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn matches(query: &PointQuery, point: &RestorePoint) -> bool {
    query.workload.as_ref().is_none_or(|workload| *workload == point.workload.id)
        && query.taken.as_ref().is_none_or(|taken| taken.contains(&point.time))
}

#[async_trait]
impl Catalog for MemoryCatalog {
    async fn record(&self, point: &RestorePoint) -> Result<()> {
        let mut points = self.points();
        match points.get(&point.id) {
            Some(known) if known == point => Ok(()),
            Some(_) => {
                Err(Error::conflict("Another restore point has this id; rebuild the catalog from the repositories")
                    .with_context("point", point.id))
            }
            None => {
                points.insert(point.id, point.clone());
                Ok(())
            }
        }
    }

    async fn forget(&self, point: &RestorePointId) -> Result<()> {
        self.points().remove(point);
        Ok(())
    }

    async fn get(&self, point: &RestorePointId) -> Result<RestorePoint> {
        let found = self.points().get(point).cloned();
        found.ok_or_else(|| Error::not_found("The catalog knows no such restore point").with_context("point", point))
    }

    async fn find(&self, query: &PointQuery) -> Result<Vec<RestorePoint>> {
        let points = self.points();
        let mut found: Vec<_> = points.values().filter(|point| matches(query, point)).collect();
        found.sort_by_key(|point| (Reverse(point.time), point.id));
        Ok(found.into_iter().take(query.limit.unwrap_or(usize::MAX)).cloned().collect())
    }
}
