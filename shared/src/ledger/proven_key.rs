//! Fetched keys that have proven something, by name. Anybody can name keys, so fetching is bounded; an environment that has used its bound
//! up learns here which names are worth a fetch all the same.

use std::time::Duration;

use super::{
    Ledger, LedgerError,
    attributes::{Item, read_number, seconds, string},
};
use crate::{
    event::BodyDigest,
    time::{DAY_SECONDS, Timestamp},
};

/// How long it is remembered that a key has proven something, in days: longer than providers use one, or it is noted anew.
pub const PROVEN_KEY_DAYS: u64 = 400;

impl Ledger {
    /// Notes that the key of this name has proven something.
    pub async fn note_proven(&self, name: &str, now: Timestamp) -> Result<(), LedgerError> {
        let mut item = item_key(name);
        item.insert("expires_at".to_owned(), seconds(now.plus(Duration::from_secs(PROVEN_KEY_DAYS * DAY_SECONDS))));
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item));
        put.send().await.map(drop).map_err(|error| LedgerError::of(&error))
    }

    /// Whether the key of this name has proven something.
    pub async fn has_proven(&self, name: &str, now: Timestamp) -> Result<bool, LedgerError> {
        let get = self.client.get_item().table_name(&self.table).set_key(Some(item_key(name)));
        let item = get.send().await.map_err(|error| LedgerError::of(&error))?.item;
        Ok(item.is_some_and(|item| read_number(&item, "expires_at").is_some_and(|expires_at| now.seconds() < expires_at)))
    }
}

fn item_key(name: &str) -> Item {
    let digest = BodyDigest::of(name.as_bytes()).to_hex();
    Item::from([("pk".to_owned(), string(format!("key#{digest}"))), ("sk".to_owned(), string("proven"))])
}
