//! The whole gateway in one process and on one virtual clock, in short: `make faults` is the long form.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use http::StatusCode;
use shared::{config::Gateway, event::Event, time::Timestamp};
use tests::{
    model::{Aws, CUSTOMERS_TABLE, DEAD_LETTER_QUEUE, DOORBELL_QUEUE, LEDGER_TABLE, Settings, batch, parts},
    providers::Provider,
    simulation::{Plan, Small, Wrong, exhaust, play},
    strangers,
};
use worker::{Answer, Exchange, Failure, Handler, Handlers, Invocation, OnRefused, Post, Worker};

/// Histories of this run that are drawn at random; `make faults` draws a hundred thousand.
const RANDOM: u64 = 120;
/// Seeds with which each wrong design is tempted.
const TEMPTATIONS: u64 = 60;

#[track_caller]
fn holds(id: &str, plan: &Plan) {
    let history = play(plan, false);
    assert_eq!(history.violations, Vec::<String>::new(), "to see it: make faults REPLAY={id}");
}

#[test]
fn no_single_fault_at_any_call_of_an_event_and_what_comes_after_it_does_harm() {
    for system in Small::all() {
        let mut histories = 0;
        for (id, plan) in exhaust::singles(system) {
            holds(&id, &plan);
            histories += 1;
        }
        assert!(histories > 60, "{system}: {histories}");
    }
}

#[test]
fn histories_at_random_lose_double_and_stick_nothing() {
    for seed in 0..RANDOM {
        holds(&seed.to_string(), &Plan::random(seed));
    }
}

#[test]
fn the_same_plan_is_the_same_history() {
    let mut lines = 0;
    for seed in 3..9 {
        let plan = Plan::random(seed);
        let (once, again) = (play(&plan, true), play(&plan, true));
        lines += once.trace.len();
        assert_eq!(once, again, "seed {seed}");
    }
    assert!(lines > 100, "{lines}");
}

/// A simulation that finds nothing could be one that looks at nothing.
#[test]
fn every_known_wrong_design_is_found_where_ours_does_no_harm() {
    for wrong in Wrong::ALL {
        let found = (0..TEMPTATIONS).find(|seed| {
            let plan = Plan::tempting(wrong, *seed);
            holds(&format!("{}:{seed}", wrong.name()), &plan);
            !play(&Plan { wrong: Some(wrong), ..plan }, false).violations.is_empty()
        });
        assert!(found.is_some(), "{} does no harm in {TEMPTATIONS} histories", wrong.name());
    }
}

/// A destination that takes everything, and counts.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicU64>);

impl Exchange for Counting {
    async fn post(&self, _: Post<'_>) -> Result<Answer, Failure> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Answer::of(StatusCode::OK))
    }
}

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
const SECRET: &str = "bWFkZS11cC1zZWNyZXQtb2YtdGhpcy10ZXN0LWFsb25l";

/// A configuration with one destination, which is described here.
fn gateway(destination: &str) -> Gateway {
    let text = format!(
        "sources.partner = {{ scheme = 'standard-webhooks', secret = 'shared' }}
        destinations.one = {destination}
        [[routes]]
        source = 'partner'
        destination = 'one'"
    );
    Gateway::parse(&text, "gateway.toml").unwrap()
}

/// An account in which the events of these ids were received.
async fn received(gateway: &Gateway, ids: &[&str]) -> Aws {
    let aws = Aws::new(Settings::posthouse(), || NOW);
    aws.put_signing_secret("shared", SECRET);
    let receiver = aws.receiver("receiver-1", gateway.clone());
    for id in ids {
        let webhook = Provider::StandardWebhooks.sign(br#"{"type": "test"}"#, id, SECRET, NOW.seconds());
        let event = strangers::event("POST", "partner", "", &webhook.headers, r#"{"type": "test"}"#, false);
        assert_eq!(receiver.receive(&event, "request-1", NOW).await.status_code, 202);
    }
    aws
}

const HTTP: &str = "{ type = 'http', url = 'https://destination.example', secret = 'shared', timeout_seconds = 10 }";

#[tokio::test(start_paused = true)]
async fn with_little_time_left_records_that_were_not_started_are_reported_failed() {
    let gateway = gateway(HTTP);
    let aws = received(&gateway, &["a", "b", "c"]).await;
    let messages = aws.receive(DOORBELL_QUEUE, 10);
    let destination = Counting::default();
    let worker = aws.worker("worker-1", gateway, destination.clone(), Handlers::new(Vec::new()));
    let delivered_in = async |seconds| {
        let deadline = NOW.plus(Duration::from_secs(seconds));
        let invocation = Invocation { request_id: "request-1", deadline, now: || NOW };
        let response = worker.work(batch(messages.iter().map(parts)), invocation).await.unwrap();
        let attempted = aws.items(LEDGER_TABLE).iter().filter(|item| item.contains_key("attempts")).count();
        (response.batch_item_failures.len(), attempted, destination.0.load(Ordering::Relaxed))
    };
    assert_eq!(delivered_in(9).await, (3, 0, 0), "named as failed, and none was begun");
    assert_eq!(delivered_in(60).await, (0, 3, 3));
}

/// Works on the only doorbell at a moment. Gives how many came again, the delivery's status if it has one, and the dead letters.
async fn work_once(aws: &Aws, worker: &Worker<Counting>, now: fn() -> Timestamp) -> (usize, Option<String>, usize) {
    let messages = aws.receive(DOORBELL_QUEUE, 10);
    let invocation = Invocation { request_id: "request-1", deadline: now().plus(Duration::from_secs(60)), now };
    let response = worker.work(batch(messages.iter().map(parts)), invocation).await.unwrap();
    messages.iter().for_each(|message| assert!(aws.hand_out_again(DOORBELL_QUEUE, &message.id)));
    let item = aws.item(LEDGER_TABLE, "partner#a", "delivery#one");
    let status = item.and_then(|item| item.get("status")?.text().map(str::to_owned));
    (response.batch_item_failures.len(), status, aws.messages(DEAD_LETTER_QUEUE).len())
}

#[tokio::test(start_paused = true)]
async fn a_delivery_to_a_destination_that_is_configured_no_more_is_dead_and_not_forgotten() {
    let aws = received(&gateway(HTTP), &["a"]).await;
    let mut without = gateway(HTTP);
    without.destinations.clear();
    let worker = aws.worker("worker-1", without, Counting::default(), Handlers::new(Vec::new()));
    // A quarter of an hour for the worker's own deployment.
    assert_eq!(work_once(&aws, &worker, || NOW.plus(Duration::from_secs(899))).await, (1, None, 0));
    assert_eq!(work_once(&aws, &worker, || NOW.plus(Duration::from_secs(900))).await, (0, Some("dead".to_owned()), 1));
}

/// A handler whose write no database takes.
struct Malformed;

impl Handler for Malformed {
    fn name(&self) -> &'static str {
        "malformed"
    }

    fn handle(&self, _: &Event, _: &[u8]) -> Result<Vec<TransactWriteItem>, Failure> {
        let put = Put::builder().table_name(CUSTOMERS_TABLE).item("pk", AttributeValue::S("x".to_owned()));
        let put = put.condition_expression("this is (no expression").build().unwrap();
        Ok(vec![TransactWriteItem::builder().put(put).build()])
    }

    fn on_refused(&self) -> OnRefused {
        OnRefused::Dead
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_with_a_write_that_cannot_be_read_is_dead_at_once_and_no_outage() {
    let gateway = gateway("{ type = 'handler', handler = 'malformed' }");
    let aws = received(&gateway, &["a"]).await;
    let worker = aws.worker("worker-1", gateway, Counting::default(), Handlers::new(vec![Box::new(Malformed)]));
    assert_eq!(work_once(&aws, &worker, || NOW).await, (0, Some("dead".to_owned()), 1));
}
