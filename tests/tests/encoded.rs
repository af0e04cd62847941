//! Webhooks with a content coding, through the real receiver and worker over a model of AWS: they are known by what is in them, delivered
//! as they came, mapped as what they mean; and no header that nobody signed makes two events of one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use http::HeaderMap;
use serde_json::json;
use tests::{
    model::DEAD_LETTER_QUEUE,
    passage::{Passage, Posted, signed},
    providers::{Webhook, gzip},
};

const GATEWAY: &str = r#"
[sources.stripe]
scheme = "stripe"
secret = "shared"

[[routes]]
source = "stripe"
destination = "plain"

[[routes]]
source = "stripe"
filter = ".type == \"invoice.paid\""
map = "{id}"
destination = "mapped"
"#;

/// What the sender is told: the status of the event, and its id.
fn receive(passage: &Passage, webhook: &Webhook) -> (String, String) {
    let (_, told) = passage.receive("receiver-1", webhook).unwrap();
    let word = |name: &str| told[name].as_str().unwrap_or_else(|| panic!("{told}")).to_owned();
    (word("status"), word("eventId"))
}

fn invoice(id: &str) -> Vec<u8> {
    json!({"id": id, "type": "invoice.paid", "amount": 12}).to_string().into_bytes()
}

fn told(status: &str, id: &str) -> (String, String) {
    (status.to_owned(), id.to_owned())
}

#[test]
fn a_compressed_webhook_is_known_by_what_is_in_it_delivered_as_it_came_and_mapped_as_what_it_means() {
    let passage = Passage::new(GATEWAY);
    let body = gzip(&invoice("evt_1"));
    let webhook = signed(&body).with("content-encoding", "gzip");
    assert_eq!(receive(&passage, &webhook), told("accepted", "evt_1"));
    assert_eq!(receive(&passage, &webhook), told("duplicate", "evt_1"));

    let said = |headers: &HeaderMap, name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    for (destination, expected, coding) in [("/plain", &body[..], Some("gzip")), ("/mapped", br#"{"id":"evt_1"}"#, None)] {
        let [Posted { headers, body: sent, .. }] = &passage.delivered(destination)[..] else {
            panic!("not one at {destination}")
        };
        assert_eq!(sent, expected, "{destination}");
        assert_eq!(said(headers, "content-encoding").as_deref(), coding, "{destination}");
        assert_eq!(said(headers, "content-type").as_deref(), Some("application/json"), "{destination}");
        assert_eq!(said(headers, "posthouse-event-type").as_deref(), Some("invoice.paid"), "{destination}");
    }
    assert!(passage.aws.messages(DEAD_LETTER_QUEUE).is_empty());
}

#[test]
fn a_captured_webhook_with_a_content_encoding_added_is_the_first() {
    for coding in ["gzip", "deflate", "br", "zstd", "utf-8", "gzip, gzip, gzip"] {
        let passage = Passage::new(GATEWAY);
        let webhook = signed(&invoice("evt_1"));
        assert_eq!(receive(&passage, &webhook), told("accepted", "evt_1"));
        assert_eq!(receive(&passage, &webhook.with("content-encoding", coding)), told("duplicate", "evt_1"), "{coding}");
        assert_eq!(passage.delivered("/plain").len(), 1, "{coding}");
    }
}

#[test]
fn a_captured_webhook_with_its_content_encoding_changed_or_removed_is_the_first() {
    let passage = Passage::new(GATEWAY);
    let webhook = signed(&gzip(&invoice("evt_1"))).with("content-encoding", "gzip");
    assert_eq!(receive(&passage, &webhook), told("accepted", "evt_1"));
    for changed in [webhook.clone().with("content-encoding", "br"), webhook.without("content-encoding")] {
        assert_eq!(receive(&passage, &changed), told("duplicate", "evt_1"));
    }
    assert_eq!(passage.delivered("/plain").len(), 1);
}

#[test]
fn a_genuine_webhook_that_cannot_be_decoded_is_accepted_once() {
    let passage = Passage::new(GATEWAY);
    let webhook = signed(&gzip(&invoice("evt_1"))).with("content-encoding", "br");
    let (status, id) = receive(&passage, &webhook);
    assert_eq!((status.as_str(), id.len()), ("accepted", 64));
    assert_eq!(receive(&passage, &webhook), told("duplicate", &id));
    let [Posted { headers, .. }] = &passage.delivered("/plain")[..] else { panic!("not one") };
    assert_eq!(headers["posthouse-event-type"], "unreadable");
    // The copy rings no second alarm.
    assert_eq!((passage.counted("Unreadable"), passage.counted("Duplicates")), (1, 1));
    let letter = passage.aws.messages(DEAD_LETTER_QUEUE).remove(0);
    let why = "the filter of its route fails: the body is not valid br, although `content-encoding` says that it is";
    assert!(letter.attributes.to_string().contains(why), "{letter:?}");
}

/// A source `stripe` with this `event`, and a destination for all types.
fn with_event(event: &str) -> Passage {
    let source = format!("scheme = \"stripe\"\nevent = {event}");
    Passage::new(&GATEWAY.replacen("scheme = \"stripe\"", &source, 1).replace("filter = ", "types = [\"none\"]\nfilter = "))
}

#[test]
fn a_captured_form_with_another_content_type_is_the_first() {
    let passage = with_event("{ id = \"form:id\", type = \"form:t\" }");
    let webhook = signed(b"id=7&t=paid").with("content-type", "application/x-www-form-urlencoded");
    assert_eq!(receive(&passage, &webhook), told("accepted", "7"));
    assert_eq!(receive(&passage, &webhook.with("content-type", "application/json")), told("duplicate", "7"));
    assert_eq!(passage.delivered("/plain").len(), 1);
}

#[test]
fn a_captured_webhook_of_which_something_is_ignored_is_the_first_without_its_coding() {
    for event in ["{ id = { digest = \"body\" }, ignore = [\"/n\"] }", "{ id = { digest = \"body\" } }"] {
        let passage = with_event(event);
        let webhook = signed(&gzip(br#"{"a":1,"n":1}"#)).with("content-encoding", "gzip");
        let (status, id) = receive(&passage, &webhook);
        assert_eq!(status, "accepted");
        assert_eq!(receive(&passage, &webhook.without("content-encoding")), told("duplicate", &id), "{event}");
        assert_eq!(passage.delivered("/plain").len(), 1, "{event}");
    }
}
