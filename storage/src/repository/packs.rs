//! Reading packs: their directories, and ranges of their frames.

use std::{ops::Range, sync::Arc};

use backstay_core::{Error, ErrorKind, Result, ResultExt};
use bytes::Bytes;
use tokio::sync::OnceCell;

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

/// A pack that several readers of one operation open together: one of them reads its directory. Those who share it are polled
/// together, so that nobody waits for one who stands still.
pub type Opening = OnceCell<Arc<OpenedPack>>;

/// The packs of a repository.
pub struct Packs {
    objects: Objects,
    opened: BoundedCache<(PackKind, PackId), Arc<OpenedPack>>,
}

impl Packs {
    pub fn new(objects: Objects) -> Self {
        Self { objects, opened: BoundedCache::new(KEPT_PACKS) }
    }

    /// Reads and opens the directory of a pack of this size.
    pub async fn directory(&self, kind: PackKind, id: &PackId, size: u64) -> Result<Directory> {
        let key = pack_key(kind, id)?;
        let read = async {
            if !(TRAILER_BYTES as u64..=MAX_PACK_BYTES).contains(&size) {
                return Err(Error::integrity("A pack has an impossible size").with_context("size", size));
            }
            let tail = self.objects.backend().get_range(&key, size.saturating_sub(TAIL_BYTES)..size).await?;
            match self.directory_in(kind, &tail, size)? {
                Ok(directory) => Ok(directory),
                Err(missing) => {
                    let mut end = self.objects.backend().get_range(&key, missing).await?.to_vec();
                    end.extend_from_slice(&tail);
                    self.directory_in(kind, &end, size)?.map_err(|_| Error::internal("A pack's directory moved"))
                }
            }
        };
        read.await.map_err(missing_is_damage).context("object", &key)
    }

    /// The directory out of the last bytes of a pack of `size` bytes, or the range of the pack that is needed besides.
    fn directory_in(
        &self,
        kind: PackKind,
        end: &[u8],
        size: u64,
    ) -> Result<std::result::Result<Directory, Range<u64>>> {
        let trailer = Trailer::decode(end, size)?;
        if trailer.kind != kind {
            return Err(Error::integrity("A pack of one sort stands where one of another belongs"));
        }
        let (first, stop) = (size.saturating_sub(end.len() as u64), size - TRAILER_BYTES as u64);
        let start = stop - u64::from(trailer.directory_bytes);
        if start < first {
            return Ok(Err(start..first));
        }
        let sealed = &end[(start - first) as usize..(stop - first) as usize];
        self.open_directory(&trailer, sealed, start).map(Ok)
    }

    /// The directory of a pack that was read whole.
    pub fn directory_of(&self, kind: PackKind, bytes: &Bytes) -> Result<Directory> {
        self.directory_in(kind, bytes, bytes.len() as u64)?
            .map_err(|_| Error::integrity("The directory of a pack is longer than the pack"))
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

    /// What opens the frames of a pack of this size, from the cache or its directory.
    pub async fn open(&self, kind: PackKind, id: &PackId, size: u64) -> Result<Arc<OpenedPack>> {
        if let Some(opened) = self.opened.get(&(kind, *id)) {
            return Ok(opened);
        }
        let directory = self.directory(kind, id, size).await?;
        self.keep(kind, id, &directory)
    }

    fn keep(&self, kind: PackKind, id: &PackId, directory: &Directory) -> Result<Arc<OpenedPack>> {
        let opened = Arc::new(self.frame_keys(kind, directory).context("pack", id)?);
        let cost = 1 + directory.frames.len() * usize::from(directory.keys.len() > 1) / 64;
        self.opened.put((kind, *id), Arc::clone(&opened), cost);
        Ok(opened)
    }

    /// Bytes of a pack from `range.start` on, at least those of the range, and what opens its frames. One request where the range
    /// ends less than `slack` bytes before its pack does, for there lies the directory; else `opening` is done at the same time,
    /// which is shared by all who read the pack.
    pub async fn fetch_opened(
        &self,
        kind: PackKind,
        (id, size): (&PackId, u64),
        range: Range<u64>,
        slack: u64,
        opening: &Opening,
    ) -> Result<(Arc<OpenedPack>, Bytes)> {
        let known = opening.get().cloned().or_else(|| self.opened.get(&(kind, *id)));
        if known.is_none() && range.end <= size && size - range.end <= slack && size <= MAX_PACK_BYTES {
            let bytes = self.fetch(kind, id, range.start..size).await?;
            let directory = match self.directory_in(kind, &bytes, size).context("pack", id)? {
                Ok(directory) => directory,
                Err(_) => self.directory(kind, id, size).await?,
            };
            return Ok((self.keep(kind, id, &directory)?, bytes));
        }
        let opened = async {
            match known {
                Some(known) => Ok(known),
                None => opening.get_or_try_init(|| self.open(kind, id, size)).await.cloned(),
            }
        };
        futures::future::try_join(opened, self.fetch(kind, id, range)).await
    }

    /// Bytes of a pack.
    pub async fn fetch(&self, kind: PackKind, id: &PackId, range: Range<u64>) -> Result<Bytes> {
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
