//! Disk images: files that hold a disk. No hypervisor is needed to read or write them.

mod chain;
#[doc(hidden)]
pub mod file;
mod format;
mod gate;
mod identity;
mod layer;
mod lock;
mod partial;
mod qcow2;
mod raw;
mod source;
mod token;
mod tracking;

pub use format::{ImageFormat, probe_format};
pub use gate::ImageGate;
pub use partial::PARTIAL_ENDING;
pub use qcow2::{BitmapInfo, Compression, Qcow2Sink};
pub use raw::RawSink;
pub use source::{ImageSource, open_image};
pub use tracking::Tracking;
