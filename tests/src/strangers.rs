//! What strangers may send, up to the functions themselves: any event of API Gateway, any batch of SQS. For fuzzing and properties.
//!
//! Always holds: a well-formed answer, no panic, no outage, and nothing written. What the receiver is sent here nobody signed; what
//! the worker is sent names no event that there is.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use aws_lambda_events::encodings::Body;
use receiver::Receiver;
use serde_json::{Value, json, value::RawValue};
use shared::{config::Gateway, time::Timestamp};
use tokio::runtime::{Builder, Runtime};
use worker::{Answer, Exchange, Failure, Handlers, Invocation, Post, Worker};

use crate::model::{self, Aws, Settings};

/// When it is.
const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
/// What is left of the worker's time.
const WORKER_SECONDS: u64 = 60;
const SECRET: &str = "bWFkZS11cC1zZWNyZXQtdGhhdC1uby1zdHJhbmdlci1oYXM=";

/// Sources of every manner: ids signed and not, a time and none, forms, a URL that is signed, tokens, handshakes of each kind.
const GATEWAY: &str = r#"
sources.partner = { scheme = "standard-webhooks", secret = "shared" }
sources.github = { scheme = "github", secret = "shared" }
sources.stripe = { scheme = "stripe", secret = "shared" }
sources.slack = { scheme = "slack", secret = "shared" }
sources.twilio = { scheme = "twilio", secret = "shared", public_url = "https://hooks.example.com/v1/webhooks/twilio" }
sources.gitlab = { scheme = "gitlab", secret = "shared", body_bytes_max = 100 }
sources.meta = { scheme = "meta", secret = "shared", handshake_secret = "shared" }
sources.trello = { scheme = "trello", secret = "shared", public_url = "https://hooks.example.com/v1/webhooks/trello" }

[destinations.one]
type = "http"
url = "https://destination.example/one"
secret = "shared"

[[routes]]
source = "partner"
destination = "one"
"#;

/// The names of the sources that there are.
pub const SOURCES: [&str; 8] = ["partner", "github", "stripe", "slack", "twilio", "gitlab", "meta", "trello"];

/// Panics in this process, those included that a function survives.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// A gateway that nobody who is sent here knows the secrets of.
pub struct Strangers {
    aws: Aws,
    receiver: Receiver,
    worker: Worker<Nowhere>,
    runtime: Runtime,
}

impl fmt::Debug for Strangers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Strangers").finish_non_exhaustive()
    }
}

/// There is nothing to deliver, so nothing is.
struct Nowhere;

impl Exchange for Nowhere {
    async fn post(&self, post: Post<'_>) -> Result<Answer, Failure> {
        panic!("something was delivered to {}", post.url);
    }
}

impl Default for Strangers {
    fn default() -> Self {
        Self::new()
    }
}

impl Strangers {
    /// A gateway in a model of AWS. From here on every panic of the process is counted.
    ///
    /// # Panics
    /// When its own configuration is wrong.
    #[must_use]
    pub fn new() -> Self {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            told(panic);
        }));
        let gateway = Gateway::parse(GATEWAY, "the strangers' gateway.toml").expect("the configuration is good");
        let aws = Aws::new(Settings::posthouse(), || NOW);
        aws.put_signing_secret("shared", SECRET);
        let receiver = aws.receiver("receiver-1", gateway.clone());
        let worker = aws.worker("worker-1", gateway, Nowhere, Handlers::new(Vec::new()));
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        Self { aws, receiver, worker, runtime }
    }

    /// Sends any JSON to the receiver as an event of API Gateway. Gives the status that it was answered with.
    ///
    /// # Panics
    /// When something does not hold.
    pub fn receive(&self, event: &RawValue) -> i64 {
        let panics = PANICS.load(Ordering::Relaxed);
        let answer = self.runtime.block_on(self.receiver.receive(event, "request-1", NOW));
        assert_eq!(PANICS.load(Ordering::Relaxed), panics, "the receiver panicked");
        let status = answer.status_code;
        let body = match &answer.body {
            Some(Body::Text(text)) => text.as_str(),
            None => "",
            Some(other) => panic!("an answer that is no text: {other:?}"),
        };
        match status {
            400..500 => {
                let error: Value = serde_json::from_str(body).expect("an error is JSON");
                let word = |name| error["error"][name].as_str().is_some_and(|text: &str| !text.is_empty());
                assert!(word("code") && word("message") && error["requestId"] == "request-1", "{body}");
            }
            // A handshake that nobody signs. An acceptance would be JSON with a status.
            200..300 => assert!(serde_json::from_str::<Value>(body).map_or(true, |json| json.get("status").is_none()), "{body}"),
            _ => panic!("answered {status}: {body}"),
        }
        self.expect_nothing_written();
        assert!(self.aws.messages(model::DEAD_LETTER_QUEUE).is_empty(), "the receiver wrote a dead letter");
        status
    }

    /// Sends messages with any bodies to the worker as a batch of SQS. Gives how many of them come again; all others are put aside.
    ///
    /// # Panics
    /// When something does not hold.
    pub fn work(&self, bodies: &[String]) -> usize {
        let panics = PANICS.load(Ordering::Relaxed);
        let ids: Vec<String> = (0..bodies.len()).map(|number| format!("message-{number}")).collect();
        let batch = model::batch(ids.iter().zip(bodies).map(|(id, body)| (id.as_str(), "handle", body.as_str())));
        let deadline = NOW.plus(Duration::from_secs(WORKER_SECONDS));
        let invocation = Invocation { request_id: "request-1", deadline, now: || NOW };
        let response = self.runtime.block_on(self.worker.work(batch, invocation)).expect("the batch is one of SQS");
        assert_eq!(PANICS.load(Ordering::Relaxed), panics, "the worker panicked");
        let mut kept: Vec<&str> = response.batch_item_failures.iter().map(|failure| failure.item_identifier.as_str()).collect();
        kept.sort_unstable();
        kept.dedup();
        assert_eq!(kept.len(), response.batch_item_failures.len(), "a message is named twice");
        assert!(kept.iter().all(|kept| ids.iter().any(|id| id == kept)), "{kept:?}");
        self.expect_nothing_written();
        let letters = self.take_dead_letters();
        assert_eq!(letters.len() + kept.len(), bodies.len(), "a message is neither put aside nor comes again, or both");
        for letter in letters {
            assert!(bodies.contains(&letter), "put aside otherwise than it came: {letter}");
        }
        kept.len()
    }

    fn take_dead_letters(&self) -> Vec<String> {
        let mut letters = Vec::new();
        loop {
            let some = self.aws.receive(model::DEAD_LETTER_QUEUE, 10);
            if some.is_empty() {
                return letters;
            }
            for letter in some {
                self.aws.delete(model::DEAD_LETTER_QUEUE, letter.receipt_handle.as_deref().unwrap_or_default());
                letters.push(letter.body);
            }
        }
    }

    fn expect_nothing_written(&self) {
        assert!(self.aws.items(model::LEDGER_TABLE).is_empty(), "the ledger was written");
        assert!(self.aws.messages(model::DOORBELL_QUEUE).is_empty(), "a doorbell was rung");
        assert_eq!(self.aws.secret(&format!("{}shared", model::SECRETS_PREFIX)).as_deref(), Some(SECRET), "a secret was written");
    }
}

/// An event of API Gateway for a source.
#[must_use]
pub fn event(method: &str, source: &str, query: &str, headers: &[(String, String)], body: &str, base64: bool) -> Box<RawValue> {
    let headers: Value = headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), json!(value))).collect();
    let event = json!({
        "version": "2.0", "rawPath": format!("/v1/webhooks/{source}"), "rawQueryString": query, "headers": headers,
        "pathParameters": {"source": source}, "body": body, "isBase64Encoded": base64,
        "requestContext": {"http": {"method": method}, "domainName": "hooks.example.com"},
    });
    serde_json::value::to_raw_value(&event).expect("JSON is JSON")
}
