//! The seam: what the SDK sends, and what is answered.

use aws_smithy_runtime_api::{
    client::{
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
    http::StatusCode,
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream};
use bytes::Bytes;

use super::{Failure, Service, dynamodb, s3, secrets, sqs};

/// A request, as far as the model reads it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) service: Service,
    pub(super) operation: String,
    /// Path and query, for S3.
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl Request {
    pub(super) async fn read(mut request: HttpRequest) -> Result<Self, ConnectorError> {
        let body = request.take_body();
        let body = match body.bytes() {
            Some(bytes) => Bytes::copy_from_slice(bytes),
            None => {
                let all = ByteStream::new(body).collect().await;
                all.map_err(|error| ConnectorError::user(error.into()))?.into_bytes()
            }
        };
        let target = request.headers().get("x-amz-target").map(str::to_owned);
        let (service, operation) = match target.as_deref().and_then(|target| target.split_once('.')) {
            Some(("DynamoDB_20120810", operation)) => (Service::DynamoDb, operation.to_owned()),
            Some(("AmazonSQS", operation)) => (Service::Sqs, operation.to_owned()),
            Some(("secretsmanager", operation)) => (Service::SecretsManager, operation.to_owned()),
            Some((other, operation)) => panic!("the model has no service {other} ({operation})"),
            None => (Service::S3, s3::operation(request.method()).to_owned()),
        };
        let is_s3 = service == Service::S3;
        Ok(Self {
            service,
            operation,
            path: if is_s3 { path_of(request.uri()).to_owned() } else { String::new() },
            headers: if is_s3 { headers_of(&request) } else { Vec::new() },
            body,
        })
    }

    /// Whether its body has these words.
    pub(super) fn has(&self, words: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(words)
    }

    /// The same update, whether or not its condition holds, if that has these words.
    pub(super) fn despite(mut self, words: &str) -> Self {
        let mut body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let condition = body["ConditionExpression"].as_str().filter(|condition| condition.contains(words));
        if let Some(condition) = condition.filter(|_| self.operation == "UpdateItem") {
            // Its names and values are still used.
            body["ConditionExpression"] = format!("({condition}) OR attribute_exists(pk)").into();
            self.body = body.to_string().into();
        }
        self
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

fn headers_of(request: &HttpRequest) -> Vec<(String, String)> {
    request.headers().iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect()
}

/// A URI without its scheme and host.
fn path_of(uri: &str) -> &str {
    let after_scheme = uri.find("://").map_or(0, |at| at + 3);
    uri[after_scheme..].find('/').map_or("/", |at| &uri[after_scheme + at..])
}

/// An answer of a service.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(status: u16, json: String) -> Self {
        Self { status, headers: vec![("content-type", "application/x-amz-json-1.0".to_owned())], body: json.into() }
    }

    pub(super) fn into_http(self, number: u64) -> HttpResponse {
        let status = StatusCode::try_from(self.status).expect("the model's statuses are HTTP's");
        let mut response = HttpResponse::new(status, SdkBody::from(self.body));
        let headers = response.headers_mut();
        headers.insert("x-amzn-requestid", number.to_string());
        for (name, value) in self.headers {
            headers.insert(name, value);
        }
        response
    }
}

/// An error that a service gives for reasons of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Internal,
    Throttled,
}

impl Failure {
    /// What the caller sees.
    pub(super) fn answer(self, request: &Request) -> Result<Answer, ConnectorError> {
        let fault = match self {
            Self::ConnectionReset => {
                let reset = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "connection reset by the model");
                return Err(ConnectorError::io(reset.into()));
            }
            Self::Contended if request.operation == "TransactWriteItems" => return Ok(dynamodb::conflict(&request.body)),
            Self::InternalError => Fault::Internal,
            Self::Throttled | Self::Contended => Fault::Throttled,
        };
        Ok(match request.service {
            Service::DynamoDb => dynamodb::fault(fault),
            Service::Sqs => sqs::fault(fault),
            Service::S3 => s3::fault(fault),
            Service::SecretsManager => secrets::fault(fault),
        })
    }
}
