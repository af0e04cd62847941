//! The functions that an expression may call.
//!
//! Those that would give something else in another attempt, or reach out of the expression, are left out: [`LEFT_OUT`] says why.

use std::cell::RefCell;

use jaq_core::{
    Bind, Cv, Error, Exn, RunPtr, ValR, ValT as _, ValXs,
    load::{self, parse::Def},
    native::{Filter, Fun, bome, run, unary, v},
};
use jaq_std::ValT as _;
use regex_bites::{Captures, Regex, RegexBuilder};

use super::{
    Jaq,
    json::{Json, Members, concatenate, counted, insert, push},
    meter,
    number::Number,
    read::read,
};

/// Largest regular expression, in bytes once it is compiled.
pub const REGEX_BYTES_MAX: usize = 64 * 1024;

/// Smallest size that a regular expression is taken to have.
const REGEX_BYTES_MIN: usize = 256;
/// So many bytes of a compiled regular expression are about one step for each byte of the text that it is tried on.
const REGEX_BYTES_PER_STEP: usize = 512;
/// So many bytes of a compiled regular expression take about one step to compile.
const REGEX_COMPILED_BYTES_PER_STEP: usize = 16;

/// What jq users may look for, and why it is not here.
pub(super) const LEFT_OUT: [(&[&str], &str); 4] = [
    (&["now", "localtime", "strflocaltime"], "an expression gives the same in every attempt, wherever it runs"),
    (&["env", "$ENV", "$__prog_args"], "an expression sees the webhook and nothing of the function"),
    (&["input", "inputs", "input_filename", "input_line_number"], "the webhook is the only input"),
    (&["debug", "stderr", "halt", "halt_error"], "an expression has its output alone"),
];

/// Those of jaq's standard library that are let in. What an upgrade brings is not.
const STANDARD: &[&str] = &[
    // On any value
    "floor",
    "round",
    "ceil",
    "utf8bytelength",
    "explode",
    "implode",
    "ascii_downcase",
    "ascii_upcase",
    "reverse",
    "sort",
    "sort_by",
    "group_by",
    "min_by_or_empty",
    "max_by_or_empty",
    "startswith",
    "endswith",
    "ltrimstr",
    "rtrimstr",
    "trim",
    "ltrim",
    "rtrim",
    "escape_sh",
    // Formats
    "escape_html",
    "unescape_html",
    "encode_uri",
    "decode_uri",
    "encode_base64",
    "decode_base64",
    // Time
    "fromdateiso8601",
    "todateiso8601",
    "strftime",
    "gmtime",
    "strptime",
    "mktime",
    // Mathematics
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "cbrt",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "exp10",
    "exp2",
    "expm1",
    "fabs",
    "frexp",
    "ilogb",
    "j0",
    "j1",
    "lgamma",
    "log",
    "log10",
    "log1p",
    "log2",
    "modf",
    "nearbyint",
    "rint",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "tgamma",
    "trunc",
    "y0",
    "y1",
    "atan2",
    "copysign",
    "fdim",
    "fmax",
    "fmin",
    "fmod",
    "hypot",
    "jn",
    "ldexp",
    "nextafter",
    "pow",
    "remainder",
    "scalbln",
    "yn",
    "fma",
];

/// Definitions that stand on a function that is left out, or that we have as a function.
const UNDEFINED: [&str; 6] = ["debug", "stderr", "halt", "halt_error", "isnan", "join"];

/// The definitions, which are written in jq.
pub(super) fn definitions() -> impl Iterator<Item = Def<&'static str>> {
    let own = load::parse(include_str!("builtins.jq"), |parser| parser.defs()).unwrap_or_default();
    let given = jaq_core::defs().chain(jaq_std::defs()).filter(|definition| !UNDEFINED.contains(&definition.name));
    given.chain(own)
}

/// The functions, which are written in Rust.
pub(super) fn functions() -> impl Iterator<Item = Fun<Jaq>> {
    // Ours has the name of one of the core, and is the first to be found.
    let standard = jaq_std::funs().filter(|(name, ..)| STANDARD.contains(name));
    own().into_iter().map(run::<Jaq>).chain(jaq_core::funs()).chain(standard)
}

fn own() -> [Filter<RunPtr<Jaq>>; 14] {
    let two = || [Bind::Var(()), Bind::Var(())].into();
    [
        ("error_empty", v(0), |cv| {
            super::ERROR_CALLED.set(true);
            bome(Err(Error::new(cv.1)))
        }),
        ("isnan", v(0), |cv| bome(is_nan(&cv.1))),
        ("tonumber", v(0), |cv| bome(to_number(cv.1))),
        ("fromjson", v(0), |cv| bome(from_json(cv.1))),
        ("tojson", v(0), |cv| bome(Ok(cv.1.to_text()))),
        ("length", v(0), |cv| bome(length(cv.1))),
        ("contains", v(1), |cv| unary(cv, |value, part| Ok(value.contains(&part).into()))),
        ("has", v(1), |cv| unary(cv, |value, index| Ok(value.find(&index)?.is_some().into()))),
        ("indices", v(1), |cv| unary(cv, |value, sought| value.indices(&sought))),
        ("bsearch", v(1), |cv| unary(cv, |value, sought| search(&value, &sought))),
        ("join", v(1), |cv| unary(cv, |values, separator| join(&values, &separator))),
        ("matches", two(), |cv| matched(cv, Parts::Matches)),
        ("split_matches", two(), |cv| matched(cv, Parts::Both)),
        ("split_", two(), |cv| matched(cv, Parts::Between)),
    ]
}

fn is_nan(value: &Json) -> ValR<Json> {
    let float = value.as_f64().ok_or_else(|| Error::typ(value.clone(), "a number"))?;
    Ok(float.is_nan().into())
}

fn to_number(value: Json) -> ValR<Json> {
    let read = match &value {
        Json::Number(_) => return Ok(value),
        Json::Text(text) => read(text.as_bytes()).ok(),
        _ => None,
    };
    read.filter(|read| matches!(read, Json::Number(_))).ok_or_else(|| Error::typ(value, "a number"))
}

fn from_json(value: Json) -> ValR<Json> {
    let read = value.as_text().and_then(|text| read(text.as_bytes()).ok());
    read.ok_or_else(|| Error::typ(value, "JSON"))
}

fn length(value: Json) -> ValR<Json> {
    Ok(match value {
        Json::Null => 0_usize.into(),
        Json::Number(number) => Json::number(number.absolute()),
        Json::Text(text) => {
            meter::spend_on_text(text.len());
            text.chars().count().into()
        }
        Json::Array(array) => array.elements.len().into(),
        Json::Object(object) => object.members.len().into(),
        Json::Bool(_) => return Err(Error::typ(value, "what has a length")),
    })
}

/// Where `sought` stands in a sorted array, or -1 less the place where it would.
fn search(value: &Json, sought: &Json) -> ValR<Json> {
    let Json::Array(array) = value else { return Err(Error::typ(value.clone(), "an array")) };
    let at = match array.elements.binary_search(sought) {
        Ok(at) => return Ok(at.into()),
        Err(at) => Json::from(at),
    };
    Json::Number(Number::Int(-1)) - at
}

/// The parts of an array as one string. jaq's own definition copies what it has with each part.
fn join(values: &Json, separator: &Json) -> ValR<Json> {
    let Json::Array(array) = values else { return Err(Error::typ(values.clone(), "an array")) };
    let written = |value: &Json| match value {
        Json::Null => Ok(Json::text("")),
        Json::Array(_) | Json::Object(_) => Err(Error::typ(value.clone(), "a part of a string")),
        value => Ok(value.clone().into_string()),
    };
    let texts = array.elements.iter().map(written).collect::<Result<Vec<_>, _>>()?;
    let separator = separator.as_text().ok_or_else(|| Error::typ(separator.clone(), "a string"))?;
    let texts: Vec<&str> = texts.iter().filter_map(Json::as_text).collect();
    let mut parts = Vec::with_capacity(2 * texts.len());
    for (at, text) in texts.into_iter().enumerate() {
        if at > 0 {
            parts.push(separator);
        }
        parts.push(text);
    }
    Ok(concatenate(&parts))
}

/// What a search with a regular expression gives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    Matches,
    Between,
    Both,
}

fn matched(mut cv: Cv<'_, Jaq>, wanted: Parts) -> ValXs<'_, Json> {
    let flags = cv.0.pop_var();
    let pattern = cv.0.pop_var();
    let found = Pattern::read(&pattern, &flags).and_then(|pattern| {
        let text = cv.1.as_text().ok_or_else(|| Error::typ(cv.1.clone(), "a string"))?;
        pattern.search(text, wanted)
    });
    Box::new(std::iter::once(found.map_err(Exn::from)))
}

/// A regular expression that is ready. It is kept on its thread, since the same one is mostly tried on many texts.
#[derive(Clone)]
struct Pattern {
    text: Json,
    flags: Json,
    regex: std::sync::Arc<Regex>,
    bytes: usize,
    is_global: bool,
    skips_empty: bool,
}

thread_local! {
    static LAST: RefCell<Option<Pattern>> = const { RefCell::new(None) };
}

impl Pattern {
    fn read(text: &Json, flags: &Json) -> Result<Self, Error<Json>> {
        let last = LAST.with_borrow(|last| last.clone().filter(|last| last.text == *text && last.flags == *flags));
        if let Some(last) = last {
            return Ok(last);
        }
        let written = text.as_text().ok_or_else(|| Error::typ(text.clone(), "a regular expression"))?;
        let letters = flags.as_text().filter(|flags| flags.chars().all(|flag| "gnimslxp".contains(flag)));
        let letters = letters.ok_or_else(|| Error::typ(flags.clone(), "flags of a regular expression"))?;
        let has = |letter| letters.contains(letter);
        let mut builder = RegexBuilder::new(written);
        builder
            .case_insensitive(has('i'))
            .multi_line(has('m') || has('p'))
            .dot_matches_new_line(has('s') || has('p'))
            .swap_greed(has('l'))
            .ignore_whitespace(has('x'));
        // Its size is what a search costs, and it is not told: so it is the smallest limit that lets it be.
        let mut bytes = REGEX_BYTES_MIN;
        let regex = loop {
            meter::spend((written.len() + bytes) / REGEX_COMPILED_BYTES_PER_STEP);
            match builder.size_limit(bytes).build() {
                Ok(regex) => break regex,
                Err(_) if bytes < REGEX_BYTES_MAX => bytes *= 2,
                Err(_) => return Err(Error::typ(text.clone(), "a regular expression")),
            }
        };
        let pattern = Self {
            text: text.clone(),
            flags: flags.clone(),
            regex: regex.into(),
            bytes,
            is_global: has('g'),
            skips_empty: has('n'),
        };
        LAST.set(Some(pattern.clone()));
        Ok(pattern)
    }

    fn search(&self, text: &str, wanted: Parts) -> ValR<Json> {
        let (mut parts, mut after, mut characters) = (Vec::new(), 0, 0);
        let mut found = self.regex.captures_iter(text);
        loop {
            // Each search may look at all of the rest, also where the match that it finds is short.
            meter::spend(1 + (text.len() - after) * self.bytes / REGEX_BYTES_PER_STEP);
            let Some(captures) = found.next() else { break };
            let Some(whole) = captures.get(0) else { break };
            if self.skips_empty && whole.as_str().is_empty() {
                continue;
            }
            let between = &text[after..whole.start()];
            characters += between.chars().count();
            if wanted != Parts::Matches {
                push(&mut parts, Json::text(between));
            }
            if wanted != Parts::Between {
                push(&mut parts, self.describe(&captures, text, whole.start(), characters));
            }
            characters += whole.as_str().chars().count();
            after = whole.end();
            if !self.is_global {
                break;
            }
        }
        if wanted != Parts::Matches {
            push(&mut parts, Json::text(&text[after..]));
        }
        Ok(Json::array(parts))
    }

    /// The match and those of its groups that are part of it. `start` is where it stands, in bytes, and `characters` in characters.
    fn describe(&self, captures: &Captures<'_>, text: &str, start: usize, characters: usize) -> Json {
        let mut groups = Vec::new();
        for (group, name) in captures.iter().zip(self.regex.capture_names()) {
            let Some(group) = group else { continue };
            let offset = characters + text[start..group.start()].chars().count();
            let mut described = Members::new();
            insert(&mut described, counted("offset"), offset.into());
            insert(&mut described, counted("length"), group.as_str().chars().count().into());
            insert(&mut described, counted("string"), Json::text(group.as_str()));
            if let Some(name) = name {
                insert(&mut described, counted("name"), Json::text(name));
            }
            push(&mut groups, Json::object(described));
        }
        Json::array(groups)
    }
}
