//! The SQS message that names a delivery and carries no payload.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sqs::{Client, types::MessageAttributeValue, types::SendMessageBatchRequestEntry};
use serde::{Deserialize, Serialize};

use crate::{
    aws,
    event::EventKey,
    names::{DestinationName, EventId, SourceName, is_unprintable},
};

/// Most doorbells in one request: SQS takes ten (quotas of SendMessageBatch), and billing is by request.
pub const RING_BATCH_MAX: usize = 10;
/// Longest reason on a dead letter, in characters.
pub const REASON_CHARS_MAX: usize = 256;
/// Longest hold, in seconds: SQS hides a message for at most 12 hours from when it was received, and some of them have passed.
pub const HOLD_SECONDS_MAX: u64 = 12 * 60 * 60 - 300;
/// The message attribute that says why a doorbell is in the dead-letter queue.
pub const REASON_ATTRIBUTE: &str = "reason";

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

    /// Rings every doorbell: one request for one, one request for each ten of more.
    pub async fn ring(&self, doorbells: &[Doorbell]) -> Result<(), RingError> {
        let failed = |unrung, reason| RingError { unrung, all: doorbells.len(), reason };
        if let [only] = doorbells {
            let sent = self.client.send_message().queue_url(&self.queue_url).message_body(only.to_json()).send().await;
            return sent.map(drop).map_err(|error| failed(1, aws::describe(&error)));
        }
        let mut rung = 0;
        for batch in doorbells.chunks(RING_BATCH_MAX) {
            let refused = self.ring_batch(batch).await.map_err(|reason| failed(doorbells.len() - rung, reason))?;
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
        let send = self.client.send_message().queue_url(&self.queue_url).message_body(body);
        let sent = send.message_attributes(REASON_ATTRIBUTE, attribute).send().await;
        sent.map(drop).map_err(|error| RingError { unrung: 1, all: 1, reason: aws::describe(&error) })
    }

    /// The first entry's refusal, if any.
    async fn ring_batch(&self, batch: &[Doorbell]) -> Result<Option<String>, String> {
        let entries = batch.iter().enumerate().map(|(index, doorbell)| {
            SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(doorbell.to_json()).build()
        });
        let entries = entries.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        let send = self.client.send_message_batch().queue_url(&self.queue_url).set_entries(Some(entries));
        let answer = send.send().await.map_err(|error| aws::describe(&error))?;
        Ok(answer.failed().first().map(|entry| format!("{}: {}", entry.code(), entry.message().unwrap_or_default())))
    }
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

    #[test]
    fn reasons_are_bounded_and_printable() {
        assert_eq!(printable("a\nb\0\u{fffe}"), "a b  ");
        assert_eq!(printable(""), "unknown");
        assert_eq!(printable(&"é".repeat(REASON_CHARS_MAX + 1)).chars().count(), REASON_CHARS_MAX);
    }
}
