//! `auth`: how we prove who we are to a destination.

use std::ops::Range;

use ::http::HeaderName;
use toml::Spanned;

use super::{check_url, header::check_name};
use crate::{
    config::{
        check::{Fault, named},
        destination::place,
        file::{AuthEntry, AuthKind},
    },
    names::SourceName,
};

/// How the names of secrets end that the worker itself writes, when a token endpoint hands out a new refresh token. The template
/// allows it no others.
pub const OAUTH_SUFFIX: &str = "-oauth";
/// Most scopes of one token.
pub const SCOPES_MAX: usize = 32;

/// How we prove who we are. Secrets are named as everywhere: keyrings under the stack's prefix, whose newest valid key is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer`, with the secret.
    Bearer(String),
    /// `Authorization: Basic`, with the secret `user:password`.
    Basic(String),
    /// The secret in a header of its own.
    ApiKey {
        /// The header.
        header: HeaderName,
        /// The secret.
        secret: String,
    },
    /// `Authorization: Bearer`, with a token from a token endpoint (RFC 6749).
    OAuth(OAuth),
}

impl Auth {
    /// The secret that proves who we are, by name.
    pub fn secret(&self) -> &str {
        match self {
            Self::Bearer(secret) | Self::Basic(secret) | Self::ApiKey { secret, .. } => secret,
            Self::OAuth(oauth) => &oauth.secret,
        }
    }
}

/// A token endpoint, and what it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuth {
    /// The token endpoint.
    pub token_url: String,
    /// Who we are there.
    pub client_id: String,
    /// The client secret: a keyring; or, for refresh tokens, what [`crate::secrets::RefreshGrant`] reads.
    pub secret: String,
    /// What the token is for.
    pub scopes: Vec<String>,
    /// For whom the token is, as Auth0 and others ask.
    pub audience: Option<String>,
    /// For which resource the token is (RFC 8707).
    pub resource: Option<String>,
    /// Where the client secret stands.
    pub client_auth: ClientAuth,
    /// What is exchanged for the token.
    pub grant: Grant,
}

/// Where the client secret stands in a request for a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// In `Authorization: Basic`.
    #[default]
    Basic,
    /// In the form.
    Body,
}

/// What is exchanged for a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// The client's own credentials.
    #[default]
    ClientCredentials,
    /// A refresh token, which may be good for one exchange only.
    RefreshToken,
}

impl Auth {
    /// The header that it stands in, in lower case.
    pub fn header(&self) -> &str {
        match self {
            Self::ApiKey { header, .. } => header.as_str(),
            Self::Bearer(_) | Self::Basic(_) | Self::OAuth(_) => "authorization",
        }
    }
}

pub(super) fn check(entry: Spanned<AuthEntry>, allow_plaintext: bool) -> Result<Auth, Fault> {
    let span = entry.span();
    let mut entry = entry.into_inner();
    let missing = |what: &str| Fault::new(span.clone(), format!("`auth` has no `{what}`"));
    let given = entry.secret.take().ok_or_else(|| missing("secret"))?;
    let secret = named("secret", &given, SourceName::parse)?.into();
    let auth = match entry.kind.get_ref() {
        AuthKind::Bearer => Auth::Bearer(secret),
        AuthKind::Basic => Auth::Basic(secret),
        AuthKind::ApiKey => {
            let header = entry.header.take().ok_or_else(|| missing("header"))?;
            Auth::ApiKey { header: check_name(&header)?, secret }
        }
        AuthKind::Oauth2 => {
            let token_url = entry.token_url.take().ok_or_else(|| missing("token_url"))?;
            check_url("token_url", &token_url, allow_plaintext)?;
            let client_id = entry.client_id.take().ok_or_else(|| missing("client_id"))?;
            let grant = entry.grant.take().map(Spanned::into_inner).unwrap_or_default();
            if grant == Grant::RefreshToken && !given.get_ref().ends_with(OAUTH_SUFFIX) {
                let message = format!(
                    "with `grant = \"refresh_token\"` the name of `secret` must end in `{OAUTH_SUFFIX}`, the only ones that the \
                     worker may write: it keeps the refresh token there"
                );
                return Err(Fault::new(given.span(), message));
            }
            Auth::OAuth(OAuth {
                token_url: token_url.into_inner(),
                client_id: text("client_id", client_id)?,
                secret,
                scopes: check_scopes(entry.scopes.take())?,
                audience: entry.audience.take().map(|given| text("audience", given)).transpose()?,
                resource: entry.resource.take().map(|given| text("resource", given)).transpose()?,
                client_auth: entry.client_auth.take().map(Spanned::into_inner).unwrap_or_default(),
                grant,
            })
        }
    };
    match entry.leftover() {
        Some((what, span)) => Err(Fault::new(span, format!("`{what}` means nothing for this type of `auth`"))),
        None => Ok(auth),
    }
}

impl AuthEntry {
    /// The first setting that the check of its type has not taken.
    fn leftover(&self) -> Option<(&'static str, Range<usize>)> {
        place("header", &self.header)
            .or_else(|| place("token_url", &self.token_url))
            .or_else(|| place("client_id", &self.client_id))
            .or_else(|| place("scopes", &self.scopes))
            .or_else(|| place("audience", &self.audience))
            .or_else(|| place("resource", &self.resource))
            .or_else(|| place("client_auth", &self.client_auth))
            .or_else(|| place("grant", &self.grant))
    }
}

fn text(what: &str, given: Spanned<String>) -> Result<String, Fault> {
    match given.get_ref().is_empty() {
        true => Err(Fault::new(given.span(), format!("`{what}` is empty"))),
        false => Ok(given.into_inner()),
    }
}

/// Scopes are joined by spaces (RFC 6749, section 3.3).
fn check_scopes(given: Option<Spanned<Vec<Spanned<String>>>>) -> Result<Vec<String>, Fault> {
    let Some(given) = given else { return Ok(Vec::new()) };
    if given.get_ref().len() > SCOPES_MAX {
        return Err(Fault::new(given.span(), format!("there are more than {SCOPES_MAX} `scopes`")));
    }
    let is_scope = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
    let scopes = given.into_inner().into_iter().map(|scope| match is_scope(scope.get_ref()) {
        true => Ok(scope.into_inner()),
        false => Err(Fault::new(scope.span(), "a scope has visible ASCII characters only, without quotes and backslashes")),
    });
    scopes.collect()
}
