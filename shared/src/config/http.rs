//! `http` destinations.

mod auth;
mod connecting;
mod header;
mod status;

use std::time::Duration;

use ::http::Uri;
use toml::Spanned;

pub use auth::{Auth, ClientAuth, Grant, OAUTH_SUFFIX, OAuth, SCOPES_MAX};
pub use connecting::{CA_BYTES_MAX, CONNECT_SECONDS_DEFAULT, Connecting, NETWORKS_MAX};
pub use header::{Field, HEADER_FIELDS_MAX, HEADER_VALUE_BYTES_MAX, HEADERS_MAX, Header, HeaderTemplate};
pub use status::{Meaning, Statuses};

use super::{
    DELIVERY_SECONDS_DEFAULT, DELIVERY_SECONDS_MAX,
    check::{Fault, named, within},
    destination::Settings,
    file::SigningKeyKind,
};
use crate::{
    names::{DestinationName, SourceName},
    signatures::outgoing::{Signing, SigningKey},
};

/// How much of an answer is read unless the configuration says otherwise, in bytes.
pub const RESPONSE_BYTES_DEFAULT: u64 = 64 * 1024;
/// Most that is read of an answer, in bytes: ten at a time are in a worker's memory.
pub const RESPONSE_BYTES_MAX: u64 = 1024 * 1024;
/// What writing a refresh token down takes at the most, in seconds, beyond the time of the attempt: it is never broken off.
pub const TOKEN_WRITE_SECONDS: u64 = 6;

const _: () = assert!(RESPONSE_BYTES_DEFAULT <= RESPONSE_BYTES_MAX);
const _: () = assert!(DELIVERY_SECONDS_DEFAULT + TOKEN_WRITE_SECONDS <= DELIVERY_SECONDS_MAX);

/// An HTTP endpoint.
#[derive(Clone, Debug)]
pub struct HttpDestination {
    /// Where to POST.
    pub url: String,
    /// How what is sent is signed. `None`, only where there is `auth`: nothing is signed.
    pub signing: Option<Signing>,
    /// How we prove who we are, beside the signature.
    pub auth: Option<Auth>,
    /// Headers of the operator's own.
    pub headers: Vec<Header>,
    /// What its statuses mean, where that is not the usual.
    pub statuses: Statuses,
    /// The whole attempt: connecting, the exchange, and what it takes to get a token.
    pub timeout: Duration,
    /// How much of an answer is read, in bytes.
    pub response_bytes_max: usize,
    /// What connections to it are allowed.
    pub connecting: Connecting,
}

impl HttpDestination {
    /// The longest that an attempt takes.
    pub fn attempt_max(&self) -> Duration {
        self.timeout + Duration::from_secs(seconds_beside(self.auth.as_ref()))
    }
}

/// What an attempt may take beside its timeout.
fn seconds_beside(auth: Option<&Auth>) -> u64 {
    match auth {
        Some(Auth::OAuth(OAuth { grant: Grant::RefreshToken, .. })) => TOKEN_WRITE_SECONDS,
        _ => 0,
    }
}

pub(super) fn check_http(settings: &mut Settings<'_>) -> Result<HttpDestination, Fault> {
    let url = settings.entry.url.take();
    let url = settings.need("url", url)?;
    let allow_plaintext = settings.entry.allow_plaintext.take().is_some_and(Spanned::into_inner);
    check_url("url", &url, allow_plaintext)?;
    let auth = settings.entry.auth.take().map(|entry| auth::check(entry, allow_plaintext)).transpose()?;
    let signing = match (settings.entry.secret.take(), &auth) {
        (None, Some(_)) => None,
        (secret, _) => {
            let secret = settings.need("secret", secret)?;
            Some(check_signing(settings, &secret)?)
        }
    };
    let headers = header::check(settings.entry.headers.take(), auth.as_ref())?;
    let timeout = settings.entry.timeout_seconds.take();
    let bounds = 1..DELIVERY_SECONDS_MAX - seconds_beside(auth.as_ref()) + 1;
    let timeout = Duration::from_secs(within(timeout, DELIVERY_SECONDS_DEFAULT, "timeout_seconds", bounds)?);
    let response_bytes = settings.entry.response_bytes_max.take();
    let bounds = 1..RESPONSE_BYTES_MAX + 1;
    Ok(HttpDestination {
        url: url.into_inner(),
        signing,
        auth,
        headers,
        statuses: status::check(settings.entry.statuses.take())?,
        timeout,
        response_bytes_max: within(response_bytes, RESPONSE_BYTES_DEFAULT, "response_bytes_max", bounds)? as usize,
        connecting: connecting::check(settings, timeout)?,
    })
}

fn check_signing(settings: &mut Settings<'_>, secret: &Spanned<String>) -> Result<Signing, Fault> {
    let name = settings.entry.signing_name.take();
    let key = match settings.entry.signing_key.take().map(Spanned::into_inner).unwrap_or_default() {
        SigningKeyKind::Derived => match name {
            Some(name) => SigningKey::Derived { name: named("signing_name", &name, DestinationName::parse)?.to_string() },
            None => SigningKey::Derived { name: settings.name.get_ref().clone() },
        },
        SigningKeyKind::Own => match name {
            Some(name) => {
                return Err(Fault::new(name.span(), "`signing_name` is for keys that are derived, and `signing_key` is \"own\""));
            }
            None => SigningKey::Own,
        },
    };
    Ok(Signing {
        secret: named("secret", secret, SourceName::parse)?.into(),
        key,
        version: settings.entry.signature.take().map(Spanned::into_inner).unwrap_or_default(),
    })
}

fn check_url(what: &str, url: &Spanned<String>, allow_plaintext: bool) -> Result<(), Fault> {
    let fault = |message: &str| Fault::new(url.span(), format!("`{what}` {message}"));
    let parsed: Uri = url.get_ref().parse().map_err(|error| fault(&format!("cannot be read: {error}")))?;
    if parsed.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(fault("has a user name or password in it: secrets are not for this file"));
    }
    match parsed.scheme_str() {
        _ if parsed.host().is_none_or(str::is_empty) => Err(fault("has no host; write it like https://example.com/webhooks")),
        Some("https") => Ok(()),
        Some("http") if allow_plaintext => Ok(()),
        Some("http") => Err(fault("is not https; if that is meant, say `allow_plaintext = true`")),
        _ => Err(fault("must start with https://")),
    }
}

#[cfg(test)]
mod tests;
