//! The order of acceptance, on a stack with FIFO queues: `make journeys` brings up one of its own for these.

use serde_json::json;
use shared::{
    doorbell::{Bell, Doorbell},
    event::EventKey,
    names::{DestinationName, EventId, SourceName},
};
use tests::stack::{Sample, Stack, eventually, unique, when};

use crate::{SOON, journey, redrive::redrive, route::event};

/// A version of a thing, which only FIFO keeps from going before the retry of an older one.
fn version_of(stack: &Stack, thing: &str, version: u32) -> Sample {
    event(stack, "ordered", "thing.changed", json!({"thing": thing, "version": version}))
}

/// When each attempt of an event came to the destination.
async fn attempts(stack: &Stack, sample: &Sample) -> Vec<u64> {
    stack.destination.journal("ordered", &sample.id).await.iter().map(|entry| entry.at).collect()
}

async fn first_attempt(stack: &Stack, sample: &Sample) {
    eventually("the first is tried", SOON, async || when(attempts(stack, sample).await.len(), |tries| *tries >= 1)).await;
}

/// As the dispatcher rings, who knows nothing of what the event is about.
async fn ring_again(stack: &Stack, sample: &Sample) {
    let key = EventKey { source: SourceName::parse(sample.source).unwrap(), event_id: EventId::parse(&sample.id).unwrap() };
    let doorbell = Doorbell::first(&key, &DestinationName::parse("ordered").unwrap());
    Bell::new(&stack.aws, stack.output("DoorbellQueueUrl").to_owned()).ring(&[doorbell]).await.unwrap();
}

#[test]
fn what_is_about_one_thing_arrives_in_the_order_of_acceptance_also_behind_retries() {
    journey(async |stack| {
        let thing = unique();
        let samples = [1, 2, 3, 4].map(|version| version_of(stack, &thing, version));
        stack.destination.script("ordered", &samples[0].id, json!({"status": 500, "times": 2})).await;
        for sample in &samples {
            stack.accept(sample).await;
        }
        let other = version_of(stack, &unique(), 1);
        stack.accept(&other).await;
        for sample in [&other].into_iter().chain(&samples) {
            stack.settled(sample, "ordered").await;
        }
        let first = attempts(stack, &samples[0]).await;
        assert_eq!(first.len(), 3);
        assert!(attempts(stack, &other).await[0] < first[2], "another thing is not held up");
        let mut before = first[2];
        for sample in &samples[1..] {
            let came = attempts(stack, sample).await;
            assert!(came.len() == 1 && came[0] >= before, "{came:?} came once and after {before}");
            before = came[0];
        }
    });
}

#[test]
fn a_doorbell_that_rings_again_in_another_group_overtakes_nothing() {
    journey(async |stack| {
        let thing = unique();
        let (old, new) = (version_of(stack, &thing, 1), version_of(stack, &thing, 2));
        stack.destination.script("ordered", &old.id, json!({"status": 500, "times": 2})).await;
        stack.accept(&old).await;
        first_attempt(stack, &old).await;
        stack.accept(&new).await;
        // The sender's own repeat, and the auditor's.
        assert!(stack.send(&new).await.took_it_in());
        ring_again(stack, &new).await;
        stack.settled(&new, "ordered").await;
        stack.settled(&old, "ordered").await;
        let (olds, news) = (attempts(stack, &old).await, attempts(stack, &new).await);
        assert_eq!((olds.len(), news.len()), (3, 1));
        assert!(news[0] >= olds[2], "{news:?} is not before {olds:?}");
        stack.silent(&new.id).await;
    });
}

#[test]
fn what_is_dead_lets_the_next_go_on_and_is_redriven() {
    journey(async |stack| {
        assert!(stack.output("DeadLetterQueueUrl").ends_with(".fifo"));
        let thing = unique();
        // Of the same version: a redrive is not superseded.
        let (dead, next) = (version_of(stack, &thing, 1), version_of(stack, &thing, 1));
        stack.destination.script("ordered", &dead.id, json!({"status": 422})).await;
        stack.accept(&dead).await;
        stack.accept(&next).await;
        stack.reaches(&dead, "ordered", "dead", SOON).await;
        stack.dead_letter(&dead.id).await;
        stack.settled(&next, "ordered").await;
        stack.destination.heal("ordered", &dead.id).await;
        redrive(stack, &dead).await;
        stack.settled(&dead, "ordered").await;
        assert_eq!(attempts(stack, &dead).await.len(), 2);
    });
}
