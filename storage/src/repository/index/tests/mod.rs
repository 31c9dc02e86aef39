//! Tests of segments and the index, over a cipher and an object that live in memory.

mod frozen;
mod hostile;
pub mod kit;
mod limits;
mod lookup;
mod memory;
mod property;
