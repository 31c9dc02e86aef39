//! From REPO and the environment to a backend. The library reads no environment; this does.

use std::sync::Arc;

use backstay::{BackendOptions, Error, ErrorKind, ObjectKey, Result, StorageBackend, open_backend};

use crate::{args::Global, sides::Side};

/// Opens the backend that REPO names.
pub fn open(place: &str, global: &Global) -> Result<Arc<dyn StorageBackend>> {
    open_side(place, global, None)
}

/// Opens one of two: its own variables come before those of both.
pub fn open_side(place: &str, global: &Global, side: Option<Side>) -> Result<Arc<dyn StorageBackend>> {
    if place == "memory:" {
        return Err(Error::invalid_input("A repository in memory is for programs; give a path, file:// or s3://"));
    }
    let mut options = BackendOptions::default();
    if place.starts_with("s3://") {
        options = options.s3(s3(global, side));
    }
    open_backend(place, &options)
}

/// Fails with `NotFound` when there is no repository.
pub async fn must_be_there(backend: &dyn StorageBackend) -> Result<()> {
    match backend.head(&ObjectKey::new("config")?).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::not_found(
            "There is no Backstay repository here; check --repo, or make one with `backstay init`",
        )
        .with_context("repository", backend.location())),
        other => other.map(drop),
    }
}

/// The usual variables of the AWS tools. Bucket and prefix come from the URL.
fn s3(global: &Global, side: Option<Side>) -> backstay::S3Options {
    let either = |names: &[&str]| variable(names, side);
    let mut s3 = backstay::S3Options::new("");
    let endpoint = global.endpoint.clone().or_else(|| either(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]));
    if let Some(endpoint) = endpoint {
        let allowed = global.allow_http || either(&["AWS_ALLOW_HTTP"]).is_some_and(|value| value == "true");
        s3 = s3.allow_http(allowed || is_this_machine(&endpoint)).endpoint(endpoint);
    }
    if let Some(region) = either(&["AWS_REGION", "AWS_DEFAULT_REGION"]) {
        s3 = s3.region(region);
    }
    if let Some(key) = either(&["AWS_ACCESS_KEY_ID"]) {
        s3 = s3.access_key(key);
    }
    // Of one account: half of it from here and half from there would be neither.
    let own_account = side.is_some_and(|side| {
        std::env::var_os(format!("{}AWS_ACCESS_KEY_ID", side.variable_prefix())).is_some_and(|key| !key.is_empty())
    });
    let of_account = |name: &str| match side.filter(|_| own_account) {
        Some(side) => variable(&[&format!("{}{name}", side.variable_prefix())], None),
        None => either(&[name]),
    };
    if let Some(key) = of_account("AWS_SECRET_ACCESS_KEY") {
        s3 = s3.secret_key(key);
    }
    if let Some(token) = of_account("AWS_SESSION_TOKEN") {
        s3 = s3.session_token(token);
    }
    s3
}

fn variable(names: &[&str], side: Option<Side>) -> Option<String> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let own = side.and_then(|side| names.iter().find_map(|name| set(&format!("{}{name}", side.variable_prefix()))));
    own.or_else(|| names.iter().find_map(|name| set(name)))
}

/// Whether nothing leaves this machine on the way to the endpoint.
fn is_this_machine(endpoint: &str) -> bool {
    let host = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let host = host.split(['/', '?']).next().unwrap_or_default();
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_needs_no_leave_on_this_machine_alone() {
        for here in
            ["http://localhost:9000", "http://127.0.0.1", "http://127.0.0.1:9000/", "http://[::1]:9000", "http://[::1]"]
        {
            assert!(is_this_machine(here), "{here}");
        }
        for away in ["http://10.0.0.1:9000", "http://localhost.example.com", "http://localhost:x@example.com"] {
            assert!(!is_this_machine(away), "{away}");
        }
    }
}
