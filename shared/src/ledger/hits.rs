//! Which keys of a source have verified events lately.

use std::collections::BTreeMap;

use super::{
    Ledger, LedgerError, SHARDS,
    attributes::{Item, read_string, string},
    audit::read_indexed,
};
use crate::{event::EventKey, names::SourceName, time::Timestamp};

/// Most events of one shard that are looked at.
pub const HITS_PER_SHARD_MAX: i32 = 100;

/// The newest events of a source, by the key that verified each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// By the key's id: the newest event that it verified.
    pub newest: BTreeMap<String, (Timestamp, EventKey)>,
    /// How many events were looked at.
    pub events: usize,
    /// All events since then were looked at; `None`: all that there are.
    pub complete_since: Option<Timestamp>,
}

impl Ledger {
    /// Looks at the newest events of a source, at most [`HITS_PER_SHARD_MAX`] of each shard. Eventually consistent reads.
    pub async fn last_hits(&self, source: &SourceName) -> Result<Hits, LedgerError> {
        let shards = (0..SHARDS).map(|shard| self.newest_of_shard(source, shard));
        let shards = futures::future::try_join_all(shards).await?;
        let mut hits = Hits::default();
        let mut received = BTreeMap::new();
        for (events, is_complete) in shards {
            let oldest = events.iter().map(|(received_at, _)| *received_at).min();
            if !is_complete {
                hits.complete_since = hits.complete_since.max(oldest);
            }
            received.extend(events.into_iter().map(|(received_at, key)| (key.to_string(), (received_at, key))));
        }
        let keys = received.keys().map(|pk| Item::from([("pk".to_owned(), string(pk)), ("sk".to_owned(), string("event"))]));
        for item in self.batch_get(keys.collect(), &["pk", "key_id"]).await? {
            let (Some(pk), Some(key_id)) = (read_string(&item, "pk"), read_string(&item, "key_id")) else { continue };
            let Some(hit) = received.get(pk) else { continue };
            hits.events += 1;
            let newest = hits.newest.entry(key_id.to_owned()).or_insert_with(|| hit.clone());
            if newest.0 < hit.0 {
                *newest = hit.clone();
            }
        }
        Ok(hits)
    }

    /// The newest events of a shard, and whether there are no others.
    async fn newest_of_shard(&self, source: &SourceName, shard: u8) -> Result<(Vec<(Timestamp, EventKey)>, bool), LedgerError> {
        let query = self.client.query().table_name(&self.table).index_name("by_time").scan_index_forward(false);
        let query = query.limit(HITS_PER_SHARD_MAX).key_condition_expression("by_time_pk = :shard");
        let answer = query.expression_attribute_values(":shard", string(format!("{source}#{shard}"))).send().await;
        let answer = answer.map_err(|error| LedgerError::of(&error))?;
        let events = answer.items().iter().map(|item| read_indexed(source, item).map(|event| (event.received_at, event.key)));
        Ok((events.collect::<Result<_, _>>()?, answer.last_evaluated_key().is_none()))
    }
}
