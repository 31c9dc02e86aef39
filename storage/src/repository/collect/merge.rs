//! Fewer, larger index segments, without what names dead packs.

use std::collections::{BTreeMap, HashSet};

use backstay_core::{Context, Result};

use super::{repack::put_segments, survey::Segments};
use crate::repository::{
    Repository,
    format::chain::BaseSegment,
    ids::{PackId, SegmentId, SignerId},
    index::{Location, MAX_RECORDS, Section, Segment, SegmentBuilder},
    mutation::{self, Mutation},
};

/// A segment of fewer records than this is small.
const SMALL_RECORDS: u64 = MAX_RECORDS as u64 / 4;
/// So many small segments of one origin are merged.
const MANY_SMALL: usize = 8;

/// The base segments that come out, and those that they stand for.
pub struct Merged {
    pub base: Vec<BaseSegment>,
    pub replaced: Vec<SegmentId>,
    /// Dead packs that the new base still names.
    pub dead: Vec<PackId>,
}

impl Repository {
    /// Writes segments anew where it is worth it.
    pub(super) async fn merge(&self, segments: &Segments, dead: &HashSet<PackId>, ctx: &Context) -> Result<Merged> {
        let mut by_origin: BTreeMap<SignerId, Vec<&Segment>> = BTreeMap::new();
        for (base, segment) in &segments.0 {
            by_origin.entry(base.origin).or_default().push(segment);
        }
        let mut merged = Merged { base: Vec::new(), replaced: Vec::new(), dead: Vec::new() };
        let mut named: HashSet<PackId> = HashSet::new();
        for (origin, segments) in by_origin {
            let small = segments.iter().filter(|segment| records(segment) < SMALL_RECORDS).count() >= MANY_SMALL;
            let (anew, kept): (Vec<&Segment>, Vec<&Segment>) = segments
                .into_iter()
                .partition(|segment| mostly_dead(segment, dead) || small && records(segment) < SMALL_RECORDS);
            merged.base.extend(kept.iter().map(|segment| BaseSegment { id: segment.id(), origin }));
            named.extend(kept.iter().flat_map(|segment| segment.packs()).map(|pack| pack.id()));
            let forgetful = mutation::is(Mutation::MergeOld);
            for ids in self.write_anew(&anew, if forgetful { &NONE_DEAD } else { dead }, ctx).await? {
                merged.base.push(BaseSegment { id: ids, origin });
            }
            merged.replaced.extend(anew.iter().map(|segment| segment.id()));
        }
        // The same content has the same name only by chance, which salts rule out; a segment that stays is not replaced.
        merged.dead = dead.iter().filter(|pack| named.contains(*pack)).copied().collect();
        merged.dead.sort_unstable();
        Ok(merged)
    }

    async fn write_anew(&self, anew: &[&Segment], dead: &HashSet<PackId>, ctx: &Context) -> Result<Vec<SegmentId>> {
        let mut written = Vec::new();
        let mut records = SegmentBuilder::new();
        for segment in anew {
            ctx.check()?;
            if records.len() as u64 + self::records(segment) > MAX_RECORDS as u64 && !records.is_empty() {
                written.extend(put_segments(self, std::mem::take(&mut records), ctx).await?);
            }
            let mut numbers = BTreeMap::new();
            for pack in segment.packs().iter().filter(|pack| !dead.contains(&pack.id())) {
                numbers.insert(pack.id(), records.add_pack(pack.id(), pack.size(), pack.kind()));
            }
            for section in Section::ALL {
                let add = |id: &[u8; 32], at: Location| {
                    if let Some(number) = numbers.get(&at.pack) {
                        records.add(section, *id, *number, at.offset, at.stored, at.plain);
                    }
                    Ok(())
                };
                segment.scan(section, add).await?;
            }
        }
        if !records.is_empty() {
            written.extend(put_segments(self, records, ctx).await?);
        }
        Ok(written)
    }
}

static NONE_DEAD: std::sync::LazyLock<HashSet<PackId>> = std::sync::LazyLock::new(HashSet::new);

fn records(segment: &Segment) -> u64 {
    segment.records(Section::Data) + segment.records(Section::Meta)
}

/// Whether a quarter or more of the packs that it names are dead.
fn mostly_dead(segment: &Segment, dead: &HashSet<PackId>) -> bool {
    let gone = segment.packs().iter().filter(|pack| dead.contains(&pack.id())).count();
    gone > 0 && gone * 4 >= segment.packs().len()
}
