//! Big-endian integers out of byte slices that may be too short.

/// The big-endian `u16` at `at`; zero where the slice ends.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array_at(bytes, at))
}

/// The big-endian `u32` at `at`; zero where the slice ends.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array_at(bytes, at))
}

/// The big-endian `u64` at `at`; zero where the slice ends.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(array_at(bytes, at))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    if let Some(slice) = at.checked_add(N).and_then(|end| bytes.get(at..end)) {
        array.copy_from_slice(slice);
    }
    array
}

/// A table of big-endian `u64`s.
pub(crate) fn u64s(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks::<8>().0.iter().map(|word| u64::from_be_bytes(*word)).collect()
}
