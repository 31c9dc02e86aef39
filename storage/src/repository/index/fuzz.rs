//! Entry points for fuzzing: the decoders, and what must hold of whatever they accept.

use super::{
    Location, PackEntry, PackId, PackKind, Section, Trailer,
    footer::Footer,
    page::{Expected, Page, Place, RECORD, check, prefix},
};

/// Decodes the last bytes of a segment.
#[doc(hidden)]
pub fn fuzz_decode_trailer(last: &[u8]) {
    if let Ok(trailer) = Trailer::decode(last) {
        assert_eq!(trailer.encode().ok().as_ref().map(|bytes| &bytes[..]), Some(last));
    }
}

/// Decodes a footer that was opened, encodes it again and asks it for ids.
#[doc(hidden)]
pub fn fuzz_decode_footer(plain: &[u8]) {
    let Ok(footer) = Footer::decode(plain) else { return };
    assert_eq!(footer.encode(), plain);
    let end = footer.pages_end();
    for salt in 0..64_u8 {
        let id = *blake3::hash(&[salt]).as_bytes();
        for section in Section::ALL {
            let pages = footer.of(section);
            let _held = pages.filter.as_ref().is_none_or(|filter| filter.may_hold(&id));
            let candidates = pages.candidates(&id);
            assert!(candidates.end as usize <= pages.count());
            assert!(footer.bytes_of(section, candidates).end <= end);
        }
    }
}

/// Checks a page that was opened, against a footer that says what the page says, and looks up what is in it.
#[doc(hidden)]
pub fn fuzz_decode_page(plain: &[u8]) {
    let packs: Vec<PackEntry> =
        (0..4).filter_map(|pack| PackEntry::new(PackId([pack; 32]), 1 << 20, PackKind::Data)).collect();
    let first = plain.first_chunk().map_or(0, prefix);
    let expected = Expected { records: plain.len() / RECORD, first, next: None, packs: &packs };
    if check(plain, &expected).is_err() {
        return;
    }
    let page = Page::new(plain);
    for id in plain.as_chunks::<RECORD>().0.iter().filter_map(|record| record.first_chunk()) {
        let Place::Here(found) = page.place(id) else { panic!("a record of the page is not found in it") };
        let found: Option<Vec<Location>> = found.map(|position| page.location(position, &packs).ok()).collect();
        assert!(found.is_some_and(|found| !found.is_empty()));
    }
}
