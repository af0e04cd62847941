//! Batches of events, through the real receiver and worker over a model of AWS: with every fault at every call, and whatever the sender
//! groups anew when it sends again, each event is recorded once and delivered as its exact bytes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeMap, time::Duration};

use tests::{
    model::{DEAD_LETTER_QUEUE, Fate, Latency, Service},
    passage::{Passage, Posted, signed},
    providers::gzip,
    simulation::director::FATES,
};

/// Tries after which what does not succeed never will.
const TRIES_MAX: usize = 5;
const GATEWAY: &str = r#"
[sources.stripe]
scheme = "stripe"
secret = "shared"
event = { each = "/events", id = "json:/id", type = "json:/type", ignore = ["/again"] }

[[routes]]
source = "stripe"
destination = "plain"

[[routes]]
source = "stripe"
types = ["b"]
map = "{id, to: $envelope.to, left: ($envelope.events | length)}"
destination = "mapped"
"#;

/// How often each body came to a destination.
fn delivered(passage: &Passage, destination: &str) -> BTreeMap<Vec<u8>, usize> {
    let mut counts = BTreeMap::new();
    for Posted { headers, body, .. } in passage.delivered(destination) {
        assert!(!headers.contains_key("content-encoding"));
        *counts.entry(body).or_default() += 1;
    }
    counts
}

fn element(id: &str, event_type: &str, again: bool) -> String {
    format!("{{ \"id\":\"{id}\", \"type\":\"{event_type}\",\"again\":{again} }}")
}

fn batch(elements: &[String]) -> Vec<u8> {
    format!("{{\"to\":\"x\",\"events\":[{}],\"n\":1}}", elements.join(" , ")).into_bytes()
}

#[test]
fn each_event_of_a_batch_is_delivered_as_its_exact_bytes_and_the_body_is_stored_once() {
    let passage = Passage::new(GATEWAY);
    let elements = [element("1", "a", false), element("2", "b", false), element("3", "a", false)];
    let (status, told) = passage.receive("receiver-1", &signed(&batch(&elements))).unwrap();
    assert_eq!((status, &told["status"], &told["eventIds"]), (202, &"accepted".into(), &serde_json::json!(["1", "2", "3"])));
    let calls = passage.aws.calls_by_operation();
    let count = |service, operation: &str| calls.get(&(service, operation.to_owned())).copied().unwrap_or_default();
    assert_eq!((count(Service::S3, "PutObject"), count(Service::DynamoDb, "PutItem")), (1, 3), "{calls:?}");
    let expected: BTreeMap<_, _> = elements.iter().map(|element| (element.clone().into_bytes(), 1)).collect();
    assert_eq!(delivered(&passage, "/plain"), expected);
    assert_eq!(delivered(&passage, "/mapped"), BTreeMap::from([(br#"{"id":"2","to":"x","left":0}"#.to_vec(), 1)]));
    let (status, told) = passage.receive("receiver-1", &signed(&batch(&elements))).unwrap();
    assert_eq!((status, &told["status"]), (200, &"duplicate".into()));
    assert!(passage.aws.messages(DEAD_LETTER_QUEUE).is_empty());
}

#[test]
fn a_compressed_batch_is_delivered_element_by_element_as_it_was_before() {
    let passage = Passage::new(GATEWAY);
    let elements = [element("1", "a", false), element("2", "b", false)];
    let webhook = signed(&gzip(&batch(&elements))).with("content-encoding", "gzip");
    assert_eq!(passage.receive("receiver-1", &webhook).unwrap().0, 202);
    // Without its coding it is no batch: what was signed is known all the same.
    let (status, told) = passage.receive("receiver-1", &webhook.clone().without("content-encoding")).unwrap();
    assert_eq!((status, &told["status"]), (200, &"duplicate".into()));
    assert_eq!(passage.receive("receiver-1", &webhook).unwrap().0, 200);
    assert_eq!(delivered(&passage, "/plain").into_keys().collect::<Vec<_>>(), elements.map(String::into_bytes));
}

/// Its first element is not what tells that.
#[test]
fn a_compressed_batch_whose_elements_were_known_is_known_without_its_coding() {
    let passage = Passage::new(GATEWAY);
    let elements = [element("1", "a", false), element("2", "b", false)];
    assert_eq!(passage.receive("receiver-1", &signed(&batch(&elements[..1]))).unwrap().0, 202);
    let webhook = signed(&gzip(&batch(&elements))).with("content-encoding", "gzip");
    assert_eq!(passage.receive("receiver-1", &webhook).unwrap().0, 202);
    let (status, told) = passage.receive("receiver-1", &webhook.without("content-encoding")).unwrap();
    assert_eq!((status, &told["status"]), (200, &"duplicate".into()), "{told}");
    assert_eq!(delivered(&passage, "/plain").into_keys().collect::<Vec<_>>(), elements.map(String::into_bytes));
}

#[test]
fn a_batch_that_is_empty_or_too_large_is_told_so_and_writes_nothing() {
    let passage = Passage::new(GATEWAY);
    let (status, told) = passage.receive("receiver-1", &signed(&batch(&[]))).unwrap();
    assert_eq!((status, &told["eventIds"]), (202, &serde_json::json!([])));
    let many: Vec<String> = (0..101).map(|number| element(&number.to_string(), "a", false)).collect();
    let (status, told) = passage.receive("receiver-1", &signed(&batch(&many))).unwrap();
    assert_eq!(status, 400);
    assert!(told["error"]["message"].as_str().unwrap().contains("has 101 events, more than the 100"), "{told}");
    assert_eq!(passage.counted("Unreadable"), 1);
    assert!(delivered(&passage, "/plain").is_empty());
    let (status, _) = passage.receive("receiver-1", &signed(&batch(&many[1..]))).unwrap();
    assert_eq!(status, 202);
    assert_eq!(delivered(&passage, "/plain").len(), 100);
}

/// The first attempt has a fault at one call; the sender then groups the events in another way, each told as sent again, with a new one.
fn play(fault: Option<(u64, Fate)>) -> u64 {
    let passage = Passage::new(GATEWAY);
    let before = passage.aws.calls();
    passage.aws.on_call(move |call| match fault {
        Some((at, fate)) if call.number == before + 1 + at => fate,
        _ => Fate::Succeed,
    });
    let first = [element("1", "a", false), element("2", "a", false), element("3", "a", false)];
    let told = passage.receive("receiver-1", &signed(&batch(&first)));
    let calls = passage.aws.calls() - before;
    let is_told_yes = told.is_some_and(|(status, _)| (200..300).contains(&status));
    let again = [element("3", "a", true), element("4", "a", false), element("1", "a", true), element("2", "a", true)];
    let accepted = (0..TRIES_MAX).find_map(|number| {
        let told = passage.receive(&format!("receiver-again-{number}"), &signed(&batch(&again)));
        told.filter(|(status, _)| (200..300).contains(status))
    });
    let (_, told) = accepted.unwrap_or_else(|| panic!("{fault:?}: it is stuck"));
    assert_eq!(told["eventIds"], serde_json::json!(["3", "4", "1", "2"]), "{fault:?}");
    let delivered = delivered(&passage, "/plain");
    // Whichever attempt recorded an event, it is one.
    let ids: Vec<String> = delivered
        .iter()
        .map(|(body, count)| {
            assert_eq!(*count, 1, "{fault:?}");
            serde_json::from_slice::<serde_json::Value>(body).unwrap()["id"].as_str().unwrap().to_owned()
        })
        .collect();
    let mut sorted = ids.clone();
    sorted.sort();
    assert_eq!(sorted, ["1", "2", "3", "4"], "{fault:?}");
    if is_told_yes {
        for element in &first {
            assert!(delivered.contains_key(element.as_bytes()), "{fault:?}: what was accepted is what is delivered");
        }
    }
    calls
}

#[test]
fn no_fault_at_any_call_loses_or_doubles_an_event_of_a_batch() {
    let calls = play(None);
    assert!(calls >= 5, "{calls}");
    for at in 0..calls {
        for fate in FATES {
            play(Some((at, fate)));
        }
    }
}

#[test]
fn of_two_under_one_id_in_one_batch_the_first_is_the_event() {
    let passage = Passage::new(GATEWAY);
    let elements = [element("1", "a", false), element("1", "c", false), element("2", "a", false)];
    // The first write is the slowest.
    let mut writes = 0;
    passage.aws.latency(move |call| {
        writes += u64::from(call.operation == "PutItem");
        let takes = Duration::from_millis(if call.operation == "PutItem" && writes == 1 { 50 } else { 1 });
        Latency { before: takes, after: Duration::ZERO }
    });
    assert_eq!(passage.receive("receiver-1", &signed(&batch(&elements))).unwrap().0, 202);
    assert_eq!((passage.counted("Accepted"), passage.counted("Conflicts")), (2, 1));
    let expected: Vec<_> = [&elements[0], &elements[2]].map(|element| element.clone().into_bytes()).into();
    assert_eq!(delivered(&passage, "/plain").into_keys().collect::<Vec<_>>(), expected);
}
