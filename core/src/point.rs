//! Restore points as everybody but the repository sees them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Consistency, DiskId, RestorePointId, Timestamp, WorkloadId};

/// The label that puts a point on hold from the moment it is made; its value says why, and may be empty.
pub const HOLD_LABEL: &str = "hold";

/// What is protected: a guest, a database, a directory tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Its stable name.
    pub id: WorkloadId,
    /// What sort it is: `vm`, `image`, `stream`, `files`, `postgresql` … Free text; the engine gives it no meaning.
    pub kind: String,
    /// What the adapter wants to remember of it, small and not secret: host, UUID, title.
    #[serde(default)]
    pub platform: BTreeMap<String, String>,
}

/// How the bytes of a disk were found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ReadMethod {
    /// Everything was read; there was no parent.
    Full,
    /// Only what the source said had changed was read.
    Changed,
    /// Everything was read and compared with the parent.
    Compared,
    /// Nothing was read: the source vouched for the whole disk.
    Untouched,
}

impl ReadMethod {
    /// The word in JSON, tables and manifests.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Changed => "changed",
            Self::Compared => "compared",
            Self::Untouched => "untouched",
        }
    }
}

/// One disk of a restore point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskRecord {
    /// Its id within the workload.
    pub id: DiskId,
    /// Its size in bytes.
    pub size: u64,
    /// How it was read.
    pub method: ReadMethod,
    /// Why it was read more than it could have been, when that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes read from the source.
    pub read_bytes: u64,
}

/// One stream of a restore point: a dump, an archive, a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// Its name within the workload.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

/// One attachment: something small beside the disks, such as the definition of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentRecord {
    /// Its name within the workload.
    pub name: String,
    /// What it is, as a media type.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
}

/// Where a restore point was copied from. A claim of whoever copied it; nothing of the point depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The id of the repository: 32 hex digits.
    pub repository: String,
    /// The point's id there.
    pub point: RestorePointId,
}

/// One workload at one time, stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePoint {
    /// Its id.
    pub id: RestorePointId,
    /// Of what.
    pub workload: Workload,
    /// The moment whose bytes it holds.
    pub time: Timestamp,
    /// Its number among the points of the workload, from 1.
    pub sequence: u64,
    /// The point that changes were counted from. Nothing depends on it: every point stands alone.
    pub parent: Option<RestorePointId>,
    /// How consistent the capture was.
    pub consistency: Consistency,
    /// What the operator wrote on it.
    pub labels: BTreeMap<String, String>,
    /// Its disks.
    pub disks: Vec<DiskRecord>,
    /// Its streams.
    pub streams: Vec<StreamRecord>,
    /// Its attachments.
    pub attachments: Vec<AttachmentRecord>,
    /// Bytes read from the sources.
    pub read_bytes: u64,
    /// Bytes that this point added to the repository.
    pub stored_bytes: u64,
    /// Where it was copied from; none for a point that was made here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

impl RestorePoint {
    /// Why its own labels put it on hold; `None` when they do not. A hold can be set and lifted later besides: the repository
    /// knows what counts now.
    #[must_use]
    pub fn hold_label(&self) -> Option<&str> {
        self.labels.get(HOLD_LABEL).map(String::as_str)
    }
}
