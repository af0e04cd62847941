//! Routes through the deployed stack: filters, maps, fan-out, the default route, contracts, order.

use serde_json::{Value, json};
use tests::stack::{Item, Sample, Stack, eventually, text, when};

use crate::{SOON, journey};

/// A new event of a source with this type and what it says.
pub(crate) fn event(stack: &Stack, source: &'static str, event_type: &str, says: Value) -> Sample {
    let mut sample = stack.sample(source);
    let mut body = json!({"type": event_type, "id": sample.id});
    let (Some(fields), Value::Object(says)) = (body.as_object_mut(), says) else { panic!("an event says an object") };
    fields.extend(says);
    sample.body = body.to_string().into_bytes();
    sample
}

async fn delivery_item(stack: &Stack, sample: &Sample, destination: &str) -> Item {
    let sort_key = format!("delivery#{destination}");
    let items = stack.items(sample).await;
    items.into_iter().find(|item| text(item, "sk") == Some(&sort_key)).expect("the delivery is there")
}

#[test]
fn a_map_makes_what_is_sent_and_each_destination_of_a_route_gets_it() {
    journey(async |stack| {
        let data = json!({"amount": 250, "lines": [{"sku": "a"}, {"sku": "b"}], "secret": "not passed on"});
        let sample = event(stack, "routed", "invoice.paid", json!({"data": data}));
        stack.accept(&sample).await;
        for destination in ["routed", "routed-beside"] {
            stack.settled(&sample, destination).await;
            let journal = stack.destination.journal(destination, &sample.id).await;
            assert_eq!(journal.len(), 1, "{destination}");
            let sent: Value = serde_json::from_slice(&journal[0].body).unwrap();
            assert_eq!(sent, json!({"id": sample.id, "what": "invoice.paid", "cents": 25_000, "lines": ["a", "b"]}));
            assert_eq!(journal[0].header("content-type"), Some("application/json"));
        }
        assert!(stack.destination.journal("routed-rest", &sample.id).await.is_empty());
    });
}

#[test]
fn each_delivery_of_a_fan_out_is_retried_and_redriven_alone() {
    journey(async |stack| {
        let sample = event(stack, "routed", "invoice.paid", json!({"data": {"amount": 101}}));
        stack.destination.script("routed", &sample.id, json!({"status": 400})).await;
        stack.accept(&sample).await;
        stack.settled(&sample, "routed-beside").await;
        stack.reaches(&sample, "routed", "dead", SOON).await;
        stack.destination.heal("routed", &sample.id).await;
        let plan = json!({"eventIds": [format!("routed#{}", sample.id)]});
        eventually("the dead one is redriven", SOON, async || {
            let done = stack.invoke("redrive", &plan).await;
            when(done["redriven"].as_u64().unwrap_or_default(), |count| *count == 1)
        })
        .await;
        stack.reaches(&sample, "routed", "done", SOON).await;
        assert_eq!(stack.destination.journal("routed-beside", &sample.id).await.len(), 1, "the other one is left alone");
    });
}

#[test]
fn what_no_filter_lets_through_is_skipped_and_done() {
    journey(async |stack| {
        let sample = event(stack, "routed", "invoice.paid", json!({"data": {"amount": 100}}));
        stack.accept(&sample).await;
        stack.settled(&sample, "routed").await;
        let item = delivery_item(stack, &sample, "routed").await;
        assert_eq!(text(&item, "done_as"), Some("skipped"));
        assert!(stack.destination.journal("routed", &sample.id).await.is_empty());
    });
}

#[test]
fn the_default_route_takes_what_no_other_takes_and_the_body_is_as_it_came() {
    journey(async |stack| {
        let sample = event(stack, "routed", "something.else", json!({"spaced": "out"}));
        stack.accept(&sample).await;
        stack.settled(&sample, "routed-rest").await;
        let journal = stack.destination.journal("routed-rest", &sample.id).await;
        assert_eq!(journal[0].body, sample.body);
        assert!(stack.delivery(&sample, "routed").await.is_none());
    });
}

#[test]
fn an_event_without_a_route_is_recorded_and_goes_nowhere() {
    journey(async |stack| {
        let sample = event(stack, "unrouted", "some.type", json!({}));
        stack.accept(&sample).await;
        let items = stack.items(&sample).await;
        assert_eq!(items.len(), 1, "the event and nothing else: {items:?}");
        assert_eq!(text(&items[0], "sk"), Some("event"));
    });
}

#[test]
fn a_map_that_fails_is_dead_with_its_reason_and_says_nothing_of_the_body() {
    journey(async |stack| {
        let sample = event(stack, "routed", "broken", json!({"data": "hush"}));
        stack.accept(&sample).await;
        let dead = stack.reaches(&sample, "routed", "dead", SOON).await;
        assert_eq!(dead.error_class.as_deref(), Some("permanent"));
        let letter = stack.dead_letter(&sample.id).await;
        let reason = letter.attribute("reason").unwrap_or_default();
        assert!(reason.contains("the map of its route fails") && !reason.contains("hush"), "{reason}");
    });
}

#[test]
fn a_contract_that_is_not_kept_is_dead_with_the_place_and_one_that_is_kept_is_delivered() {
    journey(async |stack| {
        let order = |says: Value| event(stack, "routed", "contract.order", says);
        let good = order(json!({"schemaVersion": "2", "data": {"amount": 7}}));
        stack.accept(&good).await;
        stack.settled(&good, "routed").await;
        assert_eq!(stack.destination.journal("routed", &good.id).await[0].body, good.body);
        for (says, place) in [
            (json!({"schemaVersion": "2", "data": {"amount": "hush"}}), "/data/amount"),
            (json!({"schemaVersion": "2"}), "required"),
            (json!({"schemaVersion": "1", "data": {"amount": 7}}), "json:/schemaVersion"),
        ] {
            let bad = order(says);
            stack.accept(&bad).await;
            stack.reaches(&bad, "routed", "dead", SOON).await;
            let letter = stack.dead_letter(&bad.id).await;
            let reason = letter.attribute("reason").unwrap_or_default();
            assert!(reason.contains(place) && !reason.contains("hush"), "{reason}");
            assert!(stack.destination.journal("routed", &bad.id).await.is_empty());
        }
    });
}

#[test]
fn an_older_version_that_comes_late_is_superseded() {
    journey(async |stack| {
        let thing = tests::stack::unique();
        let version = |number: u32| event(stack, "ordered", "thing.changed", json!({"thing": thing, "version": number}));
        let (first, second, third) = (version(1), version(2), version(3));
        stack.accept(&second).await;
        stack.settled(&second, "ordered").await;
        stack.accept(&first).await;
        stack.settled(&first, "ordered").await;
        let item = delivery_item(stack, &first, "ordered").await;
        assert_eq!(text(&item, "done_as"), Some("superseded"));
        stack.accept(&third).await;
        stack.settled(&third, "ordered").await;
        let arrived: Vec<usize> = futures::future::join_all(
            [&first, &second, &third].map(|sample| async { stack.destination.journal("ordered", &sample.id).await.len() }),
        )
        .await;
        assert_eq!(arrived, [0, 1, 1]);
    });
}

#[test]
fn a_newer_version_waits_while_an_older_is_on_its_way_and_goes_before_its_retry() {
    journey(async |stack| {
        let thing = tests::stack::unique();
        let version = |number: u32| event(stack, "ordered", "thing.changed", json!({"thing": thing, "version": number}));
        let (old, new) = (version(1), version(2));
        // The old one is refused after a while, and comes again up to some seconds later.
        stack.destination.script("ordered", &old.id, json!({"status": 500, "delay_ms": 1500, "times": 1})).await;
        stack.accept(&old).await;
        eventually("the old one is on its way", SOON, async || {
            when(stack.destination.journal("ordered", &old.id).await.len(), |tries| *tries == 1)
        })
        .await;
        stack.accept(&new).await;
        stack.settled(&new, "ordered").await;
        stack.settled(&old, "ordered").await;
        let (olds, news) =
            (stack.destination.journal("ordered", &old.id).await, stack.destination.journal("ordered", &new.id).await);
        assert_eq!(news.len(), 1);
        assert!(news[0].at >= olds[0].at + 1500, "it waited for the answer to the old one");
        assert!(olds.iter().skip(1).all(|late| late.at < news[0].at), "nothing older arrives after it: {olds:?}");
    });
}
