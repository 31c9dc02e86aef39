//! What every [`DiskSource`](backstay_core::DiskSource) and [`DiskSink`](backstay_core::DiskSink) does.

mod sink;
mod source;
#[cfg(test)]
mod tests;

pub use sink::sink_conformance;
pub use source::{read_all, source_conformance};
