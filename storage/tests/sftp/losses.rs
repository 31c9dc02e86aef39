//! Servers that die, lines that break, and futures that nobody waits for.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use backstay_core::{ErrorKind, PutMode, Retry, StorageBackend};
use backstay_storage::backend::sftp::{SftpBackend, SftpPlace};
use backstay_testkit::noise;
use bytes::Bytes;

use crate::{key, line::Line, server::Server};

/// The same folder through the line.
fn through(server: &Server, line: &Line) -> (SftpPlace, SftpBackend) {
    let mut place = server.place();
    place.port = line.port;
    let known = format!("[127.0.0.1]:* {}\n", server.public("host"));
    fs::write(server.file("known_hosts"), known).unwrap();
    let options =
        server.options_at(place.clone()).request_timeout(Duration::from_secs(2)).keepalive(Duration::from_secs(1));
    (place, SftpBackend::new(options.connect_timeout(Duration::from_secs(2))).unwrap())
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn names(folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_in_a_put_is_unavailable_and_the_next_put_finds_it_again() {
    let Some(server) = Server::start() else { return };
    let server = Arc::new(server);
    let place = server.place();
    let backend = SftpBackend::new(server.options_at(place.clone())).unwrap();
    let body = Bytes::from(noise(1, 96 << 20));
    backend.put(&key("warm"), "1".into(), PutMode::Create).await.unwrap();
    let put = tokio::spawn({
        let (backend, body) = (backend.clone(), body.clone());
        async move { backend.put(&key("packs/1"), body, PutMode::Create).await }
    });
    let tmp = format!("{}/~tmp", place.path);
    until("the put has begun", || {
        names(&tmp).iter().any(|name| fs::metadata(format!("{tmp}/{name}")).is_ok_and(|meta| meta.len() > 0))
    })
    .await;
    server.kill();
    let error = put.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Backoff), "{error}");
    assert!(names(&format!("{}/packs", place.path)).is_empty(), "nothing half is there");
    assert_eq!(backend.get(&key("packs/1")).await.unwrap_err().kind(), ErrorKind::Unavailable, "away is not absent");
    server.start_again();
    assert_eq!(backend.get(&key("packs/1")).await.unwrap_err().kind(), ErrorKind::NotFound);
    backend.put(&key("packs/1"), body.clone(), PutMode::Create).await.unwrap();
    assert!(backend.get(&key("packs/1")).await.unwrap() == body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_in_a_get_is_unavailable_and_the_next_get_finds_it_again() {
    let Some(server) = Server::start() else { return };
    let line = Line::to(server.port());
    let (_, backend) = through(&server, &line);
    let body = Bytes::from(noise(2, 64 << 20));
    backend.put(&key("packs/1"), body.clone(), PutMode::Create).await.unwrap();
    let get = tokio::spawn({
        let backend = backend.clone();
        async move { backend.get(&key("packs/1")).await }
    });
    // In the midst of 64 MiB: nothing comes any more, then the server is gone.
    tokio::time::sleep(Duration::from_millis(20)).await;
    line.silence(true);
    server.kill();
    line.silence(false);
    let outcome = get.await.unwrap();
    if let Err(error) = outcome {
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Backoff), "{error}");
    }
    assert_eq!(backend.head(&key("packs/1")).await.unwrap_err().kind(), ErrorKind::Unavailable);
    server.start_again();
    assert!(backend.get(&key("packs/1")).await.unwrap() == body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_breaks_once_is_mended_within_the_operation() {
    let Some(server) = Server::start() else { return };
    let line = Line::to(server.port());
    let (place, backend) = through(&server, &line);
    let body = Bytes::from(noise(3, 8 << 20));
    backend.put(&key("warm"), "1".into(), PutMode::Create).await.unwrap();
    assert_eq!(line.connections(), 1);
    line.cut_after(3 << 20);
    backend.put(&key("packs/1"), body.clone(), PutMode::Create).await.unwrap();
    assert_eq!(line.connections(), 2);
    line.cut_after(3 << 20);
    assert!(backend.get(&key("packs/1")).await.unwrap() == body);
    assert_eq!(line.connections(), 3);
    assert!(fs::read(format!("{}/packs/1", place.path)).unwrap() == body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_ends_every_operation_in_time() {
    let Some(server) = Server::start() else { return };
    let line = Line::to(server.port());
    let (_, backend) = through(&server, &line);
    backend.put(&key("a"), "1".into(), PutMode::Create).await.unwrap();
    line.silence(true);
    let start = Instant::now();
    let operations = (0..8).map(|_| async { backend.get(&key("a")).await.unwrap_err().kind() });
    let kinds = futures::future::join_all(operations).await;
    assert!(kinds.iter().all(|kind| *kind == ErrorKind::Unavailable), "{kinds:?}");
    // A request, then a connection, each two seconds; those that wait for the same connection do not try one after the other.
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    line.silence(false);
    assert_eq!(backend.get(&key("a")).await.unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_that_are_dropped_leave_neither_files_nor_handles() {
    let Some(server) = Server::start() else { return };
    let place = server.place();
    let backend = SftpBackend::new(server.options_at(place.clone())).unwrap();
    let body = Bytes::from(noise(4, 32 << 20));
    backend.put(&key("packs/0"), body.clone(), PutMode::Create).await.unwrap();
    // More than the server has handles, were they to stay open.
    for number in 1..150u64 {
        let name = key(&format!("packs/{number}"));
        let pause = Duration::from_millis(number % 20);
        let put = backend.put(&name, body.clone(), PutMode::Create);
        let _dropped = tokio::time::timeout(pause, put).await;
        let _dropped = tokio::time::timeout(pause, backend.get(&key("packs/0"))).await;
    }
    let tmp = format!("{}/~tmp", place.path);
    until("temporary files are removed", || names(&tmp).is_empty()).await;
    for name in names(&format!("{}/packs", place.path)) {
        let size = fs::metadata(format!("{}/packs/{name}", place.path)).unwrap().len();
        assert_eq!(size, body.len() as u64, "{name} is whole");
    }
    assert!(backend.get(&key("packs/0")).await.unwrap() == body);
}
