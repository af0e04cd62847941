//! What is broken between two calls, and that nothing accepted is lost by it.

use std::time::Duration;

use serde_json::{Value, json};
use shared::ledger::CONTENT_CLAIM_SECONDS;
use tests::stack::{Sample, Stack, eventually, unique, when};

use crate::{AUDITED, SOON, accept::the_only_delivery, journey};

/// When what was claimed and not recorded is anybody's, with room for a busy machine.
const CLAIM_IS_OVER: Duration = Duration::from_secs(CONTENT_CLAIM_SECONDS + 30);

#[test]
fn a_receiver_killed_between_record_and_ring_is_made_up_for_by_the_auditor() {
    journey(async |stack| {
        let sample = a_recorded_event_that_nobody_rang_for(stack).await;
        stack.reaches(&sample, "ci", "done", AUDITED).await;
        stack.silent(&sample.id).await;
        the_only_delivery(stack, &sample, "ci").await;
    });
}

#[test]
fn a_receiver_killed_between_record_and_ring_is_made_up_for_by_the_senders_retry() {
    journey(async |stack| {
        let sample = a_recorded_event_that_nobody_rang_for(stack).await;
        let answer = stack.send_once(&sample).await;
        assert_eq!((answer.status, answer.body["status"].as_str()), (200, Some("duplicate")));
        stack.settled(&sample, "ci").await;
        the_only_delivery(stack, &sample, "ci").await;
    });
}

#[test]
fn a_receiver_killed_before_it_records_what_it_has_claimed_is_made_up_for_by_the_senders_retry() {
    journey(async |stack| {
        let sample = a_claimed_webhook_that_nobody_recorded(stack).await;
        stack.accept(&sample).await;
        stack.settled(&sample, "ci").await;
        the_only_delivery(stack, &sample, "ci").await;
    });
}

#[test]
fn what_was_claimed_and_never_recorded_is_accepted_under_another_id_when_the_claim_is_over() {
    journey(async |stack| {
        let first = a_claimed_webhook_that_nobody_recorded(stack).await;
        let other = Sample { id: unique(), ..first.clone() };
        let answer = stack.send_once(&other).await;
        assert_eq!(answer.status, 503, "the first may still be on its way: {answer:?}");
        assert_eq!(stack.event(&other).await, None);
        let answer = eventually("the other id is accepted", CLAIM_IS_OVER, async || {
            when(stack.send_once(&other).await, |answer| answer.status != 503)
        })
        .await;
        assert_eq!((answer.took_it_in(), &answer.body["eventId"]), (true, &json!(other.id)));
        // The first is known as the other now.
        let answer = stack.send(&first).await;
        assert_eq!((answer.status, &answer.body["eventId"]), (200, &json!(other.id)));
        stack.settled(&other, "ci").await;
        // The body names the first, whatever id it came under.
        the_only_delivery(stack, &first, "ci").await;
    });
}

#[test]
fn a_claim_that_happened_though_its_answer_was_lost_is_our_own() {
    journey(async |stack| {
        let sample = stack.sample("github");
        let fault = stack.wire.fault(on("PutItem", &sample, &json!({"action": "reset_after", "times": 1}))).await;
        let answer = stack.send_once(&sample).await;
        assert!(answer.took_it_in(), "the SDK's second try finds what the first one wrote: {answer:?}");
        assert_eq!(stack.wire.report(&fault).await.fired, 1);
        stack.settled(&sample, "ci").await;
        the_only_delivery(stack, &sample, "ci").await;
    });
}

#[test]
fn while_the_ledger_is_down_nothing_is_accepted() {
    journey(async |stack| {
        for broken in
            [json!({"action": "status", "status": 500}), json!({"action": "throttle"}), json!({"action": "reset_before"})]
        {
            let sample = stack.sample("partner");
            let fault = stack.wire.fault(on("PutItem", &sample, &broken)).await;
            let answer = stack.send_once(&sample).await;
            assert_eq!(answer.status, 503, "{broken}: {answer:?}");
            let retry_after = answer.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
            assert!(retry_after.is_some_and(|seconds| seconds > 0), "{broken}: {answer:?}");
            assert!(answer.body["error"]["code"].is_string(), "{broken}: {answer:?}");
            assert_eq!(stack.items(&sample).await, []);

            stack.wire.mend(&fault).await;
            stack.accept(&sample).await;
            stack.settled(&sample, "partner").await;
            the_only_delivery(stack, &sample, "partner").await;
        }
    });
}

#[test]
fn while_the_queue_is_down_webhooks_are_accepted_and_rung_for_later() {
    journey(async |stack| {
        let sample = stack.sample("partner");
        let fault = stack.wire.fault(on("SendMessage", &sample, &json!({"action": "status", "status": 500}))).await;
        stack.accept(&sample).await;
        assert!(stack.wire.report(&fault).await.fired > 0, "the receiver did not ring");
        assert_eq!(stack.delivery(&sample, "partner").await, None);
        stack.wire.mend(&fault).await;
        stack.reaches(&sample, "partner", "done", AUDITED).await;
        stack.silent(&sample.id).await;
        the_only_delivery(stack, &sample, "partner").await;
    });
}

#[test]
fn while_ledger_and_queue_are_down_nothing_is_accepted() {
    journey(async |stack| {
        let sample = stack.sample("partner");
        let down = json!({"action": "status", "status": 500});
        let ledger = stack.wire.fault(on("PutItem", &sample, &down)).await;
        let queue = stack.wire.fault(on("SendMessage", &sample, &down)).await;
        assert_eq!(stack.send_once(&sample).await.status, 503);
        stack.wire.mend(&ledger).await;
        stack.wire.mend(&queue).await;
    });
}

#[test]
fn a_put_that_happened_though_its_answer_was_lost_is_delivered_once() {
    journey(async |stack| {
        let sample = stack.sample("partner");
        let fault = stack.wire.fault(on("PutItem", &sample, &json!({"action": "reset_after", "times": 1}))).await;
        let answer = stack.send_once(&sample).await;
        assert!((200..300).contains(&answer.status), "the SDK's second try finds what the first one wrote: {answer:?}");
        assert_eq!(stack.wire.report(&fault).await.fired, 1);
        stack.settled(&sample, "partner").await;
        the_only_delivery(stack, &sample, "partner").await;
        assert_eq!(stack.conflicts(&sample).await, [""; 0]);
    });
}

#[test]
fn a_ring_that_happened_though_its_answer_was_lost_has_one_effect() {
    journey(async |stack| {
        let sample = stack.sample("partner");
        let fault = stack.wire.fault(on("SendMessage", &sample, &json!({"action": "reset_after", "times": 1}))).await;
        stack.accept(&sample).await;
        assert_eq!(stack.wire.report(&fault).await.fired, 1);
        stack.settled(&sample, "partner").await;
        the_only_delivery(stack, &sample, "partner").await;
    });
}

/// A GitHub event, since GitHub never sends again by itself: recorded, and the receiver killed before it could ring.
async fn a_recorded_event_that_nobody_rang_for(stack: &Stack) -> Sample {
    let sample = stack.sample("github");
    let fault = stack.wire.fault(on("SendMessage", &sample, &json!({"action": "kill", "times": 1}))).await;
    let answer = stack.send_once(&sample).await;
    assert!(answer.status >= 500, "a killed receiver cannot have answered: {answer:?}");
    let report = eventually("the receiver is killed", SOON, async || {
        when(stack.wire.report(&fault).await, |report| !report.killed.is_empty())
    });
    assert_eq!(report.await.fired, 1);
    assert!(stack.event(&sample).await.is_some(), "the receiver rings before it records");
    assert_eq!(stack.delivery(&sample, "ci").await, None);
    sample
}

/// A GitHub event, whose signature does not cover its id: what was signed is claimed, and the receiver killed before it could
/// record the event.
async fn a_claimed_webhook_that_nobody_recorded(stack: &Stack) -> Sample {
    let sample = stack.sample("github");
    let fault = stack.wire.fault(on("PutItem", &sample, &json!({"action": "kill_after", "times": 1}))).await;
    let answer = stack.send_once(&sample).await;
    assert!(answer.status >= 500, "a killed receiver cannot have answered: {answer:?}");
    let report = eventually("the receiver is killed", SOON, async || {
        when(stack.wire.report(&fault).await, |report| !report.killed.is_empty())
    });
    assert_eq!(report.await.fired, 1);
    assert_eq!(stack.content_of(&sample).await.as_ref(), Some(&sample.id));
    assert_eq!(stack.items(&sample).await, []);
    sample
}

/// A fault for the receiver's calls that name the event.
fn on(operation: &str, sample: &Sample, action: &Value) -> Value {
    let mut fault = json!({"function": "receiver", "operation": operation, "body_contains": sample.id});
    fault.as_object_mut().unwrap().extend(action.as_object().unwrap().clone());
    fault
}
