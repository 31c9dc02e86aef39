//! The format stands still: the same randomness gives the same bytes, and a repository of this version opens for ever.
//!
//! `fixtures/v1` was written by [`write_the_fixture`]: `cargo test -p backstay-storage --test vectors -- --ignored`. It is never
//! written again; a new format version gets a folder of its own, and this one must go on opening.

// A set of one range is what is meant, not the numbers in it.
#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

mod common;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use backstay_core::{
    ChangedBlocks, Consistency, Context, Limits, ObjectKey, PutMode, RangeSet, ReadMethod, RestorePoint,
    StorageBackend, Timestamp,
};
use backstay_storage::{
    MemoryBackend, Repository,
    repository::{
        Compression, Credential, InitOptions, NewSlot, PointDetails, PruneOptions, SecretKey, SessionOptions,
    },
};
use backstay_testkit::{ManualClock, SeededRandom, noise};
use bytes::Bytes;
use common::{PASSPHRASE, QUICK_KDF, SEGMENT, Source, Sparse, assert_clean, check_all, disk_id, no_sample, workload};
use futures::StreamExt;
use secrecy::{ExposeSecret, SecretString};

/// Everything that could differ from run to run is decided here.
fn decided(seed: u64) -> Context {
    let mut limits = Limits::default().cpu_jobs(1).uploads(1).downloads(1);
    limits.windows = 1;
    let clock = ManualClock::new("2026-11-20T10:00:00Z".parse::<Timestamp>().unwrap()).stepping(1_000_000_000);
    Context::default().with_limits(limits).with_random(Arc::new(SeededRandom::new(seed))).with_clock(Arc::new(clock))
}

/// The disk of the first point and of the second: noise, text, holes, a partial last block, two segments.
fn disks() -> [Sparse; 2] {
    let mut first = Sparse::new(SEGMENT + 5000);
    first.write(0, &noise(1, 9000));
    first.write(100_000, &b"the quick brown fox jumps over the lazy dog. ".repeat(200));
    first.write(SEGMENT + 4000, &noise(2, 1000));
    let mut second = first.clone();
    second.write(101_000, b"THE END");
    [first, second]
}

const STREAM_BYTES: usize = 20_000;

struct Made {
    memory: Arc<MemoryBackend>,
    recovery: SecretString,
    key_file: SecretString,
}

async fn make(compression: Compression) -> Made {
    let ctx = decided(2026);
    let memory = Arc::new(MemoryBackend::new());
    let key_file = SecretKey::generate(&ctx).unwrap();
    let slots = vec![NewSlot::Passphrase(SecretString::from(PASSPHRASE)), NewSlot::KeyFile(key_file.clone())];
    let options = InitOptions::slots(slots).kdf(QUICK_KDF).pack_bytes(1 << 20);
    let made = Repository::init(memory.clone(), options, &ctx).await.unwrap();
    let databases = [plain_point(&made.repository, 4, &ctx).await, plain_point(&made.repository, 5, &ctx).await];
    let [first, second] = disks();
    for (number, disk) in [first, second].into_iter().enumerate() {
        if number == 1 {
            // From here on there is a folded state: points are settled, of one only its hash is left, and segments are base segments.
            made.repository.forget(&[databases[0].id], &ctx).await.unwrap();
            let report = made.repository.prune(&PruneOptions::default(), &ctx).await.unwrap();
            assert!(report.removed_points == 1 && report.deleted_packs > 0, "{report:?}");
        }
        let labels = BTreeMap::from([("made".to_owned(), "for ever".to_owned())]);
        let session = SessionOptions::default().compression(compression).labels(labels);
        let mut what = workload("web");
        what.platform.insert("host".into(), "example".into());
        let mut session = made.repository.begin(what, session, &ctx).await.unwrap();
        let dirty = ChangedBlocks::Exact(RangeSet::from_iter([101_000..101_007]));
        let source = Source::new(disk).with_token(&number.to_string()).since("0", dirty).shared();
        session.write_disk(&disk_id("vda"), source, &no_sample()).await.unwrap();
        let stream = Bytes::from(noise(3, STREAM_BYTES));
        session.write_stream("dump", futures::stream::iter([Ok(stream)]).boxed()).await.unwrap();
        session.attach("domain.xml", "application/xml", Bytes::from_static(b"<domain/>")).await.unwrap();
        session.commit(PointDetails::default().consistency(Consistency::Filesystem)).await.unwrap();
    }
    // A backup that broke off after a checkpoint, a point that is forgotten and still there, and a generation that waits.
    let options = SessionOptions::default().compression(compression).checkpoints(1, Duration::ZERO);
    let mut session = made.repository.begin(workload("broken-off"), options, &ctx).await.unwrap();
    let disk = Source::new(noisy(6)).shared();
    session.write_disk(&disk_id("vda"), disk, &no_sample()).await.unwrap();
    drop(session);
    made.repository.forget(&[databases[1].id], &ctx).await.unwrap();
    let report = made.repository.prune(&PruneOptions::default(), &ctx).await.unwrap();
    assert_eq!((report.waiting_for.len(), report.deleted_packs), (1, 0), "{report:?}");
    Made { memory, recovery: made.recovery_key.unwrap(), key_file: key_file.to_text() }
}

fn noisy(seed: u64) -> Sparse {
    let mut disk = Sparse::new(40_000);
    disk.write(0, &noise(seed, 40_000));
    disk
}

/// A point of another workload, to be forgotten.
async fn plain_point(repository: &Repository, seed: u64, ctx: &Context) -> RestorePoint {
    let source = Source::new(noisy(seed)).shared();
    let session = SessionOptions::default();
    common::back_up(repository, "db", source, &no_sample(), session, ctx).await.unwrap().0
}

/// What must be among the objects, so that every sort of record is kept for ever.
fn covers_every_sort(names: &[String]) {
    let has = |wanted: &dyn Fn(&str) -> bool| names.iter().any(|name| wanted(name));
    for folder in ["chain/3", "folded/3-", "points/", "forgotten/", "holds/", "index/", "packs/", "meta/", "keys/"] {
        assert!(has(&|name| name.starts_with(folder)), "nothing below {folder}");
    }
    for part in ["/open", "/outcome", "/checkpoint-0"] {
        assert!(has(&|name| name.starts_with("sessions/") && name.ends_with(part)), "no {part}");
    }
    assert!(has(&|name| name.contains("/seen-")), "nothing was seen");
}

/// Everything that can be said of the repository from outside.
async fn verify(backend: Arc<dyn StorageBackend>, credential: Credential) {
    let ctx = Context::default();
    let repository = Repository::open(backend, credential, &ctx).await.unwrap();
    assert_clean(&check_all(&repository).await.unwrap(), "fixture");
    let points = repository.points().await.unwrap();
    assert_eq!(points.len(), 2);
    for (number, (point, disk)) in points.iter().zip(disks()).enumerate() {
        assert_eq!(point.sequence, number as u64 + 1);
        assert_eq!(point.disks[0].method, [ReadMethod::Full, ReadMethod::Changed][number]);
        assert_eq!(point.consistency, Consistency::Filesystem);
        assert_eq!(point.workload.platform["host"], "example");
        assert_eq!(point.labels["made"], "for ever");
        assert!(common::restore(&repository, point).await.unwrap() == disk);
        let mut stream = Vec::new();
        let stored = repository.stream(&common::selector(point), "dump").await.unwrap();
        let read = stored.read_all(&ctx, async |piece| {
            stream.extend_from_slice(&piece);
            Ok(())
        });
        read.await.unwrap();
        assert!(stream == noise(3, STREAM_BYTES));
        let note = repository.attachment(&common::selector(point), "domain.xml", &ctx).await.unwrap();
        assert_eq!(note, "<domain/>");
    }
    assert_eq!(points[1].parent, Some(points[0].id));
    assert_eq!(points[1].disks[0].read_bytes % 4096, 0);
}

async fn objects(memory: &MemoryBackend) -> BTreeMap<String, Bytes> {
    let mut objects = BTreeMap::new();
    for key in memory.keys() {
        objects.insert(key.to_string(), memory.get(&key).await.unwrap());
    }
    objects
}

/// Names and hashes of every object; without compression, since zstd may pack better one day.
const GOLDEN: &str = include_str!("fixtures/golden-v1.txt");

async fn listing() -> String {
    let made = make(Compression::None).await;
    let objects = objects(&made.memory).await;
    let line = |(name, body): (&String, &Bytes)| format!("{} {} {name}\n", blake3::hash(body).to_hex(), body.len());
    objects.iter().map(line).collect()
}

#[tokio::test]
async fn the_same_randomness_and_time_give_the_same_bytes_every_time() {
    let listing = listing().await;
    assert_eq!(listing, self::listing().await, "two runs differ");
    assert_eq!(listing, GOLDEN, "the format has changed");
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

fn load(folder: &Path, below: &Path, into: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            load(folder, &path, into);
        } else {
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().replace('\\', "/");
            into.push((name, std::fs::read(&path).unwrap()));
        }
    }
}

#[tokio::test]
async fn a_repository_of_format_version_1_opens_and_restores() {
    let mut objects = Vec::new();
    load(&fixture().join("repository"), &fixture().join("repository"), &mut objects);
    covers_every_sort(&objects.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    assert!(objects.iter().map(|(_, body)| body.len()).sum::<usize>() < 900_000);
    let memory = Arc::new(MemoryBackend::new());
    for (name, body) in objects {
        memory.put(&ObjectKey::new(name).unwrap(), body.into(), PutMode::Create).await.unwrap();
    }
    let text = |name: &str| std::fs::read_to_string(fixture().join(name)).unwrap().trim().to_owned();
    verify(memory.clone(), Credential::passphrase(text("passphrase.txt"))).await;
    verify(memory.clone(), Credential::passphrase(text("recovery-key.txt"))).await;
    verify(memory.clone(), Credential::Key(SecretKey::parse(&text("key-file.txt")).unwrap())).await;
    // And it goes on: the next backup is an incremental.
    let repository = common::open(memory.clone()).await.unwrap();
    let [_, second] = disks();
    let source = Source::new(second.clone()).since("1", ChangedBlocks::Exact(RangeSet::new())).shared();
    let ctx = Context::default();
    let session = SessionOptions::default();
    let (point, report) = common::back_up(&repository, "web", source, &no_sample(), session, &ctx).await.unwrap();
    assert_eq!((report.method, point.stored_bytes), (ReadMethod::Changed, 0));
    assert!(common::restore(&repository, &point).await.unwrap() == second);
    // The open generation is finished, and the next one finds nothing but what was forgotten.
    let impatient = PruneOptions::default().stale_after(Duration::ZERO);
    let report = repository.prune(&impatient, &ctx).await.unwrap();
    assert!(report.fenced_sessions.len() == 1 && report.removed_points == 1, "{report:?}");
    repository.prune(&impatient, &ctx).await.unwrap();
    assert_clean(&check_all(&repository).await.unwrap(), "after prunes");
    assert!(common::restore(&repository, &point).await.unwrap() == second);
}

#[tokio::test]
#[ignore = "writes files that are written once for each version of the format"]
async fn write_the_fixture() {
    let folder = fixture();
    std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
    let golden = folder.with_file_name("golden-v1.txt");
    std::fs::write(golden, listing().await).unwrap();
    assert!(!folder.exists(), "it is never written again");
    let made = make(Compression::default()).await;
    verify(made.memory.clone(), Credential::passphrase(PASSPHRASE)).await;
    let objects = objects(&made.memory).await;
    covers_every_sort(&objects.keys().cloned().collect::<Vec<_>>());
    for (name, body) in objects {
        let path = folder.join("repository").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, body).unwrap();
    }
    for (name, secret) in [("recovery-key.txt", &made.recovery), ("key-file.txt", &made.key_file)] {
        std::fs::write(folder.join(name), format!("{}\n", secret.expose_secret())).unwrap();
    }
    std::fs::write(folder.join("passphrase.txt"), format!("{PASSPHRASE}\n")).unwrap();
    // What other readers have to find in it.
    let repository = common::open(made.memory).await.unwrap();
    let mut contents = String::new();
    for point in repository.points().await.unwrap() {
        let disk = common::restore(&repository, &point).await.unwrap();
        let hash = blake3::hash(&disk.read(0..disk.size())).to_hex();
        contents += &format!("{} vda {hash}\n", point.id);
    }
    std::fs::write(folder.join("contents.txt"), contents).unwrap();
}
