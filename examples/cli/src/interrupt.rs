//! ^C: first ask to stop, then stop.

use std::{pin::pin, time::Duration};

use backstay::{Error, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{app::App, exit};

/// How long a stopped operation may take to clean up. All of it must be over within a second.
const GRACE: Duration = Duration::from_millis(800);

/// Runs a command to its end, or until a signal stops it. Gives the exit code.
pub async fn run(app: &App, command: impl Future<Output = Result<u8>>) -> u8 {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return app.fail(&error),
    };
    let mut command = pin!(command);
    let outcome = tokio::select! {
        outcome = &mut command => outcome,
        number = signals.next() => {
            app.ctx.cancel().cancel();
            app.progress.note("Stopping; once more to stop at once");
            let outcome = tokio::select! {
                outcome = &mut command => outcome,
                () = tokio::time::sleep(GRACE) => Err(Error::cancelled()),
                _again = signals.next() => Err(Error::cancelled()),
            };
            // What was finished all the same is finished.
            return match outcome {
                Ok(code) => code,
                Err(_) => {
                    app.fail(&Error::cancelled());
                    exit::SIGNALS + number
                }
            };
        }
    };
    outcome.unwrap_or_else(|error| app.fail(&error))
}

/// The signals that ask to stop, with their numbers.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(|error| Error::io(error, "Listen for signals"));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hangup.recv() => 1,
        }
    }
}
