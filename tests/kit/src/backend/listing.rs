//! Lists.

use backstay_core::StorageBackend;
use futures::TryStreamExt;

use super::{key, put};

async fn listed(backend: &dyn StorageBackend, folder: Option<&str>) -> Vec<(String, u64)> {
    let folder = folder.map(key);
    let found = backend.list(folder.as_ref()).map_ok(|meta| (meta.key.to_string(), meta.size)).try_collect::<Vec<_>>();
    let mut found = found.await.unwrap_or_else(|error| panic!("list {folder:?}: {error}"));
    found.sort();
    found
}

fn with_sizes(names: &[&str]) -> Vec<(String, u64)> {
    names.iter().map(|name| ((*name).to_owned(), name.len() as u64)).collect()
}

pub(super) async fn lists_are_complete_at_any_depth(backend: &dyn StorageBackend) {
    assert_eq!(listed(backend, None).await, [], "an empty backend lists nothing");
    assert_eq!(listed(backend, Some("no/such")).await, [], "a folder that is not there lists nothing");
    let names = ["a/1", "a/b/2", "a/b/c/d/3", "b/4", "top"];
    for name in names {
        put(backend, name, name.to_owned()).await;
    }
    assert_eq!(listed(backend, None).await, with_sizes(&names));
    assert_eq!(listed(backend, Some("a")).await, with_sizes(&["a/1", "a/b/2", "a/b/c/d/3"]));
    assert_eq!(listed(backend, Some("a/b")).await, with_sizes(&["a/b/2", "a/b/c/d/3"]));
    backend.delete(&key("a/b/2")).await.expect("delete");
    assert_eq!(listed(backend, Some("a/b")).await, with_sizes(&["a/b/c/d/3"]), "the deleted is not listed");
}

pub(super) async fn folders_are_not_string_prefixes(backend: &dyn StorageBackend) {
    for name in ["pack/1", "packs/2", "pack.s/3", "pack-s", "packs2/4", "other/packs/5"] {
        put(backend, name, name.to_owned()).await;
    }
    assert_eq!(listed(backend, Some("pack")).await, with_sizes(&["pack/1"]));
    assert_eq!(listed(backend, Some("packs")).await, with_sizes(&["packs/2"]));
    assert_eq!(listed(backend, Some("pack-s")).await, [], "an object is not in the folder of its name");
}

/// More than the 1000 that servers give in one answer.
pub(super) async fn many_objects_are_listed_once(backend: &dyn StorageBackend) {
    let mut names: Vec<_> = (0..1100).map(|number| format!("many/{:02x}/{number}", number % 16)).collect();
    for some in names.chunks(20) {
        futures::future::join_all(some.iter().map(|name| put(backend, name, name.clone()))).await;
    }
    names.sort();
    let found: Vec<_> = listed(backend, Some("many")).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(found.len(), names.len(), "each of many objects is listed once");
    assert!(found == names, "a long list names other objects");
}
