//! Sources.

use std::{ops::Range, sync::Arc};

use backstay_core::{
    ChangeBase, ChangeToken, ChangedBlocks, DiskSource, ErrorKind, ExtentKind, RestorePointId, disk::MAX_EXTENTS,
};

use crate::SeededRandom;

/// Checks a source against what it must hold: size, extents, reads at random offsets, errors past the end. Panics where the
/// source is wrong.
pub async fn source_conformance(source: Arc<dyn DiskSource>, content: &[u8]) {
    let size = content.len() as u64;
    assert_eq!(source.size(), size, "the source tells a wrong size");
    every_byte_reads_as_it_is(&*source, content).await;
    random_reads_agree(&source, content).await;
    extents_cover_and_agree(&*source, content).await;
    past_the_end_is_refused(&*source).await;
    a_foreign_token_is_not_trusted(&*source).await;
}

/// The whole disk, read in pieces of an odd size.
pub async fn read_all(source: &dyn DiskSource) -> Vec<u8> {
    let (mut content, mut buffer) = (Vec::new(), Vec::new());
    while (content.len() as u64) < source.size() {
        let start = content.len() as u64;
        buffer = read(source, start..source.size().min(start + 1_000_003), buffer).await;
        content.extend_from_slice(&buffer);
    }
    content
}

async fn read(source: &dyn DiskSource, range: Range<u64>, buffer: Vec<u8>) -> Vec<u8> {
    let bytes = source.read(range.clone(), buffer).await.unwrap_or_else(|error| panic!("read {range:?}: {error}"));
    assert_eq!(bytes.len() as u64, range.end - range.start, "read {range:?} gave another length");
    bytes
}

async fn every_byte_reads_as_it_is(source: &dyn DiskSource, content: &[u8]) {
    let got = read_all(source).await;
    let differs = got.iter().zip(content).position(|(got, due)| got != due);
    assert_eq!(differs, None, "the byte at this offset is another one");
}

async fn random_reads_agree(source: &Arc<dyn DiskSource>, content: &[u8]) {
    let size = content.len() as u64;
    let random = SeededRandom::new(11);
    let mut ranges: Vec<_> = (0..150).map(|_| random.range(size, 200_000)).collect();
    // The edges that off-by-one errors live on.
    ranges.extend([0..0, size..size, 0..size.min(1), size.saturating_sub(1)..size]);
    ranges.extend((0..150).map(|_| random.range(size, 20)));
    for range in &ranges {
        // A buffer with something in it: what it held is lost.
        let got = read(&**source, range.clone(), vec![0xee; 77]).await;
        assert!(got == content[range.start as usize..range.end as usize], "read {range:?} gave other bytes");
    }
    let at_once = ranges.into_iter().take(64).map(|range| async move {
        let got = read(&**source, range.clone(), Vec::new()).await;
        assert!(got == content[range.start as usize..range.end as usize], "reads at once: {range:?} gave other bytes");
    });
    futures::future::join_all(at_once).await;
    // Dropping a read half way harms no other.
    let dropped = source.read(0..size.min(1 << 20), Vec::new());
    drop(futures::future::select(dropped, std::future::ready(())).await);
    every_byte_reads_as_it_is(&**source, content).await;
}

async fn extents_cover_and_agree(source: &dyn DiskSource, content: &[u8]) {
    let size = content.len() as u64;
    let random = SeededRandom::new(12);
    let mut windows: Vec<_> = (0..60).map(|_| random.range(size, size)).collect();
    windows.extend([0..size, 0..0, size..size]);
    for window in windows {
        let mut at = window.start;
        while at < window.end {
            let asked = at..window.end;
            let extents =
                source.extents(asked.clone()).await.unwrap_or_else(|error| panic!("extents {asked:?}: {error}"));
            assert!(!extents.is_empty(), "extents {asked:?}: nothing for a range that is not empty");
            assert!(extents.len() <= MAX_EXTENTS, "extents {asked:?}: {} in one answer", extents.len());
            for extent in extents {
                let Range { start, end } = extent.range;
                assert!(start == at, "extents {asked:?}: a gap or an overlap at {at}, where {start}..{end} begins");
                assert!(
                    start < end && end <= window.end,
                    "extents {asked:?}: {start}..{end} is empty or ends after the range"
                );
                let zero = content[start as usize..end as usize].iter().all(|byte| *byte == 0);
                assert!(
                    zero || extent.kind == ExtentKind::Data,
                    "extents {asked:?}: {start}..{end} is called zero and is not"
                );
                at = end;
            }
        }
        if window.is_empty() {
            let extents = source.extents(window.clone()).await.expect("the extents of an empty range");
            assert!(extents.is_empty(), "extents of the empty {window:?}: {extents:?}");
        }
    }
}

async fn past_the_end_is_refused(source: &dyn DiskSource) {
    let size = source.size();
    for range in [size..size + 1, 0..size + 1, size + 5..size + 6, u64::MAX - 1..u64::MAX] {
        let read = source.read(range.clone(), Vec::new()).await.map(|_| ());
        let extents = source.extents(range.clone()).await.map(|_| ());
        for (what, outcome) in [("read", read), ("extents", extents)] {
            let kind = outcome.expect_err(&format!("{what} {range:?} past the end of {size} is refused")).kind();
            assert_eq!(kind, ErrorKind::InvalidInput, "{what} {range:?} past the end of {size}");
        }
    }
}

async fn a_foreign_token_is_not_trusted(source: &dyn DiskSource) {
    let token = Some(ChangeToken::new(&b"of some other source altogether"[..]).expect("a small token"));
    let point = RestorePointId::from_bytes([9; 16]);
    for token in [token, None] {
        let base = ChangeBase { point, size: source.size(), token };
        let changed = source.changed_since(&base).await.expect("a token that does not fit is no error");
        assert!(
            matches!(changed, ChangedBlocks::Unknown { .. }),
            "a token that is not the source's own means unknown, not {changed:?}"
        );
    }
    if let Some(token) = source.change_token().await.expect("a change token, or none") {
        assert!(token.as_bytes().len() <= ChangeToken::MAX_BYTES);
    }
}
