//! Waiting: what nobody works on, and when somebody must look at it.
//!
//! A delivery that waits for long, or that somebody may have forgotten, has one *entry* in the index `attention`, which is sorted by
//! when somebody must look. A worker, the auditor or the dispatcher moves the entry when it acts; only a final state takes it away. So a worker that
//! died, a message that was lost and a dispatcher that was off are all found through the same entry.
//!
//! | who stands there | partition of the index | sorted by |
//! | --- | --- | --- |
//! | a delivery that waits | `wait#{destination}#{shard}` | when somebody must look |
//! | one whose credentials were refused, which goes last | `wait#{destination}#last` | the same |
//! | a dead delivery | `dead#{destination}#{shard}` | when it died |
//! | a destination to which something may wait: the *register* | `waiting` | its name |
//!
//! The index has keys alone, so that a claim, which changes nothing of them, costs nothing there. A read of it may be old, so every item is read again
//! from the table, and written on the condition that it has not changed.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::{
    operation::put_item::PutItemError,
    types::{AttributeValue, Select},
};
use futures::future::try_join_all;

use super::{
    DestinationState, Ledger, LedgerError, SHARDS, Status,
    attributes::{Item, millis, number, read_millis, read_number, read_string, seconds, string},
    audit::read_delivery_key,
    delivery_key,
    destination::{read_state, state_key},
    event::shard,
};
use crate::{doorbell::Doorbell, event::EventKey, names::DestinationName, time::Timestamp};

/// For how long after the end of a wait its destination stays registered at least, in seconds.
pub const REGISTERED_SECONDS_MIN: u64 = 60 * 60;
/// For how long after the end of a wait its destination is registered anew, in seconds: so it is written at most once an hour.
pub const REGISTERED_SECONDS: u64 = 2 * 60 * 60;
/// How long after a delivery was rung for somebody must look again, in seconds; twice as long after each further time.
pub const LOOK_AGAIN_SECONDS: u64 = 15 * 60;
/// How long at the most, in seconds.
pub const LOOK_AGAIN_SECONDS_MAX: u64 = 6 * 60 * 60;
/// Most entries of one destination that are counted for a person; the price is one read unit for some 60 of them.
pub const COUNTED_MAX: usize = 100_000;

/// Entries of a partition that are read beyond those that are wanted: the index may have those of others still.
const PASSED_OVER_MAX: usize = 100;
/// Deliveries that are read together at the least: one call takes a hundred.
const READ_TOGETHER_MIN: usize = 10;

/// The register's partition of the index.
const REGISTER: &str = "waiting";

/// What is read of a delivery in order to ring for it.
const RUNG_ATTRIBUTES: [&str; 9] =
    ["pk", "sk", "attention_pk", "attention_sk", "looks", "status", "replay", "next_at", "lease_until"];

/// Where a delivery stands in the index `attention`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) partition: String,
    pub(super) sort_key: String,
}

impl Entry {
    /// Of one that waits.
    pub(super) fn new(key: &EventKey, destination: &DestinationName, look_at: Timestamp) -> Self {
        Self { partition: wait_partition(destination, &shard(&key.event_id).to_string()), sort_key: sort_key(look_at, key) }
    }

    /// Of one that goes after all others of its destination.
    pub(super) fn last(key: &EventKey, destination: &DestinationName, look_at: Timestamp) -> Self {
        Self { partition: wait_partition(destination, LAST), sort_key: sort_key(look_at, key) }
    }

    /// Of one that is dead.
    pub(super) fn dead(key: &EventKey, destination: &DestinationName, died_at: Timestamp) -> Self {
        let (dead, shard) = (Status::Dead.as_str(), shard(&key.event_id));
        Self { partition: format!("{dead}#{destination}#{shard}"), sort_key: sort_key(died_at, key) }
    }
}

/// The shard of those who go last.
const LAST: &str = "last";

fn wait_partition(destination: &DestinationName, shard: &str) -> String {
    format!("wait#{destination}#{shard}")
}

fn sort_key(moment: Timestamp, key: &EventKey) -> String {
    format!("{:013}#{key}", moment.millis())
}

/// When somebody must look at a delivery, if it waits.
pub(super) fn read_look_at(item: &Item) -> Option<Timestamp> {
    read_string(item, "attention_pk").filter(|partition| partition.starts_with("wait#"))?;
    look_at_of(read_string(item, "attention_sk")?)
}

fn look_at_of(sort_key: &str) -> Option<Timestamp> {
    sort_key.split_once('#')?.0.parse().ok().map(Timestamp::from_millis)
}

/// A delivery whose entry says that somebody must look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// What brings it on.
    pub doorbell: Doorbell,
    /// When somebody must look.
    pub look_at: Timestamp,
    /// Not before: when it is to ring.
    pub next_at: Timestamp,
    /// While somebody works on it: until when, at the latest.
    pub held_until: Option<Timestamp>,
    entry: String,
    looks: u32,
}

/// The deliveries of a destination that are due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueAtDestination {
    /// The oldest of them.
    pub deliveries: Vec<Due>,
    /// Whether there are more.
    pub has_more: bool,
    /// Whether the index has nothing that is due.
    pub is_empty: bool,
}

/// How much waits for a destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitingCount {
    /// Deliveries that wait, at most about [`COUNTED_MAX`].
    pub deliveries: usize,
    /// When somebody must look at the first of them.
    pub first_at: Option<Timestamp>,
}

impl Ledger {
    /// Registers a destination, before a delivery to it is written down as waiting until `until`: the dispatcher looks only at those
    /// that are. `seen` is its state as it was read; nothing is written while that is registered for long enough. It is only ever
    /// raised, so two who do it at the same time do no harm.
    pub async fn register(
        &self,
        destination: &DestinationName,
        seen: &DestinationState,
        until: Timestamp,
    ) -> Result<(), LedgerError> {
        let needed = until.plus(Duration::from_secs(REGISTERED_SECONDS_MIN));
        if seen.waiting_until.is_some_and(|registered| registered >= needed) {
            return Ok(());
        }
        let until = until.plus(Duration::from_secs(REGISTERED_SECONDS));
        let update = self.update_destination(destination, "state");
        let update = update
            .update_expression("SET waiting_until = :until, attention_pk = :register, attention_sk = :name")
            .condition_expression("attribute_not_exists(waiting_until) OR waiting_until < :until")
            .expression_attribute_values(":until", millis(until))
            .expression_attribute_values(":register", string(REGISTER))
            .expression_attribute_values(":name", string(destination.as_str()));
        self.change(update).await.map(drop)
    }

    /// Takes a destination out of the register, if its state is still as it was `seen` and nothing keeps it from being tried.
    pub async fn unregister(&self, destination: &DestinationName, seen: &DestinationState) -> Result<(), LedgerError> {
        let Some(until) = seen.waiting_until else { return Ok(()) };
        let update = self.update_destination(destination, "state");
        let update = update
            .update_expression("REMOVE waiting_until, attention_pk, attention_sk, per_look, looked_at, bounced_at")
            .condition_expression("waiting_until = :until AND attribute_not_exists(paused_at)")
            .expression_attribute_values(":until", millis(until));
        self.change(update).await.map(drop)
    }

    /// The destinations to which something may wait, in the order of their names. The index lags behind the table.
    pub async fn registered(&self) -> Result<Vec<DestinationName>, LedgerError> {
        let query = self.client.query().table_name(&self.table).index_name("attention");
        let mut pages = query
            .key_condition_expression("attention_pk = :register")
            .expression_attribute_values(":register", string(REGISTER))
            .into_paginator()
            .items()
            .send();
        let mut names = Vec::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(|error| LedgerError::of(&error))?;
            names.extend(read_string(&item, "attention_sk").and_then(|name| DestinationName::parse(name).ok()));
        }
        Ok(names)
    }

    /// The states of these destinations; of one that has none, nothing is known. Eventually consistent reads.
    pub async fn destination_states(
        &self,
        names: Vec<DestinationName>,
    ) -> Result<Vec<(DestinationName, DestinationState)>, LedgerError> {
        let keys = names.iter().map(|name| state_key(name, "state")).collect();
        let items = self.batch_get(keys, &[]).await?;
        let known: HashMap<_, _> = items.iter().filter_map(|item| Some((read_string(item, "pk")?, item))).collect();
        let state = |name: &DestinationName| {
            known.get(format!("destination#{name}").as_str()).map_or_else(DestinationState::default, |item| read_state(item))
        };
        Ok(names.into_iter().map(|name| (name.clone(), state(&name))).collect())
    }

    /// Deliveries to a destination at which somebody must look before `until`, the oldest first and at most `limit` of them. Those
    /// who go last come only when nobody else is there. Entries that the table no longer has are passed over, so that they hide nobody.
    pub async fn due(
        &self,
        destination: &DestinationName,
        until: Timestamp,
        limit: usize,
    ) -> Result<DueAtDestination, LedgerError> {
        let most = limit + PASSED_OVER_MAX;
        let of_shard = |shard: String| self.entries(wait_partition(destination, &shard), Some(until), most);
        let shards = try_join_all((0..SHARDS).map(|shard| of_shard(shard.to_string()))).await?;
        let mut entries: Vec<Item> = shards.into_iter().flatten().collect();
        if entries.is_empty() {
            entries = of_shard(LAST.to_owned()).await?;
        }
        entries.sort_by_cached_key(|entry| read_string(entry, "attention_sk").unwrap_or_default().to_owned());
        let is_empty = entries.is_empty();
        let mut due = DueAtDestination { is_empty, ..DueAtDestination::default() };
        let mut left = &entries[..entries.len().min(most)];
        while due.deliveries.len() < limit && !left.is_empty() {
            let (now, later) = left.split_at(left.len().min((limit - due.deliveries.len()).max(READ_TOGETHER_MIN)));
            let mut found = self.still_due(now).await?;
            // More than one was wanted to be read together, for the price of one call.
            due.has_more |= found.len() > limit - due.deliveries.len();
            found.truncate(limit - due.deliveries.len());
            due.deliveries.extend(found);
            left = later;
        }
        due.has_more |= !left.is_empty() || entries.len() > most;
        Ok(due)
    }

    /// Those of these entries that the table has as the index has them.
    async fn still_due(&self, entries: &[Item]) -> Result<Vec<Due>, LedgerError> {
        let keys = entries.iter().map(|entry| {
            let key = ["pk", "sk"].into_iter().filter_map(|name| Some((name.to_owned(), entry.get(name)?.clone())));
            key.collect::<Item>()
        });
        let items = self.batch_get(keys.collect(), &RUNG_ATTRIBUTES).await?;
        let known: HashMap<_, _> = items.iter().map(|item| ((read_string(item, "pk"), read_string(item, "sk")), item)).collect();
        let same = ["attention_pk", "attention_sk"];
        let still = entries.iter().filter_map(|entry| {
            let item = known.get(&(read_string(entry, "pk"), read_string(entry, "sk")))?;
            same.iter().all(|name| item.get(*name) == entry.get(*name)).then(|| read_due(item))?
        });
        Ok(still.collect())
    }

    /// Whether nothing waits for a destination, as the index has it.
    pub async fn nothing_waits(&self, destination: &DestinationName) -> Result<bool, LedgerError> {
        let shards = all_shards().map(|shard| self.entries(wait_partition(destination, &shard), None, 1));
        Ok(try_join_all(shards).await?.iter().all(Vec::is_empty))
    }

    /// How much waits for a destination, as the index has it.
    pub async fn count_waiting(&self, destination: &DestinationName) -> Result<WaitingCount, LedgerError> {
        let mut count = WaitingCount::default();
        for shard in all_shards() {
            let partition = wait_partition(destination, &shard);
            let first = self.entries(partition.clone(), None, 1).await?;
            let first_at = first.first().and_then(|entry| look_at_of(read_string(entry, "attention_sk")?));
            count.first_at = [count.first_at, first_at].into_iter().flatten().min();
            count.deliveries += self.count_entries(partition, COUNTED_MAX.saturating_sub(count.deliveries)).await?;
        }
        Ok(count)
    }

    /// Moves the entry of a delivery that was rung for, if it is still the same: somebody must look again if nothing comes of it.
    pub async fn look_again(&self, due: &Due, now: Timestamp) -> Result<(), LedgerError> {
        let wait = LOOK_AGAIN_SECONDS.saturating_mul(2_u64.saturating_pow(due.looks)).min(LOOK_AGAIN_SECONDS_MAX);
        self.move_entry(due, due.next_at.max(now).plus(Duration::from_secs(wait)), due.looks.saturating_add(1)).await
    }

    /// Moves the entry of a delivery that somebody works on to when that is over at the latest.
    pub async fn look_when_held_no_more(&self, due: &Due, until: Timestamp) -> Result<(), LedgerError> {
        self.move_entry(due, until, due.looks).await
    }

    async fn move_entry(&self, due: &Due, look_at: Timestamp, looks: u32) -> Result<(), LedgerError> {
        let key = due.doorbell.event_key();
        let (pk, sk) = delivery_key(&key, &due.doorbell.destination);
        let update = self.client.update_item().table_name(&self.table).key("pk", pk).key("sk", sk);
        // A worker that acted on it meanwhile has moved it, or taken it away.
        let update = update
            .update_expression("SET attention_sk = :entry, looks = :looks")
            .condition_expression("attention_sk = :seen AND #status IN (:waiting, :processing)")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":entry", string(sort_key(look_at, &key)))
            .expression_attribute_values(":looks", number(looks.into()))
            .expression_attribute_values(":seen", string(&due.entry))
            .expression_attribute_values(":waiting", string(Status::Waiting.as_str()))
            .expression_attribute_values(":processing", string(Status::Processing.as_str()));
        self.change(update).await.map(drop)
    }

    /// Gives an entry to a delivery that nobody has ever claimed, which gets an item by that: it waits, and is due since its event was
    /// received. A worker that claimed it meanwhile keeps it.
    pub async fn attend_unclaimed(
        &self,
        doorbell: &Doorbell,
        received_at: Timestamp,
        expires_at: Timestamp,
    ) -> Result<bool, LedgerError> {
        let key = doorbell.event_key();
        let entry = Entry::new(&key, &doorbell.destination, received_at);
        let (pk, sk) = delivery_key(&key, &doorbell.destination);
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let item = Item::from([
            ("pk".to_owned(), pk),
            ("sk".to_owned(), sk),
            ("status".to_owned(), text(Status::Waiting.as_str())),
            ("generation".to_owned(), millis(received_at)),
            ("replay".to_owned(), number(doorbell.replay.into())),
            ("owner".to_owned(), text("auditor")),
            ("expires_at".to_owned(), seconds(expires_at)),
            ("next_at".to_owned(), millis(received_at)),
            ("error_class".to_owned(), text(UNCLAIMED.0)),
            ("last_error".to_owned(), text(UNCLAIMED.1)),
            ("attention_pk".to_owned(), string(entry.partition)),
            ("attention_sk".to_owned(), string(entry.sort_key)),
        ]);
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item));
        // What an expired event of the same id left behind is not this event's.
        let put = put
            .condition_expression("attribute_not_exists(pk) OR generation < :generation")
            .expression_attribute_values(":generation", millis(received_at));
        match put.send().await.map_err(|error| error.into_service_error()) {
            Ok(_) => Ok(true),
            Err(PutItemError::ConditionalCheckFailedException(_)) => Ok(false),
            Err(error) => Err(LedgerError::of(&error)),
        }
    }

    /// Gives an entry to a delivery that somebody has claimed and that has none. One that has one, or is over, is left as it is.
    pub async fn attend_claimed(
        &self,
        doorbell: &Doorbell,
        received_at: Timestamp,
        look_at: Timestamp,
    ) -> Result<bool, LedgerError> {
        let key = doorbell.event_key();
        let entry = Entry::new(&key, &doorbell.destination, look_at);
        let (pk, sk) = delivery_key(&key, &doorbell.destination);
        let update = self.client.update_item().table_name(&self.table).key("pk", pk).key("sk", sk);
        let update = update
            .update_expression("SET attention_pk = :partition, attention_sk = :entry")
            .condition_expression(
                "generation = :generation AND attribute_not_exists(attention_pk) AND #status IN (:waiting, :processing)",
            )
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":partition", string(entry.partition))
            .expression_attribute_values(":entry", string(entry.sort_key))
            .expression_attribute_values(":generation", millis(received_at))
            .expression_attribute_values(":waiting", string(Status::Waiting.as_str()))
            .expression_attribute_values(":processing", string(Status::Processing.as_str()));
        Ok(self.change(update).await?.is_ok())
    }

    /// The first entries of a partition at which somebody must look before `until`, or of all.
    async fn entries(&self, partition: String, until: Option<Timestamp>, limit: usize) -> Result<Vec<Item>, LedgerError> {
        let query = self.client.query().table_name(&self.table).index_name("attention");
        let query = query.expression_attribute_values(":partition", string(partition));
        let query = match until {
            Some(until) => query
                .key_condition_expression("attention_pk = :partition AND attention_sk < :until")
                .expression_attribute_values(":until", string(format!("{:013}", until.millis()))),
            None => query.key_condition_expression("attention_pk = :partition"),
        };
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let answer = query.limit(limit).send().await.map_err(|error| LedgerError::of(&error))?;
        Ok(answer.items.unwrap_or_default())
    }

    async fn count_entries(&self, partition: String, most: usize) -> Result<usize, LedgerError> {
        let query = self.client.query().table_name(&self.table).index_name("attention").select(Select::Count);
        let query = query
            .key_condition_expression("attention_pk = :partition")
            .expression_attribute_values(":partition", string(partition));
        let mut pages = query.into_paginator().send();
        let mut count = 0;
        while count < most
            && let Some(page) = pages.next().await
        {
            count += usize::try_from(page.map_err(|error| LedgerError::of(&error))?.count()).unwrap_or_default();
        }
        Ok(count)
    }
}

/// Class and words of a delivery that nobody had claimed when the auditor came.
const UNCLAIMED: (&str, &str) = ("unclaimed", "no worker had claimed it when the auditor looked");

fn all_shards() -> impl Iterator<Item = String> {
    (0..SHARDS).map(|shard| shard.to_string()).chain([LAST.to_owned()])
}

fn read_due(item: &Item) -> Option<Due> {
    let (key, destination) = read_delivery_key(item)?;
    let count = |name| read_number(item, name).and_then(|count| u32::try_from(count).ok()).unwrap_or_default();
    let entry = read_string(item, "attention_sk")?.to_owned();
    let look_at = look_at_of(&entry)?;
    let is_held = read_string(item, "status") == Some(Status::Processing.as_str());
    Some(Due {
        doorbell: Doorbell { replay: count("replay"), ..Doorbell::first(&key, &destination) },
        look_at,
        next_at: read_millis(item, "next_at").unwrap_or(look_at),
        held_until: read_millis(item, "lease_until").filter(|_| is_held),
        entry,
        looks: count("looks"),
    })
}
