//! Tokens: what is proven is signed with the key, by one of the algorithms that are allowed, and has the claims that are wanted.
//!
//! Input: a token, in which `$` after the last dot stands for the right signature; a line break; and a body.

#![no_main]

use std::sync::LazyLock;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL},
};
use fuzz::{NOW, SECRET, keyring, line, scheme, verify, webhook};
use libfuzzer_sys::fuzz_target;
use ring::{digest, hmac};
use serde_json::Value;
use shared::{
    secrets::Keyring,
    signatures::{
        Scheme,
        jwt::{self, JwtAlgorithm, JwtKey},
        public_key::PublicKey,
    },
};

const ALGORITHMS: [(&str, JwtAlgorithm, hmac::Algorithm); 3] = [
    ("HS256", JwtAlgorithm::HS256, hmac::HMAC_SHA256),
    ("HS384", JwtAlgorithm::HS384, hmac::HMAC_SHA384),
    ("HS512", JwtAlgorithm::HS512, hmac::HMAC_SHA512),
];

static KEYRING: LazyLock<Keyring> = LazyLock::new(|| keyring([SECRET]));

static SCHEME: LazyLock<Scheme> = LazyLock::new(|| {
    scheme(
        "algorithm = \"jwt\"\nsignature = { at = \"header:s\" }\n\
         jwt = { algorithms = [\"HS256\", \"HS384\"], leeway_seconds = 60, required = [\"exp\"] }\n\
         checks = [{ at = \"claim:/sha256\", equals = \"{body|sha256|base64}\" }]",
    )
});

fuzz_target!(|data: &[u8]| {
    let (token, body) = line(data);
    let Ok(token) = std::str::from_utf8(token) else { return };
    let unsigned = token.strip_suffix(".$");
    let header = unsigned.and_then(|content| content.split('.').next()).and_then(json);
    let algorithm = header.as_ref().and_then(|header| ALGORITHMS.iter().find(|(name, ..)| header["alg"] == *name));
    let token = match (unsigned, algorithm) {
        (Some(content), Some((_, _, algorithm))) => {
            let code = hmac::sign(&hmac::Key::new(*algorithm, SECRET.as_bytes()), content.as_bytes());
            format!("{content}.{}", BASE64URL.encode(code))
        }
        _ => token.to_owned(),
    };
    let _ = jwt::unverified_header(&token);
    let every = [
        JwtAlgorithm::HS256,
        JwtAlgorithm::HS384,
        JwtAlgorithm::HS512,
        JwtAlgorithm::RS256,
        JwtAlgorithm::ES256,
        JwtAlgorithm::EdDSA,
    ];
    let claims = jwt::verify(&token, &every, JwtKey::Secret(SECRET.as_bytes()));
    if claims.is_some() {
        let [header_part, claims_part, signature] =
            token.split('.').collect::<Vec<_>>().try_into().expect("a token has three parts");
        let header = json(header_part).expect("its header is JSON");
        let (_, named, algorithm) =
            ALGORITHMS.iter().find(|(name, ..)| header["alg"] == *name).expect("it names an algorithm of HMAC");
        let key = hmac::Key::new(*algorithm, SECRET.as_bytes());
        let code = BASE64URL.decode(signature).expect("its signature is base64url");
        hmac::verify(&key, format!("{header_part}.{claims_part}").as_bytes(), &code).expect("it is signed");
        assert!(json(claims_part).is_some_and(|claims| claims.is_object()));
        // Only by what is allowed, and never with another key or another kind of one.
        let others: Vec<JwtAlgorithm> = every.into_iter().filter(|other| other != named).collect();
        assert_eq!(jwt::verify(&token, &others, JwtKey::Secret(SECRET.as_bytes())), None);
        assert_eq!(jwt::verify(&token, &every, JwtKey::Secret(b"another")), None);
        assert_eq!(jwt::verify(&token, &every, JwtKey::Public(&PublicKey::Ed25519(SECRET.as_bytes().to_vec()))), None);
    }
    if token.bytes().any(|byte| byte < 0x20 || byte == 0x7f) || token != token.trim() {
        return;
    }
    if verify(&SCHEME, &webhook(&[("s", &token)], body), &KEYRING, NOW) {
        let claims = claims.expect("what is proven has claims");
        let claims: Value = serde_json::from_slice(claims.bytes()).expect("claims are JSON");
        assert_eq!(claims["sha256"], BASE64.encode(digest::digest(&digest::SHA256, body)));
        assert!(claims["exp"].as_f64().is_some_and(|expires| expires + 60.0 > NOW.seconds() as f64));
    }
});

fn json(part: &str) -> Option<Value> {
    serde_json::from_slice(&BASE64URL.decode(part).ok()?).ok()
}
