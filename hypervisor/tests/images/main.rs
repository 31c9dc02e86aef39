//! Disk images against `qemu-img` and `qemu-io`, which say what is right.
#![allow(clippy::unwrap_used, reason = "helpers of tests are not marked as tests")]

mod conformance;
mod damage;
mod hypervisor;
mod matrix;
mod qemu;
mod tracking;
mod writers;
