//! Where in a request a value stands: `header:x-github-delivery`, `query:token`, `form:event`, `json:/data/id`, `signature:t`,
//! `claim:/sha256`, `body`.

mod multipart;

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderName, header::AsHeaderName};
use serde::Deserialize;

use crate::{
    content::{self, ContentError},
    json::{NotJson, Pointers, Scan, Value},
    signatures::UnverifiedWebhook,
};

const FORM_CONTENT_TYPE: &[u8] = b"application/x-www-form-urlencoded";

/// A place in a request that a scheme or a source reads a value from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Location {
    /// `header:NAME`: the header's value; repeated ones joined by commas, as API Gateway does.
    Header(HeaderName),
    /// `query:NAME`: the query parameter of that name, percent-decoded; none if it is there twice.
    Query(String),
    /// `form:NAME`: the field of that name in an `application/x-www-form-urlencoded` body, decoded; none if it is there twice.
    Form(String),
    /// `json:/a/b`: a string, number or boolean in the JSON body, by RFC 6901 pointer. A part `*` stands for every element of
    /// an array, which must all have the same value there.
    Json(String),
    /// `signature:KEY`: the value of KEY in the signature's own list, as `t` in `t=1700000000,v1=…`.
    Signature(String),
    /// `claim:/a`: a claim of the verified JWT, by RFC 6901 pointer.
    Claim(String),
    /// `raw:/a/b`: the exact bytes of the value at a JSON pointer, whatever its kind.
    Raw(String),
    /// `multipart:NAME`: the field of that name in a `multipart/form-data` body; none if it is there twice.
    Multipart(String),
    /// `PLACE|STEP`: what stands within the value of another place, as `form:payload|json:/id`.
    Within(Box<Location>, Step),
    /// `body`: a body that is itself a token: without white space around it, and without the quotation marks of a JSON string.
    Body,
}

/// How a place goes on within a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `json:/a`: the value is a JSON text.
    Json(String),
    /// `form:NAME`: the value is a form.
    Form(String),
    /// `from-base64`: the value is Base64, of either alphabet, padded or not.
    FromBase64,
}

/// Most steps of one place.
pub const STEPS_MAX: usize = 4;

impl Step {
    /// The step that a word of a place is; `None` if it is none.
    pub(crate) fn parse(word: &str) -> Option<Result<Self, String>> {
        match word.split_once(':') {
            Some(("json", pointer)) => Some(
                Pointers::check(pointer).map(|()| Self::Json(pointer.to_owned())).map_err(|error| format!("`{word}`: {error}")),
            ),
            Some(("form", name)) if !name.is_empty() => Some(Ok(Self::Form(name.to_owned()))),
            None if word == "from-base64" => Some(Ok(Self::FromBase64)),
            _ => None,
        }
    }

    /// What stands there in a value.
    fn look(&self, value: &[u8]) -> Sought<'static> {
        match self {
            Self::Json(pointer) => match Scan::new(value, &Pointers::new([pointer.as_str()])) {
                Ok(scan) => Sought::of_value(scan.get(value, 0)).into_owned(),
                Err(error) => Sought::not_json(error, value),
            },
            Self::Form(name) => form_value(value, name).into_owned(),
            Self::FromBase64 => match from_base64(value) {
                Some(bytes) => Sought::of_bytes(bytes),
                None => Sought::NotText("not Base64"),
            },
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(pointer) => write!(formatter, "json:{pointer}"),
            Self::Form(name) => write!(formatter, "form:{name}"),
            Self::FromBase64 => formatter.write_str("from-base64"),
        }
    }
}

/// What a place within another one holds, where `base` looks at the first.
pub fn look_through<'s>(place: &Location, base: &dyn Fn(&Location) -> Sought<'s>) -> Sought<'s> {
    let Location::Within(outer, step) = place else { return base(place) };
    match bytes_through(outer, base) {
        Ok(value) => step.look(&value),
        Err(sought) => sought,
    }
}

/// The bytes of a value; what Base64 was made of need not be text.
fn bytes_through<'s>(place: &Location, base: &dyn Fn(&Location) -> Sought<'s>) -> Result<Cow<'s, [u8]>, Sought<'s>> {
    if let Location::Within(outer, Step::FromBase64) = place {
        let value = bytes_through(outer, base)?;
        return from_base64(&value).map(Cow::Owned).ok_or(Sought::NotText("not Base64"));
    }
    match look_through(place, base) {
        Sought::Text { text: Cow::Borrowed(text), .. } => Ok(Cow::Borrowed(text.as_bytes())),
        Sought::Text { text: Cow::Owned(text), .. } => Ok(Cow::Owned(text.into_bytes())),
        other => Err(other),
    }
}

/// Both alphabets, and padding as it comes: what is within is judged by what it is.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let standard: Vec<u8> = text
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        })
        .collect();
    LENIENT_BASE64.decode(standard).ok()
}

const LENIENT_BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);

impl TryFrom<String> for Location {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut words = text.split('|');
        let mut place = Self::parse(words.next().unwrap_or_default())?;
        for (number, word) in words.enumerate() {
            if number == STEPS_MAX {
                return Err(format!("`{text}` goes on more than {STEPS_MAX} times"));
            }
            let step = Step::parse(word).ok_or_else(|| {
                format!("`{text}`: a place goes on with `json:/POINTER`, `form:NAME` or `from-base64`, and not with `{word}`")
            })??;
            place = Self::Within(Box::new(place), step);
        }
        Ok(place)
    }
}

impl Location {
    /// The place in the request or its token that this begins with.
    pub fn root(&self) -> &Self {
        if let Self::Within(outer, _) = self { outer.root() } else { self }
    }

    /// The JSON pointer that it needs of the body, if any.
    pub fn pointer(&self) -> Option<&str> {
        match self.root() {
            Self::Json(pointer) | Self::Raw(pointer) => Some(pointer),
            _ => None,
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match (kind, rest) {
            ("body", "") if text == "body" => Ok(Self::Body),
            (_, "") => Err(format!("`{text}` names no place; write it like `header:x-event-id` or `json:/id`")),
            ("header", name) => HeaderName::try_from(name)
                .map(Self::Header)
                .map_err(|_| format!("`{text}`: `{name}` cannot be the name of a header")),
            ("query", name) => Ok(Self::Query(name.to_owned())),
            ("form", name) => Ok(Self::Form(name.to_owned())),
            ("json" | "claim" | "raw", pointer) => {
                Pointers::check(pointer).map_err(|error| format!("`{text}`: {error}"))?;
                Ok(match kind {
                    "json" => Self::Json(pointer.to_owned()),
                    "raw" => Self::Raw(pointer.to_owned()),
                    _ => Self::Claim(pointer.to_owned()),
                })
            }
            ("multipart", name) => Ok(Self::Multipart(name.to_owned())),
            ("signature", key) => Ok(Self::Signature(key.to_owned())),
            _ => Err(format!(
                "`{kind}` is not a place in a request; there are `header:`, `query:`, `form:`, `multipart:`, `json:`, `raw:`, \
                 `signature:`, `claim:` and `body`"
            )),
        }
    }
}

impl fmt::Display for Location {
    /// As it is written in a configuration.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Self::Header(name) => ("header", name.as_str()),
            Self::Query(name) => ("query", name.as_str()),
            Self::Form(name) => ("form", name.as_str()),
            Self::Json(pointer) => ("json", pointer.as_str()),
            Self::Signature(key) => ("signature", key.as_str()),
            Self::Claim(pointer) => ("claim", pointer.as_str()),
            Self::Raw(pointer) => ("raw", pointer.as_str()),
            Self::Multipart(name) => ("multipart", name.as_str()),
            Self::Within(outer, step) => return write!(formatter, "{outer}|{step}"),
            Self::Body => return formatter.write_str("body"),
        };
        write!(formatter, "{kind}:{name}")
    }
}

/// One place, or several of which each may have the value; written as a text or a list of texts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "OneOrMany")]
pub struct Locations(Vec<Location>);

#[derive(Deserialize)]
#[serde(untagged, expecting = "a place like `header:x-signature`, or a list of places")]
enum OneOrMany {
    One(Location),
    Many(Vec<Location>),
}

impl From<OneOrMany> for Locations {
    fn from(given: OneOrMany) -> Self {
        match given {
            OneOrMany::One(place) => Self(vec![place]),
            OneOrMany::Many(places) => Self(places),
        }
    }
}

impl From<Location> for Locations {
    fn from(place: Location) -> Self {
        Self(vec![place])
    }
}

impl Locations {
    /// In the order written.
    pub fn iter(&self) -> impl Iterator<Item = &Location> {
        self.0.iter()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Locations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(Location::to_string).collect();
        formatter.write_str(&words.join(", "))
    }
}

/// Where an event id stands: a place; several places, whose values are joined by colons; alternatives of those,
/// `{ first_of = ["json:/id", ["header:x-channel", "header:x-number"]] }`; or nowhere, and the event is known by the digest of its
/// body, `{ digest = "body" }`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "IdEntry")]
pub enum IdPlaces {
    /// Alternatives, each of places whose values are joined.
    Sent(Vec<Locations>),
    /// The SHA-256 of the body, without what the source ignores of it.
    DigestOfBody,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a place like `json:/id`, a list of places, `{ first_of = [...] }`, or `{ digest = \"body\" }`")]
enum IdEntry {
    Alternatives(FirstOf),
    Digest(OfDigest),
    Joined(Locations),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstOf {
    first_of: Vec<Locations>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfDigest {
    #[serde(rename = "digest")]
    _digest: Digested,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Digested {
    Body,
}

impl From<IdEntry> for IdPlaces {
    fn from(entry: IdEntry) -> Self {
        match entry {
            IdEntry::Alternatives(FirstOf { first_of }) => Self::Sent(first_of),
            IdEntry::Digest(_) => Self::DigestOfBody,
            IdEntry::Joined(places) => Self::Sent(vec![places]),
        }
    }
}

impl From<Location> for IdPlaces {
    fn from(place: Location) -> Self {
        Self::Sent(vec![place.into()])
    }
}

impl IdPlaces {
    /// Each a list of places whose values are joined; the first of which all are there counts.
    pub fn alternatives(&self) -> impl Iterator<Item = &Locations> {
        let alternatives: &[Locations] = if let Self::Sent(alternatives) = self { alternatives } else { &[] };
        alternatives.iter()
    }

    /// The places of all alternatives.
    pub fn places(&self) -> impl Iterator<Item = &Location> {
        self.alternatives().flat_map(Locations::iter)
    }
}

impl fmt::Display for IdPlaces {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(alternatives) => {
                let words: Vec<String> = alternatives.iter().map(Locations::to_string).collect();
                formatter.write_str(&words.join(" or else "))
            }
            Self::DigestOfBody => formatter.write_str("the SHA-256 of the body"),
        }
    }
}

/// Finds values in one request. A JSON body is read when the first place within it is asked for, and only then: once for all places
/// that are known beforehand ([`Places::knowing`]), and once more for each other one. A body with a content coding is decoded then,
/// once, to at most [`content::DECODED_BYTES_MAX`] bytes.
#[derive(Clone, Debug)]
pub struct Places<'a> {
    webhook: &'a UnverifiedWebhook,
    pointers: &'a Pointers,
    content: OnceLock<Content>,
    scan: OnceLock<Result<Scan, NotJson>>,
}

/// What is looked into for places of the body. A copy of [`Places`] shares the decoded body.
#[derive(Clone, Debug)]
enum Content {
    /// The exact bytes: there is no content coding.
    AsSent,
    /// What they were made of.
    Decoded(Arc<Vec<u8>>),
    /// The exact bytes, for want of what they were made of.
    Undecodable(ContentError),
}

/// What stands at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sought<'a> {
    /// Nothing.
    Absent,
    /// Several values, which could each be meant; or in a JSON array, elements that differ.
    Several,
    /// The place is in a JSON body, and the body is not JSON. Line and column are counted from 1, columns in bytes.
    NotJson {
        /// The line of the body.
        line: usize,
        /// The column in that line.
        column: usize,
    },
    /// The place is in a body that cannot be decoded as its `Content-Encoding` says.
    Undecodable(ContentError),
    /// A value of another kind than text, number or boolean.
    NotText(&'static str),
    /// A value.
    Text {
        /// Numbers and booleans as they are written.
        text: Cow<'a, str>,
        /// Whether nothing of it had to be replaced since it is not Unicode.
        is_exact: bool,
    },
}

impl<'a> Sought<'a> {
    fn of_text(text: Cow<'a, str>) -> Self {
        Self::Text { text, is_exact: true }
    }

    /// A value of a JSON text.
    pub fn of_value(value: Option<Value<'a>>) -> Self {
        let Some(value) = value else { return Self::Absent };
        value.text().map_or(Self::NotText(value.kind()), |(text, is_exact)| Self::Text { text, is_exact })
    }

    /// Bytes as a text.
    pub(crate) fn of_bytes(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text { text: Cow::Owned(text), is_exact: true },
            Err(error) => {
                Self::Text { text: Cow::Owned(String::from_utf8_lossy(error.as_bytes()).into_owned()), is_exact: false }
            }
        }
    }

    fn not_json(error: NotJson, body: &[u8]) -> Self {
        let (line, column) = error.place(body);
        Self::NotJson { line, column }
    }

    fn into_owned(self) -> Sought<'static> {
        match self {
            Self::Absent => Sought::Absent,
            Self::Several => Sought::Several,
            Self::NotJson { line, column } => Sought::NotJson { line, column },
            Self::Undecodable(error) => Sought::Undecodable(error),
            Self::NotText(kind) => Sought::NotText(kind),
            Self::Text { text, is_exact } => Sought::Text { text: Cow::Owned(text.into_owned()), is_exact },
        }
    }

    /// The value, if there is one.
    pub fn text(self) -> Option<Cow<'a, str>> {
        if let Self::Text { text, .. } = self { Some(text) } else { None }
    }
}

impl<'a> Places<'a> {
    /// The places of a request.
    pub fn new(webhook: &'a UnverifiedWebhook) -> Self {
        Self { webhook, pointers: const { &Pointers::NONE }, content: OnceLock::new(), scan: OnceLock::new() }
    }

    /// The same, where these places of a JSON body will be asked for.
    pub fn knowing(self, pointers: &'a Pointers) -> Self {
        Self { pointers, scan: OnceLock::new(), ..self }
    }

    /// The request itself.
    pub fn webhook(&self) -> &'a UnverifiedWebhook {
        self.webhook
    }

    /// The value at `place`; `None` if it is absent, or not text. Signatures and claims are not places of a request alone.
    pub fn find(&self, place: &Location) -> Option<Cow<'a, str>> {
        self.look(place).text()
    }

    /// What stands at `place`.
    pub fn look(&self, place: &Location) -> Sought<'a> {
        match place {
            Location::Header(name) => header(&self.webhook.headers, name).map_or(Sought::Absent, Sought::of_text),
            Location::Query(name) => form_value(self.webhook.raw_query.as_bytes(), name),
            Location::Form(name) => self.look_into_form(name),
            Location::Json(pointer) => self.look_into_json(pointer),
            Location::Raw(pointer) => match self.raw(pointer) {
                Ok(Some(bytes)) => Sought::of_bytes(bytes.to_vec()),
                Ok(None) => Sought::Absent,
                Err(error) => Sought::not_json(error, self.readable_body()),
            },
            Location::Multipart(name) => self.look_into_multipart(name),
            Location::Within(..) => look_through(place, &|place| self.look(place)),
            Location::Body => self.whole_body().map_or(Sought::Absent, |text| Sought::of_text(Cow::Borrowed(text))),
            Location::Signature(_) | Location::Claim(_) => Sought::Absent,
        }
    }

    /// The body as one text. A token needs no escapes, so that what stands between quotation marks is the text itself.
    fn whole_body(&self) -> Option<&'a str> {
        let text = std::str::from_utf8(&self.webhook.body).ok()?.trim_ascii();
        Some(text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text))
    }

    /// Why the body is not JSON, if it is not.
    pub fn check_json(&self) -> Sought<'static> {
        match (self.content(), Scan::new(self.readable_body(), &Pointers::NONE)) {
            (_, Ok(_)) => Sought::Absent,
            (Content::Undecodable(error), Err(_)) => Sought::Undecodable(*error),
            (_, Err(error)) => Sought::not_json(error, self.readable_body()),
        }
    }

    /// The exact bytes of the value at a JSON pointer.
    pub fn raw(&self, pointer: &str) -> Result<Option<&[u8]>, NotJson> {
        self.json_once(pointer).map(|value| value.map(Value::bytes))
    }

    fn look_into_multipart(&self, name: &str) -> Sought<'a> {
        let content_type = header(&self.webhook.headers, http::header::CONTENT_TYPE);
        let Some(boundary) = content_type.as_deref().and_then(multipart::boundary) else { return Sought::Absent };
        let mut values = multipart::fields(self.readable_body(), &boundary).filter(|(field, _)| field == name);
        match (values.next(), values.next()) {
            (None, _) => Sought::Absent,
            (Some((_, value)), None) => Sought::of_bytes(value.to_vec()),
            (Some(_), Some(_)) => Sought::Several,
        }
    }

    /// A body that is said to be something else than a form is not one, whatever it looks like.
    fn look_into_form(&self, name: &str) -> Sought<'a> {
        let content_type = self.webhook.headers.get(http::header::CONTENT_TYPE).map(|value| value.as_bytes());
        if !content_type.is_none_or(|value| value.to_ascii_lowercase().starts_with(FORM_CONTENT_TYPE)) {
            return Sought::Absent;
        }
        match self.content() {
            Content::Decoded(body) => form_value(body, name).into_owned(),
            Content::AsSent => form_value(&self.webhook.body, name),
            Content::Undecodable(error) => match form_value(&self.webhook.body, name) {
                Sought::Absent => Sought::Undecodable(*error),
                sought => sought,
            },
        }
    }

    fn look_into_json(&self, pointer: &str) -> Sought<'a> {
        match self.content() {
            Content::Decoded(body) => self.sought(body, pointer).into_owned(),
            Content::AsSent => self.sought(&self.webhook.body, pointer),
            Content::Undecodable(error) => match self.sought(&self.webhook.body, pointer) {
                Sought::NotJson { .. } => Sought::Undecodable(*error),
                sought => sought,
            },
        }
    }

    /// What stands at a JSON pointer; `body` is [`Self::readable_body`].
    fn sought<'b>(&self, body: &'b [u8], pointer: &str) -> Sought<'b> {
        match self.scanned(body, pointer, |scan, number| scan.get(body, number)) {
            Ok(value) => Sought::of_value(value),
            Err(error) => Sought::not_json(error, body),
        }
    }

    /// The value at a JSON pointer in the body. `None` if it is absent, or where elements of an array do not have the same; also
    /// where a member on the way stands there more than once: another reader may find another value.
    pub fn json_once(&self, pointer: &str) -> Result<Option<Value<'_>>, NotJson> {
        let body = self.readable_body();
        self.scanned(body, pointer, |scan, number| scan.get(body, number).filter(|_| !scan.is_repeated(number)))
    }

    /// The body, decoded if it has a content coding that can be undone.
    pub fn readable_body(&self) -> &[u8] {
        if let Content::Decoded(body) = self.content() { body } else { &self.webhook.body }
    }

    fn content(&self) -> &Content {
        self.content.get_or_init(|| {
            let Some(codings) = header(&self.webhook.headers, http::header::CONTENT_ENCODING) else { return Content::AsSent };
            match content::decode(&self.webhook.body, Some(&codings)) {
                Ok(Cow::Borrowed(_)) => Content::AsSent,
                Ok(Cow::Owned(body)) => Content::Decoded(Arc::new(body)),
                Err(error) => Content::Undecodable(error),
            }
        })
    }

    fn scanned<T>(&self, body: &[u8], pointer: &str, read: impl FnOnce(&Scan, usize) -> T) -> Result<T, NotJson> {
        match self.pointers.position(pointer) {
            Some(number) => {
                let scan = self.scan.get_or_init(|| Scan::new(body, self.pointers));
                scan.as_ref().map(|scan| read(scan, number)).map_err(|error| *error)
            }
            None => Scan::new(body, &Pointers::new([pointer])).map(|scan| read(&scan, 0)),
        }
    }
}

/// The value of a header; repeated ones are joined by commas, which is how API Gateway hands them on.
/// `None` if it is absent or not text.
pub fn header(headers: &HeaderMap, name: impl AsHeaderName) -> Option<Cow<'_, str>> {
    let mut values = headers.get_all(name).iter().map(|value| std::str::from_utf8(value.as_bytes()));
    let first = values.next()?.ok()?;
    let mut joined = Cow::Borrowed(first);
    for value in values {
        let joined = joined.to_mut();
        joined.push(',');
        joined.push_str(value.ok()?);
    }
    Some(joined)
}

/// The field of that name in a query string or a form, decoded as `application/x-www-form-urlencoded`. One that is there twice
/// could mean either, and so means nothing: what reads the webhook later may take the other one.
fn form_value<'a>(encoded: &'a [u8], name: &str) -> Sought<'a> {
    let mut values = form_urlencoded::parse(encoded).filter(|(key, _)| key == name).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (None, _) => Sought::Absent,
        (Some(value), None) => Sought::of_text(value),
        (Some(_), Some(_)) => Sought::Several,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_parsed_or_say_what_is_wrong() {
        let parse = |text: &str| Location::try_from(text.to_owned());
        assert_eq!(parse("header:X-GitHub-Event"), Ok(Location::Header(HeaderName::from_static("x-github-event"))));
        assert_eq!(parse("json:/id"), Ok(Location::Json("/id".into())));
        assert_eq!(parse("form:a:b"), Ok(Location::Form("a:b".into())));
        assert_eq!(parse("claim:/sha256"), Ok(Location::Claim("/sha256".into())));
        assert_eq!(parse("signature:t").unwrap().to_string(), "signature:t");
        assert_eq!(parse("body").unwrap().to_string(), "body");
        for wrong in ["body:", "body:x", "Body", "body "] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("json:id").unwrap_err().contains("starts with `/`"));
        assert!(parse("json:/a/*b").unwrap_err().contains("nothing less"));
        assert!(parse("heading:x").unwrap_err().contains("`heading` is not a place"));
        assert!(parse("header:").is_err());
        assert!(parse("header:x y").unwrap_err().contains("`x y` cannot be the name of a header"));
        assert!(parse("").is_err());
    }

    #[test]
    fn a_place_goes_on_within_a_value() {
        let body = br#"{"message":{"data":"eyJpZCI6IjciLCJpbiI6IntcImFcIjoxfSJ9"},"text":"x=1&y=2","bad":"%"}"#;
        let webhook = UnverifiedWebhook::new(http::Method::POST, "https://h/", &[], body.to_vec());
        let places = Places::new(&webhook);
        let find = |place: &str| places.find(&Location::try_from(place.to_owned()).unwrap()).map(Cow::into_owned);
        assert_eq!(find("json:/message/data|from-base64|json:/id").as_deref(), Some("7"));
        assert_eq!(find("json:/message/data|from-base64|json:/in|json:/a").as_deref(), Some("1"));
        assert_eq!(find("json:/text|form:y").as_deref(), Some("2"));
        assert_eq!(find("json:/message/data|json:/id"), None);
        assert_eq!(find("json:/bad|from-base64"), None);
        assert_eq!(find("json:/none|from-base64"), None);
        assert_eq!(find("raw:/message").as_deref(), Some(r#"{"data":"eyJpZCI6IjciLCJpbiI6IntcImFcIjoxfSJ9"}"#));
        let parse = |text: &str| Location::try_from(text.to_owned());
        assert_eq!(parse("form:payload|json:/id").unwrap().to_string(), "form:payload|json:/id");
        assert!(parse("form:payload|hex").unwrap_err().contains("a place goes on with"));
        assert!(parse(&format!("form:a{}", "|from-base64".repeat(STEPS_MAX))).is_ok());
        assert!(parse(&format!("form:a{}", "|from-base64".repeat(STEPS_MAX + 1))).unwrap_err().contains("more than 4 times"));
    }

    #[test]
    fn fields_of_a_multipart_body_are_found() {
        let body = b"--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b\r\nContent-Disposition: form-data; name=\"c\"\r\n\r\n\r\n\
            --b\r\ncontent-disposition: form-data; name=c\r\n\r\n2\r\n--b--\r\n";
        let headers = [("Content-Type".to_owned(), "multipart/form-data; boundary=b".to_owned())];
        let webhook = UnverifiedWebhook::new(http::Method::POST, "https://h/", &headers, body.to_vec());
        let look = |name: &str| Places::new(&webhook).look(&Location::Multipart(name.to_owned()));
        assert_eq!(look("a").text().as_deref(), Some("1"));
        assert_eq!((look("c"), look("d")), (Sought::Several, Sought::Absent));
    }

    #[test]
    fn repeated_headers_are_joined_as_api_gateway_joins_them() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", "1".parse().unwrap());
        headers.append("x-a", "2".parse().unwrap());
        assert_eq!(header(&headers, "x-a").as_deref(), Some("1,2"));
        assert_eq!(header(&headers, "x-b"), None);
    }

    #[test]
    fn forms_and_queries_are_decoded() {
        let webhook = UnverifiedWebhook::new(http::Method::POST, "https://h/p?a=1%2C2&d=3", &[], b"b=x+y&c&e=1&e=2".to_vec());
        let places = Places::new(&webhook);
        let find = |place: &str| places.find(&Location::try_from(place.to_owned()).unwrap()).map(Cow::into_owned);
        assert_eq!(find("query:a").as_deref(), Some("1,2"));
        assert_eq!(find("form:b").as_deref(), Some("x y"));
        assert_eq!(find("form:c").as_deref(), Some(""));
        assert_eq!(find("form:d"), None);
        assert_eq!(find("form:e"), None, "it could mean either");
        assert_eq!(find("json:/a"), None);
    }

    #[test]
    fn what_stands_at_a_place_is_told_exactly() {
        let body = br#"{"id":1e3,"type":"a\ud83c","list":[1,2],"none":null}"#;
        let webhook = UnverifiedWebhook::new(http::Method::POST, "https://h/?t=1&t=2", &[], body.to_vec());
        let pointers = Pointers::new(["/id", "/type"]);
        let text = |text: &'static str, is_exact| Sought::Text { text: Cow::Borrowed(text), is_exact };
        for places in [Places::new(&webhook), Places::new(&webhook).knowing(&pointers)] {
            let look = |place: &str| places.look(&Location::try_from(place.to_owned()).unwrap());
            assert_eq!(look("json:/id"), text("1e3", true));
            assert_eq!(look("json:/type"), text("a\u{fffd}", false));
            assert_eq!(look("json:/list"), Sought::NotText("an array"));
            assert_eq!(look("json:/none"), Sought::NotText("null"));
            assert_eq!(look("json:/other"), Sought::Absent);
            assert_eq!(look("query:t"), Sought::Several);
            assert_eq!(look("header:t"), Sought::Absent);
        }
        let broken = UnverifiedWebhook::new(http::Method::POST, "https://h/", &[], b"{\n\"id\":1".to_vec());
        let places = Places::new(&broken);
        assert_eq!(places.look(&Location::Json("/id".into())), Sought::NotJson { line: 2, column: 7 });
    }

    fn gzip(body: &[u8]) -> Vec<u8> {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn encoded(coding: &str, content_type: &str, body: Vec<u8>) -> UnverifiedWebhook {
        let headers = [("Content-Encoding", coding), ("Content-Type", content_type)];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        UnverifiedWebhook::new(http::Method::POST, "https://h/", &headers, body)
    }

    #[test]
    fn places_are_found_in_the_decoded_body() {
        let text = |text: &'static str| Sought::Text { text: Cow::Borrowed(text), is_exact: true };
        let webhook = encoded("gzip", "application/json", gzip(br#"{"id":"evt_1","list":[1],"a":1,"a":2}"#));
        let pointers = Pointers::new(["/id", "/list"]);
        for places in [Places::new(&webhook), Places::new(&webhook).knowing(&pointers)] {
            let copy = places.clone();
            for places in [places, copy] {
                assert_eq!(places.look(&Location::Json("/id".into())), text("evt_1"));
                assert_eq!(places.look(&Location::Json("/list".into())), Sought::NotText("an array"));
                assert_eq!(places.look(&Location::Json("/none".into())), Sought::Absent);
                assert_eq!(places.json_once("/id").unwrap().and_then(Value::text).unwrap().0, "evt_1");
                assert!(places.json_once("/a").unwrap().is_none());
                assert_eq!(places.webhook().body, webhook.body, "the exact bytes stay as they are");
            }
        }
        let broken = encoded("gzip", "application/json", gzip(b"{\n\"id\":1"));
        assert_eq!(Places::new(&broken).look(&Location::Json("/id".into())), Sought::NotJson { line: 2, column: 7 });
        let form = encoded("gzip", "application/x-www-form-urlencoded", gzip(b"id=a+b&c=1&c=2"));
        let places = Places::new(&form);
        assert_eq!(places.look(&Location::Form("id".into())), text("a b"));
        assert_eq!(places.look(&Location::Form("c".into())), Sought::Several);
        assert_eq!(places.look(&Location::Form("d".into())), Sought::Absent);
    }

    #[test]
    fn a_body_that_cannot_be_decoded_says_why_at_each_of_its_places() {
        let json = gzip(br#"{"id":"evt_1"}"#);
        let cut_off = &json[..json.len() - 1];
        for (coding, body, error) in [
            ("gzip", cut_off, ContentError::Broken("gzip")),
            ("br", &json, ContentError::Broken("br")),
            ("lzma", &json, ContentError::UnknownCoding),
            ("gzip, gzip, gzip", &json, ContentError::TooManyCodings),
        ] {
            let webhook = encoded(coding, "application/json", body.to_vec());
            assert_eq!(Places::new(&webhook).look(&Location::Json("/id".into())), Sought::Undecodable(error), "{coding}");
            let form = encoded(coding, "application/x-www-form-urlencoded", body.to_vec());
            assert_eq!(Places::new(&form).look(&Location::Form("id".into())), Sought::Undecodable(error), "{coding}");
            assert_eq!(Places::new(&form).look(&Location::Header(HeaderName::from_static("x-id"))), Sought::Absent, "{coding}");
        }
    }

    /// No signature covers the header: whoever has captured a webhook could add one, and it would be another event.
    #[test]
    fn a_content_encoding_that_was_never_applied_hides_nothing() {
        let text = |text: &'static str| Sought::Text { text: Cow::Borrowed(text), is_exact: true };
        for coding in ["gzip", "deflate", "br", "zstd", "utf-8", "gzip, br, zstd"] {
            let json = encoded(coding, "application/json", br#"{"id":"evt_1"}"#.to_vec());
            assert_eq!(Places::new(&json).look(&Location::Json("/id".into())), text("evt_1"), "{coding}");
            assert_eq!(Places::new(&json).look(&Location::Json("/none".into())), Sought::Absent, "{coding}");
            let form = encoded(coding, "application/x-www-form-urlencoded", b"id=evt_1".to_vec());
            assert_eq!(Places::new(&form).look(&Location::Form("id".into())), text("evt_1"), "{coding}");
        }
    }

    #[test]
    fn a_body_is_one_text_without_space_and_quotation_marks() {
        let find = |body: &[u8]| {
            let webhook = UnverifiedWebhook::new(http::Method::POST, "https://h/", &[], body.to_vec());
            Places::new(&webhook).find(&Location::Body).map(Cow::into_owned)
        };
        for body in [b"a.b.c".as_slice(), b" a.b.c\r\n", b"\"a.b.c\"", b"\t\"a.b.c\"\n"] {
            assert_eq!(find(body).as_deref(), Some("a.b.c"), "{body:?}");
        }
        assert_eq!(find(b"\"a.b.c").as_deref(), Some("\"a.b.c"));
        assert_eq!(find(b"\"").as_deref(), Some("\""));
        assert_eq!(find(b"\xff"), None);
    }

    #[test]
    fn what_is_said_to_be_json_is_no_form() {
        let field = |content_type: &str| {
            let headers = [("Content-Type".to_owned(), content_type.to_owned())];
            let webhook = UnverifiedWebhook::new(http::Method::POST, "https://h/", &headers, b"{\"a\":\"&id=1\"}".to_vec());
            Places::new(&webhook).find(&Location::Form("id".into())).is_some()
        };
        assert!(!field("application/json"));
        assert!(field("Application/x-www-form-urlencoded; charset=UTF-8"));
    }
}
