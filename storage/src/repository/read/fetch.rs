//! Chunks out of packs: looked up together, fetched in pack order in few large ranges, opened on all cores.

use std::sync::Arc;

use backstay_core::{BufferPool, Context, Error, ErrorKind, Result, ResultExt};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};

use super::MAX_CHUNK_BYTES;
use crate::repository::{
    chunk::IdKeys,
    compress::decompress,
    crypto::{ObjectType, frame},
    ids::{ChunkId, PackId},
    index::{Index, Location, PackKind, Section},
    packs::{OpenedPack, Opening},
    view::View,
};

/// The most bytes of a pack that one request asks for.
const MAX_RUN_BYTES: u64 = 1 << 20;
/// Bytes that are read and thrown away rather than made a request of their own.
const MAX_GAP_BYTES: u64 = 64 << 10;

/// Bytes between a run and the end of its pack that are read along for the pack's directory, which lies there.
const MAX_TAIL_BYTES: u64 = 128 << 10;

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
    view: Arc<View>,
    ids: IdKeys,
}

/// Frames of one pack that lie close together.
#[derive(Clone)]
pub(super) struct Run {
    pack: PackId,
    pack_bytes: u64,
    /// Shared by the runs of the pack that are fetched one beside the other.
    opening: Arc<Opening>,
    frames: Vec<(Location, Wanted)>,
}

impl Run {
    fn new(at: Location, wanted: Wanted, opening: Arc<Opening>) -> Self {
        Self { pack: at.pack, pack_bytes: at.pack_bytes, opening, frames: vec![(at, wanted)] }
    }
}

impl ChunkReader {
    /// For the chunks of an index. Fails for a key that may not read content.
    pub fn new(view: Arc<View>) -> Result<Self> {
        let repository = view.repository();
        if !repository.capability().may_read() {
            return Err(Error::permission_denied(format!(
                "A {} key cannot read content; open the repository with a reader's or the owner's",
                repository.capability().name()
            )));
        }
        let ids = repository.objects().keyring().ids()?.clone();
        Ok(Self { view, ids })
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
    pub(super) async fn plan(&self, wanted: Vec<Wanted>) -> Result<Vec<Run>> {
        let mut seen = self.view.seen();
        let mut placed = loop {
            match place(&seen.index, &wanted).await {
                Ok(placed) => break placed,
                Err(error) => seen = self.view.newer(&seen, error).await?,
            }
        };
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
                last => {
                    let same = last.filter(|run| run.pack == at.pack).map(|run| Arc::clone(&run.opening));
                    runs.push(Run::new(at, wanted, same.unwrap_or_default()));
                }
            }
        }
        Ok(runs)
    }

    /// A run as one piece, or, when something in it is damaged, each chunk from whichever of its copies is whole.
    pub(super) async fn fetch(&self, run: Run, ctx: &Context) -> Result<Vec<Piece>> {
        match self.fetch_run(run.clone(), ctx).await {
            Err(error) if another_may_do(&error) => {
                let mut seen = self.view.seen();
                loop {
                    // The first error says what was wrong with the place that the index named first.
                    match self.fetch_copies(&seen.index, &run, again(&error), ctx).await {
                        Ok(pieces) => return Ok(pieces),
                        Err(error) => seen = self.view.newer(&seen, error).await?,
                    }
                }
            }
            fetched => fetched,
        }
    }

    async fn fetch_run(&self, run: Run, ctx: &Context) -> Result<Vec<Piece>> {
        ctx.check()?;
        let packs = self.view.repository().packs();
        // A frame that is wanted twice is not further on than its first copy, so the end is that of the last.
        let start = u64::from(run.frames[0].0.offset);
        let end = run.frames.iter().map(|(at, _)| u64::from(at.offset) + u64::from(at.stored)).max().unwrap_or(start);
        let pack = (&run.pack, run.pack_bytes);
        let (opened, bytes) =
            packs.fetch_opened(PackKind::Data, pack, start..end, MAX_TAIL_BYTES, &run.opening).await?;
        let (pack, ids) = (run.pack, self.ids.clone());
        let buffers = ctx.buffers().clone();
        ctx.cpu(move || unpack(&run, &opened, &ids, start, bytes, &buffers)).await.context("pack", pack)
    }

    async fn fetch_copies(&self, index: &Index, run: &Run, error: Error, ctx: &Context) -> Result<Vec<Piece>> {
        let mut pieces = Vec::with_capacity(run.frames.len());
        let mut first = Some(error);
        for (_, wanted) in &run.frames {
            let copies = index.find_all(Section::Data, &wanted.id.0).await?;
            let mut whole = None;
            for at in copies.into_iter().filter(|at| at.plain == wanted.plain) {
                match self.fetch_run(Run::new(at, *wanted, Arc::default()), ctx).await {
                    Ok(fetched) => {
                        whole = Some(fetched);
                        break;
                    }
                    Err(error) if another_may_do(&error) => first = first.or(Some(error)),
                    Err(error) => return Err(error),
                }
            }
            let lost = || first.take().unwrap_or_else(|| Error::integrity("No copy of a chunk is whole"));
            pieces.extend(whole.ok_or_else(lost)?);
        }
        Ok(pieces)
    }
}

/// Where each chunk lies, in a copy that is as long as the map says.
async fn place(index: &Index, wanted: &[Wanted]) -> Result<Vec<(Location, Wanted)>> {
    let ids: Vec<_> = wanted.iter().map(|wanted| wanted.id.0).collect();
    let found = index.find_many(Section::Data, &ids).await?;
    let mut placed = Vec::with_capacity(wanted.len());
    for (wanted, found) in wanted.iter().zip(found) {
        let at = found.ok_or_else(|| {
            Error::integrity("A chunk is in no index segment: run `check`").with_context("at", wanted.at)
        })?;
        placed.push((of_size(index, at, wanted).await?, *wanted));
    }
    Ok(placed)
}

/// The copy that is as long as the map says. A record that another writer put may be false; the next may not.
async fn of_size(index: &Index, at: Location, wanted: &Wanted) -> Result<Location> {
    let fits = |at: &Location| at.plain == wanted.plain && at.plain <= MAX_CHUNK_BYTES;
    if fits(&at) {
        return Ok(at);
    }
    let copies = index.find_all(Section::Data, &wanted.id.0).await?;
    copies.into_iter().find(fits).ok_or_else(|| {
        Error::integrity("The index and the map disagree about the size of a chunk").with_context("pack", at.pack)
    })
}

fn again(error: &Error) -> Error {
    Error::new(error.kind(), error.message().to_owned())
}

/// Whether another copy of what could not be read is worth a try: damage, or a flipped version number.
pub(in crate::repository) fn another_may_do(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Unsupported)
}

/// Opens and unpacks a run into one buffer, of which the pieces are slices.
fn unpack(
    run: &Run,
    opened: &OpenedPack,
    ids: &IdKeys,
    start: u64,
    bytes: Bytes,
    buffers: &BufferPool,
) -> Result<Vec<Piece>> {
    let total = run.frames.iter().map(|(_, wanted)| wanted.plain as usize).sum();
    let mut plain = buffers.take(total);
    if plain.len() < total {
        plain.resize(total, 0);
    }
    // Frames are opened where they lie when nobody else holds the bytes.
    let mut sealed = bytes.try_into_mut().unwrap_or_else(|shared| bytes::BytesMut::from(&shared[..]));
    let mut pieces: Vec<(u64, std::ops::Range<usize>)> = Vec::new();
    let (mut at_byte, mut last) = (0, None);
    for (at, wanted) in &run.frames {
        let end = at_byte + wanted.plain as usize;
        match last {
            // The same frame again: its content is there already.
            Some((offset, id, from)) if offset == at.offset && id == wanted.id => {
                plain.copy_within(from..from + wanted.plain as usize, at_byte);
            }
            _ => {
                let from = (u64::from(at.offset) - start) as usize;
                let frame = sealed.get_mut(from..from + at.stored as usize);
                let frame =
                    frame.ok_or_else(|| Error::integrity("A pack is shorter than the index says: it was cut off"))?;
                unpack_frame(opened, at, &wanted.id, frame, ids, &mut plain[at_byte..end])?;
            }
        }
        last = Some((at.offset, wanted.id, at_byte));
        match pieces.last_mut() {
            Some((from, range)) if *from + range.len() as u64 == wanted.at => range.end = end,
            _ => pieces.push((wanted.at, at_byte..end)),
        }
        at_byte = end;
    }
    let plain = plain.into_bytes();
    Ok(pieces.into_iter().map(|(at, range)| Piece { at, bytes: plain.slice(range) }).collect())
}

fn unpack_frame(
    opened: &OpenedPack,
    at: &Location,
    id: &ChunkId,
    frame: &mut [u8],
    ids: &IdKeys,
    plain: &mut [u8],
) -> Result<()> {
    let key = opened.key_at(at.offset)?;
    let (codec, payload) = frame::open(&key.key, &key.domain, ObjectType::Chunk, &id.0, frame)?;
    decompress(codec, payload, plain)?;
    // The frame opened, so its writer sealed it; whether the writer sealed what the id says only the hash tells.
    if ids.chunk_id(plain) != *id {
        return Err(Error::integrity("A chunk is not what its id says: its writer stored something else"));
    }
    Ok(())
}
