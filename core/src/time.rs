//! Moments, as nanoseconds since 1970-01-01T00:00:00Z.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A moment in UTC with nanoseconds. Printed as RFC 3339 with nine digits of fraction.
///
/// The range is that of an `i64` of nanoseconds: the years 1678 to 2261.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(i64);

impl Timestamp {
    /// From nanoseconds since the epoch.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// The moment `seconds` later (earlier when negative), saturating at the ends of the range.
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000_000)))
    }

    /// The system's clock, for [`crate::SystemClock`]. Library code asks its [`crate::Context`] instead.
    #[must_use]
    pub fn system() -> Self {
        let since = |duration: std::time::Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => Self(since(after)),
            Err(before) => Self(-since(before.duration())),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Invariant: every i64 of nanoseconds lies inside jiff's range of years -9999 to 9999.
        let moment = jiff::Timestamp::from_nanosecond(i128::from(self.0)).map_err(|_| fmt::Error)?;
        write!(f, "{moment:.9}")
    }
}

impl FromStr for Timestamp {
    type Err = Error;
    /// Reads RFC 3339 with an offset or `Z`.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::invalid_input("Not a time like 2026-11-20T10:00:00Z").with_context("time", text);
        let moment: jiff::Timestamp = text.parse().map_err(|_| bad())?;
        i64::try_from(moment.as_nanosecond()).map(Self).map_err(|_| bad())
    }
}

impl TryFrom<String> for Timestamp {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> String {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_nine_digits_and_come_back() {
        let time = Timestamp::from_nanos(1_795_000_000_123_456_789);
        assert_eq!(time.to_string(), "2026-11-18T11:06:40.123456789Z");
        assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        assert_eq!(Timestamp::default().to_string(), "1970-01-01T00:00:00.000000000Z");
        for edge in [i64::MIN, i64::MAX] {
            let time = Timestamp::from_nanos(edge);
            assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
        }
    }

    #[test]
    fn an_offset_is_honoured_and_nonsense_refused() {
        let utc: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        assert_eq!("2026-11-20T11:00:00+01:00".parse::<Timestamp>().unwrap(), utc);
        assert!("yesterday".parse::<Timestamp>().is_err());
    }
}
