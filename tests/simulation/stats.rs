//! How often what happened, so that nobody trusts a simulation in which nothing does.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use crate::{fault::Fault, options::Options, scenario::Outcome};

/// Events, beside all faults, that must happen in a run of all seeds.
const EXPECTED: &[&str] = &[
    "chain: condemn",
    "chain: verdict",
    "check",
    "clone, fresh randomness",
    "clone, the same randomness",
    "commit",
    "commit: refused",
    "commit: unsure or failed",
    "disk: changed blocks",
    "disk: compared",
    "disk: full",
    "dropped",
    "forget",
    "given up",
    "incremental",
    "outcome: aborted",
    "outcome: commit",
    "outcome: fenced",
    "prune: condemned",
    "prune: fenced",
    "prune: points removed",
    "prune: released again",
    "prune: repacked",
    "prune: swept",
    "prune: waits",
    "request after its process",
    "restore",
    "resume",
];

#[derive(Default)]
pub struct Stats {
    runs: u64,
    operations: u64,
    /// In how many runs, and how often.
    events: BTreeMap<&'static str, (u64, u64)>,
}

impl Stats {
    pub fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.operations += outcome.trace.len() as u64;
        for (event, times) in &outcome.reached {
            let (runs, all) = self.events.entry(event).or_default();
            *runs += 1;
            *all += times;
        }
    }

    /// For eyes.
    pub fn table(&self, took: Duration, threads: usize) -> String {
        let seconds = took.as_secs_f64().max(0.001);
        let rate = self.runs as f64 / seconds;
        let mut table = format!(
            "{} runs, {} lines of trace, {seconds:.1} s: {rate:.0} runs/s on {threads} threads\n{:<32} {:>8} {:>9}\n",
            self.runs, self.operations, "", "runs", "times"
        );
        for (event, (runs, times)) in &self.events {
            // Writing to a string cannot fail.
            let _ = writeln!(table, "{event:<32} {runs:>8} {times:>9}");
        }
        table
    }

    /// Whether everything that can happen did.
    pub fn complete(&self, options: &Options) -> bool {
        let faults = Fault::ALL.iter().map(|fault| fault.name());
        let missing: Vec<_> =
            faults.chain(EXPECTED.iter().copied()).filter(|event| !self.events.contains_key(event)).collect();
        if options.all_events && !missing.is_empty() {
            println!("These never happened, so that the runs prove nothing about them: {}", missing.join(", "));
            return false;
        }
        true
    }
}
