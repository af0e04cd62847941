//! What providers ask of a URL before they send to it: answered as their protocols demand, with nothing recorded.

use std::time::Duration;

use aws_smithy_types::date_time::{DateTime, Format};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tests::{
    providers::{Provider, Webhook},
    stack::{Answer, Sample, Stack, eventually, unique, unix_now, when},
};

use crate::{
    SOON,
    accept::{recorded, the_only_delivery},
    journey,
    refuse::{expect_error, untouched},
};

/// A request without anything.
const BARE: Webhook = Webhook { headers: Vec::new(), body: Vec::new() };

#[test]
fn a_signed_challenge_is_answered_as_plain_text_and_nothing_is_recorded() {
    journey(async |stack| {
        let (challenge, webhook) = slack_challenge(stack).await;
        expect_plain_text(&stack.post("slack", &webhook).await, &challenge);
        untouched(stack, &as_an_event(&webhook)).await;
    });
}

#[test]
fn a_challenge_that_is_not_signed_or_wrongly_so_is_refused_and_not_repeated() {
    journey(async |stack| {
        let (challenge, webhook) = slack_challenge(stack).await;
        let forged = Provider::Slack.sign(&webhook.body, "", "a guess", unix_now());
        for refused in [webhook.clone().without("x-slack-signature"), forged] {
            let answer = stack.post("slack", &refused).await;
            expect_error(&answer, 401);
            assert!(!answer.body.to_string().contains(&challenge), "{answer:?}");
            untouched(stack, &as_an_event(&refused)).await;
        }
    });
}

#[test]
fn a_verify_token_is_compared_before_its_challenge_is_repeated() {
    journey(async |stack| {
        let token = stack.keyring("source/meta-verify").await.remove(0).secret;
        let challenge = format!("challenge-{}", unique());
        let ask = async |token: &str| {
            let source = format!("meta?hub.mode=subscribe&hub.challenge={challenge}&hub.verify_token={token}");
            stack.request(Method::GET, &source, &BARE).await
        };
        expect_plain_text(&ask(&token).await, &challenge);
        for wrong in ["", "x", &token[1..], &format!("{token}x")] {
            let answer = ask(wrong).await;
            expect_error(&answer, 403);
            assert!(!answer.body.to_string().contains(&challenge), "{answer:?}");
        }
        // What is no handshake is a webhook, and those do not come by GET.
        let answer = stack.request(Method::GET, &format!("meta?hub.challenge={challenge}"), &BARE).await;
        expect_error(&answer, 405);
        assert_eq!(answer.header("allow"), Some("POST"));

        let sample = stack.sample("meta");
        assert_eq!(recorded(stack, &sample).await.status, 200);
    });
}

#[test]
fn a_probe_with_head_is_answered_and_a_webhook_still_has_to_be_signed() {
    journey(async |stack| {
        let answer = stack.request(Method::HEAD, "trello", &BARE).await;
        assert_eq!((answer.status, &answer.body), (200, &json!("")), "{answer:?}");
        expect_error(&stack.request(Method::POST, "trello", &BARE).await, 401);
        // Nobody else is asked that way.
        let answer = stack.request(Method::HEAD, "github", &BARE).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
        let sample = stack.sample("trello");
        assert_eq!(recorded(stack, &sample).await.status, 200);
    });
}

/// One journey for all of it: they would share the one secret. No other journey sends to this source.
#[test]
fn a_secret_that_a_handshake_brings_is_enrolled_while_the_operator_lets_it() {
    journey(async |stack| {
        let closed = json!({"keys": [], "enrolUntil": "2000-01-01T00:00:00Z"});
        stack.put_secret("source/asana-enrolled", &closed.to_string()).await;
        let (brought, another) = (unique(), unique());
        let answer = shake_hands(stack, &brought).await;
        expect_error(&answer, 403);
        assert_eq!((&answer.body["error"]["code"], answer.header("x-hook-secret")), (&json!("enrolment_closed"), None));
        assert_eq!(keys(stack).await, [""; 0]);

        stack
            .put_secret("source/asana-enrolled", &json!({"keys": [], "enrolUntil": rfc3339(unix_now() + 600)}).to_string())
            .await;
        // A function that has just read that it is closed believes so for some seconds.
        let answer = eventually("the handshake is answered", SOON, async || {
            when(shake_hands(stack, &brought).await, |answer| answer.status == 200)
        })
        .await;
        assert_eq!(answer.header("x-hook-secret"), Some(&*brought), "{answer:?}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(keys(stack).await, [&*brought]);

        let sample = stack.sample("asana");
        assert!(recorded(stack, &sample).await.took_it_in());
        stack.settled(&sample, "anything").await;
        the_only_delivery(stack, &sample, "anything").await;

        expect_error(&shake_hands(stack, &another).await, 403);
        // Its answer may have been lost, so it may come again.
        let again = eventually("the same handshake is answered again", SOON, async || {
            when(shake_hands(stack, &brought).await, |answer| answer.status == 200)
        })
        .await;
        assert_eq!(again.header("x-hook-secret"), Some(&*brought));
        assert_eq!(keys(stack).await, [&*brought], "one opening is for one secret");
        // What has a signature could be an event, and is never taken for a handshake.
        let sample = stack.sample("asana");
        let answer = stack.post("asana", &stack.sign(&sample).await.with("x-hook-secret", &brought)).await;
        assert!(answer.took_it_in() && answer.header("x-hook-secret").is_none(), "{answer:?}");
        let forged = Provider::Asana.sign(&sample.body, "", &another, unix_now()).with("x-hook-secret", &another);
        expect_error(&stack.post("asana", &forged).await, 401);
    });
}

async fn shake_hands(stack: &Stack, secret: &str) -> Answer {
    stack.post("asana", &BARE.with("x-hook-secret", secret)).await
}

async fn keys(stack: &Stack) -> Vec<String> {
    stack.keyring("source/asana-enrolled").await.into_iter().map(|key| key.secret).collect()
}

/// A challenge, and Slack's request with it.
async fn slack_challenge(stack: &Stack) -> (String, Webhook) {
    let challenge = format!("challenge-{}", unique());
    let body = json!({"type": "url_verification", "token": "x", "challenge": challenge}).to_string().into_bytes();
    let key = stack.keyring("source/slack").await.remove(0);
    (challenge, Provider::Slack.sign(&body, "", &key.secret, unix_now()))
}

/// What Slack's request would be known by as an event: without an id it is the digest of what is signed.
fn as_an_event(webhook: &Webhook) -> Sample {
    let signed = [format!("v0:{}:", webhook.header("x-slack-request-timestamp")).into_bytes(), webhook.body.clone()].concat();
    Sample { source: "slack", id: hex::encode(Sha256::digest(signed)), body: webhook.body.clone() }
}

fn expect_plain_text(answer: &Answer, text: &str) {
    assert_eq!((answer.status, &answer.body), (200, &Value::from(text)), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

fn rfc3339(unix_seconds: u64) -> String {
    let moment = DateTime::from(std::time::UNIX_EPOCH + Duration::from_secs(unix_seconds));
    moment.fmt(Format::DateTime).unwrap()
}
