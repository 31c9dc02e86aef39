//! What changed in an image since an earlier backup.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use backstay_core::{ChangeBase, ChangedBlocks, Error, RangeSet, RestorePointId, Result, ResultExt};
use serde::{Deserialize, Serialize};

use super::{
    file::DiskFile,
    identity::FileIdentity,
    qcow2::{Bitmap, BitmapInfo, Header, bitmaps},
    token::{Token, TokenBitmap},
};

/// A ranges file larger than this is refused.
const MAX_RANGES_FILE: u64 = 32 << 20;

/// How an image may tell what changed since an earlier backup. Nothing by default: then everything is read and compared.
///
/// Asked in the order of modification times, bitmap, ranges file: the first that has an answer gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Tracking {
    /// A persistent dirty bitmap of the qcow2 image. Valid when it was enabled and consistent at the parent's time and is
    /// now, and still has every bit that the parent saw; every bit that is set now counts as changed.
    pub bitmap: Option<String>,
    /// A file that lists the changed ranges: `{"since": POINT_ID, "size": N, "ranges": [[offset, length], …]}`.
    pub ranges: Option<PathBuf>,
    /// Whether an image whose files all have the inode, size and times that they had counts as unchanged.
    pub trust_mtime: bool,
}

impl Tracking {
    /// Sets [`Self::bitmap`].
    #[must_use]
    pub fn bitmap(mut self, name: impl Into<String>) -> Self {
        self.bitmap = Some(name.into());
        self
    }

    /// Sets [`Self::ranges`].
    #[must_use]
    pub fn ranges(mut self, path: impl Into<PathBuf>) -> Self {
        self.ranges = Some(path.into());
        self
    }

    /// Sets [`Self::trust_mtime`].
    #[must_use]
    pub const fn trust_mtime(mut self, trust: bool) -> Self {
        self.trust_mtime = trust;
        self
    }
}

/// What the image and the files beside it say, read once when the image is opened.
#[derive(Debug)]
pub(crate) struct Tracker {
    now: Token,
    /// How many of the files hold the top layer: those after them are backing files.
    own_files: usize,
    trust_mtime: bool,
    /// Why there is no usable one, if one was asked for.
    bitmap: Option<Result<(BitmapInfo, RangeSet), String>>,
    ranges: Option<Result<Ranges, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ranges {
    since: RestorePointId,
    size: u64,
    ranges: Vec<(u64, u64)>,
}

impl Tracker {
    /// Reads what `options` ask for. Blocks.
    pub(crate) fn open(
        options: &Tracking,
        mut now: Token,
        own_files: usize,
        image: &DiskFile,
        header: Option<&Header>,
    ) -> Result<Self> {
        let bitmap = options.bitmap.as_ref().map(|name| read_bitmap(name, image, header)).transpose()?;
        if let Some(Ok((info, bits))) = &bitmap {
            now.bitmap = Some(TokenBitmap::new(&info.name, info.granularity, bits));
        }
        let ranges = options.ranges.as_ref().map(|path| read_ranges(path)).transpose()?;
        Ok(Self { now, own_files, trust_mtime: options.trust_mtime, bitmap, ranges })
    }

    /// The image's state when it was opened.
    pub(crate) const fn token(&self) -> &Token {
        &self.now
    }

    /// What changed since `base`.
    pub(crate) fn changed_since(&self, base: &ChangeBase) -> ChangedBlocks {
        let then = match &base.token {
            None => Err("the parent recorded no change token".to_owned()),
            Some(token) => Token::open(token).ok_or("the parent's change token is not one of an image".to_owned()),
        };
        let then = then.and_then(|then| match then.size == base.size {
            true => Ok(then),
            false => Err("the parent's change token is of another disk".to_owned()),
        });
        let mut reasons = Vec::new();
        if self.trust_mtime {
            match then.as_ref().map_err(Clone::clone).and_then(|then| self.untouched_since(then)) {
                Ok(()) => return ChangedBlocks::Untouched,
                Err(reason) => reasons.push(reason),
            }
        }
        if let Some(bitmap) = &self.bitmap {
            match bitmap
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|(info, bits)| self.dirty_since(then.as_ref().map_err(Clone::clone)?, info, bits))
            {
                Ok(dirty) => return ChangedBlocks::Exact(dirty),
                Err(reason) => reasons.push(reason),
            }
        }
        if let Some(ranges) = &self.ranges {
            match ranges.as_ref().map_err(Clone::clone).and_then(|ranges| self.listed_since(base, ranges)) {
                Ok(listed) => return ChangedBlocks::Exact(listed),
                Err(reason) => reasons.push(reason),
            }
        }
        if reasons.is_empty() {
            reasons.push("nothing tracks the changes of this image".into());
        }
        ChangedBlocks::unknown(reasons.join("; "))
    }

    fn untouched_since(&self, then: &Token) -> Result<(), String> {
        if then.files.iter().chain(&self.now.files).any(|file| !file.is_telling()) {
            return Err("the times of a block device tell nothing".into());
        }
        if then.format != self.now.format || then.size != self.now.size || then.files != self.now.files {
            return Err("the image's files have other times, sizes or inodes than at the parent's time".into());
        }
        if then.racy {
            return Err("the image had been written just before the parent was made, so its time does not tell".into());
        }
        Ok(())
    }

    fn dirty_since(&self, then: &Token, info: &BitmapInfo, bits: &RangeSet) -> Result<RangeSet, String> {
        let name = &info.name;
        let old = then.bitmap.as_ref().filter(|old| &old.name == name);
        let old = old.ok_or_else(|| format!("the parent did not record the bitmap {name:?}"))?;
        if old.granularity != info.granularity {
            return Err(format!(
                "the bitmap {name:?} has another granularity than at the parent's time: it was made anew"
            ));
        }
        let old = old.bits(then.size).ok_or("the parent's change token makes no sense")?;
        let common = 0..then.size.min(self.now.size);
        if !old.within(common).all(|range| bits.covers(&range)) {
            return Err(format!("the bitmap {name:?} was cleared or made anew since the parent: it lacks bits it had"));
        }
        // A bitmap knows nothing of what happened below its own image.
        let below = |token: &Token| token.files.get(self.own_files..).map(<[_]>::to_vec).unwrap_or_default();
        let racy = then.racy;
        let (now, then) = (below(&self.now), below(then));
        // Times of the last write can be set back, those of the last change cannot; a device keeps neither.
        if now != then || !now.iter().all(FileIdentity::is_telling) || (racy && !now.is_empty()) {
            return Err(format!("a backing file below the bitmap {name:?} is not what it was at the parent's time"));
        }
        Ok(bits.clone())
    }

    fn listed_since(&self, base: &ChangeBase, ranges: &Ranges) -> Result<RangeSet, String> {
        if ranges.since != base.point {
            return Err(format!(
                "the ranges file counts from {}, the parent is {}",
                ranges.since.short(),
                base.point.short()
            ));
        }
        if ranges.size != self.now.size {
            return Err(format!(
                "the ranges file is of a disk of {} bytes, this one has {}",
                ranges.size, self.now.size
            ));
        }
        let mut listed = Vec::with_capacity(ranges.ranges.len());
        for (offset, len) in &ranges.ranges {
            match offset.checked_add(*len) {
                Some(end) if end <= ranges.size => listed.push(*offset..end),
                _ => return Err(format!("the ranges file lists {len} bytes at {offset}, past the end of the disk")),
            }
        }
        Ok(listed.into_iter().collect())
    }
}

fn read_bitmap(
    name: &str,
    image: &DiskFile,
    header: Option<&Header>,
) -> Result<Result<(BitmapInfo, RangeSet), String>> {
    let Some(header) = header else { return Ok(Err("a raw image has no bitmaps".into())) };
    if header.bitmaps_void {
        return Ok(Err("a program that knows no bitmaps wrote to the image, so they are void".into()));
    }
    let all = bitmaps(image, header)?;
    let Some(bitmap) = all.iter().find(|bitmap| bitmap.info.name == name) else {
        return Ok(Err(format!("the image has no bitmap {name:?}")));
    };
    let reason = match &bitmap.info {
        info if !info.consistent => Some("is in use or was not closed (a QEMU runs or crashed), so it is inconsistent"),
        info if !info.enabled => Some("is disabled and misses writes"),
        _ => None,
    };
    if let Some(reason) = reason {
        return Ok(Err(format!("the bitmap {name:?} {reason}")));
    }
    Ok(match Bitmap::load(bitmap, image, header)? {
        Some(bits) => Ok((bitmap.info.clone(), bits)),
        None => Err(format!("the bitmap {name:?} is too large or too fragmented")),
    })
}

/// A file that is no JSON is a mistake; JSON that is not what it must be is a mismatch, and the disk is compared.
fn read_ranges(path: &Path) -> Result<Result<Ranges, String>> {
    let failed = |error| Error::io(error, "Read ranges file");
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed).context("path", path.display())?;
    file.take(MAX_RANGES_FILE + 1).read_to_end(&mut bytes).map_err(failed).context("path", path.display())?;
    if bytes.len() as u64 > MAX_RANGES_FILE {
        return Err(Error::invalid_input("The ranges file has more than 32 MiB; join ranges that are near each other")
            .with_context("path", path.display()));
    }
    let error = match serde_json::from_slice(&bytes) {
        Ok(ranges) => return Ok(Ok(ranges)),
        Err(error) => error,
    };
    match serde_json::from_slice::<serde::de::IgnoredAny>(&bytes) {
        Ok(_) => Ok(Err(format!("the ranges file is not as it must be: {error}"))),
        Err(error) => {
            Err(Error::invalid_input(format!("The ranges file is not JSON: {error}"))
                .with_context("path", path.display()))
        }
    }
}
