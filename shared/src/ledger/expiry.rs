//! The end of a delivery whose event is gone: it has expired, or somebody erased it.

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;

use super::{
    Delivery, FailureRecord, Ledger, LedgerError, Status,
    attributes::{millis, string},
    delivery_key,
    waiting::Entry,
};
use crate::{event::EventKey, names::DestinationName, time::Timestamp};

impl Ledger {
    /// Marks a delivery dead that can never be tried again, if it is still as `found`. Whether it was. Nothing rings for it any more.
    pub async fn bury(
        &self,
        key: &EventKey,
        destination: &DestinationName,
        found: &Delivery,
        failure: &FailureRecord,
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        let (pk, sk) = delivery_key(key, destination);
        let dead = Status::Dead.as_str();
        let entry = Entry::dead(key, destination, now);
        let update = self.client.update_item().table_name(&self.table).key("pk", pk).key("sk", sk);
        let update = update
            .update_expression(
                "SET #status = :dead, error_class = :class, last_error = :reason, attention_pk = :attention_pk, \
                 attention_sk = :attention_sk REMOVE lease_until, next_at, reserved_at, looks",
            )
            // TTL may have removed it meanwhile: nothing is made anew.
            .condition_expression("#status = :found AND #owner = :owner AND generation = :generation")
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#owner", "owner")
            .expression_attribute_values(":dead", string(dead))
            .expression_attribute_values(":class", string(failure.class))
            .expression_attribute_values(":reason", string(&failure.reason))
            .expression_attribute_values(":attention_pk", string(entry.partition))
            .expression_attribute_values(":attention_sk", string(entry.sort_key))
            .expression_attribute_values(":found", string(found.status.as_str()))
            .expression_attribute_values(":owner", string(&found.owner))
            .expression_attribute_values(":generation", millis(found.generation));
        match update.send().await.map_err(|error| error.into_service_error()) {
            Ok(_) => Ok(true),
            Err(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(false),
            Err(error) => Err(LedgerError::of(&error)),
        }
    }
}
