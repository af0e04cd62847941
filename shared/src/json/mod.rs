//! Reading JSON without building a tree of it.
//!
//! A webhook's body is the sender's, and only a few values of it matter: an event id, a type, a time. [`Scan`] finds those in one pass
//! over the bytes and keeps their places alone, so that memory does not grow with the body. The grammar is that of RFC 8259. Anything
//! that the grammar allows is read, however unusual: unpaired surrogates, numbers of any size, any nesting, a byte order mark, names that
//! repeat. Expressions in jq read with the same [`Lexer`], so that a route and the receiver never disagree about a value.

mod lexer;
mod scan;
mod sorted;

pub use lexer::{BYTE_ORDER_MARK, Lexer, NotJson, RawText};
pub use scan::{POINTER_PARTS_MAX, PointerError, Pointers, Scan, Value, array_index, spans};
pub use sorted::{SORTED_DEPTH_MAX, sorted};
