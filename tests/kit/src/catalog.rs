//! What every [`Catalog`] does.

use std::{collections::BTreeMap, sync::Arc};

use backstay_core::{
    Catalog, Consistency, DiskId, DiskRecord, ErrorKind, PointQuery, Provenance, ReadMethod, RestorePoint,
    RestorePointId, Timestamp, Workload, WorkloadId,
};

/// Runs every check, each on a fresh, empty catalog that `fresh` makes. Panics where the catalog is wrong.
pub async fn conformance(fresh: impl AsyncFn() -> Arc<dyn Catalog>) {
    what_is_recorded_comes_back(&*fresh().await).await;
    recording_twice_is_once(&*fresh().await).await;
    forgetting_is_idempotent(&*fresh().await).await;
    finding_filters_orders_and_limits(&*fresh().await).await;
}

/// A restore point of `workload` that differs from every other in all that differs among its arguments.
#[must_use]
pub fn point(id: u8, workload: &str, seconds: i64) -> RestorePoint {
    RestorePoint {
        id: RestorePointId::from_bytes([id; 16]),
        workload: Workload {
            id: WorkloadId::new(workload).expect("a fine name"),
            kind: "vm".into(),
            platform: BTreeMap::from([("host".into(), "a \"host\" — Zürich".into())]),
        },
        time: Timestamp::from_nanos(1_234_567_890).plus_seconds(seconds),
        sequence: u64::from(id),
        parent: (id > 1).then(|| RestorePointId::from_bytes([id - 1; 16])),
        consistency: Consistency::Filesystem,
        labels: BTreeMap::from([("keep".into(), "year".into())]),
        disks: vec![DiskRecord {
            id: DiskId::new("vda").expect("a fine name"),
            size: u64::from(id) << 40,
            method: ReadMethod::Compared,
            reason: Some("no token".into()),
            read_bytes: 7,
        }],
        streams: Vec::new(),
        attachments: Vec::new(),
        read_bytes: 7,
        stored_bytes: 3,
        provenance: (id.is_multiple_of(2))
            .then(|| Provenance { repository: "0a".repeat(16), point: RestorePointId::from_bytes([id + 100; 16]) }),
    }
}

async fn record(catalog: &dyn Catalog, points: &[RestorePoint]) {
    for point in points {
        catalog.record(point).await.expect("record");
    }
}

async fn what_is_recorded_comes_back(catalog: &dyn Catalog) {
    let points = [point(1, "web", 0), point(2, "database", 1)];
    record(catalog, &points).await;
    for point in &points {
        assert_eq!(&catalog.get(&point.id).await.expect("get"), point, "a point came back changed");
    }
    let absent = catalog.get(&RestorePointId::from_bytes([77; 16])).await.expect_err("a point that is not there");
    assert_eq!(absent.kind(), ErrorKind::NotFound);
}

async fn recording_twice_is_once(catalog: &dyn Catalog) {
    record(catalog, &[point(1, "web", 0), point(1, "web", 0)]).await;
    let other = catalog.record(&point(1, "web", 5)).await.expect_err("another point under the same id");
    assert_eq!(other.kind(), ErrorKind::Conflict);
    assert_eq!(find(catalog, PointQuery::default()).await, [1]);
    let kept = catalog.get(&RestorePointId::from_bytes([1; 16])).await.expect("get");
    assert_eq!(kept, point(1, "web", 0), "a refused record changes nothing");
}

async fn forgetting_is_idempotent(catalog: &dyn Catalog) {
    let (one, two) = (point(1, "web", 0), point(2, "web", 1));
    record(catalog, &[one.clone(), two]).await;
    catalog.forget(&one.id).await.expect("forget");
    catalog.forget(&one.id).await.expect("forget what is forgotten");
    assert_eq!(find(catalog, PointQuery::default()).await, [2]);
    assert_eq!(catalog.get(&one.id).await.expect_err("the forgotten").kind(), ErrorKind::NotFound);
    catalog.record(&one).await.expect("a forgotten point may come back");
}

async fn find(catalog: &dyn Catalog, query: PointQuery) -> Vec<u8> {
    let found = catalog.find(&query).await.unwrap_or_else(|error| panic!("find {query:?}: {error}"));
    found.iter().map(|point| point.id.as_bytes()[0]).collect()
}

async fn finding_filters_orders_and_limits(catalog: &dyn Catalog) {
    assert_eq!(find(catalog, PointQuery::default()).await, [0; 0], "an empty catalog finds nothing");
    // 4 and 3 are of one moment.
    let points =
        [point(4, "web", 20), point(1, "web", 0), point(2, "web-2", 10), point(3, "web", 20), point(5, "web", 30)];
    record(catalog, &points).await;
    let web = || WorkloadId::new("web").expect("a fine name");
    let second = |seconds| point(1, "web", seconds).time;
    assert_eq!(find(catalog, PointQuery::default()).await, [5, 3, 4, 2, 1], "newest first, then by id");
    assert_eq!(find(catalog, PointQuery::default().workload(web())).await, [5, 3, 4, 1]);
    assert_eq!(
        find(catalog, PointQuery::default().taken(second(10)..second(30))).await,
        [3, 4, 2],
        "the end is not in a span"
    );
    assert_eq!(find(catalog, PointQuery::default().limit(2)).await, [5, 3]);
    assert_eq!(find(catalog, PointQuery::default().limit(0)).await, [0; 0]);
    let both = PointQuery::default().workload(web()).taken(second(0)..second(21)).limit(2);
    assert_eq!(find(catalog, both).await, [3, 4]);
}
