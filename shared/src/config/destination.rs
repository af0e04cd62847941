//! Destinations: what all types of them have in common.

use std::{ops::Range, time::Duration};

use toml::Spanned;

use super::{
    BACKOFF_SECONDS_DEFAULT, BACKOFF_SECONDS_MAX, BACKOFFS_MAX, CIRCUIT_CONSECUTIVE_DEFAULT, CIRCUIT_PERCENT_DEFAULT,
    CIRCUIT_WAIT_SECONDS_DEFAULT, CIRCUIT_WAIT_SECONDS_MAX, CONCURRENCY_MAX, GIVE_UP_HOURS_DEFAULT, GIVE_UP_HOURS_MAX,
    RATE_PER_SECOND_MAX, RATE_SECONDS_MAX,
    check::{Fault, line_of, named, within},
    file::{CircuitEntry, DestinationEntry, Kind, RateEntry},
    http::{HttpDestination, check_http},
    targets::{
        EventBridgeDestination, LambdaDestination, SnsDestination, SqsDestination, TARGET_SECONDS_MAX, check_eventbridge,
        check_lambda, check_sns, check_sqs,
    },
};
use crate::names::DestinationName;

/// Where events go.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Its name.
    pub name: DestinationName,
    /// What it is.
    pub kind: DestinationKind,
    /// Waits before the second attempt, the third, and so on; each is the upper end of a random wait (full jitter).
    pub backoff: Vec<Duration>,
    /// How long a delivery is tried, its waits included.
    pub give_up_after: Duration,
    /// How many requests it takes in what time.
    pub rate: Option<Rate>,
    /// How many requests it takes at once.
    pub concurrency: Option<u32>,
    /// When it is left alone for a while.
    pub circuit: Option<CircuitSpec>,
    /// Where it stands in the file, for what can be checked only by the worker.
    pub(super) line: usize,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// One request every so often.
    pub interval: Duration,
    /// How many may go at once after a silence.
    pub burst: u32,
}

/// When a circuit opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitSpec {
    /// Failures in a row that open it.
    pub consecutive: u32,
    /// Failures among the attempts of a minute that open it, in percent.
    pub percent: u32,
    /// How long it stays open the first time; each further time twice as long.
    pub wait: Duration,
}

/// What a destination is.
#[derive(Clone, Debug)]
pub enum DestinationKind {
    /// A POST of the body.
    Http(Box<HttpDestination>),
    /// Code that is compiled into the worker, by its name.
    Handler(String),
    /// The invocation of a Lambda function.
    Lambda(LambdaDestination),
    /// An event on an EventBridge bus.
    EventBridge(EventBridgeDestination),
    /// A message in an SQS queue.
    Sqs(SqsDestination),
    /// A message to an SNS topic.
    Sns(SnsDestination),
}

impl Destination {
    /// Attempts before a delivery is dead.
    pub fn attempts_max(&self) -> u32 {
        u32::try_from(self.backoff.len()).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// The longest that an attempt takes beside the worker's own calls.
    pub fn attempt_max(&self) -> Duration {
        match &self.kind {
            DestinationKind::Http(http) => http.attempt_max(),
            DestinationKind::Handler(_) => Duration::ZERO,
            DestinationKind::Lambda(lambda) => lambda.timeout,
            DestinationKind::EventBridge(_) | DestinationKind::Sqs(_) | DestinationKind::Sns(_) => {
                Duration::from_secs(TARGET_SECONDS_MAX)
            }
        }
    }
}

/// What a type of destination takes its own settings from. Whatever it leaves behind has no meaning for it.
pub(super) struct Settings<'a> {
    /// The destination's name, where it stands.
    pub(super) name: &'a Spanned<String>,
    pub(super) entry: DestinationEntry,
}

impl Settings<'_> {
    /// A setting that must be there.
    pub(super) fn need<T>(&self, what: &str, given: Option<T>) -> Result<T, Fault> {
        given.ok_or_else(|| Fault::new(self.name.span(), format!("destination `{}` has no `{what}`", self.name.get_ref())))
    }
}

pub(super) fn check_destination(name: &Spanned<String>, entry: DestinationEntry, text: &str) -> Result<Destination, Fault> {
    let destination = named("destination", name, DestinationName::parse)?;
    let mut settings = Settings { name, entry };
    let backoff = check_backoff(settings.entry.backoff_seconds.take())?;
    let give_up_hours = settings.entry.give_up_after_hours.take();
    let give_up_hours = within(give_up_hours, GIVE_UP_HOURS_DEFAULT, "give_up_after_hours", 1..GIVE_UP_HOURS_MAX + 1)?;
    let rate = settings.entry.rate.take().map(check_rate).transpose()?;
    let concurrency = match settings.entry.concurrency.take() {
        Some(given) => Some(within(Some(given), 0, "concurrency", 1..CONCURRENCY_MAX + 1)? as u32),
        None => None,
    };
    // A handler's writes are DynamoDB's to protect.
    let circuit = match settings.entry.kind.get_ref() {
        Kind::Handler => None,
        _ => check_circuit(settings.entry.circuit.take())?,
    };
    let kind = match settings.entry.kind.get_ref() {
        Kind::Lambda => DestinationKind::Lambda(check_lambda(&mut settings)?),
        Kind::EventBridge => DestinationKind::EventBridge(check_eventbridge(&mut settings)?),
        Kind::Sqs => DestinationKind::Sqs(check_sqs(&mut settings)?),
        Kind::Sns => DestinationKind::Sns(check_sns(&mut settings)?),
        Kind::Http => DestinationKind::Http(Box::new(check_http(&mut settings)?)),
        Kind::Handler => {
            let handler = settings.entry.handler.take();
            DestinationKind::Handler(settings.need("handler", handler)?.into_inner())
        }
    };
    if let Some((what, span)) = settings.entry.leftover() {
        return Err(Fault::new(span, format!("`{what}` means nothing for this type of destination")));
    }
    Ok(Destination {
        kind,
        backoff,
        give_up_after: Duration::from_secs(give_up_hours * 60 * 60),
        rate,
        concurrency,
        circuit,
        line: line_of(text.get(..name.span().start).unwrap_or_default()),
        name: destination,
    })
}

fn check_rate(entry: RateEntry) -> Result<Rate, Fault> {
    let seconds = within(entry.seconds, 1, "seconds", 1..RATE_SECONDS_MAX + 1)?;
    let requests = within(Some(entry.requests), 0, "requests", 1..RATE_PER_SECOND_MAX * seconds + 1)?;
    let burst = within(entry.burst, 1, "burst", 1..RATE_PER_SECOND_MAX + 1)?;
    Ok(Rate { interval: Duration::from_millis((seconds * 1000).div_ceil(requests)), burst: burst as u32 })
}

fn check_circuit(entry: Option<Spanned<CircuitEntry>>) -> Result<Option<CircuitSpec>, Fault> {
    let entry = entry.map(Spanned::into_inner).unwrap_or_default();
    let consecutive = within(entry.consecutive, CIRCUIT_CONSECUTIVE_DEFAULT, "consecutive", 1..1001)?;
    let percent = within(entry.percent, CIRCUIT_PERCENT_DEFAULT, "percent", 1..101)?;
    let wait = within(entry.wait_seconds, CIRCUIT_WAIT_SECONDS_DEFAULT, "wait_seconds", 1..CIRCUIT_WAIT_SECONDS_MAX + 1)?;
    let circuit = CircuitSpec { consecutive: consecutive as u32, percent: percent as u32, wait: Duration::from_secs(wait) };
    Ok(entry.enabled.unwrap_or(true).then_some(circuit))
}

/// The place of a setting that nobody has taken.
pub(super) fn place<T>(name: &'static str, given: &Option<Spanned<T>>) -> Option<(&'static str, Range<usize>)> {
    given.as_ref().map(|given| (name, given.span()))
}

impl DestinationEntry {
    /// The first setting that the check of its type has not taken.
    fn leftover(&self) -> Option<(&'static str, Range<usize>)> {
        place("url", &self.url)
            .or_else(|| place("allow_plaintext", &self.allow_plaintext))
            .or_else(|| place("secret", &self.secret))
            .or_else(|| place("signing_name", &self.signing_name))
            .or_else(|| place("signing_key", &self.signing_key))
            .or_else(|| place("signature", &self.signature))
            .or_else(|| place("timeout_seconds", &self.timeout_seconds))
            .or_else(|| place("connect_timeout_seconds", &self.connect_timeout_seconds))
            .or_else(|| place("response_bytes_max", &self.response_bytes_max))
            .or_else(|| place("headers", &self.headers))
            .or_else(|| place("auth", &self.auth))
            .or_else(|| place("statuses", &self.statuses))
            .or_else(|| place("allow_networks", &self.allow_networks))
            .or_else(|| place("ca", &self.ca))
            .or_else(|| place("handler", &self.handler))
            .or_else(|| place("function", &self.function))
            .or_else(|| place("permanent_errors", &self.permanent_errors))
            .or_else(|| place("bus", &self.bus))
            .or_else(|| place("event_source", &self.event_source))
            .or_else(|| place("queue_url", &self.queue_url))
            .or_else(|| place("topic_arn", &self.topic_arn))
            .or_else(|| place("message_group", &self.message_group))
            .or_else(|| place("circuit", &self.circuit))
    }
}

fn check_backoff(given: Option<Spanned<Vec<u64>>>) -> Result<Vec<Duration>, Fault> {
    let seconds = match given {
        None => BACKOFF_SECONDS_DEFAULT.to_vec(),
        Some(given) if given.get_ref().len() > BACKOFFS_MAX => {
            return Err(Fault::new(given.span(), format!("`backoff_seconds` has more than {BACKOFFS_MAX} waits")));
        }
        Some(given) if given.get_ref().iter().any(|seconds| !(1..=BACKOFF_SECONDS_MAX).contains(seconds)) => {
            let message = format!("each of `backoff_seconds` must be from 1 to {BACKOFF_SECONDS_MAX}, what SQS can wait");
            return Err(Fault::new(given.span(), message));
        }
        Some(given) => given.into_inner(),
    };
    Ok(seconds.into_iter().map(Duration::from_secs).collect())
}
