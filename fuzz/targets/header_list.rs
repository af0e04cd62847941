//! Lists of signatures in a header, held against a second reading of them.
//!
//! Input: a letter that chooses the scheme, then the header's value. In it, `$` stands for the right signature and `@` for the
//! right time.

#![no_main]

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use fuzz::{NOW, SECRET, keyring, scheme, verify, webhook};
use libfuzzer_sys::fuzz_target;
use ring::hmac;
use shared::{
    secrets::Keyring,
    signatures::{SIGNATURES_MAX, Scheme},
};

const BODY: &[u8] = b"{\"id\":7}";

struct Case {
    scheme: Scheme,
    /// Separator, assignment and key, if the header is such a list.
    list: Option<(char, char, &'static str)>,
    prefix: &'static str,
    prefix_optional: bool,
    base64: bool,
    /// Whether the time stands in the list and is signed.
    timestamp: bool,
}

static KEYRING: LazyLock<Keyring> = LazyLock::new(|| keyring([&format!("id:{SECRET}") as &str]));

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let case = |list: Option<(char, char, &'static str)>, prefix, prefix_optional, base64, timestamp| {
        let encoding = if base64 { "base64" } else { "hex" };
        let list_text = list.map(|(separator, assign, key)| {
            format!(", list = {{ separator = \"{separator}\", assign = \"{assign}\", key = \"{key}\" }}")
        });
        let mut text = format!(
            "algorithm = \"hmac-sha256\"\nsecret = {{ id_separator = \":\" }}\n\
             signature = {{ at = \"header:s\", encoding = \"{encoding}\", prefix = \"{prefix}\", prefix_optional = {prefix_optional}{} }}\n",
            list_text.unwrap_or_default()
        );
        text.push_str(match timestamp {
            true => "signed = \"{timestamp}.{body}\"\ntimestamp = { at = \"signature:t\", format = \"seconds\", tolerance_seconds = 300 }",
            false => "signed = \"{body}\"",
        });
        Case { scheme: scheme(&text), list, prefix, prefix_optional, base64, timestamp }
    };
    vec![
        case(Some((',', '=', "v1")), "", false, false, true),
        case(Some((' ', ',', "v1")), "", false, true, false),
        case(Some((';', '=', "h1")), "", false, false, false),
        case(Some(('&', '|', "{key_id}")), "", false, false, false),
        case(None, "sha256=", false, false, false),
        case(None, "sha256=", true, true, false),
    ]
});

fuzz_target!(|data: &[u8]| {
    let Some((letter, value)) = data.split_first() else { return };
    let case = &CASES[usize::from(*letter) % CASES.len()];
    let Ok(value) = std::str::from_utf8(value) else { return };
    // What HTTP does not carry does not come.
    if value.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return;
    }
    let signed = if case.timestamp { [NOW.seconds().to_string().as_bytes(), b".", BODY].concat() } else { BODY.to_vec() };
    let code = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), &signed);
    let right = if case.base64 { BASE64.encode(code) } else { hex::encode(code) };
    let value = value.replace('$', &right).replace('@', &NOW.seconds().to_string());
    let value = value.trim();
    let proven = verify(&case.scheme, &webhook(&[("s", value)], BODY), &KEYRING, NOW);
    assert_eq!(proven, case.has_right(value, code.as_ref()), "{value}");
});

impl Case {
    fn has_right(&self, value: &str, code: &[u8]) -> bool {
        let Some((separator, assign, key)) = self.list else {
            return value.split(',').take(SIGNATURES_MAX).any(|text| self.is_right(text.trim(), code));
        };
        let key = if key == "{key_id}" { "id" } else { key };
        let entries: Vec<(&str, &str)> = value.split(separator).filter_map(|entry| entry.trim().split_once(assign)).collect();
        let times: Vec<&str> = entries.iter().filter(|(name, _)| *name == "t").map(|(_, time)| *time).collect();
        let on_time = !self.timestamp || times == [NOW.seconds().to_string()];
        let mut signatures = entries.iter().filter(|(name, _)| *name == key).take(SIGNATURES_MAX);
        on_time && signatures.any(|(_, text)| self.is_right(text, code))
    }

    fn is_right(&self, text: &str, code: &[u8]) -> bool {
        let text = match text.strip_prefix(self.prefix) {
            None if self.prefix_optional => text,
            None => return false,
            Some(rest) => rest,
        };
        let right = if self.base64 { BASE64.encode(code) } else { hex::encode(code) };
        text == right || (!self.base64 && text.eq_ignore_ascii_case(&right))
    }
}
