//! A repository on an SSH server, from init to restore.

use std::sync::Arc;

use backstay_core::{Context, StorageBackend};
use backstay_storage::{LocalBackend, Repository, backend::sftp::SftpBackend};

use crate::{
    common::{MIB, assert_clean, back_up_disk, check_all, filled, open, quick_options, restore},
    server::Server,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_over_sftp_gives_back_every_byte() {
    let Some(server) = Server::start() else { return };
    let place = server.place();
    let backend = || Arc::new(SftpBackend::new(server.options_at(place.clone())).unwrap()) as Arc<dyn StorageBackend>;
    Repository::init(backend(), quick_options().recovery(false), &Context::default()).await.unwrap();
    let disk = filled(24 * MIB, 7);
    let point = back_up_disk(&open(backend()).await.unwrap(), "web", &disk).await.unwrap();
    let again = open(backend()).await.unwrap();
    assert!(restore(&again, &point).await.unwrap() == disk, "every byte");
    assert_clean(&check_all(&again).await.unwrap(), "over SFTP");
    // The server's keeper sees the same objects as a local folder.
    let local = open(Arc::new(LocalBackend::new(&place.path).unwrap())).await.unwrap();
    assert!(restore(&local, &point).await.unwrap() == disk, "every byte");
}
