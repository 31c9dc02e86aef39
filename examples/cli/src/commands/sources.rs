//! From the command line to disks: ids, formats, gates, trackers.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use backstay::{Context, DiskId, Error, ImageDisk, ImageFormat, ImageGate, Result, ResultExt, Tracking, probe_format};

use super::backup::Backup;

/// `ID=PATH`.
pub fn parse_named(text: &str) -> Result<(DiskId, PathBuf), String> {
    let (id, path) = text.split_once('=').filter(|(_, path)| !path.is_empty()).ok_or("write it as ID=PATH")?;
    Ok((DiskId::new(id).map_err(|error| error.to_string())?, PathBuf::from(path)))
}

/// The disks of a backup, in the order of the command line: first those without a name.
pub async fn disks(backup: &Backup, ctx: &Context) -> Result<Vec<ImageDisk>> {
    let unnamed = backup.sources.iter().enumerate();
    let mut wanted = unnamed
        .map(|(number, path)| Ok((DiskId::new(format!("disk{number}"))?, path.clone())))
        .collect::<Result<Vec<_>>>()?;
    wanted.extend(backup.disks.iter().cloned());
    if backup.ranges.is_some() && wanted.len() > 1 {
        return Err(Error::invalid_input("A ranges file is of one disk; back up one disk with --ranges at a time"));
    }
    let mut seen = HashSet::new();
    for (id, _) in &wanted {
        if !seen.insert(id) {
            return Err(Error::invalid_input("Two disks have the same id; disks without a name are disk0, disk1, …")
                .with_context("disk", id));
        }
    }
    let mut disks = Vec::new();
    for (id, path) in wanted {
        let (format, allowed, follow) = (backup.format, backup.allow_backing.clone(), !backup.no_backing);
        let (looked_at, about) = (path.clone(), id.clone());
        let found = ctx.blocking(move || look_at(&looked_at, format, &allowed, follow).context("disk", about));
        let (format, gate) = found.await?;
        disks.push(ImageDisk::new(id, path, format).gate(gate).tracking(tracking(backup)));
    }
    Ok(disks)
}

/// The format, and which files the image may refer to.
fn look_at(
    path: &Path,
    format: Option<ImageFormat>,
    allowed: &[PathBuf],
    follow: bool,
) -> Result<(ImageFormat, ImageGate)> {
    let format = format.map_or_else(|| probe_format(path), Ok)?;
    if !follow {
        return Ok((format, ImageGate::none()));
    }
    let real =
        path.canonicalize().map_err(|error| Error::io(error, "Open disk image")).context("path", path.display())?;
    // The image's own directory is where the image really lies, not where a link to it does.
    let mut gate = ImageGate::none().probe_backing(true);
    if let Some(own) = real.parent() {
        gate = gate.and_files_of(own);
    }
    for directory in allowed {
        gate = gate.and_directory(directory);
    }
    Ok((format, gate))
}

fn tracking(backup: &Backup) -> Tracking {
    let mut tracking = Tracking::default().trust_mtime(backup.trust_mtime);
    if let Some(name) = &backup.bitmap {
        tracking = tracking.bitmap(name);
    }
    if let Some(path) = &backup.ranges {
        tracking = tracking.ranges(path);
    }
    tracking
}
