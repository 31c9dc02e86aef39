//! Streams: lengths, and cuts that do not depend on how bytes arrive.

use proptest::prelude::*;

use super::super::stream::{STREAM_MAX, STREAM_MEAN, STREAM_MIN};
use super::*;

pub(super) fn cut(data: &[u8], pieces: &[usize]) -> Vec<usize> {
    let (mut lengths, mut joined) = (Vec::new(), Vec::new());
    let mut emit = |chunk: &[u8]| {
        lengths.push(chunk.len());
        joined.extend_from_slice(chunk);
    };
    let mut cutter = StreamCutter::new(&keys());
    let mut rest = data;
    for piece in pieces.iter().cycle().take(pieces.len() * 64) {
        let (now, later) = rest.split_at(rest.len().min(*piece));
        cutter.push(now, &mut emit);
        rest = later;
    }
    cutter.push(rest, &mut emit);
    cutter.finish(&mut emit);
    assert!(joined == data);
    lengths
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cuts_do_not_depend_on_how_a_stream_is_pushed(
        bytes in 0..3_000_000_usize,
        pieces in prop::collection::vec(prop_oneof![0..9_usize, 1000..70_000_usize, 200_000..1_500_000_usize], 1..6),
    ) {
        let data = sample(bytes);
        prop_assert_eq!(cut(&data, &pieces), cut(&data, &[]));
    }
}

#[test]
fn streams_are_cut_as_the_crate_cuts_all_of_them_at_once() {
    let data = sample(4 << 20);
    let masks = fastcdc::v2020::select_masks(STREAM_MEAN, fastcdc::v2020::Normalization::Level1);
    let mut gear = [0; 256 * 8];
    let key: [u8; 32] = std::array::from_fn(|i| i as u8);
    blake3::Hasher::new_keyed(&key).update(b"backstay stream gear 1").finalize_xof().fill(&mut gear);
    let gear: Vec<u64> = gear.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    let shifted: Vec<u64> = gear.iter().map(|value| value << 1).collect();
    let (mut lengths, mut rest) = (Vec::new(), &data[..]);
    while !rest.is_empty() {
        let (small, large) = masks;
        let sizes = (STREAM_MIN, STREAM_MEAN, STREAM_MAX);
        let (_, bytes) = fastcdc::v2020::cut_gear(
            rest,
            sizes.0,
            sizes.1,
            sizes.2,
            small,
            large,
            small << 1,
            large << 1,
            &gear,
            &shifted,
        );
        lengths.push(bytes);
        rest = &rest[bytes..];
    }
    assert_eq!(cut(&data, &[]), lengths);
}

#[test]
fn chunks_of_a_stream_keep_their_limits() {
    assert_eq!(cut(&[], &[]), [0; 0]);
    assert_eq!(cut(&[1], &[]), [1]);
    assert_eq!(cut(&vec![0; 3 * STREAM_MAX + 5], &[]), [STREAM_MAX, STREAM_MAX, STREAM_MAX, 5]);
    let lengths = cut(&sample(16 << 20), &[]);
    let (_, others) = lengths.split_last().unwrap();
    assert!(others.iter().all(|bytes| (STREAM_MIN..=STREAM_MAX).contains(bytes)));
    assert!((200..300).contains(&lengths.len()), "{} chunks in 16 MiB", lengths.len());
}

/// The description in the docs of `StreamCutter`, byte by byte.
fn described(rest: &[u8]) -> usize {
    let mut gear = [0; 256 * 8];
    let key: [u8; 32] = std::array::from_fn(|i| i as u8);
    blake3::Hasher::new_keyed(&key).update(b"backstay stream gear 1").finalize_xof().fill(&mut gear);
    let end = rest.len().min(STREAM_MAX);
    let mut hash = 0_u64;
    for (at, byte) in rest.iter().enumerate().take(end - end % 2).skip(STREAM_MIN) {
        let value = u64::from_le_bytes(gear.as_chunks().0[usize::from(*byte)]);
        hash = hash.wrapping_mul(2).wrapping_add(value);
        let mask = if at < STREAM_MEAN { 0xd907_0353_7000 } else { 0xd90f_0353_0000 };
        if hash & mask == 0 {
            return at;
        }
    }
    end
}

#[test]
fn streams_of_any_length_are_cut_as_described() {
    let data = sample(1 << 20);
    for bytes in [1, STREAM_MIN, STREAM_MIN + 1, 20_001, 86_749, 400_001, 1 << 20] {
        let (mut lengths, mut rest) = (Vec::new(), &data[..bytes]);
        while !rest.is_empty() {
            lengths.push(described(rest));
            rest = &rest[lengths[lengths.len() - 1]..];
        }
        assert_eq!(cut(&data[..bytes], &[]), lengths, "{bytes} bytes");
    }
}
