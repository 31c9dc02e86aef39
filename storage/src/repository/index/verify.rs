//! Reading a whole segment: for checks.

use backstay_core::Result;

use super::{Section, Segment};

impl Segment {
    /// Reads and opens every page: that the object is whole to the last byte.
    pub async fn verify(&self) -> Result<()> {
        for section in Section::ALL {
            for page in 0..self.page_count(section) {
                let read = self.read(self.bytes_of(section, page..page + 1)).await?;
                self.open_page(section, page, &read)?;
            }
        }
        Ok(())
    }
}
