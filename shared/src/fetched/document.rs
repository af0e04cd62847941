//! Keys from a document that their owner publishes: a JSON Web Key Set (RFC 7517, section 5), a JSON object of PEM texts by key id,
//! or one key.
//!
//! The scheme pins the document's URL, and a webhook only says which of its keys it was signed with. So a stranger's webhook makes
//! Posthouse read a document that its operator chose, at most once a minute, and no other.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    FetchError, KeyOrigin, MISSING_CACHE_SECONDS,
    transport::{Request, Transport},
};
use crate::{
    location::Location,
    signatures::public_key::{Certificate, PublicKey, SignatureAlgorithm},
    time::{DAY_SECONDS, Timestamp},
};

/// How long a document counts at least, whatever its owner says.
pub const DOCUMENT_CACHE_SECONDS_MIN: u64 = 300;
/// How long a document counts if its owner says nothing.
pub const DOCUMENT_CACHE_SECONDS_DEFAULT: u64 = 3600;
/// How long a document counts at most: until then, a key that its owner has withdrawn still does.
pub const DOCUMENT_CACHE_SECONDS_MAX: u64 = DAY_SECONDS;
/// Longest URL of a document.
pub const DOCUMENT_URL_CHARS_MAX: usize = 2048;

// A document that was just read is not read again for a key that it does not have.
const _: () = assert!(MISSING_CACHE_SECONDS <= DOCUMENT_CACHE_SECONDS_MIN);

/// A document whose keys a scheme takes, and where a webhook says which one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDocument {
    document: Document,
    /// Where the key's id stands, if not in the header of a token.
    pub key_id_at: Option<Location>,
}

/// Which key of a document a webhook was signed with, of which nothing is proven.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamedKey {
    /// Its id. `None`: the only one.
    pub key_id: Option<String>,
    /// What it must be a key for.
    pub algorithm: SignatureAlgorithm,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Document {
    form: Form,
    url: DocumentUrl,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    Jwks,
    PemMap,
    Pem,
}

/// An URL over TLS, at a host by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct DocumentUrl(String);

/// A key of a document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct DocumentKey {
    pub(super) document: Document,
    named: NamedKey,
}

/// Whose keys a scheme fetches, as it is written.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "`fetched_key` is \"aws-sns\", \"paypal\" or \"plaid\", or a document: { jwks = URL }, { pem_map = URL } or \
                 { pem = URL }, with `kid` for where a webhook names its key, as \"header:x-key-id\""
)]
pub(super) enum OriginEntry {
    Provider(Provider),
    Document(DocumentEntry),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Provider {
    AwsSns,
    Paypal,
    Plaid,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DocumentEntry {
    jwks: Option<String>,
    pem_map: Option<String>,
    pem: Option<String>,
    kid: Option<Location>,
}

impl TryFrom<OriginEntry> for KeyOrigin {
    type Error = String;

    fn try_from(entry: OriginEntry) -> Result<Self, String> {
        let entry = match entry {
            OriginEntry::Provider(Provider::AwsSns) => return Ok(Self::AwsSns),
            OriginEntry::Provider(Provider::Paypal) => return Ok(Self::Paypal),
            OriginEntry::Provider(Provider::Plaid) => return Ok(Self::Plaid),
            OriginEntry::Document(entry) => entry,
        };
        let (form, url) = match (entry.jwks, entry.pem_map, entry.pem) {
            (Some(url), None, None) => (Form::Jwks, url),
            (None, Some(url), None) => (Form::PemMap, url),
            (None, None, Some(url)) => (Form::Pem, url),
            _ => return Err("`fetched_key` has exactly one of `jwks`, `pem_map` and `pem`".into()),
        };
        let document = Document { form, url: DocumentUrl::parse(url)? };
        Ok(Self::Document(KeyDocument { document, key_id_at: entry.kid }))
    }
}

impl DocumentUrl {
    fn parse(text: String) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("the URL of `fetched_key` {what}"));
        if text.len() > DOCUMENT_URL_CHARS_MAX {
            return wrong(&format!("has more than {DOCUMENT_URL_CHARS_MAX} characters"));
        }
        if text.contains('#') || !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains(['\\', '"', '<', '>']) {
            return wrong("has a fragment, a space or another character that a URL does not have");
        }
        let Some(rest) = text.strip_prefix("https://") else { return wrong("must start with https://") };
        let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
        if authority.contains('@') {
            return wrong("has a user in it: a document that everybody may read needs none");
        }
        let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
        if port
            .is_some_and(|port| !port.bytes().all(|byte| byte.is_ascii_digit()) || !port.parse().is_ok_and(|port: u16| port > 0))
        {
            return wrong("has a port that is no number from 1 to 65535");
        }
        if !is_host_name(host) {
            return wrong("must name its host, as www.googleapis.com, in lower case; an address of numbers is none");
        }
        Ok(Self(text))
    }
}

/// A name of DNS with at least two labels, the last of which does not begin like a number: else it could be read as an address.
fn is_host_name(host: &str) -> bool {
    let is_label = |label: &str| {
        let allowed = label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        (1..=63).contains(&label.len()) && allowed && !label.starts_with('-') && !label.ends_with('-')
    };
    let last = host.rsplit_once('.').map(|(_, last)| last);
    host.len() <= 253
        && host.split('.').all(is_label)
        && last.is_some_and(|last| last.starts_with(|first: char| first.is_ascii_lowercase()))
}

impl KeyDocument {
    /// Says what is impossible about this combination, if anything.
    pub(crate) fn check(&self, is_token: bool) -> Result<(), String> {
        match (self.document.form, &self.key_id_at) {
            (Form::Pem, Some(_)) => Err("`fetched_key.pem` is one key, and one key needs no `kid`".into()),
            (Form::Jwks | Form::PemMap, None) if !is_token => {
                Err("`fetched_key` has no `kid`: say where a webhook names its key, as \
                 `kid = \"header:x-key-id\"`"
                    .into())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn key(&self, named: NamedKey) -> DocumentKey {
        DocumentKey { document: self.document.clone(), named }
    }
}

/// What was read of a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fetched {
    keys: Vec<PublishedKey>,
    until: Timestamp,
}

#[derive(Debug, PartialEq, Eq)]
struct PublishedKey {
    id: Option<String>,
    /// The one algorithm that its owner gives it for, by its name in JSON Web Algorithms.
    algorithm: Option<String>,
    key: Arc<PublicKey>,
    /// Of a certificate, which counts within its period.
    certificate: Option<Certificate>,
}

impl Document {
    pub(super) async fn fetch(&self, transport: &Transport, now: Timestamp) -> Result<Fetched, FetchError> {
        let answer = transport.fetch(Request::Get(&self.url.0)).await?;
        let fresh_seconds = answer.fresh_seconds.unwrap_or(DOCUMENT_CACHE_SECONDS_DEFAULT);
        let keys = self.form.read(&answer.success()?).filter(|keys| !keys.is_empty());
        let keys = keys.ok_or_else(|| FetchError::Unavailable(format!("its document is not {}", self.form.words())))?;
        let fresh_seconds = fresh_seconds.clamp(DOCUMENT_CACHE_SECONDS_MIN, DOCUMENT_CACHE_SECONDS_MAX);
        Ok(Fetched { keys, until: now.plus(Duration::from_secs(fresh_seconds)) })
    }
}

impl Form {
    const fn words(self) -> &'static str {
        match self {
            Self::Jwks => "a JSON Web Key Set with a key that can be used",
            Self::PemMap => "a JSON object of keys or certificates in PEM",
            Self::Pem => "a key or certificate in PEM, or a JSON Web Key",
        }
    }

    /// Keys of kinds that nothing here verifies with are passed over.
    fn read(self, body: &[u8]) -> Option<Vec<PublishedKey>> {
        let object = || serde_json::from_slice::<Map<String, Value>>(body).ok();
        match self {
            Self::Jwks => Some(object()?.get("keys")?.as_array()?.iter().filter_map(PublishedKey::of_jwk).collect()),
            Self::PemMap => {
                let named =
                    |(id, pem): (String, Value)| Some(PublishedKey { id: Some(id), ..PublishedKey::of_pem(pem.as_str()?)? });
                Some(object()?.into_iter().filter_map(named).collect())
            }
            Self::Pem => {
                let key = match std::str::from_utf8(body).ok()? {
                    text if text.trim_start().starts_with('{') => PublishedKey::of_jwk(&Value::Object(object()?)),
                    text => PublishedKey::of_pem(text),
                };
                // It is the only one, whatever its name.
                Some(vec![PublishedKey { id: None, ..key? }])
            }
        }
    }
}

impl PublishedKey {
    /// One that is published for verifying, or for nothing in particular (RFC 7517, sections 4.2 to 4.4).
    fn of_jwk(jwk: &Value) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str).map(str::to_owned);
        let signs = jwk.get("use").is_none_or(|usage| usage == "sig");
        let verifies =
            jwk.get("key_ops").is_none_or(|operations| operations.as_array().is_some_and(|all| all.contains(&"verify".into())));
        let key = PublicKey::from_jwk(jwk).filter(|_| signs && verifies)?;
        Some(Self { id: text("kid"), algorithm: text("alg"), key: Arc::new(key), certificate: None })
    }

    fn of_pem(pem: &str) -> Option<Self> {
        let certificate = Certificate::read(pem).ok();
        let key = certificate.as_ref().map(|certificate| certificate.key.clone()).or_else(|| PublicKey::from_pem(pem))?;
        Some(Self { id: None, algorithm: None, key: Arc::new(key), certificate })
    }

    fn is_for(&self, algorithm: SignatureAlgorithm, now: Timestamp) -> bool {
        let named = self.algorithm.as_ref().is_none_or(|name| jose_names(algorithm).contains(&name.as_str()));
        let in_time = self.certificate.as_ref().is_none_or(|certificate| certificate.check_period(now).is_ok());
        named && in_time && self.key.fits(algorithm)
    }
}

/// What JSON Web Algorithms call an algorithm. Those that they do not know are for keys that are not said to be for one.
const fn jose_names(algorithm: SignatureAlgorithm) -> &'static [&'static str] {
    use SignatureAlgorithm as A;
    match algorithm {
        A::Ed25519 => &["EdDSA", "Ed25519"],
        A::EcdsaP256Sha256 | A::EcdsaP256Sha256Fixed => &["ES256"],
        A::EcdsaP384Sha384 | A::EcdsaP384Sha384Fixed => &["ES384"],
        A::RsaSha256 => &["RS256"],
        A::RsaSha384 => &["RS384"],
        A::RsaSha512 => &["RS512"],
        A::RsaPssSha256 => &["PS256"],
        A::RsaPssSha384 => &["PS384"],
        A::RsaPssSha512 => &["PS512"],
        A::EcdsaP256Sha1 | A::EcdsaP256Sha512 | A::RsaSha1 => &[],
    }
}

/// A document as far as it was had.
#[derive(Debug, Default)]
pub(super) struct HeldDocument {
    fetched: Option<Fetched>,
    /// When it was last asked for.
    asked: Option<Timestamp>,
    /// Why it was not had then.
    failure: Option<FetchError>,
}

impl HeldDocument {
    /// The key, or why there is none. `None` if the document has to be read for it.
    pub(super) fn known(&self, wanted: &DocumentKey, now: Timestamp) -> Option<Result<Arc<PublicKey>, FetchError>> {
        let missing = match self.fresh(now).map(|fetched| fetched.find(&wanted.named, now)) {
            Some(Ok(key)) => return Some(Ok(key)),
            Some(Err(missing)) => Some(missing),
            None => None,
        };
        // It has just been asked for: once more would tell nothing else.
        let recently = self.asked.is_some_and(|asked| now.since(asked) < Duration::from_secs(MISSING_CACHE_SECONDS));
        self.failure.clone().or(missing).filter(|_| recently).map(Err)
    }

    /// Marks a document that counts still, and is read again for a key that it does not have. One that does not count is not
    /// marked: those who ask at the same time need it.
    pub(super) fn begin_again(&mut self, now: Timestamp) {
        if self.fresh(now).is_some() {
            self.asked = Some(now);
            self.failure = Some(FetchError::Unavailable("its document is being read".to_owned()));
        }
    }

    /// What was had before counts on where nothing new was had.
    pub(super) fn settle(&mut self, fetched: Result<Fetched, FetchError>, now: Timestamp) -> Result<(), FetchError> {
        self.asked = Some(now);
        self.failure = fetched.as_ref().err().cloned();
        self.fetched = Some(fetched?);
        Ok(())
    }

    fn fresh(&self, now: Timestamp) -> Option<&Fetched> {
        self.fetched.as_ref().filter(|fetched| now < fetched.until)
    }
}

impl Fetched {
    fn find(&self, named: &NamedKey, now: Timestamp) -> Result<Arc<PublicKey>, FetchError> {
        let mut fitting = self.keys.iter().filter(|key| key.is_for(named.algorithm, now));
        let found = match &named.key_id {
            Some(id) if self.keys.iter().any(|key| key.id.is_some()) => fitting.find(|key| key.id.as_ref() == Some(id)),
            // Without a name it is the only one.
            _ => fitting.next().filter(|_| fitting.next().is_none()),
        };
        found.map(|key| key.key.clone()).ok_or_else(|| FetchError::Refused("its document has no such key".to_owned()))
    }
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
