//! What a request of a provider's handshake would be answered.

use serde_json::Value;
use shared::{
    config::Source,
    door::{Rejection, Verdict},
};

use crate::{judgement::Judged, vector::ExpectedAnswer};

/// Says how the answer differs from the expected one, if it does. Enrolment counts as open. Where the answer has our own words, which
/// no protocol prescribes, only its status counts.
pub(crate) fn disagreement(
    source: &Source,
    verdict: &Result<Verdict<'_>, Rejection>,
    expected: &ExpectedAnswer,
) -> Option<String> {
    let status = Judged::of(source, verdict).status;
    if status != expected.status {
        return Some(format!("expected status {}, got {status}", expected.status));
    }
    let answer = match verdict {
        Ok(Verdict::Handshake { greeting, .. }) => Some(&greeting.answer),
        Ok(Verdict::Webhook { .. }) | Err(_) => None,
    };
    let body = answer.map_or("", |answer| &answer.body);
    if !same_body(body.as_bytes(), &expected.body) {
        return Some(format!("expected another body than the {} bytes that are answered", body.len()));
    }
    let differs = |(name, value): &&(String, String)| {
        let found = answer.and_then(|answer| answer.headers.get(name.as_str()));
        found.is_none_or(|found| found.as_bytes() != value.as_bytes())
    };
    expected.headers.iter().find(differs).map(|(name, _)| format!("expected another header {name}"))
}

/// Byte for byte, or as JSON, in which the order of members is free.
fn same_body(left: &[u8], right: &[u8]) -> bool {
    let json = |bytes| serde_json::from_slice::<Value>(bytes).ok().filter(|value| value.is_object() || value.is_array());
    left == right || json(left).is_some_and(|value| Some(value) == json(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_compared_as_json_where_they_are() {
        assert!(same_body(br#"{"a":1,"b":2}"#, br#"{"b": 2, "a": 1}"#));
        assert!(!same_body(br#"{"a":1}"#, br#"{"a":2}"#));
        assert!(same_body(b"1", b"1"));
        assert!(!same_body(b"1", b"1.0"));
        assert!(!same_body(b"1", b" 1"));
    }
}
