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

    /// The same, where a time without a zone is UTC and a space may stand for the `T`.
    pub fn parse_rfc3339_or_utc(text: &str) -> Option<Self> {
        let text = text.replacen(' ', "T", 1);
        let (_, time) = text.split_once('T')?;
        let has_zone = time.ends_with(['Z', 'z']) || time.contains(['+', '-']);
        if has_zone { Self::parse_rfc3339(&text) } else { Self::parse_rfc3339(&format!("{text}Z")) }
    }

    /// Reads an HTTP date in the one form that senders may still write, as `Sun, 22 Nov 2026 06:24:35 GMT`.
    pub fn parse_fixed_http_date(text: &str) -> Option<Self> {
        (text.len() == 29).then(|| Self::of_http_date(text)).flatten()
    }

    /// Writes an HTTP date.
    pub fn to_http_date(self) -> String {
        // Formatting panics past the year 9999.
        let last = 253_402_300_799;
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(self.seconds().min(last)))
    }

    /// Writes an RFC 3339 date and time in UTC, in whole seconds.
    pub fn to_rfc3339(self) -> String {
        // Formatting fails only for years past 9999, which a saturated number can reach.
        DateTime::from_secs(i64::try_from(self.seconds()).unwrap_or(i64::MAX))
            .fmt(Format::DateTime)
            .unwrap_or_else(|_| "9999-12-31T23:59:59Z".to_owned())
    }

    /// Reads an HTTP date, as in `Retry-After`, in any of its three forms (RFC 9110, section 5.6.7). A date whose year has two digits
    /// and that would be more than fifty years after `now` is in the past.
    pub fn parse_http_date(text: &str, now: Self) -> Option<Self> {
        let text = text.trim();
        match Rfc850::parse(text) {
            Some(date) => date.near(now),
            None => Self::of_http_date(text),
        }
    }

    fn of_http_date(text: &str) -> Option<Self> {
        let since_epoch = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self::from_seconds(since_epoch.as_secs()))
    }
}

/// How far ahead a date may be whose year has two digits.
const YEARS_AHEAD_MAX: u64 = 50;

/// A date in the form of RFC 850: `Sunday, 06-Nov-94 08:49:37 GMT`. `httpdate` reads these as well, but takes 1970 for the first year.
struct Rfc850<'t> {
    weekday: &'t str,
    day: &'t str,
    month: &'t str,
    /// From 0 to 99.
    year: u64,
    time: &'t str,
}

impl<'t> Rfc850<'t> {
    fn parse(text: &'t str) -> Option<Self> {
        let (weekday, rest) = text.split_once("day, ")?;
        let (day, rest) = rest.split_once('-')?;
        let (month, rest) = rest.split_once('-')?;
        let (year, time) = rest.split_once(' ')?;
        let is_weekday = matches!(weekday, "Mon" | "Tues" | "Wednes" | "Thurs" | "Fri" | "Satur" | "Sun");
        let is_year = year.len() == 2 && year.bytes().all(|byte| byte.is_ascii_digit());
        let year = year.parse().ok().filter(|_| is_weekday && is_year)?;
        Some(Self { weekday: weekday.get(..3)?, day, month, year, time })
    }

    fn near(&self, now: Timestamp) -> Option<Timestamp> {
        let now = now.to_rfc3339();
        let latest_year = now.get(..4)?.parse::<u64>().ok()? + YEARS_AHEAD_MAX;
        let latest = format!("{latest_year}{}", now.get(4..)?);
        let year = latest_year - (latest_year - self.year) % 100;
        match self.in_year(year) {
            Some(moment) if moment.to_rfc3339() <= latest => Some(moment),
            // A hundred years earlier its weekday is another one.
            Some(_) => Some(Timestamp(0)),
            None => self.in_year(year - 100),
        }
    }

    fn in_year(&self, year: u64) -> Option<Timestamp> {
        let Self { weekday, day, month, time, .. } = self;
        Timestamp::of_http_date(&format!("{weekday}, {day} {month} {year:04} {time}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_without_a_zone_is_utc_where_a_sender_says_so() {
        let at = |text: &str| Timestamp::parse_rfc3339_or_utc(text).map(Timestamp::millis);
        assert_eq!(at("2026-11-22T06:24:35"), Some(1_795_328_675_000));
        assert_eq!(at("2026-11-22 06:24:35.123"), Some(1_795_328_675_123));
        assert_eq!(at("2026-11-22T07:24:35+01:00"), Some(1_795_328_675_000));
        assert_eq!(at("2026-11-22T06:24:35Z"), Some(1_795_328_675_000));
        assert_eq!((at("2026-11-22"), at("yesterday")), (None, None));
        assert_eq!(Timestamp::parse_rfc3339("2026-11-22T06:24:35"), None);
    }

    #[test]
    fn an_http_date_reads_back_what_it_wrote() {
        let moment = Timestamp::from_seconds(1_795_328_675);
        assert_eq!(moment.to_http_date(), "Sun, 22 Nov 2026 06:24:35 GMT");
        assert_eq!(Timestamp::parse_fixed_http_date(&moment.to_http_date()), Some(moment));
        assert_eq!(Timestamp::parse_fixed_http_date("Sunday, 22-Nov-26 06:24:35 GMT"), None);
        assert_eq!(Timestamp::from_seconds(u64::MAX).to_http_date(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }

    #[test]
    fn rfc3339_reads_back_what_it_wrote() {
        let moment = Timestamp::from_seconds(1_795_328_675);
        assert_eq!(Timestamp::parse_rfc3339(&moment.to_rfc3339()), Some(moment));
        assert_eq!(Timestamp::parse_rfc3339("2026-11-22T08:24:35+02:00"), Timestamp::parse_rfc3339("2026-11-22T06:24:35Z"));
    }

    #[test]
    fn http_dates_are_read_in_all_three_forms() {
        let now = Timestamp::from_seconds(1_795_328_675);
        // The examples of RFC 9110, section 5.6.7.
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(Timestamp::parse_http_date(text, now), Some(Timestamp::from_seconds(784_111_777)), "{text}");
        }
        for text in [
            "",
            "tomorrow",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sunday, 06-Nov-9\u{e9} 08:49:37 GMT",
            "Sunday, 06-Nov-1994 08:49:37 GMT",
            "Sunday, 00-Nov-94 08:49:37 GMT",
            "Monday, 06-Nov-94 08:49:37 GMT",
            "Someday, 06-Nov-94 08:49:37 GMT",
        ] {
            assert_eq!(Timestamp::parse_http_date(text, now), None, "{text}");
        }
    }

    #[test]
    fn a_year_of_two_digits_is_at_most_fifty_years_from_now() {
        let read = |text: &str, now: &str| {
            let now = Timestamp::parse_rfc3339(now).unwrap();
            Timestamp::parse_http_date(text, now).map(Timestamp::to_rfc3339)
        };
        let now = "2026-11-22T06:24:35Z";
        for (text, expected) in [
            ("Sunday, 22-Nov-26 07:24:35 GMT", "2026-11-22T07:24:35Z"),
            ("Friday, 01-Jan-27 00:00:00 GMT", "2027-01-01T00:00:00Z"),
            ("Sunday, 22-Nov-76 06:24:35 GMT", "2076-11-22T06:24:35Z"),
            ("Sunday, 22-Nov-76 06:24:36 GMT", "1970-01-01T00:00:00Z"),
            ("Monday, 22-Nov-76 06:24:36 GMT", "1976-11-22T06:24:36Z"),
            ("Saturday, 01-Jan-77 00:00:00 GMT", "1977-01-01T00:00:00Z"),
            ("Friday, 31-Dec-99 23:59:59 GMT", "1999-12-31T23:59:59Z"),
            ("Saturday, 01-Jan-00 00:00:00 GMT", "2000-01-01T00:00:00Z"),
        ] {
            assert_eq!(read(text, now).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(read("Friday, 01-Jan-00 00:00:00 GMT", "2099-12-31T23:00:00Z").as_deref(), Some("2100-01-01T00:00:00Z"));
        let epoch = "1970-01-01T00:00:00Z";
        assert_eq!(read("Thursday, 01-Jan-70 00:00:00 GMT", epoch).as_deref(), Some(epoch));
    }

    #[test]
    fn extreme_numbers_do_not_overflow() {
        let last = Timestamp::from_seconds(u64::MAX);
        assert_eq!(last.plus(Duration::from_secs(1)), last);
        assert_eq!(Timestamp::from_millis(0).minus(Duration::MAX), Timestamp::from_millis(0));
        assert_eq!(last.to_rfc3339(), "9999-12-31T23:59:59Z");
    }
}
