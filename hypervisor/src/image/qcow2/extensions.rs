//! Header extensions: typed records between the header and the end of the first cluster.

use backstay_core::{Error, Result};

use super::be::{u32_at, u64_at};

const END: u32 = 0;
const BACKING_FORMAT: u32 = 0xe279_2aca;
const FEATURE_NAMES: u32 = 0x6803_f857;
const BITMAPS: u32 = 0x2385_2875;
const DATA_FILE: u32 = 0x4441_5441;
const FEATURE_ENTRY: usize = 48;

/// Where the bitmap directory is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BitmapsExtension {
    pub count: u32,
    pub directory_bytes: u64,
    pub directory_offset: u64,
}

/// What the extensions say.
#[derive(Debug, Default)]
pub(crate) struct Extensions {
    pub backing_format: Option<Vec<u8>>,
    pub data_file: Option<Vec<u8>>,
    pub bitmaps: Option<BitmapsExtension>,
    incompatible_names: Vec<(u8, String)>,
}

impl Extensions {
    /// Walks the records of `first`, the first cluster, from `at` on. They end at the backing file's name.
    pub(crate) fn parse(first: &[u8], mut at: usize, backing_offset: u64) -> Result<Self> {
        let limit = match usize::try_from(backing_offset) {
            Ok(offset) if offset > 0 => offset.min(first.len()),
            _ => first.len(),
        };
        let mut found = Self::default();
        while at + 8 <= limit {
            let (kind, len) = (u32_at(first, at), u32_at(first, at + 4) as usize);
            if kind == END {
                break;
            }
            let data =
                len.checked_add(at + 8).filter(|end| *end <= limit).and_then(|end| first.get(at + 8..end)).ok_or_else(
                    || {
                        Error::integrity("Damaged qcow2 header: an extension ends outside the first cluster")
                            .with_context("type", format!("{kind:#x}"))
                    },
                )?;
            found.take(kind, data);
            at += 8 + len.next_multiple_of(8);
        }
        Ok(found)
    }

    fn take(&mut self, kind: u32, data: &[u8]) {
        match kind {
            BACKING_FORMAT => self.backing_format = Some(data.to_vec()),
            DATA_FILE => self.data_file = Some(data.to_vec()),
            BITMAPS if data.len() >= 24 => {
                self.bitmaps = Some(BitmapsExtension {
                    count: u32_at(data, 0),
                    directory_bytes: u64_at(data, 8),
                    directory_offset: u64_at(data, 16),
                });
            }
            FEATURE_NAMES => {
                for entry in data.chunks_exact(FEATURE_ENTRY).filter(|entry| entry[0] == 0) {
                    let name = entry[2..].split(|byte| *byte == 0).next().unwrap_or_default();
                    // The image is foreign: its words go into messages as plain text alone.
                    let name = String::from_utf8_lossy(name).chars().filter(|c| !c.is_control()).collect();
                    self.incompatible_names.push((entry[1], name));
                }
            }
            // An extension is safe to ignore by definition; what is not has an incompatible feature bit as well.
            _ => {}
        }
    }

    /// What the image itself calls this incompatible feature.
    pub(crate) fn incompatible_name(&self, bit: u8) -> String {
        match self.incompatible_names.iter().find(|(number, _)| *number == bit) {
            Some((_, name)) => format!("{name:?} (bit {bit})"),
            None => format!("incompatible feature bit {bit}"),
        }
    }
}
