//! Expressions in jq, which look at a webhook's JSON body: whether a route takes it, what becomes of it, where it stands in an order.
//!
//! The language is jq's, by [jaq](https://gedenkt.at/jaq/manual/). What an expression gives depends on the webhook alone, so that every
//! attempt gives the same; functions that would change that are left out. Whatever it does, it ends: its steps, its memory and its
//! stack are counted, and it is stopped where they go beyond their bounds. No error says anything of the body but kinds
//! (`cannot index a number`).

mod functions;
pub(crate) mod json;
pub(crate) mod meter;
pub(crate) mod number;
mod read;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    borrow::Cow,
    cell::Cell,
    fmt,
    sync::{Arc, OnceLock},
};

use jaq_core::{
    Compiler, Ctx, DataT, Exn, Filter, Lut, Vars,
    compile::Undefined,
    data::HasLut,
    load::{self, Arena, File, Loader},
};

pub use self::{
    functions::REGEX_BYTES_MAX,
    meter::{MEMORY_BYTES_MAX, STEPS_MAX},
};
use self::{
    json::{Json, Members, counted, insert},
    meter::Stopped,
};
use crate::{
    content::{self, CONTENT_ENCODING, ContentError},
    event::Event,
    json::{NotJson, array_index},
};

/// The variable that is the rest of a batch.
const ENVELOPE: &str = "$envelope";
/// Longest expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 16 * 1024;
/// How many arrays and objects may be within each other: in a body, and in all that an expression makes.
pub const JSON_DEPTH_MAX: usize = 128;
/// Longest output of a map, in bytes: as much as a body may have.
pub const MAP_OUTPUT_BYTES_MAX: usize = 6 * 1024 * 1024;

/// What one context of jaq's takes while it is held, in bytes, with the iterator that holds it.
const CONTEXT_BYTES: usize = 512;

thread_local! {
    /// Whether the expression has called `error`: its message may be anything, and is not told.
    static ERROR_CALLED: Cell<bool> = const { Cell::new(false) };
}

/// An expression, compiled.
pub struct Jq {
    expression: String,
    filter: Filter<Jaq>,
}

impl fmt::Debug for Jq {
    /// As it was written.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Jq({:?})", self.expression)
    }
}

/// Why an expression cannot be one, and where in it; lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("jq, line {line}, column {column}: {what}")]
pub struct JqError {
    /// The line of the expression.
    pub line: usize,
    /// The column in that line, in characters.
    pub column: usize,
    /// What is wrong there.
    pub what: String,
}

/// Why an expression has no answer for a webhook. None of this becomes better by trying again, but for [`JqFailure::NoThread`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JqFailure {
    /// The body is none; lines and columns count from 1.
    #[error("the body is not JSON (line {line}, column {column})")]
    NotJson {
        /// The line of the body.
        line: usize,
        /// The column in that line, in bytes.
        column: usize,
    },
    /// The body's content coding cannot be undone.
    #[error(transparent)]
    Undecodable(ContentError),
    /// The body, or what the expression makes, goes too deep.
    #[error("arrays and objects within each other, more than {JSON_DEPTH_MAX} of them")]
    Nesting,
    /// It goes on and on.
    #[error("this takes more than {STEPS_MAX} steps")]
    Steps,
    /// It is, or makes, too much.
    #[error("this takes more than {MEMORY_BYTES_MAX} bytes of memory")]
    Memory,
    /// A function that calls itself, deeper and deeper.
    #[error("a function of the expression calls itself too often")]
    Recursion,
    /// The output of a map is too long.
    #[error("the output is longer than {MAP_OUTPUT_BYTES_MAX} bytes")]
    TooLong,
    /// No output.
    #[error("the expression gives nothing, and should give one value")]
    Nothing,
    /// Several outputs.
    #[error("the expression gives several values, and should give one")]
    Several,
    /// A number that has more digits than can be compared.
    #[error("the expression gives a number of more than 64 bits")]
    LargeNumber,
    /// The expression's own `error`.
    #[error("the expression called `error`")]
    CalledError,
    /// An operation that is not for such values.
    #[error("{0}")]
    Operation(String),
    /// A mistake in Posthouse or in jaq.
    #[error("the expression made its evaluation panic")]
    Panic,
    /// The machine has no thread left. The next attempt may have one.
    #[error("there is no thread to evaluate the expression on")]
    NoThread,
}

impl From<Stopped> for JqFailure {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Steps => Self::Steps,
            Stopped::Memory => Self::Memory,
            Stopped::Recursion => Self::Recursion,
            Stopped::Nesting => Self::Nesting,
            Stopped::Panic => Self::Panic,
            Stopped::NoThread => Self::NoThread,
        }
    }
}

impl JqFailure {
    /// Whether another attempt may go better.
    pub fn is_transient(&self) -> bool {
        *self == Self::NoThread
    }
}

/// What expressions look at: a body, parsed, and its event as `$event`. One serves all expressions of a delivery; it may take many
/// times as much memory as the body, so let go of it before waiting for anything.
#[derive(Clone)]
pub struct JqInput {
    pub(crate) body: Json,
    event: Json,
    /// The rest of a batch, which is parsed once an expression names it.
    envelope: Option<Arc<Envelope>>,
}

/// The rest of a batch.
struct Envelope {
    text: Vec<u8>,
    parsed: OnceLock<Json>,
}

impl fmt::Debug for JqInput {
    /// Nothing of the body.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JqInput(..)")
    }
}

impl JqInput {
    /// Parses the body of an event, decoded as the event's `content-encoding` says; what cannot be decoded is read as it was sent, as
    /// by [`crate::location::Places`]. Of two members of one name the later one counts.
    ///
    /// `body` is the body that the event came in; of a batch, the element is what is looked at, and the rest of it is `$envelope`.
    pub fn new(body: &[u8], event: &Event) -> Result<Self, JqFailure> {
        let codings = event.headers.get(CONTENT_ENCODING).map(String::as_str);
        let (body, undecodable) = match content::decode(body, codings) {
            Ok(decoded) => (decoded, None),
            Err(error) => (Cow::Borrowed(body), Some(error)),
        };
        let parsed = meter::run(|| {
            let envelope = event.part.map(|part| Envelope { text: part.envelope(&body), parsed: OnceLock::new() });
            let envelope = envelope.map(Arc::new);
            Ok(Self { body: read::read(event.own_part(&body))?, event: describe(event), envelope })
        })?;
        parsed.map_err(|error: NotJson| {
            let (line, column) = error.place(event.own_part(&body));
            undecodable.map_or(JqFailure::NotJson { line, column }, JqFailure::Undecodable)
        })
    }

    /// What `$envelope` is: null for what is no element of a batch.
    fn envelope(&self) -> Result<Json, JqFailure> {
        let Some(envelope) = &self.envelope else { return Ok(Json::Null) };
        if let Some(parsed) = envelope.parsed.get() {
            return Ok(parsed.clone());
        }
        let parsed = read::read(&envelope.text).map_err(|error| {
            let (line, column) = error.place(&envelope.text);
            JqFailure::NotJson { line, column }
        })?;
        Ok(envelope.parsed.get_or_init(|| parsed).clone())
    }

    /// The string, number or boolean of the body at a JSON pointer, as text.
    pub fn text_at(&self, pointer: &str) -> Option<String> {
        let mut value = &self.body;
        for part in pointer.strip_prefix('/')?.split('/') {
            value = match value {
                Json::Array(array) => array.elements.get(array_index(part)?)?,
                Json::Object(object) => object.members.get(&*part.replace("~1", "/").replace("~0", "~"))?,
                _ => return None,
            };
        }
        match value {
            Json::Text(text) => Some(text.as_ref().to_owned()),
            Json::Number(number) => Some(number.text().into_owned()),
            Json::Bool(flag) => Some(flag.to_string()),
            Json::Null | Json::Array(_) | Json::Object(_) => None,
        }
    }
}

/// The variable `$event`.
fn describe(event: &Event) -> Json {
    let object = |members: Vec<(&str, Json)>| {
        let mut described = Members::new();
        members.into_iter().for_each(|(name, value)| insert(&mut described, counted(name), value));
        Json::object(described)
    };
    let headers = event.headers.iter().map(|(name, value)| (name.as_str(), Json::text(value))).collect();
    object(vec![
        ("id", Json::text(event.key.event_id.as_str())),
        ("type", Json::text(event.event_type.as_str())),
        ("source", Json::text(event.key.source.as_str())),
        ("receivedAt", Json::text(&event.received_at.to_rfc3339())),
        ("occurredAt", event.occurred_at.map_or(Json::Null, |at| Json::text(&at.to_rfc3339()))),
        ("headers", object(headers)),
    ])
}

impl Jq {
    /// Compiles an expression. It may look at `$event` beside the body, which is `.`.
    pub fn compile(expression: &str) -> Result<Self, JqError> {
        if expression.len() > EXPRESSION_BYTES_MAX {
            let what = format!("the expression is longer than {EXPRESSION_BYTES_MAX} bytes");
            return Err(JqError { line: 1, column: 1, what });
        }
        // Brackets within each other take stack, of which there is enough on that thread.
        let compiled = meter::run(|| compile(expression))
            .unwrap_or_else(|stopped| Err(JqError { line: 1, column: 1, what: JqFailure::from(stopped).to_string() }));
        compiled.map(|filter| Self { expression: expression.to_owned(), filter })
    }

    /// The expression as it was written.
    pub fn expression(&self) -> &str {
        &self.expression
    }

    /// Its one output.
    pub fn one(&self, input: &JqInput) -> Result<serde_json::Value, JqFailure> {
        self.evaluate(input, |outputs| json::to_serde(&outputs.one()?).ok_or(JqFailure::LargeNumber))
    }

    /// Whether its one output is neither false nor null. No output is false, so that `select(…)` will do.
    pub fn is_true(&self, input: &JqInput) -> Result<bool, JqFailure> {
        self.evaluate(input, |outputs| match outputs {
            Outputs::None => Ok(false),
            outputs => outputs.one().map(|value| value.is_true()),
        })
    }

    /// Its one output, as compact JSON.
    pub fn map(&self, input: &JqInput) -> Result<Vec<u8>, JqFailure> {
        self.evaluate(input, |outputs| {
            let mut text = String::new();
            let written = outputs.one()?.write(&mut text, MAP_OUTPUT_BYTES_MAX);
            written.map(|()| text.into_bytes()).map_err(|_| JqFailure::TooLong)
        })
    }

    fn evaluate<T: Send>(
        &self,
        input: &JqInput,
        read: impl FnOnce(Outputs) -> Result<T, JqFailure> + Send,
    ) -> Result<T, JqFailure> {
        meter::run(|| read(self.outputs(input)?))?
    }

    fn outputs(&self, input: &JqInput) -> Result<Outputs, JqFailure> {
        let envelope = if self.expression.contains(ENVELOPE) { input.envelope()? } else { Json::Null };
        let context = Ctx::<Jaq>::new(Context::new(&self.filter.lut), Vars::new([input.event.clone(), envelope]));
        let mut outputs = self.filter.id.run((context, input.body.clone()));
        let Some(first) = outputs.next().transpose().map_err(failure)? else { return Ok(Outputs::None) };
        match outputs.next().transpose().map_err(failure)? {
            None => Ok(Outputs::One(first)),
            Some(_) => Ok(Outputs::Several),
        }
    }
}

/// What an expression has given.
enum Outputs {
    None,
    One(Json),
    Several,
}

impl Outputs {
    fn one(self) -> Result<Json, JqFailure> {
        match self {
            Self::None => Err(JqFailure::Nothing),
            Self::One(value) => Ok(value),
            Self::Several => Err(JqFailure::Several),
        }
    }
}

fn failure(exception: Exn<'_, Json>) -> JqFailure {
    // There is nothing else that it could be: `halt` is left out, and jaq catches all others itself.
    let Ok(error) = exception.get_err() else { return JqFailure::Panic };
    let words = error.to_string();
    if words.starts_with("cannot ") || words.starts_with("invalid path ") {
        JqFailure::Operation(words)
    } else if ERROR_CALLED.get() {
        JqFailure::CalledError
    } else {
        // The words of a function are a value, of which nothing is shown but its kind.
        JqFailure::Operation("a function of the expression cannot use what it was given".to_owned())
    }
}

fn compile(expression: &str) -> Result<Filter<Jaq>, JqError> {
    let arena = Arena::default();
    let file = File { code: expression, path: () };
    let modules = Loader::new(functions::definitions()).load(&arena, file).map_err(|errors| unreadable(expression, errors))?;
    load::import(&modules, |_: load::Import<'_, _, _>| Err("an expression reads no files".to_owned()))
        .map_err(|errors| unreadable(expression, errors))?;
    let compiler = Compiler::default().with_funs(functions::functions()).with_global_vars(["$event", ENVELOPE]);
    compiler.compile(modules).map_err(|errors| undefined(expression, errors))
}

fn unreadable(expression: &str, errors: load::Errors<&str, ()>) -> JqError {
    let error = errors.into_iter().next().map(|(_, error)| error);
    let (part, what) = match error {
        Some(load::Error::Io(errors)) => first(errors, |(part, what)| (part, what)),
        Some(load::Error::Lex(errors)) => first(errors, |(expected, part)| (part, format!("expected a {}", expected.as_str()))),
        Some(load::Error::Parse(errors)) => first(errors, |(expected, part)| {
            let found = if part.is_empty() { "the end".to_owned() } else { format!("`{}`", start_of(part)) };
            (part, format!("expected {}, found {found}", expected.as_str()))
        }),
        None => None,
    }
    .unwrap_or((expression, "this cannot be read".to_owned()));
    at(expression, part, what)
}

fn undefined(expression: &str, errors: jaq_core::compile::Errors<&str, ()>) -> JqError {
    let error = errors.into_iter().flat_map(|(_, errors)| errors).next();
    let Some((name, kind)) = error else { return at(expression, expression, "this cannot be compiled".to_owned()) };
    let why = functions::LEFT_OUT.iter().find(|(names, _)| names.contains(&name)).map(|(_, why)| format!(": {why}"));
    let what = match kind {
        Undefined::Filter(arguments) => format!("there is no function `{name}/{arguments}`"),
        Undefined::Var => format!("there is no variable `{name}`"),
        kind => format!("there is no {} `{name}`", kind.as_str()),
    };
    at(expression, name, what + &why.unwrap_or_default())
}

fn first<E, T>(errors: Vec<E>, read: impl FnOnce(E) -> T) -> Option<T> {
    errors.into_iter().next().map(read)
}

/// The first characters of what was not expected.
fn start_of(part: &str) -> &str {
    let end = part.char_indices().map(|(at, _)| at).nth(FOUND_CHARACTERS_MAX);
    &part[..end.unwrap_or(part.len())]
}

/// How much of an expression an error repeats, in characters.
const FOUND_CHARACTERS_MAX: usize = 20;

/// An error at that part of the expression.
fn at(expression: &str, part: &str, what: String) -> JqError {
    // Zero where it is no part of it, but of a definition that it stands on.
    let start = part.as_ptr().addr().checked_sub(expression.as_ptr().addr()).filter(|at| *at <= expression.len()).unwrap_or(0);
    let before = expression.get(..start).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = 1 + before.matches('\n').count();
    JqError { line, column: 1 + before[line_start..].chars().count(), what }
}

/// Ties jaq to our values and our counting.
struct Jaq;

impl DataT for Jaq {
    type V<'a> = Json;
    type Data<'a> = Context<'a>;
}

/// Where jaq finds the terms of the expression. It asks for each of them when it evaluates it, and each context that it holds has one of
/// these: so both are counted here.
struct Context<'a>(&'a Lut<Jaq>);

impl<'a> Context<'a> {
    fn new(terms: &'a Lut<Jaq>) -> Self {
        meter::spend_on_term();
        meter::allocate(CONTEXT_BYTES);
        Self(terms)
    }
}

impl Clone for Context<'_> {
    fn clone(&self) -> Self {
        Self::new(self.0)
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        meter::release(CONTEXT_BYTES);
    }
}

impl<'a> HasLut<'a, Jaq> for Context<'a> {
    fn lut(&self) -> &'a Lut<Jaq> {
        meter::spend_on_term();
        meter::check_stack();
        self.0
    }
}

// Compiled once, and used by whatever evaluates.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Jq>();
    shared::<JqInput>();
    shared::<Arc<Json>>();
};
