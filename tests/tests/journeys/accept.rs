//! What is accepted, and that it arrives: once, and byte for byte.

use std::collections::BTreeMap;

use futures::future::join_all;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tests::{
    destination::Entry,
    providers::standard_webhooks_signature,
    stack::{Sample, Stack},
};

use crate::journey;

/// Each source of the local configuration, and an HTTP destination that it routes to.
const ROUTES: [(&str, &str); 4] = [("github", "ci"), ("stripe", "billing"), ("shopify", "shop"), ("partner", "partner")];

#[test]
fn a_signed_webhook_of_every_provider_is_accepted_and_delivered() {
    journey(async |stack| {
        for (source, destination) in ROUTES {
            let sample = stack.sample(source);
            stack.accept(&sample).await;
            let delivery = stack.settled(&sample, destination).await;
            assert_eq!(delivery.attempts, 1, "{source}: {delivery:?}");
            let entry = the_only_delivery(stack, &sample, destination).await;
            assert_eq!(entry.method, "POST");
            assert_eq!(entry.header("content-type"), Some("application/json"), "{source}");
        }
    });
}

#[test]
fn a_delivery_is_signed_as_standard_webhooks_with_the_key_for_deliveries() {
    journey(async |stack| {
        let sample = stack.sample("partner");
        stack.accept(&sample).await;
        stack.settled(&sample, "partner").await;
        let entry = the_only_delivery(stack, &sample, "partner").await;
        let header = |name| entry.header(name).unwrap_or_else(|| panic!("no {name} in {:?}", entry.headers));
        let (id, at) = (header("webhook-id"), header("webhook-timestamp").parse().unwrap());
        let key = stack.keyring("delivery-signing").await.remove(0);
        let expected = standard_webhooks_signature(&key.secret, id, at, &sample.body);
        assert!(header("webhook-signature").split(' ').any(|signature| signature == expected), "{:?}", entry.headers);
        assert!(!header("idempotency-key").is_empty());
    });
}

#[test]
fn a_compiled_in_handler_and_an_http_destination_have_deliveries_of_their_own() {
    journey(async |stack| {
        let sample = stack.sample("shopify");
        stack.accept(&sample).await;
        assert_eq!(stack.settled(&sample, "customers").await.attempts, 1);
        assert_eq!(stack.settled(&sample, "shop").await.attempts, 1);
    });
}

#[test]
fn a_webhook_redelivered_ten_times_is_delivered_once() {
    journey(async |stack| {
        let sample = stack.sample("github");
        stack.accept(&sample).await;
        for _ in 0..10 {
            let answer = stack.send(&sample).await;
            let expected = json!({"status": "duplicate", "source": "github", "eventId": sample.id});
            assert_eq!((answer.status, answer.body), (200, expected));
        }
        stack.settled(&sample, "ci").await;
        the_only_delivery(stack, &sample, "ci").await;
    });
}

#[test]
fn fifty_copies_at_the_same_instant_are_one_event_and_one_delivery() {
    journey(async |stack| {
        let sample = stack.sample("partner");
        let webhook = stack.sign(&sample).await;
        let answers = join_all((0..50).map(|_| stack.post("partner", &webhook))).await;

        let mut statuses = BTreeMap::new();
        for answer in &answers {
            *statuses.entry((answer.status, answer.body["status"].as_str())).or_insert(0) += 1;
        }
        let accepted = statuses.remove(&(202, Some("accepted"))).unwrap_or(0);
        let duplicates = statuses.remove(&(200, Some("duplicate"))).unwrap_or(0);
        assert_eq!((accepted + duplicates, statuses), (50, BTreeMap::new()));
        // The one that was recorded may have been answered 503, and have been a duplicate when it was sent again.
        assert!(accepted == 1 || accepted == 0 && answers.iter().any(|answer| answer.sent > 1), "{accepted} were accepted");
        stack.settled(&sample, "partner").await;
        the_only_delivery(stack, &sample, "partner").await;
    });
}

#[test]
fn one_id_under_two_sources_is_two_events() {
    journey(async |stack| {
        let first = stack.sample("partner");
        let second = Sample { source: "partner2", ..first.clone() };
        stack.accept(&first).await;
        stack.accept(&second).await;
        stack.settled(&first, "partner").await;
        stack.settled(&second, "partner2").await;
        the_only_delivery(stack, &first, "partner").await;
        the_only_delivery(stack, &second, "partner2").await;
    });
}

#[test]
fn one_id_with_two_bodies_keeps_both_and_delivers_the_first() {
    journey(async |stack| {
        let first = stack.sample("partner");
        let mut second = first.clone();
        second.body.extend(b" ");
        stack.accept(&first).await;

        let answer = stack.send(&second).await;
        assert!((200..300).contains(&answer.status), "a sender told no would only send it again: {answer:?}");
        assert_eq!(stack.conflicts(&first).await, [hex::encode(Sha256::digest(&second.body))]);
        let answer = stack.send(&first).await;
        assert_eq!((answer.status, answer.body["status"].as_str()), (200, Some("duplicate")), "the event is still the first");

        stack.settled(&first, "partner").await;
        the_only_delivery(stack, &first, "partner").await;
    });
}

#[test]
fn three_megabytes_go_through_the_bucket_and_arrive_byte_for_byte() {
    journey(async |stack| {
        let mut sample = stack.sample("github");
        // Random, so that compression does not make it fit into an item.
        sample.body.extend(std::iter::repeat_with(|| fastrand::alphanumeric() as u8).take(3 * 1024 * 1024));
        stack.accept(&sample).await;

        let digest = hex::encode(Sha256::digest(&sample.body));
        let bucket = stack.s3.list_objects_v2().bucket(stack.output("BodiesBucketName")).send();
        let keys: Vec<_> = bucket.await.unwrap().contents().iter().filter_map(|object| object.key.clone()).collect();
        assert!(keys.iter().any(|key| key.contains(&digest)), "{digest} is not in the bucket: {keys:?}");

        stack.settled(&sample, "ci").await;
        the_only_delivery(stack, &sample, "ci").await;
    });
}

#[test]
fn bodies_that_are_no_text_arrive_byte_for_byte() {
    journey(async |stack| {
        for body in [&b""[..], b"\0", b"\0\0a\0", b"\xff\xfe\xfd", b"\xc3\x28 not UTF-8", "žluťoučký kůň".as_bytes()] {
            let sample = Sample { body: body.to_vec(), ..stack.sample("github") };
            let webhook = stack.sign(&sample).await.with("content-type", "application/octet-stream");
            let answer = stack.post("github", &webhook).await;
            assert_eq!(answer.status, 202, "{body:?}: {answer:?}");
            stack.settled(&sample, "ci").await;
            let entry = the_only_delivery(stack, &sample, "ci").await;
            assert_eq!(entry.header("content-type"), Some("application/octet-stream"), "{body:?}");
        }
    });
}

/// What the destination got for the event: exactly one request, with exactly the event's body.
pub(crate) async fn the_only_delivery(stack: &Stack, sample: &Sample, destination: &str) -> Entry {
    let mut entries = stack.destination.journal(destination, &sample.id).await;
    assert_eq!(entries.len(), 1, "{destination} got {}#{} so often", sample.source, sample.id);
    let entry = entries.remove(0);
    assert!(entry.body == sample.body, "{destination} got {} bytes, not those that were sent", entry.body.len());
    entry
}
