//! One history: senders, functions, queues and destinations on one virtual clock.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use auditor::{AUDIT_DELAY_SECONDS, Account, OVERLAP_SECONDS, SECOND_LOOK_SECONDS};
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem, Update};
use receiver::Receiver;
use serde_json::{json, value::RawValue};
use shared::{
    config::Gateway,
    doorbell::Doorbell,
    event::Event,
    secrets::Keyring,
    signatures::UnverifiedWebhook,
    time::{DAY_SECONDS, Timestamp},
};
use tokio::time::{sleep, timeout};
use worker::{Failure, Handler, Handlers, Invocation, OnRefused, Worker};

use super::{
    clock::{self, BEGINNING},
    destination::{Journal, SimulatedExchange},
    director::{Director, Kind},
    plan::{Plan, Webhook},
    wrong::Wrong,
};
use crate::model::{self, Aws, Fate, Latency, Settings};

/// Lambda's own bounds, as the template sets them.
const RECEIVER_TIMEOUT: Duration = Duration::from_secs(29);
const WORKER_TIMEOUT: Duration = Duration::from_secs(60);
const AUDITOR_TIMEOUT: Duration = Duration::from_secs(55);
const REDRIVE_TIMEOUT: Duration = Duration::from_secs(900);
const DISPATCHER_TIMEOUT: Duration = Duration::from_secs(55);
/// How often the schedule starts the dispatcher.
const EVERY_MINUTE: Duration = Duration::from_secs(60);
/// How long is waited at the most until nothing waits any more: then something is stuck.
const QUIET_MAX: Duration = Duration::from_secs(DAY_SECONDS);
/// How long nobody looks at an empty queue.
const IDLE: Duration = Duration::from_secs(60);
/// Batches that SQS has in the workers' hands at the same time.
const POLLERS: usize = 2;
/// Messages of one batch, at most.
const BATCH_MAX: u64 = 10;
/// Characters of a large body: six bits of each remain, and more than 350 KB go to the bucket.
const FILLER_CHARS: usize = 520_000;
/// Audits that may be needed until everything is accounted for, before a history counts as stuck.
const AUDITS_MAX: usize = 40;
/// Redrives that may be needed until nothing is dead.
const REDRIVES_MAX: usize = 20;
/// How many of them come whether or not anything is still down.
const REDRIVES_EARLY: usize = 2;

/// As Standard Webhooks wants it, in base64; the other schemes take any text.
const SECRET: &str = "bWFkZS11cC1zZWNyZXQtb2YtdGhlLXNpbXVsYXRpb24=";
pub(super) const LEDGER: &str = model::LEDGER_TABLE;
pub(super) const CUSTOMERS: &str = model::CUSTOMERS_TABLE;
pub(super) const DOORBELLS: &str = model::DOORBELL_QUEUE;
pub(super) const DEAD_LETTERS: &str = model::DEAD_LETTER_QUEUE;

const GATEWAY: &str = r#"
[sources.partner]
scheme = "standard-webhooks"
secret = "shared"
[sources.github]
scheme = "github"
secret = "shared"
[sources.shopify]
scheme = "shopify"
secret = "shared"
on_conflict = "latest"
[sources.guarded]
scheme = "standard-webhooks"
secret = "shared"

[destinations.one]
type = "http"
url = "https://destination.example/one"
secret = "shared"
backoff_seconds = [5, 30, 120]
[destinations.two]
type = "http"
url = "https://destination.example/two"
secret = "shared"
backoff_seconds = [5, 30, 120]
[destinations.customers]
type = "handler"
handler = "customers"
backoff_seconds = [5, 30, 120]
[destinations.guarded]
type = "http"
url = "https://destination.example/guarded"
secret = "shared"
backoff_seconds = [5, 30, 120]
rate = { requests = 2, burst = 2 }
concurrency = 1
circuit = { consecutive = 2, wait_seconds = 10 }

[[routes]]
source = "partner"
destination = "one"
[[routes]]
source = "partner"
destination = "two"
[[routes]]
source = "github"
destination = "one"
[[routes]]
source = "shopify"
destination = "customers"
[[routes]]
source = "guarded"
destination = "guarded"
order = { key = ".type", version = ".version" }
"#;

thread_local! {
    static PARSED: Gateway = gateway();
}

/// The configuration, with a dedupe horizon that histories pass: no file may set one as short, since a dead letter outlives it.
fn gateway() -> Gateway {
    let mut gateway = Gateway::parse(GATEWAY, "the simulation's gateway.toml").expect("it is checked by every history");
    gateway.sources.values_mut().for_each(|source| source.dedupe = Duration::from_secs(DAY_SECONDS));
    gateway
}

/// The body of a webhook; it does not have the id, so that what is captured can be sent again under another.
pub(super) fn body_of(webhook: &Webhook) -> String {
    match webhook.source {
        "shopify" => {
            let digits = webhook.text.bytes().filter(u8::is_ascii_digit);
            let customer = digits.fold(1, |number: u64, digit| number.wrapping_mul(10) + u64::from(digit - b'0'));
            let updated_at = BEGINNING.to_rfc3339();
            json!({"customer": {"id": customer, "email": webhook.text, "updated_at": updated_at}}).to_string()
        }
        "guarded" => {
            json!({"type": "simulated", "version": version_of(webhook), "text": webhook.text, "filler": filler(webhook)})
                .to_string()
        }
        _ => json!({"type": "simulated", "text": webhook.text, "filler": filler(webhook)}).to_string(),
    }
}

/// Which state a webhook of the source `guarded` tells of the one thing that they are all about: its number.
pub(super) fn version_of(webhook: &Webhook) -> u64 {
    let digits: String = webhook.text.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_default()
}

/// Nothing; or, for a large body, so much of what cannot be compressed that it goes to the bucket.
fn filler(webhook: &Webhook) -> String {
    if !webhook.large {
        return String::new();
    }
    let mut rng = fastrand::Rng::with_seed(webhook.text.bytes().map(u64::from).sum());
    (0..FILLER_CHARS).map(|_| rng.alphanumeric()).collect()
}

/// A handler whose effect can be counted.
struct Tally;

impl Handler for Tally {
    fn name(&self) -> &'static str {
        "customers"
    }

    fn handle(&self, event: &Event, _: &[u8]) -> Result<Vec<TransactWriteItem>, Failure> {
        let update = Update::builder()
            .table_name(CUSTOMERS)
            .key("pk", AttributeValue::S(event.key.to_string()))
            .update_expression("ADD times :one")
            .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
            .build()
            .map_err(|error| Failure::Permanent(error.to_string()))?;
        Ok(vec![TransactWriteItem::builder().update(update).build()])
    }

    fn on_refused(&self) -> OnRefused {
        OnRefused::Dead
    }
}

fn service_name(service: model::Service) -> &'static str {
    match service {
        model::Service::DynamoDb => "dynamodb",
        model::Service::Sqs => "sqs",
        model::Service::S3 => "s3",
        model::Service::SecretsManager => "secretsmanager",
    }
}

/// What became of a history, for the verdict.
#[derive(Debug)]
pub struct Outcome {
    /// Webhooks that were answered 2xx, with the first such moment.
    pub accepted: Vec<(Webhook, Timestamp)>,
    /// What arrived at HTTP destinations.
    pub journal: Journal,
    /// The account, with its ledger and queues.
    pub aws: Aws,
    /// The last audit's account of everything.
    pub account: Account,
    /// What was seen to go wrong on the way.
    pub violations: Vec<String>,
    /// Calls and faults.
    pub counts: (u64, u64),
    /// What each call did.
    pub kinds: Vec<Kind>,
    /// The trace, if it was asked for.
    pub trace: Vec<String>,
}

/// A sender that has something to send, until it is dropped.
struct Counted(Rc<World>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.senders.set(self.0.senders.get() - 1);
        if std::thread::panicking() {
            self.0.violate("a sender panicked".to_owned());
        }
    }
}

/// The running history.
pub(super) struct World {
    plan: Plan,
    gateway: Gateway,
    aws: Aws,
    director: Director,
    journal: Journal,
    idle_receivers: RefCell<Vec<(String, Receiver)>>,
    idle_workers: RefCell<Vec<(String, Worker<SimulatedExchange>)>>,
    instances: Cell<u64>,
    senders: Cell<usize>,
    busy: Cell<usize>,
    accepted: RefCell<Vec<(Webhook, Timestamp)>>,
    violations: RefCell<Vec<String>>,
    /// Deliveries that were seen to be done, with their run.
    done: RefCell<BTreeMap<(String, String), String>>,
    /// The first look that is due, as it was after so many calls.
    seen: Cell<(u64, Option<Timestamp>)>,
    ended: Cell<bool>,
}

/// Runs a history to its end.
pub(super) async fn run(plan: Plan, traced: bool) -> Outcome {
    clock::start();
    fastrand::seed(plan.seed);
    let director = Director::new(plan.faults.clone(), plan.seed, traced);
    let aws = Aws::new(Settings::posthouse(), clock::now);
    aws.put_signing_secret("shared", SECRET);
    aws.lag(Duration::ZERO, plan.index_lag);
    let dice = director.clone();
    let pace = director.clone();
    aws.latency(move |_| Latency { before: pace.moment(), after: pace.moment() });
    aws.on_receive(move |messages| dice.dice(messages as u64) as usize);
    let wrong = plan.wrong;
    let mut gateway = PARSED.with(Clone::clone);
    // What nothing comes from would only be audited.
    gateway.sources.retain(|name, _| plan.webhooks.iter().any(|webhook| webhook.source == name.as_str()));
    let deciding = director.clone();
    aws.on_call(move |call| match deciding.decide(&call.function, service_name(call.service), &call.operation) {
        Fate::Succeed if wrong == Some(Wrong::FinishUnconditional) => Fate::SucceedDespite { condition: "#owner = :owner" },
        fate => fate,
    });
    let world = Rc::new(World {
        plan,
        gateway,
        aws,
        director,
        journal: Journal::default(),
        idle_receivers: RefCell::default(),
        idle_workers: RefCell::default(),
        instances: Cell::new(0),
        senders: Cell::new(0),
        busy: Cell::new(0),
        accepted: RefCell::default(),
        violations: RefCell::default(),
        done: RefCell::default(),
        seen: Cell::new((u64::MAX, None)),
        ended: Cell::new(false),
    });
    let account = world.clone().live().await;
    Outcome {
        accepted: world.accepted.borrow().clone(),
        journal: world.journal.clone(),
        aws: world.aws.clone(),
        account,
        violations: world.violations.borrow().clone(),
        counts: world.director.counts(),
        kinds: world.director.kinds(),
        trace: world.director.trace(),
    }
}

impl World {
    async fn live(self: Rc<Self>) -> Account {
        for webhook in self.plan.webhooks.clone() {
            for _ in 0..webhook.copies {
                self.senders.set(self.senders.get() + 1);
                let (world, webhook) = (self.clone(), webhook.clone());
                tokio::task::spawn_local(async move { world.send(webhook).await });
            }
        }
        let pollers: Vec<_> = (0..POLLERS).map(|_| tokio::task::spawn_local(self.clone().poll())).collect();
        for at in self.plan.audits.clone() {
            let world = self.clone();
            tokio::task::spawn_local(async move {
                sleep(at).await;
                world.audit().await;
            });
        }
        tokio::task::spawn_local(self.clone().schedule());
        let account = self.settle().await;
        self.ended.set(true);
        for poller in pollers {
            // A poller that panicked is a bug of the simulation, or of a function outside its own guard.
            if let Err(error) = poller.await {
                self.violate(format!("a poller ended: {error}"));
            }
        }
        account
    }

    fn violate(&self, what: String) {
        self.director.note(|| format!("VIOLATION {what}"));
        self.violations.borrow_mut().push(what);
    }

    fn instance(&self, function: &str) -> String {
        self.instances.set(self.instances.get() + 1);
        format!("{function}-{}", self.instances.get())
    }

    /// Runs an invocation until it answers, is killed, or takes longer than Lambda lets it. `None`: it never answered.
    async fn invoke<T>(&self, instance: &str, bound: Duration, invocation: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.aws.killed(instance) => None,
            answered = timeout(bound, invocation) => answered.ok(),
        }
    }

    // ---- Senders ----------------------------------------------------------------------------------------------------

    async fn send(self: Rc<Self>, webhook: Webhook) {
        let _counted = Counted(self.clone());
        sleep(webhook.at).await;
        let mut waits = webhook.persistence.waits().iter();
        loop {
            let status = self.receive(&webhook).await;
            self.director.note(|| format!("{} {}: sender got {status:?}", webhook.source, webhook.id));
            match status {
                Some(200..=299) => {
                    if !webhook.genuine {
                        self.violate(format!("forged webhook {} was accepted", webhook.id));
                    }
                    self.accepted.borrow_mut().push((webhook, clock::now()));
                    break;
                }
                Some(400..=499) => {
                    if webhook.genuine {
                        self.violate(format!("genuine webhook {} was refused: {status:?}", webhook.id));
                    }
                    break;
                }
                Some(503) | None => {}
                Some(other) => self.violate(format!("{}: answered {other}", webhook.id)),
            }
            match waits.next() {
                Some(wait) => sleep(*wait).await,
                None => break,
            }
        }
    }

    /// One request through API Gateway, which answers 503 for a function that did not.
    async fn receive(&self, webhook: &Webhook) -> Option<i64> {
        let now = clock::now();
        let event = self.request(webhook, now);
        if matches!(self.plan.wrong, Some(Wrong::TtlTrusted | Wrong::DuplicatesDropped)) && self.has_event(webhook) {
            return Some(200);
        }
        let idle = self.idle_receivers.borrow_mut().pop();
        let (instance, receiver) = idle.unwrap_or_else(|| self.new_receiver());
        let before = self.director.counts().0;
        let answered =
            self.invoke(&instance, RECEIVER_TIMEOUT, receiver.receive(&event, &format!("request-{before}"), now)).await;
        let status = answered.map(|answer| answer.status_code);
        let unrung = self.director.has_sent(&instance) == Some(false);
        if self.plan.wrong == Some(Wrong::DeletedWhenNotRung) && status == Some(202) && unrung {
            self.aws.remove_item(LEDGER, &format!("{}#{}", webhook.source, webhook.id), "event");
            self.idle_receivers.borrow_mut().push((instance, receiver));
            return Some(503);
        }
        if status.is_some() {
            self.idle_receivers.borrow_mut().push((instance, receiver));
        }
        status
    }

    fn has_event(&self, webhook: &Webhook) -> bool {
        self.aws.item(LEDGER, &format!("{}#{}", webhook.source, webhook.id), "event").is_some()
    }

    fn request(&self, webhook: &Webhook, now: Timestamp) -> Box<RawValue> {
        let body = body_of(webhook);
        let id_header = match webhook.source {
            "partner" | "guarded" => "webhook-id",
            "github" => "x-github-delivery",
            _ => "x-shopify-webhook-id",
        };
        let headers = [(id_header.to_owned(), webhook.id.clone()), ("content-type".to_owned(), "application/json".to_owned())];
        let url = format!("https://simulated.example/v1/webhooks/{}", webhook.source);
        let mut signed = UnverifiedWebhook::new(http::Method::POST, &url, &headers, body.clone().into_bytes());
        let secret = if webhook.genuine { SECRET } else { "bWFkZS11cC1zZWNyZXQtb2YtYS1mb3JnZXI=" };
        let keyring = Keyring::parse(secret).expect("a text is a keyring");
        let source = self.gateway.sources.values().find(|source| source.name.as_str() == webhook.source);
        let scheme = &source.expect("a source of the plan").scheme;
        scheme.sign(&mut signed, &keyring, now).expect("these schemes are symmetric");
        let headers: BTreeMap<&str, &str> =
            signed.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default())).collect();
        let event = json!({
            "version": "2.0", "rawPath": format!("/v1/webhooks/{}", webhook.source), "rawQueryString": "",
            "headers": headers, "pathParameters": {"source": webhook.source},
            "requestContext": {"http": {"method": "POST"}, "domainName": "simulated.example"},
            "body": body, "isBase64Encoded": false,
        });
        serde_json::value::to_raw_value(&event).expect("JSON is JSON")
    }

    fn new_receiver(&self) -> (String, Receiver) {
        let instance = self.instance("receiver");
        let receiver = self.aws.receiver(&instance, self.gateway.clone());
        (instance, receiver)
    }

    // ---- SQS and the workers ----------------------------------------------------------------------------------------

    /// Takes batches as Lambda's event source does: what an invocation does not name as failed is deleted.
    async fn poll(self: Rc<Self>) {
        while !self.ended.get() {
            let most = 1 + self.director.dice(BATCH_MAX) as usize;
            let messages = self.aws.receive(DOORBELLS, most);
            if messages.is_empty() {
                self.doorbell().await;
                continue;
            }
            if self.plan.sqs_repeats && self.director.dice(4) == 0 {
                self.repeat_later(messages[0].id.clone());
            }
            self.busy.set(self.busy.get() + 1);
            self.work(messages).await;
            self.busy.set(self.busy.get() - 1);
            self.watch_done();
        }
    }

    /// Until a doorbell may be there.
    async fn doorbell(&self) {
        let visible = self.aws.next_visible_at(DOORBELLS).map_or(IDLE, |at| at.since(clock::now()));
        tokio::select! {
            () = self.aws.queued() => {}
            () = sleep(visible.clamp(Duration::from_millis(1), IDLE)) => {}
        }
    }

    /// SQS may hand out a message again at any time.
    fn repeat_later(self: &Rc<Self>, id: String) {
        let (world, wait) = (self.clone(), Duration::from_millis(self.director.dice(3000)));
        tokio::task::spawn_local(async move {
            sleep(wait).await;
            world.aws.hand_out_again(DOORBELLS, &id);
        });
    }

    async fn work(&self, messages: Vec<model::Message>) {
        let (kept, dropped): (Vec<_>, Vec<_>) = messages.into_iter().partition(|message| {
            let replay = serde_json::from_str::<Doorbell>(&message.body).map_or(0, |doorbell| doorbell.replay);
            !(self.plan.wrong == Some(Wrong::RedriveDropped) && replay > 0)
        });
        dropped.iter().for_each(|message| self.acknowledge(message));
        let batch = model::batch_of(&kept);
        if batch.records.is_empty() {
            return;
        }
        let idle = self.idle_workers.borrow_mut().pop();
        let (instance, worker) = idle.unwrap_or_else(|| self.new_worker());
        let request_id = format!("{instance}-at-{}", self.director.counts().0);
        let ahead = self.plan.clocks_differ && instance.ends_with(['1', '3', '5', '7', '9']);
        let now: fn() -> Timestamp = if ahead { clock::now_ahead } else { clock::now };
        let invocation = Invocation { request_id: &request_id, deadline: now().plus(WORKER_TIMEOUT), now };
        // Killed or out of time, it named nothing: all come again after the visibility timeout.
        let Some(answered) = self.invoke(&instance, WORKER_TIMEOUT, worker.work(batch, invocation)).await else { return };
        self.idle_workers.borrow_mut().push((instance, worker));
        let Ok(response) = answered else {
            self.violate("a batch of SQS was not read".to_owned());
            return;
        };
        let failed: BTreeSet<&str> =
            response.batch_item_failures.iter().map(|failure| failure.item_identifier.as_str()).collect();
        for message in &kept {
            let held = self.plan.wrong == Some(Wrong::HeldLeaseAcknowledged) && self.is_held(&message.body);
            if !failed.contains(message.id.as_str()) || held {
                self.acknowledge(message);
            }
        }
    }

    fn acknowledge(&self, message: &model::Message) {
        self.aws.delete(DOORBELLS, message.receipt_handle.as_deref().unwrap_or_default());
    }

    fn is_held(&self, body: &str) -> bool {
        let Ok(doorbell) = serde_json::from_str::<Doorbell>(body) else { return false };
        let item = self.aws.item(LEDGER, &doorbell.event_key().to_string(), &format!("delivery#{}", doorbell.destination));
        item.is_some_and(|item| item.get("status").and_then(model::Value::text) == Some("processing"))
    }

    fn new_worker(&self) -> (String, Worker<SimulatedExchange>) {
        let instance = self.instance("worker");
        let exchange = SimulatedExchange {
            function: instance.clone(),
            aws: self.aws.clone(),
            director: self.director.clone(),
            journal: self.journal.clone(),
            slow: self.plan.slow_destinations,
        };
        let handlers = Handlers::new(vec![Box::new(Tally)]);
        let worker = self.aws.worker(&instance, self.gateway.clone(), exchange, handlers);
        (instance, worker)
    }

    /// Done is done: a delivery that was done and is no longer, in the same run of the same event, was undone.
    fn watch_done(&self) {
        let mut known = self.done.borrow_mut();
        for delivery in super::verdict::deliveries(&self.aws) {
            let run = format!("{}/{}", delivery.generation, delivery.replay);
            let key = (delivery.event.clone(), delivery.destination.clone());
            if delivery.status == "done" {
                known.insert(key, run);
            } else if known.get(&key) == Some(&run) {
                self.violate(format!("{} to {} was done, and is {} now", delivery.event, delivery.destination, delivery.status));
                known.remove(&key);
            }
        }
    }

    // ---- The dispatcher ---------------------------------------------------------------------------------------------

    /// Starts the dispatcher at every minute at which something is due until the next one; at any other it would do nothing.
    async fn schedule(self: Rc<Self>) {
        while !self.ended.get() {
            let age = clock::now().since(BEGINNING).as_millis() as u64;
            let minute = EVERY_MINUTE.as_millis() as u64;
            sleep(Duration::from_millis(minute - age % minute)).await;
            let is_due = self.next_look().is_some_and(|at| at <= clock::now().plus(EVERY_MINUTE));
            if !is_due || clock::now().since(BEGINNING) < self.plan.dispatched_after {
                continue;
            }
            for _ in 0..if self.plan.doubled_schedules { 2 } else { 1 } {
                tokio::task::spawn_local(self.clone().dispatch());
            }
        }
    }

    /// When somebody must look at the first delivery that waits: read anew only when something may have changed.
    fn next_look(&self) -> Option<Timestamp> {
        let calls = self.director.counts().0;
        if let (seen, at) = self.seen.get()
            && seen == calls
        {
            return at;
        }
        let at = super::verdict::next_look(&self.aws);
        self.seen.set((calls, at));
        at
    }

    async fn dispatch(self: Rc<Self>) {
        let instance = self.instance("dispatcher");
        let dispatcher = self.aws.dispatcher(&instance, self.gateway.clone(), POLLERS as u32);
        let deadline = clock::now().plus(DISPATCHER_TIMEOUT);
        self.busy.set(self.busy.get() + 1);
        let report = self.invoke(&instance, DISPATCHER_TIMEOUT, dispatcher.run(&instance, deadline, clock::now)).await;
        self.busy.set(self.busy.get() - 1);
        self.director.note(|| format!("dispatcher: {report:?}"));
    }

    // ---- Audits, redrives, and the end -------------------------------------------------------------------------------

    /// One audit. The idle minutes before it are skipped: an audit of a window without events moves the watermark and nothing else.
    async fn audit(&self) -> Option<Account> {
        if !self.plan.audited {
            return None;
        }
        self.skip_idle_windows();
        let instance = self.instance("auditor");
        let auditor = self.aws.auditor(&instance, self.gateway.clone());
        let deadline = clock::now().plus(AUDITOR_TIMEOUT);
        if self.plan.wrong == Some(Wrong::WatermarkFirst) {
            self.set_watermark(clock::now().minus(Duration::from_secs(AUDIT_DELAY_SECONDS)), true);
        }
        let audited = self.invoke(&instance, AUDITOR_TIMEOUT, auditor.audit(deadline, clock::now)).await;
        let account = audited.and_then(Result::ok);
        self.director.note(|| format!("audit: {account:?}"));
        account
    }

    fn skip_idle_windows(&self) {
        let until = clock::now().minus(Duration::from_secs(AUDIT_DELAY_SECONDS));
        let Some(watermark) = super::verdict::watermark(&self.aws) else {
            self.set_watermark(BEGINNING.minus(Duration::from_secs(1)), false);
            return;
        };
        let second = Duration::from_secs(SECOND_LOOK_SECONDS);
        let interesting = super::verdict::events(&self.aws)
            .into_iter()
            .flat_map(|event| [event.received_at, event.received_at.plus(second)])
            .filter(|at| at.plus(Duration::from_secs(OVERLAP_SECONDS)) >= watermark)
            .min();
        let next = interesting.unwrap_or(until).min(until);
        if next > watermark {
            self.set_watermark(next, false);
        }
    }

    fn set_watermark(&self, until: Timestamp, only_forward: bool) {
        if only_forward && super::verdict::watermark(&self.aws).is_some_and(|watermark| watermark >= until) {
            return;
        }
        super::verdict::put_watermark(&self.aws, until);
    }

    /// Waits until nobody has anything to do, and audits and redrives until everything is done. The last account is the whole ledger's.
    async fn settle(&self) -> Account {
        self.quiet().await;
        self.bring_on().await;
        self.check_dead_letters();
        for number in 0..REDRIVES_MAX {
            if self.aws.messages(DEAD_LETTERS).is_empty() {
                break;
            }
            // Then the operator waits until what is down is up again.
            if number == REDRIVES_EARLY {
                self.all_is_up().await;
            }
            self.redrive().await;
            self.quiet().await;
            // What was redriven may have been paused.
            self.bring_on().await;
        }
        self.check_dead_letters();
        super::verdict::account(&self.aws)
    }

    /// Audits until everything is done or dead; the operator resumes what was paused.
    async fn bring_on(&self) {
        let mut looked_twice = false;
        for _ in 0..AUDITS_MAX {
            let unsettled = super::verdict::unsettled(&self.aws);
            if unsettled.is_empty() {
                break;
            }
            self.resume().await;
            // The next audit that sees them: of their own window, then an hour later, then with every quarter of an hour.
            let wait = if looked_twice { 15 * 60 + 1 } else { AUDIT_DELAY_SECONDS + 60 };
            let newest = unsettled.iter().map(|event| event.received_at).max().unwrap_or(BEGINNING);
            let seen = newest.plus(Duration::from_secs(wait));
            sleep(seen.since(clock::now()).max(Duration::from_secs(wait))).await;
            self.audit().await;
            self.quiet().await;
            if !looked_twice && !super::verdict::unsettled(&self.aws).is_empty() {
                let hour = newest.plus(Duration::from_secs(SECOND_LOOK_SECONDS + AUDIT_DELAY_SECONDS + 60));
                sleep(hour.since(clock::now())).await;
                self.audit().await;
                self.quiet().await;
                looked_twice = true;
            }
        }
    }

    /// The operator mends the credentials that destinations refused, and says so: what waited goes on by itself.
    async fn resume(&self) {
        let paused = super::verdict::paused(&self.aws);
        if !paused.is_empty() {
            self.all_is_up().await;
            self.director.note(|| format!("resumed: {paused:?}"));
            for destination in paused {
                super::verdict::resume(&self.aws, &destination);
            }
            self.seen.set((u64::MAX, None));
        }
    }

    /// Until nothing is down any more.
    async fn all_is_up(&self) {
        sleep(self.plan.faults.over_after().saturating_sub(clock::now().since(BEGINNING))).await;
    }

    fn check_dead_letters(&self) {
        for missing in super::verdict::dead_without_letter(&self.aws) {
            self.violate(missing);
        }
    }

    async fn redrive(&self) {
        let instance = self.instance("redrive");
        let function = self.aws.redrive(&instance);
        let plan = redrive::Plan::read(json!({"all": true})).expect("a plan");
        let deadline = clock::now().plus(REDRIVE_TIMEOUT);
        let report = self.invoke(&instance, REDRIVE_TIMEOUT, function.run(&plan, deadline, clock::now)).await;
        self.director.note(|| format!("redrive: {report:?}"));
        // Letters in the hands of a redrive that was killed are seen again when its hold is over.
        if let Some(at) = self.aws.next_visible_at(DEAD_LETTERS) {
            sleep(at.since(clock::now())).await;
        }
    }

    /// Until no sender has anything left to send, no worker works, no doorbell waits, and no delivery but before a destination that is
    /// paused.
    async fn quiet(&self) {
        let until = clock::now().plus(QUIET_MAX);
        while self.senders.get() > 0 || clock::now() < until {
            let waiting = self.aws.next_visible_at(DOORBELLS);
            let next_look = self.next_look();
            if self.senders.get() == 0 && self.busy.get() == 0 && waiting.is_none() && next_look.is_none() {
                return;
            }
            let waiting = [waiting, next_look].into_iter().flatten().min();
            let wait = waiting.map_or(Duration::from_secs(1), |at| at.since(clock::now()));
            sleep(wait.clamp(Duration::from_millis(20), Duration::from_secs(60))).await;
        }
    }
}
