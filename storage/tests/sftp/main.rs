//! The SFTP backend against a real OpenSSH server.
//!
//! The server is had by a script in `tests/testbed`. Without it the tests say `skipped: …` and pass, unless
//! `BACKSTAY_REQUIRE_SERVERS=1`.

#![cfg(feature = "sftp")]
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod host_keys;
mod identities;
mod line;
mod losses;
mod repository;
mod server;

use std::{fs, sync::Arc, time::Duration, time::SystemTime};

use backstay_core::{BackendCapabilities, Context, ErrorKind, ObjectKey, PutMode, StorageBackend};
use backstay_storage::backend::{probe, sftp::SftpBackend};
use backstay_testkit::{backend::conformance, noise};
use futures::TryStreamExt;

use self::server::Server;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_passes_on_openssh() {
    let Some(server) = Server::start() else { return };
    let found = probe(&server.backend(), &Context::default()).await.unwrap();
    assert_eq!(found, BackendCapabilities::new(true, true));
    conformance(async || Arc::new(server.backend()) as Arc<dyn StorageBackend>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_creates_over_several_connections_exactly_one_wins() {
    let Some(server) = Server::start() else { return };
    let place = server.place();
    let path = place.path.clone();
    for round in 0..5 {
        let name = key(&format!("race/{round}"));
        let racers = (0..8u64).map(|number| {
            let (backend, name) = (SftpBackend::new(server.options_at(place.clone())).unwrap(), name.clone());
            tokio::spawn(async move { backend.put(&name, noise(number, 100_000).into(), PutMode::Create).await })
        });
        let outcomes: Vec<_> = futures::future::join_all(racers).await.into_iter().map(Result::unwrap).collect();
        let winners: Vec<_> = (0..8).filter(|number| outcomes[*number].is_ok()).collect();
        let [winner] = winners[..] else { panic!("{winners:?} won: {outcomes:?}") };
        for error in outcomes.into_iter().filter_map(Result::err) {
            assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
        }
        let body = fs::read(format!("{path}/race/{round}")).unwrap();
        assert!(body == noise(winner as u64, 100_000), "the winner's, whole");
    }
    assert!(fs::read_dir(format!("{path}/~tmp")).unwrap().next().is_none(), "losers clean up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_hard_links_keeps_objects_and_promises_no_races() {
    let Some(server) = Server::start_with("-P hardlink") else { return };
    let backend = server.backend();
    backend.put(&key("a"), "1".into(), PutMode::Create).await.unwrap();
    assert_eq!(backend.capabilities(), BackendCapabilities::new(false, true));
    let again = backend.put(&key("a"), "2".into(), PutMode::Create).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists, "{again}");
    assert_eq!(backend.get(&key("a")).await.unwrap(), "1");
    backend.put(&key("a"), "3".into(), PutMode::Replace).await.unwrap();
    assert_eq!(backend.get(&key("a")).await.unwrap(), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_sync_takes_no_puts_unless_told_so() {
    let Some(server) = Server::start_with("-P fsync,posix-rename") else { return };
    let backend = server.backend();
    let error = backend.put(&key("a"), "1".into(), PutMode::Create).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(backend.get(&key("a")).await.unwrap_err().kind(), ErrorKind::NotFound);
    let careless = SftpBackend::new(server.options().allow_unsynced(true)).unwrap();
    careless.put(&key("a"), "1".into(), PutMode::Create).await.unwrap();
    assert_eq!(careless.get(&key("a")).await.unwrap(), "1");
    // Nor does it replace in one step: better not at all than with a moment in which nothing is there.
    let error = careless.put(&key("a"), "2".into(), PutMode::Replace).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert_eq!(careless.get(&key("a")).await.unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_leftovers_are_removed_fresh_ones_stay_and_none_is_an_object() {
    let Some(server) = Server::start() else { return };
    let place = server.place();
    let tmp = std::path::PathBuf::from(&place.path).join("~tmp");
    fs::create_dir_all(&tmp).unwrap();
    let file = |name: &str, hours: u64| {
        let file = fs::File::create(tmp.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
    };
    file("dead", 25);
    file("perhaps-alive", 23);
    let backend = SftpBackend::new(server.options_at(place)).unwrap();
    backend.put(&key("a"), "1".into(), PutMode::Create).await.unwrap();
    let left: Vec<_> = fs::read_dir(&tmp).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["perhaps-alive"]);
    let listed: Vec<_> = backend.list(None).map_ok(|meta| meta.key.to_string()).try_collect().await.unwrap();
    assert_eq!(listed, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_forbids_is_no_absence() {
    let Some(server) = Server::start() else { return };
    let mut place = server.place();
    // Nobody may write there, not even root.
    place.path = "/proc/backstay".into();
    let backend = SftpBackend::new(server.options_at(place)).unwrap();
    let error = backend.put(&key("a"), "1".into(), PutMode::Create).await.unwrap_err();
    assert!(!matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists), "{error}");
    assert_eq!(backend.get(&key("a")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_no_keys_and_links_are_not_listed() {
    let Some(server) = Server::start() else { return };
    let place = server.place();
    let root = std::path::PathBuf::from(&place.path);
    let backend = SftpBackend::new(server.options_at(place)).unwrap();
    backend.put(&key("a/b"), "1".into(), PutMode::Create).await.unwrap();
    std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", root.join("a/link")).unwrap();
    fs::write(root.join("a/with space"), "x").unwrap();
    fs::write(root.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"a/\xff\xfe")), "x").unwrap();
    let listed: Vec<_> = backend.list(None).map_ok(|meta| meta.key.to_string()).try_collect().await.unwrap();
    assert_eq!(listed, ["a/b"]);
}

/// Not run unless asked for: `cargo test --release … -- --ignored --nocapture how_fast`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures"]
async fn how_fast() {
    let Some(server) = Server::start() else { return };
    let backend = server.backend();
    backend.put(&key("warm"), "1".into(), PutMode::Create).await.unwrap();
    let body = bytes::Bytes::from(noise(1, 64 << 20));
    for round in 0..5 {
        let name = key(&format!("packs/{round}"));
        let start = std::time::Instant::now();
        backend.put(&name, body.clone(), PutMode::Create).await.unwrap();
        let put = start.elapsed();
        let start = std::time::Instant::now();
        assert!(backend.get(&name).await.unwrap() == body);
        let get = start.elapsed();
        println!("64 MiB: put {:.0} MiB/s, get {:.0} MiB/s", 64.0 / put.as_secs_f64(), 64.0 / get.as_secs_f64());
    }
}
