//! What happens when the mirror is away.

/// What a put does when the mirror does not take the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorPolicy {
    /// It fails. What is reported as stored is stored twice.
    Required,
    /// It succeeds, a warning is given, and the mirror gets nothing more until it has caught up.
    BestEffort,
}

/// What a mirror lacks, as far as the process knows that writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MirrorStatus {
    /// Why the mirror gets nothing until it has caught up; none when it is up to date.
    pub behind: Option<String>,
    /// Objects that the primary took and the mirror did not.
    pub missed_objects: u64,
    /// Bytes of those.
    pub missed_bytes: u64,
    /// Reads that the mirror answered in the primary's place.
    pub fallback_reads: u64,
    /// Objects that were deleted on the primary and stay on the mirror until it catches up.
    pub deferred_deletes: u64,
}
