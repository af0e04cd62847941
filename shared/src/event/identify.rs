//! What a verified webhook says of itself: its event id, type and time, or those of each event of a batch.

use std::ops::Range;

use super::{BATCH_EVENTS_MAX, BodyDigest, BodyFormat, EventSpec, Part, Unreadable};
use crate::{
    content::ContentError,
    json::{self, Pointers, Scan},
    location::{self, IdPlaces, Location, Locations, Sought},
    names::{EventId, EventType, NameError},
    signatures::VerifiedWebhook,
    time::Timestamp,
};

/// What a verified webhook is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identified {
    /// One event.
    Whole(Identity),
    /// A batch of events.
    Each(Vec<Element>),
}

/// One event of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Where it stands in the body, decoded if it had a content coding.
    pub part: Part,
    /// What it says about itself.
    pub identity: Identity,
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
    /// Why it has none, if it should have one.
    pub unreadable: Option<IdentityError>,
    /// The SHA-256 of the body without the values that its source ignores, if it has any.
    pub compared_sha256: Option<BodyDigest>,
}

/// Why the event id of a verified webhook cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The id stands in the JSON body, and the body is not JSON.
    #[error("the body is not JSON (line {line}, column {column}), and the event id should stand in it, at `{at}`")]
    NotJson {
        /// The place.
        at: String,
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
    },
    /// The id stands in the body, and its content coding cannot be undone.
    #[error("the event id should stand in the body, at `{at}`, which cannot be read: {error}")]
    Undecodable {
        /// The place.
        at: String,
        /// Why.
        error: ContentError,
    },
    /// The source takes nothing else.
    #[error("the body is not JSON (line {line}, column {column}), and this source takes nothing else")]
    BodyNotJson {
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
    },
    /// The body cannot be decoded, and the source takes JSON alone.
    #[error("the body cannot be read, and this source takes JSON alone: {0}")]
    BodyUndecodable(ContentError),
    /// There is no array where the elements of a batch should be.
    #[error("there is no array of events at `{0}`")]
    NotABatch(String),
    /// Too many at once.
    #[error("the batch at `{at}` has {count} events, more than the {BATCH_EVENTS_MAX} that are taken at once")]
    BatchTooLarge {
        /// The place of the array.
        at: String,
        /// How many.
        count: usize,
    },
    /// Nothing at the id's place.
    #[error("there is no event id at `{0}`")]
    NoEventId(String),
    /// Several values at the id's place.
    #[error("`{0}` stands in the request more than once, and only one of them can be the event id")]
    Several(String),
    /// Another kind of value.
    #[error("`{at}` is {kind}, and an event id is a text or a number")]
    NotText {
        /// The place.
        at: String,
        /// What stands there.
        kind: &'static str,
    },
    /// Two ids could be read as the same one.
    #[error("the event id at `{0}` has a part that is not Unicode")]
    NotUnicode(String),
    /// Something that cannot be an id.
    #[error("the event id {0}")]
    BadEventId(NameError),
}

impl EventSpec {
    /// What a webhook is: one event, or, where the source says so, each element of a batch.
    pub fn identify_all(
        &self,
        webhook: &VerifiedWebhook<'_>,
        sha256: &BodyDigest,
        received_at: Timestamp,
    ) -> Result<Identified, IdentityError> {
        let Some(each) = &self.each else { return self.identify(webhook, sha256, received_at).map(Identified::Whole) };
        self.check_body(webhook)?;
        let body = webhook.places().readable_body();
        let list = match each.pointer() {
            "" => Scan::new(body, &Pointers::NONE).ok().map(|scan| scan.whole(body)),
            pointer => webhook.places().json_once(pointer).ok().flatten(),
        };
        let Some((list, mut elements)) = list.and_then(|list| Some((list, list.elements()?))) else {
            return self.unbatched(webhook, sha256, received_at, IdentityError::NotABatch(each.pointer().to_owned()));
        };
        let list = within(body, list);
        let parts: Vec<Part> = elements
            .by_ref()
            .take(BATCH_EVENTS_MAX)
            .map(|element| within(body, element))
            .map(|element| Part { start: element.start, end: element.end, list_start: list.start, list_end: list.end })
            .collect();
        // Of a body of nothing but elements, none are kept beyond the bound.
        let more = elements.count();
        if more > 0 {
            return Err(IdentityError::BatchTooLarge { at: each.pointer().to_owned(), count: parts.len() + more });
        }
        let elements = parts.into_iter().map(|part| {
            let identity = self.identify_element(webhook, part.of(body), received_at)?;
            Ok(Element { part, identity })
        });
        elements.collect::<Result<_, _>>().map(Identified::Each)
    }

    /// A webhook that should be a batch and is none is one event, and unreadable.
    fn unbatched(
        &self,
        webhook: &VerifiedWebhook<'_>,
        sha256: &BodyDigest,
        received_at: Timestamp,
        error: IdentityError,
    ) -> Result<Identified, IdentityError> {
        if self.unreadable == Some(Unreadable::Refuse) {
            return Err(error);
        }
        let look = |place: &Location| webhook.look(place);
        let event_id = self.timed(&webhook.content_digest(sha256), received_at);
        let event_type = EventType::unreadable();
        let occurred_at = self.read_time(&look);
        let (by_content, unreadable) = (true, Some(error));
        Ok(Identified::Whole(Identity { event_id, event_type, occurred_at, by_content, unreadable, compared_sha256: None }))
    }

    fn identify_element(
        &self,
        webhook: &VerifiedWebhook<'_>,
        element: &[u8],
        received_at: Timestamp,
    ) -> Result<Identity, IdentityError> {
        let pointers = Pointers::new(self.places().filter_map(Location::pointer));
        // It was read before, as a part of the body.
        let scan = Scan::new(element, &pointers).ok();
        let find = |pointer: &str| scan.as_ref().and_then(|scan| scan.get(element, pointers.position(pointer)?));
        let base = |place: &Location| match place {
            Location::Json(pointer) => Sought::of_value(find(pointer)),
            Location::Raw(pointer) => find(pointer).map_or(Sought::Absent, |value| Sought::of_bytes(value.bytes().to_vec())),
            place => webhook.look(place),
        };
        let look = |place: &Location| location::look_through(place, &base);
        let ignoring = self.ignore.as_ref().and_then(|ignored| ignored.digest_without(element));
        let compared = ignoring.unwrap_or_else(|| BodyDigest::of(element));
        let (sent, unreadable) = self.settle_id(self.read_id(&look))?;
        let event_type = if unreadable.is_some() { EventType::unreadable() } else { self.read_type(&look) };
        let (by_content, occurred_at) = (sent.is_none(), self.read_time(&look));
        let event_id = sent.unwrap_or_else(|| self.timed(&compared, received_at));
        Ok(Identity { event_id, event_type, occurred_at, by_content, unreadable, compared_sha256: Some(compared) })
    }

    /// Finds id, type and time. A type or time that cannot be read refuses nothing: the event is no less real. Nor does an id, unless
    /// the source says so.
    pub fn identify(
        &self,
        webhook: &VerifiedWebhook<'_>,
        sha256: &BodyDigest,
        received_at: Timestamp,
    ) -> Result<Identity, IdentityError> {
        self.check_body(webhook)?;
        let compared = self.ignore.as_ref().and_then(|ignored| ignored.digest_without(webhook.places().readable_body()));
        let look = |place: &Location| webhook.look(place);
        let (sent, unreadable) = self.settle_id(self.read_id(&look))?;
        let event_type = if unreadable.is_some() { EventType::unreadable() } else { self.read_type(&look) };
        let (by_content, occurred_at) = (sent.is_none(), self.read_time(&look));
        let body = compared.as_ref().unwrap_or(sha256);
        let event_id = sent.unwrap_or_else(|| self.id_of_content(webhook, sha256, body, received_at));
        Ok(Identity { event_id, event_type, occurred_at, by_content, unreadable, compared_sha256: compared })
    }

    fn check_body(&self, webhook: &VerifiedWebhook<'_>) -> Result<(), IdentityError> {
        if self.body == BodyFormat::Opaque {
            return Ok(());
        }
        match webhook.places().check_json() {
            Sought::NotJson { line, column } => Err(IdentityError::BodyNotJson { line, column }),
            Sought::Undecodable(error) => Err(IdentityError::BodyUndecodable(error)),
            _ => Ok(()),
        }
    }

    /// The id, or why there is none where there should be one; an error if the source refuses such webhooks.
    fn settle_id(
        &self,
        read: Result<Option<EventId>, IdentityError>,
    ) -> Result<(Option<EventId>, Option<IdentityError>), IdentityError> {
        match read {
            Ok(sent) => Ok((sent, None)),
            Err(error) if self.unreadable == Some(Unreadable::Refuse) => Err(error),
            Err(error) => Ok((None, Some(error))),
        }
    }

    fn read_time<'s>(&self, look: &dyn Fn(&Location) -> Sought<'s>) -> Option<Timestamp> {
        let spec = self.occurred_at.as_ref()?;
        spec.at.iter().find_map(|place| spec.format.read(&look(place).text()?))
    }

    /// A digest as an id; for so long as the same content is the same event.
    fn timed(&self, digest: &BodyDigest, received_at: Timestamp) -> EventId {
        let digest = digest.to_hex();
        let id = match self.same_within_seconds {
            Some(seconds) => format!("{digest}-{}", received_at.seconds() / seconds.max(1)),
            None => digest,
        };
        EventId::parse(&id).expect("hexadecimal digits and a number, shorter than an id may be")
    }

    /// The digest of what was signed, or of the body where the source says so. What is ignored of a body can be left out only where
    /// it is the body alone that counts.
    fn id_of_content(
        &self,
        webhook: &VerifiedWebhook<'_>,
        sha256: &BodyDigest,
        compared: &BodyDigest,
        received_at: Timestamp,
    ) -> EventId {
        let signed = webhook.content_digest(sha256);
        // An empty body says nothing.
        let by_body = self.id == Some(IdPlaces::DigestOfBody) && !webhook.body().is_empty();
        self.timed(if by_body || signed == *sha256 { compared } else { &signed }, received_at)
    }

    /// The sender's id, by the first alternative that is there whole. Nothing if the source has none, or does without.
    fn read_id<'s>(&self, look: &dyn Fn(&Location) -> Sought<'s>) -> Result<Option<EventId>, IdentityError> {
        let mut first_error = None;
        for alternative in self.id.iter().flat_map(IdPlaces::alternatives) {
            let parts = alternative.iter().map(|place| read_part(place, look(place))).collect::<Result<Vec<_>, _>>();
            match parts.and_then(|parts| EventId::parse(&parts.join(":")).map_err(IdentityError::BadEventId)) {
                Ok(id) => return Ok(Some(id)),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        match first_error {
            Some(IdentityError::NoEventId(_)) if self.is_id_optional() => Ok(None),
            None => Ok(None),
            Some(error) => Err(error),
        }
    }

    fn read_type<'s>(&self, look: &dyn Fn(&Location) -> Sought<'s>) -> EventType {
        let mut is_absent = true;
        for place in self.event_type.iter().flat_map(Locations::iter) {
            match look(place) {
                Sought::Absent | Sought::NotText("null") => {}
                Sought::Text { text, .. } if text.is_empty() => {}
                Sought::Text { text, .. } => match EventType::parse(&text) {
                    Ok(event_type) => return event_type,
                    Err(_) => is_absent = false,
                },
                Sought::Several | Sought::NotJson { .. } | Sought::Undecodable(_) | Sought::NotText(_) => is_absent = false,
            }
        }
        if is_absent { EventType::unknown() } else { EventType::unreadable() }
    }
}

/// Where a value stands in the body that it was found in.
fn within(body: &[u8], value: json::Value<'_>) -> Range<usize> {
    let start = value.bytes().as_ptr().addr() - body.as_ptr().addr();
    start..start + value.bytes().len()
}

fn read_part(place: &Location, sought: Sought<'_>) -> Result<String, IdentityError> {
    let at = place.to_string();
    match sought {
        Sought::Text { text, .. } if text.is_empty() => Err(IdentityError::NoEventId(at)),
        Sought::Text { is_exact: false, .. } => Err(IdentityError::NotUnicode(at)),
        Sought::Text { text, .. } => Ok(text.into_owned()),
        Sought::Absent | Sought::NotText("null") => Err(IdentityError::NoEventId(at)),
        Sought::Several => Err(IdentityError::Several(at)),
        Sought::NotJson { line, column } => Err(IdentityError::NotJson { at, line, column }),
        Sought::Undecodable(error) => Err(IdentityError::Undecodable { at, error }),
        Sought::NotText(kind) => Err(IdentityError::NotText { at, kind }),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};
    use sha2::Sha256;

    use super::*;
    use crate::{
        event::IGNORED_VALUES_MAX,
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
    fn id_type_and_time_are_found_in_the_body() {
        let identity = identify(IN_JSON, &[], br#"{"id":"evt_1","type":"invoice.paid","created":1700000000}"#).unwrap();
        assert_eq!(identity.event_id.as_str(), "evt_1");
        assert_eq!(identity.event_type.as_str(), "invoice.paid");
        assert_eq!(identity.occurred_at, Some(Timestamp::from_seconds(1_700_000_000)));
    }

    #[test]
    fn an_unreadable_id_is_accepted_under_the_digest_or_refused_in_exact_words() {
        let refusing = format!("{IN_JSON}\nunreadable = \"refuse\"");
        let control = br#"{"id":"a\u0000b"}"#;
        let cases: [(&[u8], &str); 8] = [
            (b"{}", "there is no event id at `json:/id`"),
            (br#"{"id":""}"#, "there is no event id at `json:/id`"),
            (br#"{"id":null}"#, "there is no event id at `json:/id`"),
            (br#"{"id":{}}"#, "`json:/id` is an object, and an event id is a text or a number"),
            (b"{\n ", "the body is not JSON (line 2, column 2), and the event id should stand in it, at `json:/id`"),
            (b"\xff", "the body is not JSON (line 1, column 1), and the event id should stand in it, at `json:/id`"),
            (br#"{"id":"a\ud83c"}"#, "the event id at `json:/id` has a part that is not Unicode"),
            (control, "the event id has a control character"),
        ];
        for (body, words) in cases {
            assert_eq!(identify(&refusing, &[], body).unwrap_err().to_string(), words);
            let identity = identify(IN_JSON, &[], body).unwrap();
            assert_eq!(identity.event_id.as_str(), BodyDigest::of(body).to_hex());
            assert_eq!((identity.event_type.as_str(), identity.by_content), ("unreadable", true));
            assert_eq!(identity.unreadable.unwrap().to_string(), words);
        }
    }

    #[test]
    fn an_id_is_read_from_the_decoded_body_and_the_digest_is_that_of_the_exact_bytes() {
        let body = zstd::encode_all(&br#"{"id":"evt_1","type":"t","created":7}"#[..], 3).unwrap();
        let identity = identify(IN_JSON, &[("content-encoding", "zstd")], &body).unwrap();
        assert_eq!((identity.event_id.as_str(), identity.event_type.as_str()), ("evt_1", "t"));
        assert_eq!(identity.occurred_at, Some(Timestamp::from_seconds(7)));

        let refusing = format!("{IN_JSON}\nunreadable = \"refuse\"");
        let reading = "the event id should stand in the body, at `json:/id`, which cannot be read: ";
        for (coding, why) in [
            ("gzip", "the body is not valid gzip, although `content-encoding` says that it is"),
            ("lzma", "`content-encoding` names a content coding that is not supported; gzip, deflate, br, zstd and identity are"),
        ] {
            let headers = [("content-encoding", coding)];
            assert_eq!(identify(&refusing, &headers, &body).unwrap_err().to_string(), format!("{reading}{why}"));
            let identity = identify(IN_JSON, &headers, &body).unwrap();
            assert_eq!(identity.event_id.as_str(), BodyDigest::of(&body).to_hex());
            assert_eq!(identity.event_type.as_str(), "unreadable");
        }
    }

    #[test]
    fn oddities_elsewhere_in_the_body_do_not_matter() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for odd in [r#""\ud83c""#, "1e400", "-1E-400", r#"{"a":1,"a":2}"#, &deep, "36893488147419103233"] {
            let body = format!("\u{feff}{{\"odd\":{odd},\"id\":\"evt_1\",\"type\":\"t\",\"created\":7}}");
            let identity = identify(IN_JSON, &[], body.as_bytes()).unwrap();
            assert_eq!((identity.event_id.as_str(), identity.event_type.as_str()), ("evt_1", "t"), "{odd}");
            assert_eq!(identity.occurred_at, Some(Timestamp::from_seconds(7)));
        }
        let invalid = identify(IN_JSON, &[], b"{\"odd\":\"\xff\",\"id\":1}").unwrap();
        assert_eq!(invalid.event_id.as_str(), "1");
    }

    #[test]
    fn numbers_are_ids_as_they_are_written() {
        for number in ["36893488147419103233", "36893488147419103234", "1e3", "12.10", "-0", "1E400"] {
            let identity = identify(IN_JSON, &[], format!("{{\"id\":{number}}}").as_bytes()).unwrap();
            assert_eq!(identity.event_id.as_str(), number);
        }
    }

    #[test]
    fn a_missing_type_is_unknown_and_one_that_cannot_be_read_is_unreadable() {
        let identity = identify(IN_JSON, &[], br#"{"id":"1","created":"yesterday"}"#).unwrap();
        assert_eq!((identity.event_type, identity.occurred_at), (EventType::unknown(), None));
        let in_header = "id = \"header:x-id\"\ntype = \"json:/type\"";
        let event_type = |body: &[u8]| {
            let identity = identify(in_header, &[("x-id", "7")], body).unwrap();
            assert_eq!((identity.event_id.as_str(), identity.unreadable), ("7", None));
            identity.event_type.as_str().to_owned()
        };
        assert_eq!(event_type(b"\xff"), "unreadable");
        assert_eq!(event_type(br#"{"type":["a"]}"#), "unreadable");
        assert_eq!(event_type(br#"{"type":"a\u0000"}"#), "unreadable");
        assert_eq!(event_type(br#"{"type":null}"#), "unknown");
        assert_eq!(event_type(br#"{"type":"a\ud83c"}"#), "a\u{fffd}");
    }

    #[test]
    fn the_first_alternative_that_is_there_whole_counts() {
        let spec = r#"
            id = { first_of = [["header:ce-source", "header:ce-id"], ["json:/source", "json:/id"]] }
            type = ["header:ce-type", "json:/type"]"#;
        let body = br#"{"source":"s","id":"1","type":"t"}"#;
        let found = |headers: &[(&'static str, &str)], body: &[u8]| {
            let identity = identify(spec, headers, body).unwrap();
            (identity.event_id.as_str().to_owned(), identity.event_type.as_str().to_owned())
        };
        let structured = ("s:1".to_owned(), "t".to_owned());
        assert_eq!(found(&[], body), structured);
        assert_eq!(found(&[("ce-source", "s"), ("ce-id", "1"), ("ce-type", "t")], b"\xff"), structured);
        assert_eq!(found(&[("ce-id", "2")], body), structured, "half of an alternative is none");
        assert_eq!(found(&[], b"{}").1, "unreadable");
    }

    #[test]
    fn an_id_may_be_of_several_places_or_optional() {
        let two = "id = [\"header:x-channel\", \"header:x-number\"]";
        let identity = identify(two, &[("x-channel", "c"), ("x-number", "7")], b"").unwrap();
        assert_eq!(identity.event_id.as_str(), "c:7");
        let missing = identify(two, &[("x-channel", "c")], b"").unwrap().unreadable;
        assert_eq!(missing, Some(IdentityError::NoEventId("header:x-number".to_owned())));
        let optional = "id = \"json:/id\"\nid_optional = true";
        assert_eq!(identify(optional, &[], b"{}").unwrap().event_id.as_str(), BodyDigest::of(b"{}").to_hex());
        assert_eq!(identify(optional, &[], br#"{"id":1}"#).unwrap().event_id.as_str(), "1");
    }

    fn identify_all(spec: &str, body: &[u8]) -> Result<Identified, IdentityError> {
        identify_by(&toml::from_str(spec).unwrap(), body)
    }

    fn identify_by(spec: &EventSpec, body: &[u8]) -> Result<Identified, IdentityError> {
        let mut webhook = UnverifiedWebhook::new(Method::POST, "https://h/", &[], body.to_vec());
        let scheme = Preset::find("github").unwrap().unwrap().scheme;
        let (now, keyring) = (Timestamp::from_seconds(100), Keyring::parse("k").unwrap());
        scheme.sign(&mut webhook, &keyring, now).unwrap();
        let verified = scheme.verify(&webhook, &keyring, None, now).unwrap();
        spec.identify_all(&verified, &BodyDigest::of(body), now)
    }

    const BATCH: &str = "each = \"/events\"\nid = \"json:/id\"\ntype = \"json:/type\"\nignore = [\"/again\"]";

    #[test]
    fn each_element_of_a_batch_is_an_event_of_its_own() {
        let body = br#"{"to":"x","events":[ {"id":1,"type":"a","again":false} , {"id":"2","type":"b"}],"n":[]}"#;
        let Ok(Identified::Each(elements)) = identify_all(BATCH, body) else { panic!("not a batch") };
        let told: Vec<_> = elements
            .iter()
            .map(|element| {
                let Identity { event_id, event_type, unreadable, .. } = &element.identity;
                (event_id.as_str(), event_type.as_str(), unreadable.is_none(), element.part.of(body))
            })
            .collect();
        let first = (&br#"{"id":1,"type":"a","again":false}"#[..], &br#"{"id":"2","type":"b"}"#[..]);
        assert_eq!(told, [("1", "a", true, first.0), ("2", "b", true, first.1)]);
        assert_eq!(elements[1].part.envelope(body), br#"{"to":"x","events":[],"n":[]}"#);
        // In another batch, and sent again.
        let other = br#"{"events":[{"id":"3"},{"id":1,"type":"a","again":true}]}"#;
        let Ok(Identified::Each(others)) = identify_all(BATCH, other) else { panic!("not a batch") };
        assert_eq!(others[1].identity.compared_sha256, elements[0].identity.compared_sha256);
    }

    #[test]
    fn a_body_that_is_an_array_is_a_batch_and_elements_may_be_known_by_their_digest() {
        let body = br#"[{"a":1},{"a":1},7]"#;
        let Ok(Identified::Each(elements)) = identify_all("each = \"\"", body) else { panic!("not a batch") };
        let ids: Vec<_> = elements.iter().map(|element| element.identity.event_id.as_str().to_owned()).collect();
        let digest = |bytes: &[u8]| BodyDigest::of(bytes).to_hex();
        assert_eq!(ids, [digest(br#"{"a":1}"#), digest(br#"{"a":1}"#), digest(b"7")]);
    }

    #[test]
    fn a_batch_holds_on_both_sides_of_its_bound_and_what_is_none_is_one_unreadable_event() {
        let batch = |count: usize| format!("{{\"events\":[{}]}}", vec!["{\"id\":1}"; count].join(","));
        let count = |count: usize| match identify_all(BATCH, batch(count).as_bytes()) {
            Ok(Identified::Each(elements)) => Ok(elements.len()),
            Ok(Identified::Whole(_)) => panic!("not a batch"),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!((count(0), count(1), count(BATCH_EVENTS_MAX)), (Ok(0), Ok(1), Ok(BATCH_EVENTS_MAX)));
        let words = "the batch at `/events` has 101 events, more than the 100 that are taken at once";
        assert_eq!(count(BATCH_EVENTS_MAX + 1), Err(words.to_owned()));
        for body in [&b"{}"[..], b"{\"events\":{}}", b"{\"events\":[", b"7"] {
            let Ok(Identified::Whole(identity)) = identify_all(BATCH, body) else { panic!("a batch") };
            assert_eq!(identity.unreadable, Some(IdentityError::NotABatch("/events".to_owned())));
            assert_eq!(identity.event_id.as_str(), BodyDigest::of(body).to_hex());
            let refusing = format!("{BATCH}\nunreadable = \"refuse\"");
            assert_eq!(identify_all(&refusing, body), Err(IdentityError::NotABatch("/events".to_owned())));
        }
        let mut strict: EventSpec = toml::from_str(BATCH).unwrap();
        strict.body = BodyFormat::Json;
        let refused = identify_by(&strict, b"hello").unwrap_err();
        assert_eq!(refused, IdentityError::BodyNotJson { line: 1, column: 1 });
        assert!(toml::from_str::<EventSpec>("each = \"/events/*\"").unwrap_err().to_string().contains("leave `*` out"));
    }

    #[test]
    fn a_source_may_take_json_alone() {
        let identify = |body: &[u8]| {
            let mut spec: EventSpec = toml::from_str("id = \"header:x-id\"").unwrap();
            spec.body = BodyFormat::Json;
            let headers = [("X-Id".to_owned(), "7".to_owned())];
            let mut webhook = UnverifiedWebhook::new(Method::POST, "https://h/", &headers, body.to_vec());
            let scheme = Preset::find("github").unwrap().unwrap().scheme;
            let (now, keyring) = (Timestamp::from_seconds(100), Keyring::parse("k").unwrap());
            scheme.sign(&mut webhook, &keyring, now).unwrap();
            let verified = scheme.verify(&webhook, &keyring, None, now).unwrap();
            spec.identify(&verified, &BodyDigest::of(body), now).map(|identity| identity.event_id.as_str().to_owned())
        };
        assert_eq!(identify(b"\xef\xbb\xbf {\"a\":\"\\ud83c\"}"), Ok("7".to_owned()));
        assert_eq!(
            identify(b"a=1").unwrap_err().to_string(),
            "the body is not JSON (line 1, column 1), and this source takes nothing else"
        );
        assert!(identify(b"").is_err());
    }

    #[test]
    fn bookkeeping_that_is_ignored_makes_no_other_event() {
        let ignoring = r#"ignore = ["/retryCount", "json:/events/*/redelivery"]"#;
        let of = |spec: &str, body: &str| {
            let identity = identify(spec, &[], body.as_bytes()).unwrap();
            (identity.event_id.as_str().to_owned(), identity.compared_sha256)
        };
        let first = of(ignoring, r#"{"retryCount":0,"events":[{"redelivery":false},{"redelivery":false}]}"#);
        let again = of(ignoring, r#"{"retryCount":10,"events":[{"redelivery":true},{"redelivery":false}]}"#);
        assert_eq!(first, again);
        assert_eq!(first.0, BodyDigest::of(br#"{"retryCount":,"events":[{"redelivery":},{"redelivery":}]}"#).to_hex());
        assert_ne!(first, of(ignoring, r#"{"retryCount":0,"events":[{"redelivery":false}]}"#));
        assert_eq!(of(ignoring, "{}"), (BodyDigest::of(b"{}").to_hex(), None));
        assert_eq!(of(ignoring, "no JSON").1, None);
        assert!(toml::from_str::<EventSpec>("ignore = [\"retryCount\"]").unwrap_err().to_string().contains("starts with `/`"));
    }

    #[test]
    fn values_are_ignored_up_to_their_bound() {
        let compared = |count: usize| {
            let body = format!("[{}0]", "0,".repeat(count - 1));
            toml::from_str::<EventSpec>("ignore = [\"/*\"]").unwrap().ignore.unwrap().digest_without(body.as_bytes())
        };
        assert!(compared(IGNORED_VALUES_MAX).is_some());
        assert_eq!(compared(IGNORED_VALUES_MAX + 1), None);
    }

    #[test]
    fn an_event_may_be_known_by_its_body_alone() {
        let spec: EventSpec = toml::from_str("id = { digest = \"body\" }").unwrap();
        let scheme = Preset::find("stripe").unwrap().unwrap().scheme;
        let keyring = Keyring::parse("k").unwrap();
        let id = |spec: &EventSpec, now: u64| {
            let mut webhook = UnverifiedWebhook::new(Method::POST, "https://h/", &[], b"{}".to_vec());
            let now = Timestamp::from_seconds(now);
            scheme.sign(&mut webhook, &keyring, now).unwrap();
            let verified = scheme.verify(&webhook, &keyring, None, now).unwrap();
            spec.identify(&verified, &BodyDigest::of(b"{}"), now).unwrap().event_id
        };
        assert_eq!(id(&spec, 100).as_str(), BodyDigest::of(b"{}").to_hex());
        assert_eq!(id(&spec, 100), id(&spec, 200));
        assert_ne!(id(&EventSpec::default(), 100), id(&EventSpec::default(), 200));
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
