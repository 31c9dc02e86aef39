//! The same disk a day later: a source that lays changed blocks over another and knows exactly which ones.

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use backstay::{
    ChangeBase, ChangedBlocks, Context, DiskSource, Extent, ExtentKind, RangeSet, RestorePointId, Result,
    core::disk::MAX_EXTENTS,
};

use crate::{
    guest::{Dice, fill_text},
    show::bytes,
};

/// Changes beyond this would have to lie on a disk and not in memory.
const MOST_CHANGED: u64 = 16 << 20;
/// Packages, logs, databases: a few large writes and many small ones.
const SIZES: [u64; 8] = [4 << 10, 16 << 10, 64 << 10, 8 << 10, 256 << 10, 4 << 10, 32 << 10, 512 << 10];

/// One changed range.
struct Patch {
    range: Range<u64>,
    /// The new bytes; none where the range was discarded.
    bytes: Option<Vec<u8>>,
}

/// A disk and what was written to it since a restore point.
pub struct ChangedDisk {
    before: Arc<dyn DiskSource>,
    since: RestorePointId,
    /// In rising order, not overlapping.
    patches: Vec<Patch>,
}

impl fmt::Display for ChangedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let discarded = self.patches.iter().filter(|patch| patch.bytes.is_none()).count();
        let changed = bytes(self.changes().bytes());
        write!(
            f,
            "{changed} in {} places, {discarded} of them discarded; the disk itself is untouched",
            self.patches.len()
        )
    }
}

impl ChangedDisk {
    /// Changes about one per cent of the data, scattered, and writes a new file into the first hole.
    pub async fn after_a_day(before: Arc<dyn DiskSource>, since: RestorePointId, ctx: &Context) -> Result<Self> {
        let (data, hole) = survey(&*before, ctx).await?;
        let target = (data / 100).clamp(64 << 10, MOST_CHANGED);
        let mut dice = Dice::new(2026);
        // Places are chosen among the bytes that are data, whatever holes lie between them.
        let mut wanted = Vec::new();
        let mut sum = 0;
        for size in SIZES.iter().cycle() {
            if sum >= target || data == 0 {
                break;
            }
            wanted.push((dice.below(data) & !4095, *size));
            sum += size;
        }
        wanted.sort_unstable();
        let mut patches = place(&*before, &wanted, &mut dice, ctx).await?;
        if let Some(hole) = hole {
            patches.push(Patch::text(hole.start..hole.end.min(hole.start + target / 8), &mut dice));
        }
        patches.sort_by_key(|patch| patch.range.start);
        Ok(Self { before, since, patches })
    }

    fn changes(&self) -> RangeSet {
        self.patches.iter().map(|patch| patch.range.clone()).collect()
    }

    /// The patches that touch a range.
    fn touching(&self, range: &Range<u64>) -> impl Iterator<Item = &Patch> {
        let end = range.end;
        let from = self.patches.partition_point(|patch| patch.range.end <= range.start);
        self.patches[from..].iter().take_while(move |patch| patch.range.start < end)
    }
}

impl Patch {
    fn text(range: Range<u64>, dice: &mut Dice) -> Self {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        fill_text(&mut bytes, dice);
        Self { range, bytes: Some(bytes) }
    }

    fn of(range: Range<u64>, number: usize, dice: &mut Dice) -> Self {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        match number % 5 {
            0 => return Self { range, bytes: None },
            1 | 2 => dice.fill(&mut bytes),
            _ => fill_text(&mut bytes, dice),
        }
        Self { range, bytes: Some(bytes) }
    }
}

/// Bytes of data, and the first hole that has room for a file.
async fn survey(disk: &dyn DiskSource, ctx: &Context) -> Result<(u64, Option<Range<u64>>)> {
    let (mut at, mut data, mut hole) = (0, 0, None);
    while at < disk.size() {
        ctx.check()?;
        for Extent { range, kind } in disk.extents(at..disk.size()).await? {
            at = range.end;
            match kind {
                ExtentKind::Data => data += range.end - range.start,
                ExtentKind::Zero if hole.is_none() && range.end - range.start >= 4 << 20 => hole = Some(range),
                ExtentKind::Zero => {}
            }
        }
    }
    Ok((data, hole))
}

/// Turns places among the data into places on the disk. What would run past its extent or into the one before is cut off.
async fn place(disk: &dyn DiskSource, wanted: &[(u64, u64)], dice: &mut Dice, ctx: &Context) -> Result<Vec<Patch>> {
    let mut patches: Vec<Patch> = Vec::new();
    let mut wanted = wanted.iter().peekable();
    let (mut at, mut data) = (0, 0);
    while at < disk.size() && wanted.peek().is_some() {
        ctx.check()?;
        for Extent { range, kind } in disk.extents(at..disk.size()).await? {
            at = range.end;
            if kind == ExtentKind::Zero {
                continue;
            }
            let length = range.end - range.start;
            while let Some((place, size)) = wanted.next_if(|(place, _)| *place < data + length) {
                let last = patches.last().map_or(0, |patch| patch.range.end);
                let start = (range.start + (place - data)).max(last);
                let end = (start + size).min(range.end);
                if start < end {
                    patches.push(Patch::of(start..end, patches.len(), dice));
                }
            }
            data += length;
        }
    }
    Ok(patches)
}

#[async_trait]
impl DiskSource for ChangedDisk {
    fn size(&self) -> u64 {
        self.before.size()
    }

    async fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>> {
        let mut extents = Vec::new();
        for before in self.before.extents(range).await? {
            let mut at = before.range.start;
            for patch in self.touching(&before.range) {
                let (start, end) = (patch.range.start.max(at), patch.range.end.min(before.range.end));
                if at < start {
                    extents.push(Extent { range: at..start, kind: before.kind });
                }
                let kind = if patch.bytes.is_some() { ExtentKind::Data } else { ExtentKind::Zero };
                extents.push(Extent { range: start..end, kind });
                at = end;
            }
            if at < before.range.end {
                extents.push(Extent { range: at..before.range.end, kind: before.kind });
            }
        }
        // An answer may end early, and must not be longer than this.
        extents.truncate(MAX_EXTENTS);
        Ok(extents)
    }

    async fn read(&self, range: Range<u64>, buffer: Vec<u8>) -> Result<Vec<u8>> {
        let mut buffer = self.before.read(range.clone(), buffer).await?;
        for patch in self.touching(&range) {
            let (start, end) = (patch.range.start.max(range.start), patch.range.end.min(range.end));
            let target = &mut buffer[(start - range.start) as usize..(end - range.start) as usize];
            match &patch.bytes {
                Some(bytes) => {
                    let from = (start - patch.range.start) as usize;
                    target.copy_from_slice(&bytes[from..from + target.len()]);
                }
                None => target.fill(0),
            }
        }
        Ok(buffer)
    }

    async fn changed_since(&self, base: &ChangeBase) -> Result<ChangedBlocks> {
        if base.point == self.since && base.size == self.size() {
            return Ok(ChangedBlocks::Exact(self.changes()));
        }
        Ok(ChangedBlocks::unknown("the changes are counted from another restore point"))
    }

    async fn verify_unchanged(&self) -> Result<()> {
        self.before.verify_unchanged().await
    }
}
