//! Published signature vectors, through what API Gateway makes of a request (`tests/vectors/README.md`).

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use serde_json::{Value, json};
use shared::{
    config::{Gateway, Source},
    door::{Keys, Verdict, judge},
    secrets::{Key, Keyring, Secret},
    signatures::UnverifiedWebhook,
    time::Timestamp,
};

use crate::{rejection::Rejection, request::Request};

#[derive(Deserialize)]
struct Vector {
    id: String,
    #[serde(default)]
    scheme: String,
    provider: String,
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body_b64: String,
    secrets: Vec<String>,
    now: u64,
    expect: Option<String>,
    respond: Option<Response>,
}

#[derive(Deserialize)]
struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body_b64: String,
}

fn vectors(file: &str) -> Vec<Vector> {
    let vectors: Vec<Vector> = file.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(vectors.len() > 10);
    vectors
}

impl Vector {
    fn source(&self, scheme: &str) -> Source {
        let url = self.url.split('?').next().unwrap();
        // A handshake comes by its own method.
        let methods = if self.respond.is_some() { String::new() } else { format!("methods = [\"{}\"]", self.method) };
        let config = format!(
            "[sources.v]\nscheme = \"{scheme}\"\nsecret = \"v-enrolled\"\nhandshake_secret = \"v\"\npublic_url = \"{url}\"\n{methods}"
        );
        Gateway::parse(&config, "gateway.toml").unwrap().sources.into_values().next().unwrap()
    }

    /// As API Gateway hands it over: header names in lower case, repeated ones joined by commas.
    fn webhook(&self, source: &Source, as_text: bool) -> Option<UnverifiedWebhook> {
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in &self.headers {
            let joined = headers.entry(name.to_ascii_lowercase()).or_default();
            *joined = if joined.is_empty() { value.clone() } else { format!("{joined},{value}") };
        }
        let body = BASE64.decode(&self.body_b64).unwrap();
        let body = if as_text { String::from_utf8(body).ok()? } else { self.body_b64.clone() };
        let event = json!({
            "version": "2.0",
            "rawPath": "/webhooks/v",
            "rawQueryString": self.url.split_once('?').map_or("", |(_, query)| query),
            "headers": headers,
            "pathParameters": {"source": "v"},
            "requestContext": {"http": {"method": self.method}, "domainName": "another.example.com"},
            "body": body,
            "isBase64Encoded": !as_text,
        });
        let event = serde_json::value::to_raw_value(&event).unwrap();
        Some(Request::read(&event).unwrap().into_webhook(source).unwrap())
    }

    /// Where no secret can be a key, one that is over.
    fn keyring(&self) -> Keyring {
        let keys = self.secrets.iter().filter(|secret| !secret.is_empty()).enumerate();
        let keys = keys.map(|(index, secret)| Key { id: index.to_string(), secret: Secret::new(secret), not_after: None });
        let over = Key { id: "over".to_owned(), secret: Secret::new("over"), not_after: Some(Timestamp::from_seconds(0)) };
        Keyring::new(keys.collect()).unwrap_or_else(|_| Keyring::new(vec![over]).unwrap())
    }

    fn judge<'a>(&self, source: &'a Source, webhook: &'a UnverifiedWebhook) -> Result<Verdict<'a>, Rejection> {
        let secret = |text: &str| Keyring::new(vec![Key { id: "1".into(), secret: Secret::new(text), not_after: None }]).unwrap();
        let verify_token = self.secrets.iter().find_map(|text| text.strip_prefix("verify_token:")).map(secret);
        let keys = Keys { keyring: &self.keyring(), handshake_keyring: verify_token.as_ref(), fetched: None };
        judge(source, webhook, keys, Timestamp::from_seconds(self.now))
    }
}

#[test]
fn every_published_signature_gets_its_verdict() {
    let mut wrong = Vec::new();
    for vector in vectors(include_str!("../../../tests/vectors/signatures.jsonl")) {
        let source = vector.source(&vector.scheme);
        for as_text in [false, true] {
            let Some(webhook) = vector.webhook(&source, as_text) else { continue };
            // A handshake that needs no signature proves nothing.
            let verdict = vector.judge(&source, &webhook).map(|verdict| verdict.key_id().map(str::to_owned));
            if matches!(verdict, Ok(Some(_))) != (vector.expect.as_deref() == Some("valid")) {
                wrong.push(format!("{} ({}): {verdict:?}", vector.id, vector.scheme));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// Braintree and X sign a challenge of anybody's with the key that signs webhooks.
#[test]
fn what_a_handshake_signed_for_anybody_proves_no_webhook() {
    let challenge = "aaaaaaaaaaaaaaaaaaaa";
    for (scheme, secret, query) in [
        ("braintree", "public:private", format!("bt_challenge={challenge}")),
        ("twitter", "hush", format!("crc_token={challenge}")),
    ] {
        let vector = |method: &str, url: String, headers: Vec<(String, String)>, body: String| Vector {
            id: scheme.to_owned(),
            scheme: scheme.to_owned(),
            provider: scheme.to_owned(),
            method: method.to_owned(),
            url,
            headers,
            body_b64: BASE64.encode(body),
            secrets: vec![secret.to_owned()],
            now: 1_700_000_000,
            expect: None,
            respond: None,
        };
        let asked = vector("GET", format!("https://h/w?{query}"), Vec::new(), String::new());
        let (_, _, answer) = shake_hands(&asked, &asked.source(scheme)).unwrap();
        let forged = match scheme {
            "braintree" => {
                let form = [("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())];
                let signature = answer.replace('|', "%7C");
                vector(
                    "POST",
                    "https://h/w".to_owned(),
                    form.to_vec(),
                    format!("bt_signature={signature}&bt_payload={challenge}"),
                )
            }
            _ => {
                let answer: Value = serde_json::from_str(&answer).unwrap();
                let signature = answer["response_token"].as_str().unwrap().to_owned();
                let headers = vec![("x-twitter-webhooks-signature".to_owned(), signature)];
                vector("POST", "https://h/w".to_owned(), headers, challenge.to_owned())
            }
        };
        let source = forged.source(scheme);
        let webhook = forged.webhook(&source, true).unwrap();
        let proves = source.scheme.verify(&webhook, &forged.keyring(), None, Timestamp::from_seconds(forged.now)).is_ok();
        assert!(proves, "{scheme}: the answer of the handshake proves this");
        assert_eq!(forged.judge(&source, &webhook).map(|_| ()).map_err(|rejection| rejection.status()), Err(401), "{scheme}");
    }
}

/// The handshake's answer or the refusal's status, as the receiver gives it.
fn shake_hands(vector: &Vector, source: &Source) -> Result<(u16, http::HeaderMap, String), u16> {
    let webhook = vector.webhook(source, false).unwrap();
    let verdict = vector.judge(source, &webhook).map_err(|rejection| rejection.status())?;
    let status = verdict.status(source);
    Ok(match verdict {
        Verdict::Handshake { greeting, .. } => (status, greeting.answer.headers, greeting.answer.body),
        Verdict::Webhook { .. } => (status, http::HeaderMap::new(), source.answer.body.clone().unwrap()),
    })
}

#[test]
fn every_published_handshake_gets_its_answer() {
    for vector in vectors(include_str!("../../../tests/vectors/handshakes.jsonl")) {
        let wanted = vector.respond.as_ref().unwrap();
        let source = vector.source(&vector.provider);
        let answer = shake_hands(&vector, &source);
        if wanted.status >= 400 {
            assert_eq!(answer.unwrap_err(), wanted.status, "{}", vector.id);
            continue;
        }
        let (status, headers, body) = answer.unwrap_or_else(|status| panic!("{}: {status}", vector.id));
        assert_eq!(status, wanted.status, "{}", vector.id);
        for (name, value) in &wanted.headers {
            assert_eq!(headers.get(name).map(|found| found.to_str().unwrap()), Some(value.as_str()), "{}: {name}", vector.id);
        }
        let wanted_body = BASE64.decode(&wanted.body_b64).unwrap();
        match serde_json::from_slice::<Value>(&wanted_body) {
            Ok(json @ Value::Object(_)) => assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), json, "{}", vector.id),
            _ => assert_eq!(body.as_bytes(), wanted_body, "{}", vector.id),
        }
    }
}
