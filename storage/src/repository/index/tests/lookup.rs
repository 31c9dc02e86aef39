//! What look-ups find, and how many reads they cost.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{
    super::{Index, PackId, PackKind, Section, SegmentBuilder},
    kit::{finish_one, id, location, open, synthetic},
};

#[tokio::test]
async fn opening_costs_one_read_and_a_cold_look_up_one_page() {
    let (segment, object) = open(&finish_one(synthetic(0..10_000))).await;
    assert_eq!(object.reads.swap(0, Relaxed), 1);
    assert_eq!((segment.records(Section::Data), segment.records(Section::Meta)), (10_000, 0));
    assert_eq!((segment.epoch(), segment.packs().len()), (3, 10));
    for number in (0..10_000).step_by(97).chain(20_000..20_100) {
        let mut index = Index::new(0);
        index.push(Arc::clone(&segment));
        let expected = (number < 10_000).then(|| location(number));
        assert_eq!(index.find(Section::Data, &id(number)).await.unwrap(), expected);
        assert!(object.reads.swap(0, Relaxed) <= 1);
        assert!(index.stats().bytes_read < 17_000);
    }
}

#[tokio::test]
async fn the_first_and_the_last_record_of_a_page_cost_one_read_too() {
    let numbers = 0..5_000;
    let mut sorted: Vec<_> = numbers.clone().map(|number| (id(number), number)).collect();
    sorted.sort_unstable();
    let (segment, object) = open(&finish_one(synthetic(numbers))).await;
    let mut index = Index::new(0);
    index.push(segment);
    for edge in (0..5_000).filter(|at| at % 341 == 0 || at % 341 == 340).chain([4_999]) {
        object.reads.store(0, Relaxed);
        let (id, number) = sorted[edge];
        assert_eq!(index.find(Section::Data, &id).await.unwrap(), Some(location(number)));
        assert_eq!(object.reads.load(Relaxed), 1);
    }
}

#[tokio::test]
async fn many_ids_at_once_open_every_page_once_and_join_reads() {
    let (segment, object) = open(&finish_one(synthetic(0..60_000))).await;
    assert!(object.reads.swap(0, Relaxed) <= 2);
    let mut index = Index::new(64 << 20);
    index.push(segment);
    let ids: Vec<_> = (0..70_000).rev().map(id).collect();
    let found = index.find_many(Section::Data, &ids).await.unwrap();
    for (number, found) in (0..70_000).rev().zip(found) {
        assert_eq!(found, (number < 60_000).then(|| location(number)));
    }
    let stats = index.stats();
    assert_eq!(stats.pages_opened, 60_000_u64.div_ceil(341));
    assert!(stats.reads <= 4, "2.9 MB took {} reads", stats.reads);
    assert_eq!(object.reads.load(Relaxed), stats.reads);
    let again = index.find_many(Section::Data, &ids).await.unwrap();
    assert_eq!(again.iter().flatten().count(), 60_000);
    assert_eq!(index.stats().reads, stats.reads);
    assert!(index.stats().cache_bytes <= 64 << 20);
}

#[tokio::test]
async fn the_newest_segment_answers_first_and_every_copy_is_found() {
    let mut index = Index::new(1 << 20);
    for age in 0..3_u32 {
        let mut builder = SegmentBuilder::new();
        let pack = builder.add_pack(PackId([age as u8; 32]), 1 << 20, PackKind::Data);
        for number in 0..1_000 {
            builder.add(Section::Data, id(number), pack, age, 10, 10);
        }
        index.push(open(&finish_one(builder)).await.0);
    }
    let newest = index.find(Section::Data, &id(5)).await.unwrap().unwrap();
    assert_eq!((newest.pack, newest.offset), (PackId([2; 32]), 2));
    let many = index.find_many(Section::Data, &[id(5), id(5)]).await.unwrap();
    assert_eq!(many, [Some(newest), Some(newest)]);
    let copies = index.find_all(Section::Data, &id(5)).await.unwrap();
    assert_eq!(copies.iter().map(|copy| copy.offset).collect::<Vec<_>>(), [2, 1, 0]);
    assert_eq!(index.find(Section::Meta, &id(5)).await.unwrap(), None);

    let gone = index.segments().last().unwrap().id();
    index.retain(|segment| segment != gone);
    assert_eq!(index.find(Section::Data, &id(5)).await.unwrap().unwrap().offset, 1);
    assert_eq!(index.stats().segments, 2);
}

#[tokio::test]
async fn copies_over_several_pages_are_all_found() {
    let mut builder = synthetic(0..2_000);
    let pack = builder.add_pack(PackId([9; 32]), 1 << 30, PackKind::Data);
    for copy in 0..1_500 {
        builder.add(Section::Data, id(77), pack, copy, 1, 1);
    }
    let (segment, _) = open(&finish_one(builder)).await;
    let mut index = Index::new(0);
    index.push(segment);
    let copies = index.find_all(Section::Data, &id(77)).await.unwrap();
    assert_eq!(copies.len(), 1_501);
    let mut offsets: Vec<_> =
        copies.iter().filter(|copy| copy.pack == PackId([9; 32])).map(|copy| copy.offset).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..1_500).collect::<Vec<_>>());
    assert!(index.find(Section::Data, &id(77)).await.unwrap().is_some());
    for number in 0..2_000 {
        assert!(index.find(Section::Data, &id(number)).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn ids_that_share_their_first_bytes_are_told_apart() {
    let mut builder = SegmentBuilder::new();
    let pack = builder.add_pack(PackId([1; 32]), 1 << 30, PackKind::Meta);
    let id = |number: u32| {
        let mut id = [0xab; 32];
        id[28..].copy_from_slice(&number.to_be_bytes());
        id
    };
    for number in (0..6_000).step_by(2) {
        builder.add(Section::Meta, id(number), pack, number, 1, 1);
    }
    let (segment, _) = open(&finish_one(builder)).await;
    let mut index = Index::new(1 << 20);
    index.push(segment);
    let ids: Vec<_> = (0..6_001).map(id).collect();
    let found = index.find_many(Section::Meta, &ids).await.unwrap();
    for (number, found) in (0..6_001).zip(found) {
        let expected = (number % 2 == 0 && number < 6_000).then_some(number);
        assert_eq!(found.map(|found| found.offset), expected);
        assert_eq!(index.find(Section::Meta, &id(number)).await.unwrap().map(|found| found.offset), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_tasks_look_up_at_once() {
    let (segment, _) = open(&finish_one(synthetic(0..20_000))).await;
    let mut index = Index::new(200 << 10);
    index.push(segment);
    let index = Arc::new(index);
    let tasks: Vec<_> = (0..8_u64)
        .map(|task| {
            let index = Arc::clone(&index);
            tokio::spawn(async move {
                for round in 0..20 {
                    let ids: Vec<_> = (0..50).map(|n| id((n * 397 + round * 31 + task) % 20_000)).collect();
                    assert!(index.find_many(Section::Data, &ids).await.unwrap().iter().all(Option::is_some));
                    let number = task * 1_000 + round;
                    assert_eq!(index.find(Section::Data, &id(number)).await.unwrap(), Some(location(number)));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(index.stats().cache_bytes <= 200 << 10);
}
