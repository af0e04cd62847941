//! JSON Web Tokens in their compact form (RFC 7519, RFC 7515, section 7.1), and signatures of that form without their content
//! (RFC 7515, appendix F), which the request has instead.
//!
//! `jsonwebtoken` reads the header and verifies the signature; the cryptography below it is `ring`'s, named to it here. Its own
//! comparison of times reads the clock and is not used: [`check_times`] compares with the time that it is told. A token is verified
//! with one algorithm, which its header names, the caller allows and the key is made for. Claims are read as bodies are.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header,
    crypto::{self, CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
    signature::{Error as SignatureError, Signer, Verifier},
};
use ring::hmac;
use serde::Deserialize;

use super::{
    Refusal,
    public_key::{PublicKey, SignatureAlgorithm},
};
use crate::{
    json::{BYTE_ORDER_MARK, Pointers, Scan, Value as Found},
    location::Sought,
    time::Timestamp,
};

/// Longest token that is looked at. Those in headers are of a few hundred bytes, and API Gateway bounds headers as a whole; one that
/// is itself the body carries the event, and certificates: the App Store's are of some 20 KB.
pub const TOKEN_BYTES_MAX: usize = 256 * 1024;
/// How far `exp`, `nbf` and `iat` may be off where a scheme says nothing, in seconds: clocks differ.
pub const LEEWAY_SECONDS_DEFAULT: u64 = 60;

/// A signature algorithm of tokens (RFC 7518, section 3.1; RFC 8037, section 3.1). ES512 is not one of them: it needs the curve
/// P-521, which `ring` does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
    /// RSA (PKCS #1 v1.5) with SHA-256.
    RS256,
    /// RSA (PKCS #1 v1.5) with SHA-384.
    RS384,
    /// RSA (PKCS #1 v1.5) with SHA-512.
    RS512,
    /// RSA-PSS with SHA-256.
    PS256,
    /// RSA-PSS with SHA-384.
    PS384,
    /// RSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

/// The header of a token that nobody has verified: for choosing a key, never for trusting it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedHeader {
    /// How it says that it is signed.
    pub algorithm: JwtAlgorithm,
    /// The key that it says it is signed with.
    pub key_id: Option<String>,
    /// The chain of certificates that it brings, `x5c` (RFC 7515, section 4.1.6): DER in base64, that of its key first.
    pub certificates: Option<Vec<String>>,
}

/// How a token's content is written where it is signed (RFC 7797).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Payload {
    Base64url,
    /// As it is.
    Unencoded,
}

/// What a token is verified with.
#[derive(Clone, Copy)]
pub enum JwtKey<'a> {
    /// A shared secret, for HMAC alone.
    Secret(&'a [u8]),
    /// A public key, for everything else.
    Public(&'a PublicKey),
}

impl JwtAlgorithm {
    /// Whether it is keyed with a shared secret.
    pub const fn is_symmetric(self) -> bool {
        self.hmac().is_some()
    }

    const fn hmac(self) -> Option<hmac::Algorithm> {
        match self {
            Self::HS256 => Some(hmac::HMAC_SHA256),
            Self::HS384 => Some(hmac::HMAC_SHA384),
            Self::HS512 => Some(hmac::HMAC_SHA512),
            _ => None,
        }
    }

    /// How a public key verifies it. `None` if it is keyed with a shared secret.
    pub const fn signature_algorithm(self) -> Option<SignatureAlgorithm> {
        match self {
            Self::HS256 | Self::HS384 | Self::HS512 => None,
            Self::RS256 => Some(SignatureAlgorithm::RsaSha256),
            Self::RS384 => Some(SignatureAlgorithm::RsaSha384),
            Self::RS512 => Some(SignatureAlgorithm::RsaSha512),
            Self::PS256 => Some(SignatureAlgorithm::RsaPssSha256),
            Self::PS384 => Some(SignatureAlgorithm::RsaPssSha384),
            Self::PS512 => Some(SignatureAlgorithm::RsaPssSha512),
            Self::ES256 => Some(SignatureAlgorithm::EcdsaP256Sha256Fixed),
            Self::ES384 => Some(SignatureAlgorithm::EcdsaP384Sha384Fixed),
            Self::EdDSA => Some(SignatureAlgorithm::Ed25519),
        }
    }

    const fn of(algorithm: Algorithm) -> Option<Self> {
        Some(match algorithm {
            Algorithm::HS256 => Self::HS256,
            Algorithm::HS384 => Self::HS384,
            Algorithm::HS512 => Self::HS512,
            Algorithm::RS256 => Self::RS256,
            Algorithm::RS384 => Self::RS384,
            Algorithm::RS512 => Self::RS512,
            Algorithm::PS256 => Self::PS256,
            Algorithm::PS384 => Self::PS384,
            Algorithm::PS512 => Self::PS512,
            Algorithm::ES256 => Self::ES256,
            Algorithm::ES384 => Self::ES384,
            Algorithm::EdDSA => Self::EdDSA,
            _ => return None,
        })
    }

    const fn theirs(self) -> Algorithm {
        match self {
            Self::HS256 => Algorithm::HS256,
            Self::HS384 => Algorithm::HS384,
            Self::HS512 => Algorithm::HS512,
            Self::RS256 => Algorithm::RS256,
            Self::RS384 => Algorithm::RS384,
            Self::RS512 => Algorithm::RS512,
            Self::PS256 => Algorithm::PS256,
            Self::PS384 => Algorithm::PS384,
            Self::PS512 => Algorithm::PS512,
            Self::ES256 => Algorithm::ES256,
            Self::ES384 => Algorithm::ES384,
            Self::EdDSA => Algorithm::EdDSA,
        }
    }
}

/// The header of `token`, not verified. `None` if there is none that can be read, or if the token names extensions that have to be
/// understood (RFC 7515, section 4.1.11), of which only `b64` is.
pub fn unverified_header(token: &str) -> Option<UnverifiedHeader> {
    Some(header(token)?.0)
}

/// Whether a text has the form of a token: three parts of base64url with dots between.
pub fn is_compact(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.bytes().all(allowed) && text.split('.').count() == 3
}

/// The payload of a token whose signature is verified: a JSON object. [`verify`] alone makes one, and [`super::Scheme::suppose`] for samples.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims(Vec<u8>);

impl std::fmt::Debug for Claims {
    /// Nothing of them: they may hold customers' data.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Claims({} bytes)", self.0.len())
    }
}

impl Claims {
    /// What stands at a JSON pointer.
    pub fn look(&self, pointer: &str) -> Sought<'_> {
        Sought::of_value(self.find(pointer))
    }

    /// The values at a JSON pointer: of an array all that are text, numbers or booleans.
    pub fn texts(&self, pointer: &str) -> Vec<Cow<'_, str>> {
        let Some(value) = self.find(pointer) else { return Vec::new() };
        let text = |value: Found<'_>| value.text().map(|(text, _)| text.into_owned().into());
        match value.elements() {
            Some(elements) => elements.filter_map(text).collect(),
            None => text(value).into_iter().collect(),
        }
    }

    /// The payload as it was signed.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn find(&self, pointer: &str) -> Option<Found<'_>> {
        Scan::new(&self.0, &Pointers::new([pointer])).ok()?.get(&self.0, 0)
    }
}

/// The claims of `token`, if it is signed with `key` by one of the `allowed` algorithms. A shared secret verifies by HMAC alone and
/// a public key never does: else whoever knows the public key could sign with it. Times are left to [`check_times`].
pub fn verify(token: &str, allowed: &[JwtAlgorithm], key: JwtKey<'_>) -> Option<Claims> {
    // What is not encoded is for detached content alone: a JWT must not use it (RFC 7797, section 7).
    let (UnverifiedHeader { algorithm, .. }, _) = header(token).filter(|(_, payload)| *payload == Payload::Base64url)?;
    let (message, signature) = token.rsplit_once('.')?;
    let (_, payload) = message.split_once('.').filter(|(_, payload)| !payload.contains('.'))?;
    if !is_signed(message.as_bytes(), signature, algorithm, allowed, key) {
        return None;
    }
    read(payload)
}

/// The claims of a token as if its signature were right: see [`super::Scheme::suppose`].
pub(super) fn suppose(token: &str) -> Option<Claims> {
    read(token.split('.').nth(1)?)
}

fn read(payload: &str) -> Option<Claims> {
    let claims = BASE64URL.decode(payload).ok()?;
    let is_object = Scan::new(&claims, &Pointers::NONE).ok()?.whole(&claims).is_object();
    (is_object && !claims.starts_with(BYTE_ORDER_MARK)).then_some(Claims(claims))
}

/// Whether `token`, which is `header..signature`, signs `content` with `key` by one of the `allowed` algorithms (RFC 7515,
/// appendix F). Its header says whether the content is encoded first (RFC 7797).
pub fn verify_detached(token: &str, content: &[u8], allowed: &[JwtAlgorithm], key: JwtKey<'_>) -> bool {
    let verified = || {
        let (UnverifiedHeader { algorithm, .. }, payload) = header(token)?;
        let (encoded_header, signature) = token.split_once("..").filter(|(_, signature)| !signature.contains('.'))?;
        let content = match payload {
            Payload::Base64url => Cow::Owned(BASE64URL.encode(content).into_bytes()),
            Payload::Unencoded => Cow::Borrowed(content),
        };
        let message = [encoded_header.as_bytes(), b".", &content].concat();
        is_signed(&message, signature, algorithm, allowed, key).then_some(())
    };
    verified().is_some()
}

fn is_signed(message: &[u8], signature: &str, algorithm: JwtAlgorithm, allowed: &[JwtAlgorithm], key: JwtKey<'_>) -> bool {
    let key = match key {
        JwtKey::Secret(secret) if algorithm.is_symmetric() && is_secret(secret) => DecodingKey::from_secret(secret),
        JwtKey::Public(key) if !algorithm.is_symmetric() => key.into(),
        JwtKey::Secret(_) | JwtKey::Public(_) => return false,
    };
    provide();
    allowed.contains(&algorithm) && crypto::verify(signature, message, &key, algorithm.theirs()).unwrap_or(false)
}

/// Compares `exp`, `nbf` and `iat` with `now`, with `leeway_seconds` to the side that is kinder to the sender: a token is good
/// before its `exp`, from its `nbf`, and was not issued in the future. Those that are absent pass, unless they are `required`.
pub fn check_times(claims: &Claims, required: &[String], leeway_seconds: u64, now: Timestamp) -> Result<(), Refusal> {
    let is_missing = |name: &String| claims.find(&format!("/{name}")).is_none_or(Found::is_null);
    if let Some(missing) = required.iter().find(|name| is_missing(name)) {
        return Err(Refusal::BadClaim(well_known(missing)));
    }
    let now = now.seconds();
    let outside = |seconds: u64| Refusal::Stale { seconds_off: seconds.abs_diff(now), tolerance_seconds: leeway_seconds };
    if let Some(expires) = numeric_date(claims, "exp")?
        && now >= expires.saturating_add(leeway_seconds)
    {
        return Err(outside(expires));
    }
    for name in ["nbf", "iat"] {
        if let Some(begins) = numeric_date(claims, name)?
            && begins > now.saturating_add(leeway_seconds)
        {
            return Err(outside(begins));
        }
    }
    Ok(())
}

/// A token of `claims`, signed with `secret`. `None` if the algorithm is not one of HMAC, or `secret` is none.
pub fn sign(algorithm: JwtAlgorithm, claims: &serde_json::Value, secret: &[u8]) -> Option<String> {
    if !algorithm.is_symmetric() || !is_secret(secret) {
        return None;
    }
    provide();
    jsonwebtoken::encode(&Header::new(algorithm.theirs()), claims, &EncodingKey::from_secret(secret)).ok()
}

/// The signature of `content` as `header..signature`. `None` if the algorithm is not one of HMAC, or `secret` is none.
pub fn sign_detached(algorithm: JwtAlgorithm, content: &[u8], secret: &[u8]) -> Option<String> {
    let key = algorithm.hmac().filter(|_| is_secret(secret)).map(|hash| hmac::Key::new(hash, secret))?;
    let header = BASE64URL.encode(serde_json::to_vec(&Header::new(algorithm.theirs())).ok()?);
    let code = hmac::sign(&key, format!("{header}.{}", BASE64URL.encode(content)).as_bytes());
    Some(format!("{header}..{}", BASE64URL.encode(code)))
}

/// Nothing at all is no secret, and neither is a public key in PEM that was taken for one: anybody could sign with either.
fn is_secret(secret: &[u8]) -> bool {
    !secret.is_empty() && !String::from_utf8_lossy(secret).contains("-----BEGIN ")
}

fn header(token: &str) -> Option<(UnverifiedHeader, Payload)> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let header = jsonwebtoken::decode_header(token).ok()?;
    let is_encoded = header.extras.get::<bool>("b64").ok()?;
    let payload = match (header.crit.as_deref(), is_encoded) {
        (None, None | Some(true)) => Payload::Base64url,
        // Whoever does not know `b64` must refuse the token, and so it must be named.
        (Some([name]), Some(is_encoded)) if name == "b64" => {
            if is_encoded {
                Payload::Base64url
            } else {
                Payload::Unencoded
            }
        }
        _ => return None,
    };
    let algorithm = JwtAlgorithm::of(header.alg)?;
    Some((UnverifiedHeader { algorithm, key_id: header.kid, certificates: header.x5c }, payload))
}

/// A time claim, in whole seconds since the epoch: fractions are dropped, and what is before the epoch counts as the epoch.
fn numeric_date(claims: &Claims, name: &'static str) -> Result<Option<u64>, Refusal> {
    let Some(value) = claims.find(&format!("/{name}")) else { return Ok(None) };
    let (text, _) = value.text().filter(|_| value.is_number()).ok_or(Refusal::BadClaim(name))?;
    // Converting from a float saturates to both sides.
    Ok(text.parse().ok().or_else(|| text.parse::<f64>().ok().map(|seconds| seconds as u64)))
}

/// A refusal names no claim that somebody else made up.
fn well_known(name: &str) -> &'static str {
    ["exp", "nbf", "iat", "iss", "aud", "sub", "jti"].into_iter().find(|known| *known == name).unwrap_or("(required)")
}

/// What `jsonwebtoken` computes with. It takes its provider for the whole process; there is no other one here.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| {
        let algorithm = JwtAlgorithm::of(*algorithm).filter(|_| key.family() == AlgorithmFamily::Hmac);
        Ok(Box::new(HmacKey::new(algorithm.ok_or(ErrorKind::InvalidAlgorithm)?, key.as_bytes())?))
    },
    verifier_factory: |algorithm, key| {
        let algorithm = JwtAlgorithm::of(*algorithm).ok_or(ErrorKind::InvalidAlgorithm)?;
        let bytes = key.try_get_as_bytes()?;
        Ok(match key.family() {
            AlgorithmFamily::Hmac => Box::new(HmacKey::new(algorithm, bytes)?),
            AlgorithmFamily::Ed => Box::new(SignatureKey::new(algorithm, PublicKey::Ed25519(bytes.to_vec()))?),
            AlgorithmFamily::Ec if algorithm == JwtAlgorithm::ES384 => {
                Box::new(SignatureKey::new(algorithm, PublicKey::P384(bytes.to_vec()))?)
            }
            AlgorithmFamily::Ec => Box::new(SignatureKey::new(algorithm, PublicKey::P256(bytes.to_vec()))?),
            AlgorithmFamily::Rsa => Box::new(SignatureKey::new(algorithm, PublicKey::Rsa(bytes.to_vec()))?),
        })
    },
    key_utils: KeyUtils::new_unimplemented(),
};

/// Names [`PROVIDER`] to `jsonwebtoken`, which panics without one.
fn provide() {
    // Every call but the first is told that there is one already: this one.
    let _ = PROVIDER.install_default();
}

impl From<&PublicKey> for DecodingKey {
    fn from(key: &PublicKey) -> Self {
        match key {
            PublicKey::Ed25519(bytes) => Self::from_ed_der(bytes),
            PublicKey::P256(bytes) | PublicKey::P384(bytes) => Self::from_ec_der(bytes),
            PublicKey::Rsa(bytes) => Self::from_rsa_der(bytes),
        }
    }
}

/// A shared secret, made ready for one algorithm.
struct HmacKey {
    algorithm: Algorithm,
    key: hmac::Key,
}

impl HmacKey {
    fn new(algorithm: JwtAlgorithm, secret: &[u8]) -> Result<Self, Error> {
        let key = hmac::Key::new(algorithm.hmac().ok_or(ErrorKind::InvalidAlgorithm)?, secret);
        Ok(Self { algorithm: algorithm.theirs(), key })
    }
}

impl Verifier<Vec<u8>> for HmacKey {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        hmac::verify(&self.key, message, signature).map_err(|_| SignatureError::new())
    }
}

impl Signer<Vec<u8>> for HmacKey {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        Ok(hmac::sign(&self.key, message).as_ref().to_vec())
    }
}

impl JwtVerifier for HmacKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl JwtSigner for HmacKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// A public key, for one algorithm.
struct SignatureKey {
    algorithm: Algorithm,
    signature: SignatureAlgorithm,
    key: PublicKey,
}

impl SignatureKey {
    fn new(algorithm: JwtAlgorithm, key: PublicKey) -> Result<Self, Error> {
        let signature = algorithm.signature_algorithm().ok_or(ErrorKind::InvalidAlgorithm)?;
        Ok(Self { algorithm: algorithm.theirs(), signature, key })
    }
}

impl Verifier<Vec<u8>> for SignatureKey {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        self.key.verify(self.signature, message, signature).then_some(()).ok_or_else(SignatureError::new)
    }
}

impl JwtVerifier for SignatureKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests {
    use ring::{
        rand::SystemRandom,
        signature::{
            ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
            Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
            RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
        },
    };
    use serde_json::{Value, json};

    use super::*;

    // Made with openssl: see generate.sh beside them.
    const SIGNER: &str = include_str!("../../testdata/keys/signer.pem");
    const SIGNER_PRIVATE: &[u8] = include_bytes!("../../testdata/keys/signer.der");

    fn verify(token: &str, allowed: &[JwtAlgorithm], key: JwtKey<'_>) -> Option<Value> {
        super::verify(token, allowed, key).map(|claims| serde_json::from_slice(claims.bytes()).unwrap())
    }

    fn check_times(claims: &Value, required: &[String], leeway_seconds: u64, now: Timestamp) -> Result<(), Refusal> {
        super::check_times(&Claims(claims.to_string().into_bytes()), required, leeway_seconds, now)
    }

    const ALL: [JwtAlgorithm; 12] = [
        JwtAlgorithm::HS256,
        JwtAlgorithm::HS384,
        JwtAlgorithm::HS512,
        JwtAlgorithm::RS256,
        JwtAlgorithm::RS384,
        JwtAlgorithm::RS512,
        JwtAlgorithm::PS256,
        JwtAlgorithm::PS384,
        JwtAlgorithm::PS512,
        JwtAlgorithm::ES256,
        JwtAlgorithm::ES384,
        JwtAlgorithm::EdDSA,
    ];

    /// The claims of RFC 7515's examples, as encoded there.
    const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

    fn expected_claims() -> Value {
        json!({"iss": "joe", "exp": 1_300_819_380, "http://example.com/is_root": true})
    }

    /// RFC 7515, appendix A.1.
    fn hs256() -> (String, Vec<u8>) {
        let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let token = format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{CLAIMS}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        (token, BASE64URL.decode(key).unwrap())
    }

    /// RFC 7515, appendix A.2.
    fn rs256() -> (String, PublicKey) {
        let key = json!({"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"});
        let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
        (format!("eyJhbGciOiJSUzI1NiJ9.{CLAIMS}.{signature}"), PublicKey::from_jwk(&key).unwrap())
    }

    /// RFC 7515, appendix A.3.
    fn es256() -> (String, PublicKey) {
        let key = json!({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
        let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        (format!("eyJhbGciOiJFUzI1NiJ9.{CLAIMS}.{signature}"), PublicKey::from_jwk(&key).unwrap())
    }

    fn eddsa(header: &Value, claims: &Value) -> (String, PublicKey) {
        let pair = Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap().as_ref()).unwrap();
        let content = format!("{}.{}", BASE64URL.encode(header.to_string()), BASE64URL.encode(claims.to_string()));
        let signature = BASE64URL.encode(pair.sign(content.as_bytes()));
        (format!("{content}.{signature}"), PublicKey::Ed25519(pair.public_key().as_ref().to_vec()))
    }

    /// A token with any header and claims, signed by HMAC with SHA-256.
    fn token(header: &str, claims: &str, secret: &[u8]) -> String {
        let content = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims));
        let code = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), content.as_bytes());
        format!("{content}.{}", BASE64URL.encode(code))
    }

    #[test]
    fn the_examples_of_the_standard_are_verified() {
        let (token, secret) = hs256();
        assert_eq!(verify(&token, &ALL, JwtKey::Secret(&secret)), Some(expected_claims()));
        assert_eq!(verify(&token, &ALL, JwtKey::Secret(&secret[1..])), None);
        for (token, key) in [rs256(), es256()] {
            assert_eq!(verify(&token, &ALL, JwtKey::Public(&key)), Some(expected_claims()), "{token}");
        }
        assert_eq!(verify(&rs256().0, &ALL, JwtKey::Public(&es256().1)), None);
        let claims = json!({"a": 1});
        let (token, key) = eddsa(&json!({"alg": "EdDSA"}), &claims);
        assert_eq!(verify(&token, &ALL, JwtKey::Public(&key)), Some(claims.clone()));
        assert_eq!(verify(&token, &ALL, JwtKey::Public(&eddsa(&json!({"alg": "EdDSA"}), &claims).1)), None);
    }

    /// A token of these claims, signed with a key that was made for it or that openssl made.
    fn signed(algorithm: JwtAlgorithm, claims: &Value) -> (String, PublicKey) {
        let content = format!(
            "{}.{}",
            BASE64URL.encode(json!({"alg": format!("{algorithm:?}")}).to_string()),
            BASE64URL.encode(claims.to_string())
        );
        let random = SystemRandom::new();
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let pair = RsaKeyPair::from_pkcs8(SIGNER_PRIVATE).unwrap();
            let mut signature = vec![0; pair.public().modulus_len()];
            pair.sign(encoding, &random, content.as_bytes(), &mut signature).unwrap();
            (signature, PublicKey::parse(SignatureAlgorithm::RsaSha256, SIGNER, None).unwrap())
        };
        let ecdsa = |algorithm: &'static EcdsaSigningAlgorithm, key: fn(Vec<u8>) -> PublicKey| {
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
            let signature = pair.sign(&random, content.as_bytes()).unwrap();
            (signature.as_ref().to_vec(), key(pair.public_key().as_ref().to_vec()))
        };
        let (signature, key) = match algorithm {
            JwtAlgorithm::RS256 => rsa(&RSA_PKCS1_SHA256),
            JwtAlgorithm::RS384 => rsa(&RSA_PKCS1_SHA384),
            JwtAlgorithm::RS512 => rsa(&RSA_PKCS1_SHA512),
            JwtAlgorithm::PS256 => rsa(&RSA_PSS_SHA256),
            JwtAlgorithm::PS384 => rsa(&RSA_PSS_SHA384),
            JwtAlgorithm::PS512 => rsa(&RSA_PSS_SHA512),
            JwtAlgorithm::ES256 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, PublicKey::P256),
            JwtAlgorithm::ES384 => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, PublicKey::P384),
            other => panic!("{other:?} is signed elsewhere"),
        };
        (format!("{content}.{}", BASE64URL.encode(signature)), key)
    }

    #[test]
    fn a_public_key_verifies_its_own_algorithm_and_no_other() {
        let claims = json!({"a": 1});
        for algorithm in &ALL[3..11] {
            let (token, key) = signed(*algorithm, &claims);
            for allowed in ALL {
                let read = verify(&token, &[allowed], JwtKey::Public(&key));
                assert_eq!(read, (allowed == *algorithm).then(|| claims.clone()), "{algorithm:?} {allowed:?}");
            }
            // The header names another algorithm, for which the key would be one as well.
            let (_, rest) = token.split_once('.').unwrap();
            for other in ALL.iter().filter(|other| *other != algorithm) {
                let renamed = format!("{}.{rest}", BASE64URL.encode(json!({"alg": format!("{other:?}")}).to_string()));
                assert_eq!(verify(&renamed, &ALL, JwtKey::Public(&key)), None, "{algorithm:?} {other:?}");
            }
        }
    }

    /// RFC 7515, appendix A.1, and RFC 7797, section 4: with the key of the former.
    #[test]
    fn detached_content_is_verified_encoded_and_as_it_is() {
        let (_, secret) = hs256();
        let encoded = "eyJhbGciOiJIUzI1NiJ9..5mvfOroL-g7HyqJoozehmsaqmvTYGEq5jTI1gVvoEoQ";
        let unencoded = "eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19..A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY";
        let check = |token: &str, content: &[u8]| verify_detached(token, content, &ALL, JwtKey::Secret(&secret));
        for token in [encoded, unencoded] {
            assert!(check(token, b"$.02"), "{token}");
            assert!(!check(token, b"$.03"), "{token}");
            assert!(!check(token, b""), "{token}");
            assert!(!verify_detached(token, b"$.02", &ALL[1..], JwtKey::Secret(&secret)), "{token}");
            assert!(!verify_detached(token, b"$.02", &ALL, JwtKey::Secret(b"another")), "{token}");
            let (header, signature) = token.split_once("..").unwrap();
            for other in [
                format!("{header}.JC4wMg.{signature}"),
                format!("{header}.$.02.{signature}"),
                format!("{header}.{signature}"),
                format!("{header}...{signature}"),
                format!("..{signature}"),
                format!("{header}.."),
                format!("{token}="),
                format!("{token}.{signature}"),
            ] {
                assert!(!check(&other, b"$.02"), "{other}");
            }
        }
        // Each content is signed in one way alone: in the other it is other content.
        assert!(!check(unencoded, b"JC4wMg"));
        assert_eq!(verify(unencoded, &ALL, JwtKey::Secret(&secret)), None);
        let content = b"any bytes: \xff.\x00";
        let token = sign_detached(JwtAlgorithm::HS384, content, b"k").unwrap();
        assert!(verify_detached(&token, content, &[JwtAlgorithm::HS384], JwtKey::Secret(b"k")));
        assert_eq!(sign_detached(JwtAlgorithm::ES256, content, b"k"), None);
        assert_eq!(sign_detached(JwtAlgorithm::HS256, content, b""), None);
    }

    /// RFC 7797: whoever leaves `b64` out of `crit` may be read by somebody who does not know it.
    #[test]
    fn unencoded_content_must_be_named_as_critical() {
        let check = |header: &str| {
            let header = BASE64URL.encode(header);
            let code = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"k"), format!("{header}.content").as_bytes());
            let token = format!("{header}..{}", BASE64URL.encode(code));
            verify_detached(&token, b"content", &ALL, JwtKey::Secret(b"k"))
        };
        assert!(check(r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#));
        for header in [
            r#"{"alg":"HS256","b64":false}"#,
            r#"{"alg":"HS256","b64":false,"crit":[]}"#,
            r#"{"alg":"HS256","b64":false,"crit":["B64"]}"#,
            r#"{"alg":"HS256","b64":false,"crit":["b64","exp"]}"#,
            r#"{"alg":"HS256","b64":false,"crit":["b64","b64"]}"#,
            r#"{"alg":"HS256","b64":0,"crit":["b64"]}"#,
            r#"{"alg":"HS256","b64":null,"crit":["b64"]}"#,
            r#"{"alg":"HS256","crit":["b64"]}"#,
            r#"{"alg":"HS256"}"#,
        ] {
            assert!(!check(header), "{header}");
        }
    }

    /// RFC 7520, section 4.2.
    #[test]
    fn the_cookbooks_signature_by_rsa_pss_is_verified() {
        let key = json!({"kty": "RSA", "e": "AQAB", "n": "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw"});
        let key = PublicKey::from_jwk(&key).unwrap();
        let content = "It\u{2019}s a dangerous business, Frodo, going out your door. You step onto the road, and if you don't keep your \
                       feet, there\u{2019}s no knowing where you might be swept off to.";
        let signature = "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw";
        let header = BASE64URL.encode(r#"{"alg":"PS384","kid":"bilbo.baggins@hobbiton.example"}"#);
        let token = format!("{header}..{signature}");
        assert!(verify_detached(&token, content.as_bytes(), &[JwtAlgorithm::PS384], JwtKey::Public(&key)));
        assert!(!verify_detached(&token, content.as_bytes(), &[JwtAlgorithm::RS384], JwtKey::Public(&key)));
        assert!(!verify_detached(&token, b"", &ALL, JwtKey::Public(&key)));
    }

    /// RFC 8037, appendix A.4: the content is no JSON, and so no claims.
    #[test]
    fn the_standards_signature_by_ed25519_is_verified() {
        let key =
            PublicKey::from_jwk(&json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}))
                .unwrap();
        let token =
            "eyJhbGciOiJFZERTQSJ9..hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
        assert!(verify_detached(token, b"Example of Ed25519 signing", &ALL, JwtKey::Public(&key)));
        assert!(!verify_detached(token, b"Example of Ed25519 sighing", &ALL, JwtKey::Public(&key)));
    }

    #[test]
    fn every_hmac_reads_back_what_it_signed_and_no_other_does() {
        let claims = json!({"url_hash": "a", "exp": 7});
        for algorithm in &ALL[..3] {
            let token = sign(*algorithm, &claims, b"secret").unwrap();
            for allowed in ALL {
                let read = verify(&token, &[allowed], JwtKey::Secret(b"secret"));
                assert_eq!(read, (allowed == *algorithm).then(|| claims.clone()), "{algorithm:?} {allowed:?}");
            }
            assert_eq!(verify(&token, &[], JwtKey::Secret(b"secret")), None);
            assert_eq!(verify(&token, &ALL, JwtKey::Secret(b"secreu")), None);
        }
        for algorithm in &ALL[3..] {
            assert_eq!(sign(*algorithm, &claims, b"secret"), None);
        }
        assert_eq!(sign(JwtAlgorithm::HS256, &claims, b""), None);
    }

    #[test]
    fn a_public_key_is_never_a_secret_nor_the_other_way_round() {
        // The known confusion: HMAC keyed with the public key, which everybody has.
        for key in [rs256().1, es256().1] {
            let forged = sign(JwtAlgorithm::HS256, &json!({}), key.bytes()).unwrap();
            assert_eq!(verify(&forged, &ALL, JwtKey::Public(&key)), None);
        }
        let (token, _) = es256();
        assert_eq!(verify(&token, &ALL, JwtKey::Secret(b"secret")), None);
        // The right key, but a header that names another algorithm.
        let (_, key) = eddsa(&json!({"alg": "EdDSA"}), &json!({}));
        for algorithm in ["ES256", "RS256", "HS256", "EdDSA "] {
            let (token, key) = eddsa(&json!({"alg": algorithm}), &json!({}));
            assert_eq!(verify(&token, &ALL, JwtKey::Public(&key)), None, "{algorithm}");
        }
        assert_eq!(verify(&rs256().0, &ALL, JwtKey::Public(&key)), None);
        // What everybody has is no secret: a public key in PEM, nothing at all.
        let pem: &[u8] = b"  -----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----";
        for known in [pem, b""] {
            let forged = self::token(r#"{"alg":"HS256"}"#, "{}", known);
            assert_eq!(verify(&forged, &ALL, JwtKey::Secret(known)), None);
            assert_eq!(sign(JwtAlgorithm::HS256, &json!({}), known), None);
        }
    }

    #[test]
    fn headers_that_are_not_understood_are_refused() {
        let check = |header: &str| verify(&token(header, "{}", b"k"), &ALL, JwtKey::Secret(b"k"));
        assert_eq!(check(r#"{"alg":"HS256"}"#), Some(json!({})));
        assert_eq!(check(r#"{"alg":"HS256","typ":"anything","kid":"1","x":{}}"#), Some(json!({})));
        assert_eq!(check(r#"{"alg":"HS256","b64":true}"#), Some(json!({})));
        assert_eq!(check(r#"{"alg":"HS256","crit":["b64"],"b64":true}"#), Some(json!({})));
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":"HS257"}"#,
            r#"{"alg":["HS256"]}"#,
            r#"{"alg":null}"#,
            r#"{"alg":"HS256","alg":"HS256"}"#,
            r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
            r#"{"alg":"HS256","crit":["exp"]}"#,
            r#"{"alg":"HS256","crit":[]}"#,
            r#"{"alg":"HS256","crit":"exp"}"#,
            r#"{"alg":"PS256"}"#,
            r#"{"alg":"ES512"}"#,
            r#"{"alg":"HS256","b64":false}"#,
            r#"{"alg":"HS256","b64":"true"}"#,
            r#"{"alg":"HS256","crit":["b64"]}"#,
            r#"{"alg":"HS256","crit":["b64","exp"],"b64":true}"#,
            r#"{"typ":"JWT"}"#,
            r#"["HS256"]"#,
            r#"{"alg":"HS256"} x"#,
            r#"{"alg":"HS256"}{}"#,
            "",
        ] {
            assert_eq!(check(header), None, "{header}");
        }
        let unsigned = format!("{}.{CLAIMS}.", BASE64URL.encode(r#"{"alg":"none"}"#));
        assert_eq!(verify(&unsigned, &ALL, JwtKey::Secret(b"k")), None);
    }

    #[test]
    fn a_token_of_another_form_is_refused() {
        let good = token(r#"{"alg":"HS256"}"#, r#"{"a":1}"#, b"k");
        let check = |token: &str| verify(token, &ALL, JwtKey::Secret(b"k"));
        assert_eq!(check(&good), Some(json!({"a": 1})));
        let parts: Vec<&str> = good.split('.').collect();
        let (content, signature) = good.rsplit_once('.').unwrap();
        // The last character holds two spare bits: setting one leaves the same bytes.
        let spare = format!("{}{}", &good[..good.len() - 1], char::from(good.as_bytes()[good.len() - 1] + 1));
        for token in [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            "...".to_owned(),
            "asdf".to_owned(),
            content.to_owned(),
            format!("{content}."),
            format!(".{}.{}", parts[1], parts[2]),
            format!("{}..{}", parts[0], parts[2]),
            format!("{good}."),
            format!("{good}.{signature}"),
            format!(".{good}"),
            format!("{good}="),
            format!("{good}\n"),
            format!(" {good}"),
            format!("Bearer {good}"),
            format!("{good}A"),
            format!("{}é", good),
            good[..good.len() - 1].to_owned(),
            spare,
            good.replacen(parts[1], &BASE64URL.encode(r#"{"a":2}"#), 1),
        ] {
            assert_eq!(check(&token), None, "{token}");
        }
        for claims in ["", "1", "[]", "null", r#""a""#, "{", r#"{"a":1}x"#, "\u{feff}{}"] {
            assert_eq!(check(&token(r#"{"alg":"HS256"}"#, claims, b"k")), None, "{claims}");
        }
        let deep = format!("{}{}", "[".repeat(9000), "]".repeat(9000));
        assert_eq!(check(&token(r#"{"alg":"HS256"}"#, &deep, b"k")), None);
    }

    #[test]
    fn a_token_that_is_changed_anywhere_is_refused() {
        let (token, key) = es256();
        for position in 0..token.len() {
            for character in ["A", "_", ".", "=", " ", "\u{7f}", ""] {
                let changed = format!("{}{character}{}", &token[..position], &token[position + 1..]);
                let expected = (changed == token).then(expected_claims);
                assert_eq!(verify(&changed, &ALL, JwtKey::Public(&key)), expected, "{changed}");
            }
        }
    }

    #[test]
    fn a_token_is_looked_at_up_to_its_bound() {
        let sized = |length: usize| {
            let empty = token(r#"{"alg":"HS256"}"#, r#"{"a":""}"#, b"k").len();
            // Three characters of claims are four of the token.
            let claims = format!(r#"{{"a":"{}"}}"#, "x".repeat((length - empty) * 3 / 4));
            let token = token(r#"{"alg":"HS256"}"#, &claims, b"k");
            assert!(token.len().abs_diff(length) <= 1, "{}", token.len());
            token
        };
        let longest = (TOKEN_BYTES_MAX - 3..=TOKEN_BYTES_MAX + 3)
            .map(sized)
            .filter(|token| token.len() <= TOKEN_BYTES_MAX)
            .max_by_key(String::len)
            .unwrap();
        assert!(longest.len() >= TOKEN_BYTES_MAX - 1);
        assert!(verify(&longest, &ALL, JwtKey::Secret(b"k")).is_some());
        assert!(unverified_header(&longest).is_some());
        let longer = sized(TOKEN_BYTES_MAX + 3);
        assert!(longer.len() > TOKEN_BYTES_MAX);
        assert_eq!(verify(&longer, &ALL, JwtKey::Secret(b"k")), None);
        assert_eq!(unverified_header(&longer), None);
    }

    #[test]
    fn a_header_is_read_before_anything_is_known() {
        let (token, _) = eddsa(&json!({"alg": "ES256", "kid": "bfbd5111-8e33-4643-8ced-b2e642a72f3c", "typ": "JWT"}), &json!({}));
        let expected = UnverifiedHeader {
            algorithm: JwtAlgorithm::ES256,
            key_id: Some("bfbd5111-8e33-4643-8ced-b2e642a72f3c".to_owned()),
            certificates: None,
        };
        assert_eq!(unverified_header(&token), Some(expected));
        let (token, _) = eddsa(&json!({"alg": "PS256", "x5c": ["AA=="]}), &json!({}));
        let certificates = Some(vec!["AA==".to_owned()]);
        let expected = UnverifiedHeader { algorithm: JwtAlgorithm::PS256, key_id: None, certificates };
        assert_eq!(unverified_header(&token), Some(expected));
        let (token, _) = eddsa(&json!({"alg": "ES512"}), &json!({}));
        assert_eq!(unverified_header(&token), None);
        assert_eq!(unverified_header("asdf"), None);
        let (token, _) = eddsa(&json!({"alg": "ES256", "crit": ["x"]}), &json!({}));
        assert_eq!(unverified_header(&token), None);
    }

    #[test]
    fn algorithms_are_named_as_the_standard_names_them() {
        let names =
            json!(["HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]);
        assert_eq!(serde_json::from_value::<Vec<JwtAlgorithm>>(names).unwrap(), ALL);
        for unknown in ["none", "hs256", "ES512", "ES256K", "Ed25519", "eddsa"] {
            assert!(serde_json::from_value::<JwtAlgorithm>(json!(unknown)).is_err(), "{unknown}");
        }
    }

    #[test]
    fn a_token_is_good_from_its_beginning_to_before_its_end_with_the_leeway() {
        let check = |claims: Value, leeway: u64| check_times(&claims, &[], leeway, Timestamp::from_seconds(1000));
        let stale = |seconds_off, tolerance_seconds| Err(Refusal::Stale { seconds_off, tolerance_seconds });
        assert_eq!(check(json!({}), 0), Ok(()));
        assert_eq!(check(json!({"exp": 1001}), 0), Ok(()));
        assert_eq!(check(json!({"exp": 1000}), 0), stale(0, 0));
        assert_eq!(check(json!({"exp": 991}), 10), Ok(()));
        assert_eq!(check(json!({"exp": 990}), 10), stale(10, 10));
        for name in ["nbf", "iat"] {
            assert_eq!(check(json!({name: 1000}), 0), Ok(()));
            assert_eq!(check(json!({name: 1001}), 0), stale(1, 0));
            assert_eq!(check(json!({name: 1010}), 10), Ok(()));
            assert_eq!(check(json!({name: 1011}), 10), stale(11, 10));
        }
        // The last millisecond of a second is still in it.
        let late = Timestamp::from_millis(1_000_999);
        assert_eq!(check_times(&json!({"exp": 1001, "nbf": 1000}), &[], 0, late), Ok(()));
    }

    #[test]
    fn numbers_of_every_size_are_compared_and_nothing_else_is_a_time() {
        let check = |claims: &str, leeway: u64, now: u64| {
            check_times(&serde_json::from_str(claims).unwrap(), &[], leeway, Timestamp::from_millis(now))
        };
        for leeway in [0, 1, u64::MAX] {
            for now in [0, 1000, u64::MAX] {
                for number in [
                    "-1",
                    "0",
                    "0.5",
                    "-0.0",
                    "1e308",
                    "-1e308",
                    "9223372036854775807",
                    "-9223372036854775808",
                    "18446744073709551615",
                    "18446744073709551616",
                    "1e-300",
                ] {
                    for name in ["exp", "nbf", "iat"] {
                        let refusal = check(&format!(r#"{{"{name}":{number}}}"#), leeway, now).err();
                        assert!(matches!(refusal, None | Some(Refusal::Stale { .. })), "{name} {number} {leeway} {now}");
                    }
                }
                for name in ["exp", "nbf", "iat"] {
                    for value in [r#""1000""#, "null", "true", "[1000]", "{}"] {
                        let refusal = check(&format!(r#"{{"{name}":{value}}}"#), leeway, now);
                        assert_eq!(refusal, Err(Refusal::BadClaim(name)), "{name} {value}");
                    }
                }
            }
        }
        assert_eq!(check(r#"{"exp":1000.9}"#, 0, 999_999), Ok(()));
        assert!(check(r#"{"exp":1000.9}"#, 0, 1_000_000).is_err());
        assert!(check(r#"{"exp":-1}"#, 0, 0).is_err());
        assert_eq!(check(r#"{"exp":1e308,"nbf":-1e308,"iat":-1}"#, 0, 1_000_000), Ok(()));
        assert!(check(r#"{"nbf":1e308}"#, 0, u64::MAX).is_err());
    }

    #[test]
    fn claims_that_are_required_must_be_there() {
        let required = ["exp".to_owned(), "sha256".to_owned()];
        let check = |claims: Value| check_times(&claims, &required, 0, Timestamp::from_seconds(1000));
        assert_eq!(check(json!({"exp": 2000, "sha256": "a"})), Ok(()));
        assert_eq!(check(json!({"sha256": "a"})), Err(Refusal::BadClaim("exp")));
        assert_eq!(check(json!({"exp": null, "sha256": "a"})), Err(Refusal::BadClaim("exp")));
        assert_eq!(check(json!({"exp": 2000})), Err(Refusal::BadClaim("(required)")));
    }
}
