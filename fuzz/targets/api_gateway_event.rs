//! What API Gateway hands over, from its JSON to a verdict, for every preset.
//!
//! Input: an event. Its source is a preset's name, its `timeEpoch` the time; keys are those of the published vectors.

#![no_main]

use std::{collections::BTreeMap, sync::LazyLock};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use fuzz::{keyring, verify};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use shared::{
    config::{BODY_BYTES_MAX, Gateway, Source},
    location::Places,
    secrets::{KEYS_MAX, Keyring},
    signatures::preset::Preset,
    time::Timestamp,
};

#[derive(Deserialize)]
struct Vector {
    scheme: String,
    secrets: Vec<String>,
}

/// Every preset as a source, with the secrets of its vectors.
static SOURCES: LazyLock<BTreeMap<&str, (Source, Keyring)>> = LazyLock::new(|| {
    let mut secrets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in include_str!("../../tests/vectors/signatures.jsonl").lines() {
        let vector: Vector = serde_json::from_str(line).expect("a vector can be read");
        let known = secrets.entry(vector.scheme).or_default();
        let new: Vec<String> =
            vector.secrets.into_iter().filter(|secret| !secret.is_empty() && !known.contains(secret)).collect();
        known.extend(new);
        known.truncate(KEYS_MAX);
    }
    let source = |name| {
        let text = format!(
            "[sources.s]\nscheme = \"{name}\"\nsecret = \"s-enrolled\"\nhandshake_secret = \"s\"\nbody_bytes_max = 65536"
        );
        let gateway = Gateway::parse(&text, "gateway.toml").expect("a preset can be a source");
        let source = gateway.sources.into_values().next().expect("there is one source");
        let keys = secrets.get(name).cloned().unwrap_or_else(|| vec!["made-up:secret".to_owned()]);
        (name, (source, keyring(keys.iter().map(String::as_str))))
    };
    Preset::names().map(source).collect()
});

fuzz_target!(|data: &[u8]| {
    let Ok(event) = serde_json::from_slice::<&RawValue>(data) else { return };
    let parsed: Value = serde_json::from_str(event.get()).unwrap_or_default();
    let name = parsed["pathParameters"]["source"].as_str().unwrap_or("github");
    let (source, keyring) = SOURCES.get(name).unwrap_or_else(|| &SOURCES["github"]);
    let Some(webhook) = receiver::read_webhook(event, source) else { return };

    assert!(webhook.body.len() <= source.body_bytes_max && source.body_bytes_max <= BODY_BYTES_MAX);
    let sent = parsed["body"].as_str().unwrap_or_default();
    let exact =
        if parsed["isBase64Encoded"] == true { BASE64.decode(sent).expect("broken base64 is refused") } else { sent.into() };
    assert_eq!(webhook.body, exact);
    assert_eq!(webhook.raw_query, parsed["rawQueryString"].as_str().unwrap_or_default());

    let now = Timestamp::from_millis(parsed["requestContext"]["timeEpoch"].as_u64().unwrap_or(1_700_000_000_000));
    verify(&source.scheme, &webhook, keyring, now);
    let _ = source.scheme.wanted_key(&Places::new(&webhook), keyring, now);
});
