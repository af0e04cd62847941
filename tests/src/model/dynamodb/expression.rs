//! Expressions: conditions, filters, keys, projections and updates, parsed by hand.
//!
//! The grammar and the errors are those of the developer guide's chapters "Condition and filter expressions", "Update
//! expressions" and "Expression attribute names". Names and values are resolved while parsing, so that what an expression does
//! not use can be told afterwards.

use std::{
    cell::RefCell,
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::LazyLock,
};

use super::{
    number::Number,
    value::{Item, Value},
};

/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ReservedWords.html>
static RESERVED: LazyLock<HashSet<&str>> = LazyLock::new(|| include_str!("reserved.txt").split_ascii_whitespace().collect());

/// Longest reserved word, so that most names need no look-up.
const RESERVED_BYTES_MAX: usize = 14;

/// Why DynamoDB refuses an expression.
pub(super) type Refusal = String;

/// What a request gives its expressions: names, values, and which of them were used.
#[derive(Debug)]
pub(super) struct Given<'a> {
    names: &'a BTreeMap<String, String>,
    values: &'a BTreeMap<String, Value>,
    used: RefCell<BTreeSet<&'a str>>,
}

impl<'a> Given<'a> {
    pub(super) fn new(names: &'a BTreeMap<String, String>, values: &'a BTreeMap<String, Value>) -> Self {
        Self { names, values, used: RefCell::default() }
    }

    /// Refuses what no expression used.
    pub(super) fn all_used(&self) -> Result<(), Refusal> {
        let used = self.used.borrow();
        let unused = |keys: &mut dyn Iterator<Item = &'a String>| {
            keys.filter(|key| !used.contains(key.as_str())).map(String::as_str).collect::<Vec<_>>().join(", ")
        };
        let (values, names) = (unused(&mut self.values.keys()), unused(&mut self.names.keys()));
        if !values.is_empty() {
            return Err(format!("Value provided in ExpressionAttributeValues unused in expressions: keys: {{{values}}}"));
        }
        if !names.is_empty() {
            return Err(format!("Value provided in ExpressionAttributeNames unused in expressions: keys: {{{names}}}"));
        }
        Ok(())
    }
}

/// Where a value stands in an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path<'a>(pub(super) Vec<Step<'a>>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    /// The attribute that it begins with.
    pub(super) fn root(&self) -> &'a str {
        match self.0.first() {
            Some(Step::Name(name)) => name,
            _ => "",
        }
    }

    fn find<'i>(&self, item: &'i Item) -> Option<&'i Value> {
        let mut found = item.get(self.root())?;
        for step in &self.0[1..] {
            found = match (step, found) {
                (Step::Name(name), Value::M(map)) => map.get(*name)?,
                (Step::Index(index), Value::L(list)) => list.get(*index)?,
                _ => return None,
            };
        }
        Some(found)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(mine, theirs)| mine == theirs)
    }
}

#[derive(Clone, Debug)]
pub(super) enum Operand<'a> {
    Path(Path<'a>),
    Value(&'a Value),
    Size(Path<'a>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug)]
pub(super) enum Condition<'a> {
    Or(Box<Self>, Box<Self>),
    And(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Compare(Operand<'a>, Comparator, Operand<'a>),
    Between(Operand<'a>, Operand<'a>, Operand<'a>),
    In(Operand<'a>, Vec<Operand<'a>>),
    Exists(Path<'a>),
    NotExists(Path<'a>),
    HasType(Path<'a>, &'a Value),
    BeginsWith(Operand<'a>, Operand<'a>),
    Contains(Path<'a>, Operand<'a>),
}

// ---- Parsing -------------------------------------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A bare name or a keyword.
    Word(&'a str),
    /// `#name`.
    Name(&'a str),
    /// `:value`.
    Value(&'a str),
    Number(usize),
    Symbol(&'a str),
    End,
}

/// A parser at some place of an expression.
struct Parser<'a> {
    /// How errors name the expression.
    title: &'static str,
    text: &'a str,
    at: usize,
    next: Token<'a>,
    given: &'a Given<'a>,
}

type Parsed<T> = Result<T, Refusal>;

impl<'a> Parser<'a> {
    fn new(title: &'static str, text: &'a str, given: &'a Given<'a>) -> Parsed<Self> {
        let mut parser = Self { title, text, at: 0, next: Token::End, given };
        if text.trim().is_empty() {
            return Err(format!("Invalid {title}: The expression can not be empty;"));
        }
        parser.advance()?;
        Ok(parser)
    }

    fn refusal(&self, why: &str) -> Refusal {
        format!("Invalid {}: {why}", self.title)
    }

    fn unexpected<T>(&self) -> Parsed<T> {
        let token = match self.next {
            Token::Word(text) | Token::Name(text) | Token::Value(text) | Token::Symbol(text) => text.to_owned(),
            Token::Number(number) => number.to_string(),
            Token::End => "<EOF>".to_owned(),
        };
        Err(self.refusal(&format!("Syntax error; token: \"{token}\", near: \"{}\"", self.text)))
    }

    /// Takes a token and reads the next one.
    fn advance(&mut self) -> Parsed<Token<'a>> {
        let rest = &self.text[self.at..];
        let skipped = rest.len() - rest.trim_start().len();
        self.at += skipped;
        let rest = &rest[skipped..];
        let word = |from: usize| {
            rest[from..].find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map_or(rest.len(), |to| from + to)
        };
        let (token, length) = match rest.as_bytes() {
            [] => (Token::End, 0),
            [b'#', ..] => (Token::Name(&rest[..word(1)]), word(1)),
            [b':', ..] => (Token::Value(&rest[..word(1)]), word(1)),
            [b'a'..=b'z' | b'A'..=b'Z' | b'_', ..] => (Token::Word(&rest[..word(0)]), word(0)),
            [b'0'..=b'9', ..] => {
                let length = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                let number = rest[..length].parse().map_err(|_| self.refusal("Syntax error; an index is too large"))?;
                (Token::Number(number), length)
            }
            [b'<', b'=' | b'>', ..] | [b'>', b'=', ..] => (Token::Symbol(&rest[..2]), 2),
            [b'<' | b'>' | b'=' | b'(' | b')' | b'[' | b']' | b',' | b'.' | b'+' | b'-', ..] => (Token::Symbol(&rest[..1]), 1),
            _ => {
                return Err(self.refusal(&format!(
                    "Syntax error; token: \"{}\", near: \"{}\"",
                    rest.chars().next().unwrap_or(' '),
                    self.text
                )));
            }
        };
        self.at += length;
        Ok(std::mem::replace(&mut self.next, token))
    }

    fn take_symbol(&mut self, symbol: &str) -> Parsed<bool> {
        let there = self.next == Token::Symbol(symbol);
        if there {
            self.advance()?;
        }
        Ok(there)
    }

    fn expect(&mut self, symbol: &str) -> Parsed<()> {
        if self.take_symbol(symbol)? { Ok(()) } else { self.unexpected() }
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self.next, Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn take_keyword(&mut self, keyword: &str) -> Parsed<bool> {
        let there = self.is_keyword(keyword);
        if there {
            self.advance()?;
        }
        Ok(there)
    }

    /// The function of this name, if its parenthesis follows. Names of functions are case-sensitive.
    fn take_function(&mut self, name: &str) -> Parsed<bool> {
        let there = self.next == Token::Word(name) && self.text[self.at..].trim_start().starts_with('(');
        if there {
            self.advance()?;
            self.advance()?;
        }
        Ok(there)
    }

    fn end(&self) -> Parsed<()> {
        if self.next == Token::End { Ok(()) } else { self.unexpected() }
    }

    fn path(&mut self) -> Parsed<Path<'a>> {
        let mut steps = vec![Step::Name(self.name()?)];
        loop {
            if self.take_symbol(".")? {
                steps.push(Step::Name(self.name()?));
            } else if self.take_symbol("[")? {
                let Token::Number(index) = self.next else { return self.unexpected() };
                self.advance()?;
                self.expect("]")?;
                steps.push(Step::Index(index));
            } else {
                return Ok(Path(steps));
            }
        }
    }

    fn name(&mut self) -> Parsed<&'a str> {
        match self.next {
            Token::Name(reference) => {
                let Some((key, name)) = self.given.names.get_key_value(reference) else {
                    let why = format!(
                        "An expression attribute name used in the document path is not defined; attribute name: {reference}"
                    );
                    return Err(self.refusal(&why));
                };
                self.given.used.borrow_mut().insert(key);
                self.advance()?;
                Ok(name)
            }
            Token::Word(word) => {
                if word.len() <= RESERVED_BYTES_MAX && RESERVED.contains(word.to_ascii_uppercase().as_str()) {
                    return Err(self.refusal(&format!("Attribute name is a reserved keyword; reserved keyword: {word}")));
                }
                self.advance()?;
                Ok(word)
            }
            _ => self.unexpected(),
        }
    }

    fn value(&mut self) -> Parsed<&'a Value> {
        let Token::Value(reference) = self.next else { return self.unexpected() };
        let Some((key, value)) = self.given.values.get_key_value(reference) else {
            let why = format!("An expression attribute value used in expression is not defined; attribute value: {reference}");
            return Err(self.refusal(&why));
        };
        self.given.used.borrow_mut().insert(key);
        self.advance()?;
        Ok(value)
    }

    // ---- Conditions

    fn condition(&mut self) -> Parsed<Condition<'a>> {
        let mut left = self.conjunction()?;
        while self.take_keyword("OR")? {
            left = Condition::Or(Box::new(left), Box::new(self.conjunction()?));
        }
        Ok(left)
    }

    fn conjunction(&mut self) -> Parsed<Condition<'a>> {
        let mut left = self.negation()?;
        while self.take_keyword("AND")? {
            left = Condition::And(Box::new(left), Box::new(self.negation()?));
        }
        Ok(left)
    }

    fn negation(&mut self) -> Parsed<Condition<'a>> {
        if self.take_keyword("NOT")? { Ok(Condition::Not(Box::new(self.negation()?))) } else { self.primary() }
    }

    fn primary(&mut self) -> Parsed<Condition<'a>> {
        if self.take_symbol("(")? {
            let opened_again = self.next == Token::Symbol("(");
            let inner_end = self.at;
            let condition = self.condition()?;
            // `((a))`: what the inner ones enclose is all that the outer ones do.
            if opened_again && self.encloses_all(inner_end) {
                return Err(self.refusal("The expression has redundant parentheses;"));
            }
            self.expect(")")?;
            return Ok(condition);
        }
        if self.take_function("attribute_exists")? {
            let path = self.path()?;
            return self.closed(Condition::Exists(path));
        }
        if self.take_function("attribute_not_exists")? {
            let path = self.path()?;
            return self.closed(Condition::NotExists(path));
        }
        if self.take_function("attribute_type")? {
            let path = self.path()?;
            self.expect(",")?;
            let kind = self.value()?;
            return self.closed(Condition::HasType(path, kind));
        }
        if self.take_function("begins_with")? {
            let text = self.operand()?;
            self.expect(",")?;
            let prefix = self.operand()?;
            for operand in [&text, &prefix] {
                if let Operand::Value(value) = operand
                    && !matches!(value, Value::S(_) | Value::B(_))
                {
                    return Err(self.wrong_type("operator or function: begins_with", value));
                }
            }
            return self.closed(Condition::BeginsWith(text, prefix));
        }
        if self.take_function("contains")? {
            let path = self.path()?;
            self.expect(",")?;
            let member = self.operand()?;
            return self.closed(Condition::Contains(path, member));
        }
        self.comparison()
    }

    fn closed(&mut self, condition: Condition<'a>) -> Parsed<Condition<'a>> {
        self.expect(")")?;
        Ok(condition)
    }

    /// Whether the parenthesis that was opened just before `from` is closed by the last one taken.
    fn encloses_all(&self, from: usize) -> bool {
        if self.next != Token::Symbol(")") {
            return false;
        }
        let mut depth = 1_i32;
        let inner = &self.text[from..self.at - 1];
        for (index, byte) in inner.bytes().enumerate() {
            depth += i32::from(byte == b'(') - i32::from(byte == b')');
            if depth == 0 {
                return inner[index + 1..].trim().is_empty();
            }
        }
        false
    }

    fn comparison(&mut self) -> Parsed<Condition<'a>> {
        let left = self.operand()?;
        if self.take_keyword("BETWEEN")? {
            let low = self.operand()?;
            if !self.take_keyword("AND")? {
                return self.unexpected();
            }
            let high = self.operand()?;
            if let (Operand::Value(low), Operand::Value(high)) = (&low, &high) {
                if low.kind() != high.kind() {
                    return Err(self.refusal(
                        "The BETWEEN operator requires same data type for lower and upper bounds; bounds have different types",
                    ));
                }
                if order(low, high) == Some(Ordering::Greater) {
                    return Err(
                        self.refusal("The BETWEEN operator requires upper bound to be greater than or equal to lower bound;")
                    );
                }
            }
            return Ok(Condition::Between(left, low, high));
        }
        if self.take_keyword("IN")? {
            self.expect("(")?;
            let mut all = vec![self.operand()?];
            while self.take_symbol(",")? {
                all.push(self.operand()?);
            }
            return self.closed(Condition::In(left, all));
        }
        let (comparator, symbol) = match self.next {
            Token::Symbol("=") => (Comparator::Equal, "="),
            Token::Symbol("<>") => (Comparator::NotEqual, "<>"),
            Token::Symbol("<") => (Comparator::Less, "<"),
            Token::Symbol("<=") => (Comparator::LessOrEqual, "<="),
            Token::Symbol(">") => (Comparator::Greater, ">"),
            Token::Symbol(">=") => (Comparator::GreaterOrEqual, ">="),
            _ => return self.unexpected(),
        };
        self.advance()?;
        let right = self.operand()?;
        for operand in [&left, &right] {
            if let Operand::Value(value) = operand
                && !matches!(comparator, Comparator::Equal | Comparator::NotEqual)
                && !matches!(value, Value::S(_) | Value::N(_) | Value::B(_))
            {
                return Err(self.wrong_type(&format!("operator: {symbol}"), value));
            }
        }
        Ok(Condition::Compare(left, comparator, right))
    }

    fn wrong_type(&self, operator: &str, value: &Value) -> Refusal {
        self.refusal(&format!("Incorrect operand type for operator or function; {operator}, operand type: {}", value.kind()))
    }

    fn operand(&mut self) -> Parsed<Operand<'a>> {
        if matches!(self.next, Token::Value(_)) {
            return self.value().map(Operand::Value);
        }
        if self.take_function("size")? {
            let path = self.path()?;
            self.expect(")")?;
            return Ok(Operand::Size(path));
        }
        self.path().map(Operand::Path)
    }
}

/// Parses a condition: `ConditionExpression`, `FilterExpression` or `KeyConditionExpression`, as `title` says.
pub(super) fn condition<'a>(title: &'static str, text: &'a str, given: &'a Given<'a>) -> Parsed<Condition<'a>> {
    let mut parser = Parser::new(title, text, given)?;
    let condition = parser.condition()?;
    parser.end()?;
    Ok(condition)
}

/// Parses a projection.
pub(super) fn projection<'a>(text: &'a str, given: &'a Given<'a>) -> Parsed<Vec<Path<'a>>> {
    let mut parser = Parser::new("ProjectionExpression", text, given)?;
    let mut paths = vec![parser.path()?];
    while parser.take_symbol(",")? {
        paths.push(parser.path()?);
    }
    parser.end()?;
    no_overlap("ProjectionExpression", &paths)?;
    Ok(paths)
}

fn no_overlap(title: &str, paths: &[Path<'_>]) -> Parsed<()> {
    for (index, path) in paths.iter().enumerate() {
        if paths[..index].iter().any(|earlier| earlier.overlaps(path)) {
            return Err(format!(
                "Invalid {title}: Two document paths overlap with each other; must remove or rewrite one of these paths; path one: [{0}], \
                 path two: [{0}]",
                path.root()
            ));
        }
    }
    Ok(())
}

// ---- Conditions ----------------------------------------------------------------------------------------------------------

impl Condition<'_> {
    /// Whether it holds of an item; of one that is not there, it is asked with an empty one.
    pub(super) fn holds(&self, item: &Item) -> bool {
        match self {
            Self::Or(left, right) => left.holds(item) || right.holds(item),
            Self::And(left, right) => left.holds(item) && right.holds(item),
            Self::Not(condition) => !condition.holds(item),
            Self::Exists(path) => path.find(item).is_some(),
            Self::NotExists(path) => path.find(item).is_none(),
            Self::HasType(path, kind) => path.find(item).is_some_and(|value| kind.text() == Some(value.kind())),
            Self::Compare(left, comparator, right) => {
                compare(left.read(item).as_deref(), *comparator, right.read(item).as_deref())
            }
            Self::Between(value, low, high) => {
                let value = value.read(item);
                compare(value.as_deref(), Comparator::GreaterOrEqual, low.read(item).as_deref())
                    && compare(value.as_deref(), Comparator::LessOrEqual, high.read(item).as_deref())
            }
            Self::In(value, all) => {
                let value = value.read(item);
                all.iter().any(|other| compare(value.as_deref(), Comparator::Equal, other.read(item).as_deref()))
            }
            Self::BeginsWith(text, prefix) => match (text.read(item).as_deref(), prefix.read(item).as_deref()) {
                (Some(Value::S(text)), Some(Value::S(prefix))) => text.starts_with(prefix.as_str()),
                (Some(Value::B(bytes)), Some(Value::B(prefix))) => bytes.starts_with(prefix),
                _ => false,
            },
            Self::Contains(path, member) => match (path.find(item), member.read(item).as_deref()) {
                (Some(Value::S(text)), Some(Value::S(part))) => text.contains(part.as_str()),
                (Some(Value::Ss(set)), Some(Value::S(member))) => set.contains(member),
                (Some(Value::Ns(set)), Some(Value::N(member))) => set.contains(member),
                (Some(Value::Bs(set)), Some(Value::B(member))) => set.contains(member),
                (Some(Value::L(list)), Some(member)) => list.contains(member),
                _ => false,
            },
        }
    }
}

impl Operand<'_> {
    fn read<'i>(&'i self, item: &'i Item) -> Option<std::borrow::Cow<'i, Value>> {
        use std::borrow::Cow;
        match self {
            Self::Value(value) => Some(Cow::Borrowed(value)),
            Self::Path(path) => path.find(item).map(Cow::Borrowed),
            Self::Size(path) => {
                let size = match path.find(item)? {
                    Value::S(text) => text.len(),
                    Value::B(bytes) => bytes.len(),
                    Value::L(list) => list.len(),
                    Value::M(map) => map.len(),
                    Value::Ss(set) => set.len(),
                    Value::Ns(set) => set.len(),
                    Value::Bs(set) => set.len(),
                    Value::N(_) | Value::Bool(_) | Value::Null => return None,
                };
                Some(Cow::Owned(Value::N(Number::whole(i128::try_from(size).unwrap_or(i128::MAX)))))
            }
        }
    }
}

/// What is not there equals nothing and is neither less nor greater than anything.
fn compare(left: Option<&Value>, comparator: Comparator, right: Option<&Value>) -> bool {
    let (Some(left), Some(right)) = (left, right) else { return comparator == Comparator::NotEqual };
    match comparator {
        Comparator::Equal => left == right,
        Comparator::NotEqual => left != right,
        Comparator::Less => order(left, right).is_some_and(Ordering::is_lt),
        Comparator::LessOrEqual => order(left, right).is_some_and(Ordering::is_le),
        Comparator::Greater => order(left, right).is_some_and(Ordering::is_gt),
        Comparator::GreaterOrEqual => order(left, right).is_some_and(Ordering::is_ge),
    }
}

/// Only values of the same scalar type have an order.
fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::S(left), Value::S(right)) => Some(left.cmp(right)),
        (Value::N(left), Value::N(right)) => Some(left.cmp(right)),
        (Value::B(left), Value::B(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

// ---- Projections ---------------------------------------------------------------------------------------------------------

/// What a projection shows of an item.
pub(super) fn project(item: &Item, paths: &[Path<'_>]) -> Item {
    let mut shown = Item::new();
    for path in paths {
        if let Some(value) = path.find(item) {
            show(&mut shown, &path.0, value);
        }
    }
    shown
}

fn show(into: &mut Item, path: &[Step<'_>], value: &Value) {
    let [Step::Name(name), rest @ ..] = path else { return };
    match rest.first() {
        None => {
            into.insert((*name).to_owned(), value.clone());
        }
        Some(Step::Name(_)) => {
            if let Value::M(inner) = into.entry((*name).to_owned()).or_insert_with(|| Value::M(Item::new())) {
                show(inner, rest, value);
            }
        }
        // Elements of a list move together.
        Some(Step::Index(_)) => {
            if let Value::L(inner) = into.entry((*name).to_owned()).or_insert_with(|| Value::L(Vec::new())) {
                let mut shown = Item::new();
                let below: Vec<Step<'_>> = std::iter::once(Step::Name("")).chain(rest[1..].iter().cloned()).collect();
                show(&mut shown, &below, value);
                inner.extend(shown.remove(""));
            }
        }
    }
}

// ---- Updates -------------------------------------------------------------------------------------------------------------

#[derive(Debug)]
enum Source<'a> {
    Path(Path<'a>),
    Value(&'a Value),
    IfNotExists(Path<'a>, Box<Self>),
    ListAppend(Box<Self>, Box<Self>),
    Plus(Box<Self>, Box<Self>),
    Minus(Box<Self>, Box<Self>),
}

#[derive(Debug)]
enum Action<'a> {
    Set(Source<'a>),
    Remove,
    Add(&'a Value),
    Delete(&'a Value),
}

/// An update expression.
#[derive(Debug)]
pub(super) struct Update<'a> {
    actions: Vec<(Path<'a>, Action<'a>)>,
}

/// Parses an update.
pub(super) fn update<'a>(text: &'a str, given: &'a Given<'a>) -> Parsed<Update<'a>> {
    const TITLE: &str = "UpdateExpression";
    let mut parser = Parser::new(TITLE, text, given)?;
    let mut actions = Vec::new();
    let mut seen = Vec::new();
    while parser.next != Token::End {
        let Some(section) = ["SET", "REMOVE", "ADD", "DELETE"].into_iter().find(|section| parser.is_keyword(section)) else {
            return parser.unexpected();
        };
        if seen.contains(&section) {
            return Err(parser.refusal(&format!("The \"{section}\" section can only be used once in an update expression;")));
        }
        seen.push(section);
        parser.advance()?;
        loop {
            let path = parser.path()?;
            let action = match section {
                "SET" => {
                    parser.expect("=")?;
                    Action::Set(parser.source()?)
                }
                "REMOVE" => Action::Remove,
                _ => {
                    let value = parser.value()?;
                    let fits = match value {
                        Value::N(_) => section == "ADD",
                        value => matches!(value, Value::Ss(_) | Value::Ns(_) | Value::Bs(_)),
                    };
                    if !fits {
                        return Err(parser.wrong_type(&format!("operator: {section}"), value));
                    }
                    if section == "ADD" { Action::Add(value) } else { Action::Delete(value) }
                }
            };
            actions.push((path, action));
            if !parser.take_symbol(",")? {
                break;
            }
        }
    }
    let paths: Vec<Path<'_>> = actions.iter().map(|(path, _)| path.clone()).collect();
    no_overlap(TITLE, &paths)?;
    Ok(Update { actions })
}

impl<'a> Parser<'a> {
    fn source(&mut self) -> Parsed<Source<'a>> {
        let left = self.source_operand()?;
        if self.take_symbol("+")? {
            return Ok(Source::Plus(Box::new(left), Box::new(self.source_operand()?)));
        }
        if self.take_symbol("-")? {
            return Ok(Source::Minus(Box::new(left), Box::new(self.source_operand()?)));
        }
        Ok(left)
    }

    fn source_operand(&mut self) -> Parsed<Source<'a>> {
        if matches!(self.next, Token::Value(_)) {
            return self.value().map(Source::Value);
        }
        if self.take_function("if_not_exists")? {
            let path = self.path()?;
            self.expect(",")?;
            let otherwise = self.source_operand()?;
            self.expect(")")?;
            return Ok(Source::IfNotExists(path, Box::new(otherwise)));
        }
        if self.take_function("list_append")? {
            let first = self.source_operand()?;
            self.expect(",")?;
            let second = self.source_operand()?;
            self.expect(")")?;
            return Ok(Source::ListAppend(Box::new(first), Box::new(second)));
        }
        self.path().map(Source::Path)
    }
}

const MISSING: &str = "The provided expression refers to an attribute that does not exist in the item";
const WRONG_TYPE: &str = "An operand in the update expression has an incorrect data type";
const WRONG_PATH: &str = "The document path provided in the update expression is invalid for update";

impl Source<'_> {
    fn read(&self, item: &Item) -> Parsed<Value> {
        match self {
            Self::Value(value) => Ok((*value).clone()),
            Self::Path(path) => path.find(item).cloned().ok_or_else(|| MISSING.to_owned()),
            Self::IfNotExists(path, otherwise) => path.find(item).cloned().map_or_else(|| otherwise.read(item), Ok),
            Self::ListAppend(first, second) => match (first.read(item)?, second.read(item)?) {
                (Value::L(mut first), Value::L(second)) => {
                    first.extend(second);
                    Ok(Value::L(first))
                }
                _ => Err(WRONG_TYPE.to_owned()),
            },
            Self::Plus(left, right) => sum(left.read(item)?, right.read(item)?),
            Self::Minus(left, right) => match right.read(item)? {
                Value::N(number) => sum(left.read(item)?, Value::N(number.negated())),
                _ => Err(WRONG_TYPE.to_owned()),
            },
        }
    }
}

fn sum(left: Value, right: Value) -> Parsed<Value> {
    match (left, right) {
        (Value::N(left), Value::N(right)) => left.plus(right).map(Value::N),
        _ => Err(WRONG_TYPE.to_owned()),
    }
}

impl<'a> Update<'a> {
    /// The attributes that it changes.
    pub(super) fn roots(&self) -> impl Iterator<Item = &'a str> {
        self.actions.iter().map(|(path, _)| path.root())
    }

    /// What `UPDATED_OLD` and `UPDATED_NEW` show of the item before or after it.
    pub(super) fn shown_of(&self, item: &Item) -> Item {
        let paths: Vec<Path<'_>> = self.actions.iter().map(|(path, _)| path.clone()).collect();
        project(item, &paths)
    }

    /// The item after it. All that it reads is the item as it was before.
    pub(super) fn apply(&self, before: &Item) -> Parsed<Item> {
        let mut after = before.clone();
        // Indexes are those of the list before: elements leave it from its end.
        let mut removed = Vec::new();
        for (path, action) in &self.actions {
            match action {
                Action::Set(source) => put(&mut after, path, source.read(before)?)?,
                Action::Remove => removed.push(path),
                Action::Add(value) => {
                    let sum = added(path.find(before), value)?;
                    put(&mut after, path, sum)?;
                }
                Action::Delete(value) => match subtracted(path.find(before), value)? {
                    Some(rest) => put(&mut after, path, rest)?,
                    None if path.find(before).is_some() => removed.push(path),
                    None => {}
                },
            }
        }
        removed.sort_by_key(|path| match path.0.last() {
            Some(Step::Index(index)) => usize::MAX - index,
            _ => usize::MAX,
        });
        for path in removed {
            remove(&mut after, path)?;
        }
        Ok(after)
    }
}

fn added(found: Option<&Value>, value: &Value) -> Parsed<Value> {
    match (found, value) {
        (None, value) => Ok(value.clone()),
        (Some(Value::N(left)), Value::N(right)) => left.plus(*right).map(Value::N),
        (Some(Value::Ss(left)), Value::Ss(right)) => Ok(Value::Ss(left | right)),
        (Some(Value::Ns(left)), Value::Ns(right)) => Ok(Value::Ns(left | right)),
        (Some(Value::Bs(left)), Value::Bs(right)) => Ok(Value::Bs(left | right)),
        _ => Err(WRONG_TYPE.to_owned()),
    }
}

/// `None` if nothing is left: there are no empty sets.
fn subtracted(found: Option<&Value>, value: &Value) -> Parsed<Option<Value>> {
    Ok(match (found, value) {
        (None, _) => None,
        (Some(Value::Ss(left)), Value::Ss(right)) => Some(left - right).filter(|set| !set.is_empty()).map(Value::Ss),
        (Some(Value::Ns(left)), Value::Ns(right)) => Some(left - right).filter(|set| !set.is_empty()).map(Value::Ns),
        (Some(Value::Bs(left)), Value::Bs(right)) => Some(left - right).filter(|set| !set.is_empty()).map(Value::Bs),
        _ => return Err(WRONG_TYPE.to_owned()),
    })
}

fn put(item: &mut Item, path: &Path<'_>, value: Value) -> Parsed<()> {
    let [Step::Name(root), rest @ ..] = path.0.as_slice() else { return Err(WRONG_PATH.to_owned()) };
    let Some((last, parents)) = rest.split_last() else {
        item.insert((*root).to_owned(), value);
        return Ok(());
    };
    let parent = item.get_mut(*root).and_then(|found| descend(found, parents)).ok_or(WRONG_PATH)?;
    match (last, parent) {
        (Step::Name(name), Value::M(map)) => {
            map.insert((*name).to_owned(), value);
        }
        (Step::Index(index), Value::L(list)) => match list.get_mut(*index) {
            Some(place) => *place = value,
            None => list.push(value),
        },
        _ => return Err(WRONG_PATH.to_owned()),
    }
    Ok(())
}

fn remove(item: &mut Item, path: &Path<'_>) -> Parsed<()> {
    let [Step::Name(root), rest @ ..] = path.0.as_slice() else { return Err(WRONG_PATH.to_owned()) };
    let Some((last, parents)) = rest.split_last() else {
        item.remove(*root);
        return Ok(());
    };
    let parent = item.get_mut(*root).and_then(|found| descend(found, parents)).ok_or(WRONG_PATH)?;
    match (last, parent) {
        (Step::Name(name), Value::M(map)) => {
            map.remove(*name);
        }
        (Step::Index(index), Value::L(list)) if *index < list.len() => {
            list.remove(*index);
        }
        (Step::Index(_), Value::L(_)) => {}
        _ => return Err(WRONG_PATH.to_owned()),
    }
    Ok(())
}

fn descend<'i>(from: &'i mut Value, steps: &[Step<'_>]) -> Option<&'i mut Value> {
    let mut found = from;
    for step in steps {
        found = match (step, found) {
            (Step::Name(name), Value::M(map)) => map.get_mut(*name)?,
            (Step::Index(index), Value::L(list)) => list.get_mut(*index)?,
            _ => return None,
        };
    }
    Some(found)
}
