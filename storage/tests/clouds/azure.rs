//! Azurite, which checks signatures.

use super::{server::Server, *};
use backstay_storage::backend::{AzureBackend, AzureKey, AzureOptions};

fn options(server: &Server) -> AzureOptions {
    AzureOptions::new(server.setting("ACCOUNT"), server.setting("CONTAINER"))
        .endpoint(server.setting("ENDPOINT"))
        .allow_http(true)
        .key(AzureKey::Access(server.setting("ACCESS_KEY").into()))
        .prefix(Server::fresh_prefix())
}

fn backend(options: AzureOptions) -> Arc<dyn StorageBackend> {
    Arc::new(AzureBackend::new(options).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_of_azure_passes() {
    let Some(server) = Server::start("azurite") else { return };
    holds_every_promise(|| backend(options(&server))).await;
    listings_stay_in_their_folder(&*backend(options(&server))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_azure_wrong_keys_and_absent_containers_are_told_apart_from_absent_objects() {
    let Some(server) = Server::start("azurite") else { return };
    let key = ObjectKey::new("config").unwrap();
    let wrong = backend(options(&server).key(AzureKey::Access("d3Jvbmcga2V5".into())));
    assert_eq!(wrong.get(&key).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    assert_eq!(backend(options(&server)).get(&key).await.unwrap_err().kind(), ErrorKind::NotFound);
    let mut nowhere = options(&server);
    nowhere.container = "no-such-container".into();
    let nowhere = backend(nowhere);
    assert_eq!(nowhere.get(&key).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    let put = nowhere.put(&key, "1".into(), PutMode::Create).await.unwrap_err();
    assert_eq!(put.kind(), ErrorKind::InvalidInput, "{put}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_azure_a_lost_reply_loses_nothing() {
    let Some(server) = Server::start("azurite") else { return };
    let line = LossyLine::to(server.port());
    let through = server.setting("ENDPOINT").replace(&server.port().to_string(), &line.port.to_string());
    lost_replies_lose_nothing(backend(options(&server).endpoint(through)), &line).await;
}
