//! Who takes part in a run.

use std::sync::Arc;

use backstay_storage::MemoryBackend;
use backstay_testkit::SeededRandom;

use crate::{
    actor::{Program, Spec, derive},
    fault::Rates,
    invariants,
    model::Model,
    programs,
    search::Choice,
    template::{Key, Template},
    world::{Lie, Settings, World},
};

const WORKLOADS: [&str; 3] = ["web", "db", "mail"];

/// What a run came to.
pub struct Outcome {
    pub trace: Vec<String>,
    pub failure: Option<String>,
    pub reached: std::collections::BTreeMap<&'static str, u64>,
    pub choices: Vec<Choice>,
    /// Of a search: the actor of every operation.
    pub order: Vec<usize>,
}

impl Outcome {
    /// Two runs of a seed have the same.
    pub fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for line in &self.trace {
            hasher.update(line.as_bytes()).update(b"\n");
        }
        hasher.finalize()
    }
}

/// Runs the actors of a seed.
pub fn random(template: &Arc<Template>, seed: u64, lie: Option<Lie>) -> Outcome {
    let draw = SeededRandom::new(derive(seed, "scenario", 0));
    let per_10_000 = [0, 20, 80, 250][draw.below(4) as usize];
    let settings =
        Settings { seed, rates: Rates { per_10_000, clones: 1 + draw.below(2) }, search: None, lie, max_steps: 50_000 };
    let before =
        (0..draw.below(3)).map(|at| Before { key: Key::WriterA, workload: WORKLOADS[at as usize / 2], now: at });
    run(template, settings, None, before.collect(), cast(seed, &draw))
}

/// A point that is there when the actors start.
pub struct Before {
    pub key: Key,
    pub workload: &'static str,
    pub now: u64,
}

fn cast(seed: u64, draw: &SeededRandom) -> Vec<Spec> {
    let mut cast = Vec::new();
    let mut add = |name: String, program: Program, clonable: bool| {
        let skew = if draw.below(3) == 0 { draw.below(20 * 86_400) as i64 - 10 * 86_400 } else { 0 };
        let seed = derive(seed, "actor", cast.len() as u64);
        cast.push(Spec { name, seed, decisions: seed, skew, program, clonable });
    };
    for number in 1..=2 + draw.below(2) {
        let key = [Key::WriterA, Key::WriterA, Key::WriterB, Key::Owner][draw.below(4) as usize];
        let workload = WORKLOADS[draw.below(3) as usize];
        add(format!("W{number}"), programs::writer(key, workload, 1 + draw.below(2)), true);
    }
    if draw.below(2) == 0 {
        let key = [Key::Keeper, Key::Owner][draw.below(2) as usize];
        add("F".into(), programs::forgetter(key, 1 + draw.below(2)), draw.below(2) == 0);
    }
    for number in 1..=draw.below(3) {
        let key = [Key::Keeper, Key::Owner][draw.below(2) as usize];
        add(format!("P{number}"), programs::collector(key, 2 + draw.below(3)), draw.below(2) == 0);
    }
    if draw.below(3) == 0 {
        add("R".into(), programs::reader(Key::Reader, 1 + draw.below(2)), false);
    }
    if draw.below(6) == 0 {
        add("C".into(), programs::checker(Key::Owner), false);
    }
    cast
}

/// Runs these actors to their end, in a runtime of their own whose time is simulated.
pub fn run(
    template: &Arc<Template>,
    settings: Settings,
    there: Option<(&MemoryBackend, &Model)>,
    before: Vec<Before>,
    cast: Vec<Spec>,
) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without threads can be made");
    runtime.block_on(async {
        let world = World::new(settings, template, there);
        for point in before {
            let made = programs::already_there(&world, point.key, point.workload, point.now).await;
            made.expect("a backup on a quiet store succeeds");
        }
        for spec in cast {
            world.spawn(spec, 0, None);
        }
        world.run().await;
        let cut = world.state().cut;
        if !world.failed() && !cut {
            invariants::at_the_end(&world).await;
        }
        let mut state = world.state();
        Outcome {
            trace: std::mem::take(&mut state.trace),
            failure: state.failure.take(),
            reached: std::mem::take(&mut state.reached),
            choices: std::mem::take(&mut state.choices),
            order: std::mem::take(&mut state.order),
        }
    })
}
