//! Builds segments.

use std::{fmt, sync::Arc};

use backstay_core::{Error, Result};
use bytes::Bytes;

use super::{
    MAX_OVERHEAD, MAX_PACKS, MAX_RECORDS, PackEntry, PackId, PackKind, PageCipher, Part, RECORDS_PER_PAGE, Section,
    SegmentId, Trailer,
    filter::Filter,
    footer::{Footer, Pages, pages_of},
    page::{RECORD, Record, prefix},
    tree::{self, Hash, Tree},
};

/// A segment, ready to be stored.
#[derive(Clone)]
pub struct SealedSegment {
    /// Its id, which follows from the bytes.
    pub id: SegmentId,
    /// The object.
    pub bytes: Bytes,
}

impl fmt::Debug for SealedSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedSegment").field("id", &self.id).field("bytes", &self.bytes.len()).finish()
    }
}

/// Collects records, then sorts and seals them.
///
/// Takes 48 bytes a record while it collects and about 100 while it seals: finish at [`MAX_RECORDS`] to stay near 100 MiB.
#[derive(Default)]
pub struct SegmentBuilder {
    packs: Vec<PackEntry>,
    records: [Vec<Record>; 2],
    error: Option<Error>,
}

impl fmt::Debug for SegmentBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentBuilder").field("packs", &self.packs.len()).field("records", &self.len()).finish()
    }
}

impl SegmentBuilder {
    /// Without packs and records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pack and gives its number. Packs added one after the other stay together when several segments are made.
    pub fn add_pack(&mut self, id: PackId, size: u64, kind: PackKind) -> u32 {
        match PackEntry::new(id, size, kind) {
            Some(entry) => self.packs.push(entry),
            None => self.refuse("A pack is too large for an index segment"),
        }
        self.packs.len().saturating_sub(1) as u32
    }

    /// Adds a record. An id may come more than once: every copy is kept. What is wrong with it, [`Self::finish`] says.
    pub fn add(&mut self, section: Section, id: [u8; 32], pack: u32, offset: u32, stored: u32, plain: u32) {
        let record = Record { id, pack, offset, stored, plain };
        if record.fits(&self.packs) {
            self.records[section.slot()].push(record);
        } else {
            self.refuse("An index record lies outside of its pack");
        }
    }

    /// Records so far, both sections.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.iter().map(Vec::len).sum()
    }

    /// Whether there are no records yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sorts and seals: one segment, or several of at most [`MAX_RECORDS`] records and [`MAX_PACKS`] packs, oldest first;
    /// none when nothing was added. All records of a pack come into the same segment: cut by id instead, each segment of a
    /// large repository would name every pack, and these names would take more memory than the filters.
    ///
    /// `new_cipher` gives each segment a random salt and the cipher made with it. `InvalidInput` for a record outside of its
    /// pack and for a pack with more records than a segment may have.
    pub fn finish(
        mut self,
        epoch: u32,
        new_cipher: &mut dyn FnMut() -> Result<([u8; 16], Arc<dyn PageCipher>)>,
    ) -> Result<Vec<SealedSegment>> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let starts = self.split()?;
        let mut sealed = Vec::with_capacity(starts.len());
        for start in starts.into_iter().rev() {
            let (salt, cipher) = new_cipher()?;
            sealed.push(self.split_off(start).seal(epoch, salt, &*cipher)?);
        }
        sealed.reverse();
        Ok(sealed)
    }

    fn refuse(&mut self, why: &'static str) {
        self.error.get_or_insert_with(|| Error::invalid_input(why));
    }

    /// The number of the first pack of every segment.
    fn split(&mut self) -> Result<Vec<usize>> {
        if self.packs.is_empty() {
            return Ok(Vec::new());
        }
        if self.len() <= MAX_RECORDS && self.packs.len() <= MAX_PACKS {
            return Ok(vec![0]);
        }
        let mut counts = vec![0_usize; self.packs.len()];
        for records in &mut self.records {
            records.sort_unstable_by_key(|record| record.pack);
            records.iter().for_each(|record| counts[record.pack as usize] += 1);
        }
        if counts.iter().any(|count| *count > MAX_RECORDS) {
            return Err(Error::invalid_input("A pack has more records than an index segment may hold"));
        }
        let mut starts = vec![0];
        let (mut first, mut records) = (0, 0);
        for (pack, count) in counts.into_iter().enumerate() {
            if records + count > MAX_RECORDS || pack - first == MAX_PACKS {
                starts.push(pack);
                (first, records) = (pack, 0);
            }
            records += count;
        }
        Ok(starts)
    }

    /// Takes the packs from `start` on, and their records.
    fn split_off(&mut self, start: usize) -> Self {
        if start == 0 {
            return std::mem::take(self);
        }
        let first = start as u32;
        let records = self.records.each_mut().map(|records| {
            let mut taken = records.split_off(records.partition_point(|record| record.pack < first));
            taken.iter_mut().for_each(|record| record.pack -= first);
            taken
        });
        Self { packs: self.packs.split_off(start), records, error: None }
    }

    fn seal(mut self, epoch: u32, salt: [u8; 16], cipher: &dyn PageCipher) -> Result<SealedSegment> {
        let mut footer = Footer { pages: Default::default(), packs: self.packs.into(), root: [0; 32] };
        for (pages, records) in footer.pages.iter_mut().zip(&mut self.records) {
            records.sort_unstable();
            pages.records = records.len() as u32;
            pages.filter = Filter::build(records.iter().map(|record| &record.id));
            pages.prefixes = records.chunks(RECORDS_PER_PAGE).map(|page| prefix(&page[0].id)).collect();
        }
        let path = footer.path_bytes();
        let count = footer.pages.iter().map(Pages::count).sum::<usize>();
        let footer_bytes = footer.memory_bytes() + footer.packs.len() + 2 * MAX_OVERHEAD;
        let records = self.records.iter().map(Vec::len).sum::<usize>();
        let mut out = Vec::with_capacity(records * RECORD + count * (path + 64) + footer_bytes);
        let mut leaves = Vec::with_capacity(count);
        for (pages, records) in footer.pages.iter_mut().zip(self.records) {
            seal_pages(cipher, pages, &records, path, &mut leaves, &mut out)?;
        }
        let tree = Tree::new(leaves);
        footer.root = tree.root();
        fill_paths(&footer, &tree, &mut out);
        let start = out.len() as u64;
        out.extend(cipher.seal(Part::Footer, &footer.encode())?);
        let trailer = Trailer::new(epoch, salt, start..out.len() as u64).encode()?;
        out.extend(trailer);
        let id = SegmentId(*blake3::hash(&out[start as usize..]).as_bytes());
        Ok(SealedSegment { id, bytes: out.into() })
    }
}

/// Appends the pages of a section, with room for their paths, and notes their lengths.
fn seal_pages(
    cipher: &dyn PageCipher,
    pages: &mut Pages,
    records: &[Record],
    path: usize,
    leaves: &mut Vec<Hash>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let mut plain = Vec::with_capacity(RECORDS_PER_PAGE * RECORD);
    for (page, records) in records.chunks(RECORDS_PER_PAGE).enumerate() {
        plain.clear();
        records.iter().for_each(|record| record.encode(&mut plain));
        let sealed = cipher.seal(Part::Page(leaves.len() as u32), &plain)?;
        let length = sealed.len() as u32;
        let last = page + 1 == pages_of(pages.records);
        if page == 0 {
            pages.full = length;
        }
        if last {
            pages.last = length;
        }
        let uniform = last || length == pages.full;
        if !uniform || !(plain.len()..=plain.len() + MAX_OVERHEAD).contains(&sealed.len()) {
            return Err(Error::internal("The cipher of an index segment seals to lengths that no reader expects"));
        }
        leaves.push(*blake3::hash(&sealed).as_bytes());
        out.extend(sealed);
        out.resize(out.len() + path, 0);
    }
    Ok(())
}

/// Writes the path of every page into the room behind it.
fn fill_paths(footer: &Footer, tree: &Tree, out: &mut [u8]) {
    debug_assert_eq!(footer.path_bytes() / 32, tree::depth(footer.pages.iter().map(Pages::count).sum()));
    for section in Section::ALL {
        for page in 0..footer.of(section).count() as u32 {
            let mut end = footer.bytes_of(section, page..page + 1).end as usize - footer.path_bytes();
            for hash in tree.path(footer.number(section, page) as usize) {
                out[end..end + 32].copy_from_slice(hash);
                end += 32;
            }
        }
    }
}
