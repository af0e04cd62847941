//! What is known about a destination as a whole: so far, whether it is paused. Read and written on failure paths only.

use super::{
    Ledger, LedgerError,
    attributes::{Item, millis, string},
};
use crate::{names::DestinationName, time::Timestamp};

impl Ledger {
    /// Pauses a destination: its paused deliveries wait until a person removes this item.
    pub async fn pause(&self, destination: &DestinationName, reason: &str, now: Timestamp) -> Result<(), LedgerError> {
        let mut item = state_key(destination);
        item.insert("paused_at".to_owned(), millis(now));
        item.insert("reason".to_owned(), string(reason));
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item));
        put.send().await.map(drop).map_err(|error| LedgerError::of(&error))
    }

    /// Whether a destination is paused. A strongly consistent read.
    pub async fn is_paused(&self, destination: &DestinationName) -> Result<bool, LedgerError> {
        let get = self.client.get_item().table_name(&self.table).consistent_read(true);
        let answer = get.set_key(Some(state_key(destination))).send().await.map_err(|error| LedgerError::of(&error))?;
        Ok(answer.item.is_some_and(|item| item.contains_key("paused_at")))
    }
}

fn state_key(destination: &DestinationName) -> Item {
    Item::from([("pk".to_owned(), string(format!("destination#{destination}"))), ("sk".to_owned(), string("state"))])
}
