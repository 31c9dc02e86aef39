//! A mirror or a clone, compared without reading a pack.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use backstay_core::{Context, ErrorKind, ObjectKey, PutMode, StorageBackend};
use backstay_storage::{
    MemoryBackend,
    backend::{FaultBackend, Operation},
};
use common::{MIB, back_up_disk, dense, memory_repository, open};

fn first(memory: &MemoryBackend, folder: &str) -> ObjectKey {
    memory.keys().into_iter().find(|key| key.as_str().starts_with(folder)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_is_the_same_and_no_pack_is_read_to_tell() {
    let (memory, repository) = memory_repository().await;
    back_up_disk(&repository, "web", &dense(8 * MIB, 1)).await.unwrap();
    let here = Arc::new(FaultBackend::new(memory.clone()));
    let there = FaultBackend::new(Arc::new(memory.fork()));
    let repository = open(here.clone()).await.unwrap();
    here.reset_counts();
    here.record_calls();
    let report = repository.check_against(&there, &Context::default()).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.objects, report.bytes), (memory.keys().len() as u64, memory.total_bytes()));
    for backend in [&*here, &there] {
        assert!(backend.counts().bytes_got < 64 << 10, "{:?}", backend.counts());
        assert_eq!(backend.counts().lists, 1);
    }
    assert!(here.calls().iter().all(|call| {
        call.operation == Operation::List || !call.key.as_ref().unwrap().as_str().starts_with("packs/")
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_or_different_on_either_side_is_named() {
    let (memory, repository) = memory_repository().await;
    back_up_disk(&repository, "web", &dense(3 * MIB, 1)).await.unwrap();
    let there = memory.fork();
    let (pack, meta, point) = (first(&memory, "packs/"), first(&memory, "meta/"), first(&memory, "points/"));
    there.delete(&pack).await.unwrap();
    memory.delete(&meta).await.unwrap();
    // Of the same size, so that only a look tells.
    there.tamper(&point, |body| body[70] ^= 1).unwrap();
    let index = first(&memory, "index/");
    there.tamper(&index, |body| body.truncate(100)).unwrap();
    // Its name is its hash: the bytes of a pack are for `check --read`.
    let other = memory.keys().into_iter().rfind(|key| key.as_str().starts_with("packs/")).unwrap();
    there.tamper(&other, |body| body[9] ^= 1).unwrap();
    let report = repository.check_against(&there, &Context::default()).await.unwrap();
    assert!(!report.is_clean());
    assert_eq!((report.missing_there, report.missing_here), (vec![pack], vec![meta]));
    let different: Vec<_> = report.different.iter().map(|it| (&it.key, it.here_bytes == it.there_bytes)).collect();
    assert_eq!(different, [(&index, false), (&point, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_repository_and_an_empty_place_are_not_compared() {
    let (_, repository) = memory_repository().await;
    let (other, _) = memory_repository().await;
    let ctx = Context::default();
    assert_eq!(repository.check_against(&*other, &ctx).await.unwrap_err().kind(), ErrorKind::Conflict);
    let empty = MemoryBackend::new();
    assert_eq!(repository.check_against(&empty, &ctx).await.unwrap_err().kind(), ErrorKind::NotFound);
    // The traces of a probe are nobody's.
    let (memory, repository) = memory_repository().await;
    let there = memory.fork();
    there.put(&ObjectKey::new("probe/x").unwrap(), "1".into(), PutMode::Create).await.unwrap();
    assert!(repository.check_against(&there, &ctx).await.unwrap().is_clean());
}
