//! A task that reports itself through the [`crate::Context`]'s events.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use crate::{Event, EventSink, TaskId};

/// A running task: started when made, finished when dropped.
///
/// `advance` may be called for every chunk from many threads; an event goes out for every whole percent (or 4 MiB when
/// there is no total), so that a sink sees a bounded number of them.
pub struct Task {
    id: TaskId,
    events: Arc<dyn EventSink>,
    total: AtomicU64,
    done: AtomicU64,
    reported: AtomicU64,
    started: Instant,
}

const NO_TOTAL: u64 = u64::MAX;
const STEP_WITHOUT_TOTAL: u64 = 4 << 20;
static NEXT: AtomicU64 = AtomicU64::new(1);

impl Task {
    pub(crate) fn start(events: Arc<dyn EventSink>, parent: Option<TaskId>, name: &str, total: Option<u64>) -> Self {
        let id = TaskId(NEXT.fetch_add(1, Ordering::Relaxed));
        events.emit(Event::Started { task: id, parent, name: name.into(), total });
        Self {
            id,
            events,
            total: AtomicU64::new(total.unwrap_or(NO_TOTAL)),
            done: AtomicU64::new(0),
            reported: AtomicU64::new(0),
            started: Instant::now(),
        }
    }

    /// Its place in the task tree.
    #[must_use]
    pub const fn id(&self) -> TaskId {
        self.id
    }

    /// How much is done.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Tells how much there is to do, when that is known only later.
    pub fn set_total(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.report(self.done());
    }

    /// Adds to what is done.
    pub fn advance(&self, amount: u64) {
        let done = self.done.fetch_add(amount, Ordering::Relaxed) + amount;
        let total = self.total.load(Ordering::Relaxed);
        let step = if total == NO_TOTAL { STEP_WITHOUT_TOTAL } else { (total / 100).max(1) };
        let reported = self.reported.load(Ordering::Relaxed);
        let due = done >= reported.saturating_add(step) || done == total;
        if due && self.reported.compare_exchange(reported, done, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.report(done);
        }
    }

    /// Tells the operator something that does not stop the task.
    pub fn warn(&self, message: impl AsRef<str>) {
        self.events.emit(Event::Warned { task: self.id, message: message.as_ref().into() });
    }

    /// A task that is part of this one.
    #[must_use]
    pub fn child(&self, name: &str, total: Option<u64>) -> Self {
        Self::start(Arc::clone(&self.events), Some(self.id), name, total)
    }

    fn report(&self, done: u64) {
        let total = Some(self.total.load(Ordering::Relaxed)).filter(|total| *total != NO_TOTAL);
        self.events.emit(Event::Progressed { task: self.id, done, total });
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.report(self.done());
        self.events.emit(Event::Finished { task: self.id, elapsed: self.started.elapsed() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, Recorder};

    #[test]
    fn a_task_reports_a_bounded_number_of_steps_and_its_end() {
        let recorder = Arc::new(Recorder::default());
        let ctx = Context::default().with_events(recorder.clone());
        let task = ctx.task("copy", Some(1_000_000));
        (0..1_000_000).for_each(|_| task.advance(1));
        task.warn("look");
        drop(task);
        let events = recorder.events();
        assert!(events.len() < 110, "{}", events.len());
        assert!(matches!(events.last(), Some(Event::Finished { .. })));
        assert_eq!(recorder.warnings(), ["look"]);
    }
}
