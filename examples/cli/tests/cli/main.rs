//! The real binary, from outside.

#![cfg(test)]

mod buckets;
mod commands;
mod copy;
mod forget;
mod images;
mod incremental;
mod interrupt;
mod keys;
mod kill;
mod kit;
mod passphrases;
mod prune;
mod repair;
mod restore;
mod room;
mod sftp;
