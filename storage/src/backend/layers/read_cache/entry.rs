//! One file of the cache: a body and what it is the body of.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `BSCACHE` and the version, 1 |
//! | 32 | BLAKE3 of [`Wanted`], by which the file is named |
//! | any | the body |
//! | 32 | BLAKE3 of all before |

use std::{ops::Range, path::PathBuf};

use backstay_core::ObjectKey;
use bytes::Bytes;

const MAGIC: &[u8; 8] = b"BSCACHE\x01";
const HASH: usize = 32;
/// What a file has beyond the body.
pub(super) const OVERHEAD: u64 = (MAGIC.len() + 2 * HASH) as u64;

/// A whole object (no range) or a range of one, of one store.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) location: String,
    pub(crate) key: ObjectKey,
    pub(crate) range: Option<Range<u64>>,
}

/// The folder of an object, below that of the cache.
pub(super) fn object_folder(location: &str, key: &ObjectKey) -> PathBuf {
    let name = hex::encode(&object_hash(location, key)[..20]);
    PathBuf::from(&name[..2]).join(&name[2..])
}

fn object_hash(location: &str, key: &ObjectKey) -> [u8; HASH] {
    let mut hasher = blake3::Hasher::new();
    // With its length, so that no other pair reads the same.
    hasher.update(&(location.len() as u64).to_le_bytes());
    hasher.update(location.as_bytes()).update(key.as_str().as_bytes());
    *hasher.finalize().as_bytes()
}

impl Wanted {
    /// Below the folder of the cache.
    pub(super) fn path(&self) -> PathBuf {
        let name = match &self.range {
            Some(range) => format!("{:x}-{:x}", range.start, range.end),
            None => "whole".to_owned(),
        };
        object_folder(&self.location, &self.key).join(name)
    }

    fn hash(&self) -> [u8; HASH] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&object_hash(&self.location, &self.key));
        if let Some(range) = &self.range {
            hasher.update(&range.start.to_le_bytes()).update(&range.end.to_le_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    /// The parts of the file around a body.
    pub(crate) fn seal(&self, body: &[u8]) -> ([u8; MAGIC.len() + HASH], [u8; HASH]) {
        let mut head = [0; MAGIC.len() + HASH];
        head[..MAGIC.len()].copy_from_slice(MAGIC);
        head[MAGIC.len()..].copy_from_slice(&self.hash());
        let mut hasher = blake3::Hasher::new();
        hasher.update(&head).update(body);
        (head, *hasher.finalize().as_bytes())
    }

    /// The body in a file's bytes; nothing when they are not what was written for this.
    pub(crate) fn decode(&self, file: Vec<u8>) -> Option<Bytes> {
        let start = MAGIC.len() + HASH;
        let end = file.len().checked_sub(HASH).filter(|end| *end >= start)?;
        let (head, sum) = self.seal(&file[start..end]);
        let whole = file[..start] == head && file[end..] == sum;
        let fits =
            self.range.as_ref().is_none_or(|range| range.end.checked_sub(range.start) == Some((end - start) as u64));
        (whole && fits).then(|| Bytes::from(file).slice(start..end))
    }
}
