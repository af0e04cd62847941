//! Bodies are hashed where they lie: what verification takes of the heap does not grow with them, whoever sent them.
//!
//! One test alone, since the allocator counts for the whole process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::alloc::System;

use http::Method;
use shared::{
    event::BodyDigest,
    location::Places,
    secrets::Keyring,
    signatures::{UnverifiedWebhook, preset::Preset},
    time::Timestamp,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
const BODY_BYTES: usize = 5 * 1024 * 1024;
/// All that one verification may allocate, freed or not; at no moment can it hold more.
const ALLOCATED_BYTES_MAX: usize = 64 * 1024;

/// A body of so many tiny values that a tree of it would take a hundred times its length, signed by Stripe: its id stands behind them.
fn tiny_values() -> Vec<u8> {
    let mut body = br#"{"list":["#.to_vec();
    while body.len() < BODY_BYTES {
        body.extend_from_slice(br#"{"":{"":[]}},"#);
    }
    body.extend_from_slice(br#"0],"id":"evt_1","type":"t","SigningCertURL":"https://example.com/"}"#);
    body
}

fn allocated(work: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    change.bytes_allocated + usize::try_from(change.bytes_reallocated).unwrap_or_default()
}

#[test]
fn memory_does_not_grow_with_a_body() {
    a_large_body_is_not_copied();
    ids_are_found_without_a_tree();
}

/// Signed or not: what names its own key is looked into before anything is proven.
fn ids_are_found_without_a_tree() {
    let preset = Preset::find("stripe").unwrap().unwrap();
    let keyring = Keyring::parse("secret").unwrap();
    let mut webhook = UnverifiedWebhook::new(Method::POST, "https://example.com/", &[], tiny_values());
    preset.scheme.sign(&mut webhook, &keyring, NOW).unwrap();
    let found = allocated(|| {
        let verified = preset.scheme.verify(&webhook, &keyring, None, NOW).unwrap();
        let identity = preset.event.identify(&verified, &BodyDigest::of(verified.body()), NOW).unwrap();
        assert_eq!((identity.event_id.as_str(), identity.event_type.as_str()), ("evt_1", "t"));
    });
    assert!(found < ALLOCATED_BYTES_MAX, "{found}");

    let sns = Preset::find("aws-sns").unwrap().unwrap().scheme;
    let unsigned = UnverifiedWebhook::new(Method::POST, "https://example.com/", &[], tiny_values());
    let looked = allocated(|| {
        let places = Places::new(&unsigned);
        assert!(sns.wanted_key(&places, &keyring, NOW).is_err() || sns.verify(&unsigned, &keyring, None, NOW).is_err());
    });
    assert!(looked < ALLOCATED_BYTES_MAX, "{looked}");
}

fn a_large_body_is_not_copied() {
    for preset in ["github", "stripe", "standard-webhooks", "slack", "shopify", "cloudinary"] {
        let scheme = Preset::find(preset).unwrap().unwrap().scheme;
        let keyring = Keyring::parse("c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0").unwrap();
        let mut webhook = UnverifiedWebhook::new(Method::POST, "https://example.com/", &[], vec![b'x'; BODY_BYTES]);
        scheme.sign(&mut webhook, &keyring, NOW).unwrap();
        for genuine in [true, false] {
            let keyring = if genuine { &keyring } else { &Keyring::parse("YW5vdGhlciBzZWNyZXQgaGVyZSEh").unwrap() };
            let region = Region::new(ALLOCATOR);
            let verdict = scheme.verify(&webhook, keyring, None, NOW);
            let change = region.change();
            assert_eq!(verdict.is_ok(), genuine, "{preset}");
            let allocated = change.bytes_allocated + usize::try_from(change.bytes_reallocated).unwrap_or_default();
            assert!(allocated < ALLOCATED_BYTES_MAX, "{preset}: {change:?}");
            assert!(allocated > 0, "nothing is counted");
        }
    }
}
