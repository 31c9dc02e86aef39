//! Which requests grow with a repository: counts on two synthetic ones of which the second is ten times as large.
//! `cargo bench --bench size` measures the same, and memory, at any size.

#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use backstay::{
    Context, Counts, FaultBackend, MemoryBackend, ObjectKey, Repository, StorageBackend, Workload, WorkloadId,
    repository::{
        Credential, InitOptions, PruneOptions, SessionOptions,
        crypto::kdf::KdfParameters,
        synthetic::{self, Shape},
    },
};
use futures::TryStreamExt;

const PASSPHRASE: &str = "measured";

struct Store {
    faults: Arc<FaultBackend>,
    /// Sizes of index segments and of packs of map nodes.
    segments: Vec<u64>,
    meta: Vec<u64>,
}

impl Store {
    async fn of(chunks: u64, points: u64) -> Self {
        let ctx = Context::default();
        let faults = Arc::new(FaultBackend::new(Arc::new(MemoryBackend::new())));
        let kdf = KdfParameters { memory_kib: 64, passes: 1, lanes: 1 };
        let options = InitOptions::passphrase(PASSPHRASE).kdf(kdf).recovery(false);
        let made = Repository::init(faults.clone(), options, &ctx).await.unwrap();
        let shape = Shape { chunks, points, points_of_workload: 20, at_once: 2 };
        synthetic::fill(&made.repository, shape, &ctx).await.unwrap();
        let (segments, meta) = (sizes(&faults, "index").await, sizes(&faults, "meta").await);
        Self { faults, segments, meta }
    }

    /// What a command costs that opens the repository and does this.
    async fn cost<T>(&self, work: impl AsyncFnOnce(Repository) -> T) -> (T, Counts) {
        self.faults.reset_counts();
        let credential = Credential::passphrase(PASSPHRASE);
        let repository = Repository::open(self.faults.clone(), credential, &Context::default()).await.unwrap();
        let done = work(repository).await;
        (done, self.faults.counts())
    }
}

async fn sizes(backend: &FaultBackend, folder: &str) -> Vec<u64> {
    let folder = ObjectKey::new(folder).unwrap();
    backend.list(Some(&folder)).map_ok(|meta| meta.size).try_collect().await.unwrap()
}

fn requests(counts: &Counts) -> u64 {
    counts.puts + counts.gets + counts.range_gets + counts.heads + counts.lists + counts.deletes
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_generation_has_settled_costs_no_requests_and_a_prune_reads_metadata_once() {
    let (small, large) = (Store::of(20_000, 20).await, Store::of(200_000, 200).await);
    let ctx = Context::default();

    let mut opened = Vec::new();
    for (store, points) in [(&small, 20), (&large, 200)] {
        let (_, open) = store.cost(async |_| ()).await;
        let (listed, list) = store.cost(async |repository| repository.points().await.unwrap().len()).await;
        assert_eq!(listed, points);
        opened.push((requests(&open), requests(&list)));
    }
    assert_eq!(opened[0], opened[1], "requests of `open` and of `points`");
    assert!(opened[1].1 <= 18, "{opened:?}");

    for store in [&small, &large] {
        let (plan, cost) = store
            .cost(async |repository| repository.prune(&PruneOptions::default().dry_run(true), &ctx).await.unwrap())
            .await;
        assert_eq!(plan.pack_bytes, store.meta.iter().sum::<u64>());
        let (segments, meta) = (store.segments.len() as u64, store.meta.len() as u64);
        let index_bytes: u64 = store.segments.iter().sum();
        // A pack of nodes is read once for each level of the maps in it, a segment once for its footer, in sections and for look-ups.
        println!("prune plan of {segments} segments, {meta} packs of nodes: {cost:?}");
        assert!(requests(&cost) <= 40 + 3 * meta + 8 * segments, "{cost:?}, {segments} segments, {meta} packs");
        assert!(cost.bytes_got <= 3 * (plan.pack_bytes + index_bytes) + (1 << 20), "{cost:?}");
    }

    let begin = async |repository: Repository| {
        let workload = Workload {
            id: WorkloadId::new("workload-00000").unwrap(),
            kind: "vm".into(),
            platform: Default::default(),
        };
        let session = repository.begin(workload, SessionOptions::default(), &ctx).await.unwrap();
        assert!(session.parent().unwrap().is_some());
        session.abort().await;
    };
    for store in [&small, &large] {
        let (_, cost) = store.cost(begin).await;
        println!("begin: {cost:?}");
        assert!(requests(&cost) <= 26 + 2 * store.segments.len() as u64, "{cost:?}");
    }

    let ids: Vec<_> = (0..1000).map(|number| synthetic::chunk_id(3, number * 8)).collect();
    let (found, _) = large.cost(async |repository| synthetic::look_up(&repository, &ids).await.unwrap()).await;
    assert_eq!(found, ids.len());
}
