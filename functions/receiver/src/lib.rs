//! The receiver: API Gateway → verify → record → ring → answer.
//!
//! Always holds: nothing unverified is written or logged beyond its source, the reason and its size; no 2xx leaves before the
//! ledger has the event; an outage of ours is a 5xx, so that the sender sends again.

mod answer;
mod rejection;
mod request;

use std::path::Path;

use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use metrics::counter;
use serde_json::value::RawValue;
use shared::{
    aws::{self, CallTimeouts},
    bodies::Bodies,
    config::{Gateway, Source},
    doorbell::{Bell, Doorbell},
    environment::required,
    event::{BodyDigest, Event, EventKey, kept_headers},
    ledger::{Ledger, Recorded},
    names::{DestinationName, SourceName},
    secrets::Keyrings,
    signatures::{UnverifiedWebhook, VerifiedWebhook},
    time::Timestamp,
};

use answer::Accepted;
use rejection::Rejection;
use request::Request;

/// Takes webhooks in.
#[derive(Debug)]
pub struct Receiver {
    gateway: Gateway,
    keyrings: Keyrings,
    bodies: Bodies,
    ledger: Ledger,
    bell: Bell,
}

impl Receiver {
    /// Composes the receiver from its environment; what is missing or wrong is named.
    pub async fn from_environment() -> Result<Self, lambda_runtime::Error> {
        let config = aws::configure("receiver", CallTimeouts::INTERACTIVE).await;
        Ok(Self {
            gateway: Gateway::load(Path::new(&required("GATEWAY_CONFIG")?))?,
            keyrings: Keyrings::new(&config, required("SECRETS_PREFIX")?),
            bodies: Bodies::new(&config, required("BODIES_BUCKET")?),
            ledger: Ledger::new(&config, required("LEDGER_TABLE")?),
            bell: Bell::new(&config, required("DOORBELL_QUEUE_URL")?),
        })
    }

    /// Answers one request of API Gateway (payload format 2.0). There is an answer for everything, well-formed or not.
    pub async fn receive(&self, event: &RawValue, request_id: &str, now: Timestamp) -> ApiGatewayV2httpResponse {
        let answer = match Request::read(event) {
            Ok(request) => self.accept(request, now).await,
            Err(rejection) => Err(rejection),
        };
        match answer {
            Ok(accepted) => accepted.into_response(),
            Err(rejection) => rejection.into_response(request_id),
        }
    }

    async fn accept(&self, request: Request, now: Timestamp) -> Result<Accepted<'_>, Rejection> {
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

    async fn accept_from<'a>(&self, source: &'a Source, request: Request, now: Timestamp) -> Result<Accepted<'a>, Rejection> {
        let webhook = request.into_webhook(source.body_bytes_max)?;
        let verified = self.verify(source, &webhook, now).await?;
        let event = event_of(source, &verified, now)?;
        let body = self.bodies.keep(&event.sha256, verified.body()).await.map_err(Rejection::unavailable)?;
        let recorded = self.ledger.record(&event, &body).await?;
        let to_ring = match &recorded {
            Recorded::New => event.destinations.as_slice(),
            Recorded::Seen { unclaimed } => unclaimed,
            Recorded::Conflict => &[],
        };
        self.ring(&event.key, to_ring).await;
        observe(&event, &recorded);
        Ok(Accepted { source, event_id: event.key.event_id, duplicate: recorded != Recorded::New })
    }

    /// A signature that fails may be the first of a new key: then, at most once a minute, the keyring is read again.
    async fn verify<'a>(
        &self,
        source: &Source,
        webhook: &'a UnverifiedWebhook,
        now: Timestamp,
    ) -> Result<VerifiedWebhook<'a>, Rejection> {
        let keyring = self.keyrings.current(&source.secret, now).await.map_err(Rejection::unavailable)?;
        let refusal = match source.scheme.verify(webhook, &keyring, now) {
            Ok(verified) => return Ok(verified),
            Err(refusal) => refusal,
        };
        if !refusal.depends_on_keys() {
            return Err(refusal.into());
        }
        match self.keyrings.after_refusal(&source.secret, now).await {
            Some(changed) => Ok(source.scheme.verify(webhook, &changed, now)?),
            None => Err(refusal.into()),
        }
    }

    /// The event is recorded, so a bell that fails refuses nothing: the auditor rings later.
    async fn ring(&self, key: &EventKey, destinations: &[DestinationName]) {
        let doorbells: Vec<Doorbell> = destinations.iter().map(|name| Doorbell::first(key, name)).collect();
        if doorbells.is_empty() {
            return;
        }
        if let Err(error) = self.bell.ring(&doorbells).await {
            counter!("RingFailures").increment(1);
            tracing::error!(source = %key.source, event_id = %key.event_id, %error, "recorded, but not rung; the auditor will ring");
        }
    }
}

fn event_of(source: &Source, verified: &VerifiedWebhook<'_>, now: Timestamp) -> Result<Event, Rejection> {
    let sha256 = BodyDigest::of(verified.body());
    let identity = source.event.identify(verified, &sha256)?;
    Ok(Event {
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
    })
}

fn observe(event: &Event, recorded: &Recorded) {
    let EventKey { source, event_id } = &event.key;
    let fields = (&event.event_type, event.body_bytes, &event.key_id, event.destinations.len());
    let (event_type, body_bytes, key_id, destinations) = fields;
    match recorded {
        Recorded::New => {
            counter!("Accepted").increment(1);
            tracing::info!(%source, %event_id, %event_type, body_bytes, key_id, destinations, "recorded");
        }
        Recorded::Seen { unclaimed } => {
            counter!("Duplicates").increment(1);
            tracing::info!(%source, %event_id, %event_type, body_bytes, key_id, rung_again = unclaimed.len(), "duplicate");
        }
        Recorded::Conflict => {
            counter!("Conflicts").increment(1);
            tracing::error!(%source, %event_id, %event_type, body_bytes, key_id, "conflict: the same event id with another body, quarantined");
        }
    }
}
