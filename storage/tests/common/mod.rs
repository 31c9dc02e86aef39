//! What the tests of the repository share.

// Every test binary uses a part of it.
#![allow(dead_code, unused_imports, clippy::unwrap_used, clippy::missing_panics_doc, missing_docs)]

mod keys;
mod sparse;

use std::{ops::Range, sync::Arc};

use backstay_core::{
    Context, DiskId, DiskSource, RestorePoint, Result, StorageBackend, Workload, WorkloadId, WriteOrder,
};
use backstay_storage::{
    MemoryBackend, Repository,
    repository::{
        CheckDepth, CheckReport, Credential, DiskOptions, DiskReport, InitOptions, PointDetails, PointSelector,
        SessionOptions, StoredDisk, crypto::kdf::KdfParameters,
    },
};
use backstay_testkit::{SeededRandom, noise};

pub use keys::{admit, owner_bundle, slots};
pub use sparse::{Sink, Source, Sparse};

pub const MIB: u64 = 1 << 20;
pub const SEGMENT: u64 = 16 << 20;
pub const PASSPHRASE: &str = "correct horse battery staple";
/// Costs nothing: for tests alone.
pub const QUICK_KDF: KdfParameters = KdfParameters { memory_kib: 64, passes: 1, lanes: 1 };

/// A new repository with one passphrase, small packs and a recovery key.
pub fn quick_options() -> InitOptions {
    InitOptions::passphrase(PASSPHRASE).kdf(QUICK_KDF).pack_bytes(1 << 20)
}

/// A new repository in memory.
pub async fn memory_repository() -> (Arc<MemoryBackend>, Repository) {
    let backend = Arc::new(MemoryBackend::new());
    let made = Repository::init(backend.clone(), quick_options().recovery(false), &Context::default()).await.unwrap();
    (backend, made.repository)
}

pub async fn open(backend: Arc<dyn StorageBackend>) -> Result<Repository> {
    Repository::open(backend, Credential::passphrase(PASSPHRASE), &Context::default()).await
}

pub fn workload(name: &str) -> Workload {
    Workload { id: WorkloadId::new(name).unwrap(), kind: "vm".into(), platform: Default::default() }
}

pub fn disk_id(name: &str) -> DiskId {
    DiskId::new(name).unwrap()
}

pub fn selector(point: &RestorePoint) -> PointSelector {
    point.id.to_string().parse().unwrap()
}

/// Options for tests whose reads are counted.
pub fn no_sample() -> DiskOptions {
    DiskOptions::default().sample(0)
}

/// One disk `vda` as a point of a workload. Whatever fails, the session is settled.
pub async fn back_up(
    repository: &Repository,
    name: &str,
    source: Arc<dyn DiskSource>,
    options: &DiskOptions,
    session: SessionOptions,
    ctx: &Context,
) -> Result<(RestorePoint, DiskReport)> {
    let mut session = repository.begin(workload(name), session, ctx).await?;
    match session.write_disk(&disk_id("vda"), source, options).await {
        Ok(report) => Ok((session.commit(PointDetails::default()).await?, report)),
        Err(error) => {
            session.abort().await;
            Err(error)
        }
    }
}

/// The same with defaults, for content that only has to be there.
pub async fn back_up_disk(repository: &Repository, name: &str, disk: &Sparse) -> Result<RestorePoint> {
    let source = Source::new(disk.clone()).shared();
    let ctx = Context::default();
    Ok(back_up(repository, name, source, &no_sample(), SessionOptions::default(), &ctx).await?.0)
}

pub async fn stored_disk(repository: &Repository, point: &RestorePoint) -> Result<StoredDisk> {
    repository.disk(&selector(point), &disk_id("vda"), &Context::default()).await
}

/// Restores a whole stored disk into memory.
pub async fn restored(disk: &StoredDisk, order: WriteOrder) -> Result<sparse::Given> {
    let sink = Sink::new(disk.size(), order);
    disk.restore_to(&sink, 0..disk.size(), &Context::default()).await?;
    Ok(sink.given())
}

/// Restores the disk `vda` of a point.
pub async fn restore(repository: &Repository, point: &RestorePoint) -> Result<Sparse> {
    let disk = stored_disk(repository, point).await?;
    Ok(restored(&disk, WriteOrder::Any).await?.disk)
}

pub async fn check_all(repository: &Repository) -> Result<CheckReport> {
    repository.check(CheckDepth::Read(100), &Context::default()).await
}

#[track_caller]
pub fn assert_clean(report: &CheckReport, why: &str) {
    assert!(report.is_clean(), "{why}: {:#?}", report.findings);
}

/// Content as on a real disk: text, noise and holes in runs of all lengths, from this range on.
pub fn fill(disk: &mut Sparse, range: Range<u64>, seed: u64) {
    let random = SeededRandom::new(seed);
    let mut at = range.start;
    while at < range.end {
        let longest = [600, 5_000, 70_000, 300_000, 900_000][random.below(5) as usize];
        let len = (1 + random.below(longest)).min(range.end - at);
        match random.below(5) {
            0 => {}
            1 => {
                let text = format!("line {} of a log that says little\n", random.below(1000));
                disk.write(at, &text.into_bytes().into_iter().cycle().take(len as usize).collect::<Vec<_>>());
            }
            _ => disk.write(at, &noise(random.next(), len as usize)),
        }
        at += len;
    }
}

/// A disk that is filled from end to end.
pub fn filled(size: u64, seed: u64) -> Sparse {
    let mut disk = Sparse::new(size);
    fill(&mut disk, 0..size, seed);
    disk
}

/// A disk of incompressible bytes without a hole.
pub fn dense(size: u64, seed: u64) -> Sparse {
    Sparse::of(&noise(seed, size as usize))
}
