//! Hours, days, weeks, months and years on the wall.

use backstay_core::{Retention, Timestamp};

use super::{Reason, Zone};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Period {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

pub(super) const PERIODS: [Period; 5] = [Period::Hour, Period::Day, Period::Week, Period::Month, Period::Year];

impl Period {
    pub(super) const fn count(self, rules: &Retention) -> u32 {
        match self {
            Self::Hour => rules.hourly,
            Self::Day => rules.daily,
            Self::Week => rules.weekly,
            Self::Month => rules.monthly,
            Self::Year => rules.yearly,
        }
    }

    /// The name of the period that a moment lies in; different for different periods.
    pub(super) fn name(self, time: Timestamp, zone: &Zone) -> String {
        let local = zone.at(time);
        match self {
            // With the offset: in autumn an hour comes twice, and they are two.
            Self::Hour => local.strftime("%Y-%m-%dT%H%:z").to_string(),
            Self::Day => local.date().to_string(),
            Self::Week => {
                let week = local.date().iso_week_date();
                format!("{}-W{:02}", week.year(), week.week())
            }
            Self::Month => local.strftime("%Y-%m").to_string(),
            Self::Year => local.year().to_string(),
        }
    }

    pub(super) fn reason(self, number: u32, of: u32, name: String) -> Reason {
        let period = match self {
            Self::Hour => "hourly",
            Self::Day => "daily",
            Self::Week => "weekly",
            Self::Month => "monthly",
            Self::Year => "yearly",
        };
        Reason::Newest { period: period.into(), name, number, of }
    }
}
