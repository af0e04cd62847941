//! The `http` destination: a POST of the exact body, signed as Standard Webhooks, followed by no redirect.
//!
//! An attempt has one span of time for all that it takes: reading a credential, asking for a token, the exchange, and a second one
//! where the destination refuses a credential that has just changed. It never reaches an address that is not public, unless the
//! configuration allows its network.

mod auth;
mod client;
mod guard;
mod headers;
mod oauth;

use std::time::Duration;

use bytes::Bytes;
use reqwest::{
    StatusCode,
    header::{self, HeaderMap},
};
use shared::{
    config::{Connecting, HttpDestination, Meaning, Statuses},
    names::DestinationName,
    secrets::Keyrings,
    signatures::outgoing::Signing,
    time::Timestamp,
};

pub use client::{HttpClient, IDLE_SECONDS_MAX};
pub use oauth::{
    ERROR_CODE_BYTES_MAX, EXCHANGE_MILLIS_MIN, TOKEN_ANSWER_BYTES_MAX, TOKEN_MARGIN_SECONDS, TOKEN_SECONDS_DEFAULT, Tokens,
};

use crate::{
    Invocation, Worker,
    failure::{Failure, retry_after},
    parcel::Parcel,
};

/// Longest request id of a destination that is told, in bytes.
pub const REQUEST_ID_BYTES_MAX: usize = 64;

/// One HTTP exchange with a destination or a token endpoint: over the network, or a simulated one.
pub trait Exchange: Send + Sync {
    /// POSTs once. It makes no retries: those are the delivery's.
    fn post(&self, post: Post<'_>) -> impl Future<Output = Result<Answer, Failure>> + Send;
}

/// What is POSTed. It holds credentials, so it has no `Debug`.
pub struct Post<'a> {
    /// Where to.
    pub url: &'a str,
    /// Its headers, beside those of the connection.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// The whole exchange, connecting included.
    pub timeout: Duration,
    /// What connections are allowed.
    pub connecting: &'a Connecting,
    /// How much of the answer's body is read, in bytes.
    pub response_bytes_max: usize,
}

/// What was answered. It may hold a token, so it has no `Debug`.
#[derive(Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// The beginning of its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// An answer of a status and nothing else.
    pub fn of(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Vec::new() }
    }

    fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        retry_after(self.header(header::RETRY_AFTER)?, now)
    }
}

/// An attempt and its time.
struct Call<'a, E> {
    worker: &'a Worker<E>,
    name: &'a DestinationName,
    destination: &'a HttpDestination,
    /// Who asks, among all workers.
    holder: &'a str,
    until: Until,
}

/// The end of an attempt's time.
#[derive(Clone, Copy)]
struct Until {
    end: Timestamp,
    now: fn() -> Timestamp,
}

impl Until {
    fn left(self) -> Duration {
        self.end.since((self.now)())
    }

    /// Breaks off what takes longer than is left.
    async fn within<T>(self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::time::timeout(self.left(), work).await.map_err(|_| Failure::Transient("timed out".to_owned()))
    }
}

/// Delivers once.
pub(crate) async fn deliver<E: Exchange>(
    worker: &Worker<E>,
    destination: &HttpDestination,
    parcel: Parcel<'_>,
    invocation: Invocation<'_>,
) -> Result<(), Failure> {
    let now = (invocation.now)();
    let id = parcel.signed_id();
    let mut headers = headers::of(&parcel, &id, &destination.headers, now)?;
    if let Some(signing) = &destination.signing {
        let signature = sign(&id, &parcel.body, &worker.keyrings, signing, now).await?;
        headers.insert("webhook-signature", headers::value("webhook-signature", signature)?);
    }
    let until = Until { end: (invocation.now)().plus(destination.timeout), now: invocation.now };
    let call = Call { worker, name: parcel.destination, destination, holder: invocation.request_id, until };
    let body = Bytes::from(parcel.body);
    let Some(auth) = &destination.auth else {
        let answer = call.post(&headers, body).await?;
        return call.classify(&answer);
    };
    let credential = call.credential(auth, None).await?;
    headers.insert(credential.header.clone(), credential.value.clone());
    let answer = call.post(&headers, body.clone()).await?;
    let classified = call.classify(&answer);
    // A secret or a token may have been replaced since it was read.
    if answer.status != StatusCode::UNAUTHORIZED || !matches!(classified, Err(Failure::Refused(_))) {
        return classified;
    }
    let Some(credential) = call.credential_after_refusal(auth, &credential).await? else { return classified };
    headers.insert(credential.header, credential.value);
    let answer = call.post(&headers, body).await?;
    call.classify(&answer)
}

impl<E: Exchange> Call<'_, E> {
    async fn post(&self, headers: &HeaderMap, body: Bytes) -> Result<Answer, Failure> {
        let post = Post {
            url: &self.destination.url,
            headers: headers.clone(),
            body,
            timeout: self.until.left(),
            connecting: &self.destination.connecting,
            response_bytes_max: self.destination.response_bytes_max,
        };
        self.worker.exchange.post(post).await
    }

    fn classify(&self, answer: &Answer) -> Result<(), Failure> {
        classify(answer, &self.destination.statuses, (self.until.now)())
    }
}

/// Signs with every valid key. A keyring that cannot sign may have been mended meanwhile: it is read again, at most once a minute.
async fn sign(id: &str, body: &[u8], keyrings: &Keyrings, signing: &Signing, now: Timestamp) -> Result<String, Failure> {
    let secret = &signing.secret;
    let keyring = keyrings.current(secret, now).await.map_err(|error| Failure::Transient(error.to_string()))?;
    if let Some(signature) = signing.sign(id, now, body, &keyring) {
        return Ok(signature);
    }
    let mended = keyrings.after_refusal(secret, now).await.map_err(|error| Failure::Transient(error.to_string()))?;
    mended
        .and_then(|keyring| signing.sign(id, now, body, &keyring))
        // A mistake of ours that a person must mend: no attempt is spent until then.
        .ok_or_else(|| Failure::Auth(format!("no key of the secret `{secret}` can sign")))
}

/// What the destination's answer means.
fn classify(answer: &Answer, statuses: &Statuses, now: Timestamp) -> Result<(), Failure> {
    let (status, asked) = (answer.status, answer.retry_after(now));
    let mut reason = format!("the destination answered {status}");
    if let Some(id) = request_id(answer) {
        reason = format!("{reason} (request id {id})");
    }
    if status.is_redirection() {
        reason = format!("{reason}; redirects are not followed");
    }
    let usual = || match status.as_u16() {
        200..=299 => Meaning::Done,
        401 | 403 | 407 => Meaning::Auth,
        429 => Meaning::Throttled,
        503 if asked.is_some() => Meaning::Throttled,
        409 => Meaning::Conflict,
        408 | 425 | 500.. => Meaning::Transient,
        _ => Meaning::Permanent,
    };
    match statuses.meaning(status.as_u16()).unwrap_or_else(usual) {
        Meaning::Done => Ok(()),
        Meaning::Transient => Err(Failure::Transient(reason)),
        Meaning::Throttled => Err(Failure::Throttled { retry_after: asked, reason }),
        Meaning::Permanent => Err(Failure::Permanent(reason)),
        Meaning::Auth => Err(Failure::Refused(reason)),
        Meaning::Conflict => Err(Failure::Conflict(reason)),
    }
}

/// By what its operators find the request in their logs, if it looks like an id.
fn request_id(answer: &Answer) -> Option<&str> {
    let id = answer.header("x-request-id")?;
    let is_id = (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    is_id.then_some(id)
}

#[cfg(test)]
mod tests;
