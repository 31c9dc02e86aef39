//! Which restore points to keep. The type; the decisions are made in `backstay-scheduler`.

use serde::{Deserialize, Serialize};

/// How many restore points to keep, counted per workload. A point that any rule keeps is kept; no rule keeps everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Retention {
    /// The newest ones.
    pub last: u32,
    /// The newest of each of this many hours that have one.
    pub hourly: u32,
    /// The newest of each of this many days that have one.
    pub daily: u32,
    /// The newest of each of this many ISO weeks that have one.
    pub weekly: u32,
    /// The newest of each of this many months that have one.
    pub monthly: u32,
    /// The newest of each of this many years that have one.
    pub yearly: u32,
    /// Everything younger than this many seconds, counted back from the newest point of the workload.
    pub within_seconds: u64,
    /// Everything that carries one of these labels, each `key=value`.
    pub labels: Vec<String>,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $kind:ty),* $(,)?) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, value: $kind) -> Self {
            self.$name = value;
            self
        }
    )*};
}

impl Retention {
    setters! {
        /// Sets [`Self::last`].
        last: u32,
        /// Sets [`Self::hourly`].
        hourly: u32,
        /// Sets [`Self::daily`].
        daily: u32,
        /// Sets [`Self::weekly`].
        weekly: u32,
        /// Sets [`Self::monthly`].
        monthly: u32,
        /// Sets [`Self::yearly`].
        yearly: u32,
        /// Sets [`Self::within_seconds`].
        within_seconds: u64,
        /// Sets [`Self::labels`].
        labels: Vec<String>,
    }
}
