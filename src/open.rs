//! From a URL to a backend: the only place that knows every adapter.

use std::sync::Arc;

use backstay_core::{Error, Result, StorageBackend};
use backstay_storage::{LocalBackend, MemoryBackend};

/// What a URL does not say. The library reads no environment: who calls does.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct BackendOptions {
    /// The keys and the server for `s3://`; bucket and prefix come from the URL.
    #[cfg(feature = "s3")]
    pub s3: Option<backstay_storage::S3Options>,
}

impl BackendOptions {
    /// Sets what `s3://` needs.
    #[cfg(feature = "s3")]
    #[must_use]
    pub fn s3(mut self, s3: backstay_storage::S3Options) -> Self {
        self.s3 = Some(s3);
        self
    }
}

/// Opens the backend that a URL names: a path, `file://PATH`, `s3://BUCKET/PREFIX`, `memory:` (gone with the process).
pub fn open_backend(url: &str, options: &BackendOptions) -> Result<Arc<dyn StorageBackend>> {
    if let Some(path) = url.strip_prefix("file://") {
        return Ok(Arc::new(LocalBackend::new(path)?));
    }
    if url == "memory:" {
        return Ok(Arc::new(MemoryBackend::default()));
    }
    if let Some(place) = url.strip_prefix("s3://") {
        return open_s3(place, options);
    }
    match url.split_once("://") {
        Some((scheme, _)) => Err(Error::invalid_input(format!(
            "There is no storage backend for {scheme}:// URLs; use a path, file://, s3:// or memory:"
        ))),
        None if url.is_empty() => Err(Error::invalid_input("The repository's place is empty; give a path or a URL")),
        None => Ok(Arc::new(LocalBackend::new(url)?)),
    }
}

#[cfg(feature = "s3")]
fn open_s3(place: &str, options: &BackendOptions) -> Result<Arc<dyn StorageBackend>> {
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    if bucket.is_empty() {
        return Err(Error::invalid_input("An S3 repository is s3://BUCKET/PREFIX"));
    }
    let mut s3 = options.s3.clone().unwrap_or_else(|| backstay_storage::S3Options::new(bucket));
    s3.bucket = bucket.to_owned();
    s3.prefix = prefix.trim_matches('/').to_owned();
    Ok(Arc::new(backstay_storage::S3Backend::new(s3)?))
}

#[cfg(not(feature = "s3"))]
fn open_s3(_place: &str, _options: &BackendOptions) -> Result<Arc<dyn StorageBackend>> {
    Err(Error::unsupported("This build of Backstay has no S3 backend (feature `s3`)"))
}
