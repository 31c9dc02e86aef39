//! What goes in comes out, every byte, and holes are never written.

#![allow(clippy::unwrap_used)]

mod common;

use std::{ops::Range, sync::Arc};

use backstay_core::{Context, DiskSource, ExtentKind, RangeSet, RestorePoint, WriteOrder};
use backstay_storage::repository::{
    DiskOptions, PointDetails, Repository, SessionOptions, StoredDisk, chunk::DiskChunker,
};
use backstay_testkit::{SeededRandom, noise};
use bytes::Bytes;
use common::{
    MIB, SEGMENT, Sink, Source, Sparse, assert_clean, check_all, disk_id, fill, filled, memory_repository, restored,
    selector, workload,
};
use futures::{StreamExt, stream};

const SIZES: [u64; 10] =
    [0, 1, 511, 4096, 4097, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT + 777, 2 * SEGMENT + 40_960];

/// All of these as disks of one point.
async fn back_up_all(repository: &Repository, name: &str, disks: &[Sparse], options: &DiskOptions) -> RestorePoint {
    let ctx = Context::default();
    let mut session = repository.begin(workload(name), SessionOptions::default(), &ctx).await.unwrap();
    for (number, disk) in disks.iter().enumerate() {
        let source = Source::new(disk.clone()).shared();
        session.write_disk(&disk_id(&format!("disk{number}")), source.clone(), options).await.unwrap();
        assert!(source.bytes_read() <= disk.data().bytes(), "holes are not read");
    }
    session.commit(PointDetails::default()).await.unwrap()
}

async fn disk_of(repository: &Repository, point: &RestorePoint, number: usize) -> StoredDisk {
    let id = disk_id(&format!("disk{number}"));
    repository.disk(&selector(point), &id, &Context::default()).await.unwrap()
}

/// Reads of all sizes, whose ends are often where something ends in the map.
async fn reads_agree(stored: &StoredDisk, disk: &Sparse, around: &[u64], seed: u64) {
    let random = SeededRandom::new(seed);
    let size = disk.size();
    assert_eq!(stored.size(), size);
    let mut buffer = vec![0xee; 99];
    for round in 0..40 {
        let start = match around {
            [] => random.below(size + 1),
            _ => (around[random.below(around.len() as u64) as usize] + random.below(200_000)).saturating_sub(100_000),
        };
        let start = start.min(size);
        let longest = [1, 5000, 300_000, 3 * MIB][random.below(4) as usize];
        let range = start..(start + random.below(longest + 1)).min(size);
        buffer = stored.read(range.clone(), buffer).await.unwrap();
        assert!(buffer == disk.read(range.clone()), "seed {seed}, round {round}: {range:?} of {size} bytes differs");
    }
    assert!(stored.read(size..size + 1, Vec::new()).await.is_err());
    assert!(stored.extents(0..size + 1).await.is_err());
}

/// The extents cover the disk without gaps and call nothing zero that is not.
async fn extents_agree(stored: &StoredDisk, disk: &Sparse) {
    let (mut at, mut zero) = (0, RangeSet::new());
    while at < disk.size() {
        let extents = stored.extents(at..disk.size()).await.unwrap();
        assert!(!extents.is_empty() && extents.len() <= backstay_core::disk::MAX_EXTENTS);
        for extent in extents {
            assert!(extent.range.start == at && extent.range.end > at && extent.range.end <= disk.size());
            at = extent.range.end;
            if extent.kind == ExtentKind::Zero {
                zero.insert(extent.range);
            }
        }
    }
    let data = disk.data();
    let lost = data.ranges().iter().find(|range| zero.intersects(range));
    assert_eq!(lost, None, "data is called a hole");
    let end = disk.size();
    assert!(stored.extents(end..end).await.unwrap().is_empty());
}

/// The holes that the aligned chunker must find: runs of at least 16 zero blocks within a segment.
fn holes(disk: &Sparse) -> Vec<Range<u64>> {
    let data = disk.data();
    let mut holes = Vec::new();
    let mut at = 0;
    for next in data.ranges().iter().cloned().chain(std::iter::once(disk.size()..disk.size())) {
        let mut from = at;
        // Whole segments of nothing are taken together.
        let first_end = ((from / SEGMENT + 1) * SEGMENT).min(next.start);
        let last_start = (next.start / SEGMENT * SEGMENT).max(first_end);
        for to in [first_end, last_start, next.start] {
            if to > from && (to - from >= 65_536) {
                holes.push(from..to);
            }
            from = to.max(from);
        }
        at = next.end;
    }
    holes
}

async fn restores_agree(stored: &StoredDisk, disk: &Sparse, ranges: &[Range<u64>], aligned: bool) {
    let ctx = Context::default();
    for order in [WriteOrder::Any, WriteOrder::Ascending] {
        let given = restored(stored, order).await.unwrap();
        assert!(given.disk == *disk, "{order:?}: restored bytes differ on a disk of {} bytes", disk.size());
        if aligned {
            let written = holes(disk).into_iter().find(|hole| given.written.intersects(hole));
            assert_eq!(written, None, "a hole is written, {order:?}");
        }
        for range in ranges {
            let sink = Sink::new(range.end - range.start, order);
            stored.restore_to(&sink, range.clone(), &ctx).await.unwrap();
            let given = sink.given();
            let expected = Sparse::of(&disk.read(range.clone()));
            assert!(given.disk == expected, "{order:?}: {range:?} of {} bytes differs", disk.size());
        }
    }
    let sink = Sink::new(disk.size().saturating_sub(1), WriteOrder::Any);
    let small = stored.restore_to(&sink, 0..disk.size(), &ctx).await;
    assert_eq!(small.is_ok(), disk.size() == 0, "a sink that is too small is refused");
}

fn some_ranges(size: u64, seed: u64) -> Vec<Range<u64>> {
    let random = SeededRandom::new(seed);
    let mut ranges: Vec<_> = (0..4).map(|_| random.range(size, 2 * MIB)).collect();
    ranges.extend([0..0, size..size, 0..size.min(1), size.saturating_sub(1)..size]);
    ranges
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_of_every_size_come_back_byte_for_byte_however_they_are_cut() {
    let disks: Vec<_> = SIZES.iter().map(|size| filled(*size, size + 1)).collect();
    for (chunker, aligned) in [
        (DiskChunker::Aligned, true),
        (DiskChunker::Fixed { blocks: 1 }, false),
        (DiskChunker::Fixed { blocks: 100 }, false),
        (DiskChunker::Fixed { blocks: 4096 }, false),
    ] {
        let (_, repository) = memory_repository().await;
        let options = DiskOptions::default().chunker(chunker);
        let point = back_up_all(&repository, "web", &disks, &options).await;
        assert_eq!(point.disks.len(), disks.len());
        for (number, disk) in disks.iter().enumerate() {
            let stored = disk_of(&repository, &point, number).await;
            reads_agree(&stored, disk, &[], number as u64).await;
            extents_agree(&stored, disk).await;
            restores_agree(&stored, disk, &some_ranges(disk.size(), number as u64), aligned).await;
        }
        assert_clean(&check_all(&repository).await.unwrap(), &chunker.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sparse_disks_of_many_levels_come_back_with_their_holes() {
    const GIB: u64 = 1 << 30;
    const TIB: u64 = 1 << 40;
    let edges = |size: u64| {
        let edges = [0, SEGMENT, 8 * GIB - SEGMENT, 8 * GIB, 8 * GIB + SEGMENT, 4 * TIB - SEGMENT, 4 * TIB, size];
        edges.into_iter().filter(|edge| *edge <= size).collect::<Vec<_>>()
    };
    let sizes = [8 * GIB, 8 * GIB + 1, 10 * GIB + 4097, 4 * TIB, 4 * TIB + 12_345, 5 * TIB];
    let disks: Vec<_> = sizes
        .iter()
        .map(|size| {
            let mut disk = Sparse::new(*size);
            for edge in edges(*size) {
                let random = SeededRandom::new(edge ^ size);
                let range = edge.saturating_sub(random.below(300_000))..(edge + random.below(300_000)).min(*size);
                fill(&mut disk, range, edge);
            }
            disk.write(size - 1, &[7]);
            disk
        })
        .collect();
    let (_, repository) = memory_repository().await;
    let point = back_up_all(&repository, "sparse", &disks, &DiskOptions::default()).await;
    for (number, disk) in disks.iter().enumerate() {
        let stored = disk_of(&repository, &point, number).await;
        reads_agree(&stored, disk, &edges(disk.size()), number as u64).await;
        extents_agree(&stored, disk).await;
        let ranges: Vec<_> = edges(disk.size())
            .into_iter()
            .map(|edge| edge.saturating_sub(70_001)..(edge + 80_003).min(disk.size()))
            .collect();
        restores_agree(&stored, disk, &ranges, true).await;
    }
    assert_clean(&check_all(&repository).await.unwrap(), "sparse");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_data_stores_no_chunk_and_comes_back() {
    let (backend, repository) = memory_repository().await;
    let disks = [Sparse::new(1 << 50), Sparse::new(4096), Sparse::new(3 * SEGMENT + 1)];
    let point = back_up_all(&repository, "empty", &disks, &DiskOptions::default()).await;
    assert!(!backend.keys().iter().any(|key| key.as_str().starts_with("packs/") || key.as_str().starts_with("meta/")));
    for (number, disk) in disks.iter().enumerate() {
        let stored = disk_of(&repository, &point, number).await;
        let given = restored(&stored, WriteOrder::Any).await.unwrap();
        assert!(given.disk == *disk && given.written.is_empty());
        let given = restored(&stored, WriteOrder::Ascending).await.unwrap();
        assert!(given.disk == *disk && given.written.is_empty());
    }
}

fn in_pieces(content: Bytes, seed: u64) -> stream::BoxStream<'static, backstay_core::Result<Bytes>> {
    let random = SeededRandom::new(seed);
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < content.len() {
        let end = (at + random.below([3, 70_000, 20 << 20][random.below(3) as usize]) as usize).min(content.len());
        pieces.push(Ok(content.slice(at..end)));
        at = end;
    }
    stream::iter(pieces).boxed()
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_attachments_of_every_size_come_back_byte_for_byte() {
    let (_, repository) = memory_repository().await;
    let ctx = Context::default();
    let sizes = [0, 1, 16_383, 16_384, 16_385, 262_144, 262_145, 3_000_001, 90 << 20];
    let content: Vec<Bytes> = sizes.iter().map(|size| noise(*size as u64, *size).into()).collect();
    let mut session = repository.begin(workload("db"), SessionOptions::default(), &ctx).await.unwrap();
    for (number, bytes) in content.iter().enumerate() {
        let report = session.write_stream(&format!("dump{number}"), in_pieces(bytes.clone(), 7)).await.unwrap();
        assert_eq!(report.size, bytes.len() as u64);
    }
    assert!(session.write_stream("dump0", stream::empty().boxed()).await.is_err(), "a name is used once");
    let notes: Vec<Bytes> = [0, 1, 5000, 16 << 20].iter().map(|size| noise(99, *size).into()).collect();
    for (number, bytes) in notes.iter().enumerate() {
        session.attach(&format!("note{number}"), "text/plain", bytes.clone()).await.unwrap();
    }
    assert!(session.attach("note0", "text/plain", Bytes::new()).await.is_err(), "a name is used once");
    assert!(session.attach("large", "text/plain", vec![0; (16 << 20) + 1].into()).await.is_err());
    let point = session.commit(PointDetails::default()).await.unwrap();
    assert_eq!((point.streams.len(), point.attachments.len()), (content.len(), notes.len()));

    for (number, bytes) in content.iter().enumerate() {
        let stored = repository.stream(&selector(&point), &format!("dump{number}")).await.unwrap();
        let mut got = Vec::new();
        let read = stored.read_all(&ctx, async |piece| {
            got.extend_from_slice(&piece);
            Ok(())
        });
        read.await.unwrap();
        assert!(got == *bytes, "stream of {} bytes", bytes.len());
    }
    for (number, bytes) in notes.iter().enumerate() {
        let got = repository.attachment(&selector(&point), &format!("note{number}"), &ctx).await.unwrap();
        assert!(got == *bytes, "attachment of {} bytes", bytes.len());
    }
    assert!(repository.stream(&selector(&point), "note1").await.is_err());
    assert!(repository.attachment(&selector(&point), "dump1", &ctx).await.is_err());
    assert_clean(&check_all(&repository).await.unwrap(), "streams");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_reads_and_restores_of_one_disk_at_once_do_not_disturb_each_other() {
    let disk = filled(3 * SEGMENT + 777, 3);
    let (_, repository) = memory_repository().await;
    let point = back_up_all(&repository, "web", std::slice::from_ref(&disk), &DiskOptions::default()).await;
    let stored = Arc::new(disk_of(&repository, &point, 0).await);
    let random = SeededRandom::new(5);
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..48_u64 {
        let (stored, disk) = (stored.clone(), disk.clone());
        let longest = if task % 3 == 0 { 4 * MIB } else { 100_000 };
        let ranges: Vec<_> = (0..6).map(|_| random.range(disk.size(), longest)).collect();
        tasks.spawn(async move {
            for range in ranges {
                let got = stored.read(range.clone(), Vec::new()).await.unwrap();
                assert!(got == disk.read(range.clone()), "{range:?}");
                // A read that is dropped half way harms no other.
                let dropped = stored.read(range, Vec::new());
                drop(futures::future::select(Box::pin(dropped), std::future::ready(())).await);
            }
        });
    }
    for order in [WriteOrder::Any, WriteOrder::Ascending] {
        assert!(restored(&stored, order).await.unwrap().disk == disk);
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}
