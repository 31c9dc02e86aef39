//! What each pack holds of what is needed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use backstay_core::{Context, Result};

use super::mark::Mark;
use crate::repository::{
    Repository,
    format::chain::BaseSegment,
    ids::{PackId, SignerId},
    index::{Index, Location, PackKind, Section, Segment},
    state::State,
};

/// Memory for pages of the index that are looked at again soon.
const INDEX_CACHE_BYTES: usize = 16 << 20;

/// The segments of a state, opened, each with whose packs it names.
pub struct Segments(pub Vec<(BaseSegment, Arc<Segment>)>);

impl Segments {
    /// Opens all of them.
    pub async fn open(repository: &Repository, state: &State) -> Result<Self> {
        let named = state.segments();
        let ids: Vec<_> = named.iter().map(|base| base.id).collect();
        Ok(Self(named.into_iter().zip(repository.segments(&ids).await?).collect()))
    }

    /// An index over those of one origin, or all, that finds nothing in the packs of `without`.
    pub fn index(&self, origin: Option<SignerId>, without: HashSet<PackId>) -> Index {
        let mut index = Index::new(INDEX_CACHE_BYTES).without(without);
        let wanted = self.0.iter().filter(|(base, _)| origin.is_none_or(|origin| base.origin == origin));
        wanted.for_each(|(_, segment)| index.push(Arc::clone(segment)));
        index
    }

    /// Chunks that they name, copies counted each.
    pub fn chunks(&self) -> u64 {
        self.0.iter().map(|(_, segment)| segment.records(Section::Data)).sum()
    }
}

/// How much of a pack something needs.
#[derive(Clone, Copy, Debug)]
pub struct PackUse {
    /// What it holds.
    pub kind: PackKind,
    /// Its size in bytes.
    pub size: u64,
    /// Whose frames.
    pub origin: SignerId,
    /// Bytes of all its frames.
    pub frame_bytes: u64,
    /// Frames that something needs.
    pub live_frames: u64,
    /// Bytes of those.
    pub live_bytes: u64,
}

impl PackUse {
    /// Bytes of frames that nothing needs.
    pub const fn dead_bytes(&self) -> u64 {
        self.frame_bytes.saturating_sub(self.live_bytes)
    }
}

/// Reads every index segment and counts.
pub async fn survey(segments: &Segments, mark: &Mark, ctx: &Context) -> Result<HashMap<PackId, PackUse>> {
    let mut packs: HashMap<PackId, PackUse> = HashMap::new();
    for (base, segment) in &segments.0 {
        ctx.check()?;
        for pack in segment.packs() {
            let (kind, size, origin) = (pack.kind(), pack.size(), base.origin);
            let nothing = PackUse { kind, size, origin, frame_bytes: 0, live_frames: 0, live_bytes: 0 };
            packs.entry(pack.id()).or_insert(nothing);
        }
        for section in Section::ALL {
            let count = |id: &[u8; 32], at: Location| {
                if let Some(pack) = packs.get_mut(&at.pack) {
                    pack.frame_bytes += u64::from(at.stored);
                    if mark.needs(section, id) {
                        pack.live_frames += 1;
                        pack.live_bytes += u64::from(at.stored);
                    }
                }
                Ok(())
            };
            segment.scan(section, count).await?;
        }
    }
    Ok(packs)
}
