//! What an object is, told by its name; and in which order objects may come to a mirror.

use backstay_core::{ObjectKey, Result};

/// Sorts of objects, in the order in which a mirror gets them: at any moment what it shows has all that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Packs and index segments: named by their hashes, looked at by nobody whom no commit sends there.
    Content,
    /// Points, openings, folded states, and whatever has another name: says nothing before an outcome or the chain does.
    Record,
    /// Key slots.
    Keys,
    /// The chain: who may sign the next two, and what was settled before.
    Chain,
    /// Tombstones: before outcomes, so that no point is seen for a moment that is forgotten.
    Tombstone,
    /// Outcomes: a commit makes a point exist.
    Outcome,
    /// Without it there is no repository.
    Config,
}

impl Class {
    /// None for what no mirror gets: the traces of a probe.
    pub fn of(key: &ObjectKey) -> Option<Self> {
        let (folder, rest) = key.as_str().split_once('/').unwrap_or((key.as_str(), ""));
        Some(match folder {
            "probe" => return None,
            "packs" | "meta" | "index" => Self::Content,
            "keys" => Self::Keys,
            "chain" => Self::Chain,
            "forgotten" => Self::Tombstone,
            "sessions" if rest.ends_with("/outcome") => Self::Outcome,
            "config" if rest.is_empty() => Self::Config,
            _ => Self::Record,
        })
    }

    /// Whether it makes something seen that other objects must be there for.
    pub const fn decides(self) -> bool {
        matches!(self, Self::Outcome | Self::Chain)
    }

    /// Whether the object may leave a mirror only when the primary's chain is known there: what it is part of may still be shown.
    pub fn leaves_late(self, key: &ObjectKey) -> bool {
        match self {
            Self::Content | Self::Chain | Self::Tombstone | Self::Outcome | Self::Config => true,
            Self::Keys => false,
            Self::Record => ["points/", "sessions/", "folded/"].iter().any(|folder| key.as_str().starts_with(folder)),
        }
    }
}

/// The number of a record of the chain; records come in this order.
pub fn chain_number(key: &ObjectKey) -> u64 {
    key.name().parse().unwrap_or(u64::MAX)
}

/// The name of the configuration.
pub fn config_key() -> Result<ObjectKey> {
    ObjectKey::new("config")
}
