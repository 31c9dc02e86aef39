//! The damage matrix: every kind of object, damaged in every way, before every command.
//!
//! The rows come from what a real repository holds ([`kind_of`] knows no kind that it is not told of) and from
//! [`ObjectType`] (a new type does not compile without saying where it is stored), so that a new kind cannot be forgotten.

// A set of one range is what is meant, not the numbers in it.
#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use backstay_core::{
    ChangedBlocks, Context, DiskSource, Error, ErrorKind, ObjectKey, PutMode, RangeSet, RestorePoint, Result,
    StorageBackend,
};
use backstay_storage::{
    MemoryBackend, Repository,
    backend::{Fault, FaultBackend, Operation, Rule},
    repository::{
        CheckDepth, DiskOptions, NewSlot, PointDetails, PruneOptions, RepairOptions, SecretKey, SessionOptions,
        crypto::ObjectType,
    },
};
use backstay_testkit::{SeededRandom, noise};
use bytes::Bytes;
use common::{
    QUICK_KDF, SEGMENT, Source, Sparse, assert_clean, back_up, check_all, disk_id, fill, no_sample, open,
    quick_options, selector, stored_disk, workload,
};
use futures::{FutureExt, StreamExt};

/// What lies in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Config,
    Slot,
    Share,
    Chain,
    Folded,
    SessionOpen,
    SessionCheckpoint,
    SessionSeen,
    SessionOutcome,
    Point,
    Hold,
    Tombstone,
    Lost,
    CheckRecord,
    Index,
    DataPack,
    MetaPack,
}

/// Of what kind an object is. A folder that is not here has no row: give it one.
fn kind_of(key: &ObjectKey) -> Kind {
    let parts: Vec<_> = key.as_str().split('/').collect();
    match parts.as_slice() {
        ["config"] => Kind::Config,
        ["keys", _] => Kind::Slot,
        ["epochs", _, _] => Kind::Share,
        ["chain", _] => Kind::Chain,
        ["sessions", _, "open"] => Kind::SessionOpen,
        ["folded", _] => Kind::Folded,
        ["sessions", _, "outcome"] => Kind::SessionOutcome,
        ["sessions", _, part] if part.starts_with("checkpoint-") => Kind::SessionCheckpoint,
        ["sessions", _, part] if part.starts_with("seen-") => Kind::SessionSeen,
        ["points", _] => Kind::Point,
        ["holds", _, _] => Kind::Hold,
        ["forgotten", _] => Kind::Tombstone,
        ["lost", _, _] => Kind::Lost,
        ["checks", _] => Kind::CheckRecord,
        ["index", _] => Kind::Index,
        ["packs", _, _] => Kind::DataPack,
        ["meta", _, _] => Kind::MetaPack,
        _ => panic!("{key} is of a kind without a row in the damage matrix"),
    }
}

/// Where each type of sealed or signed thing is stored; `None` for those that nothing writes yet.
fn stored_in(object: ObjectType) -> Option<Kind> {
    match object {
        ObjectType::Chunk | ObjectType::SessionKey => Some(Kind::DataPack),
        ObjectType::Node => Some(Kind::MetaPack),
        // Of both sorts of packs.
        ObjectType::Directory => Some(Kind::DataPack),
        ObjectType::IndexPage | ObjectType::IndexFooter => Some(Kind::Index),
        ObjectType::Point => Some(Kind::Point),
        ObjectType::SessionOpen => Some(Kind::SessionOpen),
        ObjectType::SessionOutcome => Some(Kind::SessionOutcome),
        ObjectType::Chain => Some(Kind::Chain),
        ObjectType::Slot => Some(Kind::Slot),
        ObjectType::EpochShare => Some(Kind::Share),
        ObjectType::Config => Some(Kind::Config),
        ObjectType::Forgotten => Some(Kind::Tombstone),
        ObjectType::Hold => Some(Kind::Hold),
        ObjectType::SessionCheckpoint => Some(Kind::SessionCheckpoint),
        ObjectType::SessionSeen => Some(Kind::SessionSeen),
        ObjectType::Folded => Some(Kind::Folded),
        ObjectType::Lost => Some(Kind::Lost),
        ObjectType::CheckRecord => Some(Kind::CheckRecord),
        ObjectType::Verified => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    /// Flips a bit of the byte at this share of the object.
    Flip(Place),
    /// Cuts it off after this share.
    Truncate(Place),
    Empty,
    Delete,
    /// Another object of the same kind, of this repository or else of another, stands in its place.
    Swap,
    Append,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    First,
    At(u64),
    Random,
    Last,
}

impl Place {
    fn of(self, len: usize, random: &SeededRandom) -> usize {
        let last = len - 1;
        match self {
            Self::First => 0,
            Self::At(byte) => (byte as usize).min(last),
            Self::Random => random.below(len as u64) as usize,
            Self::Last => last,
        }
    }
}

const DAMAGES: [Damage; 14] = [
    Damage::Flip(Place::First),
    Damage::Flip(Place::At(4)),
    Damage::Flip(Place::At(6)),
    Damage::Flip(Place::At(9)),
    Damage::Flip(Place::Random),
    Damage::Flip(Place::Random),
    Damage::Flip(Place::Random),
    Damage::Flip(Place::Last),
    Damage::Truncate(Place::Random),
    Damage::Truncate(Place::Last),
    Damage::Empty,
    Damage::Delete,
    Damage::Swap,
    Damage::Append,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Open,
    Points,
    Restore,
    CheckStructure,
    CheckAll,
    FullBackup,
    Incremental,
}

const COMMANDS: [Command; 7] = [
    Command::Open,
    Command::Points,
    Command::Restore,
    Command::CheckStructure,
    Command::CheckAll,
    Command::FullBackup,
    Command::Incremental,
];

/// A repository with a bit of everything.
struct Scene {
    memory: MemoryBackend,
    /// What each point holds.
    points: Vec<(RestorePoint, Sparse)>,
    /// Points with a tombstone that is still there.
    forgotten: Vec<RestorePoint>,
    /// What a backup has left behind that broke off, and index segments that others stand for.
    unneeded: BTreeSet<ObjectKey>,
    next: Sparse,
    stream: Bytes,
}

async fn scene(seed: u64) -> Scene {
    let memory = Arc::new(MemoryBackend::new());
    // Decided by the seed, so that a fault can be found again.
    let ctx = Context::default().with_random(Arc::new(SeededRandom::new(seed)));
    let mut options = quick_options().kdf(QUICK_KDF);
    options.slots.push(NewSlot::KeyFile(SecretKey::generate(&ctx).unwrap()));
    let mut repository = Repository::init(memory.clone(), options, &ctx).await.unwrap().repository;
    // Three segments with data and a hole between them: a map of two levels.
    let mut disk = Sparse::new(3 * SEGMENT + 12_345);
    fill(&mut disk, 0..900_000, seed);
    fill(&mut disk, 2 * SEGMENT + 70_000..2 * SEGMENT + 600_000, seed + 1);
    fill(&mut disk, 3 * SEGMENT..3 * SEGMENT + 12_345, seed + 2);
    let stream = Bytes::from(noise(seed + 3, 300_000));
    let (mut points, mut unneeded, mut forgotten) = (Vec::new(), BTreeSet::new(), Vec::new());
    for (name, step) in [("web", 0), ("db", 0), ("web", 1)] {
        if step == 1 {
            lose_and_heal(&repository, &memory, &disk, &ctx).await;
            disk.write(100_000, &noise(seed + 4, 200_000));
            (unneeded, forgotten) = prune(&repository, &memory, seed, &ctx).await;
        }
        if name == "db" {
            disk.write(700_000, b"a database");
        }
        let mut session = repository.begin(workload(name), SessionOptions::default(), &ctx).await.unwrap();
        let source = Source::new(disk.clone()).with_token(&format!("{name} {step}")).shared();
        session.write_disk(&disk_id("vda"), source, &no_sample()).await.unwrap();
        let bytes = futures::stream::iter([Ok(stream.clone())]).boxed();
        session.write_stream("dump", bytes).await.unwrap();
        session.attach("note", "text/plain", Bytes::from_static(b"a note")).await.unwrap();
        points.push((session.commit(PointDetails::default()).await.unwrap(), disk.clone()));
        if name == "db" {
            repository = repository.rotate(&ctx).await.unwrap().repository;
        }
    }
    repository.hold(&points[1].0.id, "evidence", &ctx).await.unwrap();
    let old = common::back_up_disk(&repository, "old", &Sparse::new(SEGMENT)).await.unwrap();
    repository.forget(&[old.id], &ctx).await.unwrap();
    forgotten.push(old);
    let mut next = disk;
    next.write(500_000, b"the next day");
    for _ in 0..2 {
        assert_clean(&repository.check(CheckDepth::Read(20), &ctx).await.unwrap(), "the scene");
    }
    assert_clean(&check_all(&repository).await.unwrap(), "the scene");
    Scene { memory: memory.fork(), points, forgotten, unneeded, next, stream }
}

/// A chunk of the disk is lost, that is written down, and another backup brings it back.
async fn lose_and_heal(repository: &Repository, memory: &MemoryBackend, disk: &Sparse, ctx: &Context) {
    for key in memory.keys().into_iter().filter(|key| kind_of(key) == Kind::DataPack) {
        memory.tamper(&key, |bytes| bytes[100] ^= 1).unwrap();
        let plan = repository.repair_packs(&RepairOptions::default().dry_run(true), ctx).await.unwrap();
        if plan.lost.iter().any(|lost| lost.streams.is_empty()) {
            break;
        }
        memory.tamper(&key, |bytes| bytes[100] ^= 1).unwrap();
    }
    let done = repository.repair_packs(&RepairOptions::default(), ctx).await.unwrap();
    assert!(done.damaged.len() == 1 && !done.lost.is_empty(), "{done:?}");
    common::back_up_disk(repository, "healer", disk).await.unwrap();
    let done = repository.repair_packs(&RepairOptions::default(), ctx).await.unwrap();
    assert!(done.lost.is_empty(), "{done:?}");
}

/// From here on points are settled, one is gone, another is about to go, and a generation waits for a backup that broke off.
async fn prune(
    repository: &Repository,
    memory: &MemoryBackend,
    seed: u64,
    ctx: &Context,
) -> (BTreeSet<ObjectKey>, Vec<RestorePoint>) {
    let at_first = memory.keys();
    let mut disk = Sparse::new(SEGMENT);
    fill(&mut disk, 0..300_000, seed + 5);
    let gone = common::back_up_disk(repository, "gone", &disk).await.unwrap();
    repository.forget(&[gone.id], ctx).await.unwrap();
    let segments = memory.keys().into_iter().filter(|key| kind_of(key) == Kind::Index && !at_first.contains(key));
    let segments: Vec<_> = segments.collect();
    let report = repository.prune(&PruneOptions::default(), ctx).await.unwrap();
    assert!(report.merged_segments > 0, "the dead packs of the point that is gone are named no more");
    assert!(report.removed_points == 1 && report.deleted_packs > 0, "{report:?}");
    let before: BTreeSet<_> = memory.keys().into_iter().collect();
    let often = SessionOptions::default().checkpoints(1, Duration::ZERO);
    let mut session = repository.begin(workload("broken-off"), often, ctx).await.unwrap();
    fill(&mut disk, 0..300_000, seed + 6);
    session.write_disk(&disk_id("vda"), Source::new(disk.clone()).shared(), &no_sample()).await.unwrap();
    drop(session);
    let after = memory.keys();
    // What makes a generation worth it.
    let gone = common::back_up_disk(repository, "gone", &disk).await.unwrap();
    repository.forget(&[gone.id], ctx).await.unwrap();
    let report = repository.prune(&PruneOptions::default(), ctx).await.unwrap();
    assert_eq!((report.waiting_for.len(), report.deleted_packs), (1, 0), "{report:?}");
    let seen = memory.keys().into_iter().filter(|key| key.as_str().contains("/seen-"));
    let unneeded = after.into_iter().filter(|key| !before.contains(key)).chain(seen).chain(segments).collect();
    (unneeded, vec![gone])
}

/// How a command ended; `Ok(false)` for a check that has findings.
type Outcome = Result<bool>;

/// Reads everything of a point; wrong bytes are a panic, whatever is damaged.
async fn read_point(repository: &Repository, point: &RestorePoint, disk: &Sparse, stream: &Bytes) -> Result<()> {
    let ctx = Context::default();
    let stored = stored_disk(repository, point).await?;
    let given = common::restored(&stored, backstay_core::WriteOrder::Any).await;
    // The same bytes by small reads, which go another way.
    for at in [0, 110_000, 500_000, 2 * SEGMENT + 71_000, 3 * SEGMENT] {
        if let Ok(bytes) = stored.read(at..at + 5000, Vec::new()).await {
            assert!(bytes == disk.read(at..at + 5000), "wrong bytes were read");
        }
    }
    assert!(given?.disk == *disk, "wrong bytes were restored");
    let mut got = Vec::new();
    let read = repository.stream(&selector(point), "dump").await?;
    let all = read.read_all(&ctx, async |piece| {
        got.extend_from_slice(&piece);
        Ok(())
    });
    let all = all.await;
    assert!(stream.starts_with(&got), "wrong bytes of a stream were read");
    all?;
    assert!(got == *stream, "a stream ended early");
    assert!(repository.attachment(&selector(point), "note", &ctx).await? == "a note");
    Ok(())
}

async fn run(command: Command, scene: &Scene, backend: Arc<dyn StorageBackend>) -> Outcome {
    let ctx = Context::default();
    let repository = open(backend).await?;
    let found = |report: backstay_storage::repository::CheckReport| report.is_clean();
    match command {
        Command::Open => {}
        Command::Points => drop(repository.points().await?),
        Command::Restore => {
            let mut failed = None;
            for (point, disk) in &scene.points {
                failed = read_point(&repository, point, disk, &scene.stream).await.err().or(failed);
            }
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Command::CheckStructure => return repository.check(CheckDepth::Structure, &ctx).await.map(found),
        Command::CheckAll => return check_all(&repository).await.map(found),
        Command::FullBackup | Command::Incremental => {
            let full = command == Command::FullBackup;
            let dirty = ChangedBlocks::Exact(RangeSet::from_iter([500_000..500_012]));
            let source = Source::new(scene.next.clone()).since("web 1", dirty).shared();
            let session = SessionOptions::default().full(full);
            let (point, _) = back_up(&repository, "web", source, &DiskOptions::default(), session, &ctx).await?;
            // It may lean on what is damaged, and then says so.
            let disk = stored_disk(&repository, &point).await?;
            let restored = common::restored(&disk, backstay_core::WriteOrder::Any).await?.disk;
            // A parent that vanished means a full read or a compared one; a different disk would mean wrong bytes.
            assert!(restored == scene.next, "a new point holds wrong bytes");
        }
    }
    Ok(true)
}

fn is_typed(error: &Error) -> bool {
    use ErrorKind::{Integrity, NotFound, PermissionDenied, Unsupported};
    matches!(error.kind(), Integrity | NotFound | PermissionDenied | Unsupported)
}

/// Damage that no check of this repository alone can see.
fn beyond_any_check(kind: Kind, damage: Damage, key: &ObjectKey, scene: &Scene) -> bool {
    let forgotten = scene.forgotten.iter().any(|point| key.as_str().contains(&point.id.to_string()));
    // Without its outcome a session looks like one that never ended. A later point of the same workload tells.
    let newest = |name: &str| {
        let point = scene.points.iter().rfind(|(point, _)| point.workload.id.as_str() == name).unwrap();
        key.as_str().contains(&point.0.id.to_string())
    };
    match kind {
        // Nothing depends on it, and what is unfinished may end anywhere. That it is as it was written is looked at all the same.
        Kind::SessionOpen | Kind::SessionCheckpoint | Kind::SessionSeen | Kind::DataPack | Kind::MetaPack
            if scene.unneeded.contains(key) =>
        {
            damage == Damage::Delete
        }
        Kind::Index if scene.unneeded.contains(key) => true,
        // The next sweep removes those that the head does not name.
        Kind::Folded => {
            let number = |key: &ObjectKey| key.name().split('-').next().and_then(|number| number.parse::<u64>().ok());
            let head = scene.memory.keys().iter().filter(|key| kind_of(key) == Kind::Chain).filter_map(number).max();
            number(key) < head
        }
        Kind::SessionOutcome if damage == Damage::Delete => newest("web") || newest("db") || forgotten,
        // Nobody misses the point, nor that it was about to go.
        Kind::Point | Kind::Hold if forgotten => true,
        // Without it there is no hold, or the point is there again, or the record before it counts.
        Kind::Hold | Kind::Tombstone => damage == Damage::Delete,
        // Nobody misses what was read, nor what was lost when it is not lost any more.
        Kind::Lost => damage == Damage::Delete || key.name() == "1",
        Kind::CheckRecord => damage == Damage::Delete,
        _ => false,
    }
}

async fn apply(damage: Damage, memory: &MemoryBackend, key: &ObjectKey, sibling: &Bytes, random: &SeededRandom) {
    let body = memory.get(key).await.unwrap();
    match damage {
        Damage::Flip(place) => memory
            .tamper(key, |bytes| {
                let at = place.of(bytes.len(), random);
                bytes[at] ^= 1 << random.below(8);
            })
            .unwrap(),
        Damage::Truncate(place) => memory.tamper(key, |bytes| bytes.truncate(place.of(body.len(), random))).unwrap(),
        Damage::Empty => memory.tamper(key, Vec::clear).unwrap(),
        Damage::Delete => memory.delete(key).await.unwrap(),
        Damage::Swap => memory.put(key, sibling.clone(), PutMode::Replace).await.unwrap(),
        Damage::Append => memory.tamper(key, |bytes| bytes.push(0)).unwrap(),
    }
}

async fn rows_of(memory: &MemoryBackend) -> BTreeMap<Kind, Vec<ObjectKey>> {
    let mut rows: BTreeMap<Kind, Vec<ObjectKey>> = BTreeMap::new();
    for key in memory.keys() {
        rows.entry(kind_of(&key)).or_default().push(key);
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_object_has_a_row_in_the_matrix() {
    let scene = scene(1).await;
    let rows: BTreeSet<_> = rows_of(&scene.memory).await.into_keys().collect();
    let types = (1..=21_u8).filter_map(|number| TYPES.iter().copied().find(|object| *object as u8 == number));
    let stored: BTreeSet<_> = types.filter_map(stored_in).collect();
    assert_eq!(rows, stored, "what is stored and what has a row differ");
}

const TYPES: [ObjectType; 21] = [
    ObjectType::Chunk,
    ObjectType::Node,
    ObjectType::Directory,
    ObjectType::IndexPage,
    ObjectType::IndexFooter,
    ObjectType::Point,
    ObjectType::SessionOpen,
    ObjectType::SessionCheckpoint,
    ObjectType::SessionOutcome,
    ObjectType::Chain,
    ObjectType::Forgotten,
    ObjectType::Verified,
    ObjectType::CheckRecord,
    ObjectType::Lost,
    ObjectType::Slot,
    ObjectType::Config,
    ObjectType::SessionKey,
    ObjectType::Folded,
    ObjectType::SessionSeen,
    ObjectType::Hold,
    ObjectType::EpochShare,
];

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn no_damage_gives_wrong_bytes_or_a_panic_and_a_check_finds_it() {
    let (scene, other) = (block_on(scene(10)), block_on(scene(20)));
    let strangers = block_on(rows_of(&other.memory));
    let mut cells = Vec::new();
    for (kind, keys) in block_on(rows_of(&scene.memory)) {
        // All of the small kinds, some of the many.
        for (number, key) in keys.iter().take(4).enumerate() {
            let sibling = match keys.len() {
                1 => block_on(other.memory.get(&strangers[&kind][0])).unwrap(),
                many => block_on(scene.memory.get(&keys[(number + 1) % many])).unwrap(),
            };
            cells.extend(DAMAGES.map(|damage| (kind, key.clone(), damage, sibling.clone())));
        }
    }
    assert!(cells.len() > 300, "{}", cells.len());
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    let work = || {
        block_on(async {
            while let Some((kind, key, damage, sibling)) = cells.get(next.fetch_add(1, Ordering::SeqCst)) {
                let found = cell(&scene, *kind, key, *damage, sibling).await;
                wrong.lock().unwrap().extend(found);
            }
        });
    };
    std::thread::scope(|threads| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            threads.spawn(work);
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort();
    assert!(wrong.is_empty(), "{} faults in {} cells:\n{}", wrong.len(), cells.len(), wrong.join("\n"));
}

/// One object, one damage, all commands.
async fn cell(scene: &Scene, kind: Kind, key: &ObjectKey, damage: Damage, sibling: &Bytes) -> Vec<String> {
    let mut wrong = Vec::new();
    let body = scene.memory.get(key).await.unwrap();
    let seed =
        u64::from_le_bytes(blake3::hash(format!("{key} {damage:?}").as_bytes()).as_bytes()[..8].try_into().unwrap());
    let seed = seed ^ key.as_str().len() as u64;
    for command in COMMANDS {
        let at = format!("{kind:?} {damage:?} {command:?} ({key})");
        let memory = Arc::new(scene.memory.fork());
        apply(damage, &memory, key, sibling, &SeededRandom::new(seed)).await;
        if memory.get(key).await.is_ok_and(|now| now == body) {
            continue;
        }
        let outcome = AssertUnwindSafe(run(command, scene, memory.clone())).catch_unwind().await;
        let Ok(outcome) = outcome else {
            wrong.push(format!("{at}: a panic or wrong bytes"));
            continue;
        };
        match &outcome {
            Err(error) if !is_typed(error) => wrong.push(format!("{at}: {error:?}")),
            Ok(true) if command == Command::CheckAll && !beyond_any_check(kind, damage, key, scene) => {
                wrong.push(format!("{at}: not found"));
            }
            _ => {}
        }
        // Put right again, everything is as before: no command has made it worse.
        if matches!(command, Command::FullBackup | Command::Incremental | Command::CheckAll) {
            memory.put(key, body.clone(), PutMode::Replace).await.unwrap();
            let repository = open(memory.clone()).await.unwrap();
            let report = check_all(&repository).await.unwrap();
            if !report.is_clean() {
                wrong.push(format!("{at}: after the damage was undone: {:?}", report.findings));
            }
            for (point, disk) in &scene.points {
                if let Err(error) = read_point(&repository, point, disk, &scene.stream).await {
                    wrong.push(format!("{at}: after the damage was undone: {error:?}"));
                }
            }
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finding_names_the_object_that_is_damaged() {
    let scene = scene(30).await;
    for (kind, keys) in rows_of(&scene.memory).await {
        if matches!(kind, Kind::Chain | Kind::Folded | Kind::Tombstone) {
            continue; // No finding but an error: without them nobody knows what there is to look at.
        }
        let memory = Arc::new(scene.memory.fork());
        let repository = open(memory.clone()).await.unwrap();
        let forgotten = |key: &&ObjectKey| scene.forgotten.iter().any(|it| key.as_str().contains(&it.id.to_string()));
        let looked_at = |key: &&ObjectKey| kind != Kind::Index || !scene.unneeded.contains(*key);
        let key = keys.iter().filter(looked_at).rfind(|key| !forgotten(key)).unwrap();
        memory.tamper(key, |bytes| *bytes.last_mut().unwrap() ^= 0x10).unwrap();
        let report = check_all(&repository).await.unwrap();
        let named = |text: String| text.contains(key.name()) || text.contains(key.as_str());
        assert!(
            kind == Kind::Config || report.findings.iter().any(|finding| named(finding.error.to_string())),
            "{key}: {:?}",
            report.findings
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_for_a_moment_is_never_taken_for_damage() {
    let scene = scene(40).await;
    let mut met = 0;
    for command in COMMANDS {
        for operation in [Operation::Get, Operation::GetRange, Operation::Head, Operation::List] {
            for call in 0.. {
                let fault = Arc::new(FaultBackend::new(Arc::new(scene.memory.fork())));
                fault.inject(Rule::new(Fault::Fail(ErrorKind::Unavailable)).on(operation).skip(call));
                let outcome = run(command, &scene, fault.clone()).await;
                let counts = fault.counts();
                let calls = match operation {
                    Operation::Get => counts.gets,
                    Operation::GetRange => counts.range_gets,
                    Operation::Head => counts.heads,
                    _ => counts.lists,
                };
                let at = format!("{command:?}, {operation:?} {call}");
                match outcome {
                    Ok(clean) => assert!(clean, "{at}: a finding"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{at}: {error:?}"),
                }
                if calls <= call {
                    break;
                }
                met += 1;
            }
        }
    }
    assert!(met > 100, "{met}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bits_that_flip_on_the_way_are_damage_and_gone_the_next_time() {
    let scene = scene(50).await;
    let random = SeededRandom::new(3);
    let (mut noticed, mut quiet) = (0, 0);
    for round in 0..60 {
        let fault = Arc::new(FaultBackend::new(Arc::new(scene.memory.fork())));
        let operation = if round % 2 == 0 { Operation::Get } else { Operation::GetRange };
        let flip = Fault::FlipBit(random.below(8 << 20) as usize);
        fault.inject(Rule::new(flip).on(operation).skip(random.below(20)));
        match run(Command::Restore, &scene, fault.clone()).await {
            Ok(_) => quiet += 1,
            Err(error) => {
                assert!(is_typed(&error), "round {round}: {error:?}");
                noticed += 1;
            }
        }
        fault.revive();
        assert!(run(Command::Restore, &scene, fault).await.unwrap());
    }
    assert!(noticed >= 20, "{noticed} noticed, {quiet} not met");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_replayed_from_another_repository_is_refused() {
    let (scene, other) = (scene(60).await, scene(70).await);
    let strangers = rows_of(&other.memory).await;
    let memory = Arc::new(scene.memory.fork());
    // Whole sessions of somebody else's repository with the same passphrase.
    for kind in [Kind::SessionOpen, Kind::SessionOutcome, Kind::Point, Kind::Index, Kind::DataPack, Kind::MetaPack] {
        for key in &strangers[&kind] {
            memory.put(key, other.memory.get(key).await.unwrap(), PutMode::Create).await.unwrap();
        }
    }
    let repository = open(memory).await.unwrap();
    assert_eq!(repository.points().await.unwrap_err().kind(), ErrorKind::Integrity);
    assert!(!check_all(&repository).await.unwrap().is_clean());
    // The own points are there all the same.
    for (point, disk) in &scene.points {
        read_point(&repository, point, disk, &scene.stream).await.unwrap();
    }
}
