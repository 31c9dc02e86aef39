//! Chunks out of packs: looked up together, fetched in pack order in few large ranges, opened on all cores.

use std::sync::Arc;

use backstay_core::{Context, Error, Result, ResultExt};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};

use super::MAX_CHUNK_BYTES;
use crate::repository::{
    Repository,
    chunk::IdKeys,
    compress::decompress,
    crypto::{ObjectType, frame},
    ids::{ChunkId, PackId},
    index::{Index, Location, PackKind, Section},
    packs::OpenedPack,
};

/// The most bytes of a pack that one request asks for.
const MAX_RUN_BYTES: u64 = 4 << 20;
/// Bytes that are read and thrown away rather than made a request of their own.
const MAX_GAP_BYTES: u64 = 64 << 10;

/// A chunk that is wanted at a place.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Which.
    pub id: ChunkId,
    /// Its bytes.
    pub plain: u32,
    /// Where it goes.
    pub at: u64,
}

/// Unpacked bytes and where they go.
pub struct Piece {
    /// Where they go.
    pub at: u64,
    /// What.
    pub bytes: Bytes,
}

/// Reads chunks that an index knows.
#[derive(Clone)]
pub struct ChunkReader {
    repository: Repository,
    index: Arc<Index>,
    ids: IdKeys,
}

/// Frames of one pack that lie close together.
struct Run {
    pack: PackId,
    frames: Vec<(Location, Wanted)>,
}

impl ChunkReader {
    /// For the chunks of an index. Fails for a key that may not read content.
    pub fn new(repository: Repository, index: Arc<Index>) -> Result<Self> {
        if !repository.capability().may_read() {
            return Err(Error::permission_denied(format!(
                "A {} key cannot read content; open the repository with a reader's or the owner's",
                repository.capability().name()
            )));
        }
        let ids = repository.objects().keyring().ids()?.clone();
        Ok(Self { repository, index, ids })
    }

    /// Unpacks all that is wanted, in any order. Pieces that follow one another in pack and place come as one.
    pub async fn read(
        &self,
        wanted: Vec<Wanted>,
        ctx: &Context,
    ) -> Result<impl Stream<Item = Result<Vec<Piece>>> + use<>> {
        let runs = self.plan(wanted).await?;
        let (reader, ctx) = (self.clone(), ctx.clone());
        let downloads = ctx.limits().downloads.max(1);
        let fetch = move |run: Run| {
            let (reader, ctx) = (reader.clone(), ctx.clone());
            async move { reader.fetch(run, &ctx).await }
        };
        Ok(stream::iter(runs).map(fetch).buffer_unordered(downloads))
    }

    /// Where everything lies, in pack order, in runs that one request serves.
    async fn plan(&self, wanted: Vec<Wanted>) -> Result<Vec<Run>> {
        let ids: Vec<_> = wanted.iter().map(|wanted| wanted.id.0).collect();
        let found = self.index.find_many(Section::Data, &ids).await?;
        let mut placed = Vec::with_capacity(wanted.len());
        for (wanted, found) in wanted.into_iter().zip(found) {
            let at = found.ok_or_else(|| {
                Error::integrity("A chunk is in no index segment: run `check`").with_context("at", wanted.at)
            })?;
            if at.plain != wanted.plain || at.plain > MAX_CHUNK_BYTES {
                return Err(Error::integrity("The index and the map disagree about the size of a chunk")
                    .with_context("pack", at.pack));
            }
            placed.push((at, wanted));
        }
        placed.sort_by_key(|(at, wanted)| (at.pack, at.offset, wanted.at));
        let mut runs: Vec<Run> = Vec::new();
        for (at, wanted) in placed {
            let joins = runs.last().is_some_and(|run| {
                let (first, last) = (&run.frames[0].0, &run.frames[run.frames.len() - 1].0);
                let end = u64::from(last.offset) + u64::from(last.stored);
                run.pack == at.pack
                    && u64::from(at.offset) <= end + MAX_GAP_BYTES
                    && u64::from(at.offset) + u64::from(at.stored) <= u64::from(first.offset) + MAX_RUN_BYTES
            });
            match runs.last_mut() {
                Some(run) if joins => run.frames.push((at, wanted)),
                _ => runs.push(Run { pack: at.pack, frames: vec![(at, wanted)] }),
            }
        }
        Ok(runs)
    }

    async fn fetch(&self, run: Run, ctx: &Context) -> Result<Vec<Piece>> {
        ctx.check()?;
        let packs = self.repository.packs();
        let opened = packs.open(PackKind::Data, &run.pack).await?;
        // A frame that is wanted twice is not further on than its first copy, so the end is that of the last.
        let start = u64::from(run.frames[0].0.offset);
        let end = run.frames.iter().map(|(at, _)| u64::from(at.offset) + u64::from(at.stored)).max().unwrap_or(start);
        let bytes = packs.fetch(PackKind::Data, &run.pack, start..end).await?;
        let (pack, ids) = (run.pack, self.ids.clone());
        ctx.cpu(move || unpack(&run, &opened, &ids, start, bytes)).await.context("pack", pack)
    }
}

fn unpack(run: &Run, opened: &OpenedPack, ids: &IdKeys, start: u64, bytes: Bytes) -> Result<Vec<Piece>> {
    let mut pieces: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut sealed = Vec::new();
    let mut last: Option<(u32, usize, usize, usize)> = None;
    for (at, wanted) in &run.frames {
        let extends = pieces.last().is_some_and(|(from, plain)| from + plain.len() as u64 == wanted.at);
        if !extends {
            pieces.push((wanted.at, Vec::with_capacity(wanted.plain as usize)));
        }
        let index = pieces.len() - 1;
        // The same frame again: its bytes are there already.
        if let Some((offset, piece, from, to)) = last
            && offset == at.offset
        {
            let again = pieces[piece].1[from..to].to_vec();
            pieces[index].1.extend_from_slice(&again);
            continue;
        }
        let from = (u64::from(at.offset) - start) as usize;
        let frame_bytes = bytes.get(from..from + at.stored as usize);
        let frame_bytes =
            frame_bytes.ok_or_else(|| Error::integrity("A pack is shorter than the index says: it was cut off"))?;
        sealed.clear();
        sealed.extend_from_slice(frame_bytes);
        let key = opened.key_at(at.offset)?;
        let (codec, payload) = frame::open(&key.key, &key.domain, ObjectType::Chunk, &wanted.id.0, &mut sealed)?;
        let plain = &mut pieces[index].1;
        let begin = plain.len();
        plain.resize(begin + wanted.plain as usize, 0);
        decompress(codec, payload, &mut plain[begin..])?;
        // The frame opened, so its writer sealed it; whether the writer sealed what the id says only the hash tells.
        if ids.chunk_id(&plain[begin..]) != wanted.id {
            return Err(Error::integrity("A chunk is not what its id says: its writer stored something else"));
        }
        last = Some((at.offset, index, begin, plain.len()));
    }
    Ok(pieces.into_iter().map(|(at, plain)| Piece { at, bytes: plain.into() }).collect())
}
