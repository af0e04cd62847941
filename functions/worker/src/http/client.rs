//! HTTP over the network, with one client for each set of connections that the configuration allows.

use std::{collections::HashMap, error::Error, time::Duration};

use reqwest::{Certificate, Client, Response, Url, redirect::Policy};
use rustls::CertificateError;
use shared::config::{Connecting, Destination, DestinationKind};

use super::{
    Answer, Exchange, Post,
    guard::{Guard, NotPublic},
};
use crate::failure::Failure;

/// How long a connection is kept for the next delivery, in seconds: while a function is frozen the other side closes them.
pub const IDLE_SECONDS_MAX: u64 = 15;

/// Exchanges over the network.
#[derive(Debug, Clone)]
pub struct HttpClient {
    clients: HashMap<Connecting, Guarded>,
}

/// A client, and what it may reach. It has connections of its own, so that none is used again by whom it is not allowed to.
#[derive(Debug, Clone)]
struct Guarded {
    client: Client,
    guard: Guard,
}

impl HttpClient {
    /// The clients for these destinations. They follow no redirect and use no proxy.
    pub fn new<'a>(destinations: impl IntoIterator<Item = &'a Destination>) -> Result<Self, reqwest::Error> {
        // Refused only if a provider is installed already, which is as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut clients = HashMap::new();
        for destination in destinations {
            if let DestinationKind::Http(http) = &destination.kind
                && !clients.contains_key(&http.connecting)
            {
                clients.insert(http.connecting.clone(), Guarded::new(&http.connecting)?);
            }
        }
        Ok(Self { clients })
    }
}

impl Guarded {
    fn new(connecting: &Connecting) -> Result<Self, reqwest::Error> {
        let guard = Guard::new(&connecting.allow_networks);
        let authorities = Certificate::from_pem_bundle(connecting.ca.as_deref().unwrap_or_default().as_bytes())?;
        // Beside these, the certificates of the system: in Lambda those of Amazon Linux, which the AWS clients use as well.
        let client = Client::builder()
            .tls_certs_merge(authorities)
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .dns_resolver(guard.clone())
            .connect_timeout(connecting.timeout)
            .pool_idle_timeout(Duration::from_secs(IDLE_SECONDS_MAX))
            .user_agent(concat!("posthouse/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, guard })
    }
}

impl Exchange for HttpClient {
    async fn post(&self, post: Post<'_>) -> Result<Answer, Failure> {
        // One was made for every destination.
        let Some(Guarded { client, guard }) = self.clients.get(post.connecting) else {
            return Err(Failure::Permanent("there is no client for this destination".to_owned()));
        };
        let url = Url::parse(post.url).map_err(|error| Failure::Permanent(format!("its URL cannot be used: {error}")))?;
        guard.check_literal(&url).map_err(|refused| Failure::Permanent(refused.to_string()))?;
        match client.post(url).timeout(post.timeout).headers(post.headers).body(post.body).send().await {
            Ok(response) => Ok(Answer {
                status: response.status(),
                headers: response.headers().clone(),
                body: read(response, post.response_bytes_max).await,
            }),
            Err(error) => Err(failure(&error)),
        }
    }
}

/// Reads a short answer to its end, so that the connection can be used again; of a longer one, or one that breaks off, what there
/// is. Its status stands, whatever happens now.
async fn read(mut response: Response, bytes_max: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < bytes_max {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk[..chunk.len().min(bytes_max - body.len())]),
            Ok(None) | Err(_) => break,
        }
    }
    body
}

/// What failed and why, without the URL, which can hold credentials.
fn failure(error: &reqwest::Error) -> Failure {
    if let Some(refused) = causes(error).find_map(|cause| cause.downcast_ref::<NotPublic>()) {
        return Failure::Permanent(refused.to_string());
    }
    let what = if error.is_timeout() {
        "timed out"
    } else if error.is_connect() {
        "cannot connect"
    } else {
        "the exchange failed"
    };
    let reason = match causes(error).find_map(certificate_error) {
        Some(error) => format!("{what}: {}", explain(error)),
        None => causes(error).last().map_or_else(|| what.to_owned(), |cause| format!("{what}: {cause}")),
    };
    if error.is_builder() { Failure::Permanent(reason) } else { Failure::Transient(reason) }
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| match cause.downcast_ref::<std::io::Error>() {
        // Its `source` leaves out what it was made of.
        Some(error) => error.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => cause.source(),
    })
}

fn certificate_error<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a CertificateError> {
    match cause.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(error) => Some(error),
        _ => None,
    }
}

fn explain(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another host".to_owned()
        }
        CertificateError::UnknownIssuer | CertificateError::Other(_) => {
            "its certificate is self-signed, or of an authority that is not known; a private one can be given as `ca`".to_owned()
        }
        other => format!("its certificate is not accepted: {other}"),
    }
}
