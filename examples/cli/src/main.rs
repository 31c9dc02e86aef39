//! The command line of Backstay: see `docs/guide/cli.md`.

mod app;
mod args;
mod commands;
mod exit;
mod interrupt;
mod output;
mod place;
mod progress;
mod prompt;
mod secrets;
mod sides;
mod ssh;
mod units;
mod views;
mod window;

use clap::Parser;

use crate::{app::App, args::Cli};

/// Threads that wait for files, beside one for each core. Few, as the allocator keeps memory for every thread.
const BLOCKING_THREADS: usize = 6;

fn main() {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => exit::usage(&error),
    };
    let app = App::new(cli.global);
    // More threads do not help: the engine's work runs on the runtime's blocking threads, as many as there are cores.
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, 4))
        .max_blocking_threads(BLOCKING_THREADS + cores)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => app.finish(app.fail(&backstay::Error::io(error, "Start the runtime"))),
    };
    let code = runtime.block_on(interrupt::run(&app, commands::run(cli.command, &app)));
    // Exits with the runtime still there: dropping it would wait for threads that wait for a pipe or a person.
    app.finish(code)
}
