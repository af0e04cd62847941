//! The reader of JSON that never builds a tree, held against one that does: `serde_json`, taken level by level so that numbers stay as
//! they were written.
//!
//! The two differ where this is documented (docs/schemes.md, "What is read of a body"): a byte order mark is passed over, an unpaired
//! surrogate and bytes that are not UTF-8 are read as U+FFFD, and nothing is too deep.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use shared::json::{BYTE_ORDER_MARK, Pointers, Scan, array_index};

/// What a place holds, as both readers can tell it.
#[derive(Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    /// Text, or a number or boolean as it is written.
    Text(String),
    /// An array, an object or null.
    Other,
}

/// Reads `text` in both ways and panics where they disagree without a documented reason. `pointers` have no stars.
///
/// # Panics
/// If the readers disagree.
pub fn compare(text: &[u8], pointers: &[&str]) {
    let compiled = Pointers::new(pointers.iter().copied());
    let scan = Scan::new(text, &compiled);
    let Ok(utf8) = std::str::from_utf8(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)) else { return };
    let whole: &RawValue = match serde_json::from_str(utf8) {
        Ok(whole) => whole,
        Err(error) => {
            // A raw value is not looked into, so that nothing but the grammar and the depth can be wrong.
            assert!(scan.is_err() || error.to_string().contains("recursion limit"), "{error}: {utf8:?}");
            return;
        }
    };
    let scan = scan.unwrap_or_else(|error| panic!("refused at {}: {utf8:?}", error.at));
    for pointer in pointers {
        let Some(expected) = held(whole, pointer) else { continue };
        let number = compiled.position(pointer).expect("it was compiled");
        let found = scan.get(text, number).map_or(Held::Nothing, |value| match value.text() {
            Some((text, _)) => Held::Text(text.into_owned()),
            None => Held::Other,
        });
        assert_eq!(found, expected, "{pointer} of {utf8:?}");
    }
}

/// `None` where `serde_json` cannot tell: an unpaired surrogate on the way.
fn held(whole: &RawValue, pointer: &str) -> Option<Held> {
    let mut value = whole;
    for part in pointer.split('/').skip(1) {
        let text = value.get();
        value = if text.starts_with('{') {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            match members.get(&part.replace("~1", "/").replace("~0", "~")) {
                Some(member) => member,
                None => return Some(Held::Nothing),
            }
        } else if text.starts_with('[') {
            let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            match array_index(part).and_then(|index| elements.get(index).copied()) {
                Some(element) => element,
                None => return Some(Held::Nothing),
            }
        } else {
            return Some(Held::Nothing);
        };
    }
    let text = value.get();
    Some(match text.as_bytes().first() {
        Some(b'"') => Held::Text(serde_json::from_str(text).ok()?),
        Some(b'{' | b'[' | b'n') => Held::Other,
        _ => Held::Text(text.to_owned()),
    })
}
