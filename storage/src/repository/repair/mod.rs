//! Repair: what is damaged is taken out, what is whole is saved, what is lost is written down.
//!
//! Nothing is deleted here. Whatever changes what the repository is, comes in one record of the chain: it is put if absent after the
//! head that everything was decided on, so that whoever else changes something meanwhile makes this one start over.

mod index;
mod packs;
mod points;
mod salvage;

pub use index::IndexRepair;
pub use packs::{DamagedPack, LostOfPoint, PackRepair};
pub use points::{BadPoint, PointRepair};

use backstay_core::{Context, Error, ErrorKind, Result};

use super::{
    Repository,
    chain::Chain,
    format::chain::{BaseSegment, Change, FoldedState},
    ids::PackId,
    index::{Section, SegmentBuilder},
    state::State,
    view::may_be_stale,
};

/// How often a repair starts over because somebody else was faster.
const ATTEMPTS: usize = 8;

/// How to repair.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RepairOptions {
    /// Only find out what would be done.
    pub dry_run: bool,
    /// Look at these packs alone; every pack is read when `None`.
    pub packs: Option<Vec<PackId>>,
}

impl RepairOptions {
    /// Sets [`Self::dry_run`].
    #[must_use]
    pub const fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }

    /// Sets [`Self::packs`].
    #[must_use]
    pub fn packs(mut self, packs: Option<Vec<PackId>>) -> Self {
        self.packs = packs;
        self
    }
}

impl Repository {
    /// Writes index segments anew that are lost or damaged, from the directories of the packs.
    ///
    /// Packs that a commit or a readable part of the lost segment names count as before. Of others nobody knows whose they are: they
    /// serve restores, and no backup builds on them. `PermissionDenied` for a key that may not.
    pub async fn repair_index(&self, options: &RepairOptions, ctx: &Context) -> Result<IndexRepair> {
        self.must_collect("repair")?;
        self.retried(async |state| self.repair_index_in(state, options, ctx).await, ctx).await
    }

    /// Gives up packs that are lost or damaged: saves what is whole in them, and writes down which ranges of which points are lost.
    ///
    /// Needs the owner's key, as only content tells whether a chunk is whole. `Integrity` when the index or a point has to be
    /// repaired first.
    pub async fn repair_packs(&self, options: &RepairOptions, ctx: &Context) -> Result<PackRepair> {
        self.must_collect("repair")?;
        if !self.capability().may_read() {
            return Err(Error::permission_denied(
                "Only who can read content can tell what is whole in a pack: open the repository with the owner's key",
            ));
        }
        self.retried(async |state| self.repair_packs_in(state, options, ctx).await, ctx).await
    }

    /// Takes points whose records are damaged or missing out of all lists. Their chunks stay as long as another point needs them.
    pub async fn repair_points(&self, options: &RepairOptions, ctx: &Context) -> Result<PointRepair> {
        self.must_collect("repair")?;
        self.retried(async |state| self.repair_points_in(state, options, ctx).await, ctx).await
    }

    fn must_collect(&self, what: &str) -> Result<()> {
        match self.capability() {
            may if may.may_collect() => Ok(()),
            other => Err(Error::permission_denied(format!(
                "A {} key cannot {what}; open the repository with the owner's or a keeper's",
                other.name()
            ))),
        }
    }

    /// `None` of the attempt: the chain moved, so that what it decided is stale.
    async fn retried<T>(&self, mut attempt: impl AsyncFnMut(State) -> Result<Option<T>>, ctx: &Context) -> Result<T> {
        for _ in 0..ATTEMPTS {
            ctx.check()?;
            let state = self.state().await?;
            let head = state.chain.head;
            match attempt(state).await {
                Ok(Some(done)) => return Ok(done),
                Ok(None) => {}
                Err(error) if may_be_stale(&error) && Chain::moved_past(self.objects(), head).await? => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::conflict("Others change the repository faster than it can be repaired; try again").retryable())
    }

    /// Puts the record of a repair; `false`: somebody else was faster.
    async fn put_repair(&self, state: &State, folded: &FoldedState, ctx: &Context) -> Result<bool> {
        state.chain.append(self.objects(), Change::Repair, Some(folded), ctx).await
    }

    /// Segments out of the directories of packs; gives those packs whose directory cannot be read, too.
    async fn index_packs(
        &self,
        packs: &[(PackId, super::index::PackKind, u64)],
        origin: super::ids::SignerId,
        put: bool,
        ctx: &Context,
    ) -> Result<(Vec<BaseSegment>, Vec<PackId>)> {
        let (mut segments, mut unreadable, mut records) = (Vec::new(), Vec::new(), SegmentBuilder::new());
        let task = ctx.task("read directories", Some(packs.len() as u64));
        for (id, kind, size) in packs {
            ctx.check()?;
            task.advance(1);
            let directory = match self.packs().directory(*kind, id, *size).await {
                Ok(read) => read,
                Err(error) if matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Unsupported) => {
                    unreadable.push(*id);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let number = records.add_pack(*id, *size, *kind);
            let section = match kind {
                super::index::PackKind::Data => Section::Data,
                super::index::PackKind::Meta => Section::Meta,
            };
            for (offset, frame) in directory.with_offsets() {
                records.add(section, frame.id, number, offset, frame.stored, frame.plain);
            }
            if put && records.len() >= super::index::MAX_RECORDS / 2 {
                let written = super::collect::put_segments(self, std::mem::take(&mut records), ctx).await?;
                segments.extend(written.into_iter().map(|id| BaseSegment { id, origin }));
            }
        }
        if put && !records.is_empty() {
            let written = super::collect::put_segments(self, records, ctx).await?;
            segments.extend(written.into_iter().map(|id| BaseSegment { id, origin }));
        }
        Ok((segments, unreadable))
    }
}
