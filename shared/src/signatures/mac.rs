//! The keyed hashes, behind one type so that a message can be fed in pieces whatever the algorithm.

use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::{Sha256, Sha384, Sha512};

/// A keyed hash algorithm (RFC 2104 over FIPS 180-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
}

/// A message authentication code under way.
#[derive(Clone)]
pub(super) enum MessageAuthenticator {
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

impl MessageAuthenticator {
    pub(super) fn new(algorithm: Algorithm, key: &[u8]) -> Self {
        // HMAC takes keys of every length (RFC 2104, section 2): these cannot fail.
        const ANY_LENGTH: &str = "HMAC takes keys of every length";
        match algorithm {
            Algorithm::HmacSha256 => Self::Sha256(Hmac::new_from_slice(key).expect(ANY_LENGTH)),
            Algorithm::HmacSha384 => Self::Sha384(Hmac::new_from_slice(key).expect(ANY_LENGTH)),
            Algorithm::HmacSha512 => Self::Sha512(Hmac::new_from_slice(key).expect(ANY_LENGTH)),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(mac) => mac.update(bytes),
            Self::Sha384(mac) => mac.update(bytes),
            Self::Sha512(mac) => mac.update(bytes),
        }
    }

    /// Constant-time comparison with a whole, untruncated code.
    pub(super) fn matches(self, code: &[u8]) -> bool {
        match self {
            Self::Sha256(mac) => mac.verify_slice(code).is_ok(),
            Self::Sha384(mac) => mac.verify_slice(code).is_ok(),
            Self::Sha512(mac) => mac.verify_slice(code).is_ok(),
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        match self {
            Self::Sha256(mac) => mac.finalize().into_bytes().to_vec(),
            Self::Sha384(mac) => mac.finalize().into_bytes().to_vec(),
            Self::Sha512(mac) => mac.finalize().into_bytes().to_vec(),
        }
    }
}
