//! Which bytes a scheme signs, and what a handshake answers: text with variables in braces, as `v0:{timestamp}:{body}`.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};
use ring::{digest, hmac};
use serde::Deserialize;

use super::UnverifiedWebhook;
use crate::{
    json,
    location::{self, Location, Step},
};

/// A template. `{body}` and its like are [`Variable`]s, every other brace names a [`Location`]; both may be followed by
/// filters, as in `{body|sha256|hex}`. What stands in `[…]` is left out when a variable within is absent or empty. `{{`, `}}`,
/// `[[` and `]]` are the characters themselves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Filtered),
    Optional(Vec<Part>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Filtered {
    variable: Variable,
    filters: Vec<Filter>,
}

/// What a template can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `{body}`: the exact body.
    Body,
    /// `{timestamp}`: the timestamp as sent.
    Timestamp,
    /// `{id}`: the provider's id of this webhook, as sent.
    Id,
    /// `{method}`: the HTTP method.
    Method,
    /// `{url}`: the public URL, in the form that the scheme says.
    Url,
    /// `{path}`: its path.
    Path,
    /// `{query}`: the query as received, without the question mark.
    Query,
    /// `{secret}`: the secret's text.
    Secret,
    /// `{key_id}`: the key's public id.
    KeyId,
    /// `{form-sorted}`: the form's distinct name-value pairs, sorted, decoded and joined without anything between.
    FormSorted,
    /// `{query-sorted}`: the query's pairs, sorted, encoded anew and joined by `&`.
    QuerySorted,
    /// `{aws-sns}`: the lines that AWS SNS signs of its message.
    AwsSns,
    /// `{pairs-sorted}`: the pairs of the query and of a form in the body together, sorted, decoded and joined without anything between.
    PairsSorted,
    /// `{listed}`: the values of the fields that the body lists, as the scheme's `listed` says.
    Listed,
    /// `{handshake_secret}`: the newest key of the source's handshake secret. In answers alone.
    HandshakeSecret,
    /// `{A + B}`: several, one after the other.
    Joined(Vec<Variable>),
    /// Any place of the request.
    At(Location),
}

/// What can be done to a value before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// `sha1`: the digest's bytes.
    Sha1,
    /// `sha256`: the digest's bytes.
    Sha256,
    /// `sha512`: the digest's bytes.
    Sha512,
    /// `crc32`: CRC-32 (ISO 3309) as a decimal number, as PayPal writes it.
    Crc32,
    /// `hmac-sha1`: with the source's newest key. In answers alone.
    HmacSha1,
    /// `hmac-sha256`: with the source's newest key. In answers alone.
    HmacSha256,
    /// `hex`: lower-case hexadecimal.
    Hex,
    /// `base64`: with padding.
    Base64,
    /// `lower`: ASCII letters in lower case.
    Lower,
    /// `json-sorted`: a JSON text written anew without white space, the members of each object sorted by name.
    JsonSorted,
    /// `header-values`: a list of header names becomes their values, joined by `.`.
    HeaderValues,
    /// `header-pairs`: a list of header names becomes `name:value` pairs, joined by `;`.
    HeaderPairs,
}

/// Most pairs of a form or query that are sorted before the sender is proven; Twilio and Mandrill send a few dozen.
pub const SORTED_PAIRS_MAX: usize = 1000;
/// Largest JSON text that is sorted, in bytes, before its sender is proven.
pub const SORTED_JSON_BYTES_MAX: usize = 1024 * 1024;
/// Most header names that one list may have: the list is the sender's.
pub const HEADER_LIST_MAX: usize = 32;

/// Where the values of a template come from.
pub trait TemplateValues {
    /// The bytes of a variable; `None` if it is absent.
    fn value(&self, variable: &Variable) -> Option<Cow<'_, [u8]>>;
    /// The headers, for the filters that look into them.
    fn headers(&self) -> &HeaderMap;
    /// The key of the filters that need one.
    fn key(&self) -> &[u8];
}

impl Template {
    /// Feeds the bytes to `sink` in pieces, so that the body is not copied. An error names what is absent.
    pub fn feed<'t>(&'t self, values: &impl TemplateValues, sink: &mut impl FnMut(&[u8])) -> Result<(), &'t Variable> {
        feed_parts(&self.parts, values, sink)
    }

    /// The bytes as one piece.
    pub fn render<'t>(&'t self, values: &impl TemplateValues) -> Result<Vec<u8>, &'t Variable> {
        let mut bytes = Vec::new();
        self.feed(values, &mut |piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }

    /// All variables, those of optional parts included.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.values().flat_map(|value| value.variable.each())
    }

    /// Whether the variable is there.
    pub fn uses(&self, variable: &Variable) -> bool {
        self.variables().any(|used| used == variable)
    }

    /// Whether it signs with the source's key itself.
    pub fn uses_key(&self) -> bool {
        self.values().any(|value| value.filters.iter().any(|filter| matches!(filter, Filter::HmacSha1 | Filter::HmacSha256)))
    }

    /// Whether the source's handshake secret would be shown, and not only a digest of it with something else.
    pub fn shows_handshake_secret(&self) -> bool {
        let is_digest = |filter: &Filter| {
            matches!(filter, Filter::Sha1 | Filter::Sha256 | Filter::Sha512 | Filter::HmacSha1 | Filter::HmacSha256)
        };
        self.values().any(|value| {
            value.variable.each().contains(&Variable::HandshakeSecret) && !value.filters.first().is_some_and(is_digest)
        })
    }

    /// Whether the same bytes could be of other values: two stand beside each other, or what stands between them may stand within them.
    pub fn could_be_divided_otherwise(&self) -> bool {
        let is_text = |part: &Part| matches!(part, Part::Text(_));
        let run_together = self.parts.windows(2).any(|pair| !pair.iter().any(is_text));
        let covers_body = self.covered().any(|variable| *variable == Variable::Body) || self.covers_body_as_json();
        let free = self.values().filter(|value| matches!(value.variable, Variable::At(_))).count();
        run_together || (!covers_body && free > 1)
    }

    /// Whether something else is signed with the source's key than the value of one place, as it is: several, or one that was changed.
    pub fn keys_what_is_made(&self) -> bool {
        let is_keyed = |filter: &Filter| matches!(filter, Filter::HmacSha1 | Filter::HmacSha256);
        let mut keyed = self.values().filter(|value| value.filters.iter().any(is_keyed));
        keyed.any(|value| matches!(value.variable, Variable::Joined(_)) || !value.filters.first().is_some_and(is_keyed))
    }

    /// Places whose value is signed with the source's key itself.
    pub fn keyed_places(&self) -> impl Iterator<Item = &Location> {
        let keyed = self
            .values()
            .filter(|value| value.filters.iter().any(|filter| matches!(filter, Filter::HmacSha1 | Filter::HmacSha256)));
        keyed.flat_map(|value| value.variable.each()).filter_map(|variable| match variable {
            Variable::At(place) => Some(place),
            _ => None,
        })
    }

    /// The variables that must be there: those outside optional parts.
    pub fn required(&self) -> impl Iterator<Item = &Variable> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(value) => Some(&value.variable),
            Part::Text(_) | Part::Optional(_) => None,
        })
    }

    /// Those of them whose exact value is signed, or a digest of it: with another value, the bytes would be others.
    pub fn covered(&self) -> impl Iterator<Item = &Variable> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(Filtered { variable, filters }) if filters.iter().all(|filter| filter.tells_apart()) => Some(variable),
            Part::Value(_) | Part::Text(_) | Part::Optional(_) => None,
        })
    }

    /// Whether the body is always covered.
    pub fn covers_body(&self) -> bool {
        let by_value =
            self.covered().any(|variable| matches!(variable, Variable::Body | Variable::FormSorted | Variable::AwsSns));
        by_value || self.covers_body_as_json()
    }

    /// Whether the body is covered as a JSON value, whose members may come in any order.
    pub fn covers_body_as_json(&self) -> bool {
        self.parts.iter().any(|part| match part {
            Part::Value(Filtered { variable: Variable::Body, filters }) => {
                filters.first() == Some(&Filter::JsonSorted) && filters[1..].iter().all(|filter| filter.tells_apart())
            }
            Part::Value(_) | Part::Text(_) | Part::Optional(_) => false,
        })
    }

    /// Whether it is the exact body and nothing else.
    pub fn is_body_alone(&self) -> bool {
        matches!(self.parts.as_slice(), [Part::Value(Filtered { variable: Variable::Body, filters })] if filters.is_empty())
    }

    fn values(&self) -> impl Iterator<Item = &Filtered> {
        let parts = self.parts.iter().flat_map(|part| match part {
            Part::Optional(parts) => parts.as_slice(),
            other => std::slice::from_ref(other),
        });
        parts.filter_map(|part| match part {
            Part::Value(value) => Some(value),
            Part::Text(_) | Part::Optional(_) => None,
        })
    }
}

fn feed_parts<'t>(parts: &'t [Part], values: &impl TemplateValues, sink: &mut impl FnMut(&[u8])) -> Result<(), &'t Variable> {
    for part in parts {
        match part {
            Part::Text(text) => sink(text.as_bytes()),
            Part::Value(value) => sink(&value.bytes(values).ok_or(&value.variable)?),
            Part::Optional(parts) if all_there(parts, values) => feed_parts(parts, values, sink)?,
            Part::Optional(_) => {}
        }
    }
    Ok(())
}

fn all_there(parts: &[Part], values: &impl TemplateValues) -> bool {
    parts.iter().all(|part| match part {
        Part::Value(value) => value.variable.each().iter().all(|one| values.value(one).is_some_and(|bytes| !bytes.is_empty())),
        Part::Text(_) | Part::Optional(_) => true,
    })
}

impl Filtered {
    fn bytes<'v>(&self, values: &'v impl TemplateValues) -> Option<Cow<'v, [u8]>> {
        let mut bytes = match &self.variable {
            Variable::Joined(variables) => {
                let mut joined = Vec::new();
                for variable in variables {
                    joined.extend_from_slice(&values.value(variable)?);
                }
                Cow::Owned(joined)
            }
            variable => values.value(variable)?,
        };
        for filter in &self.filters {
            bytes = match filter {
                // What is not JSON, no sender has signed.
                Filter::JsonSorted => Cow::Owned(json::sorted(&bytes, SORTED_JSON_BYTES_MAX)?),
                filter => Cow::Owned(filter.apply(&bytes, values)),
            };
        }
        Some(bytes)
    }
}

impl Filter {
    /// Whether nobody can find two values that it makes the same. A CRC can be had for any body; letters in either case are one
    /// text, and lists of names may be written in many ways.
    const fn tells_apart(self) -> bool {
        match self {
            Self::Sha1 | Self::Sha256 | Self::Sha512 | Self::HmacSha1 | Self::HmacSha256 | Self::Hex | Self::Base64 => true,
            Self::Crc32 | Self::Lower | Self::JsonSorted | Self::HeaderValues | Self::HeaderPairs => false,
        }
    }

    fn apply(self, bytes: &[u8], values: &impl TemplateValues) -> Vec<u8> {
        let hmac = |algorithm| hmac::sign(&hmac::Key::new(algorithm, values.key()), bytes).as_ref().to_vec();
        match self {
            Self::Sha1 => digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec(),
            Self::Sha256 => digest::digest(&digest::SHA256, bytes).as_ref().to_vec(),
            Self::Sha512 => digest::digest(&digest::SHA512, bytes).as_ref().to_vec(),
            Self::Crc32 => crc32fast::hash(bytes).to_string().into_bytes(),
            Self::HmacSha1 => hmac(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
            Self::HmacSha256 => hmac(hmac::HMAC_SHA256),
            Self::Hex => hex::encode(bytes).into_bytes(),
            Self::Base64 => BASE64.encode(bytes).into_bytes(),
            Self::Lower => bytes.to_ascii_lowercase(),
            Self::JsonSorted => json::sorted(bytes, SORTED_JSON_BYTES_MAX).unwrap_or_default(),
            Self::HeaderValues => header_list(bytes, values.headers(), ".", |_, value| value.to_owned()),
            Self::HeaderPairs => header_list(bytes, values.headers(), ";", |name, value| format!("{name}:{value}")),
        }
    }
}

/// Names stand between spaces, commas or semicolons; a header that is not there has an empty value.
fn header_list(names: &[u8], headers: &HeaderMap, joint: &str, write: impl Fn(&str, &str) -> String) -> Vec<u8> {
    let names = String::from_utf8_lossy(names);
    let names = names.split([' ', ',', ';']).filter(|name| !name.is_empty()).take(HEADER_LIST_MAX);
    let written: Vec<String> = names
        .map(|name| {
            let name = name.to_ascii_lowercase();
            write(&name, &location::header(headers, &name).unwrap_or_default())
        })
        .collect();
    written.join(joint).into_bytes()
}

/// What `application/x-www-form-urlencoded` leaves as it is in Go's `url.Values`, whose form MessageBird signs.
const FORM_ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The pairs of a form as bytes: what is no UTF-8 stays as it is, or two forms could be signed alike.
fn pairs(form: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let decode = |text: &[u8]| {
        let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        percent_decode(&spaced).collect()
    };
    form.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let equals = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        (decode(&pair[..equals]), decode(pair.get(equals + 1..).unwrap_or_default()))
    })
}

/// The distinct pairs of a form, sorted and joined (<https://www.twilio.com/docs/usage/security>).
pub(super) fn form_sorted(form: &[u8]) -> Option<Vec<u8>> {
    let sorted = few(form)?.collect::<BTreeSet<_>>();
    Some(sorted.into_iter().flat_map(|(name, value)| [name, value].concat()).collect())
}

/// The pairs of the query and of a form in the body together, sorted and joined
/// (<https://www.zoho.com/us/billing/kb/webhooks/securing-webhooks.html>).
pub(super) fn pairs_sorted(webhook: &UnverifiedWebhook) -> Option<Vec<u8>> {
    let content_type = webhook.headers.get(http::header::CONTENT_TYPE).map(|value| value.as_bytes().to_ascii_lowercase());
    let is_form = content_type.is_some_and(|value| value.starts_with(b"application/x-www-form-urlencoded"));
    let mut sorted: Vec<_> = few(webhook.raw_query.as_bytes())?.collect();
    if is_form {
        sorted.extend(few(&webhook.body)?);
    }
    sorted.sort();
    Some(sorted.into_iter().flat_map(|(name, value)| [name, value].concat()).collect())
}

/// The pairs, unless there are more than [`SORTED_PAIRS_MAX`].
fn few(form: &[u8]) -> Option<impl Iterator<Item = (Vec<u8>, Vec<u8>)>> {
    let count = form.split(|byte| *byte == b'&').take(SORTED_PAIRS_MAX + 1).count();
    (count <= SORTED_PAIRS_MAX).then(|| pairs(form))
}

/// The pairs of a query, sorted and encoded anew.
pub(super) fn query_sorted(query: &[u8]) -> Option<Vec<u8>> {
    let encode = |text: &[u8]| percent_encode(text, FORM_ESCAPED).to_string().replace("%20", "+");
    let mut sorted: Vec<_> = few(query)?.collect();
    sorted.sort();
    let written: Vec<String> = sorted.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    Some(written.join("&").into_bytes())
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut optional: Option<Vec<Part>> = None;
        let mut literal = String::new();
        let mut rest = text.as_str();
        while let Some(character) = rest.chars().next() {
            rest = &rest[character.len_utf8()..];
            if "{}[]".contains(character) {
                if let Some(after) = rest.strip_prefix(character) {
                    literal.push(character);
                    rest = after;
                    continue;
                }
                flush(&mut literal, optional.as_mut().unwrap_or(&mut parts));
            }
            match character {
                '{' => {
                    let (inner, after) = rest.split_once('}').ok_or_else(|| format!("`{text}` has a `{{` without its `}}`"))?;
                    optional.as_mut().unwrap_or(&mut parts).push(Part::Value(Filtered::parse(inner)?));
                    rest = after;
                }
                '[' if optional.is_some() => return Err(format!("`{text}` has an optional part within another")),
                '[' => optional = Some(Vec::new()),
                ']' => {
                    let inner = optional.take().ok_or_else(|| format!("`{text}` has a `]` without its `[`"))?;
                    parts.push(Part::Optional(inner));
                }
                '}' => return Err(format!("`{text}` has a `}}` without its `{{`")),
                other => literal.push(other),
            }
        }
        if optional.is_some() {
            return Err(format!("`{text}` has a `[` without its `]`"));
        }
        flush(&mut literal, &mut parts);
        Ok(Self { parts })
    }
}

fn flush(literal: &mut String, parts: &mut Vec<Part>) {
    if !literal.is_empty() {
        parts.push(Part::Text(std::mem::take(literal)));
    }
}

impl Filtered {
    fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split('|').peekable();
        let mut named = words.next().unwrap_or_default().to_owned();
        // A place goes on before a filter changes what it has.
        while let Some(step) = words.next_if(|word| Step::parse(word).is_some()) {
            named = format!("{named}|{step}");
        }
        let variable = match named.contains(JOINT) {
            true => Variable::Joined(named.split(JOINT).map(Variable::parse).collect::<Result<_, _>>()?),
            false => Variable::parse(&named)?,
        };
        Ok(Self { variable, filters: words.map(Filter::parse).collect::<Result<_, _>>()? })
    }
}

/// Between values that are one after the other.
const JOINT: &str = " + ";

impl Variable {
    /// This one, or those that it joins.
    fn each(&self) -> &[Self] {
        if let Self::Joined(variables) = self { variables } else { std::slice::from_ref(self) }
    }

    const NAMED: [(&str, Self); 15] = [
        ("body", Self::Body),
        ("timestamp", Self::Timestamp),
        ("id", Self::Id),
        ("method", Self::Method),
        ("url", Self::Url),
        ("path", Self::Path),
        ("query", Self::Query),
        ("secret", Self::Secret),
        ("key_id", Self::KeyId),
        ("form-sorted", Self::FormSorted),
        ("query-sorted", Self::QuerySorted),
        ("aws-sns", Self::AwsSns),
        ("pairs-sorted", Self::PairsSorted),
        ("listed", Self::Listed),
        ("handshake_secret", Self::HandshakeSecret),
    ];

    fn parse(text: &str) -> Result<Self, String> {
        if let Some((_, variable)) = Self::NAMED.iter().find(|(name, _)| *name == text) {
            return Ok(variable.clone());
        }
        if !text.contains(':') {
            let names: Vec<&str> = Self::NAMED.iter().map(|(name, _)| *name).collect();
            return Err(format!("there is no `{{{text}}}`; there are {}, and places like `{{header:x-id}}`", names.join(", ")));
        }
        Location::try_from(text.to_owned()).map(Self::At)
    }
}

impl fmt::Display for Variable {
    /// As it is written in a template, without the braces.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(place) => write!(formatter, "{place}"),
            Self::Joined(variables) => {
                let words: Vec<String> = variables.iter().map(Self::to_string).collect();
                formatter.write_str(&words.join(JOINT))
            }
            named => formatter.write_str(Self::NAMED.iter().find(|(_, variable)| variable == named).map_or("", |(name, _)| name)),
        }
    }
}

impl Filter {
    const NAMED: [(&str, Self); 12] = [
        ("sha1", Self::Sha1),
        ("sha256", Self::Sha256),
        ("sha512", Self::Sha512),
        ("crc32", Self::Crc32),
        ("hmac-sha1", Self::HmacSha1),
        ("hmac-sha256", Self::HmacSha256),
        ("hex", Self::Hex),
        ("base64", Self::Base64),
        ("lower", Self::Lower),
        ("json-sorted", Self::JsonSorted),
        ("header-values", Self::HeaderValues),
        ("header-pairs", Self::HeaderPairs),
    ];

    fn parse(text: &str) -> Result<Self, String> {
        Self::NAMED.iter().find(|(name, _)| *name == text).map(|(_, filter)| *filter).ok_or_else(|| {
            let names: Vec<&str> = Self::NAMED.iter().map(|(name, _)| *name).collect();
            format!("there is no filter `{text}`; there are {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every variable is its own name, `{query}` is empty, `{header:none}` is absent.
    struct Names(HeaderMap);

    impl TemplateValues for Names {
        fn value(&self, variable: &Variable) -> Option<Cow<'_, [u8]>> {
            match variable {
                Variable::Query => Some(Cow::Borrowed(b"")),
                Variable::At(Location::Header(name)) if name == "none" => None,
                Variable::At(place) => Some(Cow::Owned(place.to_string().split_once(':').unwrap().1.as_bytes().to_vec())),
                named => Some(Cow::Owned(named.to_string().into_bytes())),
            }
        }

        fn headers(&self) -> &HeaderMap {
            &self.0
        }

        fn key(&self) -> &[u8] {
            b"Jefe"
        }
    }

    fn render(template: &str) -> Result<String, String> {
        let template = Template::try_from(template.to_owned())?;
        let headers = [("x-a", "1"), ("x-b", "2")].map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let values = Names(HeaderMap::from_iter(headers));
        let bytes = template.render(&values).map_err(|missing| format!("missing {missing}"))?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn variables_places_and_text_stand_in_order() {
        assert_eq!(render("v0:{timestamp}:{body}").unwrap(), "v0:timestamp:body");
        assert_eq!(render("{header:X-Id}{json:/a/b}{method}\n").unwrap(), "x-id/a/bmethod\n");
        assert_eq!(render("{{\"a\":[[{id}]]}}").unwrap(), "{\"a\":[id]}");
        assert_eq!(render("é{body}ü").unwrap(), "ébodyü");
        assert_eq!(render("").unwrap(), "");
    }

    #[test]
    fn what_is_absent_is_named_and_optional_parts_are_left_out() {
        assert_eq!(render("{body}{header:none}").unwrap_err(), "missing header:none");
        assert_eq!(render("[id:{header:none};]ts:{timestamp};").unwrap(), "ts:timestamp;");
        assert_eq!(render("[id:{header:there};]ts:{timestamp};").unwrap(), "id:there;ts:timestamp;");
        assert_eq!(render("{path}[?{query}]").unwrap(), "path");
        assert_eq!(render("{path}?{query}").unwrap(), "path?");
    }

    #[test]
    fn filters_are_applied_from_left_to_right() {
        assert_eq!(render("{body|sha256|hex}").unwrap(), hex::encode(digest::digest(&digest::SHA256, b"body")));
        assert_eq!(render("{header:AbC|lower}").unwrap(), "abc");
        // The check value of CRC-32/ISO-HDLC.
        assert_eq!(render("{json:/x|crc32}").unwrap(), crc32fast::hash(b"/x").to_string());
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
        assert_eq!(render("{query:x-b x-none x-a|header-values}").unwrap(), "2..1");
        assert_eq!(render("{query:X-B,x-a|header-pairs}").unwrap(), "x-b:2;x-a:1");
        // RFC 2202, test case 2.
        let jefe = render("{json:/what|hmac-sha1|hex}").unwrap();
        assert_eq!(jefe.len(), 40);
    }

    #[test]
    fn a_list_of_headers_is_bounded() {
        let names = |count: usize| format!("{{query:{}|header-values}}", vec!["x-a"; count].join(" "));
        assert_eq!(render(&names(HEADER_LIST_MAX)).unwrap().len(), 2 * HEADER_LIST_MAX - 1);
        assert_eq!(render(&names(HEADER_LIST_MAX + 1)).unwrap().len(), 2 * HEADER_LIST_MAX - 1);
    }

    #[test]
    fn forms_and_queries_are_sorted() {
        assert_eq!(form_sorted(b"b=2&a=x+y&b=1&b=2&c").unwrap(), b"ax yb1b2c");
        assert_eq!(form_sorted(b"a=%FF").unwrap(), b"a\xff");
        assert_eq!(form_sorted(b"&&").unwrap(), b"");
        assert_eq!(query_sorted(b"b=x+y&a=%2B~*&").unwrap(), b"a=%2B~%2A&b=x+y");
        let pairs = |count: usize| vec!["a"; count].join("&");
        assert!(form_sorted(pairs(SORTED_PAIRS_MAX).as_bytes()).is_some());
        assert!(form_sorted(pairs(SORTED_PAIRS_MAX + 1).as_bytes()).is_none());
        assert!(query_sorted(pairs(SORTED_PAIRS_MAX + 1).as_bytes()).is_none());
    }

    #[test]
    fn a_template_that_cannot_be_read_says_why() {
        let error = |text: &str| Template::try_from(text.to_owned()).unwrap_err();
        assert!(error("{body").contains("without its `}`"));
        assert!(error("body}").contains("without its `{`"));
        assert!(error("[{body}").contains("without its `]`"));
        assert!(error("{body}]").contains("without its `[`"));
        assert!(error("[{body}[{id}]]").contains("within another") || error("[{body}[{id}] ]").contains("within another"));
        assert!(error("{nonsense}").contains("there are body, timestamp"));
        assert!(error("{body|rot13}").contains("no filter `rot13`"));
    }

    #[test]
    fn what_a_template_uses_can_be_asked() {
        let template = Template::try_from("{id}.[{header:a}]{body}".to_owned()).unwrap();
        assert!(template.uses(&Variable::At(Location::Header(http::HeaderName::from_static("a")))));
        assert_eq!(template.required().collect::<Vec<_>>(), [&Variable::Id, &Variable::Body]);
        assert!(!template.is_body_alone());
        assert!(Template::try_from("{body}".to_owned()).unwrap().is_body_alone());
        assert!(!Template::try_from("{body|sha256}".to_owned()).unwrap().is_body_alone());
        assert!(Template::try_from("{body|sha256}".to_owned()).unwrap().covers_body());
        assert!(!Template::try_from("{body|crc32}[{body}]".to_owned()).unwrap().covers_body());
        for lossy in ["crc32", "lower", "header-values", "header-pairs"] {
            for place in ["body", "form-sorted", "aws-sns"] {
                let template = Template::try_from(format!("{{{place}|{lossy}|sha256}}{{id}}")).unwrap();
                assert!(!template.covers_body(), "{place} {lossy}");
                assert_eq!(template.covered().collect::<Vec<_>>(), [&Variable::Id]);
            }
        }
        assert!(Template::try_from("{body|hmac-sha256}".to_owned()).unwrap().uses_key());
    }
}
