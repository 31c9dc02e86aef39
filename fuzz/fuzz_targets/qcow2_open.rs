//! Any bytes as a qcow2 image: opened, walked and read, bitmaps included.
#![no_main]

use backstay_hypervisor::image::MemoryImage;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(image) = MemoryImage::open(bytes.to_vec()) {
        let _either = image.bitmaps();
        let _either = image.walk(16 << 20);
    }
});
