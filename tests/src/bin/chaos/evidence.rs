//! What is looked at when a run is judged: the ledger, the destinations' own journals, the customers' table, the queue.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ::tests::{
    destination::{Effect, Entry, Step},
    stack::{Item, Stack, text},
};
use aws_sdk_dynamodb::types::AttributeValue;

use crate::webhooks::MANNERS;

/// What the ledger has of a run, by `{source}#{event_id}`.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// Those that are recorded.
    pub(crate) events: BTreeSet<String>,
    /// The status of each delivery, by destination.
    pub(crate) deliveries: HashMap<String, BTreeMap<String, String>>,
    /// Those with any item at all.
    pub(crate) any: BTreeSet<String>,
    /// Those with a second body.
    pub(crate) conflicts: BTreeSet<String>,
}

impl Entries {
    /// Everything that names `run`.
    pub(crate) async fn read(stack: &Stack, run: &str) -> Self {
        let mut entries = Self::default();
        let scan = stack.dynamodb.scan().table_name(stack.output("LedgerTableName")).consistent_read(true);
        let scan = scan.filter_expression("contains(pk, :run)").expression_attribute_values(":run", string(run));
        let scan = scan.projection_expression("pk, sk, #status").expression_attribute_names("#status", "status");
        let mut items = scan.into_paginator().items().send();
        while let Some(item) = items.next().await {
            entries.add(&item.expect("the ledger can be read"));
        }
        entries
    }

    fn add(&mut self, item: &Item) {
        let (Some(key), Some(kind)) = (text(item, "pk"), text(item, "sk")) else { return };
        self.any.insert(key.to_owned());
        match kind.split_once('#') {
            None if kind == "event" => {
                self.events.insert(key.to_owned());
            }
            Some(("delivery", destination)) => {
                let status = text(item, "status").unwrap_or_default().to_owned();
                self.deliveries.entry(key.to_owned()).or_default().insert(destination.to_owned(), status);
            }
            Some(("conflict", _)) => {
                self.conflicts.insert(key.to_owned());
            }
            _ => {}
        }
    }

    /// The status of a delivery; `queued` if it has no item yet.
    pub(crate) fn status(&self, key: &str, destination: &str) -> &str {
        self.deliveries.get(key).and_then(|of| of.get(destination)).map_or("queued", String::as_str)
    }
}

/// One request in the journal of a destination.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) destination: &'static str,
    pub(crate) sha256: String,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) effect: Effect,
    /// The destination did something else than answer 200 at once.
    pub(crate) was_broken: bool,
}

/// Every request that destinations got and that names `run`.
pub(crate) async fn arrivals(stack: &Stack, run: &str) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    for manner in &MANNERS {
        let journal = stack.destination.journal(manner.destination, run).await;
        arrivals.extend(journal.into_iter().map(|entry| arrival(manner.destination, entry)));
    }
    arrivals
}

fn arrival(destination: &'static str, entry: Entry) -> Arrival {
    let usual = Step::default();
    let Step { status, delay_ms, hang, reset, slow_body_ms, .. } = entry.answer;
    Arrival {
        destination,
        idempotency_key: entry.header("idempotency-key").map(str::to_owned),
        effect: entry.effect,
        was_broken: status != usual.status || delay_ms > 0 || slow_body_ms > 0 || hang || reset,
        sha256: entry.sha256,
    }
}

/// A row of the table that the handler `customers` writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Customer {
    pub(crate) event_id: String,
    /// In milliseconds of Unix time.
    pub(crate) version: u64,
}

/// The rows that events of `run` wrote, by key.
pub(crate) async fn customers(stack: &Stack, run: &str) -> BTreeMap<String, Customer> {
    let scan = stack.dynamodb.scan().table_name(stack.output("CustomersTableName")).consistent_read(true);
    let scan = scan.filter_expression("contains(event_id, :run)").expression_attribute_values(":run", string(run));
    let mut items = scan.into_paginator().items().send();
    let mut customers = BTreeMap::new();
    while let Some(item) = items.next().await {
        let item = item.expect("the customers can be read");
        let (Some(key), Some(event_id)) = (text(&item, "pk"), text(&item, "event_id")) else { continue };
        let version = item.get("version").and_then(|value| value.as_n().ok()?.parse().ok()).unwrap_or_default();
        customers.insert(key.to_owned(), Customer { event_id: event_id.to_owned(), version });
    }
    customers
}

/// How many doorbells name `run`: waiting, or in some worker's hands.
pub(crate) async fn doorbells(stack: &Stack, run: &str) -> usize {
    stack.doorbells().await.iter().filter(|message| message.body.contains(run)).count()
}

fn string(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}
