//! What must hold at the end, judged from what was found.
//!
//! A destination's own journal is compared, body by body: a body is in no two webhooks of a run, so that nothing here rests on the
//! headers that are tested.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ::tests::destination::Effect;
use sha2::{Digest as _, Sha256};

use crate::{
    audit::Account,
    evidence::{Arrival, Customer, Entries},
    senders::Sent,
    webhooks::{CUSTOMERS, Planned},
};

/// What did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Accepted, and not everywhere where it belongs.
    Lost,
    /// It had its effect more than once.
    Doubled,
    /// Recorded, and neither delivered nor about to be.
    Stuck,
    /// What nobody signed left a trace, or arrived.
    Forged,
}

/// What did not hold, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) kind: Kind,
    pub(crate) what: String,
}

/// Everything that was found at the end of a run.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) entries: Entries,
    pub(crate) arrivals: Vec<Arrival>,
    pub(crate) customers: BTreeMap<String, Customer>,
}

/// Judges a run.
pub(crate) fn judge(planned: &[Planned], sent: &[Sent], found: &Found) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut say = |kind, what: String| violations.push(Violation { kind, what });
    let genuine: HashMap<String, &Planned> =
        planned.iter().filter(|one| !one.is_forged).map(|one| (hex::encode(Sha256::digest(&one.sample.body)), one)).collect();
    let mut arrived: HashMap<(String, &str), Vec<&Arrival>> = HashMap::new();
    for arrival in &found.arrivals {
        match genuine.get(&arrival.sha256) {
            Some(one) => arrived.entry((one.key(), arrival.destination)).or_default().push(arrival),
            None => {
                say(Kind::Forged, format!("{} got a body that no sender signed: SHA-256 {}", arrival.destination, arrival.sha256))
            }
        }
    }
    let genuine_keys: BTreeSet<String> = genuine.values().map(|one| one.key()).collect();
    for (one, sent) in planned.iter().zip(sent) {
        let key = one.key();
        if one.is_forged {
            if sent.accepted {
                say(Kind::Forged, format!("{key}: a webhook without a valid signature was accepted"));
            }
            if !genuine_keys.contains(&key) && found.entries.any.contains(&key) {
                say(Kind::Forged, format!("{key}: the ledger has items of a webhook without a valid signature"));
            }
            continue;
        }
        if let Some(status) = sent.refused {
            say(Kind::Lost, format!("{key}: was refused with {status}, which a sender does not try again after"));
        }
        let is_recorded = found.entries.events.contains(&key);
        if sent.accepted && !is_recorded {
            say(Kind::Lost, format!("{key}: was answered 2xx and is not in the ledger"));
        }
        for destination in one.destinations() {
            let arrivals = arrived.get(&(key.clone(), destination)).map(Vec::as_slice).unwrap_or_default();
            let status = found.entries.status(&key, destination);
            if !is_recorded && !arrivals.is_empty() {
                say(Kind::Forged, format!("{key}: reached {destination} and is not in the ledger"));
            }
            if is_recorded && status != "done" {
                say(Kind::Stuck, format!("{key}: its delivery to {destination} is {status}"));
            }
            if is_recorded && destination != CUSTOMERS {
                at_destination(&key, destination, status, arrivals, &mut say);
            }
        }
    }
    for key in &found.entries.conflicts {
        say(Kind::Forged, format!("{key}: the ledger has a second body under this id, and nobody signed one"));
    }
    customers(planned, found, &mut say);
    violations
}

/// What one destination's journal says about one event.
fn at_destination(key: &str, destination: &str, status: &str, arrivals: &[&Arrival], say: &mut impl FnMut(Kind, String)) {
    let applied = arrivals.iter().filter(|arrival| arrival.effect == Effect::Applied).count();
    if status == "done" && applied == 0 {
        say(Kind::Lost, format!("{key}: is done, and {destination} has applied none of {} requests", arrivals.len()));
    }
    let keys: BTreeSet<Option<&str>> = arrivals.iter().map(|arrival| arrival.idempotency_key.as_deref()).collect();
    if applied > 1 || keys.len() > 1 {
        say(Kind::Doubled, format!("{key}: was applied {applied} times by {destination}, under the idempotency keys {keys:?}"));
    }
}

/// Of each customer exactly one row is there: the newest order's that was recorded.
fn customers(planned: &[Planned], found: &Found, say: &mut impl FnMut(Kind, String)) {
    let mut expected: BTreeMap<String, Customer> = BTreeMap::new();
    let recorded = planned.iter().filter(|one| !one.is_forged && found.entries.events.contains(&one.key()));
    for (one, order) in recorded.filter_map(|one| Some((one, one.order.as_ref()?))) {
        let row = Customer { event_id: one.sample.id.clone(), version: order.version };
        let newest = expected.entry(format!("{}#{}", one.sample.source, order.customer)).or_insert_with(|| row.clone());
        if newest.version < row.version {
            *newest = row;
        }
    }
    for (key, row) in &expected {
        match found.customers.get(key) {
            Some(there) if there == row => {}
            there => say(Kind::Lost, format!("{key}: the customer should be {row:?} and is {there:?}")),
        }
    }
    for (key, row) in found.customers.iter().filter(|(key, _)| !expected.contains_key(*key)) {
        say(Kind::Doubled, format!("{key}: a customer that no recorded order has, written by {}", row.event_id));
    }
}

/// The books balance, everything in them is done, and nobody had to be attended to.
pub(crate) fn audit(account: &Account, expected: u64) -> Option<Violation> {
    let balanced = Account { recorded: expected, done: expected, ..Account::default() };
    let what = || format!("the auditor should find {balanced:?} and finds {account:?}");
    (*account != balanced).then(|| Violation { kind: Kind::Stuck, what: what() })
}

/// How many of each kind, in the words of the last line.
pub(crate) fn counts(violations: &[Violation]) -> String {
    let of = |kind| violations.iter().filter(|violation| violation.kind == kind).count();
    format!("{} lost, {} doubled, {} stuck, {} forged", of(Kind::Lost), of(Kind::Doubled), of(Kind::Stuck), of(Kind::Forged))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhooks::draw;

    /// A run in which everything went as it should.
    fn good() -> (Vec<Planned>, Vec<Sent>, Found) {
        let (_, planned) = draw(200, 0);
        let sent: Vec<Sent> = planned.iter().map(|one| Sent { accepted: !one.is_forged, refused: None }).collect();
        let mut found = Found { entries: Entries::default(), arrivals: Vec::new(), customers: BTreeMap::new() };
        for one in planned.iter().filter(|one| !one.is_forged) {
            let key = one.key();
            found.entries.events.insert(key.clone());
            found.entries.any.insert(key.clone());
            let deliveries = one.destinations().map(|name| (name.to_owned(), "done".to_owned())).collect();
            found.entries.deliveries.insert(key.clone(), deliveries);
            found.arrivals.push(Arrival {
                destination: one.manner.destination,
                sha256: hex::encode(Sha256::digest(&one.sample.body)),
                idempotency_key: Some(key),
                effect: Effect::Applied,
                was_broken: false,
            });
            if let Some(order) = &one.order {
                let row = Customer { event_id: one.sample.id.clone(), version: order.version };
                found.customers.insert(format!("shopify#{}", order.customer), row);
            }
        }
        (planned, sent, found)
    }

    /// Spoils a good run, and sees that this and nothing else is found.
    fn check(expected: &[Kind], spoil: impl FnOnce(&[Planned], &mut Vec<Sent>, &mut Found)) {
        let (planned, mut sent, mut found) = good();
        spoil(&planned, &mut sent, &mut found);
        let violations = judge(&planned, &sent, &found);
        assert_eq!(violations.iter().map(|violation| violation.kind).collect::<Vec<_>>(), expected, "{violations:?}");
    }

    /// The place of the first webhook of a source that is not forged.
    fn first(planned: &[Planned], source: &str) -> usize {
        planned.iter().position(|one| one.sample.source == source && !one.is_forged).unwrap()
    }

    fn arrival<'f>(found: &'f mut Found, key: &str) -> &'f mut Arrival {
        found.arrivals.iter_mut().find(|arrival| arrival.idempotency_key.as_deref() == Some(key)).unwrap()
    }

    #[test]
    fn a_run_in_which_all_is_well_has_no_violation() {
        check(&[], |_, _, _| {});
        let (planned, sent, found) = good();
        assert_eq!(counts(&judge(&planned, &sent, &found)), "0 lost, 0 doubled, 0 stuck, 0 forged");
    }

    #[test]
    fn what_is_accepted_and_not_there_is_lost() {
        check(&[Kind::Lost, Kind::Forged], |planned, _, found| {
            found.entries.events.remove(&planned[first(planned, "github")].key());
        });
        check(&[Kind::Lost], |planned, _, found| {
            arrival(found, &planned[first(planned, "partner")].key()).effect = Effect::Refused;
        });
        check(&[Kind::Lost], |planned, sent, _| sent[first(planned, "stripe")].refused = Some(401));
        check(&[Kind::Lost], |_, _, found| {
            found.customers.pop_first();
        });
    }

    #[test]
    fn what_was_neither_accepted_nor_recorded_is_no_loss() {
        check(&[], |planned, sent, found| {
            let place = first(planned, "github");
            sent[place].accepted = false;
            found.entries.events.remove(&planned[place].key());
            found.arrivals.retain(|arrival| arrival.idempotency_key != Some(planned[place].key()));
        });
    }

    #[test]
    fn what_is_applied_twice_is_doubled_and_a_repeat_of_its_key_is_not() {
        let repeat = |effect, key: &'static str| {
            move |planned: &[Planned], _: &mut Vec<Sent>, found: &mut Found| {
                let mut again = arrival(found, &planned[first(planned, "partner")].key()).clone();
                again.effect = effect;
                again.idempotency_key = again.idempotency_key.map(|known| known + key);
                found.arrivals.push(again);
            }
        };
        check(&[], repeat(Effect::Repeated, ""));
        check(&[Kind::Doubled], repeat(Effect::Applied, "other"));
        check(&[Kind::Doubled], repeat(Effect::Refused, "other"));
    }

    #[test]
    fn a_customer_that_nobody_ordered_for_is_doubled() {
        check(&[Kind::Doubled], |_, _, found| {
            found.customers.insert("shopify#1".to_owned(), Customer { event_id: "x".to_owned(), version: 1 });
        });
    }

    #[test]
    fn what_is_recorded_and_not_done_is_stuck() {
        for status in ["queued", "waiting", "dead"] {
            check(&[Kind::Stuck], |planned, _, found| {
                let of = found.entries.deliveries.get_mut(&planned[first(planned, "github")].key()).unwrap();
                of.insert("ci".to_owned(), status.to_owned());
            });
        }
    }

    #[test]
    fn books_that_do_not_balance_are_a_violation() {
        let good = Account { recorded: 3, done: 3, ..Account::default() };
        assert_eq!(audit(&good, 3), None);
        assert_eq!(audit(&good, 4).map(|violation| violation.kind), Some(Kind::Stuck));
        for bad in [
            Account { done: 2, ..good.clone() },
            Account { done: 2, queued: 1, ..good.clone() },
            Account { attended: 1, ..good.clone() },
        ] {
            assert!(audit(&bad, 3).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn any_trace_of_what_nobody_signed_is_forged() {
        let forged = |planned: &[Planned]| {
            let keys: BTreeSet<String> = planned.iter().filter(|one| !one.is_forged).map(Planned::key).collect();
            planned.iter().position(|one| one.is_forged && !keys.contains(&one.key())).unwrap()
        };
        check(&[Kind::Forged], |planned, sent, _| sent[forged(planned)].accepted = true);
        check(&[Kind::Forged], |planned, _, found| {
            found.entries.any.insert(planned[forged(planned)].key());
        });
        check(&[Kind::Forged], |planned, _, found| {
            found.entries.conflicts.insert(planned[first(planned, "stripe")].key());
        });
        check(&[Kind::Forged], |planned, _, found| {
            let mut altered = found.arrivals[0].clone();
            altered.sha256 = hex::encode(Sha256::digest(&planned[forged(planned)].sample.body));
            found.arrivals.push(altered);
        });
    }
}
