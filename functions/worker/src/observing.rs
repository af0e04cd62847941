//! What is logged and counted of how a delivery ended.

use metrics::counter;
use shared::{
    doorbell::Doorbell,
    event::Event,
    ledger::{DoneAs, Finish, Outcome, Why},
    time::Timestamp,
};

/// Longest value of a metric's dimension, in characters; CloudWatch takes 1,024.
const DIMENSION_CHARS_MAX: usize = 200;

/// A sender's text as CloudWatch takes it in a dimension: printable ASCII, of bounded length.
pub(crate) fn ascii(text: &str) -> String {
    text.chars().flat_map(char::escape_default).take(DIMENSION_CHARS_MAX).collect()
}

pub(crate) fn observe(
    doorbell: &Doorbell,
    event: &Event,
    outcome: &Outcome,
    finish: Finish,
    attempt: u32,
    started: Timestamp,
    now: Timestamp,
) {
    let Doorbell { source, event_id, destination, replay } = doorbell;
    let millis = now.since(started).as_millis() as u64;
    let age_millis = now.since(event.received_at).as_millis() as u64;
    if finish != Finish::Finished {
        tracing::warn!(%source, %event_id, %destination, attempt, millis, "the lease ran out: somebody else has the delivery");
        return;
    }
    match outcome {
        Outcome::Done(done_as) => {
            let (metric, word) = match done_as {
                DoneAs::Delivered => ("Delivered", done_as.as_str()),
                DoneAs::Skipped => ("Skipped", done_as.as_str()),
                DoneAs::Superseded => ("Superseded", done_as.as_str()),
            };
            counter!(metric).increment(1);
            tracing::info!(%source, %event_id, %destination, attempt, replay, millis, age_millis, "{word}");
        }
        Outcome::Wait(wait) => {
            let (class, reason) = (wait.failure.class, &wait.failure.reason);
            let wait_millis = wait.at.since(now).as_millis() as u64;
            match wait.why {
                Why::Failed | Why::Throttled => {
                    counter!(if wait.why == Why::Failed { "Retried" } else { "Throttled" }).increment(1);
                    tracing::warn!(
                        %source, %event_id, %destination, attempt, replay, millis, class, reason, wait_millis, "retrying"
                    );
                }
                Why::Deferred => {
                    counter!("Deferred").increment(1);
                    tracing::info!(%source, %event_id, %destination, replay, reason, wait_millis, "deferred");
                }
                Why::Refused => {
                    tracing::error!(%source, %event_id, %destination, attempt, replay, millis, class, reason, "paused");
                }
            }
        }
        Outcome::Dead(failure) => {
            let (class, reason) = (failure.class, &failure.reason);
            tracing::error!(%source, %event_id, %destination, attempt, replay, millis, class, reason, "dead");
        }
    }
}
