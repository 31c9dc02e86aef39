//! The sealed footer: what a segment holds, and all that stays in memory of it.

use std::{fmt, ops::Range};

use backstay_core::Result;

use super::{
    MAX_OVERHEAD, MAX_PACKS, MAX_RECORDS, PackId, PackKind, RECORDS_PER_PAGE, Section,
    cursor::Cursor,
    damaged,
    filter::Filter,
    page::{RECORD, prefix},
    tree::{self, Hash},
};

/// Largest pack size that an entry holds; frames start below 4 GiB anyway.
const MAX_PACK_SIZE: u64 = (1 << 56) - 1;

/// A pack that a segment names. 40 bytes, of which there are a thousand in a large segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PackEntry {
    id: PackId,
    /// The size, and the kind in the lowest byte.
    size_and_kind: u64,
}

impl PackEntry {
    /// `None` when the size is 2⁵⁶ or more.
    pub(super) fn new(id: PackId, size: u64, kind: PackKind) -> Option<Self> {
        (size <= MAX_PACK_SIZE).then_some(Self { id, size_and_kind: size << 8 | kind as u64 })
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> PackId {
        self.id
    }

    /// Size of the pack object in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size_and_kind >> 8
    }

    /// What it holds.
    #[must_use]
    pub const fn kind(&self) -> PackKind {
        if self.size_and_kind as u8 == PackKind::Meta as u8 { PackKind::Meta } else { PackKind::Data }
    }
}

impl fmt::Debug for PackEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("PackEntry");
        f.field("id", &self.id).field("size", &self.size()).field("kind", &self.kind()).finish()
    }
}

/// The pages of a section. They follow one another without gaps, all but the last equally long.
#[derive(Default)]
pub(super) struct Pages {
    pub records: u32,
    /// Sealed bytes of every page but the last; of the only one, too.
    pub full: u32,
    /// Sealed bytes of the last page.
    pub last: u32,
    /// Prefix of the first id of each page.
    pub prefixes: Box<[u32]>,
    pub filter: Option<Filter>,
}

impl Pages {
    pub fn count(&self) -> usize {
        pages_of(self.records)
    }

    /// Records of a page.
    pub fn records_of(&self, page: u32) -> usize {
        (self.records as usize).saturating_sub(page as usize * RECORDS_PER_PAGE).min(RECORDS_PER_PAGE)
    }

    /// Sealed bytes of a page.
    pub fn sealed(&self, page: u32) -> u32 {
        if page as usize + 1 == self.count() { self.last } else { self.full }
    }

    /// The pages that can hold an id: one, except when ids share their first four bytes with the first of a page.
    pub fn candidates(&self, id: &[u8; 32]) -> Range<u32> {
        let wanted = prefix(id);
        let start = self.prefixes.partition_point(|first| *first < wanted).saturating_sub(1);
        let end = self.prefixes.partition_point(|first| *first <= wanted);
        start as u32..end as u32
    }

    fn decode_head(cursor: &mut Cursor<'_>) -> Result<(Self, u32)> {
        let (records, full, last) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let pages = Self { records, full, last, ..Self::default() };
        if records as usize > MAX_RECORDS {
            return Err(damaged("An index segment claims more records than one may have"));
        }
        let count = pages.count() as u32;
        let longest = |page: u32| pages.records_of(page) * RECORD;
        let sound = match count {
            0 => full == 0 && last == 0,
            1 => full == last && plausible(last, longest(0)),
            _ => plausible(full, longest(0)) && plausible(last, longest(count - 1)),
        };
        if !sound {
            return Err(damaged("The pages of an index segment have impossible lengths"));
        }
        Ok((pages, cursor.u32()?))
    }
}

fn plausible(sealed: u32, plain: usize) -> bool {
    (plain..=plain + MAX_OVERHEAD).contains(&(sealed as usize))
}

pub(super) fn pages_of(records: u32) -> usize {
    (records as usize).div_ceil(RECORDS_PER_PAGE)
}

/// A footer, as built or as decoded.
pub(super) struct Footer {
    /// In the order of [`Section::ALL`].
    pub pages: [Pages; 2],
    pub packs: Box<[PackEntry]>,
    pub root: Hash,
}

impl Footer {
    const PACK: usize = 41;

    pub fn of(&self, section: Section) -> &Pages {
        &self.pages[section.slot()]
    }

    /// Bytes of the path that follows every page.
    pub fn path_bytes(&self) -> usize {
        32 * tree::depth(self.pages[0].count() + self.pages[1].count())
    }

    /// Number of a page through both sections.
    pub fn number(&self, section: Section, page: u32) -> u32 {
        match section {
            Section::Meta => page,
            Section::Data => self.pages[0].count() as u32 + page,
        }
    }

    /// Where pages `range` of a section lie in the object, paths included.
    pub fn bytes_of(&self, section: Section, range: Range<u32>) -> Range<u64> {
        let start = match section {
            Section::Meta => 0,
            Section::Data => self.section_bytes(&self.pages[0]),
        };
        let pages = self.of(section);
        let step = u64::from(pages.full) + self.path_bytes() as u64;
        let all = start + self.section_bytes(pages);
        let end = if range.end as usize >= pages.count() { all } else { start + step * u64::from(range.end) };
        start + step * u64::from(range.start)..end
    }

    /// Bytes of all pages: where the footer begins.
    pub fn pages_end(&self) -> u64 {
        self.section_bytes(&self.pages[0]) + self.section_bytes(&self.pages[1])
    }

    fn section_bytes(&self, pages: &Pages) -> u64 {
        let count = pages.count() as u64;
        let sealed = u64::from(pages.full) * count.saturating_sub(1) + u64::from(pages.last);
        sealed + count * self.path_bytes() as u64
    }

    pub fn memory_bytes(&self) -> usize {
        let pages = |pages: &Pages| size_of_val(&*pages.prefixes) + pages.filter.as_ref().map_or(0, Filter::len);
        self.pages.iter().map(pages).sum::<usize>() + size_of_val(&*self.packs)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for pages in &self.pages {
            let filter = pages.filter.as_ref().map_or(0, Filter::len) as u32;
            for field in [pages.records, pages.full, pages.last, filter] {
                out.extend(field.to_le_bytes());
            }
        }
        out.extend((self.packs.len() as u64).to_le_bytes());
        out.extend(self.root);
        for pages in &self.pages {
            if let Some(filter) = &pages.filter {
                filter.encode(&mut out);
            }
            out.extend(pages.prefixes.iter().flat_map(|prefix| prefix.to_be_bytes()));
        }
        for pack in &self.packs {
            out.extend(pack.id().as_bytes());
            out.extend(pack.size().to_le_bytes());
            out.push(pack.kind() as u8);
        }
        out
    }

    /// Accepts exactly what [`Self::encode`] can give; allocates no more than the bytes that are there.
    pub fn decode(plain: &[u8]) -> Result<Self> {
        let mut cursor = Cursor(plain);
        let (mut meta, meta_filter) = Pages::decode_head(&mut cursor)?;
        let (mut data, data_filter) = Pages::decode_head(&mut cursor)?;
        let packs = cursor.u64()?;
        let records = meta.records as usize + data.records as usize;
        if records > MAX_RECORDS || packs > MAX_PACKS as u64 {
            return Err(damaged("An index segment claims more than one may hold"));
        }
        let root = cursor.array()?;
        for (pages, filter) in [(&mut meta, meta_filter), (&mut data, data_filter)] {
            if filter > 0 {
                pages.filter = Some(Filter::decode(&mut cursor, filter)?);
            }
            pages.prefixes = decode_prefixes(cursor.bytes(pages.count() * 4)?)?;
        }
        let packs = decode_packs(cursor.bytes(packs as usize * Self::PACK)?)?;
        cursor.end()?;
        Ok(Self { pages: [meta, data], packs, root })
    }
}

fn decode_prefixes(bytes: &[u8]) -> Result<Box<[u32]>> {
    let prefixes: Box<[u32]> = bytes.as_chunks().0.iter().map(|prefix| u32::from_be_bytes(*prefix)).collect();
    if prefixes.is_sorted() { Ok(prefixes) } else { Err(damaged("The pages of an index segment are not in order")) }
}

fn decode_packs(bytes: &[u8]) -> Result<Box<[PackEntry]>> {
    let decode = |entry: &[u8]| {
        let mut cursor = Cursor(entry);
        let (id, size) = (PackId(cursor.array()?), cursor.u64()?);
        let kind = match cursor.u8()? {
            1 => PackKind::Data,
            2 => PackKind::Meta,
            _ => return Err(damaged("An index segment names a pack of unknown kind")),
        };
        PackEntry::new(id, size, kind).ok_or_else(|| damaged("An index segment names a pack of impossible size"))
    };
    bytes.chunks_exact(Footer::PACK).map(decode).collect()
}
