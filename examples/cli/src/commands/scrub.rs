//! `backstay scrub`

use backstay::{
    Result,
    repository::{ScrubOptions, ScrubReport, scrub},
};
use clap::Args;
use serde_json::{Value, json};

use super::check::{finding, parse_share};
use crate::{app::App, exit, place, units::bytes};

const EXAMPLES: &str = "\
Examples:
  backstay scrub --repo /srv/backups                  # every pack and every index segment
  backstay scrub --repo s3://backups/web --percent 5  # another twentieth of the packs every day";

/// Compare packs and index segments with the hashes in their names. Needs no passphrase and no key. Exits with 3 when one differs.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Scrub {
    /// Only this share of the packs, 1% to 100%. Which one follows from the date.
    #[arg(long, value_name = "SHARE", value_parser = parse_share, default_value = "100%")]
    percent: u8,
}

impl Scrub {
    pub async fn run(self, app: &App) -> Result<u8> {
        let backend = app.backend(false)?;
        place::must_be_there(&*backend).await?;
        let report = scrub(&backend, &ScrubOptions::default().percent(self.percent), &app.ctx).await?;
        app.progress.clear();
        app.output.report(&document(&report, app), || text(&report))?;
        Ok(if report.is_clean() { exit::OK } else { exit::FINDINGS })
    }
}

fn document(report: &ScrubReport, app: &App) -> Value {
    json!({
        "clean": report.is_clean(),
        "findings": report.findings.iter().map(|it| finding(&it.error)).collect::<Vec<_>>(),
        "packs": report.packs,
        "packs_read": report.packs_read,
        "segments_read": report.segments_read,
        "one_page_segments": report.one_page_segments,
        "bytes_read": report.bytes_read,
        "warnings": app.progress.warnings(),
    })
}

fn text(report: &ScrubReport) -> String {
    let mut lines: Vec<_> = report.findings.iter().map(|finding| format!("found: {}", finding.error)).collect();
    lines.push(format!(
        "{}: {} of {} packs and {} index segments read ({})",
        if report.is_clean() { "all is well" } else { "NOT ALL IS WELL" },
        report.packs_read,
        report.packs,
        report.segments_read,
        bytes(report.bytes_read),
    ));
    lines.join("\n")
}
