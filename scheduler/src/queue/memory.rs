//! Jobs in a map.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use backstay_core::{Error, JobId, JobOutcome, JobQueue, JobSpec, JobState, LeasedJob, Result, Timestamp, WorkerId};

/// A queue in memory: for one process, and for tests. It ends with the process and remembers every job until then; an
/// answer takes time in proportion to the jobs it holds.
#[derive(Debug, Default)]
pub struct MemoryQueue(Mutex<Jobs>);

#[derive(Debug, Default)]
struct Jobs {
    /// By the number of their submission.
    jobs: BTreeMap<u64, Job>,
    next: u64,
}

#[derive(Debug)]
struct Job {
    spec: JobSpec,
    attempts: u32,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Waiting,
    Leased { worker: WorkerId, until: Timestamp },
    Done(JobOutcome),
    Cancelled,
}

impl Job {
    /// Who holds it now: nobody once the lease ended.
    fn holder(&self, now: Timestamp) -> Option<&WorkerId> {
        match &self.stage {
            Stage::Leased { worker, until } if now < *until => Some(worker),
            _ => None,
        }
    }

    const fn ended(&self) -> bool {
        matches!(self.stage, Stage::Done(_) | Stage::Cancelled)
    }

    fn due(&self, now: Timestamp) -> bool {
        !self.ended() && self.holder(now).is_none() && self.spec.run_after <= now
    }

    fn check_holder(&self, worker: &WorkerId, now: Timestamp) -> Result<()> {
        if self.holder(now) == Some(worker) {
            return Ok(());
        }
        Err(Error::conflict("The worker no longer holds this job; stop working on it").with_context("worker", worker))
    }
}

impl Jobs {
    fn find(&mut self, id: &JobId) -> Result<&mut Job> {
        let number = id.as_str().strip_prefix("job-").and_then(|number| number.parse().ok());
        let job = number.and_then(|number: u64| self.jobs.get_mut(&number));
        job.ok_or_else(|| Error::not_found("The queue knows no such job").with_context("job", id))
    }
}

fn id_of(number: u64) -> Result<JobId> {
    JobId::new(format!("job-{number}"))
}

fn end_of_lease(now: Timestamp, ttl: Duration) -> Timestamp {
    let ttl = i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX);
    Timestamp::from_nanos(now.as_nanos().saturating_add(ttl))
}

impl MemoryQueue {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl JobQueue for MemoryQueue {
    async fn submit(&self, spec: JobSpec) -> Result<JobId> {
        let mut jobs = self.jobs();
        let alive = |job: &&Job| spec.dedup_key.is_some() && job.spec.dedup_key == spec.dedup_key && !job.ended();
        if let Some((number, _)) = jobs.jobs.iter().find(|(_, job)| alive(job)) {
            return id_of(*number);
        }
        let number = jobs.next;
        jobs.next += 1;
        jobs.jobs.insert(number, Job { spec, attempts: 0, stage: Stage::Waiting });
        id_of(number)
    }

    async fn lease(&self, worker: &WorkerId, ttl: Duration, now: Timestamp) -> Result<Option<LeasedJob>> {
        let mut jobs = self.jobs();
        let due = jobs.jobs.iter_mut().filter(|(_, job)| job.due(now));
        let Some((number, job)) =
            due.min_by_key(|(number, job)| (Reverse(job.spec.priority), job.spec.run_after, **number))
        else {
            return Ok(None);
        };
        let until = end_of_lease(now, ttl);
        job.attempts += 1;
        job.stage = Stage::Leased { worker: worker.clone(), until };
        Ok(Some(LeasedJob { id: id_of(*number)?, spec: job.spec.clone(), attempt: job.attempts, lease_until: until }))
    }

    async fn renew(&self, job: &JobId, worker: &WorkerId, ttl: Duration, now: Timestamp) -> Result<Timestamp> {
        let mut jobs = self.jobs();
        let job = jobs.find(job)?;
        job.check_holder(worker, now)?;
        let until = end_of_lease(now, ttl);
        job.stage = Stage::Leased { worker: worker.clone(), until };
        Ok(until)
    }

    async fn complete(&self, job: &JobId, worker: &WorkerId, outcome: JobOutcome, now: Timestamp) -> Result<()> {
        let mut jobs = self.jobs();
        let job = jobs.find(job)?;
        job.check_holder(worker, now)?;
        job.stage = Stage::Done(outcome);
        Ok(())
    }

    async fn cancel(&self, id: &JobId) -> Result<()> {
        let mut jobs = self.jobs();
        let job = jobs.find(id)?;
        if let Stage::Done(_) = job.stage {
            return Err(Error::conflict("The job is done; there is nothing left to cancel").with_context("job", id));
        }
        job.stage = Stage::Cancelled;
        Ok(())
    }

    async fn state(&self, job: &JobId, now: Timestamp) -> Result<JobState> {
        let mut jobs = self.jobs();
        let job = jobs.find(job)?;
        Ok(match &job.stage {
            Stage::Done(outcome) => JobState::Done(outcome.clone()),
            Stage::Cancelled => JobState::Cancelled,
            _ => job.holder(now).map_or(JobState::Waiting, |worker| JobState::Leased { worker: worker.clone() }),
        })
    }
}

#[cfg(test)]
mod tests;
