//! The receiver: API Gateway → (handshake) → verify → record → ring → answer.
//!
//! Always holds: nothing unverified is written or logged beyond its source, the reason and its size; no 2xx leaves before the
//! ledger has the event; an outage of ours is a 5xx, so that the sender sends again.

mod answer;
mod handshaking;
mod rejection;
mod request;
#[cfg(test)]
mod vectors;

use std::{panic::AssertUnwindSafe, path::Path, time::Duration};

use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use futures::FutureExt;
use metrics::counter;
use serde_json::value::RawValue;
use shared::{
    aws::{self, CallTimeouts},
    bodies::{Bodies, StoredBody},
    config::{Gateway, OnConflict, Source},
    doorbell::{Bell, Doorbell, Group},
    environment::required,
    event::{BodyDigest, Event, EventKey, kept_headers},
    fetched::FetchedKeys,
    ledger::{Acceptance, Ledger, Recorded, SignedContent},
    location::Places,
    names::{DestinationName, EventId, SourceName},
    routing::Routing,
    secrets::{Keyring, Keyrings},
    signatures::{Refusal, UnverifiedWebhook, VerifiedWebhook, handshake::Handshake},
    time::Timestamp,
};

use answer::{Accepted, Answer};
use rejection::Rejection;
use request::Request;

/// A request of API Gateway as a webhook of `source`, as the receiver reads it before it verifies anything; for fuzzing alone.
#[doc(hidden)]
pub fn read_webhook(event: &RawValue, source: &Source) -> Option<UnverifiedWebhook> {
    Request::read(event).ok()?.into_webhook(source).ok()
}

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
            fetched_keys: FetchedKeys::new(&config),
            bodies: Bodies::new(&config, required("BODIES_BUCKET")?),
            ledger: Ledger::new(&config, required("LEDGER_TABLE")?),
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
            Err(rejection) => rejection.into_response(request_id),
        }
    }

    async fn accept(&self, request: Request, now: Timestamp) -> Result<Answer<'_>, Rejection> {
        let source = self.source(&request)?;
        let body_bytes = request.encoded_bytes();
        let accepted = self.accept_from(source, request, now).await;
        if let Err(rejection) = &accepted {
            rejection.observe(&source.name, body_bytes);
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
        if let Some(handshake) = unsigned_handshake(source, &webhook) {
            return self.shake_hands(source, handshake, &webhook, now).await.map(Answer::Handshake);
        }
        let signed_handshakes = source.handshakes.iter().filter(|handshake| handshake.signed).map(|handshake| &handshake.method);
        if !source.methods.iter().chain(signed_handshakes).any(|method| *method == webhook.method) {
            let allowed: Vec<&str> = source.methods.iter().map(http::Method::as_str).collect();
            return Err(Rejection::MethodNotAllowed { allowed: allowed.join(", ") });
        }
        let verified = self.verify(source, &webhook, now).await?;
        if let Some(handshake) = signed_handshake(source, &verified) {
            return self.shake_hands(source, handshake, &webhook, now).await.map(Answer::Handshake);
        }
        self.record(source, &verified, now).await.map(Answer::Accepted)
    }

    async fn record<'a>(
        &self,
        source: &'a Source,
        verified: &VerifiedWebhook<'_>,
        now: Timestamp,
    ) -> Result<Accepted<'a>, Rejection> {
        let (event, by_content) = event_of(source, verified, now)?;
        let guarded = source.replay_guard && !by_content;
        let content = guarded.then(|| signed_content(source, verified, &event));
        let body = self.bodies.keep(&event.sha256, verified.body()).await.map_err(Rejection::unavailable)?;
        let recorded = self.ledger.record(&event, &body, content).await?;
        observe(&event, &recorded);
        let ordered = self.routing.as_ref().map(|routing| (routing, event.clone()));
        let Kept { event_id, to_ring, duplicate } = match recorded {
            Recorded::New => Kept { event_id: event.key.event_id, to_ring: event.destinations, duplicate: false },
            Recorded::Seen { unclaimed } => Kept { event_id: event.key.event_id, to_ring: unclaimed, duplicate: true },
            Recorded::SeenBeside { event_id, unclaimed } | Recorded::Replayed { first: event_id, unclaimed } => {
                Kept { event_id, to_ring: unclaimed, duplicate: true }
            }
            Recorded::Conflict => match policy(source.on_conflict, by_content) {
                OnConflict::Quarantine => self.quarantine(event, &body, content).await?,
                OnConflict::Reject => return Err(Rejection::Conflict { event_id: event.key.event_id }),
                OnConflict::Latest => self.keep_latest(event, &body, content).await?,
            },
        };
        let group = |doorbell: &Doorbell| {
            let (routing, event) = ordered.as_ref()?;
            let thing = routing.order_key(event, &doorbell.destination, verified.body())?;
            Some(Group::of_thing(&doorbell.destination, &thing))
        };
        self.ring(&EventKey { source: source.name.clone(), event_id: event_id.clone() }, &to_ring, group).await;
        Ok(Accepted { source, event_id, duplicate })
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
    async fn verify<'a>(
        &self,
        source: &'a Source,
        webhook: &'a UnverifiedWebhook,
        now: Timestamp,
    ) -> Result<VerifiedWebhook<'a>, Rejection> {
        let keyring = self.keyrings.current(&source.secret, now).await.map_err(Rejection::unavailable)?;
        let rejection = match self.verify_with(&keyring, source, webhook, now).await {
            Err(rejection) if rejection.depends_on_keys() => rejection,
            settled => return settled,
        };
        match self.keyrings.after_refusal(&source.secret, now).await {
            Some(changed) => self.verify_with(&changed, source, webhook, now).await,
            None => Err(rejection),
        }
    }

    async fn verify_with<'a>(
        &self,
        keyring: &Keyring,
        source: &'a Source,
        webhook: &'a UnverifiedWebhook,
        now: Timestamp,
    ) -> Result<VerifiedWebhook<'a>, Rejection> {
        let fetched = match source.scheme.wanted_key(webhook, keyring, now)? {
            Some(wanted) => Some(self.fetched_keys.get(&wanted, Some(keyring), now).await?),
            None => None,
        };
        let verified = source.scheme.verify(webhook, keyring, fetched.as_deref(), now)?;
        if could_be_our_own(source, &verified) {
            return Err(Refusal::WrongSignature.into());
        }
        Ok(verified)
    }

    /// The event is recorded, so a bell that fails refuses nothing: the auditor rings later. Nor does an order whose key fails: the
    /// doorbell is in a group of its own then, and the worker says what is wrong.
    async fn ring(&self, key: &EventKey, destinations: &[DestinationName], group: impl Fn(&Doorbell) -> Option<Group>) {
        let doorbells: Vec<Doorbell> = destinations.iter().map(|name| Doorbell::first(key, name)).collect();
        if doorbells.is_empty() {
            return;
        }
        let group = |doorbell: &Doorbell| group(doorbell).unwrap_or_else(|| Group::of_delivery(doorbell));
        if let Err(error) = self.bell.ring_in(&doorbells, group).await {
            counter!("RingFailures").increment(1);
            tracing::error!(source = %key.source, event_id = %key.event_id, %error, "recorded, but not rung; the auditor will ring");
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

/// The handshake that a request is which needs no signature, if any. What has a signature is never taken for one: it could be an event.
fn unsigned_handshake<'a>(source: &'a Source, webhook: &UnverifiedWebhook) -> Option<&'a Handshake> {
    let mut unsigned = source.handshakes.iter().filter(|handshake| !handshake.signed).peekable();
    unsigned.peek()?;
    let places = Places::new(webhook);
    unsigned.find(|handshake| !source.scheme.is_signed(&places) && handshake.is_meant(&places))
}

/// Whether what was signed is of the kind that the source's own handshake signs for anybody who asks.
fn could_be_our_own(source: &Source, verified: &VerifiedWebhook<'_>) -> bool {
    let mut oracles = source.handshakes.iter().filter(|handshake| !handshake.signed && handshake.needs_key()).peekable();
    oracles.peek().is_some() && {
        let content = verified.content();
        oracles.any(|handshake| handshake.could_have_signed(&content))
    }
}

/// The handshake that a verified webhook is, if any.
fn signed_handshake<'a>(source: &'a Source, verified: &VerifiedWebhook<'_>) -> Option<&'a Handshake> {
    let mut signed = source.handshakes.iter().filter(|handshake| handshake.signed).peekable();
    signed.peek()?;
    let places = Places::proven(verified.webhook());
    signed.find(|handshake| handshake.is_meant(&places))
}

/// What was signed is remembered for as long as it could be sent again: with the event's type, if that is not signed, since one
/// sender may send the same content for two types.
fn signed_content(source: &Source, verified: &VerifiedWebhook<'_>, event: &Event) -> SignedContent {
    let replayable = source.scheme.replayable_seconds().map(|seconds| event.received_at.plus(Duration::from_secs(seconds)));
    let content = verified.content_digest(&event.sha256);
    let type_is_signed = source.event.event_type.as_ref().is_none_or(|place| source.scheme.covers(place));
    let sha256 = match type_is_signed {
        true => content,
        false => BodyDigest::of(&[content.as_bytes().as_slice(), event.event_type.as_str().as_bytes()].concat()),
    };
    SignedContent { sha256, expires_at: replayable.unwrap_or(event.expires_at) }
}

/// The event, and whether it is known by what was signed for lack of an id.
fn event_of(source: &Source, verified: &VerifiedWebhook<'_>, now: Timestamp) -> Result<(Event, bool), Rejection> {
    let sha256 = BodyDigest::of(verified.body());
    let identity = source.event.identify(verified, &sha256, now)?;
    let event = Event {
        destinations: source.destinations(&identity.event_type),
        key: EventKey { source: source.name.clone(), event_id: identity.event_id },
        event_type: identity.event_type,
        received_at: now,
        occurred_at: identity.occurred_at,
        headers: kept_headers(verified, &source.keep_headers),
        body_bytes: verified.body().len(),
        sha256,
        key_id: verified.key_id().to_owned(),
        expires_at: now.plus(source.dedupe),
    };
    Ok((event, identity.by_content))
}

/// What becomes of a conflict. One that is known by what was signed is the same in another spelling, which whoever has captured it
/// can make up: it is no later body.
fn policy(on_conflict: OnConflict, by_content: bool) -> OnConflict {
    match on_conflict {
        OnConflict::Latest if by_content => OnConflict::Quarantine,
        policy => policy,
    }
}

fn observe(event: &Event, recorded: &Recorded) {
    let EventKey { source, event_id } = &event.key;
    let fields = (&event.event_type, event.body_bytes, &event.key_id, event.destinations.len());
    let (event_type, body_bytes, key_id, destinations) = fields;
    match recorded {
        Recorded::New => {
            counter!("Accepted").increment(1);
            if destinations == 0 {
                counter!("Unrouted").increment(1);
            }
            tracing::info!(%source, %event_id, %event_type, body_bytes, key_id, destinations, "recorded");
        }
        Recorded::Seen { unclaimed } | Recorded::SeenBeside { unclaimed, .. } => {
            counter!("Duplicates").increment(1);
            tracing::info!(%source, %event_id, %event_type, body_bytes, key_id, rung_again = unclaimed.len(), "duplicate");
        }
        Recorded::Replayed { first, .. } => {
            counter!("Replays").increment(1);
            tracing::warn!(%source, %event_id, %first, %event_type, body_bytes, key_id, "replayed: what was signed is known under another id");
        }
        // Its source's policy tells what becomes of it.
        Recorded::Conflict => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_spelling_of_the_same_signed_content_is_no_latest_body() {
        use OnConflict::{Latest, Quarantine, Reject};
        for (written, by_content, meant) in [
            (Quarantine, false, Quarantine),
            (Quarantine, true, Quarantine),
            (Reject, false, Reject),
            (Reject, true, Reject),
            (Latest, false, Latest),
            (Latest, true, Quarantine),
        ] {
            assert_eq!(policy(written, by_content), meant, "{written:?}, {by_content}");
        }
    }

    #[test]
    fn a_panic_is_answered_503_and_the_next_request_is_another() {
        let panicked = guarded::<()>(async { panic!("on purpose") }).now_or_never().unwrap().unwrap_err();
        let response = panicked.into_response("request-1");
        assert_eq!((response.status_code, response.headers.contains_key("retry-after")), (503, true));
        assert!(guarded(async { Ok(()) }).now_or_never().unwrap().is_ok());
    }
}
