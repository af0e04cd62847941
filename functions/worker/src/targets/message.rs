//! What SQS and SNS messages have in common.

use base64::{Engine, engine::general_purpose::STANDARD};
use shared::{config::MessageGroup, content::CONTENT_ENCODING, event::BodyDigest};

use crate::{failure::Failure, parcel::Parcel};

/// Largest message with its attributes, in bytes: what SQS takes (1 MiB), and an SNS topic that is set to it.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// What stands for a body of no bytes: neither service takes an empty message.
const EMPTY: &str = "-";
const ENCODING_ATTRIBUTE: &str = "posthouse-encoding";
/// The type of all attributes.
pub(super) const ATTRIBUTE_TYPE: &str = "String";

/// A message to a queue or topic.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) text: String,
    pub(super) attributes: Vec<(&'static str, String)>,
    /// Of FIFO queues and topics: the group, and by what a repeat is known.
    pub(super) fifo: Option<Fifo>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fifo {
    pub(super) group_id: String,
    pub(super) deduplication_id: String,
}

impl Message {
    /// The exact body, with what says which event it is. `service` is for words.
    pub(super) fn of(parcel: Parcel<'_>, group: Option<MessageGroup>, service: &str) -> Result<Self, Failure> {
        let event = parcel.event;
        let mut attributes = vec![
            ("posthouse-id", parcel.id()),
            ("posthouse-source", event.key.source.to_string()),
            ("posthouse-event-type", event.event_type.to_string()),
            ("idempotency-key", parcel.idempotency_key()),
        ];
        for (name, value) in [("content-type", parcel.content_type), (CONTENT_ENCODING, parcel.content_encoding)] {
            let value = value.filter(|value| !value.is_empty() && value.chars().all(is_taken));
            attributes.extend(value.map(|value| (name, value.to_owned())));
        }
        let fifo = group.map(|group| Fifo::of(&parcel, group));
        let (text, encoding) = encode(parcel.body);
        attributes.extend(encoding.map(|encoding| (ENCODING_ATTRIBUTE, encoding.to_owned())));
        let message = Self { text, attributes, fifo };
        let bytes = message.bytes();
        if bytes > MESSAGE_BYTES_MAX {
            let reason = format!("the message of {bytes} bytes is above the {MESSAGE_BYTES_MAX} that {service} takes");
            return Err(Failure::Permanent(reason));
        }
        Ok(message)
    }

    /// Its size as both services count it: each attribute's name, type and value are part of it.
    pub(super) fn bytes(&self) -> usize {
        let attributes = self.attributes.iter().map(|(name, value)| name.len() + ATTRIBUTE_TYPE.len() + value.len());
        self.text.len() + attributes.sum::<usize>()
    }
}

impl Fifo {
    fn of(parcel: &Parcel<'_>, group: MessageGroup) -> Self {
        // A group's name is bounded and so are its characters; an event's id is longer and has others.
        let group_id = match group {
            MessageGroup::Source => parcel.event.key.source.to_string(),
            MessageGroup::EventId => BodyDigest::of(parcel.id().as_bytes()).to_hex(),
        };
        Self { group_id, deduplication_id: BodyDigest::of(parcel.idempotency_key().as_bytes()).to_hex() }
    }
}

/// The body as text that both services take, and how it is encoded if it is not as it came.
fn encode(body: Vec<u8>) -> (String, Option<&'static str>) {
    if body.is_empty() {
        return (EMPTY.to_owned(), Some("empty"));
    }
    match String::from_utf8(body) {
        Ok(text) if text.chars().all(is_taken) => (text, None),
        Ok(text) => (STANDARD.encode(text), Some("base64")),
        Err(binary) => (STANDARD.encode(binary.as_bytes()), Some("base64")),
    }
}

/// The characters that SQS takes (SendMessage), and so what a topic can pass on to a queue.
const fn is_taken(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use shared::event::Event;

    use super::{
        super::fake::{destination, event, parcel},
        *,
    };

    #[test]
    fn a_message_is_the_exact_body_and_says_which_event_it_is() {
        let (event, destination) = (event(), destination());
        let message = Message::of(parcel(&event, &destination, "{\"é\": 1}\n"), None, "SQS").unwrap();
        let attributes = [
            ("posthouse-id", "shop#%C3%A9%207"),
            ("posthouse-source", "shop"),
            ("posthouse-event-type", "orders/create"),
            ("idempotency-key", "shop#%C3%A9%207#orders"),
            ("content-type", "application/json"),
        ];
        let attributes = attributes.map(|(name, value)| (name, value.to_owned())).to_vec();
        assert_eq!(message, Message { text: "{\"é\": 1}\n".to_owned(), attributes, fifo: None });
    }

    #[test]
    fn a_header_that_no_attribute_can_have_is_left_out() {
        let destination = destination();
        for header in ["content-type", "content-encoding"] {
            for unusable in ["", "a\u{1b}b"] {
                let event = Event { headers: [(header.to_owned(), unusable.to_owned())].into(), ..event() };
                let message = Message::of(parcel(&event, &destination, "{}"), None, "SQS").unwrap();
                assert!(message.attributes.iter().all(|(name, _)| *name != header), "{unusable:?}");
            }
        }
    }

    #[test]
    fn a_compressed_body_travels_in_base64_and_says_how_it_is_compressed() {
        let destination = destination();
        let mut event = event();
        event.headers.insert("content-encoding".to_owned(), "gzip".to_owned());
        let message = Message::of(parcel(&event, &destination, b"\x1f\x8b"), None, "SQS").unwrap();
        let attributes: Vec<_> = message.attributes.iter().map(|(name, value)| (*name, value.as_str())).skip(4).collect();
        let expected = [("content-type", "application/json"), ("content-encoding", "gzip"), ("posthouse-encoding", "base64")];
        assert_eq!((attributes.as_slice(), message.text.as_str()), (&expected[..], "H4s="));
    }

    #[test]
    fn what_sqs_refuses_travels_in_base64_and_says_so() {
        let encoded = |body: &[u8]| encode(body.to_vec());
        let as_it_is = ["a", "\t\r\n ", "\u{20}\u{7f}\u{d7ff}\u{e000}\u{fffd}\u{10000}\u{10ffff}"];
        for text in as_it_is {
            assert_eq!(encoded(text.as_bytes()), (text.to_owned(), None));
        }
        for (body, base64) in [
            (&b"a\0"[..], "YQA="),
            (b"\x1f", "Hw=="),
            (b"\xff\xfe", "//4="),
            ("\u{fffe}".as_bytes(), "77++"),
            ("\u{ffff}".as_bytes(), "77+/"),
        ] {
            assert_eq!(encoded(body), (base64.to_owned(), Some("base64")), "{body:?}");
        }
        assert_eq!(encoded(b""), ("-".to_owned(), Some("empty")));

        let (event, destination) = (event(), destination());
        let message = Message::of(parcel(&event, &destination, "\0"), None, "SQS").unwrap();
        assert_eq!(message.attributes.last(), Some(&("posthouse-encoding", "base64".to_owned())));
    }

    #[test]
    fn a_fifo_message_has_a_group_and_is_known_again_by_its_idempotency_key() {
        let (event, destination) = (event(), destination());
        let fifo = |group| Message::of(parcel(&event, &destination, "{}"), Some(group), "SQS").unwrap().fifo.unwrap();
        let deduplication_id = BodyDigest::of(b"shop#%C3%A9%207#orders").to_hex();
        let group_id = "shop".to_owned();
        assert_eq!(fifo(MessageGroup::Source), Fifo { group_id, deduplication_id: deduplication_id.clone() });
        let group_id = BodyDigest::of(b"shop#%C3%A9%207").to_hex();
        assert_eq!(fifo(MessageGroup::EventId), Fifo { group_id, deduplication_id });
    }

    #[test]
    fn a_message_holds_on_both_sides_of_its_bound() {
        let (event, destination) = (event(), destination());
        let message = |bytes: usize| Message::of(parcel(&event, &destination, "a".repeat(bytes)), None, "SNS");
        let around = message(1).unwrap().bytes() - 1;
        let written = [
            "posthouse-idStringshop#%C3%A9%207",
            "posthouse-sourceStringshop",
            "posthouse-event-typeStringorders/create",
            "idempotency-keyStringshop#%C3%A9%207#orders",
            "content-typeStringapplication/json",
        ];
        assert_eq!(around, written.concat().len());
        assert!(message(MESSAGE_BYTES_MAX - around).is_ok());
        let reason = "the message of 1048577 bytes is above the 1048576 that SNS takes".to_owned();
        assert_eq!(message(MESSAGE_BYTES_MAX - around + 1), Err(Failure::Permanent(reason)));
    }
}
