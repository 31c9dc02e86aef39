//! A sink in memory.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use backstay_core::{DiskSink, Error, RangeSet, Result, WriteOrder, disk::check_range};
use bytes::Bytes;

#[derive(Debug)]
struct State {
    content: Vec<u8>,
    touched: RangeSet,
    zeroed: RangeSet,
    order: WriteOrder,
    next: u64,
    broken: RangeSet,
}

/// A [`DiskSink`] that keeps what it is given and is strict about how: no call may overlap another, and an ascending
/// one takes no step back.
#[derive(Debug)]
pub struct MemorySink {
    state: Arc<Mutex<State>>,
    committed: Arc<Mutex<Option<Vec<u8>>>>,
    size: u64,
}

/// What a [`MemorySink`] was given, from outside.
#[derive(Clone, Debug)]
pub struct MemorySinkResult {
    state: Arc<Mutex<State>>,
    committed: Arc<Mutex<Option<Vec<u8>>>>,
}

impl MemorySinkResult {
    /// The disk, once it is committed.
    #[must_use]
    pub fn content(&self) -> Option<Vec<u8>> {
        lock(&self.committed).clone()
    }

    /// What was zeroed rather than written.
    #[must_use]
    pub fn zeroed(&self) -> RangeSet {
        lock(&self.state).zeroed.clone()
    }

    /// From now on calls that touch this range fail with `Unavailable`.
    pub fn break_range(&self, range: Range<u64>) {
        lock(&self.state).broken.insert(range);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemorySink {
    /// A sink of so many bytes, and the way to see what became of it.
    #[must_use]
    pub fn new(size: u64, order: WriteOrder) -> (Self, MemorySinkResult) {
        let state = State {
            content: vec![0; usize::try_from(size).expect("a disk in memory fits in memory")],
            touched: RangeSet::new(),
            zeroed: RangeSet::new(),
            order,
            next: 0,
            broken: RangeSet::new(),
        };
        let (state, committed) = (Arc::new(Mutex::new(state)), Arc::default());
        let result = MemorySinkResult { state: Arc::clone(&state), committed: Arc::clone(&committed) };
        (Self { state, committed, size }, result)
    }

    fn touch(&self, range: &Range<u64>) -> Result<MutexGuard<'_, State>> {
        check_range(range, self.size)?;
        let mut state = lock(&self.state);
        if state.broken.intersects(range) {
            return Err(Error::unavailable("A write error was injected").with_context("offset", range.start));
        }
        if state.touched.intersects(range) {
            return Err(
                Error::invalid_input("A sink was given the same bytes twice").with_context("offset", range.start)
            );
        }
        if state.order == WriteOrder::Ascending && range.start < state.next {
            return Err(Error::invalid_input("An ascending sink was sent back").with_context("offset", range.start));
        }
        state.next = state.next.max(range.end);
        state.touched.insert(range.clone());
        Ok(state)
    }
}

#[async_trait]
impl DiskSink for MemorySink {
    fn size(&self) -> u64 {
        self.size
    }

    fn order(&self) -> WriteOrder {
        lock(&self.state).order
    }

    async fn write(&self, offset: u64, data: Bytes) -> Result<()> {
        let past = || Error::invalid_input("The range lies outside the disk").with_context("offset", offset);
        let range = offset..offset.checked_add(data.len() as u64).ok_or_else(past)?;
        let mut state = self.touch(&range)?;
        state.content[range.start as usize..range.end as usize].copy_from_slice(&data);
        Ok(())
    }

    async fn zero(&self, range: Range<u64>) -> Result<()> {
        self.touch(&range)?.zeroed.insert(range);
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        *lock(&self.committed) = Some(lock(&self.state).content.clone());
        Ok(())
    }
}
