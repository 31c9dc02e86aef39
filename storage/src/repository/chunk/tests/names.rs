//! What blocks, chunks and chunkers are called.

use super::*;

#[test]
fn the_hash_of_a_block_is_keyed_blake3_of_it_padded() {
    let cut: [u8; 32] = std::array::from_fn(|i| i as u8);
    for bytes in [0, 1, 4095, 4096] {
        let mut block = sample(bytes);
        let hash = keys().block_hash(&block);
        block.resize(BLOCK_BYTES, 0);
        assert_eq!(hash, *blake3::keyed_hash(&cut, &block).as_bytes(), "{bytes} bytes");
    }
}

#[test]
fn any_number_of_blocks_hashed_together_is_as_each_alone() {
    let mut data = sample(70 * BLOCK_BYTES);
    data[9 * BLOCK_BYTES..12 * BLOCK_BYTES].fill(0);
    for bytes in (0..40).map(|count| count * BLOCK_BYTES).chain([1, 5000, 70 * BLOCK_BYTES - 1]) {
        let mut hashes = vec![[0; 32]; bytes.div_ceil(BLOCK_BYTES)];
        let zeros = keys().block_hashes(&data[..bytes], &mut hashes);
        for (i, block) in data[..bytes].chunks(BLOCK_BYTES).enumerate() {
            assert_eq!(hashes[i], keys().block_hash(block), "block {i} of {bytes} bytes");
            assert_eq!(zeros[i], (9..12).contains(&i));
        }
    }
}

#[test]
fn the_fast_way_of_hashing_is_as_the_documented_one() {
    let data = sample(37 * BLOCK_BYTES);
    let blocks: Vec<_> = data.as_chunks::<BLOCK_BYTES>().0.iter().collect();
    for count in 0..=blocks.len() {
        let mut hashes = vec![[0; 32]; count];
        lanes::hash_lanes(&[9; 32], &blocks[..count], &mut hashes);
        assert!(blocks.iter().zip(&hashes).all(|(block, hash)| blake3::keyed_hash(&[9; 32], *block) == *hash));
    }
}

#[test]
fn the_id_of_a_chunk_covers_length_and_blocks_and_both_keys() {
    let data = sample(2 * BLOCK_BYTES);
    let mut ends_in_zero = data.clone();
    ends_in_zero[2 * BLOCK_BYTES - 1] = 0;
    let mut ids = vec![
        keys().chunk_id(&data),
        keys().chunk_id(&ends_in_zero),
        keys().chunk_id(&ends_in_zero[..2 * BLOCK_BYTES - 1]),
        keys().chunk_id(&data[..BLOCK_BYTES]),
        keys().chunk_id(&[]),
        IdKeys::new([0; 32], std::array::from_fn(|i| i as u8 + 32)).chunk_id(&data),
        IdKeys::new(std::array::from_fn(|i| i as u8), [0; 32]).chunk_id(&data),
    ];
    let hashes: Vec<_> = data.chunks(BLOCK_BYTES).map(|block| keys().block_hash(block)).collect();
    assert_eq!(keys().chunk_id_of(8192, &hashes), ids[0]);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 7);
}

#[test]
fn a_single_bit_anywhere_makes_a_block_not_zero() {
    for bytes in [0, 1, 7, 255, 256, 257, 4096, 5000] {
        let mut block = vec![0; bytes];
        assert!(is_zero(&block));
        for at in 0..bytes {
            block[at] = 1 << (at % 8);
            assert!(!is_zero(&block), "byte {at} of {bytes}");
            block[at] = 0;
        }
    }
}

#[test]
fn the_name_of_a_chunker_reads_back_and_nothing_else_does() {
    for chunker in [DiskChunker::Aligned, DiskChunker::Fixed { blocks: 1 }, DiskChunker::Fixed { blocks: 4096 }] {
        assert_eq!(DiskChunker::parse(&chunker.name()), Some(chunker));
    }
    assert_eq!(DiskChunker::parse("fixed:131072"), Some(DiskChunker::Fixed { blocks: 32 }));
    let wrong = ["", "aligned", "aligned-2", "fixed", "fixed:", "fixed:0", "fixed:4095", "fixed:4097", "fixed:+4096"];
    let others = ["fixed:04096", "fixed:16781312", "fixed:18446744073709551616", "fixed:17592186048512", "Fixed:4096"];
    for name in wrong.iter().chain(&others) {
        assert_eq!(DiskChunker::parse(name), None, "{name:?}");
    }
}

#[test]
fn keys_do_not_show_in_debug_output() {
    assert_eq!(format!("{:?}", keys()), "IdKeys(..)");
}
