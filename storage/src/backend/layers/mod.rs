//! Backends around other backends, each for one concern.
//!
//! Stack them so, from the outside in: [`MetricsBackend`] (what is asked for), [`ReadCacheBackend`] (what needs no store),
//! [`RetryBackend`] (patience), [`ThrottleBackend`] (what really goes over the line, retries included), the store.

mod metrics;
mod read_cache;
mod retry;
mod throttle;

pub use metrics::{Histogram, MetricsBackend, OperationMetrics, StoreMetrics};
pub(crate) use read_cache::Wanted;
pub use read_cache::{CacheOptions, CacheStats, ReadCacheBackend};
pub use retry::{RetryBackend, RetryOptions};
pub use throttle::{ThrottleBackend, ThrottleOptions};

#[cfg(test)]
mod tests;
