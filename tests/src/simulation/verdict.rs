//! What must hold after every history, read from the ledger's items, the queues and the destination's journal.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use auditor::{Account, Standing};
use shared::{
    doorbell::Doorbell,
    event::BodyDigest,
    ledger::{Status, audit::Progress},
    time::Timestamp,
};

use super::{
    plan::{Plan, Webhook},
    world::{self, Outcome},
};
use crate::model::{Aws, Item, Number, Value};

/// An event's item.
#[derive(Clone, Debug)]
pub(super) struct EventItem {
    pub(super) key: String,
    pub(super) received_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) sha256: Vec<u8>,
    pub(super) destinations: Vec<String>,
}

/// A delivery's item.
#[derive(Clone, Debug)]
pub(super) struct DeliveryItem {
    pub(super) event: String,
    pub(super) destination: String,
    pub(super) status: String,
    pub(super) generation: u64,
    pub(super) replay: u64,
    pub(super) lease_until: Option<Timestamp>,
    /// When somebody must look at it, if it has an entry.
    pub(super) look_at: Option<Timestamp>,
    /// Whether something newer had arrived.
    pub(super) is_superseded: bool,
    /// When it was done.
    pub(super) done_at: Option<Timestamp>,
}

fn text<'i>(item: &'i Item, name: &str) -> Option<&'i str> {
    item.get(name)?.text()
}

fn number(item: &Item, name: &str) -> Option<u64> {
    item.get(name)?.number()
}

fn look_at(item: &Item) -> Option<Timestamp> {
    let (moment, _) = text(item, "attention_sk")?.split_once('#')?;
    moment.parse().ok().map(Timestamp::from_millis)
}

/// The destinations that are paused.
pub(super) fn paused(aws: &Aws) -> BTreeSet<String> {
    let items = aws.items(world::LEDGER);
    let states = items.iter().filter(|item| text(item, "sk") == Some("state") && item.contains_key("paused_at"));
    states.filter_map(|item| text(item, "pk")?.strip_prefix("destination#").map(str::to_owned)).collect()
}

/// Ends the pause of a destination, as the operator does.
pub(super) fn resume(aws: &Aws, destination: &str) {
    let Some(state) = aws.item(world::LEDGER, &format!("destination#{destination}"), "state") else { return };
    let kept = ["pk", "sk", "waiting_until", "attention_pk", "attention_sk"];
    let state = state.iter().filter(|(name, _)| kept.contains(&name.as_str()));
    aws.put_item(world::LEDGER, state.map(|(name, value)| (name.clone(), value.clone())).collect());
}

/// When somebody must look at the first of the deliveries whose destination is not paused, if one waits.
pub(super) fn next_look(aws: &Aws) -> Option<Timestamp> {
    let paused = paused(aws);
    let waiting = deliveries(aws).into_iter().filter(|delivery| !paused.contains(&delivery.destination));
    waiting.filter_map(|delivery| delivery.look_at).min()
}

/// The events in the ledger.
pub(super) fn events(aws: &Aws) -> Vec<EventItem> {
    let items = aws.items(world::LEDGER);
    let events = items.iter().filter(|item| text(item, "sk") == Some("event"));
    events
        .filter_map(|item| {
            let (Value::L(destinations), Value::B(sha256)) = (item.get("destinations")?, item.get("sha256")?) else {
                return None;
            };
            Some(EventItem {
                key: text(item, "pk")?.to_owned(),
                received_at: Timestamp::from_millis(number(item, "received_at")?),
                expires_at: Timestamp::from_seconds(number(item, "expires_at")?),
                sha256: sha256.clone(),
                destinations: destinations.iter().filter_map(Value::text).map(str::to_owned).collect(),
            })
        })
        .collect()
}

/// The deliveries in the ledger.
pub(super) fn deliveries(aws: &Aws) -> Vec<DeliveryItem> {
    let items = aws.items(world::LEDGER);
    items
        .iter()
        .filter_map(|item| {
            Some(DeliveryItem {
                destination: text(item, "sk")?.strip_prefix("delivery#")?.to_owned(),
                event: text(item, "pk")?.to_owned(),
                status: text(item, "status")?.to_owned(),
                generation: number(item, "generation")?,
                replay: number(item, "replay").unwrap_or_default(),
                is_superseded: text(item, "done_as") == Some("superseded"),
                done_at: number(item, "done_at").map(Timestamp::from_millis),
                lease_until: number(item, "lease_until").map(Timestamp::from_millis),
                look_at: text(item, "attention_pk")
                    .filter(|partition| partition.starts_with("wait#"))
                    .and_then(|_| look_at(item)),
            })
        })
        .collect()
}

/// Events with a delivery that is neither done nor dead.
pub(super) fn unsettled(aws: &Aws) -> Vec<EventItem> {
    let deliveries = deliveries(aws);
    let settled = |event: &EventItem, destination: &String| {
        deliveries.iter().any(|delivery| {
            delivery.event == event.key
                && delivery.destination == *destination
                && delivery.generation == event.received_at.millis()
                && matches!(delivery.status.as_str(), "done" | "dead")
        })
    };
    events(aws).into_iter().filter(|event| !event.destinations.iter().all(|destination| settled(event, destination))).collect()
}

/// Until when the auditor has accounted.
pub(super) fn watermark(aws: &Aws) -> Option<Timestamp> {
    let item = aws.item(world::LEDGER, "audit", "watermark")?;
    number(&item, "until").map(Timestamp::from_millis)
}

/// Sets the auditor's watermark.
pub(crate) fn put_watermark(aws: &Aws, until: Timestamp) {
    let string = |text: &str| Value::S(text.to_owned());
    let until = Value::N(Number::whole(until.millis().into()));
    let item = [("pk", string("audit")), ("sk", string("watermark")), ("until", until)];
    aws.put_item(world::LEDGER, item.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
}

/// Dead deliveries whose doorbell is neither in the dead-letter queue nor on its way again.
pub(super) fn dead_without_letter(aws: &Aws) -> Vec<String> {
    let letters: BTreeSet<(String, String)> = [world::DEAD_LETTERS, world::DOORBELLS]
        .into_iter()
        .flat_map(|queue| aws.messages(queue))
        .filter_map(|message| serde_json::from_str::<Doorbell>(&message.body).ok())
        .map(|doorbell| (doorbell.event_key().to_string(), doorbell.destination.to_string()))
        .collect();
    let dead = deliveries(aws).into_iter().filter(|delivery| delivery.status == "dead");
    dead.filter(|delivery| !letters.contains(&(delivery.event.clone(), delivery.destination.clone())))
        .map(|delivery| {
            format!("stuck: {} to {} is dead, and its doorbell is not in the DLQ", delivery.event, delivery.destination)
        })
        .collect()
}

/// The account of all events, by the auditor's own rules.
pub(super) fn account(aws: &Aws) -> Account {
    let deliveries = deliveries(aws);
    let mut account = Account::default();
    for event in events(aws) {
        for destination in &event.destinations {
            let of_event = |delivery: &&DeliveryItem| delivery.event == event.key && delivery.destination == *destination;
            let progress = deliveries.iter().find(of_event).map(|delivery| Progress {
                status: Status::parse(&delivery.status),
                generation: Timestamp::from_millis(delivery.generation),
                lease_until: delivery.lease_until,
                next_at: None,
                has_entry: delivery.look_at.is_some(),
            });
            account.count(Standing::of(progress.as_ref(), event.received_at));
        }
    }
    account
}

/// All that does not hold, each with one of the words `lost`, `doubled`, `stuck`, `forged`, `unbalanced`, or what was seen on the way.
pub fn judge(plan: &Plan, outcome: &Outcome) -> Vec<String> {
    let mut faults = outcome.violations.clone();
    let events = events(&outcome.aws);
    let items = outcome.aws.items(world::LEDGER);
    lost(outcome, &events, &items, &mut faults);
    settled_once(outcome, &events, &mut faults);
    in_order(plan, outcome, &events, &mut faults);
    for webhook in plan.webhooks.iter().filter(|webhook| !webhook.genuine) {
        if items.iter().any(|item| text(item, "pk").is_some_and(|key| key.ends_with(&format!("#{}", webhook.id)))) {
            faults.push(format!("forged: {} left a trace in the ledger", webhook.id));
        }
    }
    let account = &outcome.account;
    if account.unaccounted() != 0 || account.recorded != account.done {
        faults.push(format!("unbalanced: {account:?}"));
    }
    for queue in [world::DOORBELLS, world::DEAD_LETTERS] {
        let left = outcome.aws.messages(queue).len();
        if left > 0 {
            faults.push(format!("stuck: {left} messages are left in {queue}"));
        }
    }
    faults
}

/// Every webhook that was answered 2xx is in the ledger: as an event, as a conflict beside one, or as the content of one.
fn lost(outcome: &Outcome, events: &[EventItem], items: &[Arc<Item>], faults: &mut Vec<String>) {
    for (webhook, answered_at) in &outcome.accepted {
        let key = format!("{}#{}", webhook.source, webhook.id);
        let digest = BodyDigest::of(world::body_of(webhook).as_bytes());
        let alive = |event: &&EventItem| event.expires_at > *answered_at && event.sha256 == digest.as_bytes();
        let recorded = events.iter().filter(alive).any(|event| event.key == key);
        let conflict = items.iter().any(|item| {
            text(item, "pk") == Some(&key)
                && text(item, "sk").and_then(|sk| sk.strip_prefix("conflict#")) == Some(&digest.to_hex())
        });
        let replayed = !["partner", "guarded"].contains(&webhook.source)
            && events.iter().filter(alive).any(|event| event.key.starts_with(&format!("{}#", webhook.source)));
        if !recorded && !conflict && !replayed {
            faults.push(format!("lost: {key} was answered 2xx and is not in the ledger"));
        }
    }
}

/// Every recorded event is done at every destination, and had its effect there exactly once.
fn settled_once(outcome: &Outcome, events: &[EventItem], faults: &mut Vec<String>) {
    let deliveries = deliveries(&outcome.aws);
    let journal = outcome.journal.all();
    for event in events {
        for destination in &event.destinations {
            let delivery = deliveries
                .iter()
                .find(|delivery| delivery.event == event.key && delivery.destination == *destination)
                .filter(|delivery| delivery.generation == event.received_at.millis());
            let status = delivery.map_or("queued", |delivery| delivery.status.as_str());
            if status != "done" {
                faults.push(format!("stuck: {} to {destination} is {status}", event.key));
            }
            if destination == "customers" {
                let tally = outcome.aws.items(world::CUSTOMERS).into_iter().find(|item| text(item, "pk") == Some(&event.key));
                let times = tally.and_then(|item| number(&item, "times")).unwrap_or_default();
                if times != u64::from(status == "done") {
                    faults.push(format!(
                        "doubled: the handler's writes of {} were committed {times} times, and it is {status}",
                        event.key
                    ));
                }
                continue;
            }
            match journal.get(&format!("{}#{destination}", event.key)) {
                Some(seen) if seen.changed => {
                    faults.push(format!("doubled: {} to {destination} came with two bodies", event.key));
                }
                Some(seen) if seen.effects == 1 && BodyDigest::of(&seen.body).as_bytes().as_slice() == event.sha256 => {}
                Some(_) => faults.push(format!("doubled: {} to {destination} arrived with another body", event.key)),
                // That something newer arrived is looked at below.
                None if delivery.is_some_and(|delivery| delivery.is_superseded) => {}
                None if status == "done" => {
                    faults.push(format!("lost: {} is done at {destination}, and never arrived", event.key))
                }
                None => {}
            }
        }
    }
    for key in journal.keys() {
        if !events.iter().any(|event| key.starts_with(&format!("{}#", event.key))) {
            faults.push(format!("forged: {key} arrived and is no event"));
        }
    }
}

/// Of the events that have an order, none was sent after a newer one was done, and none was superseded by nothing. (With clocks that differ
/// by more than a lease is long, the first is not promised.)
fn in_order(plan: &Plan, outcome: &Outcome, events: &[EventItem], faults: &mut Vec<String>) {
    let version = |event: &EventItem| {
        let is_of = |webhook: &&Webhook| BodyDigest::of(world::body_of(webhook).as_bytes()).as_bytes().as_slice() == event.sha256;
        plan.webhooks.iter().find(is_of).map(world::version_of).unwrap_or_default()
    };
    let deliveries = deliveries(&outcome.aws);
    let journal = outcome.journal.all();
    let ordered: Vec<(&EventItem, u64, &DeliveryItem)> = events
        .iter()
        .filter(|event| event.key.starts_with("guarded#"))
        .filter_map(|event| Some((event, version(event), deliveries.iter().find(|delivery| delivery.event == event.key)?)))
        .collect();
    let arrived = |delivery: &DeliveryItem| !delivery.is_superseded && delivery.done_at.is_some();
    for (event, version, delivery) in &ordered {
        let mut newer = ordered.iter().filter(|(_, other, delivery)| other > version && arrived(delivery));
        if delivery.is_superseded && newer.clone().next().is_none() {
            faults.push(format!("lost: {} is superseded, and nothing newer arrived", event.key));
        }
        let last_at = journal.get(&format!("{}#guarded", event.key)).map(|seen| seen.last_at);
        let overtaken = newer.find(|(_, _, newer)| last_at > newer.done_at);
        if let Some((newer, ..)) = overtaken.filter(|_| last_at.is_some() && !plan.clocks_differ) {
            faults.push(format!("disordered: {} was sent after {} was done, which is newer", event.key, newer.key));
        }
    }
}

/// How many of each kind.
pub fn tally(faults: &[String]) -> BTreeMap<&'static str, usize> {
    let kinds = ["lost", "doubled", "stuck"];
    let mut tally: BTreeMap<_, _> = kinds.into_iter().map(|kind| (kind, 0)).collect();
    for fault in faults {
        let kind = kinds.into_iter().find(|kind| fault.starts_with(kind)).unwrap_or("other");
        *tally.entry(kind).or_default() += 1;
    }
    tally
}
