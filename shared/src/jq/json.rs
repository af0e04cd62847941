//! A JSON value that jaq computes with.
//!
//! jaq has one of its own; this one is here because it counts what it does ([`super::meter`]), knows how deep it is nested, keeps
//! numbers as they were written, has no keys but strings, and never shows what is in it: an error of jaq says `cannot index a number`.

use std::{
    cmp::Ordering,
    collections::BTreeSet,
    fmt,
    ops::{Add, Div, Mul, Neg, Range, Rem, Sub},
    sync::Arc,
};

use indexmap::IndexMap;
use jaq_core::{Error, Exn, ValR, ValT, ValX, box_iter::BoxIter, ops::Math, path::Opt};

use super::{
    JSON_DEPTH_MAX,
    meter::{self, Stopped},
    number::Number,
};

/// What an array takes before anything is in it, in bytes.
const ARRAY_BYTES: usize = 80;
/// What an object takes before anything is in it, in bytes: its table begins with room for some members.
const OBJECT_BYTES: usize = 224;
/// What an element takes in its array, which may have room for twice as many.
const ELEMENT_BYTES: usize = 2 * size_of::<Json>();
/// What a member takes in its object, beside its name.
const MEMBER_BYTES: usize = 2 * (size_of::<(Arc<str>, Json)>() + 2 * size_of::<usize>());
/// What an element takes while a function has its array in hands: sorting keeps a list of keys for each.
const WORKED_ELEMENT_BYTES: usize = 160;
/// What a string takes beside its bytes.
const TEXT_BYTES: usize = 32;
/// Longest string, in bytes; more than any body has. What a function makes of it at once, and may be six times as long, is counted
/// only after it is there.
pub(crate) const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A value. To clone it copies nothing.
#[derive(Clone)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(Arc<str>),
    Array(Arc<Array>),
    Object(Arc<Object>),
}

/// The members of an object, in the order in which they came.
pub(crate) type Members = IndexMap<Arc<str>, Json>;

#[derive(Clone)]
pub(crate) struct Array {
    pub(crate) elements: Vec<Json>,
    /// Of the value that is nested deepest; never less than it is.
    depth: usize,
}

#[derive(Clone)]
pub(crate) struct Object {
    pub(crate) members: Members,
    depth: usize,
}

impl Array {
    fn bytes(&self) -> usize {
        ARRAY_BYTES + self.elements.len() * ELEMENT_BYTES
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        meter::release(self.bytes());
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        meter::release(self.bytes());
    }
}

impl Object {
    fn bytes(&self) -> usize {
        OBJECT_BYTES + self.members.len() * MEMBER_BYTES
    }

    fn put(&mut self, name: Arc<str>, value: Json) {
        self.depth = self.depth.max(nested([&value].into_iter()));
        insert(&mut self.members, name, value);
    }
}

impl Json {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(counted(text))
    }

    pub(crate) fn number(number: Number) -> Self {
        meter::allocate(number.heap_bytes());
        Self::Number(number)
    }

    /// Of elements that [`push`] counted.
    pub(crate) fn array(elements: Vec<Self>) -> Self {
        meter::allocate(ARRAY_BYTES);
        let depth = nested(elements.iter());
        Self::Array(Arc::new(Array { elements, depth }))
    }

    /// Of members that [`insert`] counted.
    pub(crate) fn object(members: Members) -> Self {
        meter::allocate(OBJECT_BYTES);
        let depth = nested(members.values());
        Self::Object(Arc::new(Object { members, depth }))
    }

    pub(crate) fn is_true(&self) -> bool {
        !matches!(self, Self::Null | Self::Bool(false))
    }

    /// What an error may say about it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    pub(crate) fn depth(&self) -> usize {
        match self {
            Self::Array(array) => array.depth,
            Self::Object(object) => object.depth,
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) => 0,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn as_number(&self) -> Option<&Number> {
        if let Self::Number(number) = self { Some(number) } else { None }
    }

    fn as_integer(&self) -> Option<isize> {
        self.as_number()?.integer()?.try_into().ok()
    }

    /// As compact JSON. `Err` once it is longer than so many bytes.
    pub(crate) fn write(&self, out: &mut String, bytes_max: usize) -> Result<(), TooLong> {
        meter::spend(1);
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Self::Number(number) => {
                meter::allocate(number.heap_bytes());
                out.push_str(&number.text());
            }
            Self::Text(text) => write_text(text, out),
            Self::Array(array) => {
                out.push('[');
                for (at, element) in array.elements.iter().enumerate() {
                    separate(at, out);
                    element.write(out, bytes_max)?;
                }
                out.push(']');
            }
            Self::Object(object) => {
                out.push('{');
                for (at, (name, value)) in object.members.iter().enumerate() {
                    separate(at, out);
                    write_text(name, out);
                    out.push(':');
                    value.write(out, bytes_max)?;
                }
                out.push('}');
            }
        }
        if out.len() > bytes_max { Err(TooLong) } else { Ok(()) }
    }

    /// As compact JSON, as long as there is memory.
    pub(crate) fn to_text(&self) -> Self {
        let mut out = String::new();
        match self.write(&mut out, TEXT_BYTES_MAX) {
            Ok(()) => Self::text(&out),
            Err(TooLong) => meter::stop(Stopped::Memory),
        }
    }

    /// What stands at an index; `Err` if this has none of that kind.
    pub(crate) fn find(&self, index: &Self) -> Result<Option<Self>, Error<Self>> {
        meter::spend(1);
        Ok(match (self, index) {
            (Self::Null, _) => None,
            (Self::Array(array), Self::Number(_)) => {
                let at = index.as_integer().and_then(|at| place(at, array.elements.len()));
                at.and_then(|at| array.elements.get(at).cloned())
            }
            (Self::Array(_), Self::Array(_)) => Some(self.indices(index)?),
            (Self::Object(object), Self::Text(name)) => object.members.get(&**name).cloned(),
            (Self::Array(_) | Self::Text(_), Self::Object(_)) => {
                let bound = |name| index.member(name);
                Some(self.clone().range(bound("start")..bound("end"))?)
            }
            _ => return Err(Error::index(self.clone(), index.clone())),
        })
    }

    fn member(&self, name: &str) -> Option<&Self> {
        if let Self::Object(object) = self { object.members.get(name) } else { None }
    }

    /// Where `sought` stands in this: a string in a string, an array in an array, a value in an array.
    pub(crate) fn indices(&self, sought: &Self) -> ValR<Self> {
        let found = |at: usize| Self::from(at);
        match (self, sought) {
            (Self::Null, _) => Ok(Self::Null),
            (Self::Text(text), Self::Text(sought)) => Ok(overlapping(text, sought).into_iter().map(found).collect()),
            (Self::Array(_), Self::Array(sought)) if sought.elements.is_empty() => Ok(Self::Null),
            (Self::Array(array), Self::Array(sought)) => {
                let windows = array.elements.windows(sought.elements.len()).enumerate();
                Ok(windows.filter(|(_, window)| *window == sought.elements).map(|(at, _)| found(at)).collect())
            }
            (Self::Array(array), sought) => {
                let elements = array.elements.iter().enumerate();
                Ok(elements.filter(|(_, element)| *element == sought).map(|(at, _)| found(at)).collect())
            }
            _ => Err(Error::index(self.clone(), sought.clone())),
        }
    }

    /// jq's `contains`.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        meter::spend(1);
        match (self, other) {
            (Self::Text(text), Self::Text(part)) => {
                meter::spend_on_text(text.len() + part.len());
                text.contains(&**part)
            }
            (Self::Array(array), Self::Array(parts)) => {
                parts.elements.iter().all(|part| array.elements.iter().any(|element| element.contains(part)))
            }
            (Self::Object(object), Self::Object(parts)) => {
                let has = |(name, part): (&Arc<str>, _)| object.members.get(name).is_some_and(|value| value.contains(part));
                parts.members.iter().all(has)
            }
            _ => self == other,
        }
    }
}

/// A text that was to have at most so many bytes.
#[derive(Debug)]
pub(crate) struct TooLong;

/// Adds an element, and counts it.
pub(crate) fn push(elements: &mut Vec<Json>, element: Json) {
    meter::spend(1);
    meter::allocate(ELEMENT_BYTES);
    elements.push(element);
}

/// Adds a member, and counts it. Of two of one name the later has the value, and the earlier the place, as in jq.
pub(crate) fn insert(members: &mut Members, name: Arc<str>, value: Json) {
    meter::spend_on_text(name.len());
    meter::allocate(MEMBER_BYTES);
    members.insert(name, value);
}

/// A string, counted.
pub(crate) fn counted(text: &str) -> Arc<str> {
    allocate_text(text.len());
    text.into()
}

/// Counts a string that is about to be made.
fn allocate_text(bytes: usize) {
    if bytes > TEXT_BYTES_MAX {
        meter::stop(Stopped::Memory);
    }
    meter::spend_on_text(bytes);
    meter::allocate(TEXT_BYTES + bytes);
}

/// The depth of an array or an object with these in it.
fn nested<'a>(values: impl Iterator<Item = &'a Json>) -> usize {
    let depth = 1 + values.map(Json::depth).max().unwrap_or(0);
    if depth > JSON_DEPTH_MAX { meter::stop(Stopped::Nesting) } else { depth }
}

fn separate(at: usize, out: &mut String) {
    if at > 0 {
        out.push(',');
    }
}

fn write_text(text: &str, out: &mut String) {
    meter::spend_on_text(text.len());
    meter::allocate(text.len());
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            control if control < ' ' || control == '\u{7f}' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Where a part stands in a text, in characters; also where two of them overlap.
fn overlapping(text: &str, part: &str) -> Vec<usize> {
    let Some(first) = part.chars().next() else { return Vec::new() };
    let (mut found, mut from, mut characters) = (Vec::new(), 0, 0);
    loop {
        let at = text[from..].find(part);
        meter::spend_on_text(part.len() + at.unwrap_or(text.len() - from));
        let Some(at) = at else { return found };
        characters += text[from..from + at].chars().count();
        found.push(characters);
        characters += 1;
        from += at + first.len_utf8();
    }
}

/// The place in a sequence that is so long; from its end if negative. `None` before its beginning.
fn place(at: isize, length: usize) -> Option<usize> {
    usize::try_from(at).ok().or_else(|| length.checked_sub(at.unsigned_abs()))
}

/// The part of a sequence between two bounds.
fn between(range: Range<Option<&Json>>, length: usize) -> Result<Range<usize>, Error<Json>> {
    let bound = |bound: Option<&Json>, open: usize| match bound {
        None | Some(Json::Null) => Ok(open),
        Some(bound) => {
            let at = bound.as_integer().ok_or_else(|| Error::typ(bound.clone(), "a bound"))?;
            Ok(place(at, length).unwrap_or(0).min(length))
        }
    };
    let (from, to) = (bound(range.start, 0)?, bound(range.end, length)?);
    Ok(from..to.max(from))
}

/// The part of a text between two bounds, which count characters; here in bytes.
fn between_characters(range: Range<Option<&Json>>, text: &str) -> Result<Range<usize>, Error<Json>> {
    meter::spend_on_text(text.len());
    let range = between(range, text.chars().count())?;
    let byte = |character| text.char_indices().nth(character).map_or(text.len(), |(at, _)| at);
    Ok(byte(range.start)..byte(range.end))
}

/// The array, to change it: a copy if others have it too.
fn own_array(array: &mut Arc<Array>) -> &mut Array {
    if Arc::get_mut(array).is_none() {
        meter::spend(array.elements.len());
        meter::allocate(array.bytes());
    }
    Arc::make_mut(array)
}

/// The object, to change it: a copy if others have it too.
fn own_object(object: &mut Arc<Object>) -> &mut Object {
    if Arc::get_mut(object).is_none() {
        meter::spend(object.members.len());
        meter::allocate(object.bytes());
    }
    Arc::make_mut(object)
}

/// Each element, counted as it is taken.
fn elements(array: Arc<Array>) -> impl Iterator<Item = Json> {
    (0..array.elements.len()).map(move |at| {
        meter::spend(1);
        array.elements[at].clone()
    })
}

/// Each member, counted as it is taken.
fn members(object: Arc<Object>) -> impl Iterator<Item = (Arc<str>, Json)> {
    (0..object.members.len()).filter_map(move |at| {
        meter::spend(1);
        object.members.get_index(at).map(|(name, value)| (Arc::clone(name), value.clone()))
    })
}

/// jq's `*` of objects.
fn merge(left: &mut Arc<Object>, right: &Arc<Object>) {
    let left = own_object(left);
    for (name, value) in members(Arc::clone(right)) {
        match (left.members.get_mut(&name), value) {
            (Some(Json::Object(inner)), Json::Object(value)) => merge(inner, &value),
            (_, value) => left.put(name, value),
        }
    }
    left.depth = left.depth.max(right.depth);
}

impl ValT for Json {
    fn from_num(number: &str) -> ValR<Self> {
        Ok(Self::number(Number::of_text(number)))
    }

    fn from_map<I: IntoIterator<Item = (Self, Self)>>(pairs: I) -> ValR<Self> {
        let mut members = Members::new();
        for (name, value) in pairs {
            let Self::Text(name) = name else { return Err(Error::typ(name, "the name of a member")) };
            insert(&mut members, name, value);
        }
        Ok(Self::object(members))
    }

    fn key_values(self) -> BoxIter<'static, ValR<(Self, Self), Self>> {
        match self {
            Self::Array(array) => Box::new(elements(array).enumerate().map(|(at, value)| Ok((Self::from(at), value)))),
            Self::Object(object) => Box::new(members(object).map(|(name, value)| Ok((Self::Text(name), value)))),
            other => Box::new(std::iter::once(Err(no_iterable(other)))),
        }
    }

    fn values(self) -> Box<dyn Iterator<Item = ValR<Self>>> {
        match self {
            Self::Array(array) => Box::new(elements(array).map(Ok)),
            Self::Object(object) => Box::new(members(object).map(|(_, value)| Ok(value))),
            other => Box::new(std::iter::once(Err(no_iterable(other)))),
        }
    }

    fn index(self, index: &Self) -> ValR<Self> {
        self.find(index).map(|found| found.unwrap_or(Self::Null))
    }

    fn range(self, range: Range<Option<&Self>>) -> ValR<Self> {
        match self {
            Self::Null => Ok(Self::Null),
            Self::Text(text) => between_characters(range, &text).map(|range| Self::text(&text[range])),
            Self::Array(array) => {
                let range = between(range, array.elements.len())?;
                Ok(array.elements[range].iter().cloned().collect())
            }
            other => Err(Error::typ(other, "a sequence")),
        }
    }

    fn map_values<'a, I: Iterator<Item = ValX<'a, Self>>>(self, opt: Opt, f: impl Fn(Self) -> I) -> ValX<'a, Self> {
        match self {
            Self::Array(array) => elements(array).flat_map(f).collect(),
            Self::Object(object) => {
                let mut mapped = Members::new();
                for (name, value) in members(object) {
                    if let Some(value) = f(value).next().transpose()? {
                        insert(&mut mapped, name, value);
                    }
                }
                Ok(Self::object(mapped))
            }
            other => opt.fail(other, |other| Exn::from(no_iterable(other))),
        }
    }

    fn map_index<'a, I: Iterator<Item = ValX<'a, Self>>>(self, index: &Self, opt: Opt, f: impl Fn(Self) -> I) -> ValX<'a, Self> {
        meter::spend(1);
        match (self, index) {
            (value @ (Self::Text(_) | Self::Array(_)), Self::Object(_)) => {
                value.map_range(index.member("start")..index.member("end"), opt, f)
            }
            (Self::Null, Self::Text(name)) => match f(Self::Null).next().transpose()? {
                Some(value) => Ok(Self::from_map([(Self::Text(Arc::clone(name)), value)])?),
                None => Ok(Self::Null),
            },
            (Self::Object(mut object), Self::Text(name)) => {
                let own = own_object(&mut object);
                // Taken out meanwhile, so that nobody else has it and it can be changed where it is.
                let old = own.members.get_mut(name).map(|value| std::mem::replace(value, Self::Null));
                match f(old.unwrap_or(Self::Null)).next().transpose()? {
                    Some(value) => own.put(Arc::clone(name), value),
                    None => {
                        meter::spend(own.members.len());
                        own.members.shift_remove(name);
                    }
                }
                Ok(Self::Object(object))
            }
            (Self::Array(mut array), Self::Number(_)) => {
                let length = array.elements.len();
                let Some(at) = index.as_integer().and_then(|at| place(at, length)).filter(|at| *at < length) else {
                    return opt.fail(Self::Array(array), |array| Exn::from(Error::index(array, index.clone())));
                };
                let own = own_array(&mut array);
                let old = std::mem::replace(&mut own.elements[at], Self::Null);
                match f(old).next().transpose()? {
                    Some(value) => {
                        own.depth = own.depth.max(nested([&value].into_iter()));
                        own.elements[at] = value;
                    }
                    None => {
                        meter::spend(length);
                        own.elements.remove(at);
                    }
                }
                Ok(Self::Array(array))
            }
            (other, index) => opt.fail(other, |other| Exn::from(Error::index(other, index.clone()))),
        }
    }

    fn map_range<'a, I: Iterator<Item = ValX<'a, Self>>>(
        self,
        range: Range<Option<&Self>>,
        opt: Opt,
        f: impl Fn(Self) -> I,
    ) -> ValX<'a, Self> {
        let next = |part| f(part).next().transpose();
        match self {
            Self::Array(array) => {
                let range = match between(range, array.elements.len()) {
                    Ok(range) => range,
                    Err(error) => return opt.fail(Self::Array(array), |_| Exn::from(error)),
                };
                let part = array.elements[range.clone()].iter().cloned().collect();
                let replaced = match next(part)? {
                    Some(Self::Array(part)) => Some(part),
                    Some(other) => return Err(Error::typ(other, "an array").into()),
                    None => None,
                };
                let (before, after) = (&array.elements[..range.start], &array.elements[range.end..]);
                let replaced = replaced.iter().flat_map(|part| &part.elements);
                Ok(before.iter().chain(replaced).chain(after).cloned().collect())
            }
            Self::Text(text) => {
                let range = match between_characters(range, &text) {
                    Ok(range) => range,
                    Err(error) => return opt.fail(Self::Text(text), |_| Exn::from(error)),
                };
                let replaced = match next(Self::text(&text[range.clone()]))? {
                    Some(Self::Text(part)) => part,
                    Some(other) => return Err(Error::typ(other, "a string").into()),
                    None => Arc::from(""),
                };
                Ok(concatenate(&[&text[..range.start], &replaced, &text[range.end..]]))
            }
            other => opt.fail(other, |other| Exn::from(Error::typ(other, "a sequence"))),
        }
    }

    fn as_bool(&self) -> bool {
        self.is_true()
    }

    fn into_string(self) -> Self {
        match self {
            Self::Text(_) => self,
            other => other.to_text(),
        }
    }
}

fn no_iterable(value: Json) -> Error<Json> {
    Error::typ(value, "an array or an object")
}

pub(crate) fn concatenate(parts: &[&str]) -> Json {
    allocate_text(parts.iter().map(|part| part.len()).sum());
    Json::Text(parts.concat().into())
}

impl jaq_std::ValT for Json {
    fn into_seq<S: FromIterator<Self>>(self) -> Result<S, Self> {
        match self {
            Self::Array(array) => {
                meter::allocate(array.elements.len() * WORKED_ELEMENT_BYTES);
                Ok(elements(array).collect())
            }
            other => Err(other),
        }
    }

    fn is_int(&self) -> bool {
        self.as_number().is_some_and(Number::is_written_as_integer)
    }

    fn as_isize(&self) -> Option<isize> {
        self.as_integer().filter(|_| self.is_int())
    }

    fn as_f64(&self) -> Option<f64> {
        self.as_number().map(Number::float)
    }

    fn is_utf8_str(&self) -> bool {
        self.as_text().is_some()
    }

    fn as_bytes(&self) -> Option<&[u8]> {
        self.as_text().map(str::as_bytes)
    }

    fn as_sub_str(&self, sub: &[u8]) -> Self {
        Self::text(&String::from_utf8_lossy(sub))
    }

    fn from_utf8_bytes(bytes: impl AsRef<[u8]> + Send + 'static) -> Self {
        Self::text(&String::from_utf8_lossy(bytes.as_ref()))
    }
}

impl From<bool> for Json {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

impl From<isize> for Json {
    fn from(integer: isize) -> Self {
        // An `isize` has 64 bits at most.
        Self::Number(Number::Int(integer as i64))
    }
}

impl From<usize> for Json {
    fn from(integer: usize) -> Self {
        i64::try_from(integer)
            .map_or_else(|_| Self::number(Number::of_text(&integer.to_string())), |integer| Self::Number(Number::Int(integer)))
    }
}

impl From<f64> for Json {
    fn from(float: f64) -> Self {
        Self::Number(Number::Float(float))
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::text(&text)
    }
}

impl From<Range<Option<Self>>> for Json {
    /// As the path of a slice has it.
    fn from(range: Range<Option<Self>>) -> Self {
        let mut members = Members::new();
        for (name, bound) in [("start", range.start), ("end", range.end)] {
            if let Some(bound) = bound {
                insert(&mut members, name.into(), bound);
            }
        }
        Self::object(members)
    }
}

impl FromIterator<Self> for Json {
    fn from_iter<T: IntoIterator<Item = Self>>(values: T) -> Self {
        let mut elements = Vec::new();
        values.into_iter().for_each(|value| push(&mut elements, value));
        Self::array(elements)
    }
}

impl Add for Json {
    type Output = ValR<Self>;

    fn add(self, other: Self) -> ValR<Self> {
        meter::spend(1);
        match (self, other) {
            (Self::Null, value) | (value, Self::Null) => Ok(value),
            (Self::Number(left), Self::Number(right)) => Ok(Self::number(left.add(&right))),
            (Self::Text(left), Self::Text(right)) => Ok(concatenate(&[&left, &right])),
            (Self::Array(mut left), Self::Array(right)) => {
                let own = own_array(&mut left);
                own.depth = own.depth.max(right.depth);
                elements(right).for_each(|element| push(&mut own.elements, element));
                Ok(Self::Array(left))
            }
            (Self::Object(mut left), Self::Object(right)) => {
                let own = own_object(&mut left);
                own.depth = own.depth.max(right.depth);
                members(right).for_each(|(name, value)| insert(&mut own.members, name, value));
                Ok(Self::Object(left))
            }
            (left, right) => Err(Error::math(left, Math::Add, right)),
        }
    }
}

impl Sub for Json {
    type Output = ValR<Self>;

    fn sub(self, other: Self) -> ValR<Self> {
        meter::spend(1);
        match (self, other) {
            (Self::Number(left), Self::Number(right)) => Ok(Self::number(left.subtract(&right))),
            (Self::Array(left), Self::Array(right)) => {
                let unwanted: BTreeSet<_> = right.elements.iter().collect();
                Ok(elements(left).filter(|element| !unwanted.contains(element)).collect())
            }
            (left, right) => Err(Error::math(left, Math::Sub, right)),
        }
    }
}

impl Mul for Json {
    type Output = ValR<Self>;

    fn mul(self, other: Self) -> ValR<Self> {
        meter::spend(1);
        match (self, other) {
            (Self::Number(left), Self::Number(right)) => Ok(Self::number(left.multiply(&right))),
            (Self::Text(text), Self::Number(times)) | (Self::Number(times), Self::Text(text)) => Ok(repeat(&text, times.float())),
            (Self::Object(mut left), Self::Object(right)) => {
                merge(&mut left, &right);
                Ok(Self::Object(left))
            }
            (left, right) => Err(Error::math(left, Math::Mul, right)),
        }
    }
}

/// A text so many times; null for none at all, as in jq.
fn repeat(text: &str, times: f64) -> Json {
    if times.is_nan() || times <= 0.0 {
        return Json::Null;
    }
    // jq rounds up. What is no number of times here takes more memory than there is.
    let times = times.ceil().min(u32::MAX.into()) as usize;
    allocate_text(text.len().saturating_mul(times));
    Json::Text(text.repeat(times).into())
}

impl Div for Json {
    type Output = ValR<Self>;

    fn div(self, other: Self) -> ValR<Self> {
        meter::spend(1);
        match (self, other) {
            (Self::Number(left), Self::Number(right)) => Ok(Self::number(left.divide(&right))),
            (Self::Text(text), Self::Text(_)) if text.is_empty() => Ok(Self::array(Vec::new())),
            (Self::Text(text), Self::Text(by)) if by.is_empty() => {
                Ok(text.chars().map(|character| Self::text(character.encode_utf8(&mut [0; 4]))).collect())
            }
            (Self::Text(text), Self::Text(by)) => Ok(text.split(&*by).map(Self::text).collect()),
            (left, right) => Err(Error::math(left, Math::Div, right)),
        }
    }
}

impl Rem for Json {
    type Output = ValR<Self>;

    fn rem(self, other: Self) -> ValR<Self> {
        meter::spend(1);
        let remainder = self.as_number().zip(other.as_number()).and_then(|(left, right)| left.remainder(right));
        remainder.map(Self::number).ok_or_else(|| Error::math(self, Math::Rem, other))
    }
}

impl Neg for Json {
    type Output = ValR<Self>;

    fn neg(self) -> ValR<Self> {
        meter::spend(1);
        match self {
            Self::Number(number) => Ok(Self::number(number.negate())),
            other => Err(Error::typ(other, "a number")),
        }
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        meter::spend(1);
        match (self, other) {
            (Self::Object(left), Self::Object(right)) => {
                let has = |(name, value): (&Arc<str>, &Self)| right.members.get(name).is_some_and(|other| value == other);
                left.members.len() == right.members.len() && left.members.iter().all(has)
            }
            (Self::Array(left), Self::Array(right)) => left.elements == right.elements,
            (left, right) => left.cmp(right) == Ordering::Equal,
        }
    }
}

impl Eq for Json {}

impl PartialOrd for Json {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Json {
    /// jq's order: null, false, true, numbers, strings, arrays, objects.
    fn cmp(&self, other: &Self) -> Ordering {
        meter::spend(1);
        match (self, other) {
            (Self::Bool(left), Self::Bool(right)) => left.cmp(right),
            (Self::Number(left), Self::Number(right)) => left.cmp(right),
            (Self::Text(left), Self::Text(right)) => {
                meter::spend_on_text(left.len().min(right.len()));
                left.cmp(right)
            }
            (Self::Array(left), Self::Array(right)) => left.elements.cmp(&right.elements),
            (Self::Object(left), Self::Object(right)) => compare_objects(&left.members, &right.members),
            (left, right) => left.rank().cmp(&right.rank()),
        }
    }
}

impl Json {
    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Number(_) => 2,
            Self::Text(_) => 3,
            Self::Array(_) => 4,
            Self::Object(_) => 5,
        }
    }
}

/// First the sorted names, then the values in the order of their names.
fn compare_objects(left: &Members, right: &Members) -> Ordering {
    let bytes = (left.len() + right.len()) * size_of::<(&Arc<str>, &Json)>();
    meter::allocate(bytes);
    let (left, right) = (sorted(left), sorted(right));
    let names = left.iter().map(|(name, _)| name).cmp(right.iter().map(|(name, _)| name));
    let order = names.then_with(|| left.iter().map(|(_, value)| value).cmp(right.iter().map(|(_, value)| value)));
    meter::release(bytes);
    order
}

fn sorted(members: &Members) -> Vec<(&Arc<str>, &Json)> {
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_by(|(left, _), (right, _)| {
        meter::spend_on_text(left.len().min(right.len()));
        left.cmp(right)
    });
    sorted
}

impl fmt::Display for Json {
    /// Its kind, and nothing of what is in it: jaq puts values into its errors.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.kind())
    }
}

impl fmt::Debug for Json {
    /// Its kind, and nothing of what is in it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.kind())
    }
}

/// As `serde_json` has it. `None` for an integer of more than 64 bits, and for a number beyond all floats.
pub(crate) fn to_serde(value: &Json) -> Option<serde_json::Value> {
    use serde_json::Value;
    Some(match value {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => {
            let read: Value = serde_json::from_str(&number.text()).ok()?;
            let is_rounded = number.is_written_as_integer() && read.as_f64() != Some(0.0) && read.is_f64();
            (!is_rounded).then_some(read)?
        }
        Json::Text(text) => Value::String(text.as_ref().to_owned()),
        Json::Array(array) => Value::Array(array.elements.iter().map(to_serde).collect::<Option<_>>()?),
        Json::Object(object) => {
            let member = |(name, value): (&Arc<str>, _)| Some((name.as_ref().to_owned(), to_serde(value)?));
            Value::Object(object.members.iter().map(member).collect::<Option<_>>()?)
        }
    })
}
