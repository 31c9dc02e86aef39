//! Reading a whole segment, page after page, in large reads.

use std::ops::Range;

use backstay_core::Result;

use super::{Location, Section, Segment, page::Page};

/// Most bytes of one read.
const READ_BYTES: u64 = 32 << 20;

impl Segment {
    /// Shows every record of a section, in the order of their ids.
    pub async fn scan(
        &self,
        section: Section,
        mut record: impl FnMut(&[u8; 32], Location) -> Result<()>,
    ) -> Result<()> {
        let count = self.page_count(section);
        let mut first = 0;
        while first < count {
            let pages = first..self.pages_within(section, first, count);
            let read = self.read(self.bytes_of(section, pages.clone())).await?;
            let start = self.bytes_of(section, first..first + 1).start;
            for page in pages.clone() {
                let at = self.bytes_of(section, page..page + 1);
                let plain =
                    self.open_page(section, page, &read[(at.start - start) as usize..(at.end - start) as usize])?;
                let opened = Page::new(&plain);
                for position in 0..opened.len() {
                    record(opened.id(position), opened.location(position, self.packs())?)?;
                }
            }
            first = pages.end;
        }
        Ok(())
    }

    /// Where a read from page `first` ends.
    fn pages_within(&self, section: Section, first: u32, count: u32) -> u32 {
        let size = |pages: Range<u32>| {
            let bytes = self.bytes_of(section, pages);
            bytes.end - bytes.start
        };
        let (mut low, mut high) = (first + 1, count);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if size(first..middle) <= READ_BYTES {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }
}
