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
    /// Whether every event must have happened.
    pub all_events: bool,
}

const HELP: &str = "\
Options:
  --seeds N      how many seeds (default 2000, in debug builds 100)
  --first N      the first of them (default 0)
  --seed N       this seed alone, with its trace, twice
  --threads N    default: one for each core";

impl Options {
    /// None when there is nothing to run: help, or a filter of `cargo test` that means other tests.
    pub fn from_arguments() -> Option<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let seeds = if cfg!(debug_assertions) { 100 } else { 2000 };
        let mut options = Self { first: 0, seeds, trace: false, threads: cores, replay: 8, all_events: true };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number = || arguments.next().and_then(|number| number.parse().ok()).unwrap_or_else(|| usage());
            match argument.as_str() {
                "--seeds" => options.seeds = number(),
                "--first" => options.first = number(),
                "--threads" => options.threads = number() as usize,
                "--seed" => {
                    options = Self { first: number(), seeds: 1, trace: true, threads: 1, replay: 1, all_events: false };
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
        options.all_events &= options.seeds >= seeds;
        Some(options)
    }
}

fn usage() -> ! {
    eprintln!("{HELP}");
    std::process::exit(2);
}
