//! `backstay hold` and `backstay release`

use backstay::{RestorePointId, Result, repository::PointSelector};
use clap::Args;
use serde_json::json;

use crate::{app::App, exit};

const HOLD_EXAMPLES: &str = "\
Examples:
  backstay hold web@latest --reason 'court case 7' --repo /srv/backups
  backstay hold 1a2b3c4d --repo /srv/backups --json

`backup --label hold` or `--label hold=REASON` makes a point that is on hold from the beginning. `points` shows holds.";

const RELEASE_EXAMPLES: &str = "\
Examples:
  backstay release 1a2b3c4d --repo /srv/backups
  backstay release web@2026-11-20T10:00 --repo /srv/backups --json";

/// Put a restore point on hold: nothing forgets it until `release`.
#[derive(Args)]
#[command(after_help = HOLD_EXAMPLES)]
pub struct HoldArgs {
    /// Which one.
    point: PointSelector,
    /// Why, for whoever wonders later.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

/// Lift the hold of a restore point. It stays, but rules and `forget` may remove it.
#[derive(Args)]
#[command(after_help = RELEASE_EXAMPLES)]
pub struct ReleaseArgs {
    /// Which one.
    point: PointSelector,
}

impl HoldArgs {
    pub async fn run(self, app: &App) -> Result<u8> {
        let repository = app.repository().await?;
        let point = only(repository.point_ids(&[self.point]).await?)?;
        let changed = repository.hold(&point, &self.reason, &app.ctx).await?;
        let document = json!({ "point": point, "hold": { "reason": self.reason }, "changed": changed });
        let already = if changed { "" } else { " already" };
        app.output.report(&document, || format!("point {} is on hold{already}", point.short()))?;
        Ok(exit::OK)
    }
}

impl ReleaseArgs {
    pub async fn run(self, app: &App) -> Result<u8> {
        let repository = app.repository().await?;
        let point = only(repository.point_ids(&[self.point]).await?)?;
        let changed = repository.release(&point, &app.ctx).await?;
        let document = json!({ "point": point, "hold": null, "changed": changed });
        let was = if changed { "is not on hold any more" } else { "was not on hold" };
        app.output.report(&document, || format!("point {} {was}", point.short()))?;
        Ok(exit::OK)
    }
}

fn only(mut points: Vec<RestorePointId>) -> Result<RestorePointId> {
    points.pop().ok_or_else(|| backstay::Error::internal("A selector has selected nothing"))
}
