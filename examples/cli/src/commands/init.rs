//! `backstay init`

use backstay::{Error, ErrorKind, Repository, Result, repository::InitOptions};
use clap::Args;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::{app::App, exit, place, secrets, units::parse_bytes};

const EXAMPLES: &str = "\
Examples:
  backstay init /srv/backups                        # asks for a passphrase, twice
  backstay init /srv/backups --key-file /root/backups.key
  backstay init s3://bucket/prefix --passphrase-file /root/passphrase --endpoint https://s3.example.com
  backstay init sftp://backup@nas.example.com/srv/backups";

/// Make a repository.
///
/// The recovery key is shown once, on standard error (in JSON as `recovery_key`). Print it and keep it away from the
/// machine: it opens the repository when the passphrase or the key file is lost, and nothing else does.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Init {
    /// Where: a path, file://PATH, s3://BUCKET/PREFIX or sftp://USER@HOST:PORT/PATH; --repo when not given.
    #[arg(value_name = "REPO")]
    place: Option<String>,
    /// Make no recovery key.
    #[arg(long)]
    no_recovery: bool,
    /// Close packs at this size, 1M to 128M.
    #[arg(long, value_name = "BYTES", default_value = "32M", value_parser = parse_bytes)]
    pack_size: u64,
    /// Also on a store that does not keep what several writers need. Only one process at a time may write then.
    #[arg(long)]
    single_writer: bool,
}

impl Init {
    pub async fn run(self, app: &App) -> Result<u8> {
        let backend = match &self.place {
            Some(place) => place::open(place, &app.global, false)?,
            None => app.backend(false)?,
        };
        let (slots, key_file) = secrets::to_init(&app.global, &app.ctx).await?;
        let pack_bytes =
            u32::try_from(self.pack_size).map_err(|_| Error::invalid_input("Packs are closed at 64 KiB to 128 MiB"))?;
        let options = InitOptions::slots(slots)
            .recovery(!self.no_recovery)
            .pack_bytes(pack_bytes)
            .single_writer(self.single_writer);
        let made = match Repository::init(backend, options, &app.ctx).await {
            Ok(made) => made,
            Err(error) => {
                // Where the store went away the repository may be there all the same, and this the only key to it.
                if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Cancelled) {
                    key_file.into_iter().for_each(secrets::NewKeyFile::keep);
                }
                return Err(error);
            }
        };

        let shown = key_file.as_ref().map(|file| file.path.display().to_string());
        let recovery = made.recovery_key.as_ref().map(ExposeSecret::expose_secret);
        let repository = &made.repository;
        if let Some(key) = recovery.filter(|_| !app.output.json) {
            app.progress.warn_plainly(&format!(
                "Recovery key, shown this once. Print it and keep it away from this machine:\n\n    {key}\n"
            ));
        }
        // Whoever reads the answer has the key now.
        key_file.into_iter().for_each(secrets::NewKeyFile::keep);
        let document = json!({
            "repository": repository.location(), "id": repository.id(), "recovery_key": recovery, "key_file": shown
        });
        app.output.report(&document, || {
            let key_file = shown.as_ref().map(|path| format!(", key file {path}")).unwrap_or_default();
            format!("repository {} at {}{key_file}", &repository.id()[..8], repository.location())
        })?;
        Ok(exit::OK)
    }
}
