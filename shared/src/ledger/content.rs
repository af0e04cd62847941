//! What was signed, remembered for the event that came with it first: where a signature does not cover an event's id or type, these do
//! not tell whether a webhook was there before.
//!
//! It is remembered in a table of its own, which may keep it for longer than the event and has no backup: it can be lost without
//! losing an event. An entry is never read, only put on a condition, so a content that is new costs one write.

use std::time::Duration;

use aws_sdk_dynamodb::{
    operation::put_item::PutItemError,
    types::{AttributeValue, ReturnValuesOnConditionCheckFailure},
};

use super::{
    Ledger, LedgerError, Recorded,
    attributes::{Item, millis, read_binary, read_millis, read_number, read_string, seconds, string},
    event::read_bodiless,
};
use crate::{
    bodies::StoredBody,
    event::{BodyDigest, Event, EventKey},
    names::EventId,
    time::Timestamp,
};

/// How long what was signed is held for the event id that came with it first, in seconds, if no event is recorded under that id:
/// longer than a receiver may run (`Timeout` in `infra/template.yaml`), so that by then none will be.
pub const CONTENT_CLAIM_SECONDS: u64 = 40;

/// What was signed, for schemes that do not cover the event's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedContent {
    /// Its digest.
    pub sha256: BodyDigest,
    /// How long it is remembered.
    pub expires_at: Timestamp,
    /// Which types it may come under.
    pub types: ContentTypes,
}

/// Under which event types the same signed content is an event each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentTypes {
    /// The signature covers the type, or the event's id: one content is one event.
    Signed,
    /// The configuration names this type literally: it is an event of its own.
    Named,
    /// Nobody has named this type. Under so many of them the content is an event each, and no more: a type is whatever somebody
    /// writes into a header.
    Unnamed(u8),
}

/// Which event id what was signed belongs to.
struct ContentClaim {
    event_id: EventId,
    event_type: String,
    claimed_at: Timestamp,
    /// When the event of that id expires, if there is one.
    event_expires_at: Timestamp,
    /// Whether the content is that of a batch, of which that event is one element.
    is_of_batch: bool,
}

/// The answer for a content before its event is recorded.
pub(super) enum First {
    /// There is nothing left to record.
    Known(Recorded),
    /// It is claimed for the event that asked, under this key.
    Claimed {
        /// The claim's.
        key: String,
    },
}

/// Whose a content is.
pub(super) enum Owner {
    /// It is claimed for the event that asked, under this key.
    Claimed(String),
    /// An event that is in the ledger: it has this content, or the id that was asked for.
    Event(EventKey, Item),
    /// An event that has expired.
    Expired(EventKey),
}

impl ContentTypes {
    /// How it is written down; the type itself is the event's.
    pub(super) const fn to_number(self) -> u64 {
        match self {
            Self::Signed => 0,
            Self::Unnamed(most) => most as u64,
            Self::Named => 1 << u8::BITS,
        }
    }

    pub(super) fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Signed,
            number => u8::try_from(number).map_or(Self::Named, Self::Unnamed),
        }
    }
}

impl SignedContent {
    /// The keys that it may be remembered under, for an event of this type.
    fn keys(&self, event: &Event) -> Vec<String> {
        let source = &event.key.source;
        let key = |digest: &BodyDigest| format!("{source}#{}", digest.to_hex());
        match self.types {
            ContentTypes::Signed => vec![key(&self.sha256)],
            ContentTypes::Named => {
                vec![key(&BodyDigest::of(&[self.sha256.as_bytes().as_slice(), event.event_type.as_str().as_bytes()].concat()))]
            }
            ContentTypes::Unnamed(most) => {
                let further = (1..most).map(|number| format!("{}#{number}", key(&self.sha256)));
                std::iter::once(key(&self.sha256)).chain(further).collect()
            }
        }
    }

    /// Whether the event of this item came of the claim: it has this content, or is known by the same, as a retry with another time is;
    /// and it is of the claim's type, where one content may be an event of each of several. Else somebody has claimed the content, under
    /// that type, for the id of an event of another type.
    fn is_recorded_as(&self, item: &Item, claim: &ContentClaim, event: &Event) -> bool {
        // Of a batch, an element can have come with another one before.
        if claim.is_of_batch {
            return true;
        }
        let of_type = self.types == ContentTypes::Signed || read_string(item, "type") == Some(&claim.event_type);
        let compared = read_binary(item, "compared_sha256").or_else(|| read_binary(item, "sha256"));
        let is_same = compared == Some(event.compared().as_bytes().as_slice());
        of_type && (is_same || content_digest(item) == Some(self.sha256))
    }

    fn is_of(&self, claim: &ContentClaim, event: &Event) -> bool {
        !matches!(self.types, ContentTypes::Unnamed(_)) || claim.event_type == event.event_type.as_str()
    }
}

impl Ledger {
    /// Claims what was signed for this event's id.
    pub(super) async fn first_of_content(
        &self,
        event: &Event,
        body: &StoredBody,
        content: SignedContent,
    ) -> Result<First, LedgerError> {
        let (first, item) = match self.owner_of_content(event, content).await? {
            Owner::Claimed(key) => return Ok(First::Claimed { key }),
            Owner::Expired(first) => {
                let is_kept = self.quarantine_replay(event, Some(body), &first).await?;
                return Ok(First::Known(Recorded::Replayed { first: first.event_id, unclaimed: Vec::new(), is_kept }));
            }
            Owner::Event(first, item) => (first, item),
        };
        let unclaimed = match first == event.key {
            true => match self.compare(event, &item).await? {
                // What differs is not signed: it is no other body of its sender's.
                Recorded::Conflict { unclaimed } if content_digest(&item) == Some(content.sha256) => unclaimed,
                known => return Ok(First::Known(known)),
            },
            false => {
                // Before it is taken for a replay: it may have been one, or a conflict, that has been accepted since.
                if let Some(seen) = self.seen_beside(event).await? {
                    return Ok(First::Known(seen));
                }
                self.unclaimed(&read_bodiless(&first, &item)?).await?
            }
        };
        let is_kept = match read_binary(&item, "sha256") == Some(event.sha256.as_bytes()) {
            // The same bytes are there already, and for as long as the first is.
            true => {
                let until = read_number(&item, "expires_at").map_or(event.expires_at, Timestamp::from_seconds);
                let bodiless = Event { expires_at: event.expires_at.min(until), ..event.clone() };
                self.quarantine_replay(&bodiless, None, &first).await?
            }
            false => self.quarantine_replay(event, Some(body), &first).await?,
        };
        Ok(First::Known(Recorded::Replayed { first: first.event_id, unclaimed, is_kept }))
    }

    /// Has a claim that was just made end with the event that was found under its id: a retry that is not the same to the byte would
    /// else leave a claim behind that says that its event lives longer.
    pub(super) async fn claim_until_the_events_end(
        &self,
        key: &str,
        event: &Event,
        content: SignedContent,
        first: &Item,
    ) -> Result<(), LedgerError> {
        let expires_at = read_number(first, "expires_at").map_or(event.expires_at, Timestamp::from_seconds);
        let claim = ContentClaim {
            event_id: event.key.event_id.clone(),
            event_type: event.event_type.to_string(),
            claimed_at: event.received_at,
            event_expires_at: event.expires_at,
            is_of_batch: event.part.is_some(),
        };
        let until_then = Event { expires_at, ..event.clone() };
        self.claim_content(key, &until_then, content, Some(&claim)).await.map(drop)
    }

    /// Whose content this is, once it has been claimed for this event's id if it was free.
    ///
    /// It comes before the event, so that of two requests at once only one is new. If the function dies between the two puts,
    /// the sender's next try has the same id and goes on; one with another id takes over as soon as the first can no longer be
    /// on its way. Each take-over is of one claim and so happens once.
    pub(super) async fn owner_of_content(&self, event: &Event, content: SignedContent) -> Result<Owner, LedgerError> {
        let mut of_others = None;
        for key in content.keys(event) {
            match self.claim_content(&key, event, content, None).await? {
                None => return Ok(Owner::Claimed(key)),
                Some(claim) if content.is_of(&claim, event) => return self.owner_by(&key, claim, event, content).await,
                Some(claim) => drop(of_others.get_or_insert((key, claim))),
            }
        }
        // It came under as many types as it may: the first of them has it.
        match of_others {
            Some((key, claim)) => self.owner_by(&key, claim, event, content).await,
            None => Err(LedgerError::Unavailable("a content may come under no type".to_owned())),
        }
    }

    /// Whose content it is by this claim, which is taken over if no event came of it.
    async fn owner_by(
        &self,
        key: &str,
        claim: ContentClaim,
        event: &Event,
        content: SignedContent,
    ) -> Result<Owner, LedgerError> {
        let first = EventKey { source: event.key.source.clone(), event_id: claim.event_id.clone() };
        let held_until = claim.claimed_at.plus(Duration::from_secs(CONTENT_CLAIM_SECONDS));
        match self.find_item(&first, event.received_at).await? {
            Some(item) if first == event.key || content.is_recorded_as(&item, &claim, event) => {
                return Ok(Owner::Event(first, item));
            }
            // It may have been recorded and may have expired since: what was captured then is not new again.
            None if claim.event_expires_at <= event.received_at => return Ok(Owner::Expired(first)),
            None if first != event.key && event.received_at < held_until => {
                return Err(LedgerError::Unavailable("what was signed is being recorded under another id".to_owned()));
            }
            // It is ours, and is tried again; or it was never recorded; or the first id has another content, and this one is a
            // conflict with it.
            _ => {}
        }
        match self.claim_content(key, event, content, Some(&claim)).await? {
            None => Ok(Owner::Claimed(key.to_owned())),
            Some(taken) if taken.event_id == event.key.event_id => Ok(Owner::Claimed(key.to_owned())),
            // Another request took it over at this moment: when the sender sends again, that one is recorded.
            Some(_) => Err(LedgerError::Unavailable("what was signed is being recorded under another id".to_owned())),
        }
    }

    /// Writes whose content it is, unless there is another claim than `instead_of`; then that one.
    async fn claim_content(
        &self,
        key: &str,
        event: &Event,
        content: SignedContent,
        instead_of: Option<&ContentClaim>,
    ) -> Result<Option<ContentClaim>, LedgerError> {
        let put = self
            .client
            .put_item()
            .table_name(self.content_table()?)
            .item("pk", string(key))
            .item("event_id", string(event.key.event_id.as_str()))
            .item("type", string(event.event_type.as_str()))
            .item("claimed_at", millis(event.received_at))
            .item("event_expires_at", seconds(event.expires_at))
            .item("expires_at", seconds(content.expires_at))
            .expression_attribute_values(":now", seconds(event.received_at))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = match event.part {
            Some(_) => put.item("batch", AttributeValue::Bool(true)),
            None => put,
        };
        let is_free = "attribute_not_exists(pk) OR expires_at <= :now";
        let put = match instead_of {
            None => put.condition_expression(is_free),
            Some(claim) => put
                .condition_expression(format!("{is_free} OR (event_id = :event_id AND claimed_at = :claimed_at)"))
                .expression_attribute_values(":event_id", string(claim.event_id.as_str()))
                .expression_attribute_values(":claimed_at", millis(claim.claimed_at)),
        };
        match put.send().await.map_err(|error| error.into_service_error()) {
            Ok(_) => Ok(None),
            Err(PutItemError::ConditionalCheckFailedException(refused)) => {
                let claim = refused.item.as_ref().and_then(read_claim);
                claim.map(Some).ok_or_else(|| LedgerError::Corrupt { key: key.to_owned(), reason: "it is no claim of a content" })
            }
            Err(error) => Err(LedgerError::of(&error)),
        }
    }
}

fn read_claim(item: &Item) -> Option<ContentClaim> {
    Some(ContentClaim {
        event_id: EventId::parse(read_string(item, "event_id")?).ok()?,
        event_type: read_string(item, "type")?.to_owned(),
        claimed_at: read_millis(item, "claimed_at")?,
        event_expires_at: read_number(item, "event_expires_at").map(Timestamp::from_seconds)?,
        is_of_batch: item.contains_key("batch"),
    })
}

/// What was signed: kept apart only where it is not the body.
fn content_digest(event: &Item) -> Option<BodyDigest> {
    ["content_sha256", "sha256"].iter().find_map(|name| read_binary(event, name)).and_then(BodyDigest::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_of_a_content_read_back_as_they_were_written() {
        for types in [ContentTypes::Signed, ContentTypes::Named, ContentTypes::Unnamed(1), ContentTypes::Unnamed(u8::MAX)] {
            assert_eq!(ContentTypes::from_number(types.to_number()), types);
        }
    }
}
