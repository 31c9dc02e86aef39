//! `backstay backup`

use std::{path::PathBuf, sync::Arc};

use backstay::{
    BackupReport, BackupRequest, Context, DiskId, Engine, Error, HOLD_LABEL, ImageFormat, ImageWorkload,
    ImagesHypervisor, ReadMethod, Repository, Result, StreamRequest, StreamSource, Workload, WorkloadId,
    repository::{Compression, DiskOptions, Hold},
};
use clap::Args;
use serde::Serialize;

use super::{sources, stdio};
use crate::{app::App, exit, output::table, units::bytes, views::PointView};

const EXAMPLES: &str = "\
Examples:
  backstay backup web.qcow2 --repo /srv/backups --workload web
  backstay backup --disk root=web.raw --disk data=/dev/vg/web --format raw --repo /srv/backups --workload web
  backstay backup web.qcow2 --bitmap backup --repo /srv/backups --workload web --label reason=upgrade
  pg_dump shop | backstay backup - --repo /srv/backups --workload shop --stream-name shop.sql

Without --format an image is qcow2 when its name ends in .qcow2, .qcow, .qc2 or .snap and it begins like one; raw when
its name ends in .raw or .img, or it is a block device, and it does not begin like a qcow2 image. Anything else needs
--format: a guest can write a qcow2 header to its raw disk.";

/// Back up disk images, or a stream on standard input.
///
/// The images must not change meanwhile: stop the guest, or back up a snapshot. A later backup of the same workload reads
/// and compares everything but stores only what changed; with --bitmap, --ranges or --trust-mtime it reads no more than that.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Backup {
    /// Images, as disk0, disk1, …; `-` is a stream on standard input.
    #[arg(value_name = "SOURCE", required_unless_present = "disks")]
    pub sources: Vec<PathBuf>,
    /// What this is a backup of: the same name every time.
    #[arg(long, short, value_name = "NAME")]
    pub workload: WorkloadId,
    /// An image under an id of its own.
    #[arg(long = "disk", id = "disks", value_name = "ID=PATH", value_parser = sources::parse_named)]
    pub disks: Vec<(DiskId, PathBuf)>,
    /// Format of the images: raw or qcow2.
    #[arg(long)]
    pub format: Option<ImageFormat>,
    /// Read what this persistent bitmap of the qcow2 image calls changed.
    #[arg(long, value_name = "NAME")]
    pub bitmap: Option<String>,
    /// Read what this file calls changed: {"since": POINT_ID, "size": BYTES, "ranges": [[OFFSET, BYTES], …]}.
    #[arg(long, value_name = "FILE")]
    pub ranges: Option<PathBuf>,
    /// Read nothing of an image whose size, times and inode are those of the last backup.
    #[arg(long)]
    pub trust_mtime: bool,
    /// How many ranges that are called unchanged are read and compared all the same.
    #[arg(long, value_name = "N", default_value_t = DiskOptions::default().sample)]
    pub sample: usize,
    /// Look at no earlier point: read everything.
    #[arg(long)]
    pub full: bool,
    /// Take up the last backup of this workload that was interrupted: what it had stored at its last checkpoint is not stored again.
    /// Not while it still runs.
    #[arg(long)]
    pub resume: bool,
    /// Write something on the point; may be given again. `hold` or `hold=REASON` puts it on hold.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_new_label)]
    pub labels: Vec<(String, String)>,
    /// zstd level 1 to 19, 0 for none.
    #[arg(long, value_name = "LEVEL", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=19))]
    pub compression: u8,
    /// Also follow backing and data files in this directory; may be given again.
    #[arg(long, value_name = "DIR", conflicts_with = "no_backing")]
    pub allow_backing: Vec<PathBuf>,
    /// Follow no backing or data files, not even those beside the image.
    #[arg(long)]
    pub no_backing: bool,
    /// Name of the stream on standard input.
    #[arg(long, value_name = "NAME", default_value = "stdin")]
    pub stream_name: String,
}

#[derive(Serialize)]
struct Document<'a> {
    point: PointView<'a>,
    elapsed_seconds: f64,
    disks: Vec<crate::views::DiskView<'a>>,
    warnings: Vec<String>,
}

impl Backup {
    pub async fn run(self, app: &App) -> Result<u8> {
        let is_stream = self.sources.iter().any(|source| source.as_os_str() == "-");
        if is_stream {
            self.only_a_stream()?;
        }
        let report = if is_stream { self.stream(app).await? } else { self.images(app).await? };
        if self.tracks() {
            for disk in report.disks.iter().filter(|disk| disk.method == ReadMethod::Compared) {
                let reason = disk.reason.as_deref().unwrap_or("no reason is known");
                app.progress.warn(&format!("Disk {} was read as a whole and compared: {reason}", disk.disk));
            }
        }
        app.progress.clear();
        let hold = Hold::of_label(&report.point);
        let point = PointView::new(&report.point, hold.as_ref());
        let disks = report.point.disks.iter().map(crate::views::DiskView::new).collect();
        let elapsed_seconds = report.elapsed.as_secs_f64();
        let document = Document { point, elapsed_seconds, disks, warnings: app.progress.warnings() };
        app.output.report(&document, || text(&document))?;
        Ok(exit::OK)
    }

    const fn tracks(&self) -> bool {
        self.bitmap.is_some() || self.ranges.is_some() || self.trust_mtime
    }

    fn only_a_stream(&self) -> Result<()> {
        let disks_too = self.sources.len() > 1 || !self.disks.is_empty();
        if disks_too || self.tracks() || self.format.is_some() {
            return Err(Error::invalid_input(
                "A stream on standard input is backed up alone, and options of disk images do not apply to it",
            ));
        }
        Ok(())
    }

    async fn images(&self, app: &App) -> Result<BackupReport> {
        // A wrong path is told before anybody is asked for a passphrase.
        let disks = sources::disks(self, &app.ctx).await?;
        let repository = app.repository().await?;
        let images = ImagesHypervisor::new(vec![ImageWorkload::new(self.workload.clone(), "image", disks)]);
        let request = BackupRequest::new(self.workload.clone())
            .full(self.full)
            .labels(self.labels.iter().cloned().collect())
            .resume(self.resume)
            .compression(Compression::level(self.compression)?)
            .disk(DiskOptions::default().sample(self.sample));
        Engine::new(repository).hypervisor(Arc::new(images)).backup(&request, &app.ctx).await
    }

    async fn stream(&self, app: &App) -> Result<BackupReport> {
        self.store_stream(app.repository().await?, &app.ctx).await
    }

    async fn store_stream(&self, repository: Repository, ctx: &Context) -> Result<BackupReport> {
        let workload = Workload { id: self.workload.clone(), kind: "stream".into(), platform: Default::default() };
        let stream = StreamSource { name: self.stream_name.clone(), bytes: stdio::read_all()? };
        let request = StreamRequest::new(workload, vec![stream])
            .labels(self.labels.iter().cloned().collect())
            .resume(self.resume)
            .compression(Compression::level(self.compression)?);
        Engine::new(repository).backup_streams(request, ctx).await
    }
}

/// A hold needs no reason.
fn parse_new_label(text: &str) -> Result<(String, String), String> {
    if text == HOLD_LABEL { Ok((HOLD_LABEL.to_owned(), String::new())) } else { parse_label(text) }
}

pub(super) fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("write it as KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn text(document: &Document<'_>) -> String {
    let point = &document.point;
    let mut lines = String::new();
    if !document.disks.is_empty() {
        let mut rows = table(["DISK", "SIZE", "READ", "METHOD", "WHY"], 1..3);
        for disk in &document.disks {
            rows.add_row([disk.id, &bytes(disk.size), &bytes(disk.read_bytes), disk.method, disk.reason.unwrap_or("")]);
        }
        lines = format!("{rows}\n");
    }
    format!(
        "{lines}point {} of {}: {} in {:.1} s, read {}, stored {}",
        &point.id[..8],
        point.workload,
        bytes(point.size),
        document.elapsed_seconds,
        bytes(point.read_bytes),
        bytes(point.stored_bytes),
    )
}
