//! The vector format: one request with its secrets, its time and what is expected of it, as one JSON object.
//!
//! Messages say which field is wrong, never what stands in it: it may be a secret.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http::Method;
use serde_json::{Map, Value};
use shared::{
    secrets::{Key, Keyring, Secret},
    signatures::UnverifiedWebhook,
    time::Timestamp,
};

use crate::args;

/// Most headers of a request: API Gateway takes 10 KB of them in all.
pub(crate) const HEADERS_MAX: usize = 1024;
/// What stands before a secret that is a handshake's and no signing key.
const VERIFY_TOKEN: &str = "verify_token:";

/// One vector.
#[derive(Debug)]
pub(crate) struct Vector {
    /// Its name, if it has one.
    pub(crate) id: Option<String>,
    /// The scheme's name: `scheme`, or else `provider`.
    pub(crate) scheme: Option<String>,
    pub(crate) webhook: UnverifiedWebhook,
    /// Its signing keys with the ids `1`, `2` and so on. `None` if it names none that is not empty.
    pub(crate) keyring: Option<Keyring>,
    /// Whether it says anything of secrets.
    pub(crate) has_secrets: bool,
    /// What its handshake is to compare.
    pub(crate) handshake_secrets: Option<Keyring>,
    /// The time to verify at; `None`: the clock.
    pub(crate) now: Option<Timestamp>,
    pub(crate) expected: Option<Expected>,
}

/// What must come out.
#[derive(Debug)]
pub(crate) enum Expected {
    /// Whether it is proven.
    Verdict { valid: bool },
    /// A handshake's answer.
    Answer(ExpectedAnswer),
}

/// A handshake's answer.
#[derive(Debug)]
pub(crate) struct ExpectedAnswer {
    pub(crate) status: u16,
    /// Those that must be there; others may be.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Vector {
    /// Reads one JSON object.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(text)
            .map_err(|error| format!("is not JSON, from line {}, column {} of it on", error.line(), error.column()))?;
        let Value::Object(fields) = value else { return Err("is JSON, but no object".to_owned()) };
        let fields = Fields(&fields);
        let method = match fields.text("method")? {
            Some(word) => Method::from_bytes(word.as_bytes()).map_err(|_| "`method` is no HTTP method".to_owned())?,
            None => Method::POST,
        };
        let url = fields.text("url")?.ok_or("has no `url`")?;
        let headers = pairs(fields.get("headers").ok_or("has no `headers`")?)?;
        let body = decoded(fields.text("body_b64")?.ok_or("has no `body_b64`")?, "body_b64")?;
        let secrets = fields.get("secrets").map(texts).transpose()?;
        let mut signing: Vec<&str> = secrets.iter().flatten().copied().collect();
        let tokens: Vec<&str> = signing.iter().filter_map(|secret| secret.strip_prefix(VERIFY_TOKEN)).collect();
        let expected = fields.expected()?;
        // Elsewhere a secret may begin with whatever it likes.
        let is_handshake = matches!(expected, Some(Expected::Answer(_)));
        if is_handshake {
            signing.retain(|secret| !secret.starts_with(VERIFY_TOKEN));
        }
        Ok(Self {
            id: fields.text("id")?.map(str::to_owned),
            scheme: fields.text("scheme")?.or(fields.text("provider")?).map(str::to_owned),
            webhook: UnverifiedWebhook::new(method, url, &headers, body),
            keyring: keyring(&signing)?,
            has_secrets: secrets.is_some(),
            handshake_secrets: if is_handshake { keyring(&tokens)? } else { None },
            now: fields.now()?,
            expected,
        })
    }
}

struct Fields<'v>(&'v Map<String, Value>);

impl<'v> Fields<'v> {
    /// A field that is there and not null.
    fn get(&self, name: &str) -> Option<&'v Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<Option<&'v str>, String> {
        let text = |value: &'v Value| value.as_str().ok_or_else(|| format!("`{name}` is no text"));
        self.get(name).map(text).transpose()
    }

    fn now(&self) -> Result<Option<Timestamp>, String> {
        let moment = |value: &Value| value.as_f64().and_then(args::from_seconds);
        self.get("now")
            .map(|value| moment(value).ok_or_else(|| "`now` is not in seconds since the Unix epoch".to_owned()))
            .transpose()
    }

    fn expected(&self) -> Result<Option<Expected>, String> {
        if let Some(respond) = self.get("respond") {
            return answer(respond).map(|answer| Some(Expected::Answer(answer)));
        }
        match self.text("expect")? {
            None => Ok(None),
            Some("valid") => Ok(Some(Expected::Verdict { valid: true })),
            Some("invalid") => Ok(Some(Expected::Verdict { valid: false })),
            Some(_) => Err("`expect` is neither `valid` nor `invalid`".to_owned()),
        }
    }
}

fn answer(respond: &Value) -> Result<ExpectedAnswer, String> {
    let Value::Object(respond) = respond else { return Err("`respond` is no object".to_owned()) };
    let fields = Fields(respond);
    let status = fields.get("status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
    Ok(ExpectedAnswer {
        status: status.ok_or("`respond.status` is no HTTP status")?,
        headers: fields.get("headers").map_or(Ok(Vec::new()), pairs)?,
        body: fields.text("body_b64")?.map_or(Ok(Vec::new()), |text| decoded(text, "respond.body_b64"))?,
    })
}

fn pairs(value: &Value) -> Result<Vec<(String, String)>, String> {
    let wrong = || "`headers` is no list of [name, value] pairs".to_owned();
    let listed = value.as_array().ok_or_else(wrong)?;
    if listed.len() > HEADERS_MAX {
        return Err(format!("`headers` has more than {HEADERS_MAX}"));
    }
    let pair = |pair: &Value| match pair.as_array()?.as_slice() {
        [name, value] => Some((name.as_str()?.to_owned(), value.as_str()?.to_owned())),
        _ => None,
    };
    listed.iter().map(|value| pair(value).ok_or_else(wrong)).collect()
}

fn texts(value: &Value) -> Result<Vec<&str>, String> {
    let wrong = || "`secrets` is no list of texts".to_owned();
    value.as_array().ok_or_else(wrong)?.iter().map(|secret| secret.as_str().ok_or_else(wrong)).collect()
}

fn decoded(text: &str, field: &str) -> Result<Vec<u8>, String> {
    BASE64.decode(text).map_err(|_| format!("`{field}` is no Base64"))
}

/// Each secret is a key of its own. An empty one can prove nothing and is left out, as no keyring takes it.
fn keyring(secrets: &[&str]) -> Result<Option<Keyring>, String> {
    let keys = secrets.iter().enumerate().filter(|(_, secret)| !secret.is_empty());
    let keys: Vec<Key> =
        keys.map(|(index, secret)| Key { id: (index + 1).to_string(), secret: Secret::new(*secret), not_after: None }).collect();
    if keys.is_empty() {
        return Ok(None);
    }
    Keyring::new(keys).map(Some).map_err(|error| format!("`secrets`: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn good() -> Value {
        json!({"id": "a", "provider": "github", "scheme": "github-sha1", "method": "PUT", "url": "https://h/p?q", "extra": [1],
            "headers": [["X-A", "1"], ["x-a", "2"]], "body_b64": "/wA=", "secrets": ["", "hush"], "now": 1.5, "expect": "valid"})
    }

    fn without(field: &str) -> Value {
        let mut value = good();
        value.as_object_mut().unwrap().remove(field);
        value
    }

    fn with(field: &str, to: Value) -> Value {
        let mut value = good();
        value[field] = to;
        value
    }

    fn parse(value: &Value) -> Result<Vector, String> {
        Vector::parse(value.to_string().as_bytes())
    }

    #[test]
    fn every_field_is_read_and_unknown_ones_are_passed_over() {
        let vector = parse(&good()).unwrap();
        assert_eq!((vector.id.as_deref(), vector.scheme.as_deref()), (Some("a"), Some("github-sha1")));
        assert_eq!((vector.webhook.method.as_str(), vector.webhook.body.as_slice()), ("PUT", b"\xff\0".as_slice()));
        assert_eq!(vector.webhook.full_url(), "https://h/p?q");
        assert_eq!(vector.webhook.headers.get_all("x-a").iter().count(), 2);
        assert_eq!(vector.keyring.unwrap().keys()[0].id, "2", "an empty secret keeps its number");
        assert_eq!(vector.now, Some(Timestamp::from_millis(1500)));
        assert!(matches!(vector.expected, Some(Expected::Verdict { valid: true })));
    }

    #[test]
    fn some_fields_may_be_left_out() {
        assert_eq!(parse(&without("scheme")).unwrap().scheme.as_deref(), Some("github"));
        assert_eq!(parse(&without("now")).unwrap().now, None);
        assert_eq!(parse(&with("now", Value::Null)).unwrap().now, None);
        assert_eq!(parse(&without("method")).unwrap().webhook.method, Method::POST);
        assert!(parse(&with("secrets", json!([""]))).unwrap().keyring.is_none());
        assert!(!parse(&without("secrets")).unwrap().has_secrets);
    }

    #[test]
    fn what_cannot_be_read_is_named_and_not_shown() {
        let secret = "hush-hush-hush";
        for (field, wrong) in [
            ("id", json!([secret])),
            ("scheme", json!({"a": secret})),
            ("method", json!(format!("{secret} x"))),
            ("url", json!([secret])),
            ("headers", json!([[secret]])),
            ("headers", json!({"a": secret})),
            ("headers", json!(vec![["a", secret]; HEADERS_MAX + 1])),
            ("body_b64", json!(secret)),
            ("secrets", json!(secret)),
            ("secrets", json!([[secret]])),
            ("secrets", json!(vec![secret; 11])),
            ("now", json!(secret)),
            ("now", json!(-1)),
            ("expect", json!(secret)),
            ("respond", json!(secret)),
        ] {
            let message = parse(&with(field, wrong)).unwrap_err();
            assert!(message.contains(field) && !message.contains("hush"), "{message}");
        }
        for field in ["url", "headers", "body_b64"] {
            assert!(parse(&without(field)).unwrap_err().contains(field));
        }
        assert!(Vector::parse(b"{\"a\": hush").unwrap_err().contains("line 1, column"));
        assert!(Vector::parse(b"[]").unwrap_err().contains("no object"));
    }

    #[test]
    fn a_verify_token_is_a_handshakes_secret() {
        let mut value = with("respond", json!({"status": 200}));
        value["secrets"] = json!(["key", "verify_token:word"]);
        let vector = parse(&value).unwrap();
        assert_eq!(vector.keyring.unwrap().keys().len(), 1);
        assert_eq!(vector.handshake_secrets.unwrap().keys()[0].secret.expose(), "word");
        let webhook = parse(&with("secrets", json!(["verify_token:word"]))).unwrap();
        assert_eq!(webhook.keyring.unwrap().keys()[0].secret.expose(), "verify_token:word");
    }
}
