//! A store at the other end of a line, in tokio's paused time: each request takes a while, and all bytes share one bandwidth.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use backstay_core::{BackendCapabilities, ObjectKey, ObjectMeta, PutMode, Result, Spawner, StorageBackend};
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::time::{Instant, sleep, sleep_until};

/// Requests under way, and the most there ever were.
#[derive(Debug, Default)]
pub struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    fn enter(&self) -> Leave<'_> {
        let now = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
        Leave(self)
    }

    pub fn most(&self) -> usize {
        self.most.load(SeqCst)
    }
}

struct Leave<'a>(&'a Gauge);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, SeqCst);
    }
}

#[derive(Debug)]
pub struct Link {
    inner: Arc<dyn StorageBackend>,
    latency: Duration,
    bytes_per_second: u64,
    free: Mutex<Option<Instant>>,
    pub puts: Gauge,
    pub reads: Gauge,
}

impl Link {
    pub fn new(inner: Arc<dyn StorageBackend>, latency: Duration, bytes_per_second: u64) -> Self {
        let (puts, reads) = Default::default();
        Self { inner, latency, bytes_per_second, free: Mutex::default(), puts, reads }
    }

    async fn pass(&self, bytes: u64) {
        sleep(self.latency).await;
        let done = {
            let mut free = self.free.lock().unwrap();
            let from = free.map_or_else(Instant::now, |free| free.max(Instant::now()));
            let done = from + Duration::from_nanos(bytes * 1_000_000_000 / self.bytes_per_second);
            *free = Some(done);
            done
        };
        sleep_until(done).await;
    }
}

#[async_trait]
impl StorageBackend for Link {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn capabilities(&self) -> BackendCapabilities {
        self.inner.capabilities()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<()> {
        let _under_way = self.puts.enter();
        self.pass(body.len() as u64).await;
        self.inner.put(key, body, mode).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        let _under_way = self.reads.enter();
        let body = self.inner.get(key).await?;
        self.pass(body.len() as u64).await;
        Ok(body)
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        let _under_way = self.reads.enter();
        self.pass(range.end - range.start).await;
        self.inner.get_range(key, range).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        self.pass(0).await;
        self.inner.head(key).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.pass(0).await;
        self.inner.delete(key).await
    }

    fn list(&self, folder: Option<&ObjectKey>) -> BoxStream<'_, Result<ObjectMeta>> {
        self.inner.list(folder)
    }
}

/// Runs jobs at once, so that computing takes none of the paused time.
#[derive(Debug)]
pub struct AtOnce;

impl Spawner for AtOnce {
    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }

    fn spawn_cpu(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }
}
