//! What API Gateway hands over, read without trust.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderMap, Method};
use serde_json::value::RawValue;
use shared::{config::BODY_BYTES_MAX, signatures::UnverifiedWebhook};

use crate::rejection::Rejection;

/// Base64 writes three bytes as four characters.
const ENCODED_BYTES_MAX: usize = BODY_BYTES_MAX.div_ceil(3) * 4;

/// A request of API Gateway, its body still as it was handed over.
#[derive(Debug)]
pub(crate) struct Request {
    method: Method,
    source: String,
    headers: HeaderMap,
    raw_query: String,
    body: String,
    is_base64: bool,
}

impl Request {
    /// Reads the event. `lambda_http` is not used for this: it panics where API Gateway's base64 is broken.
    pub(crate) fn read(event: &RawValue) -> Result<Self, Rejection> {
        let malformed = |_| Rejection::Malformed("this is not a request of an API Gateway HTTP API".to_owned());
        let event: ApiGatewayV2httpRequest = serde_json::from_str(event.get()).map_err(malformed)?;
        Ok(Self {
            method: event.request_context.http.method,
            source: event.path_parameters.get("source").cloned().unwrap_or_default(),
            headers: event.headers,
            raw_query: event.raw_query_string.unwrap_or_default(),
            body: event.body.unwrap_or_default(),
            is_base64: event.is_base64_encoded,
        })
    }

    /// The last part of the path: who says to send.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// The length of the body as handed over, for the log.
    pub(crate) fn encoded_bytes(&self) -> usize {
        self.body.len()
    }

    /// The webhook with the exact bytes that its sender sent, no more than `body_bytes_max`.
    pub(crate) fn into_webhook(self, body_bytes_max: usize) -> Result<UnverifiedWebhook, Rejection> {
        if self.method != Method::POST {
            return Err(Rejection::MethodNotAllowed);
        }
        let too_large = Rejection::TooLarge { body_bytes_max };
        if self.body.len() > ENCODED_BYTES_MAX {
            return Err(too_large);
        }
        let body = if self.is_base64 {
            BASE64
                .decode(&self.body)
                .map_err(|_| Rejection::Malformed("the body is not the base64 that it is said to be".to_owned()))?
        } else {
            self.body.into_bytes()
        };
        if body.len() > body_bytes_max {
            return Err(too_large);
        }
        Ok(UnverifiedWebhook { headers: self.headers, raw_query: self.raw_query, body })
    }
}

#[cfg(test)]
mod tests {
    use shared::{secrets::Keyring, signatures::preset::Preset, time::Timestamp};

    use super::*;

    fn read(event: &serde_json::Value) -> Result<Request, Rejection> {
        Request::read(&serde_json::value::to_raw_value(event).unwrap())
    }

    fn event(method: &str, body: &str, is_base64: bool) -> serde_json::Value {
        serde_json::json!({
            "version": "2.0",
            "headers": {"x-a": "1,2", "user-agent": "é"},
            "pathParameters": {"source": "github"},
            "requestContext": {"http": {"method": method}},
            "body": body,
            "isBase64Encoded": is_base64,
        })
    }

    fn body_of(method: &str, body: &str, is_base64: bool, bytes_max: usize) -> Result<Vec<u8>, u16> {
        let request = read(&event(method, body, is_base64)).unwrap();
        request.into_webhook(bytes_max).map(|webhook| webhook.body).map_err(|rejection| rejection.status())
    }

    #[test]
    fn bodies_come_out_as_they_were_sent() {
        assert_eq!(body_of("POST", "{\"a\":1}", false, 100), Ok(b"{\"a\":1}".to_vec()));
        assert_eq!(body_of("POST", "/wA=", true, 100), Ok(b"\xff\0".to_vec()));
        assert_eq!(body_of("POST", "", true, 100), Ok(Vec::new()));
    }

    #[test]
    fn broken_base64_is_the_gateways_mistake_and_no_panic() {
        for broken in ["?", "/w", "/wA", "/wA=="] {
            assert_eq!(body_of("POST", broken, true, 100), Err(400), "{broken}");
        }
    }

    #[test]
    fn the_cap_holds_on_both_sides() {
        assert_eq!(body_of("POST", "1234", false, 4), Ok(b"1234".to_vec()));
        assert_eq!(body_of("POST", "12345", false, 4), Err(413));
        assert_eq!(body_of("POST", "MTIzNDU=", true, 4), Err(413));
        assert_eq!(body_of("POST", &"a".repeat(ENCODED_BYTES_MAX + 1), false, BODY_BYTES_MAX), Err(413));
        assert_eq!(
            body_of("POST", &"a".repeat(BODY_BYTES_MAX), false, BODY_BYTES_MAX).map(|body| body.len()),
            Ok(BODY_BYTES_MAX)
        );
    }

    #[test]
    fn only_post_is_taken() {
        for method in ["GET", "PUT", "DELETE", "HEAD"] {
            assert_eq!(body_of(method, "", false, 4), Err(405), "{method}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused_and_no_panic() {
        for nonsense in
            [serde_json::json!(null), serde_json::json!([]), serde_json::json!({"headers": 7}), serde_json::json!("x")]
        {
            assert_eq!(read(&nonsense).map(|_| ()).map_err(|rejection| rejection.status()), Err(400), "{nonsense}");
        }
    }

    #[test]
    fn a_request_without_its_parts_has_empty_ones() {
        let request = read(&serde_json::json!({"requestContext": {"http": {"method": "POST"}}})).unwrap();
        assert_eq!(request.source(), "");
        assert_eq!(request.into_webhook(10).unwrap().body, b"");
    }

    #[test]
    fn the_sample_events_are_genuine() {
        for sample in [
            include_str!("../../../events/lambda/receiver-github-push.json"),
            include_str!("../../../events/lambda/receiver-github-push-base64.json"),
        ] {
            let request = read(&serde_json::from_str(sample).unwrap()).unwrap();
            assert_eq!(request.source(), "github");
            let webhook = request.into_webhook(BODY_BYTES_MAX).unwrap();
            assert_eq!(webhook.body, include_bytes!("../../../events/github-push.json"));
            let keyring = Keyring::parse("posthouse-sample-secret").unwrap();
            let scheme = Preset::find("github").unwrap().unwrap().scheme;
            assert!(scheme.verify(&webhook, &keyring, Timestamp::from_seconds(0)).is_ok());
        }
    }
}
