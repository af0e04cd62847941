//! Which webhooks are sent, by whom and how: drawn from the seed before anything happens.

use ::tests::{
    providers::Provider,
    stack::{Sample, unique},
};
use fastrand::Rng;
use serde_json::{Value, json};
use shared::time::Timestamp;

/// One in so many is forged.
const FORGED_ONE_IN: u32 = 20;
/// One in so many of those accepted is sent once more.
const AGAIN_ONE_IN: u32 = 8;
/// One in so many has a body that does not fit an item of the ledger.
const LARGE_ONE_IN: u32 = 100;
/// Text that no compression makes small enough for an item of the ledger, in characters.
const LARGE_FILL_CHARS: usize = 600_000;
/// The most that fills up other bodies, in characters.
const FILL_CHARS_MAX: usize = 1_500;
/// Orders of one customer: the newest is what must be left.
const ORDERS_OF_A_CUSTOMER: u64 = 3;
/// When the first order was: 2026-01-01, in seconds of Unix time. Each is a second newer than the one before.
const FIRST_ORDER_SECONDS: u64 = 1_767_225_600;

/// How one sender goes about it. Sources and destinations are those of the local gateway configuration.
#[derive(Debug)]
pub(crate) struct Manner {
    pub(crate) source: &'static str,
    pub(crate) secret: &'static str,
    pub(crate) provider: Provider,
    /// The HTTP destinations that every event of it reaches.
    pub(crate) destination: &'static str,
    /// Whether every event also goes to the handler `customers`.
    pub(crate) has_customers: bool,
    /// How often a webhook is tried that is not accepted.
    pub(crate) tries_max: u32,
    /// The most copies of one webhook that are sent at the same time.
    pub(crate) copies_max: u32,
}

/// The handler destination.
pub(crate) const CUSTOMERS: &str = "customers";

pub(crate) const MANNERS: [Manner; 4] = [
    // A partner with a schedule of retries, as Standard Webhooks recommends.
    Manner {
        source: "partner",
        secret: "partner",
        provider: Provider::StandardWebhooks,
        destination: "partner",
        has_customers: false,
        tries_max: 20,
        copies_max: 1,
    },
    // Signs each try anew.
    Manner {
        source: "stripe",
        secret: "stripe",
        provider: Provider::Stripe,
        destination: "billing",
        has_customers: false,
        tries_max: 20,
        copies_max: 1,
    },
    // Never sends again by itself.
    Manner {
        source: "github",
        secret: "github",
        provider: Provider::Github,
        destination: "ci",
        has_customers: false,
        tries_max: 1,
        copies_max: 1,
    },
    // Sends the same twice or three times, at the same moment.
    Manner {
        source: "shopify",
        secret: "shopify",
        provider: Provider::Shopify,
        destination: "shop",
        has_customers: true,
        tries_max: 8,
        copies_max: 3,
    },
];

/// One webhook that is going to be sent.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) manner: &'static Manner,
    pub(crate) sample: Sample,
    /// Signed by somebody who does not have the key; its id may be another webhook's.
    pub(crate) is_forged: bool,
    pub(crate) copies: u32,
    pub(crate) again: bool,
    pub(crate) order: Option<Order>,
}

/// What the handler is to make of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) customer: u64,
    /// In milliseconds of Unix time.
    pub(crate) version: u64,
}

impl Planned {
    /// What the ledger and the journals know the event by.
    pub(crate) fn key(&self) -> String {
        format!("{}#{}", self.sample.source, self.sample.id)
    }

    /// Where the event has to arrive.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.manner.destination).chain(self.manner.has_customers.then_some(CUSTOMERS))
    }
}

/// All webhooks of a run. Everything about them comes from the seed, except a word that keeps runs on one stack apart and is in
/// every event id.
pub(crate) fn draw(webhooks: u32, seed: u64) -> (String, Vec<Planned>) {
    let run = unique();
    let first_customer = u64::from(fastrand::u32(1..)) << 20;
    let mut rng = Rng::with_seed(seed);
    let mut planned: Vec<Planned> = Vec::new();
    for number in 0..webhooks {
        let manner = &MANNERS[rng.usize(..MANNERS.len())];
        let is_forged = rng.u32(..FORGED_ONE_IN) == 0;
        // Half of the forged ones claim the id of an event that is there, or is being accepted at this moment.
        let victim =
            planned.last().filter(|last| !last.is_forged && rng.bool()).map(|last| (last.manner, last.sample.id.clone()));
        let (manner, id) = victim.filter(|_| is_forged).unwrap_or_else(|| (manner, format!("{run}-{number}")));
        let order = manner.has_customers.then(|| {
            let number = u64::from(number);
            let version = (FIRST_ORDER_SECONDS + number) * 1_000;
            Order { customer: first_customer + number / ORDERS_OF_A_CUSTOMER, version }
        });
        let body = body(manner, &id, is_forged, order.as_ref(), &mut rng);
        let copies = rng.u32(1..=manner.copies_max);
        let again = rng.u32(..AGAIN_ONE_IN) == 0;
        planned.push(Planned { manner, sample: Sample { source: manner.source, id, body }, is_forged, copies, again, order });
    }
    (run, planned)
}

fn body(manner: &Manner, id: &str, is_forged: bool, order: Option<&Order>, rng: &mut Rng) -> Vec<u8> {
    let mut body: Value = serde_json::from_slice(&manner.provider.body(id)).expect("bodies of these providers are JSON");
    if let Some(Order { customer, version }) = order {
        let updated_at = Timestamp::from_millis(*version).to_rfc3339();
        body["customer"] = json!({"id": customer, "email": "ada@example.com", "updated_at": updated_at});
    }
    if is_forged {
        body["forged"] = true.into();
    }
    let chars = if rng.u32(..LARGE_ONE_IN) == 0 { LARGE_FILL_CHARS } else { rng.usize(..FILL_CHARS_MAX) };
    body["fill"] = std::iter::repeat_with(|| rng.alphanumeric()).take(chars).collect::<String>().into();
    body.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_webhooks_and_another_one_others() {
        let drawn = |seed| -> Vec<(&str, bool, u32, bool, usize)> {
            let (_, planned) = draw(300, seed);
            // Ids and customers are of this run alone; the rest is the seed's.
            let fill = |one: &Planned| {
                let body: Value = serde_json::from_slice(&one.sample.body).unwrap();
                body["fill"].as_str().unwrap().len()
            };
            planned.iter().map(|one| (one.manner.source, one.is_forged, one.copies, one.again, fill(one))).collect()
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }

    #[test]
    fn every_sender_forgeries_copies_and_large_bodies_are_there() {
        let (run, planned) = draw(1_000, 0);
        for manner in &MANNERS {
            assert!(planned.iter().any(|one| one.manner.source == manner.source && !one.is_forged), "{}", manner.source);
        }
        let keys: HashSet<String> = planned.iter().filter(|one| !one.is_forged).map(Planned::key).collect();
        let bodies: HashSet<&[u8]> = planned.iter().map(|one| one.sample.body.as_slice()).collect();
        assert_eq!(keys.len(), planned.iter().filter(|one| !one.is_forged).count(), "genuine ids are used once");
        assert_eq!(bodies.len(), planned.len(), "no two bodies are the same");
        assert!(planned.iter().any(|one| one.is_forged && keys.contains(&one.key())), "some claim the id of a real event");
        assert!(planned.iter().any(|one| one.is_forged && !keys.contains(&one.key())), "some have an id of their own");
        assert!(planned.iter().any(|one| one.copies == 3) && planned.iter().any(|one| one.again));
        assert!(planned.iter().any(|one| one.sample.body.len() > LARGE_FILL_CHARS));
        assert!(planned.iter().all(|one| one.sample.id.starts_with(&run)));
        let newest = planned.iter().filter_map(|one| one.order.as_ref()).map(|order| order.version);
        assert!(newest.is_sorted(), "each order is newer than the one before");
    }
}
