//! What the auditor reads and writes: the events of a window, their deliveries, and how far it has come.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    operation::put_item::PutItemError,
    types::{AttributeValue, KeysAndAttributes},
};

use super::{
    Ledger, LedgerError, SHARDS, Status,
    attributes::{Item, millis, projection, read_millis, read_number, read_string, read_strings, string},
    delivery_key,
};
use crate::{
    doorbell::Doorbell,
    event::EventKey,
    names::{DestinationName, EventId, SourceName},
    time::Timestamp,
};

/// Most keys in one BatchGetItem (DynamoDB's quota).
pub const BATCH_GET_KEYS_MAX: usize = 100;
/// How often what DynamoDB left unprocessed is asked for again.
const UNPROCESSED_TRIES_MAX: u32 = 8;

/// An event as the index `by_time` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedEvent {
    /// Which event.
    pub key: EventKey,
    /// When it was received.
    pub received_at: Timestamp,
    /// Where it goes.
    pub destinations: Vec<DestinationName>,
    /// From then on it is forgotten.
    pub expires_at: Timestamp,
}

/// What a delivery is doing, for the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Its status; `None` if this version does not know it.
    pub status: Option<Status>,
    /// When its event was received.
    pub generation: Timestamp,
    /// While processing: when the owner loses it.
    pub lease_until: Option<Timestamp>,
    /// While waiting: not before.
    pub next_at: Option<Timestamp>,
    /// Whether it has an entry in the index `attention`, so that somebody will look at it.
    pub has_entry: bool,
}

impl Ledger {
    /// The events of a source that were received from `from` (included) to `to` (not included), of all shards. The index lags
    /// behind the table, usually by milliseconds.
    pub async fn events_between(
        &self,
        source: &SourceName,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<IndexedEvent>, LedgerError> {
        let shards = (0..SHARDS).map(|shard| self.events_of_shard(source, shard, from, to));
        Ok(futures::future::try_join_all(shards).await?.into_iter().flatten().collect())
    }

    /// What these deliveries are doing; queued ones are absent. Eventually consistent reads, at half the price: a delivery
    /// claimed a moment ago may be absent, and is at worst rung for nothing.
    pub async fn progress(&self, doorbells: &[Doorbell]) -> Result<HashMap<(EventKey, DestinationName), Progress>, LedgerError> {
        let mut found = HashMap::new();
        let keys = doorbells.iter().map(|doorbell| {
            let (pk, sk) = delivery_key(&doorbell.event_key(), &doorbell.destination);
            Item::from([("pk".to_owned(), pk), ("sk".to_owned(), sk)])
        });
        for item in self
            .batch_get(keys.collect(), &["pk", "sk", "status", "generation", "lease_until", "next_at", "attention_pk"])
            .await?
        {
            if let Some((key, destination, progress)) = read_progress(&item) {
                found.insert((key, destination), progress);
            }
        }
        Ok(found)
    }

    /// Until when everything is accounted for; `None` before the first audit.
    pub async fn watermark(&self) -> Result<Option<Timestamp>, LedgerError> {
        let (pk, sk) = watermark_key();
        let get = self.client.get_item().table_name(&self.table).consistent_read(true).key("pk", pk).key("sk", sk);
        let answer = get.send().await.map_err(|error| LedgerError::of(&error))?;
        Ok(answer.item.and_then(|item| read_millis(&item, "until")))
    }

    /// Moves the watermark from `before` to `until`. Another auditor that has moved it meanwhile is no error: then it stays.
    pub async fn advance_watermark(&self, before: Option<Timestamp>, until: Timestamp) -> Result<(), LedgerError> {
        let (pk, sk) = watermark_key();
        let put = self.client.put_item().table_name(&self.table).item("pk", pk).item("sk", sk);
        let put = put.item("until", millis(until)).expression_attribute_names("#until", "until");
        let put = match before {
            None => put.condition_expression("attribute_not_exists(#until)"),
            Some(before) => put.condition_expression("#until = :before").expression_attribute_values(":before", millis(before)),
        };
        match put.send().await.map_err(|error| error.into_service_error()) {
            Ok(_) | Err(PutItemError::ConditionalCheckFailedException(_)) => Ok(()),
            Err(error) => Err(LedgerError::of(&error)),
        }
    }

    async fn events_of_shard(
        &self,
        source: &SourceName,
        shard: u8,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<IndexedEvent>, LedgerError> {
        let query = self.client.query().table_name(&self.table).index_name("by_time");
        // `{to}` without a `#` sorts before every event of that millisecond.
        let mut pages = query
            .key_condition_expression("by_time_pk = :shard AND by_time_sk BETWEEN :from AND :to")
            .expression_attribute_values(":shard", string(format!("{source}#{shard}")))
            .expression_attribute_values(":from", string(format!("{:013}", from.millis())))
            .expression_attribute_values(":to", string(format!("{:013}", to.millis())))
            .into_paginator()
            .items()
            .send();
        let mut events = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| LedgerError::of(&error))?;
            events.push(read_indexed(source, &item)?);
        }
        Ok(events)
    }

    /// These attributes of the items that are there, or all of them if none is named. Eventually consistent reads.
    pub(super) async fn batch_get(&self, keys: Vec<Item>, attributes: &[&str]) -> Result<Vec<Item>, LedgerError> {
        let mut found = Vec::new();
        for batch in keys.chunks(BATCH_GET_KEYS_MAX) {
            found.extend(self.batch_get_once(batch.to_vec(), attributes).await?);
        }
        Ok(found)
    }

    async fn batch_get_once(&self, keys: Vec<Item>, attributes: &[&str]) -> Result<Vec<Item>, LedgerError> {
        let projected = (!attributes.is_empty()).then(|| projection(attributes));
        let (expression, names) = projected.unzip();
        let mut found = Vec::new();
        let mut keys = keys;
        for _ in 0..UNPROCESSED_TRIES_MAX {
            let request = KeysAndAttributes::builder()
                .set_keys(Some(keys))
                .set_projection_expression(expression.clone())
                .set_expression_attribute_names(names.clone())
                .build()
                .map_err(|error| LedgerError::unbuildable(&error))?;
            let get = self.client.batch_get_item().request_items(&self.table, request);
            let answer = get.send().await.map_err(|error| LedgerError::of(&error))?;
            found.extend(answer.responses.and_then(|mut tables| tables.remove(&self.table)).unwrap_or_default());
            let left = answer.unprocessed_keys.and_then(|mut tables| tables.remove(&self.table));
            match left {
                Some(left) if !left.keys().is_empty() => keys = left.keys().to_vec(),
                _ => return Ok(found),
            }
        }
        Err(LedgerError::Unavailable("BatchGetItem left keys unprocessed again and again".to_owned()))
    }
}

fn watermark_key() -> (AttributeValue, AttributeValue) {
    (string("audit"), string("watermark"))
}

pub(super) fn read_indexed(source: &SourceName, item: &Item) -> Result<IndexedEvent, LedgerError> {
    let corrupt = |reason| LedgerError::Corrupt { key: format!("{source} (by_time)"), reason };
    let (received_at, event_id) =
        read_string(item, "by_time_sk").and_then(|key| key.split_once('#')).ok_or(corrupt("no by_time_sk"))?;
    let destinations = read_strings(item, "destinations").ok_or(corrupt("no destinations"))?;
    Ok(IndexedEvent {
        key: EventKey { source: source.clone(), event_id: EventId::parse(event_id).map_err(|_| corrupt("no event id"))? },
        received_at: received_at.parse().map(Timestamp::from_millis).map_err(|_| corrupt("no received_at"))?,
        destinations: destinations
            .into_iter()
            .map(DestinationName::parse)
            .collect::<Result<_, _>>()
            .map_err(|_| corrupt("a destination is no name"))?,
        expires_at: read_number(item, "expires_at").map(Timestamp::from_seconds).ok_or(corrupt("no expires_at"))?,
    })
}

/// The event that an item stands under.
pub(super) fn read_event_key(item: &Item) -> Option<EventKey> {
    let (source, event_id) = read_string(item, "pk")?.split_once('#')?;
    Some(EventKey { source: SourceName::parse(source).ok()?, event_id: EventId::parse(event_id).ok()? })
}

pub(super) fn read_delivery_key(item: &Item) -> Option<(EventKey, DestinationName)> {
    let key = read_event_key(item)?;
    Some((key, DestinationName::parse(read_string(item, "sk")?.strip_prefix("delivery#")?).ok()?))
}

fn read_progress(item: &Item) -> Option<(EventKey, DestinationName, Progress)> {
    let (key, destination) = read_delivery_key(item)?;
    let progress = Progress {
        status: read_string(item, "status").and_then(Status::parse),
        generation: read_millis(item, "generation")?,
        lease_until: read_millis(item, "lease_until"),
        next_at: read_millis(item, "next_at"),
        has_entry: item.contains_key("attention_pk"),
    };
    Some((key, destination, progress))
}
