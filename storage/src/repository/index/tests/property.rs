//! Any set of records comes back as it was, and damage never gives a wrong answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use backstay_core::ErrorKind;
use proptest::prelude::*;

use super::{
    super::{Index, Location, PackId, PackKind, SealedSegment, Section, SegmentBuilder},
    kit::{finish, finish_one, id, location, open, open_bytes, synthetic},
};

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().build().unwrap());

/// Ids of all kinds: uniform ones, few ones (so that copies are common), ones with a common beginning.
fn any_id() -> impl Strategy<Value = [u8; 32]> {
    prop_oneof![
        3 => any::<u16>().prop_map(|number| id(u64::from(number))),
        1 => (0..8_u64).prop_map(id),
        1 => any::<u8>().prop_map(|last| { let mut id = [7; 32]; id[31] = last; id }),
        1 => Just([0; 32]),
        1 => Just([255; 32]),
    ]
}

fn any_record() -> impl Strategy<Value = (bool, [u8; 32], u32, u32, u32, u32)> {
    (any::<bool>(), any_id(), 0..5_u32, 0..1_000_u32, 0..1_000_u32, any::<u32>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_records_come_back_and_no_others(
        records in prop::collection::vec(any_record(), 0..2_000),
        absent in prop::collection::vec(any::<[u8; 32]>(), 0..50),
        cache in prop_oneof![Just(0_usize), Just(40_000), Just(1 << 20)],
    ) {
        let mut builder = SegmentBuilder::new();
        for pack in 0..5 {
            builder.add_pack(PackId([pack; 32]), 2_000, PackKind::Data);
        }
        let mut expected: BTreeMap<(bool, [u8; 32]), Vec<Location>> = BTreeMap::new();
        for &(data, id, pack, offset, stored, plain) in &records {
            let section = if data { Section::Data } else { Section::Meta };
            builder.add(section, id, pack, offset, stored, plain);
            let pack = PackId([pack as u8; 32]);
            expected.entry((data, id)).or_default().push(Location { pack, pack_bytes: 2_000, offset, stored, plain });
        }
        RUNTIME.block_on(async {
            let mut index = Index::new(cache);
            for sealed in finish(builder).unwrap() {
                index.push(open(&sealed).await.0);
            }
            prop_assert_eq!(index.stats().records, records.len() as u64);
            for (section, data) in [(Section::Data, true), (Section::Meta, false)] {
                let mut ids: Vec<_> = records.iter().map(|record| record.1).collect();
                ids.extend(&absent);
                let many = index.find_many(section, &ids).await.unwrap();
                for (id, many) in ids.iter().zip(many) {
                    let copies = expected.get(&(data, *id)).cloned().unwrap_or_default();
                    let one = index.find(section, id).await.unwrap();
                    prop_assert_eq!(one.is_some(), !copies.is_empty());
                    prop_assert_eq!(many.is_some(), !copies.is_empty());
                    prop_assert!(one.iter().chain(&many).all(|found| copies.contains(found)));
                    let mut all = index.find_all(section, id).await.unwrap();
                    let mut copies = copies;
                    let key = |at: &Location| (at.pack, at.offset, at.stored, at.plain);
                    all.sort_unstable_by_key(key);
                    copies.sort_unstable_by_key(key);
                    prop_assert_eq!(all, copies);
                }
            }
            Ok(())
        })?;
    }
}

static SEALED: LazyLock<SealedSegment> = LazyLock::new(|| finish_one(synthetic(0..2_500)));

/// Opens a changed object and looks everything up: what comes back is right, or the error is `Integrity`.
fn look_up_in(changed: Vec<u8>) -> Result<(), TestCaseError> {
    RUNTIME.block_on(async {
        let segment = match open_bytes(SEALED.id, changed.into()).await {
            Ok((segment, _)) => Arc::new(segment),
            Err(error) => {
                prop_assert_eq!(error.kind(), ErrorKind::Integrity, "{}", error);
                return Ok(());
            }
        };
        let mut index = Index::new(1 << 20);
        index.push(segment);
        let mut damaged = 0;
        for number in 0..2_500 {
            match index.find(Section::Data, &id(number)).await {
                Ok(found) => prop_assert_eq!(found, Some(location(number))),
                Err(error) => {
                    prop_assert_eq!(error.kind(), ErrorKind::Integrity, "{}", error);
                    damaged += 1;
                }
            }
        }
        prop_assert!(damaged > 0, "a changed page went unnoticed");
        Ok(())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_byte_is_an_integrity_error_or_does_not_matter(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let mut changed = SEALED.bytes.to_vec();
        changed[at.index(SEALED.bytes.len())] ^= 1 << bit;
        look_up_in(changed)?;
    }

    #[test]
    fn a_changed_byte_of_the_trailer_is_an_integrity_error(at in 0..48_usize, bit in 0..8_u32) {
        let mut changed = SEALED.bytes.to_vec();
        let at = changed.len() - 1 - at;
        changed[at] ^= 1 << bit;
        let outcome = RUNTIME.block_on(open_bytes(SEALED.id, changed.into()));
        prop_assert_eq!(outcome.err().map(|error| error.kind()), Some(ErrorKind::Integrity));
    }

    #[test]
    fn a_shorter_or_longer_object_is_an_integrity_error(cut in any::<prop::sample::Index>(), grow in 0..100_usize) {
        let mut shorter = SEALED.bytes.to_vec();
        shorter.truncate(cut.index(SEALED.bytes.len()));
        let mut longer = SEALED.bytes.to_vec();
        longer.splice(..0, std::iter::repeat_n(0, grow + 1));
        for changed in [shorter, longer] {
            let outcome = RUNTIME.block_on(open_bytes(SEALED.id, changed.into()));
            prop_assert_eq!(outcome.err().map(|error| error.kind()), Some(ErrorKind::Integrity));
        }
    }
}
