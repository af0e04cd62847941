//! What a sender is told when its event is safe.

use aws_lambda_events::{apigw::ApiGatewayV2httpResponse, encodings::Body};
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use shared::{
    config::Source,
    names::{EventId, SourceName},
    signatures::handshake::HandshakeAnswer,
};

/// A yes.
#[derive(Debug)]
pub(crate) enum Answer<'a> {
    /// To a webhook.
    Accepted(Accepted<'a>),
    /// To a handshake.
    Handshake(HandshakeAnswer),
}

impl Answer<'_> {
    pub(crate) fn into_response(self) -> ApiGatewayV2httpResponse {
        match self {
            Self::Accepted(accepted) => accepted.into_response(),
            Self::Handshake(answer) => {
                let mut response = ApiGatewayV2httpResponse::default();
                response.status_code = answer.status.into();
                response.headers = answer.headers;
                response.body = Some(Body::Text(answer.body));
                response
            }
        }
    }
}

/// An event that the ledger has.
#[derive(Debug)]
pub(crate) struct Accepted<'a> {
    pub(crate) source: &'a Source,
    /// One, or those of a batch in its order.
    pub(crate) event_ids: Vec<EventId>,
    pub(crate) is_batch: bool,
    /// It was there before; a conflict in quarantine counts as one, since a sender that is told "no" only sends it again.
    pub(crate) duplicate: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AcceptedBody<'a> {
    status: &'a str,
    source: &'a SourceName,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<&'a EventId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_ids: Option<&'a [EventId]>,
}

impl Accepted<'_> {
    /// `{"status":"accepted"|"duplicate","source","eventId"}` with 202 or 200, or what the source wants instead. Of a batch,
    /// `eventIds`; it is a duplicate if all its events are.
    pub(crate) fn into_response(self) -> ApiGatewayV2httpResponse {
        let word = if self.duplicate { "duplicate" } else { "accepted" };
        let mut response = ApiGatewayV2httpResponse::default();
        response.status_code = self.source.answer.status_of(self.duplicate).into();
        match &self.source.answer.body {
            Some(body) => response.body = Some(Body::Text(body.clone())),
            None => {
                let (event_id, event_ids) = match self.is_batch {
                    true => (None, Some(self.event_ids.as_slice())),
                    false => (self.event_ids.first(), None),
                };
                let body = AcceptedBody { status: word, source: &self.source.name, event_id, event_ids };
                // Names and a word: serializing them cannot fail.
                response.body = Some(Body::Text(serde_json::to_string(&body).unwrap_or_default()));
                let json = HeaderValue::from_static("application/json");
                response.headers = HeaderMap::from_iter([(header::CONTENT_TYPE, json)]);
            }
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use shared::config::Gateway;

    use super::*;

    fn response(answer: &str, duplicate: bool) -> (i64, String, usize) {
        let config = format!("[sources.a]\nscheme = \"github\"\nsecret = \"a\"\n{answer}");
        let gateway = Gateway::parse(&config, "gateway.toml").unwrap();
        let source = &gateway.sources[&SourceName::parse("a").unwrap()];
        let accepted = Accepted { source, event_ids: vec![EventId::parse("7").unwrap()], is_batch: false, duplicate };
        let response = accepted.into_response();
        let Some(Body::Text(body)) = response.body else { panic!("no text") };
        (response.status_code, body, response.headers.len())
    }

    #[test]
    fn new_and_known_events_are_told_apart() {
        assert_eq!(response("", false), (202, r#"{"status":"accepted","source":"a","eventId":"7"}"#.into(), 1));
        assert_eq!(response("", true), (200, r#"{"status":"duplicate","source":"a","eventId":"7"}"#.into(), 1));
    }

    #[test]
    fn a_source_may_want_another_answer() {
        assert_eq!(response("answer = { status = 204, body = \"\" }", false), (204, String::new(), 0));
    }
}
