//! `backstay prune`

use std::time::Duration;

use backstay::{
    Result,
    repository::{PruneOptions, PruneReport},
};
use clap::Args;
use serde::Serialize;

use crate::{
    app::App,
    exit,
    output::table,
    units::{bytes, parse_bytes, parse_span},
};

const EXAMPLES: &str = "\
Examples:
  backstay prune --repo /srv/backups --dry-run                 # what would go
  backstay prune --repo /srv/backups
  backstay prune --repo /srv/backups --max-repack-bytes 50G    # in steps: run it again for the rest
  backstay prune --repo /srv/backups --max-unused 0%

Backups and restores go on meanwhile, and nobody has to keep a lock. What a running backup may still use is condemned now
and goes with a later prune. A backup without progress for --stale-after is ended; it then fails and can be run again.";

/// Delete what no restore point needs.
///
/// Packs with nothing but forgotten data are deleted. From packs that are mostly dead what lives is copied into new ones,
/// as many as it takes until little enough is dead. Can be interrupted at any time and run again.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Prune {
    /// How much of what is stored may be dead and stay: 0% to 100%.
    #[arg(long, value_name = "SHARE", default_value = "10%", value_parser = parse_share)]
    max_unused: u8,
    /// Copy no more than this: 500M, 50G.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    max_repack_bytes: Option<u64>,
    /// End backups that have made no progress for so long, as seen by this machine: 12h, 2d. `0` for all that are not done.
    #[arg(long, value_name = "SPAN", default_value = "1d", value_parser = parse_patience)]
    stale_after: u64,
    /// Only say what would be done.
    #[arg(long, short = 'n')]
    dry_run: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    dry_run: bool,
    #[serde(flatten)]
    report: &'a PruneReport,
    warnings: Vec<String>,
}

impl Prune {
    pub async fn run(self, app: &App) -> Result<u8> {
        let options = PruneOptions::default()
            .max_unused_percent(self.max_unused)
            .max_repack_bytes(self.max_repack_bytes)
            .stale_after(Duration::from_secs(self.stale_after))
            .dry_run(self.dry_run);
        let report = app.repository().await?.prune(&options, &app.ctx).await?;
        app.progress.clear();
        let document = Document { dry_run: self.dry_run, report: &report, warnings: app.progress.warnings() };
        app.output.report(&document, || if self.dry_run { plan(&report) } else { text(&report) })?;
        Ok(exit::OK)
    }
}

fn parse_share(text: &str) -> Result<u8, String> {
    let share = text.strip_suffix('%').unwrap_or(text).parse().ok();
    share.filter(|share| *share <= 100).ok_or_else(|| "write 0% to 100%".to_owned())
}

fn parse_patience(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(0) } else { parse_span(text) }
}

fn plan(report: &PruneReport) -> String {
    let mut rows = table(["", "packs", "bytes"], 1..3);
    let mut row = |what: &str, packs: String, count: u64| {
        rows.add_row([what, &packs, &bytes(count)]);
    };
    row("stored", String::new(), report.pack_bytes);
    row("needed by restore points", String::new(), report.live_bytes);
    row("unused: would be deleted", report.unused_packs.to_string(), report.unused_bytes);
    row("left by interrupted backups: would be deleted", report.unknown_packs.to_string(), report.unknown_bytes);
    row("mostly dead: would be rewritten", report.repacked_packs.to_string(), report.repacked_bytes);
    row("of these would be copied", String::new(), report.copied_bytes);
    let mut text = rows.to_string();
    waiting(report, &mut text);
    text
}

fn text(report: &PruneReport) -> String {
    let mut text = format!(
        "{} reclaimed: {} packs deleted, {} of live data copied out of {} packs, {} restore points removed",
        bytes(report.reclaimed_bytes),
        report.deleted_packs,
        bytes(report.copied_bytes),
        report.repacked_packs,
        report.removed_points,
    );
    if report.locked_objects > 0 {
        text.push_str(&format!("\n{} objects are locked by the store and go later", report.locked_objects));
    }
    for session in &report.fenced_sessions {
        text.push_str(&format!("\nended without progress: session {session}"));
    }
    waiting(report, &mut text);
    text
}

fn waiting(report: &PruneReport, text: &mut String) {
    if report.waiting_for.is_empty() {
        return;
    }
    text.push_str("\nThese began before and are not done; what is condemned goes with the first prune after they are:");
    for session in &report.waiting_for {
        let workload = session.workload.as_deref().unwrap_or("a prune");
        text.push_str(&format!("\n  {} {workload}, {} checkpoints", session.id, session.checkpoints));
    }
}
