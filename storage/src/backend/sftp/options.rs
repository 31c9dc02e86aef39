//! Which server, who we are to it, and how it proves who it is.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use backstay_core::Result;
use secrecy::SecretString;

use super::{SftpPlace, UnknownHostKey};

/// Somebody who can be asked while a connection is made. Both are called on a thread that may block.
pub trait SshPrompt: Send + Sync + 'static {
    /// The passphrase of an identity file.
    fn passphrase(&self, identity: &std::path::Path) -> Result<SecretString>;

    /// Whether the key of an unknown host is the right one. Writing it to a file is the matter of who is asked.
    fn accept(&self, unknown: &UnknownHostKey) -> Result<bool>;
}

/// How to reach a folder on a server.
///
/// Nothing is taken from the environment or from `~/.ssh`: a program that wants `SSH_AUTH_SOCK`, `~/.ssh/known_hosts` and their kin names
/// them here. There are no passwords.
#[derive(Clone)]
#[non_exhaustive]
pub struct SftpOptions {
    /// The folder.
    pub place: SftpPlace,
    /// Who logs in when the place does not say.
    pub user: Option<String>,
    /// The socket of an ssh-agent.
    pub agent: Option<PathBuf>,
    /// Private key files; `FILE-cert.pub` beside one is its certificate. Those that the agent holds are used there.
    pub identities: Vec<PathBuf>,
    /// Offer no other key of the agent than these. Servers hang up after some keys that they do not know.
    pub identities_only: bool,
    /// Files that list hosts, in the form of OpenSSH. One that is not there lists none.
    pub known_hosts: Vec<PathBuf>,
    /// `SHA256:…` of a key that is fine for a host that no file lists. Does not help against a listed or revoked key.
    pub accepted_host_key: Option<String>,
    /// Whom to ask for passphrases and about unknown hosts; when `None`, both are errors.
    pub prompt: Option<Arc<dyn SshPrompt>>,
    /// Whether to put objects on a server that cannot be told to write them to its disk (without `fsync@openssh.com`). A power cut there
    /// may take what was reported as put.
    pub allow_unsynced: bool,
    /// How long making a connection may take, questions to people not counted. Half a minute unless told otherwise.
    pub connect_timeout: Duration,
    /// How long a server may take for one answer. Five minutes unless told otherwise: a slow line has much in flight.
    pub request_timeout: Duration,
    /// A server that sends nothing for this long is asked for a sign of life; after three more without one it counts as gone. 15 seconds
    /// unless told otherwise.
    pub keepalive: Duration,
}

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

impl SftpOptions {
    /// This folder; with neither a key nor a known host yet.
    #[must_use]
    pub fn new(place: SftpPlace) -> Self {
        Self {
            place,
            user: None,
            agent: None,
            identities: Vec::new(),
            identities_only: false,
            known_hosts: Vec::new(),
            accepted_host_key: None,
            prompt: None,
            allow_unsynced: false,
            connect_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(300),
            keepalive: Duration::from_secs(15),
        }
    }

    setters! {
        /// Sets [`Self::user`].
        user: Option<String> => String,
        /// Sets [`Self::agent`].
        agent: Option<PathBuf> => PathBuf,
        /// Sets [`Self::identities_only`].
        identities_only: bool => bool,
        /// Sets [`Self::accepted_host_key`].
        accepted_host_key: Option<String> => String,
        /// Sets [`Self::prompt`].
        prompt: Option<Arc<dyn SshPrompt>> => Arc<dyn SshPrompt>,
        /// Sets [`Self::allow_unsynced`].
        allow_unsynced: bool => bool,
        /// Sets [`Self::connect_timeout`].
        connect_timeout: Duration => Duration,
        /// Sets [`Self::request_timeout`].
        request_timeout: Duration => Duration,
        /// Sets [`Self::keepalive`].
        keepalive: Duration => Duration,
    }

    /// Adds to [`Self::identities`].
    #[must_use]
    pub fn identity(mut self, file: impl Into<PathBuf>) -> Self {
        self.identities.push(file.into());
        self
    }

    /// Adds to [`Self::known_hosts`].
    #[must_use]
    pub fn known_hosts_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.known_hosts.push(file.into());
        self
    }
}

impl fmt::Debug for SftpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SftpOptions")
            .field("place", &format_args!("{}", self.place))
            .field("identities", &self.identities)
            .field("known_hosts", &self.known_hosts)
            .finish_non_exhaustive()
    }
}
