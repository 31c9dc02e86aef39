//! Packing chunks: zstd where it helps, as they are where it does not.

use std::cell::RefCell;

use backstay_core::{Error, Result};
use serde::{Deserialize, Serialize};

use super::crypto::frame::Codec;

/// How hard to compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    /// Not at all.
    None,
    /// zstd at this level, 1 to 19.
    Zstd(u8),
}

impl Default for Compression {
    /// zstd at level 1: of all levels the one with the most saved per second on guest disks.
    fn default() -> Self {
        Self::Zstd(1)
    }
}

impl Compression {
    /// From a level: 0 for none, 1 to 19 for zstd.
    pub fn level(level: u8) -> Result<Self> {
        match level {
            0 => Ok(Self::None),
            1..=19 => Ok(Self::Zstd(level)),
            _ => Err(Error::invalid_input("Compression levels are 0 (none) to 19").with_context("level", level)),
        }
    }
}

thread_local! {
    static COMPRESSOR: RefCell<Option<(u8, zstd::bulk::Compressor<'static>)>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Packs `plain` into `scratch` and says how; with `Raw` the payload is `plain` itself.
pub fn compress(plain: &[u8], compression: Compression, scratch: &mut Vec<u8>) -> Result<Codec> {
    let Compression::Zstd(level) = compression else { return Ok(Codec::Raw) };
    if looks_random(plain) {
        return Ok(Codec::Raw);
    }
    let failed = |error: std::io::Error| Error::internal("zstd failed to compress").with_source(error);
    COMPRESSOR.with_borrow_mut(|held| {
        if held.as_ref().is_none_or(|(at, _)| *at != level) {
            *held = Some((level, zstd::bulk::Compressor::new(i32::from(level)).map_err(failed)?));
        }
        // Invariant: it was just set.
        let Some((_, compressor)) = held else { return Err(Error::internal("No compressor")) };
        scratch.clear();
        scratch.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        compressor.compress_to_buffer(plain, scratch).map_err(failed)?;
        // Saving less than a sixty-fourth is not worth the work of every later read.
        Ok(if scratch.len() + plain.len() / 64 < plain.len() { Codec::Zstd } else { Codec::Raw })
    })
}

/// Unpacks a payload into exactly `plain`.
pub fn decompress(codec: Codec, payload: &[u8], plain: &mut [u8]) -> Result<()> {
    let damaged = || Error::integrity("A chunk does not unpack to the size that its map says");
    match codec {
        Codec::Raw if payload.len() == plain.len() => plain.copy_from_slice(payload),
        Codec::Raw => return Err(damaged()),
        Codec::Zstd => {
            let written = DECOMPRESSOR.with_borrow_mut(|held| {
                if held.is_none() {
                    *held = Some(zstd::bulk::Decompressor::new().map_err(|_| damaged())?);
                }
                // Invariant: it was just set.
                let Some(decompressor) = held else { return Err(damaged()) };
                decompressor.decompress_to_buffer(payload, plain).map_err(|error| damaged().with_source(error))
            })?;
            if written != plain.len() {
                return Err(damaged());
            }
        }
    }
    Ok(())
}

/// Whether a sample of the bytes is spread so evenly that nothing will be saved: what is compressed or encrypted already.
///
/// The sum of squared counts over 256 values of n samples is n²/256 + n for random bytes and more for everything else.
fn looks_random(plain: &[u8]) -> bool {
    const SAMPLES: usize = 4096;
    if plain.len() < 2 * SAMPLES {
        return false;
    }
    let mut counts = [0_u32; 256];
    let step = plain.len() / SAMPLES;
    let sampled = plain.chunks_exact(step).take(SAMPLES);
    sampled.for_each(|chunk| counts[usize::from(chunk[0])] += 1);
    let squares: u64 = counts.iter().map(|count| u64::from(*count).pow(2)).sum();
    let random = (SAMPLES * SAMPLES / 256 + SAMPLES) as u64;
    squares < random + random / 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_compressed_noise_is_not_and_both_come_back() {
        let text = b"all work and no play makes a dull backup. ".repeat(2000);
        let mut noise = vec![0; 70_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        for (plain, expected) in [(text, Codec::Zstd), (noise, Codec::Raw)] {
            let mut scratch = Vec::new();
            let codec = compress(&plain, Compression::default(), &mut scratch).unwrap();
            assert_eq!(codec, expected);
            let payload = if codec == Codec::Zstd { &scratch } else { &plain };
            let mut back = vec![0; plain.len()];
            decompress(codec, payload, &mut back).unwrap();
            assert!(back == plain);
            assert!(decompress(codec, payload, &mut back[1..]).is_err());
            assert!(decompress(codec, payload, &mut vec![0; plain.len() + 1]).is_err());
        }
    }
}
