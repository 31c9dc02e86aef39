//! All segments of a repository, looked up newest first.

use std::{
    collections::HashSet,
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use backstay_core::Result;
use bytes::Bytes;

use super::{
    Location, PackId, Section, Segment, SegmentId,
    cache::Cache,
    page::{Page, Place},
};

mod many;

/// All segments of a repository, with one cache of opened pages.
///
/// Look-ups take `&self` and may run at once; a page that two of them want at the same time may be read twice.
pub struct Index {
    segments: Vec<Attached>,
    next: u32,
    /// Packs in which nothing is found.
    without: HashSet<PackId>,
    cache: Cache,
    counters: Counters,
}

/// A segment and its number, which no other segment of this index ever has.
struct Attached {
    number: u32,
    segment: Arc<Segment>,
}

#[derive(Default)]
struct Counters {
    opened: AtomicU64,
    cached: AtomicU64,
    reads: AtomicU64,
    bytes: AtomicU64,
}

/// What an [`Index`] holds and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexStats {
    /// Segments.
    pub segments: usize,
    /// Records of all segments, both sections.
    pub records: u64,
    /// Bytes that the segments keep in memory.
    pub memory_bytes: usize,
    /// Bytes of pages in the cache now.
    pub cache_bytes: usize,
    /// Pages read and opened so far.
    pub pages_opened: u64,
    /// Pages that were in the cache when wanted.
    pub pages_cached: u64,
    /// Reads of segment objects.
    pub reads: u64,
    /// Bytes of these reads.
    pub bytes_read: u64,
}

/// Records of one id in one page.
struct Found {
    page: u32,
    records: Range<usize>,
    plain: Arc<[u8]>,
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Index {
    /// Without segments; keeps at most so many bytes of opened pages.
    #[must_use]
    pub fn new(cache_bytes: usize) -> Self {
        Self {
            segments: Vec::new(),
            next: 0,
            without: HashSet::new(),
            cache: Cache::new(cache_bytes),
            counters: Counters::default(),
        }
    }

    /// Finds nothing in these packs, although segments name them: they are gone, or may not be used.
    #[must_use]
    pub fn without(mut self, packs: HashSet<PackId>) -> Self {
        self.without = packs;
        self
    }

    /// Another index over the same segments, with a cache of its own, that finds nothing in these packs.
    #[must_use]
    pub fn also_without(&self, packs: HashSet<PackId>) -> Self {
        let mut other = Self::new(self.cache.limit()).without(packs);
        self.segments().for_each(|segment| other.push(Arc::clone(segment)));
        other
    }

    /// Adds a segment as the newest; one that is there already stays where it is.
    pub fn push(&mut self, segment: Arc<Segment>) {
        if self.segments().all(|known| known.id() != segment.id()) {
            self.segments.push(Attached { number: self.next, segment });
            self.next += 1;
        }
    }

    /// Drops every segment for which `keep` says `false`, as after a merge.
    pub fn retain(&mut self, mut keep: impl FnMut(SegmentId) -> bool) {
        let cache = &self.cache;
        self.segments.retain(|attached| {
            let keep = keep(attached.segment.id());
            if !keep {
                cache.forget(attached.number);
            }
            keep
        });
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.segments.iter().map(|attached| &attached.segment)
    }

    /// One copy: from the newest segment that has any.
    pub async fn find(&self, section: Section, id: &[u8; 32]) -> Result<Option<Location>> {
        if !self.without.is_empty() {
            return Ok(self.find_all(section, id).await?.first().copied());
        }
        for attached in self.newest_first(section, id) {
            if let Some(found) = self.find_in(attached, section, id).await? {
                let packs = attached.segment.packs();
                return Page::new(&found.plain).location(found.records.start, packs).map(Some);
            }
        }
        Ok(None)
    }

    /// Every copy, those of the newest segment first.
    pub async fn find_all(&self, section: Section, id: &[u8; 32]) -> Result<Vec<Location>> {
        let mut copies = Vec::new();
        for attached in self.newest_first(section, id) {
            let Some(found) = self.find_in(attached, section, id).await? else { continue };
            let whole = Page::new(&found.plain).len();
            let (touches_start, touches_end) = (found.records.start == 0, found.records.end == whole);
            let page = found.page;
            copies_in(attached, found, &mut copies)?;
            if touches_start {
                self.extend(attached, section, id, (0..page).rev(), &mut copies).await?;
            }
            if touches_end {
                let rest = page + 1..attached.segment.page_count(section);
                self.extend(attached, section, id, rest, &mut copies).await?;
            }
        }
        copies.retain(|copy| !self.without.contains(&copy.pack));
        Ok(copies)
    }

    /// Counts since the index was made, and what it holds now.
    #[must_use]
    pub fn stats(&self) -> IndexStats {
        let records = |segment: &Arc<Segment>| segment.records(Section::Meta) + segment.records(Section::Data);
        IndexStats {
            segments: self.segments.len(),
            records: self.segments().map(records).sum(),
            memory_bytes: self.segments().map(|segment| segment.memory_bytes()).sum(),
            cache_bytes: self.cache.bytes(),
            pages_opened: self.counters.opened.load(Relaxed),
            pages_cached: self.counters.cached.load(Relaxed),
            reads: self.counters.reads.load(Relaxed),
            bytes_read: self.counters.bytes.load(Relaxed),
        }
    }

    fn newest_first<'a>(&'a self, section: Section, id: &'a [u8; 32]) -> impl Iterator<Item = &'a Attached> + 'a {
        self.segments.iter().rev().filter(move |attached| attached.segment.may_hold(section, id))
    }

    /// Halves the candidate pages, of which there is one, until a page knows. Two come up when the id begins like the
    /// first of a page; then it most likely is that first one, so the upper is opened first.
    async fn find_in(&self, attached: &Attached, section: Section, id: &[u8; 32]) -> Result<Option<Found>> {
        let mut pages = attached.segment.candidates(section, id);
        while !pages.is_empty() {
            let page = middle(&pages);
            let plain = self.page(attached, section, page).await?;
            match Page::new(&plain).place(id) {
                Place::Before => pages.end = page,
                Place::After => pages.start = page + 1,
                Place::Absent => return Ok(None),
                Place::Here(records) => return Ok(Some(Found { page, records, plain })),
            }
        }
        Ok(None)
    }

    /// Adds the copies in neighbouring pages, up to the first page without any.
    async fn extend(
        &self,
        attached: &Attached,
        section: Section,
        id: &[u8; 32],
        pages: impl Iterator<Item = u32>,
        copies: &mut Vec<Location>,
    ) -> Result<()> {
        let candidates = attached.segment.candidates(section, id);
        for page in pages.take_while(|page| candidates.contains(page)) {
            let plain = self.page(attached, section, page).await?;
            let Place::Here(records) = Page::new(&plain).place(id) else { break };
            copies_in(attached, Found { page, records, plain }, copies)?;
        }
        Ok(())
    }

    async fn page(&self, attached: &Attached, section: Section, page: u32) -> Result<Arc<[u8]>> {
        if let Some(plain) = self.cached(attached, section, page) {
            return Ok(plain);
        }
        let read = self.read(attached, section, page..page + 1).await?;
        self.open(attached, section, page, &read)
    }

    fn cached(&self, attached: &Attached, section: Section, page: u32) -> Option<Arc<[u8]>> {
        let plain = self.cache.get((attached.number, attached.segment.number(section, page)))?;
        self.counters.cached.fetch_add(1, Relaxed);
        Some(plain)
    }

    async fn read(&self, attached: &Attached, section: Section, pages: Range<u32>) -> Result<Bytes> {
        let range = attached.segment.bytes_of(section, pages);
        self.counters.reads.fetch_add(1, Relaxed);
        self.counters.bytes.fetch_add(range.end - range.start, Relaxed);
        attached.segment.read(range).await
    }

    fn open(&self, attached: &Attached, section: Section, page: u32, read: &[u8]) -> Result<Arc<[u8]>> {
        let plain = attached.segment.open_page(section, page, read)?;
        self.counters.opened.fetch_add(1, Relaxed);
        self.cache.put((attached.number, attached.segment.number(section, page)), &plain);
        Ok(plain)
    }
}

fn middle(pages: &Range<u32>) -> u32 {
    pages.start + (pages.end - pages.start) / 2
}

fn copies_in(attached: &Attached, found: Found, copies: &mut Vec<Location>) -> Result<()> {
    let page = Page::new(&found.plain);
    for position in found.records {
        copies.push(page.location(position, attached.segment.packs())?);
    }
    Ok(())
}
