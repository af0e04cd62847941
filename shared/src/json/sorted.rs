//! A JSON text written anew with its members in order, for senders that sign a canonical form.

use std::borrow::Cow;

use super::lexer::{Lexer, RawText};

/// How deep arrays and objects may be within each other in a text that is written anew.
pub const SORTED_DEPTH_MAX: usize = 64;

/// The text without white space, the members of each object sorted by their names as Unicode text. Numbers stay as they are written,
/// strings are escaped no more than they must be, as JavaScript does. `None` for what is not JSON, is longer than `bytes_max`, nested
/// deeper than [`SORTED_DEPTH_MAX`], or has a member twice or a text that is not Unicode: no sender has written that.
pub fn sorted(text: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    if text.len() > bytes_max {
        return None;
    }
    let mut lexer = Lexer::new(text);
    let mut out = Vec::with_capacity(text.len());
    value(&mut lexer, &mut out, SORTED_DEPTH_MAX)?;
    lexer.expect_end().ok()?;
    Some(out)
}

fn value(lexer: &mut Lexer<'_>, out: &mut Vec<u8>, depth_left: usize) -> Option<()> {
    match lexer.peek()? {
        b'{' => object(lexer, out, depth_left.checked_sub(1)?),
        b'[' => {
            let depth_left = depth_left.checked_sub(1)?;
            lexer.expect(b'[').ok()?;
            out.push(b'[');
            let mut open = lexer.first(b']');
            while open {
                value(lexer, out, depth_left)?;
                open = lexer.another(b']').ok()?;
                if open {
                    out.push(b',');
                }
            }
            out.push(b']');
            Some(())
        }
        b'"' => {
            string(&text(lexer.string().ok()?)?, out);
            Some(())
        }
        _ => {
            let range = lexer.skip_value().ok()?;
            out.extend_from_slice(lexer.bytes().get(range)?);
            Some(())
        }
    }
}

fn object(lexer: &mut Lexer<'_>, out: &mut Vec<u8>, depth_left: usize) -> Option<()> {
    lexer.expect(b'{').ok()?;
    let mut members = Vec::new();
    let mut open = lexer.first(b'}');
    while open {
        let name = text(lexer.name().ok()?)?;
        members.push((name, lexer.clone()));
        lexer.skip_value().ok()?;
        open = lexer.another(b'}').ok()?;
    }
    members.sort_by(|(left, _), (right, _)| left.cmp(right));
    if members.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return None;
    }
    out.push(b'{');
    for (at, (name, mut lexer)) in members.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        string(&name, out);
        out.push(b':');
        value(&mut lexer, out, depth_left)?;
    }
    out.push(b'}');
    Some(())
}

fn text(raw: RawText<'_>) -> Option<Cow<'_, str>> {
    let (text, is_exact) = raw.decode();
    is_exact.then_some(text)
}

fn string(text: &str, out: &mut Vec<u8>) {
    // A string and no more: it cannot fail.
    out.extend_from_slice(serde_json::to_string(text).unwrap_or_default().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<String> {
        sorted(text.as_bytes(), 1000).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn members_are_sorted_at_every_depth_and_values_stay() {
        let text = " { \"b\" : [ {\"z\":1e2, \"a\":\"\\u00e9\\/\"} , null ], \"a\": 12.10 } ";
        assert_eq!(of(text).as_deref(), Some("{\"a\":12.10,\"b\":[{\"a\":\"é/\",\"z\":1e2},null]}"));
        assert_eq!(of("[]").as_deref(), Some("[]"));
        assert_eq!(of("{}").as_deref(), Some("{}"));
    }

    #[test]
    fn what_no_sender_writes_is_refused() {
        for text in ["", "{", "{\"a\":1,\"a\":2}", "{\"a\":1,\"\\u0061\":2}", "\"\\ud83c\"", "1 2"] {
            assert_eq!(of(text), None, "{text}");
        }
        let nested = |depth: usize| of(&format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
        assert!(nested(SORTED_DEPTH_MAX).is_some() && nested(SORTED_DEPTH_MAX + 1).is_none());
        assert!(sorted(b"12", 2).is_some() && sorted(b"123", 2).is_none());
    }
}
