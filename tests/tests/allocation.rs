//! Bodies are hashed where they lie: what verification takes of the heap does not grow with them, whoever sent them.
//!
//! One test alone, since the allocator counts for the whole process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::alloc::System;

use http::Method;
use shared::{
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

#[test]
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
