//! Every way in which a provider signs, and a provider that does.
//!
//! Shared secrets sign through `Scheme::sign`. What only a provider can sign is put together here and signed by `ring`.

use std::{borrow::Cow, collections::BTreeSet, fmt, sync::LazyLock};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use shared::{
    fetched::sns::sns_signed_content,
    location::{Location, Places},
    secrets::Keyring,
    signatures::{
        Algorithm, Alternative, Condition, Encoding, Refusal, Scheme, SignatureList, Template, TemplateValues, UnverifiedWebhook,
        UrlForm, Variable, VerifiedWebhook,
        jwt::{self, JwtAlgorithm},
        preset::Preset,
        public_key::SignatureAlgorithm,
    },
    time::Timestamp,
};

use crate::{
    key::{self, Key},
    sample::Sample,
};

/// What SNS sends, signed with SHA-1, which `ring` verifies but does not make: see generate.sh beside it.
const SNS_VERSION_1: &str = include_str!("../../../shared/testdata/keys/sns-notification.json");

/// How long a token is valid that is made here, as long as one of `Scheme::sign`.
pub(crate) const TOKEN_SECONDS: u64 = 300;

/// All of them: those of the presets, and those that no preset has.
pub(crate) static WAYS: LazyLock<Vec<Way>> =
    LazyLock::new(|| Preset::names().chain(OWN.iter().map(|(name, _)| *name)).flat_map(Way::of).collect());

/// Schemes as a configuration has them, for what no preset uses.
const OWN: &[(&str, &str)] = &[
    (
        "own hmac-md5",
        "algorithm = \"hmac-md5\"\nsigned = \"{body}\"\nsignature = { at = \"header:x-signature\", encoding = \"hex\" }",
    ),
    ("own ecdsa-p256-sha1", ECDSA_P256_SHA1),
    ("own ecdsa-p256-sha512", ECDSA_P256_SHA512),
    ("own ecdsa-p384-sha384", ECDSA_P384_SHA384),
    ("own rsa-sha512", RSA_SHA512),
    ("own rsa-pss-sha256", RSA_PSS_SHA256),
    ("own rsa-pss-sha512", RSA_PSS_SHA512),
    ("own jwt", JWT),
    ("own token of a document's key", DOCUMENT_TOKEN),
    ("own signature of a document's key", DOCUMENT_SIGNATURE),
    ("own detached", DETACHED),
    ("own detached hmac", DETACHED_HMAC),
    ("own body", BODY_TOKEN),
    ("own body hmac", BODY_TOKEN_HMAC),
];

macro_rules! signed_with {
    ($algorithm:literal, $secret:literal) => {
        concat!(
            "algorithm = \"",
            $algorithm,
            "\"\nsigned = \"{timestamp}.{body}\"\nsecret = { ",
            $secret,
            " }\nsignature = { at = \"header:x-signature\", encoding = \"base64\" }\n",
            "timestamp = { at = \"header:x-time\", format = \"seconds\", tolerance_seconds = 300 }"
        )
    };
}

const ECDSA_P256_SHA1: &str = signed_with!("ecdsa-p256-sha1", "");
const ECDSA_P256_SHA512: &str = signed_with!("ecdsa-p256-sha512", "encoding = \"hex\"");
const ECDSA_P384_SHA384: &str = signed_with!("ecdsa-p384-sha384", "encoding = \"base64\"");
const RSA_SHA512: &str = signed_with!("rsa-sha512", "");
const RSA_PSS_SHA256: &str = signed_with!("rsa-pss-sha256", "");
const RSA_PSS_SHA512: &str = signed_with!("rsa-pss-sha512", "encoding = \"base64\"");

const JWT: &str = r#"
algorithm = "jwt"
signature = { at = "header:x-token", prefix = "Bearer " }
jwt = { algorithms = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"], required = ["exp"] }
checks = [{ at = "claim:/sha256", equals = "{body|sha256|hex}" }]
"#;

/// An alternative of a preset's scheme, with one of the algorithms that its tokens may have.
pub(crate) struct Way {
    pub(crate) preset: &'static str,
    /// With all its alternatives: what verifies.
    pub(crate) scheme: Scheme,
    /// The alternative that signs.
    index: usize,
    pub(crate) token: Option<JwtAlgorithm>,
}

const DOCUMENT_TOKEN: &str = r#"
algorithm = "jwt"
signature = { at = "header:authorization", prefix = "Bearer " }
jwt = { algorithms = ["RS256", "ES256"], required = ["exp"] }
fetched_key = { jwks = "https://keys.example.com/jwks" }
checks = [
    { at = "claim:/aud", equals_secret = true },
    { at = "claim:/iss", equals_any = ["https://issuer.example.com", "issuer.example.com"] },
    { at = "claim:/sha256", equals = "{body|sha256|hex}" },
]
"#;

const DOCUMENT_SIGNATURE: &str = r#"
algorithm = "ecdsa-p256-sha1"
signed = "{secret}.{body}"
signature = { at = "header:x-signature", encoding = "hex" }
fetched_key = { pem_map = "https://keys.example.com/pem", kid = "header:x-listed" }
"#;

const DETACHED: &str = r#"
algorithm = "jws-detached"
signed = "{timestamp}.{body}"
signature = { at = "header:x-jws-signature" }
jwt = { algorithms = ["PS256", "PS512", "ES384", "EdDSA"] }
timestamp = { at = "header:x-time", format = "milliseconds", tolerance_seconds = 60 }
"#;

const DETACHED_HMAC: &str = r#"
algorithm = "jws-detached"
signed = "{timestamp}.{body}"
signature = { at = "header:x-jws-signature" }
jwt = { algorithms = ["HS256", "HS384"] }
timestamp = { at = "header:x-time", format = "seconds", tolerance_seconds = 60 }
"#;

const BODY_TOKEN: &str = r#"
algorithm = "jwt"
signature = { at = "body" }
jwt = { algorithms = ["RS512", "ES256"], required = ["exp"] }
"#;

const BODY_TOKEN_HMAC: &str = r#"
algorithm = "jwt"
signature = { at = "body" }
jwt = { algorithms = ["HS512"], leeway_seconds = 5 }
"#;

impl fmt::Display for Way {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, alternative {}, token {:?}", self.preset, self.index + 1, self.token)
    }
}

impl Way {
    /// Those of a preset, or of a scheme of [`OWN`].
    pub(crate) fn of(preset: &'static str) -> Vec<Self> {
        let own = OWN.iter().find(|(name, _)| *name == preset);
        let scheme: Scheme = match own {
            Some((_, text)) => toml::from_str(text).unwrap_or_else(|error| panic!("{preset}: {error}")),
            None => preset_with_our_root(preset).scheme,
        };
        assert_eq!(scheme.check(), Ok(()), "{preset}");
        let mut ways = Vec::new();
        for (index, alternative) in scheme.alternatives.iter().enumerate() {
            let tokens = alternative.jwt.as_ref().map_or(vec![None], |spec| spec.algorithms.iter().copied().map(Some).collect());
            ways.extend(tokens.into_iter().map(|token| Self { preset, scheme: scheme.clone(), index, token }));
        }
        ways
    }

    pub(crate) fn alternative(&self) -> &Alternative {
        &self.scheme.alternatives[self.index]
    }

    /// How its public key verifies. `None` if a secret is shared.
    pub(crate) fn public_algorithm(&self) -> Option<SignatureAlgorithm> {
        let alternative = self.alternative();
        alternative.algorithm.signature_algorithm().or_else(|| self.token.and_then(JwtAlgorithm::signature_algorithm))
    }

    /// Whether what the keyring holds is what proves: the credentials for Plaid do not.
    pub(crate) fn is_proven_by_keyring(&self) -> bool {
        self.preset != "plaid"
    }

    /// What verifies says of `webhook`.
    pub(crate) fn verify<'a>(
        &'a self,
        webhook: &'a UnverifiedWebhook,
        key: &Key,
        keyring: &Keyring,
        now: Timestamp,
    ) -> Result<VerifiedWebhook<'a>, Refusal> {
        self.scheme.verify(webhook, keyring, key.fetched(self).as_ref(), now)
    }

    /// The webhook that the provider sends of `sample`, signed with `key`.
    pub(crate) fn sign(&self, sample: &Sample, key: &Key) -> UnverifiedWebhook {
        let mut webhook = self.unsigned(sample, key);
        self.sign_again(&mut webhook, sample.now, key);
        webhook
    }

    /// Signs, and leaves other signatures that are there as they are.
    pub(crate) fn sign_again(&self, webhook: &mut UnverifiedWebhook, now: Timestamp, key: &Key) {
        match (self.alternative().algorithm, self.public_algorithm()) {
            (Algorithm::RsaSha1, _) => {}
            (Algorithm::Jwt, algorithm) => self.sign_token(webhook, now, key, algorithm),
            (Algorithm::JwsDetached, Some(algorithm)) => self.sign_detached(webhook, now, key, algorithm),
            (_, Some(algorithm)) => self.sign_content(webhook, now, key, algorithm),
            (_, None) => {
                let alone = Scheme { alternatives: vec![self.alternative().clone()] };
                alone.sign(webhook, &key.keyring(self), now).unwrap_or_else(|error| panic!("{self}: {error}"));
            }
        }
    }

    fn unsigned(&self, sample: &Sample, key: &Key) -> UnverifiedWebhook {
        let alternative = self.alternative();
        let mut webhook = UnverifiedWebhook {
            method: sample.method.clone(),
            url: format!("https://hooks.example.com{}/webhooks/{}", sample.port, sample.path),
            headers: HeaderMap::new(),
            raw_query: sample.query.clone(),
            registered_query: None,
            body: self.body(sample, key),
        };
        if alternative.signature.at.iter().any(|place| matches!(place, Location::Form(_))) {
            put(&mut webhook, &Location::Header(http::header::CONTENT_TYPE), "application/x-www-form-urlencoded");
        }
        let covered = alternative.signed.iter().flat_map(Template::variables).filter_map(|variable| match variable {
            Variable::At(place) => Some(place),
            Variable::Id => alternative.id.as_ref(),
            _ => None,
        });
        for place in covered {
            match place {
                Location::Header(name) if name.as_str().ends_with("signed-headers") => {
                    put(&mut webhook, place, "x-Listed, x-also-listed")
                }
                Location::Header(_) => put(&mut webhook, place, &sample.id),
                _ => {}
            }
        }
        for (name, value) in [("x-listed", sample.id.as_str()), ("x-not-covered", "value")] {
            put(&mut webhook, &Location::Header(HeaderName::from_static(name)), value);
        }
        match &alternative.when {
            Some(Condition { at: at @ Location::Header(_), is }) => put(&mut webhook, at, is.as_deref().unwrap_or("there")),
            // `Scheme::sign` puts the right one in its place.
            Some(Condition { at: Location::Query(name), .. }) => {
                webhook.raw_query = format!("{}&{name}=00", sample.query);
            }
            _ => {}
        }
        webhook
    }

    fn body(&self, sample: &Sample, key: &Key) -> Vec<u8> {
        if self.alternative().algorithm == Algorithm::RsaSha1 {
            return SNS_VERSION_1.as_bytes().to_vec();
        }
        if self.reads_json() {
            let mut object = sample.body.object();
            match self.preset {
                "aws-sns" => {
                    object.insert("Type".into(), "Notification".into());
                    object.insert("MessageId".into(), sample.id.as_str().into());
                    object.insert("TopicArn".into(), key.topic().into());
                    object.insert("Message".into(), sample.path.as_str().into());
                    object.insert("SignatureVersion".into(), "2".into());
                }
                "mailgun" => drop(object.insert("signature".into(), json!({"token": sample.id}))),
                "wompi" => {
                    let fields = ["transaction.id", "transaction.status", "transaction.amount_in_cents", "other"];
                    object.insert("signature".into(), json!({ "properties": fields }));
                    let transaction = json!({"id": sample.id, "status": sample.path, "amount_in_cents": sample.now.millis()});
                    object.insert("data".into(), json!({"transaction": transaction, "other": true}));
                }
                "microsoft-graph" => drop(object.insert("value".into(), json!([{"id": 1}, {"id": 2}]))),
                _ => {}
            }
            return Value::Object(object).to_string().into_bytes();
        }
        if self.preset == "braintree" {
            return format!("bt_payload={}&other=1", hex::encode(sample.body.bytes())).into_bytes();
        }
        sample.body.bytes()
    }

    fn reads_json(&self) -> bool {
        let alternative = self.alternative();
        let timestamp = alternative.timestamp.iter().flat_map(|spec| spec.at.iter());
        let places = alternative.signature.at.iter().chain(timestamp).chain(&alternative.id);
        let in_signed = alternative.signed.iter().flat_map(Template::variables).filter_map(|variable| match variable {
            Variable::At(place) => Some(place),
            _ => None,
        });
        let mut places = places.chain(alternative.when.iter().map(|when| &when.at)).chain(in_signed);
        places.any(|place| matches!(place, Location::Json(_)))
    }

    /// Whether its tokens bring the certificates that lead to the root.
    pub(crate) fn brings_certificates(&self) -> bool {
        self.alternative().jwt.as_ref().is_some_and(|jwt| jwt.x5c_root.is_some())
    }

    fn sign_content(&self, webhook: &mut UnverifiedWebhook, now: Timestamp, key: &Key, algorithm: SignatureAlgorithm) {
        let alternative = self.alternative();
        if let Some(spec) = &alternative.timestamp {
            put(webhook, spec.at.iter().next().unwrap(), &spec.format.write(now));
        }
        let secret = key.secret(self);
        let content = Reading { way: self, webhook, secret: &secret }.content().unwrap();
        let signature = key.sign(algorithm, &content);
        let text = match alternative.signature.encoding.unwrap() {
            Encoding::Hex => hex::encode(signature),
            Encoding::Base64 => BASE64.encode(signature),
            Encoding::Base64url => BASE64URL.encode(signature),
            Encoding::Base64OfHex => BASE64.encode(hex::encode(signature)),
        };
        let list = alternative.signature.list.as_ref();
        let entry = |list: &SignatureList| list.assign.map_or(text.clone(), |assign| format!("{}{assign}{text}", list.key));
        let text = list.map_or(text.clone(), entry);
        put(webhook, alternative.signature.at.iter().next().unwrap(), &text);
    }

    fn sign_token(&self, webhook: &mut UnverifiedWebhook, now: Timestamp, key: &Key, algorithm: Option<SignatureAlgorithm>) {
        let (alternative, token) = (self.alternative(), self.token.unwrap());
        let seconds = now.seconds();
        let mut claims = json!({});
        match &alternative.timestamp {
            Some(spec) => match spec.at.iter().next() {
                Some(Location::Claim(pointer)) => {
                    set(&mut claims, pointer, spec.format.write(now).parse::<u64>().unwrap().into())
                }
                _ => claims["iat"] = seconds.into(),
            },
            None => claims = json!({"iat": seconds, "nbf": seconds, "exp": seconds + TOKEN_SECONDS}),
        }
        for check in &alternative.checks {
            let Some(Location::Claim(pointer)) = check.at.iter().next() else { continue };
            if check.absent_if_body_empty && webhook.body.is_empty() {
                continue;
            }
            let value = match check.equals.first() {
                Some(equals) => String::from_utf8(equals.render(&Reading { way: self, webhook, secret: "" }).unwrap()).unwrap(),
                None => key.secret(self),
            };
            set(&mut claims, pointer, value.into());
        }
        // A body that is the token, or has it, is what the token says.
        if matches!(alternative.signature.at.iter().next(), Some(Location::Body | Location::Json(_))) {
            claims["content"] = hex::encode(&webhook.body).into();
        }
        let token = match algorithm {
            None => jwt::sign(token, &claims, key.text().as_bytes()).unwrap(),
            Some(algorithm) => {
                let mut header = json!({"alg": format!("{token:?}"), "kid": "bfbd5111-8e33-4643-8ced-b2e642a72f3c"});
                if self.brings_certificates() {
                    header["x5c"] = key.certificates().into();
                }
                let content = format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(claims.to_string()));
                let signature = BASE64URL.encode(key.sign(algorithm, content.as_bytes()));
                format!("{content}.{signature}")
            }
        };
        put(webhook, alternative.signature.at.iter().next().unwrap(), &format!("{}{token}", alternative.signature.prefix));
    }

    fn sign_detached(&self, webhook: &mut UnverifiedWebhook, now: Timestamp, key: &Key, algorithm: SignatureAlgorithm) {
        let alternative = self.alternative();
        if let Some(spec) = &alternative.timestamp {
            put(webhook, spec.at.iter().next().unwrap(), &spec.format.write(now));
        }
        let content = Reading { way: self, webhook, secret: "" }.content().unwrap();
        let mut header = json!({"alg": format!("{:?}", self.token.unwrap())});
        // RFC 7797: half of them are signed as they are.
        let content = if content.len().is_multiple_of(2) {
            BASE64URL.encode(content).into_bytes()
        } else {
            header["b64"] = false.into();
            header["crit"] = json!(["b64"]);
            content
        };
        let header = BASE64URL.encode(header.to_string());
        let signature = BASE64URL.encode(key.sign(algorithm, &[header.as_bytes(), b".", &content].concat()));
        put(webhook, alternative.signature.at.iter().next().unwrap(), &format!("{header}..{signature}"));
    }

    /// What of `webhook` the signature covers, the signature itself among it: two requests that are the same in this may be
    /// proven by the same signature, any others not.
    pub(crate) fn covered(&self, webhook: &UnverifiedWebhook) -> Covered {
        let alternative = self.alternative();
        let reading = Reading { way: self, webhook, secret: "" };
        let texts = alternative.signature.at.iter().map(|place| Some(self.same_for_all_spellings(&reading.find(place)?)));
        Covered {
            signature: texts.collect(),
            content: reading.content(),
            checks: alternative
                .checks
                .iter()
                .map(|check| {
                    let found = check.at.iter().find_map(|place| reading.find(place)).map(Cow::into_owned);
                    (found, check.equals.iter().map(|equals| equals.render(&reading).ok()).collect())
                })
                .collect(),
            chosen_by: alternative.secret.chosen_by.as_ref().and_then(|place| reading.find(place).map(Cow::into_owned)),
        }
    }

    /// What the weakest alternative signs of `webhook`, or would: by that it is known again.
    pub(crate) fn weakest_content(&self, webhook: &UnverifiedWebhook) -> Option<Vec<u8>> {
        let weakest = Self { index: self.scheme.alternatives.len() - 1, scheme: self.scheme.clone(), ..*self };
        Reading { way: &weakest, webhook, secret: "" }.content()
    }

    /// Hexadecimal may be written in either case, and so may the word `Basic`; space between signatures is nothing, and a signature
    /// may come more than once.
    fn same_for_all_spellings(&self, text: &str) -> String {
        let alternative = self.alternative();
        let text = match alternative.algorithm {
            Algorithm::Basic => text.split_once(' ').map(|(word, rest)| format!("{} {rest}", word.to_lowercase())),
            _ if alternative.signature.encoding == Some(Encoding::Hex) => Some(text.to_ascii_lowercase()),
            _ => None,
        }
        .unwrap_or_else(|| text.to_owned());
        if alternative.signature.encoding.is_none() {
            return text;
        }
        // A comma joins repeated headers, and one that joins nothing is nothing.
        let is_joined = alternative.signature.list.as_ref().is_some_and(|list| list.separator != ',' && list.assign != Some(','));
        let text = if is_joined { text.trim_matches([',', ' ']).to_owned() } else { text };
        let halves = text.split_at_checked(text.len() / 2);
        let once = halves.and_then(|(half, other)| (other.strip_prefix(',') == Some(half)).then_some(half)).unwrap_or(&text);
        let separator = alternative.signature.list.as_ref().map_or(',', |list| list.separator);
        once.split(separator).map(str::trim).collect::<Vec<_>>().join(&separator.to_string())
    }
}

/// What a signature covers, read as the provider means it and not as `shared` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Covered {
    signature: Vec<Option<String>>,
    content: Option<Vec<u8>>,
    checks: Vec<Compared>,
    chosen_by: Option<String>,
}

/// What stands at a check's place, and what may.
type Compared = (Option<String>, Vec<Option<Vec<u8>>>);

/// A request read by one way.
pub(crate) struct Reading<'a> {
    way: &'a Way,
    webhook: &'a UnverifiedWebhook,
    secret: &'a str,
}

impl<'a> Reading<'a> {
    fn content(&self) -> Option<Vec<u8>> {
        self.way.alternative().signed.as_ref()?.render(self).ok()
    }

    fn find(&self, place: &Location) -> Option<Cow<'a, str>> {
        let alternative = self.way.alternative();
        let Location::Signature(key) = place else { return Places::new(self.webhook).find(place) };
        let list = alternative.signature.list.as_ref()?;
        let sent = Places::new(self.webhook).find(alternative.signature.at.iter().next()?)?;
        let Some(assign) = list.assign else {
            let number: usize = key.parse().unwrap();
            return sent.split(list.separator).nth(number - 1).map(|entry| Cow::Owned(entry.to_owned()));
        };
        let mut entries = sent.split(list.separator).filter_map(|entry| entry.trim().split_once(assign));
        entries.find(|(name, _)| name == key).map(|(_, value)| Cow::Owned(value.to_owned()))
    }
}

impl TemplateValues for Reading<'_> {
    fn value(&self, variable: &Variable) -> Option<Cow<'_, [u8]>> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned().into_bytes());
        let alternative = self.way.alternative();
        Some(match variable {
            Variable::Body => Cow::Borrowed(&self.webhook.body),
            Variable::Timestamp => owned(alternative.timestamp.as_ref()?.at.iter().find_map(|place| self.find(place))?),
            Variable::Id => owned(self.find(alternative.id.as_ref()?)?),
            Variable::Method => Cow::Borrowed(self.webhook.method.as_str().as_bytes()),
            Variable::Url if alternative.url == UrlForm::WithoutQuery => Cow::Borrowed(self.webhook.url.as_bytes()),
            // Signed in whichever way its characters are escaped.
            Variable::Url if alternative.url != UrlForm::WithQuery => Cow::Owned(decoded(self.webhook.full_url().as_bytes())),
            Variable::Url => owned(self.webhook.full_url()),
            Variable::Path => Cow::Borrowed(self.webhook.path().as_bytes()),
            Variable::Query => Cow::Borrowed(self.webhook.raw_query.as_bytes()),
            Variable::Secret => Cow::Borrowed(self.secret.as_bytes()),
            Variable::KeyId => Cow::Borrowed(b""),
            // Signed with nothing between a name and its value.
            Variable::FormSorted => {
                Cow::Owned(pairs(&self.webhook.body).into_iter().flat_map(|(name, value)| [name, value].concat()).collect())
            }
            Variable::QuerySorted => Cow::Owned(format!("{:?}", pairs(self.webhook.raw_query.as_bytes())).into_bytes()),
            Variable::PairsSorted => {
                // No sample is a form.
                let pairs = pairs(self.webhook.raw_query.as_bytes());
                Cow::Owned(pairs.into_iter().flat_map(|(name, value)| [name, value].concat()).collect())
            }
            Variable::Listed => {
                let listed = alternative.listed.as_ref()?;
                let place = |pointer: String| self.find(&Location::Json(pointer)).map(Cow::into_owned);
                let names = (0..).map_while(|number| place(format!("{}/{number}", listed.at)));
                let value = |name: String| place(format!("{}/{}", listed.within, name.replace('.', "/")));
                Cow::Owned(names.map(value).collect::<Option<Vec<_>>>()?.join(&listed.separator).into_bytes())
            }
            other @ (Variable::HandshakeSecret | Variable::Joined(_)) => panic!("no preset signs {other}"),
            Variable::AwsSns => Cow::Owned(sns_signed_content(&Places::new(self.webhook))?.into_bytes()),
            Variable::At(place) => owned(self.find(place)?),
        })
    }

    fn headers(&self) -> &HeaderMap {
        &self.webhook.headers
    }

    fn key(&self) -> &[u8] {
        b""
    }
}

/// The distinct pairs of a form, whatever their order and their spelling.
fn pairs(form: &[u8]) -> BTreeSet<(Vec<u8>, Vec<u8>)> {
    let pairs = form.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            (decoded(&pair[..equals]), decoded(pair.get(equals + 1..).unwrap_or_default()))
        })
        .collect()
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| *byte == b'%').and_then(|digits| hex::decode(digits).ok());
        rest = if escaped.is_some() { &after[2..] } else { after };
        bytes.extend(escaped.unwrap_or_else(|| vec![if *byte == b'+' { b' ' } else { *byte }]));
    }
    bytes
}

/// Puts a value at a place.
pub(crate) fn put(webhook: &mut UnverifiedWebhook, place: &Location, value: &str) {
    match place {
        Location::Header(name) => {
            drop(webhook.headers.insert(name.clone(), HeaderValue::from_str(value).unwrap()));
        }
        Location::Json(pointer) => {
            let mut body: Value = serde_json::from_slice(&webhook.body).unwrap();
            set(&mut body, pointer, value.into());
            webhook.body = body.to_string().into_bytes();
        }
        Location::Body => webhook.body = value.as_bytes().to_vec(),
        other => panic!("nothing is put at {other}"),
    }
}

/// Sets the value at a JSON pointer; objects on the way are made where they are missing.
fn set(target: &mut Value, pointer: &str, value: Value) {
    let place = pointer.split('/').skip(1).fold(target, |target, name| &mut target[name]);
    *place = value;
}

/// A preset; certificates lead to the root that signs here, and not to one whose key only its owner has.
fn preset_with_our_root(name: &str) -> Preset {
    const OIDS: &str = "x5c_oids = { leaf = \"1.2.840.113635.100.6.11.1\", intermediate = \"1.2.840.113635.100.6.2.1\" }";
    let ours = format!("x5c_root = {:?}, {OIDS}", key::root());
    let text = Preset::text(name).unwrap().replace("x5c_root = \"apple-root-ca-g3\"", &ours);
    toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A request method that is another one.
pub(crate) fn another(method: &Method) -> Method {
    if *method == Method::PUT { Method::POST } else { Method::PUT }
}
