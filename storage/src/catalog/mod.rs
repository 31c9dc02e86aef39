//! Catalogs: indexes of restore points over many repositories, always rebuildable from them.

mod memory;

pub use memory::MemoryCatalog;
