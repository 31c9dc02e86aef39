//! Mistakes that can be switched on to see whether the simulation finds them. Without the feature `mutations`, which only tests use,
//! none of them is compiled in.

/// A rule of `docs/concurrency.md` that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutation {
    /// A session does not read the head again after its `open`.
    NoSecondHead = 1,
    /// Sessions use packs that are condemned.
    ReuseCondemned,
    /// What may be a parent is remembered from before the session was opened, whatever was forgotten and collected since.
    EarlyParent,
    /// A collector does not wait for sessions that saw an older head.
    SweepEarly,
    /// Outcomes overwrite one another.
    OverwriteOutcome,
    /// The second mark looks at live points only, not at those that were committed meanwhile and forgotten again.
    MarkLiveOnly,
    /// What is deleted is what this collector finds, whichever verdict won.
    NoVerdict,
    /// A second generation is opened while the first one is open, under the number of the first.
    TwoGenerations,
    /// Merged segments name dead packs, and the list of the dead forgets them.
    MergeOld,
    /// A session uses one token for all its puts of an outcome and compares nothing else, neither there nor of its point.
    OneToken,
}

/// Whether this mistake is switched on.
#[cfg(not(feature = "mutations"))]
#[inline(always)]
pub const fn is(_mutation: Mutation) -> bool {
    false
}

#[cfg(feature = "mutations")]
pub use switched::{is, switch_on};

#[cfg(feature = "mutations")]
mod switched {
    use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

    use super::Mutation;

    static ON: AtomicU8 = AtomicU8::new(0);

    /// Whether this mistake is switched on.
    pub fn is(mutation: Mutation) -> bool {
        ON.load(SeqCst) == mutation as u8
    }

    /// Switches one mistake on in the whole process, or all off.
    pub fn switch_on(mutation: Option<Mutation>) {
        ON.store(mutation.map_or(0, |mutation| mutation as u8), SeqCst);
    }
}
