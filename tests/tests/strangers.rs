//! Whatever strangers send, to the functions themselves: an answer, no panic, and nothing written. `make fuzz` goes on for longer.

use std::cell::Cell;

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json, value::RawValue};
use tests::strangers::{SOURCES, Strangers, event};

/// Requests, and batches, of one run.
const CASES: u32 = 512;

fn runner() -> TestRunner {
    TestRunner::new(Config { cases: CASES, ..Config::default() })
}

/// Headers that mean something to a scheme, with values that nearly do.
fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof![
        prop::sample::select(vec![
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
            "x-github-delivery",
            "x-github-event",
            "x-hub-signature-256",
            "stripe-signature",
            "x-slack-signature",
            "x-slack-request-timestamp",
            "x-twilio-signature",
            "x-gitlab-token",
            "x-trello-webhook",
            "content-type",
            "content-encoding",
            "host",
        ])
        .prop_map(str::to_owned),
        "[a-z-]{1,12}",
    ];
    let value = prop_oneof![
        "[ -~]{0,40}",
        "(sha256=)?[0-9a-f]{0,64}(,[0-9a-f]{0,64})?",
        "t=[0-9]{0,20},v1=[0-9a-f]{0,64}(,v0=.*)?",
        "v1,[A-Za-z0-9+/=]{0,44}",
        "[0-9]{1,20}",
        "(gzip|deflate|br|zstd|identity)(, ?(gzip|deflate|br|zstd|utf-8)){0,2}",
        any::<String>(),
    ];
    vec((name, value), 0..6)
}

fn bodies() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[A-Za-z0-9+/=]{0,60}",
        "[a-z%0-9&=+]{0,60}",
        any::<u32>().prop_map(|number| json!({"type": "url_verification", "challenge": number.to_string()}).to_string()),
        (0..300_usize).prop_map(|length| "x".repeat(length)),
    ]
}

fn queries() -> impl Strategy<Value = String> {
    prop_oneof!["", "[a-z%0-9&=+.]{0,40}", "hub\\.mode=subscribe&hub\\.challenge=[0-9<>]{0,9}&hub\\.verify_token=[a-z]{0,9}"]
}

#[test]
fn any_request_that_nobody_signed_is_refused_in_words_and_leaves_nothing() {
    let gateway = Strangers::new();
    let methods = prop::sample::select(vec!["POST", "GET", "PUT", "HEAD", "?"]);
    let source = prop_oneof![prop::sample::select(SOURCES.to_vec()).prop_map(str::to_owned), any::<String>()];
    let requests = (methods, source, queries(), headers(), bodies(), any::<bool>());
    let refused = Cell::new(0);
    let property = |(method, source, query, headers, body, base64): (&str, String, String, Vec<_>, String, bool)| {
        let status = gateway.receive(&event(method, &source, &query, &headers, &body, base64));
        refused.set(refused.get() + i32::from(status >= 400));
        Ok(())
    };
    runner().run(&requests, property).unwrap_or_else(|error| panic!("{error}"));
    assert!(refused.get() > 0);
}

/// JSON of any shape.
fn json_values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let name = prop_oneof![
        prop::sample::select(vec![
            "version",
            "headers",
            "body",
            "isBase64Encoded",
            "requestContext",
            "http",
            "method",
            "pathParameters",
            "source",
            "rawQueryString",
            "domainName",
            "event_id",
            "destination",
            "replay",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ];
    leaf.prop_recursive(4, 32, 8, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::from),
            vec((name.clone(), inner), 0..8).prop_map(|entries| entries.into_iter().collect()),
        ]
    })
}

#[test]
fn any_json_in_the_place_of_a_request_is_refused_and_leaves_nothing() {
    let gateway = Strangers::new();
    let property = |value: Value| {
        let text = RawValue::from_string(value.to_string()).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(gateway.receive(&text) >= 400);
        Ok(())
    };
    runner().run(&json_values(), property).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn any_batch_is_put_aside_or_comes_again_and_leaves_nothing_else() {
    let gateway = Strangers::new();
    let name = || prop_oneof!["(partner|github|one|nobody)", any::<String>()];
    let doorbell = (name(), any::<String>(), name(), any::<u64>()).prop_map(|(source, event_id, destination, replay)| {
        json!({"source": source, "event_id": event_id, "destination": destination, "replay": replay}).to_string()
    });
    let body = prop_oneof![doorbell, json_values().prop_map(|value| value.to_string()), any::<String>(), Just(String::new())];
    let aside = Cell::new(0);
    let property = |bodies: Vec<String>| {
        aside.set(aside.get() + bodies.len() - gateway.work(&bodies));
        Ok(())
    };
    runner().run(&vec(body, 0..=10), property).unwrap_or_else(|error| panic!("{error}"));
    assert!(aside.get() > 0, "all came again");
}
