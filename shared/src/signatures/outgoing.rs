//! Signing what Posthouse itself sends: Standard Webhooks, version 1 signatures (HMAC-SHA-256).
//!
//! Format: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

use ring::hmac;

use super::{
    key::SecretSpec,
    mac::{Hash, MessageAuthenticator},
    scheme::Encoding,
};
use crate::{secrets::Keyring, time::Timestamp};

/// The value of `webhook-signature`: one `v1,…` for each key that is valid at `now`, newest first, so that a receiver can
/// change its secret at any time during a rotation's overlap. `None` if no key can be used.
pub fn sign(id: &str, now: Timestamp, body: &[u8], keyring: &Keyring) -> Option<String> {
    let spec = SecretSpec { strip_prefix: "whsec_".to_owned(), encoding: Some(Encoding::Base64), ..SecretSpec::default() };
    let signatures: Vec<String> = keyring
        .valid_at(now)
        .filter_map(|key| spec.usable(&key.secret))
        .map(|key| {
            let mut mac = MessageAuthenticator::new(Hash::Keyed(hmac::HMAC_SHA256), &key.bytes);
            mac.update(format!("{id}.{}.", now.seconds()).as_bytes());
            mac.update(body);
            format!("v1,{}", BASE64.encode(mac.finish().as_ref()))
        })
        .collect();
    (!signatures.is_empty()).then(|| signatures.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the Standard Webhooks project's own tests (libraries/python/tests/test_webhooks.py).
    #[test]
    fn the_official_vector_is_reproduced() {
        let keyring = Keyring::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature =
            sign("msg_p5jXN8AQM9LWM0D4loKWxJek", Timestamp::from_seconds(1_614_265_330), br#"{"test": 2432232314}"#, &keyring);
        assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn during_overlap_both_keys_sign() {
        let text =
            r#"{"keys":[{"id":"b","secret":"bmV3bmV3"},{"id":"a","secret":"b2xkb2xk","notAfter":"2026-11-22T06:24:35Z"}]}"#;
        let keyring = Keyring::parse(text).unwrap();
        let before = Timestamp::parse_rfc3339("2026-11-22T06:24:34Z").unwrap();
        let after = Timestamp::parse_rfc3339("2026-11-22T06:24:35Z").unwrap();
        assert_eq!(sign("i", before, b"", &keyring).unwrap().split(' ').count(), 2);
        assert_eq!(sign("i", after, b"", &keyring).unwrap().split(' ').count(), 1);
    }

    #[test]
    fn without_a_usable_key_nothing_is_signed() {
        assert_eq!(sign("i", Timestamp::from_seconds(1), b"", &Keyring::parse("whsec_").unwrap()), None);
    }
}
