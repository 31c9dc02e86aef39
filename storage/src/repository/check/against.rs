//! Is a mirror or a clone the same? Told by listings, and by the bytes of what is small; no pack is read.

use std::collections::{BTreeMap, BTreeSet};

use backstay_core::{Context, Error, ErrorKind, ObjectKey, Result, StorageBackend, Task};
use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    backend::Class,
    repository::{Repository, state::SMALL_READS},
};

/// Larger objects are compared piece by piece.
const WINDOW_BYTES: u64 = 4 << 20;

/// An object that two stores have in two ways.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct DifferentObject {
    /// Its name.
    pub key: ObjectKey,
    /// Its size in this repository.
    pub here_bytes: u64,
    /// Its size in the other. With the same size its content is another.
    pub there_bytes: u64,
}

/// What differs between a repository and its mirror or clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgainstReport {
    /// Objects that only the other has.
    pub missing_here: Vec<ObjectKey>,
    /// Objects that only this repository has: a mirror that is behind lacks some.
    pub missing_there: Vec<ObjectKey>,
    /// Objects that are not the same.
    pub different: Vec<DifferentObject>,
    /// Objects that both have.
    pub objects: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// Objects of which every byte was compared; the others are named by their hashes and were compared by size.
    pub objects_read: u64,
}

impl AgainstReport {
    /// Whether both are the same.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.missing_here.is_empty() && self.missing_there.is_empty() && self.different.is_empty()
    }
}

impl Repository {
    /// Compares this repository with a mirror or a clone of it: packs and index segments by name and size, since their names are
    /// hashes, everything else byte by byte. What is put or deleted on both meanwhile is no difference.
    ///
    /// `NotFound` when there is no repository, `Conflict` when there is another.
    pub async fn check_against(&self, other: &dyn StorageBackend, ctx: &Context) -> Result<AgainstReport> {
        self.same_config(other).await?;
        let mut report = self.compare_with(other, ctx).await?;
        if !report.is_clean() {
            // An object that came or went between the two listings is found once and not again.
            let again = self.compare_with(other, ctx).await?;
            let keep = |keys: &mut Vec<ObjectKey>, again: Vec<ObjectKey>| {
                let again: BTreeSet<_> = again.into_iter().collect();
                keys.retain(|key| again.contains(key));
            };
            keep(&mut report.missing_here, again.missing_here);
            keep(&mut report.missing_there, again.missing_there);
            report.different.retain(|different| again.different.contains(different));
        }
        Ok(report)
    }

    async fn same_config(&self, other: &dyn StorageBackend) -> Result<()> {
        let config = ObjectKey::new("config")?;
        let there = other.get(&config).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                Error::not_found("There is no Backstay repository to compare with").with_context("at", other.location())
            }
            _ => error,
        })?;
        if self.backend().get(&config).await? == there {
            return Ok(());
        }
        Err(Error::conflict(
            "That is not the same repository, or its `config` is damaged: only a mirror or a clone can be compared",
        )
        .with_context("at", other.location()))
    }

    async fn compare_with(&self, other: &dyn StorageBackend, ctx: &Context) -> Result<AgainstReport> {
        let task = ctx.task("compare", None);
        let here = listing(&**self.backend(), ctx).await?;
        let mut there = listing(other, ctx).await?;
        let mut report = AgainstReport::default();
        let mut small = Vec::new();
        for (key, size) in here {
            match there.remove(&key) {
                None => report.missing_there.push(key),
                Some(there_bytes) if there_bytes != size => {
                    report.different.push(DifferentObject { key, here_bytes: size, there_bytes });
                }
                Some(_) => {
                    report.objects += 1;
                    report.bytes += size;
                    if Class::of(&key) != Some(Class::Content) {
                        small.push((key, size));
                    }
                }
            }
        }
        report.missing_here = there.into_keys().collect();
        report.objects_read = small.len() as u64;
        task.set_total(small.iter().map(|(_, size)| size).sum());
        let compared: Vec<_> = small.iter().map(|(key, size)| self.same_bytes(other, key, *size, &task, ctx)).collect();
        let mut compared = stream::iter(compared).buffered(SMALL_READS);
        let mut keys = small.iter();
        while let (Some(same), Some((key, size))) = (ctx.or_cancelled(compared.try_next()).await?, keys.next()) {
            match same {
                Same::Yes => {}
                Same::No => {
                    report.different.push(DifferentObject { key: key.clone(), here_bytes: *size, there_bytes: *size });
                }
                Same::NotHere => report.missing_here.push(key.clone()),
                Same::NotThere => report.missing_there.push(key.clone()),
            }
        }
        report.different.sort();
        Ok(report)
    }

    async fn same_bytes(
        &self,
        other: &dyn StorageBackend,
        key: &ObjectKey,
        size: u64,
        task: &Task,
        ctx: &Context,
    ) -> Result<Same> {
        let mut at = 0;
        while at < size {
            ctx.check()?;
            let end = (at + WINDOW_BYTES).min(size);
            let here = match self.backend().get_range(key, at..end).await {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Same::NotHere),
                here => here?,
            };
            let there = match other.get_range(key, at..end).await {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Same::NotThere),
                there => there?,
            };
            if here != there {
                return Ok(Same::No);
            }
            task.advance(end - at);
            at = end;
        }
        Ok(Same::Yes)
    }
}

enum Same {
    Yes,
    No,
    /// It was in the listing and is gone.
    NotHere,
    NotThere,
}

/// Every object but the traces of a probe.
async fn listing(backend: &dyn StorageBackend, ctx: &Context) -> Result<BTreeMap<ObjectKey, u64>> {
    let mut objects = BTreeMap::new();
    let mut listed = backend.list(None);
    while let Some(meta) = ctx.or_cancelled(listed.try_next()).await? {
        if Class::of(&meta.key).is_some() {
            objects.insert(meta.key, meta.size);
        }
    }
    drop(listed);
    Ok(objects)
}
