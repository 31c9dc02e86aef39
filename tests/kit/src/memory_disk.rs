//! A disk in memory.

use std::{
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use backstay_core::{
    ChangeBase, ChangeToken, ChangedBlocks, DiskSource, Error, Extent, RangeSet, Result,
    disk::{MAX_EXTENTS, check_range},
};

/// What was read of a [`MemoryDisk`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Calls of `read`.
    pub calls: u64,
    /// Bytes that they gave.
    pub bytes: u64,
    /// Which ones.
    pub ranges: RangeSet,
}

#[derive(Debug, Default)]
struct State {
    reads: Reads,
    broken: RangeSet,
}

/// A disk of known content: a [`DiskSource`] that counts reads and fails where it is told to.
///
/// All-zero blocks of 4 KiB are holes in its extents. It tracks changes when told what they are.
#[derive(Debug)]
pub struct MemoryDisk {
    content: Vec<u8>,
    token: Option<ChangeToken>,
    changed: Option<(ChangeToken, RangeSet)>,
    state: Mutex<State>,
}

const BLOCK: usize = 4096;

impl MemoryDisk {
    /// A disk that holds this.
    #[must_use]
    pub fn new(content: impl Into<Vec<u8>>) -> Self {
        Self { content: content.into(), token: None, changed: None, state: Mutex::default() }
    }

    /// Gives this token for the next backup to start from.
    #[must_use]
    pub fn with_token(mut self, token: ChangeToken) -> Self {
        self.token = Some(token);
        self
    }

    /// Claims that since `token` only these ranges changed. A token that is another one gets `Unknown`.
    #[must_use]
    pub fn changed_since_token(mut self, token: ChangeToken, ranges: RangeSet) -> Self {
        self.changed = Some((token, ranges));
        self
    }

    /// From now on reads that touch this range fail with `Unavailable`.
    pub fn break_range(&self, range: Range<u64>) {
        self.state().broken.insert(range);
    }

    /// Heals every range.
    pub fn heal(&self) {
        self.state().broken = RangeSet::new();
    }

    /// What was read since it was made, or since the last call of this.
    pub fn take_reads(&self) -> Reads {
        std::mem::take(&mut self.state().reads)
    }

    /// What it holds.
    #[must_use]
    pub fn content(&self) -> &[u8] {
        &self.content
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The extents of `range`, a hole for every aligned block of zeroes.
pub(crate) fn extents_of(content: &[u8], range: Range<u64>) -> Vec<Extent> {
    let mut found: Vec<Extent> = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let end = ((at / BLOCK as u64 + 1) * BLOCK as u64).min(range.end);
        let zero = content[at as usize..end as usize].iter().all(|byte| *byte == 0);
        let next = if zero { Extent::zero(at..end) } else { Extent::data(at..end) };
        let full = found.len() == MAX_EXTENTS;
        match found.last_mut() {
            Some(last) if last.kind == next.kind => last.range.end = end,
            _ if full => break,
            _ => found.push(next),
        }
        at = end;
    }
    found
}

#[async_trait]
impl DiskSource for MemoryDisk {
    fn size(&self) -> u64 {
        self.content.len() as u64
    }

    async fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>> {
        check_range(&range, self.size())?;
        Ok(extents_of(&self.content, range))
    }

    async fn read(&self, range: Range<u64>, mut buffer: Vec<u8>) -> Result<Vec<u8>> {
        check_range(&range, self.size())?;
        let mut state = self.state();
        state.reads.calls += 1;
        if state.broken.intersects(&range) {
            return Err(Error::unavailable("A read error was injected").with_context("offset", range.start));
        }
        state.reads.bytes += range.end - range.start;
        state.reads.ranges.insert(range.clone());
        buffer.clear();
        buffer.extend_from_slice(&self.content[range.start as usize..range.end as usize]);
        Ok(buffer)
    }

    async fn changed_since(&self, base: &ChangeBase) -> Result<ChangedBlocks> {
        Ok(match &self.changed {
            None => ChangedBlocks::unknown("this disk in memory does not track changes"),
            Some((token, ranges)) if base.token.as_ref() == Some(token) => ChangedBlocks::Exact(ranges.clone()),
            Some(_) => ChangedBlocks::unknown("this disk in memory tracks changes from another token"),
        })
    }

    async fn change_token(&self) -> Result<Option<ChangeToken>> {
        Ok(self.token.clone())
    }
}
