//! Is everything there, and is it what it must be?

mod against;
mod maps;
mod objects;
mod packs;
mod rolling;

use packs::check_presence;
pub(super) use packs::verify_pack;

use std::collections::{BTreeMap, HashMap};

use backstay_core::{Context, Error, ErrorKind, Result};

use super::{Repository, chain::Chain, ids::PackId, index::PackKind, points::StoredPoint, state::State};

pub use against::{AgainstReport, DifferentObject};

/// How deep to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckDepth {
    /// Every record, every index page and every map; packs by their presence and size.
    Structure,
    /// The same, and this share of all packs (1 to 100 per cent) read to the last byte. Those that were not read for the longest
    /// time come first: the repository remembers.
    Read(u8),
    /// The same, and no more than so many bytes (one pack at least).
    ReadUpTo {
        /// 1 to 100.
        percent: u8,
        /// Bytes of packs.
        bytes: u64,
    },
}

/// How much is read.
struct Share {
    percent: u8,
    bytes: Option<u64>,
}

impl CheckDepth {
    const fn share(self) -> Option<Share> {
        match self {
            Self::Structure => None,
            Self::Read(percent) => Some(Share { percent, bytes: None }),
            Self::ReadUpTo { percent, bytes } => Some(Share { percent, bytes: Some(bytes) }),
        }
    }
}

/// Something that is not as it must be.
#[derive(Debug)]
pub struct Finding {
    /// What is wrong; its context names the object.
    pub error: Error,
}

/// What a check found.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// What is wrong. Empty when all is well.
    pub findings: Vec<Finding>,
    /// Restore points looked at.
    pub points: usize,
    /// Map nodes looked at.
    pub nodes: u64,
    /// Chunks that maps name, each counted once for every leaf that names it.
    pub chunks: u64,
    /// Packs there are.
    pub packs: usize,
    /// Packs read to the last byte.
    pub packs_read: usize,
    /// Bytes of those.
    pub bytes_read: u64,
    /// Whether it was written down which packs were read, so that the next check reads others. Not after a check of structure alone,
    /// nor after one of everything.
    pub remembered: bool,
    /// Packs that no committed session names: the rest of unfinished backups. Not a fault.
    pub unreferenced_packs: usize,
    /// Sessions that neither committed nor gave up: unfinished or running backups. Not a fault.
    pub unsettled_sessions: usize,
}

impl CheckReport {
    /// Whether nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Notes a fault of the repository; a fault of the way there (a store that is away, ^C) ends the check instead, so that it
    /// is never taken for corruption.
    fn note<T>(&mut self, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(value) => Ok(Some(value)),
            Err(error) => match error.kind() {
                ErrorKind::Integrity | ErrorKind::NotFound | ErrorKind::Unsupported => {
                    self.findings.push(Finding { error });
                    Ok(None)
                }
                _ => Err(error),
            },
        }
    }

    fn fault(&mut self, error: Error) {
        self.findings.push(Finding { error });
    }
}

/// How often a check begins anew because the repository was pruned under it.
const ATTEMPTS: usize = 3;

/// The packs there are: sort and size.
pub(super) type Listing = HashMap<PackId, (PackKind, u64)>;

impl Repository {
    /// Looks at everything and reports all that is wrong; fails only when it cannot look. What a collector has taken away
    /// meanwhile is not wrong: then it looks again.
    pub async fn check(&self, depth: CheckDepth, ctx: &Context) -> Result<CheckReport> {
        for _ in 1..ATTEMPTS {
            let state = self.state().await?;
            let report = self.check_in(&state, depth, ctx).await?;
            if report.is_clean() || !Chain::moved_past(self.objects(), state.chain.head).await? {
                return Ok(report);
            }
        }
        let state = self.state().await?;
        self.check_in(&state, depth, ctx).await
    }

    async fn check_in(&self, state: &State, depth: CheckDepth, ctx: &Context) -> Result<CheckReport> {
        let mut report = CheckReport { unsettled_sessions: state.unsettled().count(), ..CheckReport::default() };
        for (session, error) in &state.unreadable {
            let error = Error::new(error.kind(), error.message().to_owned());
            report.fault(error.with_context("object", format!("sessions/{session}/outcome")));
        }
        let structure = ctx.task("check structure", None);
        let ctx_within = ctx.clone().within(&structure);
        let links = Chain::verify_links(self.objects(), state.chain.head).await;
        report.note(links)?;
        self.check_records(state, &mut report, &ctx_within).await?;
        let points = self.check_points(state, &mut report).await?;
        let mut listing = self.list_packs().await?;
        let index = self.check_index(state, &listing, &mut report, &ctx_within).await?;
        check_presence(state, &index, &listing, &mut report);
        self.check_maps(&points, &index, &listing, &mut report, &ctx_within).await?;
        drop(structure);
        if let Some(share) = depth.share() {
            if !(1..=100).contains(&share.percent) {
                let error = Error::invalid_input("Read 1 to 100 per cent of the packs");
                return Err(error.with_context("percent", share.percent));
            }
            // What was given up goes with the next prune; nobody reads it any more.
            let dead = state.dead_packs();
            listing.retain(|id, _| !dead.contains(id));
            self.read_rolling(state, &listing, &share, &mut report, ctx).await?;
        }
        Ok(report)
    }

    async fn check_points(&self, state: &State, report: &mut CheckReport) -> Result<Vec<StoredPoint>> {
        let mut points = Vec::new();
        for (id, committed) in state.points() {
            let point = self.stored_point(id, committed).await;
            points.extend(report.note(point)?);
        }
        report.points = points.len();
        self.check_sequences(&points, state, report);
        Ok(points)
    }

    /// Each point names the hash of the workload's point before it: one that vanished without a tombstone leaves a gap.
    fn check_sequences(&self, points: &[StoredPoint], state: &State, report: &mut CheckReport) {
        let by_hash: BTreeMap<_, _> = state.committed.iter().map(|(id, session)| (session.point.0, id)).collect();
        for point in points {
            let previous = point.record.previous;
            let accounted = by_hash.contains_key(&previous.0) || state.chain.folded.gone.contains(&previous);
            if previous.0 != [0; 32] && !accounted {
                report.fault(
                    Error::integrity(
                        "The restore point before this one has vanished without having been forgotten: the \
                         repository was cut back",
                    )
                    .with_context("point", point.id())
                    .with_context("workload", &point.record.workload),
                );
            }
        }
    }
}
