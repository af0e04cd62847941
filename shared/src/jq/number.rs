//! A JSON number that survives: what nobody computes with leaves as it was written.

use std::{borrow::Cow, cmp::Ordering, sync::Arc};

/// Past so many digits no text is an integer that is computed with exactly.
const EXACT_DIGITS_MAX: usize = 39;
/// From here on a float is written with an exponent.
const PLAIN_FLOAT_MAX: f64 = 1e16;

/// A number.
#[derive(Clone, Debug)]
pub(crate) enum Number {
    /// A 64-bit integer.
    Int(i64),
    /// What was computed, and is no such integer.
    Float(f64),
    /// Any other, as it was written.
    Written(Arc<str>),
}

/// What a number is compared and computed by.
enum Exact {
    Integer(i128),
    Float(f64),
}

impl Number {
    /// Of the text of a JSON number.
    pub(crate) fn of_text(text: &str) -> Self {
        match text.parse() {
            // `-0` is not `0`.
            Ok(integer) if integer != 0 || text == "0" => Self::Int(integer),
            _ => Self::Written(text.into()),
        }
    }

    fn of_integer(integer: i128) -> Self {
        i64::try_from(integer).map_or_else(|_| Self::Written(integer.to_string().into()), Self::Int)
    }

    /// The integer that this is, if it has less than 39 digits.
    pub(crate) fn integer(&self) -> Option<i128> {
        match self.exact() {
            Exact::Integer(integer) => Some(integer),
            Exact::Float(_) => None,
        }
    }

    /// Whether it has neither a fraction nor an exponent.
    pub(crate) fn is_written_as_integer(&self) -> bool {
        match self {
            Self::Int(_) => true,
            Self::Float(_) => false,
            Self::Written(text) => !text.contains(['.', 'e', 'E']),
        }
    }

    /// The nearest float.
    pub(crate) fn float(&self) -> f64 {
        match self {
            // Nearest is what is wanted.
            Self::Int(integer) => *integer as f64,
            Self::Float(float) => *float,
            Self::Written(text) => text.parse().unwrap_or(f64::NAN),
        }
    }

    /// As JSON has it, which has no infinity and no NaN: they are written as jq writes them.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Int(integer) => Cow::Owned(integer.to_string()),
            Self::Written(text) => Cow::Borrowed(text),
            Self::Float(float) if float.is_nan() => Cow::Borrowed("null"),
            Self::Float(float) => {
                let float = float.clamp(f64::MIN, f64::MAX);
                let is_plain = float.fract() == 0.0 && float.abs() < PLAIN_FLOAT_MAX;
                Cow::Owned(if is_plain { format!("{float}") } else { format!("{float:?}") })
            }
        }
    }

    /// The memory beside the value itself, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Int(_) | Self::Float(_) => 0,
            Self::Written(text) => text.len(),
        }
    }

    fn exact(&self) -> Exact {
        if let Self::Int(integer) = self {
            return Exact::Integer(i128::from(*integer));
        }
        if let Self::Written(text) = self
            && text.len() <= EXACT_DIGITS_MAX
            && let Ok(integer) = text.parse()
        {
            return Exact::Integer(integer);
        }
        let float = self.float();
        // Every float below 2^127 that has no fraction is an integer of 128 bits.
        let is_integer = float.fract() == 0.0 && float.abs() < 2_f64.powi(127);
        if is_integer { Exact::Integer(float as i128) } else { Exact::Float(float) }
    }

    fn compute(
        &self,
        other: &Self,
        exactly: impl FnOnce(i128, i128) -> Option<i128>,
        nearly: impl FnOnce(f64, f64) -> f64,
    ) -> Self {
        let exact = self.integer().zip(other.integer()).and_then(|(left, right)| exactly(left, right));
        exact.map_or_else(|| Self::Float(nearly(self.float(), other.float())), Self::of_integer)
    }

    pub(crate) fn add(&self, other: &Self) -> Self {
        self.compute(other, i128::checked_add, |left, right| left + right)
    }

    pub(crate) fn subtract(&self, other: &Self) -> Self {
        self.compute(other, i128::checked_sub, |left, right| left - right)
    }

    pub(crate) fn multiply(&self, other: &Self) -> Self {
        self.compute(other, i128::checked_mul, |left, right| left * right)
    }

    pub(crate) fn divide(&self, other: &Self) -> Self {
        let even = |left: i128, right: i128| if left.checked_rem(right)? == 0 { left.checked_div(right) } else { None };
        self.compute(other, even, |left, right| left / right)
    }

    /// `None` for an integer by zero.
    pub(crate) fn remainder(&self, other: &Self) -> Option<Self> {
        let is_by_zero = matches!((self.exact(), other.exact()), (Exact::Integer(_), Exact::Integer(0)));
        (!is_by_zero).then(|| self.compute(other, i128::checked_rem, |left, right| left % right))
    }

    pub(crate) fn negate(&self) -> Self {
        match self {
            Self::Int(integer) => Self::of_integer(-i128::from(*integer)),
            Self::Float(float) => Self::Float(-float),
            Self::Written(text) => match text.strip_prefix('-') {
                Some(positive) => Self::of_text(positive),
                None => Self::of_text(&format!("-{text}")),
            },
        }
    }

    pub(crate) fn absolute(&self) -> Self {
        if self.float() < 0.0 { self.negate() } else { self.clone() }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    /// Integers exactly, others by their nearest float; NaN is less than any number, as in jq. This is a total order, which sorting
    /// demands: a float beyond the integers is never equal to one of them, and a NaN only to a NaN.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.exact(), other.exact()) {
            (Exact::Integer(left), Exact::Integer(right)) => left.cmp(&right),
            (Exact::Float(left), Exact::Float(right)) => compare_floats(left, right),
            (Exact::Integer(left), Exact::Float(right)) => compare_to_float(left, right),
            (Exact::Float(left), Exact::Integer(right)) => compare_to_float(right, left).reverse(),
        }
    }
}

fn compare_floats(left: f64, right: f64) -> Ordering {
    left.partial_cmp(&right).unwrap_or_else(|| right.is_nan().cmp(&left.is_nan()))
}

/// `float` is no integer that `i128` holds.
fn compare_to_float(integer: i128, float: f64) -> Ordering {
    // Rounding to the nearest float moves no integer past a float, but may reach the first one that is beyond all integers.
    compare_floats(integer as f64, float).then(if float > 0.0 { Ordering::Less } else { Ordering::Greater })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        Number::of_text(text)
    }

    #[test]
    fn a_number_is_written_as_it_came() {
        for text in ["0", "-0", "7", "-7", "12.10", "1e400", "1E2", "0.1", "9223372036854775807", "9223372036854775808", "1.0"] {
            assert_eq!(number(text).text(), text);
        }
        assert!(matches!(number("9223372036854775807"), Number::Int(i64::MAX)));
        assert!(matches!(number("9223372036854775808"), Number::Written(_)));
    }

    #[test]
    fn integers_are_computed_exactly_as_far_as_128_bits_go() {
        let sum = |left: &str, right: &str| number(left).add(&number(right)).text().into_owned();
        assert_eq!(sum("9007199254740993", "2"), "9007199254740995");
        assert_eq!(sum("18446744073709551615", "1"), "18446744073709551616");
        assert_eq!(sum(&i128::MAX.to_string(), "0"), i128::MAX.to_string());
        assert_eq!(sum(&i128::MAX.to_string(), "1"), "1.7014118346046923e38");
        assert_eq!(sum("0.5", "0.5"), "1");
        assert_eq!(number("6").divide(&number("3")).text(), "2");
        assert_eq!(number("1").divide(&number("4")).text(), "0.25");
        assert_eq!(number("7").remainder(&number("-4")), Some(number("3")));
        assert_eq!(number("7").remainder(&number("0")), None);
        assert_eq!(number("-9223372036854775808").negate().text(), "9223372036854775808");
        assert_eq!(number("12.10").negate().negate().text(), "12.10");
        assert_eq!(number("-12.10").absolute().text(), "12.10");
    }

    #[test]
    fn what_json_has_no_number_for_is_written_as_jq_does() {
        assert_eq!(Number::Float(f64::NAN).text(), "null");
        assert_eq!(Number::Float(f64::INFINITY).text(), "1.7976931348623157e308");
        assert_eq!(Number::Float(f64::NEG_INFINITY).text(), "-1.7976931348623157e308");
        assert_eq!(Number::Float(1e15).text(), "1000000000000000");
        assert_eq!(Number::Float(1e16).text(), "1e16");
        assert_eq!(Number::Float(1e-7).text(), "1e-7");
    }

    #[test]
    fn the_order_is_total() {
        let mut numbers: Vec<Number> = [
            "-1e400",
            "-170141183460469231731687303715884105728",
            "-1.5",
            "-1",
            "-0",
            "0",
            "0.0",
            "0.5",
            "1",
            "1.0",
            "9007199254740992",
            "9007199254740992.0",
            "9007199254740993",
            "18446744073709551614",
            "18446744073709551615",
            "170141183460469231731687303715884105727",
            "170141183460469231731687303715884105728",
            "1e39",
            "1e400",
        ]
        .map(number)
        .into();
        numbers.insert(0, Number::Float(f64::NAN));
        for (at, left) in numbers.iter().enumerate() {
            for (after, right) in numbers.iter().enumerate() {
                let order = left.cmp(right);
                assert!(order == at.cmp(&after) || order == Ordering::Equal, "{left:?} {right:?}");
                for third in &numbers {
                    if order != Ordering::Greater && right.cmp(third) != Ordering::Greater {
                        assert_ne!(left.cmp(third), Ordering::Greater, "{left:?} {right:?} {third:?}");
                        let both = order == Ordering::Equal && right.cmp(third) == Ordering::Equal;
                        assert_eq!(both, left.cmp(third) == Ordering::Equal, "{left:?} {right:?} {third:?}");
                    }
                }
            }
        }
        assert_ne!(number("18446744073709551614"), number("18446744073709551615"));
        assert_eq!(number("1.0"), number("1"));
    }
}
