//! Bringing a mirror up to date.

use std::collections::{BTreeMap, BTreeSet};

use backstay_core::{Context, Error, ErrorKind, ObjectKey, PutMode, Result, StorageBackend};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    MirrorBackend,
    class::{Class, chain_number, config_key},
    diverged, store,
};

/// Objects that are copied at once. Each is in memory as a whole.
const AT_ONCE: usize = 4;
/// A mirror that lacks no more than this many objects gets them without being asked.
const SMALL: usize = 64;

/// What only somebody with keys knows of the primary. Made by [`crate::Repository::catch_up`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CatchUpPlan {
    /// The outcomes that the mirror is to have, those first that others build on.
    pub outcomes: Vec<ObjectKey>,
    /// Objects that the primary's chain calls dead: on the mirror they go when the primary does not have them any more.
    pub dead: BTreeSet<ObjectKey>,
}

impl CatchUpPlan {
    /// Sets [`Self::outcomes`].
    #[must_use]
    pub fn outcomes(mut self, outcomes: Vec<ObjectKey>) -> Self {
        self.outcomes = outcomes;
        self
    }

    /// Sets [`Self::dead`].
    #[must_use]
    pub fn dead(mut self, dead: BTreeSet<ObjectKey>) -> Self {
        self.dead = dead;
        self
    }
}

/// What became of a mirror that caught up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CatchUpReport {
    /// Objects that were copied.
    pub copied_objects: u64,
    /// Bytes of those.
    pub copied_bytes: u64,
    /// Dead objects that were deleted on the mirror.
    pub deleted_objects: u64,
    /// Objects on the mirror that the primary does not have and that nothing calls dead. They are left alone: perhaps it is the
    /// primary that has lost them.
    pub extra: Vec<ObjectKey>,
    /// Objects that are of another size on the mirror. Nothing is overwritten.
    pub different: Vec<ObjectKey>,
    /// Packs of the primary that are damaged and were not copied: `check` says what they held.
    pub damaged: Vec<ObjectKey>,
    /// Outcomes of the primary that the plan does not name: newer ones, or such that nobody can read.
    pub left: Vec<ObjectKey>,
    /// Whether the mirror gets what is put from now on. If not, catch up again: something was put meanwhile, or differs.
    pub complete: bool,
}

/// What became of one object.
enum Copied {
    Bytes(u64),
    /// The primary does not have it any more.
    Gone,
    /// A pack that is not what its name says.
    Damaged,
}

/// What two listings say.
struct Comparison {
    missing: Vec<(Class, ObjectKey, u64)>,
    extra: Vec<ObjectKey>,
    different: Vec<ObjectKey>,
    /// The mirror has no `config`, so nothing on it is seen before that comes, last of all.
    fresh: bool,
    /// The records of the primary's chain, before everything else was listed.
    chain: BTreeSet<ObjectKey>,
}

impl MirrorBackend {
    /// Copies what the mirror lacks, in an order in which it is whole at any moment, and deletes what the plan calls dead.
    ///
    /// [`crate::Repository::catch_up`] makes the plan and calls this. Without a plan the mirror gets everything but outcomes, unless it is
    /// new or lacks a single one.
    pub async fn catch_up(&self, plan: &CatchUpPlan, ctx: &Context) -> Result<CatchUpReport> {
        let task = ctx.task("catch up", Some(0));
        let missed_before = self.status().missed_objects;
        self.same_repository().await?;
        // The plan's outcomes were there before this listing, and what they need before them.
        let found = self.compare().await?;
        task.set_total(found.missing.iter().map(|(_, _, size)| size).sum());
        let mut report = CatchUpReport { different: found.different, ..CatchUpReport::default() };
        let (outcomes, mut others): (Vec<_>, Vec<_>) =
            found.missing.into_iter().partition(|(class, ..)| *class == Class::Outcome);
        others.sort_by_key(|(class, key, _)| (*class, if *class == Class::Chain { chain_number(key) } else { 0 }));
        let config: Vec<_> = others.extract_if(.., |(class, ..)| *class == Class::Config).collect();
        let sort =
            |class: Class| others.iter().filter(move |it| it.0 == class).map(|it| it.1.clone()).collect::<Vec<_>>();
        for (class, at_once) in [(Class::Content, AT_ONCE), (Class::Record, AT_ONCE)] {
            self.bring(sort(class), at_once, &mut report, &task, ctx).await?;
        }
        // A collector may have deleted some of it before it was copied. Then nothing is shown that may need it.
        if self.chain_moved(&found.chain).await? {
            report.left = outcomes.into_iter().map(|(_, key, _)| key).collect();
            report.extra = found.extra;
            return Ok(report);
        }
        for (class, at_once) in [(Class::Keys, 1), (Class::Chain, 1), (Class::Tombstone, AT_ONCE)] {
            self.bring(sort(class), at_once, &mut report, &task, ctx).await?;
        }
        let missing: BTreeSet<_> = outcomes.into_iter().map(|(_, key, _)| key).collect();
        let (wanted, left) = in_order(&plan.outcomes, missing, found.fresh);
        if report.different.is_empty() {
            self.bring(wanted, 1, &mut report, &task, ctx).await?;
            self.bring(config.into_iter().map(|it| it.1).collect(), 1, &mut report, &task, ctx).await?;
        }
        report.left = left;
        let shows_all = report.different.is_empty() && report.left.is_empty();
        for key in found.extra {
            if shows_all && plan.dead.contains(&key) && self.is_gone(&key).await? {
                self.mirror.delete(&key).await?;
                report.deleted_objects += 1;
            } else {
                report.extra.push(key);
            }
        }
        let mut state = self.state();
        report.complete =
            report.different.is_empty() && report.left.is_empty() && state.status.missed_objects == missed_before;
        if report.complete {
            state.behind = None;
            state.owed.clear();
            state.decided.clear();
            (state.status.missed_objects, state.status.missed_bytes, state.status.deferred_deletes) = (0, 0, 0);
        }
        Ok(report)
    }

    /// What the mirror lacks when it is joined.
    pub(super) async fn compare_at_start(&self, ctx: &Context) -> Result<()> {
        self.same_repository().await?;
        let found = self.compare().await?;
        let outcomes = found.missing.iter().filter(|(class, ..)| *class == Class::Outcome).count();
        if found.missing.is_empty() && found.different.is_empty() {
            return Ok(());
        }
        if found.missing.len() <= SMALL && (outcomes <= 1 || found.fresh) && found.different.is_empty() {
            let report = self.catch_up(&CatchUpPlan::default(), ctx).await?;
            if report.complete {
                return Ok(());
            }
        }
        let lacks = format!("it lacks {} objects, {} are different", found.missing.len(), found.different.len());
        self.fall_behind(&Error::unavailable(lacks));
        Ok(())
    }

    /// Before an outcome or a record of the chain: the mirror must have every other that the primary has, for the new one may use or
    /// name what those stored.
    pub(super) async fn level_before(&self, outcome: &ObjectKey) -> Result<()> {
        let here = deciding(&*self.primary).await?;
        let there = deciding(&*self.mirror).await?;
        let missing: BTreeSet<_> = here.difference(&there).filter(|key| *key != outcome).cloned().collect();
        let ours = self.state().decided.clone();
        // Ours that the primary took later build on this one and not the other way round; they come by themselves.
        let earlier: Vec<_> =
            ours.iter().take_while(|key| *key != outcome).filter(|key| missing.contains(*key)).cloned().collect();
        let foreign: Vec<_> = missing.into_iter().filter(|key| !ours.contains(key)).collect();
        let behind = || {
            Error::unavailable("The mirror lacks restore points that others have stored: let it catch up")
                .with_context("missing", foreign.len() + earlier.len())
        };
        // One of somebody else's, perhaps on its way: in which order several are to come only somebody with keys can say.
        let first = match (foreign.as_slice(), earlier.as_slice()) {
            ([], []) => return Ok(()),
            ([], _) => &earlier,
            ([_], []) => &foreign,
            _ => return Err(behind()),
        };
        let found = self.compare().await?;
        if found.missing.len() > SMALL || !found.different.is_empty() {
            return Err(behind());
        }
        let mut needed: Vec<_> = found.missing.into_iter().filter(|(class, ..)| *class < Class::Outcome).collect();
        needed.sort_by_key(|(class, key, _)| (*class, if *class == Class::Chain { chain_number(key) } else { 0 }));
        needed.retain(|(_, key, _)| key != outcome && !ours.contains(key));
        for key in needed.iter().map(|(_, key, _)| key).chain(first) {
            if let Copied::Damaged = self.copy_over(key).await? {
                return Err(behind().with_context("damaged", key));
            }
        }
        Ok(())
    }

    /// Both hold the same repository, or the mirror none.
    async fn same_repository(&self) -> Result<()> {
        let config = config_key()?;
        let there = match self.mirror.get(&config).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            there => there?,
        };
        match self.primary.get(&config).await {
            Ok(here) if here == there => Ok(()),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Err(Error::conflict("The mirror holds another repository; give it a place of its own")
                .with_context("mirror", self.mirror.location())),
        }
    }

    async fn compare(&self) -> Result<Comparison> {
        // What decides is listed first: what it needs was there before it, and so is in the second listing.
        let mut decided = BTreeSet::new();
        for folder in ["chain", "keys", "forgotten", "sessions"] {
            let folder = ObjectKey::new(folder)?;
            let keys: Vec<_> = self.primary.list(Some(&folder)).map_ok(|meta| meta.key).try_collect().await?;
            decided.extend(keys);
        }
        let here = listing(&*self.primary).await?;
        let mut there = listing(&*self.mirror).await?;
        let chain = decided.iter().filter(|key| Class::of(key) == Some(Class::Chain)).cloned().collect();
        let mut found =
            Comparison { missing: Vec::new(), extra: Vec::new(), different: Vec::new(), fresh: false, chain };
        found.fresh = !there.contains_key(&config_key()?);
        for (key, size) in here {
            let Some(class) = Class::of(&key) else { continue };
            match there.remove(&key) {
                None if class > Class::Record && class != Class::Config && !decided.contains(&key) => {}
                None => found.missing.push((class, key, size)),
                Some(other) if other != size => found.different.push(key),
                Some(_) => {}
            }
        }
        found.extra = there.into_keys().filter(|key| Class::of(key).is_some()).collect();
        Ok(found)
    }

    /// Whether the primary's chain has grown since.
    async fn chain_moved(&self, before: &BTreeSet<ObjectKey>) -> Result<bool> {
        let folder = ObjectKey::new("chain")?;
        let now: BTreeSet<_> = self.primary.list(Some(&folder)).map_ok(|meta| meta.key).try_collect().await?;
        Ok(!now.is_subset(before))
    }

    async fn bring(
        &self,
        keys: Vec<ObjectKey>,
        at_once: usize,
        report: &mut CatchUpReport,
        task: &backstay_core::Task,
        ctx: &Context,
    ) -> Result<()> {
        let copies: Vec<_> = keys.iter().map(|key| self.copy_over(key)).collect();
        let mut copies = stream::iter(copies).buffered(at_once);
        let mut keys = keys.iter();
        while let Some(copied) = ctx.or_cancelled(copies.try_next()).await? {
            match (copied, keys.next()) {
                (Copied::Bytes(bytes), _) => {
                    task.advance(bytes);
                    report.copied_objects += 1;
                    report.copied_bytes += bytes;
                }
                (Copied::Damaged, Some(key)) => report.damaged.push(key.clone()),
                (Copied::Damaged | Copied::Gone, _) => {}
            }
        }
        Ok(())
    }

    async fn copy_over(&self, key: &ObjectKey) -> Result<Copied> {
        let body = match self.primary.get(key).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Copied::Gone),
            body => body?,
        };
        // A damaged pack must not become the mirror's, too. What else is sealed is looked at by whoever has keys.
        if let Some(name) = key.as_str().strip_prefix("packs/").or(key.as_str().strip_prefix("meta/"))
            && !name.ends_with(blake3::hash(&body).to_hex().as_str())
        {
            return Ok(Copied::Damaged);
        }
        let bytes = body.len() as u64;
        store(&*self.mirror, key, body, PutMode::Create).await.map_err(|error| match error.kind() {
            ErrorKind::Conflict => diverged(key),
            _ => error,
        })?;
        Ok(Copied::Bytes(bytes))
    }

    /// Whether the primary really does not have it.
    async fn is_gone(&self, key: &ObjectKey) -> Result<bool> {
        match self.primary.head(key).await {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// The missing outcomes that may come, in order, and those that may not yet.
fn in_order(plan: &[ObjectKey], mut missing: BTreeSet<ObjectKey>, fresh: bool) -> (Vec<ObjectKey>, Vec<ObjectKey>) {
    let mut wanted: Vec<_> = plan.iter().filter(|key| missing.remove(*key)).cloned().collect();
    // Of a new mirror nobody sees anything before it is whole; and a single one has nothing to come after.
    if fresh || (wanted.is_empty() && missing.len() == 1) {
        wanted.extend(std::mem::take(&mut missing));
    }
    (wanted, missing.into_iter().collect())
}

async fn listing(backend: &dyn StorageBackend) -> Result<BTreeMap<ObjectKey, u64>> {
    backend.list(None).map_ok(|meta| (meta.key, meta.size)).try_collect().await
}

/// Every outcome and every record of the chain.
async fn deciding(backend: &dyn StorageBackend) -> Result<BTreeSet<ObjectKey>> {
    let mut found = BTreeSet::new();
    for folder in ["sessions", "chain"] {
        let folder = ObjectKey::new(folder)?;
        let mut listed = backend.list(Some(&folder));
        while let Some(meta) = listed.try_next().await? {
            if Class::of(&meta.key).is_some_and(Class::decides) {
                found.insert(meta.key);
            }
        }
    }
    Ok(found)
}
