//! Looks up many ids at once: every page is opened once, and pages close to one another come with one read.

use std::{ops::Range, sync::Arc};

use backstay_core::Result;
use futures::{StreamExt, stream};

use super::{Attached, Index, Location, Page, Place, Section, middle};

/// Most bytes of one read, unless a single page is larger.
const READ: u64 = 1 << 20;

/// Bytes between two wanted pages that are read along, because a second read would cost more.
const GAP: u64 = 64 << 10;

/// Reads under way at once: on a store over a network each costs a round trip.
const READS_AT_ONCE: usize = 8;

/// The pages that can hold an id, hardly ever more than one, and the position of the id in the caller's list.
type Wanted = (Range<u32>, usize);

impl Index {
    /// One copy of each id, in the order of `ids`: from the newest segment that has any.
    pub async fn find_many(&self, section: Section, ids: &[[u8; 32]]) -> Result<Vec<Option<Location>>> {
        let mut found = vec![None; ids.len()];
        let mut open: Vec<usize> = (0..ids.len()).collect();
        open.sort_unstable_by(|a, b| ids[*a].cmp(&ids[*b]));
        for attached in self.segments.iter().rev() {
            if open.is_empty() {
                break;
            }
            self.find_many_in(attached, section, ids, &open, &mut found).await?;
            open.retain(|at| found[*at].is_none());
        }
        for (found, id) in found.iter_mut().zip(ids) {
            if found.is_some_and(|at: Location| self.without.contains(&at.pack)) {
                *found = self.find(section, id).await?;
            }
        }
        Ok(found)
    }

    /// Looks up the ids at the sorted positions `open` in one segment.
    async fn find_many_in(
        &self,
        attached: &Attached,
        section: Section,
        ids: &[[u8; 32]],
        open: &[usize],
        found: &mut [Option<Location>],
    ) -> Result<()> {
        let segment = &attached.segment;
        let held = open.iter().filter(|at| segment.may_hold(section, &ids[**at]));
        let wanted: Vec<Wanted> = held
            .map(|at| (segment.candidates(section, &ids[*at]), *at))
            .filter(|(pages, _)| !pages.is_empty())
            .collect();
        let mut elsewhere = Vec::new();
        let mut missing = Vec::new();
        for group in wanted.chunk_by(|a, b| middle(&a.0) == middle(&b.0)) {
            match self.cached(attached, section, page_of(group)) {
                Some(plain) => resolve(attached, &plain, group, ids, found, &mut elsewhere)?,
                None => missing.push(group),
            }
        }
        let reads: Vec<_> = runs(attached, section, &missing)
            .into_iter()
            .map(|run| {
                let pages = page_of(missing[run.start])..page_of(missing[run.end - 1]) + 1;
                async move { (run, pages.start, self.read(attached, section, pages).await) }
            })
            .collect();
        let mut reads = stream::iter(reads).buffer_unordered(READS_AT_ONCE);
        while let Some((run, first, read)) = reads.next().await {
            let read = read?;
            let start = segment.bytes_of(section, first..first + 1).start;
            for group in &missing[run] {
                let page = page_of(group);
                let at = segment.bytes_of(section, page..page + 1);
                let bytes = &read[(at.start - start) as usize..(at.end - start) as usize];
                let plain = self.open(attached, section, page, bytes)?;
                resolve(attached, &plain, group, ids, found, &mut elsewhere)?;
            }
        }
        for at in elsewhere {
            if let Some(copy) = self.find_in(attached, section, &ids[at]).await? {
                found[at] = Some(Page::new(&copy.plain).location(copy.records.start, segment.packs())?);
            }
        }
        Ok(())
    }
}

/// Settles the ids of one page; those that a page beside it may hold go to `elsewhere`.
fn resolve(
    attached: &Attached,
    plain: &Arc<[u8]>,
    group: &[Wanted],
    ids: &[[u8; 32]],
    found: &mut [Option<Location>],
    elsewhere: &mut Vec<usize>,
) -> Result<()> {
    let page = Page::new(plain);
    for (pages, at) in group {
        match page.place(&ids[*at]) {
            Place::Here(records) => found[*at] = Some(page.location(records.start, attached.segment.packs())?),
            Place::Absent => {}
            Place::Before | Place::After if pages.len() > 1 => elsewhere.push(*at),
            Place::Before | Place::After => {}
        }
    }
    Ok(())
}

/// The page that a group wants opened first.
fn page_of(group: &[Wanted]) -> u32 {
    group.first().map_or(0, |(pages, _)| middle(pages))
}

/// Ranges of `missing` that one read brings.
fn runs(attached: &Attached, section: Section, missing: &[&[Wanted]]) -> Vec<Range<usize>> {
    let bytes = |at: usize| attached.segment.bytes_of(section, page_of(missing[at])..page_of(missing[at]) + 1);
    let mut runs: Vec<Range<usize>> = Vec::new();
    for at in 0..missing.len() {
        let joins = runs.last().is_some_and(|run| {
            bytes(at).start - bytes(run.end - 1).end <= GAP && bytes(at).end - bytes(run.start).start <= READ
        });
        match runs.last_mut() {
            Some(run) if joins => run.end = at + 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}
