//! A destination that does as it is told, and writes down what it was sent.
//!
//! Any method on `/{name}`, or below it, plays the script of `name` and goes into the journal. Names that start with
//! an underscore are the destination's own:
//!
//! | request | effect |
//! | --- | --- |
//! | `PUT /_control/{name}[?event=…]` | sets the script: one [`Step`], or a list of them |
//! | `DELETE /_control/{name}[?event=…]` | back to answering 200 |
//! | `GET /_journal/{name}[?event=…]` | the [`Entry`]s of `name`, oldest first |
//! | `DELETE /_journal/{name}` | forgets them |
//! | `PUT /_token/{name}` | makes a token endpoint: an [`Endpoint`] |
//! | `GET /_token/{name}` | the same, with what it has done |
//! | `POST /_token/{name}` | asks it for a token; goes into the journal of `token-{name}`, and plays a script of that name |
//! | `GET /_health` | 200 |
//!
//! It speaks TLS as well, on the same port, with a certificate of its own that nobody should trust.
//!
//! It honours the header `Idempotency-Key` as a good destination does: what it answers with 2xx it applies, once for each key, and
//! a repeat of that key is answered like the first and applied no more. An answer that is then held back or cut off changes
//! nothing about the effect. The journal tells each request's [`Effect`].
//!
//! `event` narrows a script or a reading to the requests that name that text in a header value or in the body. So
//! tests that run at the same time can each have their own failures at one destination.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json,
    body::Body,
    extract::{Query, Request},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, request::Parts};
use memchr::memmem;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

mod token;

pub use token::Endpoint;

use crate::{
    certificate::{Authority, Certificate},
    server::{self, HangUp, OneOrMany, bad_request},
};

/// Entries that the journal holds over all names; the oldest go first.
pub const JOURNAL_ENTRIES_MAX: usize = 50_000;

/// Bytes of bodies that the journal holds over all names; the oldest entries go first.
pub const JOURNAL_BODY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Scripts that can be set at a time.
pub const SCRIPTS_MAX: usize = 10_000;

/// The pieces that a slow body is sent in.
const SLOW_BODY_PIECES: usize = 10;

/// What to do with one request.
///
/// In a script, a step is played `times` times and the next one follows. Without `times` a step is played once, and
/// the last one for ever. After a last step that has `times` the destination answers 200 again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Step {
    /// The status to answer with. With 2xx the request is applied.
    pub status: u16,
    /// Headers to answer with.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// How long to wait before answering.
    pub delay_ms: u64,
    /// Never answer, whatever the status says about the effect.
    pub hang: bool,
    /// Reset the connection instead of answering, whatever the status says about the effect.
    pub reset: bool,
    /// How long sending the body takes, after the head of the answer went out at once.
    pub slow_body_ms: u64,
    /// The body to answer with.
    pub body: String,
    /// How often to play this step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
}

impl Default for Step {
    fn default() -> Self {
        Self {
            status: 200,
            headers: BTreeMap::new(),
            delay_ms: 0,
            hang: false,
            reset: false,
            slow_body_ms: 0,
            body: String::new(),
            times: None,
        }
    }
}

/// One request that the destination was sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The destination's name: the first part of the path.
    pub name: String,
    /// When the request had arrived, in milliseconds of Unix time.
    pub at: u64,
    /// The request's method.
    pub method: String,
    /// The request's path and query.
    pub path: String,
    /// The request's headers, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The request's exact body.
    #[serde(with = "base64_text")]
    pub body: Bytes,
    /// The body's SHA-256 in hexadecimal.
    pub sha256: String,
    /// What was played in answer.
    pub answer: Step,
    /// What the request did.
    pub effect: Effect,
}

/// What a request did at the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Nothing: it was refused.
    Refused,
    /// It was applied.
    Applied,
    /// Nothing: its idempotency key has been applied before.
    Repeated,
}

impl Entry {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// The destination: cheap to clone, every clone is the same one.
#[derive(Clone, Default)]
pub struct Destination {
    state: Arc<Mutex<State>>,
}

impl Destination {
    /// Serves `listener` for ever.
    pub async fn serve(self, listener: TcpListener) {
        self.serve_with(listener, &Authority::default(), Certificate::SelfSigned).await;
    }

    /// The same, with such a certificate.
    pub async fn serve_with(self, listener: TcpListener, authority: &Authority, certificate: Certificate) {
        server::serve_with(listener, Some(authority.acceptor(certificate)), move |request, _| {
            let destination = self.clone();
            async move { destination.handle(request).await }
        })
        .await;
    }

    async fn handle(&self, request: Request) -> Result<Response, HangUp> {
        let (parts, body) = request.into_parts();
        let body = server::read(body).await?;
        let path = parts.uri.path().trim_start_matches('/').to_owned();
        let (first, rest) = path.split_once('/').unwrap_or((&path, ""));
        match (&parts.method, first, rest) {
            (&Method::GET, "_health", _) => Ok("ok\n".into_response()),
            (method, "_control" | "_journal", name) if !name.is_empty() => {
                let event = match Query::<Narrowed>::try_from_uri(&parts.uri) {
                    Ok(Query(narrowed)) => narrowed.event,
                    Err(error) => return Ok(bad_request(error)),
                };
                Ok(match (first, method) {
                    ("_control", &Method::PUT) => self.set_script(name, event, &body),
                    ("_control", &Method::DELETE) => self.drop_script(name, event),
                    ("_journal", &Method::GET) => self.read_journal(name, event.as_deref()),
                    ("_journal", &Method::DELETE) => self.forget_journal(name),
                    _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
                })
            }
            (method, "_token", name) if !name.is_empty() => self.token(name, method, &parts, body).await,
            (_, own, _) if own.is_empty() || own.starts_with('_') => Ok(StatusCode::NOT_FOUND.into_response()),
            (method, name, _) => {
                let step = self.receive(name, method, &parts.uri, &parts.headers, body);
                play(step).await
            }
        }
    }

    async fn token(&self, name: &str, method: &Method, parts: &Parts, body: Bytes) -> Result<Response, HangUp> {
        match *method {
            Method::PUT => {
                let endpoint = match serde_json::from_slice(&body) {
                    Ok(endpoint) => endpoint,
                    Err(error) => return Ok(bad_request(error)),
                };
                self.state().endpoints.insert(name.to_owned(), endpoint);
                Ok(StatusCode::NO_CONTENT.into_response())
            }
            Method::GET => Ok(self
                .state()
                .endpoints
                .get(name)
                .map_or(StatusCode::NOT_FOUND.into_response(), |endpoint| Json(endpoint).into_response())),
            _ => {
                let step = self.receive(&format!("token-{name}"), method, &parts.uri, &parts.headers, body.clone());
                if step != Step::default() {
                    return play(step).await;
                }
                let mut state = self.state();
                let endpoint = state.endpoints.get_mut(name);
                Ok(endpoint.map_or(StatusCode::NOT_FOUND.into_response(), |found| found.answer(name, &parts.headers, &body)))
            }
        }
    }

    fn set_script(&self, name: &str, event: Option<String>, body: &[u8]) -> Response {
        let steps = match serde_json::from_slice::<OneOrMany<Step>>(body) {
            Ok(steps) => steps.into_vec(),
            Err(error) => return bad_request(format!("a script is one step or a list of steps: {error}")),
        };
        if let Some(status) = steps.iter().map(|step| step.status).find(|status| !(200..1000).contains(status)) {
            return bad_request(format!("{status} is not a status to answer with"));
        }
        let mut state = self.state();
        if state.scripts.len() >= SCRIPTS_MAX {
            return bad_request(format!("there are {SCRIPTS_MAX} scripts already; delete some"));
        }
        state.scripts.insert((name.to_owned(), event), Script { steps: steps.into(), played: 0 });
        StatusCode::NO_CONTENT.into_response()
    }

    fn drop_script(&self, name: &str, event: Option<String>) -> Response {
        self.state().scripts.remove(&(name.to_owned(), event));
        StatusCode::NO_CONTENT.into_response()
    }

    fn read_journal(&self, name: &str, event: Option<&str>) -> Response {
        // Cloned under the lock (bodies are shared), written out after it.
        let entries: Vec<Entry> =
            self.state().journal.iter().filter(|entry| entry.name == name && entry.names(event)).cloned().collect();
        Json(entries).into_response()
    }

    fn forget_journal(&self, name: &str) -> Response {
        let mut state = self.state();
        state.journal.retain(|entry| entry.name != name);
        state.applied.retain(|(known, _)| known != name);
        state.journal_body_bytes = state.journal.iter().map(|entry| entry.body.len()).sum();
        StatusCode::NO_CONTENT.into_response()
    }

    /// Writes the request down, before anything is answered, and says what to answer.
    fn receive(&self, name: &str, method: &Method, uri: &Uri, headers: &HeaderMap, body: Bytes) -> Step {
        let headers = headers
            .iter()
            .map(|(key, value)| (key.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let mut entry = Entry {
            name: name.to_owned(),
            at: unix_millis(),
            method: method.to_string(),
            path: uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            headers,
            sha256: hex::encode(Sha256::digest(&body)),
            body,
            answer: Step::default(),
            effect: Effect::Refused,
        };
        let mut state = self.state();
        entry.answer = state.next_step(&entry);
        entry.effect = state.apply(&entry);
        let step = entry.answer.clone();
        state.write(entry);
        step
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

/// The query of a control or journal request.
#[derive(Deserialize)]
struct Narrowed {
    event: Option<String>,
}

#[derive(Default)]
struct State {
    scripts: HashMap<(String, Option<String>), Script>,
    journal: VecDeque<Entry>,
    journal_body_bytes: usize,
    endpoints: HashMap<String, Endpoint>,
    /// Names with the idempotency keys that were applied there. It knows them for as long as the journal does.
    applied: HashSet<(String, String)>,
}

impl State {
    /// A script for the event goes before the one for everything.
    fn next_step(&mut self, entry: &Entry) -> Step {
        let mut general = None;
        for ((name, event), script) in &mut self.scripts {
            if *name != entry.name {
                continue;
            }
            match event {
                Some(event) if entry.names(Some(event)) => return script.next(),
                Some(_) => {}
                None => general = Some(script),
            }
        }
        general.map(Script::next).unwrap_or_default()
    }

    fn apply(&mut self, entry: &Entry) -> Effect {
        if !(200..300).contains(&entry.answer.status) {
            return Effect::Refused;
        }
        let is_repeat = entry.applied_key().is_some_and(|key| !self.applied.insert(key));
        if is_repeat { Effect::Repeated } else { Effect::Applied }
    }

    fn write(&mut self, entry: Entry) {
        self.journal_body_bytes += entry.body.len();
        self.journal.push_back(entry);
        while self.journal.len() > JOURNAL_ENTRIES_MAX || self.journal_body_bytes > JOURNAL_BODY_BYTES_MAX {
            let Some(oldest) = self.journal.pop_front() else { break };
            self.journal_body_bytes -= oldest.body.len();
            if let (Effect::Applied, Some(key)) = (oldest.effect, oldest.applied_key()) {
                self.applied.remove(&key);
            }
        }
    }
}

impl Entry {
    /// The destination's name with the idempotency key, if there is one.
    fn applied_key(&self) -> Option<(String, String)> {
        Some((self.name.clone(), self.header("idempotency-key")?.to_owned()))
    }

    fn names(&self, event: Option<&str>) -> bool {
        let Some(event) = event else { return true };
        self.headers.iter().any(|(_, value)| value.contains(event)) || memmem::find(&self.body, event.as_bytes()).is_some()
    }
}

struct Script {
    steps: VecDeque<Step>,
    /// How often the first of `steps` was played.
    played: u64,
}

impl Script {
    fn next(&mut self) -> Step {
        loop {
            let Some(step) = self.steps.front() else { return Step::default() };
            let last = self.steps.len() == 1;
            let times = step.times.unwrap_or(if last { u64::MAX } else { 1 });
            if self.played < times {
                self.played += 1;
                return step.clone();
            }
            self.steps.pop_front();
            self.played = 0;
        }
    }
}

async fn play(step: Step) -> Result<Response, HangUp> {
    tokio::time::sleep(Duration::from_millis(step.delay_ms)).await;
    if step.hang {
        return Err(server::hang().await);
    }
    if step.reset {
        return Err(HangUp);
    }
    let mut answer = Response::builder().status(step.status);
    for (name, value) in &step.headers {
        answer = answer.header(name, value);
    }
    let body = if step.slow_body_ms == 0 { Body::from(step.body) } else { slow_body(&step) };
    Ok(answer.body(body).unwrap_or_else(|error| {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("the script cannot be played: {error}\n")).into_response()
    }))
}

/// The body in pieces with a wait before each.
fn slow_body(step: &Step) -> Body {
    let body = Bytes::from(step.body.clone());
    let piece_bytes = body.len().div_ceil(SLOW_BODY_PIECES).max(1);
    let wait = Duration::from_millis(step.slow_body_ms / SLOW_BODY_PIECES as u64);
    let pieces: Vec<Bytes> = (0..SLOW_BODY_PIECES)
        .map(|n| body.slice((n * piece_bytes).min(body.len())..((n + 1) * piece_bytes).min(body.len())))
        .collect();
    Body::from_stream(futures::stream::unfold(pieces.into_iter(), move |mut pieces| async move {
        let piece = pieces.next()?;
        tokio::time::sleep(wait).await;
        Some((Ok::<_, std::convert::Infallible>(piece), pieces))
    }))
}

fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    u64::try_from(since.as_millis()).expect("the clock is not past the year 500 million")
}

/// Bytes as Base64 text in JSON.
mod base64_text {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    use bytes::Bytes;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map(Bytes::from).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod worker_tests;
