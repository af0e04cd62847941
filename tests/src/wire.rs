//! The wire between the functions and the AWS emulator: a reverse proxy that counts calls and breaks them on demand.
//!
//! Requests pass through untouched, so signatures stay valid. Paths under `/_wire/` are the wire's own:
//!
//! | request | effect |
//! | --- | --- |
//! | `GET /_wire/counts` | the [`Count`]s, one for each function, service and operation |
//! | `DELETE /_wire/counts` | starts them from nothing |
//! | `PUT /_wire/faults` | adds one [`Fault`], or a list of them; one with the `id` of another takes its place; answers their ids |
//! | `GET /_wire/faults` | the [`FaultReport`]s: each fault, and how often it fired |
//! | `DELETE /_wire/faults[/{id}]` | takes away all faults, or one |
//! | `GET /_health` | 200 |
//!
//! A call suffers the first fault that matches it and is drawn, in the order in which they were added. Every fault that is not
//! about what a function does next ends in one of two states that a function cannot tell apart: the call had its
//! effect, or it had none.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json,
    body::Body,
    extract::Request,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use fastrand::Rng;
use http::{
    HeaderMap, Method, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_TYPE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT},
    request::Parts,
};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use memchr::memmem;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::{
    process,
    server::{self, Connection, HangUp, OneOrMany, bad_request},
};

/// Faults that can be set at a time.
pub const FAULTS_MAX: usize = 1_000;

/// Kinds of calls that are counted apart; further ones are counted as function `other`.
pub const COUNTS_MAX: usize = 10_000;

/// How long an idle connection to the emulator is kept: shorter than the emulator keeps it, so that a call does not
/// meet a connection that is just being closed.
const UPSTREAM_IDLE: Duration = Duration::from_secs(1);

/// Who called what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Call {
    /// The function: the SDK's application name, else `unknown`.
    pub function: String,
    /// The service, as its endpoint is named: `dynamodb`, `sqs`, `secretsmanager`, `s3`, …
    pub service: String,
    /// The operation as the API reference names it: `PutItem`, `SendMessage`, `GetSecretValue`, `PutObject`, …
    pub operation: String,
}

/// What was counted for one kind of call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Count {
    /// Who called what.
    #[serde(flatten)]
    pub call: Call,
    /// Calls, with the ones that a fault broke, and with the SDK's own retries.
    pub calls: u64,
    /// Bytes of request bodies.
    pub bytes_sent: u64,
    /// Bytes of answers' bodies that were passed on.
    pub bytes_received: u64,
}

/// Calls to break, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Names the fault; made up if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Only calls of this function.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Only calls of this service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Only calls of this operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Only calls whose body contains this text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_contains: Option<String>,
    /// How many calls to break; without it all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// One call in so many, drawn at random; without it every one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_in: Option<u64>,
    /// For `one_in`: where its draws begin, so that the same calls in the same order break the same way; without it at 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What happens to the call.
    pub action: Action,
    /// For [`Action::Delay`]: for how long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// For [`Action::Status`]: with which status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// What happens to a call. "Before" is before the emulator sees it, "after" is when the emulator has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The calling process is killed before.
    Kill,
    /// The calling process is killed after.
    KillAfter,
    /// Never answered, never passed on.
    Hang,
    /// Passed on, and never answered: the outcome is unknown to the caller, who waits as long as it ever does.
    HangAfter,
    /// The connection is reset before.
    ResetBefore,
    /// The connection is reset after: the outcome is unknown to the caller.
    ResetAfter,
    /// Passed on late.
    Delay,
    /// Answered with a status, never passed on.
    Status,
    /// Answered as a throttled call is, never passed on.
    Throttle,
}

/// A fault, and what came of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FaultReport {
    /// The fault, which has an `id`.
    #[serde(flatten)]
    pub fault: Fault,
    /// How many calls it broke.
    pub fired: u64,
    /// The processes that it killed.
    pub killed: Vec<u32>,
}

/// The wire: cheap to clone, every clone is the same one.
#[derive(Clone)]
pub struct Wire {
    upstream: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    counts: BTreeMap<Call, Arc<Counter>>,
    faults: Vec<Armed>,
    fault_ids: u64,
}

/// A fault that is set.
struct Armed {
    report: FaultReport,
    /// What draws for `one_in`.
    draws: Rng,
}

#[derive(Default)]
struct Counter {
    calls: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
}

impl Wire {
    /// A wire to the emulator at `upstream`.
    #[must_use]
    pub fn new(upstream: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client =
            Client::builder(TokioExecutor::new()).pool_idle_timeout(UPSTREAM_IDLE).pool_timer(TokioTimer::new()).build(connector);
        Self { upstream, client, state: Arc::default() }
    }

    /// Serves `listener` for ever.
    pub async fn serve(self, listener: TcpListener) {
        server::serve(listener, move |request, connection| {
            let wire = self.clone();
            async move { wire.handle(request, connection).await }
        })
        .await;
    }

    async fn handle(&self, request: Request, connection: Connection) -> Result<Response, HangUp> {
        let (parts, body) = request.into_parts();
        let body = server::read(body).await?;
        match parts.uri.path() {
            "/_health" => Ok("ok\n".into_response()),
            own if own.starts_with("/_wire/") => Ok(self.control(&parts.method, own, &body)),
            _ => self.call(parts, body, connection).await,
        }
    }

    fn control(&self, method: &Method, path: &str, body: &[u8]) -> Response {
        let what = path.trim_start_matches("/_wire/");
        match (method.as_str(), what.split_once('/').unwrap_or((what, ""))) {
            ("GET", ("counts", "")) => Json(self.counts()).into_response(),
            ("DELETE", ("counts", "")) => {
                self.state().counts.clear();
                StatusCode::NO_CONTENT.into_response()
            }
            ("GET", ("faults", "")) => Json(self.reports()).into_response(),
            ("PUT", ("faults", "")) => match self.add_faults(body) {
                Ok(ids) => Json(ids).into_response(),
                Err(why) => bad_request(why),
            },
            ("DELETE", ("faults", id)) => {
                self.state().faults.retain(|known| !id.is_empty() && known.report.fault.id.as_deref() != Some(id));
                StatusCode::NO_CONTENT.into_response()
            }
            (_, ("counts" | "faults", _)) => StatusCode::METHOD_NOT_ALLOWED.into_response(),
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    fn counts(&self) -> Vec<Count> {
        let read = |(call, counter): (&Call, &Arc<Counter>)| Count {
            call: call.clone(),
            calls: counter.calls.load(Ordering::Relaxed),
            bytes_sent: counter.bytes_sent.load(Ordering::Relaxed),
            bytes_received: counter.bytes_received.load(Ordering::Relaxed),
        };
        self.state().counts.iter().map(read).collect()
    }

    fn reports(&self) -> Vec<FaultReport> {
        self.state().faults.iter().map(|known| known.report.clone()).collect()
    }

    fn add_faults(&self, body: &[u8]) -> Result<Vec<String>, String> {
        let faults = serde_json::from_slice::<OneOrMany<Fault>>(body)
            .map_err(|error| format!("faults are a fault or a list of faults: {error}"))?
            .into_vec();
        for fault in &faults {
            if (fault.action == Action::Delay) != fault.delay_ms.is_some() {
                return Err("`delay_ms` and action `delay` belong together".to_owned());
            }
            if (fault.action == Action::Status) != fault.status.is_some_and(|status| StatusCode::from_u16(status).is_ok()) {
                return Err("action `status` wants a `status`, and no other does".to_owned());
            }
            if fault.one_in == Some(0) {
                return Err("`one_in` is from 1: one call in so many is broken".to_owned());
            }
            if fault.seed.is_some() && fault.one_in.is_none() {
                return Err("`seed` belongs to `one_in`".to_owned());
            }
        }
        let mut state = self.state();
        if state.faults.len() + faults.len() > FAULTS_MAX {
            return Err(format!("that would be more than {FAULTS_MAX} faults; delete some"));
        }
        Ok(faults.into_iter().map(|fault| state.add_fault(fault)).collect())
    }

    /// One AWS call: counted, broken if a fault says so, else passed on.
    async fn call(&self, parts: Parts, body: Bytes, connection: Connection) -> Result<Response, HangUp> {
        let call = Call::of(&parts, &body);
        let counter = self.state().counter(&call);
        counter.calls.fetch_add(1, Ordering::Relaxed);
        counter.bytes_sent.fetch_add(body.len() as u64, Ordering::Relaxed);

        let Some(fault) = self.state().fire(&call, &body) else {
            return self.pass_on(parts, body, counter).await;
        };
        match fault.action {
            Action::Hang => Err(server::hang().await),
            Action::HangAfter => {
                self.swallow(parts, body).await;
                Err(server::hang().await)
            }
            Action::ResetBefore => Err(HangUp),
            Action::Throttle => Ok(throttled(&call)),
            Action::Status => Ok(broken(fault.status)),
            Action::Delay => {
                tokio::time::sleep(Duration::from_millis(fault.delay_ms.unwrap_or_default())).await;
                self.pass_on(parts, body, counter).await
            }
            Action::ResetAfter => {
                self.swallow(parts, body).await;
                Err(HangUp)
            }
            Action::Kill => Err(self.kill(fault, connection).await),
            Action::KillAfter => {
                self.swallow(parts, body).await;
                Err(self.kill(fault, connection).await)
            }
        }
    }

    async fn pass_on(&self, parts: Parts, body: Bytes, counter: Arc<Counter>) -> Result<Response, HangUp> {
        let answer = match self.client.request(self.upstream_request(parts, body)).await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => {
                let why = format!("the wire cannot reach the emulator at {}: {error}\n", self.upstream);
                return Ok((StatusCode::BAD_GATEWAY, why).into_response());
            }
            Err(_) => return Err(HangUp),
        };
        let (mut parts, body) = answer.into_parts();
        drop_hop_by_hop(&mut parts.headers);
        let body = body.map_frame(move |frame| {
            if let Some(data) = frame.data_ref() {
                counter.bytes_received.fetch_add(data.len() as u64, Ordering::Relaxed);
            }
            frame
        });
        Ok(Response::from_parts(parts, Body::new(body)))
    }

    /// Passes a call on, and waits for the whole of an answer that nobody gets.
    async fn swallow(&self, parts: Parts, body: Bytes) {
        if let Ok(answer) = self.client.request(self.upstream_request(parts, body)).await {
            let _ = answer.into_body().collect().await;
        }
    }

    fn upstream_request(&self, parts: Parts, body: Bytes) -> hyper::Request<Full<Bytes>> {
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let mut request = hyper::Request::new(Full::new(body));
        *request.uri_mut() = format!("http://{}{target}", self.upstream).parse::<Uri>().expect("it was a valid target before");
        *request.method_mut() = parts.method;
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = parts.headers;
        drop_hop_by_hop(request.headers_mut());
        request
    }

    async fn kill(&self, fault: Fault, connection: Connection) -> HangUp {
        let wire = self.clone();
        // In a task of its own: the death of the process ends its connection, and with that whatever serves it.
        let _ = tokio::task::spawn_blocking(move || {
            let killed = process::kill_peer(connection);
            if let Some(report) = wire.state().report_of(&fault) {
                report.killed.extend(killed);
            }
        })
        .await;
        HangUp
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

impl State {
    fn counter(&mut self, call: &Call) -> Arc<Counter> {
        if self.counts.len() >= COUNTS_MAX && !self.counts.contains_key(call) {
            let other = Call { function: "other".to_owned(), service: String::new(), operation: String::new() };
            return self.counts.entry(other).or_default().clone();
        }
        self.counts.entry(call.clone()).or_default().clone()
    }

    fn add_fault(&mut self, mut fault: Fault) -> String {
        self.fault_ids += 1;
        let id = fault.id.get_or_insert_with(|| format!("fault-{}", self.fault_ids)).clone();
        let draws = Rng::with_seed(fault.seed.unwrap_or_default());
        let armed = Armed { report: FaultReport { fault, fired: 0, killed: Vec::new() }, draws };
        match self.faults.iter_mut().find(|known| known.report.fault.id.as_deref() == Some(&id)) {
            Some(known) => *known = armed,
            None => self.faults.push(armed),
        }
        id
    }

    fn report_of(&mut self, fault: &Fault) -> Option<&mut FaultReport> {
        self.faults.iter_mut().map(|known| &mut known.report).find(|report| report.fault.id == fault.id)
    }

    fn fire(&mut self, call: &Call, body: &[u8]) -> Option<Fault> {
        let mut about = self.faults.iter_mut().filter(|known| known.report.matches(call, body));
        let armed = about.find_map(|known| known.is_drawn().then_some(known))?;
        armed.report.fired += 1;
        Some(armed.report.fault.clone())
    }
}

impl Armed {
    fn is_drawn(&mut self) -> bool {
        self.report.fault.one_in.is_none_or(|one_in| self.draws.u64(..one_in) == 0)
    }
}

impl FaultReport {
    fn matches(&self, call: &Call, body: &[u8]) -> bool {
        let fault = &self.fault;
        fault.times.is_none_or(|times| self.fired < times)
            && fault.function.as_ref().is_none_or(|function| *function == call.function)
            && fault.service.as_ref().is_none_or(|service| *service == call.service)
            && fault.operation.as_ref().is_none_or(|operation| *operation == call.operation)
            && fault.body_contains.as_ref().is_none_or(|text| memmem::find(body, text.as_bytes()).is_some())
    }
}

impl Call {
    fn of(parts: &Parts, body: &[u8]) -> Self {
        let (service, operation) = json_operation(&parts.headers)
            .or_else(|| query_operation(parts, body))
            .unwrap_or_else(|| path_operation(&parts.method, &parts.uri));
        Self { function: function(&parts.headers), service, operation }
    }
}

/// The SDK puts its application name into one of two user agents as `app/<name>`.
fn function(headers: &HeaderMap) -> String {
    [USER_AGENT.as_str(), "x-amz-user-agent"]
        .iter()
        .filter_map(|name| headers.get(*name)?.to_str().ok())
        .flat_map(|agent| agent.split(' '))
        .find_map(|part| part.strip_prefix("app/"))
        .unwrap_or("unknown")
        .to_owned()
}

/// The JSON protocols (DynamoDB, SQS, Secrets Manager, …): `X-Amz-Target: DynamoDB_20120810.PutItem`.
fn json_operation(headers: &HeaderMap) -> Option<(String, String)> {
    let (service, operation) = headers.get("x-amz-target")?.to_str().ok()?.rsplit_once('.')?;
    let service = service.trim_start_matches("Amazon").split('_').next().unwrap_or(service);
    Some((service.to_ascii_lowercase(), operation.to_owned()))
}

/// The query protocol (STS, SNS, CloudFormation, …): a form with `Action=…`.
fn query_operation(parts: &Parts, body: &[u8]) -> Option<(String, String)> {
    let form = parts.headers.get(CONTENT_TYPE)?.as_bytes().starts_with(b"application/x-www-form-urlencoded");
    let body = std::str::from_utf8(body).ok().filter(|_| form)?;
    let action = body.split('&').find_map(|field| field.strip_prefix("Action="))?;
    Some(("query".to_owned(), action.to_owned()))
}

/// The REST protocols: Lambda by its path; whatever else is S3, by method and the path's shape.
fn path_operation(method: &Method, uri: &Uri) -> (String, String) {
    let path = uri.path().trim_matches('/');
    if path.starts_with("2015-03-31/functions/") && path.ends_with("/invocations") {
        return ("lambda".to_owned(), "Invoke".to_owned());
    }
    let query = uri.query().unwrap_or_default();
    let operation = match (method.as_str(), path.split_once('/').map(|(_, key)| key)) {
        (_, Some(_)) if query.contains("uploadId=") || query.starts_with("uploads") => return s3(method, "Multipart"),
        ("PUT", Some(_)) => "PutObject",
        ("GET", Some(_)) => "GetObject",
        ("HEAD", Some(_)) => "HeadObject",
        ("DELETE", Some(_)) => "DeleteObject",
        ("GET", None) if path.is_empty() => "ListBuckets",
        ("GET", None) if query.is_empty() || query.contains("list-type=2") => "ListObjectsV2",
        ("HEAD", None) => "HeadBucket",
        ("POST", None) if query.starts_with("delete") => "DeleteObjects",
        _ => return s3(method, "Other"),
    };
    ("s3".to_owned(), operation.to_owned())
}

fn s3(method: &Method, kind: &str) -> (String, String) {
    ("s3".to_owned(), format!("{kind}:{method}"))
}

/// What concerns one connection alone. The framing is made anew by whoever sends.
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    for name in [CONNECTION, TRANSFER_ENCODING, TE, TRAILER, UPGRADE] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
}

/// Throttling as the service itself tells it.
fn throttled(call: &Call) -> Response {
    if call.service == "s3" {
        let error = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
        return (StatusCode::SERVICE_UNAVAILABLE, [(CONTENT_TYPE, "application/xml")], error).into_response();
    }
    let error = r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#;
    (StatusCode::BAD_REQUEST, [(CONTENT_TYPE, "application/x-amz-json-1.0")], error).into_response()
}

/// An error without a meaning, as a service in trouble gives.
fn broken(status: Option<u16>) -> Response {
    let status = status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let error = r#"{"__type":"InternalFailure","message":"broken on purpose"}"#;
    (status, [(CONTENT_TYPE, "application/x-amz-json-1.0")], error).into_response()
}

#[cfg(test)]
mod tests;
