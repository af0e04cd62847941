//! More than the stack takes, and a stack that takes less than usual. These journeys have the stack to themselves: `make journeys`
//! runs them after the others, one at a time.

#![allow(clippy::print_stdout, reason = "what was measured is worth a line")]

use std::{collections::BTreeMap, fs, time::Duration};

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::types::QueueAttributeName;
use futures::future::join_all;
use serde_json::json;
use tests::{
    destination::Effect,
    stack::{Answer, Sample, Stack, eventually, unique, unix_now, when},
};

use crate::{
    SOON,
    deliver::{batch, doorbell, numbered},
    journey,
};

/// Webhooks at the same instant: ten times what this stack's throttle lets through at once, which is what it can take.
const BURST: usize = 400;
/// How long each delivery of the burst takes at its destination, in milliseconds.
const SLOW_MILLIS: u64 = 1_500;
/// How long what was accepted of the burst may take to arrive: what could not be rung for meanwhile has to wait for the auditor,
/// which comes two and a half minutes later and finds a stack that is still busy.
const DELIVERED: Duration = Duration::from_secs(360);
/// Webhooks that wait while the worker cannot work.
const WAITING: usize = 8;
/// Receives of one doorbell after which queues are often told to give a message up.
const RECEIVES: u64 = 3;
/// The visibility timeout that makes a doorbell come again soon, and the template's, in seconds.
const SHORT_SECONDS: u64 = 1;
const TEMPLATE_SECONDS: u64 = 360;
/// For how long a delivery keeps the worker's only place, in milliseconds: a little less than it gives its destination.
const HOLD_MILLIS: u64 = 9_000;

#[test]
fn each_of_far_too_many_webhooks_gets_a_verdict_and_what_is_accepted_is_delivered() {
    journey(async |stack| {
        let run = unique();
        audited_from_now_on(stack).await;
        let samples: Vec<Sample> = (0..BURST).map(|n| numbered(stack, "partner", &run, n)).collect();
        let webhooks = join_all(samples.iter().map(|sample| stack.sign(sample))).await;
        stack.destination.script("partner", &run, json!({"delay_ms": SLOW_MILLIS})).await;

        // One that gets no answer at all panics in here.
        let answers = join_all(webhooks.iter().map(|webhook| stack.post_once("partner", webhook))).await;
        let mut counts = BTreeMap::new();
        for answer in &answers {
            assert!(is_verdict(answer), "neither 2xx, nor 429, nor 503 with Retry-After: {answer:?}");
            *counts.entry(answer.status).or_insert(0) += 1;
        }
        println!("{BURST} webhooks at once were answered {counts:?}");
        assert!(counts.contains_key(&202) && counts.contains_key(&429), "this was no overload: {counts:?}");

        let accepted = samples.iter().zip(&answers).filter(|(_, answer)| answer.status < 300).map(|(sample, _)| sample);
        for sample in accepted.clone() {
            stack.reaches(sample, "partner", "done", DELIVERED).await;
        }
        let journal = stack.destination.journal("partner", &run).await;
        for sample in accepted {
            let applied = journal.iter().filter(|entry| entry.body == sample.body && entry.effect == Effect::Applied).count();
            assert_eq!(applied, 1, "{} was applied {applied} times", sample.id);
        }
        no_dead_letter(stack, &run).await;
        stack.destination.heal("partner", &run).await;
        memory_is_bounded(stack);
    });
}

#[test]
fn a_worker_that_the_ledger_throttles_gives_nothing_up() {
    journey(async |stack| {
        let run = unique();
        let throttle = json!({"function": "worker", "service": "dynamodb", "body_contains": run, "action": "throttle"});
        let throttle = stack.wire.fault(throttle).await;
        visibility(stack, SHORT_SECONDS).await;
        let samples = accept_all(stack, &run).await;
        received_often(stack, &run).await;
        stack.wire.mend(&throttle).await;
        visibility(stack, TEMPLATE_SECONDS).await;
        all_arrive(stack, &run, &samples).await;
    });
}

#[test]
fn a_poller_whose_invocations_are_throttled_gives_nothing_up() {
    journey(async |stack| {
        let run = unique();
        let worker = stack.output("WorkerFunctionName");
        let holder = recorded_and_not_rung(stack).await;
        stack.destination.script("partner2", &holder.id, json!({"delay_ms": HOLD_MILLIS})).await;
        visibility(stack, SHORT_SECONDS).await;
        let limit = stack.lambda.put_function_concurrency().function_name(worker).reserved_concurrent_executions(1);
        limit.send().await.unwrap();

        let doorbells = batch(stack, &[doorbell(&holder, "partner2").to_string()]);
        let held = stack.invoke("worker", &doorbells);
        let meanwhile = async {
            eventually("the worker's only place is taken", SOON, async || {
                when(stack.destination.journal("partner2", &holder.id).await.len(), |requests| *requests == 1)
            })
            .await;
            let samples = accept_all(stack, &run).await;
            received_often(stack, &run).await;
            samples
        };
        let (answer, samples) = tokio::join!(held, meanwhile);
        assert_eq!(answer, json!({"batchItemFailures": []}));

        stack.lambda.delete_function_concurrency().function_name(worker).send().await.unwrap();
        visibility(stack, TEMPLATE_SECONDS).await;
        all_arrive(stack, &run, &samples).await;
    });
}

/// A stack that was never audited would begin an hour ago, and be behind when it is needed.
async fn audited_from_now_on(stack: &Stack) {
    let put = stack.dynamodb.put_item().table_name(stack.output("LedgerTableName"));
    let put = put.item("pk", AttributeValue::S("audit".to_owned())).item("sk", AttributeValue::S("watermark".to_owned()));
    put.item("until", AttributeValue::N((unix_now() * 1000).to_string())).send().await.unwrap();
}

/// Accepted, or told when to come again.
fn is_verdict(answer: &Answer) -> bool {
    let retry_after = answer.header("retry-after").and_then(|value| value.parse::<u64>().ok());
    match answer.status {
        // API Gateway's own answer has no Retry-After; senders know 429.
        200..=299 | 429 => true,
        503 => retry_after.is_some_and(|seconds| seconds > 0),
        _ => false,
    }
}

async fn accept_all(stack: &Stack, run: &str) -> Vec<Sample> {
    let samples: Vec<Sample> = (0..WAITING).map(|n| numbered(stack, "partner2", run, n)).collect();
    join_all(samples.iter().map(|sample| stack.accept(sample))).await;
    samples
}

/// An event whose first doorbell is the journey's own.
async fn recorded_and_not_rung(stack: &Stack) -> Sample {
    let sample = stack.sample("partner2");
    let silence = json!({"function": "receiver", "operation": "SendMessage", "body_contains": sample.id, "action": "status", "status": 500});
    let silence = stack.wire.fault(silence).await;
    stack.accept(&sample).await;
    stack.wire.mend(&silence).await;
    sample
}

/// Waits until each doorbell of the run was received so often that many a queue would have given it up.
async fn received_often(stack: &Stack, run: &str) {
    eventually("each doorbell was received again and again", SOON, async || {
        let doorbells = stack.doorbells().await;
        let receives: Vec<u64> =
            doorbells.iter().filter(|message| message.body.contains(run)).map(|message| message.receive_count).collect();
        when(receives, |receives| receives.len() == WAITING && receives.iter().all(|count| *count >= RECEIVES))
    })
    .await;
    no_dead_letter(stack, run).await;
}

async fn all_arrive(stack: &Stack, run: &str, samples: &[Sample]) {
    for sample in samples {
        stack.settled(sample, "partner2").await;
    }
    let journal = stack.destination.journal("partner2", run).await;
    let applied = journal.iter().filter(|entry| entry.effect == Effect::Applied).count();
    assert_eq!(applied, samples.len(), "each is applied once");
    no_dead_letter(stack, run).await;
}

async fn no_dead_letter(stack: &Stack, run: &str) {
    let letters = stack.dlq_messages().await;
    let ours: Vec<_> = letters.iter().filter(|letter| letter.body.contains(run)).collect();
    assert!(ours.is_empty(), "good deliveries were given up: {ours:?}");
}

async fn visibility(stack: &Stack, seconds: u64) {
    let set = stack.sqs.set_queue_attributes().queue_url(stack.output("DoorbellQueueUrl"));
    set.attributes(QueueAttributeName::VisibilityTimeout, seconds.to_string()).send().await.unwrap();
}

/// No process of a function of this stack has ever used more memory than Lambda would give it: there is no such limit here.
fn memory_is_bounded(stack: &Stack) {
    let mut highest: BTreeMap<String, u64> = BTreeMap::new();
    for process in fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()) {
        // A process that has just ended is none of these any more.
        let (Ok(environment), Ok(status)) = (fs::read(process.join("environ")), fs::read_to_string(process.join("status")))
        else {
            continue;
        };
        let environment = String::from_utf8_lossy(&environment);
        let variables: BTreeMap<&str, &str> = environment.split('\0').filter_map(|variable| variable.split_once('=')).collect();
        let (Some(name), Some(limit)) =
            (variables.get("AWS_LAMBDA_FUNCTION_NAME"), variables.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"))
        else {
            continue;
        };
        if variables.get("AWS_ENDPOINT_URL") != Some(&stack.wire_url()) {
            continue;
        }
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let Some(kilobytes) = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()) else { continue };
        let limit = limit.parse::<u64>().unwrap() * 1024;
        assert!(kilobytes < limit, "{name} has used {kilobytes} KB, and Lambda would give it {limit} KB");
        let known = highest.entry((*name).to_owned()).or_default();
        *known = kilobytes.max(*known);
    }
    println!("most memory of a process, in KB: {highest:?}");
    for function in ["ReceiverFunctionName", "WorkerFunctionName"] {
        assert!(highest.contains_key(stack.output(function)), "no process of {function} was found: {highest:?}");
    }
}
