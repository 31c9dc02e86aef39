//! `backstay copy`

use backstay::{
    Engine, Error, ReplicateReport, ReplicateRequest, ReplicatedPoint, Repository, Result, WorkloadId,
    repository::{Compression, CopyOptions, PointSelector, PointState},
};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::{
    app::App,
    exit,
    output::table,
    sides::{Side, SideOptions},
    units::bytes,
    views::short_time,
};

const EXAMPLES: &str = "\
Examples:
  backstay copy --from /srv/backups --to s3://offsite/backups            # all points; again: those that are new
  backstay copy --from /srv/backups --to /mnt/usb web@latest db@latest --dry-run
  backstay copy --from /srv/backups --from-key-file reader.key --to /mnt/usb --to-passphrase-file usb.txt

Each side is opened by its own options (--from-key-file, --to-passphrase-file, …), else by its own variables
(BACKSTAY_FROM_PASSPHRASE, BACKSTAY_FROM_KEY_FILE, BACKSTAY_TO_…), else by what opens any repository. For S3 each of the
AWS variables may be given for one side: BACKSTAY_FROM_AWS_ACCESS_KEY_ID.";

/// Copy restore points into another repository, which has other keys, another store, or both.
///
/// Oldest first; what was copied before is left out, and of a point whose predecessor was copied only what differs is read. Run it
/// again after an interruption: finished points are there. A damaged point does not keep the others from being copied; the exit
/// code at the end tells of it.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Copy {
    /// Points of the source; all when none is named.
    #[arg(value_name = "POINT")]
    points: Vec<PointSelector>,
    /// The source: a path, file://PATH or s3://BUCKET/PREFIX. Needs a reader's or the owner's key.
    #[arg(long, value_name = "REPO", env = "BACKSTAY_FROM_REPOSITORY")]
    from: String,
    /// The target. Needs a writer's or the owner's key.
    #[arg(long, value_name = "REPO", env = "BACKSTAY_TO_REPOSITORY")]
    to: String,
    /// Only points of this workload.
    #[arg(long, short, value_name = "NAME")]
    workload: Option<WorkloadId>,
    /// Leave out points that come before the newest of their workload that was copied: what was forgotten in the target does
    /// not come back.
    #[arg(long)]
    newer_only: bool,
    /// Only say what would be copied.
    #[arg(long)]
    dry_run: bool,
    /// How many ranges of each disk that did not change are read and compared all the same.
    #[arg(long, value_name = "N", default_value_t = CopyOptions::default().sample)]
    sample: usize,
    /// zstd level 1 to 19, 0 for none.
    #[arg(long, value_name = "LEVEL", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=19))]
    compression: u8,
    #[command(flatten)]
    sides: SideOptions,
}

impl Copy {
    pub async fn run(self, app: &App) -> Result<u8> {
        // Both places are looked at before anybody is asked for a passphrase.
        let from = self.sides.backend(Side::From, &self.from, app).await?;
        let to = self.sides.backend(Side::To, &self.to, app).await?;
        let from = self.sides.open(Side::From, from, app).await?;
        let to = self.sides.open(Side::To, to, app).await?;
        let options = CopyOptions::default().compression(Compression::level(self.compression)?).sample(self.sample);
        let mut request = ReplicateRequest::default()
            .points(self.points)
            .options(options)
            .dry_run(self.dry_run)
            .newer_only(self.newer_only);
        if let Some(workload) = self.workload {
            request = request.workload(workload);
        }
        let report = Engine::new(to.clone()).replicate(&from, &request, &app.ctx).await?;
        app.progress.clear();
        let answer = Answer { from: &from, to: &to, report: &report, dry_run: self.dry_run };
        app.output.report(&answer.document(app), || answer.text())?;
        if !app.output.json {
            report.errors().for_each(|error| app.output.error(error, &[]));
        }
        Ok(report.errors().next().map_or(exit::OK, exit::code))
    }
}

struct Answer<'a> {
    from: &'a Repository,
    to: &'a Repository,
    report: &'a ReplicateReport,
    dry_run: bool,
}

impl Answer<'_> {
    fn document(&self, app: &App) -> Value {
        let place = |repository: &Repository| json!({ "repository": repository.location(), "id": repository.id() });
        let count =
            |wanted: &str| self.report.points.iter().filter(|point| word(point, self.dry_run) == wanted).count();
        let read: u64 = self.copies().map(|copy| copy.read_bytes).sum();
        let stored: u64 = self.copies().map(|copy| copy.stored_bytes).sum();
        json!({
            "from": place(self.from),
            "to": place(self.to),
            "dry_run": self.dry_run,
            "points": self.report.points.iter().map(|point| self.describe(point)).collect::<Vec<_>>(),
            "damaged": self.report.damaged.iter().map(fault).collect::<Vec<_>>(),
            "copied": count("copied"),
            "present": count("present"),
            "failed": count("failed") + self.report.damaged.len(),
            "read_bytes": read,
            "stored_bytes": stored,
            "elapsed_seconds": self.report.elapsed.as_secs_f64(),
            "warnings": app.progress.warnings(),
        })
    }

    fn copies(&self) -> impl Iterator<Item = &backstay::RestorePoint> {
        self.report.points.iter().filter_map(|point| point.copy.as_ref())
    }

    fn describe(&self, point: &ReplicatedPoint) -> Value {
        let source = &point.source;
        json!({
            "source": source.id.to_string(),
            "workload": source.workload.id,
            "time": source.time.to_string(),
            "state": word(point, self.dry_run),
            "copy": copy_of(point),
            "base": point.base.map(|base| base.to_string()),
            "size": size(point),
            "read_bytes": point.copy.as_ref().map(|copy| copy.read_bytes),
            "stored_bytes": point.copy.as_ref().map(|copy| copy.stored_bytes),
            "error": point.error.as_ref().map(fault),
        })
    }

    fn text(&self) -> String {
        let mut rows = table(["POINT", "TIME", "WORKLOAD", "SIZE", "READ", "STORED", "STATE", "COPY", "SINCE"], 3..6);
        let short = |id: Option<String>| id.map(|id| id[..8].to_owned()).unwrap_or_default();
        let count = |number: Option<u64>| number.map(bytes).unwrap_or_default();
        for point in &self.report.points {
            let (source, copy) = (&point.source, point.copy.as_ref());
            rows.add_row([
                &source.id.short(),
                &short_time(&source.time.to_string()),
                source.workload.id.as_str(),
                &bytes(size(point)),
                &count(copy.map(|copy| copy.read_bytes)),
                &count(copy.map(|copy| copy.stored_bytes)),
                word(point, self.dry_run),
                &short(copy_of(point)),
                &short(point.base.map(|base| base.to_string())),
            ]);
        }
        let (copied, failed) = (self.copies().count(), self.report.errors().count());
        let read: u64 = self.copies().map(|copy| copy.read_bytes).sum();
        let stored: u64 = self.copies().map(|copy| copy.stored_bytes).sum();
        let sum = if self.dry_run {
            let missing = self.report.points.iter().filter(|point| word(point, true) == "missing").count();
            format!("{missing} of {} points would be copied", self.report.points.len())
        } else {
            let seconds = self.report.elapsed.as_secs_f64();
            format!("{copied} points copied in {seconds:.1} s, read {}, stored {}", bytes(read), bytes(stored))
        };
        let failed = if failed > 0 { format!(", {failed} FAILED") } else { String::new() };
        if rows.is_empty() { format!("{sum}{failed}") } else { format!("{rows}\n{sum}{failed}") }
    }
}

/// What became of a point, in one word.
fn word(point: &ReplicatedPoint, dry_run: bool) -> &'static str {
    match point.state {
        PointState::Present(_) => "present",
        PointState::Returned(_) => "returned",
        PointState::Missing if point.left_out => "left out",
        PointState::Missing if point.error.is_some() => "failed",
        PointState::Missing if dry_run => "missing",
        PointState::Missing => "copied",
    }
}

/// The point of the target that holds the same.
fn copy_of(point: &ReplicatedPoint) -> Option<String> {
    match point.state {
        PointState::Present(id) | PointState::Returned(id) => Some(id.to_string()),
        PointState::Missing => point.copy.as_ref().map(|copy| copy.id.to_string()),
    }
}

fn size(point: &ReplicatedPoint) -> u64 {
    let source = &point.source;
    source.disks.iter().map(|disk| disk.size).chain(source.streams.iter().map(|stream| stream.size)).sum()
}

fn fault(error: &Error) -> Value {
    let context: Map<_, _> =
        error.context().iter().map(|(key, value)| ((*key).to_owned(), value.clone().into())).collect();
    json!({ "kind": error.kind().name(), "message": error.message(), "context": context })
}
