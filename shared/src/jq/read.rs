//! A JSON text becomes a value.

use std::sync::Arc;

use super::{
    JSON_DEPTH_MAX,
    json::{Json, Members, counted, insert, push},
    meter::{self, Stopped},
    number::Number,
};
use crate::json::{Lexer, NotJson, RawText};

/// Reads one value, and nothing beside it. Unwinds if it is nested too deep, or takes too much memory.
pub(crate) fn read(text: &[u8]) -> Result<Json, NotJson> {
    let mut lexer = Lexer::new(text);
    let value = value(&mut lexer, JSON_DEPTH_MAX)?;
    lexer.expect_end()?;
    Ok(value)
}

/// `depth_left` is how many arrays and objects may be within each other here.
fn value(lexer: &mut Lexer<'_>, depth_left: usize) -> Result<Json, NotJson> {
    match lexer.peek() {
        Some(b'[' | b'{') if depth_left == 0 => meter::stop(Stopped::Nesting),
        Some(b'[') => {
            lexer.expect(b'[')?;
            let mut elements = Vec::new();
            let mut open = lexer.first(b']');
            while open {
                push(&mut elements, value(lexer, depth_left - 1)?);
                open = lexer.another(b']')?;
            }
            Ok(Json::array(elements))
        }
        Some(b'{') => {
            lexer.expect(b'{')?;
            let mut members = Members::new();
            let mut open = lexer.first(b'}');
            while open {
                let name = text(lexer.name()?);
                insert(&mut members, name, value(lexer, depth_left - 1)?);
                open = lexer.another(b'}')?;
            }
            Ok(Json::object(members))
        }
        Some(b'"') => lexer.string().map(|string| Json::Text(text(string))),
        Some(b'-' | b'0'..=b'9') => lexer.number().map(|number| Json::number(Number::of_text(number))),
        Some(b't') => lexer.word("true").map(|()| Json::Bool(true)),
        Some(b'f') => lexer.word("false").map(|()| Json::Bool(false)),
        Some(b'n') => lexer.word("null").map(|()| Json::Null),
        _ => Err(lexer.not_json()),
    }
}

/// What is not Unicode in it is replaced, as jq does.
fn text(raw: RawText<'_>) -> Arc<str> {
    counted(&raw.decode().0)
}
