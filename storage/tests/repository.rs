//! Keys, capabilities, `init`, and what the store gets to see.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use backstay_core::{Context, DiskSource, ErrorKind, ObjectKey, PutMode, StorageBackend};
use backstay_storage::{
    MemoryBackend, Repository,
    backend::{Fault, FaultBackend, Operation, Rule},
    repository::{
        Capability, CheckDepth, Compression, Credential, InitOptions, NewSlot, PointDetails, SecretKey, SessionOptions,
        crypto::{Domain, ObjectType, kdf::KdfParameters, sign},
        format::{self, config::Config},
        keys::{Slot, SlotKind},
    },
};
use backstay_testkit::noise;
use common::{
    MIB, PASSPHRASE, QUICK_KDF, Source, Sparse, admit, assert_clean, back_up, back_up_disk, check_all, dense, disk_id,
    memory_repository, no_sample, open, owner_bundle, quick_options, restore, selector, slots, stored_disk, workload,
};
use secrecy::{ExposeSecret, SecretString};

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

fn kind_of<T>(outcome: backstay_core::Result<T>) -> ErrorKind {
    outcome.err().unwrap().kind()
}

async fn config_of(memory: &MemoryBackend) -> (sign::Signed, Config) {
    let signed: sign::Signed = format::decode(&memory.get(&key("config")).await.unwrap(), "config").unwrap();
    let config = format::decode(&signed.body, "config").unwrap();
    (signed, config)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_opens_the_repository_and_no_other_does() {
    let memory = Arc::new(MemoryBackend::new());
    let ctx = Context::default();
    let key_file = SecretKey::generate(&ctx).unwrap();
    let mut options = quick_options();
    options.slots.push(NewSlot::KeyFile(key_file.clone()));
    options.slots.push(NewSlot::Passphrase(SecretString::from("another one")));
    let made = Repository::init(memory.clone(), options, &ctx).await.unwrap();
    let disk = dense(MIB, 1);
    let point = back_up_disk(&made.repository, "web", &disk).await.unwrap();
    let recovery = made.recovery_key.unwrap();
    let typed = recovery.expose_secret().to_lowercase().replace('-', " ");
    for credential in [
        Credential::passphrase(PASSPHRASE),
        Credential::passphrase("another one"),
        Credential::Key(key_file.clone()),
        Credential::Key(SecretKey::parse(key_file.to_text().expose_secret()).unwrap()),
        Credential::passphrase(recovery.expose_secret()),
        Credential::passphrase(typed),
    ] {
        let opened = Repository::open(memory.clone(), credential, &ctx).await.unwrap();
        assert_eq!(opened.capability(), Capability::Owner);
        assert_eq!(opened.id(), made.repository.id());
        assert!(restore(&opened, &point).await.unwrap() == disk);
    }
    for credential in [
        Credential::passphrase("Correct horse battery staple"),
        Credential::passphrase(""),
        Credential::Key(SecretKey::generate(&ctx).unwrap()),
    ] {
        assert_eq!(kind_of(Repository::open(memory.clone(), credential, &ctx).await), ErrorKind::PermissionDenied);
    }
    let nowhere = Repository::open(Arc::new(MemoryBackend::new()), Credential::passphrase("x"), &ctx).await;
    assert_eq!(kind_of(nowhere), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_would_eat_the_machine_is_refused_before_it_does() {
    let (memory, _) = memory_repository().await;
    let (slot, bundle) = owner_bundle(&memory).await;
    let object_key = Slot::key(&slot.id).unwrap();
    let SlotKind::Passphrase { salt, .. } = slot.kind else { panic!("not a passphrase") };
    for kdf in [
        KdfParameters { memory_kib: u32::MAX, ..QUICK_KDF },
        KdfParameters { memory_kib: KdfParameters::MAX_MEMORY_KIB + 1, ..QUICK_KDF },
        KdfParameters { passes: 17, ..QUICK_KDF },
        KdfParameters { passes: u32::MAX, ..QUICK_KDF },
        KdfParameters { lanes: u32::MAX, ..QUICK_KDF },
        KdfParameters { passes: 0, ..QUICK_KDF },
    ] {
        // Even the owner's signature does not make it welcome.
        let mut hostile = slot.clone();
        hostile.kind = SlotKind::Passphrase { kdf, salt };
        let mut body = minicbor::Encoder::new(Vec::new());
        body.map(2).unwrap().u8(0).unwrap().bytes(&format::encode(&hostile).unwrap()).unwrap();
        body.u8(1).unwrap().bytes(&[0; 32]).unwrap();
        let (signer, domain) = (bundle.owner_signing_key().unwrap(), Domain { repository: slot.repository, epoch: 0 });
        let signed = sign::sign(&signer, ObjectType::Slot, &domain, &object_key, body.into_writer());
        memory.put(&object_key, format::encode(&signed).unwrap().into(), PutMode::Replace).await.unwrap();
        let error = open(memory.clone()).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Integrity, "{kdf:?}");
        assert!(error.to_string().contains("Argon2id"), "{error}");
    }
    let options = quick_options().kdf(KdfParameters { passes: 17, ..QUICK_KDF });
    let made = Repository::init(Arc::new(MemoryBackend::new()), options, &Context::default()).await;
    assert!(made.is_err(), "nor is such a slot made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_slot_does_not_keep_the_others_from_opening() {
    let memory = Arc::new(MemoryBackend::new());
    let made = Repository::init(memory.clone(), quick_options(), &Context::default()).await.unwrap();
    let recovery = made.recovery_key.unwrap();
    let (slot, _) = owner_bundle(&memory).await;
    memory.tamper(&Slot::key(&slot.id).unwrap(), |bytes| bytes.truncate(10)).unwrap();
    assert_eq!(kind_of(open(memory.clone()).await), ErrorKind::Integrity);
    let with = Credential::passphrase(recovery.expose_secret());
    assert!(Repository::open(memory, with, &Context::default()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_of_another_repository_is_refused() {
    let (memory, _) = memory_repository().await;
    let (other, _) = memory_repository().await;
    let theirs = other.get(&key("config")).await.unwrap();
    memory.put(&key("config"), theirs, PutMode::Replace).await.unwrap();
    assert_eq!(kind_of(open(memory).await), ErrorKind::Integrity);
    // With the slots beside it: it is their repository then, and its chain is another's.
    let (memory, _) = memory_repository().await;
    for object in other.keys().into_iter().filter(|key| !key.as_str().starts_with("chain/")) {
        memory.put(&object, other.get(&object).await.unwrap(), PutMode::Replace).await.unwrap();
    }
    assert_eq!(kind_of(open(memory).await), ErrorKind::Integrity);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_format_version_or_an_unknown_feature_is_unsupported_and_says_so() {
    let (memory, _) = memory_repository().await;
    let (_, bundle) = owner_bundle(&memory).await;
    let (_, config) = config_of(&memory).await;
    let unknown = || vec!["time-travel".to_owned()];
    for changed in [
        Config { version: 2, ..config.clone() },
        Config { version: 0, ..config.clone() },
        Config { suites: vec![1, 2], ..config.clone() },
        Config { reader_features: unknown(), ..config.clone() },
        Config { writer_features: unknown(), ..config.clone() },
    ] {
        let signer = bundle.owner_signing_key().unwrap();
        let body = format::encode(&changed).unwrap();
        let domain = Domain { repository: config.repository, epoch: 0 };
        let signed = sign::sign(&signer, ObjectType::Config, &domain, &key("config"), body);
        let object = format::encode(&signed).unwrap();
        memory.put(&key("config"), object.into(), PutMode::Replace).await.unwrap();
        let error = open(memory.clone()).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("newer Backstay"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_backs_up_and_deduplicates_and_reads_no_chunk_its_own_included() {
    let (memory, _) = memory_repository().await;
    let ctx = Context::default();
    let (_, owner) = owner_bundle(&memory).await;
    let share = owner.restrict(Capability::Writer, &ctx).unwrap();
    admit(&memory, &share).await;
    let writer = Repository::open_with_bundle(memory.clone(), share).await.unwrap();
    assert_eq!(writer.capability(), Capability::Writer);
    let mut disk = dense(3 * MIB, 1);
    let first = back_up_disk(&writer, "web", &disk).await.unwrap();
    disk.write(MIB, b"changed");
    let source = Source::new(disk.clone()).shared();
    let (second, report) =
        back_up(&writer, "web", source, &no_sample(), SessionOptions::default(), &ctx).await.unwrap();
    assert_eq!(report.method, backstay_core::ReadMethod::Compared);
    assert!(second.stored_bytes < MIB, "{} bytes are stored again", second.stored_bytes);
    assert_eq!(writer.points().await.unwrap().len(), 2);

    // It sees the map, and not a byte of the content.
    for point in [&first, &second] {
        match stored_disk(&writer, point).await {
            Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
            Ok(stored) => {
                assert_eq!(kind_of(stored.read(0..10, Vec::new()).await), ErrorKind::PermissionDenied);
                assert_eq!(kind_of(stored.read(0..2 * MIB, Vec::new()).await), ErrorKind::PermissionDenied);
            }
        }
    }
    assert_clean(&writer.check(CheckDepth::Structure, &ctx).await.unwrap(), "by a writer");
    assert_clean(&check_all(&writer).await.unwrap(), "by a writer, packs by their hash");

    // The owner reads both, and a reader too, who cannot write.
    let reader = owner.restrict(Capability::Reader, &ctx).unwrap();
    let reader = Repository::open_with_bundle(memory.clone(), reader).await.unwrap();
    let owner = open(memory).await.unwrap();
    for repository in [&owner, &reader] {
        assert!(restore(repository, &second).await.unwrap() == disk);
        assert_clean(&check_all(repository).await.unwrap(), "by a reader");
    }
    let begun = reader.begin(workload("web"), SessionOptions::default(), &ctx).await;
    assert_eq!(kind_of(begun), ErrorKind::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_the_owner_does_not_know_makes_no_point() {
    let (memory, repository) = memory_repository().await;
    let ctx = Context::default();
    back_up_disk(&repository, "web", &dense(MIB, 1)).await.unwrap();
    let (_, owner) = owner_bundle(&memory).await;
    let share = owner.restrict(Capability::Writer, &ctx).unwrap();
    let stranger = Repository::open_with_bundle(memory.clone(), share).await.unwrap();
    let _refused_or_ignored = back_up_disk(&stranger, "web", &dense(MIB, 2)).await;
    let report = check_all(&repository).await.unwrap();
    let points = repository.points().await;
    assert!(!report.is_clean() || points.as_ref().is_ok_and(|points| points.len() == 1), "it is taken for a point");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_checks_what_it_can_and_sees_no_content() {
    let (memory, repository) = memory_repository().await;
    let ctx = Context::default();
    let point = back_up_disk(&repository, "web", &dense(2 * MIB, 1)).await.unwrap();
    let (_, owner) = owner_bundle(&memory).await;
    let keeper = owner.restrict(Capability::Keeper, &ctx).unwrap();
    let keeper = Repository::open_with_bundle(memory, keeper).await.unwrap();
    assert_eq!(keeper.points().await.unwrap().len(), 1);
    assert_clean(&keeper.check(CheckDepth::Structure, &ctx).await.unwrap(), "structure by a keeper");
    assert_clean(&check_all(&keeper).await.unwrap(), "packs by a keeper");
    assert_eq!(kind_of(stored_disk(&keeper, &point).await), ErrorKind::PermissionDenied);
    let begun = keeper.begin(workload("web"), SessionOptions::default(), &ctx).await;
    assert_eq!(kind_of(begun), ErrorKind::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn init_refuses_a_place_that_is_taken_and_changes_nothing_there() {
    let (memory, repository) = memory_repository().await;
    let before = memory.keys();
    let again = Repository::init(memory.clone(), quick_options(), &Context::default()).await;
    assert_eq!(kind_of(again), ErrorKind::AlreadyExists);
    assert_eq!(memory.keys(), before);
    assert_clean(&check_all(&repository).await.unwrap(), "after a second init");
    let (nowhere, no_slots) = (Arc::new(MemoryBackend::new()), InitOptions::slots(Vec::new()));
    assert_eq!(kind_of(Repository::init(nowhere, no_slots, &Context::default()).await), ErrorKind::InvalidInput);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_init_that_dies_at_any_put_leaves_no_repository_and_the_next_one_works() {
    let ctx = Context::default();
    let fault = FaultBackend::new(Arc::new(MemoryBackend::new()));
    let fault = Arc::new(fault);
    Repository::init(fault.clone(), quick_options(), &ctx).await.unwrap();
    let puts = fault.counts().puts;
    for put in 0..puts {
        for crash in [Fault::CrashBefore, Fault::CrashAfter] {
            let at = format!("put {put}, {crash:?}");
            let memory = Arc::new(MemoryBackend::new());
            let fault = Arc::new(FaultBackend::new(memory.clone()));
            fault.inject(Rule::new(crash).on(Operation::Put).skip(put));
            let made = Repository::init(fault.clone(), quick_options(), &ctx).await;
            assert_eq!(made.is_err(), fault.crashed(), "{at}");
            if memory.get(&key("config")).await.is_ok() {
                // All was there; the process died before it could say so.
                assert!(open(memory).await.is_ok(), "{at}");
                continue;
            }
            assert_eq!(kind_of(open(memory.clone()).await), ErrorKind::NotFound, "{at}");
            // Either it can be made now, or it is said what lies in the way. What is made can be opened.
            match Repository::init(memory.clone(), quick_options(), &ctx).await {
                Ok(made) => {
                    let opened = open(memory).await.unwrap_or_else(|error| panic!("{at}: {error:?}"));
                    assert_eq!(opened.id(), made.repository.id(), "{at}");
                    assert_clean(&check_all(&opened).await.unwrap(), &at);
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{at}: {error:?}");
                    assert!(error.to_string().contains("interrupted"), "{at}: {error}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_inits_at_once_one_wins_and_its_repository_opens() {
    for round in 0..20 {
        let memory = Arc::new(MemoryBackend::new());
        let race = [0, 1].map(|_| {
            let memory = memory.clone();
            tokio::spawn(async move { Repository::init(memory, quick_options(), &Context::default()).await })
        });
        let mut winners = Vec::new();
        for racer in race {
            match racer.await.unwrap() {
                Ok(made) => winners.push(made),
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::Conflict),
                    "round {round}: {error:?}"
                ),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        let opened = open(memory.clone()).await.unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        assert_eq!(opened.id(), winners[0].repository.id(), "round {round}");
        let recovery = Credential::passphrase(winners[0].recovery_key.as_ref().unwrap().expose_secret());
        Repository::open(memory, recovery, &Context::default()).await.unwrap();
        assert_clean(&check_all(&opened).await.unwrap(), &format!("round {round}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_an_init_that_lost_does_not_stand_in_the_way() {
    // What a racer that died between its slots and its config may leave: slots with the same passphrase, of no repository.
    let (memory, repository) = memory_repository().await;
    let (loser, _) = memory_repository().await;
    for (slot_key, _) in slots(&loser).await {
        memory.put(&slot_key, loser.get(&slot_key).await.unwrap(), PutMode::Create).await.unwrap();
    }
    let opened = open(memory.clone()).await.unwrap();
    assert_eq!(opened.id(), repository.id());
    let wrong = Repository::open(memory, Credential::passphrase("wrong"), &Context::default()).await;
    assert_eq!(kind_of(wrong), ErrorKind::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_debug_output_holds_a_secret() {
    let memory = Arc::new(MemoryBackend::new());
    let made = Repository::init(memory.clone(), quick_options(), &Context::default()).await.unwrap();
    let recovery = made.recovery_key.as_ref().unwrap().expose_secret().to_owned();
    let (slot, bundle) = owner_bundle(&memory).await;
    let secret = slot.kind.secret(&Credential::passphrase(PASSPHRASE)).unwrap().unwrap();
    let credential = Credential::passphrase(PASSPHRASE);
    let shown =
        format!("{made:?} {:?} {credential:?} {slot:?} {:?}", made.repository, Credential::passphrase(&recovery));
    let structure = bundle.epochs[0].structure;
    let private = bundle.epochs[0].data_private().unwrap();
    let signing = bundle.signing_key().unwrap().to_bytes();
    for hidden in [&structure, &*private, &*secret, &signing] {
        assert!(!shown.contains(&hex::encode(hidden)) && !shown.contains(&format!("{hidden:?}")), "{shown}");
    }
    assert!(!shown.contains(PASSPHRASE) && !shown.contains(&recovery) && !shown.contains("battery"), "{shown}");
    let wrong = Repository::open(memory, Credential::passphrase("a guess at it"), &Context::default()).await;
    assert!(!format!("{:?}", wrong.err().unwrap()).contains("guess"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_sees_nothing_of_what_is_stored() {
    let (memory, repository) = memory_repository().await;
    let ctx = Context::default();
    let marker = b"MARKER-of-plaintext-that-must-not-be-seen";
    let text = |name: &str| format!("{name}-{}", String::from_utf8_lossy(marker));
    let mut disk = dense(MIB, 1);
    disk.write(8192, marker);
    for compression in [Compression::None, Compression::default()] {
        let mut what = workload(&text("workload"));
        what.kind = text("kind");
        what.platform.insert(text("platform"), text("value"));
        let labels = [(text("label"), text("value"))].into_iter().collect();
        let options = SessionOptions::default().compression(compression).labels(labels);
        let mut session = repository.begin(what, options, &ctx).await.unwrap();
        let source = Source::new(disk.clone()).with_token(&text("token")).shared();
        session.write_disk(&disk_id(&text("disk")), source, &no_sample()).await.unwrap();
        session.attach(&text("note"), &text("type"), marker.as_slice().into()).await.unwrap();
        session.commit(PointDetails::default()).await.unwrap();
        disk.write(100_000, marker);
    }
    let id = hex::decode(repository.id()).unwrap();
    for object in memory.keys() {
        let body = memory.get(&object).await.unwrap();
        let has = |wanted: &[u8]| body.windows(wanted.len()).any(|window| window == wanted);
        assert!(!has(&marker[..16]), "{object} shows what is stored");
        assert!(!object.as_str().contains("MARKER"));
        let clear = object.as_str() == "config" || object.as_str().starts_with("keys/");
        assert_eq!(has(&id), clear, "{object}: only config and slots name the repository");
        assert!(!has(PASSPHRASE.as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identical_content_is_stored_once_whoever_brings_it() {
    let (memory, repository) = memory_repository().await;
    let disk = Sparse::of(&noise(1, 4 << 20));
    let first = back_up_disk(&repository, "one", &disk).await.unwrap();
    assert!(first.stored_bytes > 4 * MIB);
    let data = |memory: &MemoryBackend| memory.keys().iter().filter(|key| key.as_str().starts_with("packs/")).count();
    let (packs, bytes) = (data(&memory), memory.total_bytes());
    // Another workload, another process, another place on a larger disk.
    let repository = open(memory.clone()).await.unwrap();
    let second = back_up_disk(&repository, "two", &disk).await.unwrap();
    assert_eq!((data(&memory), second.stored_bytes), (packs, 0));
    let mut larger = Sparse::new(100 * MIB);
    larger.write(64 * MIB, &disk.read(0..4 * MIB));
    let third = back_up_disk(&repository, "three", &larger).await.unwrap();
    assert_eq!(data(&memory), packs, "chunks are the same at another segment");
    assert!(memory.total_bytes() - bytes < 200_000, "{} bytes more", memory.total_bytes() - bytes);
    for (point, expected) in [(&first, &disk), (&second, &disk), (&third, &larger)] {
        assert!(restore(&repository, point).await.unwrap() == *expected);
        repository.point(&selector(point)).await.unwrap();
    }
    // Within one session too: the same content twice on one disk.
    let mut twice = Sparse::new(64 * MIB);
    let block = noise(7, 2 << 20);
    twice.write(0, &block);
    twice.write(32 * MIB, &block);
    let point = back_up_disk(&repository, "twice", &twice).await.unwrap();
    assert!(point.stored_bytes < 2 * MIB + 400_000, "{}", point.stored_bytes);
    assert!(restore(&repository, &point).await.unwrap() == twice);
}

#[tokio::test(flavor = "multi_thread")]
async fn points_are_found_by_what_people_type() {
    let (_, repository) = memory_repository().await;
    let none = repository.point(&"latest".parse().unwrap()).await;
    assert_eq!(kind_of(none), ErrorKind::NotFound);
    let ctx = Context::default();
    let mut points = Vec::new();
    for (name, time) in
        [("web", "2026-11-20T10:00:00Z"), ("db", "2026-11-20T11:00:00Z"), ("web", "2026-11-21T10:00:00Z")]
    {
        let options = SessionOptions::default().time(time.parse().unwrap());
        let source = Source::new(dense(5000, 1)).shared();
        points.push(back_up(&repository, name, source, &no_sample(), options, &ctx).await.unwrap().0);
    }
    for (typed, expected) in [
        ("latest", 2),
        ("web@latest", 2),
        ("db@latest", 1),
        ("web@2026-11-20", 0),
        ("web@2026-11-20T10:00", 0),
        ("web@2026-11-22", 2),
    ] {
        assert_eq!(repository.point(&typed.parse().unwrap()).await.unwrap().id, points[expected].id, "{typed}");
    }
    let id = points[0].id.to_string();
    assert_eq!(repository.point(&id[..12].parse().unwrap()).await.unwrap().id, points[0].id);
    for absent in ["web@2026-11-19", "mail@latest", "ffffffffffffffffffffffffffffffff"] {
        assert_eq!(kind_of(repository.point(&absent.parse().unwrap()).await), ErrorKind::NotFound, "{absent}");
    }
}

#[test]
fn every_long_call_can_be_spawned() {
    fn spawnable<T: Send>(_: impl FnOnce() -> T) {}
    // Never run: it is enough that it compiles.
    let repository = || -> &'static Repository { unreachable!() };
    let ctx = || -> &'static Context { unreachable!() };
    let point = || -> &'static backstay_storage::repository::PointSelector { unreachable!() };
    let session = || -> backstay_storage::repository::WriteSession { unreachable!() };
    let source = || -> Arc<dyn DiskSource> { unreachable!() };
    let disk = || -> &'static backstay_storage::repository::StoredDisk { unreachable!() };
    let sink = || -> &'static dyn backstay_core::DiskSink { unreachable!() };
    let stream = || -> &'static backstay_storage::repository::StoredStream { unreachable!() };
    spawnable(|| async move { Repository::init(unreachable_backend(), quick_options(), ctx()).await });
    spawnable(|| async move { Repository::open(unreachable_backend(), Credential::passphrase(""), ctx()).await });
    spawnable(|| async move { repository().begin(workload("web"), SessionOptions::default(), ctx()).await });
    spawnable(|| async move { session().write_disk(&disk_id("vda"), source(), &no_sample()).await });
    spawnable(|| async move {
        let mut session = session();
        session.attach("note", "text/plain", bytes::Bytes::new()).await?;
        session.write_stream("dump", Box::pin(futures::stream::empty())).await?;
        session.commit(PointDetails::default()).await
    });
    spawnable(|| async move { session().abort().await });
    spawnable(|| async move { repository().points().await });
    spawnable(|| async move { repository().point(point()).await });
    spawnable(|| async move { repository().disk(point(), &disk_id("vda"), ctx()).await });
    spawnable(|| async move { disk().restore_to(sink(), 0..1, ctx()).await });
    spawnable(|| async move { disk().read(0..1, Vec::new()).await });
    spawnable(|| async move { repository().stream(point(), "dump").await });
    spawnable(|| async move { stream().read_all(ctx(), async |_| Ok(())).await });
    spawnable(|| async move { repository().attachment(point(), "note", ctx()).await });
    spawnable(|| async move { repository().check(CheckDepth::Structure, ctx()).await });
    spawnable(|| async move { repository().diff(point(), point(), ctx()).await });
    spawnable(|| async move { repository().stats().await });
    let new = || -> backstay_storage::repository::NewKey { unreachable!() };
    spawnable(|| async move { repository().keys().await });
    spawnable(|| async move { repository().add_key(new(), ctx()).await });
    spawnable(|| async move { repository().remove_key("", ctx()).await });
    spawnable(|| async move { repository().rotate(ctx()).await });
    spawnable(|| async move { repository().reopen().await });
}

fn unreachable_backend() -> Arc<dyn StorageBackend> {
    unreachable!()
}
