//! A signature scheme as data, and its verification.

use std::borrow::Cow;

use base64::{
    Engine,
    alphabet::STANDARD as BASE64_ALPHABET,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD as BASE64},
};
use serde::Deserialize;

use super::{
    Refusal, UnverifiedWebhook, VerifiedWebhook,
    mac::{Algorithm, MessageAuthenticator},
    template::{Part, Template},
};
use crate::{
    location::{self, Location},
    secrets::{Keyring, Secret},
    time::Timestamp,
};

/// Most signatures looked at in one request's list. Providers send one a key, and two keys while they rotate.
pub const SIGNATURES_MAX: usize = 16;
/// Widest tolerance that a scheme may ask for. Stripe and Standard Webhooks advise 300 s.
pub const TOLERANCE_SECONDS_MAX: u64 = 3600;

/// How a provider signs its webhooks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheme {
    /// The keyed hash.
    pub algorithm: Algorithm,
    /// The bytes that are signed.
    pub signed: Template,
    /// Where the signature stands and how it is written.
    pub signature: SignatureSpec,
    /// Where the timestamp stands, if the provider signs one.
    pub timestamp: Option<TimestampSpec>,
    /// How the secret's text becomes key bytes.
    #[serde(default)]
    pub secret: SecretSpec,
}

/// Where a signature stands and how it is written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureSpec {
    /// The place.
    pub at: Location,
    /// Text before the encoded signature, as `sha256=`. A signature without it is malformed.
    #[serde(default)]
    pub prefix: String,
    /// How its bytes are written.
    pub encoding: Encoding,
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
    /// The key of the entries that are signatures; others are passed over.
    pub key: String,
}

/// Where a timestamp stands and how far it may be off.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimestampSpec {
    /// The place.
    pub at: Location,
    /// How it is written.
    pub format: TimestampFormat,
    /// How far it may be from now, to both sides, in seconds.
    pub tolerance_seconds: u64,
}

/// How a moment is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimestampFormat {
    /// Whole seconds since the Unix epoch.
    Seconds,
    /// Whole milliseconds since the Unix epoch.
    Milliseconds,
    /// RFC 3339, as `2026-11-22T06:24:35Z`.
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
}

/// How bytes are written as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// Hexadecimal, either case.
    Hex,
    /// Base64 (RFC 4648, section 4), padded.
    Base64,
}

/// How a secret's text becomes key bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretSpec {
    /// Text that may stand before the secret and is no part of it, as `whsec_`.
    #[serde(default)]
    pub strip_prefix: String,
    /// `None`: the text's own bytes.
    pub encoding: Option<Encoding>,
}

/// Secrets are pasted by people: padding may be missing and spare bits set, which the vendors' own libraries take too.
const LENIENT_BASE64: GeneralPurpose = GeneralPurpose::new(
    &BASE64_ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);

impl Scheme {
    /// Says what is impossible about this combination, if anything.
    pub fn check(&self) -> Result<(), String> {
        if !self.signed.covers_body() {
            return Err("`signed` must have `{body}`: a signature that does not cover the body proves nothing about it".into());
        }
        if self.signed.uses_timestamp() && self.timestamp.is_none() {
            return Err("`signed` has `{timestamp}`, but the scheme has no `timestamp`".into());
        }
        if !self.signed.uses_timestamp() && self.timestamp.is_some() {
            return Err("the scheme has a `timestamp` that `signed` does not cover: anybody could change it".into());
        }
        if matches!(self.signature.at, Location::Signature(_)) {
            return Err("`signature.at` must be a place in the request, as `header:x-signature`".into());
        }
        let mut places = self.signed.places().chain(self.timestamp.as_ref().map(|spec| &spec.at));
        if self.signature.list.is_none() && places.any(|place| matches!(place, Location::Signature(_))) {
            return Err("something stands in the signature's list, but `signature.list` is not there".into());
        }
        if let Some(spec) = &self.timestamp
            && !(1..=TOLERANCE_SECONDS_MAX).contains(&spec.tolerance_seconds)
        {
            return Err(format!("`tolerance_seconds` must be from 1 to {TOLERANCE_SECONDS_MAX}"));
        }
        Ok(())
    }

    /// Proves `webhook` with any key of `keyring` that is valid at `now`, newest first.
    ///
    /// The timestamp is compared after the signature, so [`Refusal::Stale`] is said only of what the provider really signed.
    pub fn verify<'a>(
        &self,
        webhook: &'a UnverifiedWebhook,
        keyring: &Keyring,
        now: Timestamp,
    ) -> Result<VerifiedWebhook<'a>, Refusal> {
        let sent = self.place(webhook, &self.signature.at).ok_or(Refusal::MissingSignature)?;
        let candidates = self.signature.candidates(&sent)?;
        let timestamp = self.timestamp_text(webhook, &sent)?;
        let key_id = self.proving_key(webhook, keyring, now, &candidates, timestamp.as_deref(), &sent)?;
        if let (Some(spec), Some(text)) = (&self.timestamp, &timestamp) {
            spec.check(text, now)?;
        }
        Ok(VerifiedWebhook { webhook, key_id })
    }

    fn proving_key(
        &self,
        webhook: &UnverifiedWebhook,
        keyring: &Keyring,
        now: Timestamp,
        candidates: &[Vec<u8>],
        timestamp: Option<&str>,
        sent: &str,
    ) -> Result<String, Refusal> {
        let mut refusal = Refusal::UnusableKey;
        for key in keyring.valid_at(now) {
            let Some(bytes) = self.secret.decode(&key.secret) else { continue };
            refusal = Refusal::WrongSignature;
            let mac = self.authenticate(webhook, &bytes, timestamp, sent)?;
            if candidates.iter().any(|candidate| mac.clone().matches(candidate)) {
                return Ok(key.id.clone());
            }
        }
        Err(refusal)
    }

    /// Feeds the signed content in pieces, so that the body is not copied.
    fn authenticate(
        &self,
        webhook: &UnverifiedWebhook,
        key: &[u8],
        timestamp: Option<&str>,
        sent: &str,
    ) -> Result<MessageAuthenticator, Refusal> {
        let mut mac = MessageAuthenticator::new(self.algorithm, key);
        for part in self.signed.parts() {
            match part {
                Part::Text(text) => mac.update(text.as_bytes()),
                Part::Body => mac.update(&webhook.body),
                Part::Timestamp => mac.update(timestamp.unwrap_or_default().as_bytes()),
                Part::At(Location::Signature(key)) => {
                    mac.update(self.signature.field(sent, key)?.ok_or(Refusal::MalformedSignature)?.as_bytes());
                }
                Part::At(at) => mac.update(self.place(webhook, at).ok_or(Refusal::WrongSignature)?.as_bytes()),
            }
        }
        Ok(mac)
    }

    fn timestamp_text(&self, webhook: &UnverifiedWebhook, sent: &str) -> Result<Option<String>, Refusal> {
        let Some(spec) = &self.timestamp else { return Ok(None) };
        let text = match &spec.at {
            Location::Signature(key) => self.signature.field(sent, key)?.map(str::to_owned),
            at => self.place(webhook, at).map(Cow::into_owned),
        };
        let text = text.ok_or(Refusal::MissingTimestamp)?;
        spec.read(&text)?;
        Ok(Some(text))
    }

    fn place<'a>(&self, webhook: &'a UnverifiedWebhook, at: &Location) -> Option<Cow<'a, str>> {
        match at {
            Location::Header(name) => location::header(&webhook.headers, name),
            Location::Query(name) => location::query(&webhook.raw_query, name).map(Cow::Owned),
            Location::Json(pointer) => {
                let body = serde_json::from_slice(&webhook.body).ok()?;
                location::json(&body, pointer).map(Cow::Owned)
            }
            Location::Signature(_) => None,
        }
    }
}

impl SignatureSpec {
    /// The decoded signatures of a request: at least one, at most [`SIGNATURES_MAX`].
    fn candidates(&self, sent: &str) -> Result<Vec<Vec<u8>>, Refusal> {
        let Some(list) = &self.list else {
            return self.decode(sent).map(|bytes| vec![bytes]).ok_or(Refusal::MalformedSignature);
        };
        let mut entries = list.entries(sent).filter(|(key, _)| *key == list.key).map(|(_, value)| value).peekable();
        entries.peek().ok_or(Refusal::MissingSignature)?;
        // One that cannot be decoded is passed over: another of the list may be the one that was made for us.
        let decoded: Vec<_> = entries.take(SIGNATURES_MAX).filter_map(|value| self.decode(value)).collect();
        if decoded.is_empty() { Err(Refusal::MalformedSignature) } else { Ok(decoded) }
    }

    /// The value of another entry of the list. One that is there twice could mean either, and so means nothing.
    fn field<'a>(&self, sent: &'a str, key: &str) -> Result<Option<&'a str>, Refusal> {
        let Some(list) = &self.list else { return Ok(None) };
        let mut values = list.entries(sent).filter(|(name, _)| *name == key).map(|(_, value)| value);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Refusal::MalformedSignature),
            (value, None) => Ok(value),
        }
    }

    fn decode(&self, text: &str) -> Option<Vec<u8>> {
        let encoded = text.strip_prefix(self.prefix.as_str())?;
        match self.encoding {
            Encoding::Hex => hex::decode(encoded).ok(),
            Encoding::Base64 => BASE64.decode(encoded).ok(),
        }
    }
}

impl SignatureList {
    fn entries<'a>(&self, sent: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        sent.split(self.separator).filter_map(|entry| entry.trim().split_once(self.assign))
    }
}

impl TimestampSpec {
    fn read(&self, text: &str) -> Result<Timestamp, Refusal> {
        self.format.read(text).ok_or(Refusal::MalformedTimestamp)
    }

    fn check(&self, text: &str, now: Timestamp) -> Result<(), Refusal> {
        let seconds_off = self.read(text)?.seconds().abs_diff(now.seconds());
        if seconds_off > self.tolerance_seconds {
            return Err(Refusal::Stale { seconds_off, tolerance_seconds: self.tolerance_seconds });
        }
        Ok(())
    }
}

impl SecretSpec {
    /// The key bytes; `None` if the text cannot be decoded or nothing is left of it.
    pub(super) fn decode(&self, secret: &Secret) -> Option<Vec<u8>> {
        let text = secret.expose();
        let text = text.strip_prefix(self.strip_prefix.as_str()).unwrap_or(text);
        let bytes = match self.encoding {
            None => text.as_bytes().to_vec(),
            Some(Encoding::Hex) => hex::decode(text).ok()?,
            Some(Encoding::Base64) => LENIENT_BASE64.decode(text).ok()?,
        };
        (!bytes.is_empty()).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signatures::preset::Preset;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn scheme(preset: &str) -> Scheme {
        Preset::find(preset).unwrap().unwrap().scheme
    }

    fn keyring(secret: &str) -> Keyring {
        Keyring::parse(secret).unwrap()
    }

    fn webhook(headers: &[(&'static str, String)], body: &[u8]) -> UnverifiedWebhook {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        UnverifiedWebhook { headers, raw_query: String::new(), body: body.to_vec() }
    }

    fn hex_mac(key: &[u8], content: &[u8]) -> String {
        let mut mac = MessageAuthenticator::new(Algorithm::HmacSha256, key);
        mac.update(content);
        hex::encode(mac.finish())
    }

    fn stripe(timestamp: &str, secret: &[u8], body: &[u8]) -> UnverifiedWebhook {
        let signature = hex_mac(secret, &[timestamp.as_bytes(), b".", body].concat());
        webhook(&[("stripe-signature", format!("t={timestamp},v1={signature},v0=00"))], body)
    }

    /// From GitHub's documentation, "Validating webhook deliveries", testing the webhook payload validation.
    #[test]
    fn githubs_own_example_is_verified() {
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17".to_owned();
        let request = webhook(&[("x-hub-signature-256", signature)], b"Hello, World!");
        let verified = scheme("github").verify(&request, &keyring("It's a Secret to Everybody"), NOW).unwrap();
        assert_eq!(verified.key_id(), "initial");
        assert_eq!(scheme("github").verify(&request, &keyring("another"), NOW).unwrap_err(), Refusal::WrongSignature);
    }

    #[test]
    fn every_way_to_spoil_a_signature_is_refused_with_its_reason() {
        let good = format!("sha256={}", hex_mac(b"key", b"body"));
        let check = |signature: Option<String>, expected: Refusal| {
            let headers: Vec<_> = signature.clone().map(|value| ("x-hub-signature-256", value)).into_iter().collect();
            let request = webhook(&headers, b"body");
            assert_eq!(scheme("github").verify(&request, &keyring("key"), NOW).unwrap_err(), expected, "{signature:?}");
        };
        check(None, Refusal::MissingSignature);
        check(Some(String::new()), Refusal::MalformedSignature);
        check(Some("sha256=".into()), Refusal::WrongSignature);
        check(Some(good[7..].into()), Refusal::MalformedSignature);
        check(Some(good[..good.len() - 1].into()), Refusal::MalformedSignature);
        check(Some(good[..good.len() - 2].into()), Refusal::WrongSignature);
        check(Some(format!("{good}00")), Refusal::WrongSignature);
        check(Some(format!("{good},{good}")), Refusal::MalformedSignature);
        check(Some("sha256=zz".into()), Refusal::MalformedSignature);
    }

    #[test]
    fn a_timestamp_is_accepted_up_to_its_tolerance_to_both_sides() {
        let check = |timestamp: u64| {
            let request = stripe(&timestamp.to_string(), b"whsec_x", b"{}");
            scheme("stripe").verify(&request, &keyring("whsec_x"), NOW).map(|verified| verified.key_id().to_owned())
        };
        let stale = |seconds_off| Err(Refusal::Stale { seconds_off, tolerance_seconds: 300 });
        assert!(check(1_700_000_300).is_ok());
        assert!(check(1_699_999_700).is_ok());
        assert_eq!(check(1_700_000_301), stale(301));
        assert_eq!(check(1_699_999_699), stale(301));
        assert_eq!(check(0), stale(1_700_000_000));
        assert!(matches!(check(u64::MAX), Err(Refusal::Stale { .. })));
    }

    #[test]
    fn a_timestamp_that_is_no_number_is_refused() {
        for timestamp in ["", "-1", "+1700000000", "1.7e9", "99999999999999999999999999", "9223372036854775808x"] {
            let refusal = scheme("stripe").verify(&stripe(timestamp, b"k", b"{}"), &keyring("k"), NOW).unwrap_err();
            assert_eq!(refusal, Refusal::MalformedTimestamp, "{timestamp}");
        }
        let request = webhook(&[("stripe-signature", format!("v1={}", hex_mac(b"k", b"{}")))], b"{}");
        assert_eq!(scheme("stripe").verify(&request, &keyring("k"), NOW).unwrap_err(), Refusal::MissingTimestamp);
    }

    #[test]
    fn any_entry_of_a_list_may_be_the_right_one_up_to_the_bound() {
        let good = hex_mac(b"k", b"1700000000.{}");
        let list = |wrong: usize| {
            let wrong = format!("v1={},", "00".repeat(32)).repeat(wrong);
            webhook(&[("stripe-signature", format!("t=1700000000,{wrong}v1={good}"))], b"{}")
        };
        assert!(scheme("stripe").verify(&list(SIGNATURES_MAX - 1), &keyring("k"), NOW).is_ok());
        assert_eq!(scheme("stripe").verify(&list(SIGNATURES_MAX), &keyring("k"), NOW).unwrap_err(), Refusal::WrongSignature);
        let twice = webhook(&[("stripe-signature", format!("t=1700000000,v1={good},t=1700000000,v1={good}"))], b"{}");
        assert_eq!(scheme("stripe").verify(&twice, &keyring("k"), NOW).unwrap_err(), Refusal::MalformedSignature);
        let other_version = webhook(&[("stripe-signature", format!("t=1700000000,v0={good}"))], b"{}");
        assert_eq!(scheme("stripe").verify(&other_version, &keyring("k"), NOW).unwrap_err(), Refusal::MissingSignature);
    }

    #[test]
    fn an_expired_key_proves_nothing_and_an_overlapping_one_does() {
        let expiring = r#"{"keys":[{"id":"new","secret":"n"},{"id":"old","secret":"o","notAfter":"2023-11-14T22:13:20Z"}]}"#;
        let request = stripe("1700000000", b"o", b"{}");
        let verify =
            |now| scheme("stripe").verify(&request, &keyring(expiring), now).map(|verified| verified.key_id().to_owned());
        assert_eq!(verify(Timestamp::from_seconds(1_699_999_999)), Ok("old".to_owned()));
        assert_eq!(verify(NOW), Err(Refusal::WrongSignature));
    }

    #[test]
    fn a_key_that_cannot_be_decoded_is_told_from_a_wrong_one() {
        let headers = [
            ("webhook-id", "m".to_owned()),
            ("webhook-timestamp", "1700000000".to_owned()),
            ("webhook-signature", "v1,AAAA".to_owned()),
        ];
        let request = webhook(&headers, b"");
        for unusable in ["whsec_", "not base64!"] {
            let refusal = scheme("standard-webhooks").verify(&request, &keyring(unusable), NOW).unwrap_err();
            assert_eq!(refusal, Refusal::UnusableKey, "{unusable}");
        }
    }

    #[test]
    fn bodies_of_every_kind_are_verified_as_they_are() {
        for body in [&b""[..], b"\0", b"\xff\xfe\x00", "\u{feff}{}".as_bytes()] {
            let request = webhook(&[("x-hub-signature-256", format!("sha256={}", hex_mac(b"k", body)))], body);
            assert!(scheme("github").verify(&request, &keyring("k"), NOW).is_ok(), "{body:?}");
        }
    }

    #[test]
    fn impossible_schemes_are_named() {
        let check = |toml: &str| toml::from_str::<Scheme>(toml).unwrap().check().unwrap_err();
        let signature = "signature = { at = \"header:s\", encoding = \"hex\" }\n";
        let with = |rest: &str| check(&format!("algorithm = \"hmac-sha256\"\n{signature}{rest}"));
        assert!(with("signed = \"{header:a}\"").contains("`{body}`"));
        assert!(with("signed = \"{timestamp}{body}\"").contains("has no `timestamp`"));
        let timestamp = |signed: &str, at: &str, seconds: u64| {
            with(&format!(
                "signed = \"{signed}\"\ntimestamp = {{ at = \"{at}\", format = \"seconds\", tolerance_seconds = {seconds} }}"
            ))
        };
        assert!(timestamp("{body}", "header:t", 300).contains("anybody could change it"));
        assert!(timestamp("{timestamp}{body}", "signature:t", 300).contains("`signature.list`"));
        assert!(with("signed = \"{signature:n}{body}\"").contains("`signature.list`"));
        assert!(timestamp("{timestamp}{body}", "header:t", 0).contains("from 1 to"));
        assert!(timestamp("{timestamp}{body}", "header:t", TOLERANCE_SECONDS_MAX + 1).contains("from 1 to"));
    }
}
