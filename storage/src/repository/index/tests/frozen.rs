//! What lies in repositories must keep its meaning, whatever `xorf` becomes.

use std::sync::Arc;

use backstay_core::Result;

use super::{
    super::{
        Index, Location, PackId, PackKind, PageCipher, Part, Section, Segment, SegmentBuilder, SegmentBytes, SegmentId,
        cursor::Cursor, filter::Filter,
    },
    kit::{Object, id},
};

/// The filter of the ids 0 to 39: seed, segment length, segments, fingerprints.
const FILTER: &str = "c15c0289ec2d0a912000000001000000dd009a000000000000003d940000008800d70000930b0000000000000000\
    00000000af007b1cc900000000007a00000000000000439400000086c2008f087b00002800fb0ee200ec7f9a0600980000006000967b00c000\
    deaa860000e86fe52c";

fn frozen() -> (Vec<u8>, Filter) {
    let bytes = hex::decode(FILTER).unwrap();
    let filter = Filter::decode(&mut Cursor(&bytes), bytes.len() as u32 - 16).unwrap();
    (bytes, filter)
}

#[test]
fn a_filter_of_the_first_release_still_answers() {
    let (bytes, filter) = frozen();
    assert!((0..40).all(|number| filter.may_hold(&id(number))));
    let mut again = Vec::new();
    filter.encode(&mut again);
    assert_eq!(again, bytes);
}

/// The question as `docs/format.md` words it, without `xorf`.
#[test]
fn the_question_to_a_filter_is_the_documented_one() {
    let (bytes, filter) = frozen();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let seed = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let (length, segments, fingerprints) = (u64::from(number(8)), u64::from(number(12)), &bytes[16..]);
    let asked = |id: [u8; 32]| {
        let mut h = u64::from_le_bytes(id[..8].try_into().unwrap()).wrapping_add(seed);
        h = (h ^ h >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        h = (h ^ h >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        h ^= h >> 33;
        let first = ((u128::from(h) * u128::from(segments * length)) >> 64) as u64;
        let second = (first + length) ^ (h >> 18 & (length - 1));
        let third = (first + 2 * length) ^ (h & (length - 1));
        let xor = [first, second, third].iter().fold(0, |xor, at| xor ^ fingerprints[*at as usize]);
        xor == (h ^ h >> 32) as u8
    };
    let passed = (0..10_000).filter(|number| asked(id(*number)) == filter.may_hold(&id(*number)));
    assert_eq!(passed.count(), 10_000);
    assert!((0..40).all(|number| asked(id(number))));
}

/// A map node (id 11…) and two chunks (22…, 33…), sealed by a cipher that does nothing: two pages, footer, trailer.
const OBJECT: &str = "1111111111111111111111111111111111111111111111111111111111111111010000004000000084030000a00f0000500184593d1f9376\
    234453504d17e6ca123f71755860673e473755ecd3a482592222222222222222222222222222222222222222222222222222222222222222\
    0000000040000000307500000080000033333333333333333333333333333333333333333333333333333333333333330000000070110100\
    409c000000000100d8d3ef1f0107844df4e51e8ff52eea32e4e15ef202467ea6a0020d274c71fb3001000000300000003000000000000000\
    0200000060000000600000000000000002000000000000002cdcd78b53ac3e930018fb24a56c75bd653cdae82be9d457131a686871fd5f86\
    1111111122222222aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa000000020000000001bbbbbbbbbbbbbb\
    bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb000001000000000002424b5354494e44580100000007000000d00000000000\
    0000a200000000000000cccccccccccccccccccccccccccccccc";

const OBJECT_ID: &str = "104202a0182ce8799285b0a6cde6249659134cff1dc3d9b4fdef0ccc5ca9fd50";

struct Unsealed;

impl PageCipher for Unsealed {
    fn seal(&self, _: Part, plain: &[u8]) -> Result<Vec<u8>> {
        Ok(plain.to_vec())
    }

    fn open(&self, _: Part, sealed: &[u8]) -> Result<Vec<u8>> {
        Ok(sealed.to_vec())
    }
}

#[tokio::test]
async fn a_segment_of_the_first_release_is_read_and_built_the_same() {
    let mut builder = SegmentBuilder::new();
    let chunks = builder.add_pack(PackId([0xaa; 32]), 33_554_432, PackKind::Data);
    let nodes = builder.add_pack(PackId([0xbb; 32]), 65_536, PackKind::Meta);
    builder.add(Section::Data, [0x33; 32], chunks, 70_000, 40_000, 65_536);
    builder.add(Section::Data, [0x22; 32], chunks, 64, 30_000, 32_768);
    builder.add(Section::Meta, [0x11; 32], nodes, 64, 900, 4_000);
    let sealed = builder.finish(7, &mut || Ok(([0xcc; 16], Arc::new(Unsealed) as Arc<dyn PageCipher>))).unwrap();
    assert_eq!(hex::encode(&sealed[0].bytes), OBJECT);
    assert_eq!(sealed[0].id.to_hex(), OBJECT_ID);

    let object = Object { bytes: hex::decode(OBJECT).unwrap().into(), reads: Default::default() };
    let id = SegmentId::from_hex(OBJECT_ID).unwrap();
    let segment = Segment::open(id, Arc::new(object) as Arc<dyn SegmentBytes>, &|trailer| {
        assert_eq!((trailer.epoch, trailer.salt), (7, [0xcc; 16]));
        Ok(Arc::new(Unsealed) as Arc<dyn PageCipher>)
    });
    let mut index = Index::new(0);
    index.push(Arc::new(segment.await.unwrap()));
    let found = index.find_many(Section::Data, &[[0x33; 32], [0x11; 32], [0x22; 32]]).await.unwrap();
    let (pack, pack_bytes) = (PackId([0xaa; 32]), 33_554_432);
    let at = |offset, stored, plain| Some(Location { pack, pack_bytes, offset, stored, plain });
    assert_eq!(found, [at(70_000, 40_000, 65_536), None, at(64, 30_000, 32_768)]);
    assert_eq!(index.find(Section::Meta, &[0x11; 32]).await.unwrap().map(|node| node.pack), Some(PackId([0xbb; 32])));
}
