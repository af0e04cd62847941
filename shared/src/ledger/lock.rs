//! Locks: what only one worker at a time may do at a destination.
//!
//! A lock ends by itself, so that nobody waits for an owner that died. What is done under it must bear that a second owner begins
//! while a slow first one has not ended.

use super::{
    Ledger, LedgerError,
    attributes::{millis, read_millis, string},
};
use crate::{names::DestinationName, time::Timestamp};

/// What became of a request for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locked {
    /// It is the holder's.
    Acquired,
    /// It is somebody else's until then, or until it is given back.
    HeldUntil(Timestamp),
}

impl Ledger {
    /// Asks for the lock `name` of a destination until `until`. Its holder gets it again.
    pub async fn lock(
        &self,
        destination: &DestinationName,
        name: &str,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Locked, LedgerError> {
        let update = self.update_destination(destination, name);
        let update = update
            .update_expression("SET holder = :holder, held_until = :until")
            .condition_expression("attribute_not_exists(holder) OR held_until <= :now OR holder = :holder")
            .expression_attribute_values(":holder", string(holder))
            .expression_attribute_values(":until", millis(until))
            .expression_attribute_values(":now", millis(now));
        Ok(match self.change(update).await? {
            Ok(_) => Locked::Acquired,
            Err(found) => Locked::HeldUntil(read_millis(&found, "held_until").unwrap_or(now)),
        })
    }

    /// Gives a lock back, if it is still the holder's.
    pub async fn unlock(&self, destination: &DestinationName, name: &str, holder: &str) -> Result<(), LedgerError> {
        let update = self.update_destination(destination, name);
        let update = update
            .update_expression("REMOVE holder, held_until")
            .condition_expression("holder = :holder")
            .expression_attribute_values(":holder", string(holder));
        self.change(update).await.map(drop)
    }
}
