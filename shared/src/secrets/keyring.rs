//! A keyring: what a secret's text says.
//!
//! | text | what it is |
//! | --- | --- |
//! | `{"keys":[{"id":"…","secret":"…","notAfter":"2026-11-22T06:24:35Z"}]}` | keys, newest first; one without `notAfter` is valid until a rotation gives it one |
//! | `{"keys":[…],"derived":{"app":[{"version":2}]}}` | the same, with the versions of the keys that are derived of them for a destination |
//! | `{"keys":[],"enrolUntil":"…"}` | enrolment is open: until then, one secret that a provider's handshake brings is added to the keys |
//! | `{"current":"…","previous":"…"}` | two keys, the newer one at a place of its own for whoever reads it by JSON key, as CloudFormation does |
//! | anything that does not begin with a brace | one key with the id `initial`, so that a provider's secret can be pasted as it is |
//!
//! White space around a secret is no part of it, in any form.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Most keys in one keyring: each is tried on each webhook.
pub const KEYS_MAX: usize = 10;
/// Most versions of a derived key at once: a delivery carries a signature of each.
pub const VERSIONS_MAX: usize = 4;
/// The version of a derived key that was never rotated.
pub const FIRST_VERSION: u32 = 1;
/// Longest time that enrolment may be open, in seconds: who comes first while it is open is trusted.
pub const ENROLMENT_SECONDS_MAX: u64 = 60 * 60;
/// The id of the key in a secret that is plain text.
pub const INITIAL_KEY_ID: &str = "initial";

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
    pub(super) fn trimmed(&self) -> Self {
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

/// A version of the keys that are derived for a destination: [`crate::signatures::outgoing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Version {
    /// Counted from [`FIRST_VERSION`].
    pub version: u32,
    /// From then on nothing is signed with it. `None`: until a rotation sets it.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339")]
    pub not_after: Option<Timestamp>,
}

/// The keys of one source or destination, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Keyring {
    keys: Vec<Key>,
    /// By the name that a destination's keys are derived for, newest first. Of a name that is not here there is the first version.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    derived: BTreeMap<String, Vec<Version>>,
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
    /// Too many versions of a derived key.
    #[error("there are more than {VERSIONS_MAX} versions of the key of `{0}`: wait until the oldest has ended")]
    TooManyVersions(String),
    /// No key at that place.
    #[error("the keyring has no position {0}: positions are counted from 1")]
    NoPosition(usize),
    /// No refresh token where there should be one.
    #[error(r#"the secret is not of the form {{"clientSecret":"…","refreshToken":"…"}}"#)]
    NoRefreshToken,
    /// Starts like JSON, but is no keyring.
    #[error(r#"the secret is JSON but not of the form {{"keys":[{{"id","secret","notAfter"}}]}} or {{"current","previous"}} (line {line}, column {column})"#)]
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
            keys: Option<Vec<Key>>,
            #[serde(default)]
            derived: BTreeMap<String, Vec<Version>>,
            #[serde(default, with = "rfc3339")]
            enrol_until: Option<Timestamp>,
            current: Option<Secret>,
            previous: Option<Secret>,
        }
        let text = trimmed(text);
        if !text.starts_with('{') {
            return Self::new(vec![Key { id: INITIAL_KEY_ID.to_owned(), secret: Secret::new(text), not_after: None }]);
        }
        // serde's own message could quote the secret.
        let stored: Stored =
            serde_json::from_str(text).map_err(|error| KeyringError::Malformed { line: error.line(), column: error.column() })?;
        let Stored { keys, derived, enrol_until, current, previous } = stored;
        if let Some((name, _)) = derived.iter().find(|(_, versions)| versions.len() > VERSIONS_MAX) {
            return Err(KeyringError::TooManyVersions(name.clone()));
        }
        match (keys, current) {
            (Some(keys), None) if previous.is_none() => match enrol_until {
                Some(_) if keys.is_empty() => Ok(Self { keys, derived, enrol_until }),
                enrol_until => Ok(Self { enrol_until, derived, ..Self::new(keys)? }),
            },
            (None, Some(current)) if enrol_until.is_none() && derived.is_empty() => {
                let key = |id: &str, secret| Key { id: id.to_owned(), secret, not_after: None };
                Self::new(
                    std::iter::once(key("current", current)).chain(previous.map(|secret| key("previous", secret))).collect(),
                )
            }
            _ => Err(KeyringError::Malformed { line: 1, column: 1 }),
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
            None => Ok(Self { keys, derived: BTreeMap::new(), enrol_until: None }),
        }
    }

    pub(super) fn is_enrolling(&self, now: Timestamp) -> bool {
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
        Some(self.with_keys(std::iter::once(new).chain(self.valid_at(now).cloned()).collect()))
    }

    /// The keyring with other keys, and enrolment closed.
    fn with_keys(&self, keys: Vec<Key>) -> Result<Self, KeyringError> {
        Ok(Self { derived: self.derived.clone(), ..Self::new(keys)? })
    }

    /// The keyring after a rotation: the new key first, then every key that is valid at `now`; those without an end get one after
    /// `overlap`. Without an overlap, all of them go.
    pub fn rotated(&self, new: Key, now: Timestamp, overlap: Duration) -> Result<Self, KeyringError> {
        let not_after = Some(now.plus(overlap));
        let kept = self
            .valid_at(now)
            .filter(|_| !overlap.is_zero())
            .map(|key| Key { not_after: key.not_after.or(not_after), ..key.clone() });
        self.with_keys(std::iter::once(new).chain(kept).collect())
    }

    /// The keyring with a new key, first, in the place of the one at `position`, counted from 1; of all keys if none is named.
    pub fn replaced(&self, new: Key, position: Option<usize>) -> Result<Self, KeyringError> {
        let kept: Vec<Key> = match position {
            None => Vec::new(),
            Some(position) if (1..=self.keys.len()).contains(&position) => {
                let others = self.keys.iter().enumerate().filter(|(index, _)| index + 1 != position);
                others.map(|(_, key)| key.clone()).collect()
            }
            Some(position) => return Err(KeyringError::NoPosition(position)),
        };
        self.with_keys(std::iter::once(new).chain(kept).collect())
    }

    /// The versions of the keys derived for `name` that are valid at `now`, newest first.
    pub fn versions_at(&self, name: &str, now: Timestamp) -> Vec<Version> {
        const NEVER_ROTATED: &[Version] = &[Version { version: FIRST_VERSION, not_after: None }];
        let versions = self.derived.get(name).map_or(NEVER_ROTATED, Vec::as_slice);
        versions.iter().filter(|version| version.not_after.is_none_or(|not_after| now < not_after)).copied().collect()
    }

    /// Whether another keyring has the same versions of all derived keys.
    pub fn has_same_versions(&self, other: &Self) -> bool {
        self.derived == other.derived
    }

    /// The keyring with another version of the keys derived for `name`; those that are valid at `now` and have no end get one after
    /// `overlap`. Without an overlap, all of them go.
    pub fn with_next_version(&self, name: &str, now: Timestamp, overlap: Duration) -> Result<Self, KeyringError> {
        let known = self.derived.get(name).into_iter().flatten().map(|version| version.version);
        let next = Version { version: known.max().unwrap_or(FIRST_VERSION) + 1, not_after: None };
        let not_after = now.plus(overlap);
        let kept = self.versions_at(name, now).into_iter().filter(|_| !overlap.is_zero());
        let kept = kept.map(|version| Version { not_after: version.not_after.or(Some(not_after)), ..version });
        let versions: Vec<Version> = std::iter::once(next).chain(kept).collect();
        if versions.len() > VERSIONS_MAX {
            return Err(KeyringError::TooManyVersions(name.to_owned()));
        }
        let mut keyring = self.clone();
        keyring.derived.insert(name.to_owned(), versions);
        Ok(keyring)
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

fn trimmed(text: &str) -> &str {
    text.trim_matches(|character: char| character.is_whitespace() || character == '\u{feff}')
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
    use super::*;

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
    fn two_keys_may_stand_at_places_of_their_own() {
        let keyring = Keyring::parse(r#"{"current":"new","previous":" old\n"}"#).unwrap();
        let keys: Vec<_> = keyring.keys().iter().map(|key| (key.id.as_str(), key.secret.expose())).collect();
        assert_eq!(keys, [("current", "new"), ("previous", "old")]);
        assert_eq!(Keyring::parse(r#"{"current":"new"}"#).unwrap().keys().len(), 1);
        for wrong in [
            r#"{"previous":"old"}"#,
            r#"{"current":"new","keys":[]}"#,
            r#"{"previous":"old","keys":[{"id":"a","secret":"b"}]}"#,
            r#"{"current":"new","enrolUntil":"2026-11-22T07:00:00Z"}"#,
            "{}",
        ] {
            assert!(matches!(Keyring::parse(wrong), Err(KeyringError::Malformed { .. })), "{wrong}");
        }
        assert_eq!(Keyring::parse(r#"{"current":""}"#), Err(KeyringError::EmptyKey("current".into())));
    }

    #[test]
    fn a_leaked_key_is_replaced_alone_or_with_all_the_others() {
        let keyring = Keyring::parse(r#"{"keys":[{"id":"b","secret":"2"},{"id":"a","secret":"1"}]}"#).unwrap();
        let new = || Key { id: "c".into(), secret: Secret::new("3"), not_after: None };
        let ids = |position| {
            let replaced = keyring.replaced(new(), position)?;
            Ok::<_, KeyringError>(replaced.keys().iter().map(|key| key.id.clone()).collect::<Vec<_>>())
        };
        assert_eq!(ids(None).unwrap(), ["c"]);
        assert_eq!(ids(Some(1)).unwrap(), ["c", "a"]);
        assert_eq!(ids(Some(2)).unwrap(), ["c", "b"]);
        for wrong in [0, 3] {
            assert_eq!(ids(Some(wrong)), Err(KeyringError::NoPosition(wrong)));
        }
    }

    #[test]
    fn versions_of_derived_keys_outlive_a_change_of_the_keys_and_are_bounded() {
        let now = Timestamp::from_seconds(1_700_000_000);
        let day = Duration::from_secs(86_400);
        let new = || Key { id: "b".into(), secret: Secret::new("2"), not_after: None };
        let mut keyring = Keyring::parse("1").unwrap().with_next_version("app", now, day).unwrap();
        for changed in [keyring.rotated(new(), now, day).unwrap(), keyring.replaced(new(), None).unwrap()] {
            let read = Keyring::parse(&changed.expose()).unwrap();
            assert_eq!(read.versions_at("app", now), keyring.versions_at("app", now));
        }
        for _ in 2..VERSIONS_MAX {
            keyring = keyring.with_next_version("app", now, day).unwrap();
        }
        assert_eq!(keyring.versions_at("app", now).len(), VERSIONS_MAX);
        assert_eq!(keyring.with_next_version("app", now, day), Err(KeyringError::TooManyVersions("app".into())));
        let later = keyring.with_next_version("app", now.plus(day), day).unwrap();
        assert_eq!(later.versions_at("app", now.plus(day)).len(), 2, "what has ended makes room");
        let at_once = Keyring::parse("1").unwrap().with_next_version("app", now, Duration::ZERO).unwrap();
        assert_eq!(at_once.versions_at("app", now), [Version { version: 2, not_after: None }]);
        // Also one whose overlap goes on: which of them got out is not known.
        let in_overlap = Keyring::parse("1").unwrap().with_next_version("app", now, day).unwrap();
        let at_once = in_overlap.with_next_version("app", now, Duration::ZERO).unwrap();
        assert_eq!(at_once.versions_at("app", now), [Version { version: 3, not_after: None }]);
        let rotated = in_overlap.rotated(new(), now, day).unwrap().rotated(new(), now, Duration::ZERO).unwrap();
        assert_eq!(rotated.keys().len(), 1);
        let too_many = r#"{"keys":[{"id":"a","secret":"b"}],"derived":{"app":[{"version":1},{"version":2},{"version":3},{"version":4},{"version":5}]}}"#;
        assert_eq!(Keyring::parse(too_many), Err(KeyringError::TooManyVersions("app".into())));
    }

    #[test]
    fn no_error_and_no_debug_shows_a_secret() {
        let malformed = Keyring::parse(r#"{"keys":[{"id":"a","secret":"hush","extra":1}]}"#).unwrap_err();
        assert!(!malformed.to_string().contains("hush"), "{malformed}");
        assert_eq!(format!("{:?}", Secret::new("hush")), "[REDACTED]");
        assert!(!format!("{:?}", Keyring::parse("hush").unwrap()).contains("hush"));
    }
}
