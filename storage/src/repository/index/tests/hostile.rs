//! Decoders given what no builder makes.

use std::{
    ops::Range,
    sync::{Arc, atomic::AtomicU64},
};

use backstay_core::{Error, ErrorKind};
use bytes::Bytes;
use proptest::prelude::*;

use super::{
    super::{
        Index, MAX_RECORDS, PackEntry, PackId, PackKind, PageCipher, Part, Section, Segment, SegmentBuilder,
        SegmentBytes, Trailer,
        cursor::Cursor,
        filter::Filter,
        footer::Footer,
        fuzz_decode_footer, fuzz_decode_page, fuzz_decode_trailer,
        page::{self, Expected, Record},
    },
    kit::{Object, TestCipher, finish_one, id, open_bytes, synthetic},
};

/// The footer of a small segment, opened.
fn footer() -> Vec<u8> {
    let sealed = finish_one(synthetic(0..800));
    let trailer = Trailer::decode(&sealed.bytes[sealed.bytes.len() - Trailer::SIZE..]).unwrap();
    let cipher = TestCipher::new(trailer.salt);
    cipher.open(Part::Footer, &sealed.bytes[trailer.footer.start as usize..trailer.footer.end as usize]).unwrap()
}

fn kind<T>(outcome: Result<T, Error>) -> Option<ErrorKind> {
    outcome.err().map(|error| error.kind())
}

proptest! {
    #[test]
    fn decoders_stand_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz_decode_trailer(&bytes);
        fuzz_decode_footer(&bytes);
        fuzz_decode_page(&bytes);
    }

    #[test]
    fn the_footer_decoder_stands_changed_footers(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        head in prop::collection::vec((0..80_usize, any::<u8>()), 0..3),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = footer();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        for (at, byte) in head {
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fuzz_decode_footer(&bytes);
    }

    #[test]
    fn the_filter_decoder_never_gives_one_that_looks_out_of_bounds(
        seed in any::<u64>(),
        length in prop_oneof![any::<u32>(), (0..20_u32).prop_map(|power| 1 << power)],
        segments in prop_oneof![any::<u32>(), 0..20_u32],
        fill in any::<u8>(),
    ) {
        let claimed = (u64::from(segments) + 2) * u64::from(length);
        let mut bytes = Vec::new();
        bytes.extend(seed.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(segments.to_le_bytes());
        bytes.resize(bytes.len() + claimed.min(1 << 16) as usize, fill);
        if let Ok(filter) = Filter::decode(&mut Cursor(&bytes), claimed as u32) {
            for number in 0..200 {
                let _either = filter.may_hold(&id(number));
            }
        }
    }
}

#[test]
fn the_footer_decoder_takes_back_what_was_built() {
    let bytes = footer();
    fuzz_decode_footer(&bytes);
    let footer = Footer::decode(&bytes).unwrap();
    assert_eq!(footer.of(Section::Data).records, 800);
    assert_eq!(footer.encode(), bytes);
    for end in 0..bytes.len() {
        assert_eq!(kind(Footer::decode(&bytes[..end])), Some(ErrorKind::Integrity));
    }
}

#[test]
fn a_page_out_of_order_or_beyond_its_packs_is_refused() {
    let packs = [PackEntry::new(PackId([1; 32]), 100, PackKind::Data).unwrap()];
    let record = |first: u8, pack, offset| Record { id: [first; 32], pack, offset, stored: 10, plain: 10 };
    let check = |records: &[Record], count, next| {
        let mut plain = Vec::new();
        records.iter().for_each(|record| record.encode(&mut plain));
        let expected = Expected { records: count, first: 0x0101_0101, next, packs: &packs };
        kind(page::check(&plain, &expected))
    };
    let good = [record(1, 0, 0), record(2, 0, 90)];
    assert_eq!(check(&good, 2, Some(0x0202_0202)), None);
    assert_eq!(check(&good, 2, Some(0x0202_0201)), Some(ErrorKind::Integrity));
    assert_eq!(check(&good, 3, None), Some(ErrorKind::Integrity));
    assert_eq!(check(&[good[1], good[0]], 2, None), Some(ErrorKind::Integrity));
    assert_eq!(check(&[record(1, 0, 0), record(3, 0, 0), record(2, 0, 0)], 3, None), Some(ErrorKind::Integrity));
    assert_eq!(check(&[record(1, 1, 0)], 1, None), Some(ErrorKind::Integrity));
    assert_eq!(check(&[record(1, 0, 91)], 1, None), Some(ErrorKind::Integrity));
    assert_eq!(check(&[record(1, 0, u32::MAX)], 1, None), Some(ErrorKind::Integrity));
    assert_eq!(check(&[record(2, 0, 0)], 1, None), Some(ErrorKind::Integrity));
}

#[test]
fn a_trailer_claims_nothing_impossible() {
    let sealed = finish_one(synthetic(0..10));
    let last = &sealed.bytes[sealed.bytes.len() - Trailer::SIZE..];
    let trailer = Trailer::decode(last).unwrap();
    assert_eq!((trailer.epoch, trailer.footer.end), (3, sealed.bytes.len() as u64 - 48));
    let changed = |at: usize, with: &[u8]| {
        let mut bytes = last.to_vec();
        bytes[at..at + with.len()].copy_from_slice(with);
        kind(Trailer::decode(&bytes))
    };
    assert_eq!(changed(0, b"X"), Some(ErrorKind::Integrity));
    assert_eq!(changed(8, &[2]), Some(ErrorKind::Unsupported));
    assert_eq!(changed(16, &[255; 8]), Some(ErrorKind::Integrity));
    assert_eq!(changed(24, &[0; 4]), Some(ErrorKind::Integrity));
    assert_eq!(changed(24, &[255; 4]), Some(ErrorKind::Integrity));
    assert_eq!(changed(28, &[1]), Some(ErrorKind::Integrity));
    assert_eq!(kind(Trailer::decode(&last[1..])), Some(ErrorKind::Integrity));
}

#[tokio::test]
async fn another_segment_under_the_same_id_is_refused() {
    let (one, other) = (finish_one(synthetic(0..500)), finish_one(synthetic(500..1_000)));
    assert_eq!(kind(open_bytes(one.id, other.bytes).await), Some(ErrorKind::Integrity));
}

/// Every writer has the key, so the seal alone does not say that the page is the one that was written.
#[tokio::test]
async fn a_page_sealed_anew_with_the_right_key_is_refused() {
    let sealed = finish_one(synthetic(0..500));
    let trailer = Trailer::decode(&sealed.bytes[sealed.bytes.len() - Trailer::SIZE..]).unwrap();
    let cipher = TestCipher::new(trailer.salt);
    let length = 341 * 48 + 32;
    let mut plain = cipher.open(Part::Page(0), &sealed.bytes[..length]).unwrap();
    plain[36] ^= 1;
    let mut bytes = sealed.bytes.to_vec();
    bytes[..length].copy_from_slice(&cipher.seal(Part::Page(0), &plain).unwrap());
    let (segment, _) = open_bytes(sealed.id, bytes.into()).await.unwrap();
    let mut index = Index::new(0);
    index.push(Arc::new(segment));
    let lowest = (0..500).map(id).min().unwrap();
    assert_eq!(kind(index.find(Section::Data, &lowest).await), Some(ErrorKind::Integrity));
    assert_eq!(kind(index.find_many(Section::Data, &[lowest]).await), Some(ErrorKind::Integrity));
    assert_eq!(kind(index.find_all(Section::Data, &lowest).await), Some(ErrorKind::Integrity));
}

/// A store that gives too little, or nothing.
struct Flaky(Option<usize>, Object);

#[async_trait::async_trait]
impl SegmentBytes for Flaky {
    async fn read(&self, range: Range<u64>) -> Result<Bytes, Error> {
        let bytes = self.1.read(range).await?;
        self.0.map(|most| bytes.slice(..most.min(bytes.len()))).ok_or_else(|| Error::unavailable("gone"))
    }

    fn len(&self) -> u64 {
        self.1.len()
    }
}

#[tokio::test]
async fn a_store_with_a_hiccup_is_unavailable_and_nothing_is_called_damaged() {
    let sealed = finish_one(synthetic(0..500));
    for most in [None, Some(0), Some(100)] {
        let object = Object { bytes: sealed.bytes.clone(), reads: AtomicU64::new(0) };
        let outcome = Segment::open(sealed.id, Arc::new(Flaky(most, object)), &|trailer| {
            Ok(Arc::new(TestCipher::new(trailer.salt)) as Arc<dyn PageCipher>)
        });
        assert_eq!(kind(outcome.await), Some(ErrorKind::Unavailable));
    }
}

#[test]
fn the_builder_refuses_what_a_reader_would() {
    let mut builder = SegmentBuilder::new();
    let pack = builder.add_pack(PackId([1; 32]), 100, PackKind::Data);
    builder.add(Section::Data, [1; 32], pack, 91, 10, 10);
    assert_eq!(kind(super::kit::finish(builder)), Some(ErrorKind::InvalidInput));

    let mut builder = SegmentBuilder::new();
    builder.add(Section::Data, [1; 32], 0, 0, 10, 10);
    assert_eq!(kind(super::kit::finish(builder)), Some(ErrorKind::InvalidInput));

    let mut builder = SegmentBuilder::new();
    builder.add_pack(PackId([1; 32]), u64::MAX, PackKind::Data);
    assert_eq!(kind(super::kit::finish(builder)), Some(ErrorKind::InvalidInput));
    assert!(super::kit::finish(SegmentBuilder::new()).unwrap().is_empty());
    assert_eq!(MAX_RECORDS, 1_048_576);
}
