//! A destination that honours idempotency keys, and fails as the director says.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderValue, StatusCode};
use shared::time::Timestamp;
use worker::{Answer, Exchange, Failure, Post};

use super::{clock, director::Director};
use crate::model::{self, Aws, Fate};

/// What has arrived.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Mutex<BTreeMap<String, Seen>>>);

/// What arrived under one idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How often it was sent.
    pub sent: u64,
    /// How often it had an effect: once, since the key is honoured.
    pub effects: u64,
    /// The first body.
    pub body: Vec<u8>,
    /// Whether a later body differed.
    pub changed: bool,
    /// When it was last sent.
    pub last_at: Timestamp,
}

impl Seen {
    fn nothing() -> Self {
        Self { sent: 0, effects: 0, body: Vec::new(), changed: false, last_at: clock::BEGINNING }
    }
}

impl Journal {
    /// All that arrived, by idempotency key.
    pub fn all(&self) -> BTreeMap<String, Seen> {
        self.lock().clone()
    }

    fn arrive(&self, key: &str, body: &[u8]) {
        let mut journal = self.lock();
        let seen = journal.entry(key.to_owned()).or_insert_with(Seen::nothing);
        seen.sent += 1;
        seen.last_at = clock::now();
        if seen.effects == 0 {
            seen.effects = 1;
            seen.body = body.to_vec();
        }
        seen.changed |= seen.body != body;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How one worker reaches the destinations.
#[derive(Clone, Debug)]
pub struct SimulatedExchange {
    /// The worker's instance.
    pub function: String,
    /// Where it is killed.
    pub aws: Aws,
    /// Who decides.
    pub director: Director,
    /// What arrives.
    pub journal: Journal,
    /// Whether answers take seconds.
    pub slow: bool,
}

impl Exchange for SimulatedExchange {
    async fn post(&self, post: Post<'_>) -> Result<Answer, Failure> {
        let Post { url, headers, body, timeout, .. } = post;
        let key = headers.get("idempotency-key").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let name = url.rsplit('/').next().unwrap_or_default();
        let fate = self.director.decide(&self.function, "destination", name);
        let answer = |status| Ok(Answer::of(status));
        let arrive = || self.journal.arrive(&key, &body);
        let slow = if self.slow { Duration::from_millis(self.director.dice(5000)) } else { Duration::ZERO };
        tokio::time::sleep(slow + self.director.moment()).await;
        // Waits as long as the client would, or for ever if the function is killed.
        match fate {
            Fate::Succeed if self.director.refuses_credentials() => answer(StatusCode::UNAUTHORIZED),
            Fate::Succeed | Fate::SucceedDespite { .. } | Fate::Pretend { .. } | Fate::Refuse { .. } | Fate::Partly { .. } => {
                arrive();
                answer(StatusCode::OK)
            }
            Fate::FailBefore(failure) => refused(failure),
            Fate::FailAfter(failure) => {
                arrive();
                refused(failure)
            }
            Fate::Hang { after_effect } => {
                if after_effect {
                    arrive();
                }
                tokio::time::sleep(timeout).await;
                Err(Failure::Transient("timed out".to_owned()))
            }
            Fate::Kill { after_effect } => {
                if after_effect {
                    arrive();
                }
                self.aws.kill(&self.function);
                std::future::pending().await
            }
        }
    }
}

fn refused(failure: model::Failure) -> Result<Answer, Failure> {
    match failure {
        model::Failure::ConnectionReset => Err(Failure::Transient("connection reset".to_owned())),
        model::Failure::InternalError => Ok(Answer::of(StatusCode::INTERNAL_SERVER_ERROR)),
        model::Failure::Throttled | model::Failure::Contended => {
            let mut answer = Answer::of(StatusCode::TOO_MANY_REQUESTS);
            answer.headers.insert("retry-after", HeaderValue::from_static("7"));
            Ok(answer)
        }
    }
}
