//! A JSON text becomes a value.

use std::sync::Arc;

use hifijson::{SliceLexer, num::LexWrite as _, str::LexAlloc as _, token::Lex};

use super::{
    JSON_DEPTH_MAX,
    json::{Json, Members, counted, insert, push},
    meter::{self, Stopped},
    number::Number,
};

/// Where a text is no JSON: so many bytes after its beginning.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoJson {
    pub(crate) at: usize,
}

/// Reads one value, and nothing beside it, as RFC 8259 has it. Unwinds if it is nested too deep, or takes too much memory.
pub(crate) fn read(text: &[u8]) -> Result<Json, NoJson> {
    let mut lexer = SliceLexer::new(text);
    let value = lexer.exactly_one(Lex::ws_peek, |next, lexer| value(next, lexer, JSON_DEPTH_MAX));
    value.map_err(|_| NoJson { at: text.len() - lexer.as_slice().len() })
}

/// `depth_left` is how many arrays and objects may be within each other here.
fn value(next: u8, lexer: &mut SliceLexer<'_>, depth_left: usize) -> Result<Json, hifijson::Error> {
    match next {
        b'[' | b'{' if depth_left == 0 => meter::stop(Stopped::Nesting),
        b'[' => {
            let mut elements = Vec::new();
            lexer.discarded().seq(b']', Lex::ws_peek, |next, lexer| {
                push(&mut elements, value(next, lexer, depth_left - 1)?);
                Ok::<_, hifijson::Error>(())
            })?;
            Ok(Json::array(elements))
        }
        b'{' => {
            let mut members = Members::new();
            lexer.discarded().seq(b'}', Lex::ws_peek, |next, lexer| {
                lexer.expect(|_| Some(next), b'"').ok_or(hifijson::Expect::String)?;
                let name = text(lexer)?;
                lexer.expect(Lex::ws_peek, b':').ok_or(hifijson::Expect::Colon)?;
                let next = lexer.ws_peek().ok_or(hifijson::Expect::Value)?;
                insert(&mut members, name, value(next, lexer, depth_left - 1)?);
                Ok::<_, hifijson::Error>(())
            })?;
            Ok(Json::object(members))
        }
        b'"' => text(lexer.discarded()).map(Json::Text),
        b'-' | b'0'..=b'9' => {
            let (number, _) = lexer.num_string().validated()?;
            Ok(Json::number(Number::of_text(number)))
        }
        b'n' | b't' | b'f' => Ok(lexer.null_or_bool().ok_or(hifijson::Expect::Value)?.map_or(Json::Null, Json::Bool)),
        _ => Err(hifijson::Expect::Value.into()),
    }
}

/// The rest of a string, after its first quote.
fn text(lexer: &mut SliceLexer<'_>) -> Result<Arc<str>, hifijson::Error> {
    Ok(counted(&lexer.str_string()?))
}
