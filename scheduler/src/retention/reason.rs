//! Why a point stays.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a point stays, as data and, printed, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// Somebody said so.
    Hold {
        /// What they wrote; may be empty.
        reason: String,
    },
    /// There are no rules, and no rules keep everything.
    NoRules,
    /// One of the newest.
    Last {
        /// 1 for the newest.
        number: u32,
        /// How many the rule keeps.
        of: u32,
    },
    /// The newest of an hour, day, week, month or year.
    Newest {
        /// `hourly`, `daily`, `weekly`, `monthly`, `yearly`.
        period: String,
        /// Which one: `2026-11-20`, `2026-W47`.
        name: String,
        /// 1 for the latest period that has a point.
        number: u32,
        /// How many the rule keeps.
        of: u32,
    },
    /// Young enough, counted back from the newest.
    Within {
        /// How young.
        seconds: u64,
    },
    /// It carries a label.
    Label {
        /// Which: `key=value`.
        label: String,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hold { reason } if reason.is_empty() => f.write_str("on hold"),
            Self::Hold { reason } => write!(f, "on hold ({reason})"),
            Self::NoRules => f.write_str("no rules, so that everything is kept"),
            Self::Last { number, of } => write!(f, "last {number} of {of}"),
            Self::Newest { period, name, number, of } => write!(f, "{period} {number} of {of} ({name})"),
            Self::Within { seconds } => write!(f, "within {} of the newest", Span(*seconds)),
            Self::Label { label } => write!(f, "label {label}"),
        }
    }
}

/// Seconds in the largest unit that goes into them.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(604_800, "w"), (86_400, "d"), (3_600, "h"), (1, "s")];
        let (seconds, unit) =
            units.into_iter().find(|(seconds, _)| self.0.is_multiple_of(*seconds)).unwrap_or((1, "s"));
        write!(f, "{} {unit}", self.0 / seconds)
    }
}
