//! What is refused: with a clear error, nothing written, nothing rung.

use reqwest::Method;
use tests::{
    providers::{Provider, Webhook},
    stack::{Answer, Sample, Stack, unique, unix_now},
};

use crate::journey;

#[test]
fn a_forged_webhook_is_refused_and_does_not_take_the_id() {
    journey(async |stack| {
        for (source, provider) in
            [("github", Provider::Github), ("stripe", Provider::Stripe), ("partner", Provider::StandardWebhooks)]
        {
            let sample = stack.sample(source);
            let forged = provider.sign(&sample.body, &sample.id, "Zm9yZ2VkLWZvcmdlZC1mb3JnZWQ=", unix_now());
            refused(stack, &sample, &forged, 401).await;
            stack.accept(&sample).await;
        }
    });
}

#[test]
fn a_signature_does_not_prove_another_body_or_another_id() {
    journey(async |stack| {
        let sample = stack.sample("partner");
        let mut webhook = stack.sign(&sample).await;
        webhook.body.push(b' ');
        refused(stack, &sample, &webhook, 401).await;

        let other = Sample { id: unique(), ..sample.clone() };
        let webhook = stack.sign(&sample).await.with("webhook-id", &other.id);
        refused(stack, &other, &webhook, 401).await;
    });
}

#[test]
fn a_stale_webhook_and_one_from_the_future_are_refused() {
    journey(async |stack| {
        // The tolerance is 300 s; what is close to it leaves room for the time that the request takes.
        for source in ["partner", "stripe"] {
            for off in [-285, 285] {
                let sample = stack.sample(source);
                let webhook = stack.sign_at(&sample, unix_now().checked_add_signed(off).unwrap()).await;
                assert!(stack.post(source, &webhook).await.took_it_in(), "{source}, {off} s off");
            }
            for off in [-315, 315, -86_400, 86_400] {
                let sample = stack.sample(source);
                let webhook = stack.sign_at(&sample, unix_now().checked_add_signed(off).unwrap()).await;
                refused(stack, &sample, &webhook, 401).await;
            }
        }
    });
}

#[test]
fn a_signature_that_is_missing_malformed_or_truncated_is_refused() {
    journey(async |stack| {
        for (source, provider) in [("github", Provider::Github), ("partner", Provider::StandardWebhooks)] {
            let header = provider.signature_header();
            let sample = stack.sample(source);
            let good = stack.sign(&sample).await;
            refused(stack, &sample, &good.clone().without(header), 401).await;
            for malformed in ["", "x", "sha256=", "sha256=zz", "v1,", "v1,???", "v1", "=,=,="] {
                refused(stack, &sample, &good.clone().with(header, malformed), 401).await;
            }
            let truncated = good.clone().with_changed(header, |value| value[..value.len() - 4].to_owned());
            refused(stack, &sample, &truncated.clone().with_repeated(header), 401).await;
            refused(stack, &sample, &truncated, 401).await;
            refused(stack, &sample, &good.clone().with_changed(header, |value| value[..value.len() / 2].to_owned()), 401).await;
            stack.accept(&sample).await;
        }
        let sample = stack.sample("stripe");
        let good = stack.sign(&sample).await;
        refused(stack, &sample, &good.clone().without("stripe-signature"), 401).await;
        for malformed in ["", "t=", "t=,v1=", "t=99999999999999999999,v1=00", "v1=00", "t=-1,v1=00"] {
            refused(stack, &sample, &good.clone().with("stripe-signature", malformed), 401).await;
        }
        let untimed = stack.sample("partner");
        for malformed in ["", "yesterday", "99999999999999999999", "-1"] {
            refused(stack, &untimed, &stack.sign(&untimed).await.with("webhook-timestamp", malformed), 401).await;
        }
    });
}

#[test]
fn an_unreadable_id_is_refused_where_its_source_says_so() {
    journey(async |stack| {
        for body in [
            &b""[..],
            b"{",
            b"null",
            b"{\"id\":\"evt_1\"",
            b"{}",
            b"{\"id\":null}",
            b"{\"id\":\"\"}",
            b"{\"id\":{}}",
            b"[]",
            b"7",
        ] {
            let sample = Sample { body: body.to_vec(), ..stack.sample("readable") };
            refused(stack, &sample, &stack.sign(&sample).await, 400).await;
        }
    });
}

#[test]
fn an_unknown_source_is_refused() {
    journey(async |stack| {
        let sample = stack.sample("partner");
        let webhook = stack.sign(&sample).await;
        for unknown in ["nobody", "PARTNER", "partner%20", "destination"] {
            expect_error(&stack.post(unknown, &webhook).await, 401);
        }
        untouched(stack, &sample).await;
    });
}

#[test]
fn other_methods_than_post_are_refused() {
    journey(async |stack| {
        let sample = stack.sample("partner");
        let webhook = stack.sign(&sample).await;
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH] {
            let answer = stack.request(method, "partner", &webhook).await;
            expect_error(&answer, 405);
            assert_eq!(answer.header("allow"), Some("POST"));
        }
        // One that takes two of them says both.
        let answer = stack.request(Method::PUT, "twilio", &webhook).await;
        expect_error(&answer, 405);
        assert_eq!(answer.header("allow"), Some("GET, POST"));
        untouched(stack, &sample).await;
        stack.accept(&sample).await;
    });
}

#[test]
fn a_body_over_the_cap_of_its_source_is_refused() {
    journey(async |stack| {
        let of_bytes = |length| {
            let mut sample = stack.sample("capped");
            sample.body.resize(length, b' ');
            sample
        };
        stack.accept(&of_bytes(1024)).await;
        let over = of_bytes(1025);
        refused(stack, &over, &stack.sign(&over).await, 413).await;
        // The cap comes first: nobody's signature is computed over what is too large.
        refused(stack, &over, &stack.sign(&over).await.without("webhook-signature"), 413).await;
    });
}

/// Posts the webhook, which has to be refused with `status` and leave no trace of the event.
pub(crate) async fn refused(stack: &Stack, sample: &Sample, webhook: &Webhook, status: u16) {
    let answer = stack.post(sample.source, webhook).await;
    assert_eq!(answer.status, status, "{}: {:?}\n{answer:?}", sample.source, webhook.headers);
    expect_error(&answer, status);
    untouched(stack, sample).await;
}

/// The uniform error: `{"error":{"code","message"},"requestId"}`.
pub(crate) fn expect_error(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    let is_text = |pointer| answer.body.pointer(pointer).and_then(serde_json::Value::as_str).is_some_and(|text| !text.is_empty());
    assert!(["/error/code", "/error/message", "/requestId"].into_iter().all(is_text), "{answer:?}");
}

/// The ledger has nothing of the event, and no doorbell names it.
pub(crate) async fn untouched(stack: &Stack, sample: &Sample) {
    assert_eq!(stack.items(sample).await, [], "a refused webhook was written");
    assert!(stack.doorbells().await.iter().all(|message| !message.body.contains(&sample.id)), "a refused webhook was rung for");
}
