//! `headers`: what an operator adds to each request.

use std::collections::BTreeMap;

use ::http::{HeaderName, HeaderValue};
use toml::Spanned;

use super::Auth;
use crate::config::check::Fault;

/// Most headers that a destination may be given.
pub const HEADERS_MAX: usize = 16;
/// Longest value of such a header as it is written, in bytes.
pub const HEADER_VALUE_BYTES_MAX: usize = 1024;
/// Most placeholders in one value: what fills them can have three kilobytes each.
pub const HEADER_FIELDS_MAX: usize = 4;

/// What is ours or the connection's to say.
const RESERVED: [&str; 15] = [
    "authorization",
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "idempotency-key",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// How names begin that are ours.
const RESERVED_PREFIXES: [&str; 2] = ["webhook-", "posthouse-"];

/// A header of the operator's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: HeaderName,
    /// Its value.
    pub value: HeaderTemplate,
}

/// Text with [`Field`]s in braces. `{{` and `}}` are the characters themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTemplate {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

/// What a header can say about a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `{event.id}`: the sender's id.
    EventId,
    /// `{event.type}`: the sender's word for what happened.
    EventType,
    /// `{event.source}`: who sent it.
    EventSource,
    /// `{event.received_at}`: when it was received, RFC 3339.
    ReceivedAt,
    /// `{event.occurred_at}`: when it happened, RFC 3339; nothing if the sender does not say.
    OccurredAt,
    /// `{delivery.destination}`: where it goes.
    Destination,
    /// `{delivery.attempt}`: which attempt this is, from 1.
    Attempt,
    /// `{header:NAME}`: a header of the webhook that its source keeps; nothing if there is none. In lower case.
    Header(String),
}

impl HeaderTemplate {
    /// The value, given that of each field.
    pub fn render(&self, value: impl Fn(&Field) -> String) -> String {
        let parts = self.parts.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(field) => value(field),
        });
        parts.collect()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            rest = &rest[character.len_utf8()..];
            match character {
                '{' | '}' if rest.starts_with(character) => {
                    literal.push(character);
                    rest = &rest[1..];
                }
                '{' => {
                    let (name, after) = rest.split_once('}').ok_or("has a `{` without its `}`; the character itself is `{{`")?;
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                    parts.push(Part::Field(Field::parse(name)?));
                    rest = after;
                }
                '}' => return Err("has a `}` without its `{`; the character itself is `}}`".to_owned()),
                other => literal.push(other),
            }
        }
        parts.push(Part::Text(literal));
        if parts.iter().filter(|part| matches!(part, Part::Field(_))).count() > HEADER_FIELDS_MAX {
            return Err(format!("has more than {HEADER_FIELDS_MAX} placeholders"));
        }
        Ok(Self { parts })
    }
}

impl Field {
    fn parse(name: &str) -> Result<Self, String> {
        Ok(match name {
            "event.id" => Self::EventId,
            "event.type" => Self::EventType,
            "event.source" => Self::EventSource,
            "event.received_at" => Self::ReceivedAt,
            "event.occurred_at" => Self::OccurredAt,
            "delivery.destination" => Self::Destination,
            "delivery.attempt" => Self::Attempt,
            _ => match name.strip_prefix("header:").map(|name| name.parse::<HeaderName>()) {
                Some(Ok(name)) => Self::Header(name.as_str().to_owned()),
                _ => {
                    return Err(format!(
                        "has `{{{name}}}`, which there is not: there are event.id, event.type, event.source, event.received_at, \
                         event.occurred_at, delivery.destination, delivery.attempt and header:NAME"
                    ));
                }
            },
        })
    }
}

pub(super) fn check(
    entries: Option<Spanned<BTreeMap<Spanned<String>, Spanned<String>>>>,
    auth: Option<&Auth>,
) -> Result<Vec<Header>, Fault> {
    let mut headers: Vec<Header> = Vec::new();
    for (name, value) in entries.map(Spanned::into_inner).unwrap_or_default() {
        let parsed = check_name(&name)?;
        if auth.is_some_and(|auth| auth.header() == parsed) {
            return Err(Fault::new(name.span(), format!("the header `{parsed}` is that of `auth`")));
        }
        if headers.iter().any(|header| header.name == parsed) {
            return Err(Fault::new(name.span(), format!("the header `{parsed}` is there twice; case makes no difference")));
        }
        if headers.len() == HEADERS_MAX {
            return Err(Fault::new(name.span(), format!("there are more than {HEADERS_MAX} `headers`")));
        }
        headers.push(Header { value: check_value(&parsed, &value)?, name: parsed });
    }
    Ok(headers)
}

/// A name that an operator may use.
pub(super) fn check_name(name: &Spanned<String>) -> Result<HeaderName, Fault> {
    let fault = |message: &str| Fault::new(name.span(), format!("the header `{}` {message}", name.get_ref()));
    let parsed: HeaderName = name.get_ref().parse().map_err(|_| fault("is no header's name"))?;
    match parsed.as_str() {
        "authorization" => Err(fault("is for `auth`: secrets are not for this file")),
        ours if RESERVED.contains(&ours) || RESERVED_PREFIXES.iter().any(|prefix| ours.starts_with(prefix)) => {
            Err(fault("cannot be set: it is Posthouse's own, or the connection's"))
        }
        _ => Ok(parsed),
    }
}

fn check_value(name: &HeaderName, value: &Spanned<String>) -> Result<HeaderTemplate, Fault> {
    let fault = |message: &str| Fault::new(value.span(), format!("the value of the header `{name}` {message}"));
    if value.get_ref().len() > HEADER_VALUE_BYTES_MAX {
        return Err(fault(&format!("has more than {HEADER_VALUE_BYTES_MAX} bytes")));
    }
    if HeaderValue::try_from(value.get_ref()).is_err() || !value.get_ref().is_ascii() {
        return Err(fault("has a control character or one that is not ASCII"));
    }
    HeaderTemplate::parse(value.get_ref()).map_err(|message| fault(&message))
}
