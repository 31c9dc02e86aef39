//! Where the clock hangs.

use std::{fmt, str::FromStr};

use backstay_core::{Error, Result, Timestamp};
use jiff::{Zoned, tz::TimeZone};

/// A time zone of the IANA database: `Europe/Berlin`.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Zone {
    /// The zone that never changes its clocks.
    #[must_use]
    pub const fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    pub(super) fn at(&self, time: Timestamp) -> Zoned {
        // Invariant: every i64 of nanoseconds lies inside jiff's range of years -9999 to 9999; the epoch never comes back.
        let moment = jiff::Timestamp::from_nanosecond(i128::from(time.as_nanos())).unwrap_or_default();
        moment.to_zoned(self.0.clone())
    }
}

impl Default for Zone {
    fn default() -> Self {
        Self::utc()
    }
}

impl FromStr for Zone {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        let unknown = |error| {
            Error::invalid_input("No such time zone; write one like Europe/Berlin or UTC")
                .with_context("zone", name)
                .with_source(error)
        };
        TimeZone::get(name).map(Self).map_err(unknown)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({self})")
    }
}
