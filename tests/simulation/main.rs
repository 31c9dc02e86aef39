//! The deterministic simulation: see `README.md`.

// Every actor is a test: it speaks by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod actor;
mod call;
mod fault;
mod guest;
mod inspect;
mod invariants;
mod known;
mod model;
mod options;
mod programs;
mod scenario;
mod schedule;
mod search;
mod small;
mod stats;
mod steps;
mod store;
mod template;
mod world;

use std::{
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
use search::Search;
use small::{Judged, MUTATIONS, SMALL, Scene, Small};
use stats::Stats;
use template::Template;
use world::Lie;

/// Runs in which each lie of a store must be noticed.
const LYING_SEEDS: u64 = 400;
/// The most that the scenario of a broken rule may take to show it.
const MUTATION_SECONDS: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let Some(options) = Options::from_arguments() else { return ExitCode::SUCCESS };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let template = Arc::new(runtime.block_on(Template::make()).expect("a repository in memory can be made"));
    let kept = if options.seeds > 0 { random_runs(&options, &template) } else { true };
    let kept = kept && (!options.all_events || lies_are_noticed(&options, &template));
    let kept = kept && (options.search_seconds == 0 || search_runs(&options, &template));
    let kept = kept && (options.mutations == 0 || mutations_are_noticed(&options, &template));
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether breaking a rule of the protocol is caught, one after the other: each is needed, and the simulation sees why. First by the small
/// scenario that was made for the rule, else by seeds.
fn mutations_are_noticed(options: &Options, template: &Arc<Template>) -> bool {
    let wanted = |(mutation, _, _): &&(Mutation, &str, Judged)| {
        options.mutation.as_ref().is_none_or(|name| *name == format!("{mutation:?}"))
    };
    let noticed: Vec<bool> = MUTATIONS
        .iter()
        .filter(wanted)
        .map(|(mutation, name, judged)| {
            let small = Small::named(name).expect("every mutation has a scenario");
            let started = Instant::now();
            switch_on(Some(*mutation));
            let explored =
                small.explore(template, options.bound, started + MUTATION_SECONDS, *judged == Judged::InTheEnd);
            switch_on(None);
            let how = match &explored.failure {
                Some(failure) => Some((format!("scenario {name}"), failure.clone())),
                None => noticed_by_seeds(*mutation, options, template),
            };
            let took = started.elapsed().as_secs_f64();
            match &how {
                Some((place, failure)) => {
                    if options.mutation.is_some() {
                        println!("{failure}");
                    }
                    println!("{mutation:?} is noticed by {place} after {} schedules, {took:.1} s", explored.schedules);
                    println!("    {}", broken_promise(failure));
                }
                None => println!("{mutation:?} is not noticed: {} schedules, {took:.1} s", explored.schedules),
            }
            how.is_some()
        })
        .collect();
    noticed.iter().all(|noticed| *noticed)
}

/// The line of a tale that says what was broken.
fn broken_promise(failure: &str) -> &str {
    let line = failure.lines().find(|line| line.contains("VIOLATION")).unwrap_or(failure).trim();
    line.get(..200).unwrap_or(line)
}

fn noticed_by_seeds(mutation: Mutation, options: &Options, template: &Arc<Template>) -> Option<(String, String)> {
    let (next, caught) = (AtomicU64::new(options.first), Mutex::new(None));
    switch_on(Some(mutation));
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= options.first + options.mutations || caught.lock().expect("no panic").is_some() {
                        return;
                    }
                    if let Some(failure) = scenario::random(template, seed, None).failure {
                        caught.lock().expect("no panic").get_or_insert((seed, failure));
                    }
                }
            });
        }
    });
    switch_on(None);
    let (seed, failure) = caught.into_inner().expect("no panic")?;
    // A seed that fails with every rule in place proves nothing about a rule.
    let fails_anyway = scenario::random(template, seed, None).failure.is_some();
    (!fails_anyway).then(|| (format!("seed {seed}"), failure))
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
        let scene = Scene::make(small, template);
        let outcome = small.run(&scene, Search { prefix: schedule.clone(), shared: None, lenient: false });
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
                    let explored = small.explore(template, options.bound, Instant::now() + each, false);
                    let bound = explored.bound.map_or("none complete".to_owned(), |bound| format!("all up to {bound}"));
                    println!(
                        "search {:<26} {:>7} schedules, {:>8} states; preemptions: {bound}",
                        explored.name, explored.schedules, explored.states
                    );
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
