//! Why a point stays.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a point stays, as data and, printed, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// Somebody said so.
    Pinned,
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
            Self::Pinned => f.write_str("pinned"),
            Self::NoRules => f.write_str("no rules, so that everything is kept"),
            Self::Last { number, of } => write!(f, "last {number} of {of}"),
            Self::Newest { period, name, number, of } => write!(f, "{period} {number} of {of} ({name})"),
            Self::Within { seconds } => write!(f, "within {seconds} s of the newest"),
            Self::Label { label } => write!(f, "label {label}"),
        }
    }
}
