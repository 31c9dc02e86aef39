//! What every long operation is given: how to stop, whom to tell, what time it is, where to run.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc};

use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{BufferPool, Error, EventSink, Limits, NoEvents, Result, Task, TaskId, Timestamp};

/// Tells the time. Time decides when to act, never what is safe.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The clock of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::system()
    }
}

/// Gives unpredictable bytes. Keys, nonces and ids come from here, so a seeded one is for tests alone.
pub trait RandomSource: Send + Sync + 'static {
    /// Fills the buffer or fails; never gives less.
    fn fill(&self, buffer: &mut [u8]) -> Result<()>;
}

/// The random source of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl RandomSource for OsRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<()> {
        getrandom::fill(buffer)
            .map_err(|error| Error::internal("The operating system gave no random bytes").with_context("cause", error))
    }
}

/// A job for a [`Spawner`].
pub type Job = Box<dyn FnOnce() + Send + 'static>;

/// Runs jobs that must not run on the async runtime's own threads.
pub trait Spawner: Send + Sync + 'static {
    /// Runs a job that waits: file reads, `fsync`.
    fn spawn_blocking(&self, job: Job);
    /// Runs a job that computes. The [`Context`] never starts more at once than [`Limits::cpu_jobs`].
    fn spawn_cpu(&self, job: Job);
}

/// Runs both kinds of jobs on the blocking threads of the tokio runtime that the call comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioSpawner;

impl Spawner for TokioSpawner {
    fn spawn_blocking(&self, job: Job) {
        drop(tokio::task::spawn_blocking(job));
    }

    fn spawn_cpu(&self, job: Job) {
        drop(tokio::task::spawn_blocking(job));
    }
}

/// What every long operation is given. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Context {
    cancel: CancellationToken,
    events: Arc<dyn EventSink>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn RandomSource>,
    spawner: Arc<dyn Spawner>,
    limits: Arc<Limits>,
    cpu: Arc<Semaphore>,
    buffers: BufferPool,
    parent: Option<TaskId>,
}

impl Default for Context {
    /// This machine's clock, randomness and tokio runtime; no events; default limits.
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            cancel: CancellationToken::new(),
            events: Arc::new(NoEvents),
            clock: Arc::new(SystemClock),
            random: Arc::new(OsRandom),
            spawner: Arc::new(TokioSpawner),
            cpu: Arc::new(Semaphore::new(limits.effective_cpu_jobs())),
            limits: Arc::new(limits),
            buffers: BufferPool::default(),
            parent: None,
        }
    }
}

impl Context {
    /// Uses this token to stop.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancellationToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Sends events here.
    #[must_use]
    pub fn with_events(mut self, events: Arc<dyn EventSink>) -> Self {
        self.events = events;
        self
    }

    /// Uses this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Uses this random source.
    #[must_use]
    pub fn with_random(mut self, random: Arc<dyn RandomSource>) -> Self {
        self.random = random;
        self
    }

    /// Runs jobs here.
    #[must_use]
    pub fn with_spawner(mut self, spawner: Arc<dyn Spawner>) -> Self {
        self.spawner = spawner;
        self
    }

    /// Uses these limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.cpu = Arc::new(Semaphore::new(limits.effective_cpu_jobs().max(1)));
        self.limits = Arc::new(limits);
        self
    }

    /// Makes tasks started from now on part of this one.
    #[must_use]
    pub fn within(mut self, task: &Task) -> Self {
        self.parent = Some(task.id());
        self
    }

    /// The token that stops the operation.
    #[must_use]
    pub const fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// The limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Large buffers to use again.
    #[must_use]
    pub const fn buffers(&self) -> &BufferPool {
        &self.buffers
    }

    /// Now, by the context's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// `N` unpredictable bytes.
    pub fn random<const N: usize>(&self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Starts a task of the event stream.
    #[must_use]
    pub fn task(&self, name: &str, total: Option<u64>) -> Task {
        Task::start(Arc::clone(&self.events), self.parent, name, total)
    }

    /// Fails with [`crate::ErrorKind::Cancelled`] when the operation was cancelled.
    pub fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }

    /// Waits for `work` unless the operation is cancelled first; then `work` is dropped.
    pub async fn or_cancelled<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.cancel.run_until_cancelled(work).await.unwrap_or_else(|| Err(Error::cancelled()))
    }

    /// Runs a job that waits (files, `fsync`) off the async threads. A panic in it comes back as an error.
    ///
    /// Dropping the future does not stop a job that has begun.
    pub async fn blocking<T: Send + 'static>(&self, job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let (job, done) = boxed(job);
        self.spawner.spawn_blocking(job);
        done.await.unwrap_or_else(|_| Err(lost()))
    }

    /// Runs a job that computes, waiting until one of [`Limits::cpu_jobs`] is free. A panic comes back as an error.
    pub async fn cpu<T: Send + 'static>(&self, job: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let permit = Arc::clone(&self.cpu).acquire_owned().await.map_err(|_| lost())?;
        let (job, done) = boxed(move || {
            let outcome = job();
            drop(permit);
            outcome
        });
        self.spawner.spawn_cpu(job);
        done.await.unwrap_or_else(|_| Err(lost()))
    }
}

fn boxed<T: Send + 'static>(job: impl FnOnce() -> Result<T> + Send + 'static) -> (Job, oneshot::Receiver<Result<T>>) {
    let (tell, done) = oneshot::channel();
    let run = move || {
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(job));
        let outcome = outcome.unwrap_or_else(|_| Err(Error::internal("A background job panicked; please report this")));
        // The caller may have gone away; then nobody wants the outcome.
        let _unwanted = tell.send(outcome);
    };
    (Box::new(run), done)
}

fn lost() -> Error {
    Error::internal("The runtime dropped a background job, as it does when it shuts down")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[tokio::test]
    async fn a_panic_in_a_job_is_an_internal_error() {
        let ctx = Context::default();
        let outcome: Result<()> = ctx.cpu(|| panic!("on purpose")).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(ctx.cpu(|| Ok(7)).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_cancelled_context_stops_what_waits() {
        let ctx = Context::default();
        ctx.cancel().cancel();
        let outcome: Result<()> = ctx.or_cancelled(std::future::pending()).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(ctx.check().unwrap_err().kind(), ErrorKind::Cancelled);
    }
}
