//! More than one segment holds.

use super::{
    super::{Index, MAX_PACKS, PackId, PackKind, Section, SegmentBuilder},
    kit::{finish, id, location, open, synthetic},
};

#[tokio::test]
async fn too_many_records_make_several_segments_and_no_pack_is_in_two() {
    let sealed = finish(synthetic(0..1_100_000)).unwrap();
    assert_eq!(sealed.len(), 2);
    let mut index = Index::new(1 << 20);
    let mut packs = Vec::new();
    for sealed in &sealed {
        let (segment, _) = open(sealed).await;
        packs.extend(segment.packs().iter().map(|pack| pack.id()));
        index.push(segment);
    }
    let all = packs.len();
    packs.sort_unstable();
    packs.dedup();
    assert_eq!((packs.len(), all), (1_075, 1_075));
    assert_eq!(index.stats().records, 1_100_000);
    for number in (0..1_100_000).step_by(10_007) {
        assert_eq!(index.find(Section::Data, &id(number)).await.unwrap(), Some(location(number)));
    }
}

#[tokio::test]
async fn too_many_packs_make_several_segments() {
    let mut builder = SegmentBuilder::new();
    for number in 0..MAX_PACKS as u64 + 10 {
        let mut pack = [0; 32];
        pack[..8].copy_from_slice(&number.to_le_bytes());
        let pack = builder.add_pack(PackId(pack), number, PackKind::Data);
        if number % 1_000 == 7 {
            builder.add(Section::Data, id(number), pack, 0, 7, 7);
        }
    }
    let sealed = finish(builder).unwrap();
    assert_eq!(sealed.len(), 2);
    assert_eq!(open(&sealed[0]).await.0.packs().len(), MAX_PACKS);
    assert_eq!(open(&sealed[1]).await.0.packs().len(), 10);
}
