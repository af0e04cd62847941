//! Names that go into keys, doorbells and logs. Each is parsed once, where it comes in; inside, only the types travel.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest name of a source or destination, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest event id, in bytes. With the source it stays far below DynamoDB's 2,048 bytes for a partition key.
pub const EVENT_ID_BYTES_MAX: usize = 512;
/// Longest event type, in bytes.
pub const EVENT_TYPE_BYTES_MAX: usize = 256;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// Longer than its bound, in bytes.
    #[error("is longer than {0} bytes")]
    TooLong(usize),
    /// A character that names do not have.
    #[error("may have lower-case letters, digits and hyphens only")]
    NotLowerCase,
    /// A control character or one that is none (U+FFFE, U+FFFF): SQS refuses them, and logs would show them badly.
    #[error("has a control character")]
    ControlCharacter,
}

fn check_lower_case(text: &str) -> Result<(), NameError> {
    check_text(text, NAME_BYTES_MAX)?;
    if text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        Ok(())
    } else {
        Err(NameError::NotLowerCase)
    }
}

fn check_text(text: &str, bytes_max: usize) -> Result<(), NameError> {
    if text.is_empty() {
        Err(NameError::Empty)
    } else if text.len() > bytes_max {
        Err(NameError::TooLong(bytes_max))
    } else if text.chars().any(is_unprintable) {
        Err(NameError::ControlCharacter)
    } else {
        Ok(())
    }
}

/// Whether SQS takes this character in no message (SendMessage's reference lists those that it takes), or only as white space.
pub(crate) fn is_unprintable(character: char) -> bool {
    character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}')
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Parses the name, or says why it is not one.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                $check(text)?;
                Ok(Self(text.to_owned()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }
    };
}

name!(
    /// The name of a configured sender: lower-case letters, digits and hyphens, at most [`NAME_BYTES_MAX`] bytes.
    SourceName,
    check_lower_case
);
name!(
    /// The name of a place that events go to: same form as [`SourceName`].
    DestinationName,
    check_lower_case
);
name!(
    /// The sender's own id of an event: any text without control characters, at most [`EVENT_ID_BYTES_MAX`] bytes.
    EventId,
    |text| check_text(text, EVENT_ID_BYTES_MAX)
);
name!(
    /// The sender's word for what happened, as `invoice.paid`: at most [`EVENT_TYPE_BYTES_MAX`] bytes.
    EventType,
    |text| check_text(text, EVENT_TYPE_BYTES_MAX)
);

impl EventType {
    /// The type of an event whose sender gave none.
    pub fn unknown() -> Self {
        Self("unknown".to_owned())
    }

    /// The type of an event that has one which cannot be read, or whose id cannot be.
    pub fn unreadable() -> Self {
        Self("unreadable".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sources_hold_on_both_sides_of_every_bound() {
        assert!(SourceName::parse("github-2").is_ok());
        assert!(SourceName::parse(&"a".repeat(NAME_BYTES_MAX)).is_ok());
        assert_eq!(SourceName::parse(&"a".repeat(NAME_BYTES_MAX + 1)), Err(NameError::TooLong(NAME_BYTES_MAX)));
        assert_eq!(SourceName::parse(""), Err(NameError::Empty));
        for not_lower in ["GitHub", "a#b", "a/b", "a b", "é"] {
            assert_eq!(SourceName::parse(not_lower), Err(NameError::NotLowerCase), "{not_lower}");
        }
    }

    #[test]
    fn event_ids_hold_on_both_sides_of_every_bound() {
        assert!(EventId::parse("evt_1#2 é").is_ok());
        assert!(EventId::parse(&"a".repeat(EVENT_ID_BYTES_MAX)).is_ok());
        assert_eq!(EventId::parse(&"a".repeat(EVENT_ID_BYTES_MAX + 1)), Err(NameError::TooLong(EVENT_ID_BYTES_MAX)));
        assert_eq!(EventId::parse("a\nb"), Err(NameError::ControlCharacter));
        assert_eq!(EventId::parse("a\0"), Err(NameError::ControlCharacter));
        assert_eq!(EventId::parse("a\u{fffe}"), Err(NameError::ControlCharacter));
        assert_eq!(EventId::parse("a\u{ffff}"), Err(NameError::ControlCharacter));
        assert!(EventId::parse("a\u{fffd}\u{10ffff}").is_ok());
    }

    #[test]
    fn a_bad_name_does_not_deserialize() {
        assert!(serde_json::from_str::<SourceName>(r#""git hub""#).is_err());
        assert_eq!(serde_json::to_string(&SourceName::parse("github").unwrap()).unwrap(), r#""github""#);
    }
}
