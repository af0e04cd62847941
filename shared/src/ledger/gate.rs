//! The gate of a destination: whether anything may be tried there just now.
//!
//! A pause, an open circuit and a destination that asks to be left alone close it. Opening or closing it writes one item, the
//! destination's state, and never what waits for it.

use std::time::Duration;

use super::{
    Circuit, DestinationState, Ledger, LedgerError, Pause,
    attributes::{millis, number},
};
use crate::{names::DestinationName, time::Timestamp};

/// How long a destination is left alone at the most because it asks for it, in seconds. A delivery that it refused waits as long as it said.
pub const LEFT_ALONE_SECONDS_MAX: u64 = 15 * 60;

/// Whether anything may be tried at a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// One delivery at a time may, the probe: it was closed, and nobody knows whether the trouble is over.
    HalfOpen {
        /// Until when it was closed, by which its probe is told from another's.
        since: Timestamp,
    },
    /// The probe is on its way, until then at the latest: nobody else is tried meanwhile.
    ProbedUntil(Timestamp),
    /// Nothing is tried until then.
    ClosedUntil(Timestamp),
    /// Nothing is tried until a person says so.
    Paused(Pause),
}

impl DestinationState {
    /// The gate at this moment. A circuit counts only where the configuration has one, but a destination that asks to be left alone is.
    pub fn gate(&self, has_circuit: bool, now: Timestamp) -> Gate {
        if let Some(pause) = &self.pause {
            return Gate::Paused(pause.clone());
        }
        match self.circuit.open_until.filter(|_| has_circuit || self.circuit.was_asked) {
            None => Gate::Open,
            Some(until) if now < until => Gate::ClosedUntil(until),
            // A short Retry-After is soon over: it is not worth parking for that.
            Some(since) => match self.circuit.probe_until.filter(|until| now < *until && !self.circuit.was_asked) {
                Some(until) => Gate::ProbedUntil(until),
                None => Gate::HalfOpen { since },
            },
        }
    }
}

impl Ledger {
    /// Closes the gate of a destination that asks to be left alone until `until`, unless it is closed for as long already. `seen` is how its
    /// circuit was seen by who was told so.
    pub async fn leave_alone(&self, destination: &DestinationName, seen: &Circuit, until: Timestamp) -> Result<(), LedgerError> {
        if seen.open_until.is_some_and(|open| open >= until) {
            return Ok(());
        }
        let update = self.update_destination(destination, "state");
        let update = update
            .update_expression("SET open_until = :until, was_asked = :yes REMOVE probe_until, probe, per_look")
            .condition_expression("attribute_not_exists(open_until) OR open_until < :until")
            .expression_attribute_values(":until", millis(until))
            .expression_attribute_values(":yes", aws_sdk_dynamodb::types::AttributeValue::Bool(true));
        self.change(update).await.map(drop)
    }

    /// Notes that a delivery which was due has to wait again, since as many were there as may be at once. `seen` is the destination's state
    /// as it was read; it is written once in so long.
    pub async fn note_bounce(
        &self,
        destination: &DestinationName,
        seen: &DestinationState,
        now: Timestamp,
        once_in: Duration,
    ) -> Result<(), LedgerError> {
        if seen.bounced_at.is_some_and(|at| now < at.plus(once_in)) {
            return Ok(());
        }
        let update = self.update_destination(destination, "state");
        let update = update
            .update_expression("SET bounced_at = :now")
            .condition_expression("attribute_exists(waiting_until)")
            .expression_attribute_values(":now", millis(now));
        self.change(update).await.map(drop)
    }

    /// Sets how many deliveries are sent on at the next look at a destination, if its gate has not changed since it was `seen`.
    pub async fn set_per_look(
        &self,
        destination: &DestinationName,
        seen: &DestinationState,
        per_look: u32,
        now: Timestamp,
    ) -> Result<(), LedgerError> {
        let update = self.update_destination(destination, "state");
        let update = update
            .update_expression("SET per_look = :count, looked_at = :now")
            .expression_attribute_values(":count", number(per_look.into()))
            .expression_attribute_values(":now", millis(now));
        let update = match seen.circuit.open_until {
            None => update.condition_expression("attribute_exists(waiting_until) AND attribute_not_exists(open_until)"),
            Some(seen) => update
                .condition_expression("attribute_exists(waiting_until) AND open_until = :seen")
                .expression_attribute_values(":seen", millis(seen)),
        };
        self.change(update).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_closed_until_its_moment_and_half_open_from_then_on() {
        let at = Timestamp::from_seconds;
        let circuit = Circuit { open_until: Some(at(100)), ..Circuit::default() };
        let state = DestinationState { circuit, ..DestinationState::default() };
        assert_eq!(state.gate(true, at(99)), Gate::ClosedUntil(at(100)));
        assert_eq!(state.gate(true, at(100)), Gate::HalfOpen { since: at(100) });
        assert_eq!(state.gate(false, at(99)), Gate::Open, "the configuration has no circuit");
        let probed = |until| {
            let circuit = Circuit { probe_until: Some(at(until)), ..state.circuit.clone() };
            DestinationState { circuit, ..DestinationState::default() }.gate(true, at(100))
        };
        assert_eq!(probed(101), Gate::ProbedUntil(at(101)));
        assert_eq!(probed(100), Gate::HalfOpen { since: at(100) }, "it died");
        let mut asked = state.clone();
        asked.circuit.was_asked = true;
        assert_eq!(asked.gate(false, at(99)), Gate::ClosedUntil(at(100)));
        let pause = Pause { at: at(1), reason: "maintenance".to_owned(), by_person: true };
        let paused = DestinationState { pause: Some(pause.clone()), ..state };
        assert_eq!(paused.gate(true, at(100)), Gate::Paused(pause));
        assert_eq!(DestinationState::default().gate(true, at(0)), Gate::Open);
    }
}
