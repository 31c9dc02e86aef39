//! Checking a segment without any key: footer and trailer against the id, pages against one another.
//!
//! The root of the page tree stands in the sealed footer. But every page brings its path to that root along, so that pages which are
//! whole agree on it, and one that is damaged does not. Where pages end the footer says too; here it follows from the lengths.

use backstay_core::Result;

use super::{MAX_RECORDS, RECORDS_PER_PAGE, SegmentId, Trailer, damaged, page::RECORD, tree};

/// What sealing adds to a page.
const SEAL: usize = 40;

/// What was seen of a segment without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Every byte was checked.
    Whole,
    /// Its only page has no other to agree with: of this one only the length was checked.
    OnePage,
}

/// Checks a segment object.
pub fn verify_without_key(id: SegmentId, object: &[u8]) -> Result<Seen> {
    let split = object.split_last_chunk::<{ Trailer::SIZE }>();
    let (before, last) = split.ok_or_else(|| damaged("An object is too short to be an index segment"))?;
    let trailer = Trailer::parse(last)?;
    if trailer.footer.end != before.len() as u64 {
        return Err(damaged("An index segment has another length than its trailer says"));
    }
    let (pages, footer) = before.split_at(trailer.footer.start as usize);
    let mut hasher = blake3::Hasher::new();
    if *hasher.update(footer).update(last).finalize().as_bytes() != id.0 {
        return Err(damaged("An index segment is damaged: its footer does not hash to its id"));
    }
    trailer.check()?;
    verify_pages(pages)
}

fn verify_pages(bytes: &[u8]) -> Result<Seen> {
    if bytes.is_empty() {
        return Ok(Seen::Whole);
    }
    for depth in 0..=tree::depth(2 * MAX_RECORDS.div_ceil(RECORDS_PER_PAGE)) {
        for layout in Layout::candidates(bytes.len(), depth) {
            if layout.pages == 1 {
                return Ok(Seen::OnePage);
            }
            if layout.agree(bytes) {
                return Ok(Seen::Whole);
            }
        }
    }
    Err(damaged("An index segment is damaged: its pages do not agree on the root of their tree"))
}

/// How many pages there can be, and how long their paths.
#[derive(Clone, Copy)]
struct Layout {
    pages: usize,
    records: usize,
    path: usize,
}

const fn sealed(records: usize) -> usize {
    records * RECORD + SEAL
}

impl Layout {
    fn candidates(len: usize, depth: usize) -> impl Iterator<Item = Self> {
        let path = 32 * depth;
        let least = len / (sealed(RECORDS_PER_PAGE) + path);
        (least.max(1)..=least + 2).filter_map(move |pages| {
            let body = len.checked_sub(pages * (SEAL + path))?;
            let records = body / RECORD;
            let fits = body % RECORD == 0 && tree::depth(pages) == depth;
            // Two sections, each with one page that may not be full.
            let enough = records >= pages && records > pages.saturating_sub(2) * RECORDS_PER_PAGE;
            (fits && enough && records <= pages * RECORDS_PER_PAGE).then_some(Self { pages, records, path })
        })
    }

    /// The root that a page leads to, and where the next one begins; `None` past the end.
    fn root(&self, bytes: &[u8], at: usize, page: usize, records: usize) -> Option<([u8; 32], usize)> {
        let path_at = at + sealed(records);
        let end = path_at + self.path;
        let (sealed, path) = (bytes.get(at..path_at)?, bytes.get(path_at..end)?);
        Some((tree::root_of(page as u32, sealed, path), end))
    }

    fn agree(&self, bytes: &[u8]) -> bool {
        // The first page is full, or all there is of its section.
        if self.agree_from(bytes, RECORDS_PER_PAGE) {
            return true;
        }
        (1..RECORDS_PER_PAGE).any(|records| self.agree_from(bytes, records))
    }

    fn agree_from(&self, bytes: &[u8], first: usize) -> bool {
        let Some((root, mut at)) = self.root(bytes, 0, 0, first) else { return false };
        let mut left = self.records - first.min(self.records);
        let mut short = first < RECORDS_PER_PAGE;
        for page in 1..self.pages {
            let rest = self.pages - page - 1;
            let fits = |records: &usize| {
                // What is left must fill the pages that are left.
                let after = left.checked_sub(*records);
                after.is_some_and(|after| after >= rest && after <= rest * RECORDS_PER_PAGE)
            };
            let full = Some(RECORDS_PER_PAGE).filter(|_| rest > 0);
            let last = Some(left).filter(|_| rest == 0);
            let others = (1..RECORDS_PER_PAGE).filter(|_| rest > 0 && !short);
            let leads = |records: usize| self.root(bytes, at, page, records).filter(|(other, _)| *other == root);
            let found = full
                .into_iter()
                .chain(last)
                .chain(others)
                .filter(fits)
                .find_map(|records| Some((records, leads(records)?)));
            let Some((records, (_, end))) = found else { return false };
            short |= records < RECORDS_PER_PAGE;
            left -= records;
            at = end;
        }
        left == 0 && at == bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::repository::index::{
        PackId, PackKind, PageCipher, Part, SealedSegment, Section, SegmentBuilder,
        tests::kit::{TestCipher, id},
    };

    /// Adds as many bytes as the real one.
    struct Padded(TestCipher);

    impl PageCipher for Padded {
        fn seal(&self, what: Part, plain: &[u8]) -> Result<Vec<u8>> {
            Ok([vec![0; 8], self.0.seal(what, plain)?].concat())
        }

        fn open(&self, what: Part, sealed: &[u8]) -> Result<Vec<u8>> {
            self.0.open(what, &sealed[8..])
        }
    }

    fn segment(nodes: u64, chunks: u64) -> SealedSegment {
        let mut builder = SegmentBuilder::new();
        let pack = builder.add_pack(PackId([1; 32]), 1 << 30, PackKind::Data);
        (0..nodes).for_each(|number| builder.add(Section::Meta, id(number), pack, 0, 100, 60));
        (0..chunks).for_each(|number| builder.add(Section::Data, id(number), pack, 0, 100, 60));
        let sealed = builder.finish(3, &mut || Ok(([9; 16], Arc::new(Padded(TestCipher::new([9; 16]))) as _)));
        sealed.unwrap().remove(0)
    }

    #[test]
    fn every_flipped_bit_of_a_segment_of_several_pages_shows_without_a_key() {
        for (nodes, chunks) in [(0, 700), (1, 1), (341, 1), (5, 1000), (400, 341), (682, 400), (2000, 3), (341, 341)] {
            let segment = segment(nodes, chunks);
            assert_eq!(verify_without_key(segment.id, &segment.bytes).unwrap(), Seen::Whole, "{nodes} and {chunks}");
            let step = (segment.bytes.len() / 40).max(1);
            for at in (0..segment.bytes.len()).step_by(step).chain([segment.bytes.len() - 1]) {
                let mut bytes = segment.bytes.to_vec();
                bytes[at] ^= 4;
                assert!(verify_without_key(segment.id, &bytes).is_err(), "{nodes} and {chunks}: byte {at}");
            }
            assert!(verify_without_key(segment.id, &segment.bytes[1..]).is_err());
        }
        let one = segment(0, 200);
        assert_eq!(verify_without_key(one.id, &one.bytes).unwrap(), Seen::OnePage);
    }
}
