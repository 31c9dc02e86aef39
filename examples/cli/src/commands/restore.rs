//! `backstay restore`

use std::{ops::Range, path::PathBuf, time::Instant};

use backstay::{DiskId, DiskRecord, Error, ImageFormat, RestorePoint, Result, repository::PointSelector};
use clap::Args;
use serde::Serialize;

use super::{restore_disks, restore_stream};
use crate::{
    app::App,
    exit,
    units::{bytes, parse_bytes},
};

const EXAMPLES: &str = "\
Examples:
  backstay restore web@latest --repo /srv/backups --to web.qcow2
  backstay restore web@2026-11-20 --disk root --repo /srv/backups --to /dev/vg/web --overwrite --verify
  backstay restore 1a2b3c4d --repo /srv/backups --to restored/          # all disks, as restored/ID.raw
  backstay restore latest --range 0:1M --repo /srv/backups --to - | file -
  backstay restore shop@latest --repo /srv/backups --to - | psql shop   # a stream

A file gets its name when it is whole and on the disk; before that it ends in .bs-partial.";

/// Restore disks or a stream of a restore point.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Restore {
    /// From which restore point.
    point: PointSelector,
    /// Only this disk.
    #[arg(long, value_name = "ID", conflicts_with = "stream")]
    pub disk: Option<DiskId>,
    /// This stream or attachment instead of a disk.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["range", "format"])]
    pub stream: Option<String>,
    /// A file, a block device, or `-` for standard output; a directory for several disks.
    #[arg(long, value_name = "PATH")]
    pub to: PathBuf,
    /// raw or qcow2; when not given by the name: qcow2 if it ends in .qcow2, else raw.
    #[arg(long)]
    pub format: Option<ImageFormat>,
    /// Replace what is there. Needed for block devices, too.
    #[arg(long)]
    pub overwrite: bool,
    /// Read the target back and compare it with the restore point.
    #[arg(long)]
    pub verify: bool,
    /// Only BYTES from OFFSET on, into a target of that size. Sizes may end in K, M, G or T.
    #[arg(long, value_name = "OFFSET:BYTES", value_parser = parse_range)]
    pub range: Option<Range<u64>>,
    /// What to do about bytes that `repair packs` has found to be lost: `refuse` to restore, or write `zero`s in their place.
    #[arg(long, value_name = "HOW", default_value = "refuse")]
    pub lost: LostBytes,
}

/// What to do about bytes that are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LostBytes {
    /// Restore nothing.
    Refuse,
    /// Write zeros in their place and say so.
    Zero,
}

/// What was restored to where.
#[derive(Serialize)]
pub struct Restored {
    pub name: String,
    pub path: String,
    pub bytes: u64,
    /// Ranges with zeros in the place of what is lost, as offset and bytes.
    pub zeroed: Vec<(u64, u64)>,
}

/// What a point is restored to.
enum What {
    Disk(DiskRecord),
    Disks(Vec<DiskRecord>),
    Stream(String),
}

impl Restore {
    pub async fn run(self, app: &App) -> Result<u8> {
        self.makes_sense(app)?;
        let started = Instant::now();
        let repository = app.repository().await?;
        let point = repository.point(&self.point).await?;
        let restored = match self.what(&point)? {
            What::Disk(disk) => vec![restore_disks::one(&self, &repository, &point, &disk, app).await?],
            What::Disks(disks) => restore_disks::several(&self, &repository, &point, disks, app).await?,
            What::Stream(name) => vec![restore_stream::run(&self, &repository, &point, &name, app).await?],
        };
        for part in restored.iter().filter(|part| !part.zeroed.is_empty()) {
            let bytes: u64 = part.zeroed.iter().map(|(_, bytes)| bytes).sum();
            app.ctx
                .task("restore", None)
                .warn(format!("{bytes} bytes of {} are lost: zeros are in their place", part.name));
        }
        app.progress.clear();
        if self.is_stdout() {
            return Ok(exit::OK);
        }
        let document = serde_json::json!({
            "point": point.id.to_string(),
            "restored": restored,
            "verified": self.verify,
            "elapsed_seconds": started.elapsed().as_secs_f64(),
            "warnings": app.progress.warnings(),
        });
        app.output.report(&document, || {
            let same = if self.verify { ", read back and found the same" } else { "" };
            let line = |it: &Restored| format!("{} ({}) to {}{same}", it.name, bytes(it.bytes), it.path);
            let zeros = |it: &Restored| {
                let zeros = |(offset, bytes): &(u64, u64)| format!("{offset}..{}", offset + bytes);
                let ranges: Vec<_> = it.zeroed.iter().map(zeros).collect();
                (!ranges.is_empty()).then(|| format!("LOST, zeros instead: {} at {}", it.name, ranges.join(", ")))
            };
            restored.iter().map(line).chain(restored.iter().filter_map(zeros)).collect::<Vec<_>>().join("\n")
        })?;
        Ok(exit::OK)
    }

    pub fn is_stdout(&self) -> bool {
        self.to.as_os_str() == "-"
    }

    fn makes_sense(&self, app: &App) -> Result<()> {
        if !self.is_stdout() {
            return Ok(());
        }
        if app.output.json {
            return Err(Error::invalid_input(
                "Standard output cannot take the disk and a JSON document; leave --json out",
            ));
        }
        if self.verify {
            return Err(Error::invalid_input("Standard output cannot be read back; leave --verify out"));
        }
        if self.format == Some(ImageFormat::Qcow2) {
            return Err(Error::invalid_input("A qcow2 image needs a file; standard output takes raw"));
        }
        Ok(())
    }

    fn what(&self, point: &RestorePoint) -> Result<What> {
        if let Some(name) = &self.stream {
            return Ok(What::Stream(name.clone()));
        }
        if let Some(id) = &self.disk {
            let found = point.disks.iter().find(|disk| disk.id == *id);
            return found.cloned().map(What::Disk).ok_or_else(|| {
                Error::not_found("The restore point has no such disk")
                    .with_context("disk", id)
                    .with_context("disks", ids(point))
            });
        }
        match (point.disks.as_slice(), point.streams.as_slice()) {
            ([], [stream]) => Ok(What::Stream(stream.name.clone())),
            ([], _) => {
                let names: Vec<_> = point.streams.iter().map(|stream| stream.name.as_str()).collect();
                Err(Error::invalid_input("Which stream? Name it with --stream")
                    .with_context("streams", names.join(", ")))
            }
            ([disk], _) if !self.to_directory() => Ok(What::Disk(disk.clone())),
            _ if self.range.is_some() || self.is_stdout() => {
                Err(Error::invalid_input("Which disk? Name it with --disk").with_context("disks", ids(point)))
            }
            (disks, _) => Ok(What::Disks(disks.to_vec())),
        }
    }

    /// Whether the target is a directory, or is meant to become one: its name ends in a slash.
    fn to_directory(&self) -> bool {
        use std::os::unix::ffi::OsStrExt;
        self.to.is_dir() || self.to.as_os_str().as_bytes().ends_with(b"/")
    }
}

fn ids(point: &RestorePoint) -> String {
    point.disks.iter().map(|disk| disk.id.as_str()).collect::<Vec<_>>().join(", ")
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let (offset, len) = text.split_once(':').ok_or("write it as OFFSET:BYTES")?;
    let (offset, len) = (parse_bytes(offset)?, parse_bytes(len)?);
    offset.checked_add(len).map(|end| offset..end).ok_or_else(|| "that is past every disk's end".to_owned())
}
