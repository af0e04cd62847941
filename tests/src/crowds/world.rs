//! One history of a crowd, and what must hold in it.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::StatusCode;
use shared::{
    config::Gateway,
    doorbell::Doorbell,
    ledger::{Gate, Ledger, Pause},
    names::DestinationName,
    time::Timestamp,
};
use tokio::time::{sleep, timeout};
use worker::{Answer, Exchange, Failure, Handlers, Invocation, Post, Worker};

use super::{
    History,
    plan::{Plan, Temper},
    wrong::Wrong,
};
use crate::{
    lambda::{DISPATCHER_TIMEOUT, WORKER_TIMEOUT},
    model::{self, Aws, DEAD_LETTER_QUEUE, DOORBELL_QUEUE, Fate, Item, LEDGER_TABLE, Latency, Message, Settings},
    providers::Provider,
    simulation::{
        clock::{self, BEGINNING},
        director::Director,
        verdict::put_watermark,
    },
    strangers,
};

const SECRET: &str = "bWFkZS11cC1zZWNyZXQtb2YtdGhlLXNpbXVsYXRpb24=";
/// Batches in the workers' hands at the same time: the least that the template allows, so that a crowd is soon there.
const POLLERS: usize = 2;
/// Messages of one batch, at most.
const BATCH_MAX: u64 = 10;
const MINUTE: Duration = Duration::from_secs(60);
/// For how long after the last event audits are made.
const AUDITED: Duration = Duration::from_secs(25 * 60);
/// How long a healthy destination's event takes at the most, where nothing goes wrong: as long as both workers may be at slow ones, twice.
const HEALTHY_MAX: Duration = Duration::from_secs(45);
/// How often a message is handed out at the most, while no function is killed.
const RECEIVES_MAX: u32 = 20;
/// How long after everything is well everything has arrived: circuits, waits and an index that lags, where nothing goes wrong; and the looks that come
/// ever later, where something does.
const SETTLED_CALM: Duration = Duration::from_secs(90 * 60);
const SETTLED: Duration = Duration::from_secs(10 * 60 * 60);

/// What destinations have seen.
#[derive(Default)]
struct Seen {
    /// When each event arrived first.
    arrived: BTreeMap<String, Timestamp>,
    attempts: Vec<(usize, Timestamp)>,
    kills: u32,
}

/// How one worker reaches the destinations.
#[derive(Clone)]
struct Tempers {
    function: String,
    plan: Arc<Plan>,
    aws: Aws,
    director: Director,
    seen: Arc<Mutex<Seen>>,
}

impl Tempers {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, index: usize, id: &str) -> Answer {
        let age = clock::now().since(BEGINNING);
        let of = |status| Answer::of(StatusCode::from_u16(status).unwrap_or_default());
        match self.plan.destinations[index].temper {
            Temper::Dead(until) if age < until => of(500),
            Temper::Asking(seconds, until) if age < until => {
                let mut answer = of(429);
                answer.headers.insert("retry-after", seconds.into());
                answer
            }
            _ => {
                self.seen().arrived.entry(id.to_owned()).or_insert_with(clock::now);
                of(200)
            }
        }
    }
}

impl Exchange for Tempers {
    async fn post(&self, post: Post<'_>) -> Result<Answer, Failure> {
        let name = post.url.rsplit('/').next().unwrap_or_default().to_owned();
        let id = post.headers.get("webhook-id").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let index: usize = name.trim_start_matches('d').parse().unwrap_or_default();
        self.seen().attempts.push((index, clock::now()));
        if self.plan.wrong == Some(Wrong::ClaimTakesEntry) {
            self.take_entry(&id, &name);
        }
        let fate = self.director.decide(&self.function, "destination", &name);
        let takes = match self.plan.destinations[index].temper {
            Temper::Slow => 3000 + self.director.dice(5000),
            Temper::Narrow => 2000 + self.director.dice(2000),
            _ => 100,
        };
        sleep(Duration::from_millis(takes)).await;
        match fate {
            Fate::FailBefore(_) => Err(Failure::Transient("connection reset".to_owned())),
            Fate::FailAfter(_) => {
                self.answer(index, &id);
                Err(Failure::Transient("connection reset".to_owned()))
            }
            Fate::Hang { .. } => {
                sleep(post.timeout).await;
                Err(Failure::Transient("timed out".to_owned()))
            }
            Fate::Kill { .. } => {
                self.aws.kill(&self.function);
                std::future::pending().await
            }
            _ => Ok(self.answer(index, &id)),
        }
    }
}

impl Tempers {
    fn take_entry(&self, id: &str, name: &str) {
        if let Some(item) = self.aws.item(LEDGER_TABLE, id, &format!("delivery#{name}")) {
            let kept = item.iter().filter(|(name, _)| !name.starts_with("attention_"));
            self.aws.put_item(LEDGER_TABLE, kept.map(|(name, value)| (name.clone(), value.clone())).collect());
        }
    }
}

struct World {
    plan: Arc<Plan>,
    gateway: Gateway,
    aws: Aws,
    director: Director,
    seen: Arc<Mutex<Seen>>,
    idle: RefCell<Vec<(String, Worker<Tempers>)>>,
    instances: Cell<u64>,
    accepted: RefCell<BTreeMap<String, Timestamp>>,
    violations: RefCell<BTreeSet<String>>,
    ended: Cell<bool>,
}

/// The configuration of a plan: each destination `d0`, `d1` and so on has a source of its name.
fn gateway(plan: &Plan) -> Gateway {
    let mut text = String::new();
    let waits = [&["5", "90"][..], &["300"; 18]].concat().join(", ");
    for (index, destination) in plan.destinations.iter().enumerate() {
        let settings = destination.temper.settings();
        let circuit = if destination.has_circuit { "" } else { "circuit = { enabled = false }" };
        text += &format!(
            "[sources.d{index}]\nscheme = \"standard-webhooks\"\nsecret = \"shared\"\n\
             [destinations.d{index}]\ntype = \"http\"\nurl = \"https://destination.example/d{index}\"\nsecret = \"shared\"\n\
             timeout_seconds = 15\nbackoff_seconds = [{waits}]\n{settings}\n{circuit}\n\
             [[routes]]\nsource = \"d{index}\"\ndestination = \"d{index}\"\n"
        );
    }
    Gateway::parse(&text, "a crowd's gateway.toml").expect("it is checked by every history")
}

/// Runs a history to its end.
pub(super) async fn run(plan: Plan, traced: bool) -> History {
    clock::start();
    fastrand::seed(plan.seed);
    let director = Director::new(plan.faults.clone(), plan.seed, traced);
    let aws = Aws::new(Settings::posthouse(), clock::now);
    aws.put_signing_secret("shared", SECRET);
    aws.lag(Duration::ZERO, plan.index_lag);
    if let Some(lag) = plan.waiting_lag {
        aws.lag_index(LEDGER_TABLE, "attention", lag);
    }
    put_watermark(&aws, BEGINNING.minus(Duration::from_secs(1)));
    let (pace, dice, deciding) = (director.clone(), director.clone(), director.clone());
    aws.latency(move |_| Latency { before: pace.moment() / 4, after: pace.moment() / 4 });
    aws.on_receive(move |messages| dice.dice(messages as u64) as usize);
    let seen = Arc::new(Mutex::new(Seen::default()));
    let (wrong, kills) = (plan.wrong, seen.clone());
    aws.on_call(move |call| {
        if call.function.starts_with("operator") {
            return Fate::Succeed;
        }
        let meant = deciding.decide(&call.function, "aws", &call.operation);
        if matches!(meant, Fate::Kill { .. } | Fate::Hang { .. }) {
            kills.lock().unwrap_or_else(PoisonError::into_inner).kills += 1;
        }
        wrong.map_or(meant, |wrong| wrong.fate(call, meant))
    });
    let world = Rc::new(World {
        gateway: gateway(&plan),
        plan: Arc::new(plan),
        aws,
        director,
        seen,
        idle: RefCell::default(),
        instances: Cell::new(0),
        accepted: RefCell::default(),
        violations: RefCell::default(),
        ended: Cell::new(false),
    });
    world.clone().live().await;
    History {
        violations: world.violations.borrow().iter().cloned().collect(),
        events: world.accepted.borrow().len(),
        destinations: world.plan.destinations.len(),
        calls: world.aws.calls(),
        trace: world.director.trace(),
    }
}

fn text<'i>(item: &'i Item, name: &str) -> Option<&'i str> {
    item.get(name)?.text()
}

fn moment(item: &Item, name: &str) -> Option<Timestamp> {
    item.get(name)?.number().map(Timestamp::from_millis)
}

fn is_final(item: &Item) -> bool {
    matches!(text(item, "status"), Some("done" | "dead" | "cancelled"))
}

/// When somebody must look at a delivery, if it has an entry.
fn look_at(item: &Item) -> Option<Timestamp> {
    text(item, "attention_pk").filter(|partition| partition.starts_with("wait#"))?;
    text(item, "attention_sk")?.split_once('#')?.0.parse().ok().map(Timestamp::from_millis)
}

impl World {
    async fn live(self: Rc<Self>) {
        for (number, (at, destination)) in self.plan.events.clone().into_iter().enumerate() {
            tokio::task::spawn_local(self.clone().send(at, destination, format!("event-{number}")));
        }
        for _ in 0..POLLERS {
            tokio::task::spawn_local(self.clone().poll());
        }
        for index in 0..self.plan.destinations.len() {
            tokio::task::spawn_local(self.clone().operate(index));
        }
        if let Some(at) = self.plan.purged_at {
            let world = self.clone();
            tokio::task::spawn_local(async move {
                sleep(at).await;
                world.director.note(|| "all messages are lost".to_owned());
                world.purge();
            });
        }
        let is_prompt = self.plan.is_calm() && self.plan.waiting_lag.is_none();
        let settled_by = self.plan.is_well_at() + if is_prompt { SETTLED_CALM } else { SETTLED };
        let last = self.plan.events.iter().map(|(at, _)| *at).max().unwrap_or_default();
        loop {
            sleep(MINUTE).await;
            let age = clock::now().since(BEGINNING);
            self.check();
            if self.is_settled() || age > last + settled_by {
                break;
            }
            self.tick(age, last);
        }
        self.judge();
        self.ended.set(true);
    }

    /// Whether a dispatcher would do anything: something is due, or was a while ago as an index that lags may have it, or a destination's time in the
    /// register is over.
    fn has_work(&self) -> bool {
        let now = clock::now();
        let is_due = |item: &Item| look_at(item).is_some_and(|at| at < now.plus(2 * MINUTE));
        let is_over = |item: &Item| moment(item, "waiting_until").is_some_and(|until| until < now);
        self.plan.waiting_lag.is_some() || self.aws.items(LEDGER_TABLE).iter().any(|item| is_due(item) || is_over(item))
    }

    /// Every message is lost: those in flight, delayed and visible.
    fn purge(&self) {
        while !self.aws.receive(DOORBELL_QUEUE, 10).is_empty() {}
        for message in self.aws.messages(DOORBELL_QUEUE) {
            if let Some(handle) = &message.receipt_handle {
                self.aws.delete(DOORBELL_QUEUE, handle);
            }
        }
    }

    /// What the schedules start.
    fn tick(self: &Rc<Self>, age: Duration, last: Duration) {
        for _ in 0..if self.plan.doubled_schedules { 2 } else { 1 } {
            if age < last + AUDITED {
                let world = self.clone();
                tokio::task::spawn_local(async move {
                    let instance = world.instance("auditor");
                    let auditor = world.aws.auditor(&instance, world.gateway.clone());
                    let deadline = clock::now().plus(DISPATCHER_TIMEOUT);
                    world.invoke(&instance, DISPATCHER_TIMEOUT, auditor.audit(deadline, clock::now)).await;
                });
            }
            let (from, until) = self.plan.dispatcher_off;
            if (age < from || age >= until) && self.has_work() {
                let world = self.clone();
                tokio::task::spawn_local(async move {
                    let instance = world.instance("dispatcher");
                    let dispatcher = world.aws.dispatcher(&instance, world.gateway.clone(), POLLERS as u32);
                    let deadline = clock::now().plus(DISPATCHER_TIMEOUT);
                    let run = dispatcher.run(&instance, deadline, clock::now);
                    let report = world.invoke(&instance, DISPATCHER_TIMEOUT, run).await;
                    world.director.note(|| format!("{instance}: {report:?}"));
                });
            }
        }
    }

    fn violate(&self, what: String) {
        self.director.note(|| format!("VIOLATION {what}"));
        self.violations.borrow_mut().insert(what);
    }

    fn instance(&self, function: &str) -> String {
        self.instances.set(self.instances.get() + 1);
        format!("{function}-{}", self.instances.get())
    }

    async fn invoke<T>(&self, instance: &str, bound: Duration, invocation: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.aws.killed(instance) => None,
            answered = timeout(bound, invocation) => answered.ok(),
        }
    }

    /// An event, until it is accepted.
    async fn send(self: Rc<Self>, at: Duration, destination: usize, id: String) {
        sleep(at).await;
        loop {
            let instance = self.instance("receiver");
            let receiver = self.aws.receiver(&instance, self.gateway.clone());
            let webhook = Provider::StandardWebhooks.sign(b"{}", &id, SECRET, clock::now().seconds());
            let event = strangers::event("POST", &format!("d{destination}"), "", &webhook.headers, "{}", false);
            let answer = self.invoke(&instance, WORKER_TIMEOUT / 2, receiver.receive(&event, "request", clock::now())).await;
            if answer.is_some_and(|answer| (200..300).contains(&answer.status_code)) {
                self.accepted.borrow_mut().insert(format!("d{destination}#{id}"), clock::now());
                return;
            }
            sleep(Duration::from_secs(20)).await;
        }
    }

    /// What an operator does with a destination.
    async fn operate(self: Rc<Self>, index: usize) {
        let Temper::Paused(from, until) = self.plan.destinations[index].temper else { return };
        let ledger = Ledger::new(&self.aws.config("operator"), LEDGER_TABLE.to_owned());
        let name = DestinationName::parse(&format!("d{index}")).expect("a name");
        sleep(from).await;
        let pause = Pause { at: clock::now(), reason: "maintenance".to_owned(), by_person: true };
        if ledger.pause(&name, &pause).await.is_err() {
            self.violate("the operator could not pause".to_owned());
        }
        sleep(until - from).await;
        if ledger.resume(&name).await.is_err() {
            self.violate("the operator could not resume".to_owned());
        }
    }

    async fn poll(self: Rc<Self>) {
        while !self.ended.get() {
            let messages = self.aws.receive(DOORBELL_QUEUE, 1 + self.director.dice(BATCH_MAX) as usize);
            if messages.is_empty() {
                let visible = self.aws.next_visible_at(DOORBELL_QUEUE).map_or(MINUTE, |at| at.since(clock::now()));
                tokio::select! {
                    () = self.aws.queued() => {}
                    () = sleep(visible.clamp(Duration::from_millis(1), MINUTE)) => {}
                }
                continue;
            }
            if self.plan.sqs_repeats && self.director.dice(6) == 0 {
                let (world, id) = (self.clone(), messages[0].id.clone());
                let wait = Duration::from_millis(self.director.dice(3000));
                tokio::task::spawn_local(async move {
                    sleep(wait).await;
                    world.aws.hand_out_again(DOORBELL_QUEUE, &id);
                });
            }
            self.work(messages).await;
        }
    }

    async fn work(&self, mut messages: Vec<Message>) {
        let idle = self.idle.borrow_mut().pop();
        let (instance, worker) = idle.unwrap_or_else(|| {
            let instance = self.instance("worker");
            let (plan, aws) = (self.plan.clone(), self.aws.clone());
            let (director, seen) = (self.director.clone(), self.seen.clone());
            let tempers = Tempers { function: instance.clone(), plan, aws, director, seen };
            let worker = self.aws.worker(&instance, self.gateway.clone(), tempers, Handlers::new(Vec::new()));
            (instance, worker)
        });
        if self.plan.wrong == Some(Wrong::PollsForRoom) {
            messages.iter_mut().for_each(|message| message.receive_count = 1);
        }
        let request_id = format!("{instance}-at-{}", self.director.counts().0);
        let invocation = Invocation { request_id: &request_id, deadline: clock::now().plus(WORKER_TIMEOUT), now: clock::now };
        let working = worker.work(model::batch_of(&messages), invocation);
        let Some(Ok(response)) = self.invoke(&instance, WORKER_TIMEOUT, working).await else { return };
        self.idle.borrow_mut().push((instance, worker));
        let kept: BTreeSet<&str> = response.batch_item_failures.iter().map(|failure| failure.item_identifier.as_str()).collect();
        for message in messages.iter().filter(|message| !kept.contains(message.id.as_str())) {
            let is_held = self.plan.wrong == Some(Wrong::HeldInFlight) && self.waits_for_long(&message.body);
            if !is_held {
                self.aws.delete(DOORBELL_QUEUE, message.receipt_handle.as_deref().unwrap_or_default());
            }
        }
    }

    fn delivery_of(&self, body: &str) -> Option<Arc<Item>> {
        let doorbell: Doorbell = serde_json::from_str(body).ok()?;
        self.aws.item(LEDGER_TABLE, &doorbell.event_key().to_string(), &format!("delivery#{}", doorbell.destination))
    }

    fn waits_for_long(&self, body: &str) -> bool {
        let soon = clock::now().plus(MINUTE);
        self.delivery_of(body).is_some_and(|item| {
            text(&item, "status") == Some("waiting")
                && look_at(&item).is_some()
                && moment(&item, "next_at").is_some_and(|at| at > soon)
        })
    }

    fn is_settled(&self) -> bool {
        let accepted = self.accepted.borrow();
        let deliveries = self.deliveries();
        let done = deliveries.iter().filter(|item| is_final(item)).count();
        accepted.len() == self.plan.events.len() && done == accepted.len() && self.aws.messages(DOORBELL_QUEUE).is_empty()
    }

    fn deliveries(&self) -> Vec<Arc<Item>> {
        let mut items = self.aws.items(LEDGER_TABLE);
        items.retain(|item| text(item, "sk").is_some_and(|sk| sk.starts_with("delivery#")));
        items
    }

    // ---- What must hold ---------------------------------------------------------------------------------------------

    /// At every minute.
    fn check(&self) {
        let now = clock::now();
        let age = now.since(BEGINNING);
        let messages = self.aws.messages(DOORBELL_QUEUE);
        let kills = self.seen().kills;
        for message in &messages {
            // A function that dies leaves its batch to be handed out again.
            if message.receive_count > RECEIVES_MAX + kills {
                self.violate(format!("a message was handed out more than {RECEIVES_MAX} times: {}", message.body));
            }
            let is_in_flight = message.receipt_handle.is_some() && message.visible_at > now.plus(MINUTE);
            if is_in_flight && self.plan.is_calm() && self.waits_for_long(&message.body) {
                self.violate(format!("what waits for long holds a message: {}", message.body));
            }
        }
        let named: BTreeSet<String> = messages
            .iter()
            .filter_map(|message| serde_json::from_str::<Doorbell>(&message.body).ok())
            .map(|doorbell| doorbell.event_key().to_string())
            .collect();
        for item in self.deliveries() {
            let (Some(key), Some(name)) = (text(&item, "pk"), text(&item, "sk").and_then(|sk| sk.strip_prefix("delivery#")))
            else {
                continue;
            };
            let status = text(&item, "status").unwrap_or_default();
            let state = self.aws.item(LEDGER_TABLE, &format!("destination#{name}"), "state");
            match (is_final(&item), look_at(&item)) {
                (true, Some(_)) => self.violate(format!("{key} is {status}, and has an entry")),
                (true, None) => {}
                (false, Some(_)) if state.is_none_or(|state| !state.contains_key("waiting_until")) => {
                    self.violate(format!("{key} has an entry, and its destination is not registered"));
                }
                (false, Some(look_at)) => {
                    let is_rung = item.contains_key("looks") && status == "waiting";
                    let is_due = moment(&item, "next_at").is_some_and(|at| now > at.plus(2 * MINUTE));
                    let is_left = is_rung && is_due && look_at > now.plus(MINUTE) && !named.contains(key);
                    if is_left && self.plan.purged_at.is_none() && self.is_open(name) {
                        self.violate(format!("{key} was rung for, and there is no message"));
                    }
                }
                (false, None) => {
                    let received_at = moment(&item, "generation").unwrap_or(now);
                    let is_old = now > received_at.plus(15 * MINUTE) && age > self.plan.faults.over_after() + 5 * MINUTE;
                    if is_old && !named.contains(key) {
                        self.violate(format!("{key} is {status}, with neither entry nor message"));
                    }
                }
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_open(&self, name: &str) -> bool {
        let has = |attribute: &str| {
            let state = self.aws.item(LEDGER_TABLE, &format!("destination#{name}"), "state");
            state.and_then(|state| moment(&state, attribute))
        };
        let gate = if has("paused_at").is_some() { None } else { Some(has("open_until").map_or(Gate::Open, Gate::ClosedUntil)) };
        gate == Some(Gate::Open)
    }

    /// At the end.
    fn judge(&self) {
        let seen = self.seen();
        let accepted = self.accepted.borrow();
        if accepted.len() < self.plan.events.len() {
            self.violate(format!("only {} of {} events were accepted", accepted.len(), self.plan.events.len()));
        }
        let deliveries = self.deliveries();
        for (key, accepted_at) in accepted.iter() {
            let delivery = deliveries.iter().find(|item| text(item, "pk") == Some(key));
            let status = delivery.and_then(|item| text(item, "status")).unwrap_or("queued");
            let arrived = seen.arrived.get(key);
            if status != "done" || arrived.is_none() {
                self.violate(format!("stuck: {key} is {status}, and has {}arrived", if arrived.is_some() { "" } else { "not " }));
            }
            let took = arrived.map(|arrived| arrived.since(*accepted_at)).unwrap_or_default();
            if key.starts_with("d0#") && self.plan.is_calm() && took > HEALTHY_MAX {
                self.violate(format!("starved: {key} took {took:?}, to a healthy destination"));
            }
        }
        let letters = self.aws.messages(DEAD_LETTER_QUEUE).len();
        if letters > 0 {
            self.violate(format!("{letters} good deliveries are in the dead-letter queue"));
        }
        for (index, destination) in self.plan.destinations.iter().enumerate() {
            let times: Vec<Timestamp> = seen.attempts.iter().filter(|(of, _)| *of == index).map(|(_, at)| *at).collect();
            match destination.temper {
                Temper::Paused(from, until) => {
                    let (from, until) = (BEGINNING.plus(from + WORKER_TIMEOUT + Duration::from_secs(5)), BEGINNING.plus(until));
                    if times.iter().any(|at| *at > from && *at < until) {
                        self.violate(format!("d{index} was asked while it was paused"));
                    }
                }
                // Those of a minute, its burst, and those of the ten seconds before, whose moments are still good.
                Temper::Rated => {
                    let most =
                        times.iter().map(|at| times.iter().filter(|other| *other >= at && **other < at.plus(MINUTE)).count());
                    let most = most.max().unwrap_or_default();
                    if most > 5 {
                        self.violate(format!("d{index} was asked {most} times within a minute, at three a minute"));
                    }
                }
                _ => {}
            }
        }
    }
}
