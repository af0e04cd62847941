//! Kinds of signing that no preset may use yet: each is written as a scheme, signed by its published formula, and changed.

use http::Method;
use ring::{digest, hmac};

use super::{Refusal, Scheme, UnverifiedWebhook};
use crate::{secrets::Keyring, time::Timestamp};

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
const SECRET: &str = "made-up-secret";

fn scheme(text: &str) -> Scheme {
    let scheme: Scheme = toml::from_str(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(scheme.check(), Ok(()));
    scheme
}

fn refused(text: &str, words: &str) {
    let message = match toml::from_str::<Scheme>(text) {
        Ok(scheme) => scheme.check().unwrap_err(),
        Err(error) => error.message().to_owned(),
    };
    assert!(message.contains(words), "{message}");
}

fn sha256(secret: &str, content: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), content.as_bytes()).as_ref().to_vec()
}

fn verdict_at(scheme: &Scheme, headers: &[(&str, &str)], body: &str, now: Timestamp) -> Result<(), Refusal> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let webhook = UnverifiedWebhook::new(Method::POST, "https://h/p?b=2&a=1", &headers, body.as_bytes().to_vec());
    scheme.verify(&webhook, &Keyring::parse(SECRET).unwrap(), None, now).map(drop)
}

fn verdict(scheme: &Scheme, headers: &[(&str, &str)], body: &str) -> Result<(), Refusal> {
    verdict_at(scheme, headers, body, NOW)
}

const WRONG: Result<(), Refusal> = Err(Refusal::WrongSignature);

#[test]
fn entries_of_a_list_may_be_told_by_their_places() {
    let scheme = scheme(
        "algorithm = \"hmac-sha256\"\nsigned = \"{timestamp}.{body}\"\n\
         signature = { at = \"header:s\", encoding = \"hex\", list = { separator = \",\", first = 2 } }\n\
         timestamp = { at = \"signature:1\", format = \"milliseconds\", tolerance_seconds = 300 }",
    );
    let right = hex::encode(sha256(SECRET, "1700000000000.{}"));
    let other = hex::encode(sha256("another", "1700000000000.{}"));
    for list in [right.clone(), format!("{other},{right}"), format!("{right},de1ec7ab1e"), format!(" {other} , {right}")] {
        assert_eq!(verdict(&scheme, &[("s", &format!("1700000000000,{list}"))], "{}"), Ok(()), "{list}");
    }
    assert_eq!(verdict(&scheme, &[("s", &format!("1700000000000,{other}"))], "{}"), WRONG);
    assert_eq!(verdict(&scheme, &[("s", &format!("1700000000001,{right}"))], "{}"), WRONG);
    assert_eq!(verdict(&scheme, &[("s", "1700000000000")], "{}"), Err(Refusal::MissingSignature));
    assert!(matches!(verdict(&scheme, &[("s", &format!("{right},1700000000000"))], "{}"), Err(Refusal::MalformedTimestamp)));
}

#[test]
fn each_of_several_lists_has_a_time_of_its_own() {
    let scheme = scheme(
        "algorithm = \"hmac-sha256\"\nsigned = \"{timestamp}.{body}\"\n\
         signature = { at = \"header:s\", encoding = \"hex\", list = { between = \" \", separator = \",\", assign = \"=\", key = \"v1\" } }\n\
         timestamp = { at = \"signature:t\", format = \"seconds\", tolerance_seconds = 300 }",
    );
    let list = |secret: &str, time: u64| format!("t={time},v1={}", hex::encode(sha256(secret, &format!("{time}.{{}}"))));
    let (new, old) = (list("another", 1_700_000_000), list(SECRET, 1_700_000_001));
    assert_eq!(verdict(&scheme, &[("s", &format!("{new} {old}"))], "{}"), Ok(()));
    assert_eq!(verdict(&scheme, &[("s", &format!("{old} {new}"))], "{}"), Ok(()));
    assert_eq!(verdict(&scheme, &[("s", &new)], "{}"), WRONG);
    // A signature does not hold for the time of another list.
    let mixed = old.replace("1700000001", "1700000002");
    assert_eq!(verdict(&scheme, &[("s", &format!("{new} {mixed}"))], "{}"), WRONG);
}

#[test]
fn repeated_headers_are_read_where_a_comma_is_part_of_the_list() {
    let scheme = super::preset::Preset::find("standard-webhooks").unwrap().unwrap().scheme;
    let secret = Keyring::parse("whsec_a2tra2tra2tra2tra2tra2tra2tra2tr").unwrap();
    let key = "kkkkkkkkkkkkkkkkkkkkkkkk";
    let right = base64(&sha256(key, "m.1700000000.{}"));
    let wrong = base64(&[b'x'; 32]);
    let verdict = |signatures: &[String]| {
        let mut headers =
            vec![("webhook-id".to_owned(), "m".to_owned()), ("webhook-timestamp".to_owned(), "1700000000".to_owned())];
        headers.extend(signatures.iter().map(|signature| ("webhook-signature".to_owned(), signature.clone())));
        let webhook = UnverifiedWebhook::new(Method::POST, "https://h/", &headers, b"{}".to_vec());
        scheme.verify(&webhook, &secret, None, NOW).map(drop)
    };
    for signatures in [
        vec![format!("v1,{wrong}"), format!("v1,{right}")],
        vec![format!("v1,{right}"), format!("v1,{wrong}")],
        vec![format!("v1,{wrong}, v1,{right}")],
        vec![format!("v1a,{wrong} v1,{right}"), format!("v1,{wrong}")],
    ] {
        assert_eq!(verdict(&signatures), Ok(()), "{signatures:?}");
    }
    assert_eq!(verdict(&[format!("v1,{wrong}"), format!("v1a,{right}")]), WRONG);
}

fn base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
}

#[test]
fn a_signature_may_be_base64_of_hexadecimal() {
    let scheme = scheme(
        "algorithm = \"hmac-sha256\"\nsigned = \"{body}\"\nsignature = { at = \"header:s\", encoding = \"base64-of-hex\" }",
    );
    let signature = base64(hex::encode(sha256(SECRET, "{}")).as_bytes());
    assert_eq!(verdict(&scheme, &[("s", &signature)], "{}"), Ok(()));
    assert_eq!(verdict(&scheme, &[("s", &signature)], "{ }"), WRONG);
    assert_eq!(verdict(&scheme, &[("s", &base64(&sha256(SECRET, "{}")))], "{}"), Err(Refusal::MalformedSignature));
}

#[test]
fn the_secret_may_stand_in_what_a_keyed_hash_signs() {
    let scheme =
        scheme("algorithm = \"hmac-sha256\"\nsigned = \"{secret}{body}\"\nsignature = { at = \"header:s\", encoding = \"hex\" }");
    let signature = hex::encode(sha256(SECRET, &format!("{SECRET}{{}}")));
    assert_eq!(verdict(&scheme, &[("s", &signature)], "{}"), Ok(()));
    assert_eq!(verdict(&scheme, &[("s", &hex::encode(sha256(SECRET, "{}")))], "{}"), WRONG);
    refused(
        "algorithm = \"ed25519\"\nsigned = \"{secret}{body}\"\nsignature = { at = \"header:s\", encoding = \"hex\" }",
        "holds a public key",
    );
}

#[test]
fn a_canonical_body_is_signed_whatever_the_order_of_its_members() {
    let scheme = scheme(
        "algorithm = \"hmac-sha256\"\nsigned = \"{body|json-sorted}\"\nsignature = { at = \"header:s\", encoding = \"hex\" }",
    );
    let signature = hex::encode(sha256(SECRET, r#"{"a":[{"c":1,"d":2}],"b":12.10}"#));
    assert_eq!(verdict(&scheme, &[("s", &signature)], r#"{ "b": 12.10, "a": [ {"d": 2, "c": 1} ] }"#), Ok(()));
    assert_eq!(verdict(&scheme, &[("s", &signature)], r#"{"b":12.1,"a":[{"d":2,"c":1}]}"#), WRONG);
    assert_eq!(verdict(&scheme, &[("s", &signature)], r#"{"b":0,"b":12.10,"a":[{"d":2,"c":1}]}"#), Err(Refusal::MissingPart));
    let nothing = hex::encode(sha256(SECRET, ""));
    assert_eq!(verdict(&scheme, &[("s", &nothing)], "no JSON"), Err(Refusal::MissingPart));
}

#[test]
fn the_exact_bytes_of_a_member_may_be_signed() {
    let scheme = scheme(
        "algorithm = \"hmac-sha256\"\nsigned = \"{raw:/data}\"\nunsigned_body = true\n\
         signature = { at = \"json:/sign\", encoding = \"hex\" }",
    );
    let data = r#"{ "b":1,  "a":"\u00e9" }"#;
    let signature = hex::encode(sha256(SECRET, data));
    let body = |data: &str| format!(r#"{{"sign":"{signature}","data":{data}}}"#);
    assert_eq!(verdict(&scheme, &[], &body(data)), Ok(()));
    assert_eq!(verdict(&scheme, &[], &body(&data.replace("  ", " "))), WRONG);
    let twice = body(data).replacen('{', r#"{"data":{},"#, 1);
    assert_eq!(verdict(&scheme, &[], &twice), Err(Refusal::MissingPart), "another reader could take the other one");
}

#[test]
fn fields_that_the_body_lists_are_signed_if_those_that_must_be_are_among_them() {
    let text = "algorithm = \"sha256\"\nsigned = \"{listed}{timestamp}{secret}\"\nunsigned_body = true\n\
         signature = { at = \"json:/signature/checksum\", encoding = \"hex\" }\n\
         timestamp = { at = \"json:/timestamp\", format = \"seconds\", unbounded = true }\n\
         listed = { at = \"/signature/properties\", within = \"/data\", required = [\"transaction.id\", \"transaction.status\"] }";
    let scheme = scheme(text);
    let signed = |content: &str| hex::encode(digest::digest(&digest::SHA256, content.as_bytes()));
    let body = |list: &str, data: &str, checksum: &str| {
        format!(r#"{{"data":{data},"timestamp":1530291411,"signature":{{"properties":{list},"checksum":"{checksum}"}}}}"#)
    };
    let list = r#"["transaction.id","transaction.status","transaction.amount"]"#;
    let data = r#"{"transaction":{"id":"1234","status":"APPROVED","amount":4490000}}"#;
    let checksum = signed(&format!("1234APPROVED44900001530291411{SECRET}"));
    assert_eq!(verdict(&scheme, &[], &body(list, data, &checksum)), Ok(()));
    assert_eq!(verdict(&scheme, &[], &body(list, &data.replace("APPROVED", "DECLINED"), &checksum)), WRONG);
    // Whoever has seen one cannot make a shorter list say the same.
    let shorter = r#"{"x":"1234APPROVED4490000"}"#;
    assert_eq!(verdict(&scheme, &[], &body(r#"["x"]"#, shorter, &checksum)), Err(Refusal::MissingPart));
    refused(&text.replace("\"transaction.id\", \"transaction.status\"", ""), "`listed.required` is empty");
    refused(&text.replace("{listed}", ""), "belong together");
}

#[test]
fn pairs_of_query_and_form_are_signed_together() {
    let scheme = scheme(
        "algorithm = \"hmac-sha256\"\nsigned = \"[{pairs-sorted}]{body}\"\nsignature = { at = \"header:s\", encoding = \"hex\" }",
    );
    let signature = hex::encode(sha256(SECRET, "a1b2{}"));
    assert_eq!(verdict(&scheme, &[("s", &signature), ("content-type", "application/json")], "{}"), Ok(()));
    assert_eq!(verdict(&scheme, &[("s", &signature)], "{} "), WRONG);
}

#[test]
fn times_are_read_as_their_senders_write_them() {
    let at = |format: &str, time: &str| {
        let scheme = scheme(&format!(
            "algorithm = \"hmac-sha256\"\nsigned = \"{{timestamp}}{{body}}\"\nsignature = {{ at = \"header:s\", encoding = \"hex\" }}\n\
             timestamp = {{ at = \"header:t\", format = \"{format}\", tolerance_seconds = 300 }}"
        ));
        let signature = hex::encode(sha256(SECRET, &format!("{time}{{}}")));
        verdict(&scheme, &[("s", &signature), ("t", time)], "{}")
    };
    for (format, time) in [
        ("rfc3339-utc", "2023-11-14T22:13:20"),
        ("rfc3339-utc", "2023-11-14 22:13:20.5"),
        ("rfc3339-utc", "2023-11-14T22:13:20Z"),
        ("http-date", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ("seconds-or-milliseconds", "1700000000"),
        ("seconds-or-milliseconds", "1700000000123"),
    ] {
        assert_eq!(at(format, time), Ok(()), "{format} {time}");
    }
    assert_eq!(at("rfc3339", "2023-11-14T22:13:20"), Err(Refusal::MalformedTimestamp));
    assert!(matches!(at("rfc3339-utc", "2023-11-14T23:13:20"), Err(Refusal::Stale { .. })));
}

#[test]
fn a_place_may_go_on_within_another_and_be_signed() {
    let scheme = scheme(
        "algorithm = \"hmac-sha256\"\nsigned = \"{json:/payload|json:/id}.{json:/payload|sha256|hex}\"\nunsigned_body = true\n\
         signature = { at = \"json:/sig|from-base64|json:/v\", encoding = \"hex\" }",
    );
    let inner = r#"{"id":"7"}"#;
    let signature = hex::encode(sha256(SECRET, &format!("7.{}", hex::encode(digest::digest(&digest::SHA256, inner.as_bytes())))));
    let sig = base64(format!(r#"{{"v":"{signature}"}}"#).as_bytes());
    let body = |inner: &str| format!(r#"{{"payload":{},"sig":"{sig}"}}"#, serde_json::Value::from(inner));
    assert_eq!(verdict(&scheme, &[], &body(inner)), Ok(()));
    assert_eq!(verdict(&scheme, &[], &body(r#"{"id":"8"}"#)), WRONG);
}

#[test]
fn a_prefix_that_can_never_match_is_named() {
    let with = |signature: &str| {
        format!(
            "algorithm = \"hmac-sha256\"\nsigned = \"{{body}}\"\nsignature = {{ at = \"header:s\", encoding = \"hex\", {signature} }}"
        )
    };
    for (signature, words) in [
        ("prefix = \"sha256, \"", "can never match"),
        ("prefix = \" sha256=\"", "white space"),
        ("prefix = \"v1;\", list = { separator = \";\", assign = \"=\", key = \"v1\" }", "taken apart at `;`"),
        ("list = { separator = \",\", assign = \"=\" }", "has no `key`"),
        ("list = { separator = \",\", key = \"v1\" }", "no `assign`"),
        ("list = { separator = \",\", first = 0 }", "counts from 1"),
        ("list = { separator = \"=\", assign = \"=\", key = \"v1\" }", "cannot be the same"),
    ] {
        refused(&with(signature), words);
    }
    assert_eq!(scheme(&with("prefix = \"sha256=\"")).check(), Ok(()));
}
