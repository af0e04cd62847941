//! The worker itself, over a model of AWS: whatever SQS could hand over is put aside or comes again, and nothing else happens.
//!
//! Input: the messages of a batch, separated by NUL, which SQS takes in no message.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tests::strangers::Strangers;

/// Lambda's default, and the template's.
const BATCH_MAX: usize = 10;

thread_local! {
    static GATEWAY: Strangers = Strangers::new();
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let bodies: Vec<String> = text.split('\0').take(BATCH_MAX).map(str::to_owned).collect();
    GATEWAY.with(|gateway| gateway.work(&bodies));
});
