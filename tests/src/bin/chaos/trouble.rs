//! What goes wrong while webhooks are sent: the functions' AWS calls, the functions themselves, and the destinations.

use std::time::Duration;

use ::tests::{
    stack::Stack,
    wire::{Action, Fault},
};
use fastrand::Rng;
use serde_json::{Value, json};

use crate::{functions::start, webhooks::MANNERS};

/// One call in so many is broken where a function calls often.
const OFTEN: u64 = 25;
/// One call in so many is broken where a function calls now and then.
const RARELY: u64 = 6;

/// Every AWS call that the functions make, and how often it is broken.
const CALLS: [(&str, &str, &str, u64); 28] = [
    ("receiver", "dynamodb", "PutItem", OFTEN),
    ("receiver", "dynamodb", "GetItem", RARELY),
    ("receiver", "dynamodb", "Query", OFTEN),
    ("receiver", "sqs", "SendMessage", OFTEN),
    ("receiver", "sqs", "SendMessageBatch", OFTEN),
    ("receiver", "s3", "PutObject", RARELY),
    ("receiver", "secretsmanager", "GetSecretValue", RARELY),
    ("worker", "dynamodb", "BatchGetItem", OFTEN),
    ("worker", "dynamodb", "UpdateItem", OFTEN),
    ("worker", "dynamodb", "TransactWriteItems", OFTEN),
    ("worker", "s3", "GetObject", RARELY),
    ("worker", "sqs", "ChangeMessageVisibility", RARELY),
    ("worker", "sqs", "SendMessage", RARELY),
    ("worker", "secretsmanager", "GetSecretValue", RARELY),
    ("auditor", "dynamodb", "Query", OFTEN),
    ("auditor", "dynamodb", "BatchGetItem", RARELY),
    ("auditor", "dynamodb", "GetItem", RARELY),
    ("auditor", "dynamodb", "PutItem", RARELY),
    ("auditor", "dynamodb", "UpdateItem", RARELY),
    ("dispatcher", "dynamodb", "Query", RARELY),
    ("dispatcher", "dynamodb", "BatchGetItem", RARELY),
    ("dispatcher", "dynamodb", "UpdateItem", RARELY),
    ("dispatcher", "sqs", "SendMessageBatch", RARELY),
    ("redrive", "dynamodb", "GetItem", RARELY),
    ("redrive", "sqs", "ReceiveMessage", RARELY),
    ("redrive", "sqs", "SendMessage", RARELY),
    ("redrive", "sqs", "SendMessageBatch", RARELY),
    ("redrive", "sqs", "DeleteMessageBatch", RARELY),
];

/// How a call is broken. A call that is meant to be broken draws one of these.
const WAYS: [Action; 9] = [
    Action::ResetBefore,
    Action::ResetAfter,
    Action::Hang,
    Action::HangAfter,
    Action::Delay,
    Action::Status,
    Action::Throttle,
    Action::Kill,
    Action::KillAfter,
];

/// For how long a call is delayed, in milliseconds: not so long that its function gives up.
const DELAY_MILLIS: u64 = 300;
/// How long a destination stays in a mood.
const MOOD: Duration = Duration::from_secs(3);
/// How often the operator sends on what is dead, and auditor and dispatcher are started besides their schedules.
const OPERATED: Duration = Duration::from_secs(10);

/// The faults of a run on the wire: every way to break every call, each by itself, so that what happened can be told.
pub(crate) fn faults(webhooks: u32, seed: u64) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (function, service, operation, one_in) in CALLS {
        for action in WAYS {
            let is_dear = one_in == OFTEN && matches!(action, Action::Kill | Action::KillAfter);
            let mut one_in = one_in * WAYS.len() as u64;
            if is_dear {
                // A few of each kind in a run: a worker takes up to ten deliveries with it, and what it had in hand comes again
                // only after the queue's visibility timeout.
                one_in = one_in.max(webhooks.into());
            }
            faults.push(Fault {
                id: None,
                function: Some(function.to_owned()),
                service: Some(service.to_owned()),
                operation: Some(operation.to_owned()),
                body_contains: None,
                times: None,
                one_in: Some(one_in),
                // Each fault has draws of its own, or all would fire at the same calls.
                seed: Some(seed.wrapping_mul(FAULTS_APART).wrapping_add(faults.len() as u64)),
                action,
                delay_ms: (action == Action::Delay).then_some(DELAY_MILLIS),
                status: (action == Action::Status).then_some(500),
            });
        }
    }
    faults
}

/// Keeps the draws of one seed from being those of the next one, moved by one fault.
const FAULTS_APART: u64 = 1_000_003;

/// Lets each destination fail and recover, again and again, for what names `run`.
pub(crate) async fn moody(stack: &Stack, run: &str, seed: u64) {
    let mut rng = Rng::with_seed(seed);
    loop {
        for manner in &MANNERS {
            stack.destination.script(manner.destination, run, mood(&mut rng)).await;
        }
        tokio::time::sleep(MOOD).await;
    }
}

/// All destinations are well again.
pub(crate) async fn heal(stack: &Stack, run: &str) {
    for manner in &MANNERS {
        stack.destination.heal(manner.destination, run).await;
    }
}

fn mood(rng: &mut Rng) -> Value {
    match rng.u32(..26) {
        0..14 => json!({"status": 200}),
        14..16 => json!({"status": 503}),
        16 => json!({"status": 500, "delay_ms": 200}),
        17 => json!({"status": 429, "headers": {"retry-after": "1"}}),
        // Refused, and nobody hears of it.
        18 => json!({"status": 503, "reset": true}),
        // Applied, and nobody hears of it: only the key keeps the repeat from being a second one.
        19..21 => json!({"status": 200, "reset": true}),
        21 => json!([{"status": 200, "hang": true, "times": 3}, {"status": 200}]),
        22 => json!([{"status": 503, "hang": true, "times": 3}, {"status": 200}]),
        23 => json!({"status": 200, "delay_ms": 1500}),
        24 => json!({"status": 200, "body": "slowly", "slow_body_ms": 1000}),
        // For good, as far as the destination is concerned: a person sends it on later.
        _ => json!([{"status": 422, "times": 3}, {"status": 200}]),
    }
}

/// An operator who redrives, the auditor and the dispatcher, while all of this happens: they meet faults too.
pub(crate) async fn operate(stack: &Stack) {
    loop {
        tokio::time::sleep(OPERATED).await;
        start(stack, "AuditorFunctionName", &json!({})).await;
        start(stack, "DispatcherFunctionName", &json!({})).await;
        for manner in &MANNERS {
            start(stack, "RedriveFunctionName", &json!({"destination": manner.destination})).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use ::tests::wire::FAULTS_MAX;

    use super::*;

    #[test]
    fn every_call_is_broken_in_every_way_with_draws_of_its_own() {
        let faults = faults(10_000, 1);
        assert_eq!(faults.len(), CALLS.len() * WAYS.len());
        assert!(faults.len() <= FAULTS_MAX);
        let seeds: std::collections::HashSet<Option<u64>> = faults.iter().map(|fault| fault.seed).collect();
        assert_eq!(seeds.len(), faults.len());
        let killed = |operation: &str| {
            let mut of = faults.iter().filter(|fault| fault.operation.as_deref() == Some(operation));
            of.find(|fault| fault.action == Action::Kill).and_then(|fault| fault.one_in)
        };
        assert_eq!(killed("UpdateItem"), Some(10_000), "the more webhooks, the rarer is each death");
        assert_eq!(killed("GetSecretValue"), Some(RARELY * WAYS.len() as u64));
    }

    #[test]
    fn destinations_have_good_and_bad_moods() {
        let mut rng = Rng::with_seed(0);
        let moods: std::collections::HashSet<String> = (0..500).map(|_| mood(&mut rng).to_string()).collect();
        assert_eq!(moods.len(), 11);
    }
}
