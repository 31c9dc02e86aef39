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

#[cfg(test)]
mod tests {
    use std::{panic::AssertUnwindSafe, sync::Arc};

    use backstay_testkit::catalog::conformance;
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_memory_catalog_passes() {
        conformance(async || Arc::new(MemoryCatalog::new()) as Arc<dyn Catalog>).await;
    }

    #[derive(Clone, Copy, Debug)]
    enum Flaw {
        RecordsOver,
        ForgetsNothing,
        OldestFirst,
        IgnoresTheLimit,
        IgnoresTheWorkload,
    }

    #[derive(Debug)]
    struct Flawed(MemoryCatalog, Flaw);

    #[async_trait]
    impl Catalog for Flawed {
        async fn record(&self, point: &RestorePoint) -> Result<()> {
            if let Flaw::RecordsOver = self.1 {
                self.0.forget(&point.id).await?;
            }
            self.0.record(point).await
        }
        async fn forget(&self, point: &RestorePointId) -> Result<()> {
            if let Flaw::ForgetsNothing = self.1 { Ok(()) } else { self.0.forget(point).await }
        }
        async fn get(&self, point: &RestorePointId) -> Result<RestorePoint> {
            self.0.get(point).await
        }
        async fn find(&self, query: &PointQuery) -> Result<Vec<RestorePoint>> {
            let mut query = query.clone();
            match self.1 {
                Flaw::IgnoresTheLimit => query.limit = None,
                Flaw::IgnoresTheWorkload => query.workload = None,
                _ => {}
            }
            let mut found = self.0.find(&query).await?;
            if let Flaw::OldestFirst = self.1 {
                found.reverse();
            }
            Ok(found)
        }
    }

    #[tokio::test]
    async fn a_catalog_with_any_flaw_fails_the_suite() {
        use Flaw::{ForgetsNothing, IgnoresTheLimit, IgnoresTheWorkload, OldestFirst, RecordsOver};
        for flaw in [RecordsOver, ForgetsNothing, OldestFirst, IgnoresTheLimit, IgnoresTheWorkload] {
            let suite = conformance(async || Arc::new(Flawed(MemoryCatalog::new(), flaw)) as Arc<dyn Catalog>);
            assert!(AssertUnwindSafe(suite).catch_unwind().await.is_err(), "{flaw:?} was not found");
        }
    }
}
