//! Whether the command line gives the receiver's verdict: the same requests are sent to the receiver in the model of AWS, as API Gateway
//! hands them over, and judged by `posthouse verify`, as they are captured.
//!
//! The requests are those of the published vectors and samples that are signed here, as they are and changed in many ways, for every preset
//! and for schemes of a configuration. A case is made of its number alone, so that one that fails can be looked at again.

use std::{collections::HashMap, fmt, rc::Rc, time::Duration};

use aws_config::SdkConfig;
use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use fastrand::Rng;
use posthouse::{Case, Catalogue, Judged, Subject};
use receiver::Receiver;
use serde_json::{Value, json, value::RawValue};
use shared::{
    config::Gateway,
    door::{Keys, Rejection, Verdict},
    fetched::FetchedKeys,
    secrets::{Keyring, Keyrings},
    signatures::{UnverifiedWebhook, preset::Preset},
    time::Timestamp,
};
use tokio::runtime::{Builder, Runtime};

use crate::model::{self, Aws, SECRETS_PREFIX, Settings};

/// When it is, where a request does not say.
const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
const SIGNATURES: &str = include_str!("../vectors/signatures.jsonl");
const HANDSHAKES: &str = include_str!("../vectors/handshakes.jsonl");
const OWN_SCHEMES: &str = include_str!("../../cli/testdata/own-schemes.toml");
/// Schemes of that file, and the presets whose requests are theirs.
const OWN: [(&str, &str); 12] = [
    ("hex-after-prefix", "github"),
    ("versioned-text", "slack"),
    ("list-in-one-header", "stripe"),
    ("encoded-secret", "standard-webhooks"),
    ("registered-url", "square"),
    ("public-key", "discord"),
    ("elliptic-curve", "sendgrid"),
    ("plain-hash", "cloudinary"),
    ("shared-word", "gitlab"),
    ("key-by-name", "pusher"),
    ("signed-token", "messagebird-jwt"),
    ("two-ways", "twilio"),
];
const HOST: &str = "hooks.example.com";
const PATH: &str = "/v1/webhooks/a";
const VERIFY_TOKEN: &str = "verify_token:";
/// How long enrolment is open, where it is.
const ENROLLING: Duration = Duration::from_secs(600);
/// Most changes to one request.
const CHANGES_MAX: u32 = 3;
/// Configurations that are kept.
const KEPT_MAX: usize = 4096;

/// A receiver in the model, and the command line beside it.
pub struct Agreement {
    aws: Aws,
    config: SdkConfig,
    receiver: Receiver,
    runtime: Runtime,
    seeds: Vec<Seed>,
    kept: HashMap<String, Rc<(Gateway, Subject)>>,
    schemes: String,
}

impl fmt::Debug for Agreement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Agreement").finish_non_exhaustive()
    }
}

/// A request as it is published, or as one is made up.
#[derive(Clone, Debug)]
struct Seed {
    scheme: String,
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    secrets: Vec<String>,
    verify_token: Option<String>,
    now: Timestamp,
    is_made_up: bool,
}

/// What both say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It becomes an event.
    Webhook,
    /// It is answered, and nothing is recorded: a handshake, or a batch without events.
    Handshake,
    /// It is refused.
    Refused,
}

#[derive(Debug, PartialEq, Eq)]
struct Said {
    kind: Kind,
    status: u16,
    /// Id and type of each event.
    events: Vec<(String, String)>,
}

impl Default for Agreement {
    fn default() -> Self {
        Self::new()
    }
}

impl Agreement {
    /// A gateway in a model of AWS.
    ///
    /// # Panics
    /// When a vector cannot be read.
    #[must_use]
    pub fn new() -> Self {
        let aws = Aws::new(Settings::posthouse(), || NOW);
        let gateway = Gateway::parse("", "gateway.toml").expect("nothing is no mistake");
        let config = aws.config("receiver-1");
        let mut receiver = aws.receiver("receiver-1", gateway);
        // Nothing can be fetched: what needs that is an outage.
        receiver.fetched_keys = FetchedKeys::new(&SdkConfig::builder().build());
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let mut seeds: Vec<Seed> = SIGNATURES.lines().chain(HANDSHAKES.lines()).map(Seed::read).collect();
        let own: Vec<Seed> = OWN
            .iter()
            .flat_map(|(scheme, preset)| {
                let of_preset = seeds.iter().filter(|seed| seed.scheme == *preset);
                of_preset.map(|seed| Seed { scheme: (*scheme).to_owned(), ..seed.clone() }).collect::<Vec<_>>()
            })
            .collect();
        seeds.extend(own);
        let made_up = Preset::names().chain(OWN.iter().map(|(scheme, _)| *scheme)).map(Seed::made_up);
        let made_up: Vec<Seed> = made_up.collect();
        seeds.extend(made_up);
        Self { aws, config, receiver, runtime, seeds, kept: HashMap::new(), schemes: OWN_SCHEMES.to_owned() }
    }

    /// Makes up one case, and compares what both say. Gives what they say, and with which status.
    ///
    /// # Errors
    /// When they do not say the same; with the whole case.
    ///
    /// # Panics
    /// When a case cannot be made up.
    pub fn compare(&mut self, number: u64) -> Result<(Kind, u16), String> {
        let mut rng = Rng::with_seed(number);
        let seed = self.seeds[rng.usize(..self.seeds.len())].clone();
        let config = configuration(&mut rng, &seed, &self.schemes);
        let both = self.configured(&config);
        let (gateway, subject) = &*both;
        let mut wire = Wire::of(&seed);
        let keyring_text = keyring_text(&mut rng, &seed, subject);
        let keyring = Keyring::parse(&keyring_text).expect("it is made to be one");
        if seed.is_made_up {
            wire.make_up(&mut rng);
            wire.sign(subject, &keyring, seed.now);
        }
        let changes = if rng.u8(..4) == 0 { 0 } else { rng.u32(..=CHANGES_MAX) };
        (0..changes).for_each(|_| wire.change(&mut rng));
        let now = if rng.u8(..16) == 0 { seed.now.plus(Duration::from_secs(rng.u64(..1200))) } else { seed.now };
        let handshake_text = seed.verify_token.clone().unwrap_or_else(|| "word".to_owned());

        self.aws.put_signing_secret("key-enrolled", &keyring_text);
        self.aws.put_signing_secret("word", &handshake_text);
        self.aws.begin_anew(Settings::posthouse());
        self.receiver.gateway.clone_from(gateway);
        self.receiver.keyrings = Keyrings::new(&self.config, SECRETS_PREFIX.to_owned());
        let event = wire.event(rng.bool());
        let response = self.runtime.block_on(self.receiver.receive(&event, "request-1", now));
        let received = self.said(&response);

        let handshake_keyring = Keyring::parse(&handshake_text).expect("a word is a keyring");
        let keys = Keys { keyring: &keyring, handshake_keyring: Some(&handshake_keyring), fetched: None };
        let is_enrolling = keyring_text.contains("enrolUntil") && now < seed.now.plus(ENROLLING);
        let judged = told(subject, &wire.captured(), keys, now, is_enrolling);
        match judged {
            Ok(judged) if judged == received => Ok((received.kind, received.status)),
            judged => Err(format!(
                "case {number}: the receiver says {received:?}, and the command line {judged:?}\n{config}\nat {now:?}\n{}\n{:?}",
                String::from_utf8_lossy(&wire.captured()),
                response.body
            )),
        }
    }

    fn configured(&mut self, config: &str) -> Rc<(Gateway, Subject)> {
        if let Some(both) = self.kept.get(config) {
            return both.clone();
        }
        if self.kept.len() >= KEPT_MAX {
            self.kept.clear();
        }
        let gateway = Gateway::parse(config, "gateway.toml").unwrap_or_else(|error| panic!("{error}\n{config}"));
        let catalogue = Catalogue::parse(config, "gateway.toml").expect("both read the same file");
        let subject = catalogue.subject("a").expect("both read the same file");
        let both = Rc::new((gateway, subject));
        self.kept.insert(config.to_owned(), both.clone());
        both
    }

    /// What the receiver says: by its answer, and by what it has written.
    fn said(&self, response: &ApiGatewayV2httpResponse) -> Said {
        let status = u16::try_from(response.status_code).expect("a status");
        let items = self.aws.items(model::LEDGER_TABLE);
        let text = |item: &model::Item, name: &str| item.get(name).and_then(|value| value.text()).map(str::to_owned);
        let recorded = items.iter().filter(|item| text(item, "sk").as_deref() == Some("event")).map(|item| {
            let key = text(item, "pk").expect("an event has a key");
            let (_, event_id) = key.split_once('#').expect("source and id");
            (event_id.to_owned(), text(item, "type").expect("an event has a type"))
        });
        let mut events: Vec<(String, String)> = recorded.collect();
        events.sort();
        let kind = match (events.is_empty(), status) {
            (false, _) => Kind::Webhook,
            (true, 200..300) => Kind::Handshake,
            (true, _) => Kind::Refused,
        };
        Said { kind, status, events }
    }
}

/// What the command line says of a captured request.
fn told(subject: &Subject, captured: &[u8], keys: Keys<'_>, now: Timestamp, is_enrolling: bool) -> Result<Said, String> {
    let webhook = posthouse::webhook(captured, subject).map_err(|stop| stop.to_string())?;
    let source = &subject.source;
    let mut verdict = Case { source, webhook: &webhook, keys, now }.verdict();
    // Whether enrolment is open, only the stack knows.
    if let Ok(Verdict::Handshake { greeting, .. }) = &verdict
        && greeting.enrol.is_some()
        && !is_enrolling
    {
        verdict = Err(Rejection::EnrolmentClosed);
    }
    let Judged { headline, status, events } = Judged::of(source, &verdict);
    let texts = events.into_iter().map(|(event_id, event_type)| (event_id.to_string(), event_type.to_string()));
    let mut events: Vec<(String, String)> = texts.collect();
    events.sort();
    let kind = match (headline.as_str(), events.is_empty()) {
        ("valid", false) => Kind::Webhook,
        ("valid", true) if source.event.each.is_some() => Kind::Handshake,
        (words, true) if words.starts_with("handshake: answered ") => Kind::Handshake,
        (_, true) => Kind::Refused,
        (words, false) => return Err(format!("an event, and yet `{words}`")),
    };
    Ok(Said { kind, status, events })
}

impl Seed {
    fn read(line: &str) -> Self {
        let vector: Value = serde_json::from_str(line).expect("a vector is JSON");
        let text = |name: &str| vector[name].as_str().map(str::to_owned);
        let headers = vector["headers"].as_array().into_iter().flatten();
        let pair =
            |pair: &Value| (pair[0].as_str().unwrap_or_default().to_owned(), pair[1].as_str().unwrap_or_default().to_owned());
        let secrets: Vec<String> =
            vector["secrets"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        Self {
            scheme: text("scheme").or_else(|| text("provider")).expect("somebody sent it"),
            method: text("method").unwrap_or_else(|| "POST".to_owned()),
            url: text("url").expect("it was sent somewhere"),
            headers: headers.map(pair).collect(),
            body: BASE64_STANDARD.decode(text("body_b64").unwrap_or_default()).expect("Base64"),
            verify_token: secrets.iter().find_map(|secret| secret.strip_prefix(VERIFY_TOKEN)).map(str::to_owned),
            secrets: secrets.into_iter().filter(|secret| !secret.trim().is_empty()).collect(),
            now: vector["now"].as_u64().map_or(NOW, Timestamp::from_seconds),
            is_made_up: false,
        }
    }

    fn made_up(scheme: &str) -> Self {
        Self {
            scheme: scheme.to_owned(),
            method: "POST".to_owned(),
            url: format!("https://{HOST}{PATH}"),
            headers: Vec::new(),
            body: Vec::new(),
            secrets: vec![BASE64_STANDARD.encode("a key of some bytes"), "key:secret".to_owned(), "00ff10".to_owned()],
            verify_token: None,
            now: NOW,
            is_made_up: true,
        }
    }
}

/// A source `a` of the seed's scheme, with settings of its own.
fn configuration(rng: &mut Rng, seed: &Seed, schemes: &str) -> String {
    let is_own = OWN.iter().any(|(scheme, _)| *scheme == seed.scheme);
    let mut config = if is_own { format!("{schemes}\n") } else { String::new() };
    config.push_str(&format!(
        "[sources.a]\nscheme = \"{}\"\nsecret = \"key-enrolled\"\nhandshake_secret = \"word\"\n",
        seed.scheme
    ));
    // A signed URL is the registered one.
    let url = seed.url.split('#').next().unwrap_or_default();
    match rng.u8(..8) {
        0 => {}
        1 => config.push_str(&format!("public_url = {}\n", json!(url))),
        _ => config.push_str(&format!("public_url = {}\n", json!(url.split('?').next()))),
    }
    // Handshakes come by methods of their own.
    let is_plain = Preset::find(&seed.scheme).is_none_or(|preset| preset.is_ok_and(|preset| preset.handshakes.is_empty()));
    if is_plain && rng.bool() {
        config.push_str(&format!("methods = [\"{}\"]\n", seed.method));
    }
    if rng.u8(..16) == 0 {
        config.push_str(&format!("body_bytes_max = {}\n", 1 + rng.usize(..100)));
    }
    if rng.u8(..16) == 0 {
        config.push_str("body = \"json\"\n");
    }
    if rng.u8(..8) == 0 {
        config.push_str("answer = { status = 204, body = \"\" }\n");
    }
    let unreadable = if rng.u8(..3) == 0 { "unreadable = \"refuse\"" } else { "unreadable = \"accept\"" };
    let event = match (is_own, rng.u8(..4)) {
        (true, 2) => format!("each = \"/events\", id = \"json:/id\", type = \"json:/type\", {unreadable}"),
        (true, 0 | 1) => format!("id = \"json:/id\", type = \"json:/type\", {unreadable}"),
        (false, 0) => format!("type = [\"header:x-type\", \"json:/type\"], {unreadable}"),
        _ => unreadable.to_owned(),
    };
    config.push_str(&format!("event = {{ {event} }}\n"));
    config
}

/// The source's keyring: mostly the one that signed, and sometimes one that is open for enrolment.
fn keyring_text(rng: &mut Rng, seed: &Seed, subject: &Subject) -> String {
    let mut secrets = seed.secrets.clone();
    if seed.is_made_up {
        // One of them is written as the scheme says.
        rng.shuffle(&mut secrets);
        secrets.retain(|secret| !subject.source.scheme.alternatives.is_empty() && !secret.is_empty());
    }
    if secrets.is_empty() || rng.u8(..16) == 0 {
        secrets = vec!["another".to_owned()];
    }
    let keys: Vec<Value> =
        secrets.iter().take(10).enumerate().map(|(index, secret)| json!({"id": index.to_string(), "secret": secret})).collect();
    let mut keyring = json!({ "keys": keys });
    if rng.bool() {
        keyring["enrolUntil"] = seed.now.plus(ENROLLING).to_rfc3339().into();
    }
    keyring.to_string()
}

/// A request on its way.
#[derive(Clone, Debug)]
struct Wire {
    method: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Wire {
    fn of(seed: &Seed) -> Self {
        Self {
            method: seed.method.clone(),
            query: seed.url.split_once('?').map(|(_, query)| query.replace(' ', "%20")).unwrap_or_default(),
            headers: seed.headers.iter().map(|(name, value)| (name.clone(), value.trim().to_owned())).collect(),
            body: seed.body.clone(),
        }
    }

    /// A body of one of many kinds, and what stands beside it.
    fn make_up(&mut self, rng: &mut Rng) {
        let id = rng.u32(..1000);
        let bodies: [&[u8]; 12] = [
            br#"{"id":{"a":1},"type":"x y"}"#,
            br#"{"id":null}"#,
            br#"{"events":[{"id":1,"type":"a"},{"id":"x"},{"id":1,"type":"b"},7]}"#,
            br#"{"events":[]}"#,
            b"bt_payload=eA&AccountSid=AC1&MessageSid=SM1",
            b"",
            b"[]",
            b"{\"id\":\"a",
            b"\xef\xbb\xbf{\"id\":\"b\"}",
            b"\xff\xfe\0",
            br#"{"type":"url_verification","challenge":"abc"}"#,
            b"id=1&id=2",
        ];
        self.body = match rng.usize(..bodies.len() + 4) {
            0..3 => {
                let body =
                    json!({"id": format!("evt_{id}"), "type": "a.b", "events": [{"action": "added"}], "value": [{"a": 1}]});
                body.to_string().into_bytes()
            }
            3 => json!({"id": id, "type": 7}).to_string().into_bytes(),
            other => bodies[other - 4].to_vec(),
        };
        let form = self.body.first().is_some_and(u8::is_ascii_alphabetic);
        let content_type = if form { "application/x-www-form-urlencoded" } else { "application/json" };
        if rng.u8(..8) > 0 {
            self.headers.push(("Content-Type".to_owned(), content_type.to_owned()));
        }
        if rng.u8(..4) == 0 {
            self.headers.push(("X-Type".to_owned(), "of.header".to_owned()));
        }
        if rng.u8(..4) == 0 {
            self.query = "a=1&b=x%20y".to_owned();
        }
    }

    /// Signs it as its provider would, where that can be done: else it stays without a signature.
    fn sign(&mut self, subject: &Subject, keyring: &Keyring, now: Timestamp) {
        let url = subject.source.registered_url().unwrap_or_else(|| format!("https://{HOST}{PATH}"));
        let url = format!("{}?{}", url.split('?').next().unwrap_or_default(), self.query);
        let method = self.method.parse().expect("a method");
        let mut webhook = UnverifiedWebhook::new(method, url.trim_end_matches('?'), &self.headers, self.body.clone());
        if subject.source.scheme.sign(&mut webhook, keyring, now).is_ok() {
            let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            self.headers = webhook.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
            (self.query, self.body) = (webhook.raw_query, webhook.body);
        }
    }

    /// One of the many things that happen to a request.
    fn change(&mut self, rng: &mut Rng) {
        let header = (!self.headers.is_empty()).then(|| rng.usize(..self.headers.len().max(1)));
        match (rng.u8(..16), header) {
            (0, _) => self.method = ["GET", "POST", "PUT", "HEAD", "DELETE"][rng.usize(..5)].to_owned(),
            (1, _) => {
                let queries = [
                    "",
                    "a=1",
                    "challenge=abc",
                    "hub.mode=subscribe&hub.challenge=1158&hub.verify_token=word",
                    "crc_token=abcdefghijklmnopqrst",
                    "bt_challenge=aaaaaaaaaaaaaaaaaaaa",
                    "validationToken=a%2bb",
                    "to=https://other.example/",
                    "a=%ff&a=2",
                ];
                self.query = queries[rng.usize(..queries.len())].to_owned();
            }
            (2, _) if !self.query.is_empty() => self.query = self.query.split('&').rev().collect::<Vec<_>>().join("&"),
            (3, _) => self.body.clear(),
            (4, _) if !self.body.is_empty() => {
                let at = rng.usize(..self.body.len());
                self.body[at] ^= 1 << rng.u8(..8);
            }
            (5, _) => self.body.push(b'\n'),
            (6, _) => self.body = [b"\xef\xbb\xbf", &self.body[..]].concat(),
            (7, _) => self.body = br#"{"id":"evt","type":"url_verification","challenge":"c"}"#.to_vec(),
            (8, Some(header)) => drop(self.headers.remove(header)),
            (9, Some(header)) => self.headers.push(self.headers[header].clone()),
            (10, Some(header)) => {
                let values = ["", "0", "a,b", "é", "null", "x y", "\u{1f389}", "t=1,v1=00"];
                self.headers[header].1 = values[rng.usize(..values.len())].to_owned();
            }
            (11, Some(header)) => self.headers[header].0 = self.headers[header].0.to_ascii_uppercase(),
            (12, Some(header)) => {
                let value = &mut self.headers[header].1;
                let cut: String = value.chars().skip(1).collect();
                *value = cut.trim().to_owned();
            }
            (13, _) => {
                let coding = ["gzip", "identity", "br, gzip", "unknown"][rng.usize(..4)];
                self.headers.push(("Content-Encoding".to_owned(), coding.to_owned()));
            }
            (14, _) => {
                let kinds = [
                    "application/json",
                    "application/x-www-form-urlencoded",
                    "text/plain; charset=utf-8",
                    "multipart/form-data; boundary=a",
                ];
                self.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
                self.headers.push(("content-type".to_owned(), kinds[rng.usize(..kinds.len())].to_owned()));
            }
            (_, _) => {
                let names = [
                    "X-Hook-Secret",
                    "X-GitHub-Delivery",
                    "X-Hub-Signature-256",
                    "Authorization",
                    "x-okta-verification-challenge",
                    "Twitch-Eventsub-Message-Type",
                ];
                let values = ["abc", "sha256=00", "Bearer a.b.c", "webhook_callback_verification"];
                self.headers.push((names[rng.usize(..names.len())].to_owned(), values[rng.usize(..values.len())].to_owned()));
            }
        }
    }

    /// As API Gateway hands it over: names of headers in lower case, repeated ones joined by commas.
    fn event(&self, as_text: bool) -> Box<RawValue> {
        let mut headers = serde_json::Map::from_iter([("host".to_owned(), json!(HOST))]);
        for (name, value) in &self.headers {
            let joined = headers.entry(name.to_ascii_lowercase()).or_insert_with(|| json!(null));
            *joined = match joined.as_str() {
                Some(before) => json!(format!("{before},{value}")),
                None => json!(value),
            };
        }
        let text = std::str::from_utf8(&self.body).ok().filter(|_| as_text);
        let event = json!({
            "version": "2.0", "rawPath": PATH, "rawQueryString": self.query, "headers": headers,
            "pathParameters": {"source": "a"}, "isBase64Encoded": text.is_none(),
            "body": text.map_or_else(|| BASE64_STANDARD.encode(&self.body), str::to_owned),
            "requestContext": {"http": {"method": self.method}, "domainName": HOST},
        });
        serde_json::value::to_raw_value(&event).expect("JSON is JSON")
    }

    /// As it is captured on its way there.
    fn captured(&self) -> Vec<u8> {
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query) };
        let mut request = format!("{} {PATH}{query} HTTP/1.1\r\nHost: {HOST}\r\n", self.method);
        for (name, value) in &self.headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        [request.as_bytes(), &self.body].concat()
    }
}
