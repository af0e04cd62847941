//! Handshakes: what providers ask of a URL before they send to it.
//!
//! A signed challenge is verified before it is answered. Nothing that is not signed is echoed but what the protocol demands,
//! bounded, without control characters, and never as a document that a browser would show as one.

use std::{borrow::Cow, collections::BTreeMap};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;

use super::{
    key::UsableKey,
    mac::same,
    scheme::{Condition, Scheme},
    template::{Template, TemplateValues, Variable},
};
use crate::{
    location::{Location, Places},
    secrets::Keyring,
    time::Timestamp,
};

/// Longest value that an answer repeats, in bytes.
pub const CHALLENGE_BYTES_MAX: usize = 2048;

/// One handshake of a provider's protocol.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handshake {
    /// The request's method.
    #[serde(default = "post", deserialize_with = "method")]
    pub method: Method,
    /// When a request is this handshake: all must hold.
    #[serde(default)]
    pub when: Vec<Condition>,
    /// What it must be like, or it is refused.
    #[serde(default)]
    pub require: Vec<Requirement>,
    /// The status of that refusal.
    #[serde(default = "forbidden")]
    pub refuse_with: u16,
    /// Whether it is answered only after its signature is verified.
    #[serde(default = "yes")]
    pub signed: bool,
    /// What is answered.
    #[serde(default)]
    pub answer: AnswerTemplate,
    /// A place whose value becomes the source's secret, while its operator has opened enrolment.
    pub enrol: Option<Location>,
    /// AWS SNS: a place with the URL that confirms the subscription.
    pub confirm: Option<Location>,
}

fn post() -> Method {
    Method::POST
}

const fn forbidden() -> u16 {
    403
}

const fn yes() -> bool {
    true
}

const fn ok() -> u16 {
    200
}

fn method<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Method, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| D::Error::custom(format!("`{text}` is no HTTP method")))
}

/// What a value of a handshake must be like.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// The place, which must be there.
    pub at: Location,
    /// It must be the source's handshake secret.
    #[serde(default)]
    pub equals_secret: bool,
    /// Which characters it may have.
    pub only: Option<Characters>,
    /// Fewest characters.
    #[serde(default)]
    pub chars_min: usize,
    /// Most characters.
    pub chars_max: Option<usize>,
}

/// Kinds of characters. Where a challenge is signed with the source's own key, anybody could have signed what the kind allows:
/// it must not allow a webhook's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Characters {
    /// `0`–`9`, `a`–`f`.
    Hex,
    /// Letters, digits and `-_.~+/=`.
    Token,
}

impl Characters {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::Hex => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            Self::Token => byte.is_ascii_alphanumeric() || b"-_.~+/=".contains(&byte),
        }
    }
}

/// What a handshake is answered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerTemplate {
    /// Its status.
    #[serde(default = "ok")]
    pub status: u16,
    /// As `text/plain`.
    pub body: Option<Template>,
    /// As `application/json`: an object of texts, which are templates, numbers and booleans.
    pub json: Option<BTreeMap<String, JsonTemplate>>,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<String, Template>,
}

impl Default for AnswerTemplate {
    fn default() -> Self {
        Self { status: ok(), body: None, json: None, headers: BTreeMap::new() }
    }
}

/// One value of a JSON answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a text, a whole number or a boolean")]
pub enum JsonTemplate {
    /// A template.
    Text(Template),
    /// A number as it is.
    Number(i64),
    /// A boolean as it is.
    Flag(bool),
}

/// An answer, ready to be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct HandshakeAnswer {
    /// Its status.
    pub status: u16,
    /// Its headers, the content type included.
    pub headers: HeaderMap,
    /// Its body.
    pub body: String,
}

/// Why a handshake is not answered as it wants.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeRefusal {
    /// A requirement does not hold.
    #[error("the handshake is not what its protocol demands: `{at}` is missing or wrong")]
    Requirement {
        /// The place.
        at: String,
        /// The status that the protocol gives it.
        status: u16,
    },
    /// The answer needs something that is absent or may not be repeated.
    #[error("the handshake lacks `{0}`, or it is too long or has control characters")]
    Unanswerable(String),
    /// The keyring has no key that can be used.
    #[error("no key of this source can be used with its scheme")]
    UnusableKey,
}

impl Handshake {
    /// Whether the request is this handshake.
    pub fn is_meant(&self, places: &Places<'_>) -> bool {
        self.method == places.webhook().method && self.when.iter().all(|condition| condition.holds(places))
    }

    /// Whether the answer is made with the source's key.
    pub fn needs_key(&self) -> bool {
        self.templates().any(|template| template.uses_key() || template.uses(&Variable::KeyId))
    }

    /// Whether it signs, for anybody who asks, something with the source's key.
    pub fn signs_for_anybody(&self) -> bool {
        !self.signed && self.templates().any(|template| template.keyed_places().next().is_some())
    }

    /// Whether a requirement or the answer needs the source's handshake secret.
    pub fn needs_handshake_secret(&self) -> bool {
        let is_answered = self.templates().any(|template| template.uses(&Variable::HandshakeSecret));
        is_answered || self.require.iter().any(|requirement| requirement.equals_secret)
    }

    /// Whether the source's key signs such content for anybody who asks by this handshake: then it proves nothing.
    pub fn could_have_signed(&self, content: &[u8]) -> bool {
        let mut signed = self.templates().flat_map(Template::keyed_places).filter(|_| !self.signed);
        signed.any(|place| {
            let about = self.require.iter().filter(|requirement| requirement.at == *place);
            about.into_iter().all(|requirement| requirement.allows(content))
        })
    }

    /// Says what is impossible about it, if anything.
    pub fn check(&self) -> Result<(), String> {
        let statuses = [("answer.status", self.answer.status, 200..300), ("refuse_with", self.refuse_with, 400..500)];
        if let Some((what, _, bounds)) = statuses.iter().find(|(_, status, bounds)| !bounds.contains(status)) {
            return Err(format!("`{what}` must be from {} to {}", bounds.start, bounds.end - 1));
        }
        if self.answer.body.is_some() && self.answer.json.is_some() {
            return Err("an answer has either `body` or `json`".into());
        }
        if self.when.is_empty() && self.method == Method::POST {
            return Err("`when` is empty, so every webhook would be taken for the handshake".into());
        }
        if !self.signed && self.templates().any(Template::keys_what_is_made) {
            return Err(
                "an answer without a signature signs the value of one place as it is, as `{query:challenge|hmac-sha256|hex}`: of what is \
                 joined or changed before, nobody can say whether a webhook could be signed so"
                    .into(),
            );
        }
        for place in self.templates().flat_map(Template::keyed_places).filter(|_| !self.signed) {
            let bounded = |requirement: &&Requirement| requirement.only.is_some() && requirement.chars_max.is_some();
            if !self.require.iter().filter(bounded).any(|requirement| requirement.at == *place) {
                return Err(format!(
                    "the answer signs `{place}`, which anybody can send: `require` must say `only` which characters it may have, and `chars_max`"
                ));
            }
        }
        let known = |variable: &Variable| {
            matches!(
                variable,
                Variable::KeyId | Variable::At(_) | Variable::HandshakeSecret | Variable::Url | Variable::Joined(_)
            )
        };
        if self.templates().any(Template::shows_handshake_secret) {
            return Err(
                "`{handshake_secret}` must be hashed in an answer, as `{query:challenge + handshake_secret|sha256|hex}`".into()
            );
        }
        match self.templates().flat_map(Template::variables).find(|variable| !known(variable)) {
            Some(other) => Err(format!(
                "`{{{other}}}` cannot stand in an answer; places, `{{url}}`, `{{key_id}}` and `{{handshake_secret}}` can"
            )),
            None => Ok(()),
        }
    }

    /// The answer. `keyring` is the source's, `secrets` its handshake secrets; either may be absent where it is not needed.
    pub fn answer(
        &self,
        scheme: &Scheme,
        places: &Places<'_>,
        keyring: Option<&Keyring>,
        secrets: Option<&Keyring>,
        now: Timestamp,
    ) -> Result<HandshakeAnswer, HandshakeRefusal> {
        for requirement in &self.require {
            if !requirement.holds(places, secrets, now) {
                return Err(HandshakeRefusal::Requirement { at: requirement.at.to_string(), status: self.refuse_with });
            }
        }
        let secret = scheme.alternatives.first().map(|alternative| &alternative.secret);
        let key = keyring.zip(secret).and_then(|(keyring, spec)| keyring.valid_at(now).find_map(|key| spec.usable(&key.secret)));
        if self.needs_key() && key.is_none() {
            return Err(HandshakeRefusal::UnusableKey);
        }
        let handshake_secret = secrets.and_then(|secrets| secrets.valid_at(now).next()).map(|key| key.secret.expose());
        let url = places.webhook().url.as_str();
        let values = Values { places, key: key.as_ref(), handshake_secret, url };
        let render = |template: &Template| {
            let bytes = template.render(&values).map_err(|missing| HandshakeRefusal::Unanswerable(missing.to_string()))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let mut headers = HeaderMap::new();
        for (name, template) in &self.answer.headers {
            let unanswerable = || HandshakeRefusal::Unanswerable(format!("header:{name}"));
            let value = HeaderValue::from_str(&render(template)?).map_err(|_| unanswerable())?;
            headers.insert(HeaderName::try_from(name).map_err(|_| unanswerable())?, value);
        }
        let (content_type, body) = match (&self.answer.body, &self.answer.json) {
            (Some(template), _) => ("text/plain", render(template)?),
            (None, Some(members)) => {
                let rendered = members.iter().map(|(name, value)| {
                    let value = match value {
                        JsonTemplate::Text(template) => Value::from(render(template)?),
                        JsonTemplate::Number(number) => Value::from(*number),
                        JsonTemplate::Flag(flag) => Value::from(*flag),
                    };
                    Ok((name.clone(), value))
                });
                ("application/json", Value::Object(rendered.collect::<Result<_, HandshakeRefusal>>()?).to_string())
            }
            (None, None) => ("text/plain", String::new()),
        };
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        Ok(HandshakeAnswer { status: self.answer.status, headers, body })
    }

    /// All places that it looks at.
    pub fn places(&self) -> impl Iterator<Item = &Location> {
        let in_templates = self.templates().flat_map(Template::variables).filter_map(|variable| match variable {
            Variable::At(place) => Some(place),
            _ => None,
        });
        let conditions = self.when.iter().map(|when| &when.at).chain(self.require.iter().map(|requirement| &requirement.at));
        conditions.chain(&self.enrol).chain(&self.confirm).chain(in_templates)
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        let json = self.answer.json.iter().flat_map(BTreeMap::values).filter_map(|value| match value {
            JsonTemplate::Text(template) => Some(template),
            JsonTemplate::Number(_) | JsonTemplate::Flag(_) => None,
        });
        self.answer.body.iter().chain(json).chain(self.answer.headers.values())
    }
}

impl Requirement {
    fn holds(&self, places: &Places<'_>, secrets: Option<&Keyring>, now: Timestamp) -> bool {
        let Some(value) = places.find(&self.at) else { return false };
        let is_secret = || {
            secrets.is_some_and(|secrets| secrets.valid_at(now).any(|key| same(key.secret.expose().as_bytes(), value.as_bytes())))
        };
        self.allows(value.as_bytes()) && (!self.equals_secret || is_secret())
    }

    /// Whether a value is of the kind and length.
    fn allows(&self, value: &[u8]) -> bool {
        let length = String::from_utf8_lossy(value).chars().count();
        length >= self.chars_min
            && self.chars_max.is_none_or(|most| length <= most)
            && self.only.is_none_or(|kind| value.iter().all(|byte| kind.has(*byte)))
    }
}

struct Values<'v> {
    places: &'v Places<'v>,
    key: Option<&'v UsableKey<'v>>,
    handshake_secret: Option<&'v str>,
    url: &'v str,
}

impl TemplateValues for Values<'_> {
    fn value(&self, variable: &Variable) -> Option<Cow<'_, [u8]>> {
        match variable {
            Variable::KeyId => self.key.map(|key| Cow::Borrowed(key.public_id.as_bytes())),
            Variable::HandshakeSecret => self.handshake_secret.map(|secret| Cow::Borrowed(secret.as_bytes())),
            Variable::Url => Some(Cow::Borrowed(self.url.as_bytes())),
            Variable::At(place) => {
                let value = self.places.find(place)?;
                let repeatable = value.len() <= CHALLENGE_BYTES_MAX && !value.chars().any(char::is_control);
                repeatable.then(|| Cow::Owned(value.into_owned().into_bytes()))
            }
            _ => None,
        }
    }

    fn headers(&self) -> &HeaderMap {
        &self.places.webhook().headers
    }

    fn key(&self) -> &[u8] {
        self.key.map_or(b"", |key| &key.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signatures::UnverifiedWebhook;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn handshake(toml: &str) -> Handshake {
        toml::from_str(toml).unwrap()
    }

    fn answer(toml: &str, url: &str, secret: &str) -> Result<(u16, String), HandshakeRefusal> {
        let webhook = UnverifiedWebhook::new(Method::GET, url, &[], Vec::new());
        let scheme: Scheme = toml::from_str("algorithm = \"token\"\nsignature = { at = \"header:t\" }").unwrap();
        let keyring = Keyring::parse(secret).unwrap();
        let handshake = handshake(toml);
        assert_eq!(handshake.check(), Ok(()));
        let places = Places::new(&webhook);
        handshake.answer(&scheme, &places, Some(&keyring), Some(&keyring), NOW).map(|answer| (answer.status, answer.body))
    }

    #[test]
    fn a_challenge_is_repeated_as_plain_text_up_to_the_bound() {
        let toml = "method = \"GET\"\nsigned = false\nanswer = { body = \"{query:c}\" }";
        assert_eq!(answer(toml, "https://h/?c=a%20b", "s"), Ok((200, "a b".to_owned())));
        let long = |bytes: usize| answer(toml, &format!("https://h/?c={}", "a".repeat(bytes)), "s").map(|(_, body)| body.len());
        assert_eq!(long(CHALLENGE_BYTES_MAX), Ok(CHALLENGE_BYTES_MAX));
        assert!(long(CHALLENGE_BYTES_MAX + 1).is_err());
        for refused in ["https://h/", "https://h/?c=a%0D%0Ab"] {
            assert_eq!(answer(toml, refused, "s"), Err(HandshakeRefusal::Unanswerable("query:c".into())), "{refused}");
        }
    }

    #[test]
    fn a_json_answer_is_escaped() {
        let toml = "method = \"GET\"\nsigned = false\nanswer = { json = { type = 1, echo = \"{query:c}\", ok = true } }";
        assert_eq!(answer(toml, "https://h/?c=%22%7D", "s"), Ok((200, r#"{"echo":"\"}","ok":true,"type":1}"#.to_owned())));
    }

    #[test]
    fn requirements_hold_on_both_sides_of_their_bounds() {
        let toml = "method = \"GET\"\nsigned = false\nrefuse_with = 400\n\
                    require = [{ at = \"query:c\", only = \"hex\", chars_min = 2, chars_max = 3 }]\nanswer = { body = \"{query:c}\" }";
        for (challenge, fits) in [("a", false), ("ab", true), ("abc", true), ("abcd", false), ("aG", false), ("A1", false)] {
            assert_eq!(answer(toml, &format!("https://h/?c={challenge}"), "s").is_ok(), fits, "{challenge}");
        }
        let refusal = answer(toml, "https://h/", "s").unwrap_err();
        assert_eq!(refusal, HandshakeRefusal::Requirement { at: "query:c".into(), status: 400 });
    }

    #[test]
    fn the_handshake_secret_is_compared() {
        let toml = "method = \"GET\"\nsigned = false\nrequire = [{ at = \"query:t\", equals_secret = true }]";
        assert_eq!(answer(toml, "https://h/?t=word", "word"), Ok((200, String::new())));
        assert!(answer(toml, "https://h/?t=wor", "word").is_err());
    }

    #[test]
    fn an_answer_may_be_a_hash_of_several_values_and_the_handshake_secret() {
        let toml = "method = \"GET\"\nsigned = false\n\
                    answer = { json = { challengeResponse = \"{query:challenge_code + handshake_secret + url|sha256|hex}\" } }";
        // printf 'codewordhttps://h/x' | sha256sum
        let hash = "3504fdfab30834fb6b49ea6334f5a041ab3c998cb879c6327c04af664a7802e0";
        let expected = format!(r#"{{"challengeResponse":"{hash}"}}"#);
        assert_eq!(answer(toml, "https://h/x?challenge_code=code", "word"), Ok((200, expected)));
        assert_eq!(
            answer(toml, "https://h/", "s"),
            Err(HandshakeRefusal::Unanswerable("query:challenge_code + handshake_secret + url".into()))
        );
        let shown = handshake("method = \"GET\"\nsigned = false\nanswer = { body = \"{handshake_secret}\" }");
        assert!(shown.check().unwrap_err().contains("must be hashed"));
        assert!(shown.needs_handshake_secret());
    }

    #[test]
    fn what_it_signs_for_anybody_is_known() {
        let toml = "method = \"GET\"\nsigned = false\nrequire = [{ at = \"query:c\", only = \"hex\", chars_min = 2, chars_max = 3 }]\n\
                    answer = { body = \"{query:c|hmac-sha1|hex}\" }";
        let could = |content: &[u8]| handshake(toml).could_have_signed(content);
        assert!(could(b"ab") && could(b"abc"));
        assert!(!could(b"a") && !could(b"abcd") && !could(b"{}"));
        assert!(!handshake("method = \"GET\"\nanswer = { body = \"{query:c}\" }").could_have_signed(b"ab"));
    }

    #[test]
    fn impossible_handshakes_are_named() {
        let error = |toml: &str| handshake(toml).check().unwrap_err();
        assert!(error("").contains("every webhook"));
        let oracle = "method = \"GET\"\nsigned = false\nanswer = { body = \"{query:c|hmac-sha256|hex}\" }";
        assert!(error(oracle).contains("`only`"));
        let other = format!("{oracle}\nrequire = [{{ at = \"query:other\", only = \"hex\", chars_max = 9 }}]");
        assert!(error(&other).contains("signs `query:c`"));
        assert!(error(&format!("{oracle}\nrequire = [{{ at = \"query:c\", only = \"hex\" }}]")).contains("`chars_max`"));
        assert!(error("method = \"GET\"\nanswer = { body = \"{secret}\" }").contains("cannot stand in an answer"));
        assert!(error("method = \"GET\"\nanswer = { body = \"\", json = {} }").contains("either"));
        assert!(error("method = \"GET\"\nanswer = { status = 300 }").contains("from 200 to 299"));
        assert!(error("method = \"GET\"\nrefuse_with = 500").contains("from 400 to 499"));
        assert!(toml::from_str::<Handshake>("method = \"A B\"").is_err());
    }
}
