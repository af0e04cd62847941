//! AWS as one answer that never changes, for unit tests; and what it was asked.

use std::sync::{Arc, Mutex};

use aws_config::SdkConfig;
use aws_sdk_sqs::config::{Credentials, Region, RuntimeComponents, SharedCredentialsProvider};
use aws_smithy_runtime_api::{
    client::{
        http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
        orchestrator::{HttpRequest, HttpResponse},
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use shared::{
    aws,
    event::{BodyDigest, Event, EventKey},
    names::{DestinationName, EventId, EventType, SourceName},
    time::Timestamp,
};

use super::Targets;
use crate::{failure::Failure, parcel::Parcel};

/// When everything happens.
pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_795_328_675);

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Fake {
    status: u16,
    headers: Vec<(&'static str, &'static str)>,
    body: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) uri: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Fake {
    pub(super) fn answering(status: u16, body: &str) -> Self {
        Self { status, headers: Vec::new(), body: body.to_owned(), asked: Arc::default() }
    }

    pub(super) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Clients that get this answer.
    pub(super) fn targets(&self) -> Targets {
        let credentials = Credentials::new("test", "test", None, None, "test");
        let config = SdkConfig::builder()
            .behavior_version(aws::behavior())
            .region(Region::new("eu-central-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(self.clone());
        Targets::new(&config.build())
    }

    /// All that was asked.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The only thing that was asked.
    pub(super) fn asked_once(&self) -> Asked {
        let [asked] = &self.asked()[..] else { panic!("{:?}", self.asked()) };
        asked.clone()
    }
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl HttpConnector for Fake {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        self.asked.lock().unwrap().push(Asked {
            uri: request.uri().to_owned(),
            headers: request.headers().iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            body: String::from_utf8(request.body().bytes().unwrap().to_vec()).unwrap(),
        });
        let mut answer = HttpResponse::new(StatusCode::try_from(self.status).unwrap(), SdkBody::from(self.body.clone()));
        for (name, value) in &self.headers {
            answer.headers_mut().insert(*name, *value);
        }
        HttpConnectorFuture::ready(Ok(answer))
    }
}

impl HttpClient for Fake {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// The event `7` of the source `shop`, with one kept header beside its content type.
pub(crate) fn event() -> Event {
    Event {
        key: EventKey { source: SourceName::parse("shop").unwrap(), event_id: EventId::parse("é 7").unwrap() },
        event_type: EventType::parse("orders/create").unwrap(),
        received_at: NOW,
        occurred_at: Some(Timestamp::from_seconds(1_795_328_600)),
        headers: [("content-type", "application/json"), ("x-shop", "a.example")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        body_bytes: 0,
        sha256: BodyDigest::of(b""),
        compared_sha256: None,
        part: None,
        key_id: String::new(),
        destinations: Vec::new(),
        expires_at: NOW,
    }
}

/// An event's second attempt.
pub(crate) fn parcel<'a>(event: &'a Event, destination: &'a DestinationName, body: impl Into<Vec<u8>>) -> Parcel<'a> {
    let sent = |name: &str| event.headers.get(name).map(String::as_str);
    let (content_type, content_encoding) = (sent("content-type"), sent("content-encoding"));
    Parcel { event, destination, body: body.into(), content_type, content_encoding, attempt: 2 }
}

pub(crate) fn destination() -> DestinationName {
    DestinationName::parse("orders").unwrap()
}

/// The class of a failure, as the tests' tables have it.
pub(super) fn class(result: &Result<(), Failure>) -> &'static str {
    match result {
        Ok(()) => "done",
        Err(Failure::Transient(_)) => "transient",
        Err(Failure::Throttled { .. }) => "throttled",
        Err(Failure::Permanent(_)) => "permanent",
        Err(Failure::Auth(_) | Failure::Refused(_)) => "auth",
        Err(Failure::Conflict(_)) => "conflict",
    }
}
