//! DynamoDB's numbers: decimals of up to 38 significant digits.

use std::{cmp::Ordering, fmt, str::FromStr};

/// Most significant digits (DynamoDB's limit).
const DIGITS_MAX: usize = 38;
/// Largest exponent of the first digit: 9.99…E+125 is the largest number.
const MAGNITUDE_MAX: i32 = 125;
/// Smallest exponent of the first digit: 1E-130 is the smallest number above zero.
const MAGNITUDE_MIN: i32 = -130;

/// A number as DynamoDB keeps it: `mantissa * 10^exponent`, without zeros at the mantissa's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Number {
    mantissa: i128,
    exponent: i32,
}

impl Number {
    /// A whole number.
    #[must_use]
    pub fn whole(value: i128) -> Self {
        Self { mantissa: value, exponent: 0 }.without_zeros()
    }

    /// The number, if it is a whole one that fits.
    #[must_use]
    pub fn to_u64(self) -> Option<u64> {
        let scale = 10_i128.checked_pow(u32::try_from(self.exponent).ok()?)?;
        u64::try_from(self.mantissa.checked_mul(scale)?).ok()
    }

    /// The sum, or what DynamoDB says of it.
    pub(super) fn plus(self, other: Self) -> Result<Self, String> {
        let (low, high) = if self.exponent <= other.exponent { (self, other) } else { (other, self) };
        let precision = || "Number overflow. Attempting to store a number with more than 38 significant digits".to_owned();
        let shift = high.exponent.abs_diff(low.exponent);
        let scaled = 10_i128.checked_pow(shift).and_then(|scale| high.mantissa.checked_mul(scale));
        let scaled = if high.mantissa == 0 { Some(0) } else { scaled };
        let mantissa = scaled.and_then(|scaled| scaled.checked_add(low.mantissa)).ok_or_else(precision)?;
        Self { mantissa, exponent: low.exponent }.without_zeros().bounded()
    }

    pub(super) fn negated(self) -> Self {
        Self { mantissa: -self.mantissa, ..self }
    }

    /// What it counts for in an item's size: a byte for two digits, one for the whole, one for the sign.
    pub(super) fn size(self) -> usize {
        1 + digits(self.mantissa).div_ceil(2) + usize::from(self.mantissa < 0)
    }

    fn without_zeros(mut self) -> Self {
        if self.mantissa == 0 {
            return Self { mantissa: 0, exponent: 0 };
        }
        while self.mantissa % 10 == 0 {
            self.mantissa /= 10;
            self.exponent += 1;
        }
        self
    }

    fn bounded(self) -> Result<Self, String> {
        if self.mantissa == 0 {
            return Ok(self);
        }
        if digits(self.mantissa) > DIGITS_MAX {
            return Err("Attempting to store more than 38 significant digits in a Number".to_owned());
        }
        match self.magnitude() {
            MAGNITUDE_MIN..=MAGNITUDE_MAX => Ok(self),
            ..MAGNITUDE_MIN => {
                Err("Number underflow. Attempting to store a number with magnitude smaller than supported range".to_owned())
            }
            _ => Err("Number overflow. Attempting to store a number with magnitude larger than supported range".to_owned()),
        }
    }

    /// The exponent of the first digit.
    fn magnitude(self) -> i32 {
        self.exponent + i32::try_from(digits(self.mantissa)).unwrap_or(i32::MAX) - 1
    }
}

fn digits(mantissa: i128) -> usize {
    mantissa.unsigned_abs().checked_ilog10().map_or(1, |log| usize::try_from(log).unwrap_or(0) + 1)
}

impl FromStr for Number {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // What nearly all numbers are.
        if text.len() <= 18 && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse::<i64>().map(|whole| Self::whole(whole.into())).map_err(|error| error.to_string());
        }
        let refused = || format!("The parameter cannot be converted to a numeric value: {text}");
        let (unsigned, negative) = match text.as_bytes().first() {
            Some(b'-') => (&text[1..], true),
            Some(b'+') => (&text[1..], false),
            _ => (text, false),
        };
        let (digits, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], unsigned[at + 1..].parse::<i32>().map_err(|_| refused())?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.len() + fraction.len() == 0 || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
            return Err(refused());
        }
        let all = format!("{whole}{fraction}");
        let significant = all.trim_start_matches('0').trim_end_matches('0');
        if significant.len() > DIGITS_MAX {
            return Err("Attempting to store more than 38 significant digits in a Number".to_owned());
        }
        let zeros = all.len() - all.trim_end_matches('0').len();
        let mantissa: i128 = if significant.is_empty() { 0 } else { significant.parse().map_err(|_| refused())? };
        let shift = i32::try_from(zeros).unwrap_or(i32::MAX).saturating_sub(i32::try_from(fraction.len()).unwrap_or(i32::MAX));
        let mantissa = if negative { -mantissa } else { mantissa };
        Self { mantissa, exponent: exponent.saturating_add(shift) }.without_zeros().bounded()
    }
}

impl fmt::Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.mantissa.unsigned_abs().to_string();
        if self.mantissa < 0 {
            formatter.write_str("-")?;
        }
        let point = i32::try_from(digits.len()).unwrap_or(i32::MAX) + self.exponent;
        match (self.exponent, usize::try_from(point)) {
            (0.., _) => write!(formatter, "{digits}{}", "0".repeat(usize::try_from(self.exponent).unwrap_or(0))),
            (_, Ok(point)) if point > 0 => write!(formatter, "{}.{}", &digits[..point], &digits[point..]),
            _ => write!(formatter, "0.{}{digits}", "0".repeat(usize::try_from(-point).unwrap_or(0))),
        }
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let signs = self.mantissa.signum().cmp(&other.mantissa.signum());
        if signs != Ordering::Equal || self.mantissa == 0 {
            return signs;
        }
        let magnitudes = self.magnitude().cmp(&other.magnitude()).then_with(|| {
            // Of the same magnitude, so the scaled one has no more than 38 digits.
            let scaled = |number: &Self, other: &Self| {
                let shift = u32::try_from(number.exponent.saturating_sub(other.exponent)).unwrap_or(0);
                number.mantissa.abs() * 10_i128.pow(shift)
            };
            scaled(self, other).cmp(&scaled(other, self))
        });
        if self.mantissa < 0 { magnitudes.reverse() } else { magnitudes }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> Number {
        text.parse().unwrap()
    }

    #[test]
    fn numbers_are_written_without_what_says_nothing() {
        for (text, expected) in [
            ("0", "0"),
            ("-0.0", "0"),
            ("007", "7"),
            ("1e2", "100"),
            ("1.50", "1.5"),
            ("-0.0012", "-0.0012"),
            ("1795328675123", "1795328675123"),
            ("12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
        ] {
            assert_eq!(number(text).to_string(), expected, "{text}");
        }
        for text in ["", "-", ".", "1e", "x", "1 ", "0x1", "123456789012345678901234567890123456789", "1e126", "1e-131"] {
            assert!(text.parse::<Number>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn sums_and_order_are_those_of_fractions(a in -1_000_000_i64..1_000_000, b in -1_000_000_i64..1_000_000, x in 0..4_u32, y in 0..4_u32) {
            let left = number(&format!("{a}e-{x}"));
            let right = number(&format!("{b}e-{y}"));
            let scaled = |value: i64, exponent: u32| i128::from(value) * 10_i128.pow(4 - exponent);
            prop_assert_eq!(left.cmp(&right), scaled(a, x).cmp(&scaled(b, y)));
            prop_assert_eq!(left.plus(right).unwrap(), number(&format!("{}e-4", scaled(a, x) + scaled(b, y))));
            prop_assert_eq!(number(&left.to_string()), left);
        }
    }
}
