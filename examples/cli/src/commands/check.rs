//! `backstay check`

use backstay::{
    Result,
    repository::{CheckDepth, CheckReport},
};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::{app::App, exit, units::bytes};

const EXAMPLES: &str = "\
Examples:
  backstay check --repo /srv/backups                # records, maps and index; packs by presence and size
  backstay check --repo /srv/backups --read 5%      # also every byte of a twentieth of the packs
  backstay check --repo /srv/backups --read all";

/// Check that everything is there and is what it must be. Exits with 3 when something is not.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Check {
    /// Also read this share of the packs to the last byte: `all`, or 1% to 100%.
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    read: Option<u8>,
}

impl Check {
    pub async fn run(self, app: &App) -> Result<u8> {
        let depth = self.read.map_or(CheckDepth::Structure, CheckDepth::Read);
        let report = app.uncached_repository().await?.check(depth, &app.ctx).await?;
        app.progress.clear();
        app.output.report(&document(&report), || text(&report))?;
        Ok(if report.is_clean() { exit::OK } else { exit::FINDINGS })
    }
}

fn parse_share(text: &str) -> Result<u8, String> {
    let share = match text {
        "all" => Some(100),
        text => text.strip_suffix('%').unwrap_or(text).parse().ok(),
    };
    share.filter(|share| (1..=100).contains(share)).ok_or_else(|| "write `all`, or 1% to 100%".to_owned())
}

fn document(report: &CheckReport) -> Value {
    let finding = |error: &backstay::Error| {
        let context: Map<_, _> =
            error.context().iter().map(|(key, value)| ((*key).to_owned(), value.clone().into())).collect();
        json!({ "kind": error.kind().name(), "message": error.message(), "context": context })
    };
    json!({
        "clean": report.is_clean(),
        "findings": report.findings.iter().map(|it| finding(&it.error)).collect::<Vec<_>>(),
        "points": report.points,
        "nodes": report.nodes,
        "chunks": report.chunks,
        "packs": report.packs,
        "packs_read": report.packs_read,
        "bytes_read": report.bytes_read,
        "unreferenced_packs": report.unreferenced_packs,
        "unsettled_sessions": report.unsettled_sessions,
    })
}

fn text(report: &CheckReport) -> String {
    let mut lines: Vec<_> = report.findings.iter().map(|finding| format!("found: {}", finding.error)).collect();
    if report.unsettled_sessions > 0 {
        lines.push(format!("{} backups are running or were cut off; that is no fault", report.unsettled_sessions));
    }
    lines.push(format!(
        "{}: {} points, {} map nodes, {} packs, {} of them read ({})",
        if report.is_clean() { "all is well" } else { "NOT ALL IS WELL" },
        report.points,
        report.nodes,
        report.packs,
        report.packs_read,
        bytes(report.bytes_read),
    ));
    lines.join("\n")
}
