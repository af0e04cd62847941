//! How the worker delivers when things go wrong: one record alone, a destination in trouble, doorbells that are none.

use aws_sdk_dynamodb::types::AttributeValue;
use futures::future::join_all;
use serde_json::{Value, json};
use tests::{
    providers::gzip,
    stack::{Sample, Stack, unique},
};

use crate::{AUDITED, SOON, accept::the_only_delivery, journey, operator::posthouse, route::event};

#[test]
fn a_delivery_is_tried_again_after_an_error_and_after_a_reset() {
    journey(async |stack| {
        for failure in [json!({"status": 500, "times": 1}), json!({"reset": true, "times": 1})] {
            let sample = stack.sample("fragile");
            stack.destination.script("fragile", &sample.id, failure.clone()).await;
            stack.accept(&sample).await;
            let delivery = stack.settled(&sample, "fragile").await;
            assert_eq!(delivery.attempts, 2, "{failure}: {delivery:?}");
            let tries = stack.destination.journal("fragile", &sample.id).await;
            assert_eq!(tries.len(), 2, "{failure}");
            assert_eq!(tries[0].header("idempotency-key"), tries[1].header("idempotency-key"), "{failure}");
            assert_eq!(tries[0].body, tries[1].body, "{failure}");
        }
    });
}

#[test]
fn a_compressed_body_is_delivered_with_its_encoding_and_mapped_without() {
    journey(async |stack| {
        let plain = stack.sample("compressed");
        let sample = Sample { body: gzip(&plain.body), ..plain };
        // API Gateway would take `application/json` for text.
        let webhook = stack.sign(&sample).await.with("content-type", "application/vnd.stripe+json");
        let answer = stack.post("compressed", &webhook.with("content-encoding", "gzip")).await;
        assert!(answer.took_it_in(), "{answer:?}");
        assert_eq!(answer.body["eventId"], sample.id, "the id is in what was compressed");

        stack.settled(&sample, "compressed").await;
        let entry = the_only_delivery(stack, &sample, "compressed").await;
        assert_eq!(entry.header("content-encoding"), Some("gzip"));
        assert_eq!(entry.header("content-type"), Some("application/vnd.stripe+json"));
        let event_type = entry.header("posthouse-event-type").unwrap().to_owned();

        stack.settled(&sample, "compressed-mapped").await;
        let mapped = stack.destination.journal("compressed-mapped", &sample.id).await;
        assert_eq!(mapped.len(), 1);
        assert_eq!(mapped[0].header("content-encoding"), None);
        assert_eq!(mapped[0].header("content-type"), Some("application/json"));
        let expected = json!({"id": sample.id, "what": event_type});
        assert_eq!(serde_json::from_slice::<Value>(&mapped[0].body).unwrap(), expected);
    });
}

#[test]
fn retry_after_is_kept_to() {
    journey(async |stack| {
        let sample = event(stack, "asking", "some.type", json!({}));
        let throttled = json!({"status": 429, "headers": {"retry-after": "3"}, "times": 1});
        stack.destination.script("asking", &sample.id, throttled).await;
        stack.accept(&sample).await;
        stack.settled(&sample, "asking").await;
        let tries = stack.destination.journal("asking", &sample.id).await;
        assert_eq!(tries.len(), 2);
        // The wait is in whole seconds of the queue's clock.
        assert!(tries[1].at - tries[0].at >= 2_900, "the second try came {} ms after the first", tries[1].at - tries[0].at);
    });
}

#[test]
fn a_doorbell_that_rings_again_changes_nothing() {
    journey(async |stack| {
        let sample = stack.sample("partner");
        stack.accept(&sample).await;
        let before = stack.settled(&sample, "partner").await;
        for _ in 0..3 {
            stack.ring(&doorbell(&sample, "partner").to_string()).await;
        }
        assert_eq!(stack.settled(&sample, "partner").await, before);
        the_only_delivery(stack, &sample, "partner").await;
    });
}

#[test]
fn one_poisoned_record_in_a_batch_of_ten_fails_alone() {
    journey(async |stack| {
        let run = unique();
        let good: Vec<Sample> = (0..9).map(|n| numbered(stack, "partner", &run, n)).collect();
        let poisoned = numbered(stack, "fragile", &run, 9);
        // Recorded and not rung, so that this test's own batch is the first that the worker sees of them.
        let silence =
            json!({"function": "receiver", "operation": "SendMessage", "body_contains": run, "action": "status", "status": 500});
        let silence = stack.wire.fault(silence).await;
        join_all(good.iter().chain([&poisoned]).map(|sample| stack.accept(sample))).await;
        stack.wire.mend(&silence).await;
        stack.destination.script("fragile", &poisoned.id, json!({"status": 503, "times": 1})).await;

        let mut bodies: Vec<String> = good.iter().map(|sample| doorbell(sample, "partner").to_string()).collect();
        bodies.insert(4, doorbell(&poisoned, "fragile").to_string());
        let answer = stack.invoke("worker", &batch(stack, &bodies)).await;

        assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "message-4"}]}));
        for sample in &good {
            assert_eq!(stack.delivery(sample, "partner").await.unwrap().status, "done");
            the_only_delivery(stack, sample, "partner").await;
        }
        assert_eq!(stack.delivery(&poisoned, "fragile").await.unwrap().status, "waiting");
    });
}

#[test]
fn a_batch_without_failures_says_so() {
    journey(async |stack| {
        let sample = stack.sample("partner");
        stack.accept(&sample).await;
        stack.settled(&sample, "partner").await;
        let answer = stack.invoke("worker", &batch(stack, &[doorbell(&sample, "partner").to_string()])).await;
        assert_eq!(answer, json!({"batchItemFailures": []}));
    });
}

#[test]
fn a_doorbell_that_is_none_goes_to_the_dead_letters_with_a_reason() {
    journey(async |stack| {
        let mark = unique();
        let none = [
            format!("not JSON {mark}-a"),
            format!("{{\"source\":\"{mark}-b\"}}"),
            format!("[\"{mark}-c\"]"),
            format!(r#"{{"source":"partner","event_id":"{mark}-d","destination":"nowhere","replay":0}}"#),
            format!(r#"{{"source":"partner","event_id":"{mark}-e","destination":"partner","replay":0}}"#),
        ];
        for body in &none {
            stack.ring(body).await;
        }
        for (body, letter) in none.iter().zip(["a", "b", "c", "d", "e"]) {
            let dead = stack.dead_letter(&format!("{mark}-{letter}")).await;
            assert_eq!(&dead.body, body);
            assert!(dead.attribute("reason").is_some_and(|reason| !reason.is_empty()), "{body}: {dead:?}");
        }
        stack.silent(&mark).await;
        assert!(stack.destination.journal("partner", &mark).await.is_empty());
    });
}

#[test]
fn a_poisoned_doorbell_that_cannot_be_put_aside_is_not_acknowledged() {
    journey(async |stack| {
        let mark = unique();
        let fault =
            json!({"function": "worker", "operation": "SendMessage", "body_contains": mark, "action": "status", "status": 500});
        let fault = stack.wire.fault(fault).await;
        let answer = stack.invoke("worker", &batch(stack, &[format!("not JSON {mark}")])).await;
        assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "message-0"}]}));
        stack.wire.mend(&fault).await;
    });
}

#[test]
fn a_destination_that_refuses_our_credentials_pauses_and_goes_on_when_a_person_says_so() {
    journey(async |stack| {
        // The third different event in a row pauses it.
        let samples = [(); 3].map(|()| stack.sample("refusing"));
        for sample in &samples {
            stack.destination.script("refusing", &sample.id, json!({"status": 401})).await;
            stack.accept(sample).await;
            stack.reaches(sample, "refusing", "waiting", SOON).await;
        }
        let paused = &samples[2];
        assert_eq!(stack.reaches(paused, "refusing", "waiting", SOON).await.attempts, 0, "no attempt is spent");
        stack.silent(&paused.id).await;

        for sample in &samples {
            stack.destination.heal("refusing", &sample.id).await;
        }
        posthouse(stack, "destinations", &["resume", "refusing"]).is(0, "refusing goes on");
        stack.reaches(paused, "refusing", "done", AUDITED).await;
        let statuses: Vec<u16> =
            stack.destination.journal("refusing", &paused.id).await.iter().map(|entry| entry.answer.status).collect();
        assert_eq!(statuses, [401, 200]);
    });
}

#[test]
fn orders_of_one_customer_at_the_same_instant_are_all_done() {
    journey(async |stack| {
        let customer = fastrand::u32(..);
        let order = |second: u32| {
            let updated_at = format!("2026-11-22T06:24:{second:02}Z");
            let mut order = stack.sample("shopify");
            // The journals are searched by the event's id.
            let body = json!({"id": order.id, "customer": {"id": customer, "email": "a@example.com", "updated_at": updated_at}});
            order.body = body.to_string().into_bytes();
            order
        };
        let orders: Vec<Sample> = (0..8).map(order).collect();
        join_all(orders.iter().map(|order| stack.accept(order))).await;
        for order in &orders {
            stack.reaches(order, "customers", "done", AUDITED).await;
        }
        let key = AttributeValue::S(format!("shopify#{customer}"));
        let found = stack.dynamodb.get_item().table_name(stack.output("CustomersTableName")).key("pk", key).send().await;
        let version = found.unwrap().item.unwrap()["version"].as_n().unwrap().clone();
        assert_eq!(version, "1795328647000", "the newest version stays, whatever order they came in");
        let id = AttributeValue::S(format!("id#shopify#{customer}"));
        let found = stack.dynamodb.get_item().table_name(stack.output("CustomersTableName")).key("pk", id).send().await;
        let mapped = found.unwrap().item.unwrap()["customer"].as_s().unwrap().clone();
        assert_eq!(mapped, format!("shopify#{customer}"));
    });
}

/// The first doorbell of a delivery.
pub(crate) fn doorbell(sample: &Sample, destination: &str) -> Value {
    json!({"source": sample.source, "event_id": sample.id, "destination": destination, "replay": 0})
}

/// An event of which `run` and a number make the id.
pub(crate) fn numbered(stack: &Stack, source: &'static str, run: &str, n: usize) -> Sample {
    let sample = stack.sample(source);
    let id = format!("{run}-{n}");
    let body = String::from_utf8(sample.body).unwrap().replace(&sample.id, &id).into_bytes();
    Sample { source, id, body }
}

/// The event by which SQS hands the worker a batch: message ids count from 0, receipt handles are nobody's.
pub(crate) fn batch(stack: &Stack, bodies: &[String]) -> Value {
    let record = |(n, body): (usize, &String)| {
        json!({
            "messageId": format!("message-{n}"),
            "receiptHandle": format!("receipt-{n}"),
            "body": body,
            "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1767225600000", "SenderId": "test",
                           "ApproximateFirstReceiveTimestamp": "1767225600000"},
            "messageAttributes": {},
            "md5OfBody": "",
            "eventSource": "aws:sqs",
            "eventSourceARN": stack.output("DoorbellQueueArn"),
            "awsRegion": "us-east-1",
        })
    };
    json!({"Records": bodies.iter().enumerate().map(record).collect::<Vec<_>>()})
}
