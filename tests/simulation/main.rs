//! The deterministic simulation: see `README.md`.

// Every actor is a test: it speaks by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod actor;
mod call;
mod fault;
mod guest;
mod inspect;
mod invariants;
mod model;
mod options;
mod programs;
mod scenario;
mod schedule;
mod search;
mod stats;
mod store;
mod template;
mod world;

use std::{
    collections::HashSet,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use backstay_storage::repository::mutation::{Mutation, switch_on};
use options::Options;
use scenario::Outcome;
use search::{SMALL, Small};
use stats::Stats;
use template::Template;
use world::Lie;

/// Runs in which each lie of a store must be noticed.
const LYING_SEEDS: u64 = 400;

fn main() -> ExitCode {
    let Some(options) = Options::from_arguments() else { return ExitCode::SUCCESS };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let template = Arc::new(runtime.block_on(Template::make()).expect("a repository in memory can be made"));
    let kept = if options.seeds > 0 { random_runs(&options, &template) } else { true };
    if options.mutations > 0 {
        return if mutations_are_noticed(&options, &template) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let kept = kept && (!options.all_events || lies_are_noticed(&options, &template));
    if kept && search_runs(&options, &template) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every rule of the protocol, to be broken.
const MUTATIONS: [Mutation; 10] = [
    Mutation::NoSecondHead,
    Mutation::ReuseCondemned,
    Mutation::EarlyParent,
    Mutation::SweepEarly,
    Mutation::OverwriteOutcome,
    Mutation::MarkLiveOnly,
    Mutation::NoVerdict,
    Mutation::TwoGenerations,
    Mutation::MergeOld,
    Mutation::OneToken,
];

/// Whether breaking a rule of the protocol is caught, one after the other: each is needed, and the simulation sees why.
fn mutations_are_noticed(options: &Options, template: &Arc<Template>) -> bool {
    let mut all = true;
    // A seed that fails with every rule in place proves nothing about a rule.
    let seeds = options.first..options.first + options.mutations;
    let broken: HashSet<_> = seeds.filter(|seed| scenario::random(template, *seed, None).failure.is_some()).collect();
    println!("{} of {} seeds fail with every rule in place", broken.len(), options.mutations);
    for mutation in MUTATIONS {
        switch_on(Some(mutation));
        let (next, caught) = (AtomicU64::new(options.first), Mutex::new(None));
        std::thread::scope(|scope| {
            for _ in 0..options.threads {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= options.first + options.mutations || caught.lock().expect("no panic").is_some() {
                            return;
                        }
                        if broken.contains(&seed) {
                            continue;
                        }
                        if let Some(failure) = scenario::random(template, seed, None).failure {
                            caught.lock().expect("no panic").get_or_insert((seed, failure));
                        }
                    }
                });
            }
        });
        switch_on(None);
        match caught.into_inner().expect("no panic") {
            Some((seed, failure)) => println!("{mutation:?} is noticed at seed {seed}: {failure:.100}"),
            None => {
                println!("{mutation:?} is not noticed in {} seeds", options.mutations);
                all = false;
            }
        }
    }
    all
}

/// Whether a store that breaks a promise is caught: otherwise no run proves anything.
fn lies_are_noticed(options: &Options, template: &Arc<Template>) -> bool {
    let noticed = |lie: &Lie| {
        let caught = (0..LYING_SEEDS)
            .find_map(|seed| Some((seed, scenario::random(template, options.first + seed, Some(*lie)).failure?)));
        match &caught {
            Some((seed, failure)) => println!("{lie:?} is noticed at seed {seed}: {failure:.90}"),
            None => println!("{lie:?} is not noticed in {LYING_SEEDS} runs: the simulation is blind"),
        }
        caught.is_some()
    };
    Lie::ALL.iter().all(noticed)
}

/// The search of all small scenarios, dealt out to all cores. True when every promise was kept.
fn search_runs(options: &Options, template: &Arc<Template>) -> bool {
    let wanted = |small: &&Small| options.scenario.as_ref().is_none_or(|name| name == small.name);
    let scenarios: Vec<_> = SMALL.iter().filter(wanted).collect();
    if let (Some(schedule), [small]) = (&options.schedule, &scenarios[..]) {
        let outcome = small.run(template, schedule.clone());
        println!("{}\n{:?}", outcome.trace.join("\n"), outcome.failure);
        return outcome.failure.is_none();
    }
    let share = options.threads.clamp(1, scenarios.len().max(1)) as f64 / scenarios.len().max(1) as f64;
    let each = Duration::from_secs(options.search_seconds).mul_f64(share);
    let (next, kept) = (AtomicUsize::new(0), AtomicBool::new(true));
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| {
                while let Some(small) = scenarios.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let explored = small.explore(template, options.bound, Instant::now() + each);
                    let bound = explored.bound.map_or("none complete".to_owned(), |bound| format!("all up to {bound}"));
                    println!("search {:<24} {:>7} schedules; preemptions: {bound}", explored.name, explored.schedules);
                    if let Some(failure) = explored.failure {
                        println!("{failure}");
                        kept.store(false, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    kept.into_inner()
}

/// Seeds dealt out to all cores. True when every promise was kept.
fn random_runs(options: &Options, template: &Arc<Template>) -> bool {
    let (next, failed, stats) = (AtomicU64::new(options.first), AtomicBool::new(false), Mutex::new(Stats::default()));
    let started = Instant::now();
    let end = options.first + options.seeds;
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    let outcome = scenario::random(template, seed, None);
                    let again = (seed % options.replay == 0).then(|| scenario::random(template, seed, None));
                    if let Some(text) = judge(seed, &outcome, again.as_ref(), options) {
                        if options.keep_going {
                            println!("seed {seed}: {}", outcome.failure.as_deref().unwrap_or("two runs differ"));
                            continue;
                        }
                        // One tale at a time, and only the first.
                        let mut stats = stats.lock().expect("no thread panics with the lock");
                        if !failed.swap(true, Ordering::Relaxed) {
                            println!("{text}");
                        }
                        stats.add(&outcome);
                        return;
                    }
                    stats.lock().expect("no thread panics with the lock").add(&outcome);
                }
            });
        }
    });
    let stats = stats.into_inner().expect("no thread panics with the lock");
    println!("{}", stats.table(started.elapsed(), options.threads));
    !failed.into_inner() && stats.complete(options)
}

/// What to print of a run that broke a promise.
fn judge(seed: u64, outcome: &Outcome, again: Option<&Outcome>, options: &Options) -> Option<String> {
    let replay = format!("cargo test --release --test simulation -- --seed {seed}");
    if options.trace {
        println!("{}", outcome.trace.join("\n"));
    }
    if let Some(failure) = &outcome.failure {
        return Some(format!("{}\n\nseed {seed}: {failure}\nreplay: {replay}\n", outcome.trace.join("\n")));
    }
    let again = again?;
    if again.hash() == outcome.hash() {
        return None;
    }
    let differs = outcome.trace.iter().zip(&again.trace).position(|(one, other)| one != other);
    let at = differs.unwrap_or_else(|| outcome.trace.len().min(again.trace.len()));
    let line = |outcome: &Outcome| outcome.trace.get(at).cloned().unwrap_or_default();
    Some(format!(
        "seed {seed}: two runs differ from line {at} on:\n{}\n{}\nreplay: {replay}\n",
        line(outcome),
        line(again)
    ))
}
