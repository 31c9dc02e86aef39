//! qcow2, QEMU's image format.

mod be;
mod bitmap;
mod cache;
mod decompress;
mod entry;
mod extensions;
mod header;
mod layout;
mod metadata;
mod read;
mod snapshots;
mod tables;
mod write;

pub use bitmap::BitmapInfo;
pub(crate) use bitmap::{Bitmap, list as bitmaps};
pub(crate) use cache::TableCache;
pub(crate) use decompress::Decompressor;
pub use header::Compression;
pub(crate) use header::{Header, MAGIC};
pub(crate) use read::Qcow2;
pub(crate) use tables::Tables;
pub use write::Qcow2Sink;
