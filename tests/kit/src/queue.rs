//! What every [`JobQueue`] does.

use std::{fmt::Debug, sync::Arc, time::Duration};

use backstay_core::{
    ErrorKind, JobId, JobKind, JobOutcome, JobQueue, JobSpec, JobState, LeasedJob, Result, Timestamp, WorkerId,
};
use futures::future::join_all;

const TTL: Duration = Duration::from_secs(60);

/// Runs every check, each on a fresh, empty queue that `fresh` makes. Panics where the queue is wrong.
pub async fn conformance(fresh: impl AsyncFn() -> Arc<dyn JobQueue>) {
    jobs_come_in_the_order_of_urgency(&*fresh().await).await;
    a_job_waits_for_its_time(&*fresh().await).await;
    a_key_is_taken_once_while_it_lives(&*fresh().await).await;
    a_lease_ends_unless_it_is_renewed(&*fresh().await).await;
    only_the_holder_ends_a_job(&*fresh().await).await;
    a_cancelled_job_is_not_leased(&*fresh().await).await;
    one_job_goes_to_one_worker(fresh().await).await;
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_nanos(1_000_000_000_000_000_000).plus_seconds(seconds)
}

fn worker(name: &str) -> WorkerId {
    WorkerId::new(name).expect("a fine name")
}

fn spec(priority: i16, run_after: i64) -> JobSpec {
    JobSpec { kind: JobKind::Prune, run_after: at(run_after), priority, dedup_key: None }
}

fn kind<T: Debug>(outcome: Result<T>, what: &str) -> ErrorKind {
    outcome.expect_err(what).kind()
}

async fn submit(queue: &dyn JobQueue, spec: JobSpec) -> JobId {
    queue.submit(spec).await.expect("submit")
}

async fn lease(queue: &dyn JobQueue, name: &str, now: i64) -> Option<LeasedJob> {
    queue.lease(&worker(name), TTL, at(now)).await.expect("lease")
}

async fn state(queue: &dyn JobQueue, job: &JobId, now: i64) -> JobState {
    queue.state(job, at(now)).await.expect("state")
}

async fn jobs_come_in_the_order_of_urgency(queue: &dyn JobQueue) {
    assert_eq!(lease(queue, "a", 0).await, None, "an empty queue gives nothing");
    let mut due = Vec::new();
    for (place, (priority, run_after)) in [(3, (0, -5)), (2, (0, -9)), (4, (0, -5)), (1, (7, -1)), (5, (-7, -99))] {
        due.push((place, submit(queue, spec(priority, run_after)).await));
    }
    due.sort();
    for (place, job) in due {
        let leased = lease(queue, "a", 0).await.expect("a job is due");
        assert_eq!(leased.id, job, "priority, then run_after, then submission: this one is number {place}");
        assert_eq!((leased.attempt, leased.lease_until), (1, at(60)));
    }
    assert_eq!(lease(queue, "b", 0).await, None, "what is leased is not given again");
}

async fn a_job_waits_for_its_time(queue: &dyn JobQueue) {
    let sent = spec(3, 10);
    let job = submit(queue, sent.clone()).await;
    assert_eq!(lease(queue, "a", 9).await, None);
    assert_eq!(state(queue, &job, 9).await, JobState::Waiting);
    let leased = lease(queue, "a", 10).await.expect("its time has come");
    assert_eq!((&leased.id, &leased.spec), (&job, &sent), "the job comes as it was submitted");
    assert_eq!(state(queue, &job, 10).await, JobState::Leased { worker: worker("a") });
}

async fn a_key_is_taken_once_while_it_lives(queue: &dyn JobQueue) {
    let keyed = |key: &str| JobSpec { dedup_key: Some(key.into()), ..spec(0, 0) };
    let first = submit(queue, keyed("web")).await;
    assert_eq!(submit(queue, keyed("web")).await, first, "while it waits");
    assert_ne!(submit(queue, keyed("database")).await, first, "another key is another job");
    assert_ne!(submit(queue, spec(0, 0)).await, submit(queue, spec(0, 0)).await, "no key is no key");
    assert_eq!(lease(queue, "a", 0).await.expect("a job is due").id, first);
    assert_eq!(submit(queue, keyed("web")).await, first, "while it runs");
    queue.complete(&first, &worker("a"), JobOutcome::Succeeded, at(1)).await.expect("complete");
    let second = submit(queue, keyed("web")).await;
    assert_ne!(second, first, "after it ended the key is free");
    queue.cancel(&second).await.expect("cancel");
    assert_ne!(submit(queue, keyed("web")).await, second, "after it was cancelled the key is free");
}

async fn a_lease_ends_unless_it_is_renewed(queue: &dyn JobQueue) {
    let job = submit(queue, spec(0, 0)).await;
    lease(queue, "a", 0).await.expect("a job is due");
    assert_eq!(queue.renew(&job, &worker("a"), TTL, at(50)).await.expect("renew"), at(110));
    assert_eq!(lease(queue, "b", 109).await, None, "a renewed lease holds");
    assert_eq!(state(queue, &job, 110).await, JobState::Waiting, "a lease that ended counts as waiting");
    let again = lease(queue, "b", 110).await.expect("the lease ended");
    assert_eq!((again.id, again.attempt), (job.clone(), 2));
    let late = queue.renew(&job, &worker("a"), TTL, at(111)).await;
    assert_eq!(kind(late, "the first worker comes too late"), ErrorKind::Conflict);
    let late = queue.complete(&job, &worker("a"), JobOutcome::Succeeded, at(111)).await;
    assert_eq!(kind(late, "the first worker comes too late"), ErrorKind::Conflict);
    // Nobody else has it, but the lease is over all the same: another worker may get it at this very moment.
    let late = queue.renew(&job, &worker("b"), TTL, at(170)).await;
    assert_eq!(kind(late, "a lease that ended cannot be renewed"), ErrorKind::Conflict);
    let late = queue.complete(&job, &worker("b"), JobOutcome::Succeeded, at(170)).await;
    assert_eq!(kind(late, "a job whose lease ended cannot be completed"), ErrorKind::Conflict);
}

async fn only_the_holder_ends_a_job(queue: &dyn JobQueue) {
    let job = submit(queue, spec(0, 0)).await;
    let early = queue.complete(&job, &worker("a"), JobOutcome::Succeeded, at(0)).await;
    assert_eq!(kind(early, "nobody holds it yet"), ErrorKind::Conflict);
    lease(queue, "a", 0).await.expect("a job is due");
    let other = queue.complete(&job, &worker("b"), JobOutcome::Succeeded, at(1)).await;
    assert_eq!(kind(other, "another worker"), ErrorKind::Conflict);
    let failed = JobOutcome::Failed { message: "the disk is gone".into() };
    queue.complete(&job, &worker("a"), failed.clone(), at(1)).await.expect("complete");
    assert_eq!(state(queue, &job, 2).await, JobState::Done(failed));
    assert_eq!(lease(queue, "a", 9999).await, None, "what is done is not given again");
    let twice = queue.complete(&job, &worker("a"), JobOutcome::Succeeded, at(2)).await;
    assert_eq!(kind(twice, "it ended already"), ErrorKind::Conflict);
    assert_eq!(kind(queue.cancel(&job).await, "it ended already"), ErrorKind::Conflict);
    let absent = JobId::new("no-such-job").expect("a fine name");
    assert_eq!(kind(queue.state(&absent, at(0)).await, "no such job"), ErrorKind::NotFound);
    assert_eq!(kind(queue.cancel(&absent).await, "no such job"), ErrorKind::NotFound);
    assert_eq!(kind(queue.renew(&absent, &worker("a"), TTL, at(0)).await, "no such job"), ErrorKind::NotFound);
}

async fn a_cancelled_job_is_not_leased(queue: &dyn JobQueue) {
    let (waiting, held) = (submit(queue, spec(0, 5)).await, submit(queue, spec(0, 0)).await);
    lease(queue, "a", 0).await.expect("a job is due");
    for job in [&waiting, &held, &held] {
        queue.cancel(job).await.expect("cancel");
        assert_eq!(state(queue, job, 1).await, JobState::Cancelled);
    }
    assert_eq!(lease(queue, "b", 9999).await, None);
    let renewed = queue.renew(&held, &worker("a"), TTL, at(1)).await;
    assert_eq!(kind(renewed, "its worker learns of it"), ErrorKind::Conflict);
}

async fn one_job_goes_to_one_worker(queue: Arc<dyn JobQueue>) {
    for _ in 0..20 {
        submit(&*queue, spec(0, 0)).await;
    }
    let workers = (0..50).map(|number| {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move { lease(&*queue, &format!("w{number}"), 0).await.map(|job| job.id) })
    });
    let mut got: Vec<_> = join_all(workers).await.into_iter().filter_map(|task| task.expect("lease")).collect();
    assert_eq!(got.len(), 20, "every job goes to a worker");
    got.sort();
    got.dedup();
    assert_eq!(got.len(), 20, "and none to two");
}
