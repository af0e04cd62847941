//! Events: recorded once, found again, never changed.

use std::{collections::HashSet, time::Duration};

use aws_sdk_dynamodb::{
    operation::put_item::PutItemError,
    types::{AttributeValue, ReturnValuesOnConditionCheckFailure},
};
use sha2::{Digest, Sha256};

use super::{
    Ledger, LedgerError, SHARDS, SignedContent,
    attributes::{
        Item, binary, millis, number, read_binary, read_millis, read_number, read_string, read_strings, seconds, string,
    },
    content::First,
};
use crate::{
    bodies::StoredBody,
    event::{BodyDigest, Event, EventKey, Part},
    names::{DestinationName, EventId, EventType},
    time::Timestamp,
};

/// How long an event must still live, in seconds, to be taken for known before its body is put into the bucket.
const KNOWN_SECONDS_LEFT_MIN: u64 = 60;

/// The answer of [`Ledger::record`]: the moment of acceptance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Written now.
    New,
    /// Written before, with the same body, or one that differs only in what its source ignores.
    Seen {
        /// Its destinations that no worker has ever claimed: their doorbells may never have been rung.
        unclaimed: Vec<DestinationName>,
    },
    /// Written before, as another body of its event id, and made an event of its own since: [`Ledger::accept`].
    SeenBeside {
        /// The id of that event.
        event_id: EventId,
        /// As in [`Recorded::Seen`].
        unclaimed: Vec<DestinationName>,
    },
    /// Its id was written before with another body. Nothing of this one is kept yet: what becomes of it is its source's policy.
    Conflict {
        /// Of the first, as in [`Recorded::Seen`].
        unclaimed: Vec<DestinationName>,
    },
    /// What was signed is known already, and what differs is not signed: its id, its type, or a part of its body. The webhook was
    /// captured and sent again, or its sender sent the same twice under two ids.
    Replayed {
        /// The id that it is recorded under.
        first: EventId,
        /// As in [`Recorded::Seen`].
        unclaimed: Vec<DestinationName>,
        /// Whether it is in quarantine, beside the first: of each event at most [`super::REPLAYS_KEPT_MAX`] are kept.
        is_kept: bool,
    },
}

impl Ledger {
    /// Records an event in one conditional put. Once this answers, the event is durable. With `content`, a put before that
    /// one claims what was signed for this event's id.
    pub async fn record(
        &self,
        event: &Event,
        body: &StoredBody,
        content: Option<SignedContent>,
    ) -> Result<Recorded, LedgerError> {
        let claimed = match content {
            Some(content) => match self.first_of_content(event, body, content).await? {
                First::Known(known) => return Ok(known),
                First::Claimed { key } => Some((key, content)),
            },
            None => None,
        };
        let Some(first) = self.put_event(event, body, content).await? else { return Ok(Recorded::New) };
        let recorded = self.compare(event, &first).await?;
        if let (Recorded::Seen { .. }, Some((key, content))) = (&recorded, claimed) {
            self.claim_until_the_events_end(&key, event, content, &first).await?;
        }
        Ok(recorded)
    }

    /// Writes an event, unless there is one of that key which has not expired; then that one's item. A body that is for the bucket is put
    /// there before the item that points to it; that costs more than a look whether the event is known, so that is made first.
    pub(super) async fn put_event(
        &self,
        event: &Event,
        body: &StoredBody,
        content: Option<SignedContent>,
    ) -> Result<Option<Item>, LedgerError> {
        if let StoredBody::ForBucket(upload) = body
            && !upload.is_done()
        {
            // One that is about to expire could be gone when the put comes.
            let lasting = event.received_at.plus(Duration::from_secs(KNOWN_SECONDS_LEFT_MIN));
            if let Some(known) = self.find_item(&event.key, lasting).await? {
                return Ok(Some(known));
            }
        }
        put_body(body).await?;
        let mut item = event_item(event, Some(body), "event");
        if let Some(content) = content.filter(|content| content.sha256 != event.sha256) {
            item.insert("content_sha256".to_owned(), binary(content.sha256.as_bytes()));
        }
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item));
        let put = put
            .condition_expression("attribute_not_exists(pk) OR expires_at <= :now")
            .expression_attribute_values(":now", seconds(event.received_at))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match put.send().await.map_err(|error| error.into_service_error()) {
            Ok(_) => Ok(None),
            Err(PutItemError::ConditionalCheckFailedException(refused)) => Ok(Some(refused.item.unwrap_or_default())),
            Err(error) => Err(LedgerError::of(&error)),
        }
    }

    /// The event of this key, if it is there and has not expired at `now`. A strongly consistent read.
    pub async fn find(&self, key: &EventKey, now: Timestamp) -> Result<Option<(Event, StoredBody)>, LedgerError> {
        let item = self.find_item(key, now).await?;
        item.map(|item| read_event(key, &item)).transpose()
    }

    pub(super) async fn find_item(&self, key: &EventKey, now: Timestamp) -> Result<Option<Item>, LedgerError> {
        let get = self.client.get_item().table_name(&self.table).consistent_read(true);
        let get = get.key("pk", string(key.to_string())).key("sk", string("event"));
        let item = get.send().await.map_err(|error| LedgerError::of(&error))?.item;
        Ok(item.filter(|item| read_number(item, "expires_at").is_none_or(|expires_at| now.seconds() < expires_at)))
    }

    /// When the event of this key was received, if it is there and has not expired at `now`. A strongly consistent read.
    pub async fn received_at(&self, key: &EventKey, now: Timestamp) -> Result<Option<Timestamp>, LedgerError> {
        let get =
            self.client.get_item().table_name(&self.table).consistent_read(true).projection_expression("expires_at, received_at");
        let answer = get.key("pk", string(key.to_string())).key("sk", string("event")).send().await;
        let item = answer.map_err(|error| LedgerError::of(&error))?.item;
        let item = item.filter(|item| read_number(item, "expires_at").is_some_and(|expires_at| now.seconds() < expires_at));
        Ok(item.and_then(|item| read_millis(&item, "received_at")))
    }

    pub(super) async fn compare(&self, event: &Event, first: &Item) -> Result<Recorded, LedgerError> {
        let (recorded, _) = read_event(&event.key, first)?;
        let unclaimed = self.unclaimed(&recorded).await?;
        if recorded.compared() == event.compared() {
            return Ok(Recorded::Seen { unclaimed });
        }
        Ok(self.seen_beside(event).await?.unwrap_or(Recorded::Conflict { unclaimed }))
    }

    /// Whether this body has been made an event of its own, beside the one that has its id or its content.
    pub(super) async fn seen_beside(&self, event: &Event) -> Result<Option<Recorded>, LedgerError> {
        let key = event.key.beside(event.compared());
        let Some(item) = self.find_item(&key, event.received_at).await? else { return Ok(None) };
        let (recorded, _) = read_event(&key, &item)?;
        if recorded.compared() != event.compared() {
            return Ok(None);
        }
        let unclaimed = self.unclaimed(&recorded).await?;
        Ok(Some(Recorded::SeenBeside { event_id: key.event_id, unclaimed }))
    }

    /// Destinations of `event` without a delivery of this very event: an expired one of the same id does not count.
    pub(super) async fn unclaimed(&self, event: &Event) -> Result<Vec<DestinationName>, LedgerError> {
        let query = self.client.query().table_name(&self.table).consistent_read(true);
        let query = query
            .key_condition_expression("pk = :pk AND begins_with(sk, :delivery)")
            .expression_attribute_values(":pk", string(event.key.to_string()))
            .expression_attribute_values(":delivery", string("delivery#"))
            .projection_expression("sk, generation");
        let answer = query.send().await.map_err(|error| LedgerError::of(&error))?;
        let claimed: HashSet<&str> = answer
            .items()
            .iter()
            .filter(|item| read_millis(item, "generation") == Some(event.received_at))
            .filter_map(|item| read_string(item, "sk")?.strip_prefix("delivery#"))
            .collect();
        Ok(event.destinations.iter().filter(|name| !claimed.contains(name.as_str())).cloned().collect())
    }
}

/// Puts a body into the bucket, if that is where it goes: before an item that points to it.
pub(super) async fn put_body(body: &StoredBody) -> Result<(), LedgerError> {
    match body {
        StoredBody::ForBucket(upload) => upload.put().await.map_err(|error| LedgerError::Unavailable(error.to_string())),
        StoredBody::InItem(_) | StoredBody::InBucket(_) => Ok(()),
    }
}

/// The shard of an event in the index `by_time`: by hash, so that all writers agree.
pub(super) fn shard(event_id: &EventId) -> u8 {
    Sha256::digest(event_id.as_str())[0] % SHARDS
}

/// The item of an event; without a body where that is stored with another one.
pub(super) fn event_item(event: &Event, body: Option<&StoredBody>, sort_key: &str) -> Item {
    let mut item = Item::from([
        ("pk".to_owned(), string(event.key.to_string())),
        ("sk".to_owned(), string(sort_key)),
        ("type".to_owned(), string(event.event_type.as_str())),
        ("received_at".to_owned(), millis(event.received_at)),
        ("body_bytes".to_owned(), number(event.body_bytes as u64)),
        ("sha256".to_owned(), binary(event.sha256.as_bytes())),
        ("key_id".to_owned(), string(&event.key_id)),
        ("destinations".to_owned(), AttributeValue::L(event.destinations.iter().map(|name| string(name.as_str())).collect())),
        (
            "headers".to_owned(),
            AttributeValue::M(event.headers.iter().map(|(name, value)| (name.clone(), string(value))).collect()),
        ),
        ("expires_at".to_owned(), seconds(event.expires_at)),
    ]);
    match body {
        Some(StoredBody::InItem(compressed)) => item.insert("body".to_owned(), binary(compressed)),
        Some(StoredBody::InBucket(key)) => item.insert("body_object".to_owned(), string(key)),
        Some(StoredBody::ForBucket(upload)) => item.insert("body_object".to_owned(), string(upload.key())),
        None => None,
    };
    if let Some(compared) = &event.compared_sha256 {
        item.insert("compared_sha256".to_owned(), binary(compared.as_bytes()));
    }
    if let Some(Part { start, end, list_start, list_end }) = event.part {
        let bounds = [start, end, list_start, list_end].map(|bound| number(bound as u64));
        item.insert("part".to_owned(), AttributeValue::L(bounds.into()));
    }
    if let Some(occurred_at) = event.occurred_at {
        item.insert("occurred_at".to_owned(), millis(occurred_at));
    }
    // What is in quarantine is no event: the index, and so the audit, does not have them.
    if sort_key == "event" {
        let EventKey { source, event_id } = &event.key;
        item.insert("by_time_pk".to_owned(), string(format!("{source}#{}", shard(event_id))));
        item.insert("by_time_sk".to_owned(), string(format!("{:013}#{event_id}", event.received_at.millis())));
    }
    item
}

fn read_part(part: &AttributeValue) -> Option<Part> {
    let bounds: Vec<usize> = part.as_l().ok()?.iter().map(|bound| bound.as_n().ok()?.parse().ok()).collect::<Option<_>>()?;
    let [start, end, list_start, list_end] = bounds[..] else { return None };
    (list_start <= start && start <= end && end <= list_end).then_some(Part { start, end, list_start, list_end })
}

pub(super) fn read_event(key: &EventKey, item: &Item) -> Result<(Event, StoredBody), LedgerError> {
    let body = read_body(item).ok_or_else(|| LedgerError::Corrupt { key: key.to_string(), reason: "no body" })?;
    Ok((read_bodiless(key, item)?, body))
}

pub(super) fn read_body(item: &Item) -> Option<StoredBody> {
    match (read_binary(item, "body"), read_string(item, "body_object")) {
        (Some(compressed), _) => Some(StoredBody::InItem(compressed.to_vec())),
        (None, object) => object.map(|object| StoredBody::InBucket(object.to_owned())),
    }
}

/// An event whose item may have been read without its body.
pub(super) fn read_bodiless(key: &EventKey, item: &Item) -> Result<Event, LedgerError> {
    let corrupt = |reason| LedgerError::Corrupt { key: key.to_string(), reason };
    let destinations = read_strings(item, "destinations").ok_or(corrupt("no destinations"))?;
    let headers = item.get("headers").and_then(|value| value.as_m().ok()).ok_or(corrupt("no headers"))?;
    Ok(Event {
        key: key.clone(),
        event_type: read_string(item, "type").and_then(|text| EventType::parse(text).ok()).ok_or(corrupt("no type"))?,
        received_at: read_millis(item, "received_at").ok_or(corrupt("no received_at"))?,
        occurred_at: read_millis(item, "occurred_at"),
        headers: headers.iter().filter_map(|(name, value)| Some((name.clone(), value.as_s().ok()?.clone()))).collect(),
        body_bytes: read_number(item, "body_bytes").and_then(|n| usize::try_from(n).ok()).ok_or(corrupt("no body_bytes"))?,
        sha256: read_binary(item, "sha256").and_then(BodyDigest::from_bytes).ok_or(corrupt("no sha256"))?,
        compared_sha256: read_binary(item, "compared_sha256").and_then(BodyDigest::from_bytes),
        part: item.get("part").map(|part| read_part(part).ok_or(corrupt("an unreadable part"))).transpose()?,
        key_id: read_string(item, "key_id").unwrap_or_default().to_owned(),
        destinations: destinations
            .into_iter()
            .map(DestinationName::parse)
            .collect::<Result<_, _>>()
            .map_err(|_| corrupt("a destination is no name"))?,
        expires_at: read_number(item, "expires_at").map(Timestamp::from_seconds).ok_or(corrupt("no expires_at"))?,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::names::SourceName;

    fn event() -> Event {
        Event {
            key: EventKey { source: SourceName::parse("github").unwrap(), event_id: EventId::parse("a#1").unwrap() },
            event_type: EventType::parse("push").unwrap(),
            received_at: Timestamp::from_millis(1_700_000_000_123),
            occurred_at: None,
            headers: BTreeMap::from([("content-type".to_owned(), "application/json".to_owned())]),
            body_bytes: 4,
            sha256: BodyDigest::of(b"body"),
            compared_sha256: None,
            part: None,
            key_id: "initial".to_owned(),
            destinations: vec![DestinationName::parse("ci").unwrap()],
            expires_at: Timestamp::from_seconds(1_700_100_000),
        }
    }

    #[test]
    fn an_event_reads_back_as_it_was_written() {
        for body in [StoredBody::InItem(vec![1, 2]), StoredBody::InBucket("sha256/ab".to_owned())] {
            let item = event_item(&event(), Some(&body), "event");
            assert_eq!(read_event(&event().key, &item).unwrap(), (event(), body));
        }
    }

    #[test]
    fn the_index_sorts_by_time_and_a_conflict_is_not_in_it() {
        let body = StoredBody::InItem(Vec::new());
        let item = event_item(&event(), Some(&body), "event");
        assert_eq!(read_string(&item, "by_time_sk"), Some("1700000000123#a#1"));
        assert!(read_string(&item, "by_time_pk").unwrap().starts_with("github#"));
        assert_eq!(read_string(&event_item(&event(), Some(&body), "conflict#00"), "by_time_pk"), None);
    }

    #[test]
    fn every_shard_is_used_and_none_beyond() {
        let shards: HashSet<u8> = (0..200).map(|n| shard(&EventId::parse(&n.to_string()).unwrap())).collect();
        assert_eq!(shards.len(), usize::from(SHARDS));
        assert!(shards.iter().all(|shard| *shard < SHARDS));
    }

    #[test]
    fn an_item_without_its_parts_is_corrupt_not_a_panic() {
        let error = read_event(&event().key, &Item::new()).unwrap_err();
        assert!(error.to_string().contains("github#a#1"), "{error}");
    }
}
