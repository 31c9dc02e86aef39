//! Commands with two repositories: which is which, and what opens each.

use std::{path::PathBuf, sync::Arc};

use backstay::{Repository, Result, ResultExt, StorageBackend};
use clap::Args;

use crate::{app::App, args::Global, place, secrets};

/// One of two repositories.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    From,
    To,
    /// What a repository is compared with.
    Against,
}

impl Side {
    /// What its variables begin with, before the names that a command with one repository knows.
    pub const fn variable_prefix(self) -> &'static str {
        match self {
            Self::From => "BACKSTAY_FROM_",
            Self::To => "BACKSTAY_TO_",
            Self::Against => "BACKSTAY_AGAINST_",
        }
    }

    /// What a person is asked.
    pub const fn prompt(self) -> &'static str {
        match self {
            Self::From => "Passphrase of the source: ",
            Self::To => "Passphrase of the target: ",
            Self::Against => "Passphrase: ",
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::From => "from",
            Self::To => "to",
            Self::Against => "against",
        }
    }
}

/// What opens the two repositories where the global options are not meant for both.
#[derive(Args)]
#[command(next_help_heading = "Keys and servers of the two repositories")]
pub struct SideOptions {
    /// Read the passphrase of the source from this file.
    #[arg(long, value_name = "FILE")]
    from_passphrase_file: Option<PathBuf>,
    /// Run this command; what it prints is the passphrase of the source.
    #[arg(long, value_name = "COMMAND")]
    from_passphrase_command: Option<String>,
    /// Key file of the source (or BACKSTAY_FROM_KEY_FILE).
    #[arg(long, value_name = "FILE")]
    from_key_file: Option<PathBuf>,
    /// S3 server of the source (or BACKSTAY_FROM_AWS_ENDPOINT_URL).
    #[arg(long, value_name = "URL")]
    from_endpoint: Option<String>,
    /// Read the passphrase of the target from this file.
    #[arg(long, value_name = "FILE")]
    to_passphrase_file: Option<PathBuf>,
    /// Run this command; what it prints is the passphrase of the target.
    #[arg(long, value_name = "COMMAND")]
    to_passphrase_command: Option<String>,
    /// Key file of the target (or BACKSTAY_TO_KEY_FILE).
    #[arg(long, value_name = "FILE")]
    to_key_file: Option<PathBuf>,
    /// S3 server of the target (or BACKSTAY_TO_AWS_ENDPOINT_URL).
    #[arg(long, value_name = "URL")]
    to_endpoint: Option<String>,
}

/// What is given for one side alone.
#[derive(Default)]
struct Own<'a> {
    passphrase_file: Option<&'a PathBuf>,
    passphrase_command: Option<&'a String>,
    key_file: Option<&'a PathBuf>,
    endpoint: Option<&'a String>,
}

impl Own<'_> {
    const fn has_keys(&self) -> bool {
        self.passphrase_file.is_some() || self.passphrase_command.is_some() || self.key_file.is_some()
    }
}

impl SideOptions {
    fn own(&self, side: Side) -> Own<'_> {
        match side {
            Side::From => Own {
                passphrase_file: self.from_passphrase_file.as_ref(),
                passphrase_command: self.from_passphrase_command.as_ref(),
                key_file: self.from_key_file.as_ref(),
                endpoint: self.from_endpoint.as_ref(),
            },
            Side::To => Own {
                passphrase_file: self.to_passphrase_file.as_ref(),
                passphrase_command: self.to_passphrase_command.as_ref(),
                key_file: self.to_key_file.as_ref(),
                endpoint: self.to_endpoint.as_ref(),
            },
            Side::Against => Own::default(),
        }
    }

    /// The options of one side; the global ones where it has none of its own.
    fn of(&self, side: Side, global: &Global) -> Global {
        let (own, mut options) = (self.own(side), global.clone());
        if own.has_keys() {
            options.passphrase_file = own.passphrase_file.cloned();
            options.passphrase_command = own.passphrase_command.cloned();
            options.key_file = own.key_file.cloned();
        }
        if own.endpoint.is_some() {
            options.endpoint = own.endpoint.cloned();
        }
        options
    }

    /// The backend of one side, which must hold a repository.
    pub async fn backend(&self, side: Side, place: &str, app: &App) -> Result<Arc<dyn StorageBackend>> {
        let backend = place::open_side(place, &self.of(side, &app.global), Some(side), true)?;
        place::must_be_there(&*backend).await?;
        Ok(backend)
    }

    /// Opens the repository of one side.
    pub async fn open(&self, side: Side, backend: Arc<dyn StorageBackend>, app: &App) -> Result<Repository> {
        let (options, own) = (self.of(side, &app.global), self.own(side).has_keys());
        let credential = secrets::to_open_side(&options, own, side, &app.ctx).await?;
        Repository::open(backend, credential, &app.ctx).await.context("side", side.word())
    }
}
