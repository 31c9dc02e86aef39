//! qcow2, QEMU's image format.

mod be;
mod cache;
mod decompress;
mod entry;
mod extensions;
mod header;
mod metadata;
mod read;
mod snapshots;
mod tables;

pub(crate) use cache::TableCache;
pub(crate) use decompress::Decompressor;
pub use header::Compression;
pub(crate) use header::{Header, MAGIC};
pub(crate) use read::Qcow2;
pub(crate) use tables::Tables;
