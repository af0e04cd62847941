//! Requests for tests of every preset: those that are published, and made up ones that are signed here, as they are and changed in many ways.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use fastrand::Rng;
use posthouse::Subject;
use serde_json::{Value, json, value::RawValue};
use shared::{secrets::Keyring, signatures::UnverifiedWebhook, time::Timestamp};

/// When it is, where a request does not say.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
/// Where they are sent.
pub(crate) const HOST: &str = "hooks.example.com";
/// Where they are sent.
pub(crate) const PATH: &str = "/v1/webhooks/a";
const SIGNATURES: &str = include_str!("../vectors/signatures.jsonl");
const HANDSHAKES: &str = include_str!("../vectors/handshakes.jsonl");
const VERIFY_TOKEN: &str = "verify_token:";

/// The published requests of all presets.
pub(crate) fn published() -> Vec<Seed> {
    SIGNATURES.lines().chain(HANDSHAKES.lines()).map(Seed::read).collect()
}

/// A request as it is published, or as one is made up.
#[derive(Clone, Debug)]
pub(crate) struct Seed {
    pub(crate) scheme: String,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) secrets: Vec<String>,
    pub(crate) verify_token: Option<String>,
    pub(crate) now: Timestamp,
    pub(crate) is_made_up: bool,
}

impl Seed {
    pub(crate) fn read(line: &str) -> Self {
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

    pub(crate) fn made_up(scheme: &str) -> Self {
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

/// A request on its way.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub(crate) method: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Wire {
    pub(crate) fn of(seed: &Seed) -> Self {
        Self {
            method: seed.method.clone(),
            query: seed.url.split_once('?').map(|(_, query)| query.replace(' ', "%20")).unwrap_or_default(),
            headers: seed.headers.iter().map(|(name, value)| (name.clone(), value.trim().to_owned())).collect(),
            body: seed.body.clone(),
        }
    }

    /// A body of one of many kinds, and what stands beside it.
    pub(crate) fn make_up(&mut self, rng: &mut Rng) {
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
    pub(crate) fn sign(&mut self, subject: &Subject, keyring: &Keyring, now: Timestamp) {
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
    pub(crate) fn change(&mut self, rng: &mut Rng) {
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
    pub(crate) fn event(&self, as_text: bool) -> Box<RawValue> {
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
    pub(crate) fn captured(&self) -> Vec<u8> {
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query) };
        let mut request = format!("{} {PATH}{query} HTTP/1.1\r\nHost: {HOST}\r\n", self.method);
        for (name, value) in &self.headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        [request.as_bytes(), &self.body].concat()
    }
}
