//! What goes wrong, and how often.

use backstay_core::ErrorKind;
use backstay_testkit::SeededRandom;

use crate::call::{Call, Failure};

/// What strikes an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies; what it has asked for may still happen.
    CrashBefore,
    /// The store does it, then the process dies.
    CrashAfter,
    /// The process is frozen for a long time and then goes on.
    Pause,
    /// From here on there are two of the process.
    Clone,
    /// The store does it and the answer is lost.
    LostReply,
    /// The caller gives up waiting; the store does it later.
    LateEffect,
    /// The network brings the request twice, and the caller sees the answer to the second.
    Twice,
    /// The network brings the request again, much later.
    Again,
    /// 409: another create of the same key is in flight.
    Contended,
    /// 429 or 503: too busy.
    Busy,
    /// Not now, and no hint that trying again would help.
    Away,
    /// It takes long; what else its process does goes on.
    Slow,
}

impl Fault {
    pub const ALL: [Self; 12] = [
        Self::CrashBefore,
        Self::CrashAfter,
        Self::Pause,
        Self::Clone,
        Self::LostReply,
        Self::LateEffect,
        Self::Twice,
        Self::Again,
        Self::Contended,
        Self::Busy,
        Self::Away,
        Self::Slow,
    ];

    /// As it stands in the trace and in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CrashBefore => "crash before",
            Self::CrashAfter => "crash after",
            Self::Pause => "pause",
            Self::Clone => "clone",
            Self::LostReply => "lost reply",
            Self::LateEffect => "late effect",
            Self::Twice => "done twice",
            Self::Again => "done again later",
            Self::Contended => "409",
            Self::Busy => "503",
            Self::Away => "away",
            Self::Slow => "slow",
        }
    }

    fn strikes(self, call: &Call, clonable: bool) -> bool {
        match self {
            Self::Clone => clonable,
            Self::LateEffect | Self::Again => call.writes(),
            Self::Twice | Self::Contended => call.creates(),
            _ => true,
        }
    }

    /// The error that it is seen as; those of the S3 backend are these.
    pub fn error(self) -> Option<Failure> {
        let failure = |kind, retryable, message| Some(Failure::new(kind, retryable, message));
        match self {
            Self::LostReply | Self::LateEffect => {
                failure(ErrorKind::Unavailable, true, "The reply was lost (simulated)")
            }
            Self::Contended => failure(ErrorKind::Conflict, true, "Another create is in flight (simulated)"),
            Self::Busy => failure(ErrorKind::Unavailable, true, "The store is busy (simulated)"),
            Self::Away => failure(ErrorKind::Unavailable, false, "The store is away (simulated)"),
            _ => None,
        }
    }
}

/// How often faults strike.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// Of ten thousand operations so many have one.
    pub per_10_000: u64,
    /// At most so many clones a run.
    pub clones: u64,
}

impl Rates {
    /// Draws the fault of an operation.
    pub fn draw(&self, random: &SeededRandom, call: &Call, clonable: bool) -> Option<Fault> {
        // Most operations read. Those that others decide by are few, and what goes wrong there is what this is about.
        let decides = call.writes() && ["sessions", "chain", "points", "forgotten"].iter().any(|it| call.below(it));
        let of_10_000 = if decides { self.per_10_000 * 6 } else { self.per_10_000 };
        if random.below(10_000) >= of_10_000 {
            return None;
        }
        let fault = Fault::ALL[random.below(Fault::ALL.len() as u64) as usize];
        fault.strikes(call, clonable).then_some(fault)
    }
}
