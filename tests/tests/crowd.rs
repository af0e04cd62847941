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
    model::{Aws, DEAD_LETTER_QUEUE, DOORBELL_QUEUE, Fate, Item, LEDGER_TABLE, Number, Settings, Value},
    providers::Provider,
    simulation::clock,
    strangers,
};
use tokio::time::sleep;
use worker::{Answer, Exchange, Failure, Handlers, Post};

const SECRET: &str = "bWFkZS11cC1zZWNyZXQtb2YtdGhlLXNpbXVsYXRpb24=";
/// The least that the template allows: a few workers, so that a crowd is soon there.
const WORKERS: usize = 2;
/// As many as there are unless the operator says otherwise (`WorkerConcurrencyMax`).
const WORKERS_DEFAULT: usize = 20;

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
        // Waits are drawn, and a short one keeps its message.
        fastrand::seed(7);
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
        self.work_with(WORKERS, time).await;
    }

    async fn work_with(&self, workers: usize, time: Duration) {
        let until = clock::now().plus(time);
        let pool = join_all((0..workers).map(async |number| {
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
        join(pool, lambda::dispatch_for(&self.aws, &self.gateway, workers as u32, time)).await;
    }

    /// Lets so many deliveries wait for a destination, which are due: each as the first one there, of an event of its own.
    fn waiting(&self, destination: &str, count: usize) {
        let ledger = |sk: &str| self.aws.item(LEDGER_TABLE, &format!("{destination}#event-0"), sk).unwrap();
        let (event, delivery) = (ledger("event"), ledger(&format!("delivery#{destination}")));
        let text = |text: String| Value::S(text);
        let now = clock::now().millis();
        for number in 0..count {
            let key = format!("{destination}#waits-{number}");
            let mut event = (*event).clone();
            event.insert("pk".to_owned(), text(key.clone()));
            event.insert("by_time_sk".to_owned(), text(format!("{now:013}#waits-{number}")));
            let mut delivery = (*delivery).clone();
            delivery.insert("pk".to_owned(), text(key.clone()));
            delivery.insert("status".to_owned(), text("waiting".to_owned()));
            delivery.insert("next_at".to_owned(), Value::N(Number::whole(now.into())));
            delivery.insert("attention_pk".to_owned(), text(format!("wait#{destination}#{}", number % 8)));
            delivery.insert("attention_sk".to_owned(), text(format!("{now:013}#{key}")));
            self.aws.put_item(LEDGER_TABLE, event);
            self.aws.put_item(LEDGER_TABLE, delivery);
        }
        let mut state = self
            .aws
            .item(LEDGER_TABLE, &format!("destination#{destination}"), "state")
            .map_or_else(Item::new, |state| (*state).clone());
        let register = [
            ("pk", format!("destination#{destination}")),
            ("sk", "state".to_owned()),
            ("attention_pk", "waiting".to_owned()),
            ("attention_sk", destination.to_owned()),
        ];
        state.extend(register.map(|(name, value)| (name.to_owned(), text(value))));
        state.insert("waiting_until".to_owned(), Value::N(Number::whole((now + 7_200_000).into())));
        self.aws.put_item(LEDGER_TABLE, state);
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

/// How long events come to the healthy destination, in seconds, in which a hundred thousand deliveries wait for others; `CROWD_SECONDS=600` is the
/// long form.
fn crowd_seconds() -> u64 {
    std::env::var("CROWD_SECONDS").map_or(15, |seconds| seconds.parse().unwrap())
}

/// How long each event takes, from its acceptance to its arrival, of those that come to the healthy destination while so many deliveries wait
/// for ten that are dead.
async fn healthy_beside(waiting: usize) -> Vec<Duration> {
    const DEAD: [&str; 10] = ["dead-0", "dead-1", "dead-2", "dead-3", "dead-4", "dead-5", "dead-6", "dead-7", "dead-8", "dead-9"];
    const EVERY: Duration = Duration::from_millis(10);
    let dead = DEAD.map(|name| (name, "", 500, Duration::from_millis(100)));
    let all: Vec<_> = [HEALTHY].into_iter().chain(dead).collect();
    let crowd = Crowd::new(Settings::posthouse(), &all);
    // One of each is accepted, and the others are copies of what that left in the ledger.
    for name in DEAD {
        crowd.accept(name, "event-0").await;
    }
    crowd.work_with(WORKERS_DEFAULT, Duration::from_secs(1)).await;
    for name in DEAD {
        crowd.waiting(name, waiting / DEAD.len());
    }
    let seconds = crowd_seconds();
    let mut sent_at = Vec::new();
    let senders = async {
        // When the dispatcher begins.
        sleep(Duration::from_secs(57)).await;
        for number in 0..seconds * 100 {
            let id = format!("event-{number}");
            sent_at.push((format!("healthy#{id}"), clock::now()));
            crowd.accept("healthy", &id).await;
            sleep(EVERY).await;
        }
    };
    join(senders, crowd.work_with(WORKERS_DEFAULT, Duration::from_secs(57 + seconds + 10))).await;
    let tried = crowd.aws.items(LEDGER_TABLE).iter().filter(|item| item.contains_key("history")).count();
    assert!(waiting == 0 || tried >= 2 * DEAD.len(), "{tried}: those who wait are tried meanwhile");
    sent_at.iter().map(|(id, sent_at)| crowd.arrived_at(id).expect("it arrives").since(*sent_at)).collect()
}

/// A hundred events a second, at the default of twenty workers.
#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_that_wait_delay_nobody_else() {
    let (alone, beside) = (healthy_beside(0).await, healthy_beside(100_000).await);
    let worst = |times: &[Duration]| times.iter().max().copied().unwrap();
    let (alone_worst, beside_worst) = (worst(&alone), worst(&beside));
    println!("{} events: at most {alone_worst:?} alone, {beside_worst:?} beside a hundred thousand that wait", beside.len());
    assert!(beside_worst <= alone_worst + DELAYED_MAX, "{alone_worst:?}, {beside_worst:?}");
}

/// One worker has room for ten deliveries, and fifteen destinations want some of it at every look.
#[tokio::test(start_paused = true)]
async fn destinations_take_turns_where_room_is_short() {
    let names: Vec<String> = (0..15).map(|number| format!("many-{number:02}")).collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), "", 200, Duration::from_millis(500))).collect();
    let crowd = Crowd::new(Settings::posthouse(), &all);
    for name in &names {
        crowd.accept(name, "event-0").await;
    }
    crowd.work_with(1, Duration::from_secs(20)).await;
    for name in &names {
        crowd.waiting(name, 40);
    }
    // The dispatcher begins at the full minute.
    crowd.work_with(1, Duration::from_secs(40 + 20)).await;
    let arrived = |name: &String| (0..40).filter(|number| crowd.arrived_at(&format!("{name}#waits-{number}")).is_some()).count();
    let counts: Vec<usize> = names.iter().map(arrived).collect();
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    assert!(counts.iter().sum::<usize>() < 15 * 40, "room was short: {counts:?}");
}

/// As where one destination's partition of the index is throttled.
#[tokio::test(start_paused = true)]
async fn an_error_at_one_destination_keeps_no_other_from_being_sent_on() {
    let all = ["broken", "whole"].map(|name| (name, "", 200, Duration::from_millis(100)));
    let crowd = Crowd::new(Settings::posthouse(), &all);
    for name in ["broken", "whole"] {
        crowd.accept(name, "event-0").await;
    }
    crowd.work_for(Duration::from_secs(5)).await;
    for name in ["broken", "whole"] {
        crowd.waiting(name, 3);
    }
    crowd.aws.on_call(|_| Fate::Refuse { words: "wait#broken" });
    let dispatcher = crowd.aws.dispatcher("dispatcher", crowd.gateway.clone(), WORKERS as u32);
    let ran = dispatcher.run("dispatcher", clock::now().plus(Duration::from_secs(55)), clock::now).await;
    assert!(ran.is_err(), "the alarm rings");
    crowd.work_for(Duration::from_secs(5)).await;
    assert!((0..3).all(|number| crowd.arrived_at(&format!("whole#waits-{number}")).is_some()));
    assert!(crowd.arrived_at("broken#waits-0").is_none());
    // The lease was given back, and all is well again.
    crowd.aws.on_call(|_| Fate::Succeed);
    crowd.work_for(Duration::from_secs(120)).await;
    assert!((0..3).all(|number| crowd.arrived_at(&format!("broken#waits-{number}")).is_some()));
}

/// How much later a delivery is at the most because of what waits for others.
const DELAYED_MAX: Duration = Duration::from_secs(1);
