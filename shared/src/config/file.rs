//! `gateway.toml` as it is written. Everything that is checked beyond its type carries its place in the file.

use std::{collections::BTreeMap, fmt};

use http::Method;
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use toml::Spanned;

use super::{
    MessageGroup, OnConflict,
    http::{ClientAuth, Grant, Meaning},
};
use crate::{
    event::{BodyFormat, EventSpec},
    location::Location,
    signatures::{
        Scheme,
        handshake::Handshake,
        outgoing::SignatureVersion,
        preset::{methods, one_or_many},
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) schemes: BTreeMap<Spanned<String>, Scheme>,
    #[serde(default)]
    pub(super) sources: BTreeMap<Spanned<String>, SourceEntry>,
    #[serde(default)]
    pub(super) destinations: BTreeMap<Spanned<String>, DestinationEntry>,
    #[serde(default)]
    pub(super) routes: Vec<RouteEntry>,
    #[serde(default)]
    pub(super) contracts: Vec<ContractEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceEntry {
    pub(super) scheme: Spanned<String>,
    pub(super) secret: Option<Spanned<String>>,
    pub(super) handshake_secret: Option<Spanned<String>>,
    pub(super) public_url: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "some_methods")]
    pub(super) methods: Option<Vec<Method>>,
    #[serde(default, rename = "handshake", deserialize_with = "some_handshakes")]
    pub(super) handshakes: Option<Vec<Handshake>>,
    pub(super) event: Option<EventSpec>,
    pub(super) body: Option<BodyFormat>,
    pub(super) replay_guard: Option<bool>,
    pub(super) on_conflict: Option<Spanned<OnConflict>>,
    pub(super) keep_headers: Option<Vec<String>>,
    pub(super) body_bytes_max: Option<Spanned<usize>>,
    pub(super) dedupe_days: Option<Spanned<u64>>,
    pub(super) remember_days: Option<Spanned<u64>>,
    pub(super) types: Option<Vec<Spanned<String>>>,
    pub(super) types_per_content: Option<Spanned<u64>>,
    pub(super) answer: Option<AnswerEntry>,
}

fn some_methods<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Method>>, D::Error> {
    methods(deserializer).map(Some)
}

fn some_handshakes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Handshake>>, D::Error> {
    one_or_many(deserializer).map(Some)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AnswerEntry {
    pub(super) status: Option<Spanned<u16>>,
    pub(super) body: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DestinationEntry {
    #[serde(rename = "type")]
    pub(super) kind: Spanned<Kind>,
    pub(super) url: Option<Spanned<String>>,
    pub(super) allow_plaintext: Option<Spanned<bool>>,
    pub(super) secret: Option<Spanned<String>>,
    pub(super) signing_name: Option<Spanned<String>>,
    pub(super) signing_key: Option<Spanned<SigningKeyKind>>,
    pub(super) signature: Option<Spanned<SignatureVersion>>,
    pub(super) timeout_seconds: Option<Spanned<u64>>,
    pub(super) connect_timeout_seconds: Option<Spanned<u64>>,
    pub(super) response_bytes_max: Option<Spanned<u64>>,
    pub(super) headers: Option<Spanned<BTreeMap<Spanned<String>, Spanned<String>>>>,
    pub(super) auth: Option<Spanned<AuthEntry>>,
    pub(super) statuses: Option<Spanned<BTreeMap<Spanned<String>, Spanned<Meaning>>>>,
    pub(super) allow_networks: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) ca: Option<Spanned<String>>,
    pub(super) handler: Option<Spanned<String>>,
    pub(super) function: Option<Spanned<String>>,
    pub(super) permanent_errors: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) bus: Option<Spanned<String>>,
    pub(super) event_source: Option<Spanned<String>>,
    pub(super) queue_url: Option<Spanned<String>>,
    pub(super) topic_arn: Option<Spanned<String>>,
    pub(super) message_group: Option<Spanned<MessageGroup>>,
    pub(super) backoff_seconds: Option<Spanned<Vec<u64>>>,
    pub(super) give_up_after_hours: Option<Spanned<u64>>,
    pub(super) rate: Option<RateEntry>,
    pub(super) concurrency: Option<Spanned<u64>>,
    pub(super) circuit: Option<Spanned<CircuitEntry>>,
}

/// Which keys sign: derived ones, or those of the keyring `secret`.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SigningKeyKind {
    #[default]
    Derived,
    Own,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthEntry {
    #[serde(rename = "type")]
    pub(super) kind: Spanned<AuthKind>,
    pub(super) secret: Option<Spanned<String>>,
    pub(super) header: Option<Spanned<String>>,
    pub(super) token_url: Option<Spanned<String>>,
    pub(super) client_id: Option<Spanned<String>>,
    pub(super) scopes: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) audience: Option<Spanned<String>>,
    pub(super) resource: Option<Spanned<String>>,
    pub(super) client_auth: Option<Spanned<ClientAuth>>,
    pub(super) grant: Option<Spanned<Grant>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AuthKind {
    Bearer,
    Basic,
    ApiKey,
    Oauth2,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Http,
    Handler,
    Lambda,
    EventBridge,
    Sqs,
    Sns,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteEntry {
    pub(super) source: Spanned<String>,
    pub(super) types: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) default: bool,
    pub(super) filter: Option<Spanned<String>>,
    pub(super) map: Option<Spanned<String>>,
    pub(super) order: Option<OrderEntry>,
    pub(super) destination: Spanned<Texts>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderEntry {
    pub(super) key: Spanned<String>,
    pub(super) version: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ContractEntry {
    pub(super) source: Spanned<String>,
    pub(super) types: Option<Vec<Spanned<String>>>,
    pub(super) schema: Option<Spanned<String>>,
    pub(super) schema_version: Option<SchemaVersionEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SchemaVersionEntry {
    pub(super) at: Location,
    pub(super) is: Spanned<Texts>,
}

/// One text, or a list of them.
pub(super) enum Texts {
    One(String),
    Many(Vec<Spanned<String>>),
}

impl Texts {
    /// Each with its place.
    pub(super) fn each(given: Spanned<Self>) -> Vec<Spanned<String>> {
        let span = given.span();
        match given.into_inner() {
            Self::One(text) => vec![Spanned::new(span, text)],
            Self::Many(texts) => texts,
        }
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;

        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Texts;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text or a list of texts")
            }

            fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
                Ok(Texts::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(Texts::Many(texts))
            }
        }

        // Not an untagged enum: that would lose the places.
        deserializer.deserialize_any(OneOrMany)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RateEntry {
    pub(super) requests: Spanned<u64>,
    pub(super) seconds: Option<Spanned<u64>>,
    pub(super) burst: Option<Spanned<u64>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CircuitEntry {
    pub(super) enabled: Option<bool>,
    pub(super) consecutive: Option<Spanned<u64>>,
    pub(super) percent: Option<Spanned<u64>>,
    pub(super) wait_seconds: Option<Spanned<u64>>,
}
