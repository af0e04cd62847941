//! What destinations do to each other where AWS's limits are reached: on the real worker and dispatcher, over the model of AWS and on a
//! virtual clock, with the limits scaled down.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::{join, join_all};
use http::StatusCode;
use shared::{config::Gateway, time::Timestamp};
use tests::{
    lambda,
    model::{Aws, DEAD_LETTER_QUEUE, DOORBELL_QUEUE, Settings},
    providers::Provider,
    simulation::clock,
    strangers,
};
use tokio::time::sleep;
use worker::{Answer, Exchange, Failure, Handlers, Post};

const SECRET: &str = "bWFkZS11cC1zZWNyZXQtb2YtdGhlLXNpbXVsYXRpb24=";
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

    /// What Lambda does for so long: a batch for each worker that is free, and a dispatcher each minute.
    async fn work_for(&self, time: Duration) {
        let until = clock::now().plus(time);
        let workers = join_all((0..WORKERS).map(async |number| {
            let name = format!("worker-{number}");
            let worker = self.aws.worker(&name, self.gateway.clone(), self.destinations.clone(), Handlers::new(Vec::new()));
            while clock::now() < until {
                let messages = self.aws.receive(DOORBELL_QUEUE, 10);
                if messages.is_empty() {
                    sleep(Duration::from_millis(500)).await;
                    continue;
                }
                lambda::invoke(&self.aws, &worker, &format!("{name}-{}", clock::now().millis()), &messages).await;
            }
        }));
        join(workers, lambda::dispatch_for(&self.aws, &self.gateway, WORKERS as u32, time)).await;
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

/// Were its retries held in flight, it would fill what SQS lets be in flight, and nothing would be received for anybody.
#[tokio::test(start_paused = true)]
async fn a_dead_destination_delays_no_other() {
    let down = ("down", "backoff_seconds = [3600, 3600]\ncircuit = { enabled = false }", 500, Duration::from_millis(100));
    let crowd = Crowd::new(limits(50, 1000), &[HEALTHY, down]);
    crowd.accept_many("down", 60).await;
    crowd.work_for(Duration::from_secs(60)).await;
    crowd.accept("healthy", "event-0").await;
    crowd.work_for(Duration::from_secs(600)).await;
    assert!(crowd.arrived_at("healthy#event-0").is_some(), "the healthy one waits for the dead one");
}

/// Did who waits for a slot ask again and again, that would use up the receives of its message.
#[tokio::test(start_paused = true)]
async fn waiting_for_a_slot_uses_up_no_receives() {
    let narrow = ("narrow", "concurrency = 1\ntimeout_seconds = 10", 200, Duration::from_secs(5));
    let crowd = Crowd::new(limits(1000, 10), &[narrow]);
    crowd.accept_many("narrow", 60).await;
    crowd.work_for(Duration::from_secs(600)).await;
    let letters = crowd.aws.messages(DEAD_LETTER_QUEUE).len();
    assert_eq!(letters, 0, "SQS moved good deliveries into the dead-letter queue");
}

/// Nor does a duplicate of its doorbell, for as long as that waits.
#[tokio::test(start_paused = true)]
async fn a_delivery_that_waits_for_long_holds_no_message() {
    let down = ("down", "backoff_seconds = [3600, 3600]\ncircuit = { enabled = false }", 500, Duration::from_millis(100));
    let crowd = Crowd::new(Settings::posthouse(), &[down]);
    crowd.accept("down", "event-0").await;
    crowd.work_for(Duration::from_secs(10)).await;
    for _ in 0..5 {
        crowd.aws.send(DOORBELL_QUEUE, r#"{"source":"down","event_id":"event-0","destination":"down","replay":0}"#);
    }
    crowd.work_for(Duration::from_secs(60)).await;
    assert!(crowd.aws.counts(DOORBELL_QUEUE) == Default::default(), "nothing is in flight");
}
