//! The worker: SQS → claim → deliver → finish.
//!
//! Each doorbell is handled by itself: one that fails, panics or cannot be read leaves the others of its batch alone. Always
//! holds: a doorbell is acknowledged only when its delivery is over, or waits in the ledger (then the dispatcher rings again), or when a
//! copy of it is in the dead-letter queue; whoever crashes leaves a doorbell that comes again.

mod batch;
mod delivering;
mod failure;
mod guards;
mod handlers;
mod http;
mod observing;
mod parcel;
mod planning;
mod targets;
mod waiting;

use std::{path::Path, sync::Arc};

use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent};
use shared::{
    aws::{self, CallTimeouts},
    bodies::Bodies,
    config::Gateway,
    doorbell::Bell,
    environment::required,
    ledger::Ledger,
    routing::Routing,
    secrets::Keyrings,
    time::Timestamp,
};

pub use batch::RECORDS_CONCURRENT_MAX;
pub use failure::{Failure, REFUSED_EVENTS_MAX, THROTTLE_SECONDS_DEFAULT, THROTTLES_PER_ATTEMPT, retry_after};
pub use guards::{CIRCUIT_ATTEMPTS_MIN, CIRCUIT_WINDOW_SECONDS, RATE_PATIENCE_MILLIS, RESERVATION_SECONDS};
pub use handlers::{HANDLER_WRITES_MAX, Handler, Handlers, OnRefused};
pub use http::{
    Answer, ERROR_CODE_BYTES_MAX, EXCHANGE_MILLIS_MIN, Exchange, HttpClient, IDLE_SECONDS_MAX, Post, REQUEST_ID_BYTES_MAX,
    TOKEN_ANSWER_BYTES_MAX, TOKEN_MARGIN_SECONDS, TOKEN_SECONDS_DEFAULT, Tokens,
};
pub use planning::Planning;
pub use targets::{DETAIL_TYPE_CHARS_MAX, ENTRY_BYTES_MAX, MESSAGE_BYTES_MAX, PAYLOAD_BYTES_MAX, Targets};
pub use waiting::{RECEIVES_MAX, ROOM_WAIT_SECONDS, SHORT_WAIT_SECONDS_MAX};

/// Delivers.
#[derive(Debug)]
pub struct Worker<E = HttpClient> {
    /// The configuration.
    pub gateway: Gateway,
    /// Events and deliveries.
    pub ledger: Ledger,
    /// Bodies that do not fit an item.
    pub bodies: Bodies,
    /// What deliveries are signed with.
    pub keyrings: Keyrings,
    /// The queue that it works for.
    pub doorbells: Bell,
    /// Where dead deliveries go.
    pub dead_letters: Bell,
    /// How it reaches HTTP destinations.
    pub exchange: E,
    /// The tokens that it has from token endpoints.
    pub tokens: Tokens,
    /// How it reaches destinations in AWS.
    pub targets: Targets,
    /// Destinations that are compiled in.
    pub handlers: Handlers,
    /// What the routes make of events.
    pub routing: Arc<Routing>,
    /// Where that is found out.
    pub planning: Planning,
}

/// One invocation.
#[derive(Clone, Copy, Debug)]
pub struct Invocation<'a> {
    /// Its id: with the message's it makes an owner that there is only once.
    pub request_id: &'a str,
    /// When Lambda stops it. A lease ends then: its owner surely works no more.
    pub deadline: Timestamp,
    /// Tells the time.
    pub now: fn() -> Timestamp,
}

impl Worker {
    /// Composes the worker from its environment; what is missing or wrong is named.
    pub async fn from_environment() -> Result<Self, lambda_runtime::Error> {
        let config = aws::configure("worker", CallTimeouts::BACKGROUND).await;
        let path = required("GATEWAY_CONFIG")?;
        let gateway = Gateway::load(Path::new(&path))?;
        gateway.check_handlers(&Handlers::NAMES, &path)?;
        if let Some(region) = config.region() {
            gateway.check_regions(region.as_ref(), &path)?;
        }
        let routing = Arc::new(Routing::load(&gateway, Path::new(&path))?);
        Ok(Self {
            exchange: HttpClient::new(gateway.destinations.values())?,
            routing,
            planning: Planning::aside(),
            gateway,
            ledger: Ledger::new(&config, required("LEDGER_TABLE")?),
            bodies: Bodies::new(&config, required("BODIES_BUCKET")?),
            keyrings: Keyrings::new(&config, required("SECRETS_PREFIX")?),
            doorbells: Bell::new(&config, required("DOORBELL_QUEUE_URL")?),
            dead_letters: Bell::new(&config, required("DEAD_LETTER_QUEUE_URL")?),
            tokens: Tokens::default(),
            targets: Targets::new(&config),
            handlers: Handlers::from_environment()?,
        })
    }
}

impl<E: Exchange> Worker<E> {
    /// Handles one batch and names the doorbells that must come again.
    pub async fn work(&self, batch: SqsEvent, invocation: Invocation<'_>) -> Result<SqsBatchResponse, lambda_runtime::Error> {
        batch::work(self, batch, invocation).await
    }
}
