//! What a provider sends: content, id and time, and what somebody in between may make of it.

use http::{HeaderName, HeaderValue, Method};
use proptest::{collection::vec, prelude::*};
use serde_json::{Map, Value};
use shared::{signatures::UnverifiedWebhook, time::Timestamp};

use crate::{key::flipped, way};

/// What a provider has to say.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) now: Timestamp,
    pub(crate) method: Method,
    /// Empty, or a colon and a number.
    pub(crate) port: String,
    pub(crate) path: String,
    pub(crate) query: String,
    /// For everything that has to be told apart: ids, nonces, values of covered headers.
    pub(crate) id: String,
    pub(crate) body: Body,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Bytes(Vec<u8>),
    Form(String),
    Json(Map<String, Value>),
}

impl Body {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Form(form) => form.clone().into_bytes(),
            Self::Json(object) => Value::Object(object.clone()).to_string().into_bytes(),
        }
    }

    /// As an object, for schemes that read one.
    pub(crate) fn object(&self) -> Map<String, Value> {
        match self {
            Self::Json(object) => object.clone(),
            other => Map::from_iter([("content".to_owned(), hex::encode(other.bytes()).into())]),
        }
    }
}

/// Any of them.
pub(crate) fn samples() -> impl Strategy<Value = Sample> {
    // From 2001 to 2096; some milliseconds past the second, since not all timestamps have them.
    let now = (1_000_000_000_u64..4_000_000_000, 0_u64..1000).prop_map(|(seconds, millis)| seconds * 1000 + millis);
    let method = prop::sample::select(vec![Method::POST, Method::GET]);
    let port = prop_oneof![3 => Just(String::new()), 1 => (1_u16..).prop_map(|port| format!(":{port}"))];
    let place = (method, port, "[a-z0-9._~%'-]{0,12}", query());
    (now, place, "[!-~]{1,24}", bodies()).prop_map(|(now, (method, port, path, query), id, body)| Sample {
        now: Timestamp::from_millis(now),
        method,
        port,
        path,
        query,
        id,
        body,
    })
}

fn query() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[ac-z]{1,3}=[a-z0-9%'+,:_]{0,6}(&[ac-z]{1,3}(=[a-zA-Z0-9%+]{0,6})?){0,3}"]
}

fn bodies() -> impl Strategy<Value = Body> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let json = leaf.prop_recursive(2, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            vec(("\\PC{0,4}", inner), 0..3).prop_map(|pairs| Value::Object(pairs.into_iter().collect()))
        ]
    });
    prop_oneof![
        2 => vec(any::<u8>(), 0..200).prop_map(Body::Bytes),
        1 => "([a-zA-Z0-9+*._-]|%[0-9a-fA-F]{2}){1,4}=([a-zA-Z0-9+*._-]|%[0-9a-fA-F]{2}){0,8}(&[a-c]=[a-c]{0,2}){0,4}"
            .prop_map(Body::Form),
        2 => vec(("[a-z]{1,6}", json), 0..4).prop_map(|pairs| Body::Json(pairs.into_iter().collect())),
    ]
}

/// Something that is done to a request on its way. Bytes and headers are counted from 0, and anew after the last.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// One bit of one part.
    Flip { part: Part, at: usize, bit: u8 },
    /// A header is left out.
    Drop(usize),
    /// A header comes twice.
    Double(usize),
    /// The body has one byte more.
    Append(u8),
    /// The body has one byte less.
    Cut,
    /// Another method.
    Method,
}

#[derive(Clone, Debug)]
pub(crate) enum Part {
    Body,
    Url,
    Query,
    Header(usize),
}

/// Any of them.
pub(crate) fn changes() -> impl Strategy<Value = Change> {
    let part = prop_oneof![
        2 => Just(Part::Body),
        1 => Just(Part::Url),
        1 => Just(Part::Query),
        3 => any::<usize>().prop_map(Part::Header),
    ];
    prop_oneof![
        12 => (part, any::<usize>(), 0_u8..8).prop_map(|(part, at, bit)| Change::Flip { part, at, bit }),
        1 => any::<usize>().prop_map(Change::Drop),
        1 => any::<usize>().prop_map(Change::Double),
        1 => any::<u8>().prop_map(Change::Append),
        1 => Just(Change::Cut),
        1 => Just(Change::Method),
    ]
}

impl Change {
    /// The request after it. `None` if there is nothing to change, or if HTTP would not carry it.
    pub(crate) fn apply(&self, webhook: &UnverifiedWebhook) -> Option<UnverifiedWebhook> {
        let mut changed = webhook.clone();
        match self {
            Self::Flip { part: Part::Body, at, bit } if !webhook.body.is_empty() => {
                changed.body = flipped(&webhook.body, *at, *bit);
            }
            Self::Flip { part: Part::Url, at, bit } => {
                changed.url = String::from_utf8(flipped(webhook.url.as_bytes(), *at, *bit)).ok()?;
            }
            Self::Flip { part: Part::Query, at, bit } if !webhook.raw_query.is_empty() => {
                changed.raw_query = String::from_utf8(flipped(webhook.raw_query.as_bytes(), *at, *bit)).ok()?;
            }
            Self::Flip { part: Part::Header(header), at, bit } => {
                let name = header_name(webhook, *header)?;
                let value = flipped(webhook.headers.get(&name)?.as_bytes(), *at, *bit);
                changed.headers.insert(name, HeaderValue::from_bytes(&value).ok()?);
            }
            Self::Drop(header) => drop(changed.headers.remove(header_name(webhook, *header)?)),
            Self::Double(header) => {
                let name = header_name(webhook, *header)?;
                let value = webhook.headers.get(&name)?.clone();
                changed.headers.append(name, value);
            }
            Self::Append(byte) => changed.body.push(*byte),
            Self::Cut => drop(changed.body.pop()?),
            Self::Method => changed.method = way::another(&webhook.method),
            Self::Flip { .. } => return None,
        }
        Some(changed)
    }
}

impl Part {
    /// How many bytes it has.
    pub(crate) fn bytes(&self, webhook: &UnverifiedWebhook) -> usize {
        match self {
            Self::Body => webhook.body.len(),
            Self::Url => webhook.url.len(),
            Self::Query => webhook.raw_query.len(),
            Self::Header(header) => header_name(webhook, *header).map_or(0, |name| webhook.headers[name].len()),
        }
    }
}

fn header_name(webhook: &UnverifiedWebhook, header: usize) -> Option<HeaderName> {
    let names = webhook.headers.keys_len();
    webhook.headers.keys().nth(header.checked_rem(names)?).cloned()
}
