//! The reader of bodies against a full parser: the same value at every place, or a difference that is documented.
//!
//! Input: a pointer, a line break, and a text.

#![no_main]

use fuzz::line;
use libfuzzer_sys::fuzz_target;
use shared::json::Pointers;
use tests::reading::compare;

fuzz_target!(|data: &[u8]| {
    let (pointer, text) = line(data);
    let pointer = std::str::from_utf8(pointer).ok().filter(|pointer| Pointers::check(pointer).is_ok() && !pointer.contains('*'));
    compare(text, &[pointer.unwrap_or("/id"), "/id", "/type", "/data/0", "/data/object/id"]);
});
