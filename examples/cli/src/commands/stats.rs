//! `backstay stats`

use backstay::{Error, Result, repository::RepositoryStats};
use clap::Args;
use serde_json::Value;

use crate::{app::App, exit, output::table, units::bytes};

const EXAMPLES: &str = "\
Examples:
  backstay stats --repo /srv/backups
  backstay stats --repo s3://bucket/prefix --json";

/// Show how much the repository holds.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Stats {}

impl Stats {
    pub async fn run(self, app: &App) -> Result<u8> {
        let repository = app.repository().await?;
        let stats = repository.stats().await?;
        let unwritable = |error| Error::internal(format!("The numbers cannot be written as JSON: {error}"));
        let mut document = serde_json::to_value(&stats).map_err(unwritable)?;
        document["repository"] = Value::from(repository.location());
        document["id"] = Value::from(repository.id());
        app.output.answer(&document, || text(&stats, &repository.location()))?;
        Ok(exit::OK)
    }
}

fn text(stats: &RepositoryStats, location: &str) -> String {
    let mut rows = table(["repository", location], 0..0);
    let ratio = stats.logical_bytes as f64 / stats.total_bytes.max(1) as f64;
    rows.add_row(["points", &format!("{} of {} workloads", stats.points, stats.workloads)]);
    rows.add_row(["backed up", &bytes(stats.logical_bytes)]);
    rows.add_row(["stored", &format!("{}, 1 for {ratio:.1}", bytes(stats.total_bytes))]);
    rows.add_row(["chunks", &stats.chunks.to_string()]);
    rows.add_row(["data", &format!("{} in {} packs", bytes(stats.data_bytes), stats.data_packs)]);
    rows.add_row(["maps", &format!("{} in {} packs", bytes(stats.meta_bytes), stats.meta_packs)]);
    rows.add_row(["index", &format!("{} in {} segments", bytes(stats.index_bytes), stats.segments)]);
    if stats.single_writer {
        rows.add_row(["writers", "one at a time: made with --single-writer"]);
    }
    rows.to_string()
}
