//! The reader of bodies against a full parser, on texts that are nearly JSON. `make fuzz` does the same, guided by coverage.

use proptest::prelude::*;
use tests::reading::compare;

const POINTERS: [&str; 8] = ["/a", "/b/a", "/0", "/a/0", "/b/1/a", "/", "/a~1b", "/a/b/0/a"];

/// Pieces of which most texts are JSON, and many just not.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["{", "}", "[", "]", ":", ",", " ", "\n", "\"a\"", "\"b\"", "\"\"", "\"a/b\"", "\"\\u0061\""])
            .prop_map(str::to_owned),
        2 => prop::sample::select(vec![
            "null", "true", "false", "0", "-0", "1e400", "12.10", "01", "1.", "-", "\"\\ud83c\"", "\"\\ud83c\\udf89\"", "\"\\x\"",
            "\u{feff}", "\"\t\"", "\"\\n\"", "36893488147419103233",
        ])
        .prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

/// Values that are JSON, with names that the pointers know and that repeat.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec!["1", "\"x\"", "null", "true", "1e3", "\"\\ud800\"", "\"\\u00e9\"", "[]", "{}"])
        .prop_map(str::to_owned);
    leaf.prop_recursive(5, 40, 4, |inner| {
        let name = prop::sample::select(vec!["a", "b", "\\u0061", "", "0", "a/b"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|elements| format!("[{}]", elements.join(","))),
            prop::collection::vec((name, inner), 0..4).prop_map(|members| {
                let members: Vec<String> = members.into_iter().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
                format!("{{{}}}", members.join(", "))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn texts_that_are_nearly_json_are_read_alike(pieces in prop::collection::vec(piece(), 0..12)) {
        compare(pieces.concat().as_bytes(), &POINTERS);
    }

    #[test]
    fn json_is_read_alike(value in value(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        compare(value.as_bytes(), &POINTERS);
        let mut changed = value.into_bytes();
        let at = at.index(changed.len());
        changed[at] = byte;
        compare(&changed, &POINTERS);
    }
}
