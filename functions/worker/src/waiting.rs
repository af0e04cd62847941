//! Where a delivery waits, and for how long.
//!
//! A short wait keeps its message, which is hidden meanwhile: that costs least, and is exact to the second. A longer one stands in the
//! ledger, and the message is acknowledged: SQS lets 120,000 messages of a queue be hidden, and then hands out nothing to anybody.
//! So does everything that waits at a closed gate.
//!
//! A FIFO queue knows no delay of a message, and a message that is acknowledged lets the next of its group go on. There every wait
//! but that of a pause keeps its message, and a long one has an entry as well, in case that the message is lost.

use std::time::Duration;

use shared::{
    config::Destination,
    ledger::{DestinationState, FailureRecord, Gate, LOOK_AGAIN_SECONDS, Outcome, Parking, Wait, Why},
    time::Timestamp,
};

use crate::{
    Worker,
    batch::{Heard, Verdict},
    delivering::Job,
    failure::{DEFERRED, PAUSED},
    guards::{CLOSED, Until},
    http::Exchange,
};

/// Longest wait of a message, in seconds.
pub const SHORT_WAIT_SECONDS_MAX: u64 = 60;
/// How often a message is handed out before its delivery waits in the ledger, however short the wait is.
pub const RECEIVES_MAX: u32 = 10;
/// How long a delivery waits for room or for its turn, in seconds, by how often its message was handed out. Later it waits in the ledger.
pub const ROOM_WAIT_SECONDS: [u64; 6] = [1, 2, 4, 8, 16, 29];
/// How long a delivery waits in the ledger for its turn at the most, in seconds, beyond the end of the lease of the one that has it.
const TURN_WAIT_SECONDS_MAX: u64 = 5 * 60;
/// How soon a delivery on a FIFO queue asks again for room or its turn, in milliseconds; up to twice that.
const FIFO_WAIT_MILLIS: u64 = 1000;
/// Over how long those come again who waited for a destination that asked for it, in milliseconds.
const HOLD_SPREAD_MILLIS: u64 = 2000;
/// How often it is noted that a delivery found no room, in seconds.
const BOUNCE_NOTED_SECONDS: u64 = 5;

/// What becomes of a doorbell at the gate of its destination.
pub(crate) enum AtGate {
    /// It goes through, for all that is known.
    Through,
    /// Its message is hidden until then: the gate is closed for a moment, since the destination asked for it.
    Hold(Timestamp),
    /// Its delivery waits in the ledger.
    Park {
        parking: Parking,
        /// When the gate opens, as far as is known. A pause ends when a person says so.
        until: Timestamp,
    },
}

/// Asks the gate of a destination.
pub(crate) fn at_gate<E>(
    worker: &Worker<E>,
    destination: &Destination,
    state: &DestinationState,
    heard: Heard<'_>,
    now: Timestamp,
) -> AtGate {
    let is_fifo = worker.doorbells.is_fifo();
    match state.gate(destination.circuit.is_some(), now) {
        Gate::Paused(pause) => {
            let reason = FailureRecord { class: PAUSED, reason: format!("the destination is paused: {}", pause.reason) };
            AtGate::Park { parking: Parking { reason, stops_the_clock: true }, until: now }
        }
        Gate::ClosedUntil(until)
            if !is_fifo && state.circuit.was_asked && !is_long(until, now) && heard.receives < RECEIVES_MAX =>
        {
            AtGate::Hold(until.plus(Duration::from_millis(HOLD_SPREAD_MILLIS).mul_f64(fastrand::f64())))
        }
        Gate::ClosedUntil(until) | Gate::ProbedUntil(until) if !is_fifo => {
            let reason = FailureRecord { class: DEFERRED, reason: CLOSED.to_owned() };
            AtGate::Park { parking: Parking { reason, stops_the_clock: false }, until }
        }
        Gate::ClosedUntil(_) | Gate::ProbedUntil(_) | Gate::HalfOpen { .. } | Gate::Open => AtGate::Through,
    }
}

/// A wait that no attempt is counted for.
pub(crate) fn deferred(at: Timestamp, reason: &str, reserved_at: Option<Timestamp>) -> Wait {
    let failure = FailureRecord { class: DEFERRED, reason: reason.to_owned() };
    Wait { why: Why::Deferred, at, failure, reserved_at, look_at: None }
}

/// Whether a delivery that waits until then does so without a message.
pub(crate) fn waits_in_ledger<E>(worker: &Worker<E>, at: Timestamp, now: Timestamp) -> bool {
    !worker.doorbells.is_fifo() && is_long(at, now)
}

/// What becomes of the doorbell of a delivery that waits from now on.
pub(crate) fn after_wait<E>(worker: &Worker<E>, wait: &Wait) -> Verdict {
    let has_message = worker.doorbells.is_fifo() && wait.why != Why::Refused;
    if wait.look_at.is_some() && !has_message { Verdict::Acknowledge } else { Verdict::KeepUntil(wait.at) }
}

/// The outcome, with the place where it waits.
pub(crate) fn placed<E>(worker: &Worker<E>, heard: Heard<'_>, outcome: Outcome, now: Timestamp) -> Outcome {
    let Outcome::Wait(wait) = outcome else { return outcome };
    let is_fifo = worker.doorbells.is_fifo();
    let look_at = match wait.why {
        _ if wait.look_at.is_some() => wait.look_at,
        // At the gate, which is closed from now on.
        Why::Refused => Some(now),
        _ if is_fifo => is_long(wait.at, now).then(|| wait.at.plus(Duration::from_secs(LOOK_AGAIN_SECONDS))),
        _ => (is_long(wait.at, now) || heard.receives >= RECEIVES_MAX).then_some(wait.at),
    };
    Outcome::Wait(Wait { look_at, ..wait })
}

fn is_long(at: Timestamp, now: Timestamp) -> bool {
    at.since(now) > Duration::from_secs(SHORT_WAIT_SECONDS_MAX)
}

impl<E: Exchange> Job<'_, E> {
    /// How it waits for what a guard asks for.
    pub(crate) async fn guarded_wait(&self, until: Until, reason: &str, reserved_at: Option<Timestamp>) -> Wait {
        let now = self.now();
        let usual = match until {
            Until::Moment(at) => return deferred(at, reason, reserved_at),
            Until::Room(usual) => usual,
        };
        if self.worker.doorbells.is_fifo() {
            let soon = Duration::from_millis(FIFO_WAIT_MILLIS) + usual.mul_f64(fastrand::f64());
            return deferred(now.plus(soon), reason, reserved_at);
        }
        if let Some(wait) = self.short_wait() {
            return deferred(now.plus(wait), reason, reserved_at);
        }
        let (ledger, name) = (&self.worker.ledger, &self.destination.name);
        let once_in = Duration::from_secs(BOUNCE_NOTED_SECONDS);
        if let Err(error) = ledger.note_bounce(name, self.state, now, once_in).await {
            tracing::warn!(destination = %name, %error, "cannot record that the concurrency limit was reached; the dispatcher may send too many");
        }
        // It is due at once; how many of them are sent on depends on how many find room.
        Wait { look_at: Some(now), ..deferred(now, reason, reserved_at) }
    }

    /// How it waits for its turn, which another delivery has until then at the latest.
    pub(crate) fn turn_wait(&self, until: Timestamp, now: Timestamp) -> Wait {
        let reason = "another delivery of the same thing is on its way";
        let reserved_at = self.lease.reserved_at;
        let soon = match self.worker.doorbells.is_fifo() {
            true => Some(Duration::from_millis(FIFO_WAIT_MILLIS).mul_f64(1.0 + fastrand::f64())),
            false => self.short_wait(),
        };
        if let Some(soon) = soon {
            return deferred(until.min(now.plus(soon)), reason, reserved_at);
        }
        // The longer it has waited already, the longer it can go on.
        let age = now.since(self.event.received_at).min(Duration::from_secs(TURN_WAIT_SECONDS_MAX));
        let at = until.max(now.plus(age));
        Wait { look_at: Some(at), ..deferred(at, reason, reserved_at) }
    }

    /// How long its message waits for room or a turn; `None` once it has done so often, and where others may wait in the ledger, who would
    /// be overtaken. After a moment's quiet that the destination asked for, its probe is soon over.
    fn short_wait(&self) -> Option<Duration> {
        let index = usize::try_from(self.heard.receives.saturating_sub(1)).ok()?;
        let is_alone = self.state.waiting_until.is_none() || self.state.circuit.was_asked;
        let seconds = ROOM_WAIT_SECONDS.get(index).filter(|_| is_alone)?;
        Some(Duration::from_secs(*seconds).mul_f64(0.5 + 0.5 * fastrand::f64()))
    }
}
