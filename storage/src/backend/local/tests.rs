use std::{fs, os::unix::fs::PermissionsExt, time::Duration, time::SystemTime};

use backstay_core::ErrorKind;
use futures::TryStreamExt;

use super::*;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

fn temporary_files(backend: &LocalBackend) -> Vec<std::ffi::OsString> {
    fs::read_dir(backend.root().join("~tmp")).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

async fn listed(backend: &LocalBackend) -> Vec<String> {
    let mut keys: Vec<_> = backend.list(None).map_ok(|meta| meta.key.to_string()).try_collect().await.unwrap();
    keys.sort();
    keys
}

#[tokio::test]
async fn bodies_of_every_awkward_size_come_back_and_leave_no_temporary_file() {
    for bypass in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        awkward_sizes(LocalBackend::new(folder.path()).unwrap().bypass_page_cache(bypass)).await;
    }
    // The folder of shared memory is a file system of another sort, where there is one.
    if let Ok(folder) = tempfile::tempdir_in("/dev/shm") {
        awkward_sizes(LocalBackend::new(folder.path()).unwrap()).await;
    }
}

async fn awkward_sizes(backend: LocalBackend) {
    let sizes = [0, 1, 4095, 4096, 1 << 20, (1 << 20) + 1, (3 << 20) - 1, (3 << 20) + 4097];
    for size in sizes {
        let body: Bytes = (0..size).map(|at| (at * 7 + at / 251) as u8).collect::<Vec<_>>().into();
        let key = key(&format!("sizes/{size}"));
        backend.put(&key, body.clone(), PutMode::Create).await.unwrap();
        assert!(backend.get(&key).await.unwrap() == body, "{size}");
    }
    assert_eq!(listed(&backend).await.len(), sizes.len());
    assert!(temporary_files(&backend).is_empty());
}

#[tokio::test]
async fn a_root_that_is_missing_holds_nothing_and_is_made_private_by_the_first_put() {
    let folder = tempfile::tempdir().unwrap();
    let backend = LocalBackend::new(folder.path().join("deep/root")).unwrap();
    assert!(listed(&backend).await.is_empty());
    assert_eq!(backend.get(&key("a")).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!backend.root().exists());
    backend.put(&key("a/b"), "1".into(), PutMode::Create).await.unwrap();
    assert_eq!(fs::metadata(backend.root()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(backend.root().join("a/b")).unwrap().permissions().mode() & 0o077, 0);
}

#[tokio::test]
async fn old_leftovers_are_removed_but_not_fresh_or_locked_ones() {
    let folder = tempfile::tempdir().unwrap();
    let backend = LocalBackend::new(folder.path()).unwrap();
    let tmp = folder.path().join("~tmp");
    fs::create_dir(&tmp).unwrap();
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let files: Vec<_> = ["1-dead", "2-alive", "3-fresh"].map(|name| fs::File::create(tmp.join(name)).unwrap()).into();
    files[0].set_modified(hour_ago).unwrap();
    files[1].set_modified(hour_ago).unwrap();
    files[1].lock().unwrap();
    backend.put(&key("a"), "1".into(), PutMode::Create).await.unwrap();
    let mut left = temporary_files(&backend);
    left.sort();
    assert_eq!(left, ["2-alive", "3-fresh"]);
    assert_eq!(listed(&backend).await, ["a"], "a temporary file never looks like an object");
}

#[tokio::test]
async fn links_and_pipes_are_refused_and_not_listed() {
    let folder = tempfile::tempdir().unwrap();
    let backend = LocalBackend::new(folder.path()).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("pipe"), rustix::fs::Mode::RWXU).unwrap();
    for name in ["link", "pipe"] {
        assert_eq!(backend.get(&key(name)).await.unwrap_err().kind(), ErrorKind::Integrity, "{name}");
        let refused = backend.put(&key(name), "1".into(), PutMode::Create).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
    }
    assert!(listed(&backend).await.is_empty());
}

#[tokio::test]
async fn a_folder_is_no_object_and_nothing_lies_below_an_object() {
    let folder = tempfile::tempdir().unwrap();
    let backend = LocalBackend::new(folder.path()).unwrap();
    backend.put(&key("folder/object"), "1".into(), PutMode::Create).await.unwrap();
    for name in ["folder", "folder/object/below"] {
        assert_eq!(backend.get(&key(name)).await.unwrap_err().kind(), ErrorKind::NotFound, "{name}");
        assert_eq!(backend.head(&key(name)).await.unwrap_err().kind(), ErrorKind::NotFound, "{name}");
        backend.delete(&key(name)).await.unwrap();
    }
    assert_eq!(listed(&backend).await, ["folder/object"]);
}

#[tokio::test]
async fn a_folder_that_vanished_under_a_put_is_made_again_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let backend = LocalBackend::new(folder.path().join("root")).unwrap();
    backend.put(&key("a/b"), "1".into(), PutMode::Create).await.unwrap();
    fs::remove_dir_all(backend.root()).unwrap();
    let error = backend.put(&key("a/b"), "1".into(), PutMode::Create).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    backend.put(&key("a/b"), "1".into(), PutMode::Create).await.unwrap();
}

#[tokio::test]
async fn a_long_list_comes_whole_and_may_be_dropped_half_way() {
    let folder = tempfile::tempdir().unwrap();
    let backend = LocalBackend::new(folder.path()).unwrap();
    for number in 0..40 {
        fs::create_dir(folder.path().join(format!("{number}"))).unwrap();
        for object in 0..40 {
            fs::write(folder.path().join(format!("{number}/{object}")), "x").unwrap();
        }
    }
    assert_eq!(listed(&backend).await.len(), 1600);
    assert!(backend.list(None).try_next().await.unwrap().is_some());
}

/// A file system of 4 MiB, unmounted when dropped; `None` where we may not mount.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(folder.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _reported_by_the_folder = std::process::Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_unavailable_says_what_to_do_and_leaves_nothing_behind() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("skipped: only root can mount a small disk");
        return;
    };
    let backend = LocalBackend::new(disk.0.path()).unwrap();
    backend.put(&key("before"), "1".into(), PutMode::Create).await.unwrap();
    for size in [5 << 20, 4_194_000] {
        let error = backend.put(&key("packs/1"), vec![1; size].into(), PutMode::Create).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("make room"), "{error}");
    }
    assert!(temporary_files(&backend).is_empty(), "a failed put gives its room back");
    assert_eq!(listed(&backend).await, ["before"]);
    backend.put(&key("packs/1"), vec![1; 3 << 20].into(), PutMode::Create).await.unwrap();
}

/// Not a test of right and wrong: prints the throughput of durable puts of packs. `LOCAL_PUT_AT=/disk cargo test --release -- --ignored`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn forty_packs_two_at_once() {
    let place = std::env::var_os("LOCAL_PUT_AT").unwrap_or_else(|| ".".into());
    let folder = tempfile::tempdir_in(place).unwrap();
    let backend = LocalBackend::new(folder.path()).unwrap();
    let body: Bytes =
        (0..(32u32 << 20) + 77).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>().into();
    let started = std::time::Instant::now();
    let puts = (0..40).map(|number| {
        let (backend, body) = (&backend, body.clone());
        async move { backend.put(&key(&format!("packs/{number}")), body, PutMode::Create).await.unwrap() }
    });
    futures::StreamExt::for_each(futures::StreamExt::buffer_unordered(futures::stream::iter(puts), 2), |()| async {})
        .await;
    let megabytes = 40.0 * body.len() as f64 / 1e6;
    eprintln!("{megabytes:.0} MB at {:.0} MB/s", megabytes / started.elapsed().as_secs_f64());
}
