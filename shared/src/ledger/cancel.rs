//! A delivery that a person has ended.

use super::{
    Ledger, LedgerError, Status,
    attributes::{millis, number, seconds, string},
    delivery::{LAST_ERROR_CHARS_MAX, read_delivery},
    delivery_key,
};
use crate::{event::Event, names::DestinationName, time::Timestamp};

/// The class of a delivery that a person has ended.
const CANCELLED: &str = "cancelled";

/// What became of a delivery that a person wanted to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancellation {
    /// It has ended, or had before by the same means.
    Cancelled,
    /// It is done: nothing is left to end.
    AlreadyDone,
    /// A worker is at it until then, at most: what it does just now cannot be taken back.
    HeldUntil(Timestamp),
}

impl Ledger {
    /// Ends the delivery of an event to a destination, whether it waits, is dead or was never begun. One write, on the condition that nobody
    /// works on it.
    pub async fn cancel(
        &self,
        event: &Event,
        destination: &DestinationName,
        reason: &str,
        now: Timestamp,
    ) -> Result<Cancellation, LedgerError> {
        let (pk, sk) = delivery_key(&event.key, destination);
        let reason: String = reason.chars().take(LAST_ERROR_CHARS_MAX).collect();
        let update = self.client.update_item().table_name(&self.table).key("pk", pk).key("sk", sk);
        let update = update
            .update_expression(
                "SET #status = :cancelled, done_at = :now, error_class = :class, last_error = :reason, generation = :generation, \
                 replay = if_not_exists(replay, :zero), #owner = if_not_exists(#owner, :person), expires_at = :expires_at \
                 REMOVE attention_pk, attention_sk, looks, next_at, lease_until, reserved_at",
            )
            .condition_expression(
                "attribute_not_exists(pk) OR generation < :generation OR (generation = :generation AND \
                 (#status IN (:waiting, :dead) OR (#status = :processing AND lease_until <= :now)))",
            )
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":cancelled", string(Status::Cancelled.as_str()))
            .expression_attribute_values(":waiting", string(Status::Waiting.as_str()))
            .expression_attribute_values(":dead", string(Status::Dead.as_str()))
            .expression_attribute_values(":processing", string(Status::Processing.as_str()))
            .expression_attribute_values(":class", string(CANCELLED))
            .expression_attribute_values(":reason", string(reason))
            .expression_attribute_values(":generation", millis(event.received_at))
            .expression_attribute_values(":expires_at", seconds(event.expires_at))
            .expression_attribute_values(":zero", number(0))
            .expression_attribute_values(":person", string("operator"))
            .expression_attribute_values(":now", millis(now));
        match self.change(update).await? {
            Ok(_) => Ok(Cancellation::Cancelled),
            Err(found) => {
                let found = read_delivery(&event.key, &found)?;
                Ok(match found.status {
                    Status::Done => Cancellation::AlreadyDone,
                    Status::Cancelled => Cancellation::Cancelled,
                    Status::Processing | Status::Waiting | Status::Dead => {
                        Cancellation::HeldUntil(found.lease_until.unwrap_or(now))
                    }
                })
            }
        }
    }
}
