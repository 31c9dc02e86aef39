//! How large a cache may be and what it may keep.

use backstay_core::{Error, ObjectKey, Result};
use serde::{Deserialize, Serialize};

/// Where a repository has what never changes and is no sign of life.
const IMMUTABLE: [&str; 3] = ["index", "meta", "packs"];

/// What decides what exists and who may do what: a copy of it would be a lie as soon as somebody else writes.
const LIVE: [&str; 9] = ["chain", "config", "epochs", "folded", "forgotten", "holds", "keys", "points", "sessions"];

/// How large a [`super::ReadCacheBackend`] may be and what it may keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct CacheOptions {
    /// Bytes of all files together. What is larger than an eighth of it is not kept.
    pub max_bytes: u64,
    /// First parts of keys (`packs` for `packs/0a/0a1b…`) of objects that never change once they are there.
    pub folders: Vec<String>,
}

impl Default for CacheOptions {
    /// 4 GiB of `index`, `meta` and `packs`.
    fn default() -> Self {
        Self { max_bytes: 4 << 30, folders: IMMUTABLE.map(str::to_owned).into() }
    }
}

impl CacheOptions {
    /// Sets [`Self::max_bytes`].
    #[must_use]
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets [`Self::folders`].
    #[must_use]
    pub fn folders(mut self, folders: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.folders = folders.into_iter().map(Into::into).collect();
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        match self.folders.iter().find(|folder| LIVE.contains(&folder.as_str())) {
            Some(folder) => Err(Error::invalid_input(
                "This folder of a repository says what exists and must always come from the store; do not cache it",
            )
            .with_context("folder", folder)),
            None => Ok(()),
        }
    }

    pub(super) fn keeps(&self, key: &ObjectKey) -> bool {
        let first = key.as_str().split_once('/').map(|(first, _)| first);
        first.is_some_and(|first| self.folders.iter().any(|folder| folder == first))
    }
}
