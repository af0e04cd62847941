//! What protects a destination: its rate, its bounded concurrency, its circuit breaker.
//!
//! Without trouble, and without a rate or a bound, this costs nothing: the state of the circuit comes with the event. While a
//! circuit is open, deliveries wait and no attempt of theirs is spent; then one at a time is let through, the probe.

use std::time::Duration;

use metrics::counter;
use shared::{
    config::{CIRCUIT_WAIT_SECONDS_MAX, CircuitSpec, Destination},
    ledger::{Circuit, DestinationState, Gate, LEFT_ALONE_SECONDS_MAX, Lease, Ledger, LedgerError},
    time::Timestamp,
};

use crate::{Invocation, failure::Failure};

/// How long the attempts of a destination are counted together, in seconds.
pub const CIRCUIT_WINDOW_SECONDS: u64 = 60;
/// Fewest attempts of which a share can open a circuit.
pub const CIRCUIT_ATTEMPTS_MIN: u32 = 20;
/// How long a worker itself waits for the moment that a rate allows, in milliseconds; what has to wait longer comes again.
pub const RATE_PATIENCE_MILLIS: u64 = 1000;
/// For how long after its moment a reservation of the rate is good, in seconds. Later, the moment is gone: those who come late, as after
/// an outage, would else come all at once. So a minute sees a sixth more than the rate at the most, and its burst.
pub const RESERVATION_SECONDS: u64 = 10;

/// The reason of a delivery that waits at a closed gate.
pub(crate) const CLOSED: &str = "the destination is left alone for a while: its circuit is open, or it sent a Retry-After";

/// Whether a delivery may be tried now.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It may.
    Admitted(Pass),
    /// It has to wait.
    Wait {
        /// For what.
        until: Until,
        /// The same in words.
        reason: &'static str,
        /// The moment that the rate has given it, if it has.
        reserved_at: Option<Timestamp>,
    },
}

/// The end of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// That moment.
    Moment(Timestamp),
    /// Room: others are there, for about so long.
    Room(Duration),
}

/// What an admitted delivery has to give back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pass {
    is_probe: bool,
    holds_slot: bool,
}

/// The guards of one destination, for one delivery.
#[derive(Clone, Copy)]
pub(crate) struct Guards<'a> {
    pub(crate) ledger: &'a Ledger,
    pub(crate) destination: &'a Destination,
    pub(crate) state: &'a DestinationState,
    pub(crate) owner: &'a str,
    pub(crate) invocation: Invocation<'a>,
    /// From 0 to 1: spreads those that wait.
    pub(crate) jitter: f64,
}

impl Guards<'_> {
    fn now(&self) -> Timestamp {
        (self.invocation.now)()
    }

    /// Asks all guards, those that cost nothing first.
    pub(crate) async fn admit(&self, lease: &Lease) -> Result<Admission, LedgerError> {
        let circuit = &self.state.circuit;
        let half_open = match self.state.gate(self.destination.circuit.is_some(), self.now()) {
            Gate::Open | Gate::Paused(_) => None,
            Gate::HalfOpen { since } => Some(since),
            // On a FIFO queue it is asked for all the same.
            Gate::ProbedUntil(_) => circuit.open_until,
            Gate::ClosedUntil(until) => {
                let spread = self.destination.circuit.map_or(Duration::ZERO, |spec| open_for(spec, circuit.openings));
                let until = Until::Moment(until.plus(spread.mul_f64(self.jitter)));
                return Ok(Admission::Wait { until, reason: CLOSED, reserved_at: lease.reserved_at });
            }
        };
        let reserved_at = match self.wait_for_rate(lease).await? {
            Ok(reserved_at) => reserved_at,
            Err(moment) => {
                let until = Until::Moment(moment);
                return Ok(Admission::Wait {
                    until,
                    reason: "the destination's rate limit is reached",
                    reserved_at: Some(moment),
                });
            }
        };
        let mut pass = Pass::default();
        if let Some(slots) = self.destination.concurrency {
            let now = self.now();
            let taken = self.ledger.take_slot(&self.destination.name, slots, self.owner, now, self.invocation.deadline).await?;
            if !taken {
                let until = Until::Room(self.destination.attempt_max());
                return Ok(Admission::Wait { until, reason: "the destination's concurrency limit is reached", reserved_at });
            }
            pass.holds_slot = true;
        }
        if let Some(seen) = half_open {
            let now = self.now();
            let granted = self.ledger.take_probe(&self.destination.name, seen, self.owner, now, self.invocation.deadline).await?;
            if !granted {
                self.hand_back(pass).await;
                let wait = self.destination.circuit.map_or(Duration::ZERO, |spec| spec.wait);
                let until = Until::Room(self.destination.attempt_max() + wait);
                return Ok(Admission::Wait {
                    until,
                    reason: "the destination's circuit is half open: another delivery is the probe",
                    reserved_at,
                });
            }
            pass.is_probe = true;
        }
        Ok(Admission::Admitted(pass))
    }

    /// Waits for the moment that the rate allows, if that is soon; else says when it is. Which moment that is, if there is a rate.
    async fn wait_for_rate(&self, lease: &Lease) -> Result<Result<Option<Timestamp>, Timestamp>, LedgerError> {
        let Some(rate) = self.destination.rate else { return Ok(Ok(None)) };
        let now = self.now();
        let is_good = |moment: &Timestamp| now < moment.plus(Duration::from_secs(RESERVATION_SECONDS));
        if let Some(moment) = lease.reserved_at.filter(is_good) {
            return Ok(Ok(Some(moment)));
        }
        let moment = self.ledger.reserve(&self.destination.name, rate.interval, rate.burst, now).await?;
        let wait = moment.since(now);
        if wait > Duration::from_millis(RATE_PATIENCE_MILLIS) {
            return Ok(Err(moment));
        }
        tokio::time::sleep(wait).await;
        Ok(Ok(Some(moment)))
    }

    /// Gives back what an admitted delivery had, and tells the circuit how it went. The attempt is over: what fails here is logged.
    pub(crate) async fn leave(&self, pass: Pass, result: Result<(), &Failure>) {
        self.hand_back(pass).await;
        let told = match (result, self.destination.circuit) {
            (Err(Failure::Throttled { retry_after: Some(wait), .. }), _) if !wait.is_zero() => self.leave_alone(*wait).await,
            (_, Some(spec)) => self.tell_circuit(spec, pass, result).await,
            // It was left alone because it asked for it, and has no circuit that could open again.
            (_, None) if pass.is_probe => self.ledger.close_circuit(&self.destination.name).await,
            (_, None) => Ok(()),
        };
        if let Err(error) = told {
            tracing::warn!(destination = %self.destination.name, %error, "the circuit does not know of this attempt");
        }
    }

    /// Gives back what a delivery had that was not tried after all.
    pub(crate) async fn hand_back(&self, pass: Pass) {
        if pass.holds_slot
            && let Err(error) = self.ledger.return_slot(&self.destination.name, self.owner).await
        {
            tracing::warn!(destination = %self.destination.name, %error, "a slot is taken until the end of its lease");
        }
    }

    /// A destination's word counts for all that goes there, within bounds.
    async fn leave_alone(&self, wait: Duration) -> Result<(), LedgerError> {
        let until = self.now().plus(wait.min(Duration::from_secs(LEFT_ALONE_SECONDS_MAX)));
        self.ledger.leave_alone(&self.destination.name, &self.state.circuit, until).await
    }

    async fn tell_circuit(&self, spec: CircuitSpec, pass: Pass, result: Result<(), &Failure>) -> Result<(), LedgerError> {
        let (ledger, name, circuit) = (self.ledger, &self.destination.name, &self.state.circuit);
        let now = self.now();
        let window_from = now.minus(Duration::from_secs(CIRCUIT_WINDOW_SECONDS));
        match result {
            Err(Failure::Transient(_)) if pass.is_probe => self.open(spec, circuit, now).await,
            Err(Failure::Transient(_)) => {
                let counted = ledger.count_failure(name, window_from, now).await?;
                // What was on its way when the circuit opened does not open it again: only the probe says whether it stays open.
                match counted.open_until.is_none() && must_open(spec, &counted) {
                    true => self.open(spec, &counted, now).await,
                    false => Ok(()),
                }
            }
            // Its answer says nothing about its health.
            Err(Failure::Throttled { .. } | Failure::Auth(_) | Failure::Refused(_)) if !pass.is_probe => Ok(()),
            _ if pass.is_probe => {
                tracing::info!(destination = %name, "the circuit is closed: the probe was answered");
                ledger.close_circuit(name).await
            }
            _ => match circuit.window_at {
                None => Ok(()),
                Some(window_at) if window_at < window_from && circuit.open_until.is_none() => ledger.close_circuit(name).await,
                Some(_) => ledger.count_success(name).await,
            },
        }
    }

    async fn open(&self, spec: CircuitSpec, seen: &Circuit, now: Timestamp) -> Result<(), LedgerError> {
        let wait = open_for(spec, seen.openings.saturating_add(1));
        if self.ledger.open_circuit(&self.destination.name, seen, now.plus(wait)).await? {
            counter!("CircuitsOpened").increment(1);
            let (destination, seconds, failures) = (&self.destination.name, wait.as_secs(), seen.failures);
            tracing::error!(%destination, seconds, failures, "the circuit is open: nothing is tried there for a while");
        }
        Ok(())
    }
}

fn must_open(spec: CircuitSpec, counted: &Circuit) -> bool {
    let attempts = counted.failures.saturating_add(counted.successes);
    let share = u64::from(counted.failures) * 100 >= u64::from(attempts) * u64::from(spec.percent);
    counted.consecutive >= spec.consecutive || (attempts >= CIRCUIT_ATTEMPTS_MIN && share)
}

/// How long the circuit stays open when it is opened for the `opening`th time, from 1.
fn open_for(spec: CircuitSpec, opening: u32) -> Duration {
    let doubled = spec.wait.saturating_mul(2_u32.saturating_pow(opening.saturating_sub(1)));
    doubled.min(Duration::from_secs(CIRCUIT_WAIT_SECONDS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: CircuitSpec = CircuitSpec { consecutive: 10, percent: 50, wait: Duration::from_secs(30) };

    #[test]
    fn a_circuit_opens_at_its_bounds_and_not_before() {
        let opens = |consecutive, failures, successes| {
            must_open(SPEC, &Circuit { consecutive, failures, successes, ..Circuit::default() })
        };
        assert!(opens(10, 10, 0) && !opens(9, 9, 0), "in a row");
        assert!(opens(1, 10, 10) && !opens(1, 9, 11), "a share of enough");
        assert!(opens(1, CIRCUIT_ATTEMPTS_MIN, 0) && !opens(1, CIRCUIT_ATTEMPTS_MIN - 1, 0), "of too few");
    }

    #[test]
    fn a_circuit_stays_open_twice_as_long_each_time_up_to_a_bound() {
        let seconds = |opening| open_for(SPEC, opening).as_secs();
        assert_eq!([1, 2, 3, 5].map(seconds), [30, 60, 120, 480]);
        assert_eq!([6, 100, u32::MAX].map(seconds), [CIRCUIT_WAIT_SECONDS_MAX; 3]);
    }
}
