use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use backstay_core::ErrorKind;
use backstay_testkit::noise;

use super::*;
use crate::backend::{Fault, FaultBackend, MemoryBackend, Operation, Rule};

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).unwrap()
}

struct Place {
    folder: tempfile::TempDir,
    store: Arc<FaultBackend>,
}

impl Place {
    async fn with(names: &[&str]) -> Self {
        let store = Arc::new(FaultBackend::new(Arc::new(MemoryBackend::new())));
        for name in names {
            store.put(&key(name), noise(7, 20_000).into(), PutMode::Create).await.unwrap();
        }
        store.reset_counts();
        Self { folder: tempfile::tempdir().unwrap(), store }
    }

    fn cache(&self, options: CacheOptions) -> ReadCacheBackend {
        ReadCacheBackend::new(Arc::clone(&self.store) as _, self.folder.path(), options).unwrap()
    }

    fn files(&self) -> Vec<PathBuf> {
        let (mut files, mut folders) = (Vec::new(), vec![self.folder.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        files.sort();
        files
    }
}

#[tokio::test]
async fn the_second_read_of_a_range_and_of_an_object_needs_no_store_also_after_a_restart() {
    let place = Place::with(&["packs/1"]).await;
    let cache = place.cache(CacheOptions::default());
    for _ in 0..3 {
        assert!(cache.get_range(&key("packs/1"), 10..2000).await.unwrap() == noise(7, 20_000)[10..2000]);
        assert!(cache.get(&key("packs/1")).await.unwrap() == noise(7, 20_000));
    }
    assert_eq!(place.cache(CacheOptions::default()).get_range(&key("packs/1"), 10..2000).await.unwrap().len(), 1990);
    let counts = place.store.counts();
    assert_eq!((counts.gets, counts.range_gets), (1, 1));
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.hit_bytes), (4, 2, 2 * (1990 + 20_000)));
    assert_eq!((stats.damaged, stats.failures), (0, 0));
}

#[tokio::test]
async fn signs_of_life_always_come_from_the_store() {
    let live = [
        "chain/0",
        "sessions/1/open",
        "points/1",
        "forgotten/1",
        "holds/1/0",
        "folded/1",
        "keys/1",
        "epochs/1/2",
        "config",
    ];
    let place = Place::with(&live).await;
    place.store.put(&key("packs/1"), "1".into(), PutMode::Create).await.unwrap();
    let cache = place.cache(CacheOptions::default());
    for name in live {
        cache.get(&key(name)).await.unwrap();
        cache.get_range(&key(name), 0..1).await.unwrap();
    }
    cache.get(&key("packs/1")).await.unwrap();
    cache.head(&key("packs/1")).await.unwrap();
    // Somebody else deletes all of them.
    for name in live.iter().chain(&["packs/1"]) {
        place.store.delete(&key(name)).await.unwrap();
    }
    for name in live {
        assert_eq!(cache.get(&key(name)).await.unwrap_err().kind(), ErrorKind::NotFound, "{name}");
        assert_eq!(cache.get_range(&key(name), 0..1).await.unwrap_err().kind(), ErrorKind::NotFound, "{name}");
    }
    assert_eq!(cache.head(&key("packs/1")).await.unwrap_err().kind(), ErrorKind::NotFound);
    let mut listing = cache.list(None);
    assert!(futures::StreamExt::next(&mut listing).await.is_none());
    for folder in ["chain", "config", "epochs", "folded", "forgotten", "holds", "keys", "points", "sessions"] {
        let options = CacheOptions::default().folders(["packs", folder]);
        let refused = ReadCacheBackend::new(Arc::clone(&place.store) as _, place.folder.path(), options);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput, "{folder}");
    }
}

#[tokio::test]
async fn that_nothing_was_there_is_not_remembered() {
    let place = Place::with(&[]).await;
    let cache = place.cache(CacheOptions::default());
    assert_eq!(cache.get(&key("packs/1")).await.unwrap_err().kind(), ErrorKind::NotFound);
    place.store.put(&key("packs/1"), "there".into(), PutMode::Create).await.unwrap();
    assert_eq!(cache.get(&key("packs/1")).await.unwrap(), "there");
}

#[tokio::test]
async fn a_file_that_is_not_what_was_written_is_read_from_the_store_again() {
    let damages: [fn(&mut Vec<u8>); 6] = [
        |file| file[0] ^= 1,
        |file| file[20] ^= 1,
        |file| file[500] ^= 0x80,
        |file| *file.last_mut().unwrap() ^= 1,
        |file| file.truncate(file.len() / 2),
        |file| file.clear(),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let place = Place::with(&["packs/1"]).await;
        let cache = place.cache(CacheOptions::default());
        let read = async || cache.get_range(&key("packs/1"), 5..1005).await.unwrap();
        read().await;
        let file = place.files().remove(0);
        let mut bytes = fs::read(&file).unwrap();
        damage(&mut bytes);
        fs::write(&file, bytes).unwrap();
        assert!(read().await == noise(7, 20_000)[5..1005], "damage {number}");
        assert!(read().await == noise(7, 20_000)[5..1005]);
        assert_eq!((cache.stats().damaged, place.store.counts().range_gets), (1, 2), "damage {number}");
    }
}

#[tokio::test]
async fn the_file_of_another_object_is_not_taken_for_ones_own() {
    let place = Place::with(&["packs/1"]).await;
    place.store.put(&key("packs/2"), noise(8, 20_000).into(), PutMode::Create).await.unwrap();
    let cache = place.cache(CacheOptions::default());
    cache.get(&key("packs/1")).await.unwrap();
    let first = place.files().remove(0);
    cache.get(&key("packs/2")).await.unwrap();
    let second = place.files().into_iter().find(|file| *file != first).unwrap();
    fs::copy(first, second).unwrap();
    assert!(cache.get(&key("packs/2")).await.unwrap() == noise(8, 20_000));
    assert_eq!(cache.stats().damaged, 1);
}

#[tokio::test]
async fn two_stores_in_one_folder_do_not_meet() {
    let place = Place::with(&["packs/1"]).await;
    place.cache(CacheOptions::default()).get(&key("packs/1")).await.unwrap();
    let other = tempfile::tempdir().unwrap();
    let elsewhere = Arc::new(crate::backend::LocalBackend::new(other.path()).unwrap());
    elsewhere.put(&key("packs/1"), "another".into(), PutMode::Create).await.unwrap();
    let cache = ReadCacheBackend::new(elsewhere, place.folder.path(), CacheOptions::default()).unwrap();
    assert_eq!(cache.get(&key("packs/1")).await.unwrap(), "another");
}

#[tokio::test]
async fn the_folder_stays_within_its_size_and_keeps_what_was_used_last() {
    let names: Vec<_> = (0..40).map(|number| format!("packs/{number}")).collect();
    let place = Place::with(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // A file takes 20,480 bytes: ten have room, and after a sweep nine.
    let cache = place.cache(CacheOptions::default().max_bytes(10 * 20_480));
    let start = SystemTime::now() - Duration::from_secs(1000);
    for (number, name) in names.iter().enumerate() {
        cache.get(&key(name)).await.unwrap();
        for file in place.files() {
            // Long ago, in the order in which they were used, which is finer than some file systems' clocks.
            let file = fs::File::options().write(true).open(file).unwrap();
            let used = file.metadata().unwrap().modified().unwrap();
            if used > start + Duration::from_secs(500) {
                file.set_modified(start + Duration::from_secs(number as u64)).unwrap();
            }
        }
        cache.get(&key(&names[0])).await.unwrap();
        assert!(place.files().len() <= 10, "{number}");
    }
    let before = place.store.counts().gets;
    cache.get(&key(&names[0])).await.unwrap();
    cache.get(&key(&names[39])).await.unwrap();
    assert_eq!(place.store.counts().gets, before, "what is used all the time and what is new are there");
    cache.get(&key(&names[20])).await.unwrap();
    assert_eq!(place.store.counts().gets, before + 1, "what was not used for long is not");
    assert!(cache.stats().misses < 45, "{:?}", cache.stats());
}

#[tokio::test]
async fn what_is_too_large_for_the_cache_is_read_all_the_same_and_not_kept() {
    let place = Place::with(&["packs/1"]).await;
    let cache = place.cache(CacheOptions::default().max_bytes(100_000));
    assert_eq!(cache.get(&key("packs/1")).await.unwrap().len(), 20_000);
    assert!(place.files().is_empty());
}

#[tokio::test]
async fn strangers_files_beside_the_cache_are_left_alone() {
    let place = Place::with(&["packs/1", "packs/2"]).await;
    let precious = place.folder.path().join("precious");
    fs::write(&precious, vec![0; 1 << 20]).unwrap();
    let cache = place.cache(CacheOptions::default().max_bytes(200_000));
    cache.get(&key("packs/1")).await.unwrap();
    drop(place.cache(CacheOptions::default().max_bytes(1)));
    assert_eq!(place.files(), [precious]);
    assert_eq!(cache.get(&key("packs/1")).await.unwrap().len(), 20_000);
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_costs_no_read() {
    let place = Place::with(&["packs/1"]).await;
    let cache = place.cache(CacheOptions::default());
    let own = fs::read_dir(place.folder.path()).unwrap().next().unwrap().unwrap().path();
    fs::remove_dir(&own).unwrap();
    fs::write(&own, "a file where a folder should be").unwrap();
    for _ in 0..2 {
        assert_eq!(cache.get(&key("packs/1")).await.unwrap().len(), 20_000);
    }
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses), (0, 2));
    assert!(stats.failures >= 2, "{stats:?}");
}

#[tokio::test]
async fn what_went_through_the_cache_to_be_replaced_or_deleted_is_forgotten_even_when_the_reply_is_lost() {
    let place = Place::with(&["packs/1"]).await;
    let cache = place.cache(CacheOptions::default());
    cache.get(&key("packs/1")).await.unwrap();
    place.store.inject(Rule::new(Fault::LoseReply(ErrorKind::Unavailable)).on(Operation::Put));
    cache.put(&key("packs/1"), "2".into(), PutMode::Replace).await.unwrap_err();
    assert_eq!(cache.get(&key("packs/1")).await.unwrap(), "2");
    place.store.inject(Rule::new(Fault::LoseReply(ErrorKind::Unavailable)).on(Operation::Delete));
    cache.delete(&key("packs/1")).await.unwrap_err();
    assert_eq!(cache.get(&key("packs/1")).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_file_holds_the_stores_bytes_and_no_names() {
    let place = Place::with(&["packs/secret-name"]).await;
    place.cache(CacheOptions::default()).get(&key("packs/secret-name")).await.unwrap();
    let file = place.files().remove(0);
    let bytes = fs::read(&file).unwrap();
    assert_eq!(bytes.len(), 20_000 + 72);
    assert!(bytes.windows(20_000).any(|window| window == noise(7, 20_000)));
    assert!(!file.to_string_lossy().contains("secret-name"));
    assert!(!bytes.windows(11).any(|window| window == b"secret-name"));
}
