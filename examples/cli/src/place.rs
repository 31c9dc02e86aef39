//! From REPO and the environment to a backend. The library reads no environment; this does.

use std::sync::Arc;

use backstay::{
    AzureKey, AzureOptions, BackendOptions, CacheOptions, Error, ErrorKind, GcsKey, GcsOptions, ObjectKey, Result,
    S3Options, StorageBackend, ThrottleOptions, open_backend,
};

use crate::{args::Global, sides::Side, ssh};

/// Opens the backend that REPO names. What must read the store itself asks for no cache.
pub fn open(place: &str, global: &Global, cached: bool) -> Result<Arc<dyn StorageBackend>> {
    open_side(place, global, None, cached)
}

/// Opens one of two: its own variables come before those of both.
pub fn open_side(place: &str, global: &Global, side: Option<Side>, cached: bool) -> Result<Arc<dyn StorageBackend>> {
    let limits = ThrottleOptions::default()
        .upload(global.limit_upload)
        .download(global.limit_download)
        .requests(global.max_requests);
    let mut options = BackendOptions::default().throttle(limits);
    if let Some(folder) = global.cache.as_ref().filter(|_| cached) {
        options = options.cache(folder, CacheOptions::default().max_bytes(global.cache_size));
    }
    options = match place.split_once(':') {
        Some(("memory", "")) => {
            return Err(Error::invalid_input("A repository in memory is for programs; give a path or a URL"));
        }
        Some(("s3", _)) => options.s3(s3(global, side)),
        Some(("az", _)) => options.azure(azure(global, side)?),
        Some(("gs", _)) => options.gcs(gcs(global, side)),
        Some(("sftp", _)) => options.sftp(ssh::options(place, global)?),
        _ => options,
    };
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
fn s3(global: &Global, side: Option<Side>) -> S3Options {
    let either = |names: &[&str]| variable(names, side);
    let mut s3 = S3Options::new("");
    if let Some(endpoint) = endpoint(global, &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"], side) {
        let allowed = either(&["AWS_ALLOW_HTTP"]).is_some_and(|value| value == "true");
        s3 = s3.allow_http(allowed || http_is_fine(&endpoint, global)).endpoint(endpoint);
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

/// The usual variables of the Azure tools and libraries. Container and prefix come from the URL.
fn azure(global: &Global, side: Option<Side>) -> Result<AzureOptions> {
    let account = variable(&["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"], side).ok_or_else(|| {
        Error::invalid_input("Azure needs the name of the storage account; set AZURE_STORAGE_ACCOUNT")
    })?;
    let mut azure = AzureOptions::new(account, "").key(azure_key(side));
    if let Some(endpoint) = endpoint(global, &["AZURE_STORAGE_ENDPOINT"], side) {
        azure = azure.allow_http(http_is_fine(&endpoint, global)).endpoint(endpoint);
    }
    Ok(azure)
}

/// The most particular first: a key or a signature for storage beats an identity that other programs use as well.
fn azure_key(side: Option<Side>) -> AzureKey {
    if let Some(key) = variable(&["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_KEY"], side) {
        return AzureKey::Access(key.into());
    }
    if let Some(signature) = variable(&["AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_SAS_KEY"], side) {
        return AzureKey::Signature(signature.into());
    }
    let (tenant, client) = (variable(&["AZURE_TENANT_ID"], side), variable(&["AZURE_CLIENT_ID"], side));
    let (Some(tenant), Some(client)) = (tenant, client) else { return AzureKey::Machine };
    if let Some(secret) = variable(&["AZURE_CLIENT_SECRET"], side) {
        return AzureKey::Principal { tenant, client, secret: secret.into() };
    }
    match variable(&["AZURE_FEDERATED_TOKEN_FILE"], side) {
        Some(token_file) => AzureKey::Federated { tenant, client, token_file },
        None => AzureKey::Machine,
    }
}

/// The usual variables of Google's tools and libraries. Bucket and prefix come from the URL.
fn gcs(global: &Global, side: Option<Side>) -> GcsOptions {
    let mut gcs = GcsOptions::new("");
    if let Some(token) = variable(&["CLOUDSDK_AUTH_ACCESS_TOKEN", "GOOGLE_OAUTH_ACCESS_TOKEN"], side) {
        gcs = gcs.key(GcsKey::Token(token.into()));
    } else if let Some(path) = variable(&["GOOGLE_APPLICATION_CREDENTIALS"], side) {
        gcs = gcs.key(GcsKey::File(path));
    }
    if let Some(endpoint) = endpoint(global, &[], side) {
        gcs = gcs.allow_http(http_is_fine(&endpoint, global)).endpoint(endpoint);
    }
    gcs
}

/// The option, or else the first of these variables that is set.
fn endpoint(global: &Global, names: &[&str], side: Option<Side>) -> Option<String> {
    global.endpoint.clone().or_else(|| variable(names, side))
}

fn http_is_fine(endpoint: &str, global: &Global) -> bool {
    global.allow_http || is_this_machine(endpoint)
}

/// The first of these environment variables that is set and not empty; of the side's own ones, when there are two sides.
pub fn variable(names: &[&str], side: Option<Side>) -> Option<String> {
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
