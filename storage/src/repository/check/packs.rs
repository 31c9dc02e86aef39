//! Packs and the index over them.

use std::{collections::HashSet, sync::Arc};

use backstay_core::{Context, Error, ObjectKey, Result, ResultExt, Task};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::{CheckReport, Listing, rolling::Pack};
use crate::repository::{
    Repository,
    compress::decompress,
    crypto::{ObjectType, frame},
    format::chain::BaseSegment,
    ids::PackId,
    index::{Index, PackEntry, PackKind},
    keys::{Capability, Keyring},
    pack::{Directory, FrameRecord, MAX_PACK_BYTES, pack_key},
    packs::OpenedPack,
    read::MAX_CHUNK_BYTES,
    scrub::read_twice,
    state::State,
};

/// Packs in memory at once while they are read.
const PACKS_AT_ONCE: usize = 3;

impl Repository {
    /// The packs there are.
    pub(in crate::repository) async fn list_packs(&self) -> Result<Listing> {
        let mut listing = Listing::new();
        for (folder, kind) in [("packs", PackKind::Data), ("meta", PackKind::Meta)] {
            let folder = ObjectKey::new(folder)?;
            let mut objects = self.backend().list(Some(&folder));
            while let Some(meta) = objects.try_next().await? {
                if let Some(id) = PackId::from_hex(meta.key.name()) {
                    listing.insert(id, (kind, meta.size));
                }
            }
        }
        Ok(listing)
    }

    /// Opens every committed segment, reads every page of it, and compares its packs with those there are.
    pub(super) async fn check_index(
        &self,
        state: &State,
        listing: &Listing,
        report: &mut CheckReport,
        ctx: &Context,
    ) -> Result<Arc<Index>> {
        let dead = state.dead_packs();
        let mut index = Index::new(16 << 20).without(dead.clone());
        for BaseSegment { id, .. } in state.segments() {
            ctx.check()?;
            let Some(segment) = report.note(self.segment(&id).await)? else { continue };
            let verified = segment.verify().await.context("segment", id);
            report.note(verified)?;
            for pack in segment.packs().iter().filter(|pack| !dead.contains(&pack.id())) {
                if let Some((_, size)) = listing.get(&pack.id())
                    && *size != pack.size()
                {
                    report.fault(
                        Error::integrity("A pack does not have the size that the index says")
                            .with_context("pack", pack.id())
                            .with_context("size", size)
                            .with_context("expected", pack.size()),
                    );
                }
            }
            index.push(Arc::new(segment));
        }
        Ok(Arc::new(index))
    }

    /// Reads packs to the last byte; gives those that are whole.
    pub(super) async fn read_some(
        &self,
        packs: &[Pack],
        task: &Task,
        report: &mut CheckReport,
        ctx: &Context,
    ) -> Result<Vec<Pack>> {
        let reads = packs.iter().map(|pack| async move { (*pack, self.read_pack(*pack, task, ctx).await) });
        // Collected first: with a closure over references in it, the compiler would not believe that this future is `Send`.
        let reads: Vec<_> = reads.collect();
        let mut reads = stream::iter(reads).buffer_unordered(PACKS_AT_ONCE);
        let mut whole = Vec::new();
        while let Some((pack, read)) = reads.next().await {
            whole.extend(report.note(read)?.map(|()| pack));
            report.packs_read += 1;
            report.bytes_read += pack.2;
            task.advance(pack.2);
        }
        Ok(whole)
    }

    async fn read_pack(&self, (id, kind, size): Pack, task: &Task, ctx: &Context) -> Result<()> {
        ctx.check()?;
        let key = pack_key(kind, &id)?;
        if size > MAX_PACK_BYTES {
            return Err(Error::integrity("A pack has an impossible size").with_context("object", key));
        }
        let repository = self.clone();
        read_twice(self.backend(), &key, task, ctx, move |bytes| verify_pack(&repository, id, kind, bytes)).await
    }
}

/// Every pack that a segment or a commit names is there, unless a verdict has let it go.
pub(super) fn check_presence(state: &State, index: &Index, listing: &Listing, report: &mut CheckReport) {
    let indexed = index.segments().flat_map(|segment| segment.packs()).map(PackEntry::id);
    let commits = state.news.values().map(|news| &news.commit);
    let committed = commits.flat_map(|commit| commit.packs.iter().chain(&commit.meta_packs)).copied();
    let named: HashSet<_> = indexed.chain(committed).collect();
    let dead = state.dead_packs();
    report.packs = listing.len();
    report.unreferenced_packs = listing.keys().filter(|id| !named.contains(id)).count();
    let mut missing: Vec<_> = named.iter().filter(|id| !dead.contains(id) && !listing.contains_key(id)).collect();
    missing.sort();
    for id in missing {
        report.fault(Error::integrity("A pack of a committed backup is missing").with_context("pack", id));
    }
}

/// Hash, directory, and every frame down to its content.
pub(in crate::repository) fn verify_pack(
    repository: &Repository,
    id: PackId,
    kind: PackKind,
    bytes: &Bytes,
) -> Result<()> {
    if blake3::hash(bytes).as_bytes() != id.as_bytes() {
        return Err(Error::integrity("A pack is damaged: its bytes are not what its id says"));
    }
    let directory = repository.packs().directory_of(kind, bytes)?;
    let keyring = repository.objects().keyring();
    if kind == PackKind::Data && !keyring.capability().may_read() {
        return Ok(());
    }
    let opened = repository.packs().frame_keys(kind, &directory)?;
    verify_frames(&directory, &opened, kind, keyring, bytes)
}

fn verify_frames(
    directory: &Directory,
    opened: &OpenedPack,
    kind: PackKind,
    keyring: &Keyring,
    bytes: &[u8],
) -> Result<()> {
    let mut sealed = Vec::new();
    let mut plain = Vec::new();
    for (offset, record) in directory.with_offsets() {
        let end = offset as usize + record.stored as usize;
        sealed.clear();
        sealed.extend_from_slice(bytes.get(offset as usize..end).unwrap_or_default());
        let key = opened.key_at(offset)?;
        let object_type = match kind {
            PackKind::Data => ObjectType::Chunk,
            PackKind::Meta => ObjectType::Node,
        };
        let (codec, payload) = frame::open(&key.key, &key.domain, object_type, &record.id, &mut sealed)?;
        if record.plain > MAX_CHUNK_BYTES {
            return Err(Error::integrity("A chunk has an impossible size"));
        }
        plain.resize(record.plain as usize, 0);
        decompress(codec, payload, &mut plain)?;
        if !is_what_it_says(kind, record, &plain, keyring)? {
            return Err(
                Error::integrity("The content of a frame is not what its id says").with_context("offset", offset)
            );
        }
    }
    Ok(())
}

fn is_what_it_says(kind: PackKind, record: &FrameRecord, plain: &[u8], keyring: &Keyring) -> Result<bool> {
    Ok(match kind {
        PackKind::Data => keyring.ids()?.chunk_id(plain).0 == record.id,
        // Keepers cannot make ids; they rely on the frame's authentication, which covers the id.
        PackKind::Meta if keyring.capability() == Capability::Keeper => true,
        PackKind::Meta => keyring.node_id(plain)?.0 == record.id,
    })
}
