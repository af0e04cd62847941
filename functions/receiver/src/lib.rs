//! The receiver: API Gateway → (handshake) → verify → record → ring → answer.
//!
//! Always holds: nothing unverified is written or logged beyond its source, the reason and its size; no 2xx leaves before the
//! ledger has the event; an outage of ours is a 5xx, so that the sender sends again.

mod answer;
mod front_door;
mod handshaking;
mod rejection;
mod request;
#[cfg(test)]
mod vectors;

use std::{collections::BTreeSet, panic::AssertUnwindSafe, path::Path, time::Duration};

use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use futures::{FutureExt, StreamExt, stream};
use metrics::counter;
use serde_json::value::RawValue;
use shared::{
    aws::{self, CallTimeouts},
    bodies::{Bodies, StoredBody},
    config::{Gateway, OnConflict, Source},
    door::{self, Asked, Proven, Unproven},
    doorbell::{Bell, Doorbell, Group},
    environment::{optional, required},
    event::{BodyDigest, Element, Event, EventKey, EventSpec, Identified, Identity, IdentityError},
    fetched::{FetchError, FetchedKeys},
    ledger::{Acceptance, ContentTypes, Ledger, Recorded, SignedContent},
    location::{IdPlaces, Location, Locations},
    names::{DestinationName, EventId, EventType, SourceName},
    routing::Routing,
    secrets::{Keyring, Keyrings},
    signatures::{UnverifiedWebhook, VerifiedWebhook},
    time::Timestamp,
};

use answer::{Accepted, Answer};
pub use front_door::FRONT_DOOR_HEADER;
use rejection::Rejection;
use request::Request;

/// A request of API Gateway as a webhook of `source`, as the receiver reads it before it verifies anything; for fuzzing alone.
#[doc(hidden)]
pub fn read_webhook(event: &RawValue, source: &Source) -> Option<UnverifiedWebhook> {
    Request::read(event).ok()?.into_webhook(source).ok()
}

/// How many events of a batch are being recorded at the same time.
const ELEMENTS_AT_ONCE: usize = 10;

/// Takes webhooks in.
#[derive(Debug)]
pub struct Receiver {
    /// The configuration.
    pub gateway: Gateway,
    /// What webhooks are signed with.
    pub keyrings: Keyrings,
    /// Public keys that webhooks name.
    pub fetched_keys: FetchedKeys,
    /// Bodies that do not fit an item.
    pub bodies: Bodies,
    /// The secret of the front door, if there is one: requests that come past it are refused.
    pub front_door: Option<String>,
    /// Events and deliveries.
    pub ledger: Ledger,
    /// The queue of doorbells.
    pub bell: Bell,
    /// What the routes say that an event is about; none where the queue keeps no order, and nothing is compiled.
    pub routing: Option<Routing>,
}

impl Receiver {
    /// Composes the receiver from its environment; what is missing or wrong is named.
    pub async fn from_environment() -> Result<Self, lambda_runtime::Error> {
        let config = aws::configure("receiver", CallTimeouts::INTERACTIVE).await;
        let path = required("GATEWAY_CONFIG")?;
        let gateway = Gateway::load(Path::new(&path))?;
        let bell = Bell::new(&config, required("DOORBELL_QUEUE_URL")?);
        let routing = bell.is_fifo().then(|| Routing::without_contracts(&gateway, Path::new(&path))).transpose()?;
        Ok(Self {
            gateway,
            bell,
            routing,
            keyrings: Keyrings::new(&config, required("SECRETS_PREFIX")?),
            front_door: optional("FRONT_DOOR_SECRET")?,
            fetched_keys: FetchedKeys::new(&config),
            bodies: Bodies::new(&config, required("BODIES_BUCKET")?),
            ledger: Ledger::new(&config, required("LEDGER_TABLE")?).remembering(required("CONTENT_TABLE")?),
        })
    }

    /// Answers one request of API Gateway (payload format 2.0). There is an answer for everything, well-formed or not, and for a
    /// panic as well: a 503, so that the sender sends again.
    pub async fn receive(&self, event: &RawValue, request_id: &str, now: Timestamp) -> ApiGatewayV2httpResponse {
        let answer = guarded(async {
            match Request::read(event) {
                Ok(request) => self.accept(request, now).await,
                Err(rejection) => Err(rejection),
            }
        });
        match answer.await {
            Ok(answer) => answer.into_response(),
            Err(rejection) => rejection::into_response(&rejection, request_id),
        }
    }

    async fn accept(&self, request: Request, now: Timestamp) -> Result<Answer<'_>, Rejection> {
        if let Some(secret) = &self.front_door {
            front_door::check(&self.keyrings, secret, &request, now).await?;
        }
        let source = self.source(&request).inspect_err(|_| counter!("UnknownSource").increment(1))?;
        let body_bytes = request.encoded_bytes();
        let accepted = self.accept_from(source, request, now).await;
        if let Err(rejection) = &accepted {
            rejection::observe(rejection, &source.name, body_bytes);
        }
        accepted
    }

    fn source(&self, request: &Request) -> Result<&Source, Rejection> {
        // The path is anybody's text: it is not logged.
        let name = SourceName::parse(request.source()).map_err(|_| Rejection::UnknownSource)?;
        self.gateway.sources.get(&name).ok_or(Rejection::UnknownSource)
    }

    async fn accept_from<'a>(&self, source: &'a Source, request: Request, now: Timestamp) -> Result<Answer<'a>, Rejection> {
        let webhook = request.into_webhook(source)?;
        let proven = match door::ask(source, &webhook)? {
            Asked::Handshake(meeting) => Proven::Handshake(meeting),
            Asked::Webhook(unproven) => self.prove(source, &unproven, now).await?,
        };
        match proven {
            Proven::Handshake(meeting) => self.shake_hands(source, &meeting, now).await.map(Answer::Handshake),
            Proven::Webhook(verified) => self.record(source, &verified, now).await.map(Answer::Accepted),
        }
    }

    async fn record<'a>(
        &self,
        source: &'a Source,
        verified: &VerifiedWebhook<'_>,
        now: Timestamp,
    ) -> Result<Accepted<'a>, Rejection> {
        let sha256 = BodyDigest::of(verified.body());
        let identified = source.event.identify_all(verified, &sha256, now);
        if let Err(reason @ IdentityError::BatchTooLarge { .. }) = &identified {
            // Its sender sends the same again, and nothing else tells a person.
            counter!("Unreadable").increment(1);
            tracing::error!(source = %source.name, body_bytes = verified.body().len(), %reason, "unreadable: a genuine batch is refused");
        }
        match identified? {
            Identified::Whole(identity) => {
                let event = door::event_of(source, verified, sha256, identity.clone(), now);
                self.record_whole(source, verified, event, &identity).await
            }
            Identified::Each(elements) => self.record_each(source, verified, elements, now).await,
        }
    }

    /// Records each event of a batch. The sender is told yes only when all are; what was recorded before a failure is known again by its
    /// id when the sender sends the rest, in whatever batch.
    async fn record_each<'a>(
        &self,
        source: &'a Source,
        verified: &VerifiedWebhook<'_>,
        elements: Vec<Element>,
        now: Timestamp,
    ) -> Result<Accepted<'a>, Rejection> {
        let whole = verified.places().readable_body();
        let sha256 = BodyDigest::of(whole);
        let body = match elements.len() {
            // Nothing is written: there is nothing to deliver.
            0 => {
                tracing::info!(source = %source.name, body_bytes = whole.len(), "a batch without events");
                return Ok(Accepted { source, event_ids: Vec::new(), is_batch: true, duplicate: false });
            }
            1 => self.bodies.prepare(&sha256, whole),
            _ => self.bodies.prepare_shared(&sha256, whole),
        };
        let body = body.map_err(Rejection::unavailable)?;
        let ids: BTreeSet<&EventId> = elements.iter().map(|element| &element.identity.event_id).collect();
        // Of two under one id, the first is the event.
        let at_once = if ids.len() == elements.len() { ELEMENTS_AT_ONCE } else { 1 };
        // Sent again without its coding, it would be no batch and an event that nobody knows.
        let mut content = (is_encoded(verified) && source.scheme.signs_content()).then(|| encoded_content(source, verified, now));
        let recording = elements.into_iter().map(|element| (element, content.take()));
        let recording = recording.map(async |(Element { part, identity }, content)| {
            let event = door::element_of(source, verified, sha256, part, identity.clone(), now);
            self.keep_event(source, event.clone(), &identity, &body, content).await.map(|kept| (event, kept))
        });
        let outcomes: Vec<_> = stream::iter(recording).buffered(at_once).collect().await;
        // What is recorded is rung for, whatever became of the others.
        let recorded: Vec<&(Event, Kept)> = outcomes.iter().flatten().collect();
        let doorbells: Vec<Doorbell> = recorded.iter().flat_map(|(_, kept)| doorbells(source, kept)).collect();
        let group = |doorbell: &Doorbell| {
            let routing = self.routing.as_ref()?;
            let (event, _) = recorded.iter().find(|(_, kept)| kept.event_id == doorbell.event_id)?;
            Some(Group::of_thing(&doorbell.destination, &routing.order_key(event, &doorbell.destination, whole)?))
        };
        self.ring(source, &doorbells, group).await;
        let kept = outcomes.into_iter().map(|outcome| outcome.map(|(_, kept)| kept)).collect::<Result<Vec<_>, _>>()?;
        let duplicate = kept.iter().all(|kept| kept.duplicate);
        Ok(Accepted { source, event_ids: kept.into_iter().map(|kept| kept.event_id).collect(), is_batch: true, duplicate })
    }

    async fn record_whole<'a>(
        &self,
        source: &'a Source,
        verified: &VerifiedWebhook<'_>,
        event: Event,
        identity: &Identity,
    ) -> Result<Accepted<'a>, Rejection> {
        let by_content = identity.by_content;
        // Also for one that came without an id: else whoever has captured a webhook only had to leave its id out. But where the same
        // content is a new event after a while, that is what its sender means.
        let guarded = source.replay_guard || could_be_read_otherwise(source, verified, identity);
        let guarded = guarded && !(by_content && source.event.same_within_seconds.is_some());
        let content = guarded.then(|| signed_content(source, verified, &event, by_content));
        let body = self.bodies.prepare(&event.sha256, verified.body()).map_err(Rejection::unavailable)?;
        let ordered = self.routing.as_ref().map(|routing| (routing, event.clone()));
        let kept = self.keep_event(source, event, identity, &body, content).await?;
        let group = |doorbell: &Doorbell| {
            let (routing, event) = ordered.as_ref()?;
            let thing = routing.order_key(event, &doorbell.destination, verified.body())?;
            Some(Group::of_thing(&doorbell.destination, &thing))
        };
        self.ring(source, &doorbells(source, &kept), group).await;
        Ok(Accepted { source, event_ids: vec![kept.event_id], is_batch: false, duplicate: kept.duplicate })
    }

    /// Records an event, or finds that it is known; what becomes of another body of its id is its source's policy.
    async fn keep_event(
        &self,
        source: &Source,
        event: Event,
        identity: &Identity,
        body: &StoredBody,
        content: Option<SignedContent>,
    ) -> Result<Kept, Rejection> {
        let recorded = self.ledger.record(&event, body, content).await?;
        observe(&event, identity, &recorded);
        Ok(match recorded {
            Recorded::New => Kept { event_id: event.key.event_id, to_ring: event.destinations, duplicate: false },
            Recorded::Seen { unclaimed } => Kept { event_id: event.key.event_id, to_ring: unclaimed, duplicate: true },
            Recorded::SeenBeside { event_id, unclaimed } | Recorded::Replayed { first: event_id, unclaimed, .. } => {
                Kept { event_id, to_ring: unclaimed, duplicate: true }
            }
            // No sender gives these ids: they are digests of the signed content. So only an unsigned part differs: it is a replay.
            Recorded::Conflict { unclaimed } if identity.by_content && content.is_none() && gives_no_ids(source) => {
                let is_kept = self.ledger.keep_replay(&event, body).await?;
                let first = event.key.event_id.clone();
                let replayed = Recorded::Replayed { first: first.clone(), unclaimed: unclaimed.clone(), is_kept };
                observe(&event, identity, &replayed);
                Kept { event_id: first, to_ring: unclaimed, duplicate: true }
            }
            Recorded::Conflict { unclaimed } => match policy(source.on_conflict, identity.by_content && content.is_none()) {
                OnConflict::First => keep_first(&event, unclaimed),
                OnConflict::Quarantine => self.quarantine(event, body, content).await?,
                OnConflict::Reject => return Err(Rejection::Conflict { event_id: event.key.event_id }),
                OnConflict::Latest => self.keep_latest(event, body, content).await?,
            },
        })
    }

    /// Keeps another body of a known event id beside the first. Its sender is told yes: told "no", it would only send it again.
    async fn quarantine(&self, event: Event, body: &StoredBody, content: Option<SignedContent>) -> Result<Kept, Rejection> {
        self.ledger.quarantine_conflict(&event, body, content).await?;
        let Event { key: EventKey { source, event_id }, event_type, body_bytes, key_id, .. } = event;
        counter!("Conflicts").increment(1);
        tracing::error!(%source, %event_id, %event_type, body_bytes, key_id, "conflict: the same event id with another body, quarantined");
        Ok(Kept { event_id, to_ring: Vec::new(), duplicate: true })
    }

    /// Makes another body of a known event id an event of its own.
    async fn keep_latest(&self, event: Event, body: &StoredBody, content: Option<SignedContent>) -> Result<Kept, Rejection> {
        let (source, first, event_type) = (&event.key.source, &event.key.event_id, &event.event_type);
        match self.ledger.accept(&event, body, content, event.received_at).await? {
            Acceptance::New(latest) => {
                counter!("Accepted").increment(1);
                let event_id = latest.key.event_id;
                tracing::info!(%source, %event_id, %first, %event_type, body_bytes = event.body_bytes, "recorded: the latest body");
                Ok(Kept { event_id, to_ring: latest.destinations, duplicate: false })
            }
            // Another request with it came at this moment.
            Acceptance::Seen { event_id, unclaimed } => {
                counter!("Duplicates").increment(1);
                tracing::info!(%source, %event_id, %first, %event_type, rung_again = unclaimed.len(), "duplicate");
                Ok(Kept { event_id, to_ring: unclaimed, duplicate: true })
            }
            Acceptance::Taken(_) => self.quarantine(event, body, content).await,
        }
    }

    /// A signature that fails may be the first of a new key: then, at most once a minute, the keyring is read again.
    async fn prove<'a>(&self, source: &Source, unproven: &Unproven<'a>, now: Timestamp) -> Result<Proven<'a>, Rejection> {
        let keyring = self.keyrings.current(&source.secret, now).await.map_err(Rejection::unavailable)?;
        let rejection = match self.prove_with(&keyring, unproven, now).await {
            Err(rejection) if rejection.depends_on_keys() => rejection,
            settled => return settled,
        };
        match self.keyrings.after_refusal(&source.secret, now).await.map_err(Rejection::unavailable)? {
            Some(changed) => self.prove_with(&changed, unproven, now).await,
            None => Err(rejection),
        }
    }

    async fn prove_with<'a>(&self, keyring: &Keyring, unproven: &Unproven<'a>, now: Timestamp) -> Result<Proven<'a>, Rejection> {
        let Some(wanted) = unproven.wanted_key(keyring, now)? else { return unproven.prove(keyring, None, now) };
        let fetched = match self.fetched_keys.get(&wanted, Some(keyring), now).await {
            // Anybody can name keys. One that has proven something in another environment is fetched all the same.
            Err(FetchError::Budget) if self.ledger.has_proven(&wanted.name(), now).await? => {
                self.fetched_keys.note_proven(&wanted).await;
                self.fetched_keys.get(&wanted, Some(keyring), now).await?
            }
            fetched => fetched?,
        };
        let proven = unproven.prove(keyring, Some(&fetched), now)?;
        if self.fetched_keys.note_proven(&wanted).await
            && let Err(error) = self.ledger.note_proven(&wanted.name(), now).await
        {
            // It is for bad days alone.
            tracing::warn!(%error, "not noted that a signing key has proven something");
        }
        Ok(proven)
    }

    /// The event is recorded, so a bell that fails refuses nothing: it is rung for later. Nor does an order whose key fails: the
    /// doorbell is in a group of its own then, and the worker says what is wrong.
    async fn ring(&self, source: &Source, doorbells: &[Doorbell], group: impl Fn(&Doorbell) -> Option<Group>) {
        if doorbells.is_empty() {
            return;
        }
        let group = |doorbell: &Doorbell| group(doorbell).unwrap_or_else(|| Group::of_delivery(doorbell));
        if let Err(error) = self.bell.ring_in(doorbells, group).await {
            counter!("RingFailures").increment(1);
            let event_id = &doorbells[0].event_id;
            tracing::error!(source = %source.name, %event_id, %error, "recorded, but not rung; the auditor will ring");
        }
    }
}

/// A panic is one request's: the function goes on.
async fn guarded<T>(answering: impl Future<Output = Result<T, Rejection>>) -> Result<T, Rejection> {
    AssertUnwindSafe(answering).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!("panicked; answered 503");
        Err(Rejection::unavailable("panicked"))
    })
}

/// What became of a verified webhook.
struct Kept {
    /// The event that it is, or that it is kept beside.
    event_id: EventId,
    /// Destinations of that event whose doorbells are to be rung.
    to_ring: Vec<DestinationName>,
    /// Whether its sender is told that it was there before.
    duplicate: bool,
}

/// Whether the same signed content could come again as an event with another id, although ids are signed: no signature covers the
/// headers that say how the body is encoded and which form it has. (Where ids are not signed, it is the source's `replay_guard` that decides.)
fn could_be_read_otherwise(source: &Source, verified: &VerifiedWebhook<'_>, identity: &Identity) -> bool {
    let is_form = |place: &Location| matches!(place.root(), Location::Form(_) | Location::Multipart(_));
    let by_header = is_encoded(verified) || source.event.id.iter().flat_map(IdPlaces::places).any(is_form);
    // Without its coding, nothing in it is ignored, and there is no batch in it; and the body may be another part of what is signed.
    let EventSpec { id, ignore, each, .. } = &source.event;
    let is_partial = identity.by_content && (ignore.is_some() || each.is_some() || *id == Some(IdPlaces::DigestOfBody));
    let differs = (by_header || identity.unreadable.is_some()) && signs_id(source) || is_partial;
    differs && source.scheme.signs_content()
}

fn is_encoded(verified: &VerifiedWebhook<'_>) -> bool {
    verified.headers().contains_key(http::header::CONTENT_ENCODING)
}

/// Whether there is an id in what is sent, and the signature covers it.
fn signs_id(source: &Source) -> bool {
    let mut places = source.event.id.iter().flat_map(IdPlaces::places).peekable();
    places.peek().is_some() && places.all(|place| source.scheme.covers(place))
}

/// What was signed is remembered for as long as it could be sent again, or for as long as the source says if that has no end. If
/// neither the event's type nor its id is signed, one content may be an event of each of some types.
fn signed_content(source: &Source, verified: &VerifiedWebhook<'_>, event: &Event, by_content: bool) -> SignedContent {
    let replayable = source.scheme.replayable_seconds().map(|seconds| event.received_at.plus(Duration::from_secs(seconds)));
    let type_is_signed = source.event.event_type.iter().flat_map(Locations::iter).all(|place| source.scheme.covers(place));
    let types = match type_is_signed || signs_id(source) {
        true => ContentTypes::Signed,
        false if source.names_type(&event.event_type) => ContentTypes::Named,
        false => ContentTypes::Unnamed(source.types_per_content),
    };
    // What has no id is a new event once it has expired: so its sender means it.
    let remembered = if by_content { event.expires_at } else { event.received_at.plus(source.remembered) };
    SignedContent { sha256: verified.content_digest(&event.sha256), expires_at: replayable.unwrap_or(remembered), types }
}

/// What was signed of a batch with a content coding, to be remembered with its first event.
fn encoded_content(source: &Source, verified: &VerifiedWebhook<'_>, now: Timestamp) -> SignedContent {
    let replayable = source.scheme.replayable_seconds().map(|seconds| now.plus(Duration::from_secs(seconds)));
    let sha256 = verified.content_digest(&BodyDigest::of(verified.body()));
    SignedContent { sha256, expires_at: replayable.unwrap_or(now.plus(source.dedupe)), types: ContentTypes::Signed }
}

/// The doorbells of an event that are to be rung.
fn doorbells(source: &Source, kept: &Kept) -> Vec<Doorbell> {
    let key = EventKey { source: source.name.clone(), event_id: kept.event_id.clone() };
    kept.to_ring.iter().map(|name| Doorbell::first(&key, name)).collect()
}

/// Another body of a known event id is its sender's retry: the first stays.
fn keep_first(event: &Event, unclaimed: Vec<DestinationName>) -> Kept {
    let EventKey { source, event_id } = &event.key;
    counter!("KeptFirst").increment(1);
    tracing::info!(%source, %event_id, event_type = %event.event_type, rung_again = unclaimed.len(), "duplicate: another body, the first is kept");
    Kept { event_id: event_id.clone(), to_ring: unclaimed, duplicate: true }
}

/// The policy for a conflict. An event that is known by its signed content has no later body.
fn policy(on_conflict: OnConflict, by_content: bool) -> OnConflict {
    match on_conflict {
        OnConflict::Latest if by_content => OnConflict::Quarantine,
        policy => policy,
    }
}

/// Whether no id is taken from what is sent.
fn gives_no_ids(source: &Source) -> bool {
    source.event.each.is_none() && matches!(source.event.id, None | Some(IdPlaces::DigestOfBody))
}

fn observe(event: &Event, identity: &Identity, recorded: &Recorded) {
    let EventKey { source, event_id } = &event.key;
    let fields = (&event.event_type, event.body_bytes, &event.key_id, event.destinations.len());
    let (event_type, body_bytes, key_id, destinations) = fields;
    match recorded {
        Recorded::New => {
            counter!("Accepted").increment(1);
            if destinations == 0 {
                counter!("Unrouted").increment(1);
            }
            observe_unreadable(event, identity);
            tracing::info!(%source, %event_id, %event_type, body_bytes, key_id, destinations, "recorded");
        }
        Recorded::Seen { unclaimed } | Recorded::SeenBeside { unclaimed, .. } => {
            counter!("Duplicates").increment(1);
            tracing::info!(%source, %event_id, %event_type, body_bytes, key_id, rung_again = unclaimed.len(), "duplicate");
        }
        Recorded::Replayed { first, is_kept, .. } => {
            counter!("Replays").increment(1);
            tracing::warn!(%source, %event_id, %first, %event_type, body_bytes, key_id, is_kept, "replayed: what was signed is known already");
        }
        // Its source's policy tells what becomes of it.
        Recorded::Conflict { .. } => {}
    }
}

/// Tells a person of a genuine webhook that is not what its sender meant it to be: it has no id of its own, or its type could not
/// be read and so no route takes it.
fn observe_unreadable(event: &Event, identity: &Identity) {
    let EventKey { source, event_id } = &event.key;
    let (event_type, body_bytes) = (&event.event_type, event.body_bytes);
    if let Some(reason) = &identity.unreadable {
        counter!("Unreadable").increment(1);
        tracing::error!(%source, %event_id, %event_type, body_bytes, %reason, "unreadable: accepted under its digest");
    } else if event.destinations.is_empty() && *event_type == EventType::unreadable() {
        counter!("Unreadable").increment(1);
        tracing::error!(%source, %event_id, body_bytes, "unreadable: the event type cannot be read, and no route takes the event");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_answered_503_and_the_next_request_is_another() {
        let panicked = guarded::<()>(async { panic!("on purpose") }).now_or_never().unwrap().unwrap_err();
        let response = rejection::into_response(&panicked, "request-1");
        assert_eq!((response.status_code, response.headers.contains_key("retry-after")), (503, true));
        assert!(guarded(async { Ok(()) }).now_or_never().unwrap().is_ok());
    }
}
