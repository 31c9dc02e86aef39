//! Keys of a repository: who can do what with which of them, by real objects and clients that keep to no rule.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod forgery;
mod kit;
mod poison;
mod races;
mod secrecy;
mod slots;
