//! Properties of verification that hold of every preset, whatever is sent: each is tried on every alternative of every scheme,
//! with content, keys and times made up anew in each run.
//!
//! What a signature covers is worked out here a second time, and coarser than `shared` does it ([`way::Way::covered`]): two requests
//! that differ in it cannot both be proven by one signature. `PROPTEST_CASES=4096` looks sixteen times as long as usual.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod answers;
mod input;
mod key;
mod sample;
mod several;
mod way;

use std::{fmt::Debug, time::Duration};

use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestCaseResult, TestRunner},
};
use shared::{location::Places, signatures::Refusal, time::Timestamp};

use key::{Key, key, keyring, keys};
use sample::{Change, Part, changes, samples};
use way::{TOKEN_SECONDS, WAYS, Way};

/// What proptest takes for one test is shared by so many ways of signing.
const CASES_PER_WAY: u32 = 16;

/// How long a failing case is made smaller.
const SHRINKS_MAX: u32 = 4096;

/// Tries a property on every way of signing.
fn for_every_way<S: Strategy>(strategy: &S, property: impl Fn(&Way, S::Value) -> TestCaseResult)
where
    S::Value: Debug,
{
    let config = Config { failure_persistence: None, ..Config::default() };
    let config = Config { cases: config.cases.div_ceil(CASES_PER_WAY), max_shrink_iters: SHRINKS_MAX, ..config };
    for way in WAYS.iter() {
        let result = TestRunner::new(config.clone()).run(strategy, |value| property(way, value));
        result.unwrap_or_else(|error| panic!("{way}: {error}"));
    }
}

#[test]
fn what_is_signed_is_proven() {
    for_every_way(&(samples(), key()), |way, (sample, key)| {
        let webhook = way.sign(&sample, &key);
        let keyring = key.keyring(way);
        let wanted = way.scheme.wanted_key(&Places::new(&webhook), &keyring, sample.now);
        let fetches = key.fetched(way).is_some() && way.preset != "aws-sns" && way.preset != "paypal";
        prop_assert!(!fetches || wanted.is_ok_and(|wanted| wanted.is_some()));
        prop_assert_eq!(
            way.verify(&webhook, &key, &keyring, sample.now).map(|verified| verified.key_id().to_owned()),
            Ok("only".into())
        );
        Ok(())
    });
}

#[test]
fn nothing_that_is_covered_can_be_changed() {
    for_every_way(&(samples(), key(), vec(changes(), 1..32)), |way, (sample, key, changes)| {
        let webhook = way.sign(&sample, &key);
        let (keyring, covered) = (key.keyring(way), way.covered(&webhook));
        for change in changes {
            let Some(changed) = change.apply(&webhook) else { continue };
            let proven = way.verify(&changed, &key, &keyring, sample.now).is_ok();
            prop_assert!(!proven || way.covered(&changed) == covered, "{:?}\n{:?}\n{:?}", change, webhook, changed);
        }
        Ok(())
    });
}

/// Every bit of one webhook, since the property above takes a few of each.
#[test]
fn not_one_bit_that_is_covered_can_be_changed() {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let (sample, key) = (samples(), key()).new_tree(&mut runner).unwrap().current();
    for way in WAYS.iter() {
        let webhook = way.sign(&sample, &key);
        let (keyring, covered) = (key.keyring(way), way.covered(&webhook));
        let mut refused = 0;
        let headers = (0..webhook.headers.keys_len()).map(Part::Header);
        for part in [Part::Body, Part::Url, Part::Query].into_iter().chain(headers) {
            for (at, bit) in (0..part.bytes(&webhook)).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
                let change = Change::Flip { part: part.clone(), at, bit };
                let Some(changed) = change.apply(&webhook) else { continue };
                if way.covered(&changed) != covered {
                    refused += 1;
                    let verdict = way.verify(&changed, &key, &keyring, sample.now);
                    assert!(verdict.is_err(), "{way}: {change:?}\n{webhook:?}\n{changed:?}");
                }
            }
        }
        assert!(refused >= 100, "{way}: only {refused} bits are covered");
    }
}

#[test]
fn a_changed_secret_proves_nothing() {
    for_every_way(&(samples(), key(), vec((any::<usize>(), 0_u8..8), 8)), |way, (sample, key, flips)| {
        let webhook = way.sign(&sample, &key);
        for (at, bit) in flips.into_iter().filter(|_| way.is_proven_by_keyring()) {
            let Some(secret) = key.with_flipped_bit(way, at, bit) else { continue };
            let keyring = keyring([("only".to_owned(), secret.clone(), None)]);
            let verdict = way.verify(&webhook, &key, &keyring, sample.now);
            prop_assert!(verdict.is_err(), "{} instead of {}", secret, key.secret(way));
        }
        Ok(())
    });
}

#[test]
fn what_another_source_may_send_is_refused() {
    for_every_way(&(samples(), keys(2)), |way, (sample, keys)| {
        let [own, other] = keys.as_slice() else { unreachable!() };
        let webhook = way.sign(&sample, own);
        let verdict = |keyring: &Key, fetched: &Key| way.verify(&webhook, fetched, &keyring.keyring(way), sample.now).is_ok();
        prop_assert!(verdict(own, own));
        prop_assert!(!verdict(other, other));
        // Who signs for everybody, as SNS does, proves for this source no more than this source's own.
        prop_assert!(!way.is_proven_by_keyring() || !verdict(other, own));
        prop_assert!(own.fetched(way).is_none() || !verdict(own, other));
        Ok(())
    });
}

#[test]
fn the_clock_may_be_off_by_the_tolerance_and_by_no_more() {
    for_every_way(&(samples(), key()), |way, (sample, key)| {
        let webhook = way.sign(&sample, &key);
        let verdict = |clock: Timestamp| way.verify(&webhook, &key, &key.keyring(way), clock).map(drop);
        let seconds = |seconds: u64| Duration::from_secs(seconds);
        let sent = Timestamp::from_seconds(sample.now.seconds());
        let (ahead, behind) = match (&way.alternative().timestamp, &way.alternative().jwt) {
            (Some(spec), _) => (spec.bounds().map(|(old, _)| old), spec.bounds().map(|(_, ahead)| ahead)),
            // A token is good before its last second, and from its first.
            (None, Some(jwt)) => (Some(TOKEN_SECONDS - 1 + jwt.leeway_seconds), Some(jwt.leeway_seconds)),
            (None, None) => (None, None),
        };
        let is_stale = |verdict| matches!(verdict, Err(Refusal::Stale { .. }));
        for (bound, clock) in [(ahead, Timestamp::plus as fn(_, _) -> _), (behind, Timestamp::minus)] {
            match bound {
                Some(bound) => {
                    prop_assert_eq!(verdict(clock(sent, seconds(bound))), Ok(()));
                    prop_assert!(is_stale(verdict(clock(sent, seconds(bound + 1)))));
                }
                None => prop_assert_eq!(verdict(clock(sent, seconds(1_000_000_000))), Ok(())),
            }
        }
        // A clock that was never set is one that is off.
        prop_assert_eq!(behind.is_some(), is_stale(verdict(Timestamp::from_millis(0))));
        Ok(())
    });
}
