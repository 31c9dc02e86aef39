//! `backstay key remove` and `backstay key rotate`

use backstay::Result;
use clap::Args;
use serde_json::json;

use super::owner_warning;
use crate::{app::App, exit};

const REMOVE_EXAMPLES: &str = "\
Examples:
  backstay key remove 1a2b3c4d --repo /srv/backups
  backstay key remove 1a2b3c4d --repo /srv/backups --json

Then run `backstay prune` with an owner's or a keeper's key: until then a stolen writer's key can still end backups that were
begun before. Change the store's credentials of whoever had the key, too.";

const ROTATE_EXAMPLES: &str = "\
Examples:
  backstay key rotate --repo /srv/backups
  backstay key rotate --repo /srv/backups --json

What is stored stays as it is and goes on being deduplicated against. Other processes get an error of kind Conflict and open
the repository again; backups that run may finish.";

/// Take a key off the repository, and draw fresh keys for what is written from now on.
///
/// Whoever has the key could read what was there before, and may have copied it; what is written from now on it does not open.
/// The last owner's key cannot be removed, nor the one that the repository is opened with.
#[derive(Args)]
#[command(after_help = REMOVE_EXAMPLES)]
pub struct Remove {
    /// Which: the first 4 or more digits of its id, from `key list`.
    #[arg(value_name = "KEY")]
    key: String,
}

/// Draw fresh keys for what is written from now on. Every key that opens the repository goes on opening it.
#[derive(Args)]
#[command(after_help = ROTATE_EXAMPLES)]
pub struct Rotate {}

impl Remove {
    pub async fn run(self, app: &App) -> Result<u8> {
        let done = app.repository().await?.remove_key(&self.key, &app.ctx).await?;
        if done.removed.as_ref().is_some_and(|removed| removed.knows_owner_key()) {
            owner_warning(app);
        }
        let document = json!({ "removed": done.removed, "epoch": done.epoch });
        app.output.report(&document, || match &done.removed {
            Some(key) => {
                let label = if key.label.is_empty() { String::new() } else { format!(" ({})", key.label) };
                format!(
                    "{} key {}{label} removed, epoch {}; now run `backstay prune`",
                    key.capability.name(),
                    &key.id[..8],
                    done.epoch
                )
            }
            None => format!("key {} was removed before", self.key),
        })?;
        Ok(exit::OK)
    }
}

impl Rotate {
    pub async fn run(self, app: &App) -> Result<u8> {
        let done = app.repository().await?.rotate(&app.ctx).await?;
        app.output.report(&json!({ "epoch": done.epoch }), || format!("keys rotated, epoch {}", done.epoch))?;
        Ok(exit::OK)
    }
}
