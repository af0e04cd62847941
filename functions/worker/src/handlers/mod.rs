//! Destinations that are compiled in: code of yours that turns an event into DynamoDB writes, which are committed in one
//! transaction with the delivery's `done`. Whatever crashes, their effect happens exactly once.
//!
//! To add one: implement [`Handler`] in a file here, and list it in [`Handlers`].

mod customers;

use std::fmt;

use aws_sdk_dynamodb::types::TransactWriteItem;
use shared::{
    environment::{EnvironmentError, required},
    event::Event,
};

use crate::failure::Failure;
use customers::Customers;

/// Most writes of one event: DynamoDB takes a hundred in a transaction, and one is the delivery's own.
pub const HANDLER_WRITES_MAX: usize = 99;

/// Turns events into writes. It does no I/O of its own: what it needs to know must be in the event or in a condition.
pub trait Handler: Send + Sync {
    /// The name by which `gateway.toml` knows it.
    fn name(&self) -> &'static str;

    /// The writes that this event means, at most [`HANDLER_WRITES_MAX`]; none is as good as done.
    fn handle(&self, event: &Event, body: &[u8]) -> Result<Vec<TransactWriteItem>, Failure>;

    /// What it means when a condition of one of its writes does not hold.
    fn on_refused(&self) -> OnRefused;
}

/// What a condition that does not hold means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRefused {
    /// What is there is newer: the event is superseded, which is a way of being done.
    Superseded,
    /// A person must look: the delivery is dead.
    Dead,
}

/// All handlers of this worker.
pub struct Handlers(Vec<Box<dyn Handler>>);

impl fmt::Debug for Handlers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|handler| handler.name())).finish()
    }
}

impl Handlers {
    /// The names of all handlers.
    pub const NAMES: [&str; 1] = [customers::NAME];

    /// Composes them from the environment.
    pub fn from_environment() -> Result<Self, EnvironmentError> {
        Ok(Self::new(vec![Box::new(Customers::new(required("CUSTOMERS_TABLE")?))]))
    }

    /// These handlers.
    pub fn new(handlers: Vec<Box<dyn Handler>>) -> Self {
        Self(handlers)
    }

    /// The handler of this name.
    pub fn find(&self, name: &str) -> Option<&dyn Handler> {
        self.0.iter().find(|handler| handler.name() == name).map(AsRef::as_ref)
    }
}
