//! What API Gateway hands over, read without trust.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderMap, HeaderValue, Method};
use serde_json::value::RawValue;
use shared::{
    config::{BODY_BYTES_MAX, Source},
    door::check_size,
    signatures::UnverifiedWebhook,
};

use crate::rejection::Rejection;

/// Base64 writes three bytes as four characters.
const ENCODED_BYTES_MAX: usize = BODY_BYTES_MAX.div_ceil(3) * 4;

/// A request of API Gateway, its body still as it was handed over.
#[derive(Debug)]
pub(crate) struct Request {
    method: Method,
    source: String,
    /// As API Gateway was called: its own domain, never a header of the sender's.
    url: String,
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
            url: format!(
                "https://{}{}",
                event.request_context.domain_name.as_deref().unwrap_or_default(),
                event.raw_path.as_deref().unwrap_or_default()
            ),
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

    /// A header, as it came.
    pub(crate) fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name).map(HeaderValue::as_bytes)
    }

    /// The length of the body as handed over, for the log.
    pub(crate) fn encoded_bytes(&self) -> usize {
        self.body.len()
    }

    /// The webhook with the exact bytes that its sender sent, no more than its source may send.
    pub(crate) fn into_webhook(self, source: &Source) -> Result<UnverifiedWebhook, Rejection> {
        if self.body.len() > ENCODED_BYTES_MAX {
            return Err(Rejection::TooLarge { body_bytes_max: source.body_bytes_max });
        }
        let body = if self.is_base64 {
            BASE64
                .decode(&self.body)
                .map_err(|_| Rejection::Malformed("the body is not the base64 that it is said to be".to_owned()))?
        } else {
            self.body.into_bytes()
        };
        check_size(source, body.len())?;
        let url = source.public_url.clone().unwrap_or(self.url);
        let registered_query = source.public_query.clone();
        Ok(UnverifiedWebhook {
            method: self.method,
            url,
            headers: self.headers,
            raw_query: self.raw_query,
            registered_query,
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use shared::{config::Gateway, secrets::Keyring, time::Timestamp};

    use super::*;

    fn read(event: &serde_json::Value) -> Result<Request, Rejection> {
        Request::read(&serde_json::value::to_raw_value(event).unwrap())
    }

    fn event(method: &str, body: &str, is_base64: bool) -> serde_json::Value {
        serde_json::json!({
            "version": "2.0",
            "headers": {"x-a": "1,2", "user-agent": "é"},
            "pathParameters": {"source": "github"},
            "rawPath": "/webhooks/github",
            "rawQueryString": "a=1",
            "requestContext": {"http": {"method": method}, "domainName": "api.example.com"},
            "body": body,
            "isBase64Encoded": is_base64,
        })
    }

    fn source(settings: &str) -> Source {
        let config = format!("[sources.github]\nscheme = \"github\"\nsecret = \"a\"\n{settings}");
        Gateway::parse(&config, "gateway.toml").unwrap().sources.into_values().next().unwrap()
    }

    fn body_of(body: &str, is_base64: bool, bytes_max: usize) -> Result<Vec<u8>, u16> {
        let request = read(&event("POST", body, is_base64)).unwrap();
        let source = source(&format!("body_bytes_max = {bytes_max}"));
        request.into_webhook(&source).map(|webhook| webhook.body).map_err(|rejection| rejection.status())
    }

    #[test]
    fn the_url_is_the_registered_one_or_the_one_that_api_gateway_was_called_by() {
        let url = |settings: &str| {
            let webhook = read(&event("POST", "", false)).unwrap().into_webhook(&source(settings)).unwrap();
            webhook.full_url().into_owned()
        };
        assert_eq!(url(""), "https://api.example.com/webhooks/github?a=1");
        assert_eq!(url("public_url = \"https://hooks.example.com:8443/x?b=2\""), "https://hooks.example.com:8443/x?a=1");
    }

    #[test]
    fn bodies_come_out_as_they_were_sent() {
        assert_eq!(body_of("{\"a\":1}", false, 100), Ok(b"{\"a\":1}".to_vec()));
        assert_eq!(body_of("/wA=", true, 100), Ok(b"\xff\0".to_vec()));
        assert_eq!(body_of("", true, 100), Ok(Vec::new()));
    }

    #[test]
    fn broken_base64_is_the_gateways_mistake_and_no_panic() {
        for broken in ["?", "/w", "/wA", "/wA=="] {
            assert_eq!(body_of(broken, true, 100), Err(400), "{broken}");
        }
    }

    #[test]
    fn the_cap_holds_on_both_sides() {
        assert_eq!(body_of("1234", false, 4), Ok(b"1234".to_vec()));
        assert_eq!(body_of("12345", false, 4), Err(413));
        assert_eq!(body_of("MTIzNDU=", true, 4), Err(413));
        assert_eq!(body_of(&"a".repeat(ENCODED_BYTES_MAX + 1), false, BODY_BYTES_MAX), Err(413));
        assert_eq!(body_of(&"a".repeat(BODY_BYTES_MAX), false, BODY_BYTES_MAX).map(|body| body.len()), Ok(BODY_BYTES_MAX));
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
        assert_eq!(request.into_webhook(&source("")).unwrap().body, b"");
    }

    #[test]
    fn the_sample_events_are_genuine() {
        for sample in [
            include_str!("../../../events/lambda/receiver-github-push.json"),
            include_str!("../../../events/lambda/receiver-github-push-base64.json"),
        ] {
            let request = read(&serde_json::from_str(sample).unwrap()).unwrap();
            assert_eq!(request.source(), "github");
            let source = source("");
            let webhook = request.into_webhook(&source).unwrap();
            assert_eq!(webhook.body, include_bytes!("../../../events/github-push.json"));
            let keyring = Keyring::parse("posthouse-sample-secret").unwrap();
            assert!(source.scheme.verify(&webhook, &keyring, None, Timestamp::from_seconds(0)).is_ok());
        }
    }
}
