//! What is known about a destination as a whole: whether it is paused, how it has answered lately, its rate and who is at it.
//!
//! | item | sort key | written |
//! | --- | --- | --- |
//! | pause and circuit | `state` | when it fails, when it answers again, by operators |
//! | rate | `rate` | for each delivery, where the configuration has a rate |
//! | slots | `slots` | twice for each delivery, where the configuration bounds its concurrency |
//!
//! The state is read together with the event, in the same call; of a destination without trouble there is none.

use std::{collections::HashMap, time::Duration};

use aws_sdk_dynamodb::{
    operation::update_item::{UpdateItemError, builders::UpdateItemFluentBuilder},
    types::{AttributeValue, KeysAndAttributes, ReturnValue, ReturnValuesOnConditionCheckFailure},
};

use super::{
    Ledger, LedgerError,
    attributes::{Item, millis, number, read_millis, read_number, read_string, string},
    event::read_event,
};
use crate::{
    bodies::StoredBody,
    event::{Event, EventKey},
    names::DestinationName,
    time::Timestamp,
};

/// How often what DynamoDB left unprocessed is asked for again.
const UNPROCESSED_TRIES_MAX: u32 = 4;

/// How often a moment is asked for, whose silence others end at the same time: by then it is none.
const RESERVE_TRIES_MAX: u32 = 3;

/// An event that is to be delivered, and the state of where it goes.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The event with its body; `None` if it is not there, or has expired.
    pub event: Option<(Event, StoredBody)>,
    /// Its destination.
    pub destination: DestinationState,
}

/// What is known about a destination. Without trouble, nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationState {
    /// Since when it is paused, and why.
    pub pause: Option<Pause>,
    /// How it has answered lately.
    pub circuit: Circuit,
    /// How many different events it has refused since it took one: our credentials may be wrong, or the events.
    pub refused_events: usize,
    /// While something may wait for it: until when it is registered for the dispatcher.
    pub waiting_until: Option<Timestamp>,
    /// How many deliveries that waited are sent on at the next look.
    pub per_look: Option<u32>,
    /// When that was set.
    pub looked_at: Option<Timestamp>,
    /// When a delivery that was due last had to wait again, since as many were there as may be at once.
    pub bounced_at: Option<Timestamp>,
}

/// A pause: nothing is tried until a person ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Since when.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// Whether it was a person who paused it, and not the gateway.
    pub by_person: bool,
}

/// How a destination has answered since something failed there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circuit {
    /// Since when `failures` and `successes` are counted; `None` while there is no trouble.
    pub window_at: Option<Timestamp>,
    /// Attempts that failed, since then.
    pub failures: u32,
    /// Attempts that arrived, since then.
    pub successes: u32,
    /// Attempts that failed, since the last that arrived.
    pub consecutive: u32,
    /// While it is open: until when nothing is tried. From then on one attempt at a time is, the probe.
    pub open_until: Option<Timestamp>,
    /// How often it was opened since it was last closed.
    pub openings: u32,
    /// While a probe is on its way: until when, at the latest.
    pub probe_until: Option<Timestamp>,
    /// Whether it was opened because the destination asked to be left alone for a while.
    pub was_asked: bool,
}

impl Ledger {
    /// The event of this key and the state of a destination, in one call. Strongly consistent reads.
    pub async fn load(&self, key: &EventKey, destination: &DestinationName, now: Timestamp) -> Result<Loaded, LedgerError> {
        let event_key = Item::from([("pk".to_owned(), string(key.to_string())), ("sk".to_owned(), string("event"))]);
        let state_key = state_key(destination, "state");
        let mut items = Vec::new();
        let mut keys = vec![event_key.clone(), state_key];
        for _ in 0..UNPROCESSED_TRIES_MAX {
            let request = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
            let request = request.map_err(|error| LedgerError::unbuildable(&error))?;
            let get = self.client.batch_get_item().request_items(&self.table, request);
            let answer = get.send().await.map_err(|error| LedgerError::of(&error))?;
            items.extend(answer.responses.and_then(|mut tables| tables.remove(&self.table)).unwrap_or_default());
            let left = answer.unprocessed_keys.and_then(|mut tables| tables.remove(&self.table));
            keys = left.map(|left| left.keys).unwrap_or_default();
            // A destination with so many deliveries that its state is throttled is taken for a good one.
            if !keys.contains(&event_key) {
                return read_loaded(key, &items, now);
            }
        }
        Err(LedgerError::Unavailable("BatchGetItem left the event unprocessed again and again".to_owned()))
    }

    /// The state of a destination. A strongly consistent read.
    pub async fn destination_state(&self, destination: &DestinationName) -> Result<DestinationState, LedgerError> {
        let get = self.client.get_item().table_name(&self.table).consistent_read(true);
        let answer = get.set_key(Some(state_key(destination, "state"))).send().await.map_err(|error| LedgerError::of(&error))?;
        Ok(answer.item.map_or_else(DestinationState::default, |item| read_state(&item)))
    }

    /// Pauses a destination: its deliveries wait until a person ends the pause. One that is paused already stays so since then.
    pub async fn pause(&self, destination: &DestinationName, pause: &Pause) -> Result<(), LedgerError> {
        let update = self.update_destination(destination, "state");
        let by_person = if pause.by_person { ", by_person = :yes" } else { "" };
        let update = update
            .update_expression(format!("SET paused_at = :now, reason = :reason{by_person}"))
            .condition_expression("attribute_not_exists(paused_at)")
            .expression_attribute_values(":now", millis(pause.at))
            .expression_attribute_values(":reason", string(&pause.reason));
        let update = match pause.by_person {
            true => update.expression_attribute_values(":yes", AttributeValue::Bool(true)),
            false => update,
        };
        self.change(update).await.map(drop)
    }

    /// Ends the pause of a destination, and whatever its circuit remembers, so that it is tried at once: a person says that it
    /// is mended. Whether it was paused. The dispatcher sends on what waited.
    pub async fn resume(&self, destination: &DestinationName) -> Result<bool, LedgerError> {
        let update = self.update_destination(destination, "state");
        let update = update
            .update_expression(format!("REMOVE paused_at, reason, by_person, refused, {CIRCUIT_ATTRIBUTES}"))
            .condition_expression("attribute_exists(pk)")
            .return_values(ReturnValue::AllOld);
        Ok(self.change(update).await?.is_ok_and(|before| before.contains_key("paused_at")))
    }

    /// Notes that a destination has refused an event as if our credentials were wrong. How many different ones it has refused since it took
    /// one.
    pub async fn count_refusal(&self, destination: &DestinationName, event: &EventKey) -> Result<usize, LedgerError> {
        let update = self.update_destination(destination, "state");
        let update = update
            .update_expression("ADD refused :event")
            .expression_attribute_values(":event", AttributeValue::Ss(vec![event.to_string()]))
            .return_values(ReturnValue::AllNew);
        Ok(self.change(update).await?.map(|counted| read_state(&counted).refused_events).unwrap_or_default())
    }

    /// Forgets what a destination has refused: it has taken an event.
    pub async fn forget_refusals(&self, destination: &DestinationName) -> Result<(), LedgerError> {
        let update = self.update_destination(destination, "state");
        let update = update.update_expression("REMOVE refused").condition_expression("attribute_exists(refused)");
        self.change(update).await.map(drop)
    }

    /// Counts an attempt that failed, in a window that begins anew when it began before `window_from`.
    pub async fn count_failure(
        &self,
        destination: &DestinationName,
        window_from: Timestamp,
        now: Timestamp,
    ) -> Result<Circuit, LedgerError> {
        let add = self.update_destination(destination, "state");
        let add = add
            .update_expression("ADD consecutive :one, failures :one")
            .condition_expression("window_at >= :window_from")
            .expression_attribute_values(":window_from", millis(window_from))
            .expression_attribute_values(":one", number(1))
            .return_values(ReturnValue::AllNew);
        if let Ok(counted) = self.change(add).await? {
            return Ok(read_state(&counted).circuit);
        }
        let begin = self.update_destination(destination, "state");
        let begin = begin
            .update_expression("SET window_at = :now, failures = :one REMOVE successes ADD consecutive :one")
            .expression_attribute_values(":now", millis(now))
            .expression_attribute_values(":one", number(1))
            .return_values(ReturnValue::AllNew);
        Ok(self.change(begin).await?.map(|counted| read_state(&counted).circuit).unwrap_or_default())
    }

    /// Counts an attempt that arrived while there is trouble.
    pub async fn count_success(&self, destination: &DestinationName) -> Result<(), LedgerError> {
        let update = self.update_destination(destination, "state");
        let update = update
            .update_expression("SET consecutive = :none ADD successes :one")
            .condition_expression("attribute_exists(window_at)")
            .expression_attribute_values(":none", number(0))
            .expression_attribute_values(":one", number(1));
        self.change(update).await.map(drop)
    }

    /// Opens the circuit until `until`, unless somebody has opened it since it was seen as `seen`. Whether it was opened now.
    pub async fn open_circuit(
        &self,
        destination: &DestinationName,
        seen: &Circuit,
        until: Timestamp,
    ) -> Result<bool, LedgerError> {
        let update = self.update_destination(destination, "state");
        let update = update
            .update_expression(
                "SET open_until = :until REMOVE was_asked, probe_until, probe, window_at, failures, successes, consecutive, per_look \
                 ADD openings :one",
            )
            .expression_attribute_values(":until", millis(until))
            .expression_attribute_values(":one", number(1));
        let update = match seen.open_until {
            None => update.condition_expression("attribute_not_exists(open_until)"),
            Some(seen) => update.condition_expression("open_until = :seen").expression_attribute_values(":seen", millis(seen)),
        };
        Ok(self.change(update).await?.is_ok())
    }

    /// Asks for `owner` to be the probe of a circuit whose time is over, until `until`. Whether it is granted: to one at a time.
    pub async fn take_probe(
        &self,
        destination: &DestinationName,
        seen: Timestamp,
        owner: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, LedgerError> {
        let update = self.update_destination(destination, "state");
        let update = update
            .update_expression("SET probe_until = :until, probe = :owner")
            .condition_expression("open_until = :seen AND (attribute_not_exists(probe_until) OR probe_until <= :now)")
            .expression_attribute_values(":until", millis(until))
            .expression_attribute_values(":seen", millis(seen))
            .expression_attribute_values(":owner", string(owner))
            .expression_attribute_values(":now", millis(now));
        // What it has may be what an earlier try of this very call wrote.
        Ok(self.change(update).await?.map_or_else(|found| read_string(&found, "probe") == Some(owner), |_| true))
    }

    /// The trouble is over: forgets everything about it. A pause stays.
    pub async fn close_circuit(&self, destination: &DestinationName) -> Result<(), LedgerError> {
        let update = self.update_destination(destination, "state");
        let update =
            update.update_expression(format!("REMOVE {CIRCUIT_ATTRIBUTES}")).condition_expression("attribute_exists(pk)");
        self.change(update).await.map(drop)
    }

    /// Reserves the next moment that a destination's rate allows (a token bucket, kept as the moment at which it is full again,
    /// which is the generic cell rate algorithm): one every `interval`, `burst` of them at once after a silence.
    pub async fn reserve(
        &self,
        destination: &DestinationName,
        interval: Duration,
        burst: u32,
        now: Timestamp,
    ) -> Result<Timestamp, LedgerError> {
        // `full_at` is never earlier than this, or more than `burst` would go at once.
        let floor = now.minus(interval * burst);
        for _ in 0..RESERVE_TRIES_MAX {
            let busy = self.update_destination(destination, "rate");
            let busy = busy
                .update_expression("SET full_at = full_at + :interval")
                .condition_expression("full_at >= :floor")
                .expression_attribute_values(":floor", millis(floor))
                .expression_attribute_values(":interval", number(interval.as_millis() as u64))
                .return_values(ReturnValue::AllNew);
            if let Ok(reserved) = self.change(busy).await? {
                return Ok(read_millis(&reserved, "full_at").unwrap_or(now));
            }
            let idle = self.update_destination(destination, "rate");
            let idle = idle
                .update_expression("SET full_at = :first")
                .condition_expression("attribute_not_exists(full_at) OR full_at < :floor")
                .expression_attribute_values(":floor", millis(floor))
                .expression_attribute_values(":first", millis(floor.plus(interval)));
            // If it fails, somebody else ended the silence at this moment.
            if self.change(idle).await?.is_ok() {
                return Ok(now);
            }
        }
        Err(LedgerError::Unavailable("no moment of the destination's rate could be reserved".to_owned()))
    }

    /// Takes one of a destination's `slots` for `owner` until `until`. Whether there was one; whoever asks again keeps it.
    pub async fn take_slot(
        &self,
        destination: &DestinationName,
        slots: u32,
        owner: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, LedgerError> {
        let update = self.update_destination(destination, "slots");
        // One attribute for each slot; `taken` counts them.
        let update = update
            .expression_attribute_names("#owner", slot_name(owner))
            .expression_attribute_values(":until", millis(until))
            .expression_attribute_values(":slots", number(slots.into()))
            .update_expression("SET #owner = :until ADD taken :one")
            .condition_expression("(attribute_not_exists(taken) OR taken < :slots) AND attribute_not_exists(#owner)")
            .expression_attribute_values(":one", number(1));
        let found = match self.change(update).await? {
            Ok(_) => return Ok(true),
            Err(found) => found,
        };
        if found.contains_key(&slot_name(owner)) {
            return Ok(true);
        }
        // Owners that died with it: the first of them makes room.
        let is_over =
            |value: &AttributeValue| value.as_n().is_ok_and(|until| until.parse().is_ok_and(|until: u64| until <= now.millis()));
        let Some((over, value)) = found.iter().find(|(name, value)| name.starts_with(SLOT_PREFIX) && is_over(value)) else {
            return Ok(false);
        };
        let update = self.update_destination(destination, "slots");
        let update = update.expression_attribute_names("#over", over).expression_attribute_values(":over", value.clone());
        let is_full = read_number(&found, "taken").is_some_and(|taken| taken > u64::from(slots));
        let update = match is_full {
            // There were more slots once: this one is given up.
            true => update
                .update_expression("REMOVE #over ADD taken :minus_one")
                .condition_expression("#over = :over")
                .expression_attribute_values(":minus_one", AttributeValue::N("-1".to_owned())),
            false => update
                .update_expression("SET #owner = :until REMOVE #over")
                .condition_expression("#over = :over")
                .expression_attribute_names("#owner", slot_name(owner))
                .expression_attribute_values(":until", millis(until)),
        };
        Ok(self.change(update).await?.is_ok() && !is_full)
    }

    /// Gives the slot of `owner` back, if it has one.
    pub async fn return_slot(&self, destination: &DestinationName, owner: &str) -> Result<(), LedgerError> {
        let update = self.update_destination(destination, "slots");
        let update = update
            .update_expression("REMOVE #owner ADD taken :minus_one")
            .condition_expression("attribute_exists(#owner)")
            .expression_attribute_names("#owner", slot_name(owner))
            .expression_attribute_values(":minus_one", AttributeValue::N("-1".to_owned()));
        self.change(update).await.map(drop)
    }

    pub(super) fn update_destination(&self, destination: &DestinationName, sort_key: &str) -> UpdateItemFluentBuilder {
        self.client.update_item().table_name(&self.table).set_key(Some(state_key(destination, sort_key)))
    }

    /// Changes an item under a condition: what it asked to be returned, or else what it found.
    pub(super) async fn change(&self, update: UpdateItemFluentBuilder) -> Result<Result<Item, Item>, LedgerError> {
        let update = update.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        match update.send().await.map_err(|error| error.into_service_error()) {
            Ok(answer) => Ok(Ok(answer.attributes.unwrap_or_default())),
            Err(UpdateItemError::ConditionalCheckFailedException(refused)) => Ok(Err(refused.item.unwrap_or_default())),
            Err(error) => Err(LedgerError::of(&error)),
        }
    }
}

/// What the state of a destination has of its circuit, and of how much is sent on at a look: after it was closed, that begins anew.
const CIRCUIT_ATTRIBUTES: &str =
    "window_at, failures, successes, consecutive, open_until, was_asked, openings, probe_until, probe, per_look, bounced_at";
/// How the names of slots begin.
const SLOT_PREFIX: &str = "slot_";

/// The attribute of an owner: short, since a hundred of them are in one item.
fn slot_name(owner: &str) -> String {
    let digest = crate::event::BodyDigest::of(owner.as_bytes()).to_hex();
    format!("{SLOT_PREFIX}{}", &digest[..16])
}

pub(super) fn state_key(destination: &DestinationName, sort_key: &str) -> Item {
    HashMap::from([("pk".to_owned(), string(format!("destination#{destination}"))), ("sk".to_owned(), string(sort_key))])
}

fn read_loaded(key: &EventKey, items: &[Item], now: Timestamp) -> Result<Loaded, LedgerError> {
    let of = |sort_key| items.iter().find(|item| read_string(item, "sk") == Some(sort_key));
    let event = of("event").filter(|item| read_number(item, "expires_at").is_none_or(|expires_at| now.seconds() < expires_at));
    Ok(Loaded {
        event: event.map(|item| read_event(key, item)).transpose()?,
        destination: of("state").map_or_else(DestinationState::default, read_state),
    })
}

pub(super) fn read_state(item: &Item) -> DestinationState {
    let count = |name| read_number(item, name).and_then(|count| u32::try_from(count).ok()).unwrap_or_default();
    let reason = || read_string(item, "reason").unwrap_or_default().to_owned();
    DestinationState {
        pause: read_millis(item, "paused_at").map(|at| Pause { at, reason: reason(), by_person: item.contains_key("by_person") }),
        circuit: Circuit {
            window_at: read_millis(item, "window_at"),
            failures: count("failures"),
            successes: count("successes"),
            consecutive: count("consecutive"),
            open_until: read_millis(item, "open_until"),
            openings: count("openings"),
            probe_until: read_millis(item, "probe_until"),
            was_asked: item.contains_key("was_asked"),
        },
        refused_events: item.get("refused").and_then(|value| value.as_ss().ok()).map_or(0, Vec::len),
        waiting_until: read_millis(item, "waiting_until"),
        per_look: item.contains_key("per_look").then(|| count("per_look")),
        looked_at: read_millis(item, "looked_at"),
        bounced_at: read_millis(item, "bounced_at"),
    }
}
