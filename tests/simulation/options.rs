//! What the simulation is told on the command line.

/// `cargo test --release --test simulation -- [options]`.
pub struct Options {
    /// The first seed.
    pub first: u64,
    /// How many.
    pub seeds: u64,
    /// Print the trace of every run.
    pub trace: bool,
    pub threads: usize,
    /// Every so manyth seed is run twice, and its traces compared.
    pub replay: u64,
    /// Seconds for the search of all small scenarios together.
    pub search_seconds: u64,
    /// The most preemptions of a schedule.
    pub bound: usize,
    /// Only this small scenario.
    pub scenario: Option<String>,
    /// Of it only this schedule.
    pub schedule: Option<Vec<usize>>,
    /// Go on after failures, with one line each.
    pub keep_going: bool,
    /// Seeds in which a broken rule must be noticed that its scenario does not show; 0 for not to break any.
    pub mutations: u64,
    /// Only this rule.
    pub mutation: Option<String>,
    /// Whether every event must have happened.
    pub all_events: bool,
}

const HELP: &str = "\
Options:
  --seeds N      how many seeds (default 2000, in debug builds 100)
  --first N      the first of them (default 0)
  --seed N       this seed alone, with its trace, twice
  --threads N    default: one for each core
  --keep-going   one line for each seed that fails, and on to the next
  --mutations N  only break one rule of the protocol after the other; each must be noticed by its scenario or within N seeds
  --mutation M   only this rule, with the trace of what it breaks
  --search N     only the search, for N seconds
  --bound N      the most preemptions of a schedule in the search (default 4)
  --scenario S   only this scenario of the search
  --schedule L   of it only the schedule that begins with these choices, with its trace";

impl Options {
    /// None when there is nothing to run: help, or a filter of `cargo test` that means other tests.
    pub fn from_arguments() -> Option<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let seeds = if cfg!(debug_assertions) { 100 } else { 2000 };
        let mut options = Self {
            first: 0,
            seeds,
            trace: false,
            threads: cores,
            replay: 8,
            search_seconds: if cfg!(debug_assertions) { 2 } else { 60 },
            bound: 4,
            scenario: None,
            schedule: None,
            keep_going: false,
            mutations: if cfg!(debug_assertions) { 0 } else { 1000 },
            mutation: None,
            all_events: true,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut text = || arguments.next().unwrap_or_else(|| usage());
            let mut number = || text().parse().unwrap_or_else(|_| usage());
            match argument.as_str() {
                "--search" => (options.search_seconds, options.seeds, options.mutations) = (number(), 0, 0),
                "--mutations" => (options.mutations, options.seeds, options.search_seconds) = (number(), 0, 0),
                "--keep-going" => options.keep_going = true,
                "--bound" => options.bound = number() as usize,
                "--scenario" => (options.scenario, options.seeds, options.mutations) = (Some(text()), 0, 0),
                "--mutation" => {
                    (options.mutation, options.seeds, options.search_seconds) = (Some(text()), 0, 0);
                    options.mutations = options.mutations.max(1);
                }
                "--schedule" => {
                    let parse = |part: &str| part.parse().unwrap_or_else(|_| usage());
                    options.schedule = Some(text().split(',').map(parse).collect());
                }
                "--seeds" => (options.seeds, options.mutations) = (number(), 0),
                "--first" => options.first = number(),
                "--threads" => options.threads = number() as usize,
                "--seed" => {
                    (options.first, options.seeds, options.threads) = (number(), 1, 1);
                    (options.trace, options.replay, options.search_seconds, options.mutations) = (true, 1, 0, 0);
                }
                "--help" => {
                    println!("{HELP}");
                    return None;
                }
                "--list" => {
                    println!("simulation: test");
                    return None;
                }
                filter if !filter.starts_with('-') && !"simulation".contains(filter) => return None,
                // Options of the usual harness have no meaning here.
                _ => {}
            }
        }
        // In a few runs a rare event may be missing.
        options.all_events &= options.seeds >= 1000;
        Some(options)
    }
}

fn usage() -> ! {
    eprintln!("{HELP}");
    std::process::exit(2);
}
