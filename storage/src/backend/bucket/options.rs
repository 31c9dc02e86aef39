//! What the options of all buckets have in common.

use std::time::Duration;

use backstay_core::{Error, ObjectKey, Result};
use object_store::{ClientOptions, RetryConfig};

/// A whole pack on a line of 0.5 Mbit/s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Chained setters for fields of these names.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $kind:ty => $from:ty),* $(,)?) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, value: impl Into<$from>) -> Self {
            self.$name = <$kind>::from(value.into());
            self
        }
    )*};
}
pub(in crate::backend) use setters;

/// `scheme://bucket/prefix at endpoint`, for people.
pub(in crate::backend) fn location(scheme: &str, bucket: &str, prefix: &str, endpoint: Option<&str>) -> String {
    let prefix = prefix.trim_matches('/');
    let slash = if prefix.is_empty() { "" } else { "/" };
    let at = endpoint.map(|endpoint| format!(" at {}", without_password(endpoint))).unwrap_or_default();
    format!("{scheme}://{bucket}{slash}{prefix}{at}")
}

/// `https://user:password@host` is not an address anybody should use, but it must not be printed either. The same goes for what
/// follows a question mark: a shared access signature is a key.
fn without_password(endpoint: &str) -> String {
    let address = endpoint.split('?').next().unwrap_or_default();
    match (address.split_once("://"), address.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => address.to_owned(),
    }
}

pub(in crate::backend) fn checked_prefix(prefix: &str) -> Result<Option<ObjectKey>> {
    match prefix.trim_matches('/') {
        "" => Ok(None),
        prefix => ObjectKey::new(prefix).map(Some).map_err(|_| {
            Error::invalid_input(
                "The prefix in a bucket has segments of letters, digits, '.', '_' and '-' between slashes",
            )
            .with_context("prefix", prefix)
        }),
    }
}

/// The client of an endpoint; refuses one that is plain http unless that is allowed.
pub(in crate::backend) fn client(endpoint: Option<&str>, allow_http: bool) -> Result<ClientOptions> {
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) && !allow_http {
        return Err(Error::invalid_input("The endpoint is plain http; use https or allow http explicitly"));
    }
    Ok(ClientOptions::new()
        .with_timeout(REQUEST_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_allow_http(allow_http))
}

/// Two quick tries more, so that one lost page does not make a long listing start over. Patience is the business of
/// [`crate::backend::RetryBackend`], whose budget all calls share; were it here as well, each of its tries would wait for minutes.
pub(in crate::backend) fn quick_retries() -> RetryConfig {
    RetryConfig { max_retries: 2, retry_timeout: Duration::from_secs(10), ..RetryConfig::default() }
}

pub(in crate::backend) fn nonsense(error: object_store::Error) -> Error {
    Error::invalid_input("These options make no sense together").with_context("cause", &error).with_source(error)
}
