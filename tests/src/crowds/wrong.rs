//! Known wrong designs of waiting. None is in the functions' code: what they ask of AWS, or what the world makes of it, is changed into what
//! the wrong design would have done.

use crate::model::{Call, Fate};

/// A wrong design.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// An entry is moved before its message is sent: who dies between the two has rung for nothing.
    MovedBeforeSent,
    /// A destination is registered after the delivery is written down as waiting: who dies between the two leaves it unseen.
    RegisteredAfterwards,
    /// A claim takes the entry away.
    ClaimTakesEntry,
    /// What waits for long keeps its message, hidden in flight.
    HeldInFlight,
    /// Who waits for room asks again and again.
    PollsForRoom,
}

impl Wrong {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::MovedBeforeSent, Self::RegisteredAfterwards, Self::ClaimTakesEntry, Self::HeldInFlight, Self::PollsForRoom];

    /// What becomes of a call that would succeed, or be the last of its function.
    pub(super) fn fate(self, call: &Call, meant: Fate) -> Fate {
        let is = |function: &str, operation: &str| call.function.starts_with(function) && call.operation == operation;
        let is_last = matches!(meant, Fate::Kill { .. });
        match self {
            // Of ours, nothing is moved after a message that was not sent.
            Self::MovedBeforeSent if is("dispatcher", "SendMessageBatch") && is_last => Fate::Pretend { words: "Entries" },
            Self::RegisteredAfterwards if is("worker", "UpdateItem") && meant == Fate::Succeed => {
                Fate::Pretend { words: "waiting_until" }
            }
            _ => meant,
        }
    }
}
