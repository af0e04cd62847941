//! What a request of a provider's handshake would be answered.

use serde_json::Value;
use shared::{
    location::Places,
    signatures::{
        Refusal,
        handshake::{HandshakeAnswer, HandshakeRefusal},
    },
    time::Timestamp,
};

use crate::{
    subject::Subject,
    vector::{ExpectedAnswer, Vector},
    vectors::proven,
};

/// What is answered, as far as a vector tells of it.
struct Answered {
    status: u16,
    /// `None` where the answer has our own words, which no protocol prescribes.
    answer: Option<HandshakeAnswer>,
}

/// Says how the answer differs from the expected one, if it does. Enrolment counts as open.
pub(crate) fn disagreement(subject: &Subject, vector: &Vector, expected: &ExpectedAnswer, now: Timestamp) -> Option<String> {
    let answered = match answer(subject, vector, now) {
        Ok(answered) => answered,
        Err(reason) => return Some(reason),
    };
    if answered.status != expected.status {
        return Some(format!("expected status {}, got {}", expected.status, answered.status));
    }
    let body = answered.answer.as_ref().map_or("", |answer| &answer.body);
    if !same_body(body.as_bytes(), &expected.body) {
        return Some(format!("expected another body than the {} bytes that are answered", body.len()));
    }
    let differs = |(name, value): &&(String, String)| {
        let found = answered.answer.as_ref().and_then(|answer| answer.headers.get(name.as_str()));
        found.is_none_or(|found| found.as_bytes() != value.as_bytes())
    };
    expected.headers.iter().find(differs).map(|(name, _)| format!("expected another header {name}"))
}

fn answer(subject: &Subject, vector: &Vector, now: Timestamp) -> Result<Answered, String> {
    let handshake = subject.handshake(&vector.webhook);
    let verdict = || proven(subject, vector, now);
    let Some(handshake) = handshake else {
        // An ordinary webhook, as Xero's and DocuSign's checks of an endpoint are.
        return Ok(match verdict()? {
            Ok(_) => Answered { status: subject.answer.status.unwrap_or(202), answer: None },
            Err(refusal) => Answered { status: status(refusal), answer: None },
        });
    };
    if handshake.signed
        && let Err(refusal) = verdict()?
    {
        return Ok(Answered { status: status(refusal), answer: None });
    }
    let places = Places::new(&vector.webhook);
    let keys = (vector.keyring.as_ref(), vector.handshake_secrets.as_ref());
    Ok(match handshake.answer(&subject.scheme, &places, keys.0, keys.1, now) {
        Ok(answer) => Answered { status: answer.status, answer: Some(answer) },
        Err(HandshakeRefusal::Requirement { status, .. }) => Answered { status, answer: None },
        Err(HandshakeRefusal::Unanswerable(_)) => Answered { status: 400, answer: None },
        Err(HandshakeRefusal::UnusableKey) => Answered { status: 503, answer: None },
    })
}

/// The receiver's status for a refusal.
const fn status(refusal: Refusal) -> u16 {
    match refusal {
        Refusal::UnusableKey => 503,
        _ => 401,
    }
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
