//! `backstay diff`

use backstay::{
    Result,
    repository::{DiffReport, PointSelector},
};
use clap::Args;
use serde_json::{Value, json};

use crate::{app::App, exit, output::table, units::bytes};

const EXAMPLES: &str = "\
Examples:
  backstay diff web@2026-11-20 web@latest --repo /srv/backups
  backstay diff 1a2b3c4d 5e6f7a8b --repo /srv/backups --json";

/// Show which ranges of the disks differ between two restore points.
///
/// Told from the maps alone, no data is read. Ranges are of chunks, some 64 KiB each, that differ somewhere.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Diff {
    /// The first.
    from: PointSelector,
    /// The second.
    to: PointSelector,
}

impl Diff {
    pub async fn run(self, app: &App) -> Result<u8> {
        let repository = app.repository().await?;
        let (from, to) = (repository.point(&self.from).await?, repository.point(&self.to).await?);
        let id = |point: &backstay::RestorePoint| PointSelector::Id(point.id.to_string());
        let disks = repository.diff(&id(&from), &id(&to), &app.ctx).await?;
        let document = json!({
            "from": from.id.to_string(), "to": to.id.to_string(),
            "disks": disks.iter().map(describe).collect::<Vec<_>>(),
        });
        app.output.answer(&document, || text(&disks))?;
        Ok(exit::OK)
    }
}

fn describe(disk: &DiffReport) -> Value {
    let ranges: Vec<_> = disk.changed.ranges().iter().map(|range| [range.start, range.end - range.start]).collect();
    json!({
        "id": disk.disk, "from_size": disk.from_size, "to_size": disk.to_size,
        "changed_bytes": disk.changed.bytes(), "ranges": ranges,
    })
}

fn text(disks: &[DiffReport]) -> String {
    let mut rows = table(["DISK", "OFFSET", "BYTES"], 1..3);
    for disk in disks {
        for range in disk.changed.ranges() {
            rows.add_row([disk.disk.as_str(), &range.start.to_string(), &(range.end - range.start).to_string()]);
        }
    }
    let sums = disks.iter().map(|disk| format!("{}: {} differ", disk.disk, bytes(disk.changed.bytes())));
    let sums = sums.collect::<Vec<_>>().join("\n");
    if rows.is_empty() { sums } else { format!("{rows}\n{sums}") }
}
