//! An incremental backup gives the map that a full one would, reads little and believes nobody.

// A set of one range is what is meant, not the numbers in it.
#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

mod common;

use std::sync::Arc;

use backstay_core::{ChangedBlocks, Context, RangeSet, ReadMethod, Recorder, RestorePoint};
use backstay_storage::{
    MemoryBackend,
    repository::{
        DiskOptions, DiskReport, Repository, SessionOptions,
        ids::NodeId,
        map::{MapCursor, NodeSource},
    },
};
use backstay_testkit::{SeededRandom, noise};
use common::{
    MIB, SEGMENT, Source, Sparse, assert_clean, back_up, check_all, dense, fill, memory_repository, no_sample, restore,
    selector,
};

const BLOCK: u64 = 4096;

async fn root(repository: &Repository, point: &RestorePoint) -> Option<NodeId> {
    repository.point_record(&selector(point)).await.unwrap().disks[0].root
}

async fn take(repository: &Repository, name: &str, source: Source, full: bool) -> (RestorePoint, DiskReport, u64) {
    let source = source.shared();
    let session = SessionOptions::default().full(full);
    let ctx = Context::default();
    let (point, report) = back_up(repository, name, source.clone(), &no_sample(), session, &ctx).await.unwrap();
    assert_eq!(report.read_bytes, source.bytes_read());
    (point, report, source.bytes_read())
}

/// One random edit; what it touched is put into `dirty`.
fn edit(disk: &mut Sparse, dirty: &mut RangeSet, edges: &[u64], random: &SeededRandom) {
    let size = disk.size();
    let around = |random: &SeededRandom| {
        let edge = edges[random.below(edges.len() as u64) as usize];
        (edge + random.below(400_000)).saturating_sub(200_000)
    };
    match random.below(10) {
        // The size changes: a little, to an edge, to a block's end.
        0 | 1 => {
            let to = match random.below(4) {
                0 => edges[random.below(edges.len() as u64) as usize],
                1 => around(random),
                2 => around(random) / BLOCK * BLOCK,
                _ => (size + random.below(9000)).saturating_sub(4500),
            };
            disk.resize(to);
            // It may grow again before anybody looks.
            dirty.insert(to..size);
            if to > size && random.below(2) == 0 {
                let from = size.max(to.saturating_sub(50_000));
                disk.write(from, &noise(random.next(), (to - from) as usize));
            }
        }
        2 | 3 => {
            let start = around(random).min(size);
            let end = (start + random.below([300, 70_000, 3 * MIB, 20 * MIB][random.below(4) as usize])).min(size);
            disk.zero(start..end);
            dirty.insert(start..end);
        }
        4 => {
            let start = around(random).min(size);
            let end = (start + random.below(3 * MIB)).min(size);
            fill(disk, start..end, random.next());
            dirty.insert(start..end);
        }
        _ => {
            let start = around(random).min(size);
            let end = (start + 1 + random.below([2, 5000, 60_000][random.below(3) as usize])).min(size);
            disk.write(start, &noise(random.next(), (end - start.min(end)) as usize));
            dirty.insert(start..end);
        }
    }
}

/// More is called dirty than was touched.
fn superset(dirty: &RangeSet, size: u64, edges: &[u64], random: &SeededRandom) -> RangeSet {
    let mut more = dirty.clone();
    for _ in 0..random.below(4) {
        let start = edges[random.below(edges.len() as u64) as usize].min(size);
        more.insert(start..(start + random.below(SEGMENT)).min(size));
    }
    // Blocks, as a bitmap has them; past the end too, as a careless source has them.
    let grain = [1, 512, BLOCK, 65_536][random.below(4) as usize];
    more.ranges().iter().map(|range| range.start / grain * grain..range.end.next_multiple_of(grain)).collect()
}

async fn a_history_of_edits(seed: u64, edges: &[u64], start: u64, steps: u64) {
    let random = SeededRandom::new(seed);
    let (_, repository) = memory_repository().await;
    let mut disk = Sparse::new(start);
    for edge in edges {
        fill(&mut disk, edge.saturating_sub(300_000).min(start)..(edge + 300_000).min(start), *edge ^ seed);
    }
    for name in ["changed", "compared"] {
        take(&repository, name, Source::new(disk.clone()).with_token("0"), true).await;
    }
    for step in 1..=steps {
        let at = format!("seed {seed}, step {step}");
        let (mut dirty, old_size) = (RangeSet::new(), disk.size());
        for _ in 0..1 + random.below(3) {
            edit(&mut disk, &mut dirty, edges, &random);
        }
        let size = disk.size();
        let claimed = if random.below(2) == 0 { dirty.clone() } else { superset(&dirty, size, edges, &random) };
        let (before, now) = ((step - 1).to_string(), step.to_string());
        let tracked = Source::new(disk.clone()).with_token(&now).since(&before, ChangedBlocks::Exact(claimed));
        let (changed, report, _) = take(&repository, "changed", tracked, false).await;
        assert_eq!(report.method, ReadMethod::Changed, "{at}");
        let (compared, report, _) = take(&repository, "compared", Source::new(disk.clone()), false).await;
        assert_eq!(report.method, ReadMethod::Compared, "{at}");
        let (full, report, _) = take(&repository, "full", Source::new(disk.clone()), true).await;
        assert_eq!(report.method, ReadMethod::Full, "{at}");
        let expected = root(&repository, &full).await;
        for (name, point) in [("compared", &compared), ("changed", &changed)] {
            if root(&repository, point).await != expected {
                let differs = repository.diff(&selector(point), &selector(&full), &Context::default()).await;
                panic!("{at}: {name}, {old_size} to {size} bytes, {dirty:?} dirty, differs: {differs:?}");
            }
        }
        let untouched = Source::new(disk.clone()).with_token(&now).since(&now, ChangedBlocks::Untouched);
        let (untouched, report, read) = take(&repository, "changed", untouched, false).await;
        assert_eq!((report.method, read), (ReadMethod::Untouched, 0), "{at}");
        assert_eq!(root(&repository, &untouched).await, expected, "{at}: untouched");
    }
    let last = repository.points().await.unwrap().into_iter().rfind(|point| point.workload.id.as_str() == "changed");
    assert!(restore(&repository, &last.unwrap()).await.unwrap() == disk, "seed {seed}");
    assert_clean(&check_all(&repository).await.unwrap(), &format!("seed {seed}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_on_small_disks_give_the_maps_of_full_backups() {
    for seed in 0..12 {
        let edges = [0, 5000, SEGMENT / 2, SEGMENT, 2 * SEGMENT, 2 * SEGMENT + 40_000];
        let start = edges[seed as usize % edges.len()];
        a_history_of_edits(seed, &edges, start, 8).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_around_the_borders_of_inner_nodes_give_the_maps_of_full_backups() {
    let row = 512 * SEGMENT;
    for seed in 100..106 {
        let edges = [0, SEGMENT, row - SEGMENT, row, row + SEGMENT, 2 * row + 12_288];
        a_history_of_edits(seed, &edges, edges[3 + seed as usize % 3], 5).await;
    }
}

/// Sizes of one disk after another: every step is tracked and compared with a full backup.
async fn sizes_in_turn(sizes: &[u64]) {
    let (_, repository) = memory_repository().await;
    let mut disk = Sparse::new(sizes[0]);
    fill(&mut disk, 0..sizes[0].min(200_000), 1);
    let mut before = None::<usize>;
    for (step, size) in sizes.iter().enumerate() {
        let old = disk.size();
        disk.resize(*size);
        let mut dirty = RangeSet::new();
        if *size > old {
            // A little at the new end and over the old one.
            for (from, to) in
                [(old.saturating_sub(10), (old + 90_000).min(*size)), (size.saturating_sub(70_000), *size)]
            {
                fill(&mut disk, from..to, *size ^ from);
                dirty.insert(from..old.max(from));
            }
        }
        let mut source = Source::new(disk.clone()).with_token(&step.to_string());
        if let Some(before) = before {
            source = source.since(&before.to_string(), ChangedBlocks::Exact(dirty));
        }
        let (changed, report, _) = take(&repository, "changed", source, false).await;
        assert_eq!(report.method == ReadMethod::Changed, before.is_some());
        let (full, ..) = take(&repository, "full", Source::new(disk.clone()), true).await;
        assert_eq!(root(&repository, &changed).await, root(&repository, &full).await, "{old} to {size} bytes");
        before = Some(step);
    }
    assert_clean(&check_all(&repository).await.unwrap(), "sizes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_grows_and_shrinks_over_every_level_of_its_map_keeps_the_map_of_a_full_backup() {
    let row = 512 * SEGMENT;
    sizes_in_turn(&[
        SEGMENT,
        SEGMENT + 1,
        2 * SEGMENT,
        SEGMENT,
        0,
        row,
        row + BLOCK,
        row + SEGMENT,
        2 * row,
        row,
        row - SEGMENT / 2,
        3 * row + 5,
        SEGMENT,
        SEGMENT - 4 * BLOCK,
        SEGMENT / 2 - 1,
        4096,
        4095,
        1,
        4096,
        0,
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_crosses_the_border_of_four_tebibytes_and_back_keeps_the_map_of_a_full_backup() {
    let square = 512 * 512 * SEGMENT;
    sizes_in_turn(&[square - SEGMENT, square, square + 1, square + SEGMENT, square, square - 8192]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_past_the_end_of_a_map_is_empty_and_not_somewhere_else_in_it() {
    struct None_;
    #[async_trait::async_trait]
    impl NodeSource for None_ {
        async fn node(&self, id: &NodeId) -> backstay_core::Result<bytes::Bytes> {
            panic!("{id} is read for a place that does not exist")
        }
    }
    let row = 512 * SEGMENT;
    let mut cursor = MapCursor::new(Arc::new(None_), row, Some(NodeId([1; 32])));
    for (level, place) in [(0, 512), (0, 600), (0, 512 * 512), (1, 1), (2, 0)] {
        assert_eq!(cursor.node_id(level, place).await.unwrap(), None, "level {level}, place {place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incremental_reads_the_dirty_bytes_and_six_chunks_a_range_at_most() {
    let (_, repository) = memory_repository().await;
    for seed in 0..4 {
        let random = SeededRandom::new(seed);
        let name = format!("w{seed}");
        let mut disk = dense(4 * SEGMENT + 12_345, seed);
        take(&repository, &name, Source::new(disk.clone()).with_token("0"), false).await;
        let mut dirty = RangeSet::new();
        for _ in 0..[1, 20, 60, 150][seed as usize] {
            let at = random.below(disk.size() / BLOCK) * BLOCK;
            let len = BLOCK * (1 + random.below([1, 4, 40][random.below(3) as usize]));
            disk.write(at, &noise(random.next(), len as usize));
            dirty.insert(at..(at + len).min(disk.size()));
        }
        let (ranges, bytes) = (dirty.ranges().len() as u64, dirty.bytes());
        let source = Source::new(disk.clone()).with_token("1").since("0", ChangedBlocks::Exact(dirty));
        let (point, report, read) = take(&repository, &name, source, false).await;
        assert_eq!(report.method, ReadMethod::Changed);
        let most = bytes + ranges * 6 * 65_536;
        assert!(read <= most, "seed {seed}: {read} bytes for {bytes} dirty ones in {ranges} ranges, at most {most}");
        assert!(restore(&repository, &point).await.unwrap() == disk, "seed {seed}");
    }
}

/// Bytes below a folder.
fn bytes_in(backend: &MemoryBackend, folder: &str) -> (usize, u64) {
    let keys: Vec<_> = backend.keys().into_iter().filter(|key| key.as_str().starts_with(folder)).collect();
    let body = |key: &backstay_core::ObjectKey| {
        futures::FutureExt::now_or_never(backstay_core::StorageBackend::head(backend, key)).unwrap().unwrap().size
    };
    (keys.len(), keys.iter().map(body).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compared_backup_stores_the_changed_chunks_alone() {
    let (backend, repository) = memory_repository().await;
    let mut disk = dense(3 * SEGMENT, 9);
    take(&repository, "web", Source::new(disk.clone()), false).await;
    let before = bytes_in(&backend, "packs/");
    for at in [5 * MIB, 20 * MIB, 20 * MIB + 700_000, 40 * MIB] {
        disk.write(at, b"another byte or two");
    }
    let (point, report, read) = take(&repository, "web", Source::new(disk.clone()), false).await;
    assert_eq!((report.method, read), (ReadMethod::Compared, 3 * SEGMENT));
    let after = bytes_in(&backend, "packs/");
    // Four places, at most three chunks of 96 KiB each, and the padding.
    assert!(after.1 - before.1 <= 4 * 3 * 98_304 + 131_072, "{} bytes of new packs", after.1 - before.1);
    assert!(after.1 > before.1);
    assert!(restore(&repository, &point).await.unwrap() == disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incremental_of_an_unchanged_disk_writes_no_pack_and_no_segment() {
    let (backend, repository) = memory_repository().await;
    let disk = dense(SEGMENT + 5000, 4);
    take(&repository, "web", Source::new(disk.clone()).with_token("0"), false).await;
    let count = |folder| bytes_in(&backend, folder).0;
    let before = [count("packs/"), count("meta/"), count("index/")];
    let exact = ChangedBlocks::Exact(RangeSet::new());
    let all_dirty = ChangedBlocks::Exact([0..disk.size()].into_iter().collect());
    let tracked = |changes| Source::new(disk.clone()).with_token("0").since("0", changes);
    for (changes, method, reads) in [
        (exact, ReadMethod::Changed, 0),
        (all_dirty, ReadMethod::Changed, disk.size()),
        (ChangedBlocks::Untouched, ReadMethod::Untouched, 0),
        (ChangedBlocks::unknown("because"), ReadMethod::Compared, disk.size()),
    ] {
        let (point, report, read) = take(&repository, "web", tracked(changes), false).await;
        assert_eq!((report.method, read), (method, reads));
        assert_eq!([count("packs/"), count("meta/"), count("index/")], before, "{method:?}");
        assert_eq!(point.stored_bytes, 0, "{method:?}");
        assert!(restore(&repository, &point).await.unwrap() == disk, "{method:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_moment_means_compared_and_the_report_says_why() {
    let (_, repository) = memory_repository().await;
    let mut disk = dense(MIB, 4);
    take(&repository, "web", Source::new(disk.clone()).with_token("monday"), false).await;
    disk.write(70_000, b"new");
    let stale = Source::new(disk.clone()).since("sunday", ChangedBlocks::Exact(RangeSet::new()));
    let (point, report, _) = take(&repository, "web", stale, false).await;
    assert_eq!(report.method, ReadMethod::Compared);
    assert_eq!(report.reason.as_deref(), Some("the bitmap is not the one of the parent"));
    assert_eq!(point.disks[0].reason, report.reason);
    assert_eq!(point.disks[0].method, ReadMethod::Compared);
    assert!(restore(&repository, &point).await.unwrap() == disk);
    // A disk that is called untouched and has another size is not believed either.
    disk.resize(2 * MIB);
    take(&repository, "web", Source::new(disk.clone()).with_token("a"), false).await;
    disk.resize(MIB);
    let liar = Source::new(disk.clone()).since("a", ChangedBlocks::Untouched);
    let (point, report, _) = take(&repository, "web", liar, false).await;
    assert_eq!(report.method, ReadMethod::Compared);
    assert!(restore(&repository, &point).await.unwrap() == disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_calls_changed_data_unchanged_is_found_out_by_the_sample() {
    let (_, repository) = memory_repository().await;
    for (name, hole) in [("data", false), ("hole", true)] {
        let mut disk = dense(2 * MIB, 5);
        disk.zero(MIB..2 * MIB);
        take(&repository, name, Source::new(disk.clone()).with_token("0"), false).await;
        disk.write(if hole { MIB + 3 } else { 300_000 }, b"nobody was told");
        let recorder = Arc::new(Recorder::default());
        let ctx = Context::default().with_events(recorder.clone());
        let lie = ChangedBlocks::Exact([4096..8192].into_iter().collect());
        let source = Source::new(disk.clone()).since("0", lie).shared();
        let options = DiskOptions::default().sample(2000);
        let session = SessionOptions::default();
        let (point, report) = back_up(&repository, name, source, &options, session, &ctx).await.unwrap();
        assert_eq!(report.method, ReadMethod::Compared, "{name}");
        assert!(report.reason.unwrap().contains("change tracking is wrong"), "{name}");
        let warnings = recorder.warnings();
        assert!(warnings.iter().any(|warning| warning.contains("change tracking is wrong")), "{warnings:?}");
        assert!(restore(&repository, &point).await.unwrap() == disk, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_reads_a_bounded_part_of_an_honest_source() {
    let (_, repository) = memory_repository().await;
    let disk = dense(2 * SEGMENT, 5);
    take(&repository, "web", Source::new(disk.clone()).with_token("0"), false).await;
    let source = Source::new(disk.clone()).since("0", ChangedBlocks::Exact(RangeSet::new())).shared();
    let ctx = Context::default();
    let options = DiskOptions::default().sample(8);
    let (_, report) =
        back_up(&repository, "web", source.clone(), &options, SessionOptions::default(), &ctx).await.unwrap();
    assert_eq!(report.method, ReadMethod::Changed);
    assert!((1..=8).contains(&source.reads()), "{} reads", source.reads());
    assert!(source.bytes_read() <= 8 * 98_304);
}
