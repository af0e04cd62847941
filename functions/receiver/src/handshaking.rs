//! Answering what a provider asks before it sends.

use metrics::counter;
use shared::{
    config::Source,
    location::{Location, Places},
    secrets::{Enrolment, Secret},
    signatures::{
        UnverifiedWebhook,
        handshake::{Handshake, HandshakeAnswer},
    },
    time::Timestamp,
};

use crate::{Receiver, rejection::Rejection};

impl Receiver {
    /// Answers a handshake, verified already if its protocol signs it. Keyrings are read only where the answer needs them.
    pub(crate) async fn shake_hands(
        &self,
        source: &Source,
        handshake: &Handshake,
        webhook: &UnverifiedWebhook,
        now: Timestamp,
    ) -> Result<HandshakeAnswer, Rejection> {
        let keyring = match handshake.needs_key() {
            true => Some(self.keyrings.current(&source.secret, now).await.map_err(Rejection::unavailable)?),
            false => None,
        };
        let secrets = match source.handshake_secret.as_ref().filter(|_| handshake.needs_handshake_secret()) {
            Some(name) => Some(self.keyrings.current(name, now).await.map_err(Rejection::unavailable)?),
            None => None,
        };
        let answer = handshake.answer(&source.scheme, &Places::new(webhook), keyring.as_deref(), secrets.as_deref(), now)?;
        if let Some(brought) = value_at(handshake.enrol.as_ref(), webhook)? {
            self.enrol(source, Secret::new(brought), now).await?;
        }
        if let Some(url) = value_at(handshake.confirm.as_ref(), webhook)? {
            let topic = Location::Json("/TopicArn".to_owned());
            let topic = value_at(Some(&topic), webhook)?.unwrap_or_default();
            self.fetched_keys.confirm(&url, &topic, now).await?;
        }
        counter!("Handshakes").increment(1);
        tracing::info!(source = %source.name, status = answer.status, "handshake answered");
        Ok(answer)
    }

    async fn enrol(&self, source: &Source, secret: Secret, now: Timestamp) -> Result<(), Rejection> {
        match self.keyrings.enrol(&source.secret, secret, now).await.map_err(Rejection::unavailable)? {
            Enrolment::Enrolled => {
                tracing::info!(source = %source.name, "enrolled: the secret of this handshake is a key now");
                Ok(())
            }
            Enrolment::Closed => Err(Rejection::EnrolmentClosed),
        }
    }
}

/// The value at a place that a handshake names; it must be there.
fn value_at(place: Option<&Location>, webhook: &UnverifiedWebhook) -> Result<Option<String>, Rejection> {
    let Some(place) = place else { return Ok(None) };
    let found = Places::new(webhook).find(place).filter(|value| !value.is_empty());
    let missing = || Rejection::Handshake { reason: format!("the handshake lacks `{place}`"), status: 400 };
    found.map(|value| Some(value.into_owned())).ok_or_else(missing)
}
