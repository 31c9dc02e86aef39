//! Fills one pack.

use backstay_core::{Context, Error, PooledBuffer, Result};
use bytes::Bytes;

use super::{Directory, FrameRecord, KeyEntry, PAD_BYTES, TRAILER_BYTES, Trailer};
use crate::repository::{
    crypto::{self, Domain, ObjectType, envelope},
    ids::PackId,
    index::PackKind,
};

/// Frames that were sealed together, back to back, on their way into a pack.
#[derive(Debug)]
pub struct SealedBatch {
    /// The frames' bytes.
    pub bytes: PooledBuffer,
    /// Id, plain length and stored length of each.
    pub frames: Vec<([u8; 32], u32, u32)>,
}

/// A pack that is being filled.
pub struct PackBuilder {
    kind: PackKind,
    bytes: PooledBuffer,
    directory: Directory,
}

/// A pack that is ready to be put.
pub struct FinishedPack {
    /// Its id.
    pub id: PackId,
    /// Its sort.
    pub kind: PackKind,
    /// Its bytes.
    pub bytes: Bytes,
    /// Its frames.
    pub directory: Directory,
}

impl PackBuilder {
    /// An empty pack that is filled into `bytes`.
    #[must_use]
    pub fn new(kind: PackKind, key: KeyEntry, mut bytes: PooledBuffer) -> Self {
        bytes.clear();
        let directory = Directory { keys: vec![key], frames: Vec::new() };
        Self { kind, bytes, directory }
    }

    /// An empty pack for frames of many sessions: [`Self::push_copy`] brings their keys along.
    #[must_use]
    pub fn of_copies(kind: PackKind, mut bytes: PooledBuffer) -> Self {
        bytes.clear();
        Self { kind, bytes, directory: Directory::default() }
    }

    /// Bytes of frames so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no frame in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.directory.frames.is_empty()
    }

    /// Adds frames of the session that the pack was begun for.
    pub fn push(&mut self, bytes: &[u8], frames: impl IntoIterator<Item = ([u8; 32], u32, u32)>) {
        self.bytes.extend_from_slice(bytes);
        let frames = frames.into_iter().map(|(id, plain, stored)| FrameRecord { id, plain, stored, key: 0 });
        self.directory.frames.extend(frames);
    }

    /// Adds a frame as it lies in another pack, with what opens it.
    pub fn push_copy(&mut self, bytes: &[u8], frame: &FrameRecord, key: &KeyEntry) -> Result<()> {
        let known = self.directory.keys.iter().position(|known| known == key);
        let number = known.unwrap_or_else(|| {
            self.directory.keys.push(key.clone());
            self.directory.keys.len() - 1
        });
        let number = u16::try_from(number).map_err(|_| Error::internal("A pack has too many keys"))?;
        self.bytes.extend_from_slice(bytes);
        self.directory.frames.push(FrameRecord { key: number, ..*frame });
        Ok(())
    }

    /// Pads, seals the directory and names the pack. Computes for some ten milliseconds: run it as a CPU job.
    pub fn finish(mut self, structure_key: &[u8; 32], domain: &Domain, ctx: &Context) -> Result<FinishedPack> {
        let salt: [u8; 16] = ctx.random()?;
        let directory = self.directory.encode()?;
        let tail = directory.len() + envelope::OVERHEAD_BYTES + TRAILER_BYTES;
        let total = (self.bytes.len() + tail).next_multiple_of(PAD_BYTES);
        let padding_from = self.bytes.len();
        self.bytes.resize(total - tail, 0);
        let mut padding = blake3::Hasher::new_keyed(&crypto::subkey(structure_key, "pack padding"));
        padding.update(&salt).finalize_xof().fill(&mut self.bytes[padding_from..]);
        let sealed = envelope::seal(structure_key, domain, ObjectType::Directory, &salt, &directory, ctx)?;
        self.bytes.extend_from_slice(&sealed);
        let trailer = Trailer { kind: self.kind, directory_bytes: sealed.len() as u32, salt };
        self.bytes.extend_from_slice(&trailer.encode());
        let id = PackId(*blake3::hash(&self.bytes).as_bytes());
        Ok(FinishedPack { id, kind: self.kind, bytes: self.bytes.into_bytes(), directory: self.directory })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::ids::SignerId;

    #[test]
    fn packs_of_frames_of_any_size_show_only_multiples_of_the_padding() {
        let ctx = Context::default();
        let key = KeyEntry { epoch: 0, session: [2; 16], origin: SignerId([3; 32]), sealed_key: None };
        let domain = Domain { repository: [1; 16], epoch: 0 };
        let mut ids = Vec::new();
        for size in [1_usize, 1000, 65_000, 65_536, 200_000] {
            let mut builder = PackBuilder::new(PackKind::Data, key.clone(), ctx.buffers().take(0));
            builder.push(&vec![7; size], [([9; 32], 5, size as u32)]);
            let pack = builder.finish(&[8; 32], &domain, &ctx).unwrap();
            assert!(pack.bytes.len().is_multiple_of(PAD_BYTES));
            let trailer = Trailer::decode(&pack.bytes, pack.bytes.len() as u64).unwrap();
            let end = pack.bytes.len() - TRAILER_BYTES;
            let start = end - trailer.directory_bytes as usize;
            let opened =
                envelope::open(&[8; 32], &domain, ObjectType::Directory, &trailer.salt, &pack.bytes[start..end])
                    .unwrap();
            assert_eq!(Directory::decode(&opened, start as u64).unwrap(), pack.directory);
            assert_eq!(blake3::hash(&pack.bytes).as_bytes(), &pack.id.0);
            ids.push(pack.id);
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 5);
    }
}
