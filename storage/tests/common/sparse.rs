//! Disks of any size that hold little, as sources and as sinks.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use backstay_core::{
    ChangeBase, ChangeToken, ChangedBlocks, Context, DiskSink, DiskSource, Error, Extent, RangeSet, Result, WriteOrder,
    disk::{MAX_EXTENTS, check_range},
};
use bytes::Bytes;

const BLOCK: u64 = 4096;

/// The content of a disk: its size and the blocks that are not zero. Two of them are equal when every byte is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sparse {
    size: u64,
    blocks: BTreeMap<u64, Arc<[u8]>>,
}

impl std::fmt::Debug for Sparse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sparse({} bytes, {} blocks of data)", self.size, self.blocks.len())
    }
}

impl Sparse {
    pub fn new(size: u64) -> Self {
        Self { size, blocks: BTreeMap::new() }
    }

    pub fn of(content: &[u8]) -> Self {
        let mut disk = Self::new(content.len() as u64);
        disk.write(0, content);
        disk
    }

    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Writes what lies on the disk of it.
    pub fn write(&mut self, at: u64, data: &[u8]) {
        let end = (at + data.len() as u64).min(self.size);
        let mut from = at;
        while from < end {
            let block = from / BLOCK;
            let to = ((block + 1) * BLOCK).min(end);
            let mut bytes = self.blocks.get(&block).map_or_else(|| vec![0; BLOCK as usize], |old| old.to_vec());
            let into = (from - block * BLOCK) as usize..(to - block * BLOCK) as usize;
            bytes[into].copy_from_slice(&data[(from - at) as usize..(to - at) as usize]);
            if bytes.iter().all(|byte| *byte == 0) {
                self.blocks.remove(&block);
            } else {
                self.blocks.insert(block, bytes.into());
            }
            from = to;
        }
    }

    pub fn zero(&mut self, range: Range<u64>) {
        let end = range.end.min(self.size);
        let (first, last) = (range.start.div_ceil(BLOCK), end / BLOCK);
        if range.start >= end {
            return;
        }
        if first > last {
            return self.write(range.start, &vec![0; (end - range.start) as usize]);
        }
        self.write(range.start, &vec![0; (first * BLOCK - range.start) as usize]);
        self.write(last * BLOCK, &vec![0; (end - last * BLOCK) as usize]);
        let inside: Vec<_> = self.blocks.range(first..last).map(|(block, _)| *block).collect();
        inside.iter().for_each(|block| drop(self.blocks.remove(block)));
    }

    pub fn resize(&mut self, size: u64) {
        if size < self.size {
            self.zero(size..self.size);
        }
        self.size = size;
    }

    pub fn read(&self, range: Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        for (block, data) in self.blocks.range(range.start / BLOCK..range.end.div_ceil(BLOCK)) {
            let (from, to) = ((block * BLOCK).max(range.start), ((block + 1) * BLOCK).min(range.end));
            if from < to {
                bytes[(from - range.start) as usize..(to - range.start) as usize]
                    .copy_from_slice(&data[(from - block * BLOCK) as usize..(to - block * BLOCK) as usize]);
            }
        }
        bytes
    }

    /// Where the blocks with data are.
    pub fn data(&self) -> RangeSet {
        self.blocks.keys().map(|block| block * BLOCK..((block + 1) * BLOCK).min(self.size)).collect()
    }

    pub fn extents(&self, range: Range<u64>) -> Vec<Extent> {
        let mut extents: Vec<Extent> = Vec::new();
        let mut at = range.start;
        for block in self.blocks.range(range.start / BLOCK..range.end.div_ceil(BLOCK)).map(|(block, _)| *block) {
            let (from, to) = ((block * BLOCK).max(range.start), ((block + 1) * BLOCK).min(range.end));
            if from > at {
                extents.push(Extent::zero(at..from));
            }
            match extents.last_mut() {
                Some(last) if last.kind == backstay_core::ExtentKind::Data => last.range.end = to,
                _ => extents.push(Extent::data(from..to)),
            }
            at = to;
            if extents.len() >= MAX_EXTENTS - 1 {
                return extents;
            }
        }
        if at < range.end {
            extents.push(Extent::zero(at..range.end));
        }
        extents
    }
}

/// A source over a [`Sparse`]: counts reads, says of changes what it is told to say, breaks where it is told to break.
pub struct Source {
    pub disk: Sparse,
    token: Option<ChangeToken>,
    since: Option<(ChangeToken, ChangedBlocks)>,
    bytes: AtomicU64,
    calls: AtomicU64,
    fail_at: Option<u64>,
    cancel_at: Option<(u64, Context)>,
}

pub fn token(text: &str) -> ChangeToken {
    ChangeToken::new(text.as_bytes().to_vec()).unwrap()
}

impl Source {
    pub fn new(disk: Sparse) -> Self {
        Self {
            disk,
            token: None,
            since: None,
            bytes: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            fail_at: None,
            cancel_at: None,
        }
    }

    pub fn with_token(mut self, text: &str) -> Self {
        self.token = Some(token(text));
        self
    }

    /// What changed since the point that has this token.
    pub fn since(mut self, text: &str, changes: ChangedBlocks) -> Self {
        self.since = Some((token(text), changes));
        self
    }

    /// The read of this number (from 0) fails.
    pub fn fail_at(mut self, read: u64) -> Self {
        self.fail_at = Some(read);
        self
    }

    /// At the read of this number the whole operation is cancelled.
    pub fn cancel_at(mut self, read: u64, cancel: Context) -> Self {
        self.cancel_at = Some((read, cancel));
        self
    }

    pub fn shared(self) -> Arc<Self> {
        Arc::new(self)
    }

    pub fn bytes_read(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }

    pub fn reads(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl DiskSource for Source {
    fn size(&self) -> u64 {
        self.disk.size
    }

    async fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>> {
        check_range(&range, self.disk.size)?;
        Ok(self.disk.extents(range))
    }

    async fn read(&self, range: Range<u64>, _buffer: Vec<u8>) -> Result<Vec<u8>> {
        check_range(&range, self.disk.size)?;
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        if self.fail_at == Some(number) {
            return Err(Error::unavailable("A read error of the disk was injected"));
        }
        if let Some((at, cancel)) = &self.cancel_at
            && *at == number
        {
            cancel.cancel().cancel();
        }
        self.bytes.fetch_add(range.end - range.start, Ordering::SeqCst);
        Ok(self.disk.read(range))
    }

    async fn changed_since(&self, base: &ChangeBase) -> Result<ChangedBlocks> {
        Ok(match &self.since {
            Some((token, changes)) if base.token.as_ref() == Some(token) => changes.clone(),
            Some(_) => ChangedBlocks::unknown("the bitmap is not the one of the parent"),
            None => ChangedBlocks::unknown("this source tracks nothing"),
        })
    }

    async fn change_token(&self) -> Result<Option<ChangeToken>> {
        Ok(self.token.clone())
    }
}

/// What a [`Sink`] was given.
#[derive(Default, Debug)]
pub struct Given {
    pub disk: Sparse,
    pub written: RangeSet,
    pub zeroed: RangeSet,
    next: u64,
}

/// A sink that is strict about order and overlaps.
pub struct Sink {
    order: WriteOrder,
    size: u64,
    given: Mutex<Given>,
}

impl Sink {
    pub fn new(size: u64, order: WriteOrder) -> Self {
        Self { order, size, given: Mutex::new(Given { disk: Sparse::new(size), ..Given::default() }) }
    }

    pub fn given(self) -> Given {
        self.given.into_inner().unwrap()
    }

    fn take(&self, range: &Range<u64>) -> std::sync::MutexGuard<'_, Given> {
        assert!(range.start <= range.end && range.end <= self.size, "{range:?} lies outside {}", self.size);
        let mut given = self.given.lock().unwrap();
        assert!(!given.written.intersects(range) && !given.zeroed.intersects(range), "{range:?} is given twice");
        if self.order == WriteOrder::Ascending {
            assert!(range.start >= given.next, "{range:?} after {}", given.next);
            given.next = range.end;
        }
        given
    }
}

#[async_trait]
impl DiskSink for Sink {
    fn size(&self) -> u64 {
        self.size
    }

    fn order(&self) -> WriteOrder {
        self.order
    }

    async fn write(&self, offset: u64, data: Bytes) -> Result<()> {
        let range = offset..offset + data.len() as u64;
        let mut given = self.take(&range);
        given.written.insert(range);
        given.disk.write(offset, &data);
        Ok(())
    }

    async fn zero(&self, range: Range<u64>) -> Result<()> {
        self.take(&range).zeroed.insert(range);
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
