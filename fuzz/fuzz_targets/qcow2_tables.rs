//! A sound header with any tables behind it, so that mutations reach them.
#![no_main]

use backstay_hypervisor::image::MemoryImage;
use libfuzzer_sys::fuzz_target;

const CLUSTER: usize = 512;

fuzz_target!(|bytes: &[u8]| {
    let Some((options, tables)) = bytes.split_first_chunk::<4>() else { return };
    let mut image = vec![0; CLUSTER];
    image[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    // Clusters of 512 bytes, or of 16 KiB with subclusters when there are enough bytes for that.
    let extended = options[0] & 1 == 1;
    image[23] = if extended { 14 } else { 9 };
    let cluster = 1usize << image[23];
    image.resize(cluster, 0);
    image[24..32].copy_from_slice(&(u64::from(options[1]) * 4099).to_be_bytes());
    image[36..40].copy_from_slice(&32u32.to_be_bytes());
    image[40..48].copy_from_slice(&(2 * cluster as u64).to_be_bytes());
    image[48..56].copy_from_slice(&(cluster as u64).to_be_bytes());
    image[56..60].copy_from_slice(&1u32.to_be_bytes());
    // The compression type and, when asked for, subclusters.
    image[79] = 0b1000 | u8::from(extended) << 4;
    image[96..100].copy_from_slice(&4u32.to_be_bytes());
    image[100..104].copy_from_slice(&112u32.to_be_bytes());
    image[104] = options[2] & 1;
    // An empty refcount table: it is not needed for reading.
    image.resize(2 * cluster, 0);
    image.extend_from_slice(tables);
    if let Ok(image) = MemoryImage::open(image) {
        let _either = image.walk(16 << 20);
    }
});
