//! Forms and queries, sorted and signed: proven is what has the same pairs, however it is written.
//!
//! Input: a letter that chooses between form and query, then two of them with a line break between. The first is signed, and the
//! signature is shown for the second.

#![no_main]

use std::{collections::BTreeSet, sync::LazyLock};

use fuzz::{NOW, SECRET, keyring, line, scheme, verify, webhook};
use libfuzzer_sys::fuzz_target;
use shared::{
    location::{Location, Places},
    secrets::Keyring,
    signatures::{Scheme, UnverifiedWebhook},
};

/// Each costs a look through the whole form.
const NAMES_MAX: usize = 4;

static KEYRING: LazyLock<Keyring> = LazyLock::new(|| keyring([SECRET]));

static FORM: LazyLock<Scheme> = LazyLock::new(|| {
    scheme("algorithm = \"hmac-sha1\"\nsigned = \"{form-sorted}\"\nsignature = { at = \"header:s\", encoding = \"base64\" }")
});

static QUERY: LazyLock<Scheme> = LazyLock::new(|| {
    scheme(
        "algorithm = \"hmac-sha256\"\nsigned = \"{query-sorted}\"\nunsigned_body = true\n\
         signature = { at = \"header:s\", encoding = \"base64\" }",
    )
});

fuzz_target!(|data: &[u8]| {
    let Some((letter, rest)) = data.split_first() else { return };
    let (first, second) = line(rest);
    let is_form = letter % 2 == 0;
    let request = |pairs: &[u8]| match is_form {
        true => Some(webhook(&[], pairs)),
        false => Some(UnverifiedWebhook { raw_query: String::from_utf8(pairs.to_vec()).ok()?, ..webhook(&[], b"") }),
    };
    let scheme: &Scheme = if is_form { &FORM } else { &QUERY };
    let (Some(mut signed), Some(mut shown)) = (request(first), request(second)) else { return };
    scheme.sign(&mut signed, &KEYRING, NOW).expect("a form can be signed");
    assert!(verify(scheme, &signed, &KEYRING, NOW));

    shown.headers = signed.headers.clone();
    let proven = verify(scheme, &shown, &KEYRING, NOW);
    let (first, second) = (pairs(first), pairs(second));
    if is_form {
        // The provider's own form: distinct pairs, with nothing between a name and its value.
        let joined = |pairs: &[(Vec<u8>, Vec<u8>)]| {
            let distinct: BTreeSet<_> = pairs.iter().collect();
            distinct.into_iter().flat_map(|(name, value)| [name.as_slice(), value].concat()).collect::<Vec<u8>>()
        };
        assert_eq!(proven, joined(&first) == joined(&second));
    } else {
        let sorted = |pairs: &[(Vec<u8>, Vec<u8>)]| {
            let mut pairs = pairs.to_vec();
            pairs.sort();
            pairs
        };
        assert_eq!(proven, sorted(&first) == sorted(&second));
    }

    // The first field of a name, wherever forms are read.
    let places = Places::new(&shown);
    for (name, _) in second.iter().take(NAMES_MAX) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let place = if is_form { Location::Form(name.to_owned()) } else { Location::Query(name.to_owned()) };
        let found = second
            .iter()
            .find(|(other, _)| String::from_utf8_lossy(other) == name)
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned());
        assert_eq!(places.find(&place).map(|value| value.into_owned()), found);
    }
});

/// Decoded, in their order.
fn pairs(form: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pairs = form.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            (decoded(&pair[..equals]), decoded(pair.get(equals + 1..).unwrap_or_default()))
        })
        .collect()
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        let escaped = after.get(..2).filter(|_| *byte == b'%').and_then(|digits| hex::decode(digits).ok());
        rest = if escaped.is_some() { &after[2..] } else { after };
        bytes.extend(escaped.unwrap_or_else(|| vec![if *byte == b'+' { b' ' } else { *byte }]));
    }
    bytes
}
