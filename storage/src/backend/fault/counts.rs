//! What calls cost.

use std::sync::{Mutex, MutexGuard, PoisonError};

use backstay_core::ObjectKey;

use super::Operation;

/// How often each operation was called and how many bytes it moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Calls of `put`.
    pub puts: u64,
    /// Calls of `get`.
    pub gets: u64,
    /// Calls of `get_range`.
    pub range_gets: u64,
    /// Calls of `head`.
    pub heads: u64,
    /// Calls of `delete`.
    pub deletes: u64,
    /// Calls of `list` whose stream was polled.
    pub lists: u64,
    /// Bytes handed to `put`.
    pub bytes_put: u64,
    /// Bytes that `get` and `get_range` gave.
    pub bytes_got: u64,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Of what sort.
    pub operation: Operation,
    /// About which object, or which folder for a list.
    pub key: Option<ObjectKey>,
}

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    calls: Option<Vec<Call>>,
}

#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<State>);

impl Counters {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn called(&self, operation: Operation, key: Option<&ObjectKey>, bytes: u64) {
        let mut state = self.state();
        let counts = &mut state.counts;
        let counter = match operation {
            Operation::Put => &mut counts.puts,
            Operation::Get => &mut counts.gets,
            Operation::GetRange => &mut counts.range_gets,
            Operation::Head => &mut counts.heads,
            Operation::Delete => &mut counts.deletes,
            Operation::List => &mut counts.lists,
        };
        *counter += 1;
        counts.bytes_put += bytes;
        if let Some(calls) = &mut state.calls {
            calls.push(Call { operation, key: key.cloned() });
        }
    }

    pub(super) fn got(&self, bytes: u64) {
        self.state().counts.bytes_got += bytes;
    }

    pub(super) fn counts(&self) -> Counts {
        self.state().counts
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.state().calls.clone().unwrap_or_default()
    }

    pub(super) fn record(&self) {
        self.state().calls.get_or_insert_default();
    }

    pub(super) fn reset(&self) {
        let mut state = self.state();
        state.counts = Counts::default();
        state.calls.iter_mut().for_each(Vec::clear);
    }
}
