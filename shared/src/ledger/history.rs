//! The history of a delivery: what became of its last attempts.

use aws_sdk_dynamodb::types::AttributeValue;

use super::{
    Lease, Outcome, Why,
    attributes::{Item, millis, number, read_millis, read_number, read_string, string},
};
use crate::time::Timestamp;

/// Attempts kept on a delivery: the last ones. Ten of them, failed, make it larger than 1 KB, but only while it fails.
pub const ATTEMPTS_KEPT_MAX: usize = 10;
/// Longest reason kept with each of them, in characters.
pub(super) const ATTEMPT_REASON_CHARS_MAX: usize = 80;

/// One try of a delivery, as the ledger keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    /// In which run of its delivery, from 0: each redrive begins another.
    pub run: u32,
    /// Which attempt of its run, from 1. Two have the same number where the first of them was not counted.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// `done`, or another way of being done, or the class of the failure.
    pub result: String,
    /// Why it failed, cut short.
    pub reason: Option<String>,
    /// How long the delivery waits for its next attempt, in milliseconds.
    pub wait_millis: Option<u64>,
}

impl AttemptRecord {
    pub(super) fn of(lease: &Lease, started_at: Timestamp, outcome: &Outcome, now: Timestamp) -> Self {
        let (result, failure, next_at) = match outcome {
            Outcome::Done(done_as) => (done_as.as_str(), None, None),
            // How long a pause lasts nobody knows.
            Outcome::Wait(wait) => (wait.failure.class, Some(&wait.failure), (wait.why != Why::Refused).then_some(wait.at)),
            Outcome::Dead(failure) => (failure.class, Some(failure), None),
        };
        Self {
            run: lease.run,
            number: lease.attempt,
            started_at,
            millis: now.since(started_at).as_millis() as u64,
            result: result.to_owned(),
            reason: failure.map(|failure| failure.reason.chars().take(ATTEMPT_REASON_CHARS_MAX).collect()),
            wait_millis: next_at.map(|at| at.since(now).as_millis() as u64),
        }
    }

    /// Short names: they are on every delivery.
    pub(super) fn to_attribute(&self) -> AttributeValue {
        let mut attempt = Item::from([
            ("n".to_owned(), number(self.number.into())),
            ("at".to_owned(), millis(self.started_at)),
            ("ms".to_owned(), number(self.millis)),
            ("is".to_owned(), string(&self.result)),
        ]);
        if self.run > 0 {
            attempt.insert("run".to_owned(), number(self.run.into()));
        }
        attempt.extend(self.reason.as_ref().map(|reason| ("why".to_owned(), string(reason))));
        attempt.extend(self.wait_millis.map(|wait| ("wait".to_owned(), number(wait))));
        AttributeValue::M(attempt)
    }

    pub(super) fn read(attribute: &AttributeValue) -> Option<Self> {
        let attempt = attribute.as_m().ok()?;
        Some(Self {
            run: read_number(attempt, "run").and_then(|run| u32::try_from(run).ok()).unwrap_or_default(),
            number: u32::try_from(read_number(attempt, "n")?).ok()?,
            started_at: read_millis(attempt, "at")?,
            millis: read_number(attempt, "ms")?,
            result: read_string(attempt, "is")?.to_owned(),
            reason: read_string(attempt, "why").map(str::to_owned),
            wait_millis: read_number(attempt, "wait"),
        })
    }
}
