//! One layer of a disk: a raw file, or a qcow2 image with what it builds on.

use std::{ops::Range, sync::Arc};

use backstay_core::{Extent, ExtentKind, Result, disk::MAX_EXTENTS};

use super::{
    file::{ReadAt, read_padded},
    qcow2::{Compression, Decompressor, Qcow2},
};

/// How many table entries one call of `extents` looks at, at most.
const MAX_LOOKED_AT: u64 = 1 << 20;

/// Anything that a disk or a backing file can be.
#[derive(Debug)]
pub(crate) enum Layer {
    /// The bytes of the file are the bytes of the disk.
    Raw(Arc<dyn ReadAt>),
    /// A qcow2 image.
    Qcow2(Box<Qcow2>),
}

impl Layer {
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Raw(file) => file.len(),
            Self::Qcow2(image) => image.header().size,
        }
    }

    /// Fills `buffer` from `offset` on; all of it lies inside the layer.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8], scratch: &mut Scratch) -> Result<()> {
        match self {
            Self::Raw(file) => read_padded(file.as_ref(), offset, buffer),
            Self::Qcow2(image) => image.read(offset, buffer, scratch),
        }
    }

    /// Adds what lies in `range` to the map, until the map is full.
    pub(crate) fn map(&self, range: Range<u64>, map: &mut Map) -> Result<()> {
        let file = match self {
            Self::Raw(file) => file,
            Self::Qcow2(image) => return image.map(range, map),
        };
        let mut at = range.start;
        while at < range.end && map.wants_more() {
            let (kind, end) =
                if file.knows_holes() { file.run_at(at..range.end)? } else { (ExtentKind::Data, range.end) };
            map.looked_at(1);
            map.add(end, kind);
            at = end;
        }
        Ok(())
    }

    /// What lies in `range`, as [`backstay_core::DiskSource::extents`] wants it.
    pub(crate) fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>> {
        let mut map = Map { extents: Vec::new(), at: range.start, looked_at: 0 };
        self.map(range, &mut map)?;
        Ok(map.extents)
    }
}

/// Extents on their way into an answer: coalesced and bounded in number and in work.
#[derive(Debug)]
pub(crate) struct Map {
    extents: Vec<Extent>,
    at: u64,
    looked_at: u64,
}

impl Map {
    /// Whether the answer may still grow. Always true at first, so that there is an answer.
    pub(crate) fn wants_more(&self) -> bool {
        self.extents.is_empty() || (self.extents.len() < MAX_EXTENTS && self.looked_at < MAX_LOOKED_AT)
    }

    /// Counts work.
    pub(crate) const fn looked_at(&mut self, count: u64) {
        self.looked_at += count;
    }

    /// What has not been added yet is `kind` as far as `end`.
    pub(crate) fn add(&mut self, end: u64, kind: ExtentKind) {
        if end <= self.at {
            return;
        }
        let range = self.at..end;
        self.at = end;
        match self.extents.last_mut() {
            Some(last) if last.kind == kind => last.range.end = end,
            _ => self.extents.push(Extent { range, kind }),
        }
    }
}

/// What a read needs besides its target; kept for the whole read.
pub(crate) struct Scratch {
    decompressor: Decompressor,
    input: Vec<u8>,
}

impl Scratch {
    pub(crate) const fn new() -> Self {
        Self { decompressor: Decompressor::new(), input: Vec::new() }
    }

    /// Room for `len` compressed bytes.
    pub(crate) fn input(&mut self, len: usize) -> &mut [u8] {
        if self.input.len() < len {
            self.input.resize(len, 0);
        }
        &mut self.input[..len]
    }

    /// Decompresses the first `len` bytes of [`Self::input`].
    pub(crate) fn decompress(&mut self, kind: Compression, len: usize, cluster: &mut [u8]) -> Result<()> {
        self.decompressor.run(kind, &self.input[..len], cluster)
    }
}
