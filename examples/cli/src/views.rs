//! Restore points as the command line prints them. Names in JSON are frozen.

use std::collections::BTreeMap;

use backstay::{
    AttachmentRecord, Consistency, DiskRecord, Provenance, ReadMethod, RestorePoint, StreamRecord, repository::Hold,
};
use serde::Serialize;

/// A restore point.
#[derive(Serialize)]
pub struct PointView<'a> {
    pub id: String,
    pub workload: &'a str,
    pub kind: &'a str,
    pub time: String,
    pub sequence: u64,
    pub parent: Option<String>,
    pub method: &'static str,
    pub consistency: Consistency,
    pub labels: &'a BTreeMap<String, String>,
    pub hold: Option<&'a Hold>,
    pub disks: Vec<DiskView<'a>>,
    pub streams: &'a [StreamRecord],
    pub attachments: &'a [AttachmentRecord],
    /// Of all disks and streams, holes included.
    pub size: u64,
    pub read_bytes: u64,
    pub stored_bytes: u64,
    /// Where it was copied from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<&'a Provenance>,
}

/// One of its disks.
#[derive(Serialize)]
pub struct DiskView<'a> {
    pub id: &'a str,
    pub size: u64,
    pub method: &'static str,
    pub reason: Option<&'a str>,
    pub read_bytes: u64,
}

impl<'a> PointView<'a> {
    pub fn new(point: &'a RestorePoint, hold: Option<&'a Hold>) -> Self {
        Self {
            id: point.id.to_string(),
            workload: point.workload.id.as_str(),
            kind: &point.workload.kind,
            time: point.time.to_string(),
            sequence: point.sequence,
            parent: point.parent.map(|parent| parent.to_string()),
            method: method(point),
            consistency: point.consistency,
            labels: &point.labels,
            hold,
            disks: point.disks.iter().map(DiskView::new).collect(),
            streams: &point.streams,
            attachments: &point.attachments,
            size: point.disks.iter().map(|disk| disk.size).chain(point.streams.iter().map(|stream| stream.size)).sum(),
            read_bytes: point.read_bytes,
            stored_bytes: point.stored_bytes,
            provenance: point.provenance.as_ref(),
        }
    }
}

impl<'a> DiskView<'a> {
    pub fn new(disk: &'a DiskRecord) -> Self {
        Self {
            id: disk.id.as_str(),
            size: disk.size,
            method: disk.method.name(),
            reason: disk.reason.as_deref(),
            read_bytes: disk.read_bytes,
        }
    }
}

/// The method of the disk of which most was read; `stream` when there is no disk.
fn method(point: &RestorePoint) -> &'static str {
    let weight = |disk: &&DiskRecord| match disk.method {
        ReadMethod::Untouched => 0,
        ReadMethod::Changed => 1,
        ReadMethod::Compared => 2,
        _ => 3,
    };
    point.disks.iter().max_by_key(weight).map_or("stream", |disk| disk.method.name())
}

/// A time without its nanoseconds, for eyes.
pub fn short_time(time: &str) -> String {
    time.get(..19).unwrap_or(time).replace('T', " ")
}

/// A hold, for eyes.
pub fn hold_text(hold: &Hold) -> &str {
    if hold.reason.is_empty() { "yes" } else { &hold.reason }
}
