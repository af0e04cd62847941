//! What a failed attempt means for its delivery: the only place that decides between waiting, pausing and giving up.

use std::time::Duration;

use shared::{
    config::{BACKOFF_SECONDS_MAX, Destination},
    ledger::{FailureRecord, Lease, Outcome, Wait, Why},
    time::Timestamp,
};

/// How long to wait after a "not now" that does not say how long, in seconds: the window of most rate limits.
pub const THROTTLE_SECONDS_DEFAULT: u64 = 60;
/// How many answers of "not now" weigh as much as one failed attempt.
pub const THROTTLES_PER_ATTEMPT: u32 = 4;

/// How many different events in a row a destination refuses before it is paused. Fewer may be about these events.
pub const REFUSED_EVENTS_MAX: usize = 3;

/// The class of what will never work, as the ledger has it.
pub(crate) const PERMANENT: &str = "permanent";
/// What a delivery is kept under that was not tried, since its destination is protected just now.
pub(crate) const DEFERRED: &str = "deferred";
/// What a delivery is kept under that was not tried, since its destination is paused.
pub(crate) const PAUSED: &str = "paused";
/// The class of what has expired before it was delivered.
pub(crate) const EXPIRED: &str = "expired";

/// Why an attempt failed. Reasons never hold a body, a secret or a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may work the next time.
    Transient(String),
    /// The destination asks to be left alone for a while.
    Throttled {
        /// For how long, if it says.
        retry_after: Option<Duration>,
        /// Its answer.
        reason: String,
    },
    /// It will never work.
    Permanent(String),
    /// Our credentials are wrong, or cannot be had: so it is for every event.
    Auth(String),
    /// The destination answered this event as if our credentials were wrong. That may be about the event alone.
    Refused(String),
    /// The destination has something that this event contradicts.
    Conflict(String),
}

impl Failure {
    const fn class(&self) -> &'static str {
        match self {
            Self::Transient(_) => "transient",
            Self::Throttled { .. } => "throttled",
            Self::Permanent(_) => PERMANENT,
            Self::Auth(_) | Self::Refused(_) => "auth",
            Self::Conflict(_) => "conflict",
        }
    }

    /// How the attempt ends. `jitter`, from 0 to 1, is the part of the longest wait that is waited (full jitter).
    pub fn outcome(self, lease: &Lease, destination: &Destination, now: Timestamp, jitter: f64) -> Outcome {
        let class = self.class();
        let record = |reason| FailureRecord { class, reason };
        let wait = |why, at, reason| Outcome::Wait(Wait { why, at, failure: record(reason), reserved_at: None, look_at: None });
        let (give_up_after, tried) = (destination.give_up_after, lease.attempt);
        let too_late = |at: Timestamp| at.since(lease.begun_at) >= give_up_after;
        let gave_up = |reason| {
            let hours = give_up_after.as_secs() / 3600;
            Outcome::Dead(record(format!("gave up after attempt {tried}: the next would be later than {hours} hours: {reason}")))
        };
        match self {
            Self::Transient(reason) | Self::Refused(reason) => match backoff(lease.attempt, destination) {
                Some(longest) => {
                    let at = now.plus(longest.mul_f64(jitter.clamp(0.0, 1.0)));
                    if too_late(at) { gave_up(reason) } else { wait(Why::Failed, at, reason) }
                }
                None => Outcome::Dead(record(format!("gave up after {} attempts: {reason}", lease.attempt))),
            },
            Self::Throttled { retry_after, reason } => {
                let throttles = lease.throttles.saturating_add(1);
                if throttles > destination.attempts_max().saturating_mul(THROTTLES_PER_ATTEMPT) {
                    return Outcome::Dead(record(format!("gave up after being throttled {throttles} times: {reason}")));
                }
                // "After nothing" would use up a delivery in seconds: it says as little as no header.
                let asked = retry_after.filter(|wait| !wait.is_zero()).unwrap_or(Duration::from_secs(THROTTLE_SECONDS_DEFAULT));
                let at = now.plus(asked.min(Duration::from_secs(BACKOFF_SECONDS_MAX)));
                if too_late(at) { gave_up(reason) } else { wait(Why::Throttled, at, reason) }
            }
            Self::Auth(reason) => wait(Why::Refused, now, reason),
            Self::Permanent(reason) | Self::Conflict(reason) => Outcome::Dead(record(reason)),
        }
    }
}

/// The longest wait after this attempt, counted from 1; `None` after the last.
fn backoff(attempt: u32, destination: &Destination) -> Option<Duration> {
    let index = usize::try_from(attempt.checked_sub(1)?).ok()?;
    destination.backoff.get(index).copied()
}

/// Reads a `Retry-After` header (RFC 9110, section 10.2.3): whole seconds, or a date in any of its three forms. Anything else, such as
/// `120.0` or `+120`, is as good as no header.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // The longest wait is bounded in any case, so a number that is too large for the type means that.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    Some(Timestamp::parse_http_date(value, now)?.since(now))
}

#[cfg(test)]
mod tests {
    use shared::{
        config::Gateway,
        doorbell::Doorbell,
        event::{BodyDigest, Event, EventKey},
        ledger::{Bid, Delivery, Status},
        names::{DestinationName, EventId, EventType, SourceName},
    };

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn destination() -> Destination {
        let config = "[destinations.ci]\ntype = \"handler\"\nhandler = \"x\"\nbackoff_seconds = [10, 100]";
        let gateway = Gateway::parse(config, "gateway.toml").unwrap();
        gateway.destinations.into_values().next().unwrap()
    }

    fn lease(attempts: u32, throttles: u32) -> Lease {
        let key = EventKey { source: SourceName::parse("a").unwrap(), event_id: EventId::parse("7").unwrap() };
        let event = Event {
            key: key.clone(),
            event_type: EventType::unknown(),
            received_at: NOW,
            occurred_at: None,
            headers: Default::default(),
            body_bytes: 0,
            sha256: BodyDigest::of(b""),
            compared_sha256: None,
            part: None,
            key_id: String::new(),
            destinations: Vec::new(),
            expires_at: NOW,
        };
        let doorbell = Doorbell::first(&key, &DestinationName::parse("ci").unwrap());
        let bid = Bid { doorbell: &doorbell, event: &event, owner: "me", now: NOW, lease_until: NOW };
        let delivery = Delivery {
            status: Status::Processing,
            generation: NOW,
            attempts,
            throttles,
            replay: 0,
            owner: "me".into(),
            lease_until: None,
            next_at: None,
            look_at: None,
            done_at: None,
            expires_at: NOW,
            begun_at: NOW,
            reserved_at: None,
            history: Vec::new(),
        };
        Lease::of(&bid, &delivery)
    }

    fn waits(failure: Failure, lease: &Lease, jitter: f64) -> Option<u64> {
        match failure.outcome(lease, &destination(), NOW, jitter) {
            Outcome::Wait(wait) => Some(wait.at.since(NOW).as_secs()),
            _ => None,
        }
    }

    #[test]
    fn waits_grow_with_full_jitter_until_the_delivery_is_dead() {
        let transient = || Failure::Transient("503".into());
        assert_eq!(waits(transient(), &lease(1, 0), 1.0), Some(10));
        assert_eq!(waits(transient(), &lease(1, 0), 0.0), Some(0));
        assert_eq!(waits(transient(), &lease(2, 0), 0.5), Some(50));
        assert_eq!(waits(transient(), &lease(3, 0), 1.0), None);
        let outcome = transient().outcome(&lease(3, 0), &destination(), NOW, 1.0);
        let Outcome::Dead(record) = outcome else { panic!("{outcome:?}") };
        assert_eq!((record.class, record.reason.as_str()), ("transient", "gave up after 3 attempts: 503"));
    }

    #[test]
    fn a_throttle_waits_as_asked_within_the_cap_and_costs_a_quarter_of_an_attempt() {
        let asked = |seconds| Failure::Throttled { retry_after: Some(Duration::from_secs(seconds)), reason: "429".into() };
        assert_eq!(waits(asked(7), &lease(1, 0), 0.0), Some(7));
        assert_eq!(waits(asked(u64::MAX), &lease(1, 0), 0.0), Some(BACKOFF_SECONDS_MAX));
        assert_eq!(waits(asked(1), &lease(1, 0), 0.0), Some(1));
        assert_eq!(waits(asked(0), &lease(1, 0), 0.0), Some(THROTTLE_SECONDS_DEFAULT));
        let unsaid = Failure::Throttled { retry_after: None, reason: "429".into() };
        assert_eq!(waits(unsaid, &lease(1, 0), 0.0), Some(THROTTLE_SECONDS_DEFAULT));
        assert_eq!(waits(asked(7), &lease(1, 3 * THROTTLES_PER_ATTEMPT - 1), 0.0), Some(7));
        assert_eq!(waits(asked(7), &lease(1, 3 * THROTTLES_PER_ATTEMPT), 0.0), None);
    }

    #[test]
    fn what_would_be_tried_later_than_it_may_is_dead_at_once() {
        let asked =
            |hours: u64| Failure::Throttled { retry_after: Some(Duration::from_secs(hours * 3600)), reason: "429".into() };
        let mut destination = destination();
        destination.give_up_after = Duration::from_secs(2 * 3600);
        let outcome = |failure: Failure, now| failure.outcome(&lease(1, 0), &destination, now, 1.0);
        let waits = |outcome, meant| matches!(outcome, Outcome::Wait(Wait { why, .. }) if why == meant);
        assert!(waits(outcome(asked(1), NOW), Why::Throttled));
        assert!(matches!(outcome(asked(2), NOW), Outcome::Dead(_)));
        let before = |seconds: u64| NOW.plus(Duration::from_secs(2 * 3600 - seconds));
        assert!(waits(outcome(Failure::Transient("503".into()), before(11)), Why::Failed));
        assert!(matches!(outcome(Failure::Transient("503".into()), before(10)), Outcome::Dead(_)));
    }

    #[test]
    fn what_cannot_work_is_dead_at_once_and_what_is_refused_pauses() {
        let outcome = |failure: Failure| failure.outcome(&lease(1, 0), &destination(), NOW, 1.0);
        assert!(matches!(outcome(Failure::Permanent("400".into())), Outcome::Dead(_)));
        assert!(matches!(outcome(Failure::Conflict("409".into())), Outcome::Dead(_)));
        for (failure, meant) in [(Failure::Auth("401".into()), Why::Refused), (Failure::Refused("401".into()), Why::Failed)] {
            let outcome = outcome(failure);
            let is_meant = |wait: &Wait| wait.why == meant && wait.failure.class == "auth";
            assert!(matches!(&outcome, Outcome::Wait(wait) if is_meant(wait)), "{outcome:?}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_in_any_of_its_three_forms() {
        assert_eq!(retry_after("120", NOW), Some(Duration::from_secs(120)));
        assert_eq!(retry_after(" 0 ", NOW), Some(Duration::ZERO));
        for in_two_minutes in ["Tue, 14 Nov 2023 22:15:20 GMT", "Tuesday, 14-Nov-23 22:15:20 GMT", "Tue Nov 14 22:15:20 2023"] {
            assert_eq!(retry_after(in_two_minutes, NOW), Some(Duration::from_secs(120)), "{in_two_minutes}");
        }
        for past in ["Tue, 14 Nov 2023 22:00:00 GMT", "Tuesday, 14-Nov-23 22:00:00 GMT", "Tue Nov 14 22:00:00 2023"] {
            assert_eq!(retry_after(past, NOW), Some(Duration::ZERO), "{past}");
        }
    }

    #[test]
    fn retry_after_beyond_all_numbers_waits_the_longest_and_what_is_no_number_is_ignored() {
        for huge in ["18446744073709551615", "18446744073709551616", &"9".repeat(1000)] {
            assert_eq!(retry_after(huge, NOW), Some(Duration::from_secs(u64::MAX)), "{huge}");
            let failure = Failure::Throttled { retry_after: retry_after(huge, NOW), reason: "429".into() };
            assert_eq!(waits(failure, &lease(1, 0), 0.0), Some(BACKOFF_SECONDS_MAX), "{huge}");
        }
        for ignored in ["", "-1", "+120", "120.0", "1.5", "1e2", "120s", "0x10", "1 2", "\u{661}", "soon", "Tue, 14 Nov 2023"] {
            assert_eq!(retry_after(ignored, NOW), None, "{ignored}");
        }
    }
}
