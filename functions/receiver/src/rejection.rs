//! Saying no: the one place where a [`Rejection`] becomes HTTP. Its status is [`Rejection::status`].

use aws_lambda_events::{apigw::ApiGatewayV2httpResponse, encodings::Body};
use http::{HeaderMap, HeaderValue, header};
use metrics::counter;
use serde_json::json;
pub(crate) use shared::door::Rejection;
use shared::names::SourceName;

/// When a sender may try again after an answer of ours that is not its fault, in seconds.
pub(crate) const RETRY_AFTER_SECONDS: u64 = 5;

/// Logs and counts it: source, reason and size alone, since nothing else about it is known to be true. A conflict is genuine,
/// and so is its event id.
pub(crate) fn observe(rejection: &Rejection, source: &SourceName, body_bytes: usize) {
    let code = rejection.code();
    match rejection {
        Rejection::Unavailable { reason } => {
            tracing::error!(%source, code, reason, body_bytes, "not accepted");
        }
        Rejection::Conflict { event_id } => {
            counter!("Conflicts").increment(1);
            tracing::error!(%source, %event_id, code, body_bytes, "conflict: the same event id with another body, refused");
        }
        Rejection::BadSignature(_) | Rejection::Stale(_) => {
            counter!("SignatureFailures").increment(1);
            counter!("SignatureFailures", "Source" => source.to_string()).increment(1);
            tracing::warn!(%source, code, reason = %rejection, body_bytes, "refused");
        }
        Rejection::TooManyKeys => {
            counter!("UnknownKeysRefused").increment(1);
            tracing::warn!(%source, code, reason = %rejection, body_bytes, "refused");
        }
        _ => tracing::warn!(%source, code, reason = %rejection, body_bytes, "refused"),
    }
}

/// `{"error":{"code","message"},"requestId"}`.
pub(crate) fn into_response(rejection: &Rejection, request_id: &str) -> ApiGatewayV2httpResponse {
    let body = json!({"error": {"code": rejection.code(), "message": rejection.to_string()}, "requestId": request_id});
    let mut headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    match rejection {
        Rejection::MethodNotAllowed { allowed } => {
            headers.extend(HeaderValue::from_str(allowed).ok().map(|allowed| (header::ALLOW, allowed)));
        }
        Rejection::Unavailable { .. } | Rejection::TooManyKeys => {
            drop(headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS)))
        }
        _ => {}
    }
    let mut response = ApiGatewayV2httpResponse::default();
    response.status_code = rejection.status().into();
    response.headers = headers;
    response.body = Some(Body::Text(body.to_string()));
    response
}

#[cfg(test)]
mod tests {
    use shared::{ledger::LedgerError, names::EventId, signatures::Refusal};

    use super::*;

    fn response(rejection: Rejection) -> (i64, Option<String>, String) {
        let response = into_response(&rejection, "r-1");
        let retry_after = response.headers.get(header::RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned());
        let Some(Body::Text(body)) = response.body else { panic!("no text") };
        (response.status_code, retry_after, body)
    }

    #[test]
    fn every_rejection_has_its_status_and_a_uniform_body() {
        let (status, retry_after, body) = response(Rejection::UnknownSource);
        assert_eq!((status, retry_after), (401, None));
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["error"]["code"], "bad_signature");
        assert_eq!(body["requestId"], "r-1");
    }

    #[test]
    fn an_unknown_source_is_answered_like_a_known_one_without_a_signature() {
        assert_eq!(response(Rejection::UnknownSource), response(Refusal::MissingSignature.into()));
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
