//! Where in a request a value stands: `header:x-github-delivery`, `query:token`, `form:event`, `json:/data/id`, `signature:t`,
//! `claim:/sha256`.

use std::{borrow::Cow, cell::OnceCell, fmt};

use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

use crate::signatures::UnverifiedWebhook;

const FORM_CONTENT_TYPE: &[u8] = b"application/x-www-form-urlencoded";

/// A place in a request that a scheme or a source reads a value from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Location {
    /// `header:NAME`: the header's value; repeated ones joined by commas, as API Gateway does.
    Header(String),
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
}

impl TryFrom<String> for Location {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').unwrap_or((&text, ""));
        match (kind, rest) {
            (_, "") => Err(format!("`{text}` names no place; write it like `header:x-event-id` or `json:/id`")),
            ("header", name) => Ok(Self::Header(name.to_ascii_lowercase())),
            ("query", name) => Ok(Self::Query(name.to_owned())),
            ("form", name) => Ok(Self::Form(name.to_owned())),
            ("json", pointer) if pointer.split('/').any(|part| part.contains('*') && part != "*") => {
                Err(format!("`{text}`: `*` stands for every element of an array, and for nothing less"))
            }
            ("json", pointer) if pointer.starts_with('/') => Ok(Self::Json(pointer.to_owned())),
            ("claim", pointer) if pointer.starts_with('/') => Ok(Self::Claim(pointer.to_owned())),
            ("json" | "claim", _) => Err(format!("`{text}`: a JSON pointer starts with `/`, as in `json:/data/id`")),
            ("signature", key) => Ok(Self::Signature(key.to_owned())),
            _ => Err(format!(
                "`{kind}` is no place in a request; there are `header:`, `query:`, `form:`, `json:`, `signature:` and `claim:`"
            )),
        }
    }
}

impl fmt::Display for Location {
    /// As it is written in a configuration.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            Self::Header(name) => ("header", name),
            Self::Query(name) => ("query", name),
            Self::Form(name) => ("form", name),
            Self::Json(pointer) => ("json", pointer),
            Self::Signature(key) => ("signature", key),
            Self::Claim(pointer) => ("claim", pointer),
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

/// Finds values in one request. A JSON body is parsed when the first place within it is asked for, and only then.
#[derive(Debug)]
pub struct Places<'a> {
    webhook: &'a UnverifiedWebhook,
    json: OnceCell<Option<Value>>,
    json_bytes_max: usize,
}

/// Largest JSON body that is parsed before its sender is proven, in bytes: parsed, it can take a hundred times as much memory. What
/// must be parsed so early is small: SNS messages have at most 256 KB.
pub const UNVERIFIED_JSON_BYTES_MAX: usize = 1024 * 1024;

impl<'a> Places<'a> {
    /// The places of a webhook whose sender may be anybody.
    pub fn new(webhook: &'a UnverifiedWebhook) -> Self {
        Self { webhook, json: OnceCell::new(), json_bytes_max: UNVERIFIED_JSON_BYTES_MAX }
    }

    /// The places of a webhook whose sender is proven.
    pub fn proven(webhook: &'a UnverifiedWebhook) -> Self {
        Self { json_bytes_max: usize::MAX, ..Self::new(webhook) }
    }

    /// The request itself.
    pub fn webhook(&self) -> &'a UnverifiedWebhook {
        self.webhook
    }

    /// The value at `place`; `None` if it is absent, or no text. Signatures and claims are not places of a request alone.
    pub fn find(&self, place: &Location) -> Option<Cow<'a, str>> {
        match place {
            Location::Header(name) => header(&self.webhook.headers, name),
            Location::Query(name) => form_value(self.webhook.raw_query.as_bytes(), name),
            Location::Form(name) => form_value(self.form()?, name),
            Location::Json(pointer) => json(self.json()?, pointer).map(Cow::Owned),
            Location::Signature(_) | Location::Claim(_) => None,
        }
    }

    /// The body as a form. A body that is said to be something else is none, whatever it looks like.
    fn form(&self) -> Option<&'a [u8]> {
        let content_type = self.webhook.headers.get(http::header::CONTENT_TYPE).map(|value| value.as_bytes());
        let is_form = content_type.is_none_or(|value| value.to_ascii_lowercase().starts_with(FORM_CONTENT_TYPE));
        is_form.then_some(&self.webhook.body)
    }

    /// The body as JSON, if it is.
    pub fn json(&self) -> Option<&Value> {
        let small = self.webhook.body.len() <= self.json_bytes_max;
        self.json.get_or_init(|| small.then(|| serde_json::from_slice(&self.webhook.body).ok()).flatten()).as_ref()
    }
}

/// The value of a header; repeated ones are joined by commas, which is how API Gateway hands them on.
/// `None` if it is absent or not text.
pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<Cow<'a, str>> {
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
fn form_value<'a>(encoded: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    let mut values = form_urlencoded::parse(encoded).filter(|(key, _)| key == name).map(|(_, value)| value);
    values.next().filter(|_| values.next().is_none())
}

/// The scalar at a JSON pointer as text; `None` for what is absent, null, an array or an object.
pub fn json(body: &Value, pointer: &str) -> Option<String> {
    let Some((before, after)) = pointer.split_once("/*") else { return scalar(body.pointer(pointer)?) };
    let mut values = body.pointer(before)?.as_array()?.iter().map(|element| json(element, after));
    let first = values.next()??;
    values.all(|value| value.as_deref() == Some(&first)).then_some(first)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_parsed_or_say_what_is_wrong() {
        let parse = |text: &str| Location::try_from(text.to_owned());
        assert_eq!(parse("header:X-GitHub-Event"), Ok(Location::Header("x-github-event".into())));
        assert_eq!(parse("json:/id"), Ok(Location::Json("/id".into())));
        assert_eq!(parse("form:a:b"), Ok(Location::Form("a:b".into())));
        assert_eq!(parse("claim:/sha256"), Ok(Location::Claim("/sha256".into())));
        assert_eq!(parse("signature:t").unwrap().to_string(), "signature:t");
        assert!(parse("json:id").unwrap_err().contains("starts with `/`"));
        assert!(parse("json:/a/*b").unwrap_err().contains("nothing less"));
        assert!(parse("heading:x").unwrap_err().contains("`heading` is no place"));
        assert!(parse("header:").is_err());
        assert!(parse("").is_err());
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
    fn only_scalars_are_read_from_json() {
        let body = serde_json::json!({"id": 7, "name": "n", "live": true, "list": [1], "none": null});
        assert_eq!(json(&body, "/id").as_deref(), Some("7"));
        assert_eq!(json(&body, "/live").as_deref(), Some("true"));
        assert_eq!(json(&body, "/list"), None);
        assert_eq!(json(&body, "/none"), None);
        assert_eq!(json(&body, "/list/0").as_deref(), Some("1"));
    }

    #[test]
    fn a_star_is_every_element_and_all_must_agree() {
        let body = |states: serde_json::Value| serde_json::json!({ "value": states });
        let find = |states| json(&body(states), "/value/*/state");
        assert_eq!(find(serde_json::json!([{"state": "s"}, {"state": "s"}])).as_deref(), Some("s"));
        assert_eq!(find(serde_json::json!([{"state": "s"}, {"state": "t"}])), None);
        assert_eq!(find(serde_json::json!([{"state": "s"}, {}])), None);
        assert_eq!(find(serde_json::json!([])), None);
        assert_eq!(find(serde_json::json!({"state": "s"})), None);
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
    fn a_large_body_is_parsed_only_once_its_sender_is_proven() {
        let found = |bytes: usize, proven: bool| {
            let body = format!("{{\"a\":1,\"b\":\"{}\"}}", "x".repeat(bytes - 14)).into_bytes();
            assert_eq!(body.len(), bytes);
            let webhook = UnverifiedWebhook::new(http::Method::POST, "https://h/", &[], body);
            let places = if proven { Places::proven(&webhook) } else { Places::new(&webhook) };
            places.find(&Location::Json("/a".into())).is_some()
        };
        assert!(found(UNVERIFIED_JSON_BYTES_MAX, false));
        assert!(!found(UNVERIFIED_JSON_BYTES_MAX + 1, false));
        assert!(found(UNVERIFIED_JSON_BYTES_MAX + 1, true));
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
