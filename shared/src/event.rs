//! One verified webhook, written once and never changed.

mod identify;
mod spec;

use std::{collections::BTreeMap, ops::Range};

use sha2::{Digest, Sha256};

pub use self::{
    identify::{Element, Identified, Identity, IdentityError},
    spec::{BATCH_EVENTS_MAX, BodyFormat, Each, EventSpec, IGNORED_VALUES_MAX, Ignored, OccurredAt, Unreadable},
};
use crate::{
    content::CONTENT_ENCODING,
    location,
    names::{DestinationName, EVENT_ID_BYTES_MAX, EventId, EventType, SourceName},
    signatures::VerifiedWebhook,
    time::Timestamp,
};

/// Longest value of a kept header, in bytes; longer ones are not kept, since items are bounded and headers are the sender's.
pub const KEPT_HEADER_BYTES_MAX: usize = 1024;
/// How much of a body's SHA-256 stands in the id of an event that was made of a second body, in hexadecimal digits: enough that
/// nobody finds two bodies with the same.
pub const BESIDE_DIGITS: usize = 32;

const _: () = assert!(2 * size_of::<BodyDigest>() + 1 + BESIDE_DIGITS <= EVENT_ID_BYTES_MAX);

/// Which event this is: its sender, and the sender's own id for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKey {
    /// Who sent it.
    pub source: SourceName,
    /// The sender's id.
    pub event_id: EventId,
}

impl std::fmt::Display for EventKey {
    /// `{source}#{event_id}`: one reading only, since source names have no `#`.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}#{}", self.source, self.event_id)
    }
}

impl EventKey {
    /// The key of the event that a body becomes which came under this key and was not its event: `{event_id}~{digits of the
    /// body's SHA-256}`, so that the same body again is the same event. Of an id that is too long for that, its SHA-256.
    pub fn beside(&self, sha256: &BodyDigest) -> Self {
        let digits = &sha256.to_hex()[..BESIDE_DIGITS];
        let id = self.event_id.as_str();
        let fits = id.len() + 1 + BESIDE_DIGITS <= EVENT_ID_BYTES_MAX;
        let id = if fits { id.to_owned() } else { BodyDigest::of(id.as_bytes()).to_hex() };
        let event_id = EventId::parse(&format!("{id}~{digits}")).expect("an id and hexadecimal digits, no longer than an id");
        Self { source: self.source.clone(), event_id }
    }
}

/// One verified webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which event.
    pub key: EventKey,
    /// The sender's word for what happened.
    pub event_type: EventType,
    /// When the receiver had it.
    pub received_at: Timestamp,
    /// When the sender says it happened.
    pub occurred_at: Option<Timestamp>,
    /// Kept headers, names in lower case; content type and content encoding, if any, are among them.
    pub headers: BTreeMap<String, String>,
    /// Length of the exact body. The bytes themselves are large and seldom needed: they travel beside the event.
    pub body_bytes: usize,
    /// The SHA-256 of the exact body.
    pub sha256: BodyDigest,
    /// That of the body without the values that its source ignores, where it ignores any; of an element of a batch, that of the
    /// element.
    pub compared_sha256: Option<BodyDigest>,
    /// Where in the body this event stands, if the body is a batch of several.
    pub part: Option<Part>,
    /// The signing key that proved it.
    pub key_id: String,
    /// Where it goes: settled when it is recorded.
    pub destinations: Vec<DestinationName>,
    /// From then on its id is new again.
    pub expires_at: Timestamp,
}

/// One element of a batch: where it stands in the body, and where the whole array does. In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where the element begins.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// Where the array begins.
    pub list_start: usize,
    /// Where it ends.
    pub list_end: usize,
}

impl Part {
    /// The exact bytes of the element.
    pub fn of(self, body: &[u8]) -> &[u8] {
        body.get(self.start..self.end).unwrap_or_default()
    }

    /// The body with an empty array in the place of the elements.
    pub fn envelope(self, body: &[u8]) -> Vec<u8> {
        let (before, after) = (body.get(..self.list_start), body.get(self.list_end..));
        [before.unwrap_or_default(), b"[]", after.unwrap_or_default()].concat()
    }
}

impl Event {
    /// What of the stored body is this event's.
    pub fn own_part<'b>(&self, body: &'b [u8]) -> &'b [u8] {
        self.part.map_or(body, |part| part.of(body))
    }

    /// The SHA-256 of what is this event's: of a batch, that by which the element is told apart.
    pub fn own_sha256(&self) -> &BodyDigest {
        if self.part.is_some() { self.compared() } else { &self.sha256 }
    }

    /// How many bytes are this event's.
    pub fn own_bytes(&self) -> usize {
        self.part.map_or(self.body_bytes, |part| part.end.saturating_sub(part.start))
    }

    /// By what two bodies that came under one id are told apart.
    pub fn compared(&self) -> &BodyDigest {
        self.compared_sha256.as_ref().unwrap_or(&self.sha256)
    }
}

/// The SHA-256 of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BodyDigest([u8; 32]);

impl BodyDigest {
    /// Digests a body.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }

    /// Digests a body without the bytes of these ranges, which come in order.
    pub fn without(body: &[u8], spans: &[Range<usize>]) -> Self {
        let mut digest = Sha256::new();
        let mut at = 0;
        for span in spans {
            digest.update(body.get(at..span.start).unwrap_or_default());
            at = span.end;
        }
        digest.update(body.get(at..).unwrap_or_default());
        Self(digest.finalize().into())
    }

    /// From a stored digest; `None` if it is not 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The digest's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Lower-case hexadecimal.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }
}

/// The headers of a webhook that are kept on its event: those that say what the body means, and those that the source names.
pub fn kept_headers(webhook: &VerifiedWebhook<'_>, names: &[String]) -> BTreeMap<String, String> {
    ["content-type", CONTENT_ENCODING]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .filter_map(|name| Some((name.to_owned(), location::header(webhook.headers(), name)?.into_owned())))
        .filter(|(_, value)| value.len() <= KEPT_HEADER_BYTES_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        secrets::Keyring,
        signatures::{UnverifiedWebhook, preset::Preset},
    };

    #[test]
    fn content_type_and_content_encoding_are_always_kept() {
        use hmac::{Hmac, KeyInit, Mac};
        let mut mac = Hmac::<Sha256>::new_from_slice(b"k").unwrap();
        mac.update(b"body");
        let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
        let longest = "x".repeat(KEPT_HEADER_BYTES_MAX);
        let longer = format!("{longest}x");
        let headers = [
            ("X-Hub-Signature-256", signature.as_str()),
            ("Content-Type", "application/json"),
            ("Content-Encoding", "gzip"),
            ("X-Longest", &longest),
            ("X-Longer", &longer),
            ("X-Other", "1"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let webhook = UnverifiedWebhook::new(http::Method::POST, "https://h/", &headers, b"body".to_vec());
        let scheme = Preset::find("github").unwrap().unwrap().scheme;
        let verified = scheme.verify(&webhook, &Keyring::parse("k").unwrap(), None, Timestamp::from_seconds(0)).unwrap();
        let names = ["x-longest", "x-longer", "x-none", "content-encoding"].map(str::to_owned);
        let kept = kept_headers(&verified, &names);
        let expected = [("content-encoding", "gzip"), ("content-type", "application/json"), ("x-longest", &longest)];
        assert_eq!(kept.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_id_of_a_second_body_follows_from_both_and_is_one_whatever_the_first_is() {
        let key = |id: &str| EventKey { source: SourceName::parse("a").unwrap(), event_id: EventId::parse(id).unwrap() };
        let second = BodyDigest::of(b"second");
        assert_eq!(key("evt_1").beside(&second), key("evt_1~16367aacb67a4a017c8da8ab95682ccb"));
        assert_ne!(key("evt_1").beside(&second), key("evt_1").beside(&BodyDigest::of(b"third")));

        let longest = "é".repeat((EVENT_ID_BYTES_MAX - 1 - BESIDE_DIGITS) / 2) + "a";
        let beside = |id: &str| key(id).beside(&second).event_id;
        assert_eq!(beside(&longest).as_str(), format!("{longest}~{}", &second.to_hex()[..BESIDE_DIGITS]));
        assert_eq!(beside(&longest).as_str().len(), EVENT_ID_BYTES_MAX);
        let longer = format!("{longest}b");
        let digest = BodyDigest::of(longer.as_bytes()).to_hex();
        assert_eq!(beside(&longer).as_str(), format!("{digest}~{}", &second.to_hex()[..BESIDE_DIGITS]));
    }
}
