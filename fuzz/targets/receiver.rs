//! The receiver itself, over a model of AWS: whatever API Gateway could hand over that nobody signed gets an answer and leaves nothing.
//!
//! Input: an event. Its sources are those of `tests::strangers`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use tests::strangers::Strangers;

thread_local! {
    static GATEWAY: Strangers = Strangers::new();
}

fuzz_target!(|data: &[u8]| {
    let Ok(event) = serde_json::from_slice::<&RawValue>(data) else { return };
    GATEWAY.with(|gateway| gateway.receive(event));
});
