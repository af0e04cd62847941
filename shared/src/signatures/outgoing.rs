//! Signing what Posthouse itself sends: Standard Webhooks, by HMAC-SHA-256 (`v1`) or Ed25519 (`v1a`).
//!
//! Format: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>. It asks for a key of its own
//! for every endpoint: whoever can verify a `v1` signature can make one. So a destination's key is derived from the keyring's, by HKDF
//! with SHA-256 (RFC 5869) without a salt, for `posthouse delivery {v1|v1a} {name} {version}`. What is in the keyring itself is never
//! given to anybody.

use std::{fmt, sync::LazyLock};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use ring::{
    hkdf, hmac,
    signature::{ED25519_PUBLIC_KEY_LEN, Ed25519KeyPair, KeyPair},
};
use serde::Deserialize;

use super::{
    key::SecretSpec,
    mac::{Hash, MessageAuthenticator},
    scheme::Encoding,
};
use crate::{
    secrets::{KEYS_MAX, Key, Keyring, Secret, VERSIONS_MAX},
    time::Timestamp,
};

/// Length of a derived key, in bytes. Standard Webhooks takes 24 to 64; an Ed25519 seed has 32 (RFC 8032).
pub const DERIVED_KEY_BYTES: usize = 32;
/// Most signatures of one delivery: two kilobytes of a header, in a rotation of the keyring and of the destination at once.
pub const SIGNATURES_MAX: usize = KEYS_MAX * VERSIONS_MAX;

/// How deliveries to a destination are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signing {
    /// The keyring, by name under the prefix of destinations.
    pub secret: String,
    /// Which keys of that sign.
    pub key: SigningKey,
    /// The kind of signature.
    pub version: SignatureVersion,
}

/// Which keys sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningKey {
    /// A key that is derived for this name: the destination's, or that which it had before it was renamed.
    Derived {
        /// The name.
        name: String,
    },
    /// The keys themselves, for a secret that the other side has chosen.
    Own,
}

/// A kind of signature, as it stands before the comma.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureVersion {
    /// HMAC-SHA-256.
    #[default]
    V1,
    /// Ed25519: who verifies cannot sign.
    V1a,
}

/// A key of a destination at some moment.
pub struct DestinationKey {
    /// Its origin, as `initial` or, derived, `initial, version 2`.
    pub origin: String,
    /// From then on nothing is signed with it; `None`: until a rotation sets it.
    pub not_after: Option<Timestamp>,
    signer: Signer,
}

enum Signer {
    Symmetric(Vec<u8>),
    Asymmetric(Ed25519KeyPair),
}

/// How `ring` is told a length.
struct DerivedLength;

impl hkdf::KeyType for DerivedLength {
    fn len(&self) -> usize {
        DERIVED_KEY_BYTES
    }
}

impl fmt::Debug for DestinationKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, not_after, signer: _ } = self;
        formatter.debug_struct("DestinationKey").field("origin", origin).field("not_after", not_after).finish_non_exhaustive()
    }
}

impl SignatureVersion {
    /// As it stands before the comma of a signature.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1a => "v1a",
        }
    }

    /// The prefix of a secret of this kind.
    pub const fn secret_prefix(self) -> &'static str {
        match self {
            Self::V1 => "whsec_",
            Self::V1a => "whsk_",
        }
    }

    /// The signer that these bytes make; `None` if they are not of its kind.
    fn signer(self, bytes: &[u8]) -> Option<Signer> {
        match self {
            Self::V1 if bytes.is_empty() => None,
            Self::V1 => Some(Signer::Symmetric(bytes.to_vec())),
            // The seed, or the seed and behind it the public key, as many libraries write it.
            Self::V1a => match bytes.split_at_checked(DERIVED_KEY_BYTES)? {
                (seed, []) => Ed25519KeyPair::from_seed_unchecked(seed),
                (seed, public) => Ed25519KeyPair::from_seed_and_public_key(seed, public),
            }
            .ok()
            .map(Signer::Asymmetric),
        }
    }
}

impl Signing {
    /// The keys that sign at `now`, newest first: one for each valid key of the keyring and, derived, for each valid version. None if no
    /// key can be used.
    pub fn keys(&self, keyring: &Keyring, now: Timestamp) -> Vec<DestinationKey> {
        keyring.valid_at(now).flat_map(|key| self.keys_of(key, keyring, now)).collect()
    }

    fn keys_of(&self, key: &Key, keyring: &Keyring, now: Timestamp) -> Vec<DestinationKey> {
        let encoded = |prefix: &str| SecretSpec {
            strip_prefix: prefix.to_owned(),
            encoding: Some(Encoding::Base64),
            ..SecretSpec::default()
        };
        match &self.key {
            SigningKey::Own => {
                let spec = encoded(self.version.secret_prefix());
                let signer = spec.usable(&key.secret).and_then(|usable| self.version.signer(&usable.bytes));
                let own = |signer| DestinationKey { origin: key.id.clone(), not_after: key.not_after, signer };
                signer.map(own).into_iter().collect()
            }
            SigningKey::Derived { name } => {
                // The keyring is written as for v1, also where v1a keys are derived from it.
                let spec = encoded(SignatureVersion::V1.secret_prefix());
                let Some(usable) = spec.usable(&key.secret) else { return Vec::new() };
                let versions = keyring.versions_at(name, now);
                let derived = versions.iter().filter_map(|version| {
                    let bytes = derive(&usable.bytes, &info(self.version, name, version.version))?;
                    Some(DestinationKey {
                        origin: format!("{}, version {}", key.id, version.version),
                        not_after: key.not_after.into_iter().chain(version.not_after).min(),
                        signer: self.version.signer(&bytes)?,
                    })
                });
                derived.collect()
            }
        }
    }

    /// The value of `webhook-signature`: one signature for each key of [`Self::keys`], so that a receiver can change its key at any time
    /// during a rotation's overlap. `None` if no key can be used.
    pub fn sign(&self, id: &str, now: Timestamp, body: &[u8], keyring: &Keyring) -> Option<String> {
        let signatures: Vec<String> = self.keys(keyring, now).iter().map(|key| key.sign(id, now, body)).collect();
        (!signatures.is_empty()).then(|| signatures.join(" "))
    }
}

impl DestinationKey {
    fn sign(&self, id: &str, now: Timestamp, body: &[u8]) -> String {
        let before = format!("{id}.{}.", now.seconds());
        match &self.signer {
            Signer::Symmetric(bytes) => {
                let mut mac = MessageAuthenticator::new(Hash::Keyed(hmac::HMAC_SHA256), bytes);
                mac.update(before.as_bytes());
                mac.update(body);
                format!("v1,{}", BASE64.encode(mac.finish().as_ref()))
            }
            Signer::Asymmetric(pair) => format!("v1a,{}", BASE64.encode(pair.sign(&[before.as_bytes(), body].concat()).as_ref())),
        }
    }

    /// The key that the destination verifies with: `whsec_…`, a secret, or `whpk_…`, a public key.
    pub fn handed_out(&self) -> Secret {
        Secret::new(match &self.signer {
            Signer::Symmetric(bytes) => format!("whsec_{}", BASE64.encode(bytes)),
            Signer::Asymmetric(pair) => format!("whpk_{}", BASE64.encode(pair.public_key().as_ref())),
        })
    }
}

/// The text that a key is derived for. Names are letters, digits and hyphens, so no two of these are the same text.
fn info(version: SignatureVersion, name: &str, number: u32) -> String {
    format!("posthouse delivery {} {name} {number}", version.name())
}

fn derive(key: &[u8], info: &str) -> Option<[u8; DERIVED_KEY_BYTES]> {
    static WITHOUT_SALT: LazyLock<hkdf::Salt> = LazyLock::new(|| hkdf::Salt::new(hkdf::HKDF_SHA256, &[]));
    let mut derived = [0; DERIVED_KEY_BYTES];
    WITHOUT_SALT.extract(key).expand(&[info.as_bytes()], DerivedLength).ok()?.fill(&mut derived).ok()?;
    Some(derived)
}

const _: () = assert!(ED25519_PUBLIC_KEY_LEN == DERIVED_KEY_BYTES);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::signatures::public_key::{PublicKey, SignatureAlgorithm};

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
    const MASTER: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn own(version: SignatureVersion) -> Signing {
        Signing { secret: "s".to_owned(), key: SigningKey::Own, version }
    }

    fn derived(name: &str, version: SignatureVersion) -> Signing {
        Signing { key: SigningKey::Derived { name: name.to_owned() }, ..own(version) }
    }

    fn handed_out(signing: &Signing, keyring: &Keyring, now: Timestamp) -> Vec<String> {
        signing.keys(keyring, now).iter().map(|key| key.handed_out().expose().to_owned()).collect()
    }

    /// From the Standard Webhooks project's own tests (libraries/python/tests/test_webhooks.py).
    #[test]
    fn the_official_vector_is_reproduced() {
        let keyring = Keyring::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let now = Timestamp::from_seconds(1_614_265_330);
        let signature = own(SignatureVersion::V1).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", now, br#"{"test": 2432232314}"#, &keyring);
        assert_eq!(signature.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    /// HKDF as RFC 5869 has it (appendix A.3: SHA-256, no salt, no info), to the length that we take.
    #[test]
    fn a_key_is_derived_as_rfc_5869_says() {
        let derived = derive(&[0x0b; 22], "").unwrap();
        assert_eq!(hex::encode(derived), "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d");
    }

    #[test]
    fn during_overlap_both_keys_sign() {
        let text =
            r#"{"keys":[{"id":"b","secret":"bmV3bmV3"},{"id":"a","secret":"b2xkb2xk","notAfter":"2026-11-22T06:24:35Z"}]}"#;
        let keyring = Keyring::parse(text).unwrap();
        let before = Timestamp::parse_rfc3339("2026-11-22T06:24:34Z").unwrap();
        let after = Timestamp::parse_rfc3339("2026-11-22T06:24:35Z").unwrap();
        for signing in [own(SignatureVersion::V1), derived("app", SignatureVersion::V1), derived("app", SignatureVersion::V1a)] {
            assert_eq!(signing.sign("i", before, b"", &keyring).unwrap().split(' ').count(), 2);
            assert_eq!(signing.sign("i", after, b"", &keyring).unwrap().split(' ').count(), 1);
        }
    }

    #[test]
    fn without_a_usable_key_nothing_is_signed() {
        for signing in [own(SignatureVersion::V1), own(SignatureVersion::V1a), derived("app", SignatureVersion::V1)] {
            assert_eq!(signing.sign("i", NOW, b"", &Keyring::parse("whsec_").unwrap()), None);
        }
        // Not the length of a seed.
        assert_eq!(own(SignatureVersion::V1a).sign("i", NOW, b"", &Keyring::parse(MASTER).unwrap()), None);
    }

    #[test]
    fn no_destination_can_sign_for_another() {
        let keyring = Keyring::parse(MASTER).unwrap();
        let mut keys = Vec::new();
        for version in [SignatureVersion::V1, SignatureVersion::V1a] {
            for name in ["app", "app-1", "billing"] {
                keys.extend(handed_out(&derived(name, version), &keyring, NOW));
            }
        }
        let all = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all);
        assert!(keys.iter().all(|key| !key.contains(MASTER)));
        // The key that is handed out verifies.
        let handed = &handed_out(&derived("app", SignatureVersion::V1), &keyring, NOW)[0];
        let verified = own(SignatureVersion::V1).sign("i", NOW, b"body", &Keyring::parse(handed).unwrap());
        assert_eq!(verified, derived("app", SignatureVersion::V1).sign("i", NOW, b"body", &keyring));
    }

    #[test]
    fn a_v1a_signature_is_verified_by_the_public_key_that_is_handed_out() {
        let keyring = Keyring::parse(MASTER).unwrap();
        let signing = derived("app", SignatureVersion::V1a);
        let public = handed_out(&signing, &keyring, NOW).remove(0);
        let public = PublicKey::Ed25519(BASE64.decode(public.strip_prefix("whpk_").unwrap()).unwrap());
        let signature = signing.sign("i", NOW, b"body", &keyring).unwrap();
        let signature = BASE64.decode(signature.strip_prefix("v1a,").unwrap()).unwrap();
        let message = format!("i.{}.body", NOW.seconds());
        assert!(public.verify(SignatureAlgorithm::Ed25519, message.as_bytes(), &signature));
        assert!(!public.verify(SignatureAlgorithm::Ed25519, b"another", &signature));
    }

    #[test]
    fn a_secret_of_ones_own_for_v1a_is_a_seed_with_or_without_its_public_key() {
        let seed = [7; DERIVED_KEY_BYTES];
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let both = [&seed, pair.public_key().as_ref()].concat();
        let other = [&seed[..], &[1; ED25519_PUBLIC_KEY_LEN]].concat();
        let public = |bytes: &[u8]| {
            let keyring = Keyring::parse(&format!("whsk_{}", BASE64.encode(bytes))).unwrap();
            handed_out(&own(SignatureVersion::V1a), &keyring, NOW).pop()
        };
        let expected = format!("whpk_{}", BASE64.encode(pair.public_key().as_ref()));
        assert_eq!(public(&seed), Some(expected.clone()));
        assert_eq!(public(&both), Some(expected));
        assert_eq!(public(&other), None, "the halves are of two keys");
    }

    #[test]
    fn one_destination_is_rotated_by_itself_with_an_overlap() {
        let day = Duration::from_secs(86_400);
        let keyring = Keyring::parse(MASTER).unwrap();
        let (app, billing) = (derived("app", SignatureVersion::V1), derived("billing", SignatureVersion::V1));
        let rotated = Keyring::parse(&keyring.with_next_version("app", NOW, day).unwrap().expose()).unwrap();
        let old = handed_out(&app, &keyring, NOW);
        let both = handed_out(&app, &rotated, NOW);
        assert_eq!((both.len(), &both[1]), (2, &old[0]), "newest first, and the old one still signs");
        assert_eq!(handed_out(&app, &rotated, NOW.plus(day)), both[..1], "until the overlap is over");
        assert_eq!(handed_out(&billing, &rotated, NOW), handed_out(&billing, &keyring, NOW), "the other keeps its key");
    }

    #[test]
    fn every_key_signs_with_every_version_and_none_is_left_out() {
        let keys: Vec<String> = (0..KEYS_MAX).map(|n| format!(r#"{{"id":"{n}","secret":"{MASTER}"}}"#)).collect();
        let versions = r#"[{"version":4},{"version":3},{"version":2},{"version":1}]"#;
        let text = format!(r#"{{"keys":[{}],"derived":{{"app":{versions}}}}}"#, keys.join(","));
        let keyring = Keyring::parse(&text).unwrap();
        assert_eq!(derived("app", SignatureVersion::V1).keys(&keyring, NOW).len(), SIGNATURES_MAX);
        assert_eq!(own(SignatureVersion::V1).keys(&keyring, NOW).len(), KEYS_MAX);
    }
}
