//! Event-type patterns of routes.

use crate::names::EventType;

/// `invoice.paid`, `invoice.*` or `*`: a star stands for any text, and only at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// This type alone.
    Exact(String),
    /// Every type that starts so.
    Prefix(String),
}

impl Pattern {
    /// Parses a pattern, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (prefix, star) = text.strip_suffix('*').map_or((text, false), |prefix| (prefix, true));
        match (prefix.contains('*'), star, prefix.is_empty()) {
            (true, _, _) => Err(format!("the pattern `{text}` has a star before its end; write it like `invoice.*`")),
            (_, false, true) => Err("a pattern is empty; `*` matches every type".to_owned()),
            (_, true, _) => Ok(Self::Prefix(prefix.to_owned())),
            (_, false, _) => Ok(Self::Exact(prefix.to_owned())),
        }
    }

    /// Whether it is this type and no other.
    pub fn names(&self, event_type: &EventType) -> bool {
        matches!(self, Self::Exact(text) if event_type.as_str() == text)
    }

    /// Whether a route with this pattern takes events of this type.
    pub fn matches(&self, event_type: &EventType) -> bool {
        match self {
            Self::Exact(text) => event_type.as_str() == text,
            Self::Prefix(prefix) => event_type.as_str().starts_with(prefix.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_what_it_says() {
        let matches =
            |pattern: &str, event_type: &str| Pattern::parse(pattern).unwrap().matches(&EventType::parse(event_type).unwrap());
        assert!(matches("*", "push"));
        assert!(matches("invoice.*", "invoice.paid"));
        assert!(!matches("invoice.*", "invoice"));
        assert!(!matches("invoice.*", "invoices.paid"));
        assert!(matches("push", "push"));
        assert!(!matches("push", "pushed"));
    }

    #[test]
    fn a_pattern_that_cannot_be_meant_is_refused() {
        assert!(Pattern::parse("*.paid").is_err());
        assert!(Pattern::parse("a**").is_err());
        assert!(Pattern::parse("").is_err());
    }
}
