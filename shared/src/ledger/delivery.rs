//! Deliveries: claimed by one worker at a time, finished by their owner alone.
//!
//! A delivery without an item is queued. One that is `processing` belongs to the owner that its item names until the lease
//! ends; whoever comes then may claim it. One that is `waiting` may be claimed from its moment on. `generation` is the moment its
//! event was received: when an event id is new again after its dedupe horizon, what an earlier event of that id left behind
//! stands in nobody's way.
//!
//! A delivery that waits for long has an *entry* in the index `attention`, which says when somebody must look ([`super::waiting`]). A claim
//! leaves it alone, so that a delivery whose worker died is found through it; only a final state takes it away.

use aws_sdk_dynamodb::{
    error::ProvideErrorMetadata,
    operation::{put_item::PutItemError, transact_write_items::TransactWriteItemsError, update_item::UpdateItemError},
    types::{AttributeValue, CancellationReason, ReturnValue, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update},
};

use super::{
    Ledger, LedgerError,
    attributes::{Item, millis, number, read_millis, read_number, read_string, seconds, string},
    delivery_key,
    history::{ATTEMPTS_KEPT_MAX, AttemptRecord},
    order::Turn,
    waiting::{Entry, read_look_at},
};
use crate::{
    doorbell::Doorbell,
    event::{Event, EventKey},
    names::DestinationName,
    time::Timestamp,
};

/// Longest error kept on a delivery, in characters: its item stays under 1 KB, one write unit.
pub(super) const LAST_ERROR_CHARS_MAX: usize = 200;

/// What a delivery is doing. `queued` is the state of one that has no item yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// An owner works on it.
    Processing,
    /// It arrived.
    Done,
    /// Nobody works on it until its moment has come: it failed, or its destination is paused or protected just now.
    Waiting,
    /// It will not be tried again until a person says so.
    Dead,
    /// A person has ended it.
    Cancelled,
}

impl Status {
    /// Its word in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Processing => "processing",
            Self::Done => "done",
            Self::Waiting => "waiting",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of a word, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Processing, Self::Done, Self::Waiting, Self::Dead, Self::Cancelled]
            .into_iter()
            .find(|status| status.as_str() == text)
    }

    /// Whether nothing more happens to it by itself.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Dead | Self::Cancelled)
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
    /// While waiting: not before.
    pub next_at: Option<Timestamp>,
    /// When somebody must look at it, where it has an entry.
    pub look_at: Option<Timestamp>,
    /// When it was done.
    pub done_at: Option<Timestamp>,
    /// From then on it is forgotten.
    pub expires_at: Timestamp,
    /// When its present run began.
    pub begun_at: Timestamp,
    /// The moment that the destination's rate has given it, if it has.
    pub reserved_at: Option<Timestamp>,
    /// Its last attempts, over all runs, the oldest first; at most [`ATTEMPTS_KEPT_MAX`].
    pub history: Vec<AttemptRecord>,
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
    /// Somebody works on it. Never acknowledge: this doorbell may be the only one left.
    HeldUntil(Timestamp),
    /// It waits for its moment. Acknowledge where it has an entry, by which it is found.
    WaitsUntil {
        /// Its moment.
        at: Timestamp,
        /// Whether it has one.
        has_entry: bool,
    },
    /// It waits from now on, as asked, or did so already: acknowledge.
    Parked,
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
    /// The moment that the destination's rate has given it, if it has.
    pub reserved_at: Option<Timestamp>,
    pub(super) run: u32,
    pub(super) history: Vec<AttemptRecord>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is left to do.
    Done(DoneAs),
    /// It waits.
    Wait(Wait),
    /// No more tries.
    Dead(FailureRecord),
}

/// How a delivery waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Why.
    pub why: Why,
    /// Not before.
    pub at: Timestamp,
    /// What failed, or what it waits for.
    pub failure: FailureRecord,
    /// The moment that the destination's rate has given it, if that is to be kept.
    pub reserved_at: Option<Timestamp>,
    /// When somebody must look at it. `None`: its message comes again by itself, and an entry that it has stays as it is.
    pub look_at: Option<Timestamp>,
}

/// Why a delivery waits: what is counted, and where it stands among those of its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It failed.
    Failed,
    /// The destination said "not now", which does not count as an attempt.
    Throttled,
    /// It was not tried, since the destination is protected just now. Nothing is counted.
    Deferred,
    /// The destination refuses our credentials and is paused. Nothing is counted; once a person has mended that, it goes last, since the
    /// refusal may have been about it alone.
    Refused,
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
        self.bid(bid, None).await
    }

    /// Lets a delivery wait that could be claimed, since its destination's gate is closed: one conditional write, without a claim. It
    /// is due at once, and nobody looks before the gate opens.
    pub async fn park(&self, bid: &Bid<'_>, parking: &Parking) -> Result<Claim, LedgerError> {
        self.bid(bid, Some(parking)).await
    }

    async fn bid(&self, bid: &Bid<'_>, parking: Option<&Parking>) -> Result<Claim, LedgerError> {
        let found = match self.try_bid(bid, parking).await? {
            Ok(_) if parking.is_some() => return Ok(Claim::Parked),
            Ok(delivery) => return Ok(Claim::Acquired(Lease::of(bid, &delivery))),
            Err(found) => found,
        };
        match standing(&found, bid) {
            Standing::Answer(claim) => Ok(claim),
            Standing::Mine => Ok(Claim::Acquired(Lease::of(bid, &found))),
            // It has an entry by which nobody has rung yet.
            Standing::Claimable if parking.is_some() => Ok(Claim::Parked),
            Standing::Claimable | Standing::BeginAnew => self.begin_anew(bid, &found, parking).await,
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

    /// The delivery if it is claimed or parked now, else what stands in the way.
    async fn try_bid(&self, bid: &Bid<'_>, parking: Option<&Parking>) -> Result<Result<Delivery, Delivery>, LedgerError> {
        let (pk, sk) = delivery_key(&bid.event.key, &bid.doorbell.destination);
        // A delivery that is parked already, and has not been rung for, stays as it is.
        let parked_anew =
            if parking.is_some() { " AND (attribute_not_exists(attention_pk) OR attribute_exists(looks))" } else { "" };
        let claimable =
            format!("(#status = :waiting AND next_at <= :now{parked_anew}) OR (#status = :processing AND lease_until <= :now)");
        let common =
            "generation = :generation, replay = if_not_exists(replay, :replay), expires_at = :expires_at, #owner = :owner";
        let update = self.client.update_item().table_name(&self.table).key("pk", pk).key("sk", sk);
        let update = match parking {
            None => update
                .update_expression(format!(
                    "SET #status = :processing, lease_until = :lease_until, begun_at = if_not_exists(begun_at, :now), {common} \
                     ADD attempts :one REMOVE next_at"
                ))
                .expression_attribute_values(":lease_until", millis(bid.lease_until))
                .expression_attribute_values(":one", number(1)),
            Some(Parking { reason, stops_the_clock }) => {
                let entry = Entry::new(&bid.event.key, &bid.doorbell.destination, bid.now);
                let begun_at = if *stops_the_clock { ", begun_at" } else { "" };
                update
                    .update_expression(format!(
                        "SET #status = :waiting, next_at = :now, error_class = :class, last_error = :reason, \
                         attention_pk = :attention_pk, attention_sk = :attention_sk, {common} REMOVE lease_until, looks{begun_at}"
                    ))
                    .expression_attribute_values(":class", string(reason.class))
                    .expression_attribute_values(":reason", string(reason.kept()))
                    .expression_attribute_values(":attention_pk", string(entry.partition))
                    .expression_attribute_values(":attention_sk", string(entry.sort_key))
            }
        };
        let update = update
            .condition_expression(format!(
                "attribute_not_exists(pk) OR (generation = :generation AND replay >= :replay AND ({claimable}))"
            ))
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":processing", string(Status::Processing.as_str()))
            .expression_attribute_values(":waiting", string(Status::Waiting.as_str()))
            .expression_attribute_values(":owner", string(bid.owner))
            .expression_attribute_values(":generation", millis(bid.event.received_at))
            .expression_attribute_values(":replay", number(bid.doorbell.replay.into()))
            .expression_attribute_values(":expires_at", seconds(bid.event.expires_at))
            .expression_attribute_values(":now", millis(bid.now))
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

    /// Replaces the delivery by a new run of it, if it is still as `found`: claimed, or parked.
    async fn begin_anew(&self, bid: &Bid<'_>, found: &Delivery, parking: Option<&Parking>) -> Result<Claim, LedgerError> {
        let is_parked = parking.is_some();
        let is_same_event = found.generation == bid.event.received_at;
        let begun = Delivery {
            status: if is_parked { Status::Waiting } else { Status::Processing },
            generation: bid.event.received_at,
            attempts: u32::from(!is_parked),
            throttles: 0,
            // What has been seen stays seen.
            replay: if is_same_event { bid.doorbell.replay.max(found.replay) } else { bid.doorbell.replay },
            owner: bid.owner.to_owned(),
            lease_until: (!is_parked).then_some(bid.lease_until),
            next_at: is_parked.then_some(bid.now),
            look_at: None,
            done_at: None,
            expires_at: bid.event.expires_at,
            begun_at: bid.now,
            reserved_at: None,
            history: if is_same_event { found.history.clone() } else { Vec::new() },
        };
        let (pk, sk) = delivery_key(&bid.event.key, &bid.doorbell.destination);
        let mut item = delivery_item(&begun);
        item.extend([("pk".to_owned(), pk), ("sk".to_owned(), sk)]);
        if is_parked {
            item.remove("begun_at");
        }
        // An entry that it has goes on to be looked at: somebody may die with this run.
        let entry = parking.map(|_| bid.now).or(found.look_at.filter(|_| !found.status.is_final() && is_same_event));
        if let Some(look_at) = entry {
            let entry = Entry::new(&bid.event.key, &bid.doorbell.destination, look_at);
            item.insert("attention_pk".to_owned(), string(entry.partition));
            item.insert("attention_sk".to_owned(), string(entry.sort_key));
        }
        if let Some(Parking { reason, .. }) = parking {
            item.insert("error_class".to_owned(), string(reason.class));
            item.insert("last_error".to_owned(), string(reason.kept()));
        }
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
            Ok(_) if is_parked => Ok(Claim::Parked),
            Ok(_) => Ok(Claim::Acquired(Lease::of(bid, &begun))),
            // Somebody else was faster: come back and see.
            Err(PutItemError::ConditionalCheckFailedException(_)) => Ok(Claim::HeldUntil(bid.now)),
            Err(error) => Err(LedgerError::of(&error)),
        }
    }
}

/// How a delivery is parked at a closed gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parking {
    /// Which gate.
    pub reason: FailureRecord,
    /// Whether the time after which it is given up begins anew with its next attempt: so it is with a pause, which a person ends.
    pub stops_the_clock: bool,
}

impl FailureRecord {
    /// As much of the reason as is kept.
    fn kept(&self) -> String {
        self.reason.chars().take(LAST_ERROR_CHARS_MAX).collect()
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
            reserved_at: delivery.reserved_at,
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
    /// Nobody has it, and its moment has come.
    Claimable,
    BeginAnew,
}

/// What a delivery that could not be claimed at once means for the bid.
fn standing(found: &Delivery, bid: &Bid<'_>) -> Standing {
    use Standing::{Answer, BeginAnew, Claimable, Mine};
    let generation = bid.event.received_at;
    if found.generation != generation {
        // Older: left by an expired event of the same id. Newer: this bid read an event that has been replaced since.
        return if found.generation < generation { BeginAnew } else { Answer(Claim::HeldUntil(bid.now)) };
    }
    let new_run = bid.doorbell.replay > found.replay;
    match (found.status, found.lease_until, found.next_at) {
        (Status::Processing, ..) if found.owner == bid.owner => Mine,
        (Status::Processing, Some(lease_until), _) if bid.now < lease_until => Answer(Claim::HeldUntil(lease_until)),
        (Status::Waiting, _, Some(at)) if bid.now < at => Answer(Claim::WaitsUntil { at, has_entry: found.look_at.is_some() }),
        _ if new_run => BeginAnew,
        (Status::Processing | Status::Waiting, ..) => Claimable,
        (Status::Done | Status::Cancelled, ..) => Answer(Claim::AlreadyDone),
        // A doorbell of an earlier run: the newer run has put its own into the dead-letter queue.
        (Status::Dead, ..) if bid.doorbell.replay < found.replay => Answer(Claim::AlreadyDone),
        (Status::Dead, ..) => Answer(Claim::AlreadyDead),
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
        let (status, failure) = match outcome {
            Outcome::Done(_) => (Status::Done, None),
            Outcome::Wait(wait) => (Status::Waiting, Some(&wait.failure)),
            Outcome::Dead(failure) => (Status::Dead, Some(failure)),
        };
        values.insert(":status".to_owned(), string(status.as_str()));
        let mut set = "SET #status = :status".to_owned();
        let mut remove = " REMOVE lease_until".to_owned();
        let mut add = "";
        if let Some(started_at) = ended.started_at {
            let tried = AttemptRecord::of(lease, started_at, outcome, now);
            let earlier = lease.history.len().saturating_sub(ATTEMPTS_KEPT_MAX - 1);
            let history = lease.history.iter().skip(earlier).chain([&tried]).map(AttemptRecord::to_attribute).collect();
            set += ", history = :history";
            values.insert(":history".to_owned(), AttributeValue::L(history));
        }
        match failure {
            Some(failure) => {
                set += ", error_class = :class, last_error = :reason";
                values.insert(":class".to_owned(), string(failure.class));
                values.insert(":reason".to_owned(), string(failure.kept()));
            }
            None => {
                set += ", done_at = :now";
                values.insert(":now".to_owned(), millis(now));
                remove += ", error_class, last_error";
            }
        }
        let entry = match outcome {
            Outcome::Done(_) => None,
            Outcome::Wait(wait) => wait.look_at.map(|look_at| match wait.why {
                Why::Refused => Entry::last(&lease.key, &lease.destination, look_at),
                Why::Failed | Why::Throttled | Why::Deferred => Entry::new(&lease.key, &lease.destination, look_at),
            }),
            Outcome::Dead(_) => Some(Entry::dead(&lease.key, &lease.destination, now)),
        };
        match entry {
            Some(entry) => {
                set += ", attention_pk = :attention_pk, attention_sk = :attention_sk";
                values.insert(":attention_pk".to_owned(), string(entry.partition));
                values.insert(":attention_sk".to_owned(), string(entry.sort_key));
                remove += ", looks";
            }
            // Only a final state takes an entry away.
            None if status.is_final() => remove += ", attention_pk, attention_sk, looks",
            None => {}
        }
        if let Outcome::Done(done_as) = outcome
            && *done_as != DoneAs::Delivered
        {
            set += ", done_as = :done_as";
            values.insert(":done_as".to_owned(), string(done_as.as_str()));
        }
        let reserved_at = match outcome {
            Outcome::Wait(wait) => {
                set += ", next_at = :next_at";
                values.insert(":next_at".to_owned(), millis(wait.at));
                let (counted, minus_one, one) = match wait.why {
                    Why::Failed => ("", false, false),
                    Why::Throttled => (" ADD attempts :minus_one, throttles :one", true, true),
                    Why::Deferred | Why::Refused => (" ADD attempts :minus_one", true, false),
                };
                add = counted;
                values.extend(minus_one.then(|| (":minus_one".to_owned(), AttributeValue::N("-1".to_owned()))));
                values.extend(one.then(|| (":one".to_owned(), number(1))));
                // Its run begins with its first attempt, and a pause stops the clock.
                let is_untried = wait.why == Why::Deferred && lease.attempt == 1 && lease.throttles == 0;
                if is_untried || wait.why == Why::Refused {
                    remove += ", begun_at";
                }
                wait.reserved_at
            }
            Outcome::Done(_) | Outcome::Dead(_) => None,
        };
        match reserved_at {
            Some(at) => {
                set += ", reserved_at = :reserved_at";
                values.insert(":reserved_at".to_owned(), millis(at));
            }
            None => remove += ", reserved_at",
        }
        Self { status, expression: format!("{set}{remove}{add}"), values }
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
    let moments = [
        ("lease_until", delivery.lease_until),
        ("next_at", delivery.next_at),
        ("done_at", delivery.done_at),
        ("reserved_at", delivery.reserved_at),
    ];
    for (name, moment) in moments {
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
        look_at: read_look_at(item),
        done_at: read_millis(item, "done_at"),
        expires_at: read_number(item, "expires_at").map(Timestamp::from_seconds).ok_or(corrupt("no expires_at"))?,
        begun_at: read_millis(item, "begun_at").unwrap_or(generation),
        reserved_at: read_millis(item, "reserved_at"),
        // What this version cannot read is left out: it is for people.
        history: history.into_iter().flatten().filter_map(AttemptRecord::read).collect(),
    })
}

#[cfg(test)]
mod tests;
