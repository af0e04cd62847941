//! Destinations in AWS: what arrives at a function, an event bus, a queue and a topic, and what becomes of what does not.
//!
//! `infra/local/targets.py` makes them. The function does as the scriptable destination `local-target` says; topic and bus have
//! a queue behind them. An event's type says where it goes.

use aws_sdk_dynamodb::types::AttributeValue;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tests::stack::{Message, Sample, Stack, eventually, text, when};

use crate::{SOON, journey};

/// The function, as the scriptable destination knows it, and the queue that is a destination.
const TARGET: &str = "local-target";

/// An event that goes to a destination, with a body of that many characters of filler.
fn event_to(stack: &Stack, destination: &str, filler: usize) -> Sample {
    let sample = stack.sample("targets");
    // Of what no compression makes much smaller.
    let filler: String = std::iter::repeat_with(fastrand::alphanumeric).take(filler).collect();
    let body = format!(
        "{{\"type\": \"to.{destination}\", \"timestamp\": \"2026-01-01T00:00:00Z\", \"price\": 12.10, \"é\": \"{filler}\"}}\n"
    );
    Sample { body: body.into_bytes(), ..sample }
}

/// Sends the event with a header that is kept.
async fn accept(stack: &Stack, sample: &Sample) {
    let webhook = stack.sign(sample).await.with("x-tenant", "acme");
    let answer = stack.post(sample.source, &webhook).await;
    assert!(answer.took_it_in(), "{answer:?}");
}

/// What a function and an event bus are told about the event, in the first attempt.
fn envelope(sample: &Sample, destination: &str, received_at: &str) -> Value {
    let key = format!("targets#{}", sample.id);
    let body: Value = serde_json::from_slice(&sample.body).unwrap();
    json!({
        "id": sample.id,
        "source": "targets",
        "type": body["type"],
        "receivedAt": received_at,
        "occurredAt": "2026-01-01T00:00:00Z",
        "idempotencyKey": format!("{key}#{destination}"),
        "attempt": 1,
        "headers": {"content-type": "application/json", "x-tenant": "acme"},
        "body": body,
    })
}

/// The one message of a queue that is about the event.
async fn message_of(stack: &Stack, queue: &str, sample: &Sample) -> Message {
    let key = format!("targets#{}", sample.id);
    let is_its = |message: &Message| message.body.contains(&sample.id) || message.attribute("posthouse-id") == Some(&key);
    let what = format!("{queue} has the event");
    let found = eventually(&what, SOON, async || {
        let mut messages = stack.messages(&format!("https://sqs.us-east-1.amazonaws.com/000000000000/{queue}")).await;
        messages.retain(is_its);
        when(messages, |messages| messages.len() == 1)
    });
    found.await.remove(0)
}

/// What the ledger says about why the delivery is not done.
async fn last_error(stack: &Stack, sample: &Sample, destination: &str) -> String {
    let sort_key = format!("delivery#{destination}");
    let item = stack.items(sample).await.into_iter().find(|item| text(item, "sk") == Some(&sort_key)).unwrap();
    text(&item, "last_error").unwrap_or_default().to_owned()
}

/// What everything that a queue or topic was sent has beside the body.
fn is_described(message: &Message, sample: &Sample, destination: &str) {
    let key = format!("targets#{}", sample.id);
    for (name, value) in [
        ("posthouse-id", key.as_str()),
        ("posthouse-source", "targets"),
        ("posthouse-event-type", &format!("to.{destination}")),
        ("idempotency-key", &format!("{key}#{destination}")),
        ("content-type", "application/json"),
    ] {
        assert_eq!(message.attribute(name), Some(value), "{name}: {message:?}");
    }
    assert_eq!(message.attribute("posthouse-encoding"), None);
}

#[test]
fn a_function_gets_the_whole_event() {
    journey(async |stack| {
        let sample = event_to(stack, "lambda", 0);
        accept(stack, &sample).await;
        let delivery = stack.settled(&sample, "lambda").await;
        assert_eq!(delivery.attempts, 1);
        let invocations = stack.destination.journal(TARGET, &sample.id).await;
        assert_eq!(invocations.len(), 1);
        let event: Value = serde_json::from_slice(&invocations[0].body).unwrap();
        let received_at = event["receivedAt"].as_str().unwrap().to_owned();
        assert_eq!(event, envelope(&sample, "lambda", &received_at));
    });
}

#[test]
fn a_body_that_is_no_text_arrives_in_base64() {
    journey(async |stack| {
        let mut sample = stack.sample("targets");
        sample.body = [b"\xff\x00", sample.id.as_bytes()].concat();
        // Else API Gateway would take it for text.
        let webhook = stack.sign(&sample).await.with("content-type", "application/octet-stream");
        assert!(stack.post(sample.source, &webhook).await.took_it_in());
        for destination in ["lambda", "sqs"] {
            stack.settled(&sample, destination).await;
        }
        let encoded = BASE64_STANDARD.encode(&sample.body);
        let invocations = stack.destination.journal(TARGET, &sample.id).await;
        let event: Value = serde_json::from_slice(&invocations[0].body).unwrap();
        assert_eq!(event["bodyBase64"], encoded.as_str());
        assert_eq!(event.get("body"), None);

        let message = message_of(stack, TARGET, &sample).await;
        assert_eq!((message.body.as_str(), message.attribute("posthouse-encoding")), (encoded.as_str(), Some("base64")));
    });
}

#[test]
fn an_error_that_a_function_is_known_to_mean_is_permanent() {
    journey(async |stack| {
        let sample = event_to(stack, "lambda", 0);
        stack.destination.script(TARGET, &sample.id, json!({"status": 422})).await;
        accept(stack, &sample).await;
        let dead = stack.reaches(&sample, "lambda", "dead", SOON).await;
        assert_eq!((dead.attempts, dead.error_class.as_deref()), (1, Some("permanent")));
        // Its message quotes the event.
        let reason = "the function failed: ValidationError, which `permanent_errors` names";
        assert_eq!(last_error(stack, &sample, "lambda").await, reason);
    });
}

#[test]
fn a_function_that_fails_crashes_or_takes_too_long_is_invoked_again() {
    journey(async |stack| {
        let trouble = [
            ("lambda", json!({"status": 500}), "the function failed: RuntimeError"),
            ("lambda", json!({"status": 410}), "the function failed: Runtime.ExitError"),
            ("hurried", json!({"delay_ms": 2000}), "Lambda did not answer in time"),
        ];
        for (destination, script, reason) in trouble {
            let sample = event_to(stack, destination, 0);
            stack.destination.script(TARGET, &sample.id, script.clone()).await;
            accept(stack, &sample).await;
            let dead = stack.reaches(&sample, destination, "dead", SOON).await;
            assert_eq!((dead.attempts, dead.error_class.as_deref()), (3, Some("transient")), "{script}");
            let reason = format!("gave up after 3 attempts: {reason}");
            assert_eq!(last_error(stack, &sample, destination).await, reason, "{script}");
            // A function that is not waited for any longer goes on, and may come late.
            eventually("each attempt has invoked the function", SOON, async || {
                let mut attempts = attempts_of(stack, &sample).await;
                attempts.sort_unstable();
                when(attempts, |attempts| *attempts == [1, 2, 3])
            })
            .await;
        }
        let sample = event_to(stack, "lambda", 0);
        stack.destination.script(TARGET, &sample.id, json!({"status": 500, "times": 1})).await;
        accept(stack, &sample).await;
        stack.settled(&sample, "lambda").await;
        assert_eq!(attempts_of(stack, &sample).await, [1, 2]);
    });
}

/// What each invocation for the event was told about its attempt.
async fn attempts_of(stack: &Stack, sample: &Sample) -> Vec<u64> {
    let invocations = stack.destination.journal(TARGET, &sample.id).await;
    let attempt = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["attempt"].as_u64().unwrap();
    invocations.iter().map(|entry| attempt(&entry.body)).collect()
}

#[test]
fn an_event_bus_gets_the_whole_event() {
    journey(async |stack| {
        let sample = event_to(stack, "eventbridge", 0);
        accept(stack, &sample).await;
        stack.settled(&sample, "eventbridge").await;
        let event: Value = serde_json::from_str(&message_of(stack, "local-target-bus", &sample).await.body).unwrap();
        assert_eq!((&event["source"], &event["detail-type"]), (&json!("posthouse.targets"), &json!("to.eventbridge")));
        let received_at = event["detail"]["receivedAt"].as_str().unwrap().to_owned();
        assert_eq!(event["detail"], envelope(&sample, "eventbridge", &received_at));
    });
}

#[test]
fn an_event_that_a_bus_refuses_is_dead_though_the_request_succeeded() {
    journey(async |stack| {
        let sample = event_to(stack, "elsewhere", 0);
        accept(stack, &sample).await;
        let dead = stack.reaches(&sample, "elsewhere", "dead", SOON).await;
        assert_eq!((dead.attempts, dead.error_class.as_deref()), (1, Some("permanent")));
        assert_eq!(last_error(stack, &sample, "elsewhere").await, "EventBridge answered ResourceNotFoundException");
    });
}

#[test]
fn a_queue_and_a_topic_get_the_exact_body_and_say_whose_it_is() {
    journey(async |stack| {
        for (destination, queue) in [
            ("sqs", TARGET),
            ("sqs-fifo", "local-target.fifo"),
            ("sns", "local-target-topic"),
            ("sns-fifo", "local-target-topic.fifo"),
        ] {
            let sample = event_to(stack, destination, 100);
            accept(stack, &sample).await;
            stack.settled(&sample, destination).await;
            let message = message_of(stack, queue, &sample).await;
            assert_eq!(message.body.as_bytes(), sample.body, "{destination}");
            is_described(&message, &sample, destination);
        }
    });
}

#[test]
fn what_is_too_large_for_its_target_is_dead_and_says_so() {
    journey(async |stack| {
        for (destination, filler, reason) in [
            ("sqs", 1_050_000, "above the 1048576 that SQS takes"),
            ("eventbridge", 1_050_000, "above the 1048576 that EventBridge takes"),
            ("sns", 270_000, "and a topic takes 262144 unless its `MaximumMessageSize` is larger"),
        ] {
            let sample = event_to(stack, destination, filler);
            accept(stack, &sample).await;
            let dead = stack.reaches(&sample, destination, "dead", SOON).await;
            assert_eq!((dead.attempts, dead.error_class.as_deref()), (1, Some("permanent")), "{destination}");
            let error = last_error(stack, &sample, destination).await;
            assert!(error.contains(reason), "{destination}: {error}");
        }
    });
}

#[test]
fn what_the_worker_may_not_do_pauses_the_destination_and_says_what_to_allow() {
    journey(async |stack| {
        // An earlier run may have left it paused.
        let state = stack.dynamodb.delete_item().table_name(stack.output("LedgerTableName"));
        let state = state.key("pk", AttributeValue::S("destination#forbidden".to_owned()));
        state.key("sk", AttributeValue::S("state".to_owned())).send().await.unwrap();
        let sample = event_to(stack, "forbidden", 0);
        accept(stack, &sample).await;
        let paused = stack.reaches(&sample, "forbidden", "waiting", SOON).await;
        assert_eq!((paused.attempts, paused.error_class.as_deref()), (0, Some("auth")), "no attempt is spent");
        let error = last_error(stack, &sample, "forbidden").await;
        assert!(error.starts_with("SQS does not allow the worker sqs:SendMessage (AccessDenied"), "{error}");
        assert!(error.contains("the stack's parameter SqsTargets"), "{error}");
    });
}
