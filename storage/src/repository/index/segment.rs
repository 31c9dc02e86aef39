//! One segment, opened.

use std::{fmt, ops::Range, sync::Arc};

use backstay_core::Result;
use bytes::Bytes;

use super::{
    PackEntry, PageCipher, Part, Section, SegmentBytes, SegmentId, Trailer, damaged,
    footer::Footer,
    page::{self, Expected},
    read_exact, tree,
};

/// Bytes that opening reads from the end: the whole footer of a segment of up to some 40,000 records.
const TAIL: u64 = 64 << 10;

/// The footer of a full segment is a fortieth of it.
const FOOTER_SHARE: u64 = 32;

/// An open segment: in memory are its filters, four bytes a page and its packs.
pub struct Segment {
    id: SegmentId,
    epoch: u32,
    footer: Footer,
    bytes: Arc<dyn SegmentBytes>,
    cipher: Arc<dyn PageCipher>,
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("id", &self.id)
            .field("epoch", &self.epoch)
            .field("meta", &self.records(Section::Meta))
            .field("data", &self.records(Section::Data))
            .field("packs", &self.packs().len())
            .finish_non_exhaustive()
    }
}

impl Segment {
    /// Opens a segment with one read from its end, or two when the footer is longer than 64 KiB and a 32nd of the segment, as it is
    /// when the segment names very many packs.
    ///
    /// `make_cipher` is asked after the id was verified. `Integrity` when the object is not the one of that id,
    /// `Unsupported` when its version is not known.
    pub async fn open(
        id: SegmentId,
        bytes: Arc<dyn SegmentBytes>,
        make_cipher: &(dyn Fn(&Trailer) -> Result<Arc<dyn PageCipher>> + Sync),
    ) -> Result<Self> {
        let opened = Self::open_inner(id, bytes, make_cipher).await;
        opened.map_err(|error| error.with_context("segment", id))
    }

    async fn open_inner(
        id: SegmentId,
        bytes: Arc<dyn SegmentBytes>,
        make_cipher: &(dyn Fn(&Trailer) -> Result<Arc<dyn PageCipher>> + Sync),
    ) -> Result<Self> {
        let (trailer, sealed) = read_footer(id, &*bytes).await?;
        let cipher = make_cipher(&trailer)?;
        let footer = Footer::decode(&cipher.open(Part::Footer, &sealed)?)?;
        if footer.pages_end() != trailer.footer.start {
            return Err(damaged("The pages of an index segment do not end where its footer begins"));
        }
        Ok(Self { id, epoch: trailer.epoch, footer, bytes, cipher })
    }

    /// The same, with pages that come from here: for a segment that was opened from memory.
    #[must_use]
    pub fn reading(mut self, bytes: Arc<dyn SegmentBytes>) -> Self {
        self.bytes = bytes;
        self
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> SegmentId {
        self.id
    }

    /// The epoch of the structure key that seals it.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The packs that it names.
    #[must_use]
    pub fn packs(&self) -> &[PackEntry] {
        &self.footer.packs
    }

    /// Records of a section.
    #[must_use]
    pub fn records(&self, section: Section) -> u64 {
        u64::from(self.footer.of(section).records)
    }

    /// What stays in memory of it, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.footer.memory_bytes()
    }

    /// `false`: it has no such id. `true`: it has, or, once in 256 times, has not.
    #[must_use]
    pub fn may_hold(&self, section: Section, id: &[u8; 32]) -> bool {
        let pages = self.footer.of(section);
        pages.records > 0 && pages.filter.as_ref().is_none_or(|filter| filter.may_hold(id))
    }

    /// The pages of a section that can hold an id.
    pub(super) fn candidates(&self, section: Section, id: &[u8; 32]) -> Range<u32> {
        self.footer.of(section).candidates(id)
    }

    /// Number of a page through both sections.
    pub(super) fn number(&self, section: Section, page: u32) -> u32 {
        self.footer.number(section, page)
    }

    pub(super) fn page_count(&self, section: Section) -> u32 {
        self.footer.of(section).count() as u32
    }

    /// Bytes that reading these pages takes.
    pub(super) fn bytes_of(&self, section: Section, pages: Range<u32>) -> Range<u64> {
        self.footer.bytes_of(section, pages)
    }

    pub(super) async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        read_exact(&*self.bytes, range).await.map_err(|error| error.with_context("segment", self.id))
    }

    /// Opens a page that was read, checks all of it and gives its records.
    pub(super) fn open_page(&self, section: Section, page: u32, read: &[u8]) -> Result<Arc<[u8]>> {
        self.open_page_inner(section, page, read).map_err(|error| error.with_context("segment", self.id))
    }

    fn open_page_inner(&self, section: Section, page: u32, read: &[u8]) -> Result<Arc<[u8]>> {
        let pages = self.footer.of(section);
        let number = self.footer.number(section, page);
        let split = read.split_at_checked(pages.sealed(page) as usize);
        let (sealed, path) = split.ok_or_else(|| damaged("A page of an index segment is short"))?;
        tree::verify(&self.footer.root, number, sealed, path)?;
        let plain = self.cipher.open(Part::Page(number), sealed)?;
        let at = |page: u32| pages.prefixes.get(page as usize).copied();
        let expected = Expected {
            records: pages.records_of(page),
            first: at(page).unwrap_or_default(),
            next: at(page + 1),
            packs: &self.footer.packs,
        };
        page::check(&plain, &expected)?;
        Ok(plain.into())
    }
}

/// The trailer and the sealed footer, which together hash to the id.
async fn read_footer(id: SegmentId, bytes: &dyn SegmentBytes) -> Result<(Trailer, Vec<u8>)> {
    let size = bytes.len();
    let tail_start = size.saturating_sub(TAIL.max(size / FOOTER_SHARE));
    let tail = read_exact(bytes, tail_start..size).await?;
    let (before, last) = tail
        .split_last_chunk::<{ Trailer::SIZE }>()
        .ok_or_else(|| damaged("An object is too short to be an index segment"))?;
    let trailer = Trailer::parse(last)?;
    if trailer.footer.end != size - Trailer::SIZE as u64 {
        return Err(damaged("An index segment has another length than its trailer says"));
    }
    let mut footer = Vec::with_capacity((trailer.footer.end - trailer.footer.start) as usize);
    if trailer.footer.start < tail_start {
        footer.extend(read_exact(bytes, trailer.footer.start..tail_start).await?);
        footer.extend(before);
    } else {
        footer.extend(&before[(trailer.footer.start - tail_start) as usize..]);
    }
    let mut hasher = blake3::Hasher::new();
    if *hasher.update(&footer).update(last).finalize().as_bytes() != id.0 {
        return Err(damaged("An index segment is damaged: its footer does not hash to its id"));
    }
    trailer.check()?;
    Ok((trailer, footer))
}
