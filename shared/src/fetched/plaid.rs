//! Plaid: the JSON Web Key that the token in the header `plaid-verification` names.
//!
//! Documentation: <https://plaid.com/docs/api/webhooks/webhook-verification/>.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    FetchError, Fetched, PLAID_CACHE_SECONDS,
    transport::{Answer, Request, Transport},
};
use crate::{
    location,
    secrets::Keyring,
    signatures::{
        Refusal, UnverifiedWebhook,
        jwt::{self, JwtAlgorithm},
        public_key::PublicKey,
    },
    time::Timestamp,
};

/// What Plaid answers, with status 400, to the id of a key that it does not have. Its other errors are about the credentials.
const NO_SUCH_KEY: &str = "INVALID_WEBHOOK_VERIFICATION_KEY_ID";
/// Longest error code that is repeated in an error of ours.
const ERROR_CODE_CHARS_MAX: usize = 64;

/// The id of a key: a UUID.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct KeyId(String);

/// An account's credentials. No `Debug`, which could show the secret.
pub(super) struct Account<'a> {
    environment: Environment,
    client_id: &'a str,
    secret: &'a str,
}

#[derive(Clone, Copy)]
enum Environment {
    Production,
    Sandbox,
}

impl KeyId {
    /// The one in the token's header.
    pub(super) fn named_by(webhook: &UnverifiedWebhook) -> Result<Self, Refusal> {
        let token = location::header(&webhook.headers, "plaid-verification").ok_or(Refusal::MissingSignature)?;
        let header = jwt::unverified_header(&token).ok_or(Refusal::MalformedSignature)?;
        let id = header.key_id.filter(|id| header.algorithm == JwtAlgorithm::ES256 && is_uuid(id));
        id.map(Self).ok_or(Refusal::UntrustedKey)
    }

    pub(super) async fn fetch(
        &self,
        transport: &Transport,
        account: &Account<'_>,
        now: Timestamp,
    ) -> Result<Fetched, FetchError> {
        let url = format!("{}/webhook_verification_key/get", account.environment.host());
        let question = json!({"client_id": account.client_id, "secret": account.secret, "key_id": self.0}).to_string();
        let answer = transport.fetch(Request::PostJson(&url, &question)).await?;
        let key = self.read(&answer)?;
        Ok(Fetched { key, until: now.plus(Duration::from_secs(PLAID_CACHE_SECONDS)) })
    }

    fn read(&self, answer: &Answer) -> Result<PublicKey, FetchError> {
        let unavailable = |what: &str| FetchError::Unavailable(format!("Plaid answered {} ({what})", answer.status));
        let body: Value = serde_json::from_slice(&answer.body).map_err(|_| unavailable("not in JSON"))?;
        if answer.status != 200 {
            let code = body.get("error_code").and_then(Value::as_str).filter(|code| is_error_code(code)).unwrap_or("no code");
            let refused = answer.status == 400 && code == NO_SUCH_KEY;
            return Err(if refused { FetchError::Refused("Plaid has no such key".to_owned()) } else { unavailable(code) });
        }
        let key = body.get("key").ok_or_else(|| unavailable("without a key"))?;
        if !key.get("expired_at").is_none_or(Value::is_null) {
            return Err(FetchError::Refused("Plaid has withdrawn it".to_owned()));
        }
        let says = |name: &str, value: &str| key.get(name).and_then(Value::as_str) == Some(value);
        let fits = says("kid", &self.0) && says("alg", "ES256") && says("use", "sig");
        PublicKey::from_jwk(key)
            .filter(|key| fits && matches!(key, PublicKey::P256(_)))
            .ok_or_else(|| unavailable("another kind of key"))
    }
}

impl<'a> Account<'a> {
    /// Those of the newest valid key.
    pub(super) fn of(credentials: Option<&'a Keyring>, now: Timestamp) -> Result<Self, FetchError> {
        let missing = "the keyring must hold Plaid's credentials, as CLIENT_ID:SECRET or sandbox:CLIENT_ID:SECRET";
        credentials
            .and_then(|keyring| keyring.valid_at(now).next())
            .and_then(|key| Self::parse(key.secret.expose()))
            .ok_or_else(|| FetchError::Unavailable(missing.to_owned()))
    }

    /// The account's name, without its secret.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.environment.host(), self.client_id)
    }

    fn parse(text: &'a str) -> Option<Self> {
        let (environment, rest) = match text.strip_prefix("sandbox:") {
            Some(rest) => (Environment::Sandbox, rest),
            None => (Environment::Production, text),
        };
        let (client_id, secret) = rest.split_once(':')?;
        (!client_id.is_empty() && !secret.is_empty()).then_some(Self { environment, client_id, secret })
    }
}

impl Environment {
    const fn host(self) -> &'static str {
        match self {
            Self::Production => "https://production.plaid.com",
            Self::Sandbox => "https://sandbox.plaid.com",
        }
    }
}

/// As `bfbd5111-8e33-4643-8ced-b2e642a72f3c`.
fn is_uuid(text: &str) -> bool {
    let hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && text.split('-').all(hex)
}

fn is_error_code(text: &str) -> bool {
    text.len() <= ERROR_CODE_CHARS_MAX && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
    use http::Method;
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
    };

    use super::*;
    use crate::{
        fetched::{FetchedKeys, KeyOrigin, WantedKey, transport::canned::Canned},
        location::Places,
    };

    const NOW: Timestamp = Timestamp::from_seconds(1_780_000_000);
    const ID: &str = "bfbd5111-8e33-4643-8ced-b2e642a72f3c";

    struct Plaid {
        pair: EcdsaKeyPair,
        random: SystemRandom,
    }

    impl Plaid {
        fn new() -> Self {
            let random = SystemRandom::new();
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
            Self { pair, random }
        }

        fn answer(&self) -> Value {
            let point = self.pair.public_key().as_ref();
            let (x, y) = (BASE64URL.encode(&point[1..33]), BASE64URL.encode(&point[33..]));
            json!({"key": {"alg": "ES256", "created_at": 1_560_466_143, "crv": "P-256", "expired_at": null, "kid": ID,
                "kty": "EC", "use": "sig", "x": x, "y": y}, "request_id": "RZ6Omi1bzzwDaLo"})
        }

        fn token(&self, header: &Value) -> String {
            let content = format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(r#"{"iat":1}"#));
            let signature = self.pair.sign(&self.random, content.as_bytes()).unwrap();
            format!("{content}.{}", BASE64URL.encode(signature.as_ref()))
        }
    }

    fn webhook(token: &str) -> UnverifiedWebhook {
        let headers = [("Plaid-Verification".to_owned(), token.to_owned())];
        UnverifiedWebhook::new(Method::POST, "https://h/", &headers, Vec::new())
    }

    fn wanted() -> WantedKey {
        let token = Plaid::new().token(&json!({"alg": "ES256", "kid": ID}));
        KeyOrigin::Plaid.wanted(&Places::new(&webhook(&token)), |_| Err(Refusal::UntrustedKey)).unwrap()
    }

    fn credentials(text: &str) -> Keyring {
        Keyring::parse(text).unwrap()
    }

    #[test]
    fn only_keys_of_plaids_form_are_wanted() {
        let plaid = Plaid::new();
        let check = |header: Value| KeyId::named_by(&webhook(&plaid.token(&header)));
        assert_eq!(check(json!({"alg": "ES256", "kid": ID, "typ": "JWT"})), Ok(KeyId(ID.to_owned())));
        for header in [
            json!({"alg": "ES256"}),
            json!({"alg": "HS256", "kid": ID}),
            json!({"alg": "PS256", "kid": ID}),
            json!({"alg": "ES256", "kid": ""}),
            json!({"alg": "ES256", "kid": format!("{ID} ")}),
            json!({"alg": "ES256", "kid": ID.to_uppercase()}),
            json!({"alg": "ES256", "kid": ID.replace('-', "")}),
            json!({"alg": "ES256", "kid": ID.replace('f', "g")}),
            json!({"alg": "ES256", "kid": format!("{ID}-")}),
            json!({"alg": "ES256", "kid": &ID[1..]}),
        ] {
            assert_eq!(check(header.clone()), Err(Refusal::UntrustedKey), "{header}");
        }
        for header in [json!({"alg": "none", "kid": ID}), json!({"kid": ID}), json!({"alg": "ES256", "kid": 7}), json!([])] {
            assert_eq!(check(header.clone()), Err(Refusal::MalformedSignature), "{header}");
        }
        assert_eq!(KeyId::named_by(&webhook("nonsense")), Err(Refusal::MalformedSignature));
        let without = UnverifiedWebhook::new(Method::POST, "https://h/", &[], Vec::new());
        assert_eq!(KeyId::named_by(&without), Err(Refusal::MissingSignature));
    }

    #[tokio::test]
    async fn a_token_is_verified_with_the_key_that_it_names() {
        let plaid = Plaid::new();
        let canned = Canned::always(200, &plaid.answer().to_string());
        let keys = FetchedKeys::new(&canned.config());
        let token = plaid.token(&json!({"alg": "ES256", "kid": ID}));
        let wanted = KeyOrigin::Plaid.wanted(&Places::new(&webhook(&token)), |_| Err(Refusal::UntrustedKey)).unwrap();
        let key = keys.get(&wanted, Some(&credentials("client:hush:hush")), NOW).await.unwrap();
        assert!(jwt::verify(&token, &[JwtAlgorithm::ES256], jwt::JwtKey::Public(&key)).is_some());
        let question = format!(r#"{{"client_id":"client","key_id":"{ID}","secret":"hush:hush"}}"#);
        assert_eq!(canned.last(), format!("POST https://production.plaid.com/webhook_verification_key/get {question}"));

        let hour = NOW.plus(Duration::from_secs(PLAID_CACHE_SECONDS));
        let before = hour.minus(Duration::from_millis(1));
        assert_eq!(keys.get(&wanted, Some(&credentials("client:new")), before).await, Ok(key));
        assert_eq!(canned.count(), 1);
        assert!(keys.get(&wanted, Some(&credentials("client:new")), hour).await.is_ok());
        assert_eq!(canned.count(), 2);
        assert!(canned.last().contains(r#""secret":"new""#));
    }

    #[tokio::test]
    async fn accounts_and_environments_do_not_share_keys() {
        let canned = Canned::always(200, &Plaid::new().answer().to_string());
        let keys = FetchedKeys::new(&canned.config());
        for (number, text) in [(1, "client:a"), (2, "sandbox:client:a"), (3, "other:a"), (3, "client:b")] {
            assert!(keys.get(&wanted(), Some(&credentials(text)), NOW).await.is_ok());
            assert_eq!(canned.count(), number, "{text}");
        }
        keys.get(&wanted(), Some(&credentials("sandbox:client2:a")), NOW).await.unwrap();
        assert!(
            canned.last().starts_with("POST https://sandbox.plaid.com/webhook_verification_key/get {\"client_id\":\"client2\"")
        );
    }

    #[tokio::test]
    async fn without_credentials_nothing_is_asked() {
        let canned = Canned::always(200, &Plaid::new().answer().to_string());
        let keys = FetchedKeys::new(&canned.config());
        let expired = r#"{"keys":[{"id":"a","secret":"client:a","notAfter":"2023-11-14T22:13:20Z"}]}"#;
        for keyring in [None, Some("client"), Some(":a"), Some("client:"), Some("sandbox:client"), Some(expired)] {
            let keyring = keyring.map(credentials);
            let key = keys.get(&wanted(), keyring.as_ref(), NOW).await;
            assert!(matches!(key, Err(FetchError::Unavailable(_))), "{keyring:?} {key:?}");
        }
        assert_eq!(canned.count(), 0);
    }

    #[tokio::test]
    async fn what_plaid_does_not_vouch_for_is_no_key() {
        let changed = |name: &str, value: Value| {
            let mut answer = Plaid::new().answer();
            answer["key"][name] = value;
            answer.to_string()
        };
        let error = |code: &str| json!({"error_type": "INVALID_INPUT", "error_code": code}).to_string();
        for (status, body, refused) in [
            (200, changed("expired_at", json!(1_790_000_000)), true),
            (200, changed("expired_at", json!("")), true),
            (400, error(NO_SUCH_KEY), true),
            (400, error("INVALID_API_KEYS"), false),
            (401, error(NO_SUCH_KEY), false),
            (400, error("hush <script>"), false),
            (400, "[]".to_owned(), false),
            (404, "not found".to_owned(), false),
            (429, error("RATE_LIMIT"), false),
            (500, String::new(), false),
            (302, String::new(), false),
            (200, "{}".to_owned(), false),
            (200, String::new(), false),
            (200, changed("kid", json!("6c5516e1-92dc-479e-a8ff-5a51992e0001")), false),
            (200, changed("kid", Value::Null), false),
            (200, changed("alg", json!("HS256")), false),
            (200, changed("use", json!("enc")), false),
            (200, changed("crv", json!("P-384")), false),
            (200, changed("x", json!("AAAA")), false),
            (200, changed("kty", json!("OKP")), false),
        ] {
            let keys = FetchedKeys::new(&Canned::always(status, &body).config());
            let error = keys.get(&wanted(), Some(&credentials("client:topsecret")), NOW).await.unwrap_err();
            assert_eq!(matches!(error, FetchError::Refused(_)), refused, "{status} {body}: {error:?}");
            assert_eq!(matches!(error, FetchError::Unavailable(_)), !refused, "{status} {body}: {error:?}");
            assert!(!error.to_string().contains("topsecret") && !error.to_string().contains("script"), "{error}");
        }
    }

    #[tokio::test]
    async fn no_debug_shows_the_secret() {
        let keys = FetchedKeys::new(&Canned::always(200, &Plaid::new().answer().to_string()).config());
        keys.get(&wanted(), Some(&credentials("client:topsecret")), NOW).await.unwrap();
        let shown = format!("{:?} {:?}", keys.state, wanted());
        assert!(shown.contains("client") && !shown.contains("topsecret"), "{shown}");
    }
}
