//! What protects destinations, on the real worker over a model of AWS and on a virtual clock: circuit, rate, concurrency, pause,
//! order; and what it all costs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::{join, join_all};
use http::StatusCode;
use shared::{
    bodies::Bodies,
    config::Gateway,
    doorbell::{Bell, Doorbell, Group},
    event::{BodyDigest, Event, EventKey},
    ledger::{Cancellation, Delivery, Ledger, Pause, Recorded, Status},
    names::{DestinationName, EventId, EventType, SourceName},
};
use tests::{
    lambda::{self, WORKER_TIMEOUT},
    model::{self, Aws, BODIES_BUCKET, DEAD_LETTER_QUEUE, DOORBELL_QUEUE, Fate, LEDGER_TABLE, Latency, Settings, batch, parts},
    providers::Provider,
    simulation::clock,
    strangers,
};
use tokio::time::{sleep, timeout};
use worker::{Answer, Exchange, Failure, Handlers, Invocation, Post, Worker};

const SECRET: &str = "bWFkZS11cC1zZWNyZXQtb2YtdGhlLXNpbXVsYXRpb24=";
const HORIZON: Duration = Duration::from_secs(40 * 24 * 60 * 60);

/// A destination that answers as it is told, and writes down when it was asked for which event.
#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    answers: VecDeque<u16>,
    always: Option<u16>,
    takes: Duration,
    asked: Vec<(Duration, String)>,
    at_once: usize,
    at_once_max: usize,
    /// What it says with every 429, in seconds.
    retry_after: Option<u64>,
}

impl Scripted {
    fn answers(&self, statuses: impl IntoIterator<Item = u16>) {
        self.0.lock().unwrap().answers.extend(statuses);
    }

    fn always(&self, status: u16) {
        self.0.lock().unwrap().always = Some(status);
    }

    fn takes(&self, time: Duration) {
        self.0.lock().unwrap().takes = time;
    }

    fn asked(&self) -> Vec<(Duration, String)> {
        self.0.lock().unwrap().asked.clone()
    }

    /// The ids of the events that it was asked for.
    fn ids(&self) -> Vec<String> {
        self.asked().into_iter().map(|(_, id)| id).collect()
    }
}

impl Exchange for Scripted {
    async fn post(&self, post: Post<'_>) -> Result<Answer, Failure> {
        let (status, takes) = {
            let mut script = self.0.lock().unwrap();
            let id = post.headers["webhook-id"].to_str().unwrap().trim_start_matches("partner#").to_owned();
            script.asked.push((clock::now().since(clock::BEGINNING), id));
            script.at_once += 1;
            script.at_once_max = script.at_once_max.max(script.at_once);
            (script.answers.pop_front().or(script.always).unwrap_or(200), script.takes)
        };
        sleep(takes).await;
        let mut script = self.0.lock().unwrap();
        script.at_once -= 1;
        let mut answer = Answer::of(StatusCode::from_u16(status).unwrap());
        if let Some(seconds) = script.retry_after.filter(|_| status == 429) {
            answer.headers.insert("retry-after", seconds.into());
        }
        Ok(answer)
    }
}

/// A stack with one source and one destination.
struct Stack {
    aws: Aws,
    gateway: Gateway,
    ledger: Ledger,
    destination: Scripted,
}

impl Stack {
    /// With these settings of the destination, and these of the route.
    fn new(settings: &str, route: &str) -> Self {
        Self::on(Settings::posthouse(), settings, route)
    }

    fn on(model: Settings, settings: &str, route: &str) -> Self {
        clock::start();
        // Waits are drawn, and a short one keeps its message.
        fastrand::seed(7);
        let aws = Aws::new(model, clock::now);
        aws.put_signing_secret("shared", SECRET);
        let text = format!(
            "[sources.partner]\nscheme = \"standard-webhooks\"\nsecret = \"shared\"\n\
             [destinations.ci]\ntype = \"http\"\nurl = \"https://destination.example/ci\"\nsecret = \"shared\"\n{settings}\n\
             [[routes]]\nsource = \"partner\"\ndestination = \"ci\"\n{route}\n"
        );
        let gateway = Gateway::parse(&text, "gateway.toml").unwrap();
        let ledger = Ledger::new(&aws.config("operator"), LEDGER_TABLE.to_owned());
        Self { aws, gateway, ledger, destination: Scripted::default() }
    }

    /// An event is recorded and rung for.
    async fn send(&self, id: &str, body: &str) {
        let now = clock::now();
        let key = EventKey { source: SourceName::parse("partner").unwrap(), event_id: EventId::parse(id).unwrap() };
        let event = Event {
            key: key.clone(),
            event_type: EventType::parse("test").unwrap(),
            received_at: now,
            occurred_at: None,
            headers: BTreeMap::new(),
            body_bytes: body.len(),
            sha256: BodyDigest::of(body.as_bytes()),
            compared_sha256: None,
            part: None,
            key_id: "initial".to_owned(),
            destinations: vec![ci()],
            expires_at: now.plus(HORIZON),
        };
        let bodies = Bodies::new(&self.aws.config("operator"), BODIES_BUCKET.to_owned());
        let stored = bodies.prepare(&event.sha256, body.as_bytes()).unwrap();
        assert_eq!(self.ledger.record(&event, &stored, None).await.unwrap(), Recorded::New);
        self.aws.send(DOORBELL_QUEUE, &Doorbell::first(&key, &ci()).to_json());
    }

    /// A webhook is accepted by the real receiver.
    async fn accept(&self, id: &str, body: &str) {
        let receiver = self.aws.receiver("receiver", self.gateway.clone());
        let webhook = Provider::StandardWebhooks.sign(body.as_bytes(), id, SECRET, clock::now().seconds());
        let event = strangers::event("POST", "partner", "", &webhook.headers, body, false);
        assert_eq!(receiver.receive(&event, "request", clock::now()).await.status_code, 202);
    }

    /// A doorbell rings again.
    async fn ring(&self, id: &str) {
        let key = EventKey { source: SourceName::parse("partner").unwrap(), event_id: EventId::parse(id).unwrap() };
        self.aws.send(DOORBELL_QUEUE, &Doorbell::first(&key, &ci()).to_json());
    }

    async fn pause(&self) {
        let pause = Pause { at: clock::now(), reason: "maintenance".to_owned(), by_person: true };
        self.ledger.pause(&ci(), &pause).await.unwrap();
    }

    fn bell(&self) -> Bell {
        Bell::new(&self.aws.config("operator"), self.aws.queue_url(DOORBELL_QUEUE))
    }

    async fn send_all<'i>(&self, ids: impl IntoIterator<Item = &'i str>) {
        for id in ids {
            self.send(id, "{}").await;
        }
    }

    fn worker(&self, name: &str) -> Worker<Scripted> {
        self.aws.worker(name, self.gateway.clone(), self.destination.clone(), Handlers::new(Vec::new()))
    }

    /// What Lambda does with the doorbells that are due: a batch goes to a worker of its own, all at the same time.
    async fn work_once(&self) -> usize {
        let mut batches = Vec::new();
        loop {
            let messages = self.aws.receive(DOORBELL_QUEUE, 10);
            if messages.is_empty() {
                break;
            }
            batches.push(messages);
        }
        let count = batches.len();
        join_all(batches.into_iter().enumerate().map(async |(number, messages)| {
            let name = format!("worker-{number}-{}", clock::now().millis());
            lambda::invoke(&self.aws, &self.worker(&name), &name, &messages).await;
        }))
        .await;
        count
    }

    /// What Lambda does for so long: a worker for each batch of doorbells that are due, and a dispatcher each minute.
    async fn work_for(&self, time: Duration) {
        let until = clock::now().plus(time);
        let work = async {
            while clock::now() < until {
                if self.work_once().await > 0 {
                    continue;
                }
                let next = self.aws.next_visible_at(DOORBELL_QUEUE).map_or(until, |next| next.min(until));
                tokio::select! {
                    () = self.aws.queued() => {}
                    () = sleep(next.since(clock::now()).max(Duration::from_millis(1))) => {}
                }
            }
        };
        join(work, lambda::dispatch_for(&self.aws, &self.gateway, 20, time)).await;
    }

    async fn delivery(&self, id: &str) -> Option<Delivery> {
        let key = EventKey { source: SourceName::parse("partner").unwrap(), event_id: EventId::parse(id).unwrap() };
        self.ledger.delivery(&key, &ci()).await.unwrap()
    }

    async fn statuses<'i>(&self, ids: impl IntoIterator<Item = &'i str>) -> Vec<Option<Status>> {
        join_all(ids.into_iter().map(async |id| self.delivery(id).await.map(|delivery| delivery.status))).await
    }

    /// How often each operation was called since the counts were `before`.
    fn calls_since(&self, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
        let now = self.calls();
        now.into_iter()
            .map(|(name, count)| (name.clone(), count - before.get(&name).unwrap_or(&0)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    fn calls(&self) -> BTreeMap<String, u64> {
        self.aws
            .calls_by_operation()
            .into_iter()
            .map(|((service, operation), count)| (format!("{service:?}.{operation}"), count))
            .collect()
    }
}

fn ci() -> DestinationName {
    DestinationName::parse("ci").unwrap()
}

const IDS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

#[tokio::test(start_paused = true)]
async fn a_healthy_delivery_costs_one_load_one_claim_and_one_finish() {
    let stack = Stack::new("", "");
    stack.send("first", "{}").await;
    stack.work_once().await;
    stack.send("second", "{}").await;
    let before = stack.calls();
    let worker = stack.worker("warm");
    // Its keyring is read once in five minutes.
    for (id, warm) in [("second", false), ("third", true)] {
        if warm {
            stack.send(id, "{}").await;
        }
        let before = if warm { stack.calls() } else { before.clone() };
        let messages = stack.aws.receive(DOORBELL_QUEUE, 10);
        let invocation = Invocation { request_id: id, deadline: clock::now().plus(WORKER_TIMEOUT), now: clock::now };
        worker.work(batch(messages.iter().map(parts)), invocation).await.unwrap();
        if warm {
            let expected = [("DynamoDb.BatchGetItem", 1), ("DynamoDb.UpdateItem", 2)];
            let expected: BTreeMap<String, u64> = expected.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
            assert_eq!(stack.calls_since(&before), expected);
        }
    }
    assert_eq!(stack.statuses(["second", "third"]).await, [Some(Status::Done); 2]);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_opens_lets_one_probe_through_at_a_time_and_closes_when_it_is_answered() {
    let settings = "backoff_seconds = [600, 600]\ncircuit = { consecutive = 3, wait_seconds = 30 }";
    let stack = Stack::new(settings, "");
    stack.destination.always(500);
    stack.send_all(IDS[..3].iter().copied()).await;
    stack.work_once().await;
    assert_eq!(stack.destination.asked().len(), 3);
    let circuit = stack.ledger.destination_state(&ci()).await.unwrap().circuit;
    assert!(circuit.open_until.is_some_and(|until| until.since(clock::now()) > Duration::from_secs(29)), "{circuit:?}");

    // What comes now waits, and no attempt of it is spent.
    stack.send_all(IDS[3..].iter().copied()).await;
    stack.work_once().await;
    assert_eq!(stack.destination.asked().len(), 3);
    for id in &IDS[3..] {
        let delivery = stack.delivery(id).await.unwrap();
        assert_eq!((delivery.status, delivery.attempts, delivery.history.len()), (Status::Waiting, 0, 0), "{delivery:?}");
    }

    // Five at the same instant, and one of them is the probe; it fails, and the circuit is open for twice as long.
    stack.destination.takes(Duration::from_secs(2));
    sleep(Duration::from_secs(31)).await;
    for id in &IDS[3..] {
        stack.ring(id).await;
    }
    stack.work_once().await;
    assert_eq!(stack.destination.asked().len(), 4, "one probe");
    let circuit = stack.ledger.destination_state(&ci()).await.unwrap().circuit;
    assert_eq!(circuit.openings, 2);
    assert!(circuit.open_until.is_some_and(|until| until.since(clock::now()) > Duration::from_secs(55)), "{circuit:?}");

    // The next probe is answered, and all is well.
    stack.destination.always(200);
    stack.work_for(Duration::from_secs(30 * 60)).await;
    assert_eq!(stack.statuses(IDS).await, [Some(Status::Done); 8]);
    assert_eq!(stack.ledger.destination_state(&ci()).await.unwrap().circuit, Default::default());
}

#[tokio::test(start_paused = true)]
async fn attempts_that_were_on_their_way_when_the_circuit_opened_do_not_open_it_again() {
    let stack = Stack::new("backoff_seconds = [600]\ncircuit = { consecutive = 3, wait_seconds = 30 }", "");
    stack.destination.always(500);
    stack.destination.takes(Duration::from_secs(2));
    let names: Vec<String> = (0..25).map(|number| format!("e{number}")).collect();
    stack.send_all(names.iter().map(String::as_str)).await;
    stack.work_once().await;
    assert_eq!(stack.destination.asked().len(), 25, "all were on their way at the same time");
    let circuit = stack.ledger.destination_state(&ci()).await.unwrap().circuit;
    assert_eq!(circuit.openings, 1, "{circuit:?}");
    assert!(circuit.open_until.is_some_and(|until| until.since(clock::now()) <= Duration::from_secs(30)), "{circuit:?}");
}

#[tokio::test(start_paused = true)]
async fn a_share_of_failures_opens_the_circuit_and_single_ones_do_not() {
    let stack = Stack::new("backoff_seconds = [3600]\ncircuit = { consecutive = 100, percent = 50, wait_seconds = 30 }", "");
    let names: Vec<String> = (0..60).map(|number| format!("e{number}")).collect();
    let open = async || stack.ledger.destination_state(&ci()).await.unwrap().circuit.open_until.is_some();
    stack.destination.answers([500, 200, 200, 200].into_iter().cycle().take(20));
    for name in &names[..20] {
        stack.send(name, "{}").await;
        stack.work_once().await;
    }
    assert!(!open().await, "a quarter");
    stack.destination.answers([500; 40]);
    for name in &names[20..] {
        stack.send(name, "{}").await;
        stack.work_once().await;
        if open().await {
            break;
        }
    }
    // 5 of 20, and then as many failures more as make half of all: 15 successes, so 15 failures.
    assert_eq!(stack.destination.asked().len(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_window_of_trouble_that_has_passed_is_forgotten_and_costs_nothing_more() {
    let stack = Stack::new("backoff_seconds = [3600]", "");
    stack.destination.answers([500]);
    stack.send_all(["a", "b"]).await;
    stack.work_once().await;
    let state = stack.ledger.destination_state(&ci()).await.unwrap();
    assert!(state.circuit.window_at.is_some());
    sleep(Duration::from_secs(worker::CIRCUIT_WINDOW_SECONDS + 1)).await;
    stack.send("c", "{}").await;
    stack.work_once().await;
    assert_eq!(stack.ledger.destination_state(&ci()).await.unwrap().circuit, Default::default());
}

#[tokio::test(start_paused = true)]
async fn a_rate_holds_across_workers_and_each_delivery_waits_once() {
    let stack = Stack::new("rate = { requests = 1, seconds = 10, burst = 2 }", "");
    let names: Vec<String> = (0..25).map(|number| format!("e{number}")).collect();
    stack.send_all(names.iter().map(String::as_str)).await;
    stack.work_for(Duration::from_secs(600)).await;
    assert_eq!(stack.statuses(names.iter().map(String::as_str)).await, [Some(Status::Done); 25]);
    let mut asked: Vec<u64> = stack.destination.asked().iter().map(|(at, _)| at.as_millis() as u64).collect();
    asked.sort_unstable();
    // Within each time, not more than the bucket gives: its burst, and one every ten seconds.
    for (first, from) in asked.iter().enumerate() {
        for (last, to) in asked.iter().enumerate().skip(first) {
            let allowed = 2 + (to - from + 2000) / 10_000;
            assert!((last - first) as u64 <= allowed, "{first} to {last}: {asked:?}");
        }
    }
    assert!(asked[24] <= 240_000, "and not much slower: {asked:?}");
    for name in &names {
        let delivery = stack.delivery(name).await.unwrap();
        assert_eq!((delivery.attempts, delivery.history.len()), (1, 1), "{delivery:?}");
    }
}

/// Those whose moments have passed by then reserve others.
#[tokio::test(start_paused = true)]
async fn a_rate_holds_after_an_outage_too() {
    let stack = Stack::new("rate = { requests = 1, seconds = 10 }", "");
    let names: Vec<String> = (0..40).map(|number| format!("e{number}")).collect();
    stack.send_all(names.iter().map(String::as_str)).await;
    stack.work_once().await;
    // Nobody works for a quarter of an hour.
    sleep(Duration::from_secs(900)).await;
    stack.work_for(Duration::from_secs(1800)).await;
    assert_eq!(stack.statuses(names.iter().map(String::as_str)).await, [Some(Status::Done); 40]);
    let mut asked: Vec<u64> = stack.destination.asked().iter().map(|(at, _)| at.as_secs()).collect();
    asked.sort_unstable();
    let within = |from: u64| asked.iter().filter(|at| (from..from + 60).contains(*at)).count();
    assert!(asked.iter().all(|from| within(*from) <= 8), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn those_who_end_a_silence_at_the_same_instant_have_a_moment_each() {
    let stack = Stack::new("", "");
    let pace = AtomicU64::new(0);
    stack.aws.latency(move |_| {
        // Every call arrives later than the one before, and is answered so late that all have arrived by then.
        let before = Duration::from_millis(pace.fetch_add(1, Ordering::Relaxed));
        Latency { before, after: Duration::from_millis(200) }
    });
    let interval = Duration::from_millis(500);
    let now = clock::now();
    let moments = join_all((0..12).map(|_| async { stack.ledger.reserve(&ci(), interval, 2, now).await.unwrap() })).await;
    let mut waits: Vec<u64> = moments.into_iter().map(|moment| moment.since(now).as_millis() as u64).collect();
    waits.sort_unstable();
    assert_eq!(waits, [0, 0, 500, 1000, 1500, 2000, 2500, 3000, 3500, 4000, 4500, 5000]);
}

#[tokio::test(start_paused = true)]
async fn as_many_at_once_as_may_be_and_no_more() {
    let stack = Stack::new("concurrency = 3", "");
    stack.destination.takes(Duration::from_secs(4));
    let names: Vec<String> = (0..25).map(|number| format!("e{number}")).collect();
    stack.send_all(names.iter().map(String::as_str)).await;
    stack.work_for(Duration::from_secs(900)).await;
    assert_eq!(stack.statuses(names.iter().map(String::as_str)).await, [Some(Status::Done); 25]);
    assert_eq!(stack.destination.0.lock().unwrap().at_once_max, 3);
}

#[tokio::test(start_paused = true)]
async fn a_slot_whose_owner_died_is_free_when_its_lease_ends() {
    let stack = Stack::new("concurrency = 1", "");
    stack.destination.takes(Duration::from_secs(5));
    stack.send("a", "{}").await;
    let dies = stack.worker("dies");
    let messages = stack.aws.receive(DOORBELL_QUEUE, 1);
    let invocation = Invocation { request_id: "dies", deadline: clock::now().plus(WORKER_TIMEOUT), now: clock::now };
    let died = timeout(Duration::from_secs(1), dies.work(batch(messages.iter().map(parts)), invocation)).await;
    assert!(died.is_err(), "it was stopped in the midst of its request");
    stack.send("b", "{}").await;
    stack.work_once().await;
    assert_eq!(stack.delivery("b").await.unwrap().attempts, 0, "the slot is taken");
    stack.work_for(Duration::from_secs(600)).await;
    assert_eq!(stack.statuses(["a", "b"]).await, [Some(Status::Done); 2]);
}

#[tokio::test(start_paused = true)]
async fn fewer_slots_than_before_do_not_lock_out_everybody() {
    let stack = Stack::new("concurrency = 2", "");
    let now = clock::now();
    let soon = now.plus(Duration::from_secs(60));
    for owner in ["a", "b", "c", "d"] {
        assert!(stack.ledger.take_slot(&ci(), 4, owner, now, soon).await.unwrap());
        assert!(stack.ledger.take_slot(&ci(), 4, owner, now, soon).await.unwrap(), "who asks again keeps it");
    }
    assert!(!stack.ledger.take_slot(&ci(), 4, "e", now, soon).await.unwrap());
    // All four died, and there are two now.
    let mut tries = 0;
    while !stack.ledger.take_slot(&ci(), 2, "f", soon, soon.plus(WORKER_TIMEOUT)).await.unwrap() {
        tries += 1;
        assert!(tries < 5);
    }
    assert!(stack.ledger.take_slot(&ci(), 2, "g", soon, soon.plus(WORKER_TIMEOUT)).await.unwrap());
    assert!(!stack.ledger.take_slot(&ci(), 2, "h", soon, soon.plus(WORKER_TIMEOUT)).await.unwrap());
    stack.ledger.return_slot(&ci(), "g").await.unwrap();
    stack.ledger.return_slot(&ci(), "g").await.unwrap();
    assert!(stack.ledger.take_slot(&ci(), 2, "h", soon, soon.plus(WORKER_TIMEOUT)).await.unwrap());
    assert!(!stack.ledger.take_slot(&ci(), 2, "i", soon, soon.plus(WORKER_TIMEOUT)).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_paused_destination_is_asked_nothing_until_it_is_resumed() {
    let stack = Stack::new("", "");
    stack.pause().await;
    stack.send_all(["a", "b"]).await;
    stack.work_for(Duration::from_secs(600)).await;
    assert_eq!(stack.destination.asked().len(), 0);
    assert_eq!(stack.statuses(["a", "b"]).await, [Some(Status::Waiting); 2]);
    assert_eq!(stack.delivery("a").await.unwrap().attempts, 0);
    assert!(stack.ledger.resume(&ci()).await.unwrap());
    assert!(!stack.ledger.resume(&ci()).await.unwrap());
    stack.work_for(Duration::from_secs(120)).await;
    assert_eq!(stack.statuses(["a", "b"]).await, [Some(Status::Done); 2]);
}

#[tokio::test(start_paused = true)]
async fn the_third_event_in_a_row_that_is_refused_pauses_the_destination_for_all_who_come_after() {
    let stack = Stack::new("backoff_seconds = [600, 600]", "");
    stack.destination.always(401);
    for id in ["a", "b", "c", "d"] {
        stack.send(id, "{}").await;
        stack.work_once().await;
    }
    assert_eq!(stack.destination.ids(), ["a", "b", "c"]);
    assert_eq!(stack.statuses(["a", "b", "c", "d"]).await, [Some(Status::Waiting); 4]);
    let pause = stack.ledger.destination_state(&ci()).await.unwrap().pause.unwrap();
    assert!(pause.reason.contains("401"), "{pause:?}");
    assert!(stack.ledger.resume(&ci()).await.unwrap());
    assert_eq!(stack.ledger.destination_state(&ci()).await.unwrap().refused_events, 0, "it is counted anew");
}

/// What was refused goes last when a person has resumed the destination: it may have been refused for what it is.
#[tokio::test(start_paused = true)]
async fn after_a_pause_the_oldest_go_first_and_what_was_refused_goes_last() {
    let stack = Stack::new("backoff_seconds = [7200, 7200]", "");
    stack.destination.always(401);
    for id in ["a", "b", "refused", "d", "e", "f", "g"] {
        stack.send(id, "{}").await;
        stack.work_once().await;
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(stack.destination.ids(), ["a", "b", "refused"]);
    stack.destination.always(200);
    sleep(Duration::from_secs(600)).await;
    assert!(stack.ledger.resume(&ci()).await.unwrap());
    let before = stack.calls();
    stack.work_for(Duration::from_secs(300)).await;
    let ids: Vec<String> = stack.destination.ids().into_iter().skip(3).filter(|id| !["a", "b"].contains(&id.as_str())).collect();
    assert_eq!(ids, ["d", "e", "f", "g", "refused"]);
    assert!(stack.calls_since(&before).contains_key("Sqs.SendMessageBatch"));
}

/// The gate is one item, however much waits before it.
#[tokio::test(start_paused = true)]
async fn pausing_and_resuming_write_one_item_each_and_open_slowly() {
    let stack = Stack::new("", "");
    let names: Vec<String> = (0..60).map(|number| format!("e{number}")).collect();
    stack.pause().await;
    stack.send_all(names.iter().map(String::as_str)).await;
    stack.work_once().await;
    let before = stack.calls();
    assert!(stack.ledger.resume(&ci()).await.unwrap());
    stack.pause().await;
    assert!(stack.ledger.resume(&ci()).await.unwrap());
    assert_eq!(stack.calls_since(&before), BTreeMap::from([("DynamoDb.UpdateItem".to_owned(), 3)]));
    stack.work_for(Duration::from_secs(240)).await;
    assert_eq!(stack.statuses(names.iter().map(String::as_str)).await, [Some(Status::Done); 60]);
    // By the seconds in which they came: at most one at the first look, two at the next, and so on.
    let mut looks: BTreeMap<u64, u32> = BTreeMap::new();
    stack.destination.asked().iter().for_each(|(at, _)| *looks.entry(at.as_secs() / 5).or_default() += 1);
    let counts: Vec<u32> = looks.into_values().collect();
    assert!(counts.iter().enumerate().all(|(look, count)| *count <= 1 << look), "{counts:?}");
}

/// A refusal may be about the event alone, as of a tenant that is gone: it dies by itself, and the others go on.
#[tokio::test(start_paused = true)]
async fn one_event_that_is_refused_again_and_again_pauses_nothing() {
    let stack = Stack::new("backoff_seconds = [600, 600, 600]", "");
    let refused = async || stack.ledger.destination_state(&ci()).await.unwrap().refused_events;
    stack.destination.always(403);
    stack.send("refused", "{}").await;
    stack.work_once().await;
    assert_eq!(refused().await, 1);
    stack.destination.answers([200]);
    stack.send("taken", "{}").await;
    stack.work_once().await;
    assert_eq!(refused().await, 0, "in a row");
    stack.work_for(Duration::from_secs(3600)).await;
    assert_eq!(refused().await, 1, "the same again is one");
    assert_eq!(stack.statuses(["refused", "taken"]).await, [Some(Status::Dead), Some(Status::Done)]);
    assert_eq!(stack.ledger.destination_state(&ci()).await.unwrap().pause, None);
}

/// What is counted about the destination comes after the delivery is written down as done, and undoes nothing of it.
#[tokio::test(start_paused = true)]
async fn a_delivery_is_done_also_if_earlier_refusals_cannot_be_forgotten() {
    let stack = Stack::new("backoff_seconds = [600]", "");
    stack.destination.answers([403, 200]);
    stack.send("refused", "{}").await;
    stack.work_once().await;
    stack.send("taken", "{}").await;
    let mut updates = 0;
    stack.aws.on_call(move |call| {
        updates += u64::from(call.operation == "UpdateItem");
        // Its claim and its end.
        if call.operation == "UpdateItem" && updates > 2 {
            Fate::FailBefore(model::Failure::InternalError)
        } else {
            Fate::Succeed
        }
    });
    stack.work_once().await;
    assert_eq!(stack.statuses(["taken"]).await, [Some(Status::Done)]);
    assert_eq!(stack.destination.ids(), ["refused", "taken"]);
    assert_eq!(stack.ledger.destination_state(&ci()).await.unwrap().refused_events, 1);
}

#[tokio::test(start_paused = true)]
async fn retries_keep_their_schedule_and_their_attempts_are_kept() {
    let stack = Stack::new("backoff_seconds = [5, 30, 120]\ncircuit = { enabled = false }", "");
    stack.destination.always(500);
    stack.send("a", "{}").await;
    stack.work_for(Duration::from_secs(3600)).await;
    let asked = stack.destination.asked();
    assert_eq!(asked.len(), 4);
    let delivery = stack.delivery("a").await.unwrap();
    assert_eq!((delivery.status, delivery.history.len()), (Status::Dead, 4));
    for (index, longest) in [5_000, 30_000, 120_000].into_iter().enumerate() {
        let waited = (asked[index + 1].0 - asked[index].0).as_millis() as u64;
        let meant = delivery.history[index].wait_millis.unwrap();
        assert!(meant <= longest, "{meant} of {longest}");
        // SQS counts in whole seconds, and a hold is never shorter than half a one.
        assert!(waited >= meant && waited <= meant + 2000, "{waited} for {meant}");
    }
    let words: Vec<_> = delivery.history.iter().map(|attempt| (attempt.number, attempt.result.as_str())).collect();
    assert_eq!(words, [(1, "transient"), (2, "transient"), (3, "transient"), (4, "transient")]);
}

#[tokio::test(start_paused = true)]
async fn waits_of_our_own_making_never_end_a_delivery_without_an_attempt() {
    let stack = Stack::new("give_up_after_hours = 2\nrate = { requests = 1, seconds = 3600 }", "");
    stack.send_all(["a", "b", "c", "d"]).await;
    stack.work_for(Duration::from_secs(4 * 3600)).await;
    assert_eq!(stack.statuses(["a", "b", "c", "d"]).await, [Some(Status::Done); 4]);
    assert_eq!(stack.destination.asked().len(), 4);
}

/// Its time begins with its first attempt, and a pause stops it: after one there is at least one more.
#[tokio::test(start_paused = true)]
async fn a_delivery_is_given_up_when_its_time_is_over_and_not_before() {
    // More attempts than fit into the time, however short the waits are that are drawn.
    let waits = vec!["1800"; 32].join(", ");
    let settings = format!("give_up_after_hours = 2\nbackoff_seconds = [{waits}]\ncircuit = {{ enabled = false }}");
    let stack = Stack::new(&settings, "");
    stack.destination.always(500);
    stack.pause().await;
    stack.send("a", "{}").await;
    stack.work_for(Duration::from_secs(5 * 3600)).await;
    assert_eq!((stack.statuses(["a"]).await, stack.destination.asked().len()), (vec![Some(Status::Waiting)], 0));
    assert!(stack.ledger.resume(&ci()).await.unwrap());
    stack.work_for(Duration::from_secs(3600)).await;
    assert_eq!(stack.statuses(["a"]).await, [Some(Status::Waiting)], "five hours of a pause do not count");
    stack.work_for(Duration::from_secs(6 * 3600)).await;
    assert_eq!(stack.statuses(["a"]).await, [Some(Status::Dead)]);
    let asked = stack.destination.asked();
    assert!(asked.last().unwrap().0 - asked[0].0 < Duration::from_secs(2 * 3600), "{asked:?}");
}

/// A stack with FIFO queues whose route has an order, and a destination with these settings.
fn in_order(settings: &str) -> Stack {
    let settings = format!("{settings}\ncircuit = {{ enabled = false }}");
    Stack::on(Settings::fifo(), &settings, "order = { key = \".k\", version = \".v\" }")
}

#[tokio::test(start_paused = true)]
async fn on_a_fifo_queue_what_is_about_one_thing_waits_behind_what_fails_and_nothing_else_does() {
    let stack = in_order("backoff_seconds = [60, 60]");
    stack.destination.answers([500]);
    stack.accept("a1", r#"{"k": "a", "v": 1}"#).await;
    stack.accept("a2", r#"{"k": "a", "v": 2}"#).await;
    stack.work_once().await;
    let kept = stack.aws.messages(DOORBELL_QUEUE);
    let group = Group::of_thing(&ci(), "a").as_str().to_owned();
    assert!(kept.iter().all(|message| message.group.as_ref() == Some(&group)), "as the receiver rings");
    assert_eq!(kept.iter().map(|message| message.receive_count).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(kept[0].visible_at, kept[1].visible_at, "the second is held no longer than the first");
    stack.accept("a3", r#"{"k": "a", "v": 3}"#).await;
    stack.accept("b1", r#"{"k": "b", "v": 1}"#).await;
    stack.work_once().await;
    assert_eq!(stack.destination.ids(), ["a1", "b1"]);
    assert!(stack.delivery("a2").await.is_none(), "it is not begun");
    stack.work_for(Duration::from_secs(600)).await;
    assert_eq!(stack.destination.ids(), ["a1", "b1", "a1", "a2", "a3"]);
    assert_eq!(stack.statuses(["a1", "a2", "a3", "b1"]).await, [Some(Status::Done); 4]);
    assert!(stack.aws.messages(DOORBELL_QUEUE).is_empty());
}

#[tokio::test(start_paused = true)]
async fn on_a_fifo_queue_a_doorbell_that_knows_nothing_of_its_thing_overtakes_nothing() {
    let stack = in_order("backoff_seconds = [60]");
    stack.destination.answers([500]);
    stack.accept("a1", r#"{"k": "a", "v": 1}"#).await;
    stack.work_once().await;
    stack.accept("a2", r#"{"k": "a", "v": 2}"#).await;
    // As auditor, redrive and operators ring.
    let key = EventKey { source: SourceName::parse("partner").unwrap(), event_id: EventId::parse("a2").unwrap() };
    stack.bell().ring(&[Doorbell::first(&key, &ci())]).await.unwrap();
    assert_eq!(stack.work_once().await, 1);
    assert_eq!(stack.destination.ids(), ["a1"]);
    let groups: Vec<_> = stack.aws.messages(DOORBELL_QUEUE).into_iter().map(|message| message.group).collect();
    assert_eq!(groups, vec![Some(Group::of_thing(&ci(), "a").as_str().to_owned()); 3]);
    // Without a key that can be told it is accepted all the same, stays where it is, and says what is wrong.
    stack.accept("x", "{}").await;
    stack.work_once().await;
    assert_eq!(stack.statuses(["x"]).await, [Some(Status::Dead)]);
    stack.work_for(Duration::from_secs(600)).await;
    assert_eq!(stack.destination.ids(), ["a1", "a1", "a2"]);
    assert!(stack.aws.messages(DOORBELL_QUEUE).is_empty());
}

#[tokio::test(start_paused = true)]
async fn on_a_fifo_queue_what_an_invocation_has_no_time_for_comes_again_at_once() {
    const TAKES: Duration = Duration::from_secs(6);
    let stack = in_order("timeout_seconds = 10");
    stack.destination.takes(TAKES);
    let ids: Vec<String> = (0..10).map(|number| format!("a{number}")).collect();
    for (number, id) in ids.iter().enumerate() {
        stack.accept(id, &format!("{{\"k\": \"a\", \"v\": {number}}}")).await;
    }
    stack.work_for(Duration::from_secs(600)).await;
    assert_eq!(stack.destination.ids(), ids);
    let asked = stack.destination.asked();
    // A hold is counted in whole seconds.
    assert!(asked.windows(2).all(|pair| pair[1].0 - pair[0].0 <= TAKES + Duration::from_secs(1)), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn on_a_fifo_queue_what_is_dead_lets_the_next_go_on() {
    let stack = in_order("");
    stack.destination.answers([422, 422]);
    stack.accept("a1", r#"{"k": "a", "v": 1}"#).await;
    stack.accept("a2", r#"{"k": "a", "v": 2}"#).await;
    stack.accept("a3", r#"{"k": "a", "v": 3}"#).await;
    stack.work_once().await;
    assert_eq!(stack.statuses(["a1", "a2", "a3"]).await, [Some(Status::Dead), Some(Status::Dead), Some(Status::Done)]);
    let groups: BTreeSet<_> = stack.aws.messages(DEAD_LETTER_QUEUE).into_iter().map(|letter| letter.group).collect();
    assert_eq!(groups.len(), 2, "each letter is a group of its own");
}

/// It could be rung for until TTL removes it, which may take days, and each time make a dead letter.
#[tokio::test(start_paused = true)]
async fn a_delivery_whose_event_has_expired_ends_once_with_one_dead_letter() {
    let stack = Stack::new("backoff_seconds = [600]", "");
    stack.pause().await;
    stack.send("paused", "{}").await;
    stack.work_once().await;
    assert_eq!(stack.statuses(["paused"]).await, [Some(Status::Waiting)]);
    stack.ledger.resume(&ci()).await.unwrap();
    sleep(HORIZON).await;
    let auditor = stack.aws.auditor("auditor", stack.gateway.clone());
    for _ in 0..4 {
        auditor.audit(clock::now().plus(Duration::from_secs(55)), clock::now).await.unwrap();
        stack.work_for(Duration::from_secs(90)).await;
    }
    let letters = stack.aws.messages(DEAD_LETTER_QUEUE);
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert!(format!("{letters:?}").contains("the event has expired, or was erased, before it was delivered"), "{letters:?}");
    assert_eq!(stack.statuses(["paused"]).await, [Some(Status::Dead)]);
    // Nor does a doorbell that was on its way make another one, or a redrive bring it back.
    let key = EventKey { source: SourceName::parse("partner").unwrap(), event_id: EventId::parse("paused").unwrap() };
    for replay in [0, 1] {
        stack.aws.send(DOORBELL_QUEUE, &Doorbell { replay, ..Doorbell::first(&key, &ci()) }.to_json());
    }
    stack.work_for(Duration::from_secs(60)).await;
    assert_eq!(stack.aws.messages(DEAD_LETTER_QUEUE).len(), 1);
    assert_eq!(stack.aws.counts(DOORBELL_QUEUE), Default::default());
    assert_eq!(stack.destination.asked().len(), 0);
}

/// Whatever it was doing, but while a worker is at it; and no redrive brings it back.
#[tokio::test(start_paused = true)]
async fn a_cancelled_delivery_is_tried_no_more() {
    let stack = Stack::new("backoff_seconds = [600]\ntimeout_seconds = 10", "");
    let event = async |id: &str| {
        let key = EventKey { source: SourceName::parse("partner").unwrap(), event_id: EventId::parse(id).unwrap() };
        stack.ledger.find(&key, clock::now()).await.unwrap().unwrap().0
    };
    let cancel = async |id: &str| stack.ledger.cancel(&event(id).await, &ci(), "by hand", clock::now()).await.unwrap();
    // It waits; it is dead; nobody has begun it; it is done.
    stack.destination.answers([500, 422]);
    for id in ["waits", "dead"] {
        stack.send(id, "{}").await;
        stack.work_once().await;
    }
    stack.send("done", "{}").await;
    stack.work_once().await;
    stack.send("queued", "{}").await;
    for id in ["waits", "dead", "queued"] {
        assert_eq!(cancel(id).await, Cancellation::Cancelled, "{id}");
        assert_eq!(cancel(id).await, Cancellation::Cancelled, "{id}: twice is once");
    }
    assert_eq!(cancel("done").await, Cancellation::AlreadyDone);
    // A worker is at it.
    stack.destination.takes(Duration::from_secs(5));
    stack.send("held", "{}").await;
    let (_, answer) = join(stack.work_once(), async {
        sleep(Duration::from_secs(1)).await;
        cancel("held").await
    })
    .await;
    assert!(matches!(answer, Cancellation::HeldUntil(_)), "{answer:?}");
    let asked = stack.destination.asked().len();
    let plan = redrive::Plan::read(serde_json::json!({"all": true})).unwrap();
    let deadline = clock::now().plus(Duration::from_secs(900));
    let report = stack.aws.redrive("redrive").run(&plan, deadline, clock::now).await.unwrap();
    assert_eq!((report.already_done, report.redriven), (1, 0), "{report:?}");
    stack.work_for(Duration::from_secs(3600)).await;
    assert_eq!(stack.destination.asked().len(), asked);
    assert_eq!(stack.statuses(["waits", "dead", "queued"]).await, [Some(Status::Cancelled); 3]);
    assert_eq!(stack.aws.counts(DEAD_LETTER_QUEUE), Default::default());
}

/// Its word counts for all that goes there, at the most for a quarter of an hour; then one finds out.
#[tokio::test(start_paused = true)]
async fn a_destination_that_asks_to_be_left_alone_is_asked_nothing_by_anybody() {
    for (asks, left_alone) in [(20, 20), (600, 600), (24 * 3600, 15 * 60)] {
        let stack = Stack::new("circuit = { enabled = false }", "");
        stack.destination.0.lock().unwrap().retry_after = Some(asks);
        stack.destination.answers([429]);
        stack.send("first", "{}").await;
        stack.work_once().await;
        stack.send_all(["b", "c", "d"]).await;
        stack.work_for(Duration::from_secs(left_alone - 1)).await;
        assert_eq!(stack.destination.ids(), ["first"], "{asks}");
        assert_eq!(stack.delivery("b").await.map_or(0, |delivery| delivery.attempts), 0);
        stack.work_for(Duration::from_secs(300)).await;
        assert_eq!(stack.statuses(["b", "c", "d"]).await, [Some(Status::Done); 3], "{asks}");
        let state = stack.ledger.destination_state(&ci()).await.unwrap();
        assert_eq!(state.circuit, Default::default(), "{asks}");
        let mut times: Vec<_> = stack.destination.asked().into_iter().map(|(at, _)| at.as_secs()).collect();
        times.dedup();
        assert!(times[1] - times[0] >= left_alone, "{times:?}");
    }
}

/// What was erased by an operator, who takes the event first.
#[tokio::test(start_paused = true)]
async fn what_nobody_has_claimed_and_has_no_event_is_put_aside() {
    let stack = Stack::new("", "");
    stack.send("erased", "{}").await;
    assert!(stack.aws.remove_item(LEDGER_TABLE, "partner#erased", "event"));
    stack.work_for(Duration::from_secs(60)).await;
    assert_eq!(stack.aws.messages(DEAD_LETTER_QUEUE).len(), 1);
    assert_eq!((stack.statuses(["erased"]).await, stack.destination.asked().len()), (vec![None], 0));
}

/// What never reached its destination is in the history all the same, and a redrive is told from what was before.
#[tokio::test(start_paused = true)]
async fn a_death_by_an_expression_is_in_the_history_and_each_run_has_its_number() {
    let stack = Stack::new("", "filter = \".a + 1 > 1\"");
    stack.send("typed", r#"{"a": "text"}"#).await;
    stack.work_once().await;
    let key = EventKey { source: SourceName::parse("partner").unwrap(), event_id: EventId::parse("typed").unwrap() };
    stack.aws.send(DOORBELL_QUEUE, &Doorbell { replay: 1, ..Doorbell::first(&key, &ci()) }.to_json());
    stack.work_for(Duration::from_secs(60)).await;
    let delivery = stack.delivery("typed").await.unwrap();
    let told: Vec<_> = delivery.history.iter().map(|attempt| (attempt.run, attempt.number, attempt.result.as_str())).collect();
    assert_eq!(told, [(0, 1, "permanent"), (1, 1, "permanent")]);
    assert!(delivery.history[0].reason.as_ref().unwrap().contains("the filter of its route fails"), "{delivery:?}");
    assert_eq!(stack.destination.asked().len(), 0);
}
