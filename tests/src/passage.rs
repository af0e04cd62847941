//! One gateway in the model of AWS, from a sender's request to what its destinations have: through the receiver and the worker themselves.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use aws_lambda_events::encodings::Body;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, StatusCode};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use receiver::Receiver;
use serde_json::Value;
use shared::{config::Gateway, time::Timestamp};
use tokio::runtime::{Builder, Runtime};
use worker::{Answer, Exchange, Failure, Handlers, Invocation, Post, Worker};

use crate::{
    model::{Aws, DOORBELL_QUEUE, Settings, batch_of},
    providers::{Provider, Webhook},
    strangers,
};

/// When it always is.
pub const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
/// What the source `stripe` signs with; it is in the secret `shared`.
pub const SECRET: &str = "bWFkZS11cC1zZWNyZXQ=";

/// The destinations of every such gateway.
const DESTINATIONS: &str = r#"
[destinations.plain]
type = "http"
url = "https://destination.example/plain"
secret = "shared"

[destinations.mapped]
type = "http"
url = "https://destination.example/mapped"
secret = "shared"
"#;

/// What came to a destination.
#[derive(Clone, Debug)]
pub struct Posted {
    /// Where it came.
    pub url: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
}

/// Destinations that take everything, and keep it.
#[derive(Clone, Debug, Default)]
struct Destinations(Arc<Mutex<Vec<Posted>>>);

impl Exchange for Destinations {
    async fn post(&self, post: Post<'_>) -> Result<Answer, Failure> {
        let posted = Posted { url: post.url.to_owned(), headers: post.headers, body: post.body.to_vec() };
        self.0.lock().expect("nobody has panicked with it").push(posted);
        Ok(Answer::of(StatusCode::OK))
    }
}

/// What was counted, by the name of the metric.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts(Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>);

impl Counts {
    /// How often a metric was counted.
    pub(crate) fn of(&self, metric: &str) -> u64 {
        let counts = self.0.lock().expect("nobody has panicked with it");
        counts.get(metric).map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl Recorder for Counts {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        // By its name, and by each of its labels' values behind that.
        let values = key.labels().map(|label| format!(" {}", label.value())).collect::<String>();
        let mut counts = self.0.lock().expect("nobody has panicked with it");
        Counter::from_arc(counts.entry(format!("{}{values}", key.name())).or_default().clone())
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// A gateway whose source is `stripe`.
pub struct Passage {
    /// Its AWS.
    pub aws: Aws,
    gateway: Gateway,
    counts: Counts,
    destinations: Destinations,
    runtime: Runtime,
    worker: Worker<Destinations>,
}

impl fmt::Debug for Passage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Passage").finish_non_exhaustive()
    }
}

impl Passage {
    /// A gateway of this configuration, and of the destinations `plain` and `mapped`.
    ///
    /// # Panics
    /// When the configuration is wrong.
    #[must_use]
    pub fn new(gateway: &str) -> Self {
        let gateway =
            Gateway::parse(&format!("{gateway}{DESTINATIONS}"), "gateway.toml").expect("a test's configuration is right");
        let aws = Aws::new(Settings::posthouse(), || NOW);
        aws.put_signing_secret("shared", SECRET);
        let destinations = Destinations::default();
        let worker = aws.worker("worker-1", gateway.clone(), destinations.clone(), Handlers::new(Vec::new()));
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        Self { aws, gateway, counts: Counts::default(), destinations, runtime, worker }
    }

    /// What the sender is told by a receiver of this name: status and JSON. Nothing if the receiver died.
    ///
    /// # Panics
    /// When the answer is no JSON.
    pub fn receive(&self, receiver: &str, webhook: &Webhook) -> Option<(i64, Value)> {
        self.receive_at(receiver, webhook, NOW)
    }

    /// The same at another moment.
    ///
    /// # Panics
    /// When the answer is no JSON.
    pub fn receive_at(&self, receiver: &str, webhook: &Webhook, now: Timestamp) -> Option<(i64, Value)> {
        let function = self.receiver(receiver);
        let receiving = async {
            tokio::select! {
                answer = told(&function, webhook, now) => Some(answer),
                () = self.aws.killed(receiver) => None,
            }
        };
        metrics::with_local_recorder(&self.counts, || self.runtime.block_on(receiving))
    }

    /// A receiver of this name, which knows nothing yet.
    #[must_use]
    pub fn receiver(&self, name: &str) -> Receiver {
        self.aws.receiver(name, self.gateway.clone())
    }

    /// What the sender is told by this receiver, which may know something by now.
    ///
    /// # Panics
    /// When the answer is no JSON.
    pub fn receive_by(&self, receiver: &Receiver, webhook: &Webhook, now: Timestamp) -> (i64, Value) {
        metrics::with_local_recorder(&self.counts, || self.runtime.block_on(told(receiver, webhook, now)))
    }

    /// How often the receiver has counted this metric.
    ///
    /// # Panics
    /// When something has panicked while it was counting.
    pub fn counted(&self, metric: &str) -> u64 {
        self.counts.of(metric)
    }

    /// The metrics whose names begin so, with the values of their labels.
    ///
    /// # Panics
    /// When something has panicked while it was counting.
    pub fn metrics(&self, name: &str) -> BTreeMap<String, u64> {
        let counts = self.counts.0.lock().expect("nobody has panicked with it");
        let of_name = counts.iter().filter(|(metric, _)| metric.starts_with(name));
        of_name.map(|(metric, count)| (metric.clone(), count.load(Ordering::Relaxed))).collect()
    }

    /// Works on all doorbells. What came to `destination`, which is the end of its URL.
    ///
    /// # Panics
    /// When a delivery has to be tried again.
    pub fn delivered(&self, destination: &str) -> Vec<Posted> {
        loop {
            let doorbells = self.aws.receive(DOORBELL_QUEUE, 10);
            if doorbells.is_empty() {
                break;
            }
            let invocation = Invocation { request_id: "request-1", deadline: NOW.plus(Duration::from_secs(60)), now: || NOW };
            let working = || self.runtime.block_on(self.worker.work(batch_of(&doorbells), invocation));
            let worked = metrics::with_local_recorder(&self.counts, working);
            let response = worked.expect("a batch is worked on");
            assert!(response.batch_item_failures.is_empty(), "{response:?}");
            for doorbell in doorbells {
                self.aws.delete(DOORBELL_QUEUE, doorbell.receipt_handle.as_deref().expect("it was received"));
            }
        }
        let posted = self.destinations.0.lock().expect("nobody has panicked with it");
        posted.iter().filter(|posted| posted.url.ends_with(destination)).cloned().collect()
    }
}

async fn told(receiver: &Receiver, webhook: &Webhook, now: Timestamp) -> (i64, Value) {
    let body = BASE64_STANDARD.encode(&webhook.body);
    let event = strangers::event("POST", "stripe", "", &webhook.headers, &body, true);
    let answer = receiver.receive(&event, "request-1", now).await;
    let Some(Body::Text(text)) = answer.body else { panic!("no text") };
    (answer.status_code, serde_json::from_str(&text).expect("an answer is JSON"))
}

/// A webhook of Stripe with this body, which is what it signs.
#[must_use]
pub fn signed(body: &[u8]) -> Webhook {
    Provider::Stripe.sign(body, "", SECRET, NOW.seconds())
}
