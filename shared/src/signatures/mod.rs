//! Proving who sent a webhook, over the exact bytes that came in.
//!
//! A [`Scheme`] is data: which bytes are signed, where the signature and the timestamp stand, how they are encoded. Nothing
//! is parsed before it is verified but what the scheme itself needs. Comparison is constant-time on decoded bytes.

mod mac;
pub mod outgoing;
pub mod preset;
mod scheme;
mod template;

use http::HeaderMap;

pub use mac::Algorithm;
pub use scheme::{
    Encoding, SIGNATURES_MAX, Scheme, SecretSpec, SignatureList, SignatureSpec, TOLERANCE_SECONDS_MAX, TimestampFormat,
    TimestampSpec,
};
pub use template::Template;

/// A request as it came in: nothing about it is known to be true.
#[derive(Debug)]
pub struct UnverifiedWebhook {
    /// Its headers, names in lower case.
    pub headers: HeaderMap,
    /// The query string as received, without the question mark.
    pub raw_query: String,
    /// The exact bytes of the body.
    pub body: Vec<u8>,
}

/// A request whose sender is proven. Only [`Scheme::verify`] makes one.
#[derive(Debug)]
pub struct VerifiedWebhook<'a> {
    webhook: &'a UnverifiedWebhook,
    key_id: String,
}

impl<'a> VerifiedWebhook<'a> {
    /// Its headers.
    pub fn headers(&self) -> &'a HeaderMap {
        &self.webhook.headers
    }

    /// The query string as received.
    pub fn raw_query(&self) -> &'a str {
        &self.webhook.raw_query
    }

    /// The exact bytes of the body.
    pub fn body(&self) -> &'a [u8] {
        &self.webhook.body
    }

    /// The id of the key that proved it.
    pub fn key_id(&self) -> &str {
        &self.key_id
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
    /// The scheme signs a timestamp, and there is none.
    #[error("the timestamp is missing")]
    MissingTimestamp,
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
    /// No key of the keyring can be decoded as the scheme says.
    #[error("no key of this source can be used with its scheme")]
    UnusableKey,
}

impl Refusal {
    /// Whether another key could have proved it.
    pub const fn depends_on_keys(self) -> bool {
        matches!(self, Self::WrongSignature | Self::UnusableKey)
    }
}
