//! What lies in repositories must keep its meaning, whatever `xorf` becomes.

use super::{
    super::{cursor::Cursor, filter::Filter},
    kit::id,
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
