//! The receiver's verdict on a request, as it is told: by the function that the receiver runs.

use shared::{
    config::Source,
    door::{self, Asked, Keys, Rejection, Verdict},
    event::{Identified, Identity},
    names::{EventId, EventType},
    secrets::{Key, Keyring, Secret},
    signatures::UnverifiedWebhook,
    time::Timestamp,
};

/// A request, and what it is judged with.
#[derive(Clone, Copy, Debug)]
pub struct Case<'c> {
    /// Whose request it is.
    pub source: &'c Source,
    /// The request.
    pub webhook: &'c UnverifiedWebhook,
    /// The keys that it is verified with.
    pub keys: Keys<'c>,
    /// When it came.
    pub now: Timestamp,
}

/// The receiver's verdict in short: its first line, status and events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// In words: the first line of `posthouse verify`.
    pub headline: String,
    /// The status of the answer to a request that did not come before.
    pub status: u16,
    /// Id and type of the event that it becomes; of a batch, those of each. None is there twice.
    pub events: Vec<(EventId, EventType)>,
}

impl<'c> Case<'c> {
    /// The verdict.
    pub fn verdict(&self) -> Result<Verdict<'c>, Rejection> {
        door::judge(self.source, self.webhook, self.keys, self.now)
    }

    /// Whether a public key has to be fetched before it can be told.
    pub(crate) fn wants_key(&self) -> bool {
        let Ok(Asked::Webhook(unproven)) = door::ask(self.source, self.webhook) else { return false };
        self.keys.fetched.is_none() && matches!(unproven.wanted_key(self.keys.keyring, self.now), Ok(Some(_)))
    }
}

impl Judged {
    /// Sums up a verdict.
    pub fn of(source: &Source, verdict: &Result<Verdict<'_>, Rejection>) -> Self {
        let mut events: Vec<(EventId, EventType)> = Vec::new();
        if let Ok(Verdict::Webhook { identified, .. }) = verdict {
            for Identity { event_id, event_type, .. } in identities(identified) {
                // Of two in one batch, the first is the event.
                if !events.iter().any(|(known, _)| known == event_id) {
                    events.push((event_id.clone(), event_type.clone()));
                }
            }
        }
        let status = match verdict {
            Ok(verdict) => verdict.status(source),
            Err(rejection) => rejection.status(),
        };
        let headline = match verdict {
            Ok(Verdict::Webhook { .. }) => "valid".to_owned(),
            Ok(Verdict::Handshake { .. }) => format!("handshake: answered {status}"),
            Err(Rejection::BadSignature(refusal) | Rejection::Stale(refusal)) => format!("invalid: {refusal}"),
            // The sender is not told the reason; its operator is.
            Err(Rejection::Unavailable { reason }) => format!("invalid: {reason}"),
            Err(rejection @ Rejection::Handshake { .. }) => format!("handshake: refused with {status}: {rejection}"),
            Err(rejection) => format!("refused with {status}: {rejection}"),
        };
        Self { headline, status, events }
    }
}

/// What a webhook says of itself, or what each event of its batch does.
pub(crate) fn identities(identified: &Identified) -> Vec<&Identity> {
    match identified {
        Identified::Whole(identity) => vec![identity],
        Identified::Each(elements) => elements.iter().map(|element| &element.identity).collect(),
    }
}

/// A keyring that proves nothing, for who has none.
pub(crate) fn no_keys() -> Keyring {
    let over = Key { id: "none".to_owned(), secret: Secret::new("none"), not_after: Some(Timestamp::from_seconds(0)) };
    Keyring::new(vec![over]).expect("this is a keyring")
}
