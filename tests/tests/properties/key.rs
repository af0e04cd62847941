//! Keys of every kind, made up for one test, and how they are written into a keyring.

use std::sync::LazyLock;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL},
};
use proptest::prelude::*;
use ring::{
    digest,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RsaKeyPair,
    },
};
use serde_json::json;
use shared::{
    fetched::KeyOrigin,
    secrets::{Key as KeyringKey, Keyring, Secret},
    signatures::{
        Algorithm, Encoding,
        public_key::{PublicKey, SignatureAlgorithm},
    },
    time::Timestamp,
};

use crate::way::Way;

/// Made with openssl and nobody's: see generate.sh beside them.
const RSA_PRIVATE: &[u8] = include_bytes!("../../../shared/testdata/keys/signer.der");
const RSA_PUBLIC: &str = include_str!("../../../shared/testdata/keys/signer.pem");
/// The modulus of RFC 7515, appendix A.2: a key that signs nothing here.
const OTHER_RSA_MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";

/// What stands before the bytes of such a key in a `SubjectPublicKeyInfo` (RFC 8410, RFC 5480).
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
    0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Most keys that a test needs at once.
pub(crate) const KEYS_MAX: usize = 6;

static RSA: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::from_pkcs8(RSA_PRIVATE).unwrap());

/// P-256 keys cannot be made from a seed, and are dear to make.
static P256: LazyLock<Vec<P256Pair>> = LazyLock::new(|| (0..KEYS_MAX).map(|_| P256Pair::new()).collect());

struct P256Pair {
    asn1: EcdsaKeyPair,
    fixed: EcdsaKeyPair,
}

impl P256Pair {
    fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let pair = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        Self { asn1: pair(&ECDSA_P256_SHA256_ASN1_SIGNING), fixed: pair(&ECDSA_P256_SHA256_FIXED_SIGNING) }
    }
}

/// A key of a provider's: a shared secret or a pair, as the way of signing needs it. Number 0 signs; RSA has no other that could.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    number: usize,
    /// A multiple of three bytes, so that no two texts in base64 are the same key.
    bytes: [u8; 24],
}

/// Several keys, each another one.
pub(crate) fn keys(count: usize) -> impl Strategy<Value = Vec<Key>> {
    any::<[u8; 23]>().prop_map(move |random| {
        let key = |number: usize| {
            let mut bytes = [0; 24];
            bytes[1..].copy_from_slice(&random);
            // Whatever shrinks, keys stay apart.
            bytes[0] = u8::try_from(number + 1).unwrap();
            Key { number, bytes }
        };
        (0..count).map(key).collect()
    })
}

/// One key.
pub(crate) fn key() -> impl Strategy<Value = Key> {
    keys(1).prop_map(|mut keys| keys.remove(0))
}

impl Key {
    /// The text for the keyring.
    pub(crate) fn secret(&self, way: &Way) -> String {
        match way.alternative().fetched_key {
            Some(KeyOrigin::AwsSns) => self.topic(),
            Some(KeyOrigin::Paypal) => format!("WH-{}", hex::encode(self.bytes)),
            Some(KeyOrigin::Plaid) => format!("client-{}:{}", self.number, hex::encode(self.bytes)),
            None => self.write(way, &self.raw(way)),
        }
    }

    /// The key that the receiver would have fetched.
    pub(crate) fn fetched(&self, way: &Way) -> Option<PublicKey> {
        way.alternative().fetched_key.and(way.public_algorithm()).map(|algorithm| self.public(algorithm))
    }

    /// The SNS topic that a source with this key takes messages of.
    pub(crate) fn topic(&self) -> String {
        // Number 0's is the topic of the message that openssl signed.
        let name = if self.number == 0 { "posthouse".to_owned() } else { format!("other-{}", self.number) };
        format!("arn:aws:sns:eu-central-1:123456789012:{name}")
    }

    /// A keyring of this key alone.
    pub(crate) fn keyring(&self, way: &Way) -> Keyring {
        keyring([("only".to_owned(), self.secret(way), None)])
    }

    /// The secret with one bit of it changed; `None` if it is still the same key, or no text any more.
    pub(crate) fn with_flipped_bit(&self, way: &Way, at: usize, bit: u8) -> Option<String> {
        let spec = &way.alternative().secret;
        if way.alternative().fetched_key.is_some() || (spec.encoding.is_none() && way.public_algorithm().is_none()) {
            return String::from_utf8(flipped(self.secret(way).as_bytes(), at, bit)).ok();
        }
        let before = self.raw(way);
        let after = flipped(&before, at, bit);
        if let Some(algorithm) = way.public_algorithm() {
            let read = |bytes: &[u8]| PublicKey::parse(algorithm, &pem(&spki_of(algorithm, bytes)), None);
            if read(&before) == read(&after) {
                return None;
            }
        }
        Some(self.write(way, &after))
    }

    pub(crate) fn sign(&self, algorithm: SignatureAlgorithm, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match algorithm {
            SignatureAlgorithm::Ed25519 => self.ed25519().sign(message).as_ref().to_vec(),
            SignatureAlgorithm::EcdsaP256Sha256 => P256[self.number].asn1.sign(&random, message).unwrap().as_ref().to_vec(),
            SignatureAlgorithm::EcdsaP256Sha256Fixed => P256[self.number].fixed.sign(&random, message).unwrap().as_ref().to_vec(),
            SignatureAlgorithm::RsaSha256 => {
                assert_eq!(self.number, 0, "there is one RSA key");
                let mut signature = vec![0; RSA.public().modulus_len()];
                RSA.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            SignatureAlgorithm::RsaSha1 => panic!("ring does not sign with SHA-1"),
        }
    }

    /// The bytes of a shared secret that is written in an encoding.
    pub(crate) fn bytes(&self) -> [u8; 24] {
        self.bytes
    }

    /// A shared secret that is text.
    pub(crate) fn text(&self) -> String {
        hex::encode(self.bytes)
    }

    fn ed25519(&self) -> Ed25519KeyPair {
        let seed = digest::digest(&digest::SHA256, &self.bytes);
        Ed25519KeyPair::from_seed_unchecked(seed.as_ref()).unwrap()
    }

    fn public(&self, algorithm: SignatureAlgorithm) -> PublicKey {
        match algorithm {
            SignatureAlgorithm::Ed25519 => PublicKey::Ed25519(self.ed25519().public_key().as_ref().to_vec()),
            SignatureAlgorithm::EcdsaP256Sha256 | SignatureAlgorithm::EcdsaP256Sha256Fixed => {
                PublicKey::P256(P256[self.number].asn1.public_key().as_ref().to_vec())
            }
            SignatureAlgorithm::RsaSha1 | SignatureAlgorithm::RsaSha256 if self.number == 0 => {
                PublicKey::parse(algorithm, RSA_PUBLIC, None).unwrap()
            }
            SignatureAlgorithm::RsaSha1 | SignatureAlgorithm::RsaSha256 => {
                PublicKey::from_jwk(&json!({"kty": "RSA", "n": OTHER_RSA_MODULUS, "e": "AQAB"})).unwrap()
            }
        }
    }

    /// The bytes that are the key, before they are written as text.
    fn raw(&self, way: &Way) -> Vec<u8> {
        match (way.public_algorithm().map(|algorithm| (algorithm, self.public(algorithm))), way.alternative().algorithm) {
            (Some((SignatureAlgorithm::Ed25519, PublicKey::Ed25519(bytes))), _) => bytes,
            (Some((_, PublicKey::P256(point))), _) => [P256_SPKI.as_slice(), &point].concat(),
            (Some((_, PublicKey::Rsa(_))), _) if self.number == 0 => der(RSA_PUBLIC),
            // The key itself, without what a PEM block says around it.
            (Some((_, PublicKey::Rsa(bytes) | PublicKey::Ed25519(bytes))), _) => bytes,
            (None, Algorithm::Basic) => format!("user:{}", hex::encode(self.bytes)).into_bytes(),
            (None, _) if way.alternative().secret.encoding.is_none() => hex::encode(self.bytes).into_bytes(),
            (None, _) => self.bytes.to_vec(),
        }
    }

    fn write(&self, way: &Way, raw: &[u8]) -> String {
        let spec = &way.alternative().secret;
        let text = match (spec.encoding, way.public_algorithm()) {
            (None, Some(algorithm)) => return pem(&spki_of(algorithm, raw)),
            (None, None) => String::from_utf8(raw.to_vec()).unwrap(),
            (Some(Encoding::Hex), _) => hex::encode(raw),
            (Some(Encoding::Base64), _) => BASE64.encode(raw),
            (Some(Encoding::Base64url), _) => BASE64URL.encode(raw),
        };
        let id = spec.id_separator.as_ref().map(|separator| format!("id{}{separator}", self.number)).unwrap_or_default();
        format!("{id}{}{text}", spec.strip_prefix)
    }
}

/// A keyring of ids, secrets and expiries.
pub(crate) fn keyring(keys: impl IntoIterator<Item = (String, String, Option<Timestamp>)>) -> Keyring {
    let keys = keys.into_iter().map(|(id, secret, not_after)| KeyringKey { id, secret: Secret::new(secret), not_after });
    Keyring::new(keys.collect()).unwrap()
}

/// `bytes` with one bit changed; counting them begins anew after the last.
pub(crate) fn flipped(bytes: &[u8], at: usize, bit: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let index = at % bytes.len();
    bytes[index] ^= 1 << bit;
    bytes
}

fn spki_of(algorithm: SignatureAlgorithm, raw: &[u8]) -> Vec<u8> {
    match algorithm {
        SignatureAlgorithm::Ed25519 => [ED25519_SPKI.as_slice(), raw].concat(),
        _ => raw.to_vec(),
    }
}

fn pem(der: &[u8]) -> String {
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", BASE64.encode(der))
}

fn der(pem: &str) -> Vec<u8> {
    BASE64.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap()
}
