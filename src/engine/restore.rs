//! A stored disk back into a sink.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use backstay_core::{Context, DiskId, DiskSink, DiskSource, Result};
use backstay_storage::repository::PointSelector;

use super::Engine;

/// What to bring back.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RestoreRequest {
    /// Of which point.
    pub point: PointSelector,
    /// Which disk.
    pub disk: DiskId,
    /// Which bytes of it; all when `None`.
    pub range: Option<Range<u64>>,
    /// Whether bytes that a repair has found to be lost are restored as zeros; else a restore of them is refused.
    pub lost_as_zeros: bool,
}

impl RestoreRequest {
    /// All of a disk.
    #[must_use]
    pub const fn new(point: PointSelector, disk: DiskId) -> Self {
        Self { point, disk, range: None, lost_as_zeros: false }
    }

    /// Sets [`Self::range`].
    #[must_use]
    pub const fn range(mut self, range: Range<u64>) -> Self {
        self.range = Some(range);
        self
    }

    /// Sets [`Self::lost_as_zeros`].
    #[must_use]
    pub const fn lost_as_zeros(mut self, zeros: bool) -> Self {
        self.lost_as_zeros = zeros;
        self
    }
}

/// What became of a restore.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RestoreReport {
    /// Bytes of the disk that were restored, holes included.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Bytes of the disk that are lost: zeros were written in their place.
    pub lost: Vec<Range<u64>>,
}

impl Engine {
    /// Restores a disk, or a range of it, and commits the sink: it is durable when this returns. After an error the sink is
    /// dropped, which leaves nothing that looks finished.
    pub async fn restore_disk(
        &self,
        request: &RestoreRequest,
        sink: Box<dyn DiskSink>,
        ctx: &Context,
    ) -> Result<RestoreReport> {
        let started = Instant::now();
        let point = self.repository.point(&request.point).await?.id;
        let held = self.repository.read_session(&[point], ctx).await?;
        let work = async {
            let selector = PointSelector::Id(point.to_string());
            let stored = self.repository.disk(&selector, &request.disk, ctx).await?;
            let range = request.range.clone().unwrap_or(0..stored.size());
            let stored = if request.lost_as_zeros { stored.lost_as_zeros() } else { stored };
            stored.restore_to(&*sink, range.clone(), ctx).await?;
            let lost = stored.lost().within(range.clone()).collect();
            Ok((range, lost))
        };
        let restored = match &held {
            Some(held) => held.during(work).await,
            None => work.await,
        };
        if let Some(held) = held {
            held.close().await;
        }
        let (range, lost) = restored?;
        sink.commit().await?;
        Ok(RestoreReport { bytes: range.end - range.start, elapsed: started.elapsed(), lost })
    }
}
