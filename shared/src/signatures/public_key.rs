//! Public keys: read from what people paste, from JSON Web Keys and from certificates. `ring` verifies, but for ECDSA on P-256 with
//! SHA-1 and SHA-512, which it does not have: there it computes the digest, and `p256` verifies that.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL},
};
use p256::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
use pkcs1::{
    RsaPublicKeyRef, UintRef,
    der::{Decode, Encode, asn1::ObjectIdentifier},
};
use ring::{
    digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA512},
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED, ED25519,
        RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
        RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
        UnparsedPublicKey, VerificationAlgorithm,
    },
};
use serde_json::Value;
use x509_cert::{certificate::CertificateInner, spki::SubjectPublicKeyInfoRef};

use crate::time::Timestamp;

/// An Ed25519 public key, in bytes (RFC 8032, section 5.1.5).
const ED25519_BYTES: usize = 32;
/// A point on P-256, uncompressed, in bytes: `4`, x, y (SEC 1, section 2.3.3).
const P256_POINT_BYTES: usize = 65;
/// A coordinate of such a point, in bytes.
const P256_COORDINATE_BYTES: usize = 32;
/// A point on P-384, uncompressed, in bytes.
const P384_POINT_BYTES: usize = 97;
/// A coordinate of such a point, in bytes.
const P384_COORDINATE_BYTES: usize = 48;
/// What an uncompressed point starts with.
const UNCOMPRESSED: u8 = 4;
/// Shortest RSA modulus, in bytes: 2048 bits. `ring` refuses shorter ones too, but only when something is to be verified.
const RSA_MODULUS_BYTES_MIN: usize = 256;
/// Longest RSA modulus, in bytes: `ring` verifies with up to 8192 bits.
const RSA_MODULUS_BYTES_MAX: usize = 1024;

/// RFC 8410, section 3.
const ID_ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// RFC 5480, section 2.1.1.
const ID_EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// The curve P-256 (RFC 5480, section 2.1.1.1).
const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// The curve P-384 (RFC 5480, section 2.1.1.1).
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
/// RFC 8017, appendix A.1.
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// A public key that verifies signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// The 32 bytes of an Ed25519 key.
    Ed25519(Vec<u8>),
    /// A point on P-256, uncompressed.
    P256(Vec<u8>),
    /// A point on P-384, uncompressed.
    P384(Vec<u8>),
    /// An `RSAPublicKey` in DER (PKCS #1), of 2048 to 8192 bits.
    Rsa(Vec<u8>),
}

/// How a public key verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureAlgorithm {
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// ECDSA on P-256 with SHA-1, the signature in ASN.1 DER, for providers that still sign so.
    EcdsaP256Sha1,
    /// ECDSA on P-256 with SHA-256, the signature in ASN.1 DER.
    EcdsaP256Sha256,
    /// The same, the signature as r and s one after the other, which JWS uses.
    EcdsaP256Sha256Fixed,
    /// ECDSA on P-256 with SHA-512, the signature in ASN.1 DER.
    EcdsaP256Sha512,
    /// ECDSA on P-384 with SHA-384, the signature in ASN.1 DER.
    EcdsaP384Sha384,
    /// The same, the signature as r and s one after the other, which JWS uses.
    EcdsaP384Sha384Fixed,
    /// RSA (PKCS #1 v1.5) with SHA-1, for providers that still sign so.
    RsaSha1,
    /// RSA (PKCS #1 v1.5) with SHA-256.
    RsaSha256,
    /// RSA (PKCS #1 v1.5) with SHA-384.
    RsaSha384,
    /// RSA (PKCS #1 v1.5) with SHA-512.
    RsaSha512,
    /// RSA-PSS with SHA-256, also in MGF1, and a salt as long as the digest (RFC 7518, section 3.5).
    RsaPssSha256,
    /// RSA-PSS with SHA-384 in the same way.
    RsaPssSha384,
    /// RSA-PSS with SHA-512 in the same way.
    RsaPssSha512,
}

/// What verifies a signature.
enum Verifier {
    /// `ring`, the digest included.
    Ring(&'static dyn VerificationAlgorithm),
    /// `p256`, of this digest.
    P256(&'static digest::Algorithm),
}

/// What of a certificate matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its public key.
    pub key: PublicKey,
    /// The common name of its subject. `None` if there is none, or more than one.
    pub common_name: Option<String>,
    /// The first second that it is valid in.
    pub not_before: Timestamp,
    /// The last second that it is valid in.
    pub not_after: Timestamp,
}

/// Why a certificate is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No certificate in PEM.
    #[error("it is no X.509 certificate in PEM")]
    Malformed,
    /// Not a key that this module verifies with, or too short.
    #[error("its key is none of Ed25519, P-256, P-384 and RSA of 2048 to 8192 bits")]
    UnsupportedKey,
    /// `now` is before its period.
    #[error("it is not valid yet")]
    NotYetValid,
    /// `now` is after its period.
    #[error("it has expired")]
    Expired,
}

impl PublicKey {
    /// The key that `text` holds in PEM (`PUBLIC KEY`, `RSA PUBLIC KEY` or `CERTIFICATE`, whose period is not looked at: whoever
    /// pasted it trusts it), or else the one that `decoded` is: the bare key (Ed25519, P-256, P-384) or a `SubjectPublicKeyInfo` in DER.
    /// `None` if it does not fit the algorithm.
    pub fn parse(algorithm: SignatureAlgorithm, text: &str, decoded: Option<&[u8]>) -> Option<Self> {
        let key = match pem_block(text) {
            Some(("CERTIFICATE", der)) => Self::from_certificate(&CertificateInner::from_der(&der).ok()?),
            Some(_) => Self::from_pem(text),
            None => Self::from_bare_bytes(decoded?).or_else(|| Self::from_spki(decoded?)),
        };
        key.filter(|key| key.verifier(algorithm).is_some())
    }

    /// The key that `text` holds in PEM, as `PUBLIC KEY` or `RSA PUBLIC KEY`. A certificate is not a key: see [`Certificate::read`].
    pub fn from_pem(text: &str) -> Option<Self> {
        match pem_block(text)? {
            ("PUBLIC KEY", der) => Self::from_spki(&der),
            ("RSA PUBLIC KEY", der) => Self::from_rsa_der(&der),
            _ => None,
        }
    }

    /// The key of a JSON Web Key (RFC 7517): `EC` on P-256 or P-384, `RSA`, or `OKP` on Ed25519.
    pub fn from_jwk(jwk: &Value) -> Option<Self> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| BASE64URL.decode(text(name)?).ok();
        let point = |coordinate_bytes: usize| {
            let coordinate = |name: &str| bytes(name).filter(|bytes| bytes.len() == coordinate_bytes);
            Some([vec![UNCOMPRESSED], coordinate("x")?, coordinate("y")?].concat())
        };
        match (text("kty")?, text("crv")) {
            ("EC", Some("P-256")) => point(P256_COORDINATE_BYTES).map(Self::P256),
            ("EC", Some("P-384")) => point(P384_COORDINATE_BYTES).map(Self::P384),
            ("OKP", Some("Ed25519")) => Self::from_bare_bytes(&bytes("x")?).filter(|key| matches!(key, Self::Ed25519(_))),
            ("RSA", None) => {
                let (modulus, exponent) = (bytes("n")?, bytes("e")?);
                let key =
                    RsaPublicKeyRef { modulus: UintRef::new(&modulus).ok()?, public_exponent: UintRef::new(&exponent).ok()? };
                Self::from_rsa_der(&key.to_der().ok()?)
            }
            _ => None,
        }
    }

    /// Whether `signature` was made over `message` with this key's other half; no, too, if the key is not one for that algorithm.
    pub fn verify(&self, algorithm: SignatureAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        match self.verifier(algorithm) {
            Some(Verifier::Ring(verifier)) => UnparsedPublicKey::new(verifier, self.bytes()).verify(message, signature).is_ok(),
            Some(Verifier::P256(hash)) => self.verify_p256(digest::digest(hash, message).as_ref(), signature).is_some(),
            None => false,
        }
    }

    /// Whether this is a key for that algorithm.
    pub fn fits(&self, algorithm: SignatureAlgorithm) -> bool {
        self.verifier(algorithm).is_some()
    }

    /// The key's bytes, in the form that its kind says.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Ed25519(bytes) | Self::P256(bytes) | Self::P384(bytes) | Self::Rsa(bytes) => bytes,
        }
    }

    /// A signature in DER, of a digest. Of one that is longer than the curve's order the first 256 bits count (FIPS 186-5,
    /// section 6.4.2).
    fn verify_p256(&self, digest: &[u8], signature: &[u8]) -> Option<()> {
        let key = VerifyingKey::from_sec1_bytes(self.bytes()).ok()?;
        key.verify_prehash(digest, &Signature::from_der(signature).ok()?).ok()
    }

    fn verifier(&self, algorithm: SignatureAlgorithm) -> Option<Verifier> {
        use SignatureAlgorithm as A;
        Some(match (self, algorithm) {
            (Self::Ed25519(_), A::Ed25519) => Verifier::Ring(&ED25519),
            (Self::P256(_), A::EcdsaP256Sha1) => Verifier::P256(&SHA1_FOR_LEGACY_USE_ONLY),
            (Self::P256(_), A::EcdsaP256Sha256) => Verifier::Ring(&ECDSA_P256_SHA256_ASN1),
            (Self::P256(_), A::EcdsaP256Sha256Fixed) => Verifier::Ring(&ECDSA_P256_SHA256_FIXED),
            (Self::P256(_), A::EcdsaP256Sha512) => Verifier::P256(&SHA512),
            (Self::P384(_), A::EcdsaP384Sha384) => Verifier::Ring(&ECDSA_P384_SHA384_ASN1),
            (Self::P384(_), A::EcdsaP384Sha384Fixed) => Verifier::Ring(&ECDSA_P384_SHA384_FIXED),
            (Self::Rsa(_), A::RsaSha1) => Verifier::Ring(&RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY),
            (Self::Rsa(_), A::RsaSha256) => Verifier::Ring(&RSA_PKCS1_2048_8192_SHA256),
            (Self::Rsa(_), A::RsaSha384) => Verifier::Ring(&RSA_PKCS1_2048_8192_SHA384),
            (Self::Rsa(_), A::RsaSha512) => Verifier::Ring(&RSA_PKCS1_2048_8192_SHA512),
            (Self::Rsa(_), A::RsaPssSha256) => Verifier::Ring(&RSA_PSS_2048_8192_SHA256),
            (Self::Rsa(_), A::RsaPssSha384) => Verifier::Ring(&RSA_PSS_2048_8192_SHA384),
            (Self::Rsa(_), A::RsaPssSha512) => Verifier::Ring(&RSA_PSS_2048_8192_SHA512),
            _ => return None,
        })
    }

    /// A bare key has no mark of its kind but its length: 32, 65 and 97 bytes.
    fn from_bare_bytes(bytes: &[u8]) -> Option<Self> {
        match (bytes.len(), bytes.first()) {
            (ED25519_BYTES, _) => Some(Self::Ed25519(bytes.to_vec())),
            (P256_POINT_BYTES, Some(&UNCOMPRESSED)) => Some(Self::P256(bytes.to_vec())),
            (P384_POINT_BYTES, Some(&UNCOMPRESSED)) => Some(Self::P384(bytes.to_vec())),
            _ => None,
        }
    }

    /// A `SubjectPublicKeyInfo` (RFC 5280, section 4.1.2.7).
    fn from_spki(der: &[u8]) -> Option<Self> {
        let spki = SubjectPublicKeyInfoRef::from_der(der).ok()?;
        let curve = spki.algorithm.parameters.and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok());
        let bytes = spki.subject_public_key.as_bytes()?;
        match (spki.algorithm.oid, curve) {
            (ID_ED25519, None) => Self::from_bare_bytes(bytes).filter(|key| matches!(key, Self::Ed25519(_))),
            (ID_EC_PUBLIC_KEY, Some(SECP256R1)) => Self::from_bare_bytes(bytes).filter(|key| matches!(key, Self::P256(_))),
            (ID_EC_PUBLIC_KEY, Some(SECP384R1)) => Self::from_bare_bytes(bytes).filter(|key| matches!(key, Self::P384(_))),
            (RSA_ENCRYPTION, None) => Self::from_rsa_der(bytes),
            _ => None,
        }
    }

    /// An `RSAPublicKey` (RFC 8017, appendix A.1.1) of a length that `ring` verifies with.
    fn from_rsa_der(der: &[u8]) -> Option<Self> {
        let modulus_bytes = RsaPublicKeyRef::from_der(der).ok()?.modulus.as_bytes().len();
        (RSA_MODULUS_BYTES_MIN..=RSA_MODULUS_BYTES_MAX).contains(&modulus_bytes).then(|| Self::Rsa(der.to_vec()))
    }

    pub(super) fn from_certificate(certificate: &CertificateInner) -> Option<Self> {
        Self::from_spki(&certificate.tbs_certificate().subject_public_key_info().to_der().ok()?)
    }
}

impl Certificate {
    /// What the first certificate in `pem` certifies, whatever its period.
    pub fn read(pem: &str) -> Result<Self, CertificateError> {
        let Some(("CERTIFICATE", der)) = pem_block(pem) else { return Err(CertificateError::Malformed) };
        let certificate = CertificateInner::from_der(&der).map_err(|_| CertificateError::Malformed)?;
        let validity = certificate.tbs_certificate().validity();
        Ok(Self {
            not_before: Timestamp::from_seconds(validity.not_before.to_unix_duration().as_secs()),
            not_after: Timestamp::from_seconds(validity.not_after.to_unix_duration().as_secs()),
            common_name: common_name(&certificate),
            key: PublicKey::from_certificate(&certificate).ok_or(CertificateError::UnsupportedKey)?,
        })
    }

    /// Whether `now` is within its period, both ends included (RFC 5280, section 4.1.2.5).
    pub fn check_period(&self, now: Timestamp) -> Result<(), CertificateError> {
        if now.seconds() < self.not_before.seconds() {
            return Err(CertificateError::NotYetValid);
        }
        if now.seconds() > self.not_after.seconds() {
            return Err(CertificateError::Expired);
        }
        Ok(())
    }
}

/// What the first certificate in `pem` certifies, if `now` is within its period.
///
/// Who issued it is not looked at: it is for certificates that were fetched over TLS from their owner's own host.
pub fn certificate_key(pem: &str, now: Timestamp) -> Result<Certificate, CertificateError> {
    let certificate = Certificate::read(pem)?;
    certificate.check_period(now)?;
    Ok(certificate)
}

fn common_name(certificate: &CertificateInner) -> Option<String> {
    const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
    let subject = certificate.tbs_certificate().subject();
    // One of two could be the name that the issuer checked, and the other the one that is read here.
    let names = subject.iter().filter(|attribute| attribute.oid == COMMON_NAME).count();
    let name = subject.common_name().ok().flatten().filter(|_| names == 1)?;
    Some(name.value().into_owned())
}

/// Whether a text begins with a certificate in PEM, of whatever period.
pub fn is_certificate(pem: &str) -> bool {
    matches!(pem_block(pem), Some(("CERTIFICATE", der)) if <CertificateInner>::from_der(&der).is_ok())
}

/// The label and the content of the first PEM block. Pasting breaks and joins lines, so white space within counts for nothing.
pub(super) fn pem_block(text: &str) -> Option<(&str, Vec<u8>)> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (content, rest) = rest.split_once("-----END ")?;
    rest.strip_prefix(label)?.strip_prefix("-----")?;
    let content: Vec<u8> = content.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    Some((label, BASE64.decode(content).ok()?))
}

#[cfg(test)]
mod tests {
    use ring::{
        rand::SystemRandom,
        signature::{
            ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
            RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_SHA256, RsaKeyPair,
        },
    };
    use serde_json::json;

    use super::*;

    // Made with openssl: see generate.sh beside them.
    const SIGNER: &str = include_str!("../../testdata/keys/signer.pem");
    const SIGNER_PKCS1: &str = include_str!("../../testdata/keys/signer-pkcs1.pem");
    const SIGNER_PRIVATE: &[u8] = include_bytes!("../../testdata/keys/signer.der");
    const SIGNER_SHA1: &[u8] = include_bytes!("../../testdata/keys/signer-sha1.sig");
    const SIGNER_SHA256: &[u8] = include_bytes!("../../testdata/keys/signer-sha256.sig");
    const SIGNER_SHA384: &[u8] = include_bytes!("../../testdata/keys/signer-sha384.sig");
    const SIGNER_SHA512: &[u8] = include_bytes!("../../testdata/keys/signer-sha512.sig");
    const SIGNER_PSS_SHA256: &[u8] = include_bytes!("../../testdata/keys/signer-pss-sha256.sig");
    const SIGNER_PSS_SHA384: &[u8] = include_bytes!("../../testdata/keys/signer-pss-sha384.sig");
    const SIGNER_PSS_SHA512: &[u8] = include_bytes!("../../testdata/keys/signer-pss-sha512.sig");
    const SIGNER_PSS_OTHER_SALT: &[u8] = include_bytes!("../../testdata/keys/signer-pss-sha256-salt-0.sig");
    const CERTIFICATE: &str = include_str!("../../testdata/keys/paypal-certificate.pem");
    const TWO_NAMES: &str = include_str!("../../testdata/keys/two-names-certificate.pem");
    const WEAK: &str = include_str!("../../testdata/keys/weak.pem");
    const WEAK_CERTIFICATE: &str = include_str!("../../testdata/keys/weak-certificate.pem");
    const WEAK_SHA1: &[u8] = include_bytes!("../../testdata/keys/weak-sha1.sig");
    const P256: &str = include_str!("../../testdata/keys/p256.pem");
    const P256_SIGNATURE: &[u8] = include_bytes!("../../testdata/keys/p256.sig");
    const P256_SHA1: &[u8] = include_bytes!("../../testdata/keys/p256-sha1.sig");
    const P256_SHA512: &[u8] = include_bytes!("../../testdata/keys/p256-sha512.sig");
    const P384: &str = include_str!("../../testdata/keys/p384.pem");
    const P384_SIGNATURE: &[u8] = include_bytes!("../../testdata/keys/p384.sig");
    const P521: &str = include_str!("../../testdata/keys/p521.pem");
    const ED25519: &str = include_str!("../../testdata/keys/ed25519.pem");
    const ED25519_SIGNATURE: &[u8] = include_bytes!("../../testdata/keys/ed25519.sig");

    const ALGORITHMS: [SignatureAlgorithm; 14] = [
        SignatureAlgorithm::Ed25519,
        SignatureAlgorithm::EcdsaP256Sha1,
        SignatureAlgorithm::EcdsaP256Sha256,
        SignatureAlgorithm::EcdsaP256Sha256Fixed,
        SignatureAlgorithm::EcdsaP256Sha512,
        SignatureAlgorithm::EcdsaP384Sha384,
        SignatureAlgorithm::EcdsaP384Sha384Fixed,
        SignatureAlgorithm::RsaSha1,
        SignatureAlgorithm::RsaSha256,
        SignatureAlgorithm::RsaSha384,
        SignatureAlgorithm::RsaSha512,
        SignatureAlgorithm::RsaPssSha256,
        SignatureAlgorithm::RsaPssSha384,
        SignatureAlgorithm::RsaPssSha512,
    ];

    fn der(pem: &str) -> Vec<u8> {
        pem_block(pem).unwrap().1
    }

    fn utc(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn what_openssl_signed_is_verified_and_nothing_else() {
        let check = |pem: &str, algorithm: SignatureAlgorithm, signature: &[u8]| {
            let key = PublicKey::parse(algorithm, pem, None).unwrap();
            assert!(key.verify(algorithm, b"message", signature), "{algorithm:?}");
            assert!(!key.verify(algorithm, b"massage", signature), "{algorithm:?}");
            assert!(!key.verify(algorithm, b"message", &signature[1..]), "{algorithm:?}");
            assert!(!key.verify(algorithm, b"message", b""), "{algorithm:?}");
            let mut other = signature.to_vec();
            *other.last_mut().unwrap() ^= 1;
            assert!(!key.verify(algorithm, b"message", &other), "{algorithm:?}");
            for wrong in ALGORITHMS.into_iter().filter(|wrong| *wrong != algorithm) {
                assert!(!key.verify(wrong, b"message", signature), "{algorithm:?} as {wrong:?}");
            }
        };
        check(ED25519, SignatureAlgorithm::Ed25519, ED25519_SIGNATURE);
        check(P256, SignatureAlgorithm::EcdsaP256Sha256, P256_SIGNATURE);
        check(SIGNER, SignatureAlgorithm::RsaSha1, SIGNER_SHA1);
        check(SIGNER, SignatureAlgorithm::RsaSha256, SIGNER_SHA256);
        check(SIGNER, SignatureAlgorithm::RsaSha384, SIGNER_SHA384);
        check(SIGNER, SignatureAlgorithm::RsaSha512, SIGNER_SHA512);
        check(SIGNER, SignatureAlgorithm::RsaPssSha256, SIGNER_PSS_SHA256);
        check(SIGNER, SignatureAlgorithm::RsaPssSha384, SIGNER_PSS_SHA384);
        check(SIGNER, SignatureAlgorithm::RsaPssSha512, SIGNER_PSS_SHA512);
        check(P256, SignatureAlgorithm::EcdsaP256Sha1, P256_SHA1);
        check(P256, SignatureAlgorithm::EcdsaP256Sha512, P256_SHA512);
        check(P384, SignatureAlgorithm::EcdsaP384Sha384, P384_SIGNATURE);
    }

    #[test]
    fn a_pss_signature_with_a_salt_of_another_length_is_refused() {
        let key = PublicKey::parse(SignatureAlgorithm::RsaPssSha256, SIGNER, None).unwrap();
        assert!(!key.verify(SignatureAlgorithm::RsaPssSha256, b"message", SIGNER_PSS_OTHER_SALT));
    }

    /// An ECDSA signature of these two numbers in DER.
    fn ecdsa_der(r: &[u8], s: &[u8]) -> Vec<u8> {
        let integer = |bytes: &[u8]| [&[2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
        let content = [integer(r), integer(s)].concat();
        [vec![0x30, u8::try_from(content.len()).unwrap()], content].concat()
    }

    /// Those that Wycheproof tries on every implementation: numbers out of range, and DER that is not canonical.
    #[test]
    fn ecdsa_signatures_that_are_no_signatures_are_refused() {
        let order = hex::decode("00ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551").unwrap();
        let order_and_one = hex::decode("00ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632552").unwrap();
        let field = hex::decode("00ffffffff00000001000000000000000000000000ffffffffffffffffffffffff").unwrap();
        let numbers: [&[u8]; 9] = [&[], &[0], &[1], &[0xff], &[0, 1], &order, &order_and_one, &field, &[1; 33]];
        for (algorithm, good) in
            [(SignatureAlgorithm::EcdsaP256Sha1, P256_SHA1), (SignatureAlgorithm::EcdsaP256Sha512, P256_SHA512)]
        {
            let key = PublicKey::parse(algorithm, P256, None).unwrap();
            for (r, s) in numbers.iter().flat_map(|r| numbers.iter().map(move |s| (r, s))) {
                assert!(!key.verify(algorithm, b"message", &ecdsa_der(r, s)), "{algorithm:?} {r:02x?} {s:02x?}");
            }
            let long_form = [&[0x30, 0x81, good[1]], &good[2..]].concat();
            let indefinite = [&[0x30, 0x80], &good[2..], &[0, 0]].concat();
            let trailing = [good, &[0]].concat();
            let trailing_within = [&[0x30, good[1] + 2], &good[2..], &[5, 0]].concat();
            let padded = {
                let (r, rest) = good[4..].split_at(usize::from(good[3]));
                ecdsa_der(&[&[0], r].concat(), &rest[2..])
            };
            for other in [long_form, indefinite, trailing, trailing_within, padded] {
                assert!(!key.verify(algorithm, b"message", &other), "{algorithm:?} {}", hex::encode(other));
            }
            // Not on the curve.
            let point = [&[UNCOMPRESSED][..], &[7; P256_POINT_BYTES - 1]].concat();
            assert!(!PublicKey::P256(point).verify(algorithm, b"message", good));
        }
    }

    #[test]
    fn signatures_of_r_and_s_are_verified() {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let algorithm = SignatureAlgorithm::EcdsaP256Sha256Fixed;
        let key = PublicKey::parse(algorithm, "", Some(pair.public_key().as_ref())).unwrap();
        let signature = pair.sign(&random, b"message").unwrap();
        assert!(key.verify(algorithm, b"message", signature.as_ref()));
        assert!(!key.verify(SignatureAlgorithm::EcdsaP256Sha256, b"message", signature.as_ref()));

        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let algorithm = SignatureAlgorithm::EcdsaP384Sha384Fixed;
        let point = pair.public_key().as_ref();
        let key = PublicKey::parse(algorithm, "", Some(point)).unwrap();
        let (x, y) = point[1..].split_at(P384_COORDINATE_BYTES);
        let jwk = json!({"kty": "EC", "crv": "P-384", "x": BASE64URL.encode(x), "y": BASE64URL.encode(y)});
        assert_eq!(PublicKey::from_jwk(&jwk).as_ref(), Some(&key));
        let signature = pair.sign(&random, b"message").unwrap();
        assert!(key.verify(algorithm, b"message", signature.as_ref()));
        assert!(!key.verify(SignatureAlgorithm::EcdsaP384Sha384, b"message", signature.as_ref()));
    }

    #[test]
    fn one_key_reads_the_same_in_all_its_forms() {
        let algorithm = SignatureAlgorithm::RsaSha256;
        let expected = PublicKey::parse(algorithm, SIGNER, None).unwrap();
        let private = RsaKeyPair::from_pkcs8(SIGNER_PRIVATE).unwrap();
        assert_eq!(expected, PublicKey::Rsa(private.public_key().as_ref().to_vec()));
        assert_eq!(PublicKey::parse(algorithm, SIGNER_PKCS1, None).as_ref(), Some(&expected));
        assert_eq!(PublicKey::parse(algorithm, CERTIFICATE, None).as_ref(), Some(&expected));
        assert_eq!(PublicKey::parse(algorithm, "", Some(&der(SIGNER))).as_ref(), Some(&expected));
        let one_line = SIGNER.replace('\n', " ");
        assert_eq!(PublicKey::parse(algorithm, &one_line, None).as_ref(), Some(&expected));
        let crlf = format!("  {}", SIGNER.replace('\n', "\r\n    "));
        assert_eq!(PublicKey::parse(algorithm, &crlf, None).as_ref(), Some(&expected));

        let spki = der(ED25519);
        let bare = &spki[spki.len() - ED25519_BYTES..];
        let algorithm = SignatureAlgorithm::Ed25519;
        assert_eq!(PublicKey::parse(algorithm, "", Some(bare)), PublicKey::parse(algorithm, ED25519, None));
        let spki = der(P256);
        let bare = &spki[spki.len() - P256_POINT_BYTES..];
        let algorithm = SignatureAlgorithm::EcdsaP256Sha256;
        assert_eq!(PublicKey::parse(algorithm, "", Some(bare)), PublicKey::parse(algorithm, P256, None));
    }

    #[test]
    fn a_key_that_does_not_fit_the_algorithm_is_none() {
        for (pem, fitting) in [
            (ED25519, &ALGORITHMS[..1]),
            (P256, &ALGORITHMS[1..5]),
            (P384, &ALGORITHMS[5..7]),
            (SIGNER, &ALGORITHMS[7..]),
            (P521, &[]),
        ] {
            for algorithm in ALGORITHMS {
                let key = PublicKey::parse(algorithm, pem, None);
                assert_eq!(key.is_some(), fitting.contains(&algorithm), "{algorithm:?} {pem}");
                assert_eq!(PublicKey::parse(algorithm, "", Some(&der(pem))), key, "{algorithm:?} {pem}");
            }
        }
    }

    #[test]
    fn what_is_no_key_is_none() {
        let point = [&[UNCOMPRESSED][..], &[7; P256_POINT_BYTES - 1]].concat();
        let compressed = [&[2][..], &[7; P256_POINT_BYTES - 1]].concat();
        for algorithm in ALGORITHMS {
            for text in [
                "",
                "nonsense",
                "-----BEGIN ",
                "-----BEGIN PUBLIC KEY-----",
                "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----",
                "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END CERTIFICATE-----",
                "-----BEGIN PUBLIC KEY-----\n%%%%\n-----END PUBLIC KEY-----",
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
                &SIGNER.replace("PUBLIC KEY", "CERTIFICATE"),
                &SIGNER.replace("PUBLIC KEY", "RSA PUBLIC KEY"),
                &SIGNER_PKCS1.replace("RSA PUBLIC KEY", "PUBLIC KEY"),
            ] {
                assert_eq!(PublicKey::parse(algorithm, text, None), None, "{algorithm:?} {text}");
            }
            let lengths =
                [ED25519_BYTES, P256_POINT_BYTES, P384_POINT_BYTES].into_iter().flat_map(|length| [length - 1, length + 1]);
            for length in lengths.chain([0, 1]) {
                assert_eq!(PublicKey::parse(algorithm, "", Some(&vec![UNCOMPRESSED; length])), None, "{algorithm:?} {length}");
            }
            assert_eq!(PublicKey::parse(algorithm, "", Some(&compressed)), None, "{algorithm:?}");
            // Trailing bytes.
            for pem in [SIGNER, ED25519, P256] {
                assert_eq!(PublicKey::parse(algorithm, "", Some(&[der(pem), vec![0]].concat())), None, "{algorithm:?}");
            }
        }
        // Of the right form, but not on the curve: it verifies nothing.
        let algorithm = SignatureAlgorithm::EcdsaP256Sha256;
        assert!(!PublicKey::parse(algorithm, "", Some(&point)).unwrap().verify(algorithm, b"message", P256_SIGNATURE));
    }

    #[test]
    fn nothing_that_is_cut_short_or_changed_panics() {
        for der in [der(CERTIFICATE), der(SIGNER), der(P256), der(P384), der(ED25519), der(SIGNER_PKCS1)] {
            for position in 0..der.len() {
                let mut changed = der.clone();
                changed[position] ^= 0xff;
                for bytes in [&der[..position], &changed] {
                    let _ = CertificateInner::<x509_cert::certificate::Rfc5280>::from_der(bytes);
                    let _ = PublicKey::from_spki(bytes);
                    let _ = PublicKey::from_rsa_der(bytes);
                    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----", BASE64.encode(bytes));
                    let _ = certificate_key(&pem, utc("2026-06-01T00:00:00Z"));
                }
            }
        }
    }

    #[test]
    fn rsa_keys_are_used_from_2048_to_8192_bits() {
        let key = |bytes: usize| {
            let modulus = vec![0xff; bytes];
            let key =
                RsaPublicKeyRef { modulus: UintRef::new(&modulus).unwrap(), public_exponent: UintRef::new(&[1, 0, 1]).unwrap() };
            PublicKey::from_rsa_der(&key.to_der().unwrap())
        };
        assert!(key(RSA_MODULUS_BYTES_MIN - 1).is_none());
        assert!(key(RSA_MODULUS_BYTES_MIN).is_some());
        assert!(key(RSA_MODULUS_BYTES_MAX).is_some());
        assert!(key(RSA_MODULUS_BYTES_MAX + 1).is_none());
        assert_eq!(PublicKey::parse(SignatureAlgorithm::RsaSha1, WEAK, None), None);
        // Not even where it comes by another way: this is a right signature by a key of 1024 bits.
        let weak = PublicKey::Rsa(SubjectPublicKeyInfoRef::from_der(&der(WEAK)).unwrap().subject_public_key.raw_bytes().to_vec());
        assert!(!weak.verify(SignatureAlgorithm::RsaSha1, b"message", WEAK_SHA1));
        let lax = UnparsedPublicKey::new(&RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, weak.bytes());
        assert!(lax.verify(b"message", WEAK_SHA1).is_ok());
    }

    #[test]
    fn a_certificate_is_used_within_its_period_both_ends_included() {
        let check = |now: &str| certificate_key(CERTIFICATE, utc(now)).map(|certificate| certificate.not_after);
        assert_eq!(check("2025-12-31T23:59:59Z"), Err(CertificateError::NotYetValid));
        assert_eq!(check("2026-01-01T00:00:00Z"), Ok(utc("2027-01-01T00:00:00Z")));
        assert_eq!(check("2027-01-01T00:00:00Z"), Ok(utc("2027-01-01T00:00:00Z")));
        assert_eq!(check("2027-01-01T00:00:01Z"), Err(CertificateError::Expired));
    }

    #[test]
    fn a_certificate_tells_its_name_and_key() {
        let now = utc("2026-06-01T00:00:00Z");
        let certificate = certificate_key(CERTIFICATE, now).unwrap();
        assert_eq!(certificate.common_name.as_deref(), Some("messageverificationcerts.paypal.com"));
        assert!(certificate.key.verify(SignatureAlgorithm::RsaSha256, b"message", SIGNER_SHA256));
        assert_eq!(certificate_key(TWO_NAMES, now).map(|certificate| certificate.common_name), Ok(None));
        // A chain: the first is the one that signs.
        let chain = format!("{CERTIFICATE}{WEAK_CERTIFICATE}");
        assert_eq!(certificate_key(&chain, now), Ok(certificate));
        assert_eq!(certificate_key(WEAK_CERTIFICATE, now), Err(CertificateError::UnsupportedKey));
        assert_eq!(certificate_key(SIGNER, now), Err(CertificateError::Malformed));
        assert_eq!(certificate_key("<html>", now), Err(CertificateError::Malformed));
    }

    #[test]
    fn json_web_keys_are_read() {
        // RFC 7515, appendix A.3.1; RFC 8037, appendix A.2.
        let ec = json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
        let okp = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        assert!(matches!(PublicKey::from_jwk(&ec), Some(PublicKey::P256(point)) if point.len() == P256_POINT_BYTES));
        let ed25519 = PublicKey::from_jwk(&okp).unwrap();
        // RFC 8037, appendix A.4.
        let input = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        let signature =
            BASE64URL.decode("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg").unwrap();
        assert!(ed25519.verify(SignatureAlgorithm::Ed25519, input, &signature));

        let private = RsaKeyPair::from_pkcs8(SIGNER_PRIVATE).unwrap();
        let components = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(private.public());
        let rsa = json!({"kty": "RSA", "n": BASE64URL.encode(&components.n), "e": BASE64URL.encode(&components.e)});
        assert_eq!(PublicKey::from_jwk(&rsa), PublicKey::parse(SignatureAlgorithm::RsaSha256, SIGNER, None));
        let mut signature = vec![0; private.public().modulus_len()];
        private.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), b"m", &mut signature).unwrap();
        assert!(PublicKey::from_jwk(&rsa).unwrap().verify(SignatureAlgorithm::RsaSha256, b"m", &signature));

        for (jwk, name, wrong) in [
            (&ec, "crv", json!("P-384")),
            (&ec, "crv", json!("P-521")),
            (&ec, "crv", json!("secp256k1")),
            (&ec, "kty", json!("oct")),
            (&ec, "x", json!("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVA")),
            (&ec, "y", json!("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0=")),
            (&ec, "y", json!(7)),
            (&okp, "x", json!("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHUQ")),
            (&okp, "crv", json!("X25519")),
            (&rsa, "n", json!("AQAB")),
            (&rsa, "e", json!("")),
            (&rsa, "kty", Value::Null),
        ] {
            let mut changed = jwk.clone();
            changed[name] = wrong;
            assert_eq!(PublicKey::from_jwk(&changed), None, "{changed}");
        }
        assert_eq!(PublicKey::from_jwk(&json!([])), None);
    }
}
