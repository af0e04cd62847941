//! A running local stack, and what a journey does with one.
//!
//! `infra/local/stack.py` writes what it deployed to `.local/<name>/outputs.json`; [`Stack::load`] reads that. The
//! clients here talk to the emulator itself, not through the wire, so that faults hit the functions alone.

use std::{
    collections::HashMap,
    fmt::Debug,
    fs,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::{
    config::{Credentials, SharedCredentialsProvider},
    types::AttributeValue,
};
use aws_smithy_types::date_time::{DateTime, Format};
use futures::future::join_all;
use reqwest::{Client, Method, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    control::{DestinationControl, WireControl, fetch},
    providers::{Provider, Webhook},
};

/// The stack that journeys run against unless `POSTHOUSE_STACK` names another.
pub const STACK_DEFAULT: &str = "test";

/// How long a request of a journey may take. Longer than anything that the stack does should.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(35);

/// An idle connection to the emulator is given up before the emulator does, which would break the next request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// The waits between two looks at a condition: short at first, since most things happen at once.
const POLL_SHORT: Duration = Duration::from_millis(50);
const POLL_LONG: Duration = Duration::from_millis(100);

/// How long [`Stack`]'s own helpers wait for what should happen within a second.
const SOON: Duration = Duration::from_secs(30);

/// The worker's timeout, when its leases end, and what the stack does with room for a busy machine.
const LEASE: Duration = Duration::from_secs(60 + 30);

/// An item of the ledger.
pub type Item = HashMap<String, AttributeValue>;

/// A running stack.
pub struct Stack {
    /// Its name.
    pub name: String,
    /// What all clients of the emulator have in common.
    pub aws: SdkConfig,
    /// DynamoDB of the emulator.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// SQS of the emulator.
    pub sqs: aws_sdk_sqs::Client,
    /// Secrets Manager of the emulator.
    pub secretsmanager: aws_sdk_secretsmanager::Client,
    /// Lambda of the emulator.
    pub lambda: aws_sdk_lambda::Client,
    /// S3 of the emulator.
    pub s3: aws_sdk_s3::Client,
    /// The destination's control.
    pub destination: DestinationControl,
    /// The wire's control.
    pub wire: WireControl,
    http: Client,
    outputs: HashMap<String, Value>,
}

/// An event that a journey makes up: its source, its id, its body.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The source that it is sent to.
    pub source: &'static str,
    /// An id that no other journey uses.
    pub id: String,
    /// The body, which names the id.
    pub body: Vec<u8>,
}

/// What the receiver answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The body, if it is JSON; else its text as a JSON string.
    pub body: Value,
}

impl Answer {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether a new event was taken in. A put whose answer did not come in time may have happened all the same: what tries again
    /// then, sender or SDK, finds it and is told of a duplicate.
    #[must_use]
    pub fn took_it_in(&self) -> bool {
        matches!(self.status, 200 | 202)
    }
}

/// A delivery as the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its status.
    pub status: String,
    /// Attempts so far.
    pub attempts: u64,
    /// The last replay that it has seen.
    pub replay: u64,
    /// The class of its last error.
    pub error_class: Option<String>,
}

/// One signing key of a keyring.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// Its name.
    pub id: String,
    /// The secret itself.
    pub secret: String,
    /// When it stops being valid.
    #[serde(default)]
    pub not_after: Option<String>,
}

/// A message in a queue, seen without receiving it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Message {
    /// Its body.
    pub body: String,
    /// How often it was received.
    #[serde(default)]
    pub receive_count: u64,
    /// Why it is in the dead-letter queue, and whatever else it carries.
    #[serde(default)]
    pub message_attributes: Value,
}

impl Message {
    /// The text of a message attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.message_attributes[name]["StringValue"].as_str()
    }
}

/// Waits until `check` gives a value, and gives it on. `check` says what it saw instead; after `timeout` the last
/// such state is what the panic shows.
///
/// # Panics
/// When the time is up.
pub async fn eventually<T>(what: &str, timeout: Duration, mut check: impl AsyncFnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        let seen = match check().await {
            Ok(value) => return value,
            Err(seen) => seen,
        };
        let waited = began.elapsed();
        assert!(waited < timeout, "after {:.1} s still not: {what}\nlast seen: {seen}", waited.as_secs_f32());
        tokio::time::sleep(if waited < POLL_LONG * 10 { POLL_SHORT } else { POLL_LONG }).await;
    }
}

/// `value` if it is what is waited for, else what it is: for [`eventually`].
///
/// # Errors
/// When it is not.
pub fn when<T: Debug>(value: T, expected: impl FnOnce(&T) -> bool) -> Result<T, String> {
    if expected(&value) { Ok(value) } else { Err(format!("{value:?}")) }
}

/// Now, in seconds of Unix time.
///
/// # Panics
/// When the clock is before 1970.
#[must_use]
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs()
}

/// A text that nobody else uses, of letters and digits.
#[must_use]
pub fn unique() -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(20).collect()
}

impl Stack {
    /// The stack of that name.
    ///
    /// # Errors
    /// When it is not up, with what to do about it.
    pub async fn load(name: &str) -> Result<Self, String> {
        let not_up = |why: String| {
            let port = if name == STACK_DEFAULT { " --port 4666" } else { "" };
            format!(
                "The stack `{name}` is not up ({why}). Run the journeys with `make test`, or start the stack with\n    \
                 .venv/bin/python infra/local/stack.py up --name {name}{port}"
            )
        };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is a folder of the workspace");
        let path = root.join(".local").join(name).join("outputs.json");
        let text = fs::read_to_string(&path).map_err(|error| not_up(format!("{}: {error}", path.display())))?;
        let outputs: HashMap<String, Value> =
            serde_json::from_str(&text).map_err(|error| not_up(format!("{}: {error}", path.display())))?;
        let port = outputs.get("Port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        let stack = Self::at(name, port.ok_or_else(|| not_up("outputs.json has no Port".to_owned()))?, outputs);
        let answers = [&stack.destination.base, &stack.wire.base].map(|base| stack.http.get(format!("{base}/_health")).send());
        match join_all(answers).await.into_iter().find_map(Result::err) {
            Some(error) => Err(not_up(error.to_string())),
            None => Ok(stack),
        }
    }

    fn at(name: &str, port: u16, outputs: HashMap<String, Value>) -> Self {
        // Building an HTTP client wants a default, although none of these URLs has TLS. A second call changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .no_proxy()
            .build()
            .expect("the client's settings are valid");
        let base = |offset: u16| format!("http://127.0.0.1:{}", port + offset);
        let aws = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(base(0))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "local stack")))
            .http_client(aws_smithy_http_client::Builder::new().pool_idle_timeout(IDLE_TIMEOUT).build_http())
            .build();
        let s3 = aws_sdk_s3::config::Builder::from(&aws).force_path_style(true).build();
        Self {
            name: name.to_owned(),
            aws: aws.clone(),
            dynamodb: aws_sdk_dynamodb::Client::new(&aws),
            sqs: aws_sdk_sqs::Client::new(&aws),
            secretsmanager: aws_sdk_secretsmanager::Client::new(&aws),
            lambda: aws_sdk_lambda::Client::new(&aws),
            s3: aws_sdk_s3::Client::from_conf(s3),
            wire: WireControl { http: http.clone(), base: base(1) },
            destination: DestinationControl { http: http.clone(), base: base(2) },
            http,
            outputs,
        }
    }

    /// An output of the template.
    ///
    /// # Panics
    /// When the template does not have it.
    #[must_use]
    pub fn output(&self, name: &str) -> &str {
        let output = self.outputs.get(name).and_then(Value::as_str);
        output.unwrap_or_else(|| panic!("the stack has no output {name}, only {:?}", self.outputs.keys()))
    }

    // ---- Sending --------------------------------------------------------------------------------------------------

    /// Where webhooks of a source are sent.
    #[must_use]
    pub fn webhook_url(&self, source: &str) -> String {
        format!("{}/{source}", self.output("WebhookUrl"))
    }

    /// Where the functions reach AWS: the wire, with its counts and faults.
    #[must_use]
    pub fn wire_url(&self) -> &str {
        &self.wire.base
    }

    /// A new event of a source of the local gateway configuration.
    #[must_use]
    pub fn sample(&self, source: &'static str) -> Sample {
        let id = unique();
        let (provider, _) = provider_of(source);
        let body = provider.body(&id);
        Sample { source, id: provider.known_by(&id, &body), body }
    }

    /// The event as its provider sends it at this moment, with the source's oldest key: during a rotation that is the
    /// one that a sender still has.
    pub async fn sign(&self, sample: &Sample) -> Webhook {
        self.sign_at(sample, unix_now()).await
    }

    /// The event as its provider sends it at some moment.
    pub async fn sign_at(&self, sample: &Sample, unix_seconds: u64) -> Webhook {
        let (provider, secret) = provider_of(sample.source);
        let key = self.keyring(&format!("source/{secret}")).await.pop().expect("a keyring has a valid key");
        provider.sign(&sample.body, &sample.id, &key.secret, unix_seconds)
    }

    /// Posts a webhook to a source.
    ///
    /// # Panics
    /// When there is no answer at all.
    pub async fn post_once(&self, source: &str, webhook: &Webhook) -> Answer {
        self.request(Method::POST, source, webhook).await
    }

    /// Posts a webhook as a provider does: again while the answer is 503, which a machine that starts fifty functions at once
    /// can well give, or 429.
    ///
    /// # Panics
    /// When there is no answer at all, or no other one for a long time.
    pub async fn post(&self, source: &str, webhook: &Webhook) -> Answer {
        eventually(&format!("{source} is available"), SOON, async || {
            when(self.post_once(source, webhook).await, |answer| ![429, 503].contains(&answer.status))
        })
        .await
    }

    /// Sends a webhook to a source with some method.
    ///
    /// # Panics
    /// When there is no answer at all.
    pub async fn request(&self, method: Method, source: &str, webhook: &Webhook) -> Answer {
        let mut request = self.http.request(method, self.webhook_url(source)).body(webhook.body.clone());
        for (name, value) in &webhook.headers {
            request = request.header(name, value);
        }
        let answer = request.send().await.unwrap_or_else(|error| panic!("no answer for a webhook to {source}: {error:?}"));
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.expect("the answer's body arrives");
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer { status, headers, body }
    }

    /// Signs the event and posts it to its source, once, whatever the answer is.
    pub async fn send_once(&self, sample: &Sample) -> Answer {
        self.post_once(sample.source, &self.sign(sample).await).await
    }

    /// Signs the event and posts it to its source, as a provider does.
    pub async fn send(&self, sample: &Sample) -> Answer {
        self.post(sample.source, &self.sign(sample).await).await
    }

    /// Sends the event, which has to be accepted as new.
    ///
    /// # Panics
    /// When it is not.
    pub async fn accept(&self, sample: &Sample) {
        let answer = self.send(sample).await;
        let word = if answer.status == 200 { "duplicate" } else { "accepted" };
        let expected = json!({"status": word, "source": sample.source, "eventId": sample.id});
        assert!(answer.took_it_in() && answer.body == expected, "a new event was not accepted: {answer:?}");
    }

    // ---- Ledger ---------------------------------------------------------------------------------------------------

    /// Everything that the ledger has under an event.
    ///
    /// # Panics
    /// When it cannot be read.
    pub async fn items(&self, sample: &Sample) -> Vec<Item> {
        let key = AttributeValue::S(format!("{}#{}", sample.source, sample.id));
        let query = self.dynamodb.query().table_name(self.output("LedgerTableName")).consistent_read(true);
        let query = query.key_condition_expression("pk = :pk").expression_attribute_values(":pk", key);
        query.send().await.expect("the ledger can be read").items.unwrap_or_default()
    }

    /// The event's own item.
    pub async fn event(&self, sample: &Sample) -> Option<Item> {
        self.items(sample).await.into_iter().find(|item| text(item, "sk") == Some("event"))
    }

    /// What remembers the signed content of a push of GitHub: its body is signed, and neither id nor type. It is under the type as well
    /// where a route names that.
    ///
    /// # Panics
    /// When it cannot be read.
    pub async fn content_item(&self, sample: &Sample) -> Option<Item> {
        let content = Sha256::digest(&sample.body);
        for digest in [content, Sha256::digest([content.as_slice(), b"push"].concat())] {
            let key = AttributeValue::S(format!("{}#{}", sample.source, hex::encode(digest)));
            let get = self.dynamodb.get_item().table_name(self.output("ContentTableName")).consistent_read(true).key("pk", key);
            if let Some(item) = get.send().await.expect("what was signed can be read").item {
                return Some(item);
            }
        }
        None
    }

    /// The id of the event that what was signed belongs to.
    pub async fn content_of(&self, sample: &Sample) -> Option<String> {
        text(&self.content_item(sample).await?, "event_id").map(str::to_owned)
    }

    /// The digests of the other bodies that came under the event's id.
    pub async fn conflicts(&self, sample: &Sample) -> Vec<String> {
        let items = self.items(sample).await;
        items.iter().filter_map(|item| text(item, "sk")?.strip_prefix("conflict#").map(str::to_owned)).collect()
    }

    /// The event's delivery to a destination; one that nobody has claimed yet is not there.
    pub async fn delivery(&self, sample: &Sample, destination: &str) -> Option<Delivery> {
        let sort_key = format!("delivery#{destination}");
        let item = self.items(sample).await.into_iter().find(|item| text(item, "sk") == Some(&sort_key))?;
        Some(Delivery {
            status: text(&item, "status").unwrap_or_default().to_owned(),
            attempts: number(&item, "attempts"),
            replay: number(&item, "replay"),
            error_class: text(&item, "error_class").map(str::to_owned),
        })
    }

    /// Waits until the event's delivery has a status.
    pub async fn reaches(&self, sample: &Sample, destination: &str, status: &str, timeout: Duration) -> Delivery {
        let what = format!("{}#{} to {destination} is {status}", sample.source, sample.id);
        let found = eventually(&what, timeout, async || {
            when(self.delivery(sample, destination).await, |delivery| {
                delivery.as_ref().is_some_and(|delivery| delivery.status == status)
            })
        });
        found.await.expect("it was just seen")
    }

    /// Waits until the event's delivery is done and no doorbell names the event any more: what the destination's
    /// journal has then is all that there will be.
    pub async fn settled(&self, sample: &Sample, destination: &str) -> Delivery {
        self.reaches(sample, destination, "done", SOON).await;
        self.silent(&sample.id).await;
        self.delivery(sample, destination).await.expect("it was just seen")
    }

    // ---- Queues ---------------------------------------------------------------------------------------------------

    /// The messages of the dead-letter queue, none of which is received by looking.
    pub async fn dlq_messages(&self) -> Vec<Message> {
        self.messages(self.output("DeadLetterQueueUrl")).await
    }

    /// The doorbells that wait or are being worked on, none of which is received by looking.
    pub async fn doorbells(&self) -> Vec<Message> {
        self.messages(self.output("DoorbellQueueUrl")).await
    }

    /// Waits until no doorbell contains a text. One that found its delivery claimed comes again when that lease ends.
    pub async fn silent(&self, text: &str) {
        eventually(&format!("no doorbell names {text}"), LEASE, async || {
            let named: Vec<_> = self.doorbells().await.into_iter().filter(|message| message.body.contains(text)).collect();
            when(named, Vec::is_empty)
        })
        .await;
    }

    /// Waits until a message of the dead-letter queue contains a text.
    pub async fn dead_letter(&self, text: &str) -> Message {
        eventually(&format!("a dead letter names {text}"), SOON, async || {
            let letters = self.dlq_messages().await;
            letters.iter().find(|letter| letter.body.contains(text)).cloned().ok_or(format!("{} other letters", letters.len()))
        })
        .await
    }

    /// Rings a doorbell, or whatever is put in the place of one.
    ///
    /// # Panics
    /// When the queue does not take it.
    pub async fn ring(&self, body: &str) {
        let send = self.sqs.send_message().queue_url(self.output("DoorbellQueueUrl")).message_body(body);
        send.send().await.expect("the queue takes a message");
    }

    /// The messages of a queue, none of which is received by looking.
    pub async fn messages(&self, queue_url: &str) -> Vec<Message> {
        let mut url = Url::parse(&self.webhook_url("")).expect("the webhook URL is one");
        url.set_path("/_ministack/sqs/messages");
        url.query_pairs_mut().append_pair("QueueUrl", queue_url);
        let answer: Value = fetch(self.http.get(url)).await;
        // One account, one region, one queue: named in three levels of objects.
        let queues = answer["messages"].as_object().into_iter().flat_map(|accounts| accounts.values());
        let queues = queues.filter_map(Value::as_object).flat_map(|regions| regions.values());
        let lists = queues.filter_map(Value::as_object).flat_map(|queues| queues.values());
        lists.flat_map(|list| Vec::deserialize(list).expect("messages have the emulator's form")).collect()
    }

    // ---- Secrets and functions ------------------------------------------------------------------------------------

    /// The valid keys of a secret of this stack, as `source/github`, newest first.
    ///
    /// # Panics
    /// When there is no such secret.
    pub async fn keyring(&self, secret: &str) -> Vec<Key> {
        #[derive(Deserialize)]
        struct Keyring {
            keys: Vec<Key>,
        }
        let text = self.secret_text(secret).await;
        let mut keys = match serde_json::from_str::<Keyring>(&text) {
            Ok(keyring) => keyring.keys,
            Err(_) => vec![Key { id: "initial".to_owned(), secret: text, not_after: None }],
        };
        keys.retain(|key| key.not_after.as_ref().is_none_or(|not_after| is_future(not_after)));
        keys
    }

    /// The text of a secret of this stack.
    ///
    /// # Panics
    /// When there is no such secret.
    pub async fn secret_text(&self, secret: &str) -> String {
        let read = self.secretsmanager.get_secret_value().secret_id(format!("{}/{secret}", self.name)).send().await;
        read.expect("the secret can be read").secret_string.expect("the secret is text")
    }

    /// Puts a text into a secret of this stack, as an operator does.
    ///
    /// # Panics
    /// When there is no such secret.
    pub async fn put_secret(&self, secret: &str, text: &str) {
        let put = self.secretsmanager.put_secret_value().secret_id(format!("{}/{secret}", self.name));
        put.secret_string(text).send().await.expect("the secret can be written");
    }

    /// Invokes a function (`worker`, `redrive`, …) and waits for its answer.
    ///
    /// # Panics
    /// When the function fails.
    pub async fn invoke(&self, function: &str, event: &Value) -> Value {
        let (initial, rest) = function.split_at(1);
        let name = self.output(&format!("{}{rest}FunctionName", initial.to_uppercase()));
        let payload = aws_smithy_types::Blob::new(event.to_string());
        let answer = self.lambda.invoke().function_name(name).payload(payload).send().await.expect("the function can be invoked");
        let payload = answer.payload.map(aws_smithy_types::Blob::into_inner).unwrap_or_default();
        let text = String::from_utf8_lossy(&payload);
        assert_eq!(answer.function_error, None, "{function} failed: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{function} answered {text}: {error}"))
    }
}

/// The sources of the local gateway configuration that are the same partner.
const PARTNERS: [&str; 31] = [
    "partner",
    "partner2",
    "capped",
    "fragile",
    "strict",
    "counted",
    "json",
    "first",
    "digested",
    "latest",
    "targets",
    "routed",
    "unrouted",
    "ordered",
    "asking",
    "crowded",
    "scheduled",
    "limited",
    "narrow",
    "breaking",
    "pausable",
    "refusing",
    "both",
    "quiet",
    "http",
    "credentials",
    "token",
    "short-token",
    "refreshed",
    "walled",
    "self-signed",
];

/// The provider and the secret of each source of the local gateway configuration.
fn provider_of(source: &str) -> (Provider, &'static str) {
    match source {
        "github" | "github-latest" => (Provider::Github, "github"),
        "stripe" | "readable" | "batched" | "compressed" => (Provider::Stripe, "stripe"),
        "shopify" => (Provider::Shopify, "shopify"),
        source if PARTNERS.contains(&source) => (Provider::StandardWebhooks, "partner"),
        "slack" => (Provider::Slack, "slack"),
        "meta" => (Provider::Meta, "meta"),
        "asana" => (Provider::Asana, "asana-enrolled"),
        "trello" => (Provider::Trello, "trello"),
        "twilio" => (Provider::Twilio, "twilio"),
        "mailgun" => (Provider::Mailgun, "mailgun"),
        "contentful" => (Provider::Contentful, "contentful"),
        "leaky" => (Provider::StandardWebhooks, "leaky"),
        "breakable" => (Provider::StandardWebhooks, "breakable"),
        other => panic!("no journey knows the source {other}"),
    }
}

/// A text attribute of an item.
#[must_use]
pub fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

fn number(item: &Item, name: &str) -> u64 {
    item.get(name).and_then(|value| value.as_n().ok()?.parse().ok()).unwrap_or_default()
}

fn is_future(rfc3339: &str) -> bool {
    let moment = DateTime::from_str(rfc3339, Format::DateTimeWithOffset).expect("notAfter is RFC 3339");
    moment.secs() > i64::try_from(unix_now()).expect("the clock is right")
}
