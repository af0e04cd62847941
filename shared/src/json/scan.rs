//! Finding a few values of a JSON text in one pass over its bytes.

use std::{borrow::Cow, ops::Range};

use super::lexer::{Lexer, NotJson, RawText};

/// Most parts of one pointer.
pub const POINTER_PARTS_MAX: usize = 32;

/// Which values are looked for: JSON pointers (RFC 6901), compiled to a tree. A part `*` stands for every element of an array.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointers {
    texts: Vec<String>,
    /// The first is the whole text.
    nodes: Vec<Node>,
}

/// A value that some pointers lead to or through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    members: Vec<Edge>,
    /// For every element of an array.
    star: Option<usize>,
    /// The pointer that ends here.
    end: Option<usize>,
    /// Pointers that end here or below.
    below: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Edge {
    name: String,
    /// What it is as the index of an element.
    index: Option<usize>,
    node: usize,
}

/// Why a text is not a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PointerError {
    /// RFC 6901 has none without it, but for the whole text.
    #[error("a JSON pointer starts with `/`, as in `json:/data/id`")]
    NoSlash,
    /// A star among other characters.
    #[error("`*` stands for every element of an array, and for nothing less")]
    PartOfName,
    /// Too many parts.
    #[error("a JSON pointer has at most {POINTER_PARTS_MAX} parts")]
    TooLong,
}

impl Pointers {
    /// None at all.
    pub const NONE: Self = Self { texts: Vec::new(), nodes: Vec::new() };

    /// Compiles pointers; the same one may come several times.
    pub fn new<'p>(pointers: impl IntoIterator<Item = &'p str>) -> Self {
        let mut compiled = Self { texts: Vec::new(), nodes: vec![Node::default()] };
        for pointer in pointers {
            compiled.add(pointer);
        }
        compiled
    }

    /// Says what is wrong with a pointer.
    pub fn check(pointer: &str) -> Result<(), PointerError> {
        let Some(parts) = pointer.strip_prefix('/') else { return Err(PointerError::NoSlash) };
        if parts.split('/').any(|part| part.contains('*') && part != "*") {
            return Err(PointerError::PartOfName);
        }
        if parts.split('/').count() > POINTER_PARTS_MAX {
            return Err(PointerError::TooLong);
        }
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The number of a pointer, by which [`Scan::get`] finds it.
    pub fn position(&self, pointer: &str) -> Option<usize> {
        self.texts.iter().position(|known| known == pointer)
    }

    fn add(&mut self, pointer: &str) {
        if self.position(pointer).is_some() {
            return;
        }
        let number = self.texts.len();
        self.texts.push(pointer.to_owned());
        let mut node = 0;
        self.nodes[0].below.push(number);
        for part in pointer.split('/').skip(1).take(POINTER_PARTS_MAX) {
            node =
                if part == "*" { self.star_of(node) } else { self.member_of(node, &part.replace("~1", "/").replace("~0", "~")) };
            self.nodes[node].below.push(number);
        }
        self.nodes[node].end = Some(number);
    }

    fn star_of(&mut self, node: usize) -> usize {
        if let Some(star) = self.nodes[node].star {
            return star;
        }
        let star = self.new_node();
        self.nodes[node].star = Some(star);
        star
    }

    fn member_of(&mut self, node: usize, name: &str) -> usize {
        if let Some(edge) = self.nodes[node].members.iter().find(|edge| edge.name == name) {
            return edge.node;
        }
        let child = self.new_node();
        self.nodes[node].members.push(Edge { name: name.to_owned(), index: array_index(name), node: child });
        child
    }

    fn new_node(&mut self) -> usize {
        self.nodes.push(Node::default());
        self.nodes.len() - 1
    }
}

/// The element that a part of a pointer means in an array: RFC 6901 has digits without leading zeros.
pub fn array_index(part: &str) -> Option<usize> {
    let is_index = part == "0" || (!part.starts_with('0') && part.bytes().all(|byte| byte.is_ascii_digit()));
    part.parse().ok().filter(|_| is_index)
}

/// One value, where it stands in its text.
#[derive(Clone, Copy, Debug)]
pub struct Value<'b> {
    bytes: &'b [u8],
}

impl<'b> Value<'b> {
    /// Its exact bytes.
    pub const fn bytes(self) -> &'b [u8] {
        self.bytes
    }

    /// What kind of value it is, for an error.
    pub fn kind(self) -> &'static str {
        match self.bytes.first() {
            Some(b'"') => "a text",
            Some(b'{') => "an object",
            Some(b'[') => "an array",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            _ => "a number",
        }
    }

    /// A string's text, a number or boolean as it is written, and whether that is exact; `None` for anything else.
    pub fn text(self) -> Option<(Cow<'b, str>, bool)> {
        match self.bytes.first()? {
            b'"' => {
                let inner = self.bytes.get(1..self.bytes.len() - 1)?;
                Some(RawText { bytes: inner, is_escaped: inner.contains(&b'\\') }.decode())
            }
            b'{' | b'[' | b'n' => None,
            _ => Some((String::from_utf8_lossy(self.bytes), true)),
        }
    }

    /// Whether it is a string.
    pub fn is_string(self) -> bool {
        self.bytes.first() == Some(&b'"')
    }

    /// Whether it is a number.
    pub fn is_number(self) -> bool {
        matches!(self.bytes.first(), Some(b'-' | b'0'..=b'9'))
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        self.bytes.first() == Some(&b'{')
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.bytes.first() == Some(&b'n')
    }

    /// The elements of an array, each where it stands; `None` for what is none.
    pub fn elements(self) -> Option<impl Iterator<Item = Value<'b>>> {
        let mut lexer = Lexer::at(self.bytes, 0);
        if !lexer.take(b'[') {
            return None;
        }
        let mut open = lexer.first(b']');
        // The array was read before: nothing in it fails now.
        Some(std::iter::from_fn(move || {
            if !open {
                return None;
            }
            let range = lexer.skip_value().ok()?;
            open = lexer.another(b']').unwrap_or(false);
            Some(Value { bytes: &self.bytes[range] })
        }))
    }
}

/// Where the values stand that were found. It does not keep the bytes: they are shown to it again.
#[derive(Clone, Debug)]
pub struct Scan {
    whole: Range<usize>,
    found: Vec<Found>,
}

/// What was found for one pointer.
#[derive(Clone, Debug, Default)]
struct Found {
    /// The first value.
    range: Option<Range<usize>>,
    /// How many values there were: more than one only where every element of an array is meant.
    count: usize,
    /// Whether an element had none, or another one.
    differs: bool,
    /// Whether a member on the way stood there more than once.
    repeated: bool,
}

impl Scan {
    /// Reads `bytes` whole. Of two members of one name the later counts, as in most readers.
    pub fn new(bytes: &[u8], pointers: &Pointers) -> Result<Self, NotJson> {
        let found = vec![Found::default(); pointers.texts.len()];
        let mut reader = Reader { lexer: Lexer::new(bytes), bytes, pointers, found, spans: None };
        let start = reader.lexer.position();
        if pointers.nodes.is_empty() {
            reader.lexer.skip_value().map(drop)?
        } else {
            reader.value(0)?
        }
        let whole = start..reader.lexer.position();
        reader.lexer.expect_end()?;
        Ok(Self { whole, found: reader.found })
    }

    /// The value of the pointer with this number, in the bytes that were read. `None` if it is absent, or where elements of an array do not have the same.
    pub fn get<'b>(&self, bytes: &'b [u8], number: usize) -> Option<Value<'b>> {
        self.range(number).and_then(|range| bytes.get(range)).map(|bytes| Value { bytes })
    }

    /// Whether a member on the way to that value stands there more than once: another reader may find another value.
    pub fn is_repeated(&self, number: usize) -> bool {
        self.found.get(number).is_some_and(|found| found.repeated)
    }

    /// Where that value stands in the bytes.
    pub fn range(&self, number: usize) -> Option<Range<usize>> {
        self.found.get(number).filter(|found| !found.differs)?.range.clone()
    }

    /// The text's one value, in the bytes that were read.
    pub fn whole<'b>(&self, bytes: &'b [u8]) -> Value<'b> {
        Value { bytes: bytes.get(self.whole.clone()).unwrap_or_default() }
    }
}

/// Where all values stand that the pointers lead to, in the order of the bytes and none within another; `None` if they are more than
/// `most`.
pub fn spans(bytes: &[u8], pointers: &Pointers, most: usize) -> Result<Option<Vec<Range<usize>>>, NotJson> {
    let found = vec![Found::default(); pointers.texts.len()];
    let spans = Spans { ranges: Vec::new(), most, are_all: true };
    let mut reader = Reader { lexer: Lexer::new(bytes), bytes, pointers, found, spans: Some(spans) };
    if !pointers.is_empty() {
        reader.value(0)?;
        reader.lexer.expect_end()?;
    }
    let mut spans = reader.spans.filter(|spans| spans.are_all).map(|spans| spans.ranges);
    if let Some(ranges) = &mut spans {
        ranges.sort_by_key(|range| (range.start, std::cmp::Reverse(range.end)));
        let mut end = 0;
        ranges.retain(|range| {
            let is_outermost = range.start >= end;
            end = end.max(range.end);
            is_outermost
        });
    }
    Ok(spans)
}

struct Reader<'r, 'b> {
    lexer: Lexer<'b>,
    bytes: &'b [u8],
    pointers: &'r Pointers,
    found: Vec<Found>,
    spans: Option<Spans>,
}

/// Every value that was found, up to a number of them.
struct Spans {
    ranges: Vec<Range<usize>>,
    most: usize,
    are_all: bool,
}

impl<'r> Reader<'r, '_> {
    /// Reads the value of a node. It calls itself once for each part of a pointer, and goes past everything else without.
    fn value(&mut self, number: usize) -> Result<(), NotJson> {
        let node = &self.pointers.nodes[number];
        let start = self.lexer.position();
        match self.lexer.peek() {
            Some(b'{') if !node.members.is_empty() => self.object(node)?,
            Some(b'[') if node.star.is_some() || !node.members.is_empty() => self.array(node)?,
            _ => self.lexer.skip_value().map(drop)?,
        }
        if let Some(end) = node.end {
            self.record(end, start..self.lexer.position());
        }
        Ok(())
    }

    fn object(&mut self, node: &'r Node) -> Result<(), NotJson> {
        self.lexer.expect(b'{')?;
        // What each member's pointers had found before this object: a later member of the same name takes the place of the first.
        let mut before: Vec<Option<Vec<Found>>> = vec![None; node.members.len()];
        let mut open = self.lexer.first(b'}');
        while open {
            let name = self.lexer.name()?;
            match node.members.iter().position(|edge| name.is(&edge.name)) {
                Some(at) => {
                    let child = node.members[at].node;
                    let below = &self.pointers.nodes[child].below;
                    match &before[at] {
                        None => before[at] = Some(below.iter().map(|pointer| self.found[*pointer].clone()).collect()),
                        Some(before) => below.iter().zip(before).for_each(|(pointer, before)| {
                            self.found[*pointer] = Found { repeated: true, ..before.clone() };
                        }),
                    }
                    self.value(child)?;
                }
                None => self.lexer.skip_value().map(drop)?,
            }
            open = self.lexer.another(b'}')?;
        }
        Ok(())
    }

    fn array(&mut self, node: &'r Node) -> Result<(), NotJson> {
        self.lexer.expect(b'[')?;
        let mut open = self.lexer.first(b']');
        let mut index = 0;
        while open {
            let start = self.lexer.clone();
            let by_index = node.members.iter().filter(|edge| edge.index == Some(index)).map(|edge| edge.node);
            let mut is_read = false;
            for child in by_index.chain(node.star) {
                // An element that two pointers lead to is read twice.
                self.lexer = start.clone();
                is_read = true;
                if node.star == Some(child) { self.starred(child)? } else { self.value(child)? }
            }
            if !is_read {
                self.lexer.skip_value()?;
            }
            open = self.lexer.another(b']')?;
            index += 1;
        }
        Ok(())
    }

    /// An element of which every pointer must find something.
    fn starred(&mut self, child: usize) -> Result<(), NotJson> {
        let below = &self.pointers.nodes[child].below;
        let counts: usize = below.iter().map(|pointer| self.found[*pointer].count).sum();
        let before: Vec<usize> =
            if below.len() == 1 { Vec::new() } else { below.iter().map(|pointer| self.found[*pointer].count).collect() };
        self.value(child)?;
        for (at, pointer) in below.iter().enumerate() {
            let before = before.get(at).copied().unwrap_or(counts);
            self.found[*pointer].differs |= self.found[*pointer].count == before;
        }
        Ok(())
    }

    fn record(&mut self, pointer: usize, range: Range<usize>) {
        if let Some(spans) = &mut self.spans {
            spans.are_all &= spans.ranges.len() < spans.most;
            if spans.are_all {
                spans.ranges.push(range);
            }
            return;
        }
        let bytes = self.bytes;
        let found = &mut self.found[pointer];
        found.count += 1;
        match &found.range {
            None => found.range = Some(range),
            Some(first) => {
                let text = |range: Range<usize>| Value { bytes: &bytes[range] }.text().map(|(text, _)| text);
                let first = text(first.clone());
                found.differs |= first.is_none() || first != text(range);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(pointer: &str, text: &str) -> Option<String> {
        assert_eq!(Pointers::check(pointer), Ok(()));
        let pointers = Pointers::new([pointer]);
        let scan = Scan::new(text.as_bytes(), &pointers).unwrap();
        scan.get(text.as_bytes(), 0).and_then(|value| value.text()).map(|(text, _)| text.into_owned())
    }

    #[test]
    fn pointers_are_followed_by_name_and_by_index() {
        let text = r#" {"id":7,"a/b":{"~":"t"},"list":[0,[1,"x"],{"k":true}],"":-0,"e":1e400} "#;
        for (pointer, value) in [
            ("/id", Some("7")),
            ("/a~1b/~0", Some("t")),
            ("/list/0", Some("0")),
            ("/list/1/1", Some("x")),
            ("/list/2/k", Some("true")),
            ("/", Some("-0")),
            ("/e", Some("1e400")),
            ("/list", None),
            ("/list/3", None),
            ("/list/01", None),
            ("/list/-", None),
            ("/id/a", None),
            ("/none", None),
        ] {
            assert_eq!(find(pointer, text).as_deref(), value, "{pointer}");
        }
    }

    #[test]
    fn several_are_found_in_one_pass() {
        let pointers = Pointers::new(["/a/b", "/a", "/c/0", "/c/*", "/a/b"]);
        let text = br#"{"c":[1,1],"a":{"b":2}}"#;
        let scan = Scan::new(text, &pointers).unwrap();
        let value = |pointer: &str| scan.get(text, pointers.position(pointer).unwrap()).map(|value| value.bytes());
        assert_eq!(value("/a/b"), Some(&b"2"[..]));
        assert_eq!(value("/a"), Some(&br#"{"b":2}"#[..]));
        assert_eq!((value("/c/0"), value("/c/*")), (Some(&b"1"[..]), Some(&b"1"[..])));
        assert_eq!(pointers.position("/d"), None);
    }

    #[test]
    fn of_two_members_of_one_name_the_later_counts() {
        assert_eq!(find("/a", r#"{"a":1,"a":2}"#).as_deref(), Some("2"));
        assert_eq!(find("/a/b", r#"{"a":{"b":1},"a":{}}"#), None);
        let repeated = |text: &str| Scan::new(text.as_bytes(), &Pointers::new(["/a/b"])).unwrap().is_repeated(0);
        assert!(repeated(r#"{"a":1,"a":{"b":1}}"#) && repeated(r#"{"a":{"b":1,"b":1}}"#));
        assert!(!repeated(r#"{"a":{"b":1,"c":1,"c":2},"d":1,"d":1}"#));
        assert_eq!(find("/a/b", r#"{"a":{"b":1},"a":7}"#), None);
        assert_eq!(find("/a/*/b", r#"{"a":[{"b":1}],"\u0061":[{"b":2,"b":3},{"b":3}]}"#).as_deref(), Some("3"));
    }

    #[test]
    fn a_star_is_every_element_and_all_must_agree() {
        let find = |list: &str| find("/value/*/state", &format!(r#"{{"value":{list}}}"#));
        assert_eq!(find(r#"[{"state":"s"},{"state":"\u0073"}]"#).as_deref(), Some("s"));
        for list in [
            r#"[{"state":"s"},{"state":"t"}]"#,
            r#"[{"state":"s"},{}]"#,
            r#"[{},{"state":"s"}]"#,
            "[]",
            r#"{"state":"s"}"#,
            "[[]]",
        ] {
            assert_eq!(find(list), None, "{list}");
        }
        assert_eq!(find(r#"[{"state":{}},{"state":{}}]"#), None);
    }

    #[test]
    fn stars_within_stars_leave_no_element_out() {
        let find = |text: &str| find("/*/b/*", text);
        assert_eq!(find(r#"[{"b":[1,1]},{"b":[1]}]"#).as_deref(), Some("1"));
        assert_eq!(find(r#"[{"b":[1,1]},{"b":[]}]"#), None);
        assert_eq!(find(r#"[{"b":[1,2]}]"#), None);
    }

    #[test]
    fn values_know_their_kind_and_elements() {
        let pointers = Pointers::new(["/a"]);
        let text = br#"{"a":[1, "x" ,{"b":[]}]}"#;
        let scan = Scan::new(text, &pointers).unwrap();
        let list = scan.get(text, 0).unwrap();
        let elements: Vec<_> = list.elements().unwrap().map(|element| (element.kind(), element.bytes())).collect();
        assert_eq!(elements, [("a number", &b"1"[..]), ("a text", b"\"x\""), ("an object", br#"{"b":[]}"#)]);
        assert!(scan.whole(text).elements().is_none());
        assert_eq!(scan.range(0).map(|range| &text[range]), Some(list.bytes()));
    }

    #[test]
    fn every_span_is_found_up_to_a_number_of_them() {
        let text = br#"{"a":{"n":1},"list":[{"n":22},{"n":"x","n":[3]},{}],"m":4}"#;
        let found = |pointers: &[&str], most: usize| {
            let spans = spans(text, &Pointers::new(pointers.iter().copied()), most).unwrap();
            spans.map(|spans| spans.into_iter().map(|span| String::from_utf8_lossy(&text[span]).into_owned()).collect::<Vec<_>>())
        };
        assert_eq!(found(&["/m", "/list/*/n"], 4), Some(["22", "\"x\"", "[3]", "4"].map(str::to_owned).to_vec()));
        assert_eq!(found(&["/m", "/list/*/n"], 3), None);
        assert_eq!(found(&["/a/n", "/a"], 9), Some(vec![r#"{"n":1}"#.to_owned()]));
        assert_eq!(found(&[], 0), Some(Vec::new()));
        assert!(spans(b"{", &Pointers::new(["/a"]), 1).is_err());
    }

    #[test]
    fn what_is_wrong_anywhere_is_told() {
        let pointers = Pointers::new(["/a"]);
        for (text, at) in [(r#"{"a":1"#, 6), (r#"{"a":1,"b":x}"#, 11), (r#"{"a":1} 2"#, 8)] {
            assert_eq!(Scan::new(text.as_bytes(), &pointers).unwrap_err(), NotJson { at }, "{text}");
        }
    }

    #[test]
    fn pointers_are_checked_on_both_sides_of_their_bound() {
        assert_eq!(Pointers::check("a"), Err(PointerError::NoSlash));
        assert_eq!(Pointers::check("/a/*b"), Err(PointerError::PartOfName));
        assert_eq!(Pointers::check(&"/a".repeat(POINTER_PARTS_MAX)), Ok(()));
        assert_eq!(Pointers::check(&"/a".repeat(POINTER_PARTS_MAX + 1)), Err(PointerError::TooLong));
    }
}
