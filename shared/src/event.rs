//! One verified webhook, written once and never changed.

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::{
    location::{self, Location, Locations, Places},
    names::{DestinationName, EVENT_ID_BYTES_MAX, EventId, EventType, NameError, SourceName},
    signatures::{TimestampFormat, VerifiedWebhook},
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
    /// Kept headers, names in lower case; the content type, if any, is among them.
    pub headers: BTreeMap<String, String>,
    /// Length of the exact body. The bytes themselves are large and seldom needed: they travel beside the event.
    pub body_bytes: usize,
    /// The SHA-256 of the exact body.
    pub sha256: BodyDigest,
    /// The signing key that proved it.
    pub key_id: String,
    /// Where it goes: settled when it is recorded.
    pub destinations: Vec<DestinationName>,
    /// From then on its id is new again.
    pub expires_at: Timestamp,
}

/// The SHA-256 of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BodyDigest([u8; 32]);

impl BodyDigest {
    /// Digests a body.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
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

/// Where a source's events carry what Posthouse needs to know about them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventSpec {
    /// The sender's event id; of several places, their values joined by colons. Without one, the SHA-256 of what was signed is
    /// the id.
    pub id: Option<Locations>,
    /// Whether a webhook may come without it, and is then known by what was signed.
    #[serde(default)]
    pub id_optional: bool,
    /// For senders whose webhooks may be byte for byte the same and yet mean something new: one that is known by what was
    /// signed is the same event only for so long, in seconds.
    pub same_within_seconds: Option<u64>,
    /// The event's type. Without one, or where it is absent, the type is `unknown`.
    #[serde(rename = "type")]
    pub event_type: Option<Location>,
    /// When the event happened.
    pub occurred_at: Option<OccurredAt>,
}

/// Where the sender says when an event happened.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OccurredAt {
    /// The place.
    pub at: Location,
    /// How it is written there.
    pub format: TimestampFormat,
}

/// What a verified webhook says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The sender's id.
    pub event_id: EventId,
    /// The sender's word for what happened.
    pub event_type: EventType,
    /// When it happened.
    pub occurred_at: Option<Timestamp>,
    /// Whether the id is that of what was signed, since it has none of its own.
    pub by_content: bool,
}

/// Why a verified webhook cannot become an event.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The id stands in the JSON body, and the body is none.
    #[error("the body is not valid JSON, and the event id stands in it")]
    InvalidJson,
    /// Nothing at the id's place.
    #[error("there is no event id where this source has it")]
    NoEventId,
    /// Something that cannot be an id.
    #[error("the event id {0}")]
    BadEventId(NameError),
}

impl EventSpec {
    /// Finds id, type and time. The body is parsed at most once, and only if one of them stands in it. A type or time that
    /// cannot be read refuses nothing: the event is no less real.
    pub fn identify(
        &self,
        webhook: &VerifiedWebhook<'_>,
        sha256: &BodyDigest,
        received_at: Timestamp,
    ) -> Result<Identity, IdentityError> {
        let places = Places::proven(webhook.webhook());
        let find = |at: &Location| places.find(at).filter(|value| !value.is_empty());
        let by_content = || {
            let digest = webhook.content_digest(sha256).to_hex();
            self.same_within_seconds
                .map_or(digest.clone(), |seconds| format!("{digest}-{}", received_at.seconds() / seconds.max(1)))
        };
        let sent_id = self.id.as_ref().map(|places| places.iter().map(find).collect::<Option<Vec<_>>>().map(|ids| ids.join(":")));
        let sent_id = match sent_id {
            Some(Some(id)) => Some(id),
            Some(None) if !self.id_optional => return Err(self.no_id(&places)),
            Some(None) | None => None,
        };
        let by_own_content = sent_id.is_none();
        let event_id = sent_id.unwrap_or_else(by_content);
        let event_type = self.event_type.as_ref().and_then(find);
        let occurred_at = self.occurred_at.as_ref().and_then(|spec| spec.format.read(&find(&spec.at)?));
        Ok(Identity {
            event_id: EventId::parse(&event_id).map_err(IdentityError::BadEventId)?,
            event_type: event_type.and_then(|text| EventType::parse(&text).ok()).unwrap_or_else(EventType::unknown),
            occurred_at,
            by_content: by_own_content,
        })
    }

    fn no_id(&self, places: &Places<'_>) -> IdentityError {
        let in_json = self.id.iter().flat_map(Locations::iter).any(|place| matches!(place, Location::Json(_)));
        if in_json && places.json().is_none() { IdentityError::InvalidJson } else { IdentityError::NoEventId }
    }

    /// All places that it names.
    pub fn places(&self) -> impl Iterator<Item = &Location> {
        let id = self.id.iter().flat_map(Locations::iter);
        id.chain(&self.event_type).chain(self.occurred_at.iter().map(|spec| &spec.at))
    }
}

/// The headers of a webhook that are kept on its event: the content type and those that the source names.
pub fn kept_headers(webhook: &VerifiedWebhook<'_>, names: &[String]) -> BTreeMap<String, String> {
    std::iter::once("content-type")
        .chain(names.iter().map(String::as_str))
        .filter_map(|name| Some((name.to_owned(), location::header(webhook.headers(), name)?.into_owned())))
        .filter(|(_, value)| value.len() <= KEPT_HEADER_BYTES_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;
    use crate::{
        secrets::Keyring,
        signatures::{UnverifiedWebhook, preset::Preset},
    };

    /// Identifies a GitHub-signed webhook by `spec`.
    fn identify(spec: &str, headers: &[(&'static str, &str)], body: &[u8]) -> Result<Identity, IdentityError> {
        let signature = {
            use hmac::{Hmac, KeyInit, Mac};
            let mut mac = Hmac::<Sha256>::new_from_slice(b"k").unwrap();
            mac.update(body);
            format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
        };
        let mut map: HeaderMap = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        map.insert("x-hub-signature-256", signature.parse().unwrap());
        let webhook =
            UnverifiedWebhook { headers: map, ..UnverifiedWebhook::new(Method::POST, "https://h/", &[], body.to_vec()) };
        let scheme = Preset::find("github").unwrap().unwrap().scheme;
        let now = Timestamp::from_seconds(100);
        let verified = scheme.verify(&webhook, &Keyring::parse("k").unwrap(), None, now).unwrap();
        toml::from_str::<EventSpec>(spec).unwrap().identify(&verified, &BodyDigest::of(body), now)
    }

    const IN_JSON: &str = r#"
        id = "json:/id"
        type = "json:/type"
        occurred_at = { at = "json:/created", format = "seconds" }"#;

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

    #[test]
    fn id_type_and_time_are_found_in_the_body() {
        let identity = identify(IN_JSON, &[], br#"{"id":"evt_1","type":"invoice.paid","created":1700000000}"#).unwrap();
        assert_eq!(identity.event_id.as_str(), "evt_1");
        assert_eq!(identity.event_type.as_str(), "invoice.paid");
        assert_eq!(identity.occurred_at, Some(Timestamp::from_seconds(1_700_000_000)));
    }

    #[test]
    fn an_event_without_the_id_that_its_source_demands_is_refused() {
        assert_eq!(identify(IN_JSON, &[], b"{}"), Err(IdentityError::NoEventId));
        assert_eq!(identify(IN_JSON, &[], br#"{"id":""}"#), Err(IdentityError::NoEventId));
        assert_eq!(identify(IN_JSON, &[], br#"{"id":{}}"#), Err(IdentityError::NoEventId));
        assert_eq!(identify(IN_JSON, &[], b"{"), Err(IdentityError::InvalidJson));
        assert_eq!(identify(IN_JSON, &[], b"\xff"), Err(IdentityError::InvalidJson));
        let control = br#"{"id":"a\u0000b"}"#;
        assert_eq!(identify(IN_JSON, &[], control), Err(IdentityError::BadEventId(NameError::ControlCharacter)));
    }

    #[test]
    fn a_missing_type_or_time_refuses_nothing() {
        let identity = identify(IN_JSON, &[], br#"{"id":"1","created":"yesterday"}"#).unwrap();
        assert_eq!((identity.event_type, identity.occurred_at), (EventType::unknown(), None));
        let in_header = "id = \"header:x-id\"\ntype = \"json:/type\"";
        let identity = identify(in_header, &[("x-id", "7")], b"\xff").unwrap();
        assert_eq!((identity.event_id.as_str(), identity.event_type), ("7", EventType::unknown()));
    }

    #[test]
    fn an_id_may_be_of_several_places_or_optional() {
        let two = "id = [\"header:x-channel\", \"header:x-number\"]";
        let identity = identify(two, &[("x-channel", "c"), ("x-number", "7")], b"").unwrap();
        assert_eq!(identity.event_id.as_str(), "c:7");
        assert_eq!(identify(two, &[("x-channel", "c")], b""), Err(IdentityError::NoEventId));
        let optional = "id = \"json:/id\"\nid_optional = true";
        assert_eq!(identify(optional, &[], b"{}").unwrap().event_id.as_str(), BodyDigest::of(b"{}").to_hex());
        assert_eq!(identify(optional, &[], br#"{"id":1}"#).unwrap().event_id.as_str(), "1");
    }

    #[test]
    fn equal_webhooks_are_one_event_only_for_so_long() {
        let id =
            |seconds: u64| identify(&format!("same_within_seconds = {seconds}"), &[], b"x").unwrap().event_id.as_str().to_owned();
        // It is second 100.
        assert_eq!(id(101), format!("{}-0", BodyDigest::of(b"x").to_hex()));
        assert_eq!(id(100), format!("{}-1", BodyDigest::of(b"x").to_hex()));
    }

    #[test]
    fn without_an_id_of_its_own_an_event_is_known_by_its_body() {
        let identity = identify("", &[], b"body").unwrap();
        assert_eq!(identity.event_id.as_str(), BodyDigest::of(b"body").to_hex());
    }
}
