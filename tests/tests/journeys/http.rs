//! What an HTTP destination can be told: headers, credentials, tokens, statuses; and what is never reached. The tokens' rules one by
//! one are in `tests/src/destination/worker_tests.rs`: here a worker may know a token from an earlier journey.

use std::time::Duration;

use aws_smithy_types::date_time::{DateTime, Format};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tests::{
    destination::Entry,
    providers::Provider,
    stack::{Sample, Stack, eventually, text, unique, unix_now, when},
};

use crate::{SOON, journey, route::event};

/// A worker reads a keyring again after five minutes.
const KEYRING_READ_AGAIN: Duration = Duration::from_secs(6 * 60);
/// How long the older key of a rotation is valid here, in seconds.
const OVERLAP_SECONDS: u64 = 10;

#[test]
fn headers_of_the_operator_are_filled_in() {
    journey(async |stack| {
        let sample = stack.sample("http");
        stack.destination.script("http", &sample.id, json!({"status": 500, "times": 1})).await;
        let mut webhook = stack.sign(&sample).await;
        webhook.headers.push(("x-kept".to_owned(), "kept value".to_owned()));
        assert!(stack.post("http", &webhook).await.took_it_in());
        stack.settled(&sample, "http").await;
        let tries = stack.destination.journal("http", &sample.id).await;
        let event_type = tries[0].header("posthouse-event-type").unwrap();
        for (number, entry) in tries.iter().enumerate() {
            assert_eq!(entry.header("x-tenant"), Some("acme"));
            assert_eq!(entry.header("x-what"), Some(event_type));
            assert_eq!(entry.header("x-way"), Some(format!("http/{}", number + 1).as_str()));
            assert_eq!(entry.header("x-kept"), Some("kept%20value"));
            assert_eq!(entry.body, sample.body);
        }
        assert_eq!(tries.len(), 2);
    });
}

#[test]
fn during_a_rotation_both_keys_sign_and_afterwards_one() {
    journey(async |stack| {
        let (new, old) = (BASE64_STANDARD.encode(unique()), BASE64_STANDARD.encode(unique()));
        let delivered = async || {
            let sample = stack.sample("http");
            stack.accept(&sample).await;
            stack.settled(&sample, "http").await;
            stack.destination.journal("http", &sample.id).await.remove(0)
        };
        // A worker that knows the keyring of an earlier journey reads this one in a while, and the older key must be valid then.
        eventually("both keys sign", KEYRING_READ_AGAIN, async || {
            let not_after = unix_now() + OVERLAP_SECONDS;
            let not_after = DateTime::from_secs(not_after.cast_signed()).fmt(Format::DateTime).unwrap();
            let keys = json!({"keys": [{"id": "b", "secret": new}, {"id": "a", "secret": old, "notAfter": not_after}]});
            stack.put_secret("destination/http-signing", &keys.to_string()).await;
            let entry = delivered().await;
            when((verifies(&entry, &new), verifies(&entry, &old)), |signed| *signed == (true, true))
        })
        .await;
        // By whichever worker.
        eventually("the new key alone signs", KEYRING_READ_AGAIN, async || {
            let entry = delivered().await;
            when((verifies(&entry, &new), verifies(&entry, &old)), |signed| *signed == (true, false))
        })
        .await;
    });
}

/// Whether a key verifies what came.
fn verifies(entry: &Entry, key: &str) -> bool {
    let (id, at) = (entry.header("webhook-id").unwrap(), entry.header("webhook-timestamp").unwrap());
    let own = Provider::StandardWebhooks.sign(&entry.body, id, key, at.parse().unwrap());
    let own = &own.headers.iter().find(|(name, _)| name == "webhook-signature").unwrap().1;
    entry.header("webhook-signature").unwrap().split(' ').any(|signature| signature == own)
}

#[test]
fn each_destination_gets_its_credential() {
    journey(async |stack| {
        let sample = stack.sample("credentials");
        stack.accept(&sample).await;
        let secret = async |name: &str| stack.keyring(&format!("destination/{name}")).await.remove(0).secret;
        let basic = format!("Basic {}", BASE64_STANDARD.encode(secret("basic").await));
        let bearer = format!("Bearer {}", secret("bearer").await);
        for (destination, header, value, is_signed) in [
            ("bearer", "authorization", bearer, false),
            ("basic", "authorization", basic, false),
            ("api-key", "x-api-key", secret("api-key").await, true),
        ] {
            stack.reaches(&sample, destination, "done", SOON).await;
            let entry = stack.destination.journal(destination, &sample.id).await.remove(0);
            assert_eq!(entry.header(header), Some(value.as_str()), "{destination}");
            assert_eq!(entry.header("webhook-signature").is_some(), is_signed, "{destination}");
        }
    });
}

/// Makes the token endpoint of a destination anew, with what its secret says.
async fn token_endpoint(stack: &Stack, name: &str, client_secret: &str, expires_in: u64, refresh_token: Option<&str>) {
    let mut endpoint = json!({"client_id": "posthouse", "client_secret": client_secret, "expires_in": expires_in});
    endpoint["refresh_token"] = json!(refresh_token);
    endpoint["mark"] = json!(unique());
    stack.destination.token_endpoint(name, &endpoint).await;
}

/// The token that an attempt showed.
fn token(entry: &Entry) -> String {
    entry.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default().to_owned()
}

#[test]
fn a_token_is_used_again_and_a_refused_one_replaced_in_the_same_attempt() {
    journey(async |stack| {
        let secret = stack.keyring("destination/token-client").await.remove(0).secret;
        token_endpoint(stack, "token", &secret, 3600, None).await;

        // The refused one may be of an earlier journey. The endpoint is down when it is asked, and the next attempt asks again.
        let sample = stack.sample("token");
        stack.destination.script("token", &sample.id, json!({"status": 401, "times": 1})).await;
        stack.destination.script_all("token-token", json!({"status": 503, "times": 1})).await;
        stack.accept(&sample).await;
        let delivery = stack.settled(&sample, "token").await;
        assert_eq!(delivery.attempts, 2, "the token endpoint was down once: {delivery:?}");

        let sample = stack.sample("token");
        stack.destination.script("token", &sample.id, json!({"status": 401, "times": 1})).await;
        stack.accept(&sample).await;
        let delivery = stack.settled(&sample, "token").await;
        assert_eq!(delivery.attempts, 1, "{delivery:?}");
        let tries = stack.destination.journal("token", &sample.id).await;
        let granted = stack.destination.token_endpoint_state("token").await.granted;
        assert_eq!(tries.len(), 2);
        assert_ne!(token(&tries[0]), token(&tries[1]));
        assert!(granted.contains(&token(&tries[1])), "{granted:?}");

        let mut used = Vec::new();
        for _ in 0..6 {
            let sample = stack.sample("token");
            stack.accept(&sample).await;
            stack.settled(&sample, "token").await;
            used.extend(stack.destination.journal("token", &sample.id).await.iter().map(token));
        }
        // Each worker has its own, and there are few.
        used.sort();
        used.dedup();
        assert!(used.len() < 6, "{used:?}");
    });
}

#[test]
fn a_token_that_expires_is_replaced() {
    journey(async |stack| {
        let secret = stack.keyring("destination/short-token-client").await.remove(0).secret;
        // Used for a second.
        token_endpoint(stack, "short-token", &secret, 2, None).await;
        eventually("two tokens are used", SOON, async || {
            let sample = stack.sample("short-token");
            stack.accept(&sample).await;
            stack.settled(&sample, "short-token").await;
            let granted = stack.destination.token_endpoint_state("short-token").await.granted;
            when(granted, |granted| granted.len() >= 2)
        })
        .await;
        assert_eq!(stack.destination.token_endpoint_state("short-token").await.refused, 0);
    });
}

#[test]
fn a_refresh_token_that_works_once_is_written_down_before_the_next_is_needed() {
    journey(async |stack| {
        let stored = async || -> Value { serde_json::from_str(&stack.secret_text("destination/refreshed-oauth").await).unwrap() };
        let before = stored().await;
        let (secret, refresh) = (before["clientSecret"].as_str().unwrap(), before["refreshToken"].as_str().unwrap());
        token_endpoint(stack, "refreshed", secret, 3600, Some(refresh)).await;
        // A worker whose token is refused may find a newer one in the secret, and spends nothing then.
        let endpoint = eventually("three refresh tokens are spent", SOON, async || {
            let sample = stack.sample("refreshed");
            stack.destination.script("refreshed", &sample.id, json!({"status": 401, "times": 1})).await;
            stack.accept(&sample).await;
            let delivery = stack.settled(&sample, "refreshed").await;
            assert_eq!(delivery.attempts, 1, "{delivery:?}");
            let tries = stack.destination.journal("refreshed", &sample.id).await;
            let endpoint = stack.destination.token_endpoint_state("refreshed").await;
            let after = stored().await;
            assert_eq!(after["refreshToken"], json!(endpoint.refresh_token), "each is written down");
            assert_eq!(after["accessToken"], json!(tries.last().map(token)));
            assert_eq!(after["clientSecret"], json!(secret));
            when(endpoint, |endpoint| endpoint.granted.len() >= 3)
        })
        .await;
        assert_eq!(endpoint.refused, 0, "none was spent twice");
    });
}

/// The class and the reason of the last failure.
async fn failure(stack: &Stack, sample: &Sample, destination: &str) -> (String, String) {
    let sort_key = format!("delivery#{destination}");
    let items = stack.items(sample).await;
    let item = items.iter().find(|item| text(item, "sk") == Some(&sort_key)).expect("the delivery is there");
    let found = |name| text(item, name).unwrap_or_default().to_owned();
    (found("error_class"), found("last_error"))
}

#[test]
fn a_status_means_what_the_destination_says() {
    journey(async |stack| {
        for (status, attempts) in [(404, 2), (409, 1), (418, 2)] {
            let sample = stack.sample("http");
            let step = json!({"status": status, "headers": {"retry-after": "1"}, "times": 1});
            stack.destination.script("http", &sample.id, step).await;
            stack.accept(&sample).await;
            stack.settled(&sample, "http").await;
            assert_eq!(stack.destination.journal("http", &sample.id).await.len(), attempts, "{status}");
        }
        let sample = stack.sample("http");
        stack.destination.script("http", &sample.id, json!({"status": 501, "headers": {"x-request-id": "r-1"}})).await;
        stack.accept(&sample).await;
        stack.reaches(&sample, "http", "dead", SOON).await;
        let (class, reason) = failure(stack, &sample, "http").await;
        assert_eq!(class, "permanent");
        assert!(reason.ends_with("(request id r-1)"), "{reason}");
    });
}

#[test]
fn an_answer_that_takes_its_time_or_never_comes_is_bounded() {
    journey(async |stack| {
        let slow = stack.sample("http");
        stack.destination.script("http", &slow.id, json!({"slow_body_ms": 60_000, "body": "x".repeat(100)})).await;
        let long = stack.sample("http");
        stack.destination.script("http", &long.id, json!({"body": "x".repeat(1_000_000)})).await;
        let hangs = stack.sample("http");
        stack.destination.script("http", &hangs.id, json!({"hang": true, "times": 1})).await;
        for sample in [&slow, &long, &hangs] {
            stack.accept(sample).await;
        }
        for (sample, attempts) in [(&slow, 1), (&long, 1), (&hangs, 2)] {
            assert_eq!(stack.settled(sample, "http").await.attempts, attempts);
        }
        let tries = stack.destination.journal("http", &hangs.id).await;
        assert!(tries[1].at - tries[0].at >= 1_900, "its two seconds were not waited for");
    });
}

#[test]
fn retry_after_is_kept_to_in_both_of_its_forms() {
    journey(async |stack| {
        let tries = async |retry_after: &str| {
            let sample = event(stack, "asking", "some.type", json!({}));
            let step = json!({"status": 429, "headers": {"retry-after": retry_after}, "times": 1});
            stack.destination.script("asking", &sample.id, step).await;
            stack.accept(&sample).await;
            stack.settled(&sample, "asking").await;
            let tries = stack.destination.journal("asking", &sample.id).await;
            assert_eq!(tries.len(), 2, "{retry_after}");
            [tries[0].at, tries[1].at]
        };
        // The wait is in whole seconds of the queue's clock.
        let [first, second] = tries("3").await;
        assert!(second - first >= 2_900, "the second try came {} ms after the first", second - first);
        // Late enough that it is still to come when the first try is made.
        let date = unix_now() + 8;
        let [first, second] = tries(&DateTime::from_secs(date.cast_signed()).fmt(Format::HttpDate).unwrap()).await;
        assert!(second + 100 >= date * 1000, "the second try came {} ms after the first", second - first);
    });
}

#[test]
fn a_redirect_to_a_place_inside_is_not_followed() {
    journey(async |stack| {
        let sample = stack.sample("http");
        let inside = "http://127.0.0.1:1/latest/meta-data/";
        stack.destination.script("http", &sample.id, json!({"status": 307, "headers": {"location": inside}})).await;
        stack.accept(&sample).await;
        stack.reaches(&sample, "http", "dead", SOON).await;
        let (class, reason) = failure(stack, &sample, "http").await;
        assert_eq!(class, "permanent");
        assert!(reason.contains("307") && reason.ends_with("redirects are not followed"), "{reason}");
        assert_eq!(stack.destination.journal("http", &sample.id).await.len(), 1);
    });
}

#[test]
fn an_address_that_is_not_public_is_not_reached() {
    journey(async |stack| {
        let sample = stack.sample("walled");
        stack.accept(&sample).await;
        stack.reaches(&sample, "walled", "dead", SOON).await;
        let (class, reason) = failure(stack, &sample, "walled").await;
        assert_eq!(class, "permanent");
        assert!(reason.starts_with("127.0.0.1 resolves to an address that is not public"), "{reason}");
        assert!(reason.contains("allow_networks"), "{reason}");
        assert!(stack.destination.journal("walled", &sample.id).await.is_empty());
        let letter = stack.dead_letter(&sample.id).await;
        assert_eq!(letter.attribute("reason"), Some(reason.as_str()));
    });
}

#[test]
fn a_host_that_is_not_who_it_says_gets_nothing() {
    journey(async |stack| {
        let sample = stack.sample("self-signed");
        stack.accept(&sample).await;
        let delivery = stack.reaches(&sample, "self-signed", "dead", SOON).await;
        assert_eq!(delivery.attempts, 2, "a certificate may be mended: {delivery:?}");
        let (class, reason) = failure(stack, &sample, "self-signed").await;
        assert_eq!(class, "transient");
        assert!(reason.contains("its certificate is self-signed, or of an authority that is not known"), "{reason}");
        assert!(stack.destination.journal("self-signed", &sample.id).await.is_empty());
    });
}
