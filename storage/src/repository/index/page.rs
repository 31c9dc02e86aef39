//! Records, and pages of them.

use std::{cmp::Ordering, ops::Range};

use backstay_core::Result;

use super::{Location, damaged, footer::PackEntry};

/// Bytes of a record: id 32, pack number, offset, stored bytes, plain bytes (each u32, little-endian).
pub(super) const RECORD: usize = 48;

/// Where one thing lies. Sorted by id first, then by pack and offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Record {
    pub id: [u8; 32],
    pub pack: u32,
    pub offset: u32,
    pub stored: u32,
    pub plain: u32,
}

impl Record {
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.id);
        for field in [self.pack, self.offset, self.stored, self.plain] {
            out.extend(field.to_le_bytes());
        }
    }

    fn decode(bytes: &[u8; RECORD]) -> Self {
        let mut id = [0; 32];
        id.copy_from_slice(&bytes[..32]);
        let field = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self { id, pack: field(32), offset: field(36), stored: field(40), plain: field(44) }
    }

    /// Whether its pack is known and holds all of its frame.
    pub fn fits(&self, packs: &[PackEntry]) -> bool {
        let end = u64::from(self.offset) + u64::from(self.stored);
        packs.get(self.pack as usize).is_some_and(|pack| end <= pack.size())
    }
}

/// First four bytes of an id, in the order of ids.
pub(super) fn prefix(id: &[u8; 32]) -> u32 {
    let [a, b, c, d, ..] = *id;
    u32::from_be_bytes([a, b, c, d])
}

/// Where an id is, seen from one page.
pub(super) enum Place {
    /// Before the first record of the page.
    Before,
    /// These records of the page; others can be in the pages beside it when the range touches an end.
    Here(Range<usize>),
    /// Between two records of the page: nowhere.
    Absent,
    /// After the last record of the page.
    After,
}

/// A page that was opened and checked.
#[derive(Clone, Copy)]
pub(super) struct Page<'a>(&'a [[u8; RECORD]]);

impl<'a> Page<'a> {
    pub fn new(plain: &'a [u8]) -> Self {
        Self(plain.as_chunks().0)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The id of a record; of an empty page's there is none to ask for.
    pub fn id(&self, position: usize) -> &'a [u8; 32] {
        const NONE: &[u8; 32] = &[0; 32];
        // A record is longer than an id.
        self.0[position].first_chunk().unwrap_or(NONE)
    }

    pub fn place(&self, id: &[u8; 32]) -> Place {
        let (Some(first), Some(last)) = (self.0.first(), self.0.last()) else { return Place::Absent };
        if id[..] < first[..32] {
            return Place::Before;
        }
        if id[..] > last[..32] {
            return Place::After;
        }
        let start = self.0.partition_point(|record| record[..32] < id[..]);
        let copies = self.0[start..].iter().take_while(|record| record[..32] == id[..]).count();
        if copies == 0 { Place::Absent } else { Place::Here(start..start + copies) }
    }

    /// Of a record in range; `Integrity` when its pack is unknown, which [`check`] has ruled out.
    pub fn location(&self, position: usize, packs: &[PackEntry]) -> Result<Location> {
        let record = self.0.get(position).map(Record::decode);
        let found = record.and_then(|record| Some((record, packs.get(record.pack as usize)?)));
        let (record, pack) = found.ok_or_else(unknown_pack)?;
        let Record { offset, stored, plain, .. } = record;
        Ok(Location { pack: pack.id(), pack_bytes: pack.size(), offset, stored, plain })
    }
}

/// What the footer says about a page.
pub(super) struct Expected<'a> {
    pub records: usize,
    /// Prefix of its first id.
    pub first: u32,
    /// Prefix of the first id of the page after it.
    pub next: Option<u32>,
    pub packs: &'a [PackEntry],
}

/// Fails unless the page is what its footer says, in order, and every record lies within its pack.
pub(super) fn check(plain: &[u8], expected: &Expected<'_>) -> Result<()> {
    let (records, rest) = plain.as_chunks();
    if !rest.is_empty() || records.len() != expected.records {
        return Err(damaged("A page of an index segment has another length than its footer says"));
    }
    let mut before: Option<Record> = None;
    for record in records.iter().map(Record::decode) {
        if !record.fits(expected.packs) {
            return Err(unknown_pack());
        }
        let in_order = match before {
            None => prefix(&record.id) == expected.first,
            Some(before) => before.cmp(&record) != Ordering::Greater,
        };
        if !in_order {
            return Err(damaged("A page of an index segment is not in order"));
        }
        before = Some(record);
    }
    let overlap = before.zip(expected.next).is_some_and(|(last, next)| prefix(&last.id) > next);
    if overlap { Err(damaged("Two pages of an index segment overlap")) } else { Ok(()) }
}

fn unknown_pack() -> backstay_core::Error {
    damaged("A record of an index segment lies outside of the packs that it names")
}
