//! Which container, and who we are to it.

use std::fmt;

use backstay_core::{Error, Result, ResultExt};
use object_store::azure::{AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use secrecy::{ExposeSecret, SecretString};

use crate::backend::bucket::{
    Bucket,
    options::{checked_prefix, client, location, nonsense, quick_retries, setters},
};

/// Which container, where it is, and the key to it.
///
/// Nothing is taken from the environment: a program that wants `AZURE_STORAGE_ACCOUNT_NAME` and its kin reads them and sets them
/// here. (The HTTP client below honours `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.)
#[derive(Clone)]
#[non_exhaustive]
pub struct AzureOptions {
    /// The storage account.
    pub account: String,
    /// The container; it exists.
    pub container: String,
    /// Objects lie below this folder of the container; in its root when empty. In the alphabet of object keys.
    pub prefix: String,
    /// Address of the account: `https://ACCOUNT.blob.core.windows.net`, which is also what `None` means.
    pub endpoint: Option<String>,
    /// What opens the container.
    pub key: AzureKey,
    /// Whether an `http://` endpoint is fine. Bodies are sealed by the repository, but names and keys in use are not.
    pub allow_http: bool,
}

/// What opens a container of Azure.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum AzureKey {
    /// The identity of the machine, asked for at its metadata service.
    #[default]
    Machine,
    /// One of the two keys of the account, in base64.
    Access(SecretString),
    /// A shared access signature: the query that begins with `sv=`, percent-encoded as Azure gives it.
    Signature(SecretString),
    /// A service principal with a password.
    Principal {
        /// Tenant (directory) id.
        tenant: String,
        /// Client (application) id.
        client: String,
        /// Its password.
        secret: SecretString,
    },
    /// A service principal whose token is in a file that somebody keeps fresh, as Kubernetes does (workload identity).
    Federated {
        /// Tenant (directory) id.
        tenant: String,
        /// Client (application) id.
        client: String,
        /// Path of the file with the token.
        token_file: String,
    },
}

impl AzureOptions {
    /// This container of this account, with the identity of the machine.
    pub fn new(account: impl Into<String>, container: impl Into<String>) -> Self {
        Self {
            account: account.into(),
            container: container.into(),
            prefix: String::new(),
            endpoint: None,
            key: AzureKey::Machine,
            allow_http: false,
        }
    }

    setters! {
        /// Sets [`Self::prefix`].
        prefix: String => String,
        /// Sets [`Self::endpoint`].
        endpoint: Option<String> => String,
        /// Sets [`Self::key`].
        key: AzureKey => AzureKey,
        /// Sets [`Self::allow_http`].
        allow_http: bool => bool,
    }

    fn location(&self) -> String {
        let default = || format!("https://{}.blob.core.windows.net", self.account);
        let endpoint = self.endpoint.clone().unwrap_or_else(default);
        location("az", &self.container, &self.prefix, Some(&endpoint))
    }

    pub(super) fn open(self) -> Result<Bucket> {
        let location = self.location();
        let prefix = checked_prefix(&self.prefix)?;
        Ok(Bucket::new(self.build().context("at", &location)?, prefix, location))
    }

    fn build(self) -> Result<MicrosoftAzure> {
        if self.container.is_empty() {
            return Err(Error::invalid_input("An Azure location needs a container: az://CONTAINER/PREFIX"));
        }
        if self.account.is_empty() {
            return Err(Error::invalid_input("Azure needs the name of the storage account"));
        }
        let mut builder = MicrosoftAzureBuilder::new()
            .with_client_options(client(self.endpoint.as_deref(), self.allow_http)?)
            .with_retry(quick_retries())
            .with_account(self.account)
            .with_container_name(self.container);
        if let Some(endpoint) = self.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        builder = match self.key {
            AzureKey::Machine => builder,
            AzureKey::Access(key) => builder.with_access_key(key.expose_secret()),
            AzureKey::Signature(query) => {
                builder.with_config(AzureConfigKey::SasKey, query.expose_secret().trim_start_matches('?'))
            }
            AzureKey::Principal { tenant, client, secret } => {
                builder.with_client_secret_authorization(client, secret.expose_secret(), tenant)
            }
            AzureKey::Federated { tenant, client, token_file } => {
                builder.with_tenant_id(tenant).with_client_id(client).with_federated_token_file(token_file)
            }
        };
        builder.build().map_err(nonsense)
    }
}

impl fmt::Debug for AzureOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureOptions")
            .field("location", &self.location())
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Names the way in and keeps the key.
impl fmt::Debug for AzureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Machine => "Machine",
            Self::Access(_) => "Access",
            Self::Signature(_) => "Signature",
            Self::Principal { .. } => "Principal",
            Self::Federated { .. } => "Federated",
        })
    }
}
