//! Quarantine: what came beside an event and is none itself, until its source's policy or a person makes it one.
//!
//! A *conflict* is another body under an event's id; a *replay* is what was signed for an event, under another id or
//! another type, or with another part that is not signed. Whatever makes
//! one of them an event does so through [`Ledger::accept`]: the event comes first, under an id of its own that follows from the
//! id and the body, and only then is it taken out of quarantine. After a crash between the two it can be accepted again, and is
//! the same event.
//!
//! What is in quarantine stands in the sparse index `attention`, as deliveries in trouble do, so that it is found without a scan.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
};

use aws_sdk_dynamodb::operation::{delete_item::DeleteItemError, put_item::PutItemError};
use sha2::{Digest, Sha256};

use super::{
    ContentTypes, Delivery, Ledger, LedgerError, SHARDS, SignedContent,
    attributes::{Item, binary, millis, number, projection, read_binary, read_millis, read_number, read_string, seconds, string},
    audit::{read_delivery_key, read_event_key},
    content::Owner,
    delivery::read_delivery,
    event::{event_item, put_body, read_bodiless, read_body, read_event, shard},
};
use crate::{
    bodies::StoredBody,
    event::{BodyDigest, Event, EventKey},
    names::{DestinationName, EventId, SourceName},
    time::Timestamp,
};

/// The attributes of an event or of what is in quarantine, without its body.
const BODILESS: [&str; 17] = [
    "pk",
    "sk",
    "type",
    "received_at",
    "occurred_at",
    "headers",
    "body_bytes",
    "sha256",
    "compared_sha256",
    "part",
    "key_id",
    "destinations",
    "expires_at",
    "content_sha256",
    "content_expires_at",
    "content_types",
    "event_id",
];

/// How many replays of one event are kept: whoever has captured a webhook can make up any number of them.
pub const REPLAYS_KEPT_MAX: u8 = 8;

/// Why something is in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Another body came under an event's id.
    Conflict,
    /// What was signed for an event came again, and differs in what is not signed: its id, its type, or a part of its body.
    Replay,
}

impl Kind {
    /// Its word in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Replay => "replay",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Something in quarantine. Its body is read apart, by [`Ledger::quarantined_body`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Why it is there.
    pub kind: Kind,
    /// The event that it is kept beside.
    pub first: EventKey,
    /// What came, under the id that it came with.
    pub event: Event,
    /// What was signed, where the signature does not cover the event's id.
    pub content: Option<SignedContent>,
}

/// Something in quarantine and the event that it is kept beside, if that has not expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The event.
    pub first: Option<Event>,
    /// What came later.
    pub second: Quarantined,
}

/// The answer of [`Ledger::accept`] and [`Ledger::accept_quarantined`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// It is an event now.
    New(Box<Event>),
    /// It was one already.
    Seen {
        /// That event: of its own, or another one that has what was signed.
        event_id: EventId,
        /// As in [`super::Recorded::Seen`].
        unclaimed: Vec<DestinationName>,
    },
    /// An event with another body has the id that it would have. Who made that id up knew id and body beforehand.
    Taken(EventId),
}

/// A delivery as it is shown to a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryReport {
    /// Where it goes.
    pub destination: DestinationName,
    /// How it stands.
    pub delivery: Delivery,
    /// The class and the words of its last error.
    pub last_error: Option<(String, String)>,
    /// In which other way than by arriving it is done, as `skipped`.
    pub done_as: Option<String>,
}

impl Ledger {
    /// Keeps another body of an event id, in quarantine. The same body again is one conflict, so this may overwrite itself.
    pub async fn quarantine_conflict(
        &self,
        event: &Event,
        body: &StoredBody,
        content: Option<SignedContent>,
    ) -> Result<(), LedgerError> {
        put_body(body).await?;
        let item = quarantined_item(Kind::Conflict, &event.key, event, Some(body), content);
        self.put(item).await
    }

    /// Keeps what came under the id of an event that is known by what was signed, and is not the same to the byte: a replay of it. Whether
    /// there was room.
    pub async fn keep_replay(&self, event: &Event, body: &StoredBody) -> Result<bool, LedgerError> {
        self.quarantine_replay(event, Some(body), &event.key).await
    }

    /// Keeps a replay beside the first, in quarantine, if there is room: it may be its sender's after all. The same one again
    /// is there already; of those under one id, the first is kept. It has no body where that is the first's.
    pub(super) async fn quarantine_replay(
        &self,
        event: &Event,
        body: Option<&StoredBody>,
        first: &EventKey,
    ) -> Result<bool, LedgerError> {
        if let Some(body) = body {
            // Its body may be large, and whoever has captured the first can send any number: so it is looked for before it is written.
            let get = self.client.get_item().table_name(&self.table);
            let get = get.set_key(Some(item_key(first.to_string(), sort_key(Kind::Replay, event))));
            let get = get.projection_expression("expires_at, event_id");
            let there = get.send().await.map_err(|error| LedgerError::of(&error))?.item;
            let is_there = |item: &Item| read_number(item, "expires_at").is_some_and(|at| event.received_at.seconds() < at);
            if let Some(item) = there.filter(is_there) {
                return Ok(read_string(&item, "event_id") == Some(event.key.event_id.as_str()));
            }
            put_body(body).await?;
        }
        // What was signed stays the first's, whatever becomes of this one.
        let item = quarantined_item(Kind::Replay, first, event, body, None);
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item));
        let put = put
            .condition_expression("attribute_not_exists(pk) OR event_id = :event_id OR expires_at <= :now")
            .expression_attribute_values(":event_id", string(event.key.event_id.as_str()))
            .expression_attribute_values(":now", seconds(event.received_at));
        match put.send().await.map_err(|error| error.into_service_error()) {
            Ok(_) => Ok(true),
            Err(PutItemError::ConditionalCheckFailedException(_)) => Ok(false),
            Err(error) => Err(LedgerError::of(&error)),
        }
    }

    /// Makes a body that is not the event of its id, or not of its content, an event of its own, received now: the one way in
    /// which that happens. Its id is [`EventKey::beside`], so that doing it twice is one event. With `content`, what was signed is
    /// that event's from then on, so that the same under yet another id is its replay.
    ///
    /// Nothing is rung; what is forgotten, the auditor finds.
    pub async fn accept(
        &self,
        event: &Event,
        body: &StoredBody,
        content: Option<SignedContent>,
        now: Timestamp,
    ) -> Result<Acceptance, LedgerError> {
        let event = accepted(event, now);
        let owner = match content {
            Some(content) => self.owner_of_content(&event, content).await?,
            None => Owner::Claimed(String::new()),
        };
        match owner {
            Owner::Event(owner, item) if owner != event.key => {
                let unclaimed = self.unclaimed(&read_bodiless(&owner, &item)?).await?;
                return Ok(Acceptance::Seen { event_id: owner.event_id, unclaimed });
            }
            Owner::Expired(owner) if owner != event.key => {
                return Ok(Acceptance::Seen { event_id: owner.event_id, unclaimed: Vec::new() });
            }
            _ => {}
        }
        let Some(item) = self.put_event(&event, body, content).await? else { return Ok(Acceptance::New(Box::new(event))) };
        let (found, _) = read_event(&event.key, &item)?;
        if found.compared() != event.compared() {
            return Ok(Acceptance::Taken(event.key.event_id));
        }
        Ok(Acceptance::Seen { unclaimed: self.unclaimed(&found).await?, event_id: event.key.event_id })
    }

    /// Makes what is in quarantine an event of its own, and takes it out of there after that.
    pub async fn accept_quarantined(
        &self,
        second: &Quarantined,
        body: &StoredBody,
        now: Timestamp,
    ) -> Result<Acceptance, LedgerError> {
        let later = now.since(second.event.received_at);
        // What was signed is remembered for as long from now on as it would have been from when it came.
        let content = second.content.map(|content| SignedContent { expires_at: content.expires_at.plus(later), ..content });
        let acceptance = self.accept(&second.event, body, content, now).await?;
        if !matches!(acceptance, Acceptance::Taken(_)) {
            self.remove_quarantined(second).await?;
        }
        Ok(acceptance)
    }

    /// Takes something out of quarantine. If it is gone, or another one has come in its place, nothing happens.
    pub async fn remove_quarantined(&self, second: &Quarantined) -> Result<(), LedgerError> {
        let delete = self.client.delete_item().table_name(&self.table).set_key(Some(second.item_key()));
        let delete = delete
            .condition_expression("sha256 = :sha256")
            .expression_attribute_values(":sha256", binary(second.event.sha256.as_bytes()));
        match delete.send().await.map_err(|error| error.into_service_error()) {
            Ok(_) | Err(DeleteItemError::ConditionalCheckFailedException(_)) => Ok(()),
            Err(error) => Err(LedgerError::of(&error)),
        }
    }

    /// What is in quarantine, of one source or of all, the oldest first and at most `limit`, each with its event. The index lags
    /// behind the table, usually by milliseconds.
    pub async fn quarantined(
        &self,
        kind: Kind,
        source: Option<&SourceName>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Pair>, LedgerError> {
        let shards = (0..SHARDS).map(|shard| self.quarantined_of_shard(kind, source, shard, limit));
        let mut found: Vec<Indexed> = futures::future::try_join_all(shards).await?.into_iter().flatten().collect();
        found.sort();
        found.truncate(limit);
        let firsts: BTreeSet<(String, String)> = found.iter().map(|found| (found.pk.clone(), "event".to_owned())).collect();
        let seconds = found.iter().map(|found| (found.pk.clone(), found.sk.clone()));
        let keys = seconds.chain(firsts).map(|(pk, sk)| item_key(pk, sk)).collect();
        let mut items = HashMap::new();
        for item in self.batch_get(keys, &BODILESS).await? {
            if let (Some(pk), Some(sk)) = (read_string(&item, "pk"), read_string(&item, "sk")) {
                items.insert((pk.to_owned(), sk.to_owned()), item);
            }
        }
        let mut pairs = Vec::new();
        for Indexed { pk, sk, .. } in found {
            // Resolved since it was found in the index.
            let Some(item) = items.get(&(pk.clone(), sk)) else { continue };
            let second = read_quarantined(item)?;
            if is_over(&second.event, now) {
                continue;
            }
            let first = items.get(&(pk, "event".to_owned())).map(|item| read_bodiless(&second.first, item)).transpose()?;
            pairs.push(Pair { first: first.filter(|first| !is_over(first, now)), second });
        }
        Ok(pairs)
    }

    /// What is in quarantine beside an event. A strongly consistent read.
    pub async fn quarantined_beside(&self, key: &EventKey, now: Timestamp) -> Result<Vec<Quarantined>, LedgerError> {
        let mut found = Vec::new();
        for kind in [Kind::Conflict, Kind::Replay] {
            for item in self.items_under(key, &format!("{kind}#"), &BODILESS).await? {
                found.push(read_quarantined(&item)?);
            }
        }
        found.retain(|second| !is_over(&second.event, now));
        Ok(found)
    }

    /// The body of something in quarantine, if it is still there. A strongly consistent read.
    pub async fn quarantined_body(&self, second: &Quarantined) -> Result<Option<StoredBody>, LedgerError> {
        let get = self.client.get_item().table_name(&self.table).consistent_read(true).set_key(Some(second.item_key()));
        let Some(item) = get.send().await.map_err(|error| LedgerError::of(&error))?.item else { return Ok(None) };
        // A replay of the same id with another body comes in the place of the one before.
        if read_quarantined(&item)?.event.sha256 != second.event.sha256 {
            return Ok(None);
        }
        if let Some(body) = read_body(&item) {
            return Ok(Some(body));
        }
        // It is the first's, which may have expired before.
        let get = self.client.get_item().table_name(&self.table).consistent_read(true);
        let get = get.set_key(Some(item_key(second.first.to_string(), "event".to_owned())));
        let first = get.send().await.map_err(|error| LedgerError::of(&error))?.item;
        let is_same = |first: &Item| read_binary(first, "sha256") == Some(second.event.sha256.as_bytes().as_slice());
        Ok(first.filter(is_same).as_ref().and_then(read_body))
    }

    /// All deliveries of an event that somebody has claimed. A strongly consistent read.
    pub async fn deliveries(&self, event: &Event) -> Result<Vec<DeliveryReport>, LedgerError> {
        let mut reports = Vec::new();
        for item in self.items_under(&event.key, "delivery#", &[]).await? {
            let delivery = read_delivery(&event.key, &item)?;
            let Some((_, destination)) = read_delivery_key(&item) else { continue };
            let text = |name| read_string(&item, name).map(str::to_owned);
            // What an expired event of the same id left behind is not this event's.
            if delivery.generation == event.received_at {
                let last_error = text("error_class").zip(text("last_error"));
                reports.push(DeliveryReport { destination, delivery, last_error, done_as: text("done_as") });
            }
        }
        Ok(reports)
    }

    async fn quarantined_of_shard(
        &self,
        kind: Kind,
        source: Option<&SourceName>,
        shard: u8,
        limit: usize,
    ) -> Result<Vec<Indexed>, LedgerError> {
        let query = self.client.query().table_name(&self.table).index_name("attention");
        let mut items = query
            .key_condition_expression("attention_pk = :shard")
            .expression_attribute_values(":shard", string(format!("{kind}#{shard}")))
            .projection_expression("pk, sk, attention_sk")
            .into_paginator()
            .items()
            .send();
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(item) = items.next().await
        {
            let item = item.map_err(|error| LedgerError::of(&error))?;
            let text = |name| read_string(&item, name).map(str::to_owned);
            let (Some(since), Some(pk), Some(sk)) = (text("attention_sk"), text("pk"), text("sk")) else { continue };
            if source.is_none_or(|source| pk.split_once('#').is_some_and(|(of, _)| of == source.as_str())) {
                found.push(Indexed { since, pk, sk });
            }
        }
        Ok(found)
    }

    /// The items under an event whose sort key begins so; all attributes if none are named.
    async fn items_under(&self, key: &EventKey, beginning: &str, attributes: &[&str]) -> Result<Vec<Item>, LedgerError> {
        let query = self.client.query().table_name(&self.table).consistent_read(true);
        let query = query
            .key_condition_expression("pk = :pk AND begins_with(sk, :beginning)")
            .expression_attribute_values(":pk", string(key.to_string()))
            .expression_attribute_values(":beginning", string(beginning));
        let query = match attributes {
            [] => query,
            attributes => {
                let (expression, names) = projection(attributes);
                query.projection_expression(expression).set_expression_attribute_names(Some(names))
            }
        };
        let mut items = query.into_paginator().items().send();
        let mut found = Vec::new();
        while let Some(item) = items.next().await {
            found.push(item.map_err(|error| LedgerError::of(&error))?);
        }
        Ok(found)
    }

    async fn put(&self, item: Item) -> Result<(), LedgerError> {
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item));
        put.send().await.map(drop).map_err(|error| LedgerError::of(&error))
    }
}

/// Where something in quarantine is, as the index has it; in the order of its coming.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Indexed {
    since: String,
    pk: String,
    sk: String,
}

impl Quarantined {
    /// The event that it becomes when it is accepted.
    pub fn accepted_key(&self) -> EventKey {
        self.event.key.beside(self.event.compared())
    }

    fn item_key(&self) -> Item {
        item_key(self.first.to_string(), sort_key(self.kind, &self.event))
    }
}

fn item_key(pk: String, sk: String) -> Item {
    Item::from([("pk".to_owned(), string(pk)), ("sk".to_owned(), string(sk))])
}

fn sort_key(kind: Kind, event: &Event) -> String {
    match kind {
        Kind::Conflict => format!("{kind}#{}", event.compared().to_hex()),
        Kind::Replay => format!("{kind}#{}", Sha256::digest(event.key.event_id.as_str())[0] % REPLAYS_KEPT_MAX),
    }
}

/// The event that is made of what came beside another: received when it is accepted, so that the audit has it, and remembered
/// for as long from then on.
fn accepted(event: &Event, now: Timestamp) -> Event {
    Event {
        key: event.key.beside(event.compared()),
        received_at: now,
        expires_at: event.expires_at.plus(now.since(event.received_at)),
        ..event.clone()
    }
}

fn quarantined_item(
    kind: Kind,
    first: &EventKey,
    event: &Event,
    body: Option<&StoredBody>,
    content: Option<SignedContent>,
) -> Item {
    let mut item = event_item(event, body, &sort_key(kind, event));
    item.extend([
        ("pk".to_owned(), string(first.to_string())),
        ("attention_pk".to_owned(), string(format!("{kind}#{}", shard(&first.event_id)))),
        ("attention_sk".to_owned(), string(format!("{:013}#{first}", event.received_at.millis()))),
    ]);
    if let Some(content) = content {
        item.insert("content_sha256".to_owned(), binary(content.sha256.as_bytes()));
        item.insert("content_expires_at".to_owned(), millis(content.expires_at));
        item.insert("content_types".to_owned(), number(content.types.to_number()));
    }
    if kind == Kind::Replay {
        item.insert("event_id".to_owned(), string(event.key.event_id.as_str()));
    }
    item
}

fn read_quarantined(item: &Item) -> Result<Quarantined, LedgerError> {
    let corrupt = || LedgerError::Corrupt {
        key: read_string(item, "pk").unwrap_or_default().to_owned(),
        reason: "its key is not that of a conflict or a replay",
    };
    let first = read_event_key(item).ok_or_else(corrupt)?;
    let (kind, _) = read_string(item, "sk").and_then(|sk| sk.split_once('#')).ok_or_else(corrupt)?;
    let kind = [Kind::Conflict, Kind::Replay].into_iter().find(|known| known.as_str() == kind).ok_or_else(corrupt)?;
    let key = match kind {
        Kind::Conflict => first.clone(),
        Kind::Replay => {
            let event_id = read_string(item, "event_id").and_then(|id| EventId::parse(id).ok()).ok_or_else(corrupt)?;
            EventKey { event_id, ..first.clone() }
        }
    };
    let content =
        read_binary(item, "content_sha256").and_then(BodyDigest::from_bytes).zip(read_millis(item, "content_expires_at"));
    let types = ContentTypes::from_number(read_number(item, "content_types").unwrap_or_default());
    let content = content.map(|(sha256, expires_at)| SignedContent { sha256, expires_at, types });
    Ok(Quarantined { kind, event: read_bodiless(&key, item)?, first, content })
}

/// TTL is lazy.
fn is_over(event: &Event, now: Timestamp) -> bool {
    event.expires_at.seconds() <= now.seconds()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::names::EventType;

    fn event(id: &str) -> Event {
        Event {
            key: EventKey { source: SourceName::parse("github").unwrap(), event_id: EventId::parse(id).unwrap() },
            event_type: EventType::parse("push").unwrap(),
            received_at: Timestamp::from_millis(1_700_000_000_123),
            occurred_at: None,
            headers: BTreeMap::new(),
            body_bytes: 6,
            sha256: BodyDigest::of(b"second"),
            compared_sha256: None,
            part: None,
            key_id: "initial".to_owned(),
            destinations: vec![DestinationName::parse("ci").unwrap()],
            expires_at: Timestamp::from_seconds(1_700_100_000),
        }
    }

    #[test]
    fn what_is_in_quarantine_reads_back_as_it_was_written_and_only_it_wants_attention() {
        let body = StoredBody::InItem(vec![1]);
        let types = ContentTypes::Unnamed(2);
        let content = SignedContent { sha256: BodyDigest::of(b"content"), expires_at: Timestamp::from_millis(7), types };
        let first = event("a#1").key;
        for (kind, event, content) in [
            (Kind::Conflict, event("a#1"), Some(content)),
            (Kind::Conflict, event("a#1"), None),
            (Kind::Replay, event("b#2"), None),
        ] {
            let item = quarantined_item(kind, &first, &event, Some(&body), content);
            assert_eq!(read_quarantined(&item).unwrap(), Quarantined { kind, first: first.clone(), event, content });
            assert_eq!(read_string(&item, "attention_pk"), Some(format!("{kind}#{}", shard(&first.event_id)).as_str()));
            assert_eq!(read_string(&item, "attention_sk"), Some("1700000000123#github#a#1"));
            assert_eq!(read_string(&item, "by_time_pk"), None, "the audit does not have it");
        }
        assert_eq!(
            read_string(&event_item(&event("a#1"), Some(&body), "event"), "attention_pk"),
            None,
            "an event costs nothing more"
        );
    }

    #[test]
    fn the_words_of_quarantine_are_those_of_no_delivery() {
        for kind in [Kind::Conflict, Kind::Replay] {
            assert_eq!(crate::ledger::Status::parse(kind.as_str()), None);
        }
    }

    #[test]
    fn an_accepted_event_lives_as_long_from_now_on_as_it_would_have_from_when_it_came() {
        let came = event("a#1");
        let now = Timestamp::from_millis(1_700_000_060_123);
        let event = accepted(&came, now);
        assert_eq!((event.received_at, event.expires_at), (now, Timestamp::from_seconds(1_700_100_060)));
        assert_eq!(event.key, came.key.beside(&came.sha256));
        assert_eq!(accepted(&came, came.received_at).expires_at, came.expires_at);
    }

    #[test]
    fn what_has_no_key_of_quarantine_is_corrupt_not_a_panic() {
        let mut item =
            quarantined_item(Kind::Conflict, &event("a").key, &event("a"), Some(&StoredBody::InItem(Vec::new())), None);
        for wrong in ["event", "delivery#ci", "other#1", "replay#"] {
            item.insert("sk".to_owned(), string(wrong));
            assert!(matches!(read_quarantined(&item), Err(LedgerError::Corrupt { .. })), "{wrong}");
        }
    }

    #[test]
    fn quarantine_ends_at_its_expiry_and_not_before() {
        let event = event("a");
        assert!(is_over(&event, event.expires_at));
        assert!(!is_over(&event, event.expires_at.minus(std::time::Duration::from_secs(1))));
    }
}
