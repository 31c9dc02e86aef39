//! Reading packs: their directories, and ranges of their frames.

use std::sync::Arc;

use backstay_core::{Error, ErrorKind, Result, ResultExt};
use bytes::Bytes;

use super::{
    cache::BoundedCache,
    crypto::{Domain, ObjectType, envelope},
    ids::PackId,
    index::PackKind,
    keys::Secret,
    objects::Objects,
    pack::{Directory, MAX_PACK_BYTES, TRAILER_BYTES, Trailer, pack_key},
};

/// How much of a pack's end is read at first: enough for the directory of nearly all packs.
const TAIL_BYTES: u64 = 64 << 10;
/// Packs whose keys are kept.
const KEPT_PACKS: usize = 4096;

/// What opens the frames of a pack.
pub struct OpenedPack {
    keys: Vec<FrameKey>,
    /// Offset and key of each frame; empty when there is but one key.
    by_offset: Vec<(u32, u16)>,
}

/// What opens a frame.
#[derive(Clone)]
pub struct FrameKey {
    /// Repository and epoch.
    pub domain: Domain,
    /// The key.
    pub key: Secret,
}

impl OpenedPack {
    /// What opens the frame at this offset.
    pub fn key_at(&self, offset: u32) -> Result<&FrameKey> {
        let unknown =
            || Error::integrity("The index names a frame that its pack does not have").with_context("offset", offset);
        if self.by_offset.is_empty() {
            return self.keys.first().ok_or_else(unknown);
        }
        let at = self.by_offset.binary_search_by_key(&offset, |(at, _)| *at).map_err(|_| unknown())?;
        self.keys.get(usize::from(self.by_offset[at].1)).ok_or_else(unknown)
    }
}

/// The packs of a repository.
pub struct Packs {
    objects: Objects,
    opened: BoundedCache<(PackKind, PackId), Arc<OpenedPack>>,
}

impl Packs {
    pub fn new(objects: Objects) -> Self {
        Self { objects, opened: BoundedCache::new(KEPT_PACKS) }
    }

    /// Reads and opens a pack's directory; also gives the pack's size.
    pub async fn directory(&self, kind: PackKind, id: &PackId) -> Result<(Directory, u64)> {
        let key = pack_key(kind, id)?;
        let read = async {
            let size = self.objects.backend().head(&key).await?.size;
            if !(TRAILER_BYTES as u64..=MAX_PACK_BYTES).contains(&size) {
                return Err(Error::integrity("A pack has an impossible size").with_context("size", size));
            }
            let tail = self.objects.backend().get_range(&key, size.saturating_sub(TAIL_BYTES)..size).await?;
            let trailer = Trailer::decode(&tail, size)?;
            let end = size - TRAILER_BYTES as u64;
            let start = end - u64::from(trailer.directory_bytes);
            let tail_start = size - tail.len() as u64;
            let sealed = if start >= tail_start {
                tail.slice((start - tail_start) as usize..(end - tail_start) as usize)
            } else {
                self.objects.backend().get_range(&key, start..end).await?
            };
            if trailer.kind != kind {
                return Err(Error::integrity("A pack of one sort stands where one of another belongs"));
            }
            Ok((self.open_directory(&trailer, &sealed, start)?, size))
        };
        read.await.map_err(missing_is_damage).context("object", &key)
    }

    /// The directory of a pack that was read whole.
    pub fn directory_of(&self, kind: PackKind, bytes: &Bytes) -> Result<Directory> {
        let trailer = Trailer::decode(bytes, bytes.len() as u64)?;
        let end = bytes.len() - TRAILER_BYTES;
        let start = end - trailer.directory_bytes as usize;
        if trailer.kind != kind {
            return Err(Error::integrity("A pack of one sort stands where one of another belongs"));
        }
        self.open_directory(&trailer, &bytes[start..end], start as u64)
    }

    /// Opens a sealed directory; `room` is where it begins in its pack.
    pub fn open_directory(&self, trailer: &Trailer, sealed: &[u8], room: u64) -> Result<Directory> {
        let keyring = self.objects.keyring();
        let epoch = envelope::epoch_of(ObjectType::Directory, sealed)?;
        let keys =
            keyring.epoch(epoch).map_err(|_| Error::integrity("The directory of a pack names an unknown key epoch"))?;
        let domain = keyring.domain(epoch);
        let plain = envelope::open(&keys.structure, &domain, ObjectType::Directory, &trailer.salt, sealed)?;
        Directory::decode(&plain, room)
    }

    /// What opens the frames that a directory lists.
    pub fn frame_keys(&self, kind: PackKind, directory: &Directory) -> Result<OpenedPack> {
        let keyring = self.objects.keyring();
        let mut keys = Vec::with_capacity(directory.keys.len());
        for entry in &directory.keys {
            let key = match (&entry.sealed_key, kind) {
                (Some(sealed), PackKind::Data) => keyring.open_session_key(entry.epoch, &entry.session, sealed)?,
                (None, PackKind::Meta) => keyring.node_key(entry.epoch)?,
                _ => return Err(Error::integrity("A pack lists a key of the wrong sort")),
            };
            keys.push(FrameKey { domain: keyring.domain(entry.epoch), key });
        }
        let by_offset = match keys.len() {
            1 => Vec::new(),
            _ => directory.with_offsets().map(|(at, frame)| (at, frame.key)).collect(),
        };
        Ok(OpenedPack { keys, by_offset })
    }

    /// What opens a pack's frames, from the cache or its directory.
    pub async fn open(&self, kind: PackKind, id: &PackId) -> Result<Arc<OpenedPack>> {
        if let Some(opened) = self.opened.get(&(kind, *id)) {
            return Ok(opened);
        }
        let (directory, _) = self.directory(kind, id).await?;
        let opened = Arc::new(self.frame_keys(kind, &directory).context("pack", id)?);
        self.opened.put(
            (kind, *id),
            Arc::clone(&opened),
            1 + directory.frames.len() * usize::from(directory.keys.len() > 1) / 64,
        );
        Ok(opened)
    }

    /// Bytes of a pack.
    pub async fn fetch(&self, kind: PackKind, id: &PackId, range: std::ops::Range<u64>) -> Result<Bytes> {
        let key = pack_key(kind, id)?;
        self.objects.backend().get_range(&key, range).await.map_err(missing_is_damage).context("object", &key)
    }
}

/// A pack that the index names and the store says is not there is lost; one that is too short for its frames is cut off.
pub fn missing_is_damage(error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::integrity("A pack is missing from the repository").with_source(error),
        ErrorKind::InvalidInput => {
            Error::integrity("A pack is shorter than the index says: it was cut off").with_source(error)
        }
        _ => error,
    }
}
