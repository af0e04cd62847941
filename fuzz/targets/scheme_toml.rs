//! Schemes and whole configurations as somebody writes them: what is read and found possible holds what every scheme holds.
//!
//! Input: a preset's file, or a `gateway.toml`.

#![no_main]

use std::sync::LazyLock;

use fuzz::{NOW, SECRET, keyring, verify, webhook};
use http::Method;
use libfuzzer_sys::fuzz_target;
use shared::{
    config::Gateway,
    location::Places,
    secrets::Keyring,
    signatures::{Scheme, preset::Preset},
};

static KEYRING: LazyLock<Keyring> =
    LazyLock::new(|| keyring([SECRET, &format!("id:{SECRET}"), "c2VjcmV0LWZvci1mdXp6aW5nLXRoYXQt"]));

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(gateway) = Gateway::parse(text, "gateway.toml") {
        gateway.schemes.values().for_each(try_out);
        gateway.sources.values().for_each(|source| try_out(&source.scheme));
    }
    let Ok(preset) = toml::from_str::<Preset>(text) else { return };
    if preset.scheme.check().is_err() {
        return;
    }
    try_out(&preset.scheme);
    let request = webhook(&[("x-a", "1")], b"{\"type\":\"url_verification\",\"challenge\":\"c\"}");
    for handshake in preset.handshakes.iter().filter(|handshake| handshake.check().is_ok()) {
        let places = Places::new(&request);
        handshake.is_meant(&places);
        let _ = handshake.answer(&preset.scheme, &places, Some(&KEYRING), Some(&KEYRING), NOW);
    }
});

/// Nothing is proven of what nobody signed; what is signed holds what [`verify`] asserts, if it is proven.
fn try_out(scheme: &Scheme) {
    for body in ["", "{\"signature\":{\"token\":\"t\"},\"value\":[{}],\"Type\":\"Notification\"}", "a=1&b=2"] {
        for method in [Method::POST, Method::GET] {
            let mut request = webhook(&[("x-a", "1"), ("content-type", "application/json")], body.as_bytes());
            request.method = method;
            assert!(!verify(scheme, &request, &KEYRING, NOW), "nobody signed this");
            if scheme.sign(&mut request, &KEYRING, NOW).is_ok() {
                verify(scheme, &request, &KEYRING, NOW);
            }
        }
    }
}
