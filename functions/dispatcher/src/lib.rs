//! The dispatcher: brings deliveries that wait in the ledger back when their moment has come.
//!
//! Once a minute it reads the register of the destinations to which something may wait, and their gates. Of those whose gate is open it
//! takes the deliveries that are due within the next minute, rings for them, each for its second, and only then moves their entries: who
//! crashes between the two rings twice, which changes nothing. While there is more, it looks again within the minute.
//!
//! How many of a destination are sent on at a look begins at one after its gate was opened, doubles as long as there are more, and is
//! halved when they find no room there. All together are no more than the workers have room for, shared fairly, in turn.
//!
//! Nobody else sends messages for what waits. A worker that did so would be a function that calls itself over a queue, and Lambda
//! stops such a chain after sixteen times.

mod shares;

use std::{path::Path, time::Duration};

use futures::{StreamExt, TryStreamExt, stream};
use metrics::{counter, gauge};
use serde::Serialize;
use shared::{
    aws::{self, CallTimeouts},
    config::Gateway,
    doorbell::{Bell, RING_BATCH_MAX, RingError},
    environment::required,
    ledger::{DestinationState, Due, DueAtDestination, Gate, Ledger, LedgerError, Place},
    names::DestinationName,
    time::Timestamp,
};
use tokio::time::sleep;

use shares::{fair_shares, next_per_look, per_look};

/// How far ahead is looked, in seconds: until the next invocation. A message is delayed to its second.
pub const AHEAD_SECONDS: u64 = 60;
/// How long after a look comes the next one while there is more to send on, in seconds.
pub const LOOK_SECONDS: u64 = 10;
/// The same where it was the workers who had no room for more, in seconds.
pub const FULL_LOOK_SECONDS: u64 = 2;
/// What is left at the end of an invocation, in seconds.
pub const CLOSING_SECONDS: u64 = 8;
/// Deliveries that one invocation of the worker handles at the same time: the template's batch size.
pub const DELIVERIES_PER_WORKER: u32 = 10;

/// Destinations that are looked at together, for a fair share of the room.
const DESTINATIONS_TOGETHER: usize = 64;
/// Reads and writes at the same time.
const CALLS_CONCURRENT_MAX: usize = 16;

/// Sends on what waits.
#[derive(Debug)]
pub struct Dispatcher {
    /// The configuration: which destinations have a circuit, and their rates.
    pub gateway: Gateway,
    /// What waits, and for what.
    pub ledger: Ledger,
    /// The queue of doorbells.
    pub bell: Bell,
    /// Worker invocations at the same time, at most.
    pub workers: u32,
}

/// What an invocation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How often it looked.
    pub looks: u64,
    /// Destinations to which something may wait.
    pub destinations: u64,
    /// Those of them that are paused.
    pub paused: u64,
    /// Doorbells that it rang.
    pub rung: u64,
    /// For how long the oldest delivery was due for which the workers had no room, in seconds.
    pub lag_seconds: u64,
    /// Whether another one is at it, so that this one did nothing.
    pub is_held: bool,
}

/// What keeps the dispatcher from going on: the next one begins where this one did.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// The ledger cannot be used.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// SQS does not take doorbells.
    #[error("SQS did not take the messages of waiting deliveries: {0}")]
    Ring(#[from] RingError),
}

/// A destination at a look.
struct Looked<'n> {
    name: &'n DestinationName,
    state: &'n DestinationState,
    /// Whether it is one delivery that may be tried, and only that.
    is_probed: bool,
    due: DueAtDestination,
}

/// How a look ended.
#[derive(Debug, Default)]
struct Look {
    /// The first error of a destination. The others were sent on all the same.
    failed: Option<DispatchError>,
    /// Whether a destination has more than was sent on at this look.
    has_more: bool,
    /// Whether the workers had no room for it.
    is_full: bool,
    /// The first moment at which a gate opens.
    opens_at: Option<Timestamp>,
}

impl Dispatcher {
    /// Composes the dispatcher from its environment; what is missing or wrong is named.
    pub async fn from_environment() -> Result<Self, lambda_runtime::Error> {
        let config = aws::configure("dispatcher", CallTimeouts::BACKGROUND).await;
        let workers = required("WORKER_CONCURRENCY_MAX")?;
        Ok(Self {
            gateway: Gateway::load(Path::new(&required("GATEWAY_CONFIG")?))?,
            ledger: Ledger::new(&config, required("LEDGER_TABLE")?),
            bell: Bell::new(&config, required("DOORBELL_QUEUE_URL")?),
            workers: workers.parse().map_err(|_| format!("WORKER_CONCURRENCY_MAX is not a number: `{workers}`"))?,
        })
    }

    /// Sends on what is due until there is no more, or the time is up. `holder` is who does so, different each time.
    pub async fn run(&self, holder: &str, deadline: Timestamp, now: fn() -> Timestamp) -> Result<Report, DispatchError> {
        let mut report = Report::default();
        let mut names = self.ledger.registered().await?;
        // A minute in which nothing waits costs this one read.
        if !names.is_empty() {
            match self.ledger.begin_dispatch(holder, now(), deadline).await? {
                None => report.is_held = true,
                Some(mut place) => {
                    let stop = deadline.minus(Duration::from_secs(CLOSING_SECONDS));
                    let mut failed = None;
                    loop {
                        let mut look = self.look(&names, &mut place, &mut report, now).await?;
                        report.looks += 1;
                        failed = failed.or(look.failed.take());
                        let Some(next) = look.next(now()).filter(|next| *next < stop) else { break };
                        sleep(next.since(now())).await;
                        names = self.ledger.registered().await?;
                    }
                    self.ledger.end_dispatch(holder, &place).await?;
                    if let Some(error) = failed {
                        publish(&report);
                        return Err(error);
                    }
                }
            }
        }
        publish(&report);
        Ok(report)
    }

    async fn look(
        &self,
        names: &[DestinationName],
        place: &mut Place,
        report: &mut Report,
        now: fn() -> Timestamp,
    ) -> Result<Look, DispatchError> {
        let at = now();
        let mut look = Look::default();
        let mut open = Vec::new();
        let states = self.ledger.destination_states(names.to_vec()).await?;
        report.destinations = states.len() as u64;
        report.paused = 0;
        for (name, state) in &states {
            match state.gate(self.has_circuit(name), at) {
                Gate::Open => open.push((name, state, false)),
                Gate::HalfOpen { .. } => open.push((name, state, true)),
                Gate::ProbedUntil(_) => look.has_more = true,
                // Deliveries before a closed gate are not read.
                Gate::ClosedUntil(until) => look.opens_at = Some(look.opens_at.map_or(until, |first| first.min(until))),
                Gate::Paused(_) => report.paused += 1,
            }
        }
        if let Some(first) = place.first.take() {
            let behind = open.iter().position(|(name, ..)| **name >= first).unwrap_or_default();
            open.rotate_left(behind);
        }
        let capacity = self.workers.saturating_mul(DELIVERIES_PER_WORKER) as usize;
        // On a FIFO queue what is behind a message that is held counts as waiting for a worker, and does not.
        let waiting = if self.bell.is_fifo() { 0 } else { self.bell.waiting_for_workers().await? };
        let mut room = capacity.saturating_sub(usize::try_from(waiting).unwrap_or(usize::MAX));
        for together in open.chunks(DESTINATIONS_TOGETHER) {
            if room == 0 {
                place.first = place.first.take().or_else(|| together.first().map(|(name, ..)| (*name).clone()));
                (look.has_more, look.is_full) = (true, true);
                break;
            }
            let looked: Vec<_> = stream::iter(together)
                .map(async |(name, state, is_probed)| (*name, self.look_at(name, state, *is_probed, room, at).await))
                .buffered(CALLS_CONCURRENT_MAX)
                .collect()
                .await;
            let looked: Vec<Looked<'_>> = looked
                .into_iter()
                .filter_map(|(name, looked)| looked.map_err(|error| look.fail(name, error.into())).ok())
                .collect();
            let wanted: Vec<usize> = looked.iter().map(|looked| looked.due.deliveries.len()).collect();
            let shares = fair_shares(&wanted, room);
            room -= shares.iter().sum::<usize>();
            for (looked, share) in looked.iter().zip(shares) {
                if share == 0 && !looked.due.deliveries.is_empty() && place.first.is_none() {
                    // Its turn comes first at the next look.
                    place.first = Some(looked.name.clone());
                }
                match self.send_on(looked, share, now).await {
                    Ok(rung) => report.rung += rung,
                    Err(error) => {
                        look.fail(looked.name, error);
                        continue;
                    }
                }
                if let Err(error) = self.learn(looked, share, capacity, at).await {
                    look.fail(looked.name, error.into());
                }
                let has_more = looked.due.has_more || share < looked.due.deliveries.len();
                look.has_more |= has_more;
                // Not what it may have at a look is what keeps it, but the workers.
                let is_full = has_more && share < per_look(looked.state) as usize && !looked.is_probed;
                if is_full {
                    let lag = looked.due.deliveries.first().map_or(0, |oldest| at.since(oldest.look_at).as_secs());
                    report.lag_seconds = report.lag_seconds.max(lag);
                }
                look.is_full |= is_full;
            }
        }
        Ok(look)
    }

    /// What is due at a destination, and as much of it as it may have.
    async fn look_at<'n>(
        &self,
        name: &'n DestinationName,
        state: &'n DestinationState,
        is_probed: bool,
        room: usize,
        now: Timestamp,
    ) -> Result<Looked<'n>, LedgerError> {
        let limit = if is_probed { 1 } else { (per_look(state) as usize).min(room) };
        // A FIFO queue knows no delay of a message, and the probe of a gate that was closed goes at once.
        let ahead = if is_probed || self.bell.is_fifo() { 0 } else { AHEAD_SECONDS };
        let due = self.ledger.due(name, now.plus(Duration::from_secs(ahead)), limit).await?;
        if due.is_empty && state.waiting_until.is_some_and(|until| until <= now) && self.ledger.nothing_waits(name).await? {
            self.ledger.unregister(name, state).await?;
        }
        Ok(Looked { name, state, is_probed, due })
    }

    /// Rings for the oldest deliveries of a destination, and moves their entries after that. How many were rung for.
    async fn send_on(&self, looked: &Looked<'_>, share: usize, now: fn() -> Timestamp) -> Result<u64, DispatchError> {
        let mut rung = 0;
        let (held, due): (Vec<&Due>, Vec<&Due>) =
            looked.due.deliveries[..share].iter().partition(|due| due.held_until.is_some_and(|until| now() < until));
        for batch in due.chunks(RING_BATCH_MAX) {
            let at = now();
            let delayed = |due: &&Due| (due.doorbell.clone(), due.next_at.since(at).as_millis().div_ceil(1000) as u64);
            self.bell.ring_later(&batch.iter().map(delayed).collect::<Vec<_>>()).await?;
            stream::iter(batch.iter().map(Ok))
                .try_for_each_concurrent(CALLS_CONCURRENT_MAX, |due| self.ledger.look_again(due, at))
                .await?;
            rung += batch.len() as u64;
        }
        for due in held {
            // Somebody works on it just now.
            self.ledger.look_when_held_no_more(due, due.held_until.unwrap_or(due.look_at)).await?;
        }
        Ok(rung)
    }

    /// Sets how many are sent on the next time, where that is another number.
    async fn learn(&self, looked: &Looked<'_>, share: usize, capacity: usize, now: Timestamp) -> Result<(), LedgerError> {
        let Looked { name, state, is_probed, due } = looked;
        let current = per_look(state);
        if *is_probed || share == 0 {
            return Ok(());
        }
        let had_more = due.has_more && share == current as usize;
        let most = u32::try_from(capacity).unwrap_or(u32::MAX);
        let next = next_per_look(state, self.gateway.destinations.get(*name), had_more, most);
        if next == current {
            return Ok(());
        }
        self.ledger.set_per_look(name, state, next, now).await
    }

    fn has_circuit(&self, name: &DestinationName) -> bool {
        self.gateway.destinations.get(name).is_some_and(|destination| destination.circuit.is_some())
    }
}

impl Look {
    /// One destination's error is not the others'.
    fn fail(&mut self, name: &DestinationName, error: DispatchError) {
        tracing::error!(destination = %name, %error, "waiting deliveries were not sent on; the next look tries again");
        self.failed.get_or_insert(error);
    }

    /// When the next one is worth it, if it is.
    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let again = match (self.has_more, self.is_full) {
            (true, true) => Some(FULL_LOOK_SECONDS),
            (true, false) => Some(LOOK_SECONDS),
            (false, _) => None,
        };
        let again = again.map(|seconds| now.plus(Duration::from_secs(seconds)));
        [again, self.opens_at.map(|opens_at| opens_at.max(now))].into_iter().flatten().min()
    }
}

fn publish(report: &Report) {
    if report.is_held {
        tracing::info!("another dispatcher holds the lease");
        return;
    }
    gauge!("WaitingDestinations").set(report.destinations as f64);
    gauge!("PausedDestinations").set(report.paused as f64);
    gauge!("DispatchLagSeconds").set(report.lag_seconds as f64);
    counter!("Dispatched").increment(report.rung);
    tracing::info!(?report, "dispatched");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_look_is_soon_while_there_is_more_or_a_gate_opens() {
        let at = Timestamp::from_seconds;
        let look = |has_more, is_full, opens_at: Option<u64>| {
            Look { has_more, is_full, opens_at: opens_at.map(at), failed: None }.next(at(100)).map(Timestamp::seconds)
        };
        assert_eq!(look(false, false, None), None);
        assert_eq!(look(true, false, None), Some(100 + LOOK_SECONDS));
        assert_eq!(look(true, true, None), Some(100 + FULL_LOOK_SECONDS));
        assert_eq!(look(false, false, Some(130)), Some(130));
        assert_eq!(look(true, false, Some(103)), Some(103));
        assert_eq!(look(true, false, Some(90)), Some(100), "it opened meanwhile");
    }
}
