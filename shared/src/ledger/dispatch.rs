//! The dispatcher's own item: that there is one at a time, and where it goes on.
//!
//! Two at once would ring twice, which costs money and changes nothing: a delivery is claimed once.

use super::{
    Ledger, LedgerError,
    attributes::{Item, millis, read_string, string},
};
use crate::{names::DestinationName, time::Timestamp};

/// What the dispatcher knows when it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The destination that comes first, if one did not get its turn the last time.
    pub first: Option<DestinationName>,
}

impl Ledger {
    /// Makes `holder` the dispatcher until `until`, unless there is one. Where it goes on; `None` if there is one.
    pub async fn begin_dispatch(&self, holder: &str, now: Timestamp, until: Timestamp) -> Result<Option<Place>, LedgerError> {
        let update = self.client.update_item().table_name(&self.table).set_key(Some(key()));
        let update = update
            .update_expression("SET holder = :holder, held_until = :until")
            .condition_expression("attribute_not_exists(holder) OR held_until <= :now OR holder = :holder")
            .expression_attribute_values(":holder", string(holder))
            .expression_attribute_values(":until", millis(until))
            .expression_attribute_values(":now", millis(now))
            .return_values(aws_sdk_dynamodb::types::ReturnValue::AllNew);
        let place =
            |item: Item| Place { first: read_string(&item, "goes_on").and_then(|name| DestinationName::parse(name).ok()) };
        Ok(self.change(update).await?.ok().map(place))
    }

    /// Ends what `holder` began, if it is still the dispatcher. The next one goes on at this place.
    pub async fn end_dispatch(&self, holder: &str, place: &Place) -> Result<(), LedgerError> {
        let update = self.client.update_item().table_name(&self.table).set_key(Some(key()));
        let update = match &place.first {
            Some(name) => update
                .update_expression("SET goes_on = :name REMOVE holder, held_until")
                .expression_attribute_values(":name", string(name.as_str())),
            None => update.update_expression("REMOVE goes_on, holder, held_until"),
        };
        let update = update.condition_expression("holder = :holder").expression_attribute_values(":holder", string(holder));
        self.change(update).await.map(drop)
    }
}

fn key() -> Item {
    Item::from([("pk".to_owned(), string("dispatch")), ("sk".to_owned(), string("lease"))])
}
