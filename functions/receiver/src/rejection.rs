//! Every way to say no, and the one place where a no becomes HTTP.

use aws_lambda_events::{apigw::ApiGatewayV2httpResponse, encodings::Body};
use http::{HeaderMap, HeaderValue, header};
use metrics::counter;
use serde_json::json;
use shared::{
    event::IdentityError,
    fetched::FetchError,
    ledger::LedgerError,
    names::{EventId, SourceName},
    signatures::{Refusal, handshake::HandshakeRefusal},
};

/// When a sender may try again after an answer of ours that is not its fault, in seconds.
pub(crate) const RETRY_AFTER_SECONDS: u64 = 5;

/// Why a webhook is not accepted. Nothing of it has been written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Rejection {
    #[error("there is no such source; the URL ends in the name of a configured one")]
    UnknownSource,
    #[error("this source takes {allowed}")]
    MethodNotAllowed { allowed: String },
    #[error("the body is larger than the {body_bytes_max} bytes that this source may send")]
    TooLarge { body_bytes_max: usize },
    #[error("{0}")]
    BadSignature(Refusal),
    #[error("{0}")]
    Stale(Refusal),
    #[error("{reason}")]
    Handshake { reason: String, status: u16 },
    #[error("enrolment is not open for this source: its operator opens it before the webhook is created")]
    EnrolmentClosed,
    #[error("{0}")]
    Malformed(String),
    #[error("this event id came before with another body, and this source takes each id once: send it under an id of its own")]
    Conflict { event_id: EventId },
    #[error("this webhook cannot be accepted at this moment; send it again")]
    Unavailable { reason: String },
}

impl Rejection {
    /// An outage of ours; the reason goes to the log alone.
    pub(crate) fn unavailable(error: impl std::fmt::Display) -> Self {
        Self::Unavailable { reason: error.to_string() }
    }

    /// Whether a keyring that has changed could have made it a yes.
    pub(crate) const fn depends_on_keys(&self) -> bool {
        match self {
            Self::BadSignature(refusal) => refusal.depends_on_keys(),
            Self::Unavailable { .. } => true,
            _ => false,
        }
    }

    pub(crate) const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::BadSignature(_) | Self::Stale(_) => 401,
            Self::UnknownSource => 404,
            Self::EnrolmentClosed => 403,
            Self::Handshake { status, .. } => *status,
            Self::MethodNotAllowed { .. } => 405,
            Self::Conflict { .. } => 409,
            Self::TooLarge { .. } => 413,
            Self::Unavailable { .. } => 503,
        }
    }

    const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::BadSignature(_) => "bad_signature",
            Self::Stale(_) => "stale",
            Self::UnknownSource => "unknown_source",
            Self::EnrolmentClosed => "enrolment_closed",
            Self::Handshake { .. } => "handshake_refused",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::Conflict { .. } => "conflict",
            Self::TooLarge { .. } => "too_large",
            Self::Unavailable { .. } => "unavailable",
        }
    }

    /// Logs and counts it: source, reason and size alone, since nothing else about it is known to be true. A conflict is genuine,
    /// and so is its event id.
    pub(crate) fn observe(&self, source: &SourceName, body_bytes: usize) {
        let code = self.code();
        match self {
            Self::Unavailable { reason } => {
                tracing::error!(%source, code, reason, body_bytes, "not accepted");
            }
            Self::Conflict { event_id } => {
                counter!("Conflicts").increment(1);
                tracing::error!(%source, %event_id, code, body_bytes, "conflict: the same event id with another body, refused");
            }
            Self::BadSignature(_) | Self::Stale(_) => {
                counter!("SignatureFailures").increment(1);
                counter!("SignatureFailures", "Source" => source.to_string()).increment(1);
                tracing::warn!(%source, code, reason = %self, body_bytes, "refused");
            }
            _ => tracing::warn!(%source, code, reason = %self, body_bytes, "refused"),
        }
    }

    /// `{"error":{"code","message"},"requestId"}`.
    pub(crate) fn into_response(self, request_id: &str) -> ApiGatewayV2httpResponse {
        let body = json!({"error": {"code": self.code(), "message": self.to_string()}, "requestId": request_id});
        let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        match &self {
            Self::MethodNotAllowed { allowed } => {
                headers.extend(HeaderValue::from_str(allowed).ok().map(|allowed| (header::ALLOW, allowed)));
            }
            Self::Unavailable { .. } => drop(headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS))),
            _ => {}
        }
        let mut response = ApiGatewayV2httpResponse::default();
        response.status_code = self.status().into();
        response.headers = headers;
        response.body = Some(Body::Text(body.to_string()));
        response
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Stale { .. } => Self::Stale(refusal),
            // Ours to mend, and the sender's to send again.
            Refusal::UnusableKey => Self::unavailable(refusal),
            _ => Self::BadSignature(refusal),
        }
    }
}

impl From<FetchError> for Rejection {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Refused(_) => Self::BadSignature(Refusal::UntrustedKey),
            error => Self::unavailable(error),
        }
    }
}

impl From<HandshakeRefusal> for Rejection {
    fn from(refusal: HandshakeRefusal) -> Self {
        match refusal {
            HandshakeRefusal::Requirement { status, .. } => Self::Handshake { reason: refusal.to_string(), status },
            HandshakeRefusal::Unanswerable(_) => Self::Handshake { reason: refusal.to_string(), status: 400 },
            HandshakeRefusal::UnusableKey => Self::unavailable(refusal),
        }
    }
}

impl From<IdentityError> for Rejection {
    fn from(error: IdentityError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<LedgerError> for Rejection {
    fn from(error: LedgerError) -> Self {
        // Being throttled by DynamoDB is an outage of ours too: not every sender tries again after a 4xx.
        Self::unavailable(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(rejection: Rejection) -> (i64, Option<String>, String) {
        let response = rejection.into_response("r-1");
        let retry_after = response.headers.get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
        let Some(Body::Text(body)) = response.body else { panic!("no text") };
        (response.status_code, retry_after, body)
    }

    #[test]
    fn every_rejection_has_its_status_and_a_uniform_body() {
        let (status, retry_after, body) = response(Rejection::UnknownSource);
        assert_eq!((status, retry_after), (404, None));
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["error"]["code"], "unknown_source");
        assert_eq!(body["requestId"], "r-1");
        assert!(body["error"]["message"].as_str().unwrap().contains("no such source"));
    }

    #[test]
    fn a_conflict_says_what_to_do_about_it() {
        let (status, retry_after, body) = response(Rejection::Conflict { event_id: EventId::parse("evt_1").unwrap() });
        assert_eq!((status, retry_after), (409, None), "to send it again changes nothing");
        assert!(body.contains(r#""code":"conflict""#) && body.contains("send it under an id of its own"), "{body}");
    }

    #[test]
    fn an_outage_of_ours_says_when_to_try_again_and_not_why() {
        for rejection in [
            Rejection::unavailable("table orders-prod is gone"),
            LedgerError::Unavailable("table orders-prod".into()).into(),
            Refusal::UnusableKey.into(),
        ] {
            let (status, retry_after, body) = response(rejection);
            assert_eq!((status, retry_after.as_deref()), (503, Some("5")));
            assert!(!body.contains("orders-prod"), "{body}");
        }
    }

    #[test]
    fn an_old_but_genuine_webhook_is_told_from_a_forged_one() {
        let stale = Refusal::Stale { seconds_off: 301, tolerance_seconds: 300 };
        assert!(response(stale.into()).2.contains(r#""code":"stale""#));
        assert!(response(Refusal::WrongSignature.into()).2.contains(r#""code":"bad_signature""#));
        assert_eq!(response(Refusal::MissingSignature.into()).0, 401);
    }
}
