//! The budget: 20 MB for 16,777,216 chunks.

use std::sync::Arc;

use super::{
    super::{Index, MAX_RECORDS, PackId, PackKind, Section},
    kit::{finish_one, id, open, synthetic},
};

#[tokio::test]
async fn sixteen_full_segments_stay_within_twenty_megabytes() {
    let (segment, _) = open(&finish_one(synthetic(0..MAX_RECORDS as u64))).await;
    assert_eq!(segment.packs().len(), 1_024);
    let sixteen = 16 * segment.memory_bytes();
    assert!(sixteen <= 20_000_000, "16,777,216 records take {sixteen} bytes");
    let mut index = Index::new(0);
    index.push(Arc::clone(&segment));
    index.push(segment);
    assert_eq!(index.stats().segments, 1);
    let passed =
        (0..10_000).filter(|number| index.segments().all(|s| s.may_hold(Section::Data, &id(1 << 40 | number))));
    assert!(passed.count() < 80);
}

#[tokio::test]
async fn map_nodes_beside_the_chunks_fit_in_too() {
    let nodes = MAX_RECORDS as u64 / 256;
    let mut builder = synthetic(0..MAX_RECORDS as u64 - nodes);
    let pack = builder.add_pack(PackId([0xee; 32]), 8 << 20, PackKind::Meta);
    for node in 0..nodes {
        builder.add(Section::Meta, id(1 << 41 | node), pack, node as u32, 1_500, 4_000);
    }
    let (segment, _) = open(&finish_one(builder)).await;
    assert_eq!(segment.records(Section::Meta), nodes);
    let sixteen = 16 * segment.memory_bytes();
    assert!(sixteen <= 20_000_000, "16,777,216 records take {sixteen} bytes");
}
