//! Values that must never change, over fixed keys and bytes. The format's description quotes them; see them with
//! `cargo test -p backstay-storage golden -- --nocapture`.

use super::*;

/// Prints the value, so that a deliberate change can be taken over, and compares it.
fn golden(name: &str, value: String, wanted: &str) {
    println!("{name}: {value}");
    assert_eq!(value, wanted, "{name}");
}

#[test]
fn golden_block_hashes_and_chunk_ids() {
    let (keys, data) = (keys(), sample(2 * BLOCK_BYTES));
    golden("sample", hex::encode(&data[..16]), "ec6792d2f2b30ba7bdf6d97a89ab1071");
    golden(
        "block hash, zeros",
        hex::encode(keys.block_hash(&[0; BLOCK_BYTES])),
        "68277efeb7544248fc8434b543846721e02fca36952d6f91a31022d06469b6aa",
    );
    golden(
        "block hash, first block",
        hex::encode(keys.block_hash(&data[..BLOCK_BYTES])),
        "8b47fc9aadb2785163899fe685a399cc1637d210245f511843b1b2e382ac9479",
    );
    golden(
        "block hash, first 1000 bytes",
        hex::encode(keys.block_hash(&data[..1000])),
        "94c75073c36ad05fb7ff89fffafebb055d11e6480490525682c390adddb545a1",
    );
    golden(
        "chunk id, first block",
        keys.chunk_id(&data[..BLOCK_BYTES]).to_hex(),
        "961235bc259dde6b9b5e5c4010dc1ca7b296596a10c7c982a47f2dd7f54fd14c",
    );
    golden(
        "chunk id, first 1000 bytes",
        keys.chunk_id(&data[..1000]).to_hex(),
        "d9235beb6dcabc70f6bdbacf4c57daf25b03e8d3c004b39dfbfeb8d0c9d2664e",
    );
    golden(
        "chunk id, 8192 bytes",
        keys.chunk_id(&data).to_hex(),
        "fdb83ac355f3f4ec45f494a1bb38a4632e61c9cb4437454d7e8d0ce870a27c16",
    );
}

#[test]
fn golden_cuts_of_a_disk() {
    // 1 MiB of sample, in which blocks 100 to 129 and 200 to 214 are zero, and 1000 bytes.
    let mut data = sample((1 << 20) + 1000);
    data[100 * BLOCK_BYTES..130 * BLOCK_BYTES].fill(0);
    data[200 * BLOCK_BYTES..215 * BLOCK_BYTES].fill(0);
    let entries = cut_segment(DiskChunker::Aligned, &keys(), &data);
    let text: Vec<_> = entries
        .iter()
        .map(|entry| match entry {
            Entry::Hole { blocks } => format!("hole {blocks}"),
            Entry::Chunk { blocks, .. } => blocks.to_string(),
        })
        .collect();
    golden("entries in blocks", text.join(", "), "8, 11, 24, 10, 16, 23, 8, hole 30, 16, 18, 15, 21, 20, 15, 16, 6");
    let last = entries.last().and_then(Entry::id).unwrap();
    golden("id of the last", last.to_hex(), "4af57435dc354255593fb6b00c747829c141f6588f44509e48a52042132bad19");
    // All of a segment, as one number.
    let mut hasher = blake3::Hasher::new();
    for entry in cut_segment(DiskChunker::Aligned, &keys(), &sample(SEGMENT_BYTES as usize)) {
        hasher.update(&entry.blocks().to_le_bytes()).update(&entry.id().map_or([0; 32], |id| id.0));
    }
    golden(
        "all entries of 16 MiB",
        hasher.finalize().to_string(),
        "6167e23163366ac8256fbc933e1371716f64307231cb399171ea3c72e25d6a15",
    );
}

#[test]
fn golden_cuts_of_a_stream() {
    let lengths: Vec<_> = stream::cut(&sample(1 << 20), &[]).iter().map(usize::to_string).collect();
    golden(
        "chunks in bytes",
        lengths.join(", "),
        "259698, 66980, 19769, 84406, 77203, 75137, 33143, 66431, 75025, 123586, 84252, 82946",
    );
}
