//! JSON Web Tokens in their compact form (RFC 7519, RFC 7515, section 7.1).
//!
//! `jsonwebtoken` takes them apart; the cryptography below it is `ring`'s, named to it here, and its own comparison of times is
//! turned off, since it reads the clock: [`check_times`] compares with the time that it is told. A token is verified with one
//! algorithm, which its header names, the caller allows and the key is made for.

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header, Validation,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
    signature::{Error as SignatureError, Signer, Verifier},
};
use ring::hmac;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Refusal,
    public_key::{PublicKey, SignatureAlgorithm},
};
use crate::time::Timestamp;

/// Longest token that is looked at. Those of webhooks are of a few hundred bytes; headers as a whole are bounded by API Gateway.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// A signature algorithm of tokens (RFC 7518, section 3.1; RFC 8037, section 3.1).
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
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

/// The header of a token that nobody has verified: for choosing a key, never for trusting it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedHeader {
    /// How it says that it is signed. `None` if not in one of these ways.
    pub algorithm: Option<JwtAlgorithm>,
    /// The key that it says it is signed with.
    pub key_id: Option<String>,
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
            Self::RS256 | Self::ES256 | Self::EdDSA => None,
        }
    }

    /// How a public key verifies it. `None` if it is keyed with a shared secret.
    pub const fn signature_algorithm(self) -> Option<SignatureAlgorithm> {
        match self {
            Self::HS256 | Self::HS384 | Self::HS512 => None,
            Self::RS256 => Some(SignatureAlgorithm::RsaSha256),
            Self::ES256 => Some(SignatureAlgorithm::EcdsaP256Sha256Fixed),
            Self::EdDSA => Some(SignatureAlgorithm::Ed25519),
        }
    }

    const fn of(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::HS256 => Some(Self::HS256),
            Algorithm::HS384 => Some(Self::HS384),
            Algorithm::HS512 => Some(Self::HS512),
            Algorithm::RS256 => Some(Self::RS256),
            Algorithm::ES256 => Some(Self::ES256),
            Algorithm::EdDSA => Some(Self::EdDSA),
            _ => None,
        }
    }

    const fn theirs(self) -> Algorithm {
        match self {
            Self::HS256 => Algorithm::HS256,
            Self::HS384 => Algorithm::HS384,
            Self::HS512 => Algorithm::HS512,
            Self::RS256 => Algorithm::RS256,
            Self::ES256 => Algorithm::ES256,
            Self::EdDSA => Algorithm::EdDSA,
        }
    }
}

/// The header of `token`, not verified. `None` if there is none that can be read, or if the token names extensions that have to be
/// understood (RFC 7515, section 4.1.11), none of which is.
pub fn unverified_header(token: &str) -> Option<UnverifiedHeader> {
    let header = header(token)?;
    Some(UnverifiedHeader { algorithm: JwtAlgorithm::of(header.alg), key_id: header.kid })
}

/// The claims of `token`, if it is signed with `key` by one of the `allowed` algorithms. A shared secret verifies by HMAC alone and
/// a public key never does: else whoever knows the public key could sign with it. Times are left to [`check_times`].
pub fn verify(token: &str, allowed: &[JwtAlgorithm], key: JwtKey<'_>) -> Option<Value> {
    let algorithm = JwtAlgorithm::of(header(token)?.alg).filter(|algorithm| allowed.contains(algorithm))?;
    let key = match key {
        JwtKey::Secret(secret) if algorithm.is_symmetric() && is_secret(secret) => DecodingKey::from_secret(secret),
        JwtKey::Public(key) if !algorithm.is_symmetric() => key.into(),
        JwtKey::Secret(_) | JwtKey::Public(_) => return None,
    };
    provide();
    let token = jsonwebtoken::decode::<Value>(token, &key, &signature_alone(algorithm)).ok()?;
    Some(token.claims).filter(Value::is_object)
}

/// Compares `exp`, `nbf` and `iat` with `now`, with `leeway_seconds` to the side that is kinder to the sender: a token is good
/// before its `exp`, from its `nbf`, and was not issued in the future. Those that are absent pass, unless they are `required`.
pub fn check_times(claims: &Value, required: &[String], leeway_seconds: u64, now: Timestamp) -> Result<(), Refusal> {
    if let Some(missing) = required.iter().find(|name| claims.get(name.as_str()).is_none_or(Value::is_null)) {
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
pub fn sign(algorithm: JwtAlgorithm, claims: &Value, secret: &[u8]) -> Option<String> {
    if !algorithm.is_symmetric() || !is_secret(secret) {
        return None;
    }
    provide();
    jsonwebtoken::encode(&Header::new(algorithm.theirs()), claims, &EncodingKey::from_secret(secret)).ok()
}

/// Nothing at all is no secret, and neither is a public key in PEM that was taken for one: anybody could sign with either.
fn is_secret(secret: &[u8]) -> bool {
    !secret.is_empty() && !String::from_utf8_lossy(secret).contains("-----BEGIN ")
}

fn header(token: &str) -> Option<Header> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    jsonwebtoken::decode_header(token).ok().filter(|header| header.crit.is_none())
}

/// Nothing is validated but the signature: whatever compares times reads the clock, and what else the claims must say is the
/// scheme's to tell.
fn signature_alone(algorithm: JwtAlgorithm) -> Validation {
    let mut validation = Validation::new(algorithm.theirs());
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

/// A time claim, in whole seconds since the epoch: fractions are dropped, and what is before the epoch counts as the epoch.
fn numeric_date(claims: &Value, name: &'static str) -> Result<Option<u64>, Refusal> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let number = value.as_number().ok_or(Refusal::BadClaim(name))?;
    // Converting from a float saturates to both sides.
    Ok(number.as_u64().or_else(|| number.as_f64().map(|seconds| seconds as u64)))
}

/// A refusal names no claim that somebody else made up.
fn well_known(name: &str) -> &'static str {
    ["exp", "nbf", "iat", "iss", "aud", "sub", "jti"].into_iter().find(|known| *known == name).unwrap_or("(required)")
}

/// What `jsonwebtoken` computes with. It takes its provider for the whole process; there is no other one here.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| {
        let algorithm = JwtAlgorithm::of(*algorithm).filter(|_| key.family() == AlgorithmFamily::Hmac);
        Ok(Box::new(HmacKey::new(algorithm, key.as_bytes())?))
    },
    verifier_factory: |algorithm, key| {
        let algorithm = JwtAlgorithm::of(*algorithm);
        let bytes = key.try_get_as_bytes()?;
        Ok(match key.family() {
            AlgorithmFamily::Hmac => Box::new(HmacKey::new(algorithm, bytes)?),
            AlgorithmFamily::Ed => Box::new(SignatureKey::new(algorithm, PublicKey::Ed25519(bytes.to_vec()))?),
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
            PublicKey::P256(bytes) => Self::from_ec_der(bytes),
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
    fn new(algorithm: Option<JwtAlgorithm>, secret: &[u8]) -> Result<Self, Error> {
        let algorithm = algorithm.ok_or(ErrorKind::InvalidAlgorithm)?;
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
    fn new(algorithm: Option<JwtAlgorithm>, key: PublicKey) -> Result<Self, Error> {
        let algorithm = algorithm.ok_or(ErrorKind::InvalidAlgorithm)?;
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
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
    use ring::{
        rand::SystemRandom,
        signature::{Ed25519KeyPair, KeyPair},
    };
    use serde_json::json;

    use super::*;

    const ALL: [JwtAlgorithm; 6] = [
        JwtAlgorithm::HS256,
        JwtAlgorithm::HS384,
        JwtAlgorithm::HS512,
        JwtAlgorithm::RS256,
        JwtAlgorithm::ES256,
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
            algorithm: Some(JwtAlgorithm::ES256),
            key_id: Some("bfbd5111-8e33-4643-8ced-b2e642a72f3c".to_owned()),
        };
        assert_eq!(unverified_header(&token), Some(expected));
        let (token, _) = eddsa(&json!({"alg": "PS256"}), &json!({}));
        assert_eq!(unverified_header(&token), Some(UnverifiedHeader { algorithm: None, key_id: None }));
        assert_eq!(unverified_header("asdf"), None);
        let (token, _) = eddsa(&json!({"alg": "ES256", "crit": ["x"]}), &json!({}));
        assert_eq!(unverified_header(&token), None);
    }

    #[test]
    fn algorithms_are_named_as_the_standard_names_them() {
        let names = json!(["HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"]);
        assert_eq!(serde_json::from_value::<Vec<JwtAlgorithm>>(names).unwrap(), ALL);
        for unknown in ["none", "hs256", "PS256", "eddsa"] {
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
