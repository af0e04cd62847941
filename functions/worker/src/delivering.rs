//! One doorbell: load the event, claim the delivery, deliver, finish.
//!
//! The event is loaded before the claim: the claim names the event's `received_at`, so that what an expired event of the
//! same id left behind is not taken for this one's delivery.

use std::time::Duration;

use metrics::counter;
use shared::{
    bodies::{BodyError, StoredBody},
    config::{Destination, DestinationKind},
    doorbell::Doorbell,
    event::Event,
    ledger::{Bid, Claim, FailureRecord, Finish, Lease, LedgerError, Outcome},
    time::Timestamp,
};

use crate::{
    Invocation, Worker,
    batch::{Verdict, put_aside},
    failure::{Failure, PERMANENT},
    handlers::{HANDLER_WRITES_MAX, Handler, OnRefused},
    http::{self, Exchange},
};

/// What loading (6 s), claiming (6), the body (4), the keyring (6) and finishing (6) take at the most, beside the destination's
/// own timeout, in seconds: what begins ends before Lambda stops us.
const CALLS_SECONDS: u64 = 28;
/// How long a doorbell for a destination that is not configured waits for the worker's own deployment, in seconds.
const DEPLOYMENT_SECONDS: u64 = 15 * 60;
/// Shortest hold, in milliseconds: a doorbell that is too early by a hair does not come back at once.
const HOLD_MILLIS_MIN: u64 = 500;

/// How an attempt went.
enum Attempt {
    /// It arrived; the ledger does not know yet.
    Arrived,
    /// It arrived, and the ledger knows in the same transaction.
    Committed(Finish),
    Failed(Failure),
}

pub(crate) async fn deliver(
    worker: &Worker<impl Exchange>,
    doorbell: &Doorbell,
    owner: &str,
    invocation: Invocation<'_>,
) -> Result<Verdict, LedgerError> {
    let configured = worker.gateway.destinations.get(&doorbell.destination);
    if configured.is_some_and(|destination| !has_time(destination, invocation)) {
        return Ok(Verdict::Keep);
    }
    let Some((event, body)) = worker.ledger.find(&doorbell.event_key(), (invocation.now)()).await? else {
        return Ok(put_aside(worker, &doorbell.to_json(), "the event is not in the ledger").await);
    };
    // During a deployment the receiver may know a destination before this worker does.
    let age = (invocation.now)().since(event.received_at);
    if configured.is_none() && age < Duration::from_secs(DEPLOYMENT_SECONDS) {
        return Ok(Verdict::Keep);
    }
    match claim(worker, doorbell, &event, owner, invocation).await? {
        Claim::Acquired(lease) => match configured {
            Some(destination) => attempt(worker, doorbell, destination, &event, body, lease, invocation).await,
            None => give_up(worker, doorbell, &event, lease, invocation).await,
        },
        Claim::AlreadyDone => Ok(Verdict::Acknowledge),
        // Its owner may have crashed before the dead-letter queue had it: put it there, twice rather than never.
        Claim::AlreadyDead => Ok(put_aside(worker, &doorbell.to_json(), "the delivery is dead").await),
        Claim::HeldUntil(moment) => {
            let soonest = (invocation.now)().plus(Duration::from_millis(HOLD_MILLIS_MIN));
            Ok(Verdict::KeepUntil(moment.max(soonest)))
        }
        // A pause may last longer than SQS keeps a message: the auditor rings when it is over.
        Claim::Paused => Ok(Verdict::Acknowledge),
    }
}

/// The destination was taken out of the configuration: a person has to say what becomes of what was on its way there.
async fn give_up(
    worker: &Worker<impl Exchange>,
    doorbell: &Doorbell,
    event: &Event,
    lease: Lease,
    invocation: Invocation<'_>,
) -> Result<Verdict, LedgerError> {
    let (number, now) = (lease.attempt, (invocation.now)());
    let reason = "the destination is not configured".to_owned();
    let outcome = Outcome::Dead(FailureRecord { class: PERMANENT, reason });
    let finish = worker.ledger.finish(lease, &outcome, now).await?;
    observe(doorbell, event, &outcome, finish, number, now, now);
    Ok(settled(worker, doorbell, finish, outcome).await)
}

/// Whether an attempt that begins now ends before Lambda stops us.
fn has_time(destination: &Destination, invocation: Invocation<'_>) -> bool {
    let exchange = match &destination.kind {
        DestinationKind::Http(http) => http.timeout,
        DestinationKind::Handler(_) => Duration::ZERO,
    };
    invocation.deadline.since((invocation.now)()) >= exchange + Duration::from_secs(CALLS_SECONDS)
}

/// Claims the delivery. One that waits for a paused destination is claimed once the pause is seen to be over.
async fn claim(
    worker: &Worker<impl Exchange>,
    doorbell: &Doorbell,
    event: &Event,
    owner: &str,
    invocation: Invocation<'_>,
) -> Result<Claim, LedgerError> {
    let bid = Bid { doorbell, event, owner, now: (invocation.now)(), lease_until: invocation.deadline, pause_is_over: false };
    match worker.ledger.claim(&bid).await? {
        Claim::Paused if !worker.ledger.is_paused(&doorbell.destination).await? => {
            worker.ledger.claim(&Bid { pause_is_over: true, ..bid }).await
        }
        claim => Ok(claim),
    }
}

async fn attempt(
    worker: &Worker<impl Exchange>,
    doorbell: &Doorbell,
    destination: &Destination,
    event: &Event,
    body: StoredBody,
    lease: Lease,
    invocation: Invocation<'_>,
) -> Result<Verdict, LedgerError> {
    let started = (invocation.now)();
    let attempted = if lease.attempt > destination.attempts_max() {
        // Earlier owners crashed before they could finish, again and again, or the configuration allows fewer attempts now.
        Attempt::Failed(Failure::Permanent(format!(
            "attempt {} is beyond the {} allowed",
            lease.attempt,
            destination.attempts_max()
        )))
    } else {
        match worker.bodies.read(event, body).await {
            Ok(body) => try_once(worker, destination, event, body, &lease, started).await?,
            Err(BodyError::Storage(reason)) => Attempt::Failed(Failure::Transient(reason)),
            Err(error) => Attempt::Failed(Failure::Permanent(error.to_string())),
        }
    };
    let now = (invocation.now)();
    let number = lease.attempt;
    let (finish, outcome) = match attempted {
        Attempt::Arrived => (worker.ledger.finish(lease, &Outcome::Done, now).await?, Outcome::Done),
        Attempt::Committed(finish) => (finish, Outcome::Done),
        Attempt::Failed(failure) => {
            let outcome = failure.outcome(&lease, destination, now, fastrand::f64());
            if let Outcome::Paused(failure) = &outcome {
                worker.ledger.pause(&destination.name, &failure.reason, now).await?;
            }
            (worker.ledger.finish(lease, &outcome, now).await?, outcome)
        }
    };
    observe(doorbell, event, &outcome, finish, number, started, now);
    Ok(settled(worker, doorbell, finish, outcome).await)
}

/// What becomes of the doorbell when the ledger knows how the attempt ended.
async fn settled(worker: &Worker<impl Exchange>, doorbell: &Doorbell, finish: Finish, outcome: Outcome) -> Verdict {
    match (finish, outcome) {
        // Somebody else has the delivery now, and maybe no doorbell of its own.
        (Finish::Lost | Finish::Refused | Finish::Contended | Finish::Invalid, _) => Verdict::Keep,
        // Paused: the auditor rings when the pause is over.
        (Finish::Finished, Outcome::Done | Outcome::Paused(_)) => Verdict::Acknowledge,
        (Finish::Finished, Outcome::Retry { at, .. } | Outcome::Throttled { at, .. }) => Verdict::KeepUntil(at),
        (Finish::Finished, Outcome::Dead(failure)) => put_aside(worker, &doorbell.to_json(), &failure.reason).await,
    }
}

async fn try_once(
    worker: &Worker<impl Exchange>,
    destination: &Destination,
    event: &Event,
    body: Vec<u8>,
    lease: &Lease,
    now: Timestamp,
) -> Result<Attempt, LedgerError> {
    match &destination.kind {
        DestinationKind::Http(endpoint) => {
            let delivered =
                http::deliver(&worker.exchange, &destination.name, endpoint, event, body, &worker.keyrings, now).await;
            Ok(delivered.map_or_else(Attempt::Failed, |()| Attempt::Arrived))
        }
        DestinationKind::Handler(name) => match worker.handlers.find(name) {
            Some(handler) => run_handler(worker, handler, event, &body, lease, now).await,
            // Ruled out when the worker started.
            None => Ok(Attempt::Failed(Failure::Permanent(format!("there is no handler `{name}`")))),
        },
    }
}

async fn run_handler(
    worker: &Worker<impl Exchange>,
    handler: &dyn Handler,
    event: &Event,
    body: &[u8],
    lease: &Lease,
    now: Timestamp,
) -> Result<Attempt, LedgerError> {
    let writes = match handler.handle(event, body) {
        Ok(writes) if writes.len() > HANDLER_WRITES_MAX => {
            let reason = format!("the handler `{}` has more than {HANDLER_WRITES_MAX} writes", handler.name());
            return Ok(Attempt::Failed(Failure::Permanent(reason)));
        }
        Ok(writes) if writes.is_empty() => return Ok(Attempt::Arrived),
        Ok(writes) => writes,
        Err(failure) => return Ok(Attempt::Failed(failure)),
    };
    Ok(match (worker.ledger.commit(lease, writes, now).await?, handler.on_refused()) {
        (Finish::Refused, OnRefused::Superseded) => Attempt::Arrived,
        (Finish::Refused, OnRefused::Dead) => {
            Attempt::Failed(Failure::Conflict("a condition of the handler does not hold".to_owned()))
        }
        (Finish::Contended, _) => Attempt::Failed(Failure::Transient("another transaction has the same items".to_owned())),
        (Finish::Invalid, _) => Attempt::Failed(Failure::Permanent("DynamoDB does not take a write of the handler".to_owned())),
        (finish, _) => Attempt::Committed(finish),
    })
}

fn observe(
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
        Outcome::Done => {
            counter!("Delivered").increment(1);
            tracing::info!(%source, %event_id, %destination, attempt, replay, millis, age_millis, "done");
        }
        Outcome::Retry { at, failure } => {
            counter!("Retried").increment(1);
            let (class, reason, wait_millis) = (failure.class, &failure.reason, at.since(now).as_millis() as u64);
            tracing::warn!(%source, %event_id, %destination, attempt, replay, millis, class, reason, wait_millis, "retrying");
        }
        Outcome::Throttled { at, failure } => {
            counter!("Throttled").increment(1);
            let (class, reason, wait_millis) = (failure.class, &failure.reason, at.since(now).as_millis() as u64);
            tracing::warn!(%source, %event_id, %destination, attempt, replay, millis, class, reason, wait_millis, "retrying");
        }
        Outcome::Paused(failure) => {
            let (class, reason) = (failure.class, &failure.reason);
            tracing::error!(%source, %event_id, %destination, attempt, replay, millis, class, reason, "paused");
        }
        Outcome::Dead(failure) => {
            let (class, reason) = (failure.class, &failure.reason);
            tracing::error!(%source, %event_id, %destination, attempt, replay, millis, class, reason, "dead");
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::config::Gateway;

    use super::*;

    #[test]
    fn what_could_not_end_in_time_is_not_begun() {
        let config = "[destinations.a]\ntype = \"http\"\nurl = \"https://a.b\"\nsecret = \"a\"\ntimeout_seconds = 7";
        let gateway = Gateway::parse(config, "gateway.toml").unwrap();
        let destination = gateway.destinations.values().next().unwrap();
        let now = || Timestamp::from_seconds(1000);
        let left = |seconds| {
            let deadline = Timestamp::from_seconds(1000 + seconds);
            has_time(destination, Invocation { request_id: "r", deadline, now })
        };
        assert!(left(7 + CALLS_SECONDS));
        assert!(!left(7 + CALLS_SECONDS - 1));
        assert!(!left(0));
    }
}
