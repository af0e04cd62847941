//! Signing secrets: a keyring of them in one Secrets Manager secret, cached by each function's environment.
//!
//! A keyring is JSON, `{"keys":[{"id":"…","secret":"…","notAfter":"2026-11-22T06:24:35Z"}]}`, newest key first; a key without
//! `notAfter` is valid until a rotation gives it one. A secret that is no JSON object is a keyring of one key with the id
//! `initial`, so that a provider's secret can be pasted as it is. White space around a secret is no part of it, in either form. `{"keys":[],"enrolUntil":"…"}` opens enrolment: until then,
//! one secret that a provider's handshake brings is added to the keys.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::get_secret_value::GetSecretValueError,
};
use aws_smithy_runtime_api::http::Response;
use metrics::counter;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;

use crate::{aws, time::Timestamp};

/// How long a keyring is used before it is read again.
pub const KEYRING_CACHE_SECONDS: u64 = 300;
/// How long after one reading again, because a signature failed, the next may be made. It bounds what forged webhooks can cost.
pub const KEYRING_REREAD_SECONDS: u64 = 60;
/// How long a keyring that could not be read is not asked for again: while an outage leaves the old one in use, and where there is none.
pub const KEYRING_OUTAGE_SECONDS: u64 = 10;
/// How old a keyring may become in an outage of Secrets Manager. A key that got out may have been taken out of it meanwhile.
pub const KEYRING_STALE_SECONDS_MAX: u64 = 60 * 60;
/// Most keys in one keyring: each is tried on each webhook.
pub const KEYS_MAX: usize = 10;
/// Longest time that enrolment may be open, in seconds: who comes first while it is open is trusted.
pub const ENROLMENT_SECONDS_MAX: u64 = 60 * 60;
/// How old a keyring may be that is asked whether enrolment is open, in seconds: the operator has just opened it.
pub const ENROLMENT_CACHE_SECONDS: u64 = 5;
/// The id of the key in a secret that is plain text.
pub const INITIAL_KEY_ID: &str = "initial";

const _: () = assert!(KEYRING_REREAD_SECONDS < KEYRING_CACHE_SECONDS && KEYRING_CACHE_SECONDS < KEYRING_STALE_SECONDS_MAX);

/// Something that must not be seen: readable only through [`Secret::expose`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret without white space and byte order marks around it. An editor, a shell or a web page puts them there, and no
    /// provider has them in its secrets.
    fn trimmed(&self) -> Self {
        Self::new(trimmed(&self.0))
    }

    /// The secret itself. Never for a log, a metric, an error or a queue.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[REDACTED]")
    }
}

/// One signing key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Key {
    /// Its name in events and logs.
    pub id: String,
    /// The secret, encoded as the source's scheme says.
    pub secret: Secret,
    /// RFC 3339; from then on the key proves nothing. `None`: until a rotation sets it.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339")]
    pub not_after: Option<Timestamp>,
}

/// The keys of one source or destination, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Keyring {
    keys: Vec<Key>,
    #[serde(skip_serializing_if = "Option::is_none", with = "rfc3339")]
    enrol_until: Option<Timestamp>,
}

/// Why a secret's text is no keyring. Never shows the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// No text, or no key.
    #[error("the secret has no key; put the provider's signing secret into it")]
    Empty,
    /// An empty key would verify what anybody signed with nothing.
    #[error("the secret of the key `{0}` is empty, or white space alone")]
    EmptyKey(String),
    /// Too many keys.
    #[error("the keyring has more than {KEYS_MAX} keys")]
    TooMany,
    /// No refresh token where there should be one.
    #[error(r#"the secret is not of the form {{"clientSecret":"…","refreshToken":"…"}}"#)]
    NoRefreshToken,
    /// Starts like JSON, but is no keyring.
    #[error(r#"the secret is JSON but not of the form {{"keys":[{{"id","secret","notAfter"}}]}} (line {line}, column {column})"#)]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
}

impl Keyring {
    /// Parses a secret's text.
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "camelCase")]
        struct Stored {
            keys: Vec<Key>,
            #[serde(default, with = "rfc3339")]
            enrol_until: Option<Timestamp>,
        }
        let text = trimmed(text);
        if !text.starts_with('{') {
            return Self::new(vec![Key { id: INITIAL_KEY_ID.to_owned(), secret: Secret::new(text), not_after: None }]);
        }
        // serde's own message could quote the secret.
        let stored: Stored =
            serde_json::from_str(text).map_err(|error| KeyringError::Malformed { line: error.line(), column: error.column() })?;
        match stored.enrol_until {
            Some(_) if stored.keys.is_empty() => Ok(Self { keys: Vec::new(), enrol_until: stored.enrol_until }),
            enrol_until => Ok(Self { enrol_until, ..Self::new(stored.keys)? }),
        }
    }

    /// A keyring of these keys, newest first. White space around their secrets is no part of them.
    pub fn new(keys: Vec<Key>) -> Result<Self, KeyringError> {
        let keys: Vec<Key> = keys.into_iter().map(|key| Key { secret: key.secret.trimmed(), ..key }).collect();
        if keys.is_empty() || (keys.len() == 1 && keys[0].id == INITIAL_KEY_ID && keys[0].secret.expose().is_empty()) {
            return Err(KeyringError::Empty);
        }
        if keys.len() > KEYS_MAX {
            return Err(KeyringError::TooMany);
        }
        match keys.iter().find(|key| key.secret.expose().is_empty()) {
            Some(key) => Err(KeyringError::EmptyKey(key.id.clone())),
            None => Ok(Self { keys, enrol_until: None }),
        }
    }

    fn is_enrolling(&self, now: Timestamp) -> bool {
        let longest = Duration::from_secs(ENROLMENT_SECONDS_MAX);
        self.enrol_until.is_some_and(|until| now < until && until.since(now) <= longest)
    }

    /// The keyring with a secret that a handshake has brought, and enrolment closed. `None` if it is not open at `now`, or is
    /// open for longer than [`ENROLMENT_SECONDS_MAX`].
    pub fn enrolled(&self, secret: Secret, now: Timestamp) -> Option<Result<Self, KeyringError>> {
        if !self.is_enrolling(now) {
            return None;
        }
        let new = Key { id: format!("enrolled-{}", now.seconds()), secret, not_after: None };
        Some(Self::new(std::iter::once(new).chain(self.valid_at(now).cloned()).collect()))
    }

    /// All keys, newest first, whatever their expiry.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The keys that are valid at `now`, newest first.
    pub fn valid_at(&self, now: Timestamp) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(move |key| key.not_after.is_none_or(|not_after| now < not_after))
    }

    /// The text to store. It exposes the secrets, for Secrets Manager alone.
    pub fn expose(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What a destination's refresh token lives in: `{"clientSecret":"…","refreshToken":"…"}`, by the operator at first. Whoever
/// exchanges the refresh token for a new one writes that down, and what came with it, so that no other worker has to ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RefreshGrant {
    /// The client secret; a public client has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// Good for one exchange, or for many: the provider's choice.
    pub refresh_token: Secret,
    /// The access token that came with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<Secret>,
    /// From then on the access token is not used.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339")]
    pub access_token_until: Option<Timestamp>,
}

impl RefreshGrant {
    /// Parses a secret's text.
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        // serde's own message could quote the secret.
        let grant: Self = serde_json::from_str(text).map_err(|_| KeyringError::NoRefreshToken)?;
        match grant.refresh_token.expose().is_empty() {
            true => Err(KeyringError::NoRefreshToken),
            false => Ok(grant),
        }
    }
}

/// A keyring that cannot be had: an outage or a mistake of ours, so the answer is 503 and the sender sends again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SecretsError {
    /// Secrets Manager did not give it.
    #[error("cannot read the secret {secret}: {reason}")]
    Unreadable {
        /// Its full name.
        secret: String,
        /// What the SDK said.
        reason: String,
        /// Whether it was no answer about this secret: the next try may have one.
        is_outage: bool,
    },
    /// Secrets Manager did not take it.
    #[error("cannot write the secret {secret}: {reason}")]
    Unwritable {
        /// Its full name.
        secret: String,
        /// What the SDK said.
        reason: String,
    },
    /// It is there but is no keyring.
    #[error("the secret {secret} cannot be used: {reason}")]
    Unusable {
        /// Its full name.
        secret: String,
        /// What is wrong, without the secret.
        reason: KeyringError,
    },
}

/// The keyrings of this environment, read when they are first needed.
#[derive(Debug)]
pub struct Keyrings {
    client: Client,
    prefix: String,
    cache: Mutex<HashMap<String, Known>>,
}

fn trimmed(text: &str) -> &str {
    text.trim_matches(|character: char| character.is_whitespace() || character == '\u{feff}')
}

/// Compares in a time that depends on the lengths alone.
fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// What became of a secret that a handshake brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrolment {
    /// It is a key of the keyring now, or was one already.
    Enrolled,
    /// The operator has not opened enrolment.
    Closed,
}

/// What an environment knows of a secret.
#[derive(Debug, Clone)]
enum Known {
    Keyring(Cached),
    /// It could not be read, and there is no keyring that may be used instead.
    Unreadable {
        error: SecretsError,
        until: Timestamp,
    },
}

#[derive(Debug, Clone)]
struct Cached {
    keyring: Arc<Keyring>,
    read_at: Timestamp,
    /// When it is to be read again.
    fresh_until: Timestamp,
    /// When a failed signature may next cause a reading.
    reread_from: Timestamp,
}

impl Keyrings {
    /// Keyrings under `prefix`, as `posthouse-prod/`.
    pub fn new(config: &SdkConfig, prefix: String) -> Self {
        Self { client: Client::new(config), prefix, cache: Mutex::new(HashMap::new()) }
    }

    /// The keyring `name`, at most [`KEYRING_CACHE_SECONDS`] old; older only in an outage of Secrets Manager, and then at most
    /// [`KEYRING_STALE_SECONDS_MAX`]. One that is malformed, empty, deleted or refused to us is an error from the next reading on: so a
    /// key is revoked however that is done, and by a mistake as well.
    pub async fn current(&self, name: &str, now: Timestamp) -> Result<Arc<Keyring>, SecretsError> {
        let known = self.cache.lock().await.get(name).cloned();
        match known {
            Some(Known::Keyring(cached)) if now < cached.fresh_until => Ok(cached.keyring),
            Some(Known::Keyring(cached)) => self.refresh(name, Some(cached), now).await,
            Some(Known::Unreadable { error, until }) if now < until => Err(error),
            Some(Known::Unreadable { .. }) | None => self.refresh(name, None, now).await,
        }
    }

    /// Reads the keyring again because a signature failed: a rotation may just have added a key. `None` if it was read again
    /// for that reason less than [`KEYRING_REREAD_SECONDS`] ago, or has not changed.
    pub async fn after_refusal(&self, name: &str, now: Timestamp) -> Result<Option<Arc<Keyring>>, SecretsError> {
        let known = {
            let mut cache = self.cache.lock().await;
            let Some(Known::Keyring(known)) = cache.get_mut(name) else { return Ok(None) };
            if now < known.reread_from {
                return Ok(None);
            }
            known.reread_from = now.plus(Duration::from_secs(KEYRING_REREAD_SECONDS));
            known.clone()
        };
        let before = known.keyring.clone();
        let after = self.refresh(name, Some(known), now).await?;
        Ok((after != before).then_some(after))
    }

    /// Adds a secret that a handshake has brought to the keyring `name`, if its operator has opened enrolment.
    pub async fn enrol(&self, name: &str, secret: Secret, now: Timestamp) -> Result<Enrolment, SecretsError> {
        // As it reads back.
        let secret = secret.trimmed();
        let known = self.cache.lock().await.get(name).cloned();
        let recent = Duration::from_secs(ENROLMENT_CACHE_SECONDS);
        let is_there = |keyring: &Keyring| keyring.valid_at(now).any(|key| same(key.secret.expose(), secret.expose()));
        // That it is closed may be known from a moment ago; that it is open is read now, since it is for one secret.
        if let Some(Known::Keyring(cached)) = known
            && now.since(cached.read_at) < recent
        {
            if is_there(&cached.keyring) {
                return Ok(Enrolment::Enrolled);
            }
            if !cached.keyring.is_enrolling(now) {
                return Ok(Enrolment::Closed);
            }
        }
        let keyring = Arc::new(self.read(name).await?);
        self.remember(name, Cached::read_at(now, keyring.clone(), now)).await;
        if is_there(&keyring) {
            return Ok(Enrolment::Enrolled);
        }
        let Some(enrolled) = keyring.enrolled(secret, now) else { return Ok(Enrolment::Closed) };
        let enrolled = enrolled.map_err(|reason| SecretsError::Unusable { secret: self.full_name(name), reason })?;
        self.write(name, enrolled.expose()).await?;
        self.remember(name, Cached::read_at(now, Arc::new(enrolled), now)).await;
        Ok(Enrolment::Enrolled)
    }

    async fn refresh(&self, name: &str, known: Option<Cached>, now: Timestamp) -> Result<Arc<Keyring>, SecretsError> {
        let asked_again = now.plus(Duration::from_secs(KEYRING_OUTAGE_SECONDS));
        let reread_from = known.as_ref().map_or(now, |known| known.reread_from);
        let may_be_kept = |known: &Cached| now.since(known.read_at) <= Duration::from_secs(KEYRING_STALE_SECONDS_MAX);
        let next = match (self.read(name).await, known.filter(may_be_kept)) {
            (Ok(keyring), _) => Cached::read_at(now, Arc::new(keyring), reread_from),
            (Err(error @ SecretsError::Unreadable { is_outage: true, .. }), Some(known)) => {
                counter!("StaleKeyrings").increment(1);
                tracing::warn!(error = %error, age_seconds = now.since(known.read_at).as_secs(), "keeping the stale keyring");
                Cached { fresh_until: asked_again, ..known }
            }
            (Err(error), _) => {
                let unreadable = Known::Unreadable { error: error.clone(), until: asked_again };
                self.cache.lock().await.insert(name.to_owned(), unreadable);
                return Err(error);
            }
        };
        let keyring = next.keyring.clone();
        self.remember(name, next).await;
        Ok(keyring)
    }

    async fn remember(&self, name: &str, cached: Cached) {
        self.cache.lock().await.insert(name.to_owned(), Known::Keyring(cached));
    }

    /// The refresh token in the secret `name`, as it is at this moment.
    pub async fn refresh_grant(&self, name: &str) -> Result<RefreshGrant, SecretsError> {
        let text = self.read_text(name).await?;
        RefreshGrant::parse(text.expose()).map_err(|reason| SecretsError::Unusable { secret: self.full_name(name), reason })
    }

    /// Writes a refresh token down.
    pub async fn put_refresh_grant(&self, name: &str, grant: &RefreshGrant) -> Result<(), SecretsError> {
        self.write(name, serde_json::to_string(grant).unwrap_or_default()).await
    }

    async fn read(&self, name: &str) -> Result<Keyring, SecretsError> {
        let text = self.read_text(name).await?;
        Keyring::parse(text.expose()).map_err(|reason| SecretsError::Unusable { secret: self.full_name(name), reason })
    }

    async fn read_text(&self, name: &str) -> Result<Secret, SecretsError> {
        let secret = self.full_name(name);
        let answer = self.client.get_secret_value().secret_id(&secret).send().await;
        let unreadable = |error: SdkError<GetSecretValueError, Response>| SecretsError::Unreadable {
            secret,
            reason: aws::describe(&error),
            is_outage: is_outage(&error),
        };
        let answer = answer.map_err(unreadable)?;
        Ok(Secret::new(answer.secret_string.unwrap_or_default()))
    }

    async fn write(&self, name: &str, text: String) -> Result<(), SecretsError> {
        let secret = self.full_name(name);
        let put = self.client.put_secret_value().secret_id(&secret).secret_string(text);
        put.send().await.map_err(|error| SecretsError::Unwritable { secret, reason: aws::describe(&error) })?;
        Ok(())
    }

    fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// Whether there was no answer about the secret. Codes are those of <https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html>;
/// one that is unknown is an answer: what is not known to be an outage does not keep an old key alive.
fn is_outage(error: &SdkError<GetSecretValueError, Response>) -> bool {
    let SdkError::ServiceError(answer) = error else { return true };
    let is_throttle = |code: &str| {
        ["ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown"].contains(&code)
    };
    answer.raw().status().is_server_error()
        || answer.raw().status().as_u16() == 429
        || answer.err().code().is_some_and(is_throttle)
}

impl Cached {
    fn read_at(now: Timestamp, keyring: Arc<Keyring>, reread_from: Timestamp) -> Self {
        Self { keyring, read_at: now, fresh_until: now.plus(Duration::from_secs(KEYRING_CACHE_SECONDS)), reread_from }
    }
}

mod rfc3339 {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::Timestamp;

    #[allow(clippy::ref_option, reason = "serde's `with` passes the field by reference")]
    pub(super) fn serialize<S: Serializer>(moment: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match moment {
            Some(moment) => serializer.serialize_str(&moment.to_rfc3339()),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        Timestamp::parse_rfc3339(&text).map(Some).ok_or_else(|| D::Error::custom("notAfter is no RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_types::{body::SdkBody, error::ErrorMetadata};

    use super::*;

    #[test]
    fn only_an_outage_keeps_an_old_keyring_in_use() {
        let answered = |status: u16, code: &str| {
            let error = GetSecretValueError::generic(ErrorMetadata::builder().code(code).build());
            is_outage(&SdkError::service_error(error, Response::new(status.try_into().unwrap(), SdkBody::empty())))
        };
        for (status, code) in [
            (500, "InternalServiceError"),
            (503, "ServiceUnavailable"),
            (502, ""),
            (400, "ThrottlingException"),
            (400, "RequestLimitExceeded"),
            (429, "TooManyRequestsException"),
        ] {
            assert!(answered(status, code), "{status} {code}");
        }
        for code in [
            "ResourceNotFoundException",
            "InvalidRequestException",
            "AccessDeniedException",
            "DecryptionFailure",
            "InvalidParameterException",
            "UnrecognizedClientException",
            "",
        ] {
            assert!(!answered(400, code), "{code}");
        }
        assert!(is_outage(&SdkError::timeout_error("no answer in time")));
    }

    #[test]
    fn a_plain_secret_is_a_keyring_of_one_key() {
        let keyring = Keyring::parse(" whsec_abc\n").unwrap();
        assert_eq!(keyring.keys().len(), 1);
        assert_eq!(keyring.keys()[0].id, INITIAL_KEY_ID);
        assert_eq!(keyring.keys()[0].secret.expose(), "whsec_abc");
    }

    #[test]
    fn a_keyring_reads_back_what_it_wrote() {
        let text = r#"{"keys":[{"id":"b","secret":"new"},{"id":"a","secret":"old","notAfter":"2026-11-22T06:24:35Z"}]}"#;
        let keyring = Keyring::parse(text).unwrap();
        assert_eq!(keyring.expose(), text);
    }

    #[test]
    fn white_space_around_a_secret_is_no_part_of_it() {
        for around in ["\n", " \t\r\n", "\u{a0}", "\u{feff}", "\u{feff}\n\u{a0}\u{3000}"] {
            let plain = Keyring::parse(&format!("{around}a b{around}")).unwrap();
            assert_eq!(plain.keys()[0].secret.expose(), "a b", "{around:?}");
            let key = |id: &str, secret: &str| serde_json::json!({"id": id, "secret": format!("{around}{secret}{around}")});
            let text = serde_json::json!({"keys": [key("a", "a b"), key("b", "whsec_c")]}).to_string();
            let keyring = Keyring::parse(&format!("{around}{text}{around}")).unwrap();
            let secrets: Vec<&str> = keyring.keys().iter().map(|key| key.secret.expose()).collect();
            assert_eq!(secrets, ["a b", "whsec_c"], "{around:?}");
            assert_eq!(Keyring::parse(&keyring.expose()).unwrap(), keyring, "{around:?}");
        }
    }

    #[test]
    fn a_secret_of_white_space_alone_is_refused() {
        for blank in ["", " ", "\n", "\u{a0}\u{feff}"] {
            assert_eq!(Keyring::parse(blank), Err(KeyringError::Empty), "{blank:?}");
            let text = serde_json::json!({"keys": [{"id": "b", "secret": "s"}, {"id": "a", "secret": blank}]}).to_string();
            let error = Keyring::parse(&text).unwrap_err();
            assert_eq!(error, KeyringError::EmptyKey("a".into()), "{blank:?}");
            assert_eq!(error.to_string(), "the secret of the key `a` is empty, or white space alone");
        }
    }

    #[test]
    fn a_key_is_valid_until_its_not_after_and_not_at_it() {
        let not_after = Timestamp::from_seconds(1000);
        let key = |id: &str, not_after| Key { id: id.into(), secret: Secret::new("s"), not_after };
        let keyring = Keyring::new(vec![key("new", None), key("old", Some(not_after))]).unwrap();
        let ids = |now| keyring.valid_at(now).map(|key| key.id.as_str()).collect::<Vec<_>>();
        assert_eq!(ids(Timestamp::from_millis(999_999)), ["new", "old"]);
        assert_eq!(ids(not_after), ["new"]);
    }

    #[test]
    fn empty_secrets_and_full_keyrings_are_refused() {
        assert_eq!(Keyring::parse(""), Err(KeyringError::Empty));
        assert_eq!(Keyring::parse(r#"{"keys":[]}"#), Err(KeyringError::Empty));
        assert_eq!(Keyring::parse(r#"{"keys":[{"id":"a","secret":""}]}"#), Err(KeyringError::EmptyKey("a".into())));
        let keys = |count| (0..count).map(|n| Key { id: n.to_string(), secret: Secret::new("s"), not_after: None }).collect();
        assert!(Keyring::new(keys(KEYS_MAX)).is_ok());
        assert_eq!(Keyring::new(keys(KEYS_MAX + 1)), Err(KeyringError::TooMany));
    }

    #[test]
    fn enrolment_is_open_for_one_secret_and_not_for_long() {
        let now = Timestamp::parse_rfc3339("2026-11-22T06:00:00Z").unwrap();
        let enrolled = |until: &str| {
            let keyring = Keyring::parse(&format!(r#"{{"keys":[],"enrolUntil":"{until}"}}"#)).unwrap();
            keyring.enrolled(Secret::new("brought"), now).map(|keyring| keyring.unwrap())
        };
        let keyring = enrolled("2026-11-22T07:00:00Z").unwrap();
        assert_eq!(keyring.keys()[0].secret.expose(), "brought");
        let blanks = Keyring::parse(r#"{"keys":[],"enrolUntil":"2026-11-22T07:00:00Z"}"#).unwrap();
        let blanks = blanks.enrolled(Secret::new(" brought\n"), now).unwrap().unwrap();
        assert_eq!(blanks.keys(), keyring.keys(), "as it reads back");
        assert!(keyring.enrolled(Secret::new("another"), now).is_none(), "one opening is for one secret");
        assert!(enrolled("2026-11-22T06:00:00Z").is_none(), "over");
        assert!(enrolled("2026-11-22T07:00:01Z").is_none(), "longer than may be");
        assert!(Keyring::parse("a").unwrap().enrolled(Secret::new("b"), now).is_none());
    }

    #[test]
    fn an_enrolled_secret_comes_before_the_keys_that_are_there() {
        let now = Timestamp::parse_rfc3339("2026-11-22T06:00:00Z").unwrap();
        let text = r#"{"keys":[{"id":"a","secret":"old"}],"enrolUntil":"2026-11-22T06:10:00Z"}"#;
        let keyring = Keyring::parse(text).unwrap().enrolled(Secret::new("new"), now).unwrap().unwrap();
        let secrets: Vec<&str> = keyring.keys().iter().map(|key| key.secret.expose()).collect();
        assert_eq!(secrets, ["new", "old"]);
        assert!(!keyring.expose().contains("enrolUntil"));
    }

    #[test]
    fn a_refresh_token_reads_back_as_it_was_written_and_is_never_shown() {
        for text in [
            r#"{"refreshToken":"hush"}"#,
            r#"{"clientSecret":"a","refreshToken":"hush","accessToken":"c","accessTokenUntil":"2026-11-22T06:24:35Z"}"#,
        ] {
            let grant = RefreshGrant::parse(text).unwrap();
            assert_eq!(serde_json::to_string(&grant).unwrap(), text);
            assert!(!format!("{grant:?}").contains("hush"));
        }
        for wrong in ["", "hush", "{}", r#"{"refreshToken":""}"#, r#"{"refreshToken":"hush","extra":"hush"}"#] {
            let error = RefreshGrant::parse(wrong).unwrap_err();
            assert_eq!(error, KeyringError::NoRefreshToken, "{wrong}");
            assert!(!error.to_string().contains("hush"));
        }
    }

    #[test]
    fn no_error_and_no_debug_shows_a_secret() {
        let malformed = Keyring::parse(r#"{"keys":[{"id":"a","secret":"hush","extra":1}]}"#).unwrap_err();
        assert!(!malformed.to_string().contains("hush"), "{malformed}");
        assert_eq!(format!("{:?}", Secret::new("hush")), "[REDACTED]");
        assert!(!format!("{:?}", Keyring::parse("hush").unwrap()).contains("hush"));
    }
}
