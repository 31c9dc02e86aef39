//! `backstay check`

use backstay::{
    ObjectKey, Result,
    repository::{AgainstReport, CheckDepth, CheckReport, DifferentObject},
};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::{
    app::App,
    exit, place,
    sides::Side,
    units::{bytes, parse_bytes},
};

/// Objects of a sort that are named for eyes; JSON has all.
const SHOWN: usize = 20;

const EXAMPLES: &str = "\
Examples:
  backstay check --repo /srv/backups                # records, maps and index; packs by presence and size
  backstay check --repo /srv/backups --read 5%      # also every byte of a twentieth of the packs, another one each time
  backstay check --repo /srv/backups --read-bytes 10G
  backstay check --repo /srv/backups --read all
  backstay check --repo /srv/backups --against s3://mirror/backups   # are the two the same?";

/// Check that everything is there and is what it must be. Exits with 3 when something is not.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Check {
    /// Also read this share of the packs to the last byte: `all`, or 1% to 100%.
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    read: Option<u8>,
    /// Only compare with this mirror or clone: packs and index by name and size, everything else byte by byte. S3 variables
    /// for it alone begin with BACKSTAY_AGAINST_.
    #[arg(long, value_name = "REPO", conflicts_with_all = ["read", "read_bytes"])]
    against: Option<String>,
    /// S3 server of the mirror or clone.
    #[arg(long, value_name = "URL", requires = "against")]
    against_endpoint: Option<String>,
    /// Read no more than so many bytes of packs (one pack at least). Sizes may end in K, M, G or T.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    read_bytes: Option<u64>,
}

impl Check {
    pub async fn run(self, app: &App) -> Result<u8> {
        if let Some(place) = &self.against {
            return self.compare(place, app).await;
        }
        let depth = match (self.read, self.read_bytes) {
            (None, None) => CheckDepth::Structure,
            (Some(percent), None) => CheckDepth::Read(percent),
            (percent, Some(bytes)) => CheckDepth::ReadUpTo { percent: percent.unwrap_or(100), bytes },
        };
        let report = app.uncached_repository().await?.check(depth, &app.ctx).await?;
        app.progress.clear();
        app.output.report(&document(&report, app), || text(&report))?;
        Ok(if report.is_clean() { exit::OK } else { exit::FINDINGS })
    }
}

impl Check {
    async fn compare(&self, place: &str, app: &App) -> Result<u8> {
        let mut global = app.global.clone();
        if self.against_endpoint.is_some() {
            global.endpoint.clone_from(&self.against_endpoint);
        }
        let other = place::open_side(place, &global, Some(Side::Against), false)?;
        place::must_be_there(&*other).await?;
        let repository = app.repository().await?;
        let report = repository.check_against(&*other, &app.ctx).await?;
        app.progress.clear();
        let places = (repository.location(), other.location());
        app.output.report(&against_document(&report, &places), || against_text(&report, &places))?;
        Ok(if report.is_clean() { exit::OK } else { exit::FINDINGS })
    }
}

fn against_document(report: &AgainstReport, (here, there): &(String, String)) -> Value {
    let names = |keys: &[ObjectKey]| keys.iter().map(ToString::to_string).collect::<Vec<_>>();
    let different = |it: &DifferentObject| json!({ "object": it.key.to_string(), "here_bytes": it.here_bytes, "there_bytes": it.there_bytes });
    json!({
        "clean": report.is_clean(),
        "here": here,
        "there": there,
        "missing_here": names(&report.missing_here),
        "missing_there": names(&report.missing_there),
        "different": report.different.iter().map(different).collect::<Vec<_>>(),
        "objects": report.objects,
        "bytes": report.bytes,
        "objects_read": report.objects_read,
    })
}

fn against_text(report: &AgainstReport, (here, there): &(String, String)) -> String {
    let mut lines = Vec::new();
    for (what, keys) in [("missing here", &report.missing_here), ("missing there", &report.missing_there)] {
        lines.extend(keys.iter().take(SHOWN).map(|key| format!("{what}: {key}")));
        if keys.len() > SHOWN {
            lines.push(format!("{what}: {} more", keys.len() - SHOWN));
        }
    }
    lines.extend(
        report
            .different
            .iter()
            .take(SHOWN)
            .map(|it| format!("different: {} ({} bytes here, {} there)", it.key, it.here_bytes, it.there_bytes)),
    );
    lines.push(format!(
        "{}: {} objects, {} in {here} and {there}; {} missing here, {} missing there, {} different",
        if report.is_clean() { "the same" } else { "NOT THE SAME" },
        report.objects,
        bytes(report.bytes),
        report.missing_here.len(),
        report.missing_there.len(),
        report.different.len(),
    ));
    lines.join("\n")
}

pub fn parse_share(text: &str) -> Result<u8, String> {
    let share = match text {
        "all" => Some(100),
        text => text.strip_suffix('%').unwrap_or(text).parse().ok(),
    };
    share.filter(|share| (1..=100).contains(share)).ok_or_else(|| "write `all`, or 1% to 100%".to_owned())
}

/// A finding as JSON.
pub fn finding(error: &backstay::Error) -> Value {
    let context: Map<_, _> =
        error.context().iter().map(|(key, value)| ((*key).to_owned(), value.clone().into())).collect();
    json!({ "kind": error.kind().name(), "message": error.message(), "context": context })
}

fn document(report: &CheckReport, app: &App) -> Value {
    json!({
        "clean": report.is_clean(),
        "findings": report.findings.iter().map(|it| finding(&it.error)).collect::<Vec<_>>(),
        "points": report.points,
        "nodes": report.nodes,
        "chunks": report.chunks,
        "packs": report.packs,
        "packs_read": report.packs_read,
        "bytes_read": report.bytes_read,
        "remembered": report.remembered,
        "warnings": app.progress.warnings(),
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
