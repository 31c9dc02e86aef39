//! What is lost of restore points: found by a repair, written down, healed by the next backup.

mod find;
mod log;

pub(super) use find::{Finder, LostParts};

use std::ops::Range;

use backstay_core::RangeSet;
use serde::Serialize;

use super::format::lost::{LostPart, LostRange};

/// Bytes of a disk or stream that cannot be read any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Lost {
    /// The disk's id, or the name of the stream or attachment.
    pub name: String,
    /// The ranges as `[offset, bytes]`, in rising order.
    pub ranges: Vec<(u64, u64)>,
}

impl From<&LostPart> for Lost {
    fn from(part: &LostPart) -> Self {
        Self { name: part.name.clone(), ranges: part.ranges.iter().map(|range| (range.offset, range.bytes)).collect() }
    }
}

impl LostPart {
    /// The ranges as a set; what lies past the end of all numbers is left out.
    pub(super) fn set(&self) -> RangeSet {
        self.ranges.iter().filter_map(LostRange::range).collect()
    }
}

impl LostRange {
    fn range(&self) -> Option<Range<u64>> {
        Some(self.offset..self.offset.checked_add(self.bytes)?)
    }
}

/// Ranges for people, the first few of them.
pub(super) fn describe(ranges: &RangeSet) -> String {
    const SHOWN: usize = 16;
    let mut text: Vec<_> =
        ranges.ranges().iter().take(SHOWN).map(|range| format!("{}..{}", range.start, range.end)).collect();
    if ranges.ranges().len() > SHOWN {
        text.push(format!("and {} more", ranges.ranges().len() - SHOWN));
    }
    text.join(", ")
}
