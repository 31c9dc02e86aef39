//! Conformance suites for Backstay's traits, and the doubles that tests need.
//!
//! Whoever writes an adapter outside this repository runs the same suites as the adapters in it. A suite is an async
//! function that panics with what went wrong:
//!
//! | trait | suite |
//! |---|---|
//! | [`StorageBackend`](backstay_core::StorageBackend) | [`backend::conformance`] |
//! | [`DiskSource`](backstay_core::DiskSource) | [`disk::source_conformance`] |
//! | [`DiskSink`](backstay_core::DiskSink) | [`disk::sink_conformance`] |
//! | [`Hypervisor`](backstay_core::Hypervisor) | [`hypervisor::conformance`] |
//! | [`Catalog`](backstay_core::Catalog) | [`catalog::conformance`] |
//! | [`JobQueue`](backstay_core::JobQueue) | [`queue::conformance`] |
//!
//! Doubles: [`MemoryDisk`], [`MemorySink`], [`SimulatedHypervisor`], [`SeededRandom`], [`ManualClock`], and from core
//! [`Recorder`]. [`fuzz::smoke`] runs a fuzz target without a fuzzer. Every one of them gives the same at every run.

// A suite speaks by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]
// A set of one range is what is meant, not the numbers in it.
#![allow(clippy::single_range_in_vec_init)]

pub mod backend;
pub mod catalog;
pub mod disk;
pub mod fuzz;
pub mod hypervisor;
mod memory_disk;
mod memory_sink;
pub mod queue;
mod seeded;
mod simulated;

pub use backstay_core::Recorder;
pub use memory_disk::{MemoryDisk, Reads};
pub use memory_sink::{MemorySink, MemorySinkResult};
pub use seeded::{ManualClock, SeededRandom, noise};
pub use simulated::SimulatedHypervisor;
