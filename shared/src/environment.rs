//! Reading a function's environment at cold start: what is missing or wrong is named, and nothing has a default.

use std::str::FromStr;

/// An environment variable that is missing or cannot be read as what it should be.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// Not set, or not Unicode.
    #[error("the environment variable {0} is not set; infra/template.yaml sets it for every function that needs it")]
    Missing(&'static str),
    /// Set, but not of its type.
    #[error("the environment variable {name} cannot be read: {reason}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
}

/// The variable's text, which must not be empty.
pub fn required(name: &'static str) -> Result<String, EnvironmentError> {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => Ok(value),
        _ => Err(EnvironmentError::Missing(name)),
    }
}

/// The variable's text, which may be empty: then there is none. It must be set.
pub fn optional(name: &'static str) -> Result<Option<String>, EnvironmentError> {
    let value = std::env::var(name).map_err(|_| EnvironmentError::Missing(name))?;
    Ok(Some(value).filter(|value| !value.is_empty()))
}

/// The variable's value, parsed.
pub fn required_parsed<T>(name: &'static str) -> Result<T, EnvironmentError>
where
    T: FromStr<Err: std::fmt::Display>,
{
    required(name)?.parse().map_err(|reason: T::Err| EnvironmentError::Invalid { name, reason: reason.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_variable_is_named() {
        let error = required_parsed::<u32>("POSTHOUSE_TEST_NOT_SET").unwrap_err();
        assert!(error.to_string().contains("POSTHOUSE_TEST_NOT_SET"));
    }

    #[test]
    fn a_variable_of_the_wrong_type_is_named() {
        // PATH is set wherever cargo runs, and is no number.
        let error = required_parsed::<u32>("PATH").unwrap_err();
        assert!(error.to_string().contains("PATH cannot be read"));
    }
}
