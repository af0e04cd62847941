//! The ledger: one DynamoDB table that is the truth about events and deliveries.
//!
//! The receiver writes events, once and conditionally; workers write deliveries, and every write of theirs names the lease
//! owner in its condition. A lease saves work; correctness does not hang on it, since only an owner finishes.
//!
//! | item | partition key | sort key |
//! | --- | --- | --- |
//! | event | `{source}#{event_id}` | `event` |
//! | delivery | same | `delivery#{destination}` |
//! | conflict | same | `conflict#{SHA-256 of the other body}` |
//! | replay | same as the first | `replay#{one of some numbers, by its event id}` |
//! | destination: pause and circuit, rate, slots | `destination#{name}` | `state`, `rate`, `slots` |
//! | lock of a destination | `destination#{name}` | the name of the lock, as `oauth` |
//! | order | `order#{destination}#{SHA-256 of the thing}` | `order` |
//! | watermark | `audit` | `watermark` |
//! | where the dispatcher is, and its lease | `dispatch` | `lease` |
//! | fetched key that has proven something | `key#{SHA-256 of its name}` | `proven` |
//!
//! What was signed is remembered beside it, in a table of its own ([`SignedContent`]).
//!
//! What becomes an event of a conflict or a replay does so through [`Ledger::accept`] alone.
//!
//! TTL removes expired items late, sometimes by days. So recording compares the expiry itself, and a claim compares which event
//! the delivery is of.

mod attributes;
pub mod audit;
mod cancel;
mod content;
mod delivery;
mod destination;
mod dispatch;
mod event;
mod expiry;
mod gate;
mod history;
mod hits;
mod lock;
mod order;
mod proven_key;
mod quarantine;
mod waiting;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::{Client, types::AttributeValue};

pub use cancel::Cancellation;
pub use content::{CONTENT_CLAIM_SECONDS, ContentTypes, SignedContent};
pub use delivery::{Bid, Claim, Delivery, DoneAs, Ended, FailureRecord, Finish, Lease, Outcome, Parking, Status, Wait, Why};
pub use destination::{Circuit, DestinationState, Loaded, Pause};
pub use dispatch::Place;
pub use event::Recorded;
pub use gate::{Gate, LEFT_ALONE_SECONDS_MAX};
pub use history::{ATTEMPTS_KEPT_MAX, AttemptRecord};
pub use hits::{HITS_PER_SHARD_MAX, Hits};
pub use lock::Locked;
pub use order::{Turn, TurnAnswer, Version};
pub use proven_key::PROVEN_KEY_DAYS;
pub use quarantine::{Acceptance, DeliveryReport, Kind, Pair, Quarantined, REPLAYS_KEPT_MAX};
pub use waiting::{
    COUNTED_MAX, Due, DueAtDestination, LOOK_AGAIN_SECONDS, LOOK_AGAIN_SECONDS_MAX, REGISTERED_SECONDS, REGISTERED_SECONDS_MIN,
    WaitingCount,
};

use crate::{aws, event::EventKey, names::DestinationName};

/// Shards of an index partition. One partition takes 1,000 writes a second, and an index that cannot keep up holds back its table.
pub const SHARDS: u8 = 8;

/// The ledger could not be used. Expected outcomes are not among these.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// DynamoDB did not answer, or refused. Whether a write happened is not known.
    #[error("the ledger cannot be used: {0}")]
    Unavailable(String),
    /// An item is not of the form that this code writes.
    #[error("the ledger's item {key} cannot be read: {reason}")]
    Corrupt {
        /// Which item.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl LedgerError {
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Unavailable(aws::describe(error))
    }

    /// A request that could not be built; every one that this code builds can.
    fn unbuildable(error: &aws_sdk_dynamodb::error::BuildError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// The table.
#[derive(Clone, Debug)]
pub struct Ledger {
    client: Client,
    table: String,
    content_table: Option<String>,
}

impl Ledger {
    /// The ledger in this table.
    pub fn new(config: &SdkConfig, table: String) -> Self {
        Self { client: Client::new(config), table, content_table: None }
    }

    /// The same, for whoever makes events: what was signed is remembered in this other table.
    #[must_use]
    pub fn remembering(self, content_table: String) -> Self {
        Self { content_table: Some(content_table), ..self }
    }

    fn content_table(&self) -> Result<&str, LedgerError> {
        self.content_table.as_deref().ok_or_else(|| LedgerError::Unavailable("no table for what was signed".to_owned()))
    }
}

fn delivery_key(key: &EventKey, destination: &DestinationName) -> (AttributeValue, AttributeValue) {
    (AttributeValue::S(key.to_string()), AttributeValue::S(format!("delivery#{destination}")))
}
