//! Whole schemes against whole requests.

use std::time::Duration;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL},
};
use http::Method;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};

use super::{
    Refusal, Scheme, UnverifiedWebhook,
    chain::tests as chain_tests,
    jwt::{JwtAlgorithm, LEEWAY_SECONDS_DEFAULT, sign},
    preset::Preset,
    public_key::PublicKey,
};
use crate::{
    config::Gateway,
    event::BodyDigest,
    location::{Location, Places},
    secrets::Keyring,
    time::Timestamp,
};

const NOW: Timestamp = Timestamp::from_seconds(1_795_328_675);

fn scheme(toml: &str) -> Scheme {
    let scheme: Scheme = toml::from_str(toml).unwrap();
    assert_eq!(scheme.check(), Ok(()));
    scheme
}

fn request(headers: &[(&str, &str)], body: &[u8]) -> UnverifiedWebhook {
    let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    UnverifiedWebhook::new(Method::POST, "https://example.com/webhooks/acme", &headers, body.to_vec())
}

fn keyring(text: &str) -> Keyring {
    Keyring::parse(text).unwrap()
}

/// Vonage's clock and ours were a second apart, which refused one webhook in a hundred.
#[test]
fn a_token_issued_in_the_next_second_is_accepted() {
    let vonage = Preset::find("vonage").unwrap().unwrap().scheme;
    let body =
        br#"{"message_uuid":"aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab","status":"delivered","timestamp":"2026-11-22T06:24:35Z"}"#;
    let tokens = [
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpYXQiOjE3OTUzMjg2NzUsImp0aSI6ImM1YmE4ZjI0LTFhMTQtNGMxMC1iZmRmLTNmYmU4Y2U1MTFiNSIsImlzcyI6IlZvbmFnZSIsInBheWxvYWRfaGFzaCI6ImRlMDgzMjBkMTM4MGU3OTRlZTNlYjM4YjgwZTU1ZTFmMDEwZTE0ZmM4OTY3MDVmZGRiMmIzNGRiOGQxM2IwNDkiLCJhcGlfa2V5IjoiYTFiMmMzZCJ9.y86cKAVVB1QroPw3-lbHKBNYIgsADEZO6Yi3uxOPI3o",
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpYXQiOjE3OTUzMjg2NzYsImp0aSI6ImM1YmE4ZjI0LTFhMTQtNGMxMC1iZmRmLTNmYmU4Y2U1MTFiNSIsImlzcyI6IlZvbmFnZSIsInBheWxvYWRfaGFzaCI6ImRlMDgzMjBkMTM4MGU3OTRlZTNlYjM4YjgwZTU1ZTFmMDEwZTE0ZmM4OTY3MDVmZGRiMmIzNGRiOGQxM2IwNDkiLCJhcGlfa2V5IjoiYTFiMmMzZCJ9.QgOxjPa6Eu59yydJsDwJIYiA0JlCHvFX6yplOnIqiXg",
    ];
    for token in tokens {
        let webhook = request(&[("Authorization", &format!("Bearer {token}"))], body);
        let keyring = keyring("vonage-signature-secret-0123456789abcdef");
        assert!(vonage.verify(&webhook, &keyring, None, NOW).is_ok(), "{token}");
    }
}

#[test]
fn a_tokens_times_have_the_default_leeway_and_no_more() {
    let scheme = scheme(
        "algorithm = \"jwt\"\nsignature = { at = \"header:t\" }\njwt = { algorithms = [\"HS256\"] }\nunsigned_body = true",
    );
    let keyring = keyring("secret");
    let verdict = |claims: Value| {
        let token = sign(JwtAlgorithm::HS256, &claims, b"secret").unwrap();
        scheme.verify(&request(&[("t", &token)], b""), &keyring, None, NOW).map(drop)
    };
    let now = NOW.seconds();
    let stale = |seconds_off| Err(Refusal::Stale { seconds_off, tolerance_seconds: LEEWAY_SECONDS_DEFAULT });
    for name in ["iat", "nbf"] {
        assert_eq!(verdict(json!({name: now + LEEWAY_SECONDS_DEFAULT})), Ok(()));
        assert_eq!(verdict(json!({name: now + LEEWAY_SECONDS_DEFAULT + 1})), stale(LEEWAY_SECONDS_DEFAULT + 1));
    }
    assert_eq!(verdict(json!({"exp": now - LEEWAY_SECONDS_DEFAULT + 1})), Ok(()));
    assert_eq!(verdict(json!({"exp": now - LEEWAY_SECONDS_DEFAULT})), stale(LEEWAY_SECONDS_DEFAULT));
    assert_eq!(NOW.plus(Duration::from_secs(LEEWAY_SECONDS_DEFAULT)).seconds(), now + 60);
}

/// A key that signs tokens, as a document publishes it.
struct Publisher(EcdsaKeyPair);

impl Publisher {
    fn new() -> Self {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        Self::from_pkcs8(pkcs8.as_ref())
    }

    fn from_pkcs8(pkcs8: &[u8]) -> Self {
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new()).unwrap())
    }

    fn key(&self) -> PublicKey {
        PublicKey::P256(self.0.public_key().as_ref().to_vec())
    }

    fn sign(&self, header: &Value, payload: &[u8]) -> String {
        let content = format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(payload));
        let signature = self.0.sign(&SystemRandom::new(), content.as_bytes()).unwrap();
        format!("{content}.{}", BASE64URL.encode(signature))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "ES256", "kid": "key-1"}), claims.to_string().as_bytes())
    }
}

/// Google Pub/Sub's push, but for its algorithm: RSA keys are dear to make.
const PUSH: &str = r#"
algorithm = "jwt"
unsigned_body = true
signature = { at = "header:authorization", prefix = "Bearer " }
jwt = { algorithms = ["ES256"], required = ["exp", "iat"] }
fetched_key = { jwks = "https://www.googleapis.com/oauth2/v3/certs" }
checks = [
    { at = "claim:/iss", equals_any = ["https://accounts.google.com", "accounts.google.com"] },
    { at = "claim:/email_verified", equals = "true" },
    { at = "claim:/aud", equals_secret = true },
]
"#;

fn push_claims() -> Value {
    let now = NOW.seconds();
    json!({"iss": "https://accounts.google.com", "aud": "https://hooks.example.com/push", "email": "p@x.iam.gserviceaccount.com",
        "email_verified": true, "iat": now, "exp": now + 3600})
}

fn changed(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

#[test]
fn a_push_of_google_is_proven_by_its_audience() {
    let (scheme, google) = (scheme(PUSH), Publisher::new());
    let verdict = |claims: &Value, keys: &str, key: &PublicKey| {
        let webhook = request(&[("Authorization", &format!("Bearer {}", google.token(claims)))], b"{}");
        scheme.verify(&webhook, &keyring(keys), Some(key), NOW).map(|verified| verified.key_id().to_owned())
    };
    let (good, key) = (push_claims(), google.key());
    let ours = "https://hooks.example.com/push";
    assert!(verdict(&good, ours, &key).is_ok());
    let two = format!(r#"{{"keys":[{{"id":"new","secret":"https://new.example.com"}},{{"id":"old","secret":"{ours}"}}]}}"#);
    assert_eq!(verdict(&good, &two, &key), Ok("old".to_owned()));
    // For somebody else's subscription.
    assert_eq!(verdict(&good, "https://hooks.example.com/other", &key), Err(Refusal::OtherReceiver));
    assert!(Refusal::OtherReceiver.depends_on_keys());
    for (name, value) in [
        ("aud", json!("https://hooks.example.com/push/")),
        ("aud", json!(["https://hooks.example.com"])),
        ("aud", json!([])),
        ("aud", json!([[ours]])),
        ("aud", json!({"x": ours})),
        ("aud", Value::Null),
    ] {
        assert_eq!(
            verdict(&changed(good.clone(), name, value.clone()), ours, &key),
            Err(Refusal::OtherReceiver),
            "{name} {value}"
        );
    }
    for (name, value) in [
        ("iss", json!("https://accounts.google.com.evil.org")),
        ("iss", json!("")),
        ("iss", Value::Null),
        ("email_verified", json!(false)),
        ("email_verified", json!("TRUE")),
        ("email_verified", Value::Null),
    ] {
        assert_eq!(verdict(&changed(good.clone(), name, value.clone()), ours, &key), Err(Refusal::FailedCheck), "{name} {value}");
    }
    for (name, value) in [
        ("aud", json!(["https://other.example.com", ours, 7])),
        ("iss", json!("accounts.google.com")),
        ("iss", json!(["accounts.google.com"])),
        ("email_verified", json!("true")),
    ] {
        assert!(verdict(&changed(good.clone(), name, value.clone()), ours, &key).is_ok(), "{name} {value}");
    }
    assert_eq!(verdict(&good, ours, &Publisher::new().key()), Err(Refusal::WrongSignature));
    let late = changed(good.clone(), "exp", json!(NOW.seconds() - 61));
    assert!(matches!(verdict(&late, ours, &key), Err(Refusal::Stale { .. })));
}

/// The keyring's text is public: it is never a key, not even where it could be one.
#[test]
fn what_is_ours_is_no_key() {
    let (scheme, publisher) = (scheme(PUSH), Publisher::new());
    let verdict = |token: &str, keys: &str, fetched| {
        let webhook = request(&[("Authorization", &format!("Bearer {token}"))], b"{}");
        scheme.verify(&webhook, &keyring(keys), fetched, NOW).map(drop)
    };
    let ours = "https://hooks.example.com/push";
    let by_audience = sign(JwtAlgorithm::HS256, &push_claims(), ours.as_bytes()).unwrap();
    assert_eq!(verdict(&by_audience, ours, None), Err(Refusal::UntrustedKey));
    let key = publisher.key();
    assert_eq!(verdict(&by_audience, ours, Some(&key)), Err(Refusal::WrongSignature));
    assert_eq!(verdict(&publisher.token(&push_claims()), ours, None), Err(Refusal::UntrustedKey));
    let by_key = sign(JwtAlgorithm::HS256, &push_claims(), key.bytes()).unwrap();
    assert_eq!(verdict(&by_key, ours, Some(&key)), Err(Refusal::WrongSignature));
}

#[test]
fn a_key_is_wanted_only_of_the_pinned_document_and_for_an_allowed_algorithm() {
    let scheme = scheme(PUSH);
    let publisher = Publisher::new();
    let wanted = |header: Value| {
        let token = publisher.sign(&header, push_claims().to_string().as_bytes());
        let webhook = request(&[("Authorization", &format!("Bearer {token}"))], b"{}");
        scheme.wanted_key(&Places::new(&webhook), &keyring("ours"), NOW)
    };
    let named = wanted(json!({"alg": "ES256", "kid": "key-1"})).unwrap().unwrap();
    // What a token says of places of its own is nothing.
    let elsewhere = json!({"alg": "ES256", "kid": "key-1", "jku": "https://evil.org/keys", "x5u": "https://evil.org/x"});
    assert_eq!(wanted(elsewhere), Ok(Some(named.clone())));
    assert!(format!("{named:?}").contains("https://www.googleapis.com/oauth2/v3/certs"));
    assert_ne!(wanted(json!({"alg": "ES256", "kid": "key-2"})), Ok(Some(named.clone())));
    assert!(wanted(json!({"alg": "ES256"})).is_ok());
    for algorithm in ["RS256", "HS256", "EdDSA", "ES384"] {
        assert_eq!(wanted(json!({"alg": algorithm, "kid": "key-1"})), Err(Refusal::WrongSignature), "{algorithm}");
    }
    assert_eq!(wanted(json!({"alg": "none", "kid": "key-1"})), Err(Refusal::MalformedSignature));
    let unsigned = request(&[], b"{}");
    assert_eq!(scheme.wanted_key(&Places::new(&unsigned), &keyring("ours"), NOW), Ok(None));
}

#[test]
fn a_key_of_a_document_is_named_by_a_place_where_no_token_is() {
    let scheme = scheme(
        r#"
algorithm = "ecdsa-p256-sha256"
signed = "{body}"
signature = { at = "header:x-signature", encoding = "base64" }
fetched_key = { pem_map = "https://keys.example.com/certs", kid = "header:x-key-id" }
checks = [{ at = "json:/account", equals_secret = true }]
"#,
    );
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let key = PublicKey::P256(pair.public_key().as_ref().to_vec());
    let signed = |body: &[u8]| BASE64.encode(pair.sign(&random, body).unwrap());
    let body = br#"{"account":"ours"}"#;
    let webhook = request(&[("x-signature", &signed(body)), ("x-key-id", "k7")], body);
    let wanted = scheme.wanted_key(&Places::new(&webhook), &keyring("ours"), NOW).unwrap().unwrap();
    assert!(format!("{wanted:?}").contains("k7"));
    assert!(scheme.verify(&webhook, &keyring("ours"), Some(&key), NOW).is_ok());
    assert_eq!(scheme.verify(&webhook, &keyring("theirs"), Some(&key), NOW).map(drop), Err(Refusal::OtherReceiver));
    let unnamed = request(&[("x-signature", &signed(body))], body);
    assert_eq!(scheme.wanted_key(&Places::new(&unnamed), &keyring("ours"), NOW), Err(Refusal::UntrustedKey));
    assert!(scheme.places().any(|place| place.to_string() == "header:x-key-id"));
    assert!(scheme.places().any(|place| place.to_string() == "json:/account"));
}

#[test]
fn a_claim_chooses_the_key_once_it_is_verified() {
    let scheme = scheme(
        r#"
algorithm = "jwt"
unsigned_body = true
signature = { at = "header:t" }
jwt = { algorithms = ["HS256"] }
secret = { id_separator = ":", chosen_by = "claim:/api_key" }
"#,
    );
    let verdict = |claims: Value, secret: &[u8]| {
        let token = sign(JwtAlgorithm::HS256, &claims, secret).unwrap();
        let keyring = r#"{"keys":[{"id":"1","secret":"a:secret-a"},{"id":"2","secret":"b:secret-b"}]}"#;
        scheme
            .verify(&request(&[("t", &token)], b""), &self::keyring(keyring), None, NOW)
            .map(|verified| verified.key_id().to_owned())
    };
    assert_eq!(verdict(json!({"api_key": "b"}), b"secret-b"), Ok("2".to_owned()));
    assert_eq!(verdict(json!({"api_key": ["x", "a"]}), b"secret-a"), Ok("1".to_owned()));
    assert_eq!(verdict(json!({"api_key": "a"}), b"secret-b"), Err(Refusal::OtherReceiver));
    assert_eq!(verdict(json!({}), b"secret-b"), Err(Refusal::OtherReceiver));
    assert_eq!(verdict(json!({"api_key": "b"}), b"secret-c"), Err(Refusal::WrongSignature));
    // A sample names it as well.
    let mut sample = request(&[], b"");
    scheme.sign(&mut sample, &keyring("b:secret-b"), NOW).unwrap();
    assert!(scheme.verify(&sample, &keyring("b:secret-b"), None, NOW).is_ok());
}

/// One token comes with many webhooks, as Google's do for an hour: it tells none of them apart.
#[test]
fn a_token_that_says_nothing_of_the_body_is_no_content() {
    let (scheme, google) = (scheme(PUSH), Publisher::new());
    let token = format!("Bearer {}", google.token(&push_claims()));
    let digest = |body: &[u8]| {
        let webhook = request(&[("Authorization", &token)], body);
        let verified = scheme.verify(&webhook, &keyring("https://hooks.example.com/push"), Some(&google.key()), NOW).unwrap();
        verified.content_digest(&BodyDigest::of(body))
    };
    assert!(!scheme.signs_content());
    assert_ne!(digest(b"{\"n\":1}"), digest(b"{\"n\":2}"));
    assert_eq!(digest(b"{}"), BodyDigest::of(b"{}"));
    assert!(Preset::find("vonage").unwrap().unwrap().scheme.signs_content());
}

#[test]
fn a_detached_signature_covers_what_the_scheme_says() {
    let scheme = scheme(
        r#"
algorithm = "jws-detached"
signed = "{method}.{path}.{body}"
signature = { at = "header:x-jws-signature" }
jwt = { algorithms = ["ES256"] }
"#,
    );
    let publisher = Publisher::new();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", BASE64.encode(p256_spki(&publisher.key())));
    let detached = |header: &Value, content: &[u8]| {
        let token = publisher.sign(header, content);
        let (header, rest) = token.split_once('.').unwrap();
        format!("{header}..{}", rest.split_once('.').unwrap().1)
    };
    let unencoded = |content: &[u8]| {
        let header = BASE64URL.encode(json!({"alg": "ES256", "b64": false, "crit": ["b64"]}).to_string());
        let message = [header.as_bytes(), b".", content].concat();
        format!("{header}..{}", BASE64URL.encode(publisher.0.sign(&SystemRandom::new(), &message).unwrap()))
    };
    let content = b"POST./webhooks/acme.\xff.{}";
    let verdict = |token: &str, body: &[u8]| {
        scheme.verify(&request(&[("x-jws-signature", token)], body), &keyring(&pem), None, NOW).map(drop)
    };
    let body = b"\xff.{}";
    for token in [detached(&json!({"alg": "ES256"}), content), unencoded(content)] {
        assert_eq!(verdict(&token, body), Ok(()));
        assert_eq!(verdict(&token, b"\xff.{} "), Err(Refusal::WrongSignature));
    }
    let es384 = detached(&json!({"alg": "ES384"}), content);
    assert!(verdict(&es384, body).is_err());
    let attached = publisher.sign(&json!({"alg": "ES256"}), content);
    assert_eq!(verdict(&attached, body), Err(Refusal::WrongSignature));
    assert_eq!(verdict("nonsense", body), Err(Refusal::MalformedSignature));
    assert!(scheme.covers(&Location::Json("/id".into())) && scheme.signs_content() && !scheme.has_claims());
}

fn p256_spki(key: &PublicKey) -> Vec<u8> {
    let head = hex::decode("3059301306072a8648ce3d020106082a8648ce3d030107034200").unwrap();
    [head.as_slice(), key.bytes()].concat()
}

#[test]
fn a_sample_of_a_detached_signature_is_proven() {
    let scheme = scheme(
        "algorithm = \"jws-detached\"\nsigned = \"{timestamp}.{body}\"\nsignature = { at = \"header:s\" }\n\
         timestamp = { at = \"header:t\", format = \"seconds\", tolerance_seconds = 300 }\njwt = { algorithms = [\"HS512\"] }",
    );
    let mut sample = request(&[], b"{}");
    scheme.sign(&mut sample, &keyring("secret"), NOW).unwrap();
    assert!(scheme.verify(&sample, &keyring("secret"), None, NOW).is_ok());
    sample.body = b"[]".to_vec();
    assert_eq!(scheme.verify(&sample, &keyring("secret"), None, NOW).map(drop), Err(Refusal::WrongSignature));
}

const BODY_TOKEN: &str = "algorithm = \"jwt\"\nsignature = { at = \"body\" }\njwt = { algorithms = [\"HS256\"] }";

#[test]
fn a_body_that_is_a_token_is_proven_and_read() {
    let scheme = scheme(BODY_TOKEN);
    let token = sign(JwtAlgorithm::HS256, &json!({"jti": "evt-1", "events": {"kind": "a"}}), b"secret").unwrap();
    let keyring = keyring("secret");
    for body in [token.clone(), format!("\"{token}\""), format!(" {token}\r\n"), format!("\n\"{token}\"\n")] {
        let webhook = request(&[], body.as_bytes());
        let verified = scheme.verify(&webhook, &keyring, None, NOW).unwrap();
        let text = |pointer: &str| verified.look(&Location::Claim(pointer.into())).text().map(|text| text.into_owned());
        assert_eq!(text("/jti").as_deref(), Some("evt-1"));
        assert_eq!(text("/events/kind").as_deref(), Some("a"));
        // However it is written around: it is the same content.
        let first = request(&[], token.as_bytes());
        let first = scheme.verify(&first, &keyring, None, NOW).unwrap();
        assert_eq!(
            verified.content_digest(&BodyDigest::of(body.as_bytes())),
            first.content_digest(&BodyDigest::of(token.as_bytes()))
        );
    }
    for body in ["", "\"\"", "{}", "a.b", "a.b.c.d", "{\"token\":\"a.b.c\"}", "\"a.b.c", "a.b.c d", "é.b.c"] {
        let webhook = request(&[], body.as_bytes());
        assert_eq!(scheme.verify(&webhook, &keyring, None, NOW).map(drop), Err(Refusal::MissingSignature), "{body}");
        assert!(!scheme.is_signed(&Places::new(&webhook)), "{body}");
    }
    let twice = format!("{token}{token}");
    assert!(scheme.verify(&request(&[], twice.as_bytes()), &keyring, None, NOW).is_err());
    assert!(scheme.covers(&Location::Claim("/jti".into())) && scheme.has_claims() && scheme.signs_content());
}

#[test]
fn an_event_is_read_from_the_claims_of_its_token() {
    let file = format!(
        "[schemes.acme]\n{BODY_TOKEN}\n[sources.acme]\nscheme = \"acme\"\nsecret = \"acme\"\n\
         event = {{ id = \"claim:/jti\", type = \"claim:/events/kind\", occurred_at = {{ at = \"claim:/iat\", format = \"seconds\" }} }}"
    );
    let gateway = Gateway::parse(&file, "gateway.toml").unwrap();
    let source = gateway.sources.values().next().unwrap();
    let identity = |claims: Value| {
        let token = sign(JwtAlgorithm::HS256, &claims, b"secret").unwrap();
        let webhook = request(&[], token.as_bytes());
        let verified = source.scheme.verify(&webhook, &keyring("secret"), None, NOW).unwrap();
        source.event.identify(&verified, &BodyDigest::of(&webhook.body), NOW).unwrap()
    };
    let read = identity(json!({"jti": "evt-1", "iat": NOW.seconds(), "events": {"kind": "paid"}}));
    assert_eq!((read.event_id.as_str(), read.event_type.as_str()), ("evt-1", "paid"));
    assert_eq!((read.occurred_at, read.by_content), (Some(NOW), false));
    // Without an id it is known by what was signed.
    let unnamed = identity(json!({"events": {"kind": 7}}));
    assert!(unnamed.by_content && unnamed.unreadable.is_some());
}

#[test]
fn a_sample_of_a_body_that_is_a_token_says_what_the_body_said() {
    let scheme = scheme(BODY_TOKEN);
    let mut sample = request(&[], br#"{"id":"evt-1"}"#);
    scheme.sign(&mut sample, &keyring("secret"), NOW).unwrap();
    let verified = scheme
        .verify(&sample, &keyring("secret"), None, NOW)
        .map(|verified| verified.look(&Location::Claim("/id".into())).text().map(|text| text.into_owned()));
    assert_eq!(verified, Ok(Some("evt-1".to_owned())));
}

#[test]
fn a_token_with_certificates_is_verified_by_the_key_of_the_first() {
    let chain = chain_tests::chain();
    let scheme = scheme(&format!(
        r#"
algorithm = "jwt"
unsigned_body = true
signature = {{ at = "json:/signedPayload" }}
jwt = {{ algorithms = ["ES256"], x5c_root = """{}""", x5c_oids = {{ leaf = "1.2.840.113635.100.6.11.1", intermediate = "1.2.840.113635.100.6.2.1" }} }}
checks = [{{ at = ["claim:/data/bundleId", "claim:/summary/bundleId"], equals_secret = true }}]
"#,
        chain[0].pem()
    ));
    let signer = Publisher::from_pkcs8(&chain[2].key.serialize_der());
    let claims = json!({"notificationUUID": "n-1", "data": {"bundleId": "com.example.ours"}});
    let verdict = |signer: &Publisher, header: &Value, claims: &Value, keys: &str| {
        let body = json!({"signedPayload": signer.sign(header, claims.to_string().as_bytes())}).to_string();
        scheme.verify(&request(&[], body.as_bytes()), &keyring(keys), None, chain_tests::NOW).map(drop)
    };
    let header = json!({"alg": "ES256", "x5c": chain_tests::x5c(&chain)});
    let ours = "com.example.ours";
    assert_eq!(verdict(&signer, &header, &claims, ours), Ok(()));
    let summary = json!({"notificationUUID": "n-1", "summary": {"bundleId": ours}});
    assert_eq!(verdict(&signer, &header, &summary, ours), Ok(()));
    // Another app's: of two places the first that is there counts.
    assert_eq!(verdict(&signer, &header, &claims, "com.example.theirs"), Err(Refusal::OtherReceiver));
    let both = json!({"data": {"bundleId": "com.example.theirs"}, "summary": {"bundleId": ours}});
    assert_eq!(verdict(&signer, &header, &both, ours), Err(Refusal::OtherReceiver));
    assert_eq!(verdict(&signer, &header, &json!({}), ours), Err(Refusal::OtherReceiver));
    // Signed with another key than that of the certificate; with certificates of somebody else; with none.
    assert_eq!(verdict(&Publisher::new(), &header, &claims, ours), Err(Refusal::WrongSignature));
    let other = chain_tests::chain();
    let forged = json!({"alg": "ES256", "x5c": chain_tests::x5c(&other)});
    assert_eq!(
        verdict(&Publisher::from_pkcs8(&other[2].key.serialize_der()), &forged, &claims, ours),
        Err(Refusal::UntrustedKey)
    );
    for header in [json!({"alg": "ES256"}), json!({"alg": "ES256", "x5c": []})] {
        assert_eq!(verdict(&signer, &header, &claims, ours), Err(Refusal::UntrustedKey));
    }
    assert_eq!(
        verdict(&signer, &json!({"alg": "HS256", "x5c": chain_tests::x5c(&chain)}), &claims, ours),
        Err(Refusal::WrongSignature)
    );
    assert_eq!(verdict(&signer, &json!({"alg": "ES256", "x5c": "MIIB"}), &claims, ours), Err(Refusal::MalformedSignature));
    let jwk = json!({"alg": "ES256", "jwk": {"kty": "EC", "crv": "P-256", "x": "", "y": ""}});
    assert!(verdict(&signer, &jwk, &claims, ours).is_err());
}

/// A value of any kind is there, and so is one that cannot be read.
#[test]
fn what_must_be_absent_refuses_whatever_stands_there() {
    let scheme = scheme(
        r#"
algorithm = "token"
signature = { at = "header:x-token" }
checks = [{ at = ["json:/items/1", "query:second"], absent = true }]
"#,
    );
    let ours = keyring("secret");
    let verdict = |query: &str, body: &str| {
        let mut webhook = request(&[("x-token", "secret")], body.as_bytes());
        webhook.raw_query = query.to_owned();
        scheme.verify(&webhook, &ours, None, NOW).map(drop)
    };
    for body in ["{}", r#"{"items":[]}"#, r#"{"items":[1]}"#, r#"{"items":["1"]}"#] {
        assert_eq!(verdict("", body), Ok(()), "{body}");
        assert_eq!(verdict("second=1", body), Err(Refusal::FailedCheck), "{body}");
    }
    for body in [r#"{"items":[1,2]}"#, r#"{"items":[1,{}]}"#, r#"{"items":[1,""]}"#, r#"{"items":{"1":[]}}"#, "not JSON", ""] {
        assert_eq!(verdict("", body), Err(Refusal::FailedCheck), "{body}");
    }
}

/// Only headers are joined by commas: whoever appends one to a form has changed what was signed of.
#[test]
fn a_signature_in_the_body_is_one_text() {
    let in_form = scheme(
        "algorithm = \"hmac-sha256\"\nsigned = \"{form:a}\"\nunsigned_body = true\nsignature = { at = \"form:s\", encoding = \"hex\" }",
    );
    let in_header =
        scheme("algorithm = \"hmac-sha256\"\nsigned = \"{body}\"\nsignature = { at = \"header:s\", encoding = \"hex\" }");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"secret");
    let signature = hex::encode(ring::hmac::sign(&key, b"1"));
    let keyring = keyring("secret");
    for (after, proves) in [("", true), (",", false), (",00", false)] {
        let form = request(&[], format!("a=1&s={signature}{after}").as_bytes());
        assert_eq!(in_form.verify(&form, &keyring, None, NOW).is_ok(), proves, "{after}");
        let header = request(&[("s", &format!("{signature}{after}"))], b"1");
        assert!(in_header.verify(&header, &keyring, None, NOW).is_ok(), "{after}");
    }
}
