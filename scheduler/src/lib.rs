//! When and by whom: Backstay's pure decisions about time, retention and work.
//!
//! Nothing here does I/O or has a clock: time comes in with each call, so that every decision can be asked for in advance and
//! tested at any moment of any year.
//!
//! - [`retention`]: which restore points to keep, and why.
//! - [`queue`]: jobs in memory.

pub mod queue;
pub mod retention;

pub use queue::MemoryQueue;
pub use retention::{Candidate, Decision, Reason, Zone, plan_retention};
