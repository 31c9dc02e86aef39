//! What all actors of a run share: the store, the gate before it, the trace, and what has been promised.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use backstay_core::{ObjectKey, PutMode, RestorePointId};
use backstay_storage::MemoryBackend;
use backstay_testkit::SeededRandom;
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    actor::{Handle, Spec, Streams, derive},
    call::{Call, Reply},
    fault::Rates,
    known::Objects,
    model::Model,
    search::{Choice, Search},
    template::Template,
};

/// The moment at which every run starts, in nanoseconds since 1970.
const START_NANOS: i64 = 1_795_000_000_000_000_000;

/// A promise that the store does not keep: for the proof that the simulation notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Listings leave out the newest puts.
    StaleListings,
    /// Put-if-absent replaces what is there.
    Overwrites,
    /// Now and then a put is acknowledged and lost.
    LosesPuts,
    /// Now and then a pack vanishes, as a wrong delete would make it.
    DropsPacks,
}

impl Lie {
    pub const ALL: [Self; 4] = [Self::StaleListings, Self::Overwrites, Self::LosesPuts, Self::DropsPacks];
}

/// Puts that a stale listing leaves out.
const STALE_PUTS: usize = 6;

/// What a run is.
pub struct Settings {
    pub seed: u64,
    /// How often which fault strikes.
    pub rates: Rates,
    /// For a search; none for a random run.
    pub search: Option<Search>,
    /// How the store breaks its promises.
    pub lie: Option<Lie>,
    /// Operations after which a run is one that never ends.
    pub max_steps: u64,
}

pub struct World {
    pub settings: Settings,
    pub template: Arc<Template>,
    pub store: Arc<MemoryBackend>,
    pub model: Mutex<Model>,
    pub(crate) state: Mutex<State>,
    pub(crate) arrived: Notify,
    started: Instant,
}

/// An operation at the gate.
pub struct Waiting {
    pub actor: usize,
    /// The call as it stands in the trace.
    pub label: String,
    pub call: Call,
    pub stage: Stage,
    /// Slow operations go on from here.
    pub from: Option<Instant>,
    /// Whom to tell; closed when nobody waits any more: then it is a request that its process has left behind.
    pub tell: oneshot::Sender<Reply>,
}

pub enum Stage {
    /// The store has not seen it.
    Asked,
    /// The store has done it and its answer is on the way.
    Answered(Reply),
}

/// What an actor was told, so that a clone can be told the same.
#[derive(Clone)]
pub struct Told {
    pub label: String,
    pub reply: Reply,
}

/// What a clone is told until it is where its original was.
pub struct Replay {
    pub told: VecDeque<Told>,
    pub clock: VecDeque<i64>,
    /// The seed of the stream of randomness from then on; none to go on with the original's.
    pub fresh: Option<u64>,
}

pub struct Actor {
    pub spec: Spec,
    pub streams: Streams,
    /// 0 for an original.
    pub incarnation: u64,
    pub told: Vec<Told>,
    /// Of a search: the hash of all that it was told, which decides where it is.
    pub history: [u8; 16],
    pub clock: Vec<i64>,
    pub frozen_until: Option<Instant>,
    pub replay: Option<Replay>,
    pub task: Option<JoinHandle<()>>,
}

/// Wakes the scheduler when an actor is no more.
struct Ends(Arc<World>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.arrived.notify_one();
    }
}

pub struct State {
    pub actors: Vec<Actor>,
    pub waiting: Vec<Waiting>,
    pub trace: Vec<String>,
    pub random: SeededRandom,
    pub last: Option<usize>,
    pub steps: u64,
    pub reached: BTreeMap<&'static str, u64>,
    pub failure: Option<String>,
    /// Of a search: the schedule so far.
    pub choices: Vec<Choice>,
    pub preemptions: usize,
    /// The actor of every operation, in the order in which they took effect.
    pub order: Vec<usize>,
    /// Another schedule has come, or will come, to where this one is.
    pub cut: bool,
    pub objects: Objects,
    /// Hashes of bodies in the store, as far as they are known.
    pub bodies: HashMap<ObjectKey, [u8; 16]>,
    /// What is other in the store than at the start, and all of that together.
    pub differs: HashMap<ObjectKey, [u8; 16]>,
    pub stored: [u8; 16],
    /// Puts in the order in which they took effect, for stale listings.
    pub newest: Vec<ObjectKey>,
}

impl World {
    /// Call it inside a runtime whose time is paused. Begins with what is there, or with an empty repository.
    pub fn new(settings: Settings, template: &Arc<Template>, there: Option<(&MemoryBackend, &Model)>) -> Arc<Self> {
        let random = SeededRandom::new(derive(settings.seed, "schedule", 0));
        let memory = there.map_or(&template.memory, |(memory, _)| memory);
        let at_the_start = match settings.search {
            Some(_) => memory.keys().into_iter().collect(),
            None => HashSet::new(),
        };
        Arc::new(Self {
            template: Arc::clone(template),
            store: Arc::new(memory.fork()),
            model: Mutex::new(there.map(|(_, model)| model.clone()).unwrap_or_default()),
            state: Mutex::new(State {
                actors: Vec::new(),
                waiting: Vec::new(),
                trace: Vec::new(),
                random,
                last: None,
                steps: 0,
                reached: BTreeMap::new(),
                failure: None,
                choices: Vec::new(),
                preemptions: 0,
                order: Vec::new(),
                cut: false,
                objects: Objects { at_the_start, makers: HashMap::new() },
                bodies: HashMap::new(),
                differs: HashMap::new(),
                stored: [0; 16],
                newest: Vec::new(),
            }),
            arrived: Notify::new(),
            started: Instant::now(),
            settings,
        })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts an actor; one with a replay is a clone.
    pub fn spawn(self: &Arc<Self>, spec: Spec, incarnation: u64, replay: Option<Replay>) {
        let (streams, program) = (Streams::new(&spec), Arc::clone(&spec.program));
        let mut state = self.state();
        let id = state.actors.len();
        let handle = Handle::new(self, id, &streams);
        state.actors.push(Actor {
            spec,
            streams,
            incarnation,
            told: Vec::new(),
            history: [0; 16],
            clock: Vec::new(),
            frozen_until: None,
            replay,
            task: None,
        });
        // It is the runtime's to begin with it; the lock is not held then.
        state.actors[id].task = Some(tokio::spawn(async move {
            // However it ends, the scheduler has to look.
            let _ends = Ends(Arc::clone(&handle.world));
            program(handle).await;
        }));
    }

    /// Waits at the gate.
    pub async fn ask(&self, actor: usize, call: Call) -> Reply {
        let (tell, told) = oneshot::channel();
        {
            let mut state = self.state();
            if self.is_free(&state, actor, &call) {
                let reply = self.take_effect(&mut state, &call);
                self.done(&mut state, actor, &call, &reply);
                let line = format!("{:<8} {call} -> {reply}", state.actors[actor].spec.name);
                state.trace.push(line);
                return reply;
            }
            let label = call.to_string();
            state.waiting.push(Waiting { actor, label, call, stage: Stage::Asked, from: None, tell });
        }
        self.arrived.notify_one();
        match told.await {
            Ok(reply) => reply,
            // The process is dead and is about to be dropped.
            Err(_) => std::future::pending().await,
        }
    }

    /// The store does it now.
    pub fn take_effect(&self, state: &mut State, call: &Call) -> Reply {
        let Some(lie) = self.settings.lie else { return call.apply(&self.store) };
        match lie {
            Lie::Overwrites if call.creates() => {
                return Call { mode: PutMode::Replace, ..call.clone() }.apply(&self.store);
            }
            Lie::LosesPuts if call.creates() && state.random.below(100) == 0 => return Reply::Done,
            _ => {}
        }
        let mut reply = call.apply(&self.store);
        match (lie, &mut reply) {
            (Lie::StaleListings, Reply::Done) if call.creates() => state.newest.extend(call.key.clone()),
            (Lie::StaleListings, Reply::Listing(entries)) => {
                let hidden: Vec<_> = state.newest.iter().rev().take(STALE_PUTS).collect();
                entries.retain(|entry| !hidden.contains(&&entry.key));
            }
            (Lie::DropsPacks, Reply::Done) if call.below("packs") && state.random.below(8) == 0 => {
                let vanishes = call.key.clone();
                drop(Call::new(backstay_storage::Operation::Delete, vanishes.as_ref()).apply(&self.store));
            }
            _ => {}
        }
        reply
    }

    /// What the clock of an actor says; that of a clone says again what it said until it goes its own way.
    pub fn read_clock(&self, actor: usize) -> i64 {
        let mut state = self.state();
        let actor = &mut state.actors[actor];
        let again = actor.replay.as_mut().and_then(|replay| replay.clock.pop_front());
        let elapsed = i64::try_from(self.started.elapsed().as_nanos()).unwrap_or(i64::MAX / 4);
        let elapsed = match self.settings.search {
            // Where an actor is, is decided by what it was told and nothing else.
            Some(_) => actor.clock.len() as i64,
            None => elapsed,
        };
        let now = again.unwrap_or(START_NANOS + actor.spec.skew * 1_000_000_000 + elapsed);
        actor.clock.push(now);
        now
    }

    /// Whether the session was begun before this moment by somebody who is not its beginner again.
    pub fn known(&self, session: RestorePointId) -> bool {
        !self.model().begun.insert(session)
    }

    /// Whether this is a clone on its way to where its original was.
    pub fn replaying(&self, actor: usize) -> bool {
        self.state().actors[actor].replay.is_some()
    }

    pub fn elapsed_millis(&self) -> u128 {
        self.started.elapsed().as_millis()
    }

    /// Notes something that happened, for the table at the end.
    pub fn reached(&self, what: &'static str) {
        *self.state().reached.entry(what).or_default() += 1;
    }

    /// Writes a line that is no operation.
    pub fn note(&self, actor: usize, text: impl std::fmt::Display) {
        let mut state = self.state();
        let line = format!("{:>11} {:<8} * {text}", "", state.actors[actor].spec.name);
        state.trace.push(line);
    }

    /// A broken promise. The first one counts.
    pub fn fail(&self, text: impl Into<String>) {
        let mut state = self.state();
        let text = text.into();
        state.trace.push(format!("{:>11} VIOLATION {text}", ""));
        state.failure.get_or_insert(text);
    }

    pub fn failed(&self) -> bool {
        self.state().failure.is_some()
    }
}
