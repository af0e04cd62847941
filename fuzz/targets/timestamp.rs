//! Timestamps: what is read is written back the same, and nothing is proven outside its tolerance.
//!
//! Input: a timestamp, a line break, and the clock's milliseconds.

#![no_main]

use std::sync::LazyLock;

use fuzz::{SECRET, keyring, line, scheme, verify, webhook};
use libfuzzer_sys::fuzz_target;
use ring::hmac;
use shared::{
    secrets::Keyring,
    signatures::{Scheme, TimestampFormat},
    time::Timestamp,
};

const TOLERANCE_SECONDS: u64 = 300;

static KEYRING: LazyLock<Keyring> = LazyLock::new(|| keyring([SECRET]));

static SCHEMES: LazyLock<[(TimestampFormat, Scheme); 3]> = LazyLock::new(|| {
    [("seconds", TimestampFormat::Seconds), ("milliseconds", TimestampFormat::Milliseconds), ("rfc3339", TimestampFormat::Rfc3339)]
        .map(|(name, format)| {
            let text = format!(
                "algorithm = \"hmac-sha256\"\nsigned = \"{{timestamp}}.{{body}}\"\nsignature = {{ at = \"header:s\", encoding = \"hex\" }}\n\
                 timestamp = {{ at = \"header:t\", format = \"{name}\", tolerance_seconds = {TOLERANCE_SECONDS} }}"
            );
            (format, scheme(&text))
        })
});

fuzz_target!(|data: &[u8]| {
    let (text, clock) = line(data);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let clock = std::str::from_utf8(clock).ok().and_then(|millis| millis.trim().parse().ok()).unwrap_or(1_700_000_000_000);
    let now = Timestamp::from_millis(clock);
    let _ = Timestamp::parse_http_date(text, now);
    let code = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), format!("{text}.").as_bytes());
    let code = hex::encode(code);
    for (format, scheme) in SCHEMES.iter() {
        let read = format.read(text);
        if let Some(read) = read {
            let written = format.write(read);
            assert_eq!(format.read(&written).map(Timestamp::seconds), Some(read.seconds()), "{text} {written}");
        }
        // A header has no space around it, and no control characters.
        if text != text.trim() || text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            continue;
        }
        let proven = verify(scheme, &webhook(&[("t", text), ("s", &code)], b""), &KEYRING, now);
        let on_time = read.is_some_and(|sent| sent.seconds().abs_diff(now.seconds()) <= TOLERANCE_SECONDS);
        assert_eq!(proven, on_time && !text.is_empty(), "{text} at {clock}");
    }
});
