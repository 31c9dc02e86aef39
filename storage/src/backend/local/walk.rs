//! Listing object files.

use std::{
    fs::{self, DirEntry, ReadDir},
    io,
    path::{Path, PathBuf},
};

use backstay_core::{Error, ObjectKey, ObjectMeta, Result, ResultExt};
use futures::{StreamExt, TryStreamExt, stream::BoxStream};

use super::super::jobs::Jobs;

/// Objects that one job looks at.
const PAGE: usize = 512;

/// Open folders from the one that was asked for down to the one that is being read, each with its key and a slash.
struct Walk(Vec<(String, ReadDir)>);

/// Lists page by page, a job each: a job that waited for a slow reader would hold a thread that the reader may need.
pub(super) fn list(jobs: Jobs, root: PathBuf, folder: Option<ObjectKey>) -> BoxStream<'static, Result<ObjectMeta>> {
    let start = async move {
        let prefix = folder.as_ref().map(|folder| format!("{folder}/")).unwrap_or_default();
        let path = folder.map_or_else(|| root.clone(), |folder| root.join(folder.as_str()));
        let first = jobs.clone();
        let walk =
            first.run(move || Ok(Walk(open(&path)?.map(|entries| (prefix, entries)).into_iter().collect()))).await?;
        Ok(futures::stream::try_unfold((jobs, walk), |(jobs, walk)| async move {
            let (page, walk) = jobs.run(move || next_page(walk)).await?;
            let page = futures::stream::iter(page.into_iter().map(Ok));
            Ok(walk.map(|walk| (page, (jobs, walk))))
        })
        .try_flatten())
    };
    futures::stream::once(start).try_flatten().boxed()
}

/// Nothing for a folder that is not there: an empty one leaves no trace in a store of objects.
fn open(path: &Path) -> Result<Option<ReadDir>> {
    match fs::read_dir(path) {
        Ok(entries) => Ok(Some(entries)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(listing(error)).context("folder", path.display()),
    }
}

fn listing(error: io::Error) -> Error {
    Error::io(error, "List a folder")
}

fn next_page(mut walk: Walk) -> Result<(Vec<ObjectMeta>, Option<Walk>)> {
    let mut page = Vec::new();
    while page.len() < PAGE {
        let Some((prefix, entries)) = walk.0.last_mut() else { break };
        let Some(entry) = entries.next().transpose().map_err(listing)? else {
            walk.0.pop();
            continue;
        };
        let Some(key) = key_of(prefix, &entry) else { continue };
        let kind = entry.file_type().map_err(listing)?;
        if kind.is_dir() {
            let deeper = open(&entry.path())?.map(|entries| (format!("{key}/"), entries));
            walk.0.extend(deeper);
        } else if kind.is_file() {
            page.extend(meta(key, &entry)?);
        }
    }
    let ended = page.is_empty() && walk.0.is_empty();
    Ok((page, (!ended).then_some(walk)))
}

/// No key for what cannot be an object: temporary files, and whatever else somebody put there.
fn key_of(prefix: &str, entry: &DirEntry) -> Option<ObjectKey> {
    let name = entry.file_name();
    ObjectKey::new(format!("{prefix}{}", name.to_str()?)).ok()
}

/// Nothing for an object that was deleted while we looked.
fn meta(key: ObjectKey, entry: &DirEntry) -> Result<Option<ObjectMeta>> {
    match entry.metadata() {
        Ok(meta) => Ok(Some(ObjectMeta { key, size: meta.len() })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(listing(error)).context("key", key),
    }
}
