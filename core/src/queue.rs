//! Work for workers: submitted once, leased for a while, done once.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{JobId, RestorePointId, Result, Timestamp, WorkerId, WorkloadId};

/// What a job does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobKind {
    /// Back a workload up.
    Backup {
        /// Which.
        workload: WorkloadId,
    },
    /// Bring a point back.
    Restore {
        /// Which.
        point: RestorePointId,
    },
    /// Prove that a point can be brought back.
    Verify {
        /// Which.
        point: RestorePointId,
    },
    /// Give space back.
    Prune,
}

/// A job as it is submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSpec {
    /// What it does.
    pub kind: JobKind,
    /// Not before this.
    pub run_after: Timestamp,
    /// Higher goes first.
    pub priority: i16,
    /// While a job with the same key waits or runs, another is not taken: submitting it gives the id of the first.
    pub dedup_key: Option<String>,
}

/// A job that a worker holds until the lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasedJob {
    /// Its id.
    pub id: JobId,
    /// What was submitted.
    pub spec: JobSpec,
    /// 1 for the first worker that has it.
    pub attempt: u32,
    /// Another worker may get it after this.
    pub lease_until: Timestamp,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum JobOutcome {
    /// As it should.
    Succeeded,
    /// With this error, for people.
    Failed {
        /// What went wrong.
        message: String,
    },
}

/// Where a job stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum JobState {
    /// Nobody has it.
    Waiting,
    /// A worker has it.
    Leased {
        /// Who.
        worker: WorkerId,
    },
    /// It ended.
    Done(JobOutcome),
    /// It was cancelled before it ended.
    Cancelled,
}

/// A queue of jobs. Every call names the moment it happens at: a queue has no clock of its own.
#[async_trait]
pub trait JobQueue: fmt::Debug + Send + Sync + 'static {
    /// Takes a job.
    async fn submit(&self, spec: JobSpec) -> Result<JobId>;

    /// Gives the worker the most urgent job that may run now: by priority, then `run_after`, then submission. A job whose
    /// lease ended counts as waiting.
    async fn lease(&self, worker: &WorkerId, ttl: Duration, now: Timestamp) -> Result<Option<LeasedJob>>;

    /// Makes the lease longer. [`crate::ErrorKind::Conflict`] when the worker no longer holds it.
    async fn renew(&self, job: &JobId, worker: &WorkerId, ttl: Duration, now: Timestamp) -> Result<Timestamp>;

    /// Ends the job. [`crate::ErrorKind::Conflict`] when the worker no longer holds it.
    async fn complete(&self, job: &JobId, worker: &WorkerId, outcome: JobOutcome, now: Timestamp) -> Result<()>;

    /// Cancels a job that has not ended; fine when it was cancelled before. [`crate::ErrorKind::Conflict`] when it is done.
    async fn cancel(&self, job: &JobId) -> Result<()>;

    /// Where the job stands now.
    async fn state(&self, job: &JobId, now: Timestamp) -> Result<JobState>;
}
