//! One function for each fuzz target: it takes any bytes, and what it panics on is a bug. `tests/smoke.rs` runs them all on the
//! stable compiler, `fuzz_targets/` under a fuzzer.
//!
//! A decoder may refuse; it may not panic, loop, or take memory that its input does not pay for, and what it accepts must be
//! what its encoder would have written, wherever an encoding is the only one.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod images;
mod seeds;
mod storage;

pub use images::{change_token, qcow2_open, ranges_file};
pub use storage::{
    cache_file, check_entries, config, envelope, epoch_share, frame, index_footer, index_page, index_trailer,
    known_hosts, map_node, map_walk, pack_directory, pack_trailer, records, segment_without_key, signed_record, slot,
    text, unpack,
};

/// A fuzz target.
pub struct Target {
    /// Its name, also that of its file in `fuzz_targets/`.
    pub name: &'static str,
    /// Its body.
    pub run: fn(&[u8]),
    /// Inputs that it accepts.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        /// Every target. `qcow2_tables` lives in its own file alone: its input is not the image but what it is made of.
        pub const TARGETS: &[Target] =
            &[$(Target { name: stringify!($name), run: $name, seeds: seeds::$name }),*];
    };
}

targets! {
    cache_file, change_token, check_entries, config, envelope, epoch_share, frame, index_footer, index_page, index_trailer, known_hosts,
    map_node, map_walk, pack_directory, pack_trailer, qcow2_open, ranges_file, records, segment_without_key, signed_record,
    slot, text, unpack,
}
