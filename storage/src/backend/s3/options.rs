//! Which bucket, and who we are to it.

use std::fmt;

use backstay_core::{Error, Result, ResultExt};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use secrecy::{ExposeSecret, SecretString};

use crate::backend::bucket::{
    Bucket,
    options::{checked_prefix, client, location, nonsense, quick_retries, setters},
};

/// Which bucket, where it is, and the keys to it.
///
/// Nothing is taken from the environment: a program that wants `AWS_ACCESS_KEY_ID` and its kin reads them and sets them here.
/// (The HTTP client below honours `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.) Without keys the ones of the machine
/// are asked for at its metadata service, as on EC2.
#[derive(Clone)]
#[non_exhaustive]
pub struct S3Options {
    /// The bucket; it exists.
    pub bucket: String,
    /// Objects lie below this folder of the bucket; in its root when empty. In the alphabet of object keys.
    pub prefix: String,
    /// Address of the server: `https://s3.example.com:9000`. Amazon's own for the region when `None`.
    pub endpoint: Option<String>,
    /// The region; `us-east-1` when `None`, which other servers than Amazon's mostly do not care about.
    pub region: Option<String>,
    /// Access key id.
    pub access_key: Option<SecretString>,
    /// Secret access key.
    pub secret_key: Option<SecretString>,
    /// Session token of temporary keys.
    pub session_token: Option<SecretString>,
    /// Whether an `http://` endpoint is fine. Bodies are sealed by the repository, but names and keys in use are not.
    pub allow_http: bool,
    /// Whether the bucket is part of the host name and not of the path.
    pub virtual_hosted: bool,
}

impl S3Options {
    /// This bucket on Amazon's servers, with the keys of the machine.
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: String::new(),
            endpoint: None,
            region: None,
            access_key: None,
            secret_key: None,
            session_token: None,
            allow_http: false,
            virtual_hosted: false,
        }
    }

    setters! {
        /// Sets [`Self::prefix`].
        prefix: String => String,
        /// Sets [`Self::endpoint`].
        endpoint: Option<String> => String,
        /// Sets [`Self::region`].
        region: Option<String> => String,
        /// Sets [`Self::access_key`].
        access_key: Option<SecretString> => SecretString,
        /// Sets [`Self::secret_key`].
        secret_key: Option<SecretString> => SecretString,
        /// Sets [`Self::session_token`].
        session_token: Option<SecretString> => SecretString,
        /// Sets [`Self::allow_http`].
        allow_http: bool => bool,
        /// Sets [`Self::virtual_hosted`].
        virtual_hosted: bool => bool,
    }

    fn location(&self) -> String {
        location("s3", &self.bucket, &self.prefix, self.endpoint.as_deref())
    }

    pub(super) fn open(self) -> Result<Bucket> {
        let location = self.location();
        let prefix = checked_prefix(&self.prefix)?;
        Ok(Bucket::new(self.build().context("at", &location)?, prefix, location))
    }

    fn build(self) -> Result<AmazonS3> {
        if self.bucket.is_empty() {
            return Err(Error::invalid_input("An S3 location needs a bucket: s3://BUCKET/PREFIX"));
        }
        if self.access_key.is_some() != self.secret_key.is_some() {
            return Err(Error::invalid_input("An access key and a secret key only work together; set both or none"));
        }
        let client = client(self.endpoint.as_deref(), self.allow_http)?;
        let mut builder = AmazonS3Builder::new()
            .with_client_options(client)
            .with_retry(quick_retries())
            .with_bucket_name(self.bucket)
            .with_region(self.region.unwrap_or_else(|| "us-east-1".into()))
            .with_virtual_hosted_style_request(self.virtual_hosted)
            // One DELETE for one object: not every server knows the bulk request.
            .with_disable_bulk_delete(true);
        if let Some(endpoint) = self.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        if let (Some(access), Some(secret)) = (&self.access_key, &self.secret_key) {
            builder = builder.with_access_key_id(access.expose_secret()).with_secret_access_key(secret.expose_secret());
        }
        if let Some(token) = &self.session_token {
            builder = builder.with_token(token.expose_secret());
        }
        builder.build().map_err(nonsense)
    }
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("location", &self.location())
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}
