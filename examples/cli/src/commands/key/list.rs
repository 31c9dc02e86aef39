//! `backstay key list`

use backstay::{Result, repository::KeySlot};
use clap::Args;
use serde_json::json;

use crate::{app::App, exit, output::table};

const EXAMPLES: &str = "\
Examples:
  backstay key list --repo /srv/backups
  backstay key list --repo /srv/backups --json";

/// List the keys that open the repository. `*` is the one that opened it now. No secret is shown.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct List {}

impl List {
    pub async fn run(self, app: &App) -> Result<u8> {
        let repository = app.repository().await?;
        let keys = repository.keys().await?;
        let owner = repository.owner();
        let document = json!({ "owner": owner, "keys": keys });
        app.output.answer(&document, || format!("{}\nowner {owner}", text(&keys)))?;
        Ok(exit::OK)
    }
}

fn text(keys: &[KeySlot]) -> String {
    let mut rows = table(["", "KEY", "KIND", "CAPABILITY", "SIGNS AS", "LABEL"], 0..0);
    for key in keys {
        let signer = key.signer.as_deref().and_then(|signer| signer.get(..8)).unwrap_or("");
        rows.add_row([
            if key.opened { "*" } else { "" },
            &key.id[..8],
            key.kind,
            key.capability.name(),
            signer,
            &key.label,
        ]);
    }
    rows.to_string()
}
