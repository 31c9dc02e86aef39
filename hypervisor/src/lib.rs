//! Backstay's way to disks: images now, hypervisors on top.
//!
//! It hands out [`DiskSource`](backstay_core::DiskSource)s and [`DiskSink`](backstay_core::DiskSink)s and knows no
//! repository, so it is of use alone:
//!
//! ```
//! use backstay_core::{Context, DiskSource, Result};
//! use backstay_hypervisor::{ImageFormat, ImageGate, Tracking, open_image};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<()> {
//!     # let dir = tempfile::tempdir().unwrap();
//!     # let path = dir.path().join("disk.raw");
//!     # std::fs::write(&path, [7; 1000]).unwrap();
//!     // No backing file is followed, nothing is tracked, and the format is said, not guessed.
//!     let image = open_image(&path, ImageFormat::Raw, &ImageGate::none(), &Tracking::default(), &Context::default()).await?;
//!     for extent in image.extents(0..image.size()).await? {
//!         let bytes = image.read(extent.range.clone(), Vec::new()).await?;
//!         println!("{:?} at {}: {} bytes", extent.kind, extent.range.start, bytes.len());
//!     }
//!     Ok(())
//! }
//! ```

pub mod image;

pub use image::{
    BitmapInfo, ImageDisk, ImageFormat, ImageGate, ImageSource, ImageWorkload, ImagesHypervisor, Qcow2Sink, RawSink,
    Tracking, open_image, probe_format,
};
