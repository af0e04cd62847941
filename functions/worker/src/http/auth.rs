//! Credentials: what a destination knows us by.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use shared::{
    config::Auth,
    secrets::{Keyring, Keyrings, Secret},
    time::Timestamp,
};

use super::{Call, Exchange, oauth::Tokens};
use crate::failure::Failure;

/// A credential in its header.
pub(super) struct Credential {
    pub(super) header: HeaderName,
    pub(super) value: HeaderValue,
    /// What it was made of.
    secret: Secret,
}

impl Credential {
    /// The credential that a secret makes; `None` if it cannot.
    fn of(auth: &Auth, secret: Secret) -> Option<Self> {
        let text = secret.expose();
        let (header, text) = match auth {
            Auth::Bearer(_) | Auth::OAuth(_) => (AUTHORIZATION, format!("Bearer {text}")),
            Auth::Basic(_) if !text.contains(':') => return None,
            Auth::Basic(_) => (AUTHORIZATION, format!("Basic {}", BASE64.encode(text))),
            Auth::ApiKey { header, .. } => (header.clone(), text.to_owned()),
        };
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        Some(Self { header, value, secret })
    }
}

impl<E: Exchange> Call<'_, E> {
    /// The credential; another one than that which was refused.
    pub(super) async fn credential(&self, auth: &Auth, refused: Option<&Secret>) -> Result<Credential, Failure> {
        let (secret, of) = match auth {
            Auth::OAuth(oauth) => (self.token(oauth, refused).await?, "the token"),
            Auth::Bearer(name) | Auth::Basic(name) | Auth::ApiKey { secret: name, .. } => {
                (self.until.within(newest(&self.worker.keyrings, name, self.now())).await??, name.as_str())
            }
        };
        let unusable = match auth {
            Auth::Basic(_) => "is not of the form user:password",
            _ => "has characters that no header can have",
        };
        Credential::of(auth, secret).ok_or_else(|| Failure::Auth(format!("the secret `{of}` {unusable}")))
    }

    /// Another credential than the one that was refused, if there is one.
    pub(super) async fn credential_after_refusal(
        &self,
        auth: &Auth,
        refused: &Credential,
    ) -> Result<Option<Credential>, Failure> {
        match auth {
            Auth::OAuth(_) => self.credential(auth, Some(&refused.secret)).await.map(Some),
            Auth::Bearer(name) | Auth::Basic(name) | Auth::ApiKey { secret: name, .. } => {
                let newer = newer(&self.worker.tokens, &self.worker.keyrings, name, &refused.secret, self.now());
                Ok(self.until.within(newer).await?.and_then(|secret| Credential::of(auth, secret)))
            }
        }
    }

    fn now(&self) -> Timestamp {
        (self.until.now)()
    }
}

/// The newest valid key of a keyring.
pub(super) async fn newest(keyrings: &Keyrings, name: &str, now: Timestamp) -> Result<Secret, Failure> {
    let keyring = keyrings.current(name, now).await.map_err(|error| Failure::Transient(error.to_string()))?;
    first(&keyring, now).ok_or_else(|| Failure::Auth(format!("no key of the secret `{name}` is valid")))
}

/// The newest valid key, if it is another one than that which was refused. The keyring is read again, at most once a minute.
pub(super) async fn newer(tokens: &Tokens, keyrings: &Keyrings, name: &str, refused: &Secret, now: Timestamp) -> Option<Secret> {
    // Of several that are refused at once, the first reads it for all; the others must not take it for unchanged meanwhile.
    let _one = tokens.rereading.lock().await;
    let known = keyrings.current(name, now).await.ok().and_then(|keyring| first(&keyring, now));
    match known.filter(|secret| secret != refused) {
        Some(secret) => Some(secret),
        None => first(&*keyrings.after_refusal(name, now).await.ok()??, now).filter(|secret| secret != refused),
    }
}

fn first(keyring: &Keyring, now: Timestamp) -> Option<Secret> {
    keyring.valid_at(now).next().map(|key| key.secret.clone())
}
