//! Turns: of the deliveries to a destination that are about one thing, one at a time is on its way, and none that is older than
//! what has arrived.
//!
//! The item of a thing has the newest version that arrived, and who is on the way with another. Whoever has the turn delivers and
//! then writes, in one transaction, that its delivery is done and that this version has arrived.

use aws_sdk_dynamodb::types::{AttributeValue, Update};
use sha2::{Digest, Sha256};

use super::{
    Lease, Ledger, LedgerError,
    attributes::{Item, millis, read_millis, read_string, seconds, string},
};
use crate::{names::DestinationName, time::Timestamp};

/// A delivery's place among those of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Where it goes: each destination has its own order.
    pub destination: DestinationName,
    /// What it is about.
    pub thing: String,
    /// Which state of that it tells.
    pub version: Version,
}

/// A version: numbers are compared as numbers, texts by their bytes (so RFC 3339 times of one offset and one precision do).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// A decimal number, of at most 38 digits (DynamoDB's own bound).
    Number(String),
    /// Any text.
    Text(String),
}

/// The answer of [`Ledger::take_turn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnAnswer {
    /// It is this delivery's turn.
    Taken,
    /// A newer version has arrived.
    Superseded,
    /// Another delivery of this thing is on its way; at the latest until then.
    HeldUntil(Timestamp),
    /// What has arrived has a text as its version, and this one a number, or the other way round.
    Incomparable,
}

impl Ledger {
    /// Takes the turn for the owner of `lease`, until `until`, when the lease ends as well.
    pub async fn take_turn(
        &self,
        turn: &Turn,
        lease: &Lease,
        now: Timestamp,
        until: Timestamp,
        expires_at: Timestamp,
    ) -> Result<TurnAnswer, LedgerError> {
        let update = self.client.update_item().table_name(&self.table).set_key(Some(turn.key()));
        let update = update
            .update_expression("SET holder = :holder, held_until = :until, expires_at = :expires_at")
            .condition_expression(
                "(attribute_not_exists(version) OR version <= :version) AND \
                 (attribute_not_exists(holder) OR holder = :holder OR held_until <= :now)",
            )
            .expression_attribute_values(":holder", string(lease.owner()))
            .expression_attribute_values(":until", millis(until))
            .expression_attribute_values(":expires_at", seconds(expires_at))
            .expression_attribute_values(":version", turn.version.to_attribute())
            .expression_attribute_values(":now", millis(now));
        Ok(match self.change(update).await? {
            Ok(_) => TurnAnswer::Taken,
            Err(found) => standing(turn, &found, now),
        })
    }

    /// Gives the turn back without having arrived.
    pub async fn give_up_turn(&self, turn: &Turn, lease: &Lease) -> Result<(), LedgerError> {
        let update = self.client.update_item().table_name(&self.table).set_key(Some(turn.key()));
        let update = update
            .update_expression("REMOVE holder, held_until")
            .condition_expression("holder = :holder")
            .expression_attribute_values(":holder", string(lease.owner()));
        self.change(update).await.map(drop)
    }

    /// The write that ends a turn whose delivery has arrived.
    pub(super) fn turn_is_over(&self, turn: &Turn, lease: &Lease) -> Result<Update, LedgerError> {
        let update = Update::builder().table_name(&self.table).set_key(Some(turn.key()));
        let update = update
            .update_expression("SET version = :version REMOVE holder, held_until")
            .condition_expression("holder = :holder")
            .expression_attribute_values(":version", turn.version.to_attribute())
            .expression_attribute_values(":holder", string(lease.owner()));
        update.build().map_err(|error| LedgerError::unbuildable(&error))
    }
}

impl Turn {
    /// By the hash of the thing: a key has at most 2,048 bytes, and what it names may be personal.
    fn key(&self) -> Item {
        let thing = hex::encode(Sha256::digest(&self.thing));
        Item::from([("pk".to_owned(), string(format!("order#{}#{thing}", self.destination))), ("sk".to_owned(), string("order"))])
    }
}

impl Version {
    fn to_attribute(&self) -> AttributeValue {
        match self {
            Self::Number(number) => AttributeValue::N(number.clone()),
            Self::Text(text) => AttributeValue::S(text.clone()),
        }
    }
}

fn standing(turn: &Turn, found: &Item, now: Timestamp) -> TurnAnswer {
    let same_kind = match (found.get("version"), &turn.version) {
        (None, _) | (Some(AttributeValue::N(_)), Version::Number(_)) | (Some(AttributeValue::S(_)), Version::Text(_)) => true,
        (Some(_), _) => false,
    };
    let held = read_millis(found, "held_until").filter(|until| now < *until && read_string(found, "holder").is_some());
    match (same_kind, held) {
        (false, _) => TurnAnswer::Incomparable,
        // It may be older as well: that shows when its turn comes.
        (true, Some(until)) => TurnAnswer::HeldUntil(until),
        (true, None) => TurnAnswer::Superseded,
    }
}
