//! Where in a request a value stands: `header:x-github-delivery`, `query:token`, `json:/data/id`, `signature:t`.

use std::borrow::Cow;

use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

/// A place in a request that a scheme or a source reads a value from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Location {
    /// `header:NAME`: the header's value; repeated ones joined by commas, as API Gateway does.
    Header(String),
    /// `query:NAME`: the first query parameter of that name, percent-decoded.
    Query(String),
    /// `json:/a/b`: a string, number or boolean in the JSON body, by RFC 6901 pointer.
    Json(String),
    /// `signature:KEY`: the value of KEY in the signature's own list, as `t` in `t=1700000000,v1=…`.
    Signature(String),
}

impl TryFrom<String> for Location {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').unwrap_or((&text, ""));
        match (kind, rest) {
            (_, "") => Err(format!("`{text}` names no place; write it like `header:x-event-id` or `json:/id`")),
            ("header", name) => Ok(Self::Header(name.to_ascii_lowercase())),
            ("query", name) => Ok(Self::Query(name.to_owned())),
            ("json", pointer) if pointer.starts_with('/') => Ok(Self::Json(pointer.to_owned())),
            ("json", _) => Err(format!("`{text}`: a JSON pointer starts with `/`, as in `json:/data/id`")),
            ("signature", key) => Ok(Self::Signature(key.to_owned())),
            _ => Err(format!("`{kind}` is no place in a request; there are `header:`, `query:`, `json:` and `signature:`")),
        }
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

/// The first parameter of that name in a raw query string, decoded as `application/x-www-form-urlencoded`.
pub fn query(raw_query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(raw_query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// The scalar at a JSON pointer as text; `None` for what is absent, null, an array or an object.
pub fn json(body: &Value, pointer: &str) -> Option<String> {
    match body.pointer(pointer)? {
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
        assert_eq!(parse("signature:t"), Ok(Location::Signature("t".into())));
        assert!(parse("json:id").unwrap_err().contains("starts with `/`"));
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
}
