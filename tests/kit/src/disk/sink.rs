//! Sinks.

use std::{ops::Range, sync::Arc};

use backstay_core::{DiskSink, DiskSource, ErrorKind, WriteOrder};
use bytes::Bytes;

use crate::{SeededRandom, disk::read_all, noise};

/// Checks a sink. `create(size)` makes a new one, and `reopen()` opens what the last one left: `None` while there is nothing
/// that looks finished. `sizes` are disks that the sink can make: odd ones, if it can. Panics where the sink is wrong.
pub async fn sink_conformance(
    sizes: &[u64],
    create: impl AsyncFn(u64) -> Box<dyn DiskSink>,
    reopen: impl AsyncFn() -> Option<Arc<dyn DiskSource>>,
) {
    for (size, seed) in sizes.iter().copied().zip(20..) {
        write_and_drop(create(size).await, size).await;
        assert!(reopen().await.is_none(), "a sink of {size} bytes that was dropped left something that looks finished");
        let sink = create(size).await;
        assert_eq!(sink.size(), size, "the sink tells a wrong size");
        past_the_end_is_refused(&*sink, size).await;
        let content = fill(&*sink, size, seed).await;
        sink.commit().await.expect("commit");
        let source = reopen().await.expect("what was committed is there");
        assert_eq!(source.size(), size, "what was committed has another size");
        let got = read_all(&*source).await;
        let differs = got.iter().zip(&content).position(|(got, due)| got != due);
        assert_eq!(differs, None, "the byte at this offset of {size} is another one after commit");
    }
    let sink = create(sizes[0]).await;
    sink.commit().await.expect("commit of a sink that nothing was written to");
    let empty = read_all(&*reopen().await.expect("what was committed is there")).await;
    assert!(empty.iter().all(|byte| *byte == 0), "what was never written reads as zero");
}

async fn write_and_drop(sink: Box<dyn DiskSink>, size: u64) {
    let data = Bytes::from(noise(3, size.min(100_000) as usize));
    sink.write(0, data).await.expect("write");
}

async fn past_the_end_is_refused(sink: &dyn DiskSink, size: u64) {
    for offset in [size, size + 1, u64::MAX] {
        let error = sink.write(offset, Bytes::from_static(b"x")).await.expect_err("a write past the end is refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "write at {offset} of {size}");
    }
    let error = sink.zero(0..size + 1).await.expect_err("zeroing past the end is refused");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "zero past {size}");
}

#[derive(Clone, Copy, PartialEq)]
enum Act {
    Write,
    Zero,
    Skip,
}

/// Writes, zeroes and skips pieces of random size, in any order and many at once where the sink allows, and gives what
/// the disk must hold then.
async fn fill(sink: &dyn DiskSink, size: u64, seed: u64) -> Vec<u8> {
    let random = SeededRandom::new(seed);
    let mut content = vec![0; size as usize];
    let mut pieces: Vec<(Range<u64>, Act)> = Vec::new();
    let mut at = 0;
    while at < size {
        // Small ones and large ones, aligned and not.
        let longest = [3, 700, 4096, 65_536, 400_000][random.below(5) as usize];
        let end = (at + 1 + random.below(longest)).min(size);
        let act = [Act::Write, Act::Write, Act::Zero, Act::Skip][random.below(4) as usize];
        if act == Act::Write {
            content[at as usize..end as usize].copy_from_slice(&noise(at, (end - at) as usize));
        }
        pieces.push((at..end, act));
        at = end;
    }
    let content = content;
    let apply = |(range, act): (Range<u64>, Act)| {
        let data = Bytes::copy_from_slice(&content[range.start as usize..range.end as usize]);
        async move {
            match act {
                Act::Write => {
                    sink.write(range.start, data).await.unwrap_or_else(|error| panic!("write {range:?}: {error}"))
                }
                Act::Zero => sink.zero(range.clone()).await.unwrap_or_else(|error| panic!("zero {range:?}: {error}")),
                Act::Skip => {}
            }
        }
    };
    if sink.order() == WriteOrder::Ascending {
        for piece in pieces {
            apply(piece).await;
        }
    } else {
        for last in (1..pieces.len()).rev() {
            pieces.swap(last, random.below(last as u64 + 1) as usize);
        }
        for some in pieces.chunks(8) {
            futures::future::join_all(some.iter().cloned().map(apply)).await;
        }
    }
    content
}
