//! Backstay's way to disks.

pub mod image;

pub use image::{ImageFormat, ImageGate, ImageSource, RawSink, Tracking, open_image, probe_format};
