//! One compressed cluster in, one cluster out, never more and never less.

use backstay_core::{Error, Result};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::{
    stream::raw::{Decoder, InBuffer, Operation, OutBuffer},
    zstd_safe::DParameter,
};

use super::header::Compression;

/// A frame must not ask for a larger window than this, log2: twice the largest cluster, 4 MiB.
const MAX_WINDOW_LOG: u32 = 22;

/// Decompresses clusters. Kept for a whole read, as making one costs more than a small cluster.
pub(crate) struct Decompressor {
    zlib: Option<Decompress>,
    zstd: Option<Decoder<'static>>,
}

fn damaged(what: &str) -> Error {
    Error::integrity(format!("Damaged qcow2 image: a compressed cluster {what}; see qemu-img check"))
}

impl Decompressor {
    pub(crate) const fn new() -> Self {
        Self { zlib: None, zstd: None }
    }

    /// Fills `cluster` from `input`, which may go on after the compressed bytes.
    pub(crate) fn run(&mut self, kind: Compression, input: &[u8], cluster: &mut [u8]) -> Result<()> {
        match kind {
            Compression::Zlib => self.inflate(input, cluster),
            Compression::Zstd => self.unzstd(input, cluster),
        }
    }

    fn inflate(&mut self, input: &[u8], cluster: &mut [u8]) -> Result<()> {
        let state = self.zlib.get_or_insert_with(|| Decompress::new(false));
        state.reset(false);
        let broken = |_| damaged("cannot be inflated");
        let status = state.decompress(input, cluster, FlushDecompress::Finish).map_err(broken)?;
        if state.total_out() != cluster.len() as u64 {
            return Err(damaged("inflates to less than a cluster"));
        }
        if status == Status::StreamEnd {
            return Ok(());
        }
        // All of the cluster is there, only the end mark may be missing yet.
        let rest = input.get(state.total_in() as usize..).unwrap_or_default();
        match state.decompress(rest, &mut [0; 1], FlushDecompress::Finish).map_err(broken)? {
            Status::StreamEnd if state.total_out() == cluster.len() as u64 => Ok(()),
            _ => Err(damaged("inflates to more than a cluster or does not end")),
        }
    }

    fn unzstd(&mut self, input: &[u8], cluster: &mut [u8]) -> Result<()> {
        let internal = |error| Error::internal("zstd could not be set up").with_context("cause", error);
        let decoder = match &mut self.zstd {
            Some(decoder) => decoder,
            empty => {
                let mut decoder = Decoder::new().map_err(internal)?;
                decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG)).map_err(internal)?;
                empty.insert(decoder)
            }
        };
        decoder.reinit().map_err(internal)?;
        let (size, mut input) = (cluster.len(), InBuffer::around(input));
        let mut output = OutBuffer::around(cluster);
        loop {
            let before = (input.pos(), output.pos());
            let hint = decoder.run(&mut input, &mut output).map_err(|_| damaged("is no zstd frame"))?;
            match hint {
                0 if output.pos() == size => return Ok(()),
                0 => return Err(damaged("holds less than a cluster")),
                _ if before == (input.pos(), output.pos()) => {
                    return Err(damaged("holds more than a cluster or does not end"));
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use backstay_core::ErrorKind;
    use flate2::{Compression as Level, write::DeflateEncoder};
    use std::io::Write;

    use super::*;

    fn deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Level::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_compressed_cluster_is_exactly_one_cluster() {
        let plain: Vec<u8> = (0..65536u32).map(|at| ((at * at) >> 7) as u8).collect();
        let compressed =
            [(Compression::Zlib, deflate(&plain)), (Compression::Zstd, zstd::bulk::compress(&plain, 3).unwrap())];
        let mut decompressor = Decompressor::new();
        for (kind, bytes) in compressed {
            for padding in [0, 1, 511] {
                let mut input = bytes.clone();
                input.extend(std::iter::repeat_n(0xa5, padding));
                let mut cluster = vec![0; plain.len()];
                decompressor.run(kind, &input, &mut cluster).unwrap();
                assert!(cluster == plain);
            }
            for wrong in [0, 1, 512, plain.len() - 1, plain.len() + 1, 2 * plain.len()] {
                let error = decompressor.run(kind, &bytes, &mut vec![0; wrong]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Integrity, "{kind:?} {wrong}");
            }
            let error = decompressor.run(kind, &bytes[..bytes.len() / 2], &mut vec![0; plain.len()]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Integrity);
        }
    }
}
