use std::{panic::AssertUnwindSafe, sync::Arc};

use backstay_testkit::queue::conformance;
use futures::FutureExt;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_queue_passes() {
    conformance(async || Arc::new(MemoryQueue::new()) as Arc<dyn JobQueue>).await;
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    IgnoresTime,
    IgnoresKeys,
    AnybodyCompletes,
    LeasesNeverEnd,
    CancelDoesNothing,
    ForgetsPriority,
}

#[derive(Debug)]
struct Flawed(MemoryQueue, Flaw);

#[async_trait]
impl JobQueue for Flawed {
    async fn submit(&self, mut spec: JobSpec) -> Result<JobId> {
        match self.1 {
            Flaw::IgnoresKeys => spec.dedup_key = None,
            Flaw::ForgetsPriority => spec.priority = 0,
            _ => {}
        }
        self.0.submit(spec).await
    }
    async fn lease(&self, worker: &WorkerId, ttl: Duration, now: Timestamp) -> Result<Option<LeasedJob>> {
        let now = if self.1 == Flaw::IgnoresTime { now.plus_seconds(1000) } else { now };
        let ttl = if self.1 == Flaw::LeasesNeverEnd { Duration::from_secs(1 << 30) } else { ttl };
        self.0.lease(worker, ttl, now).await
    }
    async fn renew(&self, job: &JobId, worker: &WorkerId, ttl: Duration, now: Timestamp) -> Result<Timestamp> {
        self.0.renew(job, worker, ttl, now).await
    }
    async fn complete(&self, job: &JobId, worker: &WorkerId, outcome: JobOutcome, now: Timestamp) -> Result<()> {
        let holder = self.0.jobs().find(job)?.holder(now).cloned();
        let worker = holder.filter(|_| self.1 == Flaw::AnybodyCompletes).unwrap_or_else(|| worker.clone());
        self.0.complete(job, &worker, outcome, now).await
    }
    async fn cancel(&self, job: &JobId) -> Result<()> {
        if self.1 == Flaw::CancelDoesNothing { Ok(()) } else { self.0.cancel(job).await }
    }
    async fn state(&self, job: &JobId, now: Timestamp) -> Result<JobState> {
        self.0.state(job, now).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_with_any_flaw_fails_the_suite() {
    use Flaw::{AnybodyCompletes, CancelDoesNothing, ForgetsPriority, IgnoresKeys, IgnoresTime, LeasesNeverEnd};
    for flaw in [IgnoresTime, IgnoresKeys, AnybodyCompletes, LeasesNeverEnd, CancelDoesNothing, ForgetsPriority] {
        let suite = conformance(async || Arc::new(Flawed(MemoryQueue::new(), flaw)) as Arc<dyn JobQueue>);
        assert!(AssertUnwindSafe(suite).catch_unwind().await.is_err(), "{flaw:?} was not found");
    }
}
