//! A worked example: keeps a table of customers in step with the orders of a shop.
//!
//! An idempotent upsert keyed by the shop's own customer id, which refuses older versions: orders come out of order, and the
//! customer in an order is the customer as of that order. Beside it stands which of our customers that id is, so that a second
//! shop's id, or a person who merges two customers, can point at the same one:
//!
//! | key | what it holds |
//! | --- | --- |
//! | `{source}#{customer id}` | the customer: e-mail address, version, the event that told it |
//! | `id#{source}#{customer id}` | `customer`: the key of the customer that this id is; written once, and never again by this handler |

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

    fn upsert(&self, event: &Event, customer: Customer) -> Result<Vec<TransactWriteItem>, Failure> {
        let version = Timestamp::parse_rfc3339(&customer.updated_at)
            .ok_or_else(|| Failure::Permanent("customer.updated_at is no RFC 3339 time".to_owned()))?;
        let key = format!("{}#{}", event.key.source, customer.id);
        let upsert = Update::builder()
            .table_name(&self.table)
            .key("pk", AttributeValue::S(key.clone()))
            .update_expression("SET email = :email, version = :version, event_id = :event_id")
            .condition_expression("attribute_not_exists(pk) OR version < :version")
            .expression_attribute_values(":email", customer.email.map_or(AttributeValue::Null(true), AttributeValue::S))
            .expression_attribute_values(":version", AttributeValue::N(version.millis().to_string()))
            .expression_attribute_values(":event_id", AttributeValue::S(event.key.event_id.to_string()))
            .build();
        let mapping = Update::builder()
            .table_name(&self.table)
            .key("pk", AttributeValue::S(format!("id#{key}")))
            .update_expression("SET customer = if_not_exists(customer, :customer)")
            .expression_attribute_values(":customer", AttributeValue::S(key))
            .build();
        [upsert, mapping]
            .into_iter()
            .map(|update| Ok(TransactWriteItem::builder().update(update.map_err(unbuildable)?).build()))
            .collect()
    }
}

fn unbuildable(error: aws_sdk_dynamodb::error::BuildError) -> Failure {
    Failure::Permanent(error.to_string())
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
        order.customer.map_or_else(|| Ok(Vec::new()), |customer| self.upsert(event, customer))
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
            compared_sha256: None,
            part: None,
            key_id: String::new(),
            destinations: Vec::new(),
            expires_at: Timestamp::from_seconds(2),
        };
        Customers::new("customers".to_owned()).handle(&event, body.as_bytes())
    }

    #[test]
    fn the_sample_order_upserts_its_customer_under_a_version() {
        let writes = handle(include_str!("../../../../events/shopify-orders-create.json")).unwrap();
        let [upsert, mapping] = &writes[..] else { panic!("{writes:?}") };
        let (upsert, mapping) = (upsert.update().unwrap(), mapping.update().unwrap());
        let key = upsert.key()["pk"].as_s().unwrap();
        assert!(key.starts_with("shopify#"));
        assert!(upsert.condition_expression().unwrap().contains("version < :version"));
        assert_eq!(mapping.key()["pk"].as_s().unwrap(), &format!("id#{key}"));
        assert_eq!(mapping.condition_expression(), None, "it refuses nothing");
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
