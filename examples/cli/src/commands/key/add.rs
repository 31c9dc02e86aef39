//! `backstay key add`, `backstay key export` and `backstay key generate`

use std::path::PathBuf;

use backstay::{
    ErrorKind, Repository, Result,
    repository::{AddedKey, Capability, NewKey, NewKeyKind, RecipientKey, SecretKey},
};
use clap::Args;
use secrecy::ExposeSecret;
use serde_json::json;

use super::{needs_place, parse_capability};
use crate::{app::App, args::Global, exit, secrets};

const ADD_EXAMPLES: &str = "\
Examples:
  backstay key add --repo /srv/backups --passphrase --capability reader --label 'restore desk'
  BACKSTAY_KEY_FILE=/root/owner.key backstay key add --repo /srv/backups --key-file /root/second.key --capability owner
  backstay key add --repo /srv/backups --recipient BSPUBLIC-… --capability writer --label node-7
  backstay key add --repo /srv/backups --recovery --capability owner

Without --passphrase, --recipient and --recovery, --key-file names the new key file, as in `init`, and the repository is opened with
BACKSTAY_KEY_FILE or a passphrase. With one of them it is what opens the repository.";

const EXPORT_EXAMPLES: &str = "\
Examples:
  backstay key export --repo /srv/backups --capability writer --to /root/node-7.key
  backstay key export --repo /srv/backups --key-file /root/owner.key --capability keeper --to /root/keeper.key --label 'prune host'

The file is for its owner alone (mode 0600) and is never overwritten. Use it with --key-file or BACKSTAY_KEY_FILE.";

const GENERATE_EXAMPLES: &str = "\
Examples:
  backstay key generate --to /root/node-7.key       # on the machine that will use the key
  backstay key add --repo /srv/backups --recipient BSPUBLIC-… --capability writer   # where an owner's key is

`key add` then shows a line `owner …`: append it to the key file. It is how the machine knows whose repository it is.";

/// Make one more key that opens the repository.
#[derive(Args)]
#[command(after_help = ADD_EXAMPLES)]
pub struct Add {
    /// A passphrase, which is asked for twice.
    #[arg(long, group = "opens")]
    passphrase: bool,
    /// The new passphrase is in this file; one newline at its end does not count.
    #[arg(long, value_name = "FILE", group = "opens")]
    new_passphrase_file: Option<PathBuf>,
    /// The key whose public half this is, as `key generate` shows it.
    #[arg(long, value_name = "KEY", group = "opens")]
    recipient: Option<RecipientKey>,
    /// A recovery key, which is shown once.
    #[arg(long, group = "opens")]
    recovery: bool,
    /// What it may do: owner, writer, reader or keeper.
    #[arg(long, value_name = "CAPABILITY", value_parser = parse_capability)]
    capability: Capability,
    /// What to call it. Stands in clear in the store.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    label: String,
}

/// Make a key with less than all capabilities and write it to a key file, for another machine.
#[derive(Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub struct Export {
    /// What it may do: owner, writer, reader or keeper.
    #[arg(long, value_name = "CAPABILITY", value_parser = parse_capability)]
    capability: Capability,
    /// The key file to make.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// What to call it. Stands in clear in the store.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    label: String,
}

/// Make a key file that opens nothing yet, and show its public half for `key add --recipient`. Needs no repository.
#[derive(Args)]
#[command(after_help = GENERATE_EXAMPLES)]
pub struct Generate {
    /// The key file to make.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

impl Add {
    pub async fn run(self, app: &App) -> Result<u8> {
        let opens_another_way =
            self.passphrase || self.new_passphrase_file.is_some() || self.recipient.is_some() || self.recovery;
        if !opens_another_way {
            let path = app.global.key_file.clone().ok_or_else(needs_place)?;
            let global = Global { key_file: None, ..app.global.clone() };
            let repository = app.repository_by(&global).await?;
            return to_file(app, &repository, path, self.capability, self.label).await;
        }
        let repository = app.repository().await?;
        let kind = match self.recipient {
            Some(recipient) => NewKeyKind::Recipient(recipient),
            None if self.recovery => NewKeyKind::Recovery,
            None => {
                let file = self.new_passphrase_file.as_deref();
                NewKeyKind::Passphrase(secrets::new_passphrase(file, &app.ctx).await?)
            }
        };
        let added = repository.add_key(NewKey::new(kind, self.capability).label(self.label), &app.ctx).await?;
        report(app, &repository, &added, None)
    }
}

impl Export {
    pub async fn run(self, app: &App) -> Result<u8> {
        let repository = app.repository().await?;
        to_file(app, &repository, self.to, self.capability, self.label).await
    }
}

impl Generate {
    pub fn run(self, app: &App) -> Result<u8> {
        let key = SecretKey::generate(&app.ctx)?;
        let recipient = key.recipient()?.to_string();
        let file = secrets::NewKeyFile::write(self.to, &key)?;
        let path = file.path.display().to_string();
        file.keep();
        let document = json!({ "key_file": path, "recipient": recipient });
        app.output.answer(&document, || format!("{recipient}\nkey file {path}"))?;
        Ok(exit::OK)
    }
}

async fn to_file(
    app: &App,
    repository: &Repository,
    path: PathBuf,
    capability: Capability,
    label: String,
) -> Result<u8> {
    let key = SecretKey::generate(&app.ctx)?;
    // Before the slot: a slot whose key nobody has would be there for ever.
    let file = secrets::NewKeyFile::write(path, &key)?;
    let new = NewKey::new(NewKeyKind::KeyFile(key), capability).label(label);
    match repository.add_key(new, &app.ctx).await {
        Ok(added) => {
            let path = file.path.display().to_string();
            file.keep();
            report(app, repository, &added, Some(path))
        }
        Err(error) => {
            // Where the store went away the slot may be there all the same, and this the only key to it.
            if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Cancelled) {
                file.keep();
            }
            Err(error)
        }
    }
}

fn report(app: &App, repository: &Repository, added: &AddedKey, key_file: Option<String>) -> Result<u8> {
    let recovery = added.recovery_key.as_ref().map(ExposeSecret::expose_secret);
    if let Some(key) = recovery.filter(|_| !app.output.json) {
        app.progress.warn_plainly(&format!(
            "Recovery key, shown this once. Print it and keep it away from this machine:\n\n    {key}\n"
        ));
    }
    let owner = repository.owner();
    let document = json!({ "key": added.slot, "key_file": key_file, "recovery_key": recovery, "owner": owner });
    app.output.report(&document, || {
        let key_file = key_file.as_ref().map(|path| format!(", key file {path}")).unwrap_or_default();
        let pin = if added.slot.kind == "recipient" { format!("\nowner {owner}") } else { String::new() };
        format!(
            "{} key {} added ({}){key_file}{pin}",
            added.slot.capability.name(),
            &added.slot.id[..8],
            added.slot.kind
        )
    })?;
    Ok(exit::OK)
}
