//! The suites must be able to fail.

use std::{
    ops::Range,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use backstay_core::{
    ChangeBase, ChangeToken, ChangedBlocks, DiskSink, DiskSource, Extent, RangeSet, Result, WriteOrder,
};
use bytes::Bytes;
use futures::FutureExt;

use super::*;
use crate::{MemoryDisk, MemorySink, MemorySinkResult, noise};

const SIZE: usize = 1_300_017;

/// Noise with a hole.
fn content() -> Vec<u8> {
    let mut content = noise(5, SIZE);
    content[100_000..900_000].fill(0);
    content
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    None,
    Size,
    LastByteIsWrong,
    UnalignedReadIsRounded,
    KeepsTheBuffer,
    ExtentsOverlap,
    ExtentsEndEarlyWithNothing,
    ExtentsLie,
    ReadsPastTheEnd,
    TrustsAnyToken,
}

struct Flawed(MemoryDisk, Flaw);

#[async_trait]
impl DiskSource for Flawed {
    fn size(&self) -> u64 {
        self.0.size() - u64::from(self.1 == Flaw::Size)
    }

    async fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>> {
        let mut extents = self.0.extents(range.clone()).await?;
        match self.1 {
            Flaw::ExtentsOverlap => extents.iter_mut().skip(1).for_each(|extent| extent.range.start -= 1),
            Flaw::ExtentsEndEarlyWithNothing if range.start > 500_000 => extents.clear(),
            Flaw::ExtentsLie if range.start < range.end => extents = vec![Extent::zero(range)],
            _ => {}
        }
        Ok(extents)
    }

    async fn read(&self, range: Range<u64>, buffer: Vec<u8>) -> Result<Vec<u8>> {
        let Range { start, end } = range;
        let size = self.size();
        let mut bytes = match self.1 {
            Flaw::ReadsPastTheEnd if end > size && end - size < 100 => {
                let mut bytes = self.0.read(start.min(size)..size, buffer).await?;
                bytes.resize((end - start) as usize, 0);
                bytes
            }
            Flaw::UnalignedReadIsRounded if end < size - 512 && start % 512 != 0 => {
                let down = start / 512 * 512;
                self.0.read(down..down + (end - start), buffer).await?
            }
            Flaw::KeepsTheBuffer if end - start < 77 => {
                let mut kept = buffer.clone();
                kept.extend(self.0.read(range, buffer).await?);
                kept.truncate((end - start) as usize);
                kept
            }
            _ => self.0.read(range, buffer).await?,
        };
        if self.1 == Flaw::LastByteIsWrong && end == size && start < end {
            *bytes.last_mut().unwrap() ^= 1;
        }
        Ok(bytes)
    }

    async fn changed_since(&self, base: &ChangeBase) -> Result<ChangedBlocks> {
        match self.1 {
            Flaw::TrustsAnyToken if base.token.is_some() => Ok(ChangedBlocks::Exact(RangeSet::new())),
            _ => self.0.changed_since(base).await,
        }
    }
}

async fn source_passes(flaw: Flaw) -> bool {
    let source = Arc::new(Flawed(MemoryDisk::new(content()), flaw));
    AssertUnwindSafe(source_conformance(source, &content())).catch_unwind().await.is_ok()
}

#[tokio::test]
async fn a_source_passes_without_a_flaw_and_fails_with_any() {
    assert!(source_passes(Flaw::None).await);
    use Flaw::{
        ExtentsEndEarlyWithNothing, ExtentsLie, ExtentsOverlap, KeepsTheBuffer, LastByteIsWrong, ReadsPastTheEnd, Size,
        TrustsAnyToken, UnalignedReadIsRounded,
    };
    for flaw in [
        Size,
        LastByteIsWrong,
        UnalignedReadIsRounded,
        KeepsTheBuffer,
        ExtentsOverlap,
        ExtentsEndEarlyWithNothing,
        ExtentsLie,
        ReadsPastTheEnd,
        TrustsAnyToken,
    ] {
        assert!(!source_passes(flaw).await, "{flaw:?} was not found");
    }
}

#[tokio::test]
async fn disks_of_every_awkward_size_pass() {
    for size in [0, 1, 511, 4096, 4097] {
        let content = noise(size, size as usize);
        source_conformance(Arc::new(MemoryDisk::new(content.clone())), &content).await;
    }
}

#[tokio::test]
async fn a_disk_in_memory_counts_reads_breaks_and_tracks() {
    let (old, new) = (ChangeToken::new(&b"old"[..]).unwrap(), ChangeToken::new(&b"new"[..]).unwrap());
    let ranges: RangeSet = [0..10].into_iter().collect();
    let disk = MemoryDisk::new(content()).with_token(new.clone()).changed_since_token(old.clone(), ranges.clone());
    let base = |token| ChangeBase { point: backstay_core::RestorePointId::from_bytes([1; 16]), size: 5, token };
    assert_eq!(disk.changed_since(&base(Some(old))).await.unwrap(), ChangedBlocks::Exact(ranges));
    assert!(matches!(disk.changed_since(&base(Some(new))).await.unwrap(), ChangedBlocks::Unknown { .. }));
    disk.break_range(50..51);
    assert!(disk.read(0..50, Vec::new()).await.is_ok());
    assert!(disk.read(50..60, Vec::new()).await.is_err());
    disk.heal();
    assert!(disk.read(50..60, Vec::new()).await.is_ok());
    let reads = disk.take_reads();
    assert_eq!((reads.calls, reads.bytes, reads.ranges.ranges()), (3, 60, &[0..60][..]));
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum SinkFlaw {
    None,
    IgnoresOffsets,
    ZeroIsForgotten,
    DroppedLooksFinished,
    GrowsPastTheEnd,
}

struct FlawedSink(Box<MemorySink>, SinkFlaw);

#[async_trait]
impl DiskSink for FlawedSink {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn order(&self) -> WriteOrder {
        self.0.order()
    }
    async fn write(&self, offset: u64, data: Bytes) -> Result<()> {
        match self.1 {
            SinkFlaw::IgnoresOffsets => self.0.write(offset / 2 * 2, data).await,
            SinkFlaw::GrowsPastTheEnd if offset >= self.size() => Ok(()),
            _ => self.0.write(offset, data).await,
        }
    }
    async fn zero(&self, range: Range<u64>) -> Result<()> {
        match self.1 {
            SinkFlaw::ZeroIsForgotten => {
                self.0.write(range.start, vec![1; (range.end - range.start) as usize].into()).await
            }
            _ => self.0.zero(range).await,
        }
    }
    async fn commit(self: Box<Self>) -> Result<()> {
        self.0.commit().await
    }
}

async fn sink_passes(flaw: SinkFlaw, order: WriteOrder) -> bool {
    let last: Mutex<Option<MemorySinkResult>> = Mutex::default();
    let create = async |size| {
        let (sink, result) = MemorySink::new(size, order);
        *last.lock().unwrap() = Some(result);
        Box::new(FlawedSink(Box::new(sink), flaw)) as Box<dyn DiskSink>
    };
    let reopen = async || {
        let content = last.lock().unwrap().as_ref()?.content();
        let content = content.or_else(|| (flaw == SinkFlaw::DroppedLooksFinished).then(Vec::new))?;
        Some(Arc::new(MemoryDisk::new(content)) as Arc<dyn DiskSource>)
    };
    AssertUnwindSafe(sink_conformance(&[1 << 20, 2_000_003, 1], create, reopen)).catch_unwind().await.is_ok()
}

#[tokio::test]
async fn a_sink_passes_without_a_flaw_and_fails_with_any() {
    for order in [WriteOrder::Any, WriteOrder::Ascending] {
        assert!(sink_passes(SinkFlaw::None, order).await);
    }
    use SinkFlaw::{DroppedLooksFinished, GrowsPastTheEnd, IgnoresOffsets, ZeroIsForgotten};
    for flaw in [IgnoresOffsets, ZeroIsForgotten, DroppedLooksFinished, GrowsPastTheEnd] {
        assert!(!sink_passes(flaw, WriteOrder::Any).await, "{flaw:?} was not found");
    }
}
