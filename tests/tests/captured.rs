//! A captured webhook that is sent again, through the real receiver and worker over a model of AWS. Who sends it has no secret, and
//! changes what the signature does not cover: the event id, the event type, a part of the body. It is the first, and what it can
//! leave behind is bounded. And whatever is sent so keeps no genuine webhook out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeMap, env, thread, time::Duration};

use shared::{ledger::REPLAYS_KEPT_MAX, time::Timestamp};
use tests::{
    captures::{Captures, Case},
    model::{BODIES_BUCKET, CONTENT_TABLE, DEAD_LETTER_QUEUE, LEDGER_TABLE, Service, Value},
    passage::{NOW, Passage, SECRET},
    providers::{Provider, Webhook},
};

/// Presets without a request that becomes an event here: their providers sign with a key of their own, and what is published of them is no
/// event or is too old.
const NEVER_AN_EVENT: [&str; 3] = ["apple-app-store", "discord", "fusionauth-public"];
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A source with the scheme of GitHub, which signs the body alone, and one route that takes every type.
fn passage(settings: &str, routes: &str) -> Passage {
    Passage::new(&format!(
        "[sources.stripe]\nscheme = \"github\"\nsecret = \"shared\"\n{settings}\n\
         [[routes]]\nsource = \"stripe\"\ndestination = \"plain\"\ndefault = true\n{routes}"
    ))
}

/// A genuine one: whoever has it can change its headers.
fn webhook(body: &[u8], id: &str, event_type: &str) -> Webhook {
    Provider::Github.sign(body, id, SECRET, NOW.seconds()).with("x-github-event", event_type)
}

fn receive_at(passage: &Passage, webhook: &Webhook, now: Timestamp) -> (String, String) {
    let (_, told) = passage.receive_at("receiver-1", webhook, now).unwrap();
    let word = |name: &str| told[name].as_str().unwrap_or_else(|| panic!("{told}")).to_owned();
    (word("status"), word("eventId"))
}

fn receive(passage: &Passage, webhook: &Webhook) -> (String, String) {
    receive_at(passage, webhook, NOW)
}

fn told(status: &str, id: &str) -> (String, String) {
    (status.to_owned(), id.to_owned())
}

/// How many items of the ledger have such a sort key.
fn items(passage: &Passage, sort_key: &str) -> usize {
    let items = passage.aws.items(LEDGER_TABLE);
    let begins = |value: &Value| matches!(value, Value::S(text) if text.starts_with(sort_key));
    items.iter().filter(|item| begins(&item["sk"])).count()
}

#[test]
fn types_that_somebody_made_up_make_no_more_events_than_the_source_says() {
    for (settings, most) in [("types_per_content = 1", 1), ("", 2), ("types_per_content = 8", 8)] {
        let passage = passage(settings, "");
        assert_eq!(receive(&passage, &webhook(b"{}", "first", "push")), told("accepted", "first"));
        for number in 0..20 {
            let (status, _) = receive(&passage, &webhook(b"{}", &format!("made-up-{number}"), &format!("type-{number}")));
            assert_eq!(status, if number + 1 < most { "accepted" } else { "duplicate" }, "{settings} {number}");
        }
        // Another spelling is another type.
        assert_eq!(receive(&passage, &webhook(b"{}", "again", "Push")), told("duplicate", "first"), "{settings}");
        assert_eq!(passage.delivered("/plain").len(), most, "{settings}");
        assert_eq!(items(&passage, "event"), most, "{settings}");
        assert_eq!(passage.aws.items(CONTENT_TABLE).len(), most, "{settings}");
    }
}

#[test]
fn types_that_somebody_made_up_keep_no_genuine_one_out_whose_type_is_named() {
    let named_by_source = passage("types = [\"push\", \"issues\"]", "");
    let route = "[[routes]]\nsource = \"stripe\"\ntypes = [\"push\", \"issues\"]\ndestination = \"mapped\"\n";
    for passage in [named_by_source, passage("", route)] {
        for number in 0..20 {
            receive(&passage, &webhook(b"{}", &format!("made-up-{number}"), &format!("type-{number}")));
        }
        for (id, event_type) in [("genuine-1", "push"), ("genuine-2", "issues")] {
            assert_eq!(receive(&passage, &webhook(b"{}", id, event_type)), told("accepted", id));
            let captured = webhook(b"{}", &format!("again-{id}"), event_type);
            assert_eq!(receive(&passage, &captured), told("duplicate", id), "and each is one event");
        }
    }
}

#[test]
fn another_type_under_the_id_of_an_event_takes_no_genuine_ones_place() {
    for settings in ["types = [\"push\", \"issues\"]", "types_per_content = 3"] {
        let passage = passage(settings, "");
        assert_eq!(receive(&passage, &webhook(b"{}", "first", "push")), told("accepted", "first"), "{settings}");
        for _ in 0..2 {
            let captured = webhook(b"{}", "first", "issues");
            assert_eq!(receive(&passage, &captured), told("duplicate", "first"), "{settings}");
        }
        assert_eq!(receive(&passage, &webhook(b"{}", "genuine", "issues")), told("accepted", "genuine"), "{settings}");
        assert_eq!(receive(&passage, &webhook(b"{}", "again", "issues")), told("duplicate", "genuine"), "{settings}");
        assert_eq!(receive(&passage, &webhook(b"{}", "again", "push")), told("duplicate", "first"), "{settings}");
    }
}

#[test]
fn a_captured_retry_that_is_not_the_same_to_the_byte_is_the_first() {
    let passage = passage("event = { id = \"header:x-github-delivery\", ignore = [\"/sent_at\"] }", "");
    assert_eq!(receive(&passage, &webhook(br#"{"a":1,"sent_at":1}"#, "first", "push")), told("accepted", "first"));
    let retry = br#"{"a":1,"sent_at":2}"#;
    assert_eq!(receive(&passage, &webhook(retry, "first", "push")), told("duplicate", "first"));
    assert_eq!(receive(&passage, &webhook(retry, "made-up", "push")), told("duplicate", "first"));
    assert_eq!(passage.delivered("/plain").len(), 1);
}

#[test]
fn an_id_that_somebody_took_beforehand_keeps_no_genuine_webhook_out() {
    let passage = passage("", "");
    let captured = webhook(b"captured elsewhere", "next", "push");
    assert_eq!(receive(&passage, &captured), told("accepted", "next"));
    let genuine = webhook(b"genuine", "next", "push");
    let (status, id) = receive(&passage, &genuine);
    assert_eq!((status.as_str(), id.starts_with("next")), ("accepted", true), "{id}");
    assert_eq!(receive(&passage, &genuine), told("duplicate", &id));
    assert_eq!(receive(&passage, &captured), told("duplicate", "next"));
    let bodies: Vec<_> = passage.delivered("/plain").into_iter().map(|posted| posted.body).collect();
    assert_eq!(bodies, [b"captured elsewhere".as_slice(), b"genuine"]);
    assert_eq!((passage.counted("Conflicts"), items(&passage, "conflict#")), (0, 0), "nobody is called for it");
}

#[test]
fn what_a_captured_webhook_leaves_behind_is_bounded_and_has_no_body() {
    for body_bytes in [300 * 1024, 500 * 1024] {
        let passage = passage("", "");
        // Nothing that could be compressed.
        let body: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(body_bytes).collect();
        assert_eq!(receive(&passage, &webhook(&body, "first", "push")), told("accepted", "first"));
        let stored = passage.aws.objects(BODIES_BUCKET).len();
        for number in 0..100 {
            assert_eq!(receive(&passage, &webhook(&body, &format!("made-up-{number}"), "push")), told("duplicate", "first"));
        }
        assert_eq!(items(&passage, "replay#"), usize::from(REPLAYS_KEPT_MAX));
        let items = passage.aws.items(LEDGER_TABLE);
        let has_body = |name: &str| items.iter().filter(|item| item.contains_key(name)).count();
        assert_eq!(has_body("body") + has_body("body_object"), 1, "the event's own");
        assert_eq!(passage.aws.objects(BODIES_BUCKET).len(), stored);
        assert_eq!((passage.counted("Replays"), passage.counted("Accepted")), (100, 1));
        assert_eq!(passage.delivered("/plain").len(), 1);
    }
}

/// Cases of `make test`; `CAPTURED_CASES` asks for others.
const CASES_DEFAULT: u64 = 2_000;
/// Failures that are told.
const TOLD_MAX: usize = 10;

#[test]
fn of_any_preset_nothing_comes_of_a_captured_webhook_whose_unsigned_parts_are_changed() {
    let cases = env::var("CAPTURED_CASES").map_or(CASES_DEFAULT, |text| text.parse().unwrap());
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let run = |thread: u64| {
        let mut captures = Captures::new();
        let (mut held, mut wrong) = (BTreeMap::<&str, (u64, usize)>::new(), Vec::new());
        for case in (thread..cases).step_by(threads as usize) {
            let (events, copies) = held.entry(captures.preset(case)).or_default();
            match captures.play(case) {
                Ok(Case::Held { taken_in }) => (*events, *copies) = (*events + 1, *copies + taken_in),
                Ok(Case::NoEvent) => {}
                Err(told) => wrong.push(told),
            }
        }
        (held, wrong)
    };
    let (mut held, mut wrong) = (BTreeMap::<&str, (u64, usize)>::new(), Vec::new());
    thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        for handle in handles {
            let (some, told) = handle.join().unwrap();
            for (preset, (events, copies)) in some {
                let sum = held.entry(preset).or_default();
                *sum = (sum.0 + events, sum.1 + copies);
            }
            wrong.extend(told);
        }
    });
    let told = wrong.iter().take(TOLD_MAX).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(wrong.is_empty(), "{} of {cases} came of something\n{told}", wrong.len());
    let never: Vec<&str> = held.iter().filter(|(_, (events, _))| *events == 0).map(|(preset, _)| *preset).collect();
    let copies: usize = held.values().map(|(_, copies)| copies).sum();
    println!("{cases} cases of {} presets, {copies} copies taken in; never an event: {never:?}", held.len());
    assert_eq!(never, NEVER_AN_EVENT, "what cannot be signed here, and has no published request that is an event");
    assert!(copies as u64 * 2 > cases, "too few copies kept their signature: {copies}");
}

/// A PUT costs more than all the rest of a webhook, and what nothing points to stays in the bucket for a hundred days.
#[test]
fn a_body_is_put_into_the_bucket_only_for_an_event_that_is_new() {
    let passage = passage("", "");
    let puts = || {
        let calls = passage.aws.calls_by_operation();
        calls.get(&(Service::S3, "PutObject".to_owned())).copied().unwrap_or_default()
    };
    let body: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(500 * 1024).collect();
    let genuine = webhook(&body, "first", "push");
    assert_eq!(receive(&passage, &genuine), told("accepted", "first"));
    assert_eq!(puts(), 1);
    for id in ["first", "made-up", "first"] {
        assert_eq!(receive(&passage, &webhook(&body, id, "push")), told("duplicate", "first"));
    }
    assert_eq!(puts(), 1);
    // An id that is known, with ids that are signed; and one whose event is about to expire is written anew.
    let signed = Passage::new(
        "[sources.stripe]\nscheme = \"stripe\"\nsecret = \"shared\"\n[[routes]]\nsource = \"stripe\"\ndestination = \"plain\"\n",
    );
    let noise: String = std::iter::repeat_with(fastrand::alphanumeric).take(700 * 1024).collect();
    let webhook = |now: Timestamp| {
        let body = format!("{{\"id\":\"evt_1\",\"type\":\"a\",\"noise\":\"{noise}\"}}");
        Provider::Stripe.sign(body.as_bytes(), "", SECRET, now.seconds())
    };
    let puts = || {
        let calls = signed.aws.calls_by_operation();
        calls.get(&(Service::S3, "PutObject".to_owned())).copied().unwrap_or_default()
    };
    for (now, status, count) in [
        (NOW, "accepted", 1),
        (NOW.plus(DAY), "duplicate", 1),
        (NOW.plus(DAY * 35).minus(Duration::from_secs(61)), "duplicate", 1),
        (NOW.plus(DAY * 35).minus(Duration::from_secs(60)), "duplicate", 2),
        (NOW.plus(DAY * 35), "accepted", 3),
    ] {
        assert_eq!(receive_at(&signed, &webhook(now), now), told(status, "evt_1"), "{now:?}");
        assert_eq!(puts(), count, "{now:?}");
    }
}

#[test]
fn a_body_that_is_not_in_the_bucket_any_more_is_dead_with_that_reason() {
    let passage = passage("", "");
    let body: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(500 * 1024).collect();
    receive(&passage, &webhook(&body, "first", "push"));
    for key in passage.aws.objects(BODIES_BUCKET).into_keys() {
        passage.aws.remove_object(BODIES_BUCKET, &key);
    }
    assert!(passage.delivered("/plain").is_empty());
    let [letter] = &passage.aws.messages(DEAD_LETTER_QUEUE)[..] else { panic!("one is dead") };
    assert!(format!("{letter:?}").contains("the body is not in the bucket any more"), "{letter:?}");
}

/// It is known by what was signed, which is all that tells it from another.
#[test]
fn a_webhook_without_an_id_meets_an_event_under_its_digest_and_is_one_of_its_own() {
    let passage = passage("event = { id = \"header:x-github-delivery\" }", "");
    let genuine = webhook(b"{\"a\":1}", "x", "push").without("x-github-delivery");
    let (status, digest) = receive(&passage, &genuine);
    assert_eq!(status, "accepted");
    // Somebody has another genuine one, and sends it under that digest beforehand.
    let other = webhook(b"{\"a\":2}", "x", "push").without("x-github-delivery");
    let digest_of_other = {
        let elsewhere = self::passage("event = { id = \"header:x-github-delivery\" }", "");
        receive(&elsewhere, &other).1
    };
    assert_ne!(digest, digest_of_other);
    let captured = webhook(b"{\"a\":3}", &digest_of_other, "push");
    assert_eq!(receive(&passage, &captured), told("accepted", &digest_of_other));
    let (status, id) = receive(&passage, &other);
    assert_eq!((status.as_str(), passage.counted("Conflicts")), ("accepted", 0), "{id}");
}

#[test]
fn another_body_beside_a_signature_that_does_not_cover_it_is_a_replay_and_no_conflict() {
    let scheme = "[schemes.own]\nalgorithm = \"hmac-sha256\"\nsigned = \"{header:x-github-delivery}\"\nunsigned_body = true\n\
                  signature = { at = \"header:x-signature\", encoding = \"hex\" }\n";
    let source = "[sources.stripe]\nscheme = \"own\"\nsecret = \"shared\"\nreplay_guard = true\n\
                  event = { id = \"header:x-github-delivery\" }\n\
                  [[routes]]\nsource = \"stripe\"\ndestination = \"plain\"\n";
    let passage = Passage::new(&format!("{scheme}{source}"));
    let signed = |body: &[u8]| {
        // GitHub's way of signing, of the id.
        let signature = Provider::Github.sign(b"first", "first", SECRET, NOW.seconds()).header("x-hub-signature-256");
        webhook(body, "first", "push").with("x-signature", signature.strip_prefix("sha256=").unwrap())
    };
    assert_eq!(receive(&passage, &signed(b"body")), told("accepted", "first"));
    for number in 0..100 {
        assert_eq!(receive(&passage, &signed(format!("made up {number}").as_bytes())), told("duplicate", "first"));
    }
    assert_eq!((passage.counted("Conflicts"), items(&passage, "conflict#")), (0, 0));
    assert_eq!((passage.counted("Replays"), items(&passage, "replay#")), (100, 1), "under one id, one is kept");
    assert_eq!(passage.delivered("/plain").len(), 1);
}

/// Whoever has captured one webhook can put any body beside its signature, as large as a request may be.
#[test]
fn large_bodies_beside_a_signature_that_does_not_cover_them_are_written_once() {
    let passage = Passage::new(
        "[schemes.own]\nalgorithm = \"hmac-sha256\"\nsigned = \"{header:x-github-delivery}\"\nunsigned_body = true\n\
         signature = { at = \"header:x-signature\", encoding = \"hex\" }\n\
         [sources.stripe]\nscheme = \"own\"\nsecret = \"shared\"\nreplay_guard = true\n\
         event = { id = \"header:x-github-delivery\" }\n[[routes]]\nsource = \"stripe\"\ndestination = \"plain\"\n",
    );
    let signature = Provider::Github.sign(b"first", "first", SECRET, NOW.seconds()).header("x-hub-signature-256").to_owned();
    for number in 0..20_u64 {
        let mut rng = fastrand::Rng::with_seed(number);
        let body: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(500 * 1024).collect();
        let captured = webhook(&body, "first", "push").with("x-signature", signature.strip_prefix("sha256=").unwrap());
        receive(&passage, &captured);
    }
    assert_eq!(passage.aws.objects(BODIES_BUCKET).len(), 2, "the event's, and that of one replay");
    let calls = passage.aws.calls_by_operation();
    let count = |service, operation: &str| calls.get(&(service, operation.to_owned())).copied().unwrap_or_default();
    assert_eq!(count(Service::S3, "PutObject"), 2);
    assert_eq!(passage.counted("Replays"), 19);
}

/// The property over all presets found it: whoever has captured one could fill the quarantine and call a person at will.
#[test]
fn another_body_of_an_event_that_is_known_by_what_was_signed_is_a_replay_and_no_conflict() {
    for on_conflict in ["", "on_conflict = \"quarantine\""] {
        let passage = Passage::new(&format!(
            "[sources.stripe]\nscheme = \"own\"\nsecret = \"shared\"\n{on_conflict}\n\
             [schemes.own]\nalgorithm = \"hmac-sha256\"\nsigned = \"{{json:/signed}}\"\nunsigned_body = true\n\
             signature = {{ at = \"header:x-signature\", encoding = \"hex\" }}\n\
             [[routes]]\nsource = \"stripe\"\ndestination = \"plain\"\n"
        ));
        let signed = |beside: &str| {
            let signature = Provider::Github.sign(b"first", "first", SECRET, NOW.seconds()).header("x-hub-signature-256");
            let body = format!("{{\"signed\":\"first\",\"beside\":\"{beside}\"}}");
            webhook(body.as_bytes(), "", "push").with("x-signature", signature.strip_prefix("sha256=").unwrap())
        };
        let (status, id) = receive(&passage, &signed("genuine"));
        assert_eq!(status, "accepted");
        for number in 0..20 {
            assert_eq!(receive(&passage, &signed(&format!("made up {number}"))), told("duplicate", &id));
        }
        assert_eq!((passage.counted("Conflicts"), items(&passage, "conflict#")), (0, 0), "{on_conflict}");
        assert_eq!((passage.counted("Replays"), items(&passage, "replay#")), (20, 1), "{on_conflict}");
        assert_eq!(passage.delivered("/plain").len(), 1);
    }
}

/// Each value of a dimension is a metric that is paid for by the month.
#[test]
fn types_that_somebody_made_up_are_one_metric() {
    let contract = "[[contracts]]\nsource = \"stripe\"\nschema_version = { at = \"header:x-version\", is = [\"1\"] }\n";
    let passage = passage("types = [\"push\"]\ntypes_per_content = 16\nkeep_headers = [\"x-version\"]", contract);
    receive(&passage, &webhook(b"{}", "first", "push"));
    for number in 0..12 {
        receive(&passage, &webhook(b"{}", &format!("made-up-{number}"), &format!("type-{number}")));
    }
    passage.delivered("/plain");
    let counted = [("ContractViolations stripe other".to_owned(), 12), ("ContractViolations stripe push".to_owned(), 1)];
    assert_eq!(passage.metrics("ContractViolations"), counted.into());
}

#[test]
fn what_was_captured_is_not_new_when_its_event_has_expired() {
    let passage = passage("dedupe_days = 35\nremember_days = 365", "");
    let genuine = webhook(b"{}", "first", "push");
    assert_eq!(receive(&passage, &genuine), told("accepted", "first"));
    let captured = webhook(b"{}", "made-up", "push");
    for days in [34, 35, 36, 364] {
        let then = NOW.plus(DAY * days);
        assert_eq!(receive_at(&passage, &captured, then), told("duplicate", "first"), "{days} days");
        assert_eq!(receive_at(&passage, &genuine, then), told("duplicate", "first"), "{days} days");
    }
    passage.aws.expire(LEDGER_TABLE);
    assert_eq!(receive_at(&passage, &captured, NOW.plus(DAY * 365)), told("accepted", "made-up"), "as the source says");
}

/// A retry that is not the same to the byte is signed anew, and is remembered for its event, for no longer than that lives.
#[test]
fn a_captured_retry_is_not_new_between_the_end_of_its_event_and_its_own() {
    let passage = passage("dedupe_days = 35\nevent = { id = \"header:x-github-delivery\", ignore = [\"/sent_at\"] }", "");
    let retry = br#"{"a":1,"sent_at":2}"#;
    assert_eq!(receive(&passage, &webhook(br#"{"a":1,"sent_at":1}"#, "first", "push")), told("accepted", "first"));
    let twenty = NOW.plus(DAY * 20);
    assert_eq!(receive_at(&passage, &webhook(retry, "first", "push"), twenty), told("duplicate", "first"));
    for days in [34, 35, 36, 54, 55, 56] {
        let captured = webhook(retry, "made-up", "push");
        assert_eq!(receive_at(&passage, &captured, NOW.plus(DAY * days)), told("duplicate", "first"), "{days} days");
    }
    assert_eq!(passage.delivered("/plain").len(), 1);
}

/// It has no body of its own.
#[test]
fn a_replay_without_a_body_is_kept_for_no_longer_than_the_event_that_has_it() {
    let passage = passage("dedupe_days = 35", "");
    receive(&passage, &webhook(b"{}", "first", "push"));
    receive_at(&passage, &webhook(b"{}", "made-up", "push"), NOW.plus(DAY * 20));
    let expiry = |sort_key: &str| {
        let items = passage.aws.items(LEDGER_TABLE);
        let begins = |value: &Value| matches!(value, Value::S(text) if text.starts_with(sort_key));
        items.iter().find(|item| begins(&item["sk"])).map(|item| format!("{:?}", item["expires_at"]))
    };
    assert!(expiry("replay#").is_some());
    assert_eq!(expiry("replay#"), expiry("event"));
}

#[test]
fn a_remembered_webhook_costs_less_than_its_price_says() {
    let passage = passage("", "");
    let id = "72d3162e-cc78-11e3-81ab-4c9367dc0958";
    assert_eq!(receive(&passage, &webhook(b"{}", id, "pull_request_review")), told("accepted", id));
    let [item] = &passage.aws.items(CONTENT_TABLE)[..] else { panic!("not one") };
    let bytes: usize = item
        .iter()
        .map(|(name, value)| match value {
            Value::S(text) => name.len() + text.len(),
            // A number: at most a byte for two digits, and one more.
            _ => name.len() + 8,
        })
        .sum();
    // DynamoDB adds 100 bytes to each item that it stores; docs/guarantees.md has what that costs.
    assert!((150..=200).contains(&bytes), "{bytes}");
}
