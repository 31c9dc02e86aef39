//! Which bucket, and who we are to it.

use std::fmt;

use backstay_core::{Error, Result, ResultExt};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use secrecy::{ExposeSecret, SecretString};

use crate::backend::bucket::{
    Bucket,
    options::{checked_prefix, client, location, nonsense, quick_retries, setters},
};

/// Which bucket, where it is, and the key to it.
///
/// Nothing is taken from the environment: a program that wants `GOOGLE_APPLICATION_CREDENTIALS` reads it and sets it here. (The HTTP
/// client below honours `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.)
#[derive(Clone)]
#[non_exhaustive]
pub struct GcsOptions {
    /// The bucket; it exists.
    pub bucket: String,
    /// Objects lie below this folder of the bucket; in its root when empty. In the alphabet of object keys.
    pub prefix: String,
    /// Address of the server; Google's own when `None`.
    pub endpoint: Option<String>,
    /// What opens the bucket.
    pub key: GcsKey,
    /// Whether an `http://` endpoint is fine. Bodies are sealed by the repository, but names and keys in use are not.
    pub allow_http: bool,
}

/// What opens a bucket of Google's.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum GcsKey {
    /// What `gcloud auth application-default login` left in the home folder, or else the identity of the machine, asked for at its
    /// metadata service.
    #[default]
    Machine,
    /// Path of a file of credentials: the key of a service account, or what `gcloud` writes.
    File(String),
    /// The content of such a file of a service account.
    ServiceAccount(SecretString),
    /// An access token as it is. It is not renewed, so it must outlast what it is used for.
    Token(SecretString),
}

impl GcsOptions {
    /// This bucket on Google's servers, with the identity of the machine.
    pub fn new(bucket: impl Into<String>) -> Self {
        Self { bucket: bucket.into(), prefix: String::new(), endpoint: None, key: GcsKey::Machine, allow_http: false }
    }

    setters! {
        /// Sets [`Self::prefix`].
        prefix: String => String,
        /// Sets [`Self::endpoint`].
        endpoint: Option<String> => String,
        /// Sets [`Self::key`].
        key: GcsKey => GcsKey,
        /// Sets [`Self::allow_http`].
        allow_http: bool => bool,
    }

    fn location(&self) -> String {
        location("gs", &self.bucket, &self.prefix, self.endpoint.as_deref())
    }

    pub(super) fn open(self) -> Result<Bucket> {
        let location = self.location();
        let prefix = checked_prefix(&self.prefix)?;
        Ok(Bucket::new(self.build().context("at", &location)?, prefix, location))
    }

    fn build(self) -> Result<GoogleCloudStorage> {
        if self.bucket.is_empty() {
            return Err(Error::invalid_input("A Google Cloud Storage location needs a bucket: gs://BUCKET/PREFIX"));
        }
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_client_options(client(self.endpoint.as_deref(), self.allow_http)?)
            .with_retry(quick_retries())
            .with_bucket_name(self.bucket);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_base_url(endpoint.trim_end_matches('/'));
        }
        builder = match self.key {
            GcsKey::Machine => builder,
            GcsKey::File(path) => builder.with_application_credentials(path),
            GcsKey::ServiceAccount(json) => builder.with_service_account_key(json.expose_secret()),
            GcsKey::Token(token) => builder.with_bearer_token(token.expose_secret()),
        };
        builder.build().map_err(nonsense)
    }
}

impl fmt::Debug for GcsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcsOptions").field("location", &self.location()).field("key", &self.key).finish_non_exhaustive()
    }
}

/// Names the way in and keeps the key.
impl fmt::Debug for GcsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine => f.write_str("Machine"),
            Self::File(path) => write!(f, "File({path:?})"),
            Self::ServiceAccount(_) => f.write_str("ServiceAccount"),
            Self::Token(_) => f.write_str("Token"),
        }
    }
}
