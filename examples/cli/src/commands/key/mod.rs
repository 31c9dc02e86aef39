//! `backstay key`

mod add;
mod change;
mod list;

use backstay::{Error, Result, repository::Capability};
use clap::{Args, Subcommand};

use crate::app::App;

const EXAMPLES: &str = "\
Examples:
  backstay key list --repo /srv/backups
  backstay key export --repo /srv/backups --capability writer --to /root/node-7.key
  backstay key add --repo /srv/backups --passphrase --capability reader --label 'restore desk'
  backstay key remove 1a2b3c4d --repo /srv/backups
  backstay key rotate --repo /srv/backups

  owner   everything, and change who may do what
  writer  back up and deduplicate; reads no content, its own of yesterday included
  reader  restore and check; makes, forgets and deletes nothing
  keeper  forget, prune and check by hash; sees no content";

/// Change who may open the repository, and what for. All of it needs an owner's key.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Key {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    List(list::List),
    Add(Box<add::Add>),
    Export(add::Export),
    Generate(add::Generate),
    Remove(change::Remove),
    Rotate(change::Rotate),
}

impl Key {
    pub async fn run(self, app: &App) -> Result<u8> {
        match self.verb {
            Verb::List(list) => list.run(app).await,
            Verb::Add(add) => add.run(app).await,
            Verb::Export(export) => export.run(app).await,
            Verb::Generate(generate) => generate.run(app),
            Verb::Remove(remove) => remove.run(app).await,
            Verb::Rotate(rotate) => rotate.run(app).await,
        }
    }
}

fn parse_capability(text: &str) -> Result<Capability, String> {
    use Capability::{Keeper, Owner, Reader, Writer};
    let named = [Owner, Writer, Reader, Keeper].into_iter().find(|capability| capability.name() == text);
    named.ok_or_else(|| "write owner, writer, reader or keeper".to_owned())
}

/// What people still have to do when an owner's key got lost.
fn owner_warning(app: &App) {
    app.progress.warn_plainly(
        "It was an owner's key. Whoever has a copy can go on signing as the owner and let themselves in again, as long as they can \
         write to the store. If it was stolen: change the store's credentials and copy the restore points into a new repository.",
    );
}

fn needs_place() -> Error {
    Error::invalid_input("Say what opens the new slot: --passphrase, --key-file FILE, --recipient KEY or --recovery")
}
