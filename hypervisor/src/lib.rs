//! Backstay's way to disks.

pub mod image;

pub use image::{
    BitmapInfo, ImageFormat, ImageGate, ImageSource, Qcow2Sink, RawSink, Tracking, open_image, probe_format,
};
