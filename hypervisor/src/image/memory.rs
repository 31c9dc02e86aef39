//! A qcow2 image in memory, for tests and fuzzing: the same parser and reader without files and tasks.

use std::sync::Arc;

use backstay_core::{Extent, ExtentKind, RangeSet, Result};

use super::{
    chain::Chain,
    file::ReadAt,
    layer::{Layer, Scratch},
    qcow2::{Bitmap, Header, bitmaps},
};

/// A qcow2 image that stands alone.
#[derive(Debug)]
pub struct MemoryImage {
    file: Arc<dyn ReadAt>,
    layer: Layer,
}

impl MemoryImage {
    /// Opens the image that these bytes are.
    pub fn open(bytes: Vec<u8>) -> Result<Self> {
        let file: Arc<dyn ReadAt> = Arc::new(bytes);
        Ok(Self { layer: Chain::open_alone(Arc::clone(&file))?, file })
    }

    /// Bytes of the disk.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.layer.size()
    }

    /// As `DiskSource::extents`.
    pub fn extents(&self, range: std::ops::Range<u64>) -> Result<Vec<Extent>> {
        self.layer.extents(range)
    }

    /// As `DiskSource::read`.
    pub fn read(&self, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
        let mut buffer = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
        self.layer.read(range.start, &mut buffer, &mut Scratch::new())?;
        Ok(buffer)
    }

    /// The bits of every bitmap.
    pub fn bitmaps(&self) -> Result<Vec<(String, Option<RangeSet>)>> {
        let header = Header::read(self.file.as_ref())?;
        let all = bitmaps(self.file.as_ref(), &header)?;
        let bits = |bitmap: Bitmap| Ok((bitmap.info.name.clone(), bitmap.load(self.file.as_ref(), &header)?));
        all.into_iter().map(bits).collect()
    }

    /// Walks the disk and reads what is data, window by window, until `budget` bytes are read or 1000 answers are in. Gives the
    /// bytes that were read.
    pub fn walk(&self, budget: u64) -> Result<u64> {
        let (mut at, mut read) = (0, 0);
        for _ in 0..1000 {
            if at >= self.size() {
                break;
            }
            for extent in self.extents(at..self.size())? {
                assert!(extent.range.start == at && extent.range.end > at, "{extent:?} after {at}");
                at = extent.range.end;
                let mut from = extent.range.start;
                while extent.kind == ExtentKind::Data && from < at && read < budget {
                    let to = at.min(from + (1 << 20));
                    self.read(from..to)?;
                    read += to - from;
                    from = to;
                }
            }
        }
        Ok(read)
    }
}
