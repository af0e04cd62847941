//! Proving who sent a webhook, over the exact bytes that came in.
//!
//! A [`Scheme`] is data: which bytes are signed, where the signature and the timestamp stand, how they are encoded. Nothing
//! is parsed before it is verified but what the scheme itself needs. Comparison is constant-time on decoded bytes.

mod chain;
mod examine;
pub mod handshake;
pub mod jwt;
mod key;
#[cfg(test)]
mod kinds;
mod mac;
pub mod outgoing;
pub mod preset;
pub mod public_key;
mod scheme;
mod sign;
mod template;
mod url;
mod verify;
#[cfg(test)]
mod verify_tests;

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::{content::ContentError, location::Sought};

pub use chain::{IssuerOids, Root, X5C_CERTIFICATES_MAX};
pub use examine::{Content, Examination, Looked, TimeSent};
pub use key::SecretSpec;
pub use scheme::{
    AHEAD_SECONDS_DEFAULT, ALTERNATIVES_MAX, Algorithm, Alternative, CHECK_PLACES_MAX, Check, Condition, EQUALS_ANY_MAX,
    Encoding, JwtSpec, LISTED_MAX, Listed, SIGNATURES_MAX, Scheme, SignatureList, SignatureSpec, TOLERANCE_SECONDS_MAX,
    TOLERANCE_UNREMEMBERED_SECONDS_MAX, TimestampFormat, TimestampSpec, UrlForm,
};
pub use sign::SignError;
pub use template::{HEADER_LIST_MAX, SORTED_JSON_BYTES_MAX, SORTED_PAIRS_MAX, Template, TemplateValues, Variable};
pub use url::URL_CANDIDATES_MAX;
pub use verify::VerifiedWebhook;

/// A request as it came in: nothing about it is known to be true.
#[derive(Clone, Debug)]
pub struct UnverifiedWebhook {
    /// Its method.
    pub method: Method,
    /// The public URL that the sender used, without the query: as registered with the provider, or else as API Gateway saw it.
    pub url: String,
    /// Its headers, names in lower case.
    pub headers: HeaderMap,
    /// The query string as received, without the question mark.
    pub raw_query: String,
    /// The query that is registered with the provider as a part of the URL, if any.
    pub registered_query: Option<String>,
    /// The exact bytes of the body.
    pub body: Vec<u8>,
}

impl UnverifiedWebhook {
    /// From a request as captured: the whole URL, and headers in any case, repeated or not. A header that HTTP does not allow is left out.
    pub fn new(method: Method, url: &str, headers: &[(String, String)], body: Vec<u8>) -> Self {
        let (url, raw_query) = url.split_once('?').unwrap_or((url, ""));
        let headers = headers
            .iter()
            .filter_map(|(name, value)| {
                Some((HeaderName::try_from(name).ok()?, HeaderValue::from_bytes(value.trim().as_bytes()).ok()?))
            })
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            });
        Self { method, url: url.to_owned(), headers, raw_query: raw_query.to_owned(), registered_query: None, body }
    }

    /// The whole URL.
    pub fn full_url(&self) -> Cow<'_, str> {
        if self.raw_query.is_empty() { Cow::Borrowed(&self.url) } else { Cow::Owned(format!("{}?{}", self.url, self.raw_query)) }
    }

    /// The path of the URL.
    pub fn path(&self) -> &str {
        let after_scheme = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        after_scheme.find('/').map_or("/", |start| &after_scheme[start..])
    }
}

/// Why a webhook is not proven. It says nothing that helps to forge one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The place where the signature should be is empty.
    #[error("the signature is missing")]
    MissingSignature,
    /// There, but not in the scheme's form.
    #[error("the signature is malformed")]
    MalformedSignature,
    /// Well-formed, and made with no key that is valid now, or over other bytes.
    #[error("the signature does not match")]
    WrongSignature,
    /// Something else that the signature covers is not there.
    #[error("something that the signature covers is missing from the request")]
    MissingPart,
    /// The scheme signs a timestamp, and there is none.
    #[error("the timestamp is missing")]
    MissingTimestamp,
    /// There are several where there should be one.
    #[error("the {0} stands in the request more than once, and only one of them can be meant")]
    Repeated(&'static str),
    /// It should stand in a JSON body.
    #[error("the body is not JSON (line {line}, column {column}), and the {what} should stand in it")]
    BodyNotJson {
        /// Signature or timestamp.
        what: &'static str,
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
    },
    /// It should stand in a body that cannot be decoded.
    #[error("the {what} should stand in the body, which cannot be read: {error}")]
    Undecodable {
        /// Signature or timestamp.
        what: &'static str,
        /// Why.
        error: ContentError,
    },
    /// Not a number in the scheme's unit.
    #[error("the timestamp is malformed")]
    MalformedTimestamp,
    /// Rightly signed, but too long ago or too far ahead.
    #[error("the timestamp is {seconds_off} s off, more than the {tolerance_seconds} s allowed")]
    Stale {
        /// Distance from now, to either side.
        seconds_off: u64,
        /// What the scheme allows.
        tolerance_seconds: u64,
    },
    /// Rightly signed, but a claim of the token is missing or of the wrong kind.
    #[error("the token's claim `{0}` does not hold")]
    BadClaim(&'static str),
    /// Rightly signed, but something that the signature vouches for, as the body's digest in the URL, is not so.
    #[error("what the signature says of the request does not hold")]
    FailedCheck,
    /// Rightly signed by a key that signs for many, and for another of them.
    #[error("the signature is right, but the webhook is for another receiver: no key of this source is what it names")]
    OtherReceiver,
    /// No key of the keyring can be decoded as the scheme says.
    #[error("no key of this source can be used with its scheme")]
    UnusableKey,
    /// The public key that the webhook names is not one that may be fetched.
    #[error("the webhook names a signing key that its provider does not have")]
    UntrustedKey,
}

impl Refusal {
    /// The refusal for something that is not absent and yet cannot be read.
    fn unread(sought: &Sought<'_>, what: &'static str) -> Option<Self> {
        match sought {
            Sought::Several => Some(Self::Repeated(what)),
            Sought::NotJson { line, column } => Some(Self::BodyNotJson { what, line: *line, column: *column }),
            Sought::Undecodable(error) => Some(Self::Undecodable { what, error: *error }),
            Sought::Absent | Sought::NotText(_) | Sought::Text { .. } => None,
        }
    }

    /// Whether another key could have proved it.
    pub const fn depends_on_keys(self) -> bool {
        matches!(self, Self::WrongSignature | Self::UnusableKey | Self::OtherReceiver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_captured_request_is_taken_apart_and_put_together_again() {
        let headers =
            [("X-A".to_owned(), "1".to_owned()), ("x-a".to_owned(), "2".to_owned()), ("bad name".to_owned(), "".to_owned())];
        let webhook = UnverifiedWebhook::new(Method::POST, "https://u:p@h:1/a/b?c=d?e", &headers, Vec::new());
        assert_eq!((webhook.path(), webhook.raw_query.as_str()), ("/a/b", "c=d?e"));
        assert_eq!(webhook.full_url(), "https://u:p@h:1/a/b?c=d?e");
        assert_eq!(webhook.headers.get_all("x-a").iter().count(), 2);
        assert_eq!(webhook.headers.len(), 2);
        assert_eq!(UnverifiedWebhook::new(Method::GET, "https://h", &[], Vec::new()).path(), "/");
    }
}
