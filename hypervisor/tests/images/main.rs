//! Disk images against `qemu-img` and `qemu-io`, which say what is right.

mod matrix;
mod qemu;
mod writers;
