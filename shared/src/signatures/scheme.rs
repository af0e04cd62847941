//! A signature scheme as data, and what is impossible about one.

use ring::{digest, hmac};
use serde::Deserialize;

use super::{
    jwt::JwtAlgorithm,
    key::SecretSpec,
    mac::Hash,
    public_key::SignatureAlgorithm,
    template::{Template, Variable},
};
use crate::{
    fetched::{KeyOrigin, sns},
    location::{Location, Locations, Places},
    time::Timestamp,
};

/// Most signatures looked at in one request. Providers send one a key, and two keys while they rotate.
pub const SIGNATURES_MAX: usize = 16;
/// Most alternatives of one scheme.
pub const ALTERNATIVES_MAX: usize = 8;
/// Widest tolerance that a scheme may ask for. Stripe and Standard Webhooks advise 300 s, Cloudinary 7200 s.
pub const TOLERANCE_SECONDS_MAX: u64 = 24 * 60 * 60;

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
    /// For `algorithm = "jwt"`.
    pub jwt: Option<JwtSpec>,
    /// Whose public keys have to be fetched.
    pub fetched_key: Option<KeyOrigin>,
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
        let defaulted = self.secret != SecretSpec::default() || self.url != UrlForm::default() || self.unsigned_body;
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
            when: self.when,
        })
    }
}

/// How the sender proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// HMAC (RFC 2104) with SHA-1.
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
    /// ECDSA on P-256 with SHA-256, the signature in DER.
    EcdsaP256Sha256,
    /// RSA PKCS #1 v1.5 with SHA-1, which AWS SNS still uses.
    RsaSha1,
    /// RSA PKCS #1 v1.5 with SHA-256.
    RsaSha256,
    /// A signed token (RFC 7519) that has the body's digest among its claims.
    Jwt,
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
    Token,
    Basic,
}

impl Algorithm {
    pub(super) fn proof(self) -> Proof {
        match self {
            Self::HmacSha1 => Proof::Hash(Hash::Keyed(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY)),
            Self::HmacSha256 => Proof::Hash(Hash::Keyed(hmac::HMAC_SHA256)),
            Self::HmacSha384 => Proof::Hash(Hash::Keyed(hmac::HMAC_SHA384)),
            Self::HmacSha512 => Proof::Hash(Hash::Keyed(hmac::HMAC_SHA512)),
            Self::Sha1 => Proof::Hash(Hash::Plain(&digest::SHA1_FOR_LEGACY_USE_ONLY)),
            Self::Sha256 => Proof::Hash(Hash::Plain(&digest::SHA256)),
            Self::Sha384 => Proof::Hash(Hash::Plain(&digest::SHA384)),
            Self::Sha512 => Proof::Hash(Hash::Plain(&digest::SHA512)),
            Self::Ed25519 => Proof::Public(SignatureAlgorithm::Ed25519),
            Self::EcdsaP256Sha256 => Proof::Public(SignatureAlgorithm::EcdsaP256Sha256),
            Self::RsaSha1 => Proof::Public(SignatureAlgorithm::RsaSha1),
            Self::RsaSha256 => Proof::Public(SignatureAlgorithm::RsaSha256),
            Self::Jwt => Proof::Jwt,
            Self::Token => Proof::Token,
            Self::Basic => Proof::Basic,
        }
    }

    /// Whether who can verify can also sign.
    pub fn is_symmetric(self) -> bool {
        !matches!(self.proof(), Proof::Public(_))
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

/// A list of entries, as Stripe's `t=…,v1=…,v1=…` or Standard Webhooks' `v1,… v1a,…`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureList {
    /// Between entries.
    pub separator: char,
    /// Between an entry's key and its value.
    pub assign: char,
    /// The key of the entries that are signatures; others are passed over. `{key_id}` stands for the public id of the key.
    pub key: String,
}

impl SignatureList {
    /// What stands for the public id of a key.
    pub(super) const KEY_ID: &'static str = "{key_id}";
}

/// Where a timestamp stands and how far it may be off.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimestampSpec {
    /// The places; the first that is there counts.
    pub at: Locations,
    /// How it is written.
    pub format: TimestampFormat,
    /// How far it may be from now, to both sides, in seconds.
    pub tolerance_seconds: Option<u64>,
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
        }
    }

    /// Writes a moment.
    pub fn write(self, moment: Timestamp) -> String {
        match self {
            Self::Seconds => moment.seconds().to_string(),
            Self::Milliseconds => moment.millis().to_string(),
            Self::Rfc3339 => moment.to_rfc3339(),
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
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The place.
    pub at: Location,
    /// What must stand there.
    pub equals: Template,
    /// Whether the place may be empty when the body is.
    #[serde(default)]
    pub absent_if_body_empty: bool,
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
    /// How far `exp` and `nbf` may be off, in seconds.
    #[serde(default)]
    pub leeway_seconds: u64,
    /// Which of `exp`, `nbf` and `iat` must be there.
    #[serde(default)]
    pub required: Vec<String>,
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

    /// Whether every way of signing has content of its own that a captured request could be known again by. Who has seen
    /// a token can send anything with it.
    pub fn signs_content(&self) -> bool {
        self.alternatives.iter().all(|alternative| alternative.signed.is_some() || alternative.jwt.is_some())
    }

    /// How long a captured webhook could be sent again, in seconds; `None` if for ever.
    pub fn replayable_seconds(&self) -> Option<u64> {
        // To both sides of the clock, the last second included.
        let tolerances = self.alternatives.iter().map(|alternative| match &alternative.timestamp {
            Some(spec) if !spec.unsigned && !spec.optional => spec.tolerance_seconds,
            _ => None,
        });
        tolerances.collect::<Option<Vec<u64>>>()?.into_iter().max().map(|seconds| 2 * seconds + 1)
    }

    /// Whether a request has a signature of this scheme, good or bad.
    pub fn is_signed(&self, places: &Places<'_>) -> bool {
        self.alternative(places).is_some()
    }

    /// Whether some way of signing covers the URL, which must then be known as it is registered with the provider.
    pub fn signs_url(&self) -> bool {
        self.alternatives.iter().any(|alternative| alternative.uses(&Variable::Url))
    }

    /// The place of the provider's own id for a webhook, where all ways of signing agree on it.
    pub fn id(&self) -> Option<&Location> {
        let first = self.alternatives.first()?.id.as_ref();
        first.filter(|_| self.alternatives.iter().all(|alternative| alternative.id.as_ref() == first))
    }
}

impl Alternative {
    /// Whether who can verify can also sign.
    pub fn is_symmetric(&self) -> bool {
        let public_token = self.jwt.as_ref().is_some_and(|jwt| jwt.algorithms.iter().all(|algorithm| !algorithm.is_symmetric()));
        self.algorithm.is_symmetric() && !public_token && self.fetched_key.is_none()
    }

    fn check(&self) -> Result<(), String> {
        self.check_kind()?;
        self.check_signature()?;
        self.check_signed()?;
        self.check_timestamp()?;
        self.check_places()
    }

    /// What each kind of algorithm needs and cannot have.
    fn check_kind(&self) -> Result<(), String> {
        let proof = self.algorithm.proof();
        let signs_content = matches!(proof, Proof::Hash(_) | Proof::Public(_));
        if signs_content && self.signed.is_none() {
            return Err("the scheme has no `signed`: say which bytes are signed, as `signed = \"{body}\"`".into());
        }
        if !signs_content && self.signed.is_some() {
            return Err("`signed` means nothing here: tokens sign no content of the request".into());
        }
        if signs_content != self.signature.encoding.is_some() {
            return Err(if signs_content {
                "`signature` has no `encoding`; it is hex, base64 or base64url".into()
            } else {
                "`signature.encoding` means nothing here: a token is text".into()
            });
        }
        match (&proof, &self.jwt) {
            (Proof::Jwt, None) => {
                return Err("`algorithm = \"jwt\"` needs `jwt = { algorithms = [\"HS256\"] }`: which ones may sign".into());
            }
            (Proof::Jwt, Some(jwt)) if jwt.algorithms.is_empty() => {
                return Err("`jwt.algorithms` is empty, so nothing could sign".into());
            }
            (Proof::Jwt, Some(jwt)) => {
                if let Some(other) = jwt.required.iter().find(|claim| !["exp", "nbf", "iat"].contains(&claim.as_str())) {
                    return Err(format!(
                        "`jwt.required` is about `exp`, `nbf` and `iat`, not `{other}`; use `checks` for others"
                    ));
                }
                if jwt.algorithms.iter().any(|algorithm| algorithm.is_symmetric() != jwt.algorithms[0].is_symmetric()) {
                    return Err(
                        "`jwt.algorithms` mixes HMAC with public keys: a public key could be taken for a shared secret".into()
                    );
                }
                if jwt.leeway_seconds > TOLERANCE_SECONDS_MAX {
                    return Err(format!("`jwt.leeway_seconds` must be at most {TOLERANCE_SECONDS_MAX}"));
                }
            }
            (_, Some(_)) => return Err("`jwt` means nothing for another `algorithm` than \"jwt\"".into()),
            (_, None) => {}
        }
        if self.fetched_key.is_some() && !matches!(proof, Proof::Public(_) | Proof::Jwt) {
            return Err("`fetched_key` is for algorithms with public keys".into());
        }
        Ok(())
    }

    fn check_signature(&self) -> Result<(), String> {
        let places = &self.signature.at;
        if places.count() == 0 || places.count() > SIGNATURES_MAX {
            return Err(format!("`signature.at` must name 1 to {SIGNATURES_MAX} places"));
        }
        if places.iter().any(|place| matches!(place, Location::Signature(_) | Location::Claim(_))) {
            return Err("`signature.at` must be a place in the request, as `header:x-signature`".into());
        }
        let chosen_by_id = self.signature.list.as_ref().is_some_and(|list| list.key == SignatureList::KEY_ID);
        let uses_id = chosen_by_id || self.uses(&Variable::KeyId);
        if uses_id && self.secret.id_separator.is_none() {
            return Err("`{key_id}` is used, but `secret` has no `id_separator`: keys have no id".into());
        }
        if self.secret.id_separator.as_deref() == Some("") {
            return Err("`secret.id_separator` is empty".into());
        }
        Ok(())
    }

    fn check_signed(&self) -> Result<(), String> {
        let Some(signed) = &self.signed else { return Ok(()) };
        if signed.uses_key() || self.checks.iter().any(|check| check.equals.uses_key()) {
            return Err("`hmac-…` filters are for the answers of a handshake".into());
        }
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
        if !is_plain_hash && self.fetched_key.is_none() && signed.uses(&Variable::Secret) {
            return Err("`{secret}` belongs into `signed` only for a plain hash: here the secret is the key".into());
        }
        if self.checks.iter().any(|check| check.equals.uses(&Variable::Secret)) {
            return Err("`{secret}` cannot stand in `checks`".into());
        }
        if signed.uses(&Variable::Id) && self.id.is_none() {
            return Err("`signed` has `{id}`, but the scheme has no `id`: say where it stands, as `id = \"header:x-id\"`".into());
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
        let others = self.checks.iter().map(|check| &check.at).chain(&self.id).chain(&self.secret.chosen_by);
        for place in in_templates.chain(in_timestamp).chain(others) {
            match place {
                Location::Signature(_) if self.signature.list.is_none() => {
                    return Err("something stands in the signature's list, but `signature.list` is not there".into());
                }
                Location::Claim(_) if self.jwt.is_none() => return Err(format!("`{place}`: only a JWT has claims")),
                _ => {}
            }
        }
        if let Some(place) = self
            .secret
            .chosen_by
            .iter()
            .chain(self.when.as_ref().map(|when| &when.at))
            .find(|place| matches!(place, Location::Signature(_) | Location::Claim(_)))
        {
            return Err(format!("`{place}` is read only when the signature is: choose by another place"));
        }
        Ok(())
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        self.signed.iter().chain(self.checks.iter().map(|check| &check.equals))
    }

    pub(super) fn uses(&self, variable: &Variable) -> bool {
        self.templates().any(|template| template.uses(variable))
    }

    /// Whether the whole body is covered, directly or by its digest.
    fn covers_body(&self) -> bool {
        let signed = self.signed.as_ref().is_some_and(Template::covers_body);
        let covers_digest = |check: &Check| check.equals.covers_body() && self.covers_outside_body(&check.at);
        signed || self.checks.iter().any(covers_digest)
    }

    fn covers_outside_body(&self, place: &Location) -> bool {
        let Some(signed) = &self.signed else { return matches!(place, Location::Claim(_)) };
        let named = signed.covered().any(|variable| match variable {
            Variable::At(at) => at == place,
            Variable::Id => self.id.as_ref() == Some(place),
            _ => false,
        });
        let in_query = matches!(place, Location::Query(_))
            && signed.covered().any(|variable| match variable {
                Variable::Url => self.url != UrlForm::WithoutQuery,
                Variable::Query | Variable::QuerySorted => true,
                _ => false,
            });
        named || in_query
    }

    fn covers(&self, place: &Location) -> bool {
        let in_body = self.signed.as_ref().is_some_and(|signed| signed.covered().any(|variable| *variable == Variable::Body));
        let by_digest = self.checks.iter().any(|check| check.equals.covers_body() && self.covers_outside_body(&check.at));
        match place {
            Location::Json(_) | Location::Form(_) if in_body || by_digest => true,
            // Sorted pairs run into each other, so that other names and values can be signed alike.
            Location::Json(pointer) if self.uses(&Variable::AwsSns) => sns::is_signed(pointer),
            place => self.covers_outside_body(place),
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
        refused(check("algorithm = \"hmac-md5\""), "unknown variant");
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
    fn a_secret_stands_in_the_content_of_a_plain_hash_and_nowhere_else() {
        let hash = |signed: &str| {
            check(&format!(
                "algorithm = \"sha256\"\nsignature = {{ at = \"header:s\", encoding = \"hex\" }}\nsigned = \"{signed}\""
            ))
        };
        assert_eq!(hash("{secret}{body}"), Ok(()));
        refused(hash("{body}"), "made by anybody");
        refused(hash("[{secret}]{body}"), "made by anybody");
        refused(hash("{secret|crc32}{body}"), "made by anybody");
        refused(with("signed = \"{secret}{body}\""), "the secret is the key");
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
