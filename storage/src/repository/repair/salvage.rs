//! What is whole in a damaged pack.

use std::collections::HashMap;

use backstay_core::{Context, ErrorKind, Result};
use bytes::Bytes;

use crate::repository::{
    Repository,
    compress::decompress,
    crypto::{ObjectType, frame},
    ids::{NodeId, PackId, SignerId},
    index::{Location, PackKind},
    pack::{Directory, FrameRecord, KeyEntry, MAX_PACK_BYTES, pack_key},
    packs::FrameKey,
    read::MAX_CHUNK_BYTES,
};

/// Packs whose directories are looked at for the keys of one whose own is gone.
const KEY_PACKS: usize = 256;

/// A frame that the index names.
pub type Named = ([u8; 32], Location);

/// A whole frame of a damaged pack.
pub struct Whole {
    pub frame: FrameRecord,
    pub sealed: Bytes,
    /// The content of a map node.
    pub node: Option<(NodeId, Bytes)>,
}

/// What could be saved of a pack; `frame.key` of each is a place in `keys`.
pub struct Salvaged {
    pub keys: Vec<KeyEntry>,
    pub whole: Vec<Whole>,
}

impl Repository {
    /// Opens every frame that the index names in a pack; `near` are packs that were most likely written by the same session.
    pub(super) async fn salvage(
        &self,
        kind: PackKind,
        id: &PackId,
        origin: SignerId,
        named: &[Named],
        near: &[(PackId, u64)],
        ctx: &Context,
    ) -> Result<Salvaged> {
        let nothing = Salvaged { keys: Vec::new(), whole: Vec::new() };
        let key = pack_key(kind, id)?;
        let bytes = match self.backend().head(&key).await {
            Ok(meta) if meta.size <= MAX_PACK_BYTES => self.backend().get(&key).await,
            Ok(_) => return Ok(nothing),
            Err(error) => Err(error),
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(nothing),
            Err(error) => return Err(error),
        };
        let directory = self.packs().directory_of(kind, &bytes).ok();
        let own: HashMap<(u32, [u8; 32]), u16> =
            directory.iter().flat_map(Directory::with_offsets).map(|(at, frame)| ((at, frame.id), frame.key)).collect();
        let entries = match directory {
            Some(directory) => directory.keys,
            None => self.keys_near(kind, origin, near, ctx).await?,
        };
        let opened: Vec<_> = entries.iter().map(|entry| self.frame_key(kind, entry)).collect();
        let mut whole = Vec::new();
        for (id, at) in named {
            ctx.check()?;
            let (start, end) = (at.offset as usize, at.offset as usize + at.stored as usize);
            let Some(sealed) = bytes.get(start..end).map(|_| bytes.slice(start..end)) else { continue };
            let tried = match own.get(&(at.offset, *id)) {
                Some(key) => usize::from(*key)..usize::from(*key) + 1,
                None => 0..opened.len(),
            };
            for number in tried {
                let Some(Some(key)) = opened.get(number) else { continue };
                let Some(plain) = self.open_whole(kind, id, at, key, &sealed) else { continue };
                let frame = FrameRecord { id: *id, plain: at.plain, stored: at.stored, key: number as u16 };
                let node = (kind == PackKind::Meta).then(|| (NodeId(*id), plain.into()));
                whole.push(Whole { frame, sealed: sealed.clone(), node });
                break;
            }
        }
        Ok(Salvaged { keys: entries, whole })
    }

    /// Keys that may open the frames of a pack without a directory: those of its neighbours.
    async fn keys_near(
        &self,
        kind: PackKind,
        origin: SignerId,
        near: &[(PackId, u64)],
        ctx: &Context,
    ) -> Result<Vec<KeyEntry>> {
        if kind == PackKind::Meta {
            // The keys of map nodes depend on the epoch alone.
            let epochs = self.objects().keyring().bundle().epochs.iter();
            return Ok(epochs
                .map(|keys| KeyEntry { epoch: keys.epoch, session: [0; 16], origin, sealed_key: None })
                .collect());
        }
        let mut entries: Vec<KeyEntry> = Vec::new();
        for (id, size) in near.iter().take(KEY_PACKS) {
            ctx.check()?;
            match self.packs().directory(kind, id, *size).await {
                Ok(directory) => {
                    let new = directory.keys.into_iter().filter(|key| !entries.contains(key)).collect::<Vec<_>>();
                    entries.extend(new);
                }
                Err(error) if matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Unsupported) => {}
                Err(error) => return Err(error),
            }
        }
        entries.truncate(usize::from(u16::MAX));
        Ok(entries)
    }

    fn frame_key(&self, kind: PackKind, entry: &KeyEntry) -> Option<FrameKey> {
        let keyring = self.objects().keyring();
        let key = match (&entry.sealed_key, kind) {
            (Some(sealed), PackKind::Data) => keyring.open_session_key(entry.epoch, &entry.session, sealed),
            (None, PackKind::Meta) => keyring.node_key(entry.epoch),
            _ => return None,
        };
        Some(FrameKey { domain: keyring.domain(entry.epoch), key: key.ok()? })
    }

    /// The content, when the frame opens and holds what its id says.
    fn open_whole(
        &self,
        kind: PackKind,
        id: &[u8; 32],
        at: &Location,
        key: &FrameKey,
        sealed: &[u8],
    ) -> Option<Vec<u8>> {
        let keyring = self.objects().keyring();
        let object = match kind {
            PackKind::Data => ObjectType::Chunk,
            PackKind::Meta => ObjectType::Node,
        };
        let mut sealed = sealed.to_vec();
        let (codec, payload) = frame::open(&key.key, &key.domain, object, id, &mut sealed).ok()?;
        if at.plain > MAX_CHUNK_BYTES {
            return None;
        }
        let mut plain = vec![0; at.plain as usize];
        decompress(codec, payload, &mut plain).ok()?;
        let genuine = match kind {
            PackKind::Data => keyring.ids().ok()?.chunk_id(&plain).0 == *id,
            PackKind::Meta => keyring.node_id(&plain).ok()?.0 == *id,
        };
        genuine.then_some(plain)
    }
}
