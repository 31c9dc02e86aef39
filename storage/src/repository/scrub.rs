//! Scrubbing: bytes against the hashes in their names. Needs no key, so that it can run where the objects lie.

use std::sync::Arc;

use backstay_core::{Context, Error, ErrorKind, ObjectKey, Result, ResultExt, StorageBackend, Task};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    check::Finding,
    ids::{PackId, SegmentId},
    index::{PackKind, Seen, verify_without_key},
    pack::{MAX_PACK_BYTES, pack_key},
    write::segment_key,
};

/// Objects in memory at once.
const AT_ONCE: usize = 3;
/// A full segment has some 70 MiB.
const MAX_SEGMENT_BYTES: u64 = 256 << 20;
const DAY_NANOS: i128 = 86_400_000_000_000;

/// What to scrub.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ScrubOptions {
    /// This share of the packs, in the order of their ids; which part of them follows from the date, so that a run every day comes
    /// to all. Index segments are always read.
    pub percent: u8,
}

impl Default for ScrubOptions {
    /// Everything.
    fn default() -> Self {
        Self { percent: 100 }
    }
}

impl ScrubOptions {
    /// Sets [`Self::percent`].
    #[must_use]
    pub const fn percent(mut self, percent: u8) -> Self {
        self.percent = percent;
        self
    }
}

/// What a scrub saw.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ScrubReport {
    /// What is not what its name says. Empty when all is well.
    pub findings: Vec<Finding>,
    /// Packs there are.
    pub packs: u64,
    /// Packs read to the last byte.
    pub packs_read: u64,
    /// Index segments read to the last byte.
    pub segments_read: u64,
    /// Of those, segments of a single page: nothing but a key can tell whether that page is whole.
    pub one_page_segments: u64,
    /// Bytes of everything read.
    pub bytes_read: u64,
}

impl ScrubReport {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

#[derive(Clone, Copy)]
enum Target {
    Pack(PackKind, PackId),
    Segment(SegmentId),
}

/// Reads packs and index segments of the repository on this backend and compares them with the hashes in their names.
///
/// What is missing altogether it cannot know; `check` does. Fails when the store is away: that is never a finding.
pub async fn scrub(backend: &Arc<dyn StorageBackend>, options: &ScrubOptions, ctx: &Context) -> Result<ScrubReport> {
    if !(1..=100).contains(&options.percent) {
        return Err(
            Error::invalid_input("Scrub 1 to 100 per cent of the packs").with_context("percent", options.percent)
        );
    }
    let mut report = ScrubReport::default();
    let targets = targets(&**backend, options, &mut report, ctx).await?;
    let task = &ctx.task("scrub", Some(targets.iter().map(|(_, size)| size).sum()));
    let reads = targets.into_iter().map(|(target, size)| async move {
        ctx.check()?;
        let read = scrub_one(backend, target, size, task, ctx).await;
        task.advance(size);
        Ok::<_, Error>((target, size, read))
    });
    let mut reads = stream::iter(reads).buffer_unordered(AT_ONCE);
    while let Some((target, size, read)) = ctx.or_cancelled(reads.try_next()).await? {
        let seen = match read {
            Ok(seen) => seen,
            // A collector has taken it away since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) if matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Unsupported) => {
                report.findings.push(Finding { error });
                Seen::Whole
            }
            Err(error) => return Err(error),
        };
        report.bytes_read += size;
        match target {
            Target::Pack(..) => report.packs_read += 1,
            Target::Segment(_) => report.segments_read += 1,
        }
        report.one_page_segments += u64::from(seen == Seen::OnePage);
    }
    report.findings.sort_by_key(|finding| finding.error.to_string());
    Ok(report)
}

async fn targets(
    backend: &dyn StorageBackend,
    options: &ScrubOptions,
    report: &mut ScrubReport,
    ctx: &Context,
) -> Result<Vec<(Target, u64)>> {
    let mut packs = Vec::new();
    for (folder, kind) in [("packs", PackKind::Data), ("meta", PackKind::Meta)] {
        let folder = ObjectKey::new(folder)?;
        let mut objects = backend.list(Some(&folder));
        while let Some(meta) = objects.try_next().await? {
            packs.extend(PackId::from_hex(meta.key.name()).map(|id| (id, kind, meta.size)));
        }
    }
    packs.sort_unstable_by_key(|(id, ..)| *id);
    report.packs = packs.len() as u64;
    let share = (packs.len() * usize::from(options.percent)).div_ceil(100);
    if share < packs.len() {
        // The clock decides where to begin and nothing else: a wrong one reads another part.
        let parts = 100_i128.div_euclid(i128::from(options.percent)).max(1);
        let part = (i128::from(ctx.now().as_nanos()).div_euclid(DAY_NANOS)).rem_euclid(parts) as usize;
        let start = (packs.len() * part).div_euclid(parts as usize);
        packs.rotate_left(start);
        packs.truncate(share);
    }
    let mut targets: Vec<_> = packs.into_iter().map(|(id, kind, size)| (Target::Pack(kind, id), size)).collect();
    let folder = ObjectKey::new("index")?;
    let mut objects = backend.list(Some(&folder));
    while let Some(meta) = objects.try_next().await? {
        targets.extend(SegmentId::from_hex(meta.key.name()).map(|id| (Target::Segment(id), meta.size)));
    }
    Ok(targets)
}

async fn scrub_one(
    backend: &Arc<dyn StorageBackend>,
    target: Target,
    size: u64,
    task: &Task,
    ctx: &Context,
) -> Result<Seen> {
    let (key, most) = match target {
        Target::Pack(kind, id) => (pack_key(kind, &id)?, MAX_PACK_BYTES),
        Target::Segment(id) => (segment_key(&id)?, MAX_SEGMENT_BYTES),
    };
    if size > most {
        return Err(Error::integrity("An object has an impossible size").with_context("object", key));
    }
    let verify = move |bytes: &Bytes| match target {
        Target::Pack(_, id) if blake3::hash(bytes).as_bytes() == id.as_bytes() => Ok(Seen::Whole),
        Target::Pack(..) => Err(Error::integrity("A pack is damaged: its bytes are not what its id says")),
        Target::Segment(id) => verify_without_key(id, bytes),
    };
    read_twice(backend, &key, task, ctx, verify).await
}

/// Reads an object whole and judges it; what seems damaged is read once more, as bits can flip on the way.
pub(super) async fn read_twice<T: Send + 'static>(
    backend: &Arc<dyn StorageBackend>,
    key: &ObjectKey,
    task: &Task,
    ctx: &Context,
    verify: impl Fn(&Bytes) -> Result<T> + Clone + Send + 'static,
) -> Result<T> {
    let read = || async {
        let bytes = backend.get(key).await?;
        let verify = verify.clone();
        ctx.cpu(move || verify(&bytes)).await
    };
    let first = match read().await {
        Err(error) if matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Unsupported) => error,
        read => return read.context("object", key),
    };
    let second = read().await;
    if second.is_ok() {
        task.warn(format!("{key} was damaged on the way and whole when it was read again: {first}"));
    }
    second.context("object", key)
}
