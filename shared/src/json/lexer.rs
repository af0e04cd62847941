//! The grammar of RFC 8259, over bytes.

use std::{borrow::Cow, ops::Range};

/// A byte order mark, which a reader may ignore (RFC 8259, section 8.1). Some senders on Windows begin their bodies with one.
pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// What stands for text that is not Unicode: an unpaired surrogate, or bytes that are not UTF-8.
const REPLACEMENT: char = '\u{fffd}';

/// A text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotJson {
    /// The first byte that cannot stand where it does, counted from 0.
    pub at: usize,
}

impl NotJson {
    /// Line and column in `text`, both from 1; columns count bytes.
    pub fn place(self, text: &[u8]) -> (usize, usize) {
        let before = &text[..self.at.min(text.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        (1 + before.iter().filter(|byte| **byte == b'\n').count(), before.len() - line_start + 1)
    }
}

/// Reads one value after another.
#[derive(Clone, Debug)]
pub struct Lexer<'b> {
    bytes: &'b [u8],
    at: usize,
}

/// A string as it is written, without its quotes. Its escapes are well-formed.
#[derive(Clone, Copy, Debug)]
pub struct RawText<'b> {
    /// What stands between the quotes.
    pub bytes: &'b [u8],
    /// Whether a backslash is in it.
    pub is_escaped: bool,
}

impl<'b> Lexer<'b> {
    /// Begins at the first value, past a byte order mark and white space.
    pub fn new(bytes: &'b [u8]) -> Self {
        let mut lexer = Self { bytes, at: if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 } };
        lexer.skip_space();
        lexer
    }

    /// Begins at a value whose place is known.
    pub fn at(bytes: &'b [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// The whole text.
    pub const fn bytes(&self) -> &'b [u8] {
        self.bytes
    }

    /// How many bytes are behind.
    pub const fn position(&self) -> usize {
        self.at
    }

    /// The next byte.
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The error for what stands here.
    pub const fn not_json(&self) -> NotJson {
        NotJson { at: self.at }
    }

    /// Goes past white space.
    pub fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    /// Goes past `byte`, and says whether it was there.
    pub fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// Goes past `byte`, which must be there.
    pub fn expect(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.take(byte) { Ok(()) } else { Err(self.not_json()) }
    }

    /// Nothing but white space may follow.
    pub fn expect_end(&mut self) -> Result<(), NotJson> {
        self.skip_space();
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.not_json()) }
    }

    /// After an element or a member: whether another one follows. The lexer then stands at it, or past the closing bracket.
    pub fn another(&mut self, close: u8) -> Result<bool, NotJson> {
        self.skip_space();
        if self.take(b',') {
            self.skip_space();
            return Ok(true);
        }
        self.expect(close)?;
        Ok(false)
    }

    /// After an opening bracket: whether a first element or member follows.
    pub fn first(&mut self, close: u8) -> bool {
        self.skip_space();
        !self.take(close)
    }

    /// A member's name and the colon after it. The lexer then stands at the member's value.
    pub fn name(&mut self) -> Result<RawText<'b>, NotJson> {
        let name = self.string()?;
        self.skip_space();
        self.expect(b':')?;
        self.skip_space();
        Ok(name)
    }

    /// A string, at its opening quote.
    pub fn string(&mut self) -> Result<RawText<'b>, NotJson> {
        self.expect(b'"')?;
        let start = self.at;
        let mut is_escaped = false;
        loop {
            self.at += plain_bytes(&self.bytes[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(RawText { bytes: &self.bytes[start..self.at - 1], is_escaped });
                }
                Some(b'\\') => {
                    is_escaped = true;
                    self.escape()?;
                }
                _ => return Err(self.not_json()),
            }
        }
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.not_json());
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.not_json()),
        }
        Ok(())
    }

    /// A number, as it is written.
    pub fn number(&mut self) -> Result<&'b str, NotJson> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        // Digits, signs, a point and an exponent: always text.
        Ok(std::str::from_utf8(&self.bytes[start..self.at]).unwrap_or_default())
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let digits = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        if digits > 0 { Ok(()) } else { Err(self.not_json()) }
    }

    /// Goes past `null`, `true` or `false`.
    pub fn word(&mut self, word: &str) -> Result<(), NotJson> {
        word.bytes().try_for_each(|byte| self.expect(byte))
    }

    /// Goes past one value, whatever it is. Nesting takes one bit a level, and no stack.
    pub fn skip_value(&mut self) -> Result<Range<usize>, NotJson> {
        let start = self.at;
        let mut open = Brackets::default();
        'values: loop {
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    if self.first(b'}') {
                        self.name()?;
                        open.push(true);
                        continue;
                    }
                }
                Some(b'[') => {
                    self.at += 1;
                    if self.first(b']') {
                        open.push(false);
                        continue;
                    }
                }
                Some(b'"') => self.string().map(drop)?,
                Some(b'-' | b'0'..=b'9') => self.number().map(drop)?,
                Some(b't') => self.word("true")?,
                Some(b'f') => self.word("false")?,
                Some(b'n') => self.word("null")?,
                _ => return Err(self.not_json()),
            }
            // A value has ended, and with it perhaps the array or object that it was the last of.
            while let Some(is_object) = open.last() {
                if self.another(if is_object { b'}' } else { b']' })? {
                    if is_object {
                        self.name()?;
                    }
                    continue 'values;
                }
                open.pop();
            }
            return Ok(start..self.at);
        }
    }
}

/// How many bytes of a string need no second look. Eight are looked at together.
fn plain_bytes(bytes: &[u8]) -> usize {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // Has its high bit where a byte of `word` is zero; a byte above such a one may have it too.
    let zeros = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
    let (words, _) = bytes.as_chunks::<8>();
    let mut at = 0;
    for chunk in words {
        let word = u64::from_le_bytes(*chunk);
        let quotes = zeros(word ^ (LOW * u64::from(b'"')));
        let backslashes = zeros(word ^ (LOW * u64::from(b'\\')));
        let controls = word.wrapping_sub(LOW * 0x20) & !word & HIGH;
        let found = quotes | backslashes | controls;
        if found != 0 {
            // The lowest of them is never a false one.
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + bytes[at..].iter().take_while(|byte| !matches!(**byte, b'"' | b'\\' | 0..0x20)).count()
}

/// Which brackets are open: `true` for an object.
#[derive(Default)]
struct Brackets {
    words: Vec<u64>,
    depth: usize,
}

impl Brackets {
    fn push(&mut self, is_object: bool) {
        if self.depth.is_multiple_of(64) {
            self.words.push(0);
        }
        let (word, bit) = (self.depth / 64, self.depth % 64);
        self.words[word] = (self.words[word] & !(1 << bit)) | (u64::from(is_object) << bit);
        self.depth += 1;
    }

    fn last(&self) -> Option<bool> {
        let last = self.depth.checked_sub(1)?;
        Some(self.words[last / 64] >> (last % 64) & 1 == 1)
    }

    fn pop(&mut self) {
        self.depth -= 1;
        if self.depth.is_multiple_of(64) {
            self.words.pop();
        }
    }
}

impl<'b> RawText<'b> {
    /// The text, and whether it is exactly what was written: an unpaired surrogate, or a byte that is not UTF-8, becomes U+FFFD.
    pub fn decode(self) -> (Cow<'b, str>, bool) {
        if !self.is_escaped {
            return match std::str::from_utf8(self.bytes) {
                Ok(text) => (Cow::Borrowed(text), true),
                Err(_) => (String::from_utf8_lossy(self.bytes), false),
            };
        }
        let mut text = String::with_capacity(self.bytes.len());
        let mut is_exact = true;
        let mut rest = self.bytes;
        while !rest.is_empty() {
            let plain = rest.iter().position(|byte| *byte == b'\\').unwrap_or(rest.len());
            let (before, after) = rest.split_at(plain);
            let lossy = String::from_utf8_lossy(before);
            is_exact &= matches!(lossy, Cow::Borrowed(_));
            text.push_str(&lossy);
            rest = match after {
                [b'\\', b'u', digits @ ..] => {
                    let (character, taken) = unicode(digits);
                    is_exact &= character.is_some();
                    text.push(character.unwrap_or(REPLACEMENT));
                    &digits[taken..]
                }
                [b'\\', letter, tail @ ..] => {
                    text.push(match letter {
                        b'b' => '\u{8}',
                        b'f' => '\u{c}',
                        b'n' => '\n',
                        b'r' => '\r',
                        b't' => '\t',
                        itself => char::from(*itself),
                    });
                    tail
                }
                _ => &[],
            };
        }
        (Cow::Owned(text), is_exact)
    }

    /// Whether this is how `name` is written, in one of the ways that there are.
    pub fn is(self, name: &str) -> bool {
        if self.is_escaped { self.decode().0 == name } else { self.bytes == name.as_bytes() }
    }
}

/// The character of `\u` and these digits, with the escape that follows if the two are a pair; and how many bytes it takes.
fn unicode(digits: &[u8]) -> (Option<char>, usize) {
    let unit =
        |digits: &[u8]| digits.iter().take(4).fold(0, |unit, digit| unit << 4 | char::from(*digit).to_digit(16).unwrap_or(0));
    let first = unit(digits);
    if (0xd800..0xdc00).contains(&first)
        && let Some([b'\\', b'u', second @ ..]) = digits.get(4..)
        && let second @ 0xdc00..0xe000 = unit(second)
    {
        return (char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)), 10);
    }
    (char::from_u32(first), 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip(text: &[u8]) -> Result<(), usize> {
        let mut lexer = Lexer::new(text);
        lexer.skip_value().and_then(|_| lexer.expect_end()).map_err(|error| error.at)
    }

    #[test]
    fn the_grammar_is_taken_and_nothing_else() {
        let good: [&[u8]; 14] = [
            b"null",
            b" true ",
            b"\xef\xbb\xbffalse",
            b"-0",
            b"0.10e+5",
            b"1E400",
            b"\"\"",
            b"\"\\ud83c\"",
            b"\"\xff\"",
            b"[]",
            b"{ }",
            b"[1,[2,{\"a\":[]}],\"\"]",
            b"{\"a\":1,\"a\":2,\"\":{}}",
            b"[\r\n\t1 , 2 ]",
        ];
        for text in good {
            assert_eq!(skip(text), Ok(()), "{}", String::from_utf8_lossy(text));
        }
        let bad: [(&[u8], usize); 27] = [
            (b"", 0),
            (b"\xef\xbb\xbf", 3),
            (b"nul", 3),
            (b"nulL", 3),
            (b"01", 1),
            (b"1.", 2),
            (b".5", 0),
            (b"1e", 2),
            (b"+1", 0),
            (b"-", 1),
            (b"NaN", 0),
            (b"\"", 1),
            (b"\"\\x\"", 2),
            (b"\"\\u12g4\"", 5),
            (b"\"a\nb\"", 2),
            (b"[1,]", 3),
            (b"[1 2]", 3),
            (b"[", 1),
            (b"{\"a\"}", 4),
            (b"{\"a\":}", 5),
            (b"{a:1}", 1),
            (b"{\"a\":1,}", 7),
            (b"[1}", 2),
            (b"{\"a\":1]", 6),
            (b"1 2", 2),
            (b"'a'", 0),
            (b"[]]", 2),
        ];
        for (text, at) in bad {
            assert_eq!(skip(text), Err(at), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn any_nesting_is_followed() {
        let mut text = Vec::new();
        for _ in 0..100_000 {
            text.extend_from_slice(b"[{\"\":");
        }
        text.push(b'0');
        for _ in 0..100_000 {
            text.extend_from_slice(b"}]");
        }
        assert_eq!(skip(&text), Ok(()));
        text.pop();
        text.push(b'}');
        assert_eq!(skip(&text), Err(text.len() - 1));
    }

    #[test]
    fn a_string_ends_where_it_does_wherever_it_begins() {
        for special in [b'"', b'\\', 0, 0x1f, b'\n'] {
            for length in 0..40 {
                let mut text = vec![b'x'; length];
                text.push(special);
                text.extend_from_slice(b"\x80\xff ! x\"");
                assert_eq!(plain_bytes(&text), length, "{special} {length}");
            }
        }
        assert_eq!(plain_bytes(b"\x7f\x80\xff #!]"), 7);
    }

    #[test]
    fn escapes_are_undone_and_what_is_not_unicode_is_replaced() {
        let decode = |text: &[u8]| {
            let (text, is_exact) = Lexer::new(text).string().unwrap().decode();
            (text.into_owned(), is_exact)
        };
        assert_eq!(decode(br#""a\"\\\/\b\f\n\r\t\u0041b""#), ("a\"\\/\u{8}\u{c}\n\r\tAb".to_owned(), true));
        assert_eq!(decode(br#""\ud83c\udf89\u00e9""#), ("🎉é".to_owned(), true));
        assert_eq!(decode(br#""\ud83c""#), ("\u{fffd}".to_owned(), false));
        assert_eq!(decode(br#""\udf89\ud83c""#), ("\u{fffd}\u{fffd}".to_owned(), false));
        assert_eq!(decode(br#""\ud83c\u0041""#), ("\u{fffd}A".to_owned(), false));
        assert_eq!(decode(br#""\ud83c\ud83c\udf89""#), ("\u{fffd}🎉".to_owned(), false));
        assert_eq!(decode(b"\"a\xffb\""), ("a\u{fffd}b".to_owned(), false));
        assert_eq!(decode(b"\"\\n\xffb\""), ("\n\u{fffd}b".to_owned(), false));
        assert!(Lexer::new(br#""\u0061b""#).string().unwrap().is("ab"));
        assert!(!Lexer::new(br#""\u0061b""#).string().unwrap().is("a"));
    }

    #[test]
    fn a_place_is_told_in_lines_and_columns() {
        let place = |text: &[u8]| Lexer::new(text).skip_value().unwrap_err().place(text);
        assert_eq!(place(b"{"), (1, 2));
        assert_eq!(place(b"{\n \"a\": x}"), (2, 7));
    }
}
