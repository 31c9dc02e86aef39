//! `backstay points`

use backstay::{Result, WorkloadId};
use clap::Args;

use crate::{
    app::App,
    exit,
    output::table,
    units::bytes,
    views::{PointView, hold_text, short_time},
};

const EXAMPLES: &str = "\
Examples:
  backstay points --repo /srv/backups
  backstay points --repo /srv/backups --workload web --json";

/// List restore points, oldest first. Times are in UTC.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Points {
    /// Only those of this workload.
    #[arg(long, short, value_name = "NAME")]
    workload: Option<WorkloadId>,
}

impl Points {
    pub async fn run(self, app: &App) -> Result<u8> {
        let repository = app.repository().await?;
        let mut points = repository.points().await?;
        points.retain(|point| self.workload.as_ref().is_none_or(|wanted| *wanted == point.workload.id));
        let holds = repository.holds(&points).await?;
        let views: Vec<_> = points.iter().map(|point| PointView::new(point, holds.get(&point.id))).collect();
        app.output.answer(&views, || text(&views))?;
        Ok(exit::OK)
    }
}

fn text(points: &[PointView<'_>]) -> String {
    let mut rows =
        table(["POINT", "TIME", "WORKLOAD", "DISKS", "SIZE", "READ", "STORED", "METHOD", "HOLD", "LABELS"], 3..7);
    for point in points {
        let labels: Vec<_> = point.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        rows.add_row([
            &point.id[..8],
            &short_time(&point.time),
            point.workload,
            &point.disks.len().to_string(),
            &bytes(point.size),
            &bytes(point.read_bytes),
            &bytes(point.stored_bytes),
            point.method,
            point.hold.map_or("", hold_text),
            &labels.join(" "),
        ]);
    }
    rows.to_string()
}
