//! One doorbell: load the event, claim the delivery, deliver, finish.
//!
//! The event is loaded before the claim: the claim names the event's `received_at`, so that what an expired event of the
//! same id left behind is not taken for this one's delivery.

use std::time::Duration;

use aws_sdk_dynamodb::types::TransactWriteItem;
use metrics::counter;
use shared::{
    bodies::{BodyError, StoredBody},
    config::{Destination, DestinationKind, OTHER_TYPES},
    content::CONTENT_ENCODING,
    doorbell::{Doorbell, Group},
    event::Event,
    ledger::{
        Bid, Claim, DestinationState, DoneAs, Ended, FailureRecord, Finish, Lease, LedgerError, Outcome, Pause, Status, Turn,
        TurnAnswer, Wait, Why,
    },
    routing::{Plan, Sending},
    time::Timestamp,
};

use crate::{
    Invocation, Worker,
    batch::{Heard, Verdict, put_aside},
    failure::{EXPIRED, Failure, PERMANENT, REFUSED_EVENTS_MAX},
    guards::{Admission, Guards},
    handlers::{HANDLER_WRITES_MAX, Handler, OnRefused},
    http::{self, Exchange},
    observing::{ascii, observe},
    parcel::Parcel,
    waiting::{AtGate, after_wait, at_gate, deferred, placed, waits_in_ledger},
};

/// What loading (6 s), claiming (6), the body (4), the keyring (6) and finishing (6) take at the most, beside the destination's
/// own timeout, in seconds: what begins ends before Lambda stops us.
const CALLS_SECONDS: u64 = 28;
/// What is kept for finishing when a destination is tried, in seconds. Its guards may have taken their time.
const FINISHING_SECONDS: u64 = 6;
/// How long a doorbell for which the configuration has no destination or no route waits for the worker's own deployment, in
/// seconds.
const DEPLOYMENT_SECONDS: u64 = 15 * 60;
/// Shortest hold, in milliseconds: a doorbell that is too early by a hair does not come back at once.
const HOLD_MILLIS_MIN: u64 = 500;

/// Why a doorbell is put aside of which the ledger has neither event nor delivery.
const NO_EVENT: &str = "the event is not in the ledger";
/// Why a delivery ends whose event is gone.
const EVENT_GONE: &str = "the event has expired, or was erased, before it was delivered";

/// How an attempt went.
enum Attempt {
    /// Nothing is left to do; the ledger does not know yet.
    Over(DoneAs),
    /// It arrived, and the ledger knows in the same transaction.
    Committed(Finish),
    Failed(Failure),
}

/// A delivery that this worker has claimed.
pub(crate) struct Job<'a, E> {
    pub(crate) worker: &'a Worker<E>,
    pub(crate) heard: Heard<'a>,
    pub(crate) destination: &'a Destination,
    pub(crate) state: &'a DestinationState,
    pub(crate) event: &'a Event,
    pub(crate) lease: &'a Lease,
    pub(crate) invocation: Invocation<'a>,
}

/// How a claimed delivery ends this time.
enum End {
    /// It was not tried; to be written.
    Unwritten(Outcome),
    /// Written.
    Written { finish: Finish, outcome: Outcome, now: Timestamp, turn_is_over: bool },
}

pub(crate) async fn deliver(
    worker: &Worker<impl Exchange>,
    heard: Heard<'_>,
    invocation: Invocation<'_>,
) -> Result<Verdict, LedgerError> {
    let Heard { doorbell, group, owner, .. } = heard;
    let configured = worker.gateway.destinations.get(&doorbell.destination);
    if configured.is_some_and(|destination| !has_time(destination, invocation)) {
        // Of a group this is what a batch regularly ends with, and nothing of it is handed out while this is hidden.
        let soonest = (invocation.now)().plus(Duration::from_millis(HOLD_MILLIS_MIN));
        return Ok(if group.is_some() { Verdict::KeepUntil(soonest) } else { Verdict::Keep });
    }
    let loaded = worker.ledger.load(&doorbell.event_key(), &doorbell.destination, (invocation.now)()).await?;
    let Some((event, body)) = loaded.event else {
        return end_without_event(worker, doorbell, (invocation.now)()).await;
    };
    let routed = configured.filter(|destination| worker.gateway.leads(&event, &destination.name));
    // During a deployment the receiver may know a destination or a route before this worker does.
    let age = (invocation.now)().since(event.received_at);
    if routed.is_none() && age < Duration::from_secs(DEPLOYMENT_SECONDS) {
        return Ok(Verdict::Keep);
    }
    if let Some(own) = misplaced(worker, doorbell, group, &event, &body).await {
        return Ok(ring_in(worker, doorbell, &own).await);
    }
    let (state, now) = (&loaded.destination, (invocation.now)());
    let bid = Bid { doorbell, event: &event, owner, now, lease_until: invocation.deadline };
    let answer = match routed.map_or(AtGate::Through, |destination| at_gate(worker, destination, state, heard, now)) {
        AtGate::Through => worker.ledger.claim(&bid).await?,
        AtGate::Hold(until) => return Ok(Verdict::KeepUntil(until)),
        AtGate::Park { parking, until } => {
            worker.ledger.register(&doorbell.destination, state, until).await?;
            worker.ledger.park(&bid, &parking).await?
        }
    };
    let soonest = (invocation.now)().plus(Duration::from_millis(HOLD_MILLIS_MIN));
    match answer {
        Claim::Acquired(lease) => match routed {
            Some(destination) => {
                let job = Job { worker, heard, destination, state, event: &event, lease: &lease, invocation };
                // On the heap: all that an attempt may have to do is more than a stack should hold beside it.
                Box::pin(job.run(body)).await
            }
            None => {
                let what = if configured.is_none() { "the destination is not configured" } else { "no route leads there" };
                give_up(worker, doorbell, &event, &lease, what, invocation).await
            }
        },
        Claim::AlreadyDone => Ok(Verdict::Acknowledge),
        // Its owner may have crashed before the dead-letter queue had it: put it there, twice rather than never.
        Claim::AlreadyDead => Ok(put_aside(worker, &doorbell.to_json(), "the delivery is dead").await),
        Claim::HeldUntil(moment) => Ok(Verdict::KeepUntil(moment.max(soonest))),
        Claim::WaitsUntil { at, has_entry } if has_entry && waits_in_ledger(worker, at, now) => Ok(Verdict::Acknowledge),
        Claim::WaitsUntil { at, .. } => Ok(Verdict::KeepUntil(at.max(soonest))),
        Claim::Parked => {
            counter!("Parked").increment(1);
            let Doorbell { source, event_id, destination, .. } = doorbell;
            tracing::info!(%source, %event_id, %destination, "waits until its destination may be tried again");
            Ok(Verdict::Acknowledge)
        }
    }
}

/// The event is gone: it has expired, or was erased. Its delivery ends with it, once, and the operator is told once. Nothing rings for a
/// delivery that is marked so.
async fn end_without_event(worker: &Worker<impl Exchange>, doorbell: &Doorbell, now: Timestamp) -> Result<Verdict, LedgerError> {
    let key = doorbell.event_key();
    let put_aside = async |reason| put_aside(worker, &doorbell.to_json(), reason).await;
    // Nobody has ever claimed it, so nothing rings for it again.
    let Some(found) = worker.ledger.delivery(&key, &doorbell.destination).await? else { return Ok(put_aside(NO_EVENT).await) };
    match (found.status, found.lease_until) {
        (Status::Done | Status::Dead | Status::Cancelled, _) => Ok(Verdict::Acknowledge),
        // Its owner has the event.
        (Status::Processing, Some(until)) if now < until => Ok(Verdict::KeepUntil(until)),
        _ => {
            // The letter comes first: after a crash there are two of them, rather than none.
            let verdict = put_aside(EVENT_GONE).await;
            if verdict == Verdict::Acknowledge {
                let failure = FailureRecord { class: EXPIRED, reason: EVENT_GONE.to_owned() };
                worker.ledger.bury(&key, &doorbell.destination, &found, &failure, now).await?;
                counter!("Expired").increment(1);
                let Doorbell { source, event_id, destination, .. } = doorbell;
                tracing::error!(%source, %event_id, %destination, attempts = found.attempts, "expired before it was delivered");
            }
            Ok(verdict)
        }
    }
}

/// The group that a doorbell should have come in, if that is another one. The dispatcher has no body to look into;
/// taken as it comes, the doorbell would overtake what is before it in its own group.
async fn misplaced(
    worker: &Worker<impl Exchange>,
    doorbell: &Doorbell,
    group: Option<&str>,
    event: &Event,
    body: &StoredBody,
) -> Option<Group> {
    let destination = &doorbell.destination;
    // From any other group it is not sent on: so nothing goes round.
    let is_alone = group.is_some_and(|group| group == Group::of_delivery(doorbell).as_str());
    if !is_alone || !worker.routing.has_order(event, destination) {
        return None;
    }
    // What cannot be read or told fails as it does without a group.
    let body = worker.bodies.read(event, body.clone()).await.ok()?;
    let (routing, event, name) = (worker.routing.clone(), event.clone(), destination.clone());
    let thing = worker.planning.run(move || routing.order_key(&event, &name, &body)).await.ok()??;
    Some(Group::of_thing(destination, &thing))
}

/// Rings in that group, and only then lets the queue forget the doorbell.
async fn ring_in(worker: &Worker<impl Exchange>, doorbell: &Doorbell, group: &Group) -> Verdict {
    let Doorbell { source, event_id, destination, .. } = doorbell;
    match worker.doorbells.ring_in(std::slice::from_ref(doorbell), |_| group.clone()).await {
        Ok(()) => {
            tracing::info!(%source, %event_id, %destination, "rung again in its group");
            Verdict::Acknowledge
        }
        Err(error) => {
            tracing::error!(%source, %event_id, %destination, %error, "not rung in its group; the doorbell comes again");
            Verdict::Keep
        }
    }
}

/// Its destination, or the route to it, was taken out of the configuration: a person has to say what becomes of what was on its
/// way there.
async fn give_up(
    worker: &Worker<impl Exchange>,
    doorbell: &Doorbell,
    event: &Event,
    lease: &Lease,
    reason: &str,
    invocation: Invocation<'_>,
) -> Result<Verdict, LedgerError> {
    let now = (invocation.now)();
    let outcome = Outcome::Dead(FailureRecord { class: PERMANENT, reason: reason.to_owned() });
    let finish = worker.ledger.finish(lease, &outcome, Ended { started_at: None, now }).await?;
    observe(doorbell, event, &outcome, finish, lease.attempt, now, now);
    Ok(settled(worker, doorbell, finish, outcome).await)
}

/// Whether an attempt that begins now ends before Lambda stops us.
fn has_time(destination: &Destination, invocation: Invocation<'_>) -> bool {
    invocation.deadline.since((invocation.now)()) >= destination.attempt_max() + Duration::from_secs(CALLS_SECONDS)
}

/// What becomes of the doorbell when the ledger knows how the attempt ended.
async fn settled(worker: &Worker<impl Exchange>, doorbell: &Doorbell, finish: Finish, outcome: Outcome) -> Verdict {
    match (finish, outcome) {
        // Somebody else has the delivery now, and maybe no doorbell of its own.
        (Finish::Lost | Finish::Refused | Finish::Contended | Finish::Invalid, _) => Verdict::Keep,
        (Finish::Finished, Outcome::Done(_)) => Verdict::Acknowledge,
        (Finish::Finished, Outcome::Wait(wait)) => after_wait(worker, &wait),
        (Finish::Finished, Outcome::Dead(failure)) => put_aside(worker, &doorbell.to_json(), &failure.reason).await,
    }
}

impl<E: Exchange> Job<'_, E> {
    pub(crate) fn now(&self) -> Timestamp {
        (self.invocation.now)()
    }

    /// From the claim to the doorbell's verdict.
    async fn run(&self, body: StoredBody) -> Result<Verdict, LedgerError> {
        let began = self.now();
        // A failure before sending, by a contract, a filter or a map, is in the history as well.
        let mut started_at = None;
        let end = match self.prepare(body).await {
            Ok(Plan::Skip) => End::Unwritten(Outcome::Done(DoneAs::Skipped)),
            Ok(Plan::Send(sending)) => self.send_in_turn(sending).await?,
            Err(failure) => {
                started_at = Some(began);
                End::Unwritten(self.outcome(failure))
            }
        };
        let (finish, outcome, now) = match end {
            End::Written { finish, outcome, now, .. } => (finish, outcome, now),
            End::Unwritten(outcome) => self.finish(outcome, started_at).await?,
        };
        observe(self.heard.doorbell, self.event, &outcome, finish, self.lease.attempt, began, now);
        Ok(settled(self.worker, self.heard.doorbell, finish, outcome).await)
    }

    /// Writes how it ended. For a wait in the ledger the destination is registered before.
    async fn finish(&self, outcome: Outcome, started_at: Option<Timestamp>) -> Result<(Finish, Outcome, Timestamp), LedgerError> {
        let now = self.now();
        let outcome = placed(self.worker, self.heard, outcome, now);
        if let Outcome::Wait(Wait { at, look_at: Some(_), .. }) = &outcome {
            self.worker.ledger.register(&self.destination.name, self.state, *at).await?;
        }
        let now = self.now();
        let finish = self.worker.ledger.finish(self.lease, &outcome, Ended { started_at, now }).await?;
        Ok((finish, outcome, now))
    }

    /// What is to be sent, if anything.
    async fn prepare(&self, body: StoredBody) -> Result<Plan, Failure> {
        let (attempt, allowed) = (self.lease.attempt, self.destination.attempts_max());
        if attempt > allowed {
            // Earlier owners crashed before they could finish, again and again, or the configuration allows fewer attempts now.
            return Err(Failure::Permanent(format!("attempt {attempt} is beyond the {allowed} allowed")));
        }
        let body = self.worker.bodies.read(self.event, body).await.map_err(|error| match error {
            BodyError::Storage(reason) => Failure::Transient(reason),
            corrupt => Failure::Permanent(corrupt.to_string()),
        })?;
        let (routing, destination) = (&self.worker.routing, &self.destination.name);
        let planned = match routing.looks_into(self.event, destination) {
            true => {
                let (routing, event, destination) = (routing.clone(), self.event.clone(), destination.clone());
                self.worker.planning.run(move || routing.plan(&event, &destination, body)).await?
            }
            false => routing.plan(self.event, destination, body),
        };
        planned.map_err(|failure| {
            if failure.is_violation() {
                let source = self.event.key.source.to_string();
                let event_type = &self.event.event_type;
                let of_source = self.worker.gateway.sources.get(&self.event.key.source);
                let event_type = ascii(of_source.map_or(OTHER_TYPES, |source| source.counted_type(event_type)));
                counter!("ContractViolations", "Source" => source, "EventType" => event_type).increment(1);
            }
            let reason = failure.to_string();
            if failure.is_transient() { Failure::Transient(reason) } else { Failure::Permanent(reason) }
        })
    }

    /// Sends when it is this delivery's turn, where the route has an order.
    async fn send_in_turn(&self, sending: Sending) -> Result<End, LedgerError> {
        let turn =
            sending.order.clone().map(|(thing, version)| Turn { destination: self.destination.name.clone(), thing, version });
        let Some(turn) = &turn else { return self.send_if_admitted(sending, None).await };
        let now = self.now();
        let taken = self.worker.ledger.take_turn(turn, self.lease, now, self.invocation.deadline, self.event.expires_at).await?;
        match taken {
            TurnAnswer::Taken => {}
            TurnAnswer::Superseded => return Ok(End::Unwritten(Outcome::Done(DoneAs::Superseded))),
            TurnAnswer::HeldUntil(until) => {
                let wait = self.turn_wait(until, now);
                return Ok(End::Unwritten(Outcome::Wait(wait)));
            }
            TurnAnswer::Incomparable => {
                let reason = "its version is a number and the one that arrived a text, or the other way round";
                return Ok(End::Unwritten(self.outcome(Failure::Permanent(reason.to_owned()))));
            }
        }
        let end = self.send_if_admitted(sending, Some(turn)).await?;
        let is_over = matches!(end, End::Written { turn_is_over: true, .. });
        if !is_over && let Err(error) = self.worker.ledger.give_up_turn(turn, self.lease).await {
            tracing::warn!(destination = %self.destination.name, %error, "a turn is held until the end of its lease");
        }
        Ok(end)
    }

    /// Sends if the destination's guards let it through.
    async fn send_if_admitted(&self, sending: Sending, turn: Option<&Turn>) -> Result<End, LedgerError> {
        let guards = Guards {
            ledger: &self.worker.ledger,
            destination: self.destination,
            state: self.state,
            owner: self.heard.owner,
            invocation: self.invocation,
            jitter: fastrand::f64(),
        };
        let pass = match guards.admit(self.lease).await? {
            Admission::Admitted(pass) => pass,
            Admission::Wait { until, reason, reserved_at } => {
                let wait = self.guarded_wait(until, reason, reserved_at).await;
                return Ok(End::Unwritten(Outcome::Wait(wait)));
            }
        };
        let started_at = self.now();
        let needed = self.destination.attempt_max() + Duration::from_secs(FINISHING_SECONDS);
        if self.invocation.deadline.since(started_at) < needed {
            guards.hand_back(pass).await;
            let reserved_at = self.destination.rate.map(|_| started_at);
            let wait = deferred(started_at, "there was no time left to try it", reserved_at);
            return Ok(End::Unwritten(Outcome::Wait(wait)));
        }
        let attempt = self.try_once(sending, turn, started_at).await;
        let failure = match &attempt {
            Ok(Attempt::Failed(failure)) => Some(failure.clone()),
            // If it is the ledger that failed, the destination did not.
            _ => None,
        };
        let has_arrived = matches!(attempt, Ok(Attempt::Over(_) | Attempt::Committed(Finish::Finished)));
        // Before anything else: who dies between the destination's answer and this delivers once more.
        let end = match attempt {
            Ok(attempt) => self.conclude(attempt, turn, started_at).await,
            Err(error) => Err(error),
        };
        guards.leave(pass, failure.as_ref().map_or(Ok(()), Err)).await;
        if has_arrived
            && self.state.refused_events > 0
            && let Err(error) = self.worker.ledger.forget_refusals(&self.destination.name).await
        {
            tracing::warn!(destination = %self.destination.name, %error, "its earlier refusals are still counted");
        }
        end
    }

    /// Writes how an attempt ended.
    async fn conclude(&self, attempt: Attempt, turn: Option<&Turn>, started_at: Timestamp) -> Result<End, LedgerError> {
        let outcome = match attempt {
            Attempt::Committed(finish) => {
                let turn_is_over = turn.is_some() && finish == Finish::Finished;
                return Ok(End::Written { finish, outcome: Outcome::Done(DoneAs::Delivered), now: self.now(), turn_is_over });
            }
            Attempt::Over(done_as) => Outcome::Done(done_as),
            Attempt::Failed(Failure::Refused(reason)) => self.refused(reason).await?,
            Attempt::Failed(failure) => self.outcome(failure),
        };
        if let Outcome::Wait(Wait { why: Why::Refused, failure, .. }) = &outcome {
            let pause = Pause { at: self.now(), reason: failure.reason.clone(), by_person: false };
            self.worker.ledger.pause(&self.destination.name, &pause).await?;
        }
        let (finish, outcome, now) = self.finish(outcome, Some(started_at)).await?;
        Ok(End::Written { finish, outcome, now, turn_is_over: false })
    }

    /// One refusal may be about its event; several different ones in a row are about our credentials.
    async fn refused(&self, reason: String) -> Result<Outcome, LedgerError> {
        let refused = self.worker.ledger.count_refusal(&self.destination.name, &self.event.key).await?;
        Ok(self.outcome(match refused < REFUSED_EVENTS_MAX {
            true => Failure::Refused(reason),
            false => Failure::Auth(reason),
        }))
    }

    fn outcome(&self, failure: Failure) -> Outcome {
        failure.outcome(self.lease, self.destination, self.now(), fastrand::f64())
    }

    async fn try_once(&self, sending: Sending, turn: Option<&Turn>, now: Timestamp) -> Result<Attempt, LedgerError> {
        let worker = self.worker;
        let delivered = match &self.destination.kind {
            DestinationKind::Http(endpoint) => {
                Box::pin(http::deliver(worker, endpoint, self.parcel(sending), self.invocation)).await
            }
            DestinationKind::Lambda(function) => worker.targets.invoke(function, &self.parcel(sending), now).await,
            DestinationKind::EventBridge(bus) => worker.targets.put_event(bus, &self.parcel(sending), now).await,
            DestinationKind::Sqs(queue) => worker.targets.send_message(queue, self.parcel(sending), now).await,
            DestinationKind::Sns(topic) => worker.targets.publish(topic, self.parcel(sending), now).await,
            DestinationKind::Handler(name) => match worker.handlers.find(name) {
                Some(handler) => return self.run_handler(handler, &sending.body, turn, now).await,
                // Ruled out when the worker started.
                None => Err(Failure::Permanent(format!("there is no handler `{name}`"))),
            },
        };
        match (delivered, turn) {
            (Err(failure), _) => Ok(Attempt::Failed(failure)),
            (Ok(()), None) => Ok(Attempt::Over(DoneAs::Delivered)),
            (Ok(()), Some(_)) => self.commit(turn, Vec::new(), now).await,
        }
    }

    fn parcel(&self, sending: Sending) -> Parcel<'_> {
        let sent = |name: &str| self.event.headers.get(name).map(String::as_str);
        let (content_type, content_encoding) = match sending.is_mapped {
            true => (Some("application/json"), None),
            false => (sent("content-type"), sent(CONTENT_ENCODING)),
        };
        let Self { event, destination, lease, .. } = *self;
        let (destination, attempt) = (&destination.name, lease.attempt);
        Parcel { event, destination, body: sending.body, content_type, content_encoding, attempt }
    }

    async fn commit(
        &self,
        turn: Option<&Turn>,
        writes: Vec<TransactWriteItem>,
        started_at: Timestamp,
    ) -> Result<Attempt, LedgerError> {
        let ended = Ended { started_at: Some(started_at), now: self.now() };
        Ok(match self.worker.ledger.commit(self.lease, turn, writes, ended).await? {
            Finish::Contended => Attempt::Failed(Failure::Transient("another transaction has the same items".to_owned())),
            Finish::Invalid => Attempt::Failed(Failure::Permanent("DynamoDB does not take a write of the handler".to_owned())),
            finish => Attempt::Committed(finish),
        })
    }

    async fn run_handler(
        &self,
        handler: &dyn Handler,
        body: &[u8],
        turn: Option<&Turn>,
        now: Timestamp,
    ) -> Result<Attempt, LedgerError> {
        let writes = match handler.handle(self.event, body) {
            Ok(writes) if writes.len() > HANDLER_WRITES_MAX => {
                let reason = format!("the handler `{}` has more than {HANDLER_WRITES_MAX} writes", handler.name());
                return Ok(Attempt::Failed(Failure::Permanent(reason)));
            }
            Ok(writes) if writes.is_empty() && turn.is_none() => return Ok(Attempt::Over(DoneAs::Delivered)),
            Ok(writes) => writes,
            Err(failure) => return Ok(Attempt::Failed(failure)),
        };
        Ok(match (self.commit(turn, writes, now).await?, handler.on_refused()) {
            (Attempt::Committed(Finish::Refused), OnRefused::Superseded) => Attempt::Over(DoneAs::Superseded),
            (Attempt::Committed(Finish::Refused), OnRefused::Dead) => {
                Attempt::Failed(Failure::Conflict("a condition of the handler does not hold".to_owned()))
            }
            (attempt, _) => attempt,
        })
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
