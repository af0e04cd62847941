//! The SQS message that names a delivery and carries no payload.
//!
//! On a FIFO queue each has a group as well, of which SQS hands out one after another. On a standard queue each says its destination as its
//! group, which makes the queue fair: where one destination has many messages in the workers' hands, those of others come first.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sqs::{
    Client,
    types::{MessageAttributeValue, QueueAttributeName, SendMessageBatchRequestEntry},
};
use serde::{Deserialize, Serialize};

use crate::{
    aws,
    event::{BodyDigest, EventKey},
    names::{DestinationName, EventId, SourceName, is_unprintable},
};

/// Most doorbells in one request: SQS takes ten (quotas of SendMessageBatch), and billing is by request.
pub const RING_BATCH_MAX: usize = 10;
/// Longest reason on a dead letter, in characters.
pub const REASON_CHARS_MAX: usize = 256;
/// Longest delay of a message, in seconds (quota of SQS).
pub const DELAY_SECONDS_MAX: u64 = 15 * 60;
/// Longest hold, in seconds: SQS hides a message for at most 12 hours from when it was received, and some of them have passed.
pub const HOLD_SECONDS_MAX: u64 = 12 * 60 * 60 - 300;
/// The message attribute that says why a doorbell is in the dead-letter queue.
pub const REASON_ATTRIBUTE: &str = "reason";

/// How the name of a FIFO queue ends, and of no other (CreateQueue).
const FIFO_SUFFIX: &str = ".fifo";

/// Names a delivery: one event on its way to one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doorbell {
    /// Who sent the event.
    pub source: SourceName,
    /// The sender's id of the event.
    pub event_id: EventId,
    /// Where it goes.
    pub destination: DestinationName,
    /// Which run of the delivery this asks for: 0 is the first, each redrive of a dead delivery asks for one more. A
    /// delivery that has seen this number already is not run again because of it.
    #[serde(default)]
    pub replay: u32,
}

impl Doorbell {
    /// The first doorbell of a delivery.
    pub fn first(key: &EventKey, destination: &DestinationName) -> Self {
        Self { source: key.source.clone(), event_id: key.event_id.clone(), destination: destination.clone(), replay: 0 }
    }

    /// The event that it names.
    pub fn event_key(&self) -> EventKey {
        EventKey { source: self.source.clone(), event_id: self.event_id.clone() }
    }

    /// The message body.
    pub fn to_json(&self) -> String {
        // Strings and a number: serializing them cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Which doorbells of a FIFO queue are handed out one after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group(String);

impl Group {
    /// Of all deliveries of one thing to a destination, as a route's order tells it.
    pub fn of_thing(destination: &DestinationName, thing: &str) -> Self {
        Self::digest(&["order", destination.as_str(), thing])
    }

    /// Of a delivery alone.
    pub fn of_delivery(doorbell: &Doorbell) -> Self {
        Self::digest(&["delivery", doorbell.source.as_str(), doorbell.destination.as_str(), doorbell.event_id.as_str()])
    }

    /// As SQS has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A group's name is bounded and so are its characters; a thing may be longer and have others.
    fn digest(parts: &[&str]) -> Self {
        Self(BodyDigest::of(parts.join("#").as_bytes()).to_hex())
    }

    fn of_its_own() -> Self {
        Self(unique())
    }
}

/// What a queue is told of a message beside its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Grouping {
    group_id: Option<String>,
    deduplication_id: Option<String>,
}

/// A queue did not take a message, or not surely.
#[derive(Debug, thiserror::Error)]
#[error("SQS did not take {unrung} of {all}: {reason}")]
pub struct RingError {
    /// How many may not have been taken.
    pub unrung: usize,
    /// How many there were.
    pub all: usize,
    /// What SQS or the SDK said.
    pub reason: String,
}

/// A queue of doorbells.
#[derive(Clone, Debug)]
pub struct Bell {
    client: Client,
    queue_url: String,
}

impl Bell {
    /// The bell on this queue.
    pub fn new(config: &SdkConfig, queue_url: String) -> Self {
        Self { client: Client::new(config), queue_url }
    }

    /// Whether it hands out the doorbells of a group one after another.
    pub fn is_fifo(&self) -> bool {
        self.queue_url.ends_with(FIFO_SUFFIX)
    }

    /// Rings every doorbell, each in the group of its delivery: for those who cannot tell what the event is about.
    pub async fn ring(&self, doorbells: &[Doorbell]) -> Result<(), RingError> {
        self.ring_in(doorbells, Group::of_delivery).await
    }

    /// Rings up to [`RING_BATCH_MAX`] doorbells, each as many seconds from now as stands beside it and at most [`DELAY_SECONDS_MAX`], in one
    /// request. A FIFO queue knows no delay of a message.
    pub async fn ring_later(&self, doorbells: &[(Doorbell, u64)]) -> Result<(), RingError> {
        let all = doorbells.len();
        let failed = |reason| RingError { unrung: all, all, reason };
        let delay = |seconds: u64| (!self.is_fifo()).then_some(seconds.min(DELAY_SECONDS_MAX) as i32).filter(|delay| *delay > 0);
        let entries = doorbells.iter().map(|(doorbell, seconds)| (doorbell, delay(*seconds)));
        match self.ring_batch(entries, &Group::of_delivery).await.map_err(failed)? {
            Some(refused) => Err(failed(refused)),
            None => Ok(()),
        }
    }

    /// How many doorbells wait for a worker, about: SQS says so of some of its servers, and of a moment ago.
    pub async fn waiting_for_workers(&self) -> Result<u64, RingError> {
        let failed = |reason| RingError { unrung: 0, all: 0, reason };
        let name = QueueAttributeName::ApproximateNumberOfMessages;
        let get = self.client.get_queue_attributes().queue_url(&self.queue_url).attribute_names(name.clone());
        let answer = get.send().await.map_err(|error| failed(aws::describe(&error)))?;
        let count = answer.attributes().and_then(|attributes| attributes.get(&name)?.parse().ok());
        count.ok_or_else(|| failed("SQS does not say how many messages the queue has".to_owned()))
    }

    /// Rings every doorbell: one request for one, one request for each ten of more. Only a FIFO queue asks for their groups.
    pub async fn ring_in(&self, doorbells: &[Doorbell], group: impl Fn(&Doorbell) -> Group) -> Result<(), RingError> {
        let failed = |unrung, reason| RingError { unrung, all: doorbells.len(), reason };
        if let [only] = doorbells {
            let Grouping { group_id, deduplication_id } = self.grouping(Some(only), || group(only));
            let send = self.client.send_message().queue_url(&self.queue_url).message_body(only.to_json());
            let send = send.set_message_group_id(group_id).set_message_deduplication_id(deduplication_id);
            return send.send().await.map(drop).map_err(|error| failed(1, aws::describe(&error)));
        }
        let mut rung = 0;
        for batch in doorbells.chunks(RING_BATCH_MAX) {
            let entries = batch.iter().map(|doorbell| (doorbell, None));
            let refused = self.ring_batch(entries, &group).await.map_err(|reason| failed(doorbells.len() - rung, reason))?;
            if let Some(reason) = refused {
                return Err(failed(doorbells.len() - rung, reason));
            }
            rung += batch.len();
        }
        Ok(())
    }

    /// Hides a received message for `wait`, rounded up to seconds; it then comes again, unless it is acknowledged before.
    pub async fn hold(&self, receipt_handle: &str, wait: Duration) -> Result<(), RingError> {
        let seconds = wait.as_millis().div_ceil(1000).min(HOLD_SECONDS_MAX as u128) as i32;
        let change = self.client.change_message_visibility().queue_url(&self.queue_url).receipt_handle(receipt_handle);
        let changed = change.visibility_timeout(seconds).send().await;
        changed.map(drop).map_err(|error| RingError { unrung: 1, all: 1, reason: aws::describe(&error) })
    }

    /// Puts a doorbell's message, or what should have been one, aside with the reason, for a person to see.
    pub async fn put_aside(&self, body: &str, reason: &str) -> Result<(), RingError> {
        let attribute = MessageAttributeValue::builder().data_type("String").string_value(printable(reason)).build();
        let attribute = attribute.map_err(|error| RingError { unrung: 1, all: 1, reason: error.to_string() })?;
        // No letter waits for another: what is dead has no order.
        let Grouping { group_id, deduplication_id } = self.grouping(None, Group::of_its_own);
        let send = self.client.send_message().queue_url(&self.queue_url).message_body(body);
        let send = send.set_message_group_id(group_id).set_message_deduplication_id(deduplication_id);
        let sent = send.message_attributes(REASON_ATTRIBUTE, attribute).send().await;
        sent.map(drop).map_err(|error| RingError { unrung: 1, all: 1, reason: aws::describe(&error) })
    }

    /// The first entry's refusal, if any.
    async fn ring_batch<'d>(
        &self,
        batch: impl Iterator<Item = (&'d Doorbell, Option<i32>)>,
        group: &impl Fn(&Doorbell) -> Group,
    ) -> Result<Option<String>, String> {
        let entries = batch.enumerate().map(|(index, (doorbell, delay))| {
            let Grouping { group_id, deduplication_id } = self.grouping(Some(doorbell), || group(doorbell));
            let entry = SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(doorbell.to_json());
            let entry = entry.set_delay_seconds(delay);
            entry.set_message_group_id(group_id).set_message_deduplication_id(deduplication_id).build()
        });
        let entries = entries.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        let send = self.client.send_message_batch().queue_url(&self.queue_url).set_entries(Some(entries));
        let answer = send.send().await.map_err(|error| aws::describe(&error))?;
        Ok(answer.failed().first().map(|entry| format!("{}: {}", entry.code(), entry.message().unwrap_or_default())))
    }

    fn grouping(&self, doorbell: Option<&Doorbell>, group: impl FnOnce() -> Group) -> Grouping {
        if !self.is_fifo() {
            let group_id = doorbell.map(|doorbell| doorbell.destination.to_string());
            return Grouping { group_id, deduplication_id: None };
        }
        // The ledger knows a doorbell that rings twice. SQS must not drop one: the first may be the one that was lost.
        Grouping { group_id: Some(group().0), deduplication_id: Some(unique()) }
    }
}

/// What no other message has.
fn unique() -> String {
    format!("{:032x}", fastrand::u128(..))
}

/// SQS refuses control characters and empty attribute values.
fn printable(reason: &str) -> String {
    let text: String =
        reason.chars().map(|character| if is_unprintable(character) { ' ' } else { character }).take(REASON_CHARS_MAX).collect();
    if text.is_empty() { "unknown".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doorbell_names_a_delivery_and_nothing_else() {
        let json = r#"{"source":"github","event_id":"7","destination":"ci","replay":2}"#;
        let doorbell: Doorbell = serde_json::from_str(json).unwrap();
        assert_eq!(doorbell.to_json(), json);
        let first: Doorbell = serde_json::from_str(r#"{"source":"github","event_id":"7","destination":"ci"}"#).unwrap();
        assert_eq!(first.replay, 0);
    }

    #[test]
    fn what_is_no_doorbell_is_not_taken_for_one() {
        for not_one in [
            "",
            "7",
            "{}",
            r#"{"source":"Git Hub","event_id":"7","destination":"ci"}"#,
            r#"{"source":"a","event_id":"7","destination":"ci","body":"x"}"#,
        ] {
            assert!(serde_json::from_str::<Doorbell>(not_one).is_err(), "{not_one}");
        }
    }

    fn bell(queue_url: &str) -> Bell {
        let config = SdkConfig::builder().behavior_version(aws_config::BehaviorVersion::latest()).build();
        Bell::new(&config, queue_url.to_owned())
    }

    #[test]
    fn a_fifo_queue_is_told_a_group_and_each_time_another_id_and_any_other_the_destination() {
        let json = r#"{"source":"s","event_id":"7","destination":"ci","replay":0}"#;
        let doorbell: Doorbell = serde_json::from_str(json).unwrap();
        let standard = bell("https://sqs.example/1/doorbells");
        let told = standard.grouping(Some(&doorbell), || panic!("nobody asks for it"));
        assert_eq!(told, Grouping { group_id: Some("ci".to_owned()), deduplication_id: None });
        assert_eq!(standard.grouping(None, || panic!("nobody asks for it")), Grouping::default());
        let fifo = bell("https://sqs.example/1/doorbells.fifo");
        let group = || Group("g".to_owned());
        let (first, second) = (fifo.grouping(Some(&doorbell), group), fifo.grouping(Some(&doorbell), group));
        assert_eq!((first.group_id.as_deref(), &second.group_id), (Some("g"), &first.group_id));
        assert!(first.deduplication_id.is_some());
        assert_ne!(first.deduplication_id, second.deduplication_id);
    }

    #[test]
    fn a_group_is_of_a_thing_at_a_destination_or_of_one_delivery() {
        let doorbell = |id: &str, destination: &str| {
            let json = format!(r#"{{"source":"s","event_id":"{id}","destination":"{destination}","replay":0}}"#);
            serde_json::from_str::<Doorbell>(&json).unwrap()
        };
        let (ci, crm) = (DestinationName::parse("ci").unwrap(), DestinationName::parse("crm").unwrap());
        let first = doorbell("7", "ci");
        let groups = [
            Group::of_thing(&ci, "7"),
            Group::of_thing(&ci, "8"),
            Group::of_thing(&crm, "7"),
            Group::of_delivery(&first),
            Group::of_delivery(&doorbell("8", "ci")),
            Group::of_delivery(&doorbell("7", "crm")),
        ];
        for (index, group) in groups.iter().enumerate() {
            assert_eq!(groups.iter().position(|other| other == group), Some(index), "{group:?}");
            // What SQS takes: at most 128 letters, digits and punctuation.
            assert!(group.as_str().len() == 64 && group.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric()));
        }
        assert_eq!(Group::of_delivery(&Doorbell { replay: 3, ..first.clone() }), Group::of_delivery(&first));
    }

    #[test]
    fn reasons_are_bounded_and_printable() {
        assert_eq!(printable("a\nb\0\u{fffe}"), "a b  ");
        assert_eq!(printable(""), "unknown");
        assert_eq!(printable(&"é".repeat(REASON_CHARS_MAX + 1)).chars().count(), REASON_CHARS_MAX);
    }
}
