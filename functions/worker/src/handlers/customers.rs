//! A worked example: keeps a table of customers in step with the orders of a shop.
//!
//! An idempotent upsert keyed by the shop's own customer id, which refuses older versions: orders come out of order, and the
//! customer in an order is the customer as of that order.

use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem, Update};
use serde::Deserialize;
use shared::{event::Event, time::Timestamp};

use super::{Handler, OnRefused};
use crate::failure::Failure;

pub(super) const NAME: &str = "customers";

/// Upserts the customer of a Shopify order.
#[derive(Debug)]
pub(super) struct Customers {
    table: String,
}

/// What is needed of an order (<https://shopify.dev/docs/api/admin-rest/latest/resources/order>).
#[derive(Deserialize)]
struct Order {
    customer: Option<Customer>,
}

#[derive(Deserialize)]
struct Customer {
    id: u64,
    email: Option<String>,
    /// RFC 3339.
    updated_at: String,
}

impl Customers {
    pub(super) fn new(table: String) -> Self {
        Self { table }
    }

    fn upsert(&self, event: &Event, customer: Customer) -> Result<TransactWriteItem, Failure> {
        let version = Timestamp::parse_rfc3339(&customer.updated_at)
            .ok_or_else(|| Failure::Permanent("customer.updated_at is no RFC 3339 time".to_owned()))?;
        let update = Update::builder()
            .table_name(&self.table)
            .key("pk", AttributeValue::S(format!("{}#{}", event.key.source, customer.id)))
            .update_expression("SET email = :email, version = :version, event_id = :event_id")
            .condition_expression("attribute_not_exists(pk) OR version < :version")
            .expression_attribute_values(":email", customer.email.map_or(AttributeValue::Null(true), AttributeValue::S))
            .expression_attribute_values(":version", AttributeValue::N(version.millis().to_string()))
            .expression_attribute_values(":event_id", AttributeValue::S(event.key.event_id.to_string()))
            .build()
            .map_err(|error| Failure::Permanent(error.to_string()))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }
}

impl Handler for Customers {
    fn name(&self) -> &'static str {
        NAME
    }

    fn handle(&self, event: &Event, body: &[u8]) -> Result<Vec<TransactWriteItem>, Failure> {
        // serde's message could quote the body, which is not for logs.
        let order: Order = serde_json::from_slice(body)
            .map_err(|error| Failure::Permanent(format!("no order (line {}, column {})", error.line(), error.column())))?;
        // An order without a customer is a sale at the till: nothing to do.
        order.customer.map(|customer| self.upsert(event, customer)).into_iter().collect()
    }

    fn on_refused(&self) -> OnRefused {
        OnRefused::Superseded
    }
}

#[cfg(test)]
mod tests {
    use shared::{
        event::{BodyDigest, EventKey},
        names::{EventId, EventType, SourceName},
    };

    use super::*;

    fn handle(body: &str) -> Result<Vec<TransactWriteItem>, Failure> {
        let event = Event {
            key: EventKey { source: SourceName::parse("shopify").unwrap(), event_id: EventId::parse("7").unwrap() },
            event_type: EventType::parse("orders/create").unwrap(),
            received_at: Timestamp::from_seconds(1),
            occurred_at: None,
            headers: Default::default(),
            body_bytes: body.len(),
            sha256: BodyDigest::of(body.as_bytes()),
            key_id: String::new(),
            destinations: Vec::new(),
            expires_at: Timestamp::from_seconds(2),
        };
        Customers::new("customers".to_owned()).handle(&event, body.as_bytes())
    }

    #[test]
    fn the_sample_order_upserts_its_customer_under_a_version() {
        let writes = handle(include_str!("../../../../events/shopify-orders-create.json")).unwrap();
        let update = writes[0].update().unwrap();
        assert!(update.key()["pk"].as_s().unwrap().starts_with("shopify#"));
        assert!(update.condition_expression().unwrap().contains("version < :version"));
    }

    #[test]
    fn an_order_without_a_customer_is_as_good_as_done() {
        assert_eq!(handle(r#"{"id": 1}"#), Ok(Vec::new()));
        assert_eq!(handle(r#"{"id": 1, "customer": null}"#), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_order_is_permanent_and_quotes_nothing() {
        for body in ["hush", r#"{"customer": "hush"}"#, r#"{"customer": {"id": 1, "updated_at": "hush"}}"#] {
            let Err(Failure::Permanent(reason)) = handle(body) else { panic!("{body}") };
            assert!(!reason.contains("hush"), "{reason}");
        }
    }
}
