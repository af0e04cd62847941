//! Rotation: Secrets Manager's four steps over a keyring, each safe to run twice.
//!
//! A new key is put before the others; those that had no end get one, `ROTATION_OVERLAP_DAYS` from now; expired ones are dropped.
//! So old and new are both valid during the overlap, and no webhook is refused while the other side changes over.
//! <https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html>

mod keyring;

use std::time::Duration;

use aws_sdk_secretsmanager::{
    Client, operation::get_secret_value::GetSecretValueError, operation::put_secret_value::PutSecretValueError,
};
use serde::Deserialize;
use shared::{
    aws::{self, CallTimeouts},
    environment::required_parsed,
    secrets::{Keyring, KeyringError},
    time::{DAY_SECONDS, Timestamp},
};

pub use keyring::{NextKeyringError, SECRET_BYTES, next_keyring};

const CURRENT: &str = "AWSCURRENT";
const PENDING: &str = "AWSPENDING";

/// Rotates keyrings.
#[derive(Debug)]
pub struct Rotation {
    client: Client,
    overlap: Duration,
}

/// What Secrets Manager asks for.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Request {
    /// Which step.
    pub step: Step,
    /// The secret's ARN.
    pub secret_id: String,
    /// The id of the version that is being made.
    pub client_request_token: String,
}

/// The four steps, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Make the new version.
    CreateSecret,
    /// Tell the other side: nothing that can be done by itself for a webhook secret.
    SetSecret,
    /// See that the new version can be used.
    TestSecret,
    /// Make it the current one.
    FinishSecret,
}

/// Why a step was refused. No message shows a secret.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The version is not one that is being rotated.
    #[error(
        "version {version} of {secret} is not staged for rotation ({found}); the step came out of order or for another rotation"
    )]
    NotStaged {
        /// The secret's ARN.
        secret: String,
        /// The version that was asked for.
        version: String,
        /// Its stages.
        found: String,
    },
    /// The version has no value yet.
    #[error("version {0} has no value yet: createSecret has not run")]
    NotCreated(String),
    /// What is stored cannot be used.
    #[error("the {stage} version cannot be used: {reason}")]
    Unusable {
        /// Its stage.
        stage: &'static str,
        /// What is wrong.
        reason: KeyringError,
    },
    /// No next keyring can be made.
    #[error(transparent)]
    Next(#[from] NextKeyringError),
    /// The new version lacks a key that is valid now: its webhooks would be refused.
    #[error("the new version lacks the key `{0}`, which is valid now")]
    LosesKey(String),
    /// A destination was rotated since the new version was made: what it was handed would never sign.
    #[error("the new version lacks a destination's newest key: cancel this rotation, and rotate again")]
    LosesVersions,
    /// Secrets Manager did not answer, or refused.
    #[error("Secrets Manager: {0}")]
    Unavailable(String),
}

impl RotationError {
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Unavailable(aws::describe(error))
    }
}

impl Rotation {
    /// Composes the function from its environment; what is missing is named.
    pub async fn from_environment() -> Result<Self, lambda_runtime::Error> {
        let config = aws::configure("rotation", CallTimeouts::BACKGROUND).await;
        let overlap_days: u64 = required_parsed("ROTATION_OVERLAP_DAYS")?;
        Ok(Self { client: Client::new(&config), overlap: Duration::from_secs(overlap_days.saturating_mul(DAY_SECONDS)) })
    }

    /// Runs one step. `random` is what a new key is made of.
    pub async fn run(&self, request: &Request, now: Timestamp, random: [u8; SECRET_BYTES]) -> Result<(), RotationError> {
        let Request { step, secret_id, client_request_token: token } = request;
        let current_version = match self.stage(secret_id, token).await? {
            Stage::Finished => {
                tracing::info!(secret = secret_id, ?step, "this version is already the current one");
                return Ok(());
            }
            Stage::Pending { current_version } => current_version,
        };
        match step {
            Step::CreateSecret => self.create(secret_id, token, now, random).await?,
            // A provider's secret is changed at the provider, by a person, during the overlap.
            Step::SetSecret => {}
            Step::TestSecret => self.test(secret_id, token, now).await?,
            Step::FinishSecret => {
                // Again, for what was put into the current version meanwhile.
                self.test(secret_id, token, now).await?;
                self.finish(secret_id, token, current_version).await?;
            }
        }
        tracing::info!(secret = secret_id, ?step, "rotation step done");
        Ok(())
    }

    async fn create(&self, secret: &str, token: &str, now: Timestamp, random: [u8; SECRET_BYTES]) -> Result<(), RotationError> {
        if self.pending(secret, token).await?.is_some() {
            return Ok(());
        }
        let current = self.client.get_secret_value().secret_id(secret).version_stage(CURRENT).send().await;
        let current = parse(CURRENT, current.map_err(|error| RotationError::of(&error))?.secret_string())?;
        let next = next_keyring(&current, token, random, now, self.overlap)?;
        let put = self.client.put_secret_value().secret_id(secret).client_request_token(token).version_stages(PENDING);
        match put.secret_string(next.expose()).send().await.map_err(|error| error.into_service_error()) {
            // Another run of this step was faster; its value stands.
            Ok(_) | Err(PutSecretValueError::ResourceExistsException(_)) => Ok(()),
            Err(error) => Err(RotationError::of(&error)),
        }
    }

    async fn test(&self, secret: &str, token: &str, now: Timestamp) -> Result<(), RotationError> {
        let pending = self.pending(secret, token).await?.ok_or_else(|| RotationError::NotCreated(token.to_owned()))?;
        let current = self.client.get_secret_value().secret_id(secret).version_stage(CURRENT).send().await;
        let current = parse(CURRENT, current.map_err(|error| RotationError::of(&error))?.secret_string())?;
        if !current.has_same_versions(&pending) {
            return Err(RotationError::LosesVersions);
        }
        let lost = current.valid_at(now).find(|key| !pending.valid_at(now).any(|kept| kept.secret == key.secret));
        lost.map_or(Ok(()), |key| Err(RotationError::LosesKey(key.id.clone())))
    }

    async fn finish(&self, secret: &str, token: &str, current_version: Option<String>) -> Result<(), RotationError> {
        let update = self.client.update_secret_version_stage().secret_id(secret).version_stage(CURRENT);
        let update = update.move_to_version_id(token).set_remove_from_version_id(current_version);
        update.send().await.map(drop).map_err(|error| RotationError::of(&error))
    }

    /// The keyring of the version that is being made, once it has a value.
    async fn pending(&self, secret: &str, token: &str) -> Result<Option<Keyring>, RotationError> {
        let get = self.client.get_secret_value().secret_id(secret).version_id(token).version_stage(PENDING);
        match get.send().await.map_err(|error| error.into_service_error()) {
            Ok(answer) => parse(PENDING, answer.secret_string()).map(Some),
            Err(GetSecretValueError::ResourceNotFoundException(_)) => Ok(None),
            Err(error) => Err(RotationError::of(&error)),
        }
    }

    async fn stage(&self, secret: &str, token: &str) -> Result<Stage, RotationError> {
        let described = self.client.describe_secret().secret_id(secret).send().await;
        let versions = described.map_err(|error| RotationError::of(&error))?.version_ids_to_stages.unwrap_or_default();
        let has = |stages: &[String], stage: &str| stages.iter().any(|found| found == stage);
        match versions.get(token) {
            Some(stages) if has(stages, CURRENT) => Ok(Stage::Finished),
            Some(stages) if has(stages, PENDING) => {
                let current = versions.iter().find(|(_, stages)| has(stages, CURRENT));
                Ok(Stage::Pending { current_version: current.map(|(version, _)| version.clone()) })
            }
            found => Err(RotationError::NotStaged {
                secret: secret.to_owned(),
                version: token.to_owned(),
                found: found.map_or_else(|| "unknown".to_owned(), |stages| stages.join(", ")),
            }),
        }
    }
}

/// Where a rotation stands.
enum Stage {
    Pending { current_version: Option<String> },
    Finished,
}

fn parse(stage: &'static str, text: Option<&str>) -> Result<Keyring, RotationError> {
    Keyring::parse(text.unwrap_or_default()).map_err(|reason| RotationError::Unusable { stage, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_events_are_the_four_steps() {
        let steps = [
            (include_str!("../../../events/lambda/rotation-create.json"), Step::CreateSecret),
            (include_str!("../../../events/lambda/rotation-set.json"), Step::SetSecret),
            (include_str!("../../../events/lambda/rotation-test.json"), Step::TestSecret),
            (include_str!("../../../events/lambda/rotation-finish.json"), Step::FinishSecret),
        ];
        for (sample, step) in steps {
            assert_eq!(serde_json::from_str::<Request>(sample).unwrap().step, step);
        }
        assert!(serde_json::from_str::<Request>(r#"{"Step":"fooSecret","SecretId":"a","ClientRequestToken":"b"}"#).is_err());
    }
}
