//! Keys of every kind, made up for one test, and how they are written into a keyring.

use std::sync::LazyLock;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL},
};
use p256::ecdsa::{DerSignature, SigningKey, signature::hazmat::PrehashSigner};
use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair as CertificateKey, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, date_time_ymd,
};
use ring::{
    digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA512},
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
        ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
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
const P384_SPKI: [u8; 23] = [
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22, 0x03,
    0x62, 0x00,
];

/// Most keys that a test needs at once.
pub(crate) const KEYS_MAX: usize = 6;

static RSA: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::from_pkcs8(RSA_PRIVATE).unwrap());

/// One key for each of `ring`'s ways to write a signature, and for `p256`, which signs a digest of any kind.
static P256: LazyLock<Vec<P256Pair>> = LazyLock::new(|| (1..=KEYS_MAX).map(P256Pair::new).collect());

/// Keys on P-384 cannot be made from a seed, and are dear to make.
static P384: LazyLock<Vec<P384Pair>> = LazyLock::new(|| (0..KEYS_MAX).map(|_| P384Pair::new()).collect());

/// Root, intermediate and a leaf for each of the keys on P-256.
static CERTIFICATES: LazyLock<Certificates> = LazyLock::new(Certificates::new);

struct Certificates {
    root: String,
    intermediate: String,
    leaves: Vec<String>,
}

/// The point of a key, as a certificate has it.
struct Point<'a>(&'a [u8]);

impl PublicKeyData for Point<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Certificates {
    /// Marked as Apple's are.
    fn new() -> Self {
        let params = |name: &str, mark: Option<&[u64]>| {
            let mut params = CertificateParams::default();
            params.not_before = date_time_ymd(1970, 1, 1);
            params.not_after = date_time_ymd(9999, 1, 1);
            params.distinguished_name.push(DnType::CommonName, name);
            params.custom_extensions.extend(mark.map(|oid| CustomExtension::from_oid_content(oid, vec![5, 0])));
            params
        };
        let issuer = |mut params: CertificateParams| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params
        };
        let key = || CertificateKey::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let (root, root_key) = (issuer(params("root", None)), key());
        let root_certificate = root.self_signed(&root_key).unwrap();
        let root = Issuer::new(root, root_key);

        let (intermediate, key) = (issuer(params("intermediate", Some(&[1, 2, 840, 113_635, 100, 6, 2, 1]))), key());
        let intermediate_certificate = intermediate.signed_by(&key, &root).unwrap();
        let intermediate = Issuer::new(intermediate, key);
        let leaf = |pair: &P256Pair| {
            let mut params = params("leaf", Some(&[1, 2, 840, 113_635, 100, 6, 11, 1]));
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            let certificate = params.signed_by(&Point(pair.asn1.public_key().as_ref()), &intermediate).unwrap();
            BASE64.encode(certificate.der())
        };
        Self {
            root: root_certificate.pem(),
            intermediate: BASE64.encode(intermediate_certificate.der()),
            leaves: P256.iter().map(leaf).collect(),
        }
    }
}

/// The root of all certificates here, in PEM.
pub(crate) fn root() -> &'static str {
    &CERTIFICATES.root
}

struct P256Pair {
    any_digest: SigningKey,
    asn1: EcdsaKeyPair,
    fixed: EcdsaKeyPair,
}

struct P384Pair {
    asn1: EcdsaKeyPair,
    fixed: EcdsaKeyPair,
}

impl P256Pair {
    fn new(number: usize) -> Self {
        let private = digest::digest(&digest::SHA256, &number.to_be_bytes());
        let any_digest = SigningKey::from_slice(private.as_ref()).unwrap();
        let public = any_digest.verifying_key().to_sec1_point(false);
        let pair = |algorithm| {
            EcdsaKeyPair::from_private_key_and_public_key(algorithm, private.as_ref(), public.as_bytes(), &SystemRandom::new())
                .unwrap()
        };
        Self { asn1: pair(&ECDSA_P256_SHA256_ASN1_SIGNING), fixed: pair(&ECDSA_P256_SHA256_FIXED_SIGNING), any_digest }
    }

    fn sign_digest(&self, digest: &[u8]) -> Vec<u8> {
        let signature: DerSignature = self.any_digest.sign_prehash(digest).unwrap();
        signature.as_bytes().to_vec()
    }
}

impl P384Pair {
    fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_ASN1_SIGNING, &random).unwrap();
        let pair =
            |algorithm: &'static EcdsaSigningAlgorithm| EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        Self { asn1: pair(&ECDSA_P384_SHA384_ASN1_SIGNING), fixed: pair(&ECDSA_P384_SHA384_FIXED_SIGNING) }
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
        match &way.alternative().fetched_key {
            Some(KeyOrigin::AwsSns) => self.topic(),
            Some(KeyOrigin::Document(_)) => format!("https://hooks.example.com/{}", hex::encode(self.bytes)),
            Some(KeyOrigin::Paypal) => format!("WH-{}", hex::encode(self.bytes)),
            Some(KeyOrigin::Plaid) => format!("client-{}:{}", self.number, hex::encode(self.bytes)),
            None if way.brings_certificates() => format!("com.example.{}", hex::encode(self.bytes)),
            None => self.write(way, &self.raw(way)),
        }
    }

    /// What a token brings to prove this key, the root left out.
    pub(crate) fn certificates(&self) -> Vec<String> {
        vec![CERTIFICATES.leaves[self.number].clone(), CERTIFICATES.intermediate.clone()]
    }

    /// The key that the receiver would have fetched.
    pub(crate) fn fetched(&self, way: &Way) -> Option<PublicKey> {
        way.alternative().fetched_key.as_ref().and(way.public_algorithm()).map(|algorithm| self.public(algorithm))
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
        if way.alternative().has_foreign_keys() || (spec.encoding.is_none() && way.public_algorithm().is_none()) {
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
        use SignatureAlgorithm as A;
        let ecdsa = |pair: &EcdsaKeyPair| pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec();
        match algorithm {
            A::Ed25519 => self.ed25519().sign(message).as_ref().to_vec(),
            A::EcdsaP256Sha1 => P256[self.number].sign_digest(digest::digest(&SHA1_FOR_LEGACY_USE_ONLY, message).as_ref()),
            A::EcdsaP256Sha256 => ecdsa(&P256[self.number].asn1),
            A::EcdsaP256Sha256Fixed => ecdsa(&P256[self.number].fixed),
            A::EcdsaP256Sha512 => P256[self.number].sign_digest(digest::digest(&SHA512, message).as_ref()),
            A::EcdsaP384Sha384 => ecdsa(&P384[self.number].asn1),
            A::EcdsaP384Sha384Fixed => ecdsa(&P384[self.number].fixed),
            A::RsaSha1 => panic!("ring does not sign with SHA-1"),
            A::RsaSha256 => self.sign_rsa(&RSA_PKCS1_SHA256, message),
            A::RsaSha384 => self.sign_rsa(&RSA_PKCS1_SHA384, message),
            A::RsaSha512 => self.sign_rsa(&RSA_PKCS1_SHA512, message),
            A::RsaPssSha256 => self.sign_rsa(&RSA_PSS_SHA256, message),
            A::RsaPssSha384 => self.sign_rsa(&RSA_PSS_SHA384, message),
            A::RsaPssSha512 => self.sign_rsa(&RSA_PSS_SHA512, message),
        }
    }

    fn sign_rsa(&self, encoding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
        assert_eq!(self.number, 0, "there is one RSA key");
        let mut signature = vec![0; RSA.public().modulus_len()];
        RSA.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
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
        use SignatureAlgorithm as A;
        match algorithm {
            A::Ed25519 => PublicKey::Ed25519(self.ed25519().public_key().as_ref().to_vec()),
            A::EcdsaP256Sha1 | A::EcdsaP256Sha256 | A::EcdsaP256Sha256Fixed | A::EcdsaP256Sha512 => {
                PublicKey::P256(P256[self.number].asn1.public_key().as_ref().to_vec())
            }
            A::EcdsaP384Sha384 | A::EcdsaP384Sha384Fixed => {
                PublicKey::P384(P384[self.number].asn1.public_key().as_ref().to_vec())
            }
            _ if self.number == 0 => PublicKey::parse(algorithm, RSA_PUBLIC, None).unwrap(),
            _ => PublicKey::from_jwk(&json!({"kty": "RSA", "n": OTHER_RSA_MODULUS, "e": "AQAB"})).unwrap(),
        }
    }

    /// The bytes that are the key, before they are written as text.
    fn raw(&self, way: &Way) -> Vec<u8> {
        match (way.public_algorithm().map(|algorithm| (algorithm, self.public(algorithm))), way.alternative().algorithm) {
            (Some((SignatureAlgorithm::Ed25519, PublicKey::Ed25519(bytes))), _) => bytes,
            (Some((_, PublicKey::P256(point))), _) => [P256_SPKI.as_slice(), &point].concat(),
            (Some((_, PublicKey::P384(point))), _) => [P384_SPKI.as_slice(), &point].concat(),
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
            (Some(Encoding::Base64OfHex), _) => BASE64.encode(hex::encode(raw)),
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
