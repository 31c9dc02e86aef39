//! Our own stand-in for Google's server, which asks for a token.

use super::{server::Server, *};
use backstay_storage::backend::{GcsBackend, GcsKey, GcsOptions};

fn options(server: &Server) -> GcsOptions {
    GcsOptions::new(server.setting("BUCKET"))
        .endpoint(server.setting("ENDPOINT"))
        .allow_http(true)
        .key(GcsKey::Token(server.setting("TOKEN").into()))
        .prefix(Server::fresh_prefix())
}

fn backend(options: GcsOptions) -> Arc<dyn StorageBackend> {
    Arc::new(GcsBackend::new(options).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_googles_protocol_passes() {
    let Some(server) = Server::start("gcs") else { return };
    holds_every_promise(|| backend(options(&server))).await;
    listings_stay_in_their_folder(&*backend(options(&server))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_gcs_wrong_keys_and_absent_buckets_are_told_apart_from_absent_objects() {
    let Some(server) = Server::start("gcs") else { return };
    let key = ObjectKey::new("config").unwrap();
    let wrong = backend(options(&server).key(GcsKey::Token("wrong".into())));
    assert_eq!(wrong.get(&key).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(backend(options(&server)).get(&key).await.unwrap_err().kind(), ErrorKind::NotFound);
    let mut nowhere = options(&server);
    nowhere.bucket = "no-such-bucket".into();
    assert_eq!(backend(nowhere).get(&key).await.unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_gcs_a_lost_reply_loses_nothing() {
    let Some(server) = Server::start("gcs") else { return };
    let line = LossyLine::to(server.port());
    let through = format!("http://127.0.0.1:{}", line.port);
    lost_replies_lose_nothing(backend(options(&server).endpoint(through)), &line).await;
}
