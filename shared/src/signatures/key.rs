//! From a keyring's text to the bytes that a scheme's algorithm takes.

use std::borrow::Cow;

use base64::{
    Engine,
    alphabet::{STANDARD, URL_SAFE},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use ring::digest;
use serde::Deserialize;
use unicode_normalization::UnicodeNormalization;

use super::scheme::Encoding;
use crate::{location::Location, secrets::Secret};

/// How a secret's text becomes key bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretSpec {
    /// Text that may stand before the secret and is no part of it, as `whsec_`.
    #[serde(default)]
    pub strip_prefix: String,
    /// `None`: the text's own bytes.
    pub encoding: Option<Encoding>,
    /// The key is this digest of the decoded secret.
    pub digest: Option<KeyDigest>,
    /// For secrets of two parts: what stands between the key's public id and the secret itself.
    pub id_separator: Option<String>,
    /// Text that is put behind the secret to make the key.
    #[serde(default)]
    pub suffix: String,
    /// How the secret's characters are written before they become bytes.
    pub normalize: Option<Normalization>,
    /// Where a webhook says which key it was signed with, by public id. Others are not tried.
    pub chosen_by: Option<Location>,
}

/// A normal form of Unicode text (UAX #15).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalization {
    /// Compatibility decomposition, as EasyPost's libraries do it.
    Nfkd,
}

/// A digest that derives a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyDigest {
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// A key of a keyring, ready for use.
pub(super) struct UsableKey<'a> {
    /// Its public id: what stands before the separator, or the whole text where the scheme has none.
    pub(super) public_id: &'a str,
    /// The secret's text, without id and prefix.
    pub(super) text: &'a str,
    /// The key bytes; never empty.
    pub(super) bytes: Cow<'a, [u8]>,
}

/// Secrets are pasted by people: padding may be missing and spare bits set, which the vendors' own libraries take too.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true);
const LENIENT_BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const LENIENT_BASE64URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

impl SecretSpec {
    /// The key; `None` if the text cannot be decoded or nothing is left of it.
    pub(super) fn usable<'a>(&self, secret: &'a Secret) -> Option<UsableKey<'a>> {
        let whole = secret.expose();
        let (public_id, text) = match &self.id_separator {
            Some(separator) => whole.split_once(separator.as_str())?,
            None => (whole, whole),
        };
        let text = text.strip_prefix(self.strip_prefix.as_str()).unwrap_or(text);
        let decoded = match self.encoding {
            None if self.normalize == Some(Normalization::Nfkd) => text.nfkd().collect::<String>().into_bytes().into(),
            None => Cow::Borrowed(text.as_bytes()),
            // A public key may come as a PEM file instead.
            Some(_) if is_pem(text) => Cow::Borrowed(text.as_bytes()),
            Some(Encoding::Hex) => hex::decode(text).ok()?.into(),
            Some(Encoding::Base64) => LENIENT_BASE64.decode(text).ok()?.into(),
            Some(Encoding::Base64url) => LENIENT_BASE64URL.decode(text).ok()?.into(),
            Some(Encoding::Base64OfHex) => hex::decode(LENIENT_BASE64.decode(text).ok()?).ok()?.into(),
        };
        if decoded.is_empty() {
            return None;
        }
        let decoded = match self.suffix.as_str() {
            "" => decoded,
            suffix => [&decoded, suffix.as_bytes()].concat().into(),
        };
        let bytes = match self.digest {
            None => decoded,
            Some(KeyDigest::Sha1) => digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &decoded).as_ref().to_vec().into(),
            Some(KeyDigest::Sha256) => digest::digest(&digest::SHA256, &decoded).as_ref().to_vec().into(),
        };
        Some(UsableKey { public_id, text, bytes })
    }
}

/// Whether a key's text is a PEM file, and so a public key.
pub(super) fn is_pem(text: &str) -> bool {
    text.trim_start().starts_with("-----BEGIN ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(spec: &str, secret: &str) -> Option<Vec<u8>> {
        let spec: SecretSpec = toml::from_str(spec).unwrap();
        spec.usable(&Secret::new(secret)).map(|key| key.bytes.into_owned())
    }

    #[test]
    fn secrets_are_decoded_leniently_and_empty_ones_are_none() {
        assert_eq!(bytes("", "abc"), Some(b"abc".to_vec()));
        let base64 = "encoding = \"base64\"\nstrip_prefix = \"whsec_\"";
        for text in ["whsec_YQ==", "YQ==", "YQ", "YR"] {
            assert_eq!(bytes(base64, text), Some(b"a".to_vec()), "{text}");
        }
        for unusable in ["whsec_", "", "a", "not base64!"] {
            assert_eq!(bytes(base64, unusable), None, "{unusable}");
        }
        assert_eq!(bytes("encoding = \"base64url\"", "-_8"), Some(vec![0xfb, 0xff]));
        assert_eq!(bytes("encoding = \"hex\"", "00fF"), Some(vec![0, 0xff]));
        assert_eq!(bytes("encoding = \"hex\"", "0"), None);
    }

    #[test]
    fn a_secret_may_be_normalised_and_have_a_suffix() {
        assert_eq!(bytes("normalize = \"nfkd\"", "s\u{e9}cret\u{fb01}"), Some("se\u{301}cretfi".as_bytes().to_vec()));
        assert_eq!(bytes("", "s\u{e9}"), Some("s\u{e9}".as_bytes().to_vec()));
        assert_eq!(bytes("suffix = \"&\"", "abc"), Some(b"abc&".to_vec()));
        assert_eq!(bytes("suffix = \"&\"", ""), None, "a suffix alone is not a secret");
        assert_eq!(bytes("encoding = \"base64-of-hex\"", "NjE="), Some(b"a".to_vec()));
    }

    #[test]
    fn a_key_may_have_a_public_id_and_be_a_digest() {
        let spec: SecretSpec = toml::from_str("id_separator = \":\"\ndigest = \"sha1\"").unwrap();
        let secret = Secret::new("public:private:x");
        let key = spec.usable(&secret).unwrap();
        assert_eq!((key.public_id, key.text, key.bytes.len()), ("public", "private:x", 20));
        assert!(spec.usable(&Secret::new("no-separator")).is_none());
        assert!(spec.usable(&Secret::new("id:")).is_none());
    }
}
