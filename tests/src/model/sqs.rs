//! SQS: standard queues, which hand out messages at least once and in any order; and FIFO queues, which hand out the messages of a group
//! in the order in which they were sent, and nothing of a group while one of it is in flight.
//!
//! <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/Welcome.html>

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use md5::{Digest, Md5};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use shared::time::Timestamp;

use super::http::{Answer, Fault};

/// Largest message, with its attributes, and largest batch, in bytes.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Most entries of a batch, and most messages of a receive.
const BATCH_MAX: usize = 10;
/// Longest delay, in seconds.
const DELAY_SECONDS_MAX: u64 = 15 * 60;
/// Longest time that a message stays hidden from when it was received, in seconds.
const VISIBILITY_SECONDS_MAX: u64 = 12 * 60 * 60;
/// Longest wait of a receive, in seconds.
const WAIT_SECONDS_MAX: u64 = 20;

/// For how long a FIFO queue drops what has the same deduplication id in the same group, in seconds.
const DEDUPLICATION_SECONDS: u64 = 5 * 60;

/// How a queue is made.
#[derive(Clone, Debug)]
pub struct QueueSettings {
    /// Its name.
    pub name: String,
    /// How long a received message is hidden.
    pub visibility: Duration,
    /// How long a message is kept.
    pub retention: Duration,
    /// The dead-letter queue, and how often a message is received before it goes there.
    pub redrive: Option<(String, u32)>,
    /// Whether it is FIFO, with deduplication in each group.
    pub is_fifo: bool,
    /// How many messages may be received and hidden at the same time: [`IN_FLIGHT_MAX`], or fewer, so that a test reaches it.
    pub in_flight_max: usize,
}

/// Most messages of a queue that are received and hidden at the same time.
///
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
pub const IN_FLIGHT_MAX: usize = 120_000;

/// A message of a queue, as the world sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id, which it keeps when it goes to the dead-letter queue.
    pub id: String,
    /// Its body.
    pub body: String,
    /// Its message attributes, as they were sent.
    pub attributes: Json,
    /// Its group.
    pub group: Option<String>,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// When it was received for the first time.
    pub first_received_at: Option<Timestamp>,
    /// How often it was received.
    pub receive_count: u32,
    /// From when on it can be received.
    pub visible_at: Timestamp,
    /// What the last receive gave to delete it by.
    pub receipt_handle: Option<String>,
    /// When it was received last.
    received_at: Timestamp,
    /// What earlier receives gave.
    old_handles: Vec<String>,
    /// The queue that it died in.
    dead_letter_source: Option<String>,
}

impl Message {
    /// The text of a message attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes[name]["StringValue"].as_str()
    }

    fn is_in_flight(&self, now: Timestamp) -> bool {
        self.receipt_handle.is_some() && now < self.visible_at
    }
}

/// How many messages a queue has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// That can be received.
    pub visible: usize,
    /// Received and hidden.
    pub in_flight: usize,
    /// Not yet to be seen.
    pub delayed: usize,
}

/// Which of so many messages that can be received comes next.
pub(super) type Choose = Box<dyn FnMut(usize) -> usize + Send>;

/// All queues of the account.
pub(super) struct Sqs {
    queues: BTreeMap<String, Queue>,
    /// Messages and receives so far, which ids are made of.
    issued: u64,
    choose: Option<Choose>,
    /// Whether handles of earlier receives delete, which AWS leaves open.
    pub(super) old_handles_delete: bool,
}

impl std::fmt::Debug for Sqs {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sqs").field("queues", &self.queues).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Queue {
    settings: QueueSettings,
    /// By a number that only grows.
    messages: BTreeMap<u64, Message>,
    /// Of a FIFO queue: group and deduplication id of what was sent, when, and the message's id.
    sent: BTreeMap<(String, String), (Timestamp, String)>,
}

impl Queue {
    /// From when on a message can be received, as far as is known now: of a FIFO queue, not before what is in flight of its group.
    fn free_at(&self, message: &Message, now: Timestamp) -> Timestamp {
        let in_flight = self
            .messages
            .values()
            .filter(|other| self.settings.is_fifo && other.group == message.group && other.is_in_flight(now));
        in_flight.map(|other| other.visible_at).chain([message.visible_at]).max().unwrap_or(message.visible_at)
    }
}

/// Where the queues' URLs are.
const URL: &str = "https://sqs.model/000000000000/";

/// How the name of a FIFO queue ends. The model's names are without it.
const FIFO_SUFFIX: &str = ".fifo";

/// The ARN of a queue.
pub(super) fn arn(name: &str) -> String {
    format!("arn:aws:sqs:us-east-1:000000000000:{name}")
}

// ---- Requests ------------------------------------------------------------------------------------------------------------

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct NewMessage {
    #[serde(default)]
    queue_url: String,
    #[serde(default)]
    id: String,
    message_body: String,
    delay_seconds: Option<u64>,
    #[serde(default)]
    message_attributes: Json,
    /// Of a standard queue: whose it is, see [`quiet`].
    message_group_id: Option<String>,
    message_deduplication_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Batch<Entry> {
    queue_url: String,
    #[serde(default = "Vec::new")]
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Handle {
    #[serde(default)]
    queue_url: String,
    #[serde(default)]
    id: String,
    receipt_handle: String,
    visibility_timeout: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Receive {
    queue_url: String,
    max_number_of_messages: Option<usize>,
    visibility_timeout: Option<i64>,
    wait_time_seconds: Option<u64>,
    #[serde(default, alias = "AttributeNames")]
    message_system_attribute_names: Vec<String>,
    #[serde(default)]
    message_attribute_names: Vec<String>,
}

impl Receive {
    pub(super) fn read(body: &[u8]) -> Self {
        read(body)
    }

    pub(super) fn wait(&self) -> Duration {
        Duration::from_secs(self.wait_time_seconds.unwrap_or_default())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct GetAttributes {
    queue_url: String,
    #[serde(default)]
    attribute_names: Vec<String>,
}

/// The entry of a batch, for what all batches have in common.
trait Entry {
    fn id(&self) -> &str;
}

impl Entry for NewMessage {
    fn id(&self) -> &str {
        &self.id
    }
}

impl Entry for Handle {
    fn id(&self) -> &str {
        &self.id
    }
}

/// An error's code, as in SQS's older protocol, and its message.
type Refusal = (&'static str, String);
type Handled = Result<Json, Refusal>;

fn read<'b, T: Deserialize<'b>>(body: &'b [u8]) -> T {
    serde_json::from_slice(body).unwrap_or_else(|error| panic!("the model cannot read this request to SQS: {error}"))
}

fn invalid(message: impl Into<String>) -> Refusal {
    ("InvalidParameterValue", message.into())
}

impl Sqs {
    pub(super) fn new(queues: Vec<QueueSettings>) -> Self {
        let queues = queues
            .into_iter()
            .map(|settings| (settings.name.clone(), Queue { settings, messages: BTreeMap::new(), sent: BTreeMap::new() }))
            .collect();
        Self { queues, issued: 0, choose: None, old_handles_delete: false }
    }

    pub(super) fn choose(&mut self, choose: Choose) {
        self.choose = Some(choose);
    }

    /// Handles a request. `left_out` says which entries of a batch fail.
    pub(super) fn handle(&mut self, operation: &str, body: &[u8], left_out: u64, now: Timestamp) -> Answer {
        let handled = match operation {
            "SendMessage" => {
                let request: NewMessage = read(body);
                self.queue(&request.queue_url.clone()).and_then(|name| self.send(&name, request, now))
            }
            "SendMessageBatch" => {
                let request: Batch<NewMessage> = read(body);
                let bytes = request.entries.iter().map(|entry| entry.message_body.len()).sum::<usize>();
                self.batch(request, left_out, bytes, |sqs, name, entry| sqs.send(name, entry, now))
            }
            "DeleteMessage" => {
                let request: Handle = read(body);
                self.queue(&request.queue_url).and_then(|name| self.delete(&name, &request.receipt_handle))
            }
            "DeleteMessageBatch" => {
                let request: Batch<Handle> = read(body);
                self.batch(request, left_out, 0, |sqs, name, entry| sqs.delete(name, &entry.receipt_handle))
            }
            "ChangeMessageVisibility" => {
                let request: Handle = read(body);
                self.queue(&request.queue_url).and_then(|name| self.change_visibility(&name, &request, now))
            }
            "ChangeMessageVisibilityBatch" => {
                let request: Batch<Handle> = read(body);
                self.batch(request, left_out, 0, |sqs, name, entry| sqs.change_visibility(name, &entry, now))
            }
            "ReceiveMessage" => self.receive(&read(body), now),
            "GetQueueAttributes" => self.attributes(&read(body), now),
            other => panic!("the model has no SQS operation {other}"),
        };
        answer(handled)
    }

    fn queue(&self, url: &str) -> Result<String, Refusal> {
        let name = url.strip_prefix(URL).map(|name| name.strip_suffix(FIFO_SUFFIX).unwrap_or(name));
        let name = name.filter(|name| self.queues.contains_key(*name) && self.url(name) == url);
        let missing = || ("AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.".to_owned());
        name.map(str::to_owned).ok_or_else(missing)
    }

    /// The URL of a queue.
    pub(super) fn url(&self, name: &str) -> String {
        let is_fifo = self.queues.get(name).is_some_and(|queue| queue.settings.is_fifo);
        format!("{URL}{name}{}", if is_fifo { FIFO_SUFFIX } else { "" })
    }

    /// Its callers have looked it up.
    fn known(&mut self, name: &str) -> &mut Queue {
        self.queues.get_mut(name).unwrap_or_else(|| panic!("the model has no queue {name}"))
    }

    fn next_number(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }

    fn batch<E: Entry>(
        &mut self,
        request: Batch<E>,
        left_out: u64,
        bytes: usize,
        mut handle: impl FnMut(&mut Self, &str, E) -> Handled,
    ) -> Handled {
        let name = self.queue(&request.queue_url)?;
        let ids: BTreeSet<&str> = request.entries.iter().map(Entry::id).collect();
        let is_valid = |id: &str| {
            let of_characters = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
            (1..=80).contains(&id.len()) && of_characters
        };
        let refusal = |code, message: &str| Err((code, message.to_owned()));
        match request.entries.len() {
            0 => {
                return refusal("AWS.SimpleQueueService.EmptyBatchRequest", "There should be at least one entry in the request.");
            }
            1..=BATCH_MAX => {}
            _ => {
                return refusal(
                    "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
                    "Maximum number of entries per request are 10.",
                );
            }
        }
        if ids.len() < request.entries.len() {
            return refusal("AWS.SimpleQueueService.BatchEntryIdsNotDistinct", "Two or more batch entries have the same id.");
        }
        if !ids.iter().all(|id| is_valid(id)) {
            return refusal(
                "AWS.SimpleQueueService.InvalidBatchEntryId",
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores.",
            );
        }
        if bytes > MESSAGE_BYTES_MAX {
            return refusal("AWS.SimpleQueueService.BatchRequestTooLong", "Batch requests cannot be longer than 1048576 bytes.");
        }
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for (index, entry) in request.entries.into_iter().enumerate() {
            let id = entry.id().to_owned();
            let handled = if index < 64 && left_out >> index & 1 == 1 {
                Err(("InternalError", "We encountered an internal error. Please try again.".to_owned()))
            } else {
                handle(self, &name, entry)
            };
            match handled {
                Ok(mut success) => {
                    success["Id"] = json!(id);
                    successful.push(success);
                }
                Err((code, message)) => {
                    failed.push(json!({"Id": id, "SenderFault": code != "InternalError", "Code": code, "Message": message}));
                }
            }
        }
        Ok(json!({"Successful": successful, "Failed": failed}))
    }

    fn send(&mut self, name: &str, request: NewMessage, now: Timestamp) -> Handled {
        let once = self.known(name).settings.is_fifo.then(|| once(&request)).transpose()?;
        let attributes = if request.message_attributes.is_null() { json!({}) } else { request.message_attributes };
        let attribute_bytes = attributes.as_object().into_iter().flatten().map(|(name, value)| {
            name.len() + ["DataType", "StringValue"].iter().filter_map(|key| value[key].as_str()).map(str::len).sum::<usize>()
        });
        if request.message_body.is_empty() {
            let message = "The request must contain the parameter MessageBody.".to_owned();
            return Err(("MissingParameter", message));
        }
        if request.message_body.len() + attribute_bytes.sum::<usize>() > MESSAGE_BYTES_MAX {
            return Err(invalid("One or more parameters are invalid. Reason: Message must be shorter than 1048576 bytes."));
        }
        if request.message_body.chars().any(is_refused) {
            let message = "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF".to_owned();
            return Err(("InvalidMessageContents", message));
        }
        for (name, value) in attributes.as_object().into_iter().flatten() {
            let text = value["StringValue"].as_str();
            if text.is_some_and(|text| text.is_empty() || text.chars().any(is_refused)) {
                return Err(invalid(format!(
                    "Message (user) attribute '{name}' must contain a non-empty value of type 'String'."
                )));
            }
        }
        let delay = request.delay_seconds.unwrap_or_default();
        if delay > DELAY_SECONDS_MAX {
            return Err(invalid(format!(
                "Value {delay} for parameter DelaySeconds is invalid. Reason: DelaySeconds must be >= 0 and <= 900."
            )));
        }
        if let Some(once) = &once
            && let Some((sent_at, id)) = self.known(name).sent.get(once)
            && now.since(*sent_at) < Duration::from_secs(DEDUPLICATION_SECONDS)
        {
            return Ok(json!({"MessageId": id, "MD5OfMessageBody": hex::encode(Md5::digest(&request.message_body))}));
        }
        let message = Message {
            id: String::new(),
            body: request.message_body,
            attributes,
            group: request.message_group_id,
            sent_at: now,
            first_received_at: None,
            receive_count: 0,
            visible_at: now.plus(Duration::from_secs(delay)),
            receipt_handle: None,
            received_at: now,
            old_handles: Vec::new(),
            dead_letter_source: None,
        };
        let md5 = hex::encode(Md5::digest(&message.body));
        let id = self.add(name, message);
        self.known(name).sent.extend(once.map(|once| (once, (now, id.clone()))));
        Ok(json!({"MessageId": id, "MD5OfMessageBody": md5}))
    }

    fn add(&mut self, name: &str, mut message: Message) -> String {
        let number = self.next_number();
        if message.id.is_empty() {
            message.id = format!("00000000-0000-4000-8000-{number:012}");
        }
        let id = message.id.clone();
        self.known(name).messages.insert(number, message);
        id
    }

    fn delete(&mut self, name: &str, handle: &str) -> Handled {
        let old_handles_delete = self.old_handles_delete;
        let queue = self.known(name);
        let is_its = |message: &Message| {
            message.receipt_handle.as_deref() == Some(handle)
                || old_handles_delete && message.old_handles.iter().any(|old| old == handle)
        };
        let found = queue.messages.iter().find(|(_, message)| is_its(message));
        match found.map(|(number, _)| *number) {
            Some(number) => {
                queue.messages.remove(&number);
                Ok(json!({}))
            }
            // Of an earlier receive, or of a message that is gone: it succeeds and deletes nothing.
            None if is_handle(handle) => Ok(json!({})),
            None => Err(invalid_handle()),
        }
    }

    fn change_visibility(&mut self, name: &str, request: &Handle, now: Timestamp) -> Handled {
        let seconds = visibility(request.visibility_timeout.unwrap_or_default())?;
        if !is_handle(&request.receipt_handle) {
            return Err(invalid_handle());
        }
        let handle = Some(request.receipt_handle.as_str());
        let found = self.known(name).messages.values_mut().find(|message| message.receipt_handle.as_deref() == handle);
        let Some(message) = found.filter(|message| message.is_in_flight(now)) else {
            return Err(("AWS.SimpleQueueService.MessageNotInflight", "The specified message isn't in flight.".to_owned()));
        };
        let until = now.plus(Duration::from_secs(seconds));
        if until.since(message.received_at) > Duration::from_secs(VISIBILITY_SECONDS_MAX) {
            let message =
                format!("Total VisibilityTimeout for the message is beyond the limit [{VISIBILITY_SECONDS_MAX} seconds]");
            return Err(invalid(format!("Value {seconds} for parameter VisibilityTimeout is invalid. Reason: {message}.")));
        }
        message.visible_at = until;
        Ok(json!({}))
    }

    fn receive(&mut self, request: &Receive, now: Timestamp) -> Handled {
        let name = self.queue(&request.queue_url)?;
        let max = request.max_number_of_messages.unwrap_or(1);
        if !(1..=BATCH_MAX).contains(&max) {
            let message = format!(
                "Value {max} for parameter MaxNumberOfMessages is invalid. Reason: Must be between 1 and 10, if provided."
            );
            return Err(invalid(message));
        }
        if request.wait_time_seconds.is_some_and(|seconds| seconds > WAIT_SECONDS_MAX) {
            return Err(invalid("Value for parameter WaitTimeSeconds is invalid. Reason: Must be >= 0 and <= 20, if provided."));
        }
        let hidden = request.visibility_timeout.map(visibility).transpose()?.map(Duration::from_secs);
        // A long poll is told of no message instead.
        if request.wait().is_zero() && self.room(&name, now) == 0 {
            return Err(("OverLimit", "Too many messages of this queue are in flight.".to_owned()));
        }
        let messages = self.take(&name, max, hidden, now).into_iter().map(|message| {
            let wanted = |name: &str| {
                request.message_attribute_names.iter().any(|wanted| wanted == name || wanted == "All" || wanted == ".*")
            };
            let attributes: serde_json::Map<String, Json> = message
                .attributes
                .as_object()
                .into_iter()
                .flatten()
                .filter(|(name, _)| wanted(name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect();
            let first = message.first_received_at.unwrap_or(now);
            let mut system = vec![
                ("ApproximateReceiveCount", message.receive_count.to_string()),
                ("SentTimestamp", message.sent_at.millis().to_string()),
                ("ApproximateFirstReceiveTimestamp", first.millis().to_string()),
                ("SenderId", "AIDAMODEL".to_owned()),
            ];
            system.extend(message.dead_letter_source.as_ref().map(|source| ("DeadLetterQueueSourceArn", arn(source))));
            let asked = |name: &str| request.message_system_attribute_names.iter().any(|asked| asked == name || asked == "All");
            let system: BTreeMap<&str, String> = system.into_iter().filter(|(name, _)| asked(name)).collect();
            let mut shown = json!({
                "MessageId": message.id,
                "ReceiptHandle": message.receipt_handle,
                "MD5OfBody": hex::encode(Md5::digest(&message.body)),
                "Body": message.body,
            });
            if !system.is_empty() {
                shown["Attributes"] = json!(system);
            }
            if !attributes.is_empty() {
                shown["MessageAttributes"] = Json::Object(attributes);
            }
            shown
        });
        let messages: Vec<Json> = messages.collect();
        Ok(if messages.is_empty() { json!({}) } else { json!({"Messages": messages}) })
    }

    fn attributes(&mut self, request: &GetAttributes, now: Timestamp) -> Handled {
        let name = self.queue(&request.queue_url)?;
        let counts = self.counts(&name, now);
        let settings = self.known(&name).settings.clone();
        let mut all = BTreeMap::from([
            ("QueueArn", arn(&name)),
            ("ApproximateNumberOfMessages", counts.visible.to_string()),
            ("ApproximateNumberOfMessagesNotVisible", counts.in_flight.to_string()),
            ("ApproximateNumberOfMessagesDelayed", counts.delayed.to_string()),
            ("VisibilityTimeout", settings.visibility.as_secs().to_string()),
            ("MessageRetentionPeriod", settings.retention.as_secs().to_string()),
        ]);
        if let Some((dead, count)) = &settings.redrive {
            all.insert("RedrivePolicy", json!({"deadLetterTargetArn": arn(dead), "maxReceiveCount": count}).to_string());
        }
        let asked = |name: &str| request.attribute_names.iter().any(|asked| asked == name || asked == "All");
        all.retain(|name, _| asked(name));
        Ok(json!({"Attributes": all}))
    }

    // ---- The world's own side

    /// Receives: hides messages and counts. Those that have been received often enough go to the dead-letter queue instead.
    pub(super) fn take(&mut self, name: &str, max: usize, hidden: Option<Duration>, now: Timestamp) -> Vec<Message> {
        self.forget_old(name, now);
        let settings = self.known(name).settings.clone();
        let hidden = hidden.unwrap_or(settings.visibility);
        let room = self.room(name, now);
        let mut taken = Vec::new();
        while taken.len() < max.min(room) {
            let can_be: Vec<u64> = match settings.is_fifo {
                true => heads(self.known(name), &taken, now),
                false => {
                    let is_taken = |message: &Message| taken.iter().any(|taken: &Message| taken.id == message.id);
                    let messages = self.known(name).messages.iter();
                    let free = messages.filter(|(_, message)| message.visible_at <= now && !is_taken(message));
                    let free: Vec<u64> = free.map(|(number, _)| *number).collect();
                    quiet(self.known(name), free, now)
                }
            };
            if can_be.is_empty() {
                break;
            }
            let index = self.choose.as_mut().map_or(0, |choose| choose(can_be.len()));
            let number = can_be[index.min(can_be.len() - 1)];
            if let Some((dead, count)) = &settings.redrive
                && self.known(name).messages[&number].receive_count >= *count
            {
                self.bury(name, number, &dead.clone(), now);
                continue;
            }
            let receipt = self.next_number();
            let Some(message) = self.known(name).messages.get_mut(&number) else { break };
            message.receive_count += 1;
            message.received_at = now;
            message.first_received_at.get_or_insert(now);
            message.visible_at = now.plus(hidden);
            let before = message.receipt_handle.replace(format!("{HANDLE}{receipt}"));
            message.old_handles.extend(before);
            taken.push(message.clone());
        }
        taken
    }

    /// How many messages may still be received.
    fn room(&mut self, name: &str, now: Timestamp) -> usize {
        let Queue { settings, messages, .. } = self.known(name);
        // Mostly there are not as many at all.
        match messages.len() < settings.in_flight_max {
            true => usize::MAX,
            false => settings.in_flight_max.saturating_sub(messages.values().filter(|message| message.is_in_flight(now)).count()),
        }
    }

    /// Moves a message to the dead-letter queue: it keeps its id and the time when it was sent.
    fn bury(&mut self, name: &str, number: u64, dead: &str, now: Timestamp) {
        if let Some(message) = self.known(name).messages.remove(&number) {
            let source = Some(name.to_owned());
            self.add(dead, Message { visible_at: now, receipt_handle: None, dead_letter_source: source, ..message });
        }
    }

    fn forget_old(&mut self, name: &str, now: Timestamp) {
        let queue = self.known(name);
        let retention = queue.settings.retention;
        queue.messages.retain(|_, message| now.since(message.sent_at) < retention);
    }

    pub(super) fn put(&mut self, name: &str, body: &str, now: Timestamp) -> String {
        let send = NewMessage {
            queue_url: String::new(),
            id: String::new(),
            message_body: body.to_owned(),
            delay_seconds: None,
            message_attributes: Json::Null,
            message_group_id: None,
            message_deduplication_id: None,
        };
        let sent = self.send(name, send, now).unwrap_or_else(|(code, message)| panic!("{code}: {message}"));
        sent["MessageId"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether the handle was the latest of a message, which is gone now.
    pub(super) fn remove(&mut self, name: &str, handle: &str) -> bool {
        let before = self.known(name).messages.len();
        self.delete(name, handle).is_ok() && self.known(name).messages.len() < before
    }

    pub(super) fn hide(&mut self, name: &str, handle: &str, hidden: Duration, now: Timestamp) -> bool {
        let request = Handle {
            queue_url: String::new(),
            id: String::new(),
            receipt_handle: handle.to_owned(),
            visibility_timeout: i64::try_from(hidden.as_secs()).ok(),
        };
        self.change_visibility(name, &request, now).is_ok()
    }

    /// Makes a message that is in flight visible at once, as if one of SQS's servers had not heard that it is. Its handle stays.
    pub(super) fn hand_out_again(&mut self, name: &str, id: &str, now: Timestamp) -> bool {
        let found = self.known(name).messages.values_mut().find(|message| message.id == id && message.is_in_flight(now));
        found.map(|message| message.visible_at = now).is_some()
    }

    pub(super) fn counts(&mut self, name: &str, now: Timestamp) -> QueueCounts {
        self.forget_old(name, now);
        let mut counts = QueueCounts::default();
        for message in self.known(name).messages.values() {
            match (message.visible_at <= now, message.receipt_handle.is_some()) {
                (true, _) => counts.visible += 1,
                (false, true) => counts.in_flight += 1,
                (false, false) => counts.delayed += 1,
            }
        }
        counts
    }

    pub(super) fn messages(&mut self, name: &str, now: Timestamp) -> Vec<Message> {
        self.forget_old(name, now);
        self.known(name).messages.values().cloned().collect()
    }

    /// When the next message of a queue can be received; in the past if one can be now.
    pub(super) fn next_visible_at(&mut self, name: &str, now: Timestamp) -> Option<Timestamp> {
        self.forget_old(name, now);
        let queue = self.known(name);
        queue.messages.values().map(|message| queue.free_at(message, now)).min()
    }

    /// For a receive that waits: whether there is something, and else when there next may be.
    pub(super) fn next_for(&mut self, request: &Receive, now: Timestamp) -> Option<Timestamp> {
        let name = self.queue(&request.queue_url).ok()?;
        self.next_visible_at(&name, now)
    }
}

/// By what a FIFO queue knows a message that is sent again.
fn once(request: &NewMessage) -> Result<(String, String), Refusal> {
    let Some(group) = &request.message_group_id else {
        return Err(("MissingParameter", "The request must contain the parameter MessageGroupId.".to_owned()));
    };
    let Some(id) = &request.message_deduplication_id else {
        return Err(invalid(
            "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly",
        ));
    };
    Ok((group.clone(), id.clone()))
}

/// What a receive may take next of a FIFO queue: of each group the first that it has not taken yet, unless something of the group is in
/// flight from an earlier receive, or that first one cannot be seen.
fn heads(queue: &Queue, taken: &[Message], now: Timestamp) -> Vec<u64> {
    let is_taken = |message: &Message| taken.iter().any(|taken| taken.id == message.id);
    let mut groups = BTreeSet::new();
    for message in queue.messages.values().filter(|message| message.is_in_flight(now) && !is_taken(message)) {
        groups.insert(message.group.as_deref());
    }
    let left = queue.messages.iter().filter(|(_, message)| !is_taken(message));
    let firsts: Vec<(&u64, &Message)> = left.filter(|(_, message)| groups.insert(message.group.as_deref())).collect();
    firsts.into_iter().filter(|(_, message)| message.visible_at <= now).map(|(number, _)| *number).collect()
}

/// Of the messages of a standard queue that can be taken, those whose group is not noisy, if there are any: a group is, that has more than a
/// tenth of what is in flight, and thirty messages of its own there. (AWS also looks at the time that a group's messages take, which is not
/// modelled.) Who has no group is alone.
///
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues-detailed.html>
fn quiet(queue: &Queue, free: Vec<u64>, now: Timestamp) -> Vec<u64> {
    let mut in_flight: BTreeMap<&str, usize> = BTreeMap::new();
    let mut all = 0;
    for message in queue.messages.values().filter(|message| message.is_in_flight(now)) {
        all += 1;
        *in_flight.entry(message.group.as_deref().unwrap_or_default()).or_default() += 1;
    }
    let is_noisy = |number: &u64| {
        let group = queue.messages[number].group.as_deref().unwrap_or_default();
        !group.is_empty() && in_flight.get(group).is_some_and(|count| *count >= NOISY_MESSAGES_MIN && count * 10 > all)
    };
    let quiet: Vec<u64> = free.iter().filter(|number| !is_noisy(number)).copied().collect();
    if quiet.is_empty() { free } else { quiet }
}

/// Fewest messages in flight of a group that is noisy.
const NOISY_MESSAGES_MIN: usize = 30;

/// What receipt handles begin with.
const HANDLE: &str = "receipt-";

fn is_handle(handle: &str) -> bool {
    handle.starts_with(HANDLE)
}

fn invalid_handle() -> Refusal {
    ("ReceiptHandleIsInvalid", "The specified receipt handle isn't valid.".to_owned())
}

fn visibility(seconds: i64) -> Result<u64, Refusal> {
    let refused = || {
        invalid(format!(
            "Value {seconds} for parameter VisibilityTimeout is invalid. Reason: Must be between 0 and 43200, if provided."
        ))
    };
    u64::try_from(seconds).ok().filter(|seconds| *seconds <= VISIBILITY_SECONDS_MAX).ok_or_else(refused)
}

/// What is no character of XML 1.0.
fn is_refused(character: char) -> bool {
    matches!(character, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}')
}

fn answer(handled: Handled) -> Answer {
    match handled {
        Ok(json) => Answer::json(200, json.to_string()),
        Err((code, message)) => error(400, code, &message),
    }
}

/// The SDK takes an error's code from the header, which is the one of SQS's older protocol, and its shape from the body.
fn error(status: u16, code: &str, message: &str) -> Answer {
    let shape = match code.strip_prefix("AWS.SimpleQueueService.").unwrap_or(code) {
        "NonExistentQueue" => "QueueDoesNotExist",
        shape => shape,
    };
    let body = json!({"__type": format!("com.amazonaws.sqs#{shape}"), "message": message});
    let mut answer = Answer::json(status, body.to_string());
    let whose = if status < 500 { "Sender" } else { "Receiver" };
    answer.headers.push(("x-amzn-query-error", format!("{code};{whose}")));
    answer
}

/// The errors that SQS gives for reasons of its own.
pub(super) fn fault(fault: Fault) -> Answer {
    match fault {
        Fault::Internal => error(500, "InternalFailure", "The request processing has failed because of an unknown error."),
        Fault::Throttled => error(400, "RequestThrottled", "The request was denied due to request throttling."),
    }
}
