//! A signature scheme as data, and what is impossible about one.

use either::Either;
use ring::{digest, hmac};
use serde::Deserialize;

use super::{
    chain::{IssuerOids, Root},
    jwt::{JwtAlgorithm, LEEWAY_SECONDS_DEFAULT},
    key::SecretSpec,
    mac::Hash,
    public_key::SignatureAlgorithm,
    template::{Template, Variable},
};
use crate::{
    fetched::{KeyOrigin, sns},
    json::Pointers,
    location::{Location, Locations, Places},
    time::Timestamp,
};

/// Most signatures looked at in one request. Providers send one a key, and two keys while they rotate.
pub const SIGNATURES_MAX: usize = 16;
/// Most alternatives of one scheme.
pub const ALTERNATIVES_MAX: usize = 8;
/// Widest tolerance that a scheme may ask for: a provider whose retries carry the time of the first attempt sends them for days.
pub const TOLERANCE_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;
/// How far a signed time may be ahead of our clock unless a scheme says otherwise, in seconds.
pub const AHEAD_SECONDS_DEFAULT: u64 = 300;
/// Widest tolerance of a source that does not remember what was signed for longer than that. Stripe and Standard Webhooks advise
/// 300 s: whoever has captured a webhook may send it again for so long.
pub const TOLERANCE_UNREMEMBERED_SECONDS_MAX: u64 = 600;
/// Most places of one check.
pub const CHECK_PLACES_MAX: usize = 8;
/// Most values of `equals_any`.
pub const EQUALS_ANY_MAX: usize = 16;

/// How a provider signs its webhooks: one way, or several of which the first that a request uses decides alone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Entry")]
pub struct Scheme {
    /// Strongest first.
    pub alternatives: Vec<Alternative>,
}

/// One way of signing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alternative {
    /// The keyed hash, the asymmetric signature, or what there is instead.
    pub algorithm: Algorithm,
    /// The bytes that are signed; none for tokens of any kind.
    pub signed: Option<Template>,
    /// Where the signature stands and how it is written.
    pub signature: SignatureSpec,
    /// Where the timestamp stands, if the provider sends one.
    pub timestamp: Option<TimestampSpec>,
    /// How the secret's text becomes key bytes.
    pub secret: SecretSpec,
    /// Where `{id}` stands.
    pub id: Option<Location>,
    /// What `{url}` is.
    pub url: UrlForm,
    /// Said where the signature does not cover the body.
    pub unsigned_body: bool,
    /// What else must hold.
    pub checks: Vec<Check>,
    /// For `algorithm = "jwt"` and `"jws-detached"`.
    pub jwt: Option<JwtSpec>,
    /// Whose public keys have to be fetched.
    pub fetched_key: Option<KeyOrigin>,
    /// What `{listed}` is.
    pub listed: Option<Listed>,
    /// Said where the keys of a document or of a root's certificates sign for this account alone.
    pub own_keys: bool,
    /// When a request uses this alternative; it must also have its signature.
    pub when: Option<Condition>,
}

/// A scheme as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    algorithm: Option<Algorithm>,
    signed: Option<Template>,
    signature: Option<SignatureSpec>,
    timestamp: Option<TimestampSpec>,
    #[serde(default)]
    secret: SecretSpec,
    id: Option<Location>,
    #[serde(default)]
    url: UrlForm,
    #[serde(default)]
    unsigned_body: bool,
    #[serde(default)]
    checks: Vec<Check>,
    jwt: Option<JwtSpec>,
    fetched_key: Option<KeyOrigin>,
    listed: Option<Listed>,
    #[serde(default)]
    own_keys: bool,
    when: Option<Condition>,
    #[serde(default)]
    first_of: Vec<Entry>,
}

impl TryFrom<Entry> for Scheme {
    type Error = String;

    fn try_from(entry: Entry) -> Result<Self, String> {
        if entry.first_of.is_empty() {
            if entry.when.is_some() {
                return Err("`when` chooses between the alternatives of `first_of`; there are none".into());
            }
            return Ok(Self { alternatives: vec![entry.into_alternative()?] });
        }
        if entry.is_more_than_alternatives() {
            return Err("a scheme with `first_of` has nothing else: everything stands in its alternatives".into());
        }
        if entry.first_of.len() > ALTERNATIVES_MAX {
            return Err(format!("`first_of` has more than {ALTERNATIVES_MAX} alternatives"));
        }
        Ok(Self { alternatives: entry.first_of.into_iter().map(Entry::into_alternative).collect::<Result<_, _>>()? })
    }
}

impl Entry {
    /// Whether anything stands beside `first_of`, where nobody would read it.
    fn is_more_than_alternatives(&self) -> bool {
        let required = self.algorithm.is_some() || self.signed.is_some() || self.signature.is_some() || self.timestamp.is_some();
        let optional = self.id.is_some() || self.jwt.is_some() || self.fetched_key.is_some() || self.when.is_some();
        let defaulted =
            self.secret != SecretSpec::default() || self.url != UrlForm::default() || self.unsigned_body || self.own_keys;
        required || optional || defaulted || !self.checks.is_empty()
    }

    fn into_alternative(self) -> Result<Alternative, String> {
        if !self.first_of.is_empty() {
            return Err("`first_of` cannot stand within `first_of`".into());
        }
        Ok(Alternative {
            algorithm: self.algorithm.ok_or("the scheme has no `algorithm`, as `algorithm = \"hmac-sha256\"`")?,
            signed: self.signed,
            signature: self.signature.ok_or("the scheme has no `signature`: say where it stands, as `signature = { at = \"header:x-signature\", encoding = \"hex\" }`")?,
            timestamp: self.timestamp,
            secret: self.secret,
            id: self.id,
            url: self.url,
            unsigned_body: self.unsigned_body,
            checks: self.checks,
            jwt: self.jwt,
            fetched_key: self.fetched_key,
            listed: self.listed,
            own_keys: self.own_keys,
            when: self.when,
        })
    }
}

/// How the sender proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// HMAC (RFC 2104) with MD5: weak, for providers that have nothing better.
    HmacMd5,
    /// HMAC with SHA-1.
    HmacSha1,
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
    /// SHA-1 over content that has the secret in it.
    Sha1,
    /// SHA-256 over content that has the secret in it.
    Sha256,
    /// SHA-384 over content that has the secret in it.
    Sha384,
    /// SHA-512 over content that has the secret in it.
    Sha512,
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// ECDSA on P-256 with SHA-1, the signature in DER.
    EcdsaP256Sha1,
    /// ECDSA on P-256 with SHA-256, the signature in DER.
    EcdsaP256Sha256,
    /// ECDSA on P-256 with SHA-512, the signature in DER.
    EcdsaP256Sha512,
    /// ECDSA on P-384 with SHA-384, the signature in DER.
    EcdsaP384Sha384,
    /// RSA PKCS #1 v1.5 with SHA-1, which AWS SNS still uses.
    RsaSha1,
    /// RSA PKCS #1 v1.5 with SHA-256.
    RsaSha256,
    /// RSA PKCS #1 v1.5 with SHA-512.
    RsaSha512,
    /// RSA-PSS with SHA-256 and a salt of 32 bytes.
    RsaPssSha256,
    /// RSA-PSS with SHA-512 and a salt of 64 bytes.
    RsaPssSha512,
    /// A signed token (RFC 7519) that has the body's digest among its claims.
    Jwt,
    /// A signature of a token's form without its content, which the request has (RFC 7515, appendix F).
    JwsDetached,
    /// The secret itself.
    Token,
    /// The secret as `user:password` (RFC 7617).
    Basic,
}

/// What kind of proof an algorithm is.
pub(super) enum Proof {
    Hash(Hash),
    Public(SignatureAlgorithm),
    Jwt,
    JwsDetached,
    Token,
    Basic,
}

impl Algorithm {
    pub(super) fn proof(self) -> Proof {
        match self {
            Self::HmacMd5 => Proof::Hash(Hash::KeyedMd5),
            Self::HmacSha1 => Proof::Hash(Hash::Keyed(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY)),
            Self::HmacSha256 => Proof::Hash(Hash::Keyed(hmac::HMAC_SHA256)),
            Self::HmacSha384 => Proof::Hash(Hash::Keyed(hmac::HMAC_SHA384)),
            Self::HmacSha512 => Proof::Hash(Hash::Keyed(hmac::HMAC_SHA512)),
            Self::Sha1 => Proof::Hash(Hash::Plain(&digest::SHA1_FOR_LEGACY_USE_ONLY)),
            Self::Sha256 => Proof::Hash(Hash::Plain(&digest::SHA256)),
            Self::Sha384 => Proof::Hash(Hash::Plain(&digest::SHA384)),
            Self::Sha512 => Proof::Hash(Hash::Plain(&digest::SHA512)),
            Self::Ed25519 => Proof::Public(SignatureAlgorithm::Ed25519),
            Self::EcdsaP256Sha1 => Proof::Public(SignatureAlgorithm::EcdsaP256Sha1),
            Self::EcdsaP256Sha256 => Proof::Public(SignatureAlgorithm::EcdsaP256Sha256),
            Self::EcdsaP256Sha512 => Proof::Public(SignatureAlgorithm::EcdsaP256Sha512),
            Self::EcdsaP384Sha384 => Proof::Public(SignatureAlgorithm::EcdsaP384Sha384),
            Self::RsaSha1 => Proof::Public(SignatureAlgorithm::RsaSha1),
            Self::RsaSha256 => Proof::Public(SignatureAlgorithm::RsaSha256),
            Self::RsaSha512 => Proof::Public(SignatureAlgorithm::RsaSha512),
            Self::RsaPssSha256 => Proof::Public(SignatureAlgorithm::RsaPssSha256),
            Self::RsaPssSha512 => Proof::Public(SignatureAlgorithm::RsaPssSha512),
            Self::Jwt => Proof::Jwt,
            Self::JwsDetached => Proof::JwsDetached,
            Self::Token => Proof::Token,
            Self::Basic => Proof::Basic,
        }
    }

    /// Whether who can verify can also sign.
    pub fn is_symmetric(self) -> bool {
        self.signature_algorithm().is_none()
    }

    /// How a public key verifies. `None` for secrets that are shared, and for tokens, which say it themselves.
    pub fn signature_algorithm(self) -> Option<SignatureAlgorithm> {
        if let Proof::Public(algorithm) = self.proof() { Some(algorithm) } else { None }
    }
}

/// Where a signature stands and how it is written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureSpec {
    /// The places; each that is there may have the right one.
    pub at: Locations,
    /// Text before the encoded signature, as `sha256=`. A signature without it is malformed.
    #[serde(default)]
    pub prefix: String,
    /// Whether the prefix may be missing.
    #[serde(default)]
    pub prefix_optional: bool,
    /// What stands before this in a value names a key and is passed over, as in `key-1:2af5…`.
    pub after: Option<String>,
    /// How its bytes are written; `None` for tokens, which are text.
    pub encoding: Option<Encoding>,
    /// For several `key=value` entries in one place.
    pub list: Option<SignatureList>,
}

/// A list of entries: with keys, as Stripe's `t=…,v1=…,v1=…` or Standard Webhooks' `v1,… v1a,…`; or by their position alone, as Recurly's
/// `1700000000000,…,…`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureList {
    /// Between entries.
    pub separator: char,
    /// Between an entry's key and its value; `None` where entries have no keys.
    pub assign: Option<char>,
    /// The key of the entries that are signatures; others are passed over. `{key_id}` stands for the public id of the key.
    #[serde(default)]
    pub key: String,
    /// Where entries have no keys: the first that is a signature, counted from 1; all behind it are.
    pub first: Option<usize>,
    /// Between whole lists, each of which has its own timestamp.
    pub between: Option<char>,
}

/// Most digits of a time in seconds where milliseconds may stand there too: eleven end in the year 5138.
const SECONDS_DIGITS_MAX: usize = 11;

/// Signed fields that the body itself lists: their values, joined.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// JSON pointer to the list: an array of names, with dots for the way to a field (`transaction.id`).
    pub at: String,
    /// JSON pointer to the object that the names are looked up in; empty for the whole body.
    #[serde(default)]
    pub within: String,
    /// Names that the list must have, or whoever has captured a webhook could choose a list of their own.
    pub required: Vec<String>,
    /// Between values.
    #[serde(default)]
    pub separator: String,
}

/// Most fields that a body may list.
pub const LISTED_MAX: usize = 32;

impl Listed {
    fn check(&self) -> Result<(), String> {
        for pointer in [&self.at, &self.within].into_iter().filter(|pointer| !pointer.is_empty()) {
            Pointers::check(pointer).map_err(|error| format!("`listed`: `{pointer}`: {error}"))?;
        }
        if self.at.is_empty() {
            return Err("`listed` has no `at`: where the list stands, as `/signature/properties`".into());
        }
        if self.required.is_empty() {
            return Err(
                "`listed.required` is empty: name the fields that must be signed, or a shorter list could stand for them".into(),
            );
        }
        Ok(())
    }

    /// The values of the listed fields, joined. `None` if one of them is absent, or a required one is not listed.
    pub(super) fn values(&self, places: &Places<'_>) -> Option<Vec<u8>> {
        let list = places.json_once(&self.at).ok()??;
        let names: Vec<String> = list
            .elements()?
            .take(LISTED_MAX + 1)
            .map(|name| name.text().filter(|(_, is_exact)| *is_exact && name.is_string()).map(|(name, _)| name.into_owned()))
            .collect::<Option<_>>()?;
        if names.len() > LISTED_MAX || self.required.iter().any(|required| !names.contains(required)) {
            return None;
        }
        let value = |name: &String| {
            let way = name.replace('~', "~0").replace('/', "~1").replace('.', "/");
            let (value, is_exact) = places.json_once(&format!("{}/{way}", self.within)).ok()??.text()?;
            is_exact.then(|| value.into_owned())
        };
        let values: Vec<String> = names.iter().map(value).collect::<Option<_>>()?;
        Some(values.join(&self.separator).into_bytes())
    }
}

impl SignatureList {
    /// What stands for the public id of a key.
    pub(super) const KEY_ID: &'static str = "{key_id}";

    fn check(&self) -> Result<(), String> {
        match (self.assign, self.key.as_str(), self.first) {
            (Some(_), "", _) => Err("`signature.list` has no `key`: that of the entries that are signatures".into()),
            (Some(_), _, Some(_)) => Err("`signature.list` has `first`, which is for entries without keys, and `assign`".into()),
            (Some(assign), _, None) if assign == self.separator => {
                Err("`signature.list`: `separator` and `assign` cannot be the same".into())
            }
            (None, "", Some(0)) => Err("`signature.list.first` counts from 1".into()),
            (None, "", _) => Ok(()),
            (None, _, _) => {
                Err("`signature.list` has a `key` and no `assign`: what stands between an entry's key and its value".into())
            }
            (Some(_), _, None) => Ok(()),
        }
    }

    /// Whether entries are chosen by the public id of the key.
    pub(super) fn is_by_key_id(&self) -> bool {
        self.key == Self::KEY_ID
    }

    /// What stands between lists: repeated headers are joined by commas, which is one where the list itself has none.
    fn between(&self) -> Option<char> {
        let has_commas = self.separator == ',' || self.assign == Some(',');
        self.between.or((!has_commas).then_some(','))
    }

    /// Whether a value is one list, as almost all are.
    pub(super) fn is_one(&self, sent: &str) -> bool {
        !sent.is_empty() && sent.trim_ascii().len() == sent.len() && !self.between().is_some_and(|between| sent.contains(between))
    }

    /// The lists in a value.
    pub(super) fn lists<'s>(&self, sent: &'s str) -> impl Iterator<Item = &'s str> {
        let between = self.between();
        let lists = sent.split(move |character| Some(character) == between);
        lists.map(str::trim_ascii).filter(|list| !list.is_empty())
    }

    /// The entries that are signatures.
    pub(super) fn signatures<'s, 'k>(&'k self, list: &'s str, public_id: &'k str) -> impl Iterator<Item = &'s str> + use<'s, 'k> {
        let key = if self.is_by_key_id() { public_id } else { self.key.as_str() };
        match self.assign {
            None => Either::Left(self.entries(list).skip(self.first.unwrap_or(1).saturating_sub(1))),
            Some(assign) => Either::Right(self.values_of(list, key, assign)),
        }
    }

    fn entries<'s>(&self, list: &'s str) -> impl Iterator<Item = &'s str> + use<'s> {
        list.split(self.separator).map(str::trim_ascii)
    }

    /// The values of the entries with this key; where entries have no keys, the entry of that number, counted from 1.
    pub(super) fn values<'s, 'k>(&'k self, list: &'s str, key: &'k str) -> impl Iterator<Item = &'s str> + use<'s, 'k> {
        match self.assign {
            None => {
                let number = key.parse::<usize>().ok();
                Either::Left(number.and_then(|number| self.entries(list).nth(number.checked_sub(1)?)).into_iter())
            }
            Some(assign) => Either::Right(self.values_of(list, key, assign)),
        }
    }

    /// The values of the entries with this key.
    fn values_of<'s, 'k>(&self, list: &'s str, key: &'k str, assign: char) -> impl Iterator<Item = &'s str> + use<'s, 'k> {
        match assign {
            // A comma joins repeated headers as well: keys and values follow one another, whatever is between.
            ',' => {
                let mut words = list.split([self.separator, ',']).map(str::trim_ascii);
                Either::Left(std::iter::from_fn(move || words.by_ref().find(|word| *word == key).and_then(|_| words.next())))
            }
            _ => Either::Right(self.entries(list).filter_map(move |entry| entry.strip_prefix(key)?.strip_prefix(assign))),
        }
    }
}

/// Where a timestamp stands and how far it may be off.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimestampSpec {
    /// The places; the first that is there counts.
    pub at: Locations,
    /// How it is written.
    pub format: TimestampFormat,
    /// How old it may be, in seconds.
    pub tolerance_seconds: Option<u64>,
    /// How far it may be ahead of our clock, in seconds; unless said, as far as it may be old, but at most [`AHEAD_SECONDS_DEFAULT`]. A
    /// retry may be late, and nothing that is genuine is early by more than two clocks differ.
    pub ahead_seconds: Option<u64>,
    /// Said instead, where the provider sends a timestamp that may be of any age.
    #[serde(default)]
    pub unbounded: bool,
    /// Whether it may be absent.
    #[serde(default)]
    pub optional: bool,
    /// Said where the signature does not cover it.
    #[serde(default)]
    pub unsigned: bool,
}

/// How a moment is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimestampFormat {
    /// Whole seconds since the Unix epoch.
    Seconds,
    /// Whole milliseconds since the Unix epoch.
    Milliseconds,
    /// RFC 3339, a profile of ISO 8601, as `2026-11-22T06:24:35Z`.
    Rfc3339,
    /// The same, where a time without a zone is UTC and a space may stand for the `T`, as `2026-11-22 06:24:35.123`.
    Rfc3339Utc,
    /// A date of HTTP (RFC 9110, section 5.6.7), as `Sun, 22 Nov 2026 06:24:35 GMT`.
    HttpDate,
    /// Whole seconds since the Unix epoch, or milliseconds if there are more than eleven digits: some senders write either.
    SecondsOrMilliseconds,
}

impl TimestampSpec {
    /// How old it may be and how far ahead, in seconds; `None` if it is not compared.
    pub fn bounds(&self) -> Option<(u64, u64)> {
        let tolerance = self.tolerance_seconds?;
        Some((tolerance, self.ahead_seconds.unwrap_or(tolerance.min(AHEAD_SECONDS_DEFAULT))))
    }
}

impl TimestampFormat {
    /// Reads a moment; `None` if the text is not of this format.
    pub fn read(self, text: &str) -> Option<Timestamp> {
        // `u64::from_str` takes a leading plus, which no provider sends.
        let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        match self {
            Self::Seconds => digits?.parse().ok().map(Timestamp::from_seconds),
            Self::Milliseconds => digits?.parse().ok().map(Timestamp::from_millis),
            Self::Rfc3339 => Timestamp::parse_rfc3339(text),
            Self::Rfc3339Utc => Timestamp::parse_rfc3339_or_utc(text),
            Self::HttpDate => Timestamp::parse_fixed_http_date(text),
            Self::SecondsOrMilliseconds if text.len() > SECONDS_DIGITS_MAX => Self::Milliseconds.read(text),
            Self::SecondsOrMilliseconds => Self::Seconds.read(text),
        }
    }

    /// Writes a moment.
    pub fn write(self, moment: Timestamp) -> String {
        match self {
            Self::Seconds | Self::SecondsOrMilliseconds => moment.seconds().to_string(),
            Self::Milliseconds => moment.millis().to_string(),
            Self::Rfc3339 | Self::Rfc3339Utc => moment.to_rfc3339(),
            Self::HttpDate => moment.to_http_date(),
        }
    }
}

/// How bytes are written as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// Hexadecimal, either case.
    Hex,
    /// Base64 (RFC 4648, section 4), padded.
    Base64,
    /// Base64 for URLs (RFC 4648, section 5), padded or not.
    Base64url,
    /// Base64 of the text that is the bytes in hexadecimal.
    Base64OfHex,
}

/// Which URL a provider signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UrlForm {
    /// As registered, with the query as received.
    #[default]
    WithQuery,
    /// As registered, without a query.
    WithoutQuery,
    /// With the query, and with the port left out or the default port put in; Twilio signs either.
    AnyPort,
    /// With the query, as received or with the escapes undone that HubSpot undoes.
    Decoded,
}

/// Something that must hold, compared after the signature.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "CheckEntry")]
pub struct Check {
    /// The places, of which the first that is there counts. An array among the claims has several values.
    pub at: Locations,
    /// What one of its values must be: one of these. None where it must be a key of the keyring, or absent.
    pub equals: Vec<Template>,
    /// Whether the place may be empty when the body is.
    pub absent_if_body_empty: bool,
    /// Whether nothing may stand at any of the places.
    pub absent: bool,
}

impl Check {
    /// Whether the value must be a key of the keyring, which then has what is ours and no secret.
    pub fn equals_secret(&self) -> bool {
        self.equals.is_empty() && !self.absent
    }
}

/// A check as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckEntry {
    at: Locations,
    equals: Option<Template>,
    equals_any: Option<Vec<Template>>,
    #[serde(default)]
    equals_secret: bool,
    #[serde(default)]
    absent_if_body_empty: bool,
    #[serde(default)]
    absent: bool,
}

impl TryFrom<CheckEntry> for Check {
    type Error = String;

    fn try_from(entry: CheckEntry) -> Result<Self, String> {
        if entry.at.count() == 0 || entry.at.count() > CHECK_PLACES_MAX {
            return Err(format!("`at` of a check must name 1 to {CHECK_PLACES_MAX} places"));
        }
        let equals = match (entry.equals, entry.equals_any, entry.equals_secret, entry.absent) {
            (Some(equals), None, false, false) => vec![equals],
            (None, Some(any), false, false) if (1..=EQUALS_ANY_MAX).contains(&any.len()) => any,
            (None, Some(_), false, false) => return Err(format!("`equals_any` must have 1 to {EQUALS_ANY_MAX} values")),
            (None, None, true, false) if entry.absent_if_body_empty => {
                return Err("`equals_secret` says whose webhook it is, and cannot be absent".into());
            }
            (None, None, false, true) if entry.absent_if_body_empty => {
                return Err("`absent_if_body_empty` means nothing beside `absent = true`".into());
            }
            (None, None, true, false) | (None, None, false, true) => Vec::new(),
            _ => {
                return Err(
                    "a check has exactly one of `equals`, `equals_any`, `equals_secret = true` and `absent = true`".into()
                );
            }
        };
        Ok(Self { at: entry.at, equals, absent_if_body_empty: entry.absent_if_body_empty, absent: entry.absent })
    }
}

/// A condition on a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// The place that must be there.
    pub at: Location,
    /// What must stand there; `None`: anything.
    pub is: Option<String>,
}

/// What a token must be like.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtSpec {
    /// The algorithms that may have signed it; what the token itself says is never taken for granted.
    pub algorithms: Vec<JwtAlgorithm>,
    /// How far `exp`, `nbf` and `iat` may be off, in seconds.
    #[serde(default = "default_leeway")]
    pub leeway_seconds: u64,
    /// Which of `exp`, `nbf` and `iat` must be there.
    #[serde(default)]
    pub required: Vec<String>,
    /// The root that the token's own chain of certificates must lead to; the first of them then has the key.
    pub x5c_root: Option<Root>,
    /// What the certificates of that chain must be marked with.
    pub x5c_oids: Option<IssuerOids>,
}

impl JwtSpec {
    /// What the certificates of its chain must be marked with, by default what the root's owner marks them with.
    pub(super) fn oids(&self) -> Option<&IssuerOids> {
        self.x5c_oids.as_ref().or_else(|| self.x5c_root.as_ref()?.oids())
    }
}

const fn default_leeway() -> u64 {
    LEEWAY_SECONDS_DEFAULT
}

impl Scheme {
    /// Says what is impossible about this combination, if anything.
    pub fn check(&self) -> Result<(), String> {
        for (index, alternative) in self.alternatives.iter().enumerate() {
            alternative.check().map_err(|reason| match self.alternatives.len() {
                1 => reason,
                _ => format!("alternative {}: {reason}", index + 1),
            })?;
        }
        Ok(())
    }

    /// Whether every way of signing covers what stands at `place`: nobody but the sender can then have written it.
    pub fn covers(&self, place: &Location) -> bool {
        self.alternatives.iter().all(|alternative| alternative.covers(place))
    }

    /// Whether every way of signing covers the whole body.
    pub fn covers_body(&self) -> bool {
        self.alternatives.iter().all(Alternative::covers_body)
    }

    /// Whether every way of signing has content of its own that a captured request could be known again by. Who has seen
    /// a token can send anything with it.
    pub fn signs_content(&self) -> bool {
        self.alternatives.iter().all(|alternative| alternative.signed.is_some() || alternative.is_content_token())
    }

    /// Whether every way of signing is a token that has claims.
    pub fn has_claims(&self) -> bool {
        self.alternatives.iter().all(|alternative| alternative.algorithm == Algorithm::Jwt)
    }

    /// Whether the bytes that are signed could be those of other values, for ever: where a time is compared, hardly another one is near.
    pub fn could_be_divided_otherwise(&self) -> bool {
        let mut templates = self.alternatives.iter().filter_map(|alternative| alternative.signed.as_ref());
        self.replayable_seconds().is_none() && templates.any(Template::could_be_divided_otherwise)
    }

    /// Whether tokens are signed with a secret that is shared.
    pub fn has_symmetric_tokens(&self) -> bool {
        self.alternatives.iter().any(|alternative| alternative.jwt.is_some() && alternative.is_symmetric())
    }

    /// How long a captured webhook could be sent again, in seconds; `None` if for ever.
    pub fn replayable_seconds(&self) -> Option<u64> {
        let tolerances = self.alternatives.iter().map(|alternative| match &alternative.timestamp {
            Some(spec) if !spec.unsigned && !spec.optional => spec.bounds(),
            _ => None,
        });
        tolerances.collect::<Option<Vec<_>>>()?.into_iter().map(replayable).max()
    }

    /// The widest of the tolerances, and how long a webhook could be sent again within it, both in seconds; `None` if no time is
    /// compared.
    pub fn tolerance_seconds(&self) -> Option<(u64, u64)> {
        let bounds = self.alternatives.iter().filter_map(|alternative| alternative.timestamp.as_ref()?.bounds());
        bounds.map(|bounds| (bounds.0, replayable(bounds))).max()
    }

    /// Whether a request has a signature of this scheme, good or bad.
    pub fn is_signed(&self, places: &Places<'_>) -> bool {
        self.alternative(places).is_some()
    }

    /// Whether some way of signing covers the URL, which must then be known as it is registered with the provider.
    pub fn signs_url(&self) -> bool {
        self.alternatives.iter().any(|alternative| alternative.uses(&Variable::Url))
    }

    /// Whether some way of signing covers the query of the URL as it is registered with the provider.
    pub fn signs_registered_query(&self) -> bool {
        self.alternatives.iter().any(|alternative| alternative.uses(&Variable::Url) && alternative.url != UrlForm::WithoutQuery)
    }

    /// All places of a request that verification may look at.
    pub fn places(&self) -> impl Iterator<Item = &Location> {
        self.alternatives.iter().flat_map(Alternative::places)
    }

    /// The place of the provider's own id for a webhook, where all ways of signing agree on it.
    pub fn id(&self) -> Option<&Location> {
        let first = self.alternatives.first()?.id.as_ref();
        first.filter(|_| self.alternatives.iter().all(|alternative| alternative.id.as_ref() == first))
    }
}

/// From the earliest moment at which a time is good to the latest, the last second included.
const fn replayable((tolerance, ahead): (u64, u64)) -> u64 {
    tolerance + ahead + 1
}

impl Alternative {
    /// Whether who can verify can also sign.
    pub fn is_symmetric(&self) -> bool {
        let public_token = self.jwt.as_ref().is_some_and(|jwt| jwt.algorithms.iter().all(|algorithm| !algorithm.is_symmetric()));
        self.algorithm.is_symmetric() && !public_token && self.fetched_key.is_none()
    }

    /// Whether the keys are somebody's whose keys verify for many: what is this source's own, the keyring has.
    pub fn has_foreign_keys(&self) -> bool {
        self.fetched_key.is_some() || self.jwt.as_ref().is_some_and(|jwt| jwt.x5c_root.is_some())
    }

    /// Whether each webhook has a token of its own: one that has the body's digest, or that is its content. Others are sent along
    /// with many webhooks, and tell none apart.
    pub(super) fn is_content_token(&self) -> bool {
        let is_content = |place: &Location| matches!(place, Location::Body | Location::Json(_) | Location::Form(_));
        self.algorithm == Algorithm::Jwt && (self.covers_body() || self.signature.at.iter().all(is_content))
    }

    fn check(&self) -> Result<(), String> {
        self.check_kind()?;
        self.check_signature()?;
        self.check_signed()?;
        self.check_timestamp()?;
        self.check_places()?;
        self.check_binding()
    }

    /// What each kind of algorithm needs and cannot have.
    fn check_kind(&self) -> Result<(), String> {
        let proof = self.algorithm.proof();
        let is_token = matches!(proof, Proof::Jwt | Proof::JwsDetached);
        let signs_content = matches!(proof, Proof::Hash(_) | Proof::Public(_) | Proof::JwsDetached);
        let has_encoding = matches!(proof, Proof::Hash(_) | Proof::Public(_));
        if signs_content && self.signed.is_none() {
            return Err("the scheme has no `signed`: say which bytes are signed, as `signed = \"{body}\"`".into());
        }
        if !signs_content && self.signed.is_some() {
            return Err("`signed` means nothing here: tokens sign no content of the request".into());
        }
        if has_encoding != self.signature.encoding.is_some() {
            return Err(if has_encoding {
                "`signature` has no `encoding`; it is hex, base64 or base64url".into()
            } else {
                "`signature.encoding` means nothing here: a token is text".into()
            });
        }
        match &self.jwt {
            None if is_token => {
                return Err("a token needs `jwt = { algorithms = [\"HS256\"] }`: which ones may sign".into());
            }
            Some(_) if !is_token => {
                return Err("`jwt` means nothing for another `algorithm` than \"jwt\" and \"jws-detached\"".into());
            }
            Some(jwt) => self.check_jwt(jwt)?,
            None => {}
        }
        if self.fetched_key.is_some() && !is_token && !matches!(proof, Proof::Public(_)) {
            return Err("`fetched_key` is for algorithms with public keys".into());
        }
        match &self.fetched_key {
            Some(KeyOrigin::Document(document)) => document.check(is_token),
            _ => Ok(()),
        }
    }

    fn check_jwt(&self, jwt: &JwtSpec) -> Result<(), String> {
        let Some(first) = jwt.algorithms.first() else {
            return Err("`jwt.algorithms` is empty, so nothing could sign".into());
        };
        if let Some(other) = jwt.required.iter().find(|claim| !["exp", "nbf", "iat"].contains(&claim.as_str())) {
            return Err(format!("`jwt.required` is about `exp`, `nbf` and `iat`, not `{other}`; use `checks` for others"));
        }
        if !jwt.required.is_empty() && self.algorithm == Algorithm::JwsDetached {
            return Err("`jwt.required` means nothing here: a detached signature has no claims; use `timestamp`".into());
        }
        if jwt.algorithms.iter().any(|algorithm| algorithm.is_symmetric() != first.is_symmetric()) {
            return Err("`jwt.algorithms` mixes HMAC with public keys: a public key could be taken for a shared secret".into());
        }
        if first.is_symmetric() && self.has_foreign_keys() {
            return Err("`fetched_key` and `jwt.x5c_root` are for public keys, and `jwt.algorithms` has HMAC".into());
        }
        if jwt.leeway_seconds > TOLERANCE_SECONDS_MAX {
            return Err(format!("`jwt.leeway_seconds` must be at most {TOLERANCE_SECONDS_MAX}"));
        }
        match (&jwt.x5c_root, &jwt.x5c_oids) {
            (None, Some(_)) => Err("`jwt.x5c_oids` is about certificates that lead to `jwt.x5c_root`, which is not there".into()),
            (Some(_), _) if self.fetched_key.is_some() => {
                Err("the key is either in the token's certificates (`jwt.x5c_root`) or fetched (`fetched_key`)".into())
            }
            (Some(root), Some(oids)) => root.check(oids),
            _ => Ok(()),
        }
    }

    /// Keys that sign for all customers of a provider prove that the provider signed, and not for whom.
    fn check_binding(&self) -> Result<(), String> {
        let named = self.fetched_key.as_ref().is_some_and(|origin| !matches!(origin, KeyOrigin::Document(_)));
        let needs_binding = self.has_foreign_keys() && !named;
        if self.own_keys && !needs_binding {
            return Err("`own_keys` means nothing here: it is about the keys of a document or of `jwt.x5c_root`".into());
        }
        let bindings: Vec<&Locations> = self.checks.iter().filter(|check| check.equals_secret()).map(|check| &check.at).collect();
        if !bindings.is_empty() && !self.has_foreign_keys() {
            return Err(
                "`equals_secret` is for public keys that are fetched or come with the token, whose keyring has no secret; \
                 elsewhere `secret.chosen_by` says where the webhook names its key"
                    .into(),
            );
        }
        if let Some(place) = bindings.iter().flat_map(|places| places.iter()).find(|place| !self.covers(place)) {
            return Err(format!("`{place}` is not signed: anybody could write there what `equals_secret` looks for"));
        }
        let chosen = self.secret.chosen_by.as_ref().is_some_and(|place| self.covers(place));
        let in_content =
            self.signed.as_ref().is_some_and(|signed| signed.covered().any(|variable| *variable == Variable::Secret));
        if needs_binding && !self.own_keys && bindings.is_empty() && !chosen && !in_content {
            return Err(
                "these keys sign for every customer of the provider, and nothing says that a webhook is for this source: add \
                 `{ at = \"claim:/aud\", equals_secret = true }` to `checks`, with the place that says it; if they sign for \
                 this account alone, say `own_keys = true`"
                    .into(),
            );
        }
        Ok(())
    }

    fn check_signature(&self) -> Result<(), String> {
        let places = &self.signature.at;
        if places.count() == 0 || places.count() > SIGNATURES_MAX {
            return Err(format!("`signature.at` must name 1 to {SIGNATURES_MAX} places"));
        }
        if places.iter().any(|place| matches!(place.root(), Location::Signature(_) | Location::Claim(_))) {
            return Err("`signature.at` must be a place in the request, as `header:x-signature`".into());
        }
        if places.iter().any(|place| *place == Location::Body) && self.algorithm != Algorithm::Jwt {
            return Err("`signature.at = \"body\"` is for a body that is itself a token: `algorithm = \"jwt\"`".into());
        }
        let chosen_by_id = self.signature.list.as_ref().is_some_and(SignatureList::is_by_key_id);
        let uses_id = chosen_by_id || self.uses(&Variable::KeyId);
        if uses_id && self.secret.id_separator.is_none() {
            return Err("`{key_id}` is used, but `secret` has no `id_separator`: keys have no id".into());
        }
        if let Some(list) = &self.signature.list {
            list.check()?;
        }
        self.check_prefix()?;
        if self.secret.id_separator.as_deref() == Some("") {
            return Err("`secret.id_separator` is empty".into());
        }
        Ok(())
    }

    /// A prefix that no value can begin with would refuse everything.
    fn check_prefix(&self) -> Result<(), String> {
        let SignatureSpec { prefix, list, .. } = &self.signature;
        let never = |why: String| Err(format!("`signature.prefix` can never match: {why}"));
        if prefix.trim() != prefix {
            let is_token = !matches!(self.algorithm.proof(), Proof::Hash(_) | Proof::Public(_));
            // `Bearer ` is one, with what follows; white space around a whole value is taken off.
            if !is_token || prefix.starts_with(char::is_whitespace) {
                return never("white space around a signature is taken off before it is compared".to_owned());
            }
        }
        let splits = |character: char| prefix.contains(character);
        match list {
            None if self.signature.encoding.is_some() && splits(',') => {
                never("it has a comma, and values are taken apart at commas, by which repeated headers are joined".to_owned())
            }
            Some(list) if splits(list.separator) => never(format!("entries are taken apart at `{}`", list.separator)),
            Some(SignatureList { between: Some(between), .. }) if splits(*between) => {
                never(format!("lists are taken apart at `{between}`"))
            }
            _ => Ok(()),
        }
    }

    fn check_signed(&self) -> Result<(), String> {
        if self.templates().any(Template::uses_key) {
            return Err("`hmac-…` filters are for the answers of a handshake".into());
        }
        if self.checks.iter().flat_map(|check| &check.equals).any(|equals| equals.uses(&Variable::Secret)) {
            return Err("`{secret}` cannot stand in `checks`".into());
        }
        let Some(signed) = &self.signed else { return self.check_token_body() };
        if !self.covers_body() && !self.unsigned_body {
            return Err("`signed` must have `{body}`: a signature that does not cover the body proves nothing about it; \
                 if the provider signs so, say `unsigned_body = true`"
                .into());
        }
        let is_plain_hash = matches!(self.algorithm.proof(), Proof::Hash(Hash::Plain(_)));
        if is_plain_hash && !signed.covered().any(|variable| *variable == Variable::Secret) {
            return Err("a plain hash without `{secret}` in `signed` can be made by anybody".into());
        }
        // A fetched key's keyring has no secrets: topics and webhook ids.
        if !matches!(self.algorithm.proof(), Proof::Hash(_)) && self.fetched_key.is_none() && signed.uses(&Variable::Secret) {
            return Err("`{secret}` cannot stand in `signed` here: the keyring holds a public key".into());
        }
        if signed.uses(&Variable::HandshakeSecret)
            || self.checks.iter().flat_map(|check| &check.equals).any(|equals| equals.uses(&Variable::HandshakeSecret))
        {
            return Err("`{handshake_secret}` is for the answers of a handshake".into());
        }
        if signed.uses(&Variable::Listed) != self.listed.is_some() {
            return Err("`{listed}` in `signed` and `listed = { at, within, required }` belong together".into());
        }
        if let Some(listed) = &self.listed {
            listed.check()?;
        }
        if signed.uses(&Variable::Id) && self.id.is_none() {
            return Err("`signed` has `{id}`, but the scheme has no `id`: say where it stands, as `id = \"header:x-id\"`".into());
        }
        Ok(())
    }

    /// A token says something of the body only if it has its digest, or is the body.
    fn check_token_body(&self) -> Result<(), String> {
        let is_body = self.signature.at.iter().all(|place| *place == Location::Body);
        if self.algorithm == Algorithm::Jwt && !is_body && !self.covers_body() && !self.unsigned_body {
            return Err("no check compares a claim with a digest of `{body}`, as \
                 `{ at = \"claim:/sha256\", equals = \"{body|sha256|hex}\" }`: the token proves nothing about the body; \
                 if the provider signs so, say `unsigned_body = true`"
                .into());
        }
        Ok(())
    }

    fn check_timestamp(&self) -> Result<(), String> {
        let used = self.signed.as_ref().is_some_and(|signed| signed.uses(&Variable::Timestamp));
        let Some(spec) = &self.timestamp else {
            return if used { Err("`signed` has `{timestamp}`, but the scheme has no `timestamp`".into()) } else { Ok(()) };
        };
        let covered = used || spec.at.iter().all(|place| self.covers(place));
        if !covered && !spec.unsigned {
            return Err("the scheme has a `timestamp` that the signature does not cover: anybody could change it; \
                 if the provider sends it so, say `unsigned = true`"
                .into());
        }
        match spec.tolerance_seconds {
            Some(_) if spec.unbounded => Err("`timestamp` has both `tolerance_seconds` and `unbounded`".into()),
            None if !spec.unbounded => {
                Err("`timestamp` has no `tolerance_seconds`; if it may be of any age, say `unbounded = true`".into())
            }
            Some(seconds) if !(1..=TOLERANCE_SECONDS_MAX).contains(&seconds) => {
                Err(format!("`tolerance_seconds` must be from 1 to {TOLERANCE_SECONDS_MAX}"))
            }
            _ if spec.ahead_seconds.is_some_and(|ahead| Some(ahead) > spec.tolerance_seconds) => {
                Err("`ahead_seconds` must be at most `tolerance_seconds`".into())
            }
            _ => Ok(()),
        }
    }

    /// Places that exist only in some schemes.
    fn check_places(&self) -> Result<(), String> {
        let in_templates = self.templates().flat_map(Template::variables).filter_map(|variable| match variable {
            Variable::At(place) => Some(place),
            _ => None,
        });
        let in_timestamp = self.timestamp.iter().flat_map(|spec| spec.at.iter());
        let in_checks = self.checks.iter().flat_map(|check| check.at.iter());
        let others = in_checks.chain(&self.id).chain(&self.secret.chosen_by).chain(self.key_id_place());
        for place in in_templates.chain(in_timestamp).chain(others) {
            match place.root() {
                Location::Signature(_) if self.signature.list.is_none() => {
                    return Err("something stands in the signature's list, but `signature.list` is not there".into());
                }
                Location::Claim(_) if self.algorithm != Algorithm::Jwt => {
                    return Err(format!("`{place}`: only a JWT has claims"));
                }
                Location::Body => return Err("`body` is a place for `signature.at` alone: a body that is itself a token".into()),
                _ => {}
            }
        }
        let when = self.when.as_ref().map(|when| &when.at);
        let read_before =
            |place: &&Location| matches!(place.root(), Location::Signature(_) | Location::Claim(_) | Location::Body);
        // Claims choose a key after each has been tried.
        let chosen_by = self.secret.chosen_by.iter().filter(|place| !matches!(place, Location::Claim(_)));
        let key_id = self.key_id_place().filter(|place| matches!(place, Location::Claim(_)));
        match when.into_iter().chain(chosen_by).find(read_before).or(key_id) {
            Some(place) => Err(format!("`{place}` is read only when the signature is: choose by another place")),
            None => Ok(()),
        }
    }

    /// Where a webhook names the key of a document, if the scheme says so.
    fn key_id_place(&self) -> Option<&Location> {
        match &self.fetched_key {
            Some(KeyOrigin::Document(document)) => document.key_id_at.as_ref(),
            _ => None,
        }
    }

    fn places(&self) -> impl Iterator<Item = &Location> {
        let in_templates = self.templates().flat_map(Template::variables).filter_map(|variable| match variable {
            Variable::At(place) => Some(place),
            _ => None,
        });
        let named = self.signature.at.iter().chain(self.timestamp.iter().flat_map(|spec| spec.at.iter())).chain(&self.id);
        let others =
            self.checks.iter().flat_map(|check| check.at.iter()).chain(&self.secret.chosen_by).chain(self.key_id_place());
        named.chain(others).chain(self.when.iter().map(|when| &when.at)).chain(in_templates)
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        self.signed.iter().chain(self.checks.iter().flat_map(|check| &check.equals))
    }

    pub(super) fn uses(&self, variable: &Variable) -> bool {
        self.templates().any(|template| template.uses(variable))
    }

    /// Whether the whole body is covered, directly or by its digest.
    fn covers_body(&self) -> bool {
        let signed = self.signed.as_ref().is_some_and(Template::covers_body);
        signed || self.covers_digest()
    }

    /// Whether a check holds what is signed to a digest of the body.
    fn covers_digest(&self) -> bool {
        self.checks.iter().any(|check| {
            let is_digest = !check.equals.is_empty() && check.equals.iter().all(Template::covers_body);
            is_digest && check.at.iter().all(|place| self.covers_outside_body(place))
        })
    }

    fn covers_outside_body(&self, place: &Location) -> bool {
        let Some(signed) = &self.signed else { return matches!(place.root(), Location::Claim(_) | Location::Body) };
        let named = signed.covered().any(|variable| match variable {
            Variable::At(at) => at == place,
            Variable::Id => self.id.as_ref() == Some(place),
            _ => false,
        });
        let in_query = matches!(place.root(), Location::Query(_))
            && signed.covered().any(|variable| match variable {
                Variable::Url => self.url != UrlForm::WithoutQuery,
                Variable::Query | Variable::QuerySorted => true,
                _ => false,
            });
        named || in_query
    }

    fn covers(&self, place: &Location) -> bool {
        let covers_body =
            |signed: &Template| signed.covered().any(|variable| *variable == Variable::Body) || signed.covers_body_as_json();
        let in_body = self.signed.as_ref().is_some_and(covers_body);
        match place.root() {
            Location::Json(_) | Location::Form(_) | Location::Raw(_) | Location::Multipart(_)
                if in_body || self.covers_digest() =>
            {
                true
            }
            // Sorted pairs run into each other, so that other names and values can be signed alike.
            Location::Json(pointer) if self.uses(&Variable::AwsSns) => sns::is_signed(pointer),
            _ => self.covers_outside_body(place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(toml: &str) -> Result<(), String> {
        toml::from_str::<Scheme>(toml).map_err(|error| error.message().to_owned())?.check()
    }

    fn with(rest: &str) -> Result<(), String> {
        check(&format!("algorithm = \"hmac-sha256\"\nsignature = {{ at = \"header:s\", encoding = \"hex\" }}\n{rest}"))
    }

    #[track_caller]
    fn refused(result: Result<(), String>, words: &str) {
        let message = result.unwrap_err();
        assert!(message.contains(words), "{message}");
    }

    #[test]
    fn what_every_scheme_needs_is_asked_for() {
        refused(check("signature = { at = \"header:s\", encoding = \"hex\" }"), "no `algorithm`");
        refused(check("algorithm = \"hmac-sha256\""), "no `signature`");
        refused(with(""), "no `signed`");
        refused(check("algorithm = \"hmac-sha256\"\nsigned = \"{body}\"\nsignature = { at = \"header:s\" }"), "no `encoding`");
        refused(check("algorithm = \"hmac-md4\""), "unknown variant");
        assert_eq!(with("signed = \"{body}\""), Ok(()));
    }

    #[test]
    fn tokens_sign_nothing() {
        let token = |rest: &str| check(&format!("algorithm = \"token\"\nsignature = {{ at = \"header:s\" }}\n{rest}"));
        assert_eq!(token(""), Ok(()));
        refused(token("signed = \"{body}\""), "means nothing here");
        refused(check("algorithm = \"token\"\nsignature = { at = \"header:s\", encoding = \"hex\" }"), "a token is text");
        refused(token("jwt = { algorithms = [\"HS256\"] }"), "another `algorithm`");
        refused(token("fetched_key = \"plaid\""), "public keys");
        refused(token("own_keys = true"), "means nothing here");
    }

    fn jwt(rest: &str) -> Result<(), String> {
        check(&format!("algorithm = \"jwt\"\nunsigned_body = true\n{rest}"))
    }

    #[test]
    fn a_token_that_says_nothing_of_the_body_must_say_so() {
        let token = |at: &str, rest: &str| {
            check(&format!("algorithm = \"jwt\"\njwt = {{ algorithms = [\"HS256\"] }}\nsignature = {{ at = {at} }}\n{rest}"))
        };
        let digest = "checks = [{ at = \"claim:/h\", equals = \"{body|sha256|hex}\" }]";
        refused(token("\"header:t\"", ""), "`unsigned_body = true`");
        refused(token("\"json:/t\"", ""), "`unsigned_body = true`");
        refused(token("[\"body\", \"header:t\"]", ""), "`unsigned_body = true`");
        assert_eq!(token("\"header:t\"", "unsigned_body = true"), Ok(()));
        assert_eq!(token("\"header:t\"", digest), Ok(()));
        assert_eq!(token("\"body\"", ""), Ok(()));
        refused(
            token("\"header:t\"", "checks = [{ at = [\"claim:/h\", \"header:h\"], equals = \"{body|sha256|hex}\" }]"),
            "`unsigned_body = true`",
        );
        refused(
            token("\"header:t\"", "checks = [{ at = \"claim:/h\", equals_any = [\"{body|sha256|hex}\", \"x\"] }]"),
            "`unsigned_body = true`",
        );
    }

    #[test]
    fn a_body_that_is_the_signature_is_a_token() {
        let body = |algorithm: &str| {
            check(&format!("algorithm = \"{algorithm}\"\nsignature = {{ at = \"body\" }}\njwt = {{ algorithms = [\"HS256\"] }}"))
        };
        assert_eq!(body("jwt"), Ok(()));
        refused(check("algorithm = \"token\"\nsignature = { at = \"body\" }"), "is itself a token");
        for place in ["id = \"body\"", "checks = [{ at = \"body\", equals = \"x\" }]", "secret = { chosen_by = \"body\" }"] {
            refused(with(&format!("signed = \"{{body}}\"\n{place}")), "`signature.at` alone");
        }
    }

    #[test]
    fn a_detached_signature_signs_content_and_has_no_claims() {
        let detached = |rest: &str| check(&format!("algorithm = \"jws-detached\"\nsignature = {{ at = \"header:s\" }}\n{rest}"));
        let jwt = "jwt = { algorithms = [\"PS256\"] }\n";
        assert_eq!(detached(&format!("{jwt}signed = \"{{body}}\"")), Ok(()));
        refused(detached(jwt), "no `signed`");
        refused(detached("signed = \"{body}\""), "a token needs `jwt");
        refused(detached(&format!("{jwt}signed = \"{{header:a}}\"")), "`unsigned_body = true`");
        refused(detached(&format!("{jwt}signed = \"{{claim:/a}}{{body}}\"")), "only a JWT has claims");
        refused(detached("jwt = { algorithms = [\"PS256\"], required = [\"exp\"] }\nsigned = \"{body}\""), "has no claims");
        refused(
            check(
                "algorithm = \"jws-detached\"\nsignature = { at = \"body\" }\nsigned = \"{body}\"\njwt = { algorithms = [\"PS256\"] }",
            ),
            "is itself a token",
        );
    }

    #[test]
    fn a_check_says_what_it_compares_with() {
        let check = |rest: &str| with(&format!("signed = \"{{body}}\"\nchecks = [{{ {rest} }}]"));
        assert_eq!(check("at = \"json:/a\", equals_any = [\"a\", \"b\"]"), Ok(()));
        refused(check("at = \"json:/a\""), "exactly one");
        refused(check("at = \"json:/a\", equals = \"a\", equals_any = [\"b\"]"), "exactly one");
        refused(check("at = \"json:/a\", equals = \"a\", equals_secret = true"), "exactly one");
        refused(check("at = []"), "1 to 8 places");
        let any = |count: usize| check(&format!("at = \"json:/a\", equals_any = [{}]", "\"a\",".repeat(count)));
        refused(any(0), "1 to 16 values");
        assert_eq!(any(EQUALS_ANY_MAX), Ok(()));
        refused(any(EQUALS_ANY_MAX + 1), "1 to 16 values");
        let places = |count: usize| check(&format!("at = [{}], equals = \"a\"", "\"json:/a\",".repeat(count)));
        assert_eq!(places(CHECK_PLACES_MAX), Ok(()));
        refused(places(CHECK_PLACES_MAX + 1), "1 to 8 places");
        refused(check("at = \"json:/a\", equals_secret = true"), "keyring has no secret");
        refused(check("at = \"json:/a\", equals_secret = true, absent_if_body_empty = true"), "cannot be absent");
        assert_eq!(check("at = \"json:/a\", absent = true"), Ok(()));
        refused(check("at = \"json:/a\", absent = false"), "exactly one");
        refused(check("at = \"json:/a\", absent = true, equals = \"a\""), "exactly one");
        refused(check("at = \"json:/a\", absent = true, equals_secret = true"), "exactly one");
        refused(check("at = \"json:/a\", absent = true, absent_if_body_empty = true"), "means nothing");
    }

    #[test]
    fn a_check_that_a_place_is_absent_covers_no_body() {
        let absent = "checks = [{ at = \"query:h\", absent = true }]";
        refused(with(&format!("signed = \"{{url}}\"\n{absent}")), "`unsigned_body = true`");
        let token = "algorithm = \"jwt\"\njwt = { algorithms = [\"HS256\"] }\nsignature = { at = \"header:t\" }\n";
        refused(check(&format!("{token}checks = [{{ at = \"claim:/h\", absent = true }}]")), "`unsigned_body = true`");
    }

    #[test]
    fn keys_that_sign_for_many_need_what_says_for_whom() {
        let jwks = "signature = { at = \"header:t\" }\njwt = { algorithms = [\"RS256\"] }\n\
                    fetched_key = { jwks = \"https://example.com/keys\" }\n";
        refused(jwt(jwks), "for every customer");
        assert_eq!(jwt(&format!("{jwks}own_keys = true")), Ok(()));
        assert_eq!(jwt(&format!("{jwks}checks = [{{ at = \"claim:/aud\", equals_secret = true }}]")), Ok(()));
        assert_eq!(jwt(&format!("{jwks}secret = {{ chosen_by = \"claim:/aud\" }}")), Ok(()));
        refused(jwt(&format!("{jwks}secret = {{ chosen_by = \"header:x\" }}")), "for every customer");
        refused(jwt(&format!("{jwks}checks = [{{ at = \"header:x\", equals_secret = true }}]")), "is not signed");
        refused(jwt(&format!("{jwks}checks = [{{ at = \"claim:/iss\", equals = \"x\" }}]")), "for every customer");
        refused(jwt(&jwks.replace("RS256", "HS256")), "has HMAC");

        let key = "algorithm = \"rsa-sha256\"\nsignature = { at = \"header:s\", encoding = \"base64\" }\n";
        let origin = |signed: &str, origin: &str, rest: &str| {
            check(&format!("{key}signed = \"{signed}\"\nfetched_key = {{ {origin} }}\n{rest}"))
        };
        let pem = "pem = \"https://example.com/key.pem\"";
        refused(origin("{body}", pem, ""), "for every customer");
        assert_eq!(origin("{body}", pem, "checks = [{ at = \"json:/account\", equals_secret = true }]"), Ok(()));
        assert_eq!(origin("{body}{secret}", pem, ""), Ok(()));
        refused(origin("{body}[{secret}]", pem, ""), "for every customer");
        let map = "pem_map = \"https://example.com/keys\"";
        refused(origin("{body}", map, "own_keys = true"), "has no `kid`");
        assert_eq!(origin("{body}", &format!("{map}, kid = \"header:x-key-id\""), "own_keys = true"), Ok(()));
        refused(origin("{body}", &format!("{pem}, kid = \"header:x-key-id\""), "own_keys = true"), "one key needs no `kid`");
        refused(origin("{body}", &format!("{map}, kid = \"claim:/kid\""), "own_keys = true"), "only a JWT has claims");
        refused(
            jwt(&jwks.replace(" }\nown", "").replace("keys\" }", "keys\", kid = \"claim:/kid\" }\nown_keys = true")),
            "read only when",
        );
    }

    #[test]
    fn certificates_of_a_token_lead_to_one_root() {
        let chain =
            |spec: &str, rest: &str| jwt(&format!("signature = {{ at = \"json:/signedPayload\" }}\njwt = {{ {spec} }}\n{rest}"));
        let bundle = "checks = [{ at = [\"claim:/data/bundleId\", \"claim:/summary/bundleId\"], equals_secret = true }]";
        let apple = "algorithms = [\"ES256\"], x5c_root = \"apple-root-ca-g3\"";
        assert_eq!(chain(apple, bundle), Ok(()));
        refused(chain(apple, ""), "for every customer");
        refused(chain(&apple.replace("ES256", "HS256"), bundle), "has HMAC");
        refused(chain(&apple.replace("g3", "g4"), bundle), "is no root");
        refused(chain(&apple.replace("x5c_root", "x5c_roots"), bundle), "unknown field");
        refused(chain("algorithms = [\"ES256\"], x5c_oids = { leaf = \"1.2.3\" }", ""), "`jwt.x5c_root`, which is not there");
        refused(chain(&format!("{apple}, x5c_oids = {{ intermediate = \"1.2.3\" }}"), bundle), "developers");
        refused(chain(&format!("{apple}, x5c_oids = {{ leaf = \"1.2.x\" }}"), bundle), "is no object identifier");
        assert_eq!(chain(&format!("{apple}, x5c_oids = {{ leaf = \"1.2.3\" }}"), bundle), Ok(()));
        refused(
            chain(apple, &format!("{bundle}\nfetched_key = {{ jwks = \"https://example.com/keys\" }}")),
            "either in the token's certificates",
        );
    }

    #[test]
    fn a_body_that_is_not_covered_must_be_said() {
        refused(with("signed = \"{header:a}\""), "`unsigned_body = true`");
        assert_eq!(with("signed = \"{header:a}\"\nunsigned_body = true"), Ok(()));
        refused(with("signed = \"a[{body}]\""), "`unsigned_body = true`");
        refused(with("signed = \"{body|lower}\""), "`unsigned_body = true`");
        let digest = |url: &str| {
            with(&format!("signed = \"{{url}}\"\n{url}checks = [{{ at = \"query:h\", equals = \"{{body|sha256|hex}}\" }}]"))
        };
        assert_eq!(digest(""), Ok(()));
        refused(digest("url = \"without-query\"\n"), "`unsigned_body = true`");
    }

    #[test]
    fn a_timestamp_is_covered_and_bounded_or_said_not_to_be() {
        let timestamp =
            |signed: &str, rest: &str| with(&format!("signed = \"{signed}\"\ntimestamp = {{ format = \"seconds\", {rest} }}"));
        refused(with("signed = \"{timestamp}{body}\""), "has no `timestamp`");
        refused(timestamp("{body}", "at = \"header:t\", tolerance_seconds = 300"), "anybody could change it");
        assert_eq!(timestamp("{body}", "at = \"header:t\", tolerance_seconds = 300, unsigned = true"), Ok(()));
        assert_eq!(timestamp("{body}", "at = \"json:/t\", tolerance_seconds = 300"), Ok(()));
        refused(timestamp("{body}", "at = [\"json:/t\", \"header:t\"], tolerance_seconds = 300"), "anybody could change it");
        refused(timestamp("{timestamp}{body}", "at = \"signature:t\", tolerance_seconds = 300"), "`signature.list`");
        refused(timestamp("{timestamp}{body}", "at = \"header:t\""), "`unbounded = true`");
        refused(timestamp("{timestamp}{body}", "at = \"header:t\", unbounded = true, tolerance_seconds = 1"), "both");
        for (seconds, possible) in [(0, false), (1, true), (TOLERANCE_SECONDS_MAX, true), (TOLERANCE_SECONDS_MAX + 1, false)] {
            let result = timestamp("{timestamp}{body}", &format!("at = \"header:t\", tolerance_seconds = {seconds}"));
            assert_eq!(result.is_ok(), possible, "{seconds}");
        }
    }

    #[test]
    fn a_secret_stands_in_the_content_of_a_hash_and_nowhere_else() {
        let hash = |signed: &str| {
            check(&format!(
                "algorithm = \"sha256\"\nsignature = {{ at = \"header:s\", encoding = \"hex\" }}\nsigned = \"{signed}\""
            ))
        };
        assert_eq!(hash("{secret}{body}"), Ok(()));
        refused(hash("{body}"), "made by anybody");
        refused(hash("[{secret}]{body}"), "made by anybody");
        refused(hash("{secret|crc32}{body}"), "made by anybody");
        assert_eq!(with("signed = \"{secret}{body}\""), Ok(()), "some keyed hashes have it as well");
        refused(with("signed = \"{body}\"\nchecks = [{ at = \"header:a\", equals = \"{secret}\" }]"), "cannot stand in `checks`");
        refused(with("signed = \"{body|hmac-sha256}\""), "answers of a handshake");
    }

    #[test]
    fn places_that_the_scheme_does_not_have_are_named() {
        refused(with("signed = \"{signature:n}{body}\""), "`signature.list`");
        refused(with("signed = \"{claim:/a}{body}\""), "only a JWT has claims");
        refused(with("signed = \"{id}{body}\""), "no `id`");
        refused(with("signed = \"{key_id}{body}\""), "`id_separator`");
        refused(with("signed = \"{body}\"\nsecret = { chosen_by = \"signature:k\" }"), "`signature.list`");
        let at = |at: &str| {
            check(&format!("algorithm = \"hmac-sha256\"\nsigned = \"{{body}}\"\nsignature = {{ at = {at}, encoding = \"hex\" }}"))
        };
        refused(at("\"signature:t\""), "a place in the request");
        refused(at("[]"), "1 to 16 places");
        assert_eq!(at(&format!("[{}]", "\"header:s\",".repeat(SIGNATURES_MAX))), Ok(()));
        refused(at(&format!("[{}]", "\"header:s\",".repeat(SIGNATURES_MAX + 1))), "1 to 16 places");
    }

    #[test]
    fn alternatives_stand_by_themselves() {
        let one = "{ algorithm = \"token\", signature = { at = \"header:s\" } },";
        assert_eq!(check(&format!("first_of = [{}]", one.repeat(ALTERNATIVES_MAX))), Ok(()));
        refused(check(&format!("first_of = [{}]", one.repeat(ALTERNATIVES_MAX + 1))), "more than 8");
        for beside in [
            "algorithm = \"token\"",
            "checks = [{ at = \"header:x\", equals = \"y\" }]",
            "secret = { encoding = \"hex\" }",
            "id = \"header:x\"",
        ] {
            refused(check(&format!("{beside}\nfirst_of = [{one}]")), "nothing else");
        }
        refused(check(&format!("first_of = [{{ first_of = [{one}] }}]")), "within `first_of`");
        refused(
            check("algorithm = \"token\"\nsignature = { at = \"header:s\" }\nwhen = { at = \"header:a\" }"),
            "there are none",
        );
        refused(
            check(&format!(
                "first_of = [{one} {{ algorithm = \"hmac-sha1\", signature = {{ at = \"header:s\", encoding = \"hex\" }} }}]"
            )),
            "alternative 2: ",
        );
    }

    #[test]
    fn what_is_covered_can_be_asked() {
        let scheme = |rest: &str| {
            toml::from_str::<Scheme>(&format!(
                "algorithm = \"hmac-sha256\"\nsignature = {{ at = \"header:s\", encoding = \"hex\" }}\n{rest}"
            ))
            .unwrap()
        };
        let place = |text: &str| Location::try_from(text.to_owned()).unwrap();
        let body = scheme("signed = \"{body}\"");
        assert!(body.covers(&place("json:/id")));
        assert!(!body.covers(&place("header:id")));
        let id = scheme("signed = \"{id}{body}\"\nid = \"header:id\"");
        assert!(id.covers(&place("header:id")));
        assert_eq!(id.id(), Some(&place("header:id")));
        let url = scheme("signed = \"{url}[{header:n}]\"\nunsigned_body = true");
        assert!(url.covers(&place("query:id")));
        assert!(!url.covers(&place("header:n")), "what may be left out is not covered");
        assert!(!url.covers(&place("json:/id")));
        let lower = scheme("signed = \"{header:id|lower}{body}\"");
        assert!(!lower.covers(&place("header:id")), "in another case it is another id");
    }
}
