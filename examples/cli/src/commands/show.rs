//! `backstay show`

use backstay::{Result, repository::PointSelector};
use clap::Args;

use crate::{
    app::App,
    exit,
    output::table,
    units::bytes,
    views::{PointView, hold_text},
};

const EXAMPLES: &str = "\
Examples:
  backstay show latest --repo /srv/backups
  backstay show web@2026-11-20T10:00 --repo /srv/backups --json";

/// Show all of one restore point.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Show {
    /// Which one.
    point: PointSelector,
}

impl Show {
    pub async fn run(self, app: &App) -> Result<u8> {
        let repository = app.repository().await?;
        let point = repository.point(&self.point).await?;
        let holds = repository.holds(std::slice::from_ref(&point)).await?;
        let view = PointView::new(&point, holds.get(&point.id));
        app.output.answer(&view, || text(&view))?;
        Ok(exit::OK)
    }
}

fn text(point: &PointView<'_>) -> String {
    let mut facts = table(["point", &point.id], 0..0);
    facts.add_row(["workload", &format!("{} ({})", point.workload, point.kind)]);
    facts.add_row(["time", &point.time]);
    facts.add_row(["sequence", &point.sequence.to_string()]);
    facts.add_row(["parent", point.parent.as_deref().unwrap_or("none")]);
    facts.add_row(["read", &format!("{} ({})", bytes(point.read_bytes), point.method)]);
    facts.add_row(["stored", &bytes(point.stored_bytes)]);
    if let Some(hold) = point.hold {
        facts.add_row(["hold", hold_text(hold)]);
    }
    for (key, value) in point.labels {
        facts.add_row(["label", &format!("{key}={value}")]);
    }
    let mut parts = table(["NAME", "SIZE", "READ", "METHOD", "WHY"], 1..3);
    for disk in &point.disks {
        parts.add_row([disk.id, &bytes(disk.size), &bytes(disk.read_bytes), disk.method, disk.reason.unwrap_or("")]);
    }
    for stream in point.streams {
        parts.add_row([stream.name.as_str(), &bytes(stream.size), "", "stream", ""]);
    }
    for attachment in point.attachments {
        parts.add_row([attachment.name.as_str(), &bytes(attachment.size), "", "attachment", &attachment.media_type]);
    }
    format!("{facts}\n\n{parts}")
}
