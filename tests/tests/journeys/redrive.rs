//! What is dead waits in the dead-letter queue, and goes on when a person says so.

use std::time::Duration;

use serde_json::json;
use tests::stack::{Sample, Stack, eventually, when};

use crate::{SOON, accept::the_only_delivery, deliver::doorbell, journey};

/// Three attempts with the destination's waits between them.
const DEAD: Duration = Duration::from_secs(60);

#[test]
fn a_delivery_to_a_destination_that_is_down_dies_and_is_redriven() {
    journey(async |stack| {
        let sample = a_dead_delivery(stack).await;
        let tries = stack.destination.journal("fragile", &sample.id).await;
        assert_eq!(tries.len(), 3, "the configuration allows three attempts");
        let letter = stack.dead_letter(&sample.id).await;
        assert!(letter.attribute("reason").is_some_and(|reason| !reason.is_empty()), "{letter:?}");
        let named: serde_json::Value = serde_json::from_str(&letter.body).unwrap();
        assert_eq!((&named["event_id"], &named["destination"]), (&json!(sample.id), &json!("fragile")));

        stack.destination.heal("fragile", &sample.id).await;
        redrive(stack, &sample).await;
        stack.settled(&sample, "fragile").await;

        let tries = stack.destination.journal("fragile", &sample.id).await;
        let statuses: Vec<u16> = tries.iter().map(|entry| entry.answer.status).collect();
        assert_eq!(statuses, [503, 503, 503, 200]);
        assert!(tries.iter().all(|entry| entry.body == sample.body));
        assert!(tries.iter().all(|entry| entry.header("idempotency-key") == tries[0].header("idempotency-key")));
    });
}

#[test]
fn a_dry_run_moves_nothing() {
    journey(async |stack| {
        let sample = a_dead_delivery(stack).await;
        stack.dead_letter(&sample.id).await;
        stack.invoke("redrive", &json!({"eventIds": [format!("fragile#{}", sample.id)], "dryRun": true})).await;
        stack.dead_letter(&sample.id).await;
        stack.silent(&sample.id).await;
        assert_eq!(stack.delivery(&sample, "fragile").await.unwrap().status, "dead");
        assert_eq!(stack.destination.journal("fragile", &sample.id).await.len(), 3);
    });
}

#[test]
fn a_destination_that_refuses_for_good_is_not_tried_again_until_redriven() {
    journey(async |stack| {
        let sample = stack.sample("fragile");
        stack.destination.script("fragile", &sample.id, json!({"status": 422})).await;
        stack.accept(&sample).await;
        let delivery = stack.reaches(&sample, "fragile", "dead", DEAD).await;
        assert_eq!(delivery.attempts, 1, "{delivery:?}");
        stack.dead_letter(&sample.id).await;
        stack.destination.heal("fragile", &sample.id).await;
        redrive(stack, &sample).await;
        stack.settled(&sample, "fragile").await;
        assert_eq!(stack.destination.journal("fragile", &sample.id).await.len(), 2);
    });
}

#[test]
fn redriving_a_delivery_that_is_done_changes_nothing() {
    journey(async |stack| {
        let sample = stack.sample("partner");
        stack.accept(&sample).await;
        let before = stack.settled(&sample, "partner").await;
        // A doorbell in the dead-letter queue that nothing is due for, as a crash between two steps can leave one.
        let letter = stack.sqs.send_message().queue_url(stack.output("DeadLetterQueueUrl"));
        letter.message_body(doorbell(&sample, "partner").to_string()).send().await.unwrap();

        stack.invoke("redrive", &json!({"eventIds": [format!("partner#{}", sample.id)]})).await;
        let after = stack.settled(&sample, "partner").await;
        assert_eq!((after.status, after.attempts), (before.status, before.attempts));
        the_only_delivery(stack, &sample, "partner").await;
    });
}

#[test]
fn a_redrive_of_many_keeps_to_its_limit() {
    journey(async |stack| {
        let samples: Vec<Sample> = (0..12).map(|_| stack.sample("fragile")).collect();
        for sample in &samples {
            stack.destination.script("fragile", &sample.id, json!({"status": 422})).await;
            stack.accept(sample).await;
        }
        for sample in &samples {
            stack.dead_letter(&sample.id).await;
            stack.destination.heal("fragile", &sample.id).await;
        }
        let ids: Vec<&str> = samples.iter().map(|sample| sample.id.as_str()).collect();
        let mut redriven = 0;
        // A redrive of another journey hides letters while it runs, so one call may not see them all.
        eventually("all are redriven", DEAD, async || {
            let report = stack.invoke("redrive", &json!({"eventIds": ids, "limit": 5})).await;
            let now = report["redriven"].as_u64().unwrap();
            assert!(now <= 5, "{report}");
            redriven += now;
            when(redriven, |redriven| *redriven >= 12)
        })
        .await;
        assert_eq!(redriven, 12, "each is redriven once");
        for sample in &samples {
            stack.settled(sample, "fragile").await;
        }
    });
}

#[test]
fn a_redrive_that_does_not_say_what_is_refused() {
    journey(async |stack| {
        let name = stack.output("RedriveFunctionName");
        for wrong in [
            json!({}),
            json!({"all": false}),
            json!({"eventIds": []}),
            json!({"all": true, "eventIds": ["partner#x"], "dryRun": true}),
            json!({"all": true, "source": "partner", "dryRun": true}),
            json!({"everything": true, "dryRun": true}),
        ] {
            let payload = payload_of(&wrong);
            let answer = stack.lambda.invoke().function_name(name).payload(payload).send().await.unwrap();
            assert!(answer.function_error.is_some(), "{wrong} was taken: {:?}", answer.payload);
        }
    });
}

/// An event whose delivery used up its attempts, with the destination still down.
async fn a_dead_delivery(stack: &Stack) -> Sample {
    let sample = stack.sample("fragile");
    stack.destination.script("fragile", &sample.id, json!({"status": 503})).await;
    stack.accept(&sample).await;
    stack.reaches(&sample, "fragile", "dead", DEAD).await;
    stack.silent(&sample.id).await;
    sample
}

/// Redrives the event until its letter is gone: another redrive may have it in hand for a moment.
pub(crate) async fn redrive(stack: &Stack, sample: &Sample) {
    eventually("the dead letter went on", SOON, async || {
        let answer = stack.invoke("redrive", &json!({"eventIds": [format!("{}#{}", sample.source, sample.id)]})).await;
        let letters = stack.dlq_messages().await.into_iter().filter(|letter| letter.body.contains(&sample.id));
        when(letters.collect::<Vec<_>>(), Vec::is_empty).map_err(|left| format!("{left}, and redrive answered {answer}"))
    })
    .await;
}

fn payload_of(event: &serde_json::Value) -> aws_smithy_types::Blob {
    aws_smithy_types::Blob::new(event.to_string())
}
