//! The keyrings of an environment, read from Secrets Manager and cached.
//!
//! Sources' and destinations' secrets have a prefix each, `<stack>/source/` and `<stack>/destination/`, and no function may read both.

mod keyring;

use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::{get_secret_value::GetSecretValueError, update_secret_version_stage::UpdateSecretVersionStageError},
};
use aws_smithy_runtime_api::http::Response;
use metrics::counter;
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;

pub use keyring::{
    ENROLMENT_SECONDS_MAX, FIRST_VERSION, INITIAL_KEY_ID, KEYS_MAX, Key, Keyring, KeyringError, RefreshGrant, Secret,
    VERSIONS_MAX, Version,
};

use crate::{aws, time::Timestamp};

/// How long a keyring is used before it is read again.
pub const KEYRING_CACHE_SECONDS: u64 = 300;
/// How long after one reading again, because a signature failed, the next may be made. It bounds what forged webhooks can cost.
pub const KEYRING_REREAD_SECONDS: u64 = 60;
/// How long a keyring that could not be read is not asked for again: while an outage leaves the old one in use, and where there is none.
pub const KEYRING_OUTAGE_SECONDS: u64 = 10;
/// How old a keyring may become in an outage of Secrets Manager. A key that got out may have been taken out of it meanwhile.
pub const KEYRING_STALE_SECONDS_MAX: u64 = 60 * 60;
/// How old a keyring may be that is asked whether enrolment is open, in seconds: the operator has just opened it.
pub const ENROLMENT_CACHE_SECONDS: u64 = 5;

/// The label of the version that functions read.
const CURRENT: &str = "AWSCURRENT";
/// The label of a version that is about to become that.
const STAGED: &str = "POSTHOUSE_STAGED";

const _: () = assert!(KEYRING_REREAD_SECONDS < KEYRING_CACHE_SECONDS && KEYRING_CACHE_SECONDS < KEYRING_STALE_SECONDS_MAX);

/// A keyring that cannot be had: an outage or a mistake of ours, so the answer is 503 and the sender sends again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SecretsError {
    /// Secrets Manager did not give it.
    #[error("cannot read the secret {secret}: {reason}")]
    Unreadable {
        /// Its full name.
        secret: String,
        /// What the SDK said.
        reason: String,
        /// Whether it was no answer about this secret: the next try may have one.
        is_outage: bool,
    },
    /// Secrets Manager did not take it.
    #[error("cannot write the secret {secret}: {reason}")]
    Unwritable {
        /// Its full name.
        secret: String,
        /// What the SDK said.
        reason: String,
    },
    /// Somebody else has changed it since it was read.
    #[error("the secret {secret} has been changed by somebody else at this moment; look at it, and try again")]
    Changed {
        /// Its full name.
        secret: String,
    },
    /// It is there but is no keyring.
    #[error("the secret {secret} cannot be used: {reason}")]
    Unusable {
        /// Its full name.
        secret: String,
        /// The version that cannot be used.
        version: String,
        /// What is wrong, without the secret.
        reason: KeyringError,
    },
}

/// The keyrings of this environment, read when they are first needed.
#[derive(Debug)]
pub struct Keyrings {
    client: Client,
    prefix: String,
    cache: Mutex<HashMap<String, Known>>,
}

/// Compares in a time that depends on the lengths alone.
fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// What became of a secret that a handshake brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrolment {
    /// It is a key of the keyring now, or was one already.
    Enrolled,
    /// The operator has not opened enrolment.
    Closed,
}

/// What an environment knows of a secret.
#[derive(Debug, Clone)]
enum Known {
    Keyring(Cached),
    /// It could not be read, and there is no keyring that may be used instead.
    Unreadable {
        error: SecretsError,
        until: Timestamp,
    },
}

#[derive(Debug, Clone)]
struct Cached {
    keyring: Arc<Keyring>,
    read_at: Timestamp,
    /// When it is to be read again.
    fresh_until: Timestamp,
    /// When a failed signature may next cause a reading.
    reread_from: Timestamp,
    /// Why it could not be read again, if the last try failed: it is used on for a while.
    stale: Option<SecretsError>,
}

impl Keyrings {
    /// Keyrings under `prefix`, as `posthouse-prod/source/`.
    pub fn new(config: &SdkConfig, prefix: String) -> Self {
        Self { client: Client::new(config), prefix, cache: Mutex::new(HashMap::new()) }
    }

    /// The keyring `name`, at most [`KEYRING_CACHE_SECONDS`] old; older only in an outage of Secrets Manager, and then at most
    /// [`KEYRING_STALE_SECONDS_MAX`]. One that is malformed, empty, deleted or refused to us is an error from the next reading on: so a
    /// key is revoked however that is done, and by a mistake as well.
    pub async fn current(&self, name: &str, now: Timestamp) -> Result<Arc<Keyring>, SecretsError> {
        let known = self.cache.lock().await.get(name).cloned();
        match known {
            Some(Known::Keyring(cached)) if now < cached.fresh_until => Ok(cached.keyring),
            Some(Known::Keyring(cached)) => Ok(self.refresh(name, Some(cached), now).await?.keyring),
            Some(Known::Unreadable { error, until }) if now < until => Err(error),
            Some(Known::Unreadable { .. }) | None => Ok(self.refresh(name, None, now).await?.keyring),
        }
    }

    /// Reads the keyring again because a signature failed: a rotation may just have added a key. `None` if it was read again
    /// for that reason less than [`KEYRING_REREAD_SECONDS`] ago, or has not changed. In an outage nobody knows whether a key was added.
    pub async fn after_refusal(&self, name: &str, now: Timestamp) -> Result<Option<Arc<Keyring>>, SecretsError> {
        let known = {
            let mut cache = self.cache.lock().await;
            let Some(Known::Keyring(known)) = cache.get_mut(name) else { return Ok(None) };
            if now < known.reread_from {
                return known.stale.clone().map_or(Ok(None), Err);
            }
            known.reread_from = now.plus(Duration::from_secs(KEYRING_REREAD_SECONDS));
            known.clone()
        };
        let before = known.keyring.clone();
        let after = self.refresh(name, Some(known), now).await?;
        match after.stale {
            Some(outage) => Err(outage),
            None => Ok((after.keyring != before).then_some(after.keyring)),
        }
    }

    /// Adds a secret that a handshake has brought to the keyring `name`, if its operator has opened enrolment.
    pub async fn enrol(&self, name: &str, secret: Secret, now: Timestamp) -> Result<Enrolment, SecretsError> {
        // As it reads back.
        let secret = secret.trimmed();
        let known = self.cache.lock().await.get(name).cloned();
        let recent = Duration::from_secs(ENROLMENT_CACHE_SECONDS);
        let is_there = |keyring: &Keyring| keyring.valid_at(now).any(|key| same(key.secret.expose(), secret.expose()));
        // That it is closed may be known from a moment ago; that it is open is read now, since it is for one secret.
        if let Some(Known::Keyring(cached)) = known
            && now.since(cached.read_at) < recent
        {
            if is_there(&cached.keyring) {
                return Ok(Enrolment::Enrolled);
            }
            if !cached.keyring.is_enrolling(now) {
                return Ok(Enrolment::Closed);
            }
        }
        let (keyring, version) = self.read_version(name).await?;
        let keyring = Arc::new(keyring);
        self.remember(name, Cached::read_at(now, keyring.clone(), now)).await;
        if is_there(&keyring) {
            return Ok(Enrolment::Enrolled);
        }
        let Some(enrolled) = keyring.enrolled(secret, now) else { return Ok(Enrolment::Closed) };
        let enrolled = enrolled.map_err(|reason| SecretsError::Unusable { secret: self.full_name(name), version, reason })?;
        self.write(name, enrolled.expose()).await?;
        self.remember(name, Cached::read_at(now, Arc::new(enrolled), now)).await;
        Ok(Enrolment::Enrolled)
    }

    async fn refresh(&self, name: &str, known: Option<Cached>, now: Timestamp) -> Result<Cached, SecretsError> {
        let asked_again = now.plus(Duration::from_secs(KEYRING_OUTAGE_SECONDS));
        let reread_from = known.as_ref().map_or(now, |known| known.reread_from);
        let may_be_kept = |known: &Cached| now.since(known.read_at) < Duration::from_secs(KEYRING_STALE_SECONDS_MAX);
        let next = match (self.read(name).await, known.filter(may_be_kept)) {
            (Ok(keyring), _) => Cached::read_at(now, Arc::new(keyring), reread_from),
            (Err(error @ SecretsError::Unreadable { is_outage: true, .. }), Some(known)) => {
                counter!("StaleKeyrings").increment(1);
                tracing::warn!(error = %error, age_seconds = now.since(known.read_at).as_secs(), "keeping the stale keyring");
                // No moment longer than it may be used.
                let until = known.read_at.plus(Duration::from_secs(KEYRING_STALE_SECONDS_MAX));
                Cached { fresh_until: asked_again.min(until), stale: Some(error), ..known }
            }
            (Err(error), _) => {
                let unreadable = Known::Unreadable { error: error.clone(), until: asked_again };
                self.cache.lock().await.insert(name.to_owned(), unreadable);
                return Err(error);
            }
        };
        self.remember(name, next.clone()).await;
        Ok(next)
    }

    async fn remember(&self, name: &str, cached: Cached) {
        self.cache.lock().await.insert(name.to_owned(), Known::Keyring(cached));
    }

    /// The refresh token in the secret `name`, as it is at this moment.
    pub async fn refresh_grant(&self, name: &str) -> Result<RefreshGrant, SecretsError> {
        let (text, version) = self.read_text(name).await?;
        RefreshGrant::parse(text.expose()).map_err(|reason| SecretsError::Unusable {
            secret: self.full_name(name),
            version,
            reason,
        })
    }

    /// Writes a refresh token down.
    pub async fn put_refresh_grant(&self, name: &str, grant: &RefreshGrant) -> Result<(), SecretsError> {
        self.write(name, serde_json::to_string(grant).unwrap_or_default()).await
    }

    /// The keyring `name` as it is at this moment, for an operator's commands.
    pub async fn read(&self, name: &str) -> Result<Keyring, SecretsError> {
        self.read_version(name).await.map(|(keyring, _)| keyring)
    }

    /// The same, and which version of the secret it is.
    pub async fn read_version(&self, name: &str) -> Result<(Keyring, String), SecretsError> {
        let (text, version) = self.read_text(name).await?;
        match Keyring::parse(text.expose()) {
            Ok(keyring) => Ok((keyring, version)),
            Err(reason) => Err(SecretsError::Unusable { secret: self.full_name(name), version, reason }),
        }
    }

    async fn read_text(&self, name: &str) -> Result<(Secret, String), SecretsError> {
        let secret = self.full_name(name);
        let answer = self.client.get_secret_value().secret_id(&secret).send().await;
        let unreadable = |error: SdkError<GetSecretValueError, Response>| SecretsError::Unreadable {
            secret,
            reason: aws::describe(&error),
            is_outage: is_outage(&error),
        };
        let answer = answer.map_err(unreadable)?;
        Ok((Secret::new(answer.secret_string.unwrap_or_default()), answer.version_id.unwrap_or_default()))
    }

    /// Puts a keyring in the place of the version that was read, for an operator's commands; not if another one has come meanwhile.
    ///
    /// The new version is staged under a label of its own, and made the current one on the condition that the old one is that still.
    pub async fn replace(&self, name: &str, keyring: &Keyring, instead_of: &str) -> Result<(), SecretsError> {
        let secret = self.full_name(name);
        let unwritable = |reason| SecretsError::Unwritable { secret: secret.clone(), reason };
        let put = self.client.put_secret_value().secret_id(&secret).secret_string(keyring.expose()).version_stages(STAGED);
        let put = put.send().await.map_err(|error| unwritable(aws::describe(&error)))?;
        let update = self.client.update_secret_version_stage().secret_id(&secret).version_stage(CURRENT);
        let update = update.set_move_to_version_id(put.version_id).remove_from_version_id(instead_of).send().await;
        match update.map_err(|error| error.into_service_error()) {
            Ok(_) => Ok(()),
            Err(UpdateSecretVersionStageError::InvalidParameterException(_)) => Err(SecretsError::Changed { secret }),
            Err(error) => Err(unwritable(aws::describe(&error))),
        }
    }

    async fn write(&self, name: &str, text: String) -> Result<(), SecretsError> {
        let secret = self.full_name(name);
        let put = self.client.put_secret_value().secret_id(&secret).secret_string(text);
        put.send().await.map_err(|error| SecretsError::Unwritable { secret, reason: aws::describe(&error) })?;
        Ok(())
    }

    /// The name of a secret in Secrets Manager.
    pub fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// Whether there was no answer about the secret. Codes are those of <https://docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html>;
/// one that is unknown is an answer: what is not known to be an outage does not keep an old key alive.
fn is_outage(error: &SdkError<GetSecretValueError, Response>) -> bool {
    let SdkError::ServiceError(answer) = error else { return true };
    let is_throttle = |code: &str| {
        ["ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown"].contains(&code)
    };
    answer.raw().status().is_server_error()
        || answer.raw().status().as_u16() == 429
        || answer.err().code().is_some_and(is_throttle)
}

impl Cached {
    fn read_at(now: Timestamp, keyring: Arc<Keyring>, reread_from: Timestamp) -> Self {
        let fresh_until = now.plus(Duration::from_secs(KEYRING_CACHE_SECONDS));
        Self { keyring, read_at: now, fresh_until, reread_from, stale: None }
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_types::{body::SdkBody, error::ErrorMetadata};

    use super::*;

    #[test]
    fn only_an_outage_keeps_an_old_keyring_in_use() {
        let answered = |status: u16, code: &str| {
            let error = GetSecretValueError::generic(ErrorMetadata::builder().code(code).build());
            is_outage(&SdkError::service_error(error, Response::new(status.try_into().unwrap(), SdkBody::empty())))
        };
        for (status, code) in [
            (500, "InternalServiceError"),
            (503, "ServiceUnavailable"),
            (502, ""),
            (400, "ThrottlingException"),
            (400, "RequestLimitExceeded"),
            (429, "TooManyRequestsException"),
        ] {
            assert!(answered(status, code), "{status} {code}");
        }
        for code in [
            "ResourceNotFoundException",
            "InvalidRequestException",
            "AccessDeniedException",
            "DecryptionFailure",
            "InvalidParameterException",
            "UnrecognizedClientException",
            "",
        ] {
            assert!(!answered(400, code), "{code}");
        }
        assert!(is_outage(&SdkError::timeout_error("no answer in time")));
    }
}
