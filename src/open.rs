//! From a URL to a backend: the only place that knows every adapter.

use std::{path::PathBuf, sync::Arc};

use backstay_core::{Error, Result, StorageBackend};
use backstay_storage::{
    CacheOptions, LocalBackend, MemoryBackend, ReadCacheBackend, RetryBackend, RetryOptions, ThrottleBackend,
    ThrottleOptions,
};

/// What a URL does not say. The library reads no environment: who calls does.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct BackendOptions {
    /// The keys and the server for `s3://`; bucket and prefix come from the URL.
    #[cfg(feature = "s3")]
    pub s3: Option<backstay_storage::S3Options>,
    /// The account and the key for `az://`; container and prefix come from the URL.
    #[cfg(feature = "azure")]
    pub azure: Option<backstay_storage::AzureOptions>,
    /// The key for `gs://`; bucket and prefix come from the URL.
    #[cfg(feature = "gcs")]
    pub gcs: Option<backstay_storage::GcsOptions>,
    /// Keys and known hosts for `sftp://`; the place comes from the URL.
    #[cfg(feature = "sftp")]
    pub sftp: Option<backstay_storage::SftpOptions>,
    /// Patience with a store that is away. `None` is the usual patience for a store across a network and none for others;
    /// [`RetryOptions::attempts`] of 1 is none at all.
    pub retry: Option<RetryOptions>,
    /// Bytes a second and requests at once; no limits unless set.
    pub throttle: ThrottleOptions,
    /// A folder that keeps what was read, for a store across a network. Not for a check, which is to read the store.
    pub cache: Option<(PathBuf, CacheOptions)>,
}

impl BackendOptions {
    /// Sets what `s3://` needs.
    #[cfg(feature = "s3")]
    #[must_use]
    pub fn s3(mut self, s3: backstay_storage::S3Options) -> Self {
        self.s3 = Some(s3);
        self
    }

    /// Sets what `az://` needs.
    #[cfg(feature = "azure")]
    #[must_use]
    pub fn azure(mut self, azure: backstay_storage::AzureOptions) -> Self {
        self.azure = Some(azure);
        self
    }

    /// Sets what `gs://` needs.
    #[cfg(feature = "gcs")]
    #[must_use]
    pub fn gcs(mut self, gcs: backstay_storage::GcsOptions) -> Self {
        self.gcs = Some(gcs);
        self
    }

    /// Sets what `sftp://` needs.
    #[cfg(feature = "sftp")]
    #[must_use]
    pub fn sftp(mut self, sftp: backstay_storage::SftpOptions) -> Self {
        self.sftp = Some(sftp);
        self
    }

    /// Sets [`Self::retry`].
    #[must_use]
    pub fn retry(mut self, retry: RetryOptions) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Sets [`Self::throttle`].
    #[must_use]
    pub fn throttle(mut self, throttle: ThrottleOptions) -> Self {
        self.throttle = throttle;
        self
    }

    /// Sets [`Self::cache`].
    #[must_use]
    pub fn cache(mut self, folder: impl Into<PathBuf>, options: CacheOptions) -> Self {
        self.cache = Some((folder.into(), options));
        self
    }
}

/// Opens the backend that a URL names, below the layers that the options ask for.
///
/// | URL | where |
/// |---|---|
/// | a path, `file://PATH` | a folder |
/// | `s3://BUCKET/PREFIX` | a bucket of S3 |
/// | `az://CONTAINER/PREFIX` | a container of Azure |
/// | `gs://BUCKET/PREFIX` | a bucket of Google Cloud Storage |
/// | `sftp://USER@HOST:PORT/PATH` | a folder of an SSH server; `/~/PATH` below the home folder |
/// | `memory:` | gone with the process |
///
/// From the outside in: the cache, patience ([`RetryBackend`], for networks unless it is switched off), limits, the store. Retries so
/// count against the limits, and what the cache has does not. A cache is for stores across a network and is left out before others.
pub fn open_backend(url: &str, options: &BackendOptions) -> Result<Arc<dyn StorageBackend>> {
    let (mut backend, network) = open_store(url, options)?;
    if options.throttle.limits_anything() {
        backend = Arc::new(ThrottleBackend::new(backend, &options.throttle));
    }
    let usual = network.then(RetryOptions::default);
    if let Some(retry) = options.retry.clone().or(usual) {
        backend = Arc::new(RetryBackend::new(backend, retry));
    }
    if let Some((folder, cache)) = options.cache.as_ref().filter(|_| network) {
        backend = Arc::new(ReadCacheBackend::new(backend, folder, cache.clone())?);
    }
    Ok(backend)
}

/// The store itself, and whether it is across a network.
fn open_store(url: &str, options: &BackendOptions) -> Result<(Arc<dyn StorageBackend>, bool)> {
    if url == "memory:" {
        return Ok((Arc::new(MemoryBackend::default()), false));
    }
    match url.split_once("://") {
        Some(("file", path)) => Ok((Arc::new(LocalBackend::new(path)?), false)),
        Some(("s3", place)) => Ok((open_s3(bucket(url, place)?, options)?, true)),
        Some(("az", place)) => Ok((open_azure(bucket(url, place)?, options)?, true)),
        Some(("gs", place)) => Ok((open_gcs(bucket(url, place)?, options)?, true)),
        Some(("sftp", _)) => Ok((open_sftp(url, options)?, true)),
        Some((scheme, _)) => Err(Error::invalid_input(format!(
            "There is no storage backend for {scheme}:// URLs; use a path, file://, s3://, az://, gs://, sftp:// or memory:"
        ))),
        None if url.is_empty() => Err(Error::invalid_input("The repository's place is empty; give a path or a URL")),
        None => Ok((Arc::new(LocalBackend::new(url)?), false)),
    }
}

/// The bucket and the prefix in what follows the scheme.
fn bucket<'a>(url: &str, place: &'a str) -> Result<(&'a str, &'a str)> {
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    if bucket.is_empty() {
        return Err(Error::invalid_input(
            "A bucket or a container is missing; write s3://BUCKET/PREFIX, and az:// and gs:// likewise",
        )
        .with_context("url", url));
    }
    Ok((bucket, prefix.trim_matches('/')))
}

#[cfg(feature = "s3")]
fn open_s3((bucket, prefix): (&str, &str), options: &BackendOptions) -> Result<Arc<dyn StorageBackend>> {
    let mut s3 = options.s3.clone().unwrap_or_else(|| backstay_storage::S3Options::new(bucket));
    s3.bucket = bucket.to_owned();
    s3.prefix = prefix.to_owned();
    Ok(Arc::new(backstay_storage::S3Backend::new(s3)?))
}

#[cfg(not(feature = "s3"))]
fn open_s3(_place: (&str, &str), _options: &BackendOptions) -> Result<Arc<dyn StorageBackend>> {
    Err(Error::unsupported("This build of Backstay has no S3 backend (feature `s3`)"))
}

#[cfg(feature = "azure")]
fn open_azure((container, prefix): (&str, &str), options: &BackendOptions) -> Result<Arc<dyn StorageBackend>> {
    let mut azure = options.azure.clone().unwrap_or_else(|| backstay_storage::AzureOptions::new("", container));
    azure.container = container.to_owned();
    azure.prefix = prefix.to_owned();
    Ok(Arc::new(backstay_storage::AzureBackend::new(azure)?))
}

#[cfg(not(feature = "azure"))]
fn open_azure(_place: (&str, &str), _options: &BackendOptions) -> Result<Arc<dyn StorageBackend>> {
    Err(Error::unsupported("This build of Backstay has no Azure backend (feature `azure`)"))
}

#[cfg(feature = "gcs")]
fn open_gcs((bucket, prefix): (&str, &str), options: &BackendOptions) -> Result<Arc<dyn StorageBackend>> {
    let mut gcs = options.gcs.clone().unwrap_or_else(|| backstay_storage::GcsOptions::new(bucket));
    gcs.bucket = bucket.to_owned();
    gcs.prefix = prefix.to_owned();
    Ok(Arc::new(backstay_storage::GcsBackend::new(gcs)?))
}

#[cfg(not(feature = "gcs"))]
fn open_gcs(_place: (&str, &str), _options: &BackendOptions) -> Result<Arc<dyn StorageBackend>> {
    Err(Error::unsupported("This build of Backstay has no backend for Google Cloud Storage (feature `gcs`)"))
}

#[cfg(feature = "sftp")]
fn open_sftp(url: &str, options: &BackendOptions) -> Result<Arc<dyn StorageBackend>> {
    let place: backstay_storage::SftpPlace = url.parse()?;
    let mut sftp = options.sftp.clone().unwrap_or_else(|| backstay_storage::SftpOptions::new(place.clone()));
    sftp.place = place;
    Ok(Arc::new(backstay_storage::SftpBackend::new(sftp)?))
}

#[cfg(not(feature = "sftp"))]
fn open_sftp(_url: &str, _options: &BackendOptions) -> Result<Arc<dyn StorageBackend>> {
    Err(Error::unsupported("This build of Backstay has no SFTP backend (feature `sftp`)"))
}

#[cfg(test)]
mod tests {
    use backstay_core::ErrorKind;

    use super::*;

    fn shown(url: &str, options: &BackendOptions) -> String {
        format!("{:?}", open_backend(url, options).unwrap())
    }

    #[test]
    fn a_store_across_a_network_gets_patience_and_a_folder_gets_none_unless_asked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let path = path.to_str().unwrap();
        let usual = BackendOptions::default();
        let patient = BackendOptions::default().retry(RetryOptions::default());
        assert!(shown("s3://bucket/prefix", &usual).starts_with("RetryBackend"));
        assert!(!shown(path, &usual).contains("RetryBackend"));
        assert!(shown(path, &patient).starts_with("RetryBackend"));
    }

    #[test]
    fn layers_are_stacked_so_that_retries_count_against_limits_and_hits_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let options = BackendOptions::default()
            .throttle(ThrottleOptions::default().requests(3))
            .cache(folder.path(), CacheOptions::default());
        let shown = shown("s3://bucket", &options);
        let at = |layer: &str| shown.find(layer).unwrap();
        assert!(at("ReadCacheBackend") < at("RetryBackend") && at("RetryBackend") < at("ThrottleBackend"), "{shown}");
    }

    #[test]
    fn a_url_without_a_bucket_or_of_an_unknown_scheme_is_refused() {
        for url in ["s3://", "az:///prefix", "gs://", "ftp://host/path", ""] {
            let refused = open_backend(url, &BackendOptions::default()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{url}");
        }
    }
}
