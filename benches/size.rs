//! What a repository costs that is as large as it gets: a synthetic one, made in a folder and deleted afterwards, and each operation
//! on it in a process of its own. Requests, bytes, time, and the most memory that the process ever had.
//!
//! `cargo bench --bench size -- --chunks 10000000 --points 1000 --folder /var/tmp/size`. 16.8 million chunks are a TiB. Exits with a
//! failure above 200 MB and 20 MB for each TiB.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
    time::Instant,
};

use async_trait::async_trait;
use backstay::{
    ChangeBase, ChangeToken, ChangedBlocks, DiskId, DiskSource, Extent, FaultBackend, LocalBackend, RangeSet,
    Repository, Result, Workload, WorkloadId,
    repository::{
        Credential, DiskOptions, InitOptions, PointDetails, PointSelector, PruneOptions, SessionOptions,
        crypto::kdf::KdfParameters,
        synthetic::{self, Shape},
    },
};
use backstay_testkit::SeededRandom;

use support::ctx;

const STEPS: [&str; 5] = ["open", "points", "look-ups", "empty incremental", "prune plan"];
const LOOK_UPS: u64 = 100_000;
const CHUNKS_OF_TIB: f64 = 16_777_216.0;
const PASSPHRASE: &str = "measured";

fn main() -> ExitCode {
    if let Some(step) = std::env::var_os("BACKSTAY_BENCH_STEP") {
        let folder = PathBuf::from(std::env::var_os("BACKSTAY_BENCH_FOLDER").unwrap());
        let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
        let (chunks, workloads) = (number("BACKSTAY_BENCH_CHUNKS"), number("BACKSTAY_BENCH_WORKLOADS"));
        support::runtime().block_on(measure(step.to_str().unwrap(), &folder, chunks, workloads));
        return ExitCode::SUCCESS;
    }
    let mut arguments = std::env::args().skip(1);
    let (mut chunks, mut points, mut folder) = (200_000, 100, std::env::temp_dir());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--chunks" => chunks = arguments.next().unwrap().parse().unwrap(),
            "--points" => points = arguments.next().unwrap().parse().unwrap(),
            "--folder" => folder = arguments.next().unwrap().into(),
            // What `cargo bench` adds by itself.
            "--bench" => {}
            other => panic!("unknown argument {other}"),
        }
    }
    std::fs::create_dir_all(&folder).unwrap();
    let folder = tempfile::tempdir_in(folder).unwrap();
    let started = Instant::now();
    let shape = Shape { chunks, points, points_of_workload: 100.min(points), at_once: 2 };
    let made = support::runtime().block_on(make(folder.path(), shape));
    let bytes = size_of_folder(folder.path());
    println!("{made} chunks, {points} points, {:.2} GB, made in {:.0} s", gb(bytes), started.elapsed().as_secs_f64());
    let limit = 200.0 + 20.0 * made as f64 / CHUNKS_OF_TIB;
    println!("{:<18} {:>9} {:>11} {:>8} {:>9}   (at most {limit:.0} MB)", "", "requests", "MB read", "s", "MB memory");
    let mut within = true;
    for step in STEPS {
        let output = Command::new(std::env::current_exe().unwrap())
            .env("BACKSTAY_BENCH_STEP", step)
            .env("BACKSTAY_BENCH_FOLDER", folder.path())
            .env("BACKSTAY_BENCH_CHUNKS", chunks.to_string())
            .env("BACKSTAY_BENCH_WORKLOADS", points.div_ceil(shape.points_of_workload).to_string())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{step}: {text}{}", String::from_utf8_lossy(&output.stderr));
        print!("{text}");
        let memory: f64 = text.lines().next().unwrap().split_whitespace().last().unwrap().parse().unwrap();
        within &= memory <= limit;
    }
    if within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn make(folder: &Path, shape: Shape) -> u64 {
    let backend = Arc::new(LocalBackend::new(folder).unwrap());
    let kdf = KdfParameters { memory_kib: 64, passes: 1, lanes: 1 };
    let options = InitOptions::passphrase(PASSPHRASE).kdf(kdf).recovery(false);
    let context = backstay::Context::default();
    let made = Repository::init(backend, options, &context).await.unwrap();
    synthetic::fill(&made.repository, shape, &context).await.unwrap()
}

async fn measure(step: &str, folder: &Path, chunks: u64, workloads: u64) {
    let local = Arc::new(LocalBackend::new(folder).unwrap());
    let backend = Arc::new(FaultBackend::new(local));
    let context = backstay::Context::default();
    let started = Instant::now();
    let repository = Repository::open(backend.clone(), Credential::passphrase(PASSPHRASE), &context).await.unwrap();
    let mut note = String::new();
    match step {
        "open" => {}
        "points" => note = format!("{} points", repository.points().await.unwrap().len()),
        "look-ups" => {
            let random = SeededRandom::new(1);
            let of_workload = chunks / workloads * 8 / 10;
            let id = |_| synthetic::chunk_id(random.below(workloads), random.below(of_workload));
            let ids: Vec<_> = (0..LOOK_UPS).map(id).collect();
            let found = synthetic::look_up(&repository, &ids).await.unwrap();
            assert_eq!(found as u64, LOOK_UPS);
        }
        "empty incremental" => empty_incremental(&repository).await,
        "prune plan" => {
            let report = repository.prune(&PruneOptions::default().dry_run(true), &context).await.unwrap();
            note = format!("{:.0} MB of packs are there", report.pack_bytes as f64 / 1e6);
        }
        other => panic!("unknown step {other}"),
    }
    let took = started.elapsed().as_secs_f64();
    let counts = backend.counts();
    let requests = counts.puts + counts.gets + counts.range_gets + counts.heads + counts.lists + counts.deletes;
    let read = counts.bytes_got as f64 / 1e6;
    println!("{step:<18} {requests:>9} {read:>11.1} {took:>8.2} {:>9.0}", peak_mb());
    println!(
        "    {} GET, {} HEAD, {} LIST, {} PUT{}{note}",
        counts.gets + counts.range_gets,
        counts.heads,
        counts.lists,
        counts.puts,
        if note.is_empty() { "" } else { "; " }
    );
}

async fn empty_incremental(repository: &Repository) {
    let workload = WorkloadId::new("workload-00000").unwrap();
    let parent = repository.point(&PointSelector::Latest(Some(workload.clone()))).await.unwrap();
    let source = Arc::new(Unchanged(parent.disks[0].size));
    let workload = Workload { id: workload, kind: "vm".into(), platform: Default::default() };
    let context = ctx();
    let mut session = repository.begin(workload, SessionOptions::default(), &context).await.unwrap();
    let disk = DiskId::new("vda").unwrap();
    let report = session.write_disk(&disk, source, &DiskOptions::default().sample(0)).await.unwrap();
    assert_eq!(report.read_bytes, 0, "{report:?}");
    session.commit(PointDetails::default()).await.unwrap();
}

/// A disk of which nothing changed.
struct Unchanged(u64);

#[async_trait]
impl DiskSource for Unchanged {
    fn size(&self) -> u64 {
        self.0
    }

    async fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>> {
        Ok(vec![Extent::data(range)])
    }

    async fn read(&self, _range: Range<u64>, _buffer: Vec<u8>) -> Result<Vec<u8>> {
        Err(backstay::Error::internal("Nothing changed and it is read all the same"))
    }

    async fn changed_since(&self, _base: &ChangeBase) -> Result<ChangedBlocks> {
        Ok(ChangedBlocks::Exact(RangeSet::default()))
    }

    async fn change_token(&self) -> Result<Option<ChangeToken>> {
        ChangeToken::new(synthetic::TOKEN.to_vec()).map(Some)
    }
}

/// The most memory that this process ever had, in MB; 0 where the system does not tell.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: Option<f64> = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or(0.0) * 1024.0 / 1e6
}

fn size_of_folder(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let size = |entry: std::fs::DirEntry| {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() { size_of_folder(&entry.path()) } else { meta.len() }
    };
    entries.map(size).sum()
}

fn gb(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}
