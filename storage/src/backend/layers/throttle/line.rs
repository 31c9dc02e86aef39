//! One direction of a line that is let only so many bytes a second.

use std::{
    num::NonZeroU64,
    sync::{Mutex as Lock, PoisonError},
    time::Duration,
};

use tokio::{sync::Mutex, time::Instant};

/// A token bucket that holds no more than nothing: what goes through is owed, and the next one waits until it is paid off.
pub(super) struct Line {
    bytes_per_second: NonZeroU64,
    /// Held by whoever waits at the head. First come, first served; one who gives up makes room without having paid.
    turn: Mutex<()>,
    /// When everything that went through so far is paid off.
    paid_off: Lock<Instant>,
}

impl Line {
    pub(super) fn new(bytes_per_second: NonZeroU64) -> Self {
        Self { bytes_per_second, turn: Mutex::new(()), paid_off: Lock::new(Instant::now()) }
    }

    /// Waits until everything before is paid off, then owes this.
    pub(super) async fn pay(&self, bytes: u64) {
        let _turn = self.turn.lock().await;
        loop {
            let paid_off = *self.paid_off.lock().unwrap_or_else(PoisonError::into_inner);
            // What was owed meanwhile counts, too.
            if paid_off <= Instant::now() {
                break;
            }
            tokio::time::sleep_until(paid_off).await;
        }
        self.owe(bytes);
    }

    /// Makes those who come later wait for this.
    pub(super) fn owe(&self, bytes: u64) {
        let micros = u128::from(bytes) * 1_000_000 / u128::from(self.bytes_per_second.get());
        let time = Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX).min(YEAR_MICROS));
        let mut paid_off = self.paid_off.lock().unwrap_or_else(PoisonError::into_inner);
        *paid_off = (*paid_off).max(Instant::now()) + time;
    }
}

/// An instant has an end. Nobody waits this long either.
const YEAR_MICROS: u64 = 365 * 24 * 3600 * 1_000_000;
