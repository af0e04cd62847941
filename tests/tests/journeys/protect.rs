//! What protects destinations, through the deployed stack: circuit, rate, concurrency, pause; and that one in trouble delays no other.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tests::stack::{Sample, Stack, eventually, unique, when};

use crate::{AUDITED, SOON, deliver::numbered, journey, operator::posthouse, route::event};

/// Events of one run, and the text that all their ids have.
fn events(stack: &Stack, source: &'static str, count: usize) -> (Vec<Sample>, String) {
    let run = unique();
    ((0..count).map(|number| numbered(stack, source, &run, number)).collect(), run)
}

async fn accept_all(stack: &Stack, samples: &[Sample]) {
    join_all(samples.iter().map(|sample| stack.accept(sample))).await;
}

async fn all_done(stack: &Stack, samples: &[Sample], destination: &str, timeout: Duration) {
    for sample in samples {
        stack.reaches(sample, destination, "done", timeout).await;
    }
}

#[test]
fn a_destination_that_hangs_does_not_delay_another() {
    journey(async |stack| {
        let (samples, run) = events(stack, "both", 20);
        stack.destination.script("hanging", &run, json!({"hang": true})).await;
        accept_all(stack, &samples).await;
        // All of them arrive at the one while the other has not answered a single one.
        all_done(stack, &samples, "prompt", SOON).await;
        for sample in &samples {
            let hanging = stack.delivery(sample, "hanging").await;
            assert!(hanging.as_ref().is_none_or(|delivery| delivery.status != "done"), "{hanging:?}");
        }
        stack.destination.heal("hanging", &run).await;
        for sample in &samples {
            eventually("it is done or dead", AUDITED, async || {
                let status = stack.delivery(sample, "hanging").await.map(|delivery| delivery.status);
                when(status, |status| status.as_deref().is_some_and(|status| ["done", "dead"].contains(&status)))
            })
            .await;
        }
    });
}

#[test]
fn a_circuit_opens_spends_no_attempts_and_closes_by_itself() {
    journey(async |stack| {
        let (failing, run) = events(stack, "breaking", 3);
        stack.destination.script("breaking", &run, json!({"status": 503})).await;
        for sample in &failing {
            stack.accept(sample).await;
        }
        eventually("the circuit is open", SOON, async || {
            let told = posthouse(stack, "destinations", &["show", "breaking"]).text;
            when(told, |told| told.contains("circuit     open until"))
        })
        .await;
        let waiting = numbered(stack, "breaking", &run, 3);
        stack.accept(&waiting).await;
        let waits = stack.reaches(&waiting, "breaking", "waiting", SOON).await;
        assert_eq!((waits.attempts, waits.error_class.as_deref()), (0, Some("deferred")), "{waits:?}");
        assert!(stack.destination.journal("breaking", &waiting.id).await.is_empty());
        stack.destination.heal("breaking", &run).await;
        stack.reaches(&waiting, "breaking", "done", AUDITED).await;
        let told = posthouse(stack, "destinations", &["show", "breaking"]).text;
        assert!(told.contains("circuit     closed"), "{told}");
    });
}

#[test]
fn a_rate_holds_across_workers() {
    journey(async |stack| {
        let (samples, run) = events(stack, "limited", 16);
        accept_all(stack, &samples).await;
        all_done(stack, &samples, "limited", AUDITED).await;
        let mut times: Vec<u64> = stack.destination.journal("limited", &run).await.iter().map(|entry| entry.at).collect();
        times.sort_unstable();
        assert_eq!(times.len(), 16);
        // Two at once and two a second; what is on its way when its moment comes may be late.
        let took = times[15] - times[0];
        assert!(took >= (16 - 2) * 500 - 1000, "sixteen in {took} ms");
    });
}

#[test]
fn no_more_requests_are_open_than_may_be() {
    journey(async |stack| {
        let (samples, run) = events(stack, "narrow", 8);
        stack.destination.script("narrow", &run, json!({"delay_ms": 1000})).await;
        accept_all(stack, &samples).await;
        all_done(stack, &samples, "narrow", AUDITED).await;
        let mut times: Vec<u64> = stack.destination.journal("narrow", &run).await.iter().map(|entry| entry.at).collect();
        times.sort_unstable();
        // Each is open for a second: the third after one of them comes a second after it.
        for three in times.windows(3) {
            assert!(three[2] - three[0] >= 950, "three at once: {times:?}");
        }
    });
}

#[test]
fn a_destination_that_asks_to_be_left_alone_is_for_all_that_goes_there() {
    journey(async |stack| {
        let (samples, run) = events(stack, "asking", 6);
        let (first, others) = samples.split_first().unwrap();
        let asks = json!({"status": 429, "headers": {"retry-after": "6"}, "times": 1});
        stack.destination.script("asking", &first.id, asks).await;
        stack.accept(first).await;
        stack.reaches(first, "asking", "waiting", SOON).await;
        accept_all(stack, others).await;
        all_done(stack, &samples, "asking", AUDITED).await;
        let journal = stack.destination.journal("asking", &run).await;
        let asked_at = journal.iter().find(|entry| entry.answer.status == 429).unwrap().at;
        let early: Vec<_> = journal.iter().filter(|entry| entry.at > asked_at && entry.at < asked_at + 5_900).collect();
        assert!(early.is_empty(), "{early:?}");
    });
}

#[test]
fn an_operator_pauses_a_destination_and_lets_it_go_on() {
    journey(async |stack| {
        let told = posthouse(stack, "destinations", &["pause", "pausable", "--reason", "maintenance until noon"]).text;
        assert!(told.contains("paused since") && told.contains("by a person: maintenance until noon"), "{told}");
        let sample = event(stack, "pausable", "some.type", json!({}));
        stack.accept(&sample).await;
        let paused = stack.reaches(&sample, "pausable", "waiting", SOON).await;
        assert_eq!(paused.attempts, 0);
        stack.silent(&sample.id).await;
        assert!(stack.destination.journal("pausable", &sample.id).await.is_empty());
        let told = posthouse(stack, "destinations", &["show", "pausable"]).text;
        assert!(told.contains("waiting     1; the first is due since "), "{told}");
        let cancelled = event(stack, "pausable", "some.type", json!({}));
        stack.accept(&cancelled).await;
        stack.reaches(&cancelled, "pausable", "waiting", SOON).await;
        let cancel =
            |rest: &[&str]| posthouse(stack, "deliveries", &[&["cancel", "pausable", &cancelled.id, "pausable"], rest].concat());
        cancel(&["--dry-run"]).is(0, "would be cancelled");
        cancel(&["--reason", "sent by hand"]).is(0, "cancelled: nothing tries it any more");
        cancel(&[]).is(0, "cancelled");
        posthouse(stack, "deliveries", &["cancel", "pausable", &cancelled.id, "billing"])
            .is(1, "does not go to billing, but to pausable");
        let told = posthouse(stack, "destinations", &["resume", "pausable"]).text;
        assert!(told.contains("pausable goes on"), "{told}");
        stack.reaches(&sample, "pausable", "done", AUDITED).await;
        stack.reaches(&cancelled, "pausable", "cancelled", SOON).await;
        assert!(stack.destination.journal("pausable", &cancelled.id).await.is_empty());
        posthouse(stack, "deliveries", &["cancel", "pausable", &sample.id, "pausable"]).is(1, "not cancelled: it is done");
        posthouse(stack, "events", &["show", "pausable", &cancelled.id]).is(0, "cancelled: sent by hand");
    });
}
