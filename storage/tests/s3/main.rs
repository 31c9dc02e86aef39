//! The S3 backend against real servers.
//!
//! The servers are had by the scripts in `tests/testbed`. Without them the tests say `skipped: …` and pass, unless
//! `BACKSTAY_REQUIRE_SERVERS=1`.

#![cfg(feature = "s3")]
#![allow(clippy::unwrap_used)]

#[path = "../common/lossy.rs"]
mod lossy;
#[path = "../common/server.rs"]
mod server;

use std::sync::Arc;

use backstay_core::{BackendCapabilities, Context, ErrorKind, ObjectKey, PutMode, StorageBackend};
use backstay_storage::backend::{S3Backend, S3Options, probe};
use backstay_testkit::{backend::conformance, noise};

use self::{lossy::LossyLine, server::Server};

/// The bucket, below a prefix that nobody used before.
fn options(server: &Server) -> S3Options {
    S3Options::new(server.setting("BUCKET"))
        .endpoint(server.setting("ENDPOINT"))
        .allow_http(true)
        .access_key(server.setting("ACCESS_KEY"))
        .secret_key(server.setting("SECRET_KEY"))
        .prefix(Server::fresh_prefix())
}

fn backend(server: &Server) -> S3Backend {
    S3Backend::new(options(server)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_passes_on_a_server_that_holds_every_promise() {
    let Some(server) = Server::start("moto") else { return };
    let found = probe(&backend(&server), &Context::default()).await.unwrap();
    assert_eq!(found, BackendCapabilities::new(true, true));
    conformance(async || Arc::new(backend(&server).with_capabilities(found)) as Arc<dyn StorageBackend>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backend_passes_on_a_server_that_checks_signatures_and_loses_races() {
    let Some(server) = Server::start("s3s") else { return };
    // Whether the probe's race catches it is luck; that it lists what was put is not.
    let found = probe(&backend(&server), &Context::default()).await.unwrap();
    assert!(found.strong_listing);
    let honest = BackendCapabilities::new(false, true);
    conformance(async || Arc::new(backend(&server).with_capabilities(honest)) as Arc<dyn StorageBackend>).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_are_told_apart_from_absent_objects() {
    let Some(server) = Server::start("s3s") else { return };
    let key = ObjectKey::new("config").unwrap();
    let wrong_key = S3Backend::new(options(&server).secret_key("wrong")).unwrap();
    assert_eq!(wrong_key.get(&key).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    let put = wrong_key.put(&key, "1".into(), PutMode::Create).await.unwrap_err();
    assert_eq!(put.kind(), ErrorKind::PermissionDenied);
    assert_eq!(backend(&server).get(&key).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_is_a_mistake_and_no_absent_object() {
    let Some(server) = Server::start("moto") else { return };
    let key = ObjectKey::new("config").unwrap();
    let mut options = options(&server);
    options.bucket = "no-such-bucket".into();
    let nowhere = S3Backend::new(options).unwrap();
    let error = nowhere.put(&key, "1".into(), PutMode::Create).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert_eq!(nowhere.get(&key).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_whose_reply_was_lost_is_there_and_says_that_something_is() {
    let Some(server) = Server::start("moto") else { return };
    let line = LossyLine::to(server.port());
    let options = options(&server).endpoint(format!("http://127.0.0.1:{}", line.port));
    let backend = S3Backend::new(options).unwrap();
    let (key, body) = (ObjectKey::new("packs/1").unwrap(), noise(1, 2 << 20));
    line.lose_replies(1);
    let outcome = backend.put(&key, body.clone().into(), PutMode::Create).await;
    assert_eq!(line.left(), 0, "a reply was lost");
    assert_eq!(
        outcome.unwrap_err().kind(),
        ErrorKind::AlreadyExists,
        "the caller compares what is there with its body"
    );
    assert!(backend.get(&key).await.unwrap() == body);
    // Reads and replacing puts are simply tried again.
    line.lose_replies(1);
    assert_eq!(backend.head(&key).await.unwrap().size, body.len() as u64);
    line.lose_replies(1);
    backend.put(&key, "2".into(), PutMode::Replace).await.unwrap();
    assert_eq!(backend.get(&key).await.unwrap(), "2");
    assert_eq!(line.left(), 0);
}
