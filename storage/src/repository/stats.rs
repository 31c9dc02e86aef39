//! How much there is.

use backstay_core::{ObjectKey, Result};
use futures::TryStreamExt;
use serde::Serialize;

use super::{Repository, index::Section, state::State, view::Tries};

/// How much a repository holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RepositoryStats {
    /// Restore points.
    pub points: u64,
    /// Workloads that have one.
    pub workloads: u64,
    /// Bytes of all disks and streams of all points, holes included.
    pub logical_bytes: u64,
    /// Chunks that committed sessions have stored.
    pub chunks: u64,
    /// Data packs.
    pub data_packs: u64,
    /// Bytes of those.
    pub data_bytes: u64,
    /// Packs of map nodes.
    pub meta_packs: u64,
    /// Bytes of those.
    pub meta_bytes: u64,
    /// Index segments.
    pub segments: u64,
    /// Bytes of those.
    pub index_bytes: u64,
    /// Bytes of everything in the repository.
    pub total_bytes: u64,
    /// The repository was made for one writer at a time, because its store may not keep what several need.
    pub single_writer: bool,
}

impl Repository {
    /// Counts what there is: one listing of everything and one read of every restore point.
    pub async fn stats(&self) -> Result<RepositoryStats> {
        let mut tries = Tries::default();
        loop {
            let state = self.state().await?;
            match self.stats_in(&state).await {
                Err(error) => tries.again(self, state.chain.head, error).await?,
                stats => return stats,
            }
        }
    }

    async fn stats_in(&self, state: &State) -> Result<RepositoryStats> {
        let points = self.stored_points(state).await?;
        let mut stats = RepositoryStats {
            points: points.len() as u64,
            single_writer: self.config().single_writer,
            ..RepositoryStats::default()
        };
        let workloads: std::collections::BTreeSet<_> = points.iter().map(|point| &point.record.workload).collect();
        stats.workloads = workloads.len() as u64;
        for point in &points {
            stats.logical_bytes += point.record.disks.iter().map(|disk| disk.size).sum::<u64>();
            stats.logical_bytes += point.record.streams.iter().map(|stream| stream.size).sum::<u64>();
        }
        let index = self.index(state, |_| true).await?;
        stats.chunks = index.segments().map(|segment| segment.records(Section::Data)).sum();
        let mut objects = self.backend().list(None);
        while let Some(meta) = objects.try_next().await? {
            stats.total_bytes += meta.size;
            let (count, bytes) = match folder(&meta.key) {
                "packs" => (&mut stats.data_packs, &mut stats.data_bytes),
                "meta" => (&mut stats.meta_packs, &mut stats.meta_bytes),
                "index" => (&mut stats.segments, &mut stats.index_bytes),
                _ => continue,
            };
            *count += 1;
            *bytes += meta.size;
        }
        drop(objects);
        Ok(stats)
    }
}

fn folder(key: &ObjectKey) -> &str {
    key.as_str().split('/').next().unwrap_or_default()
}
