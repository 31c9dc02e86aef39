//! What all calls of one backend may spend on waiting.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use backstay_core::{RandomSource, Result};
use tokio::time::Instant;

use super::RetryOptions;

pub(super) struct Budget {
    options: RetryOptions,
    random: Arc<dyn RandomSource>,
    state: Mutex<State>,
}

struct State {
    /// Retries that are left.
    left: u32,
    /// All retries ever.
    retries: u64,
    silence: Option<Silence>,
    met: bool,
}

/// Since when the store has not answered.
#[derive(Clone, Copy)]
struct Silence {
    began: Instant,
    last_failure: Instant,
    /// A call found the next pause to be too long. Nobody fills what is left with shorter ones.
    given_up: bool,
}

impl Budget {
    pub(super) fn new(options: RetryOptions, random: Arc<dyn RandomSource>) -> Self {
        let state = Mutex::new(State { left: options.retries, retries: 0, silence: None, met: false });
        Self { options, random, state }
    }

    pub(super) const fn options(&self) -> &RetryOptions {
        &self.options
    }

    pub(super) fn retries(&self) -> u64 {
        self.state().retries
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store answered, whatever it said.
    pub(super) fn answered(&self) {
        let mut state = self.state();
        state.silence = None;
        state.met = true;
        state.left = (state.left + 1).min(self.options.retries);
    }

    /// The pause before a call that has failed so many times is tried again; nothing when it must not be.
    pub(super) fn pause_after(&self, failures: u32) -> Result<Option<Duration>> {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes)?;
        let doubled = self.options.first_pause.saturating_mul(1u32.checked_shl(failures - 1).unwrap_or(u32::MAX));
        let pause = jittered(doubled.min(self.options.longest_pause), u64::from_le_bytes(bytes));
        let now = Instant::now();
        let mut state = self.state();
        let patience = if state.met { self.options.patience } else { self.options.first_contact };
        // When nobody has asked for long, the silence of then tells nothing about now.
        let known = state.silence.filter(|silence| now.duration_since(silence.last_failure) <= patience);
        let (began, given_up) = known.map_or((now, false), |silence| (silence.began, silence.given_up));
        let given_up = given_up || now.duration_since(began) + pause > patience;
        state.silence = Some(Silence { began, last_failure: now, given_up });
        if failures >= self.options.attempts || given_up || state.left == 0 {
            return Ok(None);
        }
        state.left -= 1;
        state.retries += 1;
        Ok(Some(pause))
    }
}

/// Anything up to the whole pause, so that many callers do not come back at once.
fn jittered(pause: Duration, random: u64) -> Duration {
    // The upper 32 bits are a fraction of 2^32.
    let nanos = (pause.as_nanos() * u128::from(random >> 32)) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
