//! The JSON that a function gets, and that an EventBridge event has as its detail.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::value::RawValue;
use shared::content::CONTENT_ENCODING;

use crate::parcel::Parcel;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    received_at: String,
    occurred_at: Option<String>,
    idempotency_key: String,
    attempt: u32,
    headers: BTreeMap<&'a str, &'a str>,
    /// As it is written: numbers, the order of keys and duplicates of them are the sender's.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

/// The event with its body: as JSON where it is JSON, else in base64.
pub(super) fn envelope(parcel: &Parcel<'_>) -> String {
    let Parcel { event, body, attempt, .. } = parcel;
    let json: Option<&RawValue> = serde_json::from_slice(body).ok();
    // A body that a map made has no coding, whatever the event's own had.
    let is_meant = |name: &str| name != CONTENT_ENCODING || parcel.content_encoding.is_some();
    let headers = event.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let envelope = Envelope {
        id: event.key.event_id.as_str(),
        source: event.key.source.as_str(),
        event_type: event.event_type.as_str(),
        received_at: event.received_at.to_rfc3339(),
        occurred_at: event.occurred_at.map(|moment| moment.to_rfc3339()),
        idempotency_key: parcel.idempotency_key(),
        attempt: *attempt,
        headers: headers.filter(|(name, _)| is_meant(name)).collect(),
        body: json,
        body_base64: json.is_none().then(|| STANDARD.encode(body)),
    };
    // Texts, a number and what was JSON already: serializing them cannot fail.
    serde_json::to_string(&envelope).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use shared::event::Event;

    use super::{
        super::fake::{destination, event, parcel},
        *,
    };

    #[test]
    fn a_json_body_stands_in_the_envelope_as_it_was_written() {
        let (event, destination) = (event(), destination());
        let body = "\n{\"b\": 12.10, \"a\": [1e400, 18446744073709551617], \"a\": null}\n";
        let expected = concat!(
            r#"{"id":"é 7","source":"shop","type":"orders/create","receivedAt":"2026-11-22T06:24:35Z","#,
            r#""occurredAt":"2026-11-22T06:23:20Z","idempotencyKey":"shop#%C3%A9%207#orders","attempt":2,"#,
            r#""headers":{"content-type":"application/json","x-shop":"a.example"},"#,
            r#""body":{"b": 12.10, "a": [1e400, 18446744073709551617], "a": null}}"#
        );
        assert_eq!(envelope(&parcel(&event, &destination, body)), expected);
    }

    #[test]
    fn the_documented_envelope_has_what_a_real_one_has() {
        let (event, destination) = (event(), destination());
        let keys = |text: &str| {
            let envelope: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap();
            envelope.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        let documentation = include_str!("../../../../docs/destinations.md");
        let documented = documentation.split("```json\n").find(|block| block.contains("\"idempotencyKey\"")).unwrap();
        let documented = documented.split("```").next().unwrap();
        assert_eq!(keys(documented), keys(&envelope(&parcel(&event, &destination, "{}"))));
    }

    #[test]
    fn a_body_that_is_no_json_is_there_in_base64() {
        let destination = destination();
        let event = Event { occurred_at: None, ..event() };
        for (body, expected) in
            [(&b"a=1"[..], "YT0x"), (b"", ""), (b"{} {}", "e30ge30="), (b"\xff\x00", "/wA="), (b"\"\xff\"", "Iv8i")]
        {
            let envelope: serde_json::Value = serde_json::from_str(&envelope(&parcel(&event, &destination, body))).unwrap();
            assert_eq!(envelope["bodyBase64"], expected, "{body:?}");
            assert_eq!(envelope.get("body"), None, "{body:?}");
            assert_eq!(envelope["occurredAt"], serde_json::Value::Null);
        }
    }

    #[test]
    fn a_content_encoding_is_there_with_the_exact_body_and_not_with_a_mapped_one() {
        let destination = destination();
        let mut event = event();
        event.headers.insert("content-encoding".to_owned(), "gzip".to_owned());
        let headers = |parcel: &Parcel<'_>| {
            let envelope: serde_json::Value = serde_json::from_str(&envelope(parcel)).unwrap();
            (envelope["headers"]["content-encoding"].as_str().map(str::to_owned), envelope.get("bodyBase64").is_some())
        };
        assert_eq!(headers(&parcel(&event, &destination, b"\x1f\x8b")), (Some("gzip".to_owned()), true));
        let mapped = Parcel { content_encoding: None, ..parcel(&event, &destination, "{}") };
        assert_eq!(headers(&mapped), (None, false));
    }

    #[test]
    fn a_body_however_deep_does_not_end_the_worker() {
        let (event, destination) = (event(), destination());
        let deep = ["[".repeat(1_000_000), "]".repeat(1_000_000)].concat();
        assert!(envelope(&parcel(&event, &destination, deep.clone())).ends_with(&format!("\"body\":{deep}}}")));
    }
}
