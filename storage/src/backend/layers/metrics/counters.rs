//! Numbers that many tasks add to.

use std::{
    array,
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use backstay_core::{Error, ErrorKind};
use tokio::time::Instant;

use super::{Histogram, OperationMetrics, StoreMetrics};

/// Up to 2^31 microseconds, some 36 minutes, and one for what takes longer.
const BUCKETS: usize = 33;

#[derive(Default)]
pub(super) struct Counters {
    pub(super) put: Counter,
    pub(super) get: Counter,
    pub(super) get_range: Counter,
    pub(super) head: Counter,
    pub(super) delete: Counter,
    pub(super) list: Counter,
}

impl Counters {
    pub(super) fn snapshot(&self) -> StoreMetrics {
        StoreMetrics {
            put: self.put.snapshot(),
            get: self.get.snapshot(),
            get_range: self.get_range.snapshot(),
            head: self.head.snapshot(),
            delete: self.delete.snapshot(),
            list: self.list.snapshot(),
        }
    }
}

/// Of one operation.
pub(super) struct Counter {
    calls: AtomicU64,
    bytes: AtomicU64,
    abandoned: AtomicU64,
    errors: [AtomicU64; ErrorKind::ALL.len()],
    micros: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

impl Default for Counter {
    fn default() -> Self {
        Self {
            calls: AtomicU64::default(),
            bytes: AtomicU64::default(),
            abandoned: AtomicU64::default(),
            errors: array::from_fn(|_| AtomicU64::default()),
            micros: AtomicU64::default(),
            buckets: array::from_fn(|_| AtomicU64::default()),
        }
    }
}

/// Each number stands for itself, so no order between them is needed.
fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Counter {
    pub(super) fn start(&self) -> Running<'_> {
        add(&self.calls, 1);
        Running { counter: self, waited: Duration::ZERO, ended: false }
    }

    fn snapshot(&self) -> OperationMetrics {
        let counted = |kind: &ErrorKind| read(&self.errors[kind.code() as usize - 1]);
        OperationMetrics {
            calls: read(&self.calls),
            bytes: read(&self.bytes),
            abandoned: read(&self.abandoned),
            errors: ErrorKind::ALL
                .iter()
                .map(|kind| (kind.name().to_owned(), counted(kind)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            latency: Histogram { counts: self.buckets.iter().map(read).collect(), sum_micros: read(&self.micros) },
        }
    }
}

/// A call that has begun. Dropped without an end it was abandoned.
pub(super) struct Running<'a> {
    counter: &'a Counter,
    waited: Duration,
    ended: bool,
}

impl Running<'_> {
    pub(super) async fn wait<T>(&mut self, work: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let outcome = work.await;
        self.waited += start.elapsed();
        outcome
    }

    pub(super) fn end(mut self, outcome: Result<u64, &Error>) {
        self.ended = true;
        let micros = u64::try_from(self.waited.as_micros()).unwrap_or(u64::MAX);
        add(&self.counter.micros, micros);
        // 0 is in the first one, 2^n to 2^(n+1) - 1 in the one with the number n + 1.
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        add(&self.counter.buckets[bucket.min(BUCKETS - 1)], 1);
        match outcome {
            Ok(bytes) => add(&self.counter.bytes, bytes),
            Err(error) => add(&self.counter.errors[error.kind().code() as usize - 1], 1),
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            add(&self.counter.abandoned, 1);
        }
    }
}
