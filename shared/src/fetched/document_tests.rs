//! Documents that their owner publishes, read through an HTTP client that has its answers ready.

use serde_json::json;

use super::{super::*, *};
use crate::fetched::transport::canned::Canned;

const NOW: Timestamp = Timestamp::from_seconds(1_780_000_000);
const SIGNER: &str = include_str!("../../testdata/keys/signer.pem");
const SIGNER_PKCS1: &str = include_str!("../../testdata/keys/signer-pkcs1.pem");
const P256: &str = include_str!("../../testdata/keys/p256.pem");
const P521: &str = include_str!("../../testdata/keys/p521.pem");
const CERTIFICATE: &str = include_str!("../../testdata/keys/paypal-certificate.pem");

fn origin(toml: &str) -> Result<KeyOrigin, String> {
    #[derive(Deserialize)]
    struct Scheme {
        fetched_key: KeyOrigin,
    }
    toml::from_str::<Scheme>(&format!("fetched_key = {toml}")).map(|scheme| scheme.fetched_key).map_err(|error| error.to_string())
}

fn wanted(form: &str, key_id: Option<&str>, algorithm: SignatureAlgorithm) -> WantedKey {
    let Ok(KeyOrigin::Document(document)) = origin(&format!("{{ {form} = \"https://keys.example.com/{form}\" }}")) else {
        panic!("{form}")
    };
    WantedKey(Wanted::Document(document.key(NamedKey { key_id: key_id.map(str::to_owned), algorithm })))
}

/// A key on P-256, as a JWK with this id.
fn jwk(key_id: &str) -> Value {
    // RFC 7515, appendix A.3.1.
    json!({"kty": "EC", "crv": "P-256", "kid": key_id, "alg": "ES256", "use": "sig",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"})
}

fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

fn set(jwks: &[Value]) -> String {
    json!({ "keys": jwks }).to_string()
}

fn es256(key_id: &str) -> WantedKey {
    wanted("jwks", Some(key_id), SignatureAlgorithm::EcdsaP256Sha256Fixed)
}

fn seconds(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

fn missing() -> Result<Arc<PublicKey>, FetchError> {
    Err(FetchError::Refused("its document has no such key".to_owned()))
}

#[test]
fn a_documents_url_is_a_host_by_name_over_tls() {
    let check = |url: &str| origin(&format!("{{ jwks = {url:?} }}"));
    for url in [
        "https://www.googleapis.com/oauth2/v3/certs",
        "https://login.microsoftonline.com/common/discovery/v2.0/keys?appid=1",
        "https://example.com",
        "https://example.com:8443/a%20b",
        "https://a.b-c.1d.example/x@y",
        "https://xn--bcher-kva.example/",
    ] {
        assert!(check(url).is_ok(), "{url} {:?}", check(url));
    }
    for (url, words) in [
        ("http://example.com/", "https://"),
        ("HTTPS://example.com/", "https://"),
        ("ftp://example.com/", "https://"),
        ("//example.com/", "https://"),
        ("", "https://"),
        ("https://", "name its host"),
        ("https:///keys", "name its host"),
        ("https://user@example.com/", "a user"),
        ("https://user:password@example.com/", "a user"),
        ("https://@example.com/", "a user"),
        ("https://example.com/#x", "a fragment"),
        ("https://example.com/a b", "a space"),
        ("https://example.com/\t", "a space"),
        ("https://example.com\\@evil.org/", "another character"),
        ("https://exämple.com/", "another character"),
        ("https://127.0.0.1/", "name its host"),
        ("https://169.254.169.254/latest", "name its host"),
        ("https://2130706433/", "name its host"),
        ("https://0x7f.0x0.0x0.0x1/", "name its host"),
        ("https://1.2.3.0x7f/", "name its host"),
        ("https://[::1]/", "port"),
        ("https://[fe80--1]/", "name its host"),
        ("https://localhost/", "name its host"),
        ("https://Example.com/", "name its host"),
        ("https://example.com./", "name its host"),
        ("https://.example.com/", "name its host"),
        ("https://example..com/", "name its host"),
        ("https://-a.example.com/", "name its host"),
        ("https://a_b.example.com/", "name its host"),
        ("https://ex%61mple.com/", "name its host"),
        ("https://example.com:/", "port"),
        ("https://example.com:0/", "port"),
        ("https://example.com:65536/", "port"),
        ("https://example.com:+80/", "port"),
        ("https://example.com:80:80/", "port"),
    ] {
        let error = check(url).unwrap_err();
        assert!(error.contains(words), "{url}: {error}");
    }
    let sized = |length: usize| format!("https://example.com/{}", "a".repeat(length - "https://example.com/".len()));
    assert!(check(&sized(DOCUMENT_URL_CHARS_MAX)).is_ok());
    assert!(check(&sized(DOCUMENT_URL_CHARS_MAX + 1)).is_err());
    let label = |length: usize| check(&format!("https://{}.example.com/", "a".repeat(length)));
    assert!(label(63).is_ok() && label(64).is_err());
}

#[test]
fn an_origin_is_one_document_or_a_provider() {
    for (written, words) in [
        ("\"google\"", "{ jwks = URL }"),
        ("{ jwk = \"https://example.com\" }", "{ jwks = URL }"),
        ("{}", "exactly one"),
        ("{ jwks = \"https://example.com\", pem = \"https://example.com\" }", "exactly one"),
        ("{ kid = \"header:x\" }", "exactly one"),
        ("{ jwks = \"https://example.com\", kid = \"nowhere\" }", "{ jwks = URL }"),
    ] {
        let error = origin(written).unwrap_err();
        assert!(error.contains(words), "{written}: {error}");
    }
    assert_eq!(origin("\"plaid\""), Ok(KeyOrigin::Plaid));
}

#[tokio::test]
async fn one_fetch_is_for_all_keys_of_a_document() {
    let canned = Canned::always(200, &set(&[jwk("a"), jwk("b")]));
    let keys = FetchedKeys::new(&canned.config());
    let key = keys.get(&es256("a"), None, NOW).await.unwrap();
    assert_eq!(canned.last(), "GET https://keys.example.com/jwks ");
    assert_eq!(keys.get(&es256("b"), None, seconds(1)).await, Ok(key));
    assert_eq!(keys.get(&es256("c"), None, seconds(1)).await, missing());
    assert_eq!(canned.count(), 1);
}

#[tokio::test]
async fn an_unknown_key_has_its_document_read_again_once_a_minute() {
    let canned = Canned::always(200, &set(&[jwk("a")]));
    let keys = FetchedKeys::new(&canned.config());
    keys.get(&es256("a"), None, NOW).await.unwrap();
    for number in 0..100 {
        assert_eq!(keys.get(&es256(&format!("forged-{number}")), None, seconds(MISSING_CACHE_SECONDS - 1)).await, missing());
    }
    assert_eq!(canned.count(), 1);
    // The owner has a new key.
    canned.answer(200, &set(&[jwk("a"), jwk("new")]));
    assert!(keys.get(&es256("new"), None, seconds(MISSING_CACHE_SECONDS)).await.is_ok());
    assert_eq!(canned.count(), 2);
    assert_eq!(keys.get(&es256("forged"), None, seconds(2 * MISSING_CACHE_SECONDS - 1)).await, missing());
    assert_eq!(canned.count(), 2);
    assert_eq!(keys.get(&es256("forged"), None, seconds(2 * MISSING_CACHE_SECONDS)).await, missing());
    assert_eq!(canned.count(), 3);
}

#[tokio::test]
async fn many_unknown_keys_at_once_have_it_read_once() {
    let canned = Canned::always(200, &set(&[jwk("a")]));
    let keys = FetchedKeys::new(&canned.config());
    keys.get(&es256("a"), None, NOW).await.unwrap();
    let forged: Vec<WantedKey> = (0..50).map(|number| es256(&format!("forged-{number}"))).collect();
    let later = seconds(MISSING_CACHE_SECONDS);
    let all = futures::future::join_all(forged.iter().map(|wanted| keys.get(wanted, None, later))).await;
    assert!(all.iter().all(Result::is_err));
    assert_eq!(canned.count(), 2);
}

#[tokio::test]
async fn a_document_counts_as_long_as_its_owner_says_within_bounds() {
    let default = DOCUMENT_CACHE_SECONDS_DEFAULT;
    for (headers, counts) in [
        (vec![], default),
        (vec![("cache-control", "private")], default),
        (vec![("cache-control", "public, max-age=21435, must-revalidate")], 21435),
        (vec![("cache-control", "max-age=21435"), ("age", "435")], 21000),
        (vec![("cache-control", "no-store")], DOCUMENT_CACHE_SECONDS_MIN),
        (vec![("cache-control", "max-age=299")], DOCUMENT_CACHE_SECONDS_MIN),
        (vec![("cache-control", "max-age=300")], DOCUMENT_CACHE_SECONDS_MIN),
        (vec![("cache-control", "max-age=301")], DOCUMENT_CACHE_SECONDS_MIN + 1),
        (vec![("cache-control", "max-age=86399")], DOCUMENT_CACHE_SECONDS_MAX - 1),
        (vec![("cache-control", "max-age=86400")], DOCUMENT_CACHE_SECONDS_MAX),
        (vec![("cache-control", "max-age=86401")], DOCUMENT_CACHE_SECONDS_MAX),
        (vec![("cache-control", "max-age=18446744073709551615")], DOCUMENT_CACHE_SECONDS_MAX),
    ] {
        let canned = Canned::always(200, &set(&[jwk("a")]));
        canned.headers(&headers);
        let keys = FetchedKeys::new(&canned.config());
        keys.get(&es256("a"), None, NOW).await.unwrap();
        // A key that was withdrawn still counts until then.
        canned.answer(200, &set(&[jwk("b")]));
        assert!(keys.get(&es256("a"), None, seconds(counts - 1)).await.is_ok(), "{headers:?}");
        assert_eq!(canned.count(), 1, "{headers:?}");
        assert_eq!(keys.get(&es256("a"), None, seconds(counts)).await, missing(), "{headers:?}");
        assert_eq!(canned.count(), 2, "{headers:?}");
    }
}

#[tokio::test]
async fn a_document_that_cannot_be_had_is_tried_again_after_a_minute() {
    for (status, body) in
        [(500, ""), (302, ""), (404, ""), (200, "<html>"), (200, "{}"), (200, "{\"keys\":[]}"), (200, "{\"keys\":{}}")]
    {
        let canned = Canned::always(status, body);
        let keys = FetchedKeys::new(&canned.config());
        let error = keys.get(&es256("a"), None, NOW).await.unwrap_err();
        assert_eq!(matches!(error, FetchError::Refused(_)), status == 404, "{status} {body} {error}");
        canned.answer(200, &set(&[jwk("a")]));
        assert_eq!(keys.get(&es256("b"), None, seconds(MISSING_CACHE_SECONDS - 1)).await, Err(error));
        assert_eq!(canned.count(), 1);
        assert!(keys.get(&es256("a"), None, seconds(MISSING_CACHE_SECONDS)).await.is_ok());
    }
}

#[tokio::test]
async fn what_is_known_stays_known_while_the_document_cannot_be_had() {
    let canned = Canned::always(200, &set(&[jwk("a")]));
    let keys = FetchedKeys::new(&canned.config());
    keys.get(&es256("a"), None, NOW).await.unwrap();
    canned.answer(503, "");
    // The new key may be there: its sender is asked to come again.
    for now in [seconds(MISSING_CACHE_SECONDS), seconds(2 * MISSING_CACHE_SECONDS - 1)] {
        assert!(matches!(keys.get(&es256("new"), None, now).await, Err(FetchError::Unavailable(_))));
        assert!(keys.get(&es256("a"), None, now).await.is_ok());
        assert_eq!(canned.count(), 2);
    }
    // Not beyond its time.
    assert!(keys.get(&es256("a"), None, seconds(DOCUMENT_CACHE_SECONDS_DEFAULT - 1)).await.is_ok());
    assert!(matches!(
        keys.get(&es256("a"), None, seconds(DOCUMENT_CACHE_SECONDS_DEFAULT)).await,
        Err(FetchError::Unavailable(_))
    ));
}

#[tokio::test]
async fn each_document_has_a_budget_of_its_own() {
    let canned = Canned::always(200, &set(&[jwk("a")]));
    let keys = FetchedKeys::new(&canned.config());
    {
        let mut state = keys.state.lock().await;
        let WantedKey(Wanted::Document(key)) = es256("a") else { unreachable!() };
        for _ in 0..FETCHES_PER_MINUTE_MAX {
            state.spend(Expense::Document(key.document.clone()), NOW).unwrap();
        }
    }
    assert_eq!(keys.get(&es256("a"), None, NOW).await, Err(FetchError::Budget));
    assert_eq!(canned.count(), 0);
    canned.answer(200, P256);
    assert!(keys.get(&wanted("pem", None, SignatureAlgorithm::EcdsaP256Sha256), None, NOW).await.is_ok());
    canned.answer(200, &set(&[jwk("a")]));
    assert!(keys.get(&es256("a"), None, seconds(60)).await.is_ok());
}

#[tokio::test]
async fn a_key_is_taken_for_what_it_is_published_for() {
    let hs256 = json!({"kty": "oct", "kid": "a", "k": "c2VjcmV0"});
    for (key, found) in [
        (jwk("a"), true),
        (with(jwk("a"), "alg", Value::Null), true),
        (with(jwk("a"), "key_ops", json!(["verify"])), true),
        (with(jwk("a"), "key_ops", json!(["encrypt"])), false),
        (with(jwk("a"), "key_ops", json!("verify")), false),
        (with(jwk("a"), "use", json!("enc")), false),
        (with(jwk("a"), "use", Value::Null), false),
        (with(jwk("a"), "alg", json!("ES384")), false),
        (with(jwk("a"), "alg", json!("HS256")), false),
        (with(jwk("a"), "alg", json!("es256")), false),
        (with(jwk("a"), "kid", json!("A")), false),
        (with(jwk("a"), "kid", json!(7)), false),
        (with(jwk("a"), "crv", json!("P-521")), false),
        (hs256, false),
        (json!("a"), false),
    ] {
        let canned = Canned::always(200, &set(&[jwk("other"), key.clone()]));
        let keys = FetchedKeys::new(&canned.config());
        assert_eq!(keys.get(&es256("a"), None, NOW).await.is_ok(), found, "{key}");
        // As it stands in the document, and for another algorithm.
        let rsa = wanted("jwks", Some("a"), SignatureAlgorithm::RsaSha256);
        assert_eq!(keys.get(&rsa, None, NOW).await, missing(), "{key}");
    }
}

/// RFC 7517, section 4.5: keys of different kinds may have one id.
#[tokio::test]
async fn of_keys_with_one_id_that_of_the_right_kind_is_taken() {
    let rsa = json!({"kty": "RSA", "kid": "a", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"});
    let keys = FetchedKeys::new(&Canned::always(200, &set(&[rsa, jwk("a")])).config());
    assert!(matches!(&*keys.get(&es256("a"), None, NOW).await.unwrap(), PublicKey::P256(_)));
    let rsa = wanted("jwks", Some("a"), SignatureAlgorithm::RsaSha256);
    assert!(matches!(&*keys.get(&rsa, None, NOW).await.unwrap(), PublicKey::Rsa(_)));
}

#[tokio::test]
async fn without_a_name_the_only_key_is_taken() {
    let unnamed = wanted("jwks", None, SignatureAlgorithm::EcdsaP256Sha256Fixed);
    let found = async |jwks: &[Value], wanted: &WantedKey| {
        FetchedKeys::new(&Canned::always(200, &set(jwks)).config()).get(wanted, None, NOW).await.is_ok()
    };
    assert!(found(&[jwk("a")], &unnamed).await);
    assert!(!found(&[jwk("a"), jwk("b")], &unnamed).await);
    let without_id = with(jwk("a"), "kid", Value::Null);
    assert!(found(std::slice::from_ref(&without_id), &es256("a")).await);
    assert!(!found(&[without_id.clone(), without_id], &es256("a")).await);
}

#[tokio::test]
async fn pem_texts_by_id_are_read() {
    let rsa = |key_id: &str| wanted("pem_map", Some(key_id), SignatureAlgorithm::RsaSha256);
    let document =
        json!({"certificate": CERTIFICATE, "key": SIGNER, "pkcs1": SIGNER_PKCS1, "p256": P256, "p521": P521, "other": 7});
    let canned = Canned::always(200, &document.to_string());
    let keys = FetchedKeys::new(&canned.config());
    let expected = PublicKey::from_pem(SIGNER).unwrap();
    for key_id in ["certificate", "key", "pkcs1"] {
        assert_eq!(*keys.get(&rsa(key_id), None, NOW).await.unwrap(), expected, "{key_id}");
    }
    for key_id in ["p256", "p521", "other", "Key", ""] {
        assert_eq!(keys.get(&rsa(key_id), None, NOW).await, missing(), "{key_id}");
    }
    assert_eq!(canned.count(), 1);
}

#[tokio::test]
async fn a_certificate_of_a_document_counts_within_its_period() {
    let rsa = wanted("pem_map", Some("a"), SignatureAlgorithm::RsaSha256);
    let utc = |text: &str| Timestamp::parse_rfc3339(text).unwrap();
    for (now, counts) in [
        ("2025-12-31T23:59:59Z", false),
        ("2026-01-01T00:00:00Z", true),
        ("2027-01-01T00:00:00Z", true),
        ("2027-01-01T00:00:01Z", false),
    ] {
        let keys = FetchedKeys::new(&Canned::always(200, &json!({ "a": CERTIFICATE }).to_string()).config());
        assert_eq!(keys.get(&rsa, None, utc(now)).await.is_ok(), counts, "{now}");
    }
    // Also while the document is remembered.
    let keys = FetchedKeys::new(&Canned::always(200, &json!({ "a": CERTIFICATE }).to_string()).config());
    assert!(keys.get(&rsa, None, utc("2027-01-01T00:00:00Z")).await.is_ok());
    assert_eq!(keys.get(&rsa, None, utc("2027-01-01T00:00:01Z")).await, missing());
}

#[tokio::test]
async fn one_key_is_read_as_pem_or_jwk_whatever_its_name() {
    for (body, algorithm) in [
        (SIGNER.to_owned(), SignatureAlgorithm::RsaSha256),
        (format!("\n{SIGNER_PKCS1}"), SignatureAlgorithm::RsaSha512),
        (CERTIFICATE.to_owned(), SignatureAlgorithm::RsaPssSha256),
        (P256.to_owned(), SignatureAlgorithm::EcdsaP256Sha1),
        (jwk("a").to_string(), SignatureAlgorithm::EcdsaP256Sha256),
    ] {
        for key_id in [None, Some("b")] {
            let keys = FetchedKeys::new(&Canned::always(200, &body).config());
            assert!(keys.get(&wanted("pem", key_id, algorithm), None, NOW).await.is_ok(), "{body}");
        }
    }
    for body in ["", "{}", "MFkw", "-----BEGIN PUBLIC KEY-----", P521, &set(&[jwk("a")])] {
        let keys = FetchedKeys::new(&Canned::always(200, body).config());
        let error = keys.get(&wanted("pem", None, SignatureAlgorithm::EcdsaP256Sha256), None, NOW).await.unwrap_err();
        assert!(matches!(error, FetchError::Unavailable(_)), "{body}: {error}");
    }
}
