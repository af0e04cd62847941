//! What destinations do to each other where AWS's limits are reached: on the real worker, over the model of AWS and on a virtual clock, with
//! the limits scaled down.
//!
//! The properties are those of the next design of waiting, in which what waits for long is an item of the ledger and no message that somebody
//! holds. Today's does not have them: each test that says `should_panic` shows how it fails, and has to lose those words when it no longer does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::join_all;
use http::StatusCode;
use shared::{config::Gateway, time::Timestamp};
use tests::{
    model::{Aws, DEAD_LETTER_QUEUE, DOORBELL_QUEUE, Settings, batch_of},
    providers::Provider,
    simulation::clock,
    strangers,
};
use tokio::time::sleep;
use worker::{Answer, Exchange, Failure, Handlers, Invocation, Post};

const SECRET: &str = "bWFkZS11cC1zZWNyZXQtb2YtdGhlLXNpbXVsYXRpb24=";
/// Lambda's bound, as the template sets it.
const WORKER_TIMEOUT: Duration = Duration::from_secs(60);
/// The least that the template allows: a few workers, so that a crowd is soon there.
const WORKERS: usize = 2;

/// Destinations, each with its status and the time that it takes; when each event arrived where it was taken.
#[derive(Clone, Default)]
struct Destinations {
    behaviour: Arc<Mutex<HashMap<String, (u16, Duration)>>>,
    arrived: Arc<Mutex<BTreeMap<String, Timestamp>>>,
}

impl Exchange for Destinations {
    async fn post(&self, post: Post<'_>) -> Result<Answer, Failure> {
        let name = post.url.rsplit('/').next().unwrap().to_owned();
        let (status, takes) = self.behaviour.lock().unwrap()[&name];
        sleep(takes).await;
        if status == 200 {
            let id = post.headers["webhook-id"].to_str().unwrap().to_owned();
            self.arrived.lock().unwrap().insert(id, clock::now());
        }
        Ok(Answer::of(StatusCode::from_u16(status).unwrap()))
    }
}

/// A stack whose sources are named as the destinations that they lead to.
struct Crowd {
    aws: Aws,
    gateway: Gateway,
    destinations: Destinations,
}

impl Crowd {
    /// Each destination with its settings, its status and the time that it takes.
    fn new(model: Settings, destinations: &[(&str, &str, u16, Duration)]) -> Self {
        clock::start();
        let aws = Aws::new(model, clock::now);
        aws.put_signing_secret("shared", SECRET);
        let mut text = String::new();
        let known = Destinations::default();
        for (name, settings, status, takes) in destinations {
            text += &format!(
                "[sources.{name}]\nscheme = \"standard-webhooks\"\nsecret = \"shared\"\n\
                 [destinations.{name}]\ntype = \"http\"\nurl = \"https://destination.example/{name}\"\nsecret = \"shared\"\n{settings}\n\
                 [[routes]]\nsource = \"{name}\"\ndestination = \"{name}\"\n"
            );
            known.behaviour.lock().unwrap().insert((*name).to_owned(), (*status, *takes));
        }
        let gateway = Gateway::parse(&text, "gateway.toml").unwrap();
        Self { aws, gateway, destinations: known }
    }

    async fn accept(&self, source: &str, id: &str) {
        let receiver = self.aws.receiver("receiver", self.gateway.clone());
        let webhook = Provider::StandardWebhooks.sign(b"{}", id, SECRET, clock::now().seconds());
        let event = strangers::event("POST", source, "", &webhook.headers, "{}", false);
        assert_eq!(receiver.receive(&event, "request", clock::now()).await.status_code, 202);
    }

    async fn accept_many(&self, source: &str, count: usize) {
        for number in 0..count {
            self.accept(source, &format!("event-{number}")).await;
        }
    }

    /// What Lambda does for so long: a batch for each worker that is free.
    async fn work_for(&self, time: Duration) {
        let until = clock::now().plus(time);
        join_all((0..WORKERS).map(async |number| {
            let name = format!("worker-{number}");
            let worker = self.aws.worker(&name, self.gateway.clone(), self.destinations.clone(), Handlers::new(Vec::new()));
            while clock::now() < until {
                let messages = self.aws.receive(DOORBELL_QUEUE, 10);
                if messages.is_empty() {
                    sleep(Duration::from_millis(500)).await;
                    continue;
                }
                let request_id = format!("{name}-{}", clock::now().millis());
                let deadline = clock::now().plus(WORKER_TIMEOUT);
                let invocation = Invocation { request_id: &request_id, deadline, now: clock::now };
                let answer = worker.work(batch_of(&messages), invocation).await.unwrap();
                let kept: Vec<_> = answer.batch_item_failures.iter().map(|failure| failure.item_identifier.as_str()).collect();
                for message in messages.iter().filter(|message| !kept.contains(&message.id.as_str())) {
                    self.aws.delete(DOORBELL_QUEUE, message.receipt_handle.as_deref().unwrap());
                }
            }
        }))
        .await;
    }

    fn arrived_at(&self, id: &str) -> Option<Timestamp> {
        self.destinations.arrived.lock().unwrap().get(id).copied()
    }
}

/// The model's limits, scaled down.
fn limits(in_flight_max: usize, receives_max: u32) -> Settings {
    let mut settings = Settings::posthouse();
    let doorbells = settings.queues.iter_mut().find(|queue| queue.name == DOORBELL_QUEUE).unwrap();
    doorbells.in_flight_max = in_flight_max;
    doorbells.redrive = Some((DEAD_LETTER_QUEUE.to_owned(), receives_max));
    settings
}

const HEALTHY: (&str, &str, u16, Duration) = ("healthy", "", 200, Duration::from_millis(100));

#[tokio::test(start_paused = true)]
async fn below_the_limits_a_dead_destination_delays_no_other() {
    let down = ("down", "backoff_seconds = [3600, 3600]\ncircuit = { enabled = false }", 500, Duration::from_millis(100));
    let crowd = Crowd::new(limits(60, 1000), &[HEALTHY, down]);
    crowd.accept_many("down", 50).await;
    crowd.work_for(Duration::from_secs(60)).await;
    let sent_at = clock::now();
    crowd.accept("healthy", "event-0").await;
    crowd.work_for(Duration::from_secs(60)).await;
    let arrived_at = crowd.arrived_at("healthy#event-0").expect("it arrives");
    assert!(arrived_at.since(sent_at) < Duration::from_secs(2), "{arrived_at:?}");
}

/// Retries are held in flight, so that one dead destination fills what SQS lets be in flight, and nothing is received for anybody.
#[tokio::test(start_paused = true)]
#[should_panic(expected = "the healthy one waits for the dead one")]
async fn a_dead_destination_delays_no_other() {
    let down = ("down", "backoff_seconds = [3600, 3600]\ncircuit = { enabled = false }", 500, Duration::from_millis(100));
    let crowd = Crowd::new(limits(50, 1000), &[HEALTHY, down]);
    crowd.accept_many("down", 60).await;
    crowd.work_for(Duration::from_secs(60)).await;
    crowd.accept("healthy", "event-0").await;
    crowd.work_for(Duration::from_secs(600)).await;
    assert!(crowd.arrived_at("healthy#event-0").is_some(), "the healthy one waits for the dead one");
}

/// Who waits for a slot asks again and again, and uses up the receives of its message.
#[tokio::test(start_paused = true)]
#[should_panic(expected = "SQS moved good deliveries into the dead-letter queue")]
async fn waiting_for_a_slot_uses_up_no_receives() {
    let narrow = ("narrow", "concurrency = 1\ntimeout_seconds = 10", 200, Duration::from_secs(5));
    let crowd = Crowd::new(limits(1000, 10), &[narrow]);
    crowd.accept_many("narrow", 60).await;
    crowd.work_for(Duration::from_secs(600)).await;
    let letters = crowd.aws.messages(DEAD_LETTER_QUEUE).len();
    assert_eq!(letters, 0, "SQS moved good deliveries into the dead-letter queue");
}

/// A duplicate of the doorbell of a delivery that waits is held as well, for as long as that waits.
#[tokio::test(start_paused = true)]
#[should_panic(expected = "each duplicate is in flight")]
async fn a_waiting_delivery_holds_one_message_at_most() {
    let down = ("down", "backoff_seconds = [3600, 3600]\ncircuit = { enabled = false }", 500, Duration::from_millis(100));
    let crowd = Crowd::new(Settings::posthouse(), &[down]);
    crowd.accept("down", "event-0").await;
    crowd.work_for(Duration::from_secs(10)).await;
    for _ in 0..5 {
        crowd.aws.send(DOORBELL_QUEUE, r#"{"source":"down","event_id":"event-0","destination":"down","replay":0}"#);
    }
    crowd.work_for(Duration::from_secs(60)).await;
    assert!(crowd.aws.counts(DOORBELL_QUEUE).in_flight <= 1, "each duplicate is in flight");
}
