//! Time as a value. The outermost layer of a function calls [`Timestamp::now`]; everything below is told the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_smithy_types::date_time::{DateTime, Format};
use serde::{Deserialize, Serialize};

/// Seconds in a day.
pub const DAY_SECONDS: u64 = 24 * 60 * 60;

/// A moment: whole milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Reads the clock. For a function's outermost layer only.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// From seconds since the Unix epoch. Saturates, so that a number from outside cannot overflow.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// This moment and `duration` more. Saturates.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This moment less `duration`, not before the epoch.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long from `earlier` to this moment; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Reads an RFC 3339 date and time, as `2026-11-22T06:24:35Z`.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let parsed = DateTime::from_str(text, Format::DateTimeWithOffset).ok()?;
        u64::try_from(parsed.to_millis().ok()?).ok().map(Self)
    }

    /// Writes an RFC 3339 date and time in UTC, in whole seconds.
    pub fn to_rfc3339(self) -> String {
        // Formatting fails only for years past 9999, which a saturated number can reach.
        DateTime::from_secs(i64::try_from(self.seconds()).unwrap_or(i64::MAX))
            .fmt(Format::DateTime)
            .unwrap_or_else(|_| "9999-12-31T23:59:59Z".to_owned())
    }

    /// Reads an HTTP date (RFC 9110, section 5.6.7, the preferred form), as in `Retry-After`.
    pub fn parse_http_date(text: &str) -> Option<Self> {
        let parsed = DateTime::from_str(text, Format::HttpDate).ok()?;
        u64::try_from(parsed.secs()).ok().map(Self::from_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc3339_reads_back_what_it_wrote() {
        let moment = Timestamp::from_seconds(1_795_328_675);
        assert_eq!(Timestamp::parse_rfc3339(&moment.to_rfc3339()), Some(moment));
        assert_eq!(Timestamp::parse_rfc3339("2026-11-22T08:24:35+02:00"), Timestamp::parse_rfc3339("2026-11-22T06:24:35Z"));
    }

    #[test]
    fn http_dates_are_read() {
        assert_eq!(Timestamp::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Timestamp::from_seconds(784_111_777)));
        assert_eq!(Timestamp::parse_http_date("tomorrow"), None);
    }

    #[test]
    fn extreme_numbers_do_not_overflow() {
        let last = Timestamp::from_seconds(u64::MAX);
        assert_eq!(last.plus(Duration::from_secs(1)), last);
        assert_eq!(Timestamp::from_millis(0).minus(Duration::MAX), Timestamp::from_millis(0));
        assert_eq!(last.to_rfc3339(), "9999-12-31T23:59:59Z");
    }
}
