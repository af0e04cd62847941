//! A model of AWS: one account's tables, queues, bucket and secrets, in memory, with AWS's semantics and with faults on demand.
//!
//! It is an HTTP client of the AWS SDK ([`Aws::config`]), so the code above it is the real one down to the SDK's serialisation,
//! retries and timeouts. Nothing in it reads a clock or draws a random number: the time comes from the function that it is made
//! with, and every choice that AWS leaves open (which message comes next, how far an index lags, whether an answer arrives) is
//! made by whoever made the model. On tokio's paused clock whole histories run in no time.
//!
//! ```text
//!   function ── SDK client ──▶ config(function) ──▶ fate of the call ──▶ tables, queues, bucket, secrets ◀── the world
//! ```
//!
//! - [`Aws::on_call`] decides what becomes of each call: it may fail before or after its effect, hang, or kill its caller.
//! - [`Aws::latency`] says how long calls take, so that functions that run at the same time meet in every order.
//! - The world's own side, from [`Aws::put_secret`] on, is subject to neither.
//!
//! What the model does is what AWS documents; `tests/contracts/` runs the same tests against it, against the local AWS, and, if
//! asked, against a real account. What it does not know panics by its name, and from then on every use of the model does, since
//! a worker survives panics.
//!
//! # Histories that can be told again
//!
//! The SDK draws random numbers (its jitter between tries, tokens of idempotent requests) from `fastrand`'s generator of the
//! thread: seed it (`fastrand::seed`) at the beginning of a history. Its budget of retries is shared by the whole process, for
//! each service and region; [`Aws::config`] gives each caller a region whose budget is nearly whole, so that it never decides.

mod budget;
mod dynamodb;
mod functions;
mod http;
mod s3;
mod secrets;
mod sqs;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_config::{AppName, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use bytes::Bytes;
use shared::{
    aws::{self, CallTimeouts},
    time::Timestamp,
};
use tokio::sync::Notify;

pub use dynamodb::{IndexSettings, Item, Keys, Number, TableSettings, Value};
pub use functions::{SECRETS_PREFIX, batch, batch_of, parts};
pub use sqs::{IN_FLIGHT_MAX, Message, QueueCounts, QueueSettings};

use self::{
    budget::Budget,
    dynamodb::DynamoDb,
    http::{Answer, Request},
    s3::S3,
    secrets::Secrets,
    sqs::{Receive, Sqs},
};

/// The ledger's table in [`Settings::posthouse`].
pub const LEDGER_TABLE: &str = "ledger";
/// The table of what was signed in [`Settings::posthouse`].
pub const CONTENT_TABLE: &str = "content";
/// The customers handler's table in [`Settings::posthouse`].
pub const CUSTOMERS_TABLE: &str = "customers";
/// The doorbell queue in [`Settings::posthouse`].
pub const DOORBELL_QUEUE: &str = "doorbells";
/// The dead-letter queue in [`Settings::posthouse`].
pub const DEAD_LETTER_QUEUE: &str = "dead-letters";
/// The bucket of bodies in [`Settings::posthouse`].
pub const BODIES_BUCKET: &str = "bodies";

/// One account.
#[derive(Clone)]
pub struct Aws(Arc<Account>);

/// How an account is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its tables.
    pub tables: Vec<TableSettings>,
    /// Its queues.
    pub queues: Vec<QueueSettings>,
    /// Its buckets.
    pub buckets: Vec<String>,
    /// How far indexes lag behind their table.
    pub index_lag: Duration,
    /// How far eventually consistent reads of a table lag behind it.
    pub read_lag: Duration,
}

impl Settings {
    /// What `infra/template.yaml` has, under the names that are constants here; nothing lags.
    #[must_use]
    pub fn posthouse() -> Self {
        let two_weeks = Duration::from_secs(14 * 24 * 60 * 60);
        Self {
            tables: vec![
                ledger_table(LEDGER_TABLE),
                content_table(CONTENT_TABLE),
                TableSettings { name: CUSTOMERS_TABLE.to_owned(), keys: Keys::new("pk", None), indexes: Vec::new(), ttl: None },
            ],
            queues: vec![
                QueueSettings {
                    name: DOORBELL_QUEUE.to_owned(),
                    visibility: Duration::from_secs(360),
                    retention: two_weeks,
                    redrive: Some((DEAD_LETTER_QUEUE.to_owned(), 1000)),
                    is_fifo: false,
                    in_flight_max: IN_FLIGHT_MAX,
                },
                QueueSettings {
                    name: DEAD_LETTER_QUEUE.to_owned(),
                    visibility: Duration::from_secs(30),
                    retention: two_weeks,
                    redrive: None,
                    is_fifo: false,
                    in_flight_max: IN_FLIGHT_MAX,
                },
            ],
            buckets: vec![BODIES_BUCKET.to_owned()],
            index_lag: Duration::ZERO,
            read_lag: Duration::ZERO,
        }
    }

    /// The same with `DoorbellQueueType=fifo`.
    #[must_use]
    pub fn fifo() -> Self {
        let mut settings = Self::posthouse();
        settings.queues.iter_mut().for_each(|queue| queue.is_fifo = true);
        settings
    }
}

/// The table of what was signed as the template makes it, under a name.
#[must_use]
pub fn content_table(name: &str) -> TableSettings {
    let ttl = Some("expires_at".to_owned());
    TableSettings { name: name.to_owned(), keys: Keys::new("pk", None), indexes: Vec::new(), ttl }
}

/// The ledger's table as the template makes it, under a name.
#[must_use]
pub fn ledger_table(name: &str) -> TableSettings {
    let index = |name: &str, includes: &[&str]| IndexSettings {
        name: name.to_owned(),
        keys: Keys::new(&format!("{name}_pk"), Some(&format!("{name}_sk"))),
        includes: Some(includes.iter().map(|name| (*name).to_owned()).collect()),
    };
    TableSettings {
        name: name.to_owned(),
        keys: Keys::new("pk", Some("sk")),
        indexes: vec![index("by_time", &["type", "destinations", "expires_at"]), index("attention", &[])],
        ttl: Some("expires_at".to_owned()),
    }
}

/// One call of a function to AWS: each try of the SDK is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Who calls, as given to [`Aws::config`].
    pub function: String,
    /// What is called.
    pub service: Service,
    /// What it is asked to do, as `PutItem`.
    pub operation: String,
    /// Which call of the account's history this is, counted from 1.
    pub number: u64,
}

/// A service of AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Tables.
    DynamoDb,
    /// Queues.
    Sqs,
    /// Objects.
    S3,
    /// Secrets.
    SecretsManager,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It does what it should and is answered.
    Succeed,
    /// As [`Fate::Succeed`], but an update whose condition has these words is made whether it holds or not: for showing that a test finds
    /// that.
    SucceedDespite {
        /// A part of the condition.
        condition: &'static str,
    },
    /// A request with these words fails with an error of the service; any other succeeds.
    Refuse {
        /// A part of the request's body.
        words: &'static str,
    },
    /// A request with these words does nothing, and is answered as if it had; any other succeeds.
    Pretend {
        /// A part of the request's body.
        words: &'static str,
    },
    /// It does nothing and fails.
    FailBefore(Failure),
    /// It does what it should, and the caller is told that it failed.
    FailAfter(Failure),
    /// It is never answered.
    Hang {
        /// Whether it does what it should.
        after_effect: bool,
    },
    /// Its caller ends here: neither this call nor any other one of the caller is ever answered, see [`Aws::killed`].
    Kill {
        /// Whether it does what it should.
        after_effect: bool,
    },
    /// It is answered, but not for all: the entries of a batch whose bits are set fail, and such keys of a BatchGetItem are left
    /// unprocessed. Of other calls nothing is left out.
    Partly {
        /// Bit 0 is the first entry.
        left_out: u64,
    },
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection breaks.
    ConnectionReset,
    /// The service's answer to an error of its own, with a status of 500.
    InternalError,
    /// The service's own throttling error.
    Throttled,
    /// Another transaction has the same items just now. Of anything but a TransactWriteItems: throttled.
    Contended,
}

/// How long a call takes, on tokio's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Until its effect.
    pub before: Duration,
    /// From its effect to its answer.
    pub after: Duration,
}

/// A call that takes as long may run into the shortest timeout of a try.
const SLOW: Duration = Duration::from_secs(1);

type Decide = Box<dyn FnMut(&Call) -> Fate + Send>;
type Draw = Box<dyn FnMut(&Call) -> Latency + Send>;

struct Account {
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    decide: Mutex<Option<Decide>>,
    draw: Mutex<Option<Draw>>,
    state: Mutex<State>,
    /// Something came into a queue.
    queued: Notify,
    /// A function was killed.
    killed: Notify,
}

#[derive(Debug)]
struct State {
    dynamodb: DynamoDb,
    sqs: Sqs,
    s3: S3,
    secrets: Secrets,
    calls: u64,
    counts: BTreeMap<(Service, String), u64>,
    killed: BTreeSet<String>,
}

impl fmt::Debug for Aws {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Aws").finish_non_exhaustive()
    }
}

impl Aws {
    /// An account with nothing in it. `clock` tells the time.
    pub fn new(settings: Settings, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        let state = State {
            dynamodb: DynamoDb::new(settings.tables, settings.read_lag, settings.index_lag),
            sqs: Sqs::new(settings.queues),
            s3: S3::new(settings.buckets),
            secrets: Secrets::default(),
            calls: 0,
            counts: BTreeMap::new(),
            killed: BTreeSet::new(),
        };
        Self(Arc::new(Account {
            clock: Box::new(clock),
            decide: Mutex::default(),
            draw: Mutex::default(),
            state: Mutex::new(state),
            queued: Notify::new(),
            killed: Notify::new(),
        }))
    }

    /// What the clients of one environment of a function are made of, with the timeouts and retries of `shared::aws`: those of
    /// the receiver if the name begins with that word, else those of functions that nobody waits for.
    ///
    /// `function` is what [`Call::function`] says, and what is killed: give each environment its own, as `worker-17`.
    #[must_use]
    pub fn config(&self, function: &str) -> SdkConfig {
        let is_interactive = function.starts_with("receiver");
        self.config_with(function, if is_interactive { CallTimeouts::INTERACTIVE } else { CallTimeouts::BACKGROUND })
    }

    /// As [`Aws::config`], with other timeouts.
    #[must_use]
    pub fn config_with(&self, function: &str, timeouts: CallTimeouts) -> SdkConfig {
        let budget = Budget::take();
        let credentials = Credentials::new("model", "model", None, None, "model");
        let mut config = SdkConfig::builder()
            .behavior_version(aws::behavior())
            .region(Region::new(budget.region()))
            .endpoint_url("http://aws.model")
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .timeout_config(aws::timeouts(timeouts))
            .retry_config(aws::retries());
        config.set_app_name(AppName::new(function.to_owned()).ok());
        let caller = Caller { account: self.0.clone(), function: function.to_owned(), budget };
        config.http_client(Client(Arc::new(caller))).build()
    }

    /// Decides what becomes of each call from now on. Without it, all succeed.
    pub fn on_call(&self, decide: impl FnMut(&Call) -> Fate + Send + 'static) {
        *unpoisoned(&self.0.decide) = Some(Box::new(decide));
    }

    /// Says how long each call takes from now on. Without it, calls take no time.
    pub fn latency(&self, draw: impl FnMut(&Call) -> Latency + Send + 'static) {
        *unpoisoned(&self.0.draw) = Some(Box::new(draw));
    }

    /// Ends once this caller has been killed: its future is to be dropped then.
    pub async fn killed(&self, function: &str) {
        loop {
            let notified = self.0.killed.notified();
            if self.0.state().killed.contains(function) {
                return;
            }
            notified.await;
        }
    }

    /// Kills a caller between two of its calls.
    pub fn kill(&self, function: &str) {
        self.0.kill(function);
    }

    // ---- The world's own side: not subject to faults, and not counted ---------------------------------------------------

    /// The model's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0.clock)()
    }

    /// Empties tables, queues and buckets, and makes them as these settings say. Secrets stay.
    pub fn begin_anew(&self, settings: Settings) {
        let mut state = self.0.state();
        state.dynamodb = DynamoDb::new(settings.tables, settings.read_lag, settings.index_lag);
        state.sqs = Sqs::new(settings.queues);
        state.s3 = S3::new(settings.buckets);
    }

    /// How far eventually consistent reads of tables, and indexes, lag from now on.
    pub fn lag(&self, reads: Duration, indexes: Duration) {
        self.0.state().dynamodb.lag(reads, indexes);
    }

    /// How far one index lags from now on, instead.
    ///
    /// # Panics
    /// When there is no such table or index.
    pub fn lag_index(&self, table: &str, index: &str, lag: Duration) {
        self.0.state().dynamodb.lag_index(table, index, lag);
    }

    /// Sets a secret's current value; makes the secret if it is new.
    pub fn put_secret(&self, name: &str, text: &str) {
        self.0.state().secrets.set(name, text);
    }

    /// A secret's current value.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<String> {
        self.0.state().secrets.current(name).map(str::to_owned)
    }

    /// Begins a rotation as Secrets Manager does: the version `token` is there, is labelled AWSPENDING and has no value.
    ///
    /// # Panics
    /// When there is no such secret.
    pub fn begin_rotation(&self, name: &str, token: &str) {
        self.0.state().secrets.begin_rotation(name, token);
    }

    /// All items of a table, in the order of their keys.
    ///
    /// # Panics
    /// When there is no such table.
    #[must_use]
    pub fn items(&self, table: &str) -> Vec<Arc<Item>> {
        self.0.state().dynamodb.all(table).cloned().collect()
    }

    /// One item of a table.
    ///
    /// # Panics
    /// When there is no such table.
    #[must_use]
    pub fn item(&self, table: &str, pk: &str, sk: &str) -> Option<Arc<Item>> {
        self.0.state().dynamodb.one(table, pk, sk)
    }

    /// Writes an item over whatever is there.
    ///
    /// # Panics
    /// When there is no such table, or the item has no keys.
    pub fn put_item(&self, table: &str, item: Item) {
        let now = self.now();
        self.0.state().dynamodb.put(table, item, now);
    }

    /// Removes an item; whether it was there.
    ///
    /// # Panics
    /// When there is no such table.
    pub fn remove_item(&self, table: &str, pk: &str, sk: &str) -> bool {
        let now = self.now();
        self.0.state().dynamodb.remove(table, pk, sk, now)
    }

    /// Removes all items that have expired, as TTL does some day; how many there were. Nothing else ever does.
    ///
    /// # Panics
    /// When there is no such table.
    pub fn expire(&self, table: &str) -> usize {
        let now = self.now();
        self.0.state().dynamodb.expire(table, now)
    }

    /// The URL of a queue.
    #[must_use]
    pub fn queue_url(&self, queue: &str) -> String {
        self.0.state().sqs.url(queue)
    }

    /// The ARN of a queue.
    #[must_use]
    pub fn queue_arn(&self, queue: &str) -> String {
        sqs::arn(queue)
    }

    /// Chooses which of so many messages that can be received comes next. Without it, the oldest.
    pub fn on_receive(&self, choose: impl FnMut(usize) -> usize + Send + 'static) {
        self.0.state().sqs.choose(Box::new(choose));
    }

    /// Whether handles of earlier receives delete their message too: AWS says that it "might not be deleted". Without it, none.
    pub fn old_handles_delete(&self, do_they: bool) {
        self.0.state().sqs.old_handles_delete = do_they;
    }

    /// Sends a message; its id.
    ///
    /// # Panics
    /// When there is no such queue, or it takes no such message.
    pub fn send(&self, queue: &str, body: &str) -> String {
        let now = self.now();
        let id = self.0.state().sqs.put(queue, body, now);
        self.0.queued.notify_waiters();
        id
    }

    /// Receives up to `max` messages, hidden for the queue's own visibility timeout. One that has been received as often as the
    /// queue allows goes to its dead-letter queue instead.
    ///
    /// # Panics
    /// When there is no such queue.
    #[must_use]
    pub fn receive(&self, queue: &str, max: usize) -> Vec<Message> {
        let now = self.now();
        self.0.state().sqs.take(queue, max, None, now)
    }

    /// Deletes the message whose latest receipt handle this is; whether there was one.
    ///
    /// # Panics
    /// When there is no such queue.
    pub fn delete(&self, queue: &str, receipt_handle: &str) -> bool {
        self.0.state().sqs.remove(queue, receipt_handle)
    }

    /// Hides a received message for so long from now on; whether it was in flight.
    ///
    /// # Panics
    /// When there is no such queue.
    pub fn change_visibility(&self, queue: &str, receipt_handle: &str, hidden: Duration) -> bool {
        let now = self.now();
        let changed = self.0.state().sqs.hide(queue, receipt_handle, hidden, now);
        self.0.queued.notify_waiters();
        changed
    }

    /// Makes a message that is in flight visible, as at-least-once delivery allows at any time; whether it was in flight.
    ///
    /// # Panics
    /// When there is no such queue.
    pub fn hand_out_again(&self, queue: &str, message_id: &str) -> bool {
        let now = self.now();
        let again = self.0.state().sqs.hand_out_again(queue, message_id, now);
        self.0.queued.notify_waiters();
        again
    }

    /// How many messages a queue has.
    ///
    /// # Panics
    /// When there is no such queue.
    #[must_use]
    pub fn counts(&self, queue: &str) -> QueueCounts {
        let now = self.now();
        self.0.state().sqs.counts(queue, now)
    }

    /// All messages of a queue, none of which is received by looking.
    ///
    /// # Panics
    /// When there is no such queue.
    #[must_use]
    pub fn messages(&self, queue: &str) -> Vec<Message> {
        let now = self.now();
        self.0.state().sqs.messages(queue, now)
    }

    /// When the next message of a queue can be received, if it has any; in the past if one can be now.
    ///
    /// # Panics
    /// When there is no such queue.
    #[must_use]
    pub fn next_visible_at(&self, queue: &str) -> Option<Timestamp> {
        let now = self.now();
        self.0.state().sqs.next_visible_at(queue, now)
    }

    /// Ends once something may have come into a queue, or become visible there by a change of its visibility.
    pub async fn queued(&self) {
        self.0.queued.notified().await;
    }

    /// All objects of a bucket, by key.
    ///
    /// # Panics
    /// When there is no such bucket.
    #[must_use]
    pub fn objects(&self, bucket: &str) -> BTreeMap<String, Bytes> {
        self.0.state().s3.objects(bucket)
    }

    /// Removes an object, as an operator does who erases it, or the bucket's lifecycle.
    pub fn remove_object(&self, bucket: &str, key: &str) {
        self.0.state().s3.remove(bucket, key);
    }

    /// How many calls there were.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.state().calls
    }

    /// How many calls there were, by service and operation.
    #[must_use]
    pub fn calls_by_operation(&self) -> BTreeMap<(Service, String), u64> {
        self.0.state().counts.clone()
    }
}

impl Account {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|_| panic!("the model came upon what it does not know; its first panic says what"))
    }

    fn kill(&self, function: &str) {
        self.state().killed.insert(function.to_owned());
        self.killed.notify_waiters();
    }

    async fn call(&self, caller: &Caller, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let request = Request::read(request).await?;
        let call = self.register(caller, &request).await;
        let fate = unpoisoned(&self.decide).as_mut().map_or(Fate::Succeed, |decide| decide(&call));
        let latency = unpoisoned(&self.draw).as_mut().map_or_else(Latency::default, |draw| draw(&call));
        if latency.before + latency.after >= SLOW {
            caller.budget.spend(call.service);
        }
        pause(latency.before).await;
        match fate {
            Fate::FailBefore(failure) => {
                caller.budget.spend(call.service);
                pause(latency.after).await;
                return Ok(failure.answer(&request)?.into_http(call.number));
            }
            Fate::Hang { after_effect: false } => {
                caller.budget.spend(call.service);
                return never().await;
            }
            Fate::Kill { after_effect: false } => {
                self.kill(&call.function);
                return never().await;
            }
            _ => {}
        }
        // It may have been killed in another call meanwhile.
        if self.state().killed.contains(&call.function) {
            return never().await;
        }
        let left_out = if let Fate::Partly { left_out } = fate { left_out } else { 0 };
        let request = match fate {
            Fate::SucceedDespite { condition } => request.despite(condition),
            _ => request,
        };
        let answer = match fate {
            Fate::Pretend { words } if request.has(words) => Answer::json(200, "{}".to_owned()),
            Fate::Refuse { words } if request.has(words) => Failure::InternalError.answer(&request)?,
            _ => self.perform(&request, left_out).await,
        };
        pause(latency.after).await;
        match fate {
            Fate::FailAfter(failure) => {
                caller.budget.spend(call.service);
                Ok(failure.answer(&request)?.into_http(call.number))
            }
            Fate::Hang { .. } => {
                caller.budget.spend(call.service);
                never().await
            }
            Fate::Kill { .. } => {
                self.kill(&call.function);
                never().await
            }
            _ if self.state().killed.contains(&call.function) => never().await,
            _ => {
                if answer.status < 400 {
                    caller.budget.regain(call.service);
                }
                Ok(answer.into_http(call.number))
            }
        }
    }

    /// Counts a call. Those of a caller that was killed are never made.
    async fn register(&self, caller: &Caller, request: &Request) -> Call {
        let registered = {
            let mut state = self.state();
            if state.killed.contains(&caller.function) {
                None
            } else {
                state.calls += 1;
                *state.counts.entry((request.service, request.operation.clone())).or_default() += 1;
                Some(state.calls)
            }
        };
        let Some(number) = registered else { return never().await };
        Call { function: caller.function.clone(), service: request.service, operation: request.operation.clone(), number }
    }

    async fn perform(&self, request: &Request, left_out: u64) -> Answer {
        if request.service == Service::Sqs && request.operation == "ReceiveMessage" {
            // Read under the lock: what cannot be read is to be known for good.
            let receive = {
                let _state = self.state();
                Receive::read(&request.body)
            };
            self.wait_for_messages(&receive).await;
        }
        let now = (self.clock)();
        let mut state = self.state();
        let answer = match request.service {
            Service::DynamoDb => state.dynamodb.handle(&request.operation, &request.body, left_out, now),
            Service::Sqs => state.sqs.handle(&request.operation, &request.body, left_out, now),
            Service::S3 => state.s3.handle(request),
            Service::SecretsManager => state.secrets.handle(&request.operation, &request.body),
        };
        drop(state);
        if request.service == Service::Sqs {
            self.queued.notify_waiters();
        }
        answer
    }

    /// Long polling: until there is a message, or the receive's wait is over.
    async fn wait_for_messages(&self, receive: &Receive) {
        let over = tokio::time::sleep(receive.wait());
        tokio::pin!(over);
        loop {
            let queued = self.queued.notified();
            let now = (self.clock)();
            let next = self.state().sqs.next_for(receive, now);
            if receive.wait().is_zero() || next.is_some_and(|next| next <= now) {
                return;
            }
            let next = next.map_or(receive.wait(), |next| next.since(now));
            tokio::select! {
                biased;
                () = &mut over => return,
                () = queued => {}
                () = tokio::time::sleep(next) => {}
            }
        }
    }
}

/// Who calls.
struct Caller {
    account: Arc<Account>,
    function: String,
    budget: Budget,
}

#[derive(Clone)]
struct Client(Arc<Caller>);

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Client").field(&self.0.function).finish()
    }
}

impl HttpConnector for Client {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let caller = self.0.clone();
        HttpConnectorFuture::new(async move { caller.account.call(&caller, request).await })
    }
}

impl HttpClient for Client {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// These hold functions of the driver alone: what a panic in one of them leaves is as good as before.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn never<T>() -> T {
    std::future::pending().await
}

/// No sleep at all for no time: even that would yield.
async fn pause(duration: Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}
