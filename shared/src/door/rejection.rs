//! Every way to say no, and its status.

use crate::{
    event::IdentityError,
    fetched::FetchError,
    ledger::LedgerError,
    names::EventId,
    signatures::{Refusal, handshake::HandshakeRefusal},
};

/// Why a webhook is not accepted. Nothing of it has been written.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// The path ends in the name of no source. In the words of a source that is there.
    #[error("the signature is missing")]
    UnknownSource,
    /// Its webhooks come by other methods.
    #[error("this source takes {allowed}")]
    MethodNotAllowed {
        /// Those, with commas between.
        allowed: String,
    },
    /// The body is too large.
    #[error("the body is larger than the {body_bytes_max} bytes that this source may send")]
    TooLarge {
        /// What its source may send.
        body_bytes_max: usize,
    },
    /// It is not proven who sent it.
    #[error("{0}")]
    BadSignature(Refusal),
    /// It was rightly signed, too long ago or too far ahead.
    #[error("{0}")]
    Stale(Refusal),
    /// It is a handshake that is not as its protocol demands.
    #[error("{reason}")]
    Handshake {
        /// What is wrong.
        reason: String,
        /// The status that the protocol gives it.
        status: u16,
    },
    /// A handshake brings a secret that nobody waits for.
    #[error("enrolment is not open for this source: its operator opens it before the webhook is created")]
    EnrolmentClosed,
    /// It is no request, or its event id cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// It came past the front door: without the header that what stands before the API puts there.
    #[error("this URL is closed: use the webhook URL that the operator gives")]
    PastFrontDoor,
    /// It names a key that is not known here, and more such keys were asked for in this minute than are fetched. It may be genuine.
    #[error("too many unknown signing keys are asked for at this moment; send it again")]
    TooManyKeys,
    /// Another body of a known event id.
    #[error("this event id came before with another body, and this source takes each id once: send it under an id of its own")]
    Conflict {
        /// The id.
        event_id: EventId,
    },
    /// An outage or a mistake of ours.
    #[error("this webhook cannot be accepted at this moment; send it again")]
    Unavailable {
        /// What the sender is not told.
        reason: String,
    },
}

impl Rejection {
    /// An outage of ours; the reason goes to the log alone.
    pub fn unavailable(error: impl std::fmt::Display) -> Self {
        Self::Unavailable { reason: error.to_string() }
    }

    /// Whether a keyring that has changed could have made it a yes.
    pub const fn depends_on_keys(&self) -> bool {
        match self {
            Self::BadSignature(refusal) => refusal.depends_on_keys(),
            Self::Unavailable { .. } => true,
            _ => false,
        }
    }

    /// The status that it is answered with.
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::BadSignature(_) | Self::Stale(_) | Self::UnknownSource => 401,
            Self::EnrolmentClosed | Self::PastFrontDoor => 403,
            Self::Handshake { status, .. } => *status,
            Self::MethodNotAllowed { .. } => 405,
            Self::Conflict { .. } => 409,
            Self::TooLarge { .. } => 413,
            // No 5xx, since anybody can cause it; and of the 4xx the one that senders try again after, SNS among them.
            Self::TooManyKeys => 429,
            Self::Unavailable { .. } => 503,
        }
    }

    /// Its word in the body of the answer.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::BadSignature(_) | Self::UnknownSource => "bad_signature",
            Self::Stale(_) => "stale",
            Self::EnrolmentClosed => "enrolment_closed",
            Self::Handshake { .. } => "handshake_refused",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::Conflict { .. } => "conflict",
            Self::TooLarge { .. } => "too_large",
            Self::PastFrontDoor => "past_front_door",
            Self::TooManyKeys => "too_many_keys",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Stale { .. } => Self::Stale(refusal),
            // Ours to mend, and the sender's to send again.
            Refusal::UnusableKey => Self::unavailable(refusal),
            _ => Self::BadSignature(refusal),
        }
    }
}

impl From<FetchError> for Rejection {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Refused(_) => Self::BadSignature(Refusal::UntrustedKey),
            FetchError::Budget => Self::TooManyKeys,
            error @ FetchError::Unavailable(_) => Self::unavailable(error),
        }
    }
}

impl From<HandshakeRefusal> for Rejection {
    fn from(refusal: HandshakeRefusal) -> Self {
        match refusal {
            HandshakeRefusal::Requirement { status, .. } => Self::Handshake { reason: refusal.to_string(), status },
            HandshakeRefusal::Unanswerable(_) => Self::Handshake { reason: refusal.to_string(), status: 400 },
            HandshakeRefusal::UnusableKey => Self::unavailable(refusal),
        }
    }
}

impl From<IdentityError> for Rejection {
    fn from(error: IdentityError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<LedgerError> for Rejection {
    fn from(error: LedgerError) -> Self {
        // Being throttled by DynamoDB is an outage of ours too: not every sender tries again after a 4xx.
        Self::unavailable(error)
    }
}
