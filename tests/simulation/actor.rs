//! A process that uses the repository: a program with randomness, a clock and a store of its own.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use backstay_core::{Clock, Context, Limits, RandomSource, Result, Spawner, Timestamp};
use backstay_storage::Repository;
use backstay_testkit::SeededRandom;
use futures::future::BoxFuture;

use crate::{store::SimStore, template::Key, world::World};

/// What an actor does from its start to its end. It can be started again for a clone, and then must do the same as long as
/// it is given the same.
pub type Program = Arc<dyn Fn(Handle) -> BoxFuture<'static, ()> + Send + Sync>;

/// What an actor is made of.
#[derive(Clone)]
pub struct Spec {
    pub name: String,
    /// Decides its randomness.
    pub seed: u64,
    /// Decides what its program does.
    pub decisions: u64,
    /// How wrong its clock is, in seconds.
    pub skew: i64,
    pub program: Program,
    /// Whether a fault may clone it.
    pub clonable: bool,
}

/// What a program works with.
#[derive(Clone)]
pub struct Handle {
    pub world: Arc<World>,
    pub actor: usize,
    pub ctx: Context,
    decide: Arc<Stream>,
}

/// A seeded stream of numbers that a clone can leave for another.
#[derive(Debug)]
pub struct Stream(Mutex<SeededRandom>);

impl Stream {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(SeededRandom::new(seed)))
    }

    pub fn switch(&self, seed: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = SeededRandom::new(seed);
    }

    pub fn below(&self, end: u64) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).below(end)
    }
}

impl RandomSource for Stream {
    fn fill(&self, buffer: &mut [u8]) -> Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(buffer)
    }
}

/// The two streams of an actor: what keys and ids are made of, and what its program decides by.
#[derive(Clone)]
pub struct Streams {
    pub random: Arc<Stream>,
    pub decide: Arc<Stream>,
}

impl Streams {
    pub fn new(spec: &Spec) -> Self {
        let stream = |seed, purpose| Arc::new(Stream::new(derive(seed, purpose, 0)));
        Self { random: stream(spec.seed, "random"), decide: stream(spec.decisions, "decide") }
    }
}

/// A number for a purpose, of a seed.
pub fn derive(seed: u64, purpose: &str, number: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(&number.to_le_bytes()).update(purpose.as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// Runs jobs at once, where they were asked for.
pub struct Inline;

impl Spawner for Inline {
    fn spawn_blocking(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }

    fn spawn_cpu(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }
}

struct ActorClock {
    world: Arc<World>,
    actor: usize,
}

impl Clock for ActorClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.world.read_clock(self.actor))
    }
}

/// Everything that could differ from machine to machine is fixed.
pub fn fixed_context() -> Context {
    let mut limits = Limits::default().cpu_jobs(2).uploads(2).downloads(4);
    limits.windows = 2;
    Context::default().with_limits(limits).with_spawner(Arc::new(Inline))
}

/// A context for what is done beside the simulation, on a store that nobody else uses.
pub fn quiet_context(seed: u64) -> Context {
    struct Counter(AtomicU64);
    impl Clock for Counter {
        fn now(&self) -> Timestamp {
            Timestamp::from_nanos(1_795_000_000_000_000_000 + self.0.fetch_add(1, Ordering::Relaxed) as i64)
        }
    }
    fixed_context().with_random(Arc::new(SeededRandom::new(seed))).with_clock(Arc::new(Counter(AtomicU64::new(0))))
}

impl Handle {
    pub fn new(world: &Arc<World>, actor: usize, streams: &Streams) -> Self {
        let clock = ActorClock { world: Arc::clone(world), actor };
        let ctx = fixed_context().with_random(streams.random.clone()).with_clock(Arc::new(clock));
        Self { world: Arc::clone(world), actor, ctx, decide: Arc::clone(&streams.decide) }
    }

    /// Opens the repository as a process with this key does.
    pub async fn open(&self, key: Key) -> Result<Repository> {
        let store = Arc::new(SimStore::new(Arc::clone(&self.world), self.actor));
        Repository::open_with_bundle(store, self.world.template.bundle(key)).await
    }

    /// A number below `end`: what the program decides.
    pub fn draw(&self, end: u64) -> u64 {
        self.decide.below(end)
    }

    /// True in so many of a hundred cases.
    pub fn percent(&self, percent: u64) -> bool {
        self.draw(100) < percent
    }
}

impl Handle {
    /// Writes a line into the trace.
    pub fn note(&self, text: impl std::fmt::Display) {
        self.world.note(self.actor, text);
    }
}
