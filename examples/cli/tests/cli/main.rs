//! The real binary, from outside.

#![cfg(test)]

mod commands;
mod copy;
mod forget;
mod images;
mod incremental;
mod interrupt;
mod kill;
mod kit;
mod passphrases;
mod restore;
mod room;
mod s3;
