//! What is accepted, and that it arrives: once, and byte for byte.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tests::{
    destination::Entry,
    providers::{TWILIO_URL, Webhook, standard_webhooks_signature, twilio_signature},
    stack::{Answer, Item, Sample, Stack, text, unique, unix_now},
};

use crate::{journey, keys::destination_keys, refuse::refused};

/// Sources of the local configuration, what they are answered, and an HTTP destination that each routes to.
const ROUTES: [(&str, u16, &str); 9] = [
    ("github", 202, "ci"),
    ("stripe", 202, "billing"),
    ("shopify", 202, "shop"),
    ("partner", 202, "partner"),
    ("slack", 200, "anything"),
    ("meta", 200, "anything"),
    ("trello", 200, "anything"),
    ("twilio", 204, "anything"),
    ("contentful", 202, "anything"),
];

#[test]
fn a_signed_webhook_of_every_provider_is_accepted_and_delivered() {
    journey(async |stack| {
        for (source, status, destination) in ROUTES {
            let sample = stack.sample(source);
            let answer = recorded(stack, &sample).await;
            assert!(answer.status == status || status == 202 && answer.took_it_in(), "{source}: {answer:?}");
            let delivery = stack.settled(&sample, destination).await;
            assert_eq!(delivery.attempts, 1, "{source}: {delivery:?}");
            let entry = the_only_delivery(stack, &sample, destination).await;
            assert_eq!(entry.method, "POST");
            let content_type = if source == "twilio" { "application/x-www-form-urlencoded" } else { "application/json" };
            assert_eq!(entry.header("content-type"), Some(content_type), "{source}");
        }
    });
}

#[test]
fn a_delivery_is_signed_as_standard_webhooks_with_a_key_of_its_destination() {
    journey(async |stack| {
        let sample = stack.sample("partner");
        stack.accept(&sample).await;
        stack.settled(&sample, "partner").await;
        let entry = the_only_delivery(stack, &sample, "partner").await;
        let header = |name| entry.header(name).unwrap_or_else(|| panic!("no {name} in {:?}", entry.headers));
        let (id, at) = (header("webhook-id"), header("webhook-timestamp").parse().unwrap());
        let signed_with = |key: &str| {
            let expected = standard_webhooks_signature(key, id, at, &sample.body);
            header("webhook-signature").split(' ').any(|signature| signature == expected)
        };
        assert!(signed_with(&destination_keys(stack, "partner")[0]), "{:?}", entry.headers);
        // What another destination verifies with, or what all are derived from, makes no signature for this one.
        assert!(!signed_with(&destination_keys(stack, "partner2")[0]));
        assert!(!signed_with(&stack.keyring("destination/delivery-signing").await.remove(0).secret));
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
fn oddities_in_a_body_leave_its_id_and_type_readable() {
    journey(async |stack| {
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        for odd in [r#""\ud83c""#, "1e400", "36893488147419103233", &deep, r#"{"id":1,"id":2}"#] {
            let sample = stack.sample("stripe");
            let body = format!("\u{feff}{{\"odd\":{odd},\"id\":\"{}\",\"type\":\"invoice.paid\"}}", sample.id);
            let sample = Sample { body: body.into_bytes(), ..sample };
            stack.accept(&sample).await;
            stack.settled(&sample, "billing").await;
            the_only_delivery(stack, &sample, "billing").await;
        }
    });
}

#[test]
fn a_genuine_webhook_without_a_readable_id_is_accepted_under_its_digest() {
    journey(async |stack| {
        for body in [format!("{{\"cut off\":\"{}\"", unique()), format!("{{\"n\":\"{}\",\"id\":{{}}}}", unique())] {
            let sample = Sample { body: body.into_bytes(), ..stack.sample("stripe") };
            let now = unix_now();
            let signed = [now.to_string().as_bytes(), b".", &sample.body].concat();
            let sample = Sample { id: hex::encode(Sha256::digest(&signed)), ..sample };
            let answer = stack.post("stripe", &stack.sign_at(&sample, now).await).await;
            assert!(answer.took_it_in(), "{answer:?}");
            assert_eq!(answer.body["eventId"], sample.id);
            let event = stack.event(&sample).await.unwrap();
            assert_eq!(text(&event, "type"), Some("unreadable"));
            stack.settled(&sample, "anything").await;
        }
    });
}

#[test]
fn a_captured_webhook_without_its_id_is_not_delivered_again() {
    journey(async |stack| {
        let sample = stack.sample("twilio");
        recorded(stack, &sample).await;
        let stripped = stack.sign(&sample).await.without("i-twilio-idempotency-token");
        let answer = stack.post("twilio", &stripped).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        stack.settled(&sample, "anything").await;
        the_only_delivery(stack, &sample, "anything").await;
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
        // None, if the one that was recorded had to be tried again.
        assert!(accepted <= 1, "{accepted} were accepted");
        stack.settled(&sample, "partner").await;
        the_only_delivery(stack, &sample, "partner").await;
    });
}

#[test]
fn a_captured_webhook_that_is_sent_again_under_other_ids_is_the_first() {
    journey(async |stack| {
        for (source, id_header, destination) in
            [("github", "x-github-delivery", "ci"), ("shopify", "x-shopify-webhook-id", "shop")]
        {
            let sample = stack.sample(source);
            let webhook = stack.sign(&sample).await;
            stack.accept(&sample).await;
            for _ in 0..3 {
                let made_up = Sample { id: unique(), ..sample.clone() };
                let answer = stack.post(source, &webhook.clone().with(id_header, &made_up.id)).await;
                let expected = json!({"status": "duplicate", "source": source, "eventId": sample.id});
                assert_eq!((answer.status, answer.body), (200, expected));
                assert_eq!(stack.items(&made_up).await, []);
                let is_replay = |item: &Item| text(item, "sk").is_some_and(|sk| sk.starts_with("replay#"));
                let replays: Vec<Item> = stack.items(&sample).await.into_iter().filter(is_replay).collect();
                assert!((1..=3).contains(&replays.len()), "it is kept beside the first, if there is room: {}", replays.len());
                assert!(replays.iter().all(|item| !item.contains_key("body")), "its body is the first's");
            }
            stack.settled(&sample, destination).await;
            the_only_delivery(stack, &sample, destination).await;
            assert_eq!(stack.conflicts(&sample).await, [""; 0]);
        }
    });
}

#[test]
fn a_signature_that_comes_twice_or_beside_another_still_proves() {
    journey(async |stack| {
        let header = "x-hub-signature-256";
        let sample = stack.sample("github");
        let answer = stack.post("github", &stack.sign(&sample).await.with_repeated(header)).await;
        assert!(answer.took_it_in(), "{answer:?}");
        let sample = stack.sample("github");
        let beside = stack.sign(&sample).await.with_changed(header, |good| format!("sha256={},{good}", "0".repeat(64)));
        let answer = stack.post("github", &beside).await;
        assert!(answer.took_it_in(), "{answer:?}");
        // A list with white space in between, sent as two headers, arrives with a comma in between.
        let sample = stack.sample("partner");
        let answer = stack.post("partner", &stack.sign(&sample).await.with_repeated("webhook-signature")).await;
        assert!(answer.took_it_in(), "{answer:?}");
    });
}

#[test]
fn twenty_copies_under_ids_of_their_own_at_the_same_instant_are_one_event() {
    journey(async |stack| {
        let sample = stack.sample("github");
        let webhook = stack.sign(&sample).await;
        let copies: Vec<Sample> = (0..20).map(|_| Sample { id: unique(), ..sample.clone() }).collect();
        let answers = join_all(
            copies.iter().map(async |copy| stack.post("github", &webhook.clone().with("x-github-delivery", &copy.id)).await),
        )
        .await;
        let ids: BTreeSet<_> = answers.iter().map(|answer| answer.body["eventId"].as_str()).collect();
        assert_eq!(ids.len(), 1, "{answers:?}");
        let accepted = answers.iter().filter(|answer| answer.status == 202).count();
        let rest = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(accepted + rest, 20, "{answers:?}");
        // None, if the one that was recorded had to be tried again.
        assert!(accepted <= 1, "{accepted} were accepted");
        let mut events = Vec::new();
        for copy in copies {
            events.extend(stack.event(&copy).await.map(|_| copy));
        }
        assert_eq!(events.len(), 1, "{events:?}");
        stack.settled(&events[0], "ci").await;
        // The body names the sample, whatever id it came under.
        the_only_delivery(stack, &sample, "ci").await;
    });
}

#[test]
fn another_body_under_an_id_that_is_not_signed_is_an_event_of_its_own() {
    journey(async |stack| {
        let first = stack.sample("github");
        let mut second = first.clone();
        second.body.extend(b" ");
        stack.accept(&first).await;
        let answer = stack.send(&second).await;
        let event_id = answer.body["eventId"].as_str().unwrap_or_default().to_owned();
        assert_eq!((answer.status, answer.body["status"].as_str()), (202, Some("accepted")), "{answer:?}");
        assert_ne!(event_id, first.id);
        // The same, and the same under an id that somebody made up.
        for again in [second.clone(), Sample { id: unique(), ..second.clone() }] {
            let answer = stack.send(&again).await;
            assert_eq!((answer.status, answer.body["eventId"].as_str()), (200, Some(event_id.as_str())), "{answer:?}");
        }
        assert_eq!(stack.conflicts(&first).await, [""; 0]);
        stack.settled(&first, "ci").await;
        stack.settled(&Sample { id: event_id, ..second.clone() }, "ci").await;
    });
}

#[test]
fn a_slack_event_that_is_sent_again_is_one_event() {
    journey(async |stack| {
        let sample = stack.sample("slack");
        for retry in 0..4 {
            // Each try is signed at its own time.
            let webhook = stack.sign_at(&sample, unix_now() - 60 + 20 * retry).await;
            let webhook = match retry {
                0 => webhook,
                _ => webhook.with("x-slack-retry-num", &retry.to_string()).with("x-slack-retry-reason", "http_timeout"),
            };
            let answer = stack.post("slack", &webhook).await;
            assert_eq!((answer.status, answer.body), (200, json!("")), "what is answered is shown to a user");
        }
        stack.settled(&sample, "anything").await;
        the_only_delivery(stack, &sample, "anything").await;
    });
}

#[test]
fn a_form_is_proven_by_the_url_that_is_registered_with_and_without_its_port() {
    journey(async |stack| {
        let key = stack.keyring("source/twilio").await.remove(0);
        let signed = async |sample: &Sample, url: &str| {
            stack.sign(sample).await.with("x-twilio-signature", &twilio_signature(&key.secret, url, &sample.body))
        };
        for url in [TWILIO_URL, "https://hooks.example.com/twilio"] {
            let sample = stack.sample("twilio");
            let answer = stack.post("twilio", &signed(&sample, url).await).await;
            assert_eq!((answer.status, answer.body), (204, json!("")), "{url}");
            stack.settled(&sample, "anything").await;
            the_only_delivery(stack, &sample, "anything").await;
        }
        let others =
            ["https://hooks.example.com/other", "https://hooks.example.org/twilio", "https://hooks.example.com:443/twilio"];
        for url in others.into_iter().chain([&*stack.webhook_url("twilio")]) {
            let sample = stack.sample("twilio");
            refused(stack, &sample, &signed(&sample, url).await, 401).await;
        }
    });
}

#[test]
fn a_captured_form_is_known_again_in_every_spelling_that_its_signature_allows() {
    journey(async |stack| {
        let sample = stack.sample("twilio");
        let key = stack.keyring("source/twilio").await.remove(0);
        assert_eq!(recorded(stack, &sample).await.status, 204);
        // The order of the fields is not signed, and neither is the port.
        let mut fields: Vec<_> = sample.body.split(|byte| *byte == b'&').collect();
        fields.reverse();
        let made_up = Sample { id: unique(), body: fields.join(&b'&'), ..sample.clone() };
        assert_ne!(made_up.body, sample.body);
        let signature = twilio_signature(&key.secret, "https://hooks.example.com/twilio", &made_up.body);
        let answer = stack.post("twilio", &stack.sign(&made_up).await.with("x-twilio-signature", &signature)).await;
        assert_eq!(answer.status, 204);
        assert_eq!(stack.items(&made_up).await, []);
        stack.settled(&sample, "anything").await;
        the_only_delivery(stack, &sample, "anything").await;
    });
}

#[test]
fn where_the_body_is_not_signed_another_body_is_the_same_event() {
    journey(async |stack| {
        let sample = stack.sample("mailgun");
        let webhook = stack.sign(&sample).await;
        let sample = Sample { body: webhook.body.clone(), ..sample };
        let answer = stack.post("mailgun", &webhook).await;
        assert_eq!((answer.status, &answer.body["eventId"]), (200, &json!(sample.id)), "{answer:?}");

        let body = String::from_utf8(webhook.body.clone()).unwrap().replace("delivered", "complained");
        let altered = Webhook { body: body.into_bytes(), ..webhook.clone() };
        let answer = stack.post("mailgun", &altered).await;
        let expected = json!({"status": "duplicate", "source": "mailgun", "eventId": sample.id});
        assert_eq!((answer.status, answer.body), (200, expected));
        assert_eq!(stack.conflicts(&sample).await, [""; 0], "its sender has sent no such body");
        let items = stack.items(&sample).await;
        let kept: Vec<_> = items.iter().filter(|item| text(item, "sk").is_some_and(|sk| sk.starts_with("replay#"))).collect();
        assert_eq!(kept.len(), 1);
        assert!(kept[0].contains_key("body"), "a person can look at it");
        stack.settled(&sample, "anything").await;
        the_only_delivery(stack, &sample, "anything").await;
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
fn a_retry_that_is_not_the_same_to_the_byte_is_the_same_event() {
    journey(async |stack| {
        let attempt = |source: &'static str, id: &str, nonce: &str, attempt: u64, more: &str| {
            let body = format!("{{\"nonce\":\"{nonce}\",\"attempt\":{attempt}{more}}}").into_bytes();
            Sample { id: id.to_owned(), body, ..stack.sample(source) }
        };
        for source in ["counted", "first", "digested"] {
            let (id, nonce) = (unique(), unique());
            let sent = attempt(source, &id, &nonce, 1, "");
            let accepted = stack.send(&sent).await;
            assert!(accepted.took_it_in(), "{source}: {accepted:?}");
            let event_id = accepted.body["eventId"].as_str().unwrap().to_owned();
            let event = Sample { id: event_id.clone(), ..sent };
            let fresh_id = unique();
            for number in 2..4 {
                let again_under = if source == "digested" { &fresh_id } else { &id };
                let more = if source == "first" { ",\"more\":true" } else { "" };
                let answer = stack.send(&attempt(source, again_under, &nonce, number, more)).await;
                let expected = json!({"status": "duplicate", "source": source, "eventId": event_id});
                assert_eq!((answer.status, answer.body), (200, expected), "{source}");
            }
            assert_eq!(stack.conflicts(&event).await, [""; 0], "{source}: nothing for a person to do");
            stack.settled(&event, "partner").await;
            assert_eq!(stack.destination.journal("partner", &nonce).await.len(), 1, "{source}");
        }
    });
}

#[test]
fn each_event_of_a_batch_is_one_whatever_it_is_sent_with_again() {
    journey(async |stack| {
        let ids: Vec<String> = (0..4).map(|_| unique()).collect();
        let element = |number: usize, again: bool| format!("{{\"id\":\"{}\",\"type\":\"t\",\"again\":{again}}}", ids[number]);
        let batch = |elements: &[String]| {
            let body = format!("{{\"to\":\"x\",\"events\":[{}]}}", elements.join(", ")).into_bytes();
            Sample { body, ..stack.sample("batched") }
        };
        let first = stack.send(&batch(&[element(0, false), element(1, false)])).await;
        assert!(first.took_it_in(), "{first:?}");
        assert_eq!(first.body["eventIds"], json!([ids[0], ids[1]]));
        let again = stack.send(&batch(&[element(1, true), element(2, false), element(0, true), element(3, false)])).await;
        assert!(again.took_it_in(), "{again:?}");
        for (number, id) in ids.iter().enumerate() {
            let event = Sample { id: id.clone(), body: element(number, false).into_bytes(), ..stack.sample("batched") };
            stack.settled(&event, "partner").await;
            the_only_delivery(stack, &event, "partner").await;
            assert_eq!(stack.conflicts(&event).await, [""; 0]);
        }
    });
}

#[test]
fn a_source_of_json_alone_refuses_anything_else_after_the_signature() {
    journey(async |stack| {
        let sample = stack.sample("json");
        stack.accept(&sample).await;
        let other = Sample { body: b"a=1&b=2".to_vec(), ..stack.sample("json") };
        refused(stack, &other, &stack.sign(&other).await, 400).await;
        let unsigned = stack.sign(&other).await.without("webhook-signature");
        refused(stack, &other, &unsigned, 401).await;
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
            // Its ids are signed: where they are not, the same body again would be the same event.
            let sample = Sample { body: body.to_vec(), ..stack.sample("partner") };
            let webhook = stack.sign(&sample).await.with("content-type", "application/octet-stream");
            let answer = stack.post("partner", &webhook).await;
            assert!(answer.took_it_in(), "{body:?}: {answer:?}");
            stack.settled(&sample, "partner").await;
            let entry = the_only_delivery(stack, &sample, "partner").await;
            assert_eq!(entry.header("content-type"), Some("application/octet-stream"), "{body:?}");
        }
    });
}

/// Sends the event, which has to be in the ledger then, and gives the answer, whatever its source wants for one.
pub(crate) async fn recorded(stack: &Stack, sample: &Sample) -> Answer {
    let answer = stack.send(sample).await;
    assert!(stack.event(sample).await.is_some(), "{} is not recorded: {answer:?}", sample.source);
    answer
}

/// What the destination got for the event: exactly one request, with exactly the event's body.
pub(crate) async fn the_only_delivery(stack: &Stack, sample: &Sample, destination: &str) -> Entry {
    let mut entries = stack.destination.journal(destination, &sample.id).await;
    assert_eq!(entries.len(), 1, "{destination} got {}#{} so often", sample.source, sample.id);
    let entry = entries.remove(0);
    assert!(entry.body == sample.body, "{destination} got {} bytes, not those that were sent", entry.body.len());
    entry
}
