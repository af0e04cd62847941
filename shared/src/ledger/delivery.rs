//! Deliveries: claimed by one worker at a time, finished by their owner alone.
//!
//! A delivery without an item is queued. One that is `processing` belongs to the owner that its item names until the lease
//! ends; whoever comes then may claim it. `generation` is the moment its event was received: when an event id is new again
//! after its dedupe horizon, what an earlier event of that id left behind stands in nobody's way.

use aws_sdk_dynamodb::{
    error::ProvideErrorMetadata,
    operation::{put_item::PutItemError, transact_write_items::TransactWriteItemsError, update_item::UpdateItemError},
    types::{AttributeValue, CancellationReason, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update},
};

use super::{
    Ledger, LedgerError,
    attributes::{Item, millis, number, read_millis, read_number, read_string, seconds, string},
    delivery_key,
    order::Turn,
};
use crate::{
    doorbell::Doorbell,
    event::{Event, EventKey},
    names::DestinationName,
    time::Timestamp,
};

/// Longest error kept on a delivery, in characters: its item stays under 1 KB, one write unit.
pub(super) const LAST_ERROR_CHARS_MAX: usize = 200;
/// Attempts kept on a delivery: the last ones. Ten of them, failed, make it larger than 1 KB, but only while it fails.
pub const ATTEMPTS_KEPT_MAX: usize = 10;
/// Longest reason kept with each of them, in characters.
pub(super) const ATTEMPT_REASON_CHARS_MAX: usize = 80;

/// What a delivery is doing. `queued` is the state of one that has no item yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// An owner works on it.
    Processing,
    /// It arrived.
    Done,
    /// It failed, and will be tried again.
    Retrying,
    /// Its destination is paused.
    Paused,
    /// It will not be tried again until a person says so.
    Dead,
}

impl Status {
    /// Its word in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Processing => "processing",
            Self::Done => "done",
            Self::Retrying => "retrying",
            Self::Paused => "paused",
            Self::Dead => "dead",
        }
    }

    /// The status of a word, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Processing, Self::Done, Self::Retrying, Self::Paused, Self::Dead]
            .into_iter()
            .find(|status| status.as_str() == text)
    }
}

/// A delivery as the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What it is doing.
    pub status: Status,
    /// When its event was received.
    pub generation: Timestamp,
    /// Tries so far, of its present run.
    pub attempts: u32,
    /// Answers of "not now" so far, of its present run.
    pub throttles: u32,
    /// The newest replay it has seen.
    pub replay: u32,
    /// Who works on it, or worked on it last.
    pub owner: String,
    /// While processing: when the owner loses it.
    pub lease_until: Option<Timestamp>,
    /// While retrying: not before.
    pub next_at: Option<Timestamp>,
    /// When it was done.
    pub done_at: Option<Timestamp>,
    /// From then on it is forgotten.
    pub expires_at: Timestamp,
    /// When its present run began.
    pub begun_at: Timestamp,
    /// Whether its moment was given to it by the destination's rate, so that it needs no other.
    pub has_slot: bool,
    /// Its last attempts, over all runs, the oldest first; at most [`ATTEMPTS_KEPT_MAX`].
    pub history: Vec<AttemptRecord>,
}

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

/// In which way a delivery is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoneAs {
    /// It arrived.
    Delivered,
    /// The filter of its route leaves it out.
    Skipped,
    /// What it would tell is older than what its destination has been told already.
    Superseded,
}

impl DoneAs {
    /// Its word in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "done",
            Self::Skipped => "skipped",
            Self::Superseded => "superseded",
        }
    }
}

/// The answer of [`Ledger::claim`].
#[derive(Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is yours.
    Acquired(Lease),
    /// Nothing is left to do: acknowledge.
    AlreadyDone,
    /// It is dead, and this doorbell asks for no new run: see that the dead-letter queue has it, then acknowledge.
    AlreadyDead,
    /// Somebody works on it, or it waits for its next try. Never acknowledge: this doorbell may be the only one left.
    HeldUntil(Timestamp),
    /// Its destination was paused when it was last tried.
    Paused,
}

/// The right to finish a delivery, once.
#[derive(Debug, PartialEq, Eq)]
pub struct Lease {
    key: EventKey,
    destination: DestinationName,
    owner: String,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// Answers of "not now" before this try.
    pub throttles: u32,
    /// When this run began.
    pub begun_at: Timestamp,
    /// Whether its moment was given to it by the destination's rate.
    pub has_slot: bool,
    run: u32,
    history: Vec<AttemptRecord>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left to do.
    Done(DoneAs),
    /// It failed; try again at `at`.
    Retry {
        /// Not before.
        at: Timestamp,
        /// What failed.
        failure: FailureRecord,
    },
    /// The destination said "not now": as `Retry`, but it does not count as an attempt.
    Throttled {
        /// Not before.
        at: Timestamp,
        /// What the destination said.
        failure: FailureRecord,
    },
    /// It was not tried, since the destination is protected just now: it comes again at `at`, and no attempt is counted.
    Deferred {
        /// Not before.
        at: Timestamp,
        /// What it waits for.
        failure: FailureRecord,
        /// Whether `at` was given to it by the destination's rate.
        has_slot: bool,
    },
    /// The destination is paused, or refuses our credentials: wait, without counting the attempt, until a person has mended that.
    Paused(FailureRecord),
    /// No more tries.
    Dead(FailureRecord),
}

/// What is kept of a failure: never a body, a secret or a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureRecord {
    /// Its class, as `transient`.
    pub class: &'static str,
    /// What happened, in a few words.
    pub reason: String,
}

/// An attempt that ended, for the ledger.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// When it began; `None` if the destination was not tried.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub now: Timestamp,
}

/// The answer of [`Ledger::finish`] and [`Ledger::commit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Written.
    Finished,
    /// The lease ran out and somebody else has the delivery: nothing was written.
    Lost,
    /// A write of a handler found what it must not find; nothing was written, the lease is still held. [`Ledger::commit`] only.
    Refused,
    /// Another transaction has the same items just now; nothing was written, the lease is still held. [`Ledger::commit`] only.
    Contended,
    /// A write of a handler is not one that DynamoDB takes; nothing was written, the lease is still held. [`Ledger::commit`] only.
    Invalid,
}

impl Ledger {
    /// Claims the delivery that `doorbell` names, of `event`, for `owner` until `lease_until`.
    ///
    /// One conditional write on the way that nearly all deliveries take; a second one only to begin a new run or to
    /// replace what an expired event of the same id left behind.
    pub async fn claim(&self, bid: &Bid<'_>) -> Result<Claim, LedgerError> {
        let found = match self.try_claim(bid).await? {
            Ok(delivery) => return Ok(Claim::Acquired(Lease::of(bid, &delivery))),
            Err(found) => found,
        };
        match standing(&found, bid) {
            Standing::Answer(claim) => Ok(claim),
            Standing::Mine => Ok(Claim::Acquired(Lease::of(bid, &found))),
            Standing::BeginAnew => self.begin_anew(bid, &found).await,
        }
    }

    /// Ends an attempt. Nothing is written unless the lease's owner still has the delivery.
    pub async fn finish(&self, lease: &Lease, outcome: &Outcome, ended: Ended) -> Result<Finish, LedgerError> {
        let change = Change::of(lease, outcome, ended);
        let (pk, sk) = delivery_key(&lease.key, &lease.destination);
        let update = self.client.update_item().table_name(&self.table).key("pk", pk).key("sk", sk);
        let update = update
            .update_expression(change.expression)
            .condition_expression(OWNED)
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#owner", "owner")
            .set_expression_attribute_values(Some(change.values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match update.send().await.map_err(|error| error.into_service_error()) {
            Ok(_) => Ok(Finish::Finished),
            Err(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                Ok(refused_finish(&refused.item.unwrap_or_default(), lease, change.status))
            }
            Err(error) => Err(LedgerError::of(&error)),
        }
    }

    /// Writes what a handler wants written, and that its turn is over, and marks the delivery done: all or nothing.
    pub async fn commit(
        &self,
        lease: &Lease,
        turn: Option<&Turn>,
        writes: Vec<TransactWriteItem>,
        ended: Ended,
    ) -> Result<Finish, LedgerError> {
        let change = Change::of(lease, &Outcome::Done(DoneAs::Delivered), ended);
        let (pk, sk) = delivery_key(&lease.key, &lease.destination);
        let done = Update::builder()
            .table_name(&self.table)
            .key("pk", pk)
            .key("sk", sk)
            .update_expression(change.expression)
            .condition_expression(OWNED)
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#owner", "owner")
            .set_expression_attribute_values(Some(change.values))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .map_err(|error| LedgerError::unbuildable(&error))?;
        let over = turn.map(|turn| self.turn_is_over(turn, lease)).transpose()?;
        // What is ours goes first: the answer gives a reason for each write, in their order.
        let ours: Vec<_> =
            [Some(done), over].into_iter().flatten().map(|update| TransactWriteItem::builder().update(update).build()).collect();
        let ours_count = ours.len();
        let all = ours.into_iter().chain(writes).collect();
        let transaction = self.client.transact_write_items().set_transact_items(Some(all));
        match transaction.send().await.map_err(|error| error.into_service_error()) {
            Ok(_) => Ok(Finish::Finished),
            Err(TransactWriteItemsError::TransactionCanceledException(canceled)) => {
                let failed = |reason: &CancellationReason| reason.code() == Some("ConditionalCheckFailed");
                let reasons = canceled.cancellation_reasons();
                let (ours, theirs) = reasons.split_at(ours_count.min(reasons.len()));
                match ours.first() {
                    Some(delivery) if failed(delivery) => {
                        Ok(refused_finish(delivery.item().unwrap_or(&Item::new()), lease, Status::Done))
                    }
                    // Its turn was over before it was done: then its lease is over as well.
                    _ if ours.iter().any(failed) => Ok(Finish::Lost),
                    _ if theirs.iter().any(failed) => Ok(Finish::Refused),
                    _ if reasons.iter().any(|reason| reason.code() == Some("ValidationError")) => Ok(Finish::Invalid),
                    // Another transaction on the same items, or throttling: it may work the next time.
                    _ => Ok(Finish::Contended),
                }
            }
            // So says AWS of a write that it cannot read at all, and none of ours is such a one.
            Err(error) if error.code() == Some("ValidationException") => Ok(Finish::Invalid),
            Err(error) => Err(LedgerError::of(&error)),
        }
    }

    /// The delivery as it is now; `None` while it is queued. A strongly consistent read.
    pub async fn delivery(&self, key: &EventKey, destination: &DestinationName) -> Result<Option<Delivery>, LedgerError> {
        let (pk, sk) = delivery_key(key, destination);
        let get = self.client.get_item().table_name(&self.table).consistent_read(true).key("pk", pk).key("sk", sk);
        let answer = get.send().await.map_err(|error| LedgerError::of(&error))?;
        answer.item.map(|item| read_delivery(key, &item)).transpose()
    }

    /// The delivery if it is claimed now, else what stands in the way.
    async fn try_claim(&self, bid: &Bid<'_>) -> Result<Result<Delivery, Delivery>, LedgerError> {
        let (pk, sk) = delivery_key(&bid.event.key, &bid.doorbell.destination);
        let claimable = "(#status = :retrying AND next_at <= :now) OR (#status = :processing AND lease_until <= :now)";
        let update = self.client.update_item().table_name(&self.table).key("pk", pk).key("sk", sk);
        let update = update
            .update_expression(
                "SET #status = :processing, #owner = :owner, lease_until = :lease_until, generation = :generation, \
                 replay = if_not_exists(replay, :replay), expires_at = :expires_at, begun_at = if_not_exists(begun_at, :now) \
                 ADD attempts :one REMOVE next_at, attention_pk, attention_sk",
            )
            .condition_expression(format!(
                "attribute_not_exists(pk) OR (generation = :generation AND replay >= :replay AND ({claimable}))"
            ))
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":processing", string(Status::Processing.as_str()))
            .expression_attribute_values(":retrying", string(Status::Retrying.as_str()))
            .expression_attribute_values(":owner", string(bid.owner))
            .expression_attribute_values(":lease_until", millis(bid.lease_until))
            .expression_attribute_values(":generation", millis(bid.event.received_at))
            .expression_attribute_values(":replay", number(bid.doorbell.replay.into()))
            .expression_attribute_values(":expires_at", seconds(bid.event.expires_at))
            .expression_attribute_values(":now", millis(bid.now))
            .expression_attribute_values(":one", number(1))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match update.send().await.map_err(|error| error.into_service_error()) {
            Ok(answer) => Ok(Ok(read_delivery(&bid.event.key, &answer.attributes.unwrap_or_default())?)),
            Err(UpdateItemError::ConditionalCheckFailedException(refused)) => {
                Ok(Err(read_delivery(&bid.event.key, &refused.item.unwrap_or_default())?))
            }
            Err(error) => Err(LedgerError::of(&error)),
        }
    }

    /// Replaces the delivery by a new run of it, if it is still as `found`.
    async fn begin_anew(&self, bid: &Bid<'_>, found: &Delivery) -> Result<Claim, LedgerError> {
        let begun = Delivery {
            status: Status::Processing,
            generation: bid.event.received_at,
            attempts: 1,
            throttles: 0,
            // A doorbell of an earlier run may be what finds the pause over: what has been seen stays seen.
            replay: if found.generation == bid.event.received_at {
                bid.doorbell.replay.max(found.replay)
            } else {
                bid.doorbell.replay
            },
            owner: bid.owner.to_owned(),
            lease_until: Some(bid.lease_until),
            next_at: None,
            done_at: None,
            expires_at: bid.event.expires_at,
            begun_at: bid.now,
            has_slot: false,
            history: if found.generation == bid.event.received_at { found.history.clone() } else { Vec::new() },
        };
        let (pk, sk) = delivery_key(&bid.event.key, &bid.doorbell.destination);
        let mut item = delivery_item(&begun);
        item.extend([("pk".to_owned(), pk), ("sk".to_owned(), sk)]);
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item));
        let put = put
            .condition_expression("generation = :generation AND replay = :replay AND #status = :status AND #owner = :owner")
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":generation", millis(found.generation))
            .expression_attribute_values(":replay", number(found.replay.into()))
            .expression_attribute_values(":status", string(found.status.as_str()))
            .expression_attribute_values(":owner", string(&found.owner));
        match put.send().await.map_err(|error| error.into_service_error()) {
            Ok(_) => Ok(Claim::Acquired(Lease::of(bid, &begun))),
            // Somebody else was faster: come back and see.
            Err(PutItemError::ConditionalCheckFailedException(_)) => Ok(Claim::HeldUntil(bid.now)),
            Err(error) => Err(LedgerError::of(&error)),
        }
    }
}

/// A worker's wish to have a delivery.
#[derive(Clone, Copy, Debug)]
pub struct Bid<'a> {
    /// The doorbell that named it.
    pub doorbell: &'a Doorbell,
    /// Its event.
    pub event: &'a Event,
    /// Who wants it: different for every bid that there ever is.
    pub owner: &'a str,
    /// When.
    pub now: Timestamp,
    /// Until when it is needed.
    pub lease_until: Timestamp,
    /// Whether its destination has been seen to be no longer paused.
    pub pause_is_over: bool,
}

impl Lease {
    /// The lease that this bid has got on the delivery.
    pub fn of(bid: &Bid<'_>, delivery: &Delivery) -> Self {
        Self {
            key: bid.event.key.clone(),
            destination: bid.doorbell.destination.clone(),
            owner: bid.owner.to_owned(),
            attempt: delivery.attempts,
            throttles: delivery.throttles,
            begun_at: delivery.begun_at,
            has_slot: delivery.has_slot,
            run: delivery.replay,
            history: delivery.history.clone(),
        }
    }

    pub(super) fn owner(&self) -> &str {
        &self.owner
    }
}

enum Standing {
    Answer(Claim),
    /// An earlier try of this very bid got it, and its answer was lost on the way.
    Mine,
    BeginAnew,
}

/// What a delivery that could not be claimed at once means for the bid.
fn standing(found: &Delivery, bid: &Bid<'_>) -> Standing {
    use Standing::{Answer, BeginAnew, Mine};
    let generation = bid.event.received_at;
    if found.generation != generation {
        // Older: left by an expired event of the same id. Newer: this bid read an event that has been replaced since.
        return if found.generation < generation { BeginAnew } else { Answer(Claim::HeldUntil(bid.now)) };
    }
    let new_run = bid.doorbell.replay > found.replay;
    match found.status {
        Status::Processing if found.owner == bid.owner => Mine,
        Status::Processing => match found.lease_until {
            Some(lease_until) if bid.now < lease_until => Answer(Claim::HeldUntil(lease_until)),
            _ => BeginAnew,
        },
        Status::Retrying => match found.next_at {
            Some(next_at) if bid.now < next_at => Answer(Claim::HeldUntil(next_at)),
            _ => BeginAnew,
        },
        Status::Done | Status::Dead | Status::Paused if new_run => BeginAnew,
        Status::Paused if bid.pause_is_over => BeginAnew,
        Status::Done => Answer(Claim::AlreadyDone),
        // A doorbell of an earlier run: the newer run has put its own into the dead-letter queue.
        Status::Dead if bid.doorbell.replay < found.replay => Answer(Claim::AlreadyDone),
        Status::Dead => Answer(Claim::AlreadyDead),
        Status::Paused => Answer(Claim::Paused),
    }
}

/// Only an owner finishes, and only once.
const OWNED: &str = "#owner = :owner AND #status = :processing";

/// The change that ends an attempt.
struct Change {
    status: Status,
    expression: String,
    values: Item,
}

impl Change {
    fn of(lease: &Lease, outcome: &Outcome, ended: Ended) -> Self {
        let now = ended.now;
        let mut values = Item::from([
            (":owner".to_owned(), string(&lease.owner)),
            (":processing".to_owned(), string(Status::Processing.as_str())),
        ]);
        let (status, next_at, failure, uncounted) = match outcome {
            Outcome::Done(_) => (Status::Done, None, None, ""),
            Outcome::Retry { at, failure } => (Status::Retrying, Some(*at), Some(failure), ""),
            Outcome::Throttled { at, failure } => {
                (Status::Retrying, Some(*at), Some(failure), " ADD attempts :minus_one, throttles :one")
            }
            Outcome::Deferred { at, failure, .. } => (Status::Retrying, Some(*at), Some(failure), " ADD attempts :minus_one"),
            Outcome::Paused(failure) => (Status::Paused, None, Some(failure), " ADD attempts :minus_one"),
            Outcome::Dead(failure) => (Status::Dead, None, Some(failure), ""),
        };
        values.insert(":status".to_owned(), string(status.as_str()));
        let mut set = "SET #status = :status".to_owned();
        let mut remove = " REMOVE lease_until, has_slot".to_owned();
        if let Some(started_at) = ended.started_at {
            let tried = AttemptRecord::of(lease, started_at, outcome, now);
            let earlier = lease.history.len().saturating_sub(ATTEMPTS_KEPT_MAX - 1);
            let history = lease.history.iter().skip(earlier).chain([&tried]).map(AttemptRecord::to_attribute).collect();
            set += ", history = :history";
            values.insert(":history".to_owned(), AttributeValue::L(history));
        }
        if let Some(failure) = failure {
            let reason: String = failure.reason.chars().take(LAST_ERROR_CHARS_MAX).collect();
            set += ", error_class = :class, last_error = :reason, attention_pk = :attention_pk, attention_sk = :attention_sk";
            values.insert(":class".to_owned(), string(failure.class));
            values.insert(":reason".to_owned(), string(reason));
            let shard = super::event::shard(&lease.key.event_id);
            values.insert(":attention_pk".to_owned(), string(format!("{}#{shard}", status.as_str())));
            // Sorted by when somebody should look: a retry when it is due, everything else since it stands so.
            values.insert(":attention_sk".to_owned(), string(format!("{:013}#{}", next_at.unwrap_or(now).millis(), lease.key)));
        } else {
            set += ", done_at = :now";
            values.insert(":now".to_owned(), millis(now));
            remove += ", error_class, last_error";
        }
        if let Outcome::Done(done_as) = outcome
            && *done_as != DoneAs::Delivered
        {
            set += ", done_as = :done_as";
            values.insert(":done_as".to_owned(), string(done_as.as_str()));
        }
        if let Outcome::Deferred { has_slot: true, .. } = outcome {
            set += ", has_slot = :has_slot";
            remove = remove.replace(", has_slot", "");
            values.insert(":has_slot".to_owned(), AttributeValue::Bool(true));
        }
        if let Some(next_at) = next_at {
            set += ", next_at = :next_at";
            values.insert(":next_at".to_owned(), millis(next_at));
        }
        if !uncounted.is_empty() {
            values.insert(":minus_one".to_owned(), AttributeValue::N("-1".to_owned()));
        }
        if uncounted.contains(":one") {
            values.insert(":one".to_owned(), number(1));
        }
        Self { status, expression: format!("{set}{remove}{uncounted}"), values }
    }
}

impl AttemptRecord {
    fn of(lease: &Lease, started_at: Timestamp, outcome: &Outcome, now: Timestamp) -> Self {
        let (result, failure, next_at) = match outcome {
            Outcome::Done(done_as) => (done_as.as_str(), None, None),
            Outcome::Retry { at, failure } | Outcome::Throttled { at, failure } | Outcome::Deferred { at, failure, .. } => {
                (failure.class, Some(failure), Some(*at))
            }
            Outcome::Paused(failure) | Outcome::Dead(failure) => (failure.class, Some(failure), None),
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
    fn to_attribute(&self) -> AttributeValue {
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

    fn read(attribute: &AttributeValue) -> Option<Self> {
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

/// A refused finish was ours all the same if the item has just what we wrote: the first answer was lost on the way.
fn refused_finish(found: &Item, lease: &Lease, status: Status) -> Finish {
    let mine = read_string(found, "owner") == Some(&lease.owner) && read_string(found, "status") == Some(status.as_str());
    if mine { Finish::Finished } else { Finish::Lost }
}

fn delivery_item(delivery: &Delivery) -> Item {
    let mut item = Item::from([
        ("status".to_owned(), string(delivery.status.as_str())),
        ("generation".to_owned(), millis(delivery.generation)),
        ("attempts".to_owned(), number(delivery.attempts.into())),
        ("throttles".to_owned(), number(delivery.throttles.into())),
        ("replay".to_owned(), number(delivery.replay.into())),
        ("owner".to_owned(), string(&delivery.owner)),
        ("expires_at".to_owned(), seconds(delivery.expires_at)),
        ("begun_at".to_owned(), millis(delivery.begun_at)),
    ]);
    if !delivery.history.is_empty() {
        let history = delivery.history.iter().map(AttemptRecord::to_attribute).collect();
        item.insert("history".to_owned(), AttributeValue::L(history));
    }
    if delivery.has_slot {
        item.insert("has_slot".to_owned(), AttributeValue::Bool(true));
    }
    for (name, moment) in [("lease_until", delivery.lease_until), ("next_at", delivery.next_at), ("done_at", delivery.done_at)] {
        if let Some(moment) = moment {
            item.insert(name.to_owned(), millis(moment));
        }
    }
    item
}

pub(super) fn read_delivery(key: &EventKey, item: &Item) -> Result<Delivery, LedgerError> {
    let corrupt = |reason| LedgerError::Corrupt { key: format!("{key} (delivery)"), reason };
    let count = |name| u32::try_from(read_number(item, name).unwrap_or_default()).unwrap_or(u32::MAX);
    let generation = read_millis(item, "generation").ok_or(corrupt("no generation"))?;
    let history = item.get("history").and_then(|value| value.as_l().ok());
    Ok(Delivery {
        status: read_string(item, "status").and_then(Status::parse).ok_or(corrupt("no status"))?,
        generation,
        attempts: count("attempts"),
        throttles: count("throttles"),
        replay: count("replay"),
        owner: read_string(item, "owner").ok_or(corrupt("no owner"))?.to_owned(),
        lease_until: read_millis(item, "lease_until"),
        next_at: read_millis(item, "next_at"),
        done_at: read_millis(item, "done_at"),
        expires_at: read_number(item, "expires_at").map(Timestamp::from_seconds).ok_or(corrupt("no expires_at"))?,
        begun_at: read_millis(item, "begun_at").unwrap_or(generation),
        has_slot: item.contains_key("has_slot"),
        // What this version cannot read is left out: it is for people.
        history: history.into_iter().flatten().filter_map(AttemptRecord::read).collect(),
    })
}

#[cfg(test)]
mod tests;
