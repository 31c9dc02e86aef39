//! Disk images: files that hold a disk. No hypervisor is needed to read or write them.

mod chain;
mod direct;
mod file;
mod format;
mod gate;
mod hypervisor;
mod identity;
mod layer;
mod lock;
mod memory;
mod partial;
mod qcow2;
mod raw;
mod restore;
mod source;
mod token;
mod tracking;

pub use format::{ImageFormat, probe_format};
pub use gate::ImageGate;
pub use hypervisor::{ImageDisk, ImageWorkload, ImagesHypervisor};
#[doc(hidden)]
pub use memory::MemoryImage;
pub use partial::PARTIAL_ENDING;
pub use qcow2::{BitmapInfo, Compression, Qcow2Sink};
pub use raw::RawSink;
pub use source::{ImageSource, open_image};
pub use tracking::Tracking;
