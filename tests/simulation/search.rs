//! The bounded-preemption search: every schedule of a small scenario in which an actor that could go on has to wait for
//! another at most so many times.

use std::{sync::Arc, time::Instant};

use backstay_storage::{MemoryBackend, Operation};

use crate::{
    actor::{Program, Spec},
    call::{Call, Reply},
    fault::Rates,
    programs,
    scenario::{self, Before, Outcome},
    template::{Key, Template},
    world::{Search, Settings},
};

/// A place in a schedule where another actor could have gone on.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Who went.
    pub chosen: usize,
    /// Who else could have.
    pub others: Vec<usize>,
    /// Whether the one that went before could have gone on.
    pub could_stay: bool,
    /// Preemptions before this place.
    pub preemptions: usize,
}

/// Whether the moment of this operation among those of others can matter.
///
/// Packs and segments have names of their own, so it does not matter when they are put: only what names them does. Objects are
/// written once, so reading one that is there gives the same at any moment, unless something deletes it.
pub fn interesting(call: &Call, deletes: bool, store: &MemoryBackend) -> bool {
    let content = ["packs", "meta", "index"].iter().any(|folder| call.below(folder));
    match call.operation {
        Operation::Delete | Operation::List => true,
        Operation::Put => !content,
        _ => deletes || matches!(Call::new(Operation::Head, call.key.as_ref()).apply(store), Reply::Failed(_)),
    }
}

/// The prefixes of the schedules next to this one that have not been tried, with at most so many preemptions.
pub fn neighbours(prefix: usize, choices: &[Choice], bound: usize) -> Vec<Vec<usize>> {
    let mut found = Vec::new();
    for (at, choice) in choices.iter().enumerate().skip(prefix) {
        if choice.preemptions + usize::from(choice.could_stay) > bound {
            continue;
        }
        for other in &choice.others {
            let mut next: Vec<_> = choices[..at].iter().map(|choice| choice.chosen).collect();
            next.push(*other);
            found.push(next);
        }
    }
    found
}

/// A small scenario, every schedule of which is tried.
pub struct Small {
    pub name: &'static str,
    before: &'static [(Key, &'static str, u64)],
    cast: fn() -> Vec<(&'static str, Twin, Program)>,
    deletes: bool,
}

/// Actors of one number are incarnations of one process: they draw the same randomness.
type Twin = u64;

/// What is searched. A scenario has two or three actors of one round each, or there is no end to it.
pub const SMALL: &[Small] = &[
    Small {
        name: "two-writers",
        before: &[],
        cast: || {
            vec![
                ("W1", 1, programs::one_backup(Key::WriterA, "web", 0)),
                ("W2", 2, programs::one_backup(Key::WriterA, "web", 1)),
            ]
        },
        deletes: false,
    },
    Small {
        name: "parent-forgotten",
        before: &[(Key::WriterA, "web", 0)],
        cast: || {
            vec![
                ("W1", 1, programs::one_backup(Key::WriterA, "web", 1)),
                ("F", 2, programs::forgetter(Key::Keeper, 1)),
                ("W2", 3, programs::one_backup(Key::WriterB, "web", 2)),
            ]
        },
        deletes: false,
    },
    Small {
        name: "clone",
        before: &[(Key::WriterA, "web", 0)],
        cast: || {
            vec![
                ("W1", 1, programs::one_backup(Key::WriterA, "web", 1)),
                ("W1~", 1, programs::one_backup(Key::WriterA, "web", 2)),
            ]
        },
        deletes: false,
    },
    Small {
        name: "clone-same-content",
        before: &[],
        cast: || {
            vec![
                ("W1", 1, programs::one_backup(Key::WriterA, "web", 1)),
                ("W1~", 1, programs::one_backup(Key::WriterA, "web", 1)),
            ]
        },
        deletes: false,
    },
    Small {
        name: "reader",
        before: &[(Key::WriterA, "web", 0)],
        cast: || {
            vec![
                ("W", 1, programs::one_backup(Key::WriterA, "web", 1)),
                ("F", 2, programs::forgetter(Key::Keeper, 1)),
                ("R", 3, programs::reader(Key::Reader, 1)),
            ]
        },
        deletes: false,
    },
];

impl Small {
    /// Runs one schedule.
    pub fn run(&self, template: &Arc<Template>, prefix: Vec<usize>) -> Outcome {
        let settings = Settings {
            seed: 0,
            rates: Rates::default(),
            search: Some(Search { prefix, deletes: self.deletes }),
            lie: None,
            max_steps: 5_000,
        };
        let before = self.before.iter().map(|&(key, workload, now)| Before { key, workload, now }).collect();
        let spec = |(number, (name, twin, program)): (usize, (&str, Twin, Program))| Spec {
            name: name.to_owned(),
            seed: twin,
            decisions: number as u64,
            skew: 0,
            program,
            clonable: false,
        };
        scenario::run(template, settings, before, (self.cast)().into_iter().enumerate().map(spec).collect())
    }

    /// Tries every schedule with at most so many preemptions, fewest first, until the time is over.
    pub fn explore(&self, template: &Arc<Template>, bound: usize, end: Instant) -> Explored {
        let mut explored = Explored { name: self.name, schedules: 0, bound: None, failure: None };
        for bound in 0..=bound {
            let mut open = vec![Vec::new()];
            while let Some(prefix) = open.pop() {
                if Instant::now() > end {
                    return explored;
                }
                let outcome = self.run(template, prefix.clone());
                explored.schedules += 1;
                if let Some(failure) = &outcome.failure {
                    let schedule: Vec<_> = outcome.choices.iter().map(|choice| choice.chosen.to_string()).collect();
                    explored.failure = Some(format!(
                        "{}\n\nscenario {}: {failure}\nreplay: cargo test --release --test simulation -- --scenario {} \
                         --schedule {}\n",
                        outcome.trace.join("\n"),
                        self.name,
                        self.name,
                        schedule.join(",")
                    ));
                    return explored;
                }
                open.extend(neighbours(prefix.len(), &outcome.choices, bound));
            }
            explored.bound = Some(bound);
        }
        explored
    }
}

/// What came of a search.
pub struct Explored {
    pub name: &'static str,
    pub schedules: u64,
    /// All schedules with so many preemptions were tried.
    pub bound: Option<usize>,
    pub failure: Option<String>,
}
