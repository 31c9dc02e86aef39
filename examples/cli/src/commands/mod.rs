//! One verb per file.

pub mod backup;
pub mod check;
pub mod completions;
pub mod copy;
pub mod diff;
pub mod forget;
pub mod hold;
pub mod init;
pub mod key;
pub mod points;
pub mod prune;
pub mod repair;
pub mod restore;
pub mod scrub;
pub mod show;
pub mod stats;

mod restore_disks;
mod restore_stream;
mod sources;
mod stdio;

use backstay::Result;

use crate::{app::App, args::Command};

/// Runs a command; gives its exit code.
pub async fn run(command: Command, app: &App) -> Result<u8> {
    match command {
        Command::Init(init) => init.run(app).await,
        Command::Backup(backup) => backup.run(app).await,
        Command::Points(points) => points.run(app).await,
        Command::Show(show) => show.run(app).await,
        Command::Restore(restore) => restore.run(app).await,
        Command::Check(check) => check.run(app).await,
        Command::Copy(copy) => copy.run(app).await,
        Command::Scrub(scrub) => scrub.run(app).await,
        Command::Repair(repair) => repair.run(app).await,
        Command::Diff(diff) => diff.run(app).await,
        Command::Forget(forget) => forget.run(app).await,
        Command::Hold(hold) => hold.run(app).await,
        Command::Release(release) => release.run(app).await,
        Command::Key(key) => key.run(app).await,
        Command::Prune(prune) => prune.run(app).await,
        Command::Stats(stats) => stats.run(app).await,
        Command::Completions(completions) => Ok(completions.run()),
    }
}
