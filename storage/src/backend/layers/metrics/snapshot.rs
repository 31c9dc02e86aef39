//! What was counted, as it is shown and stored.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

/// What a store was asked for, by operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct StoreMetrics {
    /// Of `put`.
    pub put: OperationMetrics,
    /// Of `get`.
    pub get: OperationMetrics,
    /// Of `get_range`.
    pub get_range: OperationMetrics,
    /// Of `head`.
    pub head: OperationMetrics,
    /// Of `delete`.
    pub delete: OperationMetrics,
    /// Of `list`.
    pub list: OperationMetrics,
}

/// What one operation was asked for and how it did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct OperationMetrics {
    /// Calls that began.
    pub calls: u64,
    /// Bytes of bodies, of calls that succeeded.
    pub bytes: u64,
    /// Calls whose caller did not wait for the end.
    pub abandoned: u64,
    /// Calls that failed, by [`backstay_core::ErrorKind::name`]. Kinds that did not occur are left out.
    pub errors: BTreeMap<String, u64>,
    /// How long calls took that ended, failed ones included.
    pub latency: Histogram,
}

/// How many took how long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Histogram {
    /// How many took less than 1, 2, 4, 8, … microseconds and no less than the one before; the last number counts all that took longer.
    pub counts: Vec<u64>,
    /// The time of all together, in microseconds.
    pub sum_micros: u64,
}

impl Histogram {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// A time that this share of calls (0 to 1) did not exceed, known to a factor of two. Nothing when there were no calls, or when
    /// the answer lies beyond the longest time that is told apart.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = (self.count() as f64 * share.clamp(0.0, 1.0)).ceil().max(1.0) as u64;
        let mut seen = 0u64;
        for (number, count) in self.counts.iter().enumerate() {
            seen = seen.saturating_add(*count);
            if seen >= wanted {
                let longest = number + 1 == self.counts.len() || number >= u64::BITS as usize;
                return (!longest).then(|| Duration::from_micros(1 << number));
            }
        }
        None
    }
}
