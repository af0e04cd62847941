//! Nothing that somebody sends or writes makes verification panic.

use http::{HeaderMap, HeaderValue, Method};
use proptest::{collection::vec, prelude::*, sample::select};
use shared::{
    config::Gateway,
    location::{Location, Places},
    secrets::Keyring,
    signatures::{
        Scheme, Template, TimestampFormat, UnverifiedWebhook,
        jwt::{self, JwtAlgorithm, JwtKey},
        preset::Preset,
        public_key::{PublicKey, SignatureAlgorithm},
    },
    time::Timestamp,
};

use crate::{
    for_every_way,
    key::key,
    way::{WAYS, Way},
};

/// Words of schemes, requests and configurations, between which anything may stand.
const WORDS: [&str; 64] = [
    "{",
    "}",
    "{{",
    "}}",
    "[",
    "]",
    "[[",
    "]]",
    "|",
    ":",
    "/",
    "*",
    "~",
    ".",
    ",",
    ";",
    "=",
    "&",
    "%",
    "+",
    "'",
    "\"",
    "\\",
    "\n",
    " ",
    "-",
    "0",
    "1",
    "9",
    "e",
    "T",
    "Z",
    "t=",
    "v1=",
    "v1,",
    "sha256=",
    "header:",
    "query:",
    "form:",
    "json:/",
    "signature:",
    "claim:/",
    "body",
    "timestamp",
    "form-sorted",
    "query-sorted",
    "aws-sns",
    "header-pairs",
    "hmac-sha256",
    "crc32",
    "hex",
    "base64",
    "eyJhbGciOiJIUzI1NiJ9",
    "eyJ9",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "1700000000",
    "2026-11-22",
    "06:24:35",
    "%zz",
    "%F",
    "é",
    "\u{0}",
];

fn words() -> impl Strategy<Value = String> {
    let word = prop_oneof![4 => select(&WORDS[..]).prop_map(str::to_owned), 1 => any::<String>()];
    vec(word, 0..12).prop_map(|words| words.concat())
}

/// A request that nobody in particular has sent, with something in each header of a scheme.
fn request(way: &Way, texts: &[String], body: &[u8]) -> UnverifiedWebhook {
    let alternative = way.alternative();
    let timestamp = alternative.timestamp.iter().flat_map(|spec| spec.at.iter());
    let in_when = alternative.when.iter().map(|when| &when.at);
    let headers = alternative.signature.at.iter().chain(timestamp).chain(&alternative.id).chain(in_when);
    let headers = headers.filter_map(|place| match place {
        Location::Header(name) => Some(name.clone()),
        _ => None,
    });
    let mut texts = texts.iter().cycle();
    let mut text = move || texts.next().cloned().unwrap_or_default();
    let mut map = HeaderMap::new();
    for name in headers {
        // What HTTP does not allow does not come.
        if let Ok(value) = HeaderValue::from_bytes(text().as_bytes()) {
            map.append(name, value);
        }
    }
    UnverifiedWebhook {
        method: Method::POST,
        url: text(),
        headers: map,
        raw_query: text(),
        registered_query: None,
        body: body.to_vec(),
    }
}

#[test]
fn no_request_makes_a_scheme_panic() {
    let body = prop_oneof![
        words().prop_map(String::into_bytes),
        vec(any::<u8>(), 0..64),
        words().prop_map(|word| serde_json::json!({"signature": {"timestamp": word}, "Type": word, "time_ms": word})
            .to_string()
            .into()),
    ];
    for_every_way(&(vec(words(), 1..6), body, key(), any::<u64>()), |way, (texts, body, key, now)| {
        let webhook = request(way, &texts, &body);
        let (keyring, fetched, now) = (key.keyring(way), key.fetched(way), Timestamp::from_millis(now));
        let verdict = way.scheme.verify(&webhook, &keyring, fetched.as_ref(), now).map(|verified| verified.key_id().to_owned());
        prop_assert!(verdict.is_err());
        prop_assert_eq!(way.scheme.examine(&webhook, &keyring, fetched.as_ref(), now).verdict, verdict);
        let _ = way.scheme.wanted_key(&Places::new(&webhook), &keyring, now);
        let mut signed = webhook.clone();
        if way.scheme.sign(&mut signed, &keyring, now).is_ok() {
            let _ = way.scheme.verify(&signed, &keyring, None, now);
        }
        Ok(())
    });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_template_or_place_makes_the_configuration_panic(text in words()) {
        let _ = Template::try_from(text.clone());
        if let Ok(place) = Location::try_from(text.clone()) {
            prop_assert_eq!(Location::try_from(place.to_string()), Ok(place.clone()));
            let webhook = UnverifiedWebhook::new(Method::POST, &format!("https://h/?{text}"), &[], text.into_bytes());
            let _ = Places::new(&webhook).find(&place);
        }
    }

    #[test]
    fn a_timestamp_reads_back_what_it_wrote(text in words(), millis in any::<u64>()) {
        let moment = Timestamp::from_millis(millis);
        for format in [TimestampFormat::Seconds, TimestampFormat::Milliseconds, TimestampFormat::Rfc3339] {
            if let Some(read) = format.read(&text) {
                prop_assert_eq!(format.read(&format.write(read)).map(Timestamp::seconds), Some(read.seconds()));
            }
            let written = format.read(&format.write(moment)).map(Timestamp::seconds);
            prop_assert!(written == Some(moment.seconds()) || format == TimestampFormat::Rfc3339);
        }
    }

    #[test]
    fn only_what_is_signed_is_a_token(text in words(), secret in vec(any::<u8>(), 1..40), at in any::<usize>(), bit in 0_u8..8) {
        let allowed = [JwtAlgorithm::HS256, JwtAlgorithm::HS384, JwtAlgorithm::HS512, JwtAlgorithm::EdDSA];
        let _ = jwt::unverified_header(&text);
        prop_assert_eq!(jwt::verify(&text, &allowed, JwtKey::Secret(&secret)), None);
        let claims = serde_json::json!({ "text": text });
        let token = jwt::sign(JwtAlgorithm::HS256, &claims, &secret).unwrap();
        let verified = jwt::verify(&token, &allowed, JwtKey::Secret(&secret)).unwrap();
        prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(verified.bytes()).unwrap(), claims);
        if let Ok(changed) = String::from_utf8(crate::key::flipped(token.as_bytes(), at, bit)) {
            prop_assert_eq!(jwt::verify(&changed, &allowed, JwtKey::Secret(&secret)), None);
        }
    }

    #[test]
    fn no_key_makes_verification_panic(text in words(), bytes in vec(any::<u8>(), 0..100)) {
        for algorithm in [
            SignatureAlgorithm::Ed25519, SignatureAlgorithm::EcdsaP256Sha1, SignatureAlgorithm::EcdsaP256Sha256,
            SignatureAlgorithm::EcdsaP256Sha512, SignatureAlgorithm::EcdsaP384Sha384, SignatureAlgorithm::RsaSha1,
            SignatureAlgorithm::RsaSha256, SignatureAlgorithm::RsaSha512, SignatureAlgorithm::RsaPssSha256,
        ] {
            for text in [text.clone(), format!("-----BEGIN PUBLIC KEY-----{text}-----END PUBLIC KEY-----")] {
                if let Some(key) = PublicKey::parse(algorithm, &text, Some(&bytes)) {
                    prop_assert!(!key.verify(algorithm, b"message", &bytes));
                }
            }
        }
    }

    #[test]
    fn a_keyring_or_a_configuration_is_read_or_refused(text in words()) {
        if let Ok(keyring) = Keyring::parse(&text) {
            prop_assert!(keyring.keys().iter().all(|key| !key.secret.expose().is_empty()));
        }
        let _ = Gateway::parse(&text, "gateway.toml");
    }

    /// The presets with something cut out, put in or put elsewhere: what can still be read either says what is impossible about it
    /// or is used.
    #[test]
    fn no_scheme_makes_the_configuration_panic(
        preset in any::<usize>(), edits in vec((any::<usize>(), 0_usize..12, words()), 0..4), way in any::<usize>(), text in words()
    ) {
        let names: Vec<&str> = Preset::names().collect();
        let mut written: Vec<char> = Preset::text(names[preset % names.len()]).unwrap().chars().collect();
        for (at, cut, put) in edits {
            let at = at % written.len().max(1);
            let end = (at + cut).min(written.len());
            written.splice(at..end, put.chars());
        }
        let written: String = written.into_iter().collect();
        let Ok(read) = toml::from_str::<Preset>(&written) else { return Ok(()) };
        let scheme: Scheme = read.scheme;
        if scheme.check().is_ok() {
            let webhook = request(&WAYS[way % WAYS.len()], std::slice::from_ref(&text), text.as_bytes());
            let keyring = Keyring::parse("id:secret").unwrap();
            prop_assert!(scheme.verify(&webhook, &keyring, None, Timestamp::from_seconds(1_700_000_000)).is_err());
        }
    }
}
