//! Tokens from a token endpoint (RFC 6749).
//!
//! Each process keeps its destinations' tokens until shortly before they expire, and asks for one at a time. A refresh token may be
//! good for one exchange only: whoever spends it holds the destination's lock in the ledger, and has written the new one down
//! before the access token that came with it is used. Who waited for the lock finds both there.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use oauth2::{
    AccessToken, AuthType, ClientId, ClientSecret, HttpRequest, HttpResponse, RefreshToken, RequestTokenError, Scope,
    TokenResponse, TokenUrl,
    basic::{BasicClient, BasicErrorResponse, BasicErrorResponseType, BasicTokenResponse},
};
use shared::{
    config::{ClientAuth, Grant, OAuth, TOKEN_WRITE_SECONDS},
    ledger::Locked,
    names::DestinationName,
    secrets::{RefreshGrant, Secret},
    time::Timestamp,
};

use super::{
    Answer, Call, Exchange, Post,
    auth::{newer, newest},
};
use crate::failure::Failure;

/// How long before it expires a token is used no more, in seconds; at most for half of its life. A delivery takes its time.
pub const TOKEN_MARGIN_SECONDS: u64 = 30;
/// How long a token is used whose endpoint does not say how long it is valid, in seconds.
pub const TOKEN_SECONDS_DEFAULT: u64 = 300;
/// Largest answer of a token endpoint, in bytes. Some put a whole certificate chain into a token.
pub const TOKEN_ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Longest error code of a token endpoint that is told, in bytes.
pub const ERROR_CODE_BYTES_MAX: usize = 64;
/// Least time in which a refresh token is spent, in milliseconds: an exchange that is broken off has spent it as well.
pub const EXCHANGE_MILLIS_MIN: u64 = 1000;
/// How often the lock of a refresh token is asked for, in milliseconds.
const LOCK_POLL_MILLIS: u64 = 200;
/// The name of that lock.
const LOCK: &str = "oauth";

/// The tokens of this process.
#[derive(Debug, Default)]
pub struct Tokens {
    slots: Mutex<HashMap<DestinationName, Arc<Slot>>>,
    /// One reading of a keyring again at a time.
    pub(super) rereading: tokio::sync::Mutex<()>,
}

/// The token of a destination. Whoever has `state` asks for a new one, and the others wait.
#[derive(Debug, Default)]
struct Slot {
    state: tokio::sync::Mutex<State>,
    /// How often a token was asked for.
    asked: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Token>,
    /// Why there is none, for those who waited for it.
    failure: Option<Failure>,
    /// A grant that could not be written down, and the refresh token that it was got for.
    unwritten: Option<(Secret, RefreshGrant)>,
}

#[derive(Clone, Debug)]
struct Token {
    access: Secret,
    until: Timestamp,
}

/// What a token endpoint gave.
struct Granted {
    token: Token,
    refresh: Option<Secret>,
}

/// Why it gave nothing: the error that [`oauth2`] hands through.
#[derive(Debug, thiserror::Error)]
#[error("no token")]
struct NotGranted(Failure);

impl Tokens {
    fn slot(&self, destination: &DestinationName) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(destination.clone()).or_default().clone()
    }
}

impl<E: Exchange> Call<'_, E> {
    /// A valid token; another one than that which was refused.
    pub(super) async fn token(&self, oauth: &OAuth, refused: Option<&Secret>) -> Result<Secret, Failure> {
        let slot = self.worker.tokens.slot(self.name);
        let asked = slot.asked.load(Ordering::Acquire);
        let mut state = self.until.within(slot.state.lock()).await?;
        let now = (self.until.now)();
        if let Some(token) = state.token.as_ref().filter(|token| token.is_good(refused, now)) {
            return Ok(token.access.clone());
        }
        // Somebody has asked while this one waited: asking again at once would get the same answer.
        if slot.asked.load(Ordering::Acquire) != asked
            && let Some(failure) = &state.failure
        {
            return Err(failure.clone());
        }
        state.token = None;
        let got = match oauth.grant {
            Grant::ClientCredentials => self.by_client_credentials(oauth).await,
            Grant::RefreshToken => self.by_refresh_token(oauth, refused, &mut state.unwritten).await,
        };
        slot.asked.fetch_add(1, Ordering::Release);
        state.failure = got.as_ref().err().cloned();
        let token = got?;
        state.token = Some(token.clone());
        Ok(token.access)
    }

    async fn by_client_credentials(&self, oauth: &OAuth) -> Result<Token, Failure> {
        let keyrings = &self.worker.keyrings;
        let secret = self.until.within(newest(keyrings, &oauth.secret, (self.until.now)())).await??;
        let granted = match self.ask(oauth, Some(&secret), None).await {
            Err(Failure::Auth(reason)) => {
                // The client secret may have been replaced since it was read.
                let newer = newer(&self.worker.tokens, keyrings, &oauth.secret, &secret, (self.until.now)());
                match self.until.within(newer).await? {
                    Some(secret) => self.ask(oauth, Some(&secret), None).await?,
                    None => return Err(Failure::Auth(reason)),
                }
            }
            granted => granted?,
        };
        Ok(granted.token)
    }

    async fn by_refresh_token(
        &self,
        oauth: &OAuth,
        refused: Option<&Secret>,
        unwritten: &mut Option<(Secret, RefreshGrant)>,
    ) -> Result<Token, Failure> {
        self.until.within(self.lock()).await??;
        let refreshed = self.refresh(oauth, refused, unwritten).await;
        // Without this it ends by itself.
        if let Ok(Err(error)) = self.until.within(self.worker.ledger.unlock(self.name, LOCK, self.holder)).await {
            tracing::warn!(destination = %self.name, %error, "cannot give the lock of the refresh token back");
        }
        refreshed
    }

    async fn lock(&self) -> Result<(), Failure> {
        // As long as this attempt can last.
        let until = self.until.end.plus(Duration::from_secs(TOKEN_WRITE_SECONDS));
        loop {
            let locked = self.worker.ledger.lock(self.name, LOCK, self.holder, (self.until.now)(), until).await;
            match locked.map_err(|error| Failure::Transient(error.to_string()))? {
                Locked::Acquired => return Ok(()),
                Locked::HeldUntil(_) => tokio::time::sleep(Duration::from_millis(LOCK_POLL_MILLIS)).await,
            }
        }
    }

    /// Exchanges the refresh token, under the lock.
    async fn refresh(
        &self,
        oauth: &OAuth,
        refused: Option<&Secret>,
        unwritten: &mut Option<(Secret, RefreshGrant)>,
    ) -> Result<Token, Failure> {
        let keyrings = &self.worker.keyrings;
        let read = self.until.within(keyrings.refresh_grant(&oauth.secret)).await?;
        let mut grant = read.map_err(|error| Failure::Transient(error.to_string()))?;
        if let Some((spent, known)) = unwritten.take()
            && spent == grant.refresh_token
        {
            self.write(oauth, spent, &known, unwritten).await?;
            grant = known;
        }
        let now = (self.until.now)();
        if let Some(token) = Token::of(&grant).filter(|token| token.is_good(refused, now)) {
            return Ok(token);
        }
        if self.until.left() < Duration::from_millis(EXCHANGE_MILLIS_MIN) {
            return Err(Failure::Transient("no time was left to exchange the refresh token".to_owned()));
        }
        // From here on nothing is broken off but the exchange itself: what it gives exists nowhere else.
        let granted = self.ask(oauth, grant.client_secret.as_ref(), Some(&grant.refresh_token)).await?;
        if let Some(refresh) = granted.refresh.filter(|refresh| *refresh != grant.refresh_token) {
            let spent = std::mem::replace(&mut grant.refresh_token, refresh);
            grant.access_token = Some(granted.token.access.clone());
            grant.access_token_until = Some(granted.token.until);
            self.write(oauth, spent, &grant, unwritten).await?;
        }
        Ok(granted.token)
    }

    /// Writes a new refresh token down, or keeps it in mind until it can be.
    async fn write(
        &self,
        oauth: &OAuth,
        spent: Secret,
        grant: &RefreshGrant,
        unwritten: &mut Option<(Secret, RefreshGrant)>,
    ) -> Result<(), Failure> {
        let written = self.worker.keyrings.put_refresh_grant(&oauth.secret, grant).await;
        written.map_err(|error| {
            *unwritten = Some((spent, grant.clone()));
            Failure::Transient(error.to_string())
        })
    }

    /// Asks the token endpoint once.
    async fn ask(&self, oauth: &OAuth, client_secret: Option<&Secret>, refresh: Option<&Secret>) -> Result<Granted, Failure> {
        let now = (self.until.now)();
        let url = TokenUrl::new(oauth.token_url.clone())
            .map_err(|error| Failure::Permanent(format!("the token endpoint's URL cannot be used: {error}")))?;
        let mut client =
            BasicClient::new(ClientId::new(oauth.client_id.clone())).set_token_uri(url).set_auth_type(match oauth.client_auth {
                ClientAuth::Basic => AuthType::BasicAuth,
                ClientAuth::Body => AuthType::RequestBody,
            });
        if let Some(secret) = client_secret {
            client = client.set_client_secret(ClientSecret::new(secret.expose().to_owned()));
        }
        let scopes = oauth.scopes.iter().cloned().map(Scope::new);
        let extra = [("audience", &oauth.audience), ("resource", &oauth.resource)];
        let extra = extra.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        let exchange = |request: HttpRequest| self.exchange(request);
        let answer = match refresh {
            None => {
                let request = client.exchange_client_credentials().add_scopes(scopes);
                let request = extra.fold(request, |request, (name, value)| request.add_extra_param(name, value));
                request.request_async(&exchange).await
            }
            Some(refresh) => {
                let refresh = RefreshToken::new(refresh.expose().to_owned());
                let request = client.exchange_refresh_token(&refresh).add_scopes(scopes);
                let request = extra.fold(request, |request, (name, value)| request.add_extra_param(name, value));
                request.request_async(&exchange).await
            }
        };
        match answer {
            Ok(answer) => Ok(Granted::of(&answer, now)),
            Err(error) => Err(failure(error)),
        }
    }

    /// The exchange below the protocol. What is neither a token nor an error of the protocol ends here.
    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, NotGranted> {
        let (parts, body) = request.into_parts();
        let post = Post {
            url: &parts.uri.to_string(),
            headers: parts.headers,
            body: body.into(),
            timeout: self.until.left(),
            connecting: &self.destination.connecting,
            response_bytes_max: TOKEN_ANSWER_BYTES_MAX,
        };
        let answer = self.worker.exchange.post(post).await.map_err(|failure| NotGranted(of_token_endpoint(failure)))?;
        if let Some(failure) = refusal(&answer, (self.until.now)()) {
            return Err(NotGranted(failure));
        }
        let mut response = HttpResponse::new(answer.body);
        *response.status_mut() = answer.status;
        Ok(response)
    }
}

impl Token {
    /// The one that is written down beside a refresh token.
    fn of(grant: &RefreshGrant) -> Option<Self> {
        Some(Self { access: grant.access_token.clone()?, until: grant.access_token_until? })
    }

    fn is_good(&self, refused: Option<&Secret>, now: Timestamp) -> bool {
        now < self.until && refused != Some(&self.access)
    }
}

impl Granted {
    fn of(answer: &BasicTokenResponse, now: Timestamp) -> Self {
        let secret = |token: &AccessToken| Secret::new(token.secret().clone());
        let token = Token { access: secret(answer.access_token()), until: now.plus(used_for(answer.expires_in())) };
        Self { token, refresh: answer.refresh_token().map(|token| Secret::new(token.secret().clone())) }
    }
}

/// How long a token is used that is valid for so long.
fn used_for(valid: Option<Duration>) -> Duration {
    let Some(valid) = valid else { return Duration::from_secs(TOKEN_SECONDS_DEFAULT) };
    valid - (valid / 2).min(Duration::from_secs(TOKEN_MARGIN_SECONDS))
}

/// What a token endpoint's answer means that is neither a token nor an error of the protocol.
fn refusal(answer: &Answer, now: Timestamp) -> Option<Failure> {
    let (status, asked) = (answer.status, answer.retry_after(now));
    let reason = format!("the token endpoint answered {status}");
    match status.as_u16() {
        200 => None,
        429 => Some(Failure::Throttled { retry_after: asked, reason }),
        503 if asked.is_some() => Some(Failure::Throttled { retry_after: asked, reason }),
        201..=299 | 408 | 425 | 500.. => Some(Failure::Transient(reason)),
        _ if serde_json::from_slice::<BasicErrorResponse>(&answer.body).is_ok() => None,
        // No attempt is spent on what a person must mend.
        _ => Some(Failure::Auth(reason)),
    }
}

/// What the protocol's errors mean. Descriptions are not told: they may repeat what was sent.
fn failure(error: RequestTokenError<NotGranted, BasicErrorResponse>) -> Failure {
    match error {
        RequestTokenError::Request(NotGranted(failure)) => failure,
        RequestTokenError::ServerResponse(error) => match error.error() {
            BasicErrorResponseType::Extension(code) if code == "temporarily_unavailable" || code == "server_error" => {
                Failure::Transient(format!("the token endpoint answered {code}"))
            }
            code => Failure::Auth(format!("the token endpoint answered {}", printable(code.as_ref()))),
        },
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            Failure::Transient("what the token endpoint answered is no token (RFC 6749, section 5.1)".to_owned())
        }
    }
}

fn printable(code: &str) -> &str {
    let is_code = code.len() <= ERROR_CODE_BYTES_MAX && code.bytes().all(|byte| byte.is_ascii_graphic());
    if is_code { code } else { "an error" }
}

/// A failure on the way to the token endpoint, which is not the destination.
fn of_token_endpoint(failure: Failure) -> Failure {
    let told = |reason| format!("the token endpoint: {reason}");
    match failure {
        Failure::Transient(reason) => Failure::Transient(told(reason)),
        Failure::Permanent(reason) => Failure::Permanent(told(reason)),
        other => other,
    }
}

#[cfg(test)]
mod tests;
