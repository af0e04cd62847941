//! `gateway.toml` as it is written. Everything that is checked beyond its type carries its place in the file.

use std::collections::BTreeMap;

use http::Method;
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::OnConflict;
use crate::{
    event::EventSpec,
    signatures::{
        Scheme,
        handshake::Handshake,
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
    pub(super) replay_guard: Option<bool>,
    pub(super) on_conflict: Option<Spanned<OnConflict>>,
    pub(super) keep_headers: Option<Vec<String>>,
    pub(super) body_bytes_max: Option<Spanned<usize>>,
    pub(super) dedupe_days: Option<Spanned<u64>>,
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
    #[serde(default)]
    pub(super) allow_plaintext: bool,
    pub(super) secret: Option<Spanned<String>>,
    pub(super) timeout_seconds: Option<Spanned<u64>>,
    pub(super) handler: Option<Spanned<String>>,
    pub(super) backoff_seconds: Option<Spanned<Vec<u64>>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Http,
    Handler,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteEntry {
    pub(super) source: Spanned<String>,
    pub(super) types: Option<Vec<Spanned<String>>>,
    pub(super) destination: Spanned<String>,
}
