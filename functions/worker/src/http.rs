//! The `http` destination: a POST of the exact body, signed as Standard Webhooks, followed by no redirect.

use std::time::Duration;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::{
    Client, Response, StatusCode,
    header::{self, HeaderMap, HeaderValue},
    redirect::Policy,
};
use shared::{
    config::HttpDestination, event::Event, names::DestinationName, secrets::Keyrings, signatures::outgoing, time::Timestamp,
};

use crate::failure::{Failure, retry_after};

/// Longest time to connect, in seconds; the destination's own timeout bounds the whole exchange.
pub(crate) const CONNECT_SECONDS_MAX: u64 = 3;
/// How long a connection is kept for the next delivery, in seconds: while a function is frozen the other side closes them.
pub(crate) const IDLE_SECONDS_MAX: u64 = 15;
/// How much of an answer is read, in bytes, so that the connection can be used again; the rest is dropped with it.
pub(crate) const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// What a header value must not hold as it is.
const HEADER_UNSAFE: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// One HTTP exchange with a destination: over the network, or with a simulated destination.
pub trait Exchange: Send + Sync {
    /// POSTs once, within `timeout` as a whole. It makes no retries: those are the delivery's.
    fn post(
        &self,
        url: &str,
        headers: HeaderMap,
        body: Vec<u8>,
        timeout: Duration,
    ) -> impl Future<Output = Result<Answer, Failure>> + Send;
}

/// What a destination answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its `Retry-After`, as sent.
    pub retry_after: Option<String>,
}

/// Exchanges over the network.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: Client,
}

impl HttpClient {
    /// A client that follows no redirect and uses no proxy.
    pub fn new() -> Result<Self, reqwest::Error> {
        // Refused only if a provider is installed already, which is as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
            .pool_idle_timeout(Duration::from_secs(IDLE_SECONDS_MAX))
            .user_agent(concat!("posthouse/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client })
    }
}

impl Exchange for HttpClient {
    async fn post(&self, url: &str, headers: HeaderMap, body: Vec<u8>, timeout: Duration) -> Result<Answer, Failure> {
        match self.client.post(url).timeout(timeout).headers(headers).body(body).send().await {
            Ok(response) => {
                let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
                let answer = Answer { status: response.status(), retry_after: retry_after.map(str::to_owned) };
                drain(response).await;
                Ok(answer)
            }
            Err(error) if error.is_builder() => Err(Failure::Permanent(describe(&error))),
            Err(error) => Err(Failure::Transient(describe(&error))),
        }
    }
}

/// Delivers once.
pub(crate) async fn deliver(
    exchange: &impl Exchange,
    name: &DestinationName,
    destination: &HttpDestination,
    event: &Event,
    body: Vec<u8>,
    keyrings: &Keyrings,
    now: Timestamp,
) -> Result<(), Failure> {
    let id = header_safe(&event.key.to_string());
    let signature = sign(&id, &body, keyrings, &destination.secret, now).await?;
    let written = [
        ("webhook-id", id.clone()),
        ("webhook-timestamp", now.seconds().to_string()),
        ("webhook-signature", signature),
        ("idempotency-key", format!("{id}#{name}")),
        ("posthouse-source", event.key.source.to_string()),
        ("posthouse-event-type", header_safe(event.event_type.as_str())),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let value = HeaderValue::try_from(value).map_err(|error| Failure::Permanent(format!("{name}: {error}")))?;
        headers.insert(name, value);
    }
    let content_type = event.headers.get("content-type").and_then(|value| HeaderValue::try_from(value).ok());
    headers.extend(content_type.map(|value| (header::CONTENT_TYPE, value)));
    let answer = exchange.post(&destination.url, headers, body, destination.timeout).await?;
    classify(answer.status, answer.retry_after.and_then(|asked| retry_after(&asked, now)))
}

/// Signs with every valid key. A keyring that cannot sign may have been mended meanwhile: it is read again, at most once a minute.
async fn sign(id: &str, body: &[u8], keyrings: &Keyrings, secret: &str, now: Timestamp) -> Result<String, Failure> {
    let keyring = keyrings.current(secret, now).await.map_err(|error| Failure::Transient(error.to_string()))?;
    if let Some(signature) = outgoing::sign(id, now, body, &keyring) {
        return Ok(signature);
    }
    let mended = keyrings.after_refusal(secret, now).await;
    mended
        .and_then(|keyring| outgoing::sign(id, now, body, &keyring))
        // A mistake of ours that a person must mend: no attempt is spent until then.
        .ok_or_else(|| Failure::Auth(format!("no key of the secret `{secret}` can sign")))
}

/// What the destination's answer means.
fn classify(status: StatusCode, asked: Option<Duration>) -> Result<(), Failure> {
    let reason = format!("the destination answered {status}");
    match status.as_u16() {
        200..=299 => Ok(()),
        300..=399 => Err(Failure::Permanent(format!("{reason}; redirects are not followed"))),
        401 | 403 | 407 => Err(Failure::Auth(reason)),
        429 => Err(Failure::Throttled { retry_after: asked, reason }),
        503 if asked.is_some() => Err(Failure::Throttled { retry_after: asked, reason }),
        409 => Err(Failure::Conflict(reason)),
        408 | 425 | 500.. => Err(Failure::Transient(reason)),
        _ => Err(Failure::Permanent(reason)),
    }
}

/// Reads a short answer to its end. What it says is not kept, and a failure now changes nothing about the status.
async fn drain(mut response: Response) {
    let mut read = 0;
    while read < RESPONSE_BYTES_MAX {
        match response.chunk().await {
            Ok(Some(chunk)) => read += chunk.len(),
            Ok(None) | Err(_) => return,
        }
    }
}

fn header_safe(text: &str) -> String {
    utf8_percent_encode(text, HEADER_UNSAFE).to_string()
}

/// What failed and its first cause, without the URL, which can hold credentials.
fn describe(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "timed out"
    } else if error.is_connect() {
        "cannot connect"
    } else {
        "the exchange failed"
    };
    let causes = std::iter::successors(std::error::Error::source(error), |error| error.source());
    causes.last().map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_class() {
        let class = |status: u16, asked: Option<u64>| {
            let status = StatusCode::from_u16(status).unwrap();
            match classify(status, asked.map(Duration::from_secs)) {
                Ok(()) => "done",
                Err(Failure::Transient(_)) => "transient",
                Err(Failure::Throttled { .. }) => "throttled",
                Err(Failure::Permanent(_)) => "permanent",
                Err(Failure::Auth(_)) => "auth",
                Err(Failure::Conflict(_)) => "conflict",
            }
        };
        for (statuses, expected) in [
            (&[200, 202, 204, 299][..], "done"),
            (&[301, 302, 307, 308], "permanent"),
            (&[400, 404, 410, 413, 422], "permanent"),
            (&[401, 403, 407], "auth"),
            (&[408, 425, 500, 502, 503, 504, 599], "transient"),
            (&[409], "conflict"),
            (&[429], "throttled"),
        ] {
            for status in statuses {
                assert_eq!(class(*status, None), expected, "{status}");
            }
        }
        assert_eq!(class(503, Some(1)), "throttled");
        assert_eq!(class(500, Some(1)), "transient");
    }

    #[test]
    fn every_event_id_fits_into_a_header() {
        assert_eq!(header_safe("github#7"), "github#7");
        assert_eq!(header_safe("a#é b%"), "a#%C3%A9%20b%25");
    }
}
