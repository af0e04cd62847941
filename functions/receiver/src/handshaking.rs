//! Answering what a provider asks before it sends.

use metrics::counter;
use shared::{
    config::Source,
    door::Meeting,
    secrets::{Enrolment, Secret},
    signatures::handshake::HandshakeAnswer,
    time::Timestamp,
};

use crate::{Receiver, rejection::Rejection};

impl Receiver {
    /// Answers a handshake. Keyrings are read only where the answer needs them.
    pub(crate) async fn shake_hands(
        &self,
        source: &Source,
        meeting: &Meeting<'_>,
        now: Timestamp,
    ) -> Result<HandshakeAnswer, Rejection> {
        let keyring = match meeting.needs_key() {
            true => Some(self.keyrings.current(&source.secret, now).await.map_err(Rejection::unavailable)?),
            false => None,
        };
        let secrets = match source.handshake_secret.as_ref().filter(|_| meeting.needs_handshake_secret()) {
            Some(name) => Some(self.keyrings.current(name, now).await.map_err(Rejection::unavailable)?),
            None => None,
        };
        let greeting = meeting.answer(keyring.as_deref(), secrets.as_deref(), now)?;
        if let Some(secret) = greeting.enrol {
            self.enrol(source, secret, now).await?;
        }
        if let Some(confirmation) = greeting.confirm {
            self.fetched_keys.confirm(&confirmation.url, &confirmation.topic, now).await?;
        }
        counter!("Handshakes").increment(1);
        tracing::info!(source = %source.name, status = greeting.answer.status, "handshake answered");
        Ok(greeting.answer)
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
