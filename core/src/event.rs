//! One stream of events feeds the terminal, server-sent events, the Python iterator and the C queue.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// One task of the task tree; unique within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u64);

/// Something that happened. Tasks form a tree; progress counts bytes unless the task's name says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A task began.
    Started {
        /// The task.
        task: TaskId,
        /// The task it is part of.
        parent: Option<TaskId>,
        /// What it does, for people.
        name: Arc<str>,
        /// How much there is to do, when known.
        total: Option<u64>,
    },
    /// A task went on.
    Progressed {
        /// The task.
        task: TaskId,
        /// How much is done.
        done: u64,
        /// How much there is to do, when known.
        total: Option<u64>,
    },
    /// Something that the operator should know and that did not stop the task.
    Warned {
        /// The task.
        task: TaskId,
        /// What happened and what it means.
        message: Arc<str>,
    },
    /// A task ended, in success or not.
    Finished {
        /// The task.
        task: TaskId,
        /// How long it took.
        elapsed: Duration,
    },
}

/// Where events go. Called from many threads; must not block.
pub trait EventSink: Send + Sync + 'static {
    /// Takes one event.
    fn emit(&self, event: Event);
}

/// Drops every event.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoEvents;

impl EventSink for NoEvents {
    fn emit(&self, _event: Event) {}
}

/// Keeps every event, for tests.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Vec<Event>>);

impl Recorder {
    /// What was emitted so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The messages of all warnings so far.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let warned = |event: Event| match event {
            Event::Warned { message, .. } => Some(message.to_string()),
            _ => None,
        };
        self.events().into_iter().filter_map(warned).collect()
    }
}

impl EventSink for Recorder {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}
