//! How much patience.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How much patience a [`super::RetryBackend`] has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct RetryOptions {
    /// How often one call is tried, the first time included. At least 1.
    pub attempts: u32,
    /// The first pause is at most this long. Each one after it may be twice as long.
    pub first_pause: Duration,
    /// No pause is longer.
    pub longest_pause: Duration,
    /// How long the store may give no answer at all, to any call, before calls are no longer tried again.
    pub patience: Duration,
    /// The same until it has answered for the first time: who got the address wrong wants to know soon.
    pub first_contact: Duration,
    /// Retries of all calls together that successes have not paid back.
    pub retries: u32,
}

impl Default for RetryOptions {
    /// Sixty tries, pauses of up to 10 seconds, three minutes of silence (ten seconds at first), 1,024 retries: the silence is what ends it, unless the store
    /// answers others.
    fn default() -> Self {
        Self {
            attempts: 60,
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(10),
            patience: Duration::from_secs(180),
            first_contact: Duration::from_secs(10),
            retries: 1024,
        }
    }
}

macro_rules! setters {
    ($($name:ident: $kind:ty),*) => {$(
        #[doc = concat!("Sets [`Self::", stringify!($name), "`].")]
        #[must_use]
        pub const fn $name(mut self, value: $kind) -> Self {
            self.$name = value;
            self
        }
    )*};
}

impl RetryOptions {
    setters! {
        attempts: u32, first_pause: Duration, longest_pause: Duration, patience: Duration, first_contact: Duration, retries: u32
    }
}
